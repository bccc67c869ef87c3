package console

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/db"
	"earmark/internal/invalid"
	"earmark/internal/lifecycle"
	"earmark/internal/quality"
)

// refusals maps what operations return to what people see: the catalogue has
// a title and a way out for each key, below "error.".
var refusals = []struct {
	err    error
	status int
	key    string
}{
	{errNoPage, http.StatusNotFound, "not_found"},
	{access.ErrPurposeRequired, http.StatusForbidden, "purpose_required"},
	{access.ErrPurposeNotPermitted, http.StatusForbidden, "purpose_not_permitted"},
	{access.ErrSamePerson, http.StatusForbidden, "same_person"},
	{access.ErrTooManyAttempts, http.StatusTooManyRequests, "too_many_attempts"},
	{access.ErrForbidden, http.StatusForbidden, "forbidden"},
	{archive.ErrConsentMissing, http.StatusForbidden, "consent_missing"},
	{archive.ErrRestricted, http.StatusForbidden, "restricted"},
	{archive.ErrErased, http.StatusGone, "erased"},
	{archive.ErrTooBroad, http.StatusUnprocessableEntity, "too_broad"},
	{lifecycle.ErrGuardRail, http.StatusConflict, "guard_rail"},
	{lifecycle.ErrState, http.StatusConflict, "state"},
	{quality.ErrState, http.StatusConflict, "state"},
	{db.ErrNotFound, http.StatusNotFound, "not_found"},
	{db.ErrCommitUnknown, http.StatusServiceUnavailable, "commit_unknown"},
	{context.DeadlineExceeded, http.StatusServiceUnavailable, "timeout"},
}

// refusal is the key and status of an error that people are told about in
// words; an unknown one is opaque to them, and known is false.
func refusal(err error) (key string, status int, known bool) {
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return r.key, r.status, true
		}
	}
	return "internal", http.StatusInternalServerError, false
}

// fail shows the page of an error.
func (v *visit) fail(err error) {
	if errors.Is(err, access.ErrUnauthenticated) {
		if err := v.toSignIn(); err != nil {
			v.Status(http.StatusInternalServerError)
		}
		return
	}
	var fields *invalid.Error
	key, status, known := refusal(err)
	if errors.As(err, &fields) {
		key, status, known = "invalid", http.StatusUnprocessableEntity, true
	}
	if !known && v.Request.Context().Err() == nil {
		v.console.Log.Error("page failed", "request", v.Writer.Header().Get("X-Request-Id"), "route", v.FullPath(), "error", err)
	}
	if v.Writer.Written() {
		return
	}
	type failure struct {
		Key       string
		RequestID string
	}
	data := failure{key, ""}
	if !known {
		data.RequestID = v.Writer.Header().Get("X-Request-Id")
	}
	if err := v.render(status, "error", "error."+key, data); err != nil {
		v.console.Log.Error("error page failed", "error", err)
		v.String(status, http.StatusText(status)+"\n")
	}
}

// form is a form as it is shown: what was sent, and what is wrong with it.
type form struct {
	// Values are by field name, as they were sent.
	Values map[string][]string
	// Wrong are the messages' keys by field name, or messages in English.
	Wrong map[string]string
	// Refused is the key, below "error.", of why all of it was refused.
	Refused string
}

// Get is the value of a field.
func (f form) Get(name string) string {
	if values := f.Values[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// Has says whether value is among a field's.
func (f form) Has(name, value string) bool {
	for _, v := range f.Values[name] {
		if v == value {
			return true
		}
	}
	return false
}

// Bad says whether anything is wrong with the form.
func (f form) Bad() bool { return f.Refused != "" || len(f.Wrong) > 0 }

// sentForm is the form as it came, before anything is known to be wrong.
func (v *visit) sentForm() (form, error) {
	if err := v.Request.ParseForm(); err != nil {
		return form{}, invalid.New("body", "a form")
	}
	return form{Values: v.Request.PostForm}, nil
}

// refuse notes in f why it was refused. It returns err when that is not for the
// form to tell.
func (f *form) refuse(err error) (status int, _ error) {
	var fields *invalid.Error
	if errors.As(err, &fields) {
		f.Wrong = map[string]string{}
		for _, wrong := range fields.Fields {
			name := fieldName(wrong.Location)
			if _, told := f.Wrong[name]; !told {
				f.Wrong[name] = wrong.Message
			}
		}
		return http.StatusUnprocessableEntity, nil
	}
	key, status, known := refusal(err)
	if !known || status == http.StatusNotFound {
		return 0, err
	}
	f.Refused = key
	return status, nil
}

// fieldName is the form's name of what an operation calls location: what
// follows "body." or "query.", and of a list the list's.
func fieldName(location string) string {
	_, name, found := strings.Cut(location, ".")
	if !found {
		return location
	}
	name, _, _ = strings.Cut(name, "[")
	return name
}
