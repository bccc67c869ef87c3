package audit

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"earmark/internal/access"
	"earmark/internal/db"
	"earmark/internal/invalid"
	"earmark/internal/ledger"
)

const (
	defaultLimit = 50
	maxLimit     = 500
)

// Query says which entries to list. Empty fields do not narrow.
type Query struct {
	// From is the first leaf to be listed.
	From int64
	// Cursor, when not empty, is a Page's NextCursor and takes From's place.
	Cursor                 string
	Subject, Action, Actor string
	// Limit is 1 to 500; 50 when 0.
	Limit int
}

// Entry is an entry with its place. Text is what the tree's leaf is the hash of,
// byte for byte; the other fields are read from it.
type Entry struct {
	Leaf    int64          `json:"leaf"`
	ID      uuid.UUID      `json:"id"`
	At      time.Time      `json:"at"`
	Actor   string         `json:"actor"`
	Action  string         `json:"action"`
	Subject string         `json:"subject"`
	Details map[string]any `json:"details,omitempty"`
	Text    string         `json:"text"`
}

// Page is a part of a list; NextCursor is empty at its end.
type Page struct {
	Items      []Entry `json:"items"`
	NextCursor string  `json:"next_cursor,omitempty"`
}

// Entries lists entries in the order of their leaves. Errors: access.ErrForbidden,
// *invalid.Error, and ErrCorrupt for an entry that nobody can have written.
func (a *Audit) Entries(ctx context.Context, actor access.Actor, query Query) (Page, error) {
	if err := actor.May(access.ReadLedger); err != nil {
		return Page{}, err
	}
	from, limit, err := query.bounds()
	if err != nil {
		return Page{}, err
	}
	sql, args := query.sql(from, limit+1)
	rows, err := a.db.Query(ctx, sql, args...)
	if err != nil {
		return Page{}, fmt.Errorf("list ledger entries: %w", err)
	}
	items, err := pgx.CollectRows(rows, readEntry)
	if err != nil {
		return Page{}, fmt.Errorf("list ledger entries: %w", err)
	}
	page := Page{Items: items}
	if len(items) > limit {
		page.Items = items[:limit]
		page.NextCursor = strconv.FormatInt(items[limit].Leaf, 10)
	}
	return page, nil
}

func (q Query) bounds() (from int64, limit int, err error) {
	var wrong invalid.Error
	from, limit = q.From, q.Limit
	if q.Cursor != "" {
		if from, err = strconv.ParseInt(q.Cursor, 10, 64); err != nil {
			wrong.Add("query.cursor", "is not a cursor of this list: leave it out to begin again")
		}
	}
	if limit == 0 {
		limit = defaultLimit
	}
	if limit < 1 || limit > maxLimit {
		wrong.Add("query.limit", "must be 1 to %d", maxLimit)
	}
	return from, limit, wrong.Err()
}

// sql names only the columns that narrow, so that each has its index.
func (q Query) sql(from int64, limit int) (string, []any) {
	sql, args := `select leaf, entry from ledger_entries where leaf >= $1`, []any{from}
	narrow := func(column, value string) {
		if value == "" {
			return
		}
		args = append(args, value)
		sql += fmt.Sprintf(" and %s = $%d", column, len(args))
	}
	narrow("subject", q.Subject)
	narrow("action", q.Action)
	narrow("actor", q.Actor)
	return sql + fmt.Sprintf(" order by leaf limit %d", limit), args
}

func readEntry(row pgx.CollectableRow) (Entry, error) {
	var leaf int64
	var text string
	if err := row.Scan(&leaf, &text); err != nil {
		return Entry{}, err
	}
	e, err := ledger.Decode(text)
	if err != nil {
		return Entry{}, fmt.Errorf("%w: leaf %d: %w", ErrCorrupt, leaf, err)
	}
	return Entry{
		Leaf: leaf, ID: e.ID, At: e.At, Actor: e.Actor, Action: e.Action,
		Subject: e.Subject, Details: e.Details, Text: text,
	}, nil
}

