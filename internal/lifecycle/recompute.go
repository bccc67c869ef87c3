package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"earmark/internal/access"
	"earmark/internal/db"
)

// Recomputation is how far the archive has been brought in line with the last
// change of the policies.
type Recomputation struct {
	Examined   int64      `json:"examined"`
	Changed    int64      `json:"changed"`
	StartedAt  time.Time  `json:"started_at"`
	FinishedAt *time.Time `json:"finished_at,omitempty"`
}

// RecomputationState tells how far the recomputation is; db.ErrNotFound when
// no policy was ever put in force.
func (l *Lifecycle) RecomputationState(ctx context.Context, actor access.Actor) (r Recomputation, err error) {
	if err := actor.May(access.ReadLifecycle); err != nil {
		return Recomputation{}, err
	}
	err = l.DB.QueryRow(ctx, `select examined, changed, started_at, finished_at from retention_recomputation`).
		Scan(&r.Examined, &r.Changed, &r.StartedAt, &r.FinishedAt)
	if err != nil {
		return Recomputation{}, fmt.Errorf("read recomputation: %w", db.Found(err))
	}
	return r, nil
}

// beginRecomputation starts at the first interaction, also where an earlier
// recomputation was under way.
func (l *Lifecycle) beginRecomputation(ctx context.Context, tx *db.Tx) error {
	_, err := tx.Exec(ctx, `
		insert into retention_recomputation (examined, changed, started_at) values (0, 0, $1)
		on conflict (singleton) do update set cursor = null, examined = 0, changed = 0,
			started_at = excluded.started_at, finished_at = null`, tx.Now)
	if err != nil {
		return fmt.Errorf("begin recomputation: %w", err)
	}
	// Without a unique key: the job of an earlier change may be about to end.
	tx.Enqueue(db.Job{Kind: "retention.recompute", Args: struct{}{}})
	return nil
}

// recomputeBatch is how many interactions one transaction looks at: what
// amends them waits for that long.
const recomputeBatch = 1000

// Recompute brings the retention of the whole archive in line with the active
// policies, in small transactions, from where an earlier call stopped. It may
// be called by several workers at once.
func (l *Lifecycle) Recompute(ctx context.Context) error {
	for {
		more, err := l.recomputeSome(ctx)
		if err != nil {
			return fmt.Errorf("recompute retention: %w", err)
		}
		if !more {
			return nil
		}
		if err := l.at("recomputed_batch"); err != nil {
			return err
		}
	}
}

func (l *Lifecycle) recomputeSome(ctx context.Context) (more bool, err error) {
	err = l.DB.Write(ctx, func(tx *db.Tx) error {
		// The policies before the cursor, in the order in which a change of
		// them takes both.
		inForce, err := activePolicies(ctx, tx)
		if err != nil {
			return err
		}
		var after uuid.UUID
		err = tx.QueryRow(ctx, `
			select coalesce(cursor, $1) from retention_recomputation where finished_at is null for update`, uuid.Nil).
			Scan(&after)
		if err != nil {
			return db.Found(err)
		}
		batch, err := kept(ctx, tx, `
			where id > $1 and state in ('active', 'restricted')
			order by id limit $2 for no key update`, after, l.recomputeBatch)
		if err != nil {
			return err
		}
		changed, err := correct(ctx, tx, inForce, batch)
		if err != nil {
			return err
		}
		more = len(batch) == l.recomputeBatch
		if len(batch) > 0 {
			after = batch[len(batch)-1].ID
		}
		_, err = tx.Exec(ctx, `
			update retention_recomputation set cursor = $1, examined = examined + $2, changed = changed + $3,
				finished_at = case when $4 then null else $5::timestamptz end`,
			after, len(batch), len(changed), more, tx.Now)
		return err
	})
	if errors.Is(err, db.ErrNotFound) {
		return false, nil
	}
	return more, err
}

// keptRow is what of an interaction decides how long it is kept.
type keptRow struct {
	ID          uuid.UUID
	State       string
	facts       facts
	PolicyID    *uuid.UUID
	RetainUntil *time.Time
}

// kept reads interactions; where is the rest of the statement.
func kept(ctx context.Context, tx *db.Tx, where string, args ...any) ([]keptRow, error) {
	rows, err := tx.Query(ctx, `
		select i.id, i.state, i.channel, coalesce(i.queue, ''), coalesce(i.direction, ''), coalesce(i.disposition, ''),
			i.tags, coalesce(i.ended_at, i.started_at), i.policy_id, i.retain_until
		from interactions i `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read interactions: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (k keptRow, err error) {
		f := &k.facts
		err = row.Scan(&k.ID, &k.State, &f.Channel, &f.Queue, &f.Direction, &f.Disposition, &f.Tags, &f.End,
			&k.PolicyID, &k.RetainUntil)
		return k, err
	})
	if err != nil {
		return nil, fmt.Errorf("read interactions: %w", err)
	}
	return found, nil
}

// correct writes down what the policies say of rows where it is not what
// stands there, and returns the ids of those.
func correct(ctx context.Context, tx *db.Tx, inForce []Policy, rows []keptRow) ([]uuid.UUID, error) {
	var (
		ids      []uuid.UUID
		policies []*uuid.UUID
		untils   []*time.Time
	)
	for _, row := range rows {
		policy, until := retention(inForce, row.facts)
		if same(policy, row.PolicyID) && sameTime(until, row.RetainUntil) {
			continue
		}
		ids, policies, untils = append(ids, row.ID), append(policies, policy), append(untils, until)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	_, err := tx.Exec(ctx, `
		update interactions i set policy_id = c.policy, retain_until = c.until
		from unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) c (id, policy, until)
		where i.id = c.id`, ids, policies, untils)
	if err != nil {
		return nil, fmt.Errorf("correct retention: %w", err)
	}
	return ids, nil
}

func same[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

func sameTime(a, b *time.Time) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(*b)
}
