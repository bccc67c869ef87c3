package api

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"regexp"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5/pgconn"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/audit"
	"earmark/internal/blob"
	"earmark/internal/db"
	"earmark/internal/invalid"
	"earmark/internal/lifecycle"
	"earmark/internal/media"
	"earmark/internal/quality"
)

// Problem is an RFC 9457 problem document. Code is stable: clients decide on it.
type Problem struct {
	Type   string `json:"type" doc:"A reference to the kind of problem" example:"/docs#consent_refused"`
	Title  string `json:"title" doc:"The kind of problem, in words" example:"The customer refused to be recorded"`
	Status int    `json:"status" doc:"The HTTP status" example:"403"`
	Code   string `json:"code" doc:"The kind of problem; stable" example:"consent_refused"`
	Detail string `json:"detail,omitempty" doc:"What happened this time"`
	Fix    string `json:"fix,omitempty" doc:"What to do about it"`
	// Instance is the request's id, to be quoted when asking for help.
	Instance string         `json:"instance,omitempty" doc:"This request's id"`
	Errors   []ProblemField `json:"errors,omitempty" doc:"The fields that are wrong"`
}

// ProblemField is one wrong field. The value that was sent is not repeated.
type ProblemField struct {
	Message  string `json:"message" doc:"What is expected"`
	Location string `json:"location" doc:"Where it stands" example:"body.started_at"`
}

func (p *Problem) Error() string { return p.Code }

// GetStatus is the HTTP status, for huma.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType makes huma send RFC 9457's media type.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// kind is what a problem of one code always says.
type kind struct {
	err    error
	status int
	code   string
	title  string
	fix    string
}

// kinds maps what operations return to what clients see: the only place that
// does. The first that matches counts.
var kinds = []kind{
	{access.ErrUnauthenticated, 401, "unauthenticated", "A valid API key or session is needed", "Send `Authorization: Bearer <key>`, or sign in."},
	{access.ErrPurposeRequired, 403, "purpose_required", "A purpose is needed", "Add `?purpose=` with one of GET /v1/purposes."},
	{access.ErrPurposeNotPermitted, 403, "purpose_not_permitted", "This role may not use that purpose", "Use a purpose of your role: GET /v1/me lists them."},
	{access.ErrSamePerson, 403, "second_person_required", "Another person must approve this", "Have somebody else approve it."},
	{access.ErrTooManyAttempts, 429, "too_many_attempts", "Too many attempts to sign in", "Wait a minute."},
	{access.ErrForbidden, 403, "forbidden", "This role may not do that", "Ask an administrator for a key or role that may."},
	{archive.ErrConsentRefused, 403, "consent_refused", "The customer refused to be recorded", "Nothing was stored. Do not send it again; delete the local copy."},
	{archive.ErrConsentMissing, 403, "consent_missing", "No consent or other lawful basis covers this", "A privacy officer can record a basis for the customer, the interaction or its source."},
	{archive.ErrRestricted, 403, "restricted", "The interaction is restricted", "Its erasure was asked for and a hold keeps it; nobody may open it."},
	{archive.ErrErased, 410, "erased", "The interaction was erased", "It is gone for good; do not send it again."},
	{archive.ErrConflict, 409, "conflict", "Something else is stored under this id", "Nothing was overwritten. Send different content under a different source_id."},
	{media.ErrNotAudio, 415, "not_audio", "The file is not audio that is taken in", "Send WAV, MP3, Ogg, FLAC, M4A, AAC, AMR, AIFF, AU, Matroska or WebM; raw gsm, ulaw, alaw, sln and g729 need a file name that says so."},
	{archive.ErrTooLarge, 413, "too_large", "The recording is too large", "Split it, or raise EARMARK_MAX_BYTES on the server."},
	{archive.ErrDigest, 422, "digest_mismatch", "The content does not match its Content-Digest", "Nothing was stored. Send it again."},
	{errStalled, 408, "too_slow", "The body came too slowly", "Nothing was stored. Send it again."},
	// A body's framing and pace come before what they make of its length.
	{archive.ErrFraming, 400, "multipart_framing", "The multipart body does not have the expected form", "Send the part `metadata`, then the part `audio` as the last one; or use PUT with a raw body."},
	{archive.ErrTruncated, 400, "truncated", "The body ended before its announced length", "Nothing was stored. Send it again."},
	{archive.ErrCorrupt, 500, "corrupt", "The stored recording is damaged", "No wrong byte was sent. Tell the operator; `earmark verify --all` names the damage."},
	{lifecycle.ErrGuardRail, 409, "guard_rail", "This purge is larger or younger than the guard rails allow", "Check what it takes; then say it twice: `override: true` in the preview and in the approval."},
	{lifecycle.ErrState, 409, "wrong_state", "It is not in a state that allows this", "Look at its `state`."},
	{quality.ErrState, 409, "wrong_state", "It is not in a state that allows this", "Look at its `state`."},
	{blob.ErrFull, 507, "store_full", "The object store is full", "Nothing was stored. Try again later; the operator must make room."},
	{blob.ErrUncertain, 503, "try_again", "It is unknown whether the recording was stored", "Send it again: the same request is stored once."},
	{blob.ErrUnavailable, 503, "store_unavailable", "The object store does not answer", "Nothing was stored. Try again after a while."},
	{db.ErrNotFound, 404, "not_found", "There is nothing here", "Check the id; what you may not see is not found either."},
	{db.ErrCommitUnknown, 503, "try_again", "It is unknown whether the change was made", "Send it again: the same request is stored once."},
	{archive.ErrTooBroad, 422, "too_broad", "The search takes too long", "Bound it by `from` and `to`."},
	{audit.ErrPending, 409, "pending", "The entry has no place in the ledger yet", "Ask again in a second."},
	{audit.ErrCorrupt, 500, "corrupt", "The ledger is damaged", "Tell the operator; `earmark verify --all` names the damage."},
	{context.DeadlineExceeded, 503, "timeout", "The request took too long", "Try again; bound searches by `from` and `to`."},
}