// Checkpoint returns the newest checkpoint as a signed note (C2SP
// tlog-checkpoint), or db.ErrNotFound before the first entry.
func (a *Audit) Checkpoint(ctx context.Context, actor access.Actor) (string, error) {
	if err := actor.May(access.ReadLedger); err != nil {
		return "", err
	}
	_, signed, err := a.newest(ctx, a.db)
	return signed, err
}

// Leaf returns the place of the entry with that id: ErrPending when it has none
// yet, db.ErrNotFound when there is no such entry.
func (a *Audit) Leaf(ctx context.Context, actor access.Actor, id uuid.UUID) (int64, error) {
	if err := actor.May(access.ReadLedger); err != nil {
		return 0, err
	}
	var leaf *int64
	var pending bool
	// One statement, so that an entry on its way is seen in one place or the other.
	err := a.db.QueryRow(ctx, `
		select (select leaf from ledger_entries where id = $1), exists (select from ledger_pending where id = $1)`,
		id).Scan(&leaf, &pending)
	switch {
	case err != nil:
		return 0, fmt.Errorf("find ledger entry: %w", err)
	case leaf != nil:
		return *leaf, nil
	case pending:
		return 0, ErrPending
	}
	return 0, db.ErrNotFound
}

// Inclusion is all that an outsider needs, beside the public key, to check that an
// entry is in the ledger (ledger.OpenCheckpoint, ledger.CheckInclusion).
type Inclusion struct {
	Leaf int64 `json:"leaf"`
	// Size is that of the tree the proof is for.
	Size int64 `json:"size"`
	// Entry is the leaf's text.
	Entry  string      `json:"entry"`
	Hashes []tlog.Hash `json:"hashes"`
	// Checkpoint is the signed note of that tree; empty when none was signed at
	// exactly that size.
	Checkpoint string `json:"checkpoint,omitempty"`
}

// InclusionProof proves that a leaf is in the tree of the given size; size 0 means
// the newest checkpoint's. A leaf or size beyond what is signed is an
// *invalid.Error; a proof that would not hold is not given: ErrCorrupt.
func (a *Audit) InclusionProof(ctx context.Context, actor access.Actor, leaf, size int64) (Inclusion, error) {
	if err := actor.May(access.ReadLedger); err != nil {
		return Inclusion{}, err
	}
	var proof Inclusion
	err := a.db.Snapshot(ctx, func(q db.Querier) (err error) {
		proof, err = a.proveInclusion(ctx, q, leaf, size)
		return err
	})
	if err != nil {
		return Inclusion{}, fmt.Errorf("prove inclusion: %w", err)
	}
	return proof, nil
}

func (a *Audit) proveInclusion(ctx context.Context, q db.Querier, leaf, size int64) (Inclusion, error) {
	signed, err := a.signedSize(ctx, q)
	if err != nil {
		return Inclusion{}, err
	}
	if size == 0 {
		size = signed
	}
	if size < 0 || size > signed {
		return Inclusion{}, invalid.New("query.size", "must be 1 to %d, the size of the newest checkpoint", signed)
	}
	if leaf < 0 || leaf >= size {
		return Inclusion{}, invalid.New("query.leaf", "must be below %d, the size of the tree", size)
	}
	proof := Inclusion{Leaf: leaf, Size: size}
	err = q.QueryRow(ctx, `
		select entry, coalesce((select note from ledger_checkpoints where size = $2), '')
		from ledger_entries where leaf = $1`, leaf, size).Scan(&proof.Entry, &proof.Checkpoint)
	if errors.Is(err, pgx.ErrNoRows) {
		return Inclusion{}, fmt.Errorf("%w: leaf %d is missing", ErrCorrupt, leaf)
	}
	if err != nil {
		return Inclusion{}, fmt.Errorf("read entry: %w", err)
	}
	reader := hashes(ctx, q)
	if proof.Hashes, err = ledger.ProveInclusion(size, leaf, reader); err != nil {
		return Inclusion{}, err
	}
	return proof, a.checkInclusion(proof, reader)
}

