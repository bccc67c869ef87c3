package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"earmark/internal/db"
	"earmark/internal/fault"
	"earmark/internal/ledger"
)

const (
	batchSize = 1000
	// sequencerLock is the advisory lock, in each database, of whoever sequences.
	sequencerLock = 0x6c6564676572 // "ledger"
	longestPause  = 10 * time.Second
)

// Run is the sequencer: until ctx ends it looks every so often for entries without
// a place, gives them one and publishes the checkpoints. A second process that
// runs it too takes over when the first dies. A failure is logged and tried again,
// at the latest after ten seconds; writers are never held up. Run returns nil
// when ctx ends.
func (a *Audit) Run(ctx context.Context, every time.Duration) error {
	signed := make(chan struct{}, 1)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		a.repeat(ctx, every, nil, "sequence the ledger", func() error {
			n, err := a.Sequence(ctx)
			if n > 0 {
				select {
				case signed <- struct{}{}:
				default:
				}
			}
			return err
		})
		return nil
	})
	// Apart, so that an object store that does not answer delays no checkpoint.
	group.Go(func() error {
		a.repeat(ctx, every, signed, "publish checkpoints", func() error { return a.Publish(ctx) })
		return nil
	})
	return group.Wait()
}

// repeat runs duty at once, then after each pause or wake, with longer pauses
// after failures.
func (a *Audit) repeat(ctx context.Context, every time.Duration, wake <-chan struct{}, name string, duty func() error) {
	pause := every
	for {
		err := duty()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			a.log.ErrorContext(ctx, name, "error", err)
			pause = min(2*pause, max(every, longestPause))
		default:
			pause = every
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-wake:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// Sequence gives every entry recorded so far its leaf, extends the tree and signs
// a checkpoint for each batch of at most 1000, each batch in one transaction. It
// returns how many entries it placed; none when another process is at it.
//
// Entries that Tx.Record cannot have written stay where they are and are named in
// the error, after the others were placed. On a tree that contradicts its newest
// checkpoint nothing is built (ErrCorrupt or ledger.ErrProof), nor on a database
// behind what was published (ErrRolledBack).
func (a *Audit) Sequence(ctx context.Context) (int, error) {
	var pending bool
	err := a.db.QueryRow(ctx, `select exists (select from ledger_pending)`).Scan(&pending)
	if err != nil {
		return 0, fmt.Errorf("look for pending entries: %w", err)
	}
	if !pending {
		return 0, nil
	}
	if err := a.checkNotBehind(ctx); err != nil {
		return 0, err
	}
	placed, refused := 0, []error(nil)
	for after := uuid.Nil; ; {
		var b batch
		err := a.db.Write(ctx, func(tx *db.Tx) (err error) {
			b, err = a.sequenceBatch(ctx, tx, after)
			return err
		})
		if err != nil {
			return placed, fmt.Errorf("sequence: %w", errors.Join(append(refused, err)...))
		}
		if len(b.ids) > 0 {
			fault.Point("audit.sequenced")
		}
		placed += len(b.ids)
		for _, r := range b.refused {
			refused = append(refused, r.err)
		}
		if b.read < batchSize {
			return placed, errors.Join(refused...)
		}
		after = b.last
	}
}

// batch is what one transaction of the sequencer read and what of it has a place.
type batch struct {
	read int
	last uuid.UUID

	ids    []uuid.UUID
	texts  []string
	leaves []tlog.Hash

	refused []refusal
}

// refusal is a pending entry that gets no place, and why.
type refusal struct {
	id  uuid.UUID
	err error
}

func (a *Audit) sequenceBatch(ctx context.Context, tx *db.Tx, after uuid.UUID) (batch, error) {
	var mine bool
	if err := tx.QueryRow(ctx, `select pg_try_advisory_xact_lock($1)`, int64(sequencerLock)).Scan(&mine); err != nil {
		return batch{}, fmt.Errorf("lock: %w", err)
	}
	if !mine {
		return batch{}, nil
	}
	b, err := readPending(ctx, tx, after)
	if err != nil || len(b.ids) == 0 {
		return b, err
	}
	return b, a.place(ctx, tx, b)
}

func readPending(ctx context.Context, q db.Querier, after uuid.UUID) (batch, error) {
	rows, err := q.Query(ctx, `
		select p.id, p.entry, exists (select from ledger_entries e where e.id = p.id)
		from ledger_pending p where p.id > $1 order by p.id limit $2`, after, batchSize)
	if err != nil {
		return batch{}, fmt.Errorf("read pending entries: %w", err)
	}
	var b batch
	var id uuid.UUID
	var text string
	var placed bool
	_, err = pgx.ForEachRow(rows, []any{&id, &text, &placed}, func() error {
		b.read, b.last = b.read+1, id
		if err := checkPending(id, text, placed); err != nil {
			b.refused = append(b.refused, refusal{id, err})
			return nil //nolint:nilerr // it is refused, and the others go on
		}
		b.ids, b.texts = append(b.ids, id), append(b.texts, text)
		b.leaves = append(b.leaves, ledger.LeafHash(text))
		return nil
	})
	if err != nil {
		return batch{}, fmt.Errorf("read pending entries: %w", err)
	}
	return b, nil
}

// checkPending refuses what would stop all later entries if it were tried.
func checkPending(id uuid.UUID, text string, placed bool) error {
	entry, err := ledger.Decode(text)
	switch {
	case err != nil:
		return fmt.Errorf("%w: pending entry %s: %w", ErrCorrupt, id, err)
	case entry.ID != id:
		return fmt.Errorf("%w: pending entry %s says that it is %s", ErrCorrupt, id, entry.ID)
	case placed:
		return fmt.Errorf("%w: pending entry %s has a place already", ErrCorrupt, id)
	}
	return nil
}

// place writes a batch behind the newest checkpoint, in one round trip after the
// tree's edge was read.
func (a *Audit) place(ctx context.Context, tx *db.Tx, b batch) error {
	old := ledger.EmptyTree()
	checkpoint, _, err := a.newest(ctx, tx)
	if err == nil {
		old = tlog.Tree{N: checkpoint.Size, Hash: checkpoint.Root}
	} else if !errors.Is(err, db.ErrNotFound) {
		return err
	}
	added, tree, err := ledger.Extend(old, b.leaves, hashes(ctx, tx))
	if err != nil {
		return err
	}
	signed, err := ledger.Checkpoint{Origin: a.signer.Name(), Size: tree.N, Root: tree.Hash}.Sign(a.signer)
	if err != nil {
		return err
	}
	moved := &pgx.Batch{}
	moved.Queue(`delete from ledger_pending where id = any($1)`, b.ids)
	moved.Queue(`
		insert into ledger_entries (leaf, entry)
		select $1::bigint + n - 1, entry from unnest($2::text[]) with ordinality added(entry, n)`, old.N, b.texts)
	moved.Queue(`
		insert into ledger_hashes (index, hash)
		select $1::bigint + n - 1, hash from unnest($2::bytea[]) with ordinality added(hash, n)`,
		tlog.StoredHashCount(old.N), byteSlices(added))
	moved.Queue(`insert into ledger_checkpoints (size, note, signed_at) values ($1, $2, $3)`, tree.N, string(signed), tx.Now)
	if err := tx.SendBatch(ctx, moved).Close(); err != nil {
		return fmt.Errorf("place entries from leaf %d: %w", old.N, err)
	}
	return nil
}

func byteSlices(hashes []tlog.Hash) [][]byte {
	out := make([][]byte, len(hashes))
	for i := range hashes {
		out[i] = hashes[i][:]
	}
	return out
}

// checkNotBehind asks once whether a checkpoint was published that the database
// does not know.
func (a *Audit) checkNotBehind(ctx context.Context) error {
	if a.notBehind.Load() {
		return nil
	}
	var size int64
	err := a.db.QueryRow(ctx, `select coalesce(max(size), 0) from ledger_checkpoints`).Scan(&size)
	if err != nil {
		return fmt.Errorf("read checkpoint: %w", err)
	}
	for published, err := range a.published(ctx, size) {
		if err != nil {
			return fmt.Errorf("look for published checkpoints: %w", err)
		}
		lost, err := a.lost(ctx, published)
		if err != nil {
			return err
		}
		if lost {
			return fmt.Errorf("%w: %d entries in the database, %d published", ErrRolledBack, size, published)
		}
	}
	a.notBehind.Store(true)
	return nil
}

// lost says whether a checkpoint of ours was published with that size and the
// database, as it is now, does not have it. What is published was committed
// before, so a look at the database that comes after the look at the object store
// must find it.
func (a *Audit) lost(ctx context.Context, size int64) (bool, error) {
	var known bool
	err := a.db.QueryRow(ctx, `select exists (select from ledger_checkpoints where size = $1)`, size).Scan(&known)
	if err != nil {
		return false, fmt.Errorf("read checkpoint: %w", err)
	}
	if known || size < 0 {
		return false, nil
	}
	signed, err := a.read(ctx, size)
	if err != nil {
		return false, fmt.Errorf("read published checkpoint: %w", err)
	}
	// What we did not sign proves nothing, and must not stop the ledger.
	_, err = a.open(size, signed)
	return err == nil, nil
}
