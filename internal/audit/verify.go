package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"earmark/internal/blob"
	"earmark/internal/db"
	"earmark/internal/ledger"
)

const (
	checkpointsAtOnce = 200
	leavesAtOnce      = 500
	readsAtOnce       = 16
)

// Verify recomputes the whole ledger from one view of the database and compares
// it with the object store: every entry with its leaf hash, every stored hash
// with those below it, every checkpoint with its signature and with the tree,
// every published checkpoint with the database's. It reads in pages, in memory
// that does not grow with the ledger.
//
// Whatever was changed, removed, inserted or moved by other means than the
// sequencer's is a Problem in the report. The error tells only that something
// could not be read. An entry that was removed before it had a place leaves no
// trace here.
func (a *Audit) Verify(ctx context.Context) (Report, error) {
	v := &verification{audit: a, report: Report{Problems: []Problem{}}}
	err := a.db.Snapshot(ctx, func(q db.Querier) error {
		v.q = q
		return v.run(ctx)
	})
	if err != nil {
		return Report{}, fmt.Errorf("verify ledger: %w", err)
	}
	return v.report, nil
}

type verification struct {
	audit  *Audit
	q      db.Querier
	report Report
}

func (v *verification) run(ctx context.Context) error {
	if err := v.findSize(ctx); err != nil {
		return err
	}
	if err := v.checkCheckpoints(ctx); err != nil {
		return err
	}
	if err := v.checkTree(ctx); err != nil {
		return err
	}
	if err := v.checkUnsigned(ctx); err != nil {
		return err
	}
	return v.checkPending(ctx)
}

// findSize takes the newest checkpoint that is signed: one put in by hand must
// not decide how much there is to check.
func (v *verification) findSize(ctx context.Context) error {
	for below := int64(math.MaxInt64); ; {
		var c kept
		err := v.q.QueryRow(ctx, `
			select size, note from ledger_checkpoints where size < $1 order by size desc limit 1`, below).
			Scan(&c.size, &c.note)
		if errors.Is(err, pgx.ErrNoRows) {
			v.report.Root = ledger.EmptyTree().Hash
			return nil
		}
		if err != nil {
			return fmt.Errorf("read checkpoint: %w", err)
		}
		if checkpoint, err := v.audit.open(c.size, []byte(c.note)); err == nil {
			v.report.Size, v.report.Root = checkpoint.Size, checkpoint.Root
			return nil
		}
		below = c.size
	}
}

// checkpoints yields the database's checkpoints with rising size, in pages.
func (v *verification) checkpoints(ctx context.Context) iter.Seq2[[]kept, error] {
	return func(yield func([]kept, error) bool) {
		for after := int64(math.MinInt64); ; {
			rows, err := v.q.Query(ctx, `
				select size, note, published_at is not null from ledger_checkpoints
				where size > $1 order by size limit $2`, after, checkpointsAtOnce)
			page, err := collectKept(rows, err)
			if !yield(page, err) || err != nil || len(page) < checkpointsAtOnce {
				return
			}
			after = page[len(page)-1].size
		}
	}
}

// checkCheckpoints compares the database's checkpoints with those published; both
// come with rising size.
func (v *verification) checkCheckpoints(ctx context.Context) error {
	published, stop := lookAhead(v.audit.published(ctx, 0))
	defer stop()
	for page, err := range v.checkpoints(ctx) {
		if err != nil {
			return err
		}
		isThere := make([]bool, len(page))
		for i, c := range page {
			if err := v.checkUnmatched(ctx, published, c.size); err != nil {
				return err
			}
			if isThere[i] = published.more && published.value == c.size; isThere[i] {
				published.advance()
			}
		}
		if err := v.checkPage(ctx, page, isThere); err != nil {
			return err
		}
	}
	if err := v.checkUnmatched(ctx, published, math.MaxInt64); err != nil {
		return err
	}
	if published.err != nil {
		return fmt.Errorf("list published checkpoints: %w", published.err)
	}
	return nil
}

// checkUnmatched takes the published checkpoints up to a size: this view of the
// database has none of them.
func (v *verification) checkUnmatched(ctx context.Context, published *ahead[int64], below int64) error {
	for published.more && published.value < below {
		if err := v.checkStray(ctx, published.value); err != nil {
			return err
		}
		published.advance()
	}
	return nil
}