func (a *Audit) checkInclusion(proof Inclusion, reader tlog.HashReader) error {
	checkpoint, err := a.treeAt(proof.Size, proof.Checkpoint, reader)
	if err != nil {
		return err
	}
	if err := ledger.CheckInclusion(checkpoint, proof.Entry, proof.Leaf, proof.Hashes); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return nil
}

// treeAt is the signed checkpoint of that size, or, where none was signed, what
// the stored hashes give.
func (a *Audit) treeAt(size int64, signed string, reader tlog.HashReader) (ledger.Checkpoint, error) {
	if signed != "" {
		return a.open(size, []byte(signed))
	}
	root, err := tlog.TreeHash(size, reader)
	if err != nil {
		return ledger.Checkpoint{}, err
	}
	return ledger.Checkpoint{Origin: a.signer.Name(), Size: size, Root: root}, nil
}

// Consistency is the proof that the tree of size From is the beginning of the
// tree of size To (ledger.CheckConsistency). Checkpoints are the signed notes of
// those trees, each empty when none was signed at exactly that size.
type Consistency struct {
	From           int64       `json:"from"`
	To             int64       `json:"to"`
	Hashes         []tlog.Hash `json:"hashes"`
	FromCheckpoint string      `json:"from_checkpoint,omitempty"`
	ToCheckpoint   string      `json:"to_checkpoint,omitempty"`
}

// ConsistencyProof proves that the ledger was only added to between two sizes; to
// 0 means the newest checkpoint's. Sizes out of order or beyond what is signed
// are an *invalid.Error; a proof that would not hold is not given: ErrCorrupt.
func (a *Audit) ConsistencyProof(ctx context.Context, actor access.Actor, from, to int64) (Consistency, error) {
	if err := actor.May(access.ReadLedger); err != nil {
		return Consistency{}, err
	}
	var proof Consistency
	err := a.db.Snapshot(ctx, func(q db.Querier) (err error) {
		proof, err = a.proveConsistency(ctx, q, from, to)
		return err
	})
	if err != nil {
		return Consistency{}, fmt.Errorf("prove consistency: %w", err)
	}
	return proof, nil
}

func (a *Audit) proveConsistency(ctx context.Context, q db.Querier, from, to int64) (Consistency, error) {
	signed, err := a.signedSize(ctx, q)
	if err != nil {
		return Consistency{}, err
	}
	if to == 0 {
		to = signed
	}
	if to < 0 || to > signed {
		return Consistency{}, invalid.New("query.new", "must be 1 to %d, the size of the newest checkpoint", signed)
	}
	if from < 0 || from > to {
		return Consistency{}, invalid.New("query.old", "must be 0 to %d, the size of the new tree", to)
	}
	proof := Consistency{From: from, To: to}
	err = q.QueryRow(ctx, `
		select coalesce((select note from ledger_checkpoints where size = $1), ''),
			coalesce((select note from ledger_checkpoints where size = $2), '')`,
		from, to).Scan(&proof.FromCheckpoint, &proof.ToCheckpoint)
	if err != nil {
		return Consistency{}, fmt.Errorf("read checkpoints: %w", err)
	}
	reader := hashes(ctx, q)
	if proof.Hashes, err = ledger.ProveConsistency(from, to, reader); err != nil {
		return Consistency{}, err
	}
	return proof, a.checkConsistency(proof, reader)
}

func (a *Audit) checkConsistency(proof Consistency, reader tlog.HashReader) error {
	earlier, err := a.treeAt(proof.From, proof.FromCheckpoint, reader)
	if err != nil {
		return err
	}
	later, err := a.treeAt(proof.To, proof.ToCheckpoint, reader)
	if err != nil {
		return err
	}
	if err := ledger.CheckConsistency(earlier, later, proof.Hashes); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return nil
}

// signedSize is the size of the newest checkpoint, or db.ErrNotFound.
func (a *Audit) signedSize(ctx context.Context, q db.Querier) (int64, error) {
	checkpoint, _, err := a.newest(ctx, q)
	return checkpoint.Size, err
}