// byStatus are the problems that arise before any operation runs.
var byStatus = map[int]kind{
	http.StatusBadRequest:            {code: "bad_request", title: "The request cannot be read", fix: "Check its syntax."},
	http.StatusUnauthorized:          {code: "unauthenticated", title: "A valid API key or session is needed", fix: "Send `Authorization: Bearer <key>`, or sign in."},
	http.StatusForbidden:             {code: "forbidden", title: "This role may not do that", fix: "Ask an administrator for a key or role that may."},
	http.StatusNotFound:              {code: "not_found", title: "There is nothing here", fix: "Check the address; /docs lists all routes."},
	http.StatusMethodNotAllowed:      {code: "method_not_allowed", title: "The method is not allowed here", fix: "See /docs."},
	http.StatusRequestEntityTooLarge: {code: "too_large", title: "The body is too large", fix: "Metadata are at most 1 MiB."},
	http.StatusNotAcceptable:         {code: "not_acceptable", title: "There is no such form of it", fix: "Accept application/json."},
	http.StatusUnsupportedMediaType:  {code: "unsupported_media_type", title: "The content type is not taken here", fix: "See /docs."},
	http.StatusUnprocessableEntity:   {code: "invalid", title: "Some fields are wrong", fix: "Mend the fields in `errors`."},
}

// problemOf turns any error into the problem that a client sees. What is not
// known is an opaque 500, and is logged.
func problemOf(ctx context.Context, err error) *Problem {
	p := classify(err)
	unknown := p == nil || p.Status == http.StatusInternalServerError
	switch {
	case p != nil:
	case db.Unavailable(err):
		p = unreached.problem(http.StatusServiceUnavailable, "")
	default:
		p = unexpected.problem(http.StatusInternalServerError, "")
	}
	if unknown && ctx.Err() == nil {
		slog.ErrorContext(ctx, "unexpected error", "request", requestID(ctx), "error", loggable(err))
	}
	located := *p
	located.Instance = requestID(ctx)
	return &located
}

var unreached = kind{code: "database_unavailable", title: "The database does not answer", fix: "Nothing was stored. Try again after a while."}

var unexpected = kind{code: "internal", title: "Something went wrong here", fix: "Try again; quote `instance` when you ask for help."}

func classify(err error) *Problem {
	var known *Problem
	if errors.As(err, &known) {
		return known
	}
	var fields *invalid.Error
	if errors.As(err, &fields) {
		return invalidProblem(fields.Fields)
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return k.problem(k.status, detailOf(err))
		}
	}
	return nil
}

