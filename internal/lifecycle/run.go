package lifecycle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/blob"
	"earmark/internal/db"
	"earmark/internal/ledger"
)

const (
	// runBatch is how many interactions are destroyed in one transaction: what
	// one request to the object store can delete, and no more than a hold that
	// waits for the transaction's locks should wait for.
	runBatch = 250
	// runStreams is how many batches are under way at once.
	runStreams = 4
)

// Run carries out an approved purge, from wherever an earlier run stopped or
// died, up to its certificate. Nil: the certificate is signed and stored, or
// the purge was cancelled. ErrIncomplete and errors of the store or the
// database: call it again later. Several runs of one purge at once are safe.
func (l *Lifecycle) Run(ctx context.Context, id uuid.UUID) error {
	state, err := l.begin(ctx, id)
	if err == nil && state == "running" {
		err = l.runToEnd(ctx, id)
		state = "done"
	}
	if err == nil && state == "done" {
		err = l.afterEnd(ctx, id)
	}
	if err != nil {
		return fmt.Errorf("run purge %s: %w", id, err)
	}
	return nil
}

// begin makes an approved purge a running one and returns its state.
func (l *Lifecycle) begin(ctx context.Context, id uuid.UUID) (state string, err error) {
	err = l.DB.Write(ctx, func(tx *db.Tx) error {
		p, err := lockPurge(ctx, tx, id)
		if err != nil {
			return err
		}
		switch p.State {
		case "previewed":
			return ErrState
		case "approved":
			_, err = tx.Exec(ctx, `update purges set state = 'running' where id = $1`, id)
			p.State = "running"
		}
		state = p.State
		return err
	})
	if err != nil {
		return "", err
	}
	return state, l.at("approved")
}

func (l *Lifecycle) runToEnd(ctx context.Context, id uuid.UUID) error {
	if err := l.destroyAll(ctx, id); err != nil {
		return err
	}
	if err := l.at("before_certificate"); err != nil {
		return err
	}
	return l.finish(ctx, id)
}

// destroyAll goes once through everything that is not gone yet: first what an
// earlier run has left half-way, then the rest.
func (l *Lifecycle) destroyAll(ctx context.Context, id uuid.UUID) error {
	left, err := idsOf(ctx, l.DB, `
		select interaction_id from purge_items where purge_id = $1 and state = 'purging' order by 1`, id)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runStreams)
	for batch := range slices.Chunk(left, l.runBatch) {
		group.Go(func() error { return l.bury(ctx, id, batch) })
	}
	for range runStreams {
		group.Go(func() error { return l.destroyPending(ctx, id) })
	}
	return group.Wait()
}

func (l *Lifecycle) destroyPending(ctx context.Context, id uuid.UUID) error {
	for {
		claimed, destroyed, err := l.destroyBatch(ctx, id)
		if err != nil || claimed == 0 {
			return err
		}
		if err := l.at("batch_destroyed"); err != nil {
			return err
		}
		if err := l.bury(ctx, id, destroyed); err != nil {
			return err
		}
	}
}

// outcomes are what a batch of items has come to, column by column.
type outcomes struct {
	ids        []uuid.UUID
	states     []string
	reasons    []string
	recordings []int
	bytes      []int64
	destroyed  []*time.Time
}

func (o *outcomes) add(id uuid.UUID, state, reason string, d archive.Destroyed) {
	o.ids, o.states, o.reasons = append(o.ids, id), append(o.states, state), append(o.reasons, reason)
	o.recordings, o.bytes = append(o.recordings, d.Recordings), append(o.bytes, d.Bytes)
	if d.KeyDestroyedAt.IsZero() {
		o.destroyed = append(o.destroyed, nil)
		return
	}
	o.destroyed = append(o.destroyed, &d.KeyDestroyedAt)
}