func (v *verification) checkPage(ctx context.Context, page []kept, isThere []bool) error {
	published := make([][]byte, len(page))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(readsAtOnce)
	for i, c := range page {
		if !isThere[i] {
			continue
		}
		group.Go(func() (err error) {
			published[i], err = v.audit.read(groupCtx, c.size)
			if errors.Is(err, blob.ErrNotFound) {
				return nil // gone since it was listed
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("read published checkpoints: %w", err)
	}
	for i, c := range page {
		v.checkCheckpoint(c, published[i])
	}
	return nil
}

func (v *verification) checkCheckpoint(c kept, published []byte) {
	v.report.Checkpoints++
	if published != nil {
		v.report.Published++
	}
	if _, err := v.audit.open(c.size, []byte(c.note)); err != nil {
		v.report.add(Problem{Code: CheckpointInvalid, Size: &c.size}, "the database's checkpoint of size %d: %v", c.size, err)
	}
	switch {
	case published == nil && c.isPublished:
		v.report.add(Problem{Code: PublishedMissing, Size: &c.size},
			"the checkpoint of size %d was published and is no longer in the object store", c.size)
	case published != nil && !bytes.Equal(published, []byte(c.note)):
		v.report.add(Problem{Code: PublishedDiffers, Size: &c.size},
			"the published checkpoint of size %d is not the database's", c.size)
	}
}

// checkStray looks at an object for which this view of the database has no
// checkpoint.
func (v *verification) checkStray(ctx context.Context, size int64) error {
	v.report.Published++
	if size < 0 {
		v.report.add(Problem{Code: PublishedInvalid}, "an object under %s is not named like a checkpoint", publishedPrefix)
		return nil
	}
	signed, err := v.audit.read(ctx, size)
	if errors.Is(err, blob.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read published checkpoint: %w", err)
	}
	checkpoint, err := v.audit.open(size, signed)
	if err != nil {
		v.report.add(Problem{Code: PublishedInvalid, Size: &size}, "the published checkpoint of size %d: %v", size, err)
		return nil
	}
	if size > v.report.Size {
		return v.checkNewer(ctx, size)
	}
	v.report.add(Problem{Code: CheckpointMissing, Size: &size}, "the checkpoint of size %d was published and is no longer in the database", size)
	root, err := tlog.TreeHash(size, hashes(ctx, v.q))
	switch {
	case errors.Is(err, ErrCorrupt): // named where the tree is checked
	case err != nil:
		return err
	case root != checkpoint.Root:
		v.report.add(Problem{Code: CheckpointBroken, Size: &size}, "the tree of size %d is not the one whose checkpoint was published", size)
	}
	return nil
}

// checkNewer tells a checkpoint that was signed since Verify began from one that
// the database lost.
func (v *verification) checkNewer(ctx context.Context, size int64) error {
	lost, err := v.audit.lost(ctx, size)
	if lost {
		v.report.add(Problem{Code: RolledBack, Size: &size},
			"a checkpoint of size %d was published, the database's ledger ends at %d: it was cut off or set back to an earlier state", size, v.report.Size)
	}
	return err
}

// checkUnsigned names what has a place that no checkpoint covers.
func (v *verification) checkUnsigned(ctx context.Context) error {
	rows, err := v.q.Query(ctx, `
		select leaf, id from ledger_entries where leaf < 0 or leaf >= $1 order by leaf limit $2`,
		v.report.Size, maxProblems+1)
	if err != nil {
		return fmt.Errorf("read entries: %w", err)
	}
	var at int64
	var id *uuid.UUID
	_, err = pgx.ForEachRow(rows, []any{&at, &id}, func() error {
		p := leaves(at, at)
		p.Code, p.ID = EntryUnsigned, id
		v.report.add(p, "leaf %d (entry %v) was put in without a checkpoint that covers it", at, id)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read entries: %w", err)
	}
	rows, err = v.q.Query(ctx, `
		select index from ledger_hashes where index < 0 or index >= $1 order by index limit $2`,
		tlog.StoredHashCount(v.report.Size), maxProblems+1)
	if err != nil {
		return fmt.Errorf("read stored hashes: %w", err)
	}
	_, err = pgx.ForEachRow(rows, []any{&at}, func() error {
		v.report.add(Problem{Code: HashUnsigned}, "stored hash %d belongs to no tree that a checkpoint covers", at)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read stored hashes: %w", err)
	}
	return nil
}

func (v *verification) checkPending(ctx context.Context) error {
	for after := uuid.Nil; ; {
		b, err := readPending(ctx, v.q, after)
		if err != nil {
			return err
		}
		v.report.Pending += int64(b.read)
		for _, r := range b.refused {
			v.report.add(Problem{Code: PendingInvalid, ID: &r.id}, "%v", r.err)
		}
		if b.read < batchSize {
			return nil
		}
		after = b.last
	}
}

// ahead looks one value ahead in a sequence. At its end, and after an error, more
// is false.
type ahead[T any] struct {
	value T
	more  bool
	err   error
	next  func() (T, error, bool)
}

func lookAhead[T any](values iter.Seq2[T, error]) (_ *ahead[T], stop func()) {
	next, stop := iter.Pull2(values)
	a := &ahead[T]{next: next}
	a.advance()
	return a, stop
}

func (a *ahead[T]) advance() {
	a.value, a.err, a.more = a.next()
	a.more = a.more && a.err == nil
}