// detailOf is what a problem adds to its title. What libraries say stays
// inside: it may repeat what was sent, or tell how the house is built.
func detailOf(err error) string {
	var refused *lifecycle.GuardRailError
	if errors.As(err, &refused) {
		return refused.Error()
	}
	return ""
}

// loggable keeps the words of PostgreSQL, which may repeat a value, out of the log.
func loggable(err error) string {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return "postgresql " + refused.Code + " " + refused.TableName + " " + refused.ConstraintName
	}
	return err.Error()
}

func invalidProblem(fields []invalid.Field) *Problem {
	p := byStatus[http.StatusUnprocessableEntity].problem(http.StatusUnprocessableEntity, "")
	for _, f := range fields {
		p.Errors = append(p.Errors, ProblemField{Message: f.Message, Location: f.Location})
	}
	return p
}

func (k kind) problem(status int, detail string) *Problem {
	return &Problem{Type: "/docs#" + k.code, Title: k.title, Status: status, Code: k.code, Detail: detail, Fix: k.fix}
}

// statusProblem is a problem that its status says all about.
func statusProblem(status int, detail string) *Problem {
	k, ok := byStatus[status]
	if !ok {
		k = kind{code: "internal", title: http.StatusText(status)}
	}
	return k.problem(status, detail)
}

// huma makes its errors by these.
func init() {
	huma.NewError = func(status int, _ string, errs ...error) huma.StatusError {
		return humaProblem(context.Background(), status, errs)
	}
	huma.NewErrorWithContext = func(ctx huma.Context, status int, _ string, errs ...error) huma.StatusError {
		return humaProblem(ctx.Context(), status, errs)
	}
}

// humaProblem is what huma refuses a request with. Its own words are left out
// where they repeat what was sent.
func humaProblem(ctx context.Context, status int, errs []error) *Problem {
	p := statusProblem(status, "")
	for _, err := range errs {
		if known := classify(err); known != nil {
			return problemOf(ctx, err)
		}
		var detailer huma.ErrorDetailer
		if errors.As(err, &detailer) {
			d := detailer.ErrorDetail()
			p.Errors = append(p.Errors, ProblemField{Message: plainMessage(d.Message), Location: plainLocation(d.Location)})
		}
	}
	p.Instance = requestID(ctx)
	return p
}

// plainMessage is a message of huma's without what follows its colon: the
// words of parsers, which quote their input.
func plainMessage(message string) string {
	for _, known := range []string{"expected ", "required ", "unexpected property", "unknown query parameter",
		"invalid integer", "invalid float", "invalid boolean", "invalid date/time", "invalid value"} {
		if strings.HasPrefix(message, known) {
			said, _, _ := strings.Cut(message, ": ")
			return said
		}
	}
	return "expected JSON of the form that /openapi.json describes"
}

var plainName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,63}(\[[0-9]{1,6}\])*$`)

// plainLocation leaves out names that are none of a field: they are what was sent.
func plainLocation(location string) string {
	steps := strings.Split(location, ".")
	for i, step := range steps {
		if !plainName.MatchString(step) {
			return strings.Join(append(steps[:i:i], "*"), ".")
		}
	}
	return location
}

// refuse ends a gin request with the problem that err is.
func refuse(c *gin.Context, err error) {
	p := problemOf(c.Request.Context(), err)
	body, err := json.Marshal(p)
	if err != nil {
		c.AbortWithStatus(http.StatusInternalServerError)
		return
	}
	h := c.Writer.Header()
	// What an answer that did not come to be has said of itself.
	for _, name := range []string{"Content-Type", "Content-Length", "Content-Range", "Accept-Ranges", "ETag", "Last-Modified"} {
		h.Del(name)
	}
	maps.Copy(h, p.headers())
	c.Abort()
	c.Data(p.Status, "application/problem+json", body)
}

// headers are what HTTP wants to stand beside the problem.
func (p *Problem) headers() http.Header {
	switch p.Status {
	case http.StatusUnauthorized:
		return http.Header{"Www-Authenticate": {`Bearer realm="earmark"`}}
	case http.StatusServiceUnavailable, http.StatusInsufficientStorage, http.StatusTooManyRequests:
		return http.Header{"Retry-After": {"10"}}
	}
	return http.Header{}
}
