// Package lifecycle is the end of things: how long interactions are kept,
// what holds them longer, how they are destroyed, and the proof that they are.
//
// Nothing under a hold is destroyed; what is destroyed is gone from everywhere
// before a signed certificate says so; and nobody approves alone what destroys
// or what shortens the time that things are kept.
package lifecycle

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"earmark/internal/archive"
	"earmark/internal/blob"
	"earmark/internal/consent"
	"earmark/internal/db"
	"earmark/internal/fault"
	"earmark/internal/invalid"
	"earmark/internal/ledger"
)

// Why an operation is refused.
var (
	// ErrState: the thing is past the point where that can be done.
	ErrState = errors.New("this is no longer, or not yet, possible")
	// ErrGuardRail: the purge is larger or younger than is done on one word.
	// The error is a *GuardRailError.
	ErrGuardRail = errors.New("the guard rail refuses this purge")
	// ErrIncomplete: some objects could not be removed yet. What was done
	// stands; the same call goes on from there.
	ErrIncomplete = errors.New("not everything could be removed yet")
)

// Options are what New needs.
type Options struct {
	DB      *db.DB
	Archive *archive.Archive
	Consent *consent.Consent
	// Blob is the store in which the archive keeps its objects; certificates
	// are copied there.
	Blob blob.Store
	// Signer signs the certificates, with the ledger's key.
	Signer *ledger.Signer
	// GuardRail is DefaultGuardRail when zero.
	GuardRail GuardRail
	// ErasureTerm is how soon a request for erasure is to be done; 72 hours
	// when zero.
	ErasureTerm time.Duration
}

const defaultErasureTerm = 72 * time.Hour

// Lifecycle is safe for concurrent use.
type Lifecycle struct {
	Options
	// How much one transaction does.
	runBatch, holdBatch, sweepBatch, recomputeBatch int
	// crash, in tests, ends an operation at a moment as a death would.
	crash func(moment string) error
}

// New returns the feature and registers with the archive to go on with
// erasures when the last hold is released. The archive's Retention is to be
// RetainUntil.
func New(o Options) *Lifecycle {
	if o.GuardRail == (GuardRail{}) {
		o.GuardRail = DefaultGuardRail
	}
	if o.ErasureTerm == 0 {
		o.ErasureTerm = defaultErasureTerm
	}
	l := &Lifecycle{
		Options:  o,
		runBatch: runBatch, holdBatch: holdBatch, sweepBatch: sweepBatch, recomputeBatch: recomputeBatch,
	}
	o.Archive.OnRelease(l.resumeErasures)
	return l
}

// at is a moment at which the process may die.
func (l *Lifecycle) at(moment string) error {
	fault.Point("lifecycle." + moment)
	if l.crash == nil {
		return nil
	}
	return l.crash(moment)
}

// List asks for a part of a list, newest first.
type List struct {
	// State, when not empty, is the only state listed.
	State string
	// Limit is 50 when 0, at most 500.
	Limit int
	// Cursor is a page's NextCursor.
	Cursor string
}

const (
	defaultLimit = 50
	maxLimit     = 500
)

// cursor is the place in a list after which a page begins.
type cursor struct {
	At time.Time `json:"at"`
	ID uuid.UUID `json:"id"`
}

func (c cursor) encode() (string, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("write cursor: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(text), nil
}

// start returns the list's limit and where it begins: cursors of the time
// furthest ahead stand for the first page.
func (l List) start() (limit int, from cursor, err error) {
	limit = l.Limit
	if limit == 0 {
		limit = defaultLimit
	}
	if limit < 1 || limit > maxLimit {
		return 0, cursor{}, invalid.New("query.limit", "expected 1 to %d", maxLimit)
	}
	if l.Cursor == "" {
		return limit, cursor{At: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), ID: uuid.Max}, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(l.Cursor)
	if err == nil {
		err = json.Unmarshal(text, &from)
	}
	if err != nil {
		return 0, cursor{}, invalid.New("query.cursor", "expected the next_cursor of a page")
	}
	return limit, from, nil
}

// page cuts items, of which one more than limit was asked for, to a page.
func page[T any](items []T, limit int, place func(T) cursor) (archive.Page[T], error) {
	if len(items) <= limit {
		return archive.Page[T]{Items: items}, nil
	}
	items = items[:limit]
	next, err := place(items[limit-1]).encode()
	return archive.Page[T]{Items: items, NextCursor: next}, err
}