// destroyBatch claims some of the items that nobody has begun with and
// destroys the keys of those that nothing holds. Its commit is the point of no
// return.
func (l *Lifecycle) destroyBatch(ctx context.Context, id uuid.UUID) (claimed int, purging []uuid.UUID, err error) {
	err = l.DB.Write(ctx, func(tx *db.Tx) error {
		batch, err := idsOf(ctx, tx, `
			select interaction_id from purge_items where purge_id = $1 and state = 'pending'
			order by interaction_id limit $2 for update skip locked`, id, l.runBatch)
		claimed, purging = len(batch), nil
		if err != nil || claimed == 0 {
			return err
		}
		destroyed, held, gone, err := l.Archive.Destroy(ctx, tx, batch, id)
		if err != nil {
			return err
		}
		var o outcomes
		for _, d := range destroyed {
			o.add(d.ID, "purging", "", d)
			purging = append(purging, d.ID)
		}
		for item, reason := range held {
			o.add(item, "exempt", reason, archive.Destroyed{})
		}
		for _, item := range gone {
			o.add(item, "exempt", "gone", archive.Destroyed{})
		}
		if len(o.ids) != claimed {
			return fmt.Errorf("%d of %d interactions were accounted for", len(o.ids), claimed)
		}
		return o.write(ctx, tx, id)
	})
	if err != nil {
		return 0, nil, fmt.Errorf("destroy keys: %w", err)
	}
	return claimed, purging, nil
}

func (o *outcomes) write(ctx context.Context, tx *db.Tx, id uuid.UUID) error {
	_, err := tx.Exec(ctx, `
		update purge_items p set
			state = o.state,
			exempt_reason = case o.reason when '' then null when 'gone' then (
				select case i.state when 'erased' then 'already_gone' else 'other_purge' end
				from interactions i where i.id = o.id) else o.reason end,
			key_destroyed_at = o.destroyed,
			recordings = case o.state when 'purging' then o.recordings else p.recordings end,
			bytes = case o.state when 'purging' then o.bytes else p.bytes end
		from unnest($2::uuid[], $3::text[], $4::text[], $5::int[], $6::bigint[], $7::timestamptz[])
			o (id, state, reason, recordings, bytes, destroyed)
		where p.purge_id = $1 and p.interaction_id = o.id`,
		id, o.ids, o.states, o.reasons, o.recordings, o.bytes, o.destroyed)
	return err
}

// bury removes the objects of interactions whose keys are destroyed, makes
// tombstones of those of which nothing is left, and notes down the others.
func (l *Lifecycle) bury(ctx context.Context, id uuid.UUID, batch []uuid.UUID) error {
	if len(batch) == 0 {
		return nil
	}
	removals, err := l.Archive.RemoveObjects(ctx, batch)
	if err != nil {
		return errors.Join(err, l.noteFailure(ctx, id, batch, err))
	}
	if err := l.at("objects_removed"); err != nil {
		return err
	}
	if err := l.scrub(ctx, id, batch, removals); err != nil {
		return err
	}
	return l.at("batch_done")
}

func (l *Lifecycle) noteFailure(ctx context.Context, id uuid.UUID, batch []uuid.UUID, cause error) error {
	// The caller's context may be what has ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return l.DB.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `
			update purge_items set attempts = attempts + 1, last_error = $3
			where purge_id = $1 and interaction_id = any($2) and state = 'purging'`, id, batch, errorCode(cause))
		return err
	})
}

// errorCode is what is kept of an error: the store's own words may hold anything.
func errorCode(err error) string {
	switch {
	case errors.Is(err, blob.ErrUnavailable):
		return "store_unavailable"
	case errors.Is(err, context.DeadlineExceeded):
		return "timed_out"
	case errors.Is(err, context.Canceled):
		return "interrupted"
	}
	return "failed"
}

func (l *Lifecycle) scrub(ctx context.Context, id uuid.UUID, batch []uuid.UUID, removals map[uuid.UUID]archive.Removal) error {
	err := l.DB.Write(ctx, func(tx *db.Tx) error {
		// Another run may have come first.
		mine, err := idsOf(ctx, tx, `
			select interaction_id from purge_items
			where purge_id = $1 and interaction_id = any($2) and state = 'purging'
			order by 1 for update`, id, batch)
		if err != nil || len(mine) == 0 {
			return err
		}
		done := slices.DeleteFunc(slices.Clone(mine), func(item uuid.UUID) bool { return !cleared(removals, item) })
		if err := writeRemovals(ctx, tx, id, mine, removals); err != nil {
			return err
		}
		if len(done) == 0 {
			return nil
		}
		if err := l.Archive.Scrub(ctx, tx, done); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			update purge_items set state = 'gone', gone_at = $3, last_error = null
			where purge_id = $1 and interaction_id = any($2)`, id, done, tx.Now)
		return err
	})
	if err != nil {
		return fmt.Errorf("scrub: %w", err)
	}
	return nil
}

