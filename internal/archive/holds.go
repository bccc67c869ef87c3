package archive

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"earmark/internal/db"
	"earmark/internal/ledger"
)

// OnRelease has fn called, in the transaction that releases it, with the
// interactions whose last hold went. Call it before anything is served.
func (a *Archive) OnRelease(fn func(ctx context.Context, tx *db.Tx, ids []uuid.UUID) error) {
	a.onRelease = append(a.onRelease, fn)
}

// PlaceHold keeps interactions from being destroyed. Those that are gone
// already, or never were, come back in gone: for them no hold stands. Under a
// purge that runs at the same time each one is either placed, and the purge
// passes it over, or gone. It is idempotent.
func (a *Archive) PlaceHold(ctx context.Context, tx *db.Tx, h Hold, ids []uuid.UUID) (placed, gone []uuid.UUID, err error) {
	rows, err := tx.Query(ctx, `
		with locked as (
			select id, state from interactions where id = any($1) order by id for share)
		select id from locked where state in ('active', 'quarantined', 'restricted')`, ids)
	if err != nil {
		return nil, nil, fmt.Errorf("place hold: %w", err)
	}
	if placed, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID]); err != nil {
		return nil, nil, fmt.Errorf("place hold: %w", err)
	}
	_, err = tx.Exec(ctx, `
		insert into holds (interaction_id, kind, ref, placed_at)
		select id, $2, $3, $4 from unnest($1::uuid[]) as held (id)
		on conflict do nothing`, placed, h.Kind, h.Ref, tx.Now)
	if err != nil {
		return nil, nil, fmt.Errorf("place hold: %w", err)
	}
	return placed, without(ids, placed), nil
}

// without is all but those in minus, in their order, each once.
func without(all, minus []uuid.UUID) []uuid.UUID {
	seen := make(map[uuid.UUID]bool, len(all))
	for _, id := range minus {
		seen[id] = true
	}
	var rest []uuid.UUID
	for _, id := range all {
		if !seen[id] {
			rest = append(rest, id)
			seen[id] = true
		}
	}
	return rest
}

// ReleaseHold ends a hold on these interactions, or on all that it holds when
// ids is nil, and returns those it held. Where it was the last hold, what
// OnRelease registered runs. It is idempotent.
func (a *Archive) ReleaseHold(ctx context.Context, tx *db.Tx, h Hold, ids []uuid.UUID) (released []uuid.UUID, err error) {
	// Whoever releases one of an interaction's holds waits for whoever releases
	// another: each would think the other's still stands.
	rows, err := tx.Query(ctx, `
		select id from interactions
		where id in (select interaction_id from holds where kind = $1 and ref = $2 and ($3::uuid[] is null or interaction_id = any($3)))
		order by id for no key update`, h.Kind, h.Ref, ids)
	if err != nil {
		return nil, fmt.Errorf("release hold: %w", err)
	}
	locked, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("release hold: %w", err)
	}
	rows, err = tx.Query(ctx, `
		delete from holds where kind = $1 and ref = $2 and interaction_id = any($3) returning interaction_id`, h.Kind, h.Ref, locked)
	if err != nil {
		return nil, fmt.Errorf("release hold: %w", err)
	}
	if released, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID]); err != nil {
		return nil, fmt.Errorf("release hold: %w", err)
	}
	return released, a.released(ctx, tx, released)
}

func (a *Archive) released(ctx context.Context, tx *db.Tx, ids []uuid.UUID) error {
	rows, err := tx.Query(ctx, `
		select id from unnest($1::uuid[]) as released (id)
		where not exists (select from holds where interaction_id = id) order by id`, ids)
	if err != nil {
		return fmt.Errorf("release hold: %w", err)
	}
	free, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return fmt.Errorf("release hold: %w", err)
	}
	if len(free) == 0 {
		return nil
	}
	for _, fn := range a.onRelease {
		if err := fn(ctx, tx, free); err != nil {
			return fmt.Errorf("release hold: %w", err)
		}
	}
	return nil
}

// Restrict closes interactions to everybody until their erasure can run, which
// a hold keeps from running now.
func (a *Archive) Restrict(ctx context.Context, tx *db.Tx, ids []uuid.UUID) error {
	return changeState(ctx, tx, ids, "interaction.restricted", `
		update interactions set state = 'restricted'
		where id = any($1) and state in ('active', 'quarantined') returning id`)
}

// Unrestrict takes a restriction back.
func (a *Archive) Unrestrict(ctx context.Context, tx *db.Tx, ids []uuid.UUID) error {
	return changeState(ctx, tx, ids, "interaction.unrestricted", `
		update interactions set state = case when consent is null then 'quarantined' else 'active' end
		where id = any($1) and state = 'restricted' returning id`)
}

func changeState(ctx context.Context, tx *db.Tx, ids []uuid.UUID, action, sql string) error {
	rows, err := tx.Query(ctx, sql, ids)
	if err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	changed, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	for _, id := range changed {
		tx.Record(ledger.Entry{Actor: "system:archive", Action: action, Subject: "interaction:" + id.String()})
	}
	return nil
}

// OfCustomer are all living interactions of a customer: those they are named
// in, and those with one of their telephone numbers on the line.
func (a *Archive) OfCustomer(ctx context.Context, q db.Querier, customerID uuid.UUID) ([]uuid.UUID, error) {
	rows, err := q.Query(ctx, `
		with numbers as materialized (
			select value from customer_identifiers where customer_id = $1 and kind = 'phone')
		select id from interactions where customer_id = $1 and state in ('active', 'quarantined', 'restricted')
		union
		select i.id from numbers join interactions i on i.ani = value
		where i.customer_id is null and i.state in ('active', 'quarantined', 'restricted')
		union
		select i.id from numbers join interactions i on i.dnis = value
		where i.customer_id is null and i.state in ('active', 'quarantined', 'restricted')
		order by id`, customerID)
	if err != nil {
		return nil, fmt.Errorf("find a customer's interactions: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("find a customer's interactions: %w", err)
	}
	return ids, nil
}
