package consent

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"earmark/internal/access"
	"earmark/internal/invalid"
)

// What a statement says of its basis.
const (
	Granted   = "granted"
	Refused   = "refused"
	Withdrawn = "withdrawn"
)

var statuses = []string{Granted, Refused, Withdrawn}

// Statement is what was said about one lawful basis: an interaction's
// `consent`, or one of the consents that a customer has on record. It speaks
// of its own basis only: who withdraws consent does not thereby end a contract.
type Statement struct {
	// Basis is one of access.Bases; left out, it is consent.
	Basis string `json:"basis,omitempty"`
	// Status is granted, refused or withdrawn. Only for consent must it be
	// said: silence is no consent.
	Status string `json:"status,omitempty"`
	// Method is how it was given, such as verbal, announcement or web_form.
	Method string `json:"method,omitempty"`
	// At is when it was given. In a Decision's basis, nil marks a standing
	// basis, one of a key or a source.
	At *time.Time `json:"at,omitempty"`
	// Purposes that it is about; left out, DefaultPurposes of the basis for
	// a grant, all of them for a refusal or a withdrawal.
	Purposes []access.Purpose `json:"purposes,omitempty"`
	// Proof is whatever shows that it was given, as JSON.
	Proof json.RawMessage `json:"proof,omitempty"`
	// Reason is why a basis other than consent holds.
	Reason string `json:"reason,omitempty"`
	// Wording is what the customer was asked.
	Wording string `json:"wording,omitempty"`
	// ExpiresAt is when a grant ends by itself.
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// Bounds of a statement, in bytes and in levels of JSON, and of the clocks it
// was taken with, as in draft-howe-vcon-lawful-basis.
const (
	maxLine    = 200
	maxReason  = 2000
	maxWording = 20_000
	maxProof   = 64 << 10
	maxDepth   = 32
	clockSkew  = 5 * time.Minute
)

// DefaultPurposes are what a grant of that basis covers when it names no
// purposes: all but research, and for a legal obligation only what the law
// asks to be looked into.
func DefaultPurposes(basis string) []access.Purpose {
	if basis == access.LegalObligation {
		return []access.Purpose{access.CustomerRequest, access.Complaint, access.DisputeInvestigation,
			access.Legal, access.Compliance}
	}
	return slices.DeleteFunc(slices.Clone(access.Purposes), func(p access.Purpose) bool {
		return p == access.Research
	})
}

// Checked returns s as it is to be kept, with what was left out filled in
// (basis, status, purposes; never the time), or an *invalid.Error whose
// locations begin with prefix, such as "body.consent". A statement made more
// than five minutes after now is refused.
func (s Statement) Checked(prefix string, now time.Time) (Statement, error) {
	e := &invalid.Error{}
	s.fill()
	s.checkBasis(e, prefix)
	access.CheckPurposes(e, prefix+".purposes", s.Purposes)
	s.checkTimes(e, prefix, now)
	checkText(e, prefix+".method", s.Method, maxLine)
	checkText(e, prefix+".reason", s.Reason, maxReason)
	checkText(e, prefix+".wording", s.Wording, maxWording)
	proof, err := cleanProof(s.Proof)
	if err != nil {
		e.Add(prefix+".proof", "%s", err)
	}
	if err := e.Err(); err != nil {
		return Statement{}, err
	}
	s.Proof = proof
	s.Purposes = s.covered()
	return s, nil
}

func (s *Statement) fill() {
	if s.Basis == "" && s.Status != "" {
		s.Basis = access.Consent
	}
	if s.Status == "" && s.Basis != "" && s.Basis != access.Consent {
		s.Status = Granted
	}
	s.Method = norm.NFC.String(strings.TrimSpace(s.Method))
	s.Reason = norm.NFC.String(strings.TrimSpace(s.Reason))
	s.At, s.ExpiresAt = kept(s.At), kept(s.ExpiresAt)
}

// kept is t as PostgreSQL keeps it.
func kept(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	utc := t.UTC().Truncate(time.Microsecond)
	return &utc
}

func (s Statement) checkBasis(e *invalid.Error, prefix string) {
	switch {
	case !slices.Contains(access.Bases, s.Basis):
		e.Add(prefix+".basis", "one of %s", strings.Join(access.Bases, ", "))
	case !slices.Contains(statuses, s.Status):
		e.Add(prefix+".status", "one of %s; for consent it must be said", strings.Join(statuses, ", "))
	}
}

func (s Statement) checkTimes(e *invalid.Error, prefix string, now time.Time) {
	if s.At != nil && !writable(*s.At) {
		e.Add(prefix+".at", "a time between the years 1 and 9999")
	} else if s.At != nil && s.At.After(now.Add(clockSkew)) {
		e.Add(prefix+".at", "not in the future")
	}
	if s.ExpiresAt == nil {
		return
	}
	if !writable(*s.ExpiresAt) {
		e.Add(prefix+".expires_at", "a time between the years 1 and 9999")
	}
	if s.Status != Granted {
		e.Add(prefix+".expires_at", "only a grant expires: leave it out")
	}
	if s.At != nil && !s.ExpiresAt.After(*s.At) {
		e.Add(prefix+".expires_at", "later than `at`")
	}
}

func writable(t time.Time) bool { return t.Year() >= 1 && t.Year() <= 9999 }

// covered are the purposes that s is about, once each, in the order of pages.
func (s Statement) covered() []access.Purpose {
	about := s.Purposes
	switch {
	case len(about) == 0 && s.Status == Granted:
		about = DefaultPurposes(s.Basis)
	case len(about) == 0:
		about = access.Purposes
	}
	return ordered(about)
}

func ordered(purposes []access.Purpose) []access.Purpose {
	return slices.DeleteFunc(slices.Clone(access.Purposes), func(p access.Purpose) bool {
		return !slices.Contains(purposes, p)
	})
}

// inForce says whether s still counts at now: a grant until it expires, a
// refusal or a withdrawal for good.
func (s Statement) inForce(now time.Time) bool {
	return s.Status != Granted || s.ExpiresAt == nil || now.Before(*s.ExpiresAt)
}

func checkText(e *invalid.Error, location, text string, limit int) {
	if len(text) > limit {
		e.Add(location, "at most %d bytes", limit)
	}
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		e.Add(location, "valid UTF-8 without NUL characters")
	}
}