// cleared says that by the second listing nothing is left of an interaction's
// objects but what the store's own lock keeps.
func cleared(removals map[uuid.UUID]archive.Removal, id uuid.UUID) bool {
	r, looked := removals[id]
	return looked && !slices.ContainsFunc(r.Remaining, func(o archive.Remaining) bool { return o.Reason != "locked" })
}

// writeRemovals notes down what went, what stays and what failed. The times of
// several attempts add up.
func writeRemovals(ctx context.Context, tx *db.Tx, id uuid.UUID, batch []uuid.UUID, removals map[uuid.UUID]archive.Removal) error {
	versions := make([]int, len(batch))
	remaining := make([]*string, len(batch))
	failed := make([]bool, len(batch))
	for i, item := range batch {
		r := removals[item]
		versions[i], failed[i] = r.Versions, !cleared(removals, item)
		if len(r.Remaining) == 0 {
			continue
		}
		text, err := json.Marshal(r.Remaining)
		if err != nil {
			return fmt.Errorf("write remaining objects: %w", err)
		}
		s := string(text)
		remaining[i] = &s
	}
	_, err := tx.Exec(ctx, `
		update purge_items p set versions_removed = p.versions_removed + r.versions, remaining = r.remaining::jsonb,
			attempts = p.attempts + r.failed::int,
			last_error = case when r.failed then 'not_confirmed' end
		from unnest($2::uuid[], $3::int[], $4::text[], $5::bool[]) r (id, versions, remaining, failed)
		where p.purge_id = $1 and p.interaction_id = r.id`, id, batch, versions, remaining, failed)
	if err != nil {
		return fmt.Errorf("note removals: %w", err)
	}
	return nil
}

// finish certifies what is gone, once nothing is under way any more.
func (l *Lifecycle) finish(ctx context.Context, id uuid.UUID) error {
	return l.DB.Write(ctx, func(tx *db.Tx) error {
		p, err := lockPurge(ctx, tx, id)
		if err != nil || p.State == "done" {
			return err
		}
		all, err := items(ctx, tx, `where purge_id = $1 order by interaction_id`, id)
		if err != nil {
			return err
		}
		p.FinishedAt = &tx.Now
		certificate, err := certify(p, all)
		if err != nil {
			return err
		}
		signed, err := ledger.SignDocument(l.Signer, CertificateType, certificate)
		if err != nil {
			return err
		}
		// Whose and which words it looked for is nobody's business any more.
		_, err = tx.Exec(ctx, `
			update purges set state = 'done', finished_at = $2, certificate = $3, filter = filter - 'customer' - 'q'
			where id = $1`, id, tx.Now, signed)
		if err != nil {
			return err
		}
		if due, locked := firstUnlock(certificate.Remaining, tx.Now); locked {
			tx.Enqueue(removeLater(id, due))
		}
		if p.ErasureRequestID != nil {
			tx.Enqueue(eraseLater(*p.ErasureRequestID))
		}
		digest := sha256.Sum256(signed)
		tx.Record(ledger.Entry{Actor: access.System("purge").String(), Action: "purge.finished",
			Subject: "purge:" + id.String(), Details: map[string]any{
				"items": len(certificate.Items), "exempt": len(certificate.Exempt),
				"remaining": len(certificate.Remaining), "certificate_sha256": hex.EncodeToString(digest[:]),
			}})
		return nil
	})
}

// afterEnd puts the certificate's copy into the object store and removes
// objects whose locks have ended since.
func (l *Lifecycle) afterEnd(ctx context.Context, id uuid.UUID) error {
	if err := l.publish(ctx, id); err != nil {
		return err
	}
	return l.removeUnlocked(ctx, id)
}

// certificateKey is where a certificate's copy lies in the object store.
func certificateKey(id uuid.UUID) string { return "certificates/" + id.String() + ".json" }

