// Package quality is the engine of quality management: forms and exact scores,
// sampling plans and draws that anybody can run again, assignments and
// evaluations. Authorisation, validation and the ledger entry happen inside
// each operation.
package quality

import (
	"encoding/base64"
	"errors"

	"github.com/google/uuid"

	"earmark/internal/archive"
	"earmark/internal/db"
	"earmark/internal/invalid"
	"earmark/internal/ledger"
	"earmark/internal/seal"
)

// ErrState says that what was asked for does not go with how far the assignment is,
// such as scoring one whose evaluation was released.
var ErrState = errors.New("the assignment is not in a state that allows this")

// Options are what New needs.
type Options struct {
	DB      *db.DB
	Archive *archive.Archive
	// Keys keep a draw's seed secret until the draw is done.
	Keys *seal.Ring
	// Signer signs the manifests of draws.
	Signer *ledger.Signer
}

// Quality is safe for concurrent use.
type Quality struct {
	db      *db.DB
	archive *archive.Archive
	keys    *seal.Ring
	signer  *ledger.Signer
}

// New returns the engine, and registers with the archive to scrub what
// reviewers wrote about an interaction that is erased.
func New(o Options) *Quality {
	q := &Quality{db: o.DB, archive: o.Archive, keys: o.Keys, signer: o.Signer}
	o.Archive.OnScrub("quality", scrub)
	return q
}

// List is a part of a list, newest first.
type List struct {
	// Limit is 50 when 0, and at most 500.
	Limit int
	// Cursor is the NextCursor of the part before.
	Cursor string
}

const (
	defaultLimit = 50
	maxLimit     = 500
)

// bounds returns how many to read and the id behind which to go on. Ids are
// in the order of time.
func (l List) bounds() (limit int, before uuid.UUID, err error) {
	limit, before = l.Limit, uuid.Max
	if limit == 0 {
		limit = defaultLimit
	}
	if limit < 0 || limit > maxLimit {
		return 0, before, invalid.New("query.limit", "must be 1 to %d", maxLimit)
	}
	if l.Cursor == "" {
		return limit, before, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(l.Cursor)
	if err == nil {
		before, err = uuid.FromBytes(raw)
	}
	if err != nil {
		return 0, before, invalid.New("query.cursor", "must be the next_cursor of the part before")
	}
	return limit, before, nil
}

// page cuts rows, of which one more than limit was asked for, to a page.
func page[T any](rows []T, limit int, id func(T) uuid.UUID) archive.Page[T] {
	p := archive.Page[T]{Items: rows}
	if p.Items == nil {
		p.Items = []T{}
	}
	if len(rows) > limit {
		p.Items = rows[:limit]
		last := id(p.Items[limit-1])
		p.NextCursor = base64.RawURLEncoding.EncodeToString(last[:])
	}
	return p
}
