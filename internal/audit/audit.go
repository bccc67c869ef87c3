// Package audit is the log as kept: entries get their place in the Merkle tree,
// checkpoints are signed and published, entries and proofs are looked up, and
// everything is recomputed from what is stored. The mathematics are package
// ledger's.
package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"earmark/internal/blob"
	"earmark/internal/db"
	"earmark/internal/ledger"
)

var (
	// ErrCorrupt says that what is stored of the ledger contradicts itself.
	// Verify tells what and where.
	ErrCorrupt = errors.New("the ledger as stored contradicts itself")
	// ErrRolledBack says that the database is behind a checkpoint that was
	// published. Nothing is signed on top of it: that would be a second history.
	ErrRolledBack = errors.New("the database is behind a published checkpoint: it was set back to an earlier state")
	// ErrForked says that another checkpoint of the same size was published.
	ErrForked = errors.New("another checkpoint of this size was published")
	// ErrPending says that an entry was recorded and has no place in the tree
	// yet; it gets one within about a second.
	ErrPending = errors.New("the entry has no place in the ledger yet")
)

// Audit keeps the ledger of one installation. It is safe for concurrent use, and
// any number of processes may keep the same ledger at once.
type Audit struct {
	db     *db.DB
	store  blob.Store
	signer *ledger.Signer
	keys   []note.Verifier
	log    *slog.Logger

	// notBehind is set once the database was found to be no older than the
	// checkpoints published.
	notBehind atomic.Bool
}

// Options are what an Audit needs.
type Options struct {
	DB    *db.DB
	Store blob.Store
	// Signer signs the checkpoints; its name is the ledger's origin.
	Signer *ledger.Signer
	// Earlier are keys that signed before Signer did, under the same name.
	Earlier []note.Verifier
	// Log hears of failures of Run; slog.Default() when nil.
	Log *slog.Logger
}

// New makes an Audit. It does nothing until it is asked to.
func New(o Options) (*Audit, error) {
	own, err := ledger.ParseVerifier(o.Signer.Verifier())
	if err != nil {
		return nil, fmt.Errorf("ledger key: %w", err)
	}
	log := o.Log
	if log == nil {
		log = slog.Default()
	}
	keys := append([]note.Verifier{own}, o.Earlier...)
	return &Audit{db: o.DB, store: o.Store, signer: o.Signer, keys: keys, log: log}, nil
}

// PublicKey is the key by which outsiders check checkpoints and signed documents,
// in the form name+hash+base64 (C2SP signed-note).
func (a *Audit) PublicKey() string { return a.signer.Verifier() }

// newest reads and opens the newest checkpoint, or is db.ErrNotFound before the
// first.
func (a *Audit) newest(ctx context.Context, q db.Querier) (ledger.Checkpoint, string, error) {
	var size int64
	var signed string
	err := q.QueryRow(ctx, `select size, note from ledger_checkpoints order by size desc limit 1`).Scan(&size, &signed)
	if err != nil {
		return ledger.Checkpoint{}, "", fmt.Errorf("read checkpoint: %w", db.Found(err))
	}
	checkpoint, err := a.open(size, []byte(signed))
	return checkpoint, signed, err
}

// open opens a checkpoint that is kept under the given size.
func (a *Audit) open(size int64, signed []byte) (ledger.Checkpoint, error) {
	checkpoint, err := ledger.OpenCheckpoint(signed, a.keys...)
	if err != nil {
		return ledger.Checkpoint{}, fmt.Errorf("%w: checkpoint of size %d: %w", ErrCorrupt, size, err)
	}
	if checkpoint.Size != size {
		return ledger.Checkpoint{}, fmt.Errorf("%w: checkpoint of size %d is kept as that of %d", ErrCorrupt, checkpoint.Size, size)
	}
	return checkpoint, nil
}

// hashes reads stored hashes, in one query a call.
func hashes(ctx context.Context, q db.Querier) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		if len(indexes) == 0 {
			return nil, nil
		}
		rows, err := q.Query(ctx, `
			select wanted.n, h.hash from unnest($1::bigint[]) with ordinality wanted(index, n)
			join ledger_hashes h using (index)`, indexes)
		if err != nil {
			return nil, fmt.Errorf("read stored hashes: %w", err)
		}
		out := make([]tlog.Hash, len(indexes))
		var n int64
		var hash []byte
		found := 0
		_, err = pgx.ForEachRow(rows, []any{&n, &hash}, func() error {
			found++
			out[n-1], err = hashOf(hash)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read stored hashes: %w", err)
		}
		if found != len(indexes) {
			return nil, fmt.Errorf("%w: %d of %d stored hashes are missing", ErrCorrupt, len(indexes)-found, len(indexes))
		}
		return out, nil
	})
}

func hashOf(stored []byte) (tlog.Hash, error) {
	if len(stored) != tlog.HashSize {
		return tlog.Hash{}, fmt.Errorf("%w: a stored hash of %d bytes", ErrCorrupt, len(stored))
	}
	return tlog.Hash(stored), nil
}
