package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"earmark/internal/blob"
	"earmark/internal/db"
	"earmark/internal/fault"
	"earmark/internal/ledger"
)

// Destroyed is an interaction whose key is gone: nobody reads it any more.
type Destroyed struct {
	ID             uuid.UUID
	Recordings     int
	Bytes          int64
	KeyDestroyedAt time.Time
}

// Destroy destroys the keys of interactions for a purge: once its transaction
// commits there is no way back. What is under a hold is left alone and comes
// back in held with the reason: held_legal, held_disclosure or held_review.
// What another purge destroyed, or never was, comes back in gone; what this
// purge destroyed before, in destroyed again. Each row stays locked until the
// transaction ends.
func (a *Archive) Destroy(ctx context.Context, tx *db.Tx, ids []uuid.UUID, purge uuid.UUID) (destroyed []Destroyed, held map[uuid.UUID]string, gone []uuid.UUID, err error) {
	locked, err := lockForDestruction(ctx, tx, ids)
	if err != nil {
		return nil, nil, nil, err
	}
	// Only now: a hold that was placed while the lock was waited for is seen.
	if held, err = holdsOn(ctx, tx, ids); err != nil {
		return nil, nil, nil, err
	}
	var doomed, there []uuid.UUID
	for _, i := range locked {
		there = append(there, i.ID)
		switch {
		case i.purge != nil && *i.purge == purge:
			destroyed = append(destroyed, i.Destroyed)
		case i.state == Purging || i.state == Erased:
			gone = append(gone, i.ID)
		case held[i.ID] == "":
			i.KeyDestroyedAt = tx.Now
			destroyed = append(destroyed, i.Destroyed)
			doomed = append(doomed, i.ID)
		}
	}
	gone = append(gone, without(ids, there)...)
	return destroyed, held, gone, destroyKeys(ctx, tx, doomed, purge)
}

type lockedInteraction struct {
	Destroyed
	state State
	purge *uuid.UUID
}

func lockForDestruction(ctx context.Context, tx *db.Tx, ids []uuid.UUID) ([]lockedInteraction, error) {
	rows, err := tx.Query(ctx, `
		with locked as (
			select id, state, purge_id, key_destroyed_at from interactions where id = any($1) order by id for update)
		select id, state, purge_id, coalesce(key_destroyed_at, 'epoch'),
			(select count(*) from recordings where interaction_id = locked.id),
			(select coalesce(sum(bytes), 0)::bigint from recordings where interaction_id = locked.id)
		from locked order by id`, ids)
	if err != nil {
		return nil, fmt.Errorf("destroy: lock: %w", err)
	}
	locked, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (i lockedInteraction, err error) {
		err = row.Scan(&i.ID, &i.state, &i.purge, &i.KeyDestroyedAt, &i.Recordings, &i.Bytes)
		return i, err
	})
	if err != nil {
		return nil, fmt.Errorf("destroy: lock: %w", err)
	}
	return locked, nil
}

// holdsOn tells by which hold each of the interactions is held, the weightiest.
func holdsOn(ctx context.Context, tx *db.Tx, ids []uuid.UUID) (map[uuid.UUID]string, error) {
	rows, err := tx.Query(ctx, `
		select interaction_id, 'held_' || kind from holds where interaction_id = any($1)
		order by array_position(array['review', 'disclosure', 'legal'], kind)`, ids)
	if err != nil {
		return nil, fmt.Errorf("destroy: look for holds: %w", err)
	}
	held := map[uuid.UUID]string{}
	var id uuid.UUID
	var reason string
	_, err = pgx.ForEachRow(rows, []any{&id, &reason}, func() error {
		held[id] = reason
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("destroy: look for holds: %w", err)
	}
	return held, nil
}

func destroyKeys(ctx context.Context, tx *db.Tx, ids []uuid.UUID, purge uuid.UUID) error {
	_, err := tx.Exec(ctx, `
		update interactions set state = 'purging', purge_id = $2, key_destroyed_at = $3, kek_id = null, wrapped_key = null
		where id = any($1)`, ids, purge, tx.Now)
	if err != nil {
		return fmt.Errorf("destroy keys: %w", err)
	}
	for _, id := range ids {
		tx.Record(ledger.Entry{Actor: "system:archive", Action: "interaction.key_destroyed", Subject: "interaction:" + id.String(),
			Details: map[string]any{"purge_id": purge.String()}})
	}
	return nil
}

// Removal tells what became of an interaction's objects.
type Removal struct {
	// Versions counts what was there and, by a second listing, is gone.
	Versions int
	// Remaining is what that listing still shows.
	Remaining []Remaining
}

// Remaining is a version of an object that the store keeps.
type Remaining struct {
	Key string `json:"key"`
	// Until is when the store's own lock ends; nil: that is not known.
	Until *time.Time `json:"until,omitempty"`
	// Reason is locked or unconfirmed.
	Reason string `json:"reason"`
}

// ErrLiving says that objects of an interaction were to be removed whose key
// was not destroyed before.
var ErrLiving = errors.New("the interaction is not being destroyed")

// RemoveObjects removes every version of every object of interactions that
// Destroy destroyed, the derived ones too, and lists them again. It may be
// called any number of times, after an error too; it belongs in no transaction.
func (a *Archive) RemoveObjects(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]Removal, error) {
	fault.Point("archive.key_destroyed")
	prefixes, err := a.doomedPrefixes(ctx, ids)
	if err != nil {
		return nil, err
	}
	spans, err := a.spans(ctx, prefixes)
	if err != nil {
		return nil, fmt.Errorf("remove objects: %w", err)
	}
	before, err := a.listSpans(ctx, spans)
	if err != nil {
		return nil, fmt.Errorf("remove objects: %w", err)
	}
	kept, err := a.deleteAll(ctx, before)
	if err != nil {
		return nil, fmt.Errorf("remove objects: %w", err)
	}
	after, err := a.listSpans(ctx, spans)
	if err != nil {
		return nil, fmt.Errorf("remove objects: list again: %w", err)
	}
	removals := make(map[uuid.UUID]Removal, len(ids))
	for id := range prefixes {
		removals[id] = removalOf(before[id], after[id], kept)
	}
	fault.Point("archive.objects_removed")
	return removals, nil
}

