package archive

import (
	"context"
	"io"
	"iter"
	"time"

	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/db"
)

// ParseNew reads an interaction from JSON, strictly: at most 1 MiB and 32
// levels, UTF-8, no unknown field. Errors are *invalid.Error.
func ParseNew(data []byte) (New, error) { panic("unwritten") }

// ParsePatch reads a Patch likewise.
func ParsePatch(data []byte) (Patch, error) { panic("unwritten") }

// Validate normalises n (NFC, trimmed, UTC) and returns an *invalid.Error
// with locations such as "body.started_at" when it cannot be kept.
func (n *New) Validate(now time.Time) error { panic("unwritten") }

// Audio is a recording as it arrives.
type Audio struct {
	// Name is the recording's, "audio" when empty.
	Name string
	// FileName tells headerless formats apart; it is kept.
	FileName string
	// MediaType is what the client says it is; the bytes decide.
	MediaType string
	Body      io.Reader
	// Bytes is the exact size, -1 when it is not known.
	Bytes int64
	// Digests are what the client says the bytes hash to, by the names of
	// RFC 9530: sha-256, sha-512; others are ignored.
	Digests map[string][]byte
}

func (a *Archive) Submit(ctx context.Context, actor access.Actor, n New) (i Interaction, created bool, err error) {
	panic("unwritten")
}

func (a *Archive) SubmitWithAudio(ctx context.Context, actor access.Actor, n New, audio Audio) (i Interaction, created bool, err error) {
	panic("unwritten")
}

func (a *Archive) PutRecording(ctx context.Context, actor access.Actor, id uuid.UUID, audio Audio) (r Recording, created bool, err error) {
	panic("unwritten")
}

func (a *Archive) Get(ctx context.Context, actor access.Actor, id uuid.UUID) (Interaction, error) {
	panic("unwritten")
}

func (a *Archive) Read(ctx context.Context, actor access.Actor, id uuid.UUID, purpose access.Purpose) (Text, error) {
	panic("unwritten")
}

// Query is a search. Its JSON is how features keep a filter.
type Query struct {
	Text        string     `json:"q,omitempty"`
	From        *time.Time `json:"from,omitempty"`
	To          *time.Time `json:"to,omitempty"`
	Agent       string     `json:"agent,omitempty"`
	Queue       string     `json:"queue,omitempty"`
	Channel     string     `json:"channel,omitempty"`
	Direction   string     `json:"direction,omitempty"`
	Customer    string     `json:"customer,omitempty"`
	Disposition string     `json:"disposition,omitempty"`
	Tag         string     `json:"tag,omitempty"`
	State       State      `json:"state,omitempty"`
	Source      string     `json:"source,omitempty"`
	// MinDuration and MaxDuration are in seconds.
	MinDuration *float64 `json:"min_duration,omitempty"`
	MaxDuration *float64 `json:"max_duration,omitempty"`
	Limit       int      `json:"-"`
	Cursor      string   `json:"-"`
}

func (a *Archive) Search(ctx context.Context, actor access.Actor, query Query) (Page[Interaction], error) {
	panic("unwritten")
}

// Matching yields the ids of all that a query finds, newest first, whoever may
// see them: for features that authorise by themselves. Limit and Cursor do not
// count. Erased and purging ones are not found.
func (a *Archive) Matching(ctx context.Context, q db.Querier, query Query) iter.Seq2[uuid.UUID, error] {
	panic("unwritten")
}

func (a *Archive) Amend(ctx context.Context, actor access.Actor, id uuid.UUID, p Patch) (Interaction, error) {
	panic("unwritten")
}

// Listening is a recording that may be heard.
type Listening struct {
	Recording Recording
	MediaType string
	Size      int64
	SHA256    [32]byte
	ETag      string // quoted
}

// Range reads n bytes from off, by one read of the object store.
func (l *Listening) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	panic("unwritten")
}

func (a *Archive) Listen(ctx context.Context, actor access.Actor, id uuid.UUID, name string, purpose access.Purpose, listeningCopy bool) (*Listening, error) {
	panic("unwritten")
}

func (a *Archive) Peaks(ctx context.Context, actor access.Actor, id uuid.UUID, name string) ([]byte, error) {
	panic("unwritten")
}

func (a *Archive) Analyse(ctx context.Context, recordingID uuid.UUID) error { panic("unwritten") }

func (a *Archive) PlaceHold(ctx context.Context, tx *db.Tx, h Hold, ids []uuid.UUID) (placed, gone []uuid.UUID, err error) {
	panic("unwritten")
}

func (a *Archive) ReleaseHold(ctx context.Context, tx *db.Tx, h Hold, ids []uuid.UUID) (released []uuid.UUID, err error) {
	panic("unwritten")
}

type scrubber struct {
	name string
	fn   func(ctx context.Context, tx *db.Tx, ids []uuid.UUID) error
}

func (a *Archive) OnScrub(name string, fn func(ctx context.Context, tx *db.Tx, ids []uuid.UUID) error) {
	panic("unwritten")
}

func (a *Archive) OnRelease(fn func(ctx context.Context, tx *db.Tx, ids []uuid.UUID) error) {
	panic("unwritten")
}

// Destroyed is an interaction whose key is gone.
type Destroyed struct {
	ID             uuid.UUID
	Recordings     int
	Bytes          int64
	KeyDestroyedAt time.Time
}

func (a *Archive) Destroy(ctx context.Context, tx *db.Tx, ids []uuid.UUID, purge uuid.UUID) (destroyed []Destroyed, held map[uuid.UUID]string, gone []uuid.UUID, err error) {
	panic("unwritten")
}

// Removal tells what became of an interaction's objects.
type Removal struct {
	Versions  int
	Remaining []Remaining
}

// Remaining is an object that the store keeps by its own lock.
type Remaining struct {
	Key string `json:"key"`
	// Until is when the lock ends; nil: it is not known.
	Until  *time.Time `json:"until,omitempty"`
	Reason string     `json:"reason"`
}

func (a *Archive) RemoveObjects(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]Removal, error) {
	panic("unwritten")
}

func (a *Archive) Scrub(ctx context.Context, tx *db.Tx, ids []uuid.UUID) error { panic("unwritten") }

func (a *Archive) Restrict(ctx context.Context, tx *db.Tx, ids []uuid.UUID) error { panic("unwritten") }

func (a *Archive) Unrestrict(ctx context.Context, tx *db.Tx, ids []uuid.UUID) error {
	panic("unwritten")
}

func (a *Archive) OfCustomer(ctx context.Context, q db.Querier, customerID uuid.UUID) ([]uuid.UUID, error) {
	panic("unwritten")
}

func (a *Archive) SweepOrphans(ctx context.Context, olderThan time.Duration) (removed int, err error) {
	panic("unwritten")
}

func (a *Archive) Verify(ctx context.Context, report func(problem string)) error { panic("unwritten") }