func (l *Lifecycle) publish(ctx context.Context, id uuid.UUID) error {
	var (
		certificate []byte
		stored      bool
	)
	err := l.DB.QueryRow(ctx, `select certificate, certificate_stored_at is not null from purges where id = $1`, id).
		Scan(&certificate, &stored)
	if err != nil {
		return db.Found(err)
	}
	if stored {
		return nil
	}
	_, err = l.Blob.Put(ctx, certificateKey(id), bytes.NewReader(certificate), int64(len(certificate)))
	if errors.Is(err, blob.ErrExists) {
		err = l.compareCopy(ctx, id, certificate)
	}
	if err != nil {
		return fmt.Errorf("store certificate: %w", err)
	}
	return l.DB.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `update purges set certificate_stored_at = $2 where id = $1`, id, tx.Now)
		return err
	})
}

var errCopyDiffers = errors.New("the certificate's copy in the object store is another one")

func (l *Lifecycle) compareCopy(ctx context.Context, id uuid.UUID, certificate []byte) error {
	r, _, err := l.Blob.Open(ctx, certificateKey(id), 0, -1)
	if err != nil {
		return err
	}
	copied, err := io.ReadAll(io.LimitReader(r, int64(len(certificate))+1))
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	if !bytes.Equal(copied, certificate) {
		return errCopyDiffers
	}
	return nil
}

const unlockRetry = 24 * time.Hour

// firstUnlock is when it is worth trying again to remove what was locked.
func firstUnlock(remaining []CertifiedRemaining, now time.Time) (due time.Time, locked bool) {
	due = now.Add(unlockRetry)
	for i, r := range remaining {
		if r.Until != nil && r.Until.After(now) && (i == 0 || r.Until.Before(due)) {
			due = *r.Until
		}
	}
	return due, len(remaining) > 0
}

func removeLater(id uuid.UUID, due time.Time) db.Job {
	job := runLater(id)
	job.DueAt = due
	// A key of its own: the job that asks for this one is still there.
	job.UniqueKey = fmt.Sprintf("purge.remaining:%s:%d", id, due.Unix())
	return job
}

// removeUnlocked tries again to remove what the certificate says remains.
func (l *Lifecycle) removeUnlocked(ctx context.Context, id uuid.UUID) error {
	kept, err := items(ctx, l.DB, `
		where purge_id = $1 and state = 'gone' and remaining is not null order by interaction_id`, id)
	if err != nil {
		return err
	}
	var due []uuid.UUID
	var later []CertifiedRemaining
	now := l.DB.Now()
	for _, item := range kept {
		if stillLocked(item.Remaining, now) {
			later = append(later, remainingOf(item)...)
			continue
		}
		due = append(due, item.InteractionID)
	}
	for batch := range slices.Chunk(due, l.runBatch) {
		removals, err := l.Archive.RemoveObjects(ctx, batch)
		if err != nil {
			return err
		}
		for item, r := range removals {
			later = append(later, remainingOf(Item{InteractionID: item, Remaining: r.Remaining})...)
		}
		if err := l.DB.Write(ctx, func(tx *db.Tx) error { return l.noteUnlocked(ctx, tx, id, batch, removals) }); err != nil {
			return err
		}
	}
	at, locked := firstUnlock(later, now)
	if !locked || len(due) == 0 {
		return nil
	}
	return l.DB.Write(ctx, func(tx *db.Tx) error {
		tx.Enqueue(removeLater(id, at))
		return nil
	})
}

func stillLocked(remaining []archive.Remaining, now time.Time) bool {
	return slices.ContainsFunc(remaining, func(r archive.Remaining) bool { return r.Until != nil && r.Until.After(now) })
}

func (l *Lifecycle) noteUnlocked(ctx context.Context, tx *db.Tx, id uuid.UUID, batch []uuid.UUID, removals map[uuid.UUID]archive.Removal) error {
	if err := writeRemovals(ctx, tx, id, batch, removals); err != nil {
		return err
	}
	for _, item := range batch {
		if len(removals[item].Remaining) > 0 {
			continue
		}
		tx.Record(ledger.Entry{Actor: access.System("purge").String(), Action: "interaction.remains_removed",
			Subject: "interaction:" + item.String(), Details: map[string]any{"purge": id.String()}})
	}
	return nil
}