func (a *Archive) doomedPrefixes(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]string, error) {
	rows, err := a.DB.Query(ctx, `select id, state, received_at from interactions where id = any($1)`, ids)
	if err != nil {
		return nil, fmt.Errorf("remove objects: %w", err)
	}
	prefixes := make(map[uuid.UUID]string, len(ids))
	var id uuid.UUID
	var state State
	var received time.Time
	_, err = pgx.ForEachRow(rows, []any{&id, &state, &received}, func() error {
		if state != Purging && state != Erased {
			return fmt.Errorf("%w: %s", ErrLiving, id)
		}
		prefixes[id] = prefix(id, received)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("remove objects: %w", err)
	}
	return prefixes, nil
}

const (
	listStreams   = 8
	deleteStreams = 4
	deleteBatch   = 250
)

// span is a part of the store's listing, below prefix and from the key after to
// the key last, that holds all objects of some interactions, and perhaps others.
type span struct {
	prefix, after, last string
	ids                 map[uuid.UUID]bool
}

const (
	// dayLength is that of "2006/01/02/", which begins every key.
	dayLength = len("2006/01/02/")
	idLength  = len("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")
	// maxStrangers is how many others for each interaction a span may hold: a
	// listing gives a thousand keys at a time, so reading past a few costs less
	// than a request for each.
	maxStrangers = 8
)

// spans are the parts of the listing to look at for these interactions: what
// was taken in one after the other lies together.
func (a *Archive) spans(ctx context.Context, prefixes map[uuid.UUID]string) ([]span, error) {
	days := map[string][]string{}
	for _, prefix := range prefixes {
		days[prefix[:dayLength]] = append(days[prefix[:dayLength]], prefix)
	}
	var all []span
	for day, below := range days {
		slices.Sort(below)
		for part := range slices.Chunk(below, deleteBatch) {
			dense, err := a.dense(ctx, part)
			if err != nil {
				return nil, err
			}
			if dense {
				all = append(all, spanOf(day, part))
				continue
			}
			for _, prefix := range part {
				all = append(all, spanOf(prefix, []string{prefix}))
			}
		}
	}
	return all, nil
}

func spanOf(below string, prefixes []string) span {
	first, last := prefixes[0], prefixes[len(prefixes)-1]
	// A prefix without its slash comes before all that is below it; '0' follows '/'.
	s := span{prefix: below, after: first[:len(first)-1], last: last[:len(last)-1] + "0", ids: map[uuid.UUID]bool{}}
	for _, prefix := range prefixes {
		s.ids[idIn(prefix)] = true
	}
	return s
}

// idIn is the interaction of a key or prefix, uuid.Nil when it names none.
func idIn(key string) uuid.UUID {
	if len(key) < dayLength+idLength {
		return uuid.Nil
	}
	id, err := uuid.Parse(key[dayLength : dayLength+idLength])
	if err != nil {
		return uuid.Nil
	}
	return id
}

// dense says whether there are few others between the first and the last.
func (a *Archive) dense(ctx context.Context, prefixes []string) (bool, error) {
	bound := maxStrangers * len(prefixes)
	var between int
	err := a.DB.QueryRow(ctx, `
		select count(*) from (select from interactions where id between $1 and $2 limit $3) as between`,
		idIn(prefixes[0]), idIn(prefixes[len(prefixes)-1]), bound).Scan(&between)
	return len(prefixes) > 1 && between < bound, err
}

func (a *Archive) listSpans(ctx context.Context, spans []span) (map[uuid.UUID][]blob.Info, error) {
	var mu sync.Mutex
	found := map[uuid.UUID][]blob.Info{}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(listStreams)
	for _, s := range spans {
		group.Go(func() error {
			below, err := a.listSpan(ctx, s)
			mu.Lock()
			defer mu.Unlock()
			for _, info := range below {
				found[idIn(info.Key)] = append(found[idIn(info.Key)], info)
			}
			return err
		})
	}
	return found, group.Wait()
}

func (a *Archive) listSpan(ctx context.Context, s span) (below []blob.Info, err error) {
	for info, err := range a.Blob.List(ctx, s.prefix, s.after) {
		if err != nil {
			return nil, err
		}
		if info.Key > s.last {
			break
		}
		if s.ids[idIn(info.Key)] {
			below = append(below, info)
		}
	}
	return below, nil
}

func (a *Archive) deleteAll(ctx context.Context, found map[uuid.UUID][]blob.Info) (map[blob.Ref]error, error) {
	var refs []blob.Ref
	for _, below := range found {
		for _, info := range below {
			refs = append(refs, info.Ref)
		}
	}
	var mu sync.Mutex
	kept := map[blob.Ref]error{}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(deleteStreams)
	for batch := range slices.Chunk(refs, deleteBatch) {
		group.Go(func() error {
			refused, err := a.Blob.Delete(ctx, batch...)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			for _, k := range refused {
				kept[k.Ref] = k.Err
			}
			return nil
		})
	}
	return kept, group.Wait()
}

// removalOf trusts the second listing alone; a refusal only explains it.
func removalOf(before, after []blob.Info, kept map[blob.Ref]error) Removal {
	var r Removal
	left := make(map[blob.Ref]bool, len(after))
	for _, info := range after {
		left[info.Ref] = true
		r.Remaining = append(r.Remaining, remaining(info.Ref, kept[info.Ref]))
	}
	for _, info := range before {
		if !left[info.Ref] {
			r.Versions++
		}
	}
	return r
}

func remaining(ref blob.Ref, why error) Remaining {
	var locked *blob.LockedError
	if !errors.As(why, &locked) {
		return Remaining{Key: ref.Key, Reason: "unconfirmed"}
	}
	r := Remaining{Key: ref.Key, Reason: "locked"}
	if !locked.LegalHold && !locked.Until.IsZero() {
		until := locked.Until.UTC()
		r.Until = &until
	}
	return r
}

type scrubber struct {
	name string
	fn   func(ctx context.Context, tx *db.Tx, ids []uuid.UUID) error
}

// OnScrub has fn called by Scrub, in its transaction, to take out of a
// feature's own tables what they hold of these interactions. It must be
// idempotent. Call it before anything is served. What the feature's columns
// hold is declared in Columns.
func (a *Archive) OnScrub(name string, fn func(ctx context.Context, tx *db.Tx, ids []uuid.UUID) error) {
	a.scrubbers = append(a.scrubbers, scrubber{name, fn})
}

// scrubbing takes what is personal out of the archive's own tables. What is
// left of an interaction is that there was one, when it came and when it went.
var scrubbing = []string{
	`delete from interaction_words where interaction_id = any($1)`,
	`delete from listenings where recording_id in (select id from recordings where interaction_id = any($1))`,
	`delete from objects where recording_id in (select id from recordings where interaction_id = any($1))`,
	`update recordings set
		name = id::text, file_name = null, media_type = '', sha256 = null, state = 'erased', flags = '{}',
		codec = null, channels = null, sample_rate = null, duration_ms = null
	where interaction_id = any($1)`,
	`update interactions set
		state = 'erased', erased_at = $2, source_id = null, direction = null,
		started_at = date_trunc('month', started_at, 'UTC'), ended_at = null, duration_ms = null,
		agent_id = null, agent_name = null, queue = null, skill = null, campaign = null,
		customer_id = null, ani = null, dnis = null, participants = null,
		disposition = null, wrap_up_code = null, hold_count = null, hold_seconds = null,
		after_contact_work_seconds = null, disconnect_reason = null, tags = '{}', attributes = null,
		consent = null, purposes = '{}', messages = null, transcript = null,
		policy_id = null, retain_until = null
	where id = any($1)`,
}

// Scrub turns interactions whose objects are removed into tombstones without
// personal data. Those that are tombstones already stay as they are.
func (a *Archive) Scrub(ctx context.Context, tx *db.Tx, ids []uuid.UUID) error {
	rows, err := tx.Query(ctx, `select id from interactions where id = any($1) and state = 'purging' order by id for update`, ids)
	if err != nil {
		return fmt.Errorf("scrub: %w", err)
	}
	doomed, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return fmt.Errorf("scrub: %w", err)
	}
	if len(doomed) == 0 {
		return nil
	}
	for _, s := range a.scrubbers {
		if err := s.fn(ctx, tx, doomed); err != nil {
			return fmt.Errorf("scrub %s: %w", s.name, err)
		}
	}
	batch := &pgx.Batch{}
	for _, sql := range scrubbing[:len(scrubbing)-1] {
		batch.Queue(sql, doomed)
	}
	batch.Queue(scrubbing[len(scrubbing)-1], doomed, tx.Now)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("scrub: %w", err)
	}
	for _, id := range doomed {
		tx.Record(ledger.Entry{Actor: "system:archive", Action: "interaction.erased", Subject: "interaction:" + id.String()})
	}
	fault.Point("archive.scrubbed")
	return nil
}