var (
	errProofSize = errors.New("at most 64 KiB")
	errProofForm = errors.New("one JSON value, without NUL characters and numbers beyond double precision, nested at most 32 deep")
)

// cleanProof returns proof as JSON that PostgreSQL takes as well: encoding/json
// lets lone surrogates, NUL and numbers of any size pass.
func cleanProof(proof json.RawMessage) (json.RawMessage, error) {
	if len(proof) == 0 || string(proof) == "null" {
		return nil, nil
	}
	if len(proof) > maxProof {
		return nil, errProofSize
	}
	decoder := json.NewDecoder(bytes.NewReader(proof))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, errProofForm
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errProofForm
	}
	if !storable(value, 0) {
		return nil, errProofForm
	}
	clean, err := json.Marshal(value)
	if err != nil {
		return nil, errProofForm
	}
	return clean, nil
}

func storable(value any, depth int) bool {
	if depth > maxDepth {
		return false
	}
	switch v := value.(type) {
	case string:
		return !strings.ContainsRune(v, 0)
	case json.Number:
		_, err := v.Float64()
		return err == nil
	case []any:
		return !slices.ContainsFunc(v, func(one any) bool { return !storable(one, depth+1) })
	case map[string]any:
		for key, one := range v {
			if !storable(key, depth) || !storable(one, depth+1) {
				return false
			}
		}
	}
	return true
}
