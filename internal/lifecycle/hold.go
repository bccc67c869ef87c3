package lifecycle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/db"
	"earmark/internal/invalid"
	"earmark/internal/ledger"
)

// NewHold is a legal hold as it is asked for: on a list of interactions or on
// all that a search finds now; exactly one of the two.
type NewHold struct {
	// Matter is the case's name or number.
	Matter       string         `json:"matter"`
	Reason       string         `json:"reason"`
	Interactions []uuid.UUID    `json:"interactions,omitempty"`
	Filter       *archive.Query `json:"filter,omitempty"`
}

// Hold is a legal hold.
type Hold struct {
	ID     uuid.UUID `json:"id"`
	Matter string    `json:"matter"`
	Reason string    `json:"reason"`
	// State is active, release_requested or released.
	State string `json:"state"`
	// Filter is without the customer and the words looked for, once it is released.
	Filter *archive.Query `json:"filter,omitempty"`
	// Placing says that the search has not been gone through to its end yet.
	Placing bool `json:"placing" db:"searching"`
	// Interactions is how many it holds now.
	Interactions int `json:"interactions"`
	// Gone are those that were already being destroyed when it was placed: the
	// hold came too late for them.
	Gone               []uuid.UUID `json:"gone"`
	PlacedBy           string      `json:"placed_by"`
	PlacedAt           time.Time   `json:"placed_at"`
	ReleaseRequestedBy *string     `json:"release_requested_by,omitempty"`
	ReleaseRequestedAt *time.Time  `json:"release_requested_at,omitempty"`
	ReleasedBy         *string     `json:"released_by,omitempty"`
	ReleasedAt         *time.Time  `json:"released_at,omitempty"`
}

const (
	// maxListed is how many interactions may be named one by one.
	maxListed = 10_000
	// holdBatch is how many interactions one transaction holds or releases.
	holdBatch = 1000
	// holdGrace is after how long the sweep goes on with what its caller has
	// left behind.
	holdGrace = time.Minute
)

func (n *NewHold) validate() error {
	n.Matter, n.Reason = line(n.Matter), line(n.Reason)
	problems := &invalid.Error{}
	checkText(problems, "body.matter", n.Matter, maxName)
	checkText(problems, "body.reason", n.Reason, maxReason)
	checkSelection(problems, n.Interactions, n.Filter)
	return problems.Err()
}

// checkSelection notes what is wrong with a choice of interactions.
func checkSelection(problems *invalid.Error, listed []uuid.UUID, filter *archive.Query) {
	if (len(listed) == 0) == (filter == nil) {
		problems.Add("body.interactions", "expected either interactions or a filter, an empty one for all")
	}
	if len(listed) > maxListed {
		problems.Add("body.interactions", "expected at most %d; use a filter for more", maxListed)
	}
}

// sorted returns the ids once each, in their order.
func sorted(ids []uuid.UUID) []uuid.UUID {
	ids = slices.Clone(ids)
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(ids)
}

// PlaceHold keeps interactions from being destroyed until the hold is
// released. When it returns, each of them is held or is among Gone. Many are
// held in batches; should the process die between them, the sweep goes on.
// Errors: *invalid.Error (an unknown interaction among them),
// access.ErrForbidden, archive.ErrTooBroad.
func (l *Lifecycle) PlaceHold(ctx context.Context, actor access.Actor, n NewHold) (Hold, error) {
	if err := actor.May(access.PlaceHolds); err != nil {
		return Hold{}, err
	}
	if err := n.validate(); err != nil {
		return Hold{}, err
	}
	ids, err := l.chosen(ctx, n.Interactions, n.Filter)
	if err != nil {
		return Hold{}, fmt.Errorf("place hold: %w", err)
	}
	id, err := l.insertHold(ctx, actor, n, ids)
	if err == nil && n.Filter != nil {
		err = l.placeRest(ctx, id, ids)
	}
	if err != nil {
		return Hold{}, fmt.Errorf("place hold: %w", err)
	}
	return l.hold(ctx, id)
}

// chosen returns the interactions that are listed or that a search finds now,
// once each and sorted.
func (l *Lifecycle) chosen(ctx context.Context, listed []uuid.UUID, filter *archive.Query) ([]uuid.UUID, error) {
	if filter == nil {
		return sorted(listed), nil
	}
	var found []uuid.UUID
	for id, err := range l.Archive.Matching(ctx, l.DB, *filter) {
		if err != nil {
			return nil, fmt.Errorf("search: %w", err)
		}
		found = append(found, id)
	}
	return sorted(found), nil
}

// insertHold writes the hold down with all that are listed, and marks a search
// as still to be placed.
func (l *Lifecycle) insertHold(ctx context.Context, actor access.Actor, n NewHold, ids []uuid.UUID) (id uuid.UUID, err error) {
	err = l.DB.Write(ctx, func(tx *db.Tx) error {
		id = tx.NewID()
		_, err := tx.Exec(ctx, `
			insert into legal_holds (id, matter, reason, state, filter, searching, placed_by, placed_at)
			values ($1, $2, $3, 'active', $4, $5, $6, $7)`,
			id, n.Matter, n.Reason, n.Filter, n.Filter != nil, actor.PersonString(), tx.Now)
		if err != nil {
			return err
		}
		tx.Record(ledger.Entry{Actor: actor.String(), Action: "hold.placed", Subject: "hold:" + id.String(),
			Details: map[string]any{"interactions": len(ids)}})
		if n.Filter != nil {
			tx.Enqueue(sweepLater(tx, "hold:"+id.String()))
			return nil
		}
		if err := mustExist(ctx, tx, ids); err != nil {
			return err
		}
		for batch := range slices.Chunk(ids, l.holdBatch) {
			if err := l.placeBatch(ctx, tx, id, batch); err != nil {
				return err
			}
		}
		return nil
	})
	return id, err
}

// sweepLater is a job that finds what this process leaves behind if it dies.
func sweepLater(tx *db.Tx, key string) db.Job {
	return db.Job{Kind: "retention.sweep", Args: struct{}{}, DueAt: tx.Now.Add(holdGrace), UniqueKey: key}
}

func mustExist(ctx context.Context, q db.Querier, ids []uuid.UUID) error {
	var known int
	if err := q.QueryRow(ctx, `select count(*) from interactions where id = any($1)`, ids).Scan(&known); err != nil {
		return err
	}
	if known != len(ids) {
		return invalid.New("body.interactions", "expected the ids of interactions; %d of these are none", len(ids)-known)
	}
	return nil
}

func (l *Lifecycle) placeBatch(ctx context.Context, tx *db.Tx, id uuid.UUID, ids []uuid.UUID) error {
	_, gone, err := l.Archive.PlaceHold(ctx, tx, archive.Hold{Kind: "legal", Ref: id}, ids)
	if err != nil || len(gone) == 0 {
		return err
	}
	_, err = tx.Exec(ctx, `update legal_holds set gone = gone || $2::uuid[] where id = $1`, id, gone)
	return err
}

// placeRest holds what a search has found, in batches. What is held already
// stays so.
func (l *Lifecycle) placeRest(ctx context.Context, id uuid.UUID, ids []uuid.UUID) error {
	for batch := range slices.Chunk(ids, l.holdBatch) {
		if err := l.placeSome(ctx, id, batch); err != nil {
			return err
		}
		if err := l.at("hold_batch_placed"); err != nil {
			return err
		}
	}
	return l.DB.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `update legal_holds set searching = false where id = $1`, id)
		return err
	})
}

func (l *Lifecycle) placeSome(ctx context.Context, id uuid.UUID, ids []uuid.UUID) error {
	return l.DB.Write(ctx, func(tx *db.Tx) error {
		// The lock keeps the release out, so that nothing is held after it.
		h, err := lockHold(ctx, tx, id)
		if err != nil {
			return err
		}
		if h.State == "released" {
			return ErrState
		}
		return l.placeBatch(ctx, tx, id, ids)
	})
}

// RequestRelease asks for the release of a hold; it goes on holding. Errors:
// ErrState, db.ErrNotFound.
func (l *Lifecycle) RequestRelease(ctx context.Context, actor access.Actor, id uuid.UUID) (Hold, error) {
	if err := actor.May(access.PlaceHolds); err != nil {
		return Hold{}, err
	}
	err := l.DB.Write(ctx, func(tx *db.Tx) error {
		h, err := lockHold(ctx, tx, id)
		if err != nil {
			return err
		}
		if h.State != "active" {
			return ErrState
		}
		tx.Record(ledger.Entry{Actor: actor.String(), Action: "hold.release_requested", Subject: "hold:" + id.String()})
		_, err = tx.Exec(ctx, `
			update legal_holds set state = 'release_requested', release_requested_by = $2, release_requested_at = $3
			where id = $1`, id, actor.PersonString(), tx.Now)
		return err
	})
	if err != nil {
		return Hold{}, fmt.Errorf("request release: %w", err)
	}
	return l.hold(ctx, id)
}

// ApproveRelease releases a hold whose release another person asked for. What
// waited for it to be erased is erased. Errors: access.ErrSamePerson, ErrState,
// db.ErrNotFound.
func (l *Lifecycle) ApproveRelease(ctx context.Context, actor access.Actor, id uuid.UUID) (Hold, error) {
	if err := actor.May(access.ReleaseHolds); err != nil {
		return Hold{}, err
	}
	err := l.DB.Write(ctx, func(tx *db.Tx) error {
		h, err := lockHold(ctx, tx, id)
		if err != nil {
			return err
		}
		if h.State != "release_requested" {
			return ErrState
		}
		if err := actor.Approves(*h.ReleaseRequestedBy); err != nil {
			return err
		}
		tx.Enqueue(sweepLater(tx, "hold:"+id.String()+":release"))
		tx.Record(ledger.Entry{Actor: actor.String(), Action: "hold.released", Subject: "hold:" + id.String()})
		_, err = tx.Exec(ctx, `
			update legal_holds set state = 'released', searching = false, released_by = $2, released_at = $3,
				filter = filter - 'customer' - 'q'
			where id = $1`, id, actor.PersonString(), tx.Now)
		return err
	})
	if err == nil {
		err = l.releaseRest(ctx, id)
	}
	if err != nil {
		return Hold{}, fmt.Errorf("approve release: %w", err)
	}
	return l.hold(ctx, id)
}

// releaseRest lets go, in batches, what a released hold still holds.
func (l *Lifecycle) releaseRest(ctx context.Context, id uuid.UUID) error {
	for {
		var ids []uuid.UUID
		err := l.DB.Write(ctx, func(tx *db.Tx) (err error) {
			ids, err = idsOf(ctx, tx, `
				select interaction_id from holds where kind = 'legal' and ref = $1
				order by interaction_id limit $2`, id, l.holdBatch)
			if err != nil || len(ids) == 0 {
				return err
			}
			_, err = l.Archive.ReleaseHold(ctx, tx, archive.Hold{Kind: "legal", Ref: id}, ids)
			return err
		})
		if err != nil || len(ids) == 0 {
			return err
		}
		if err := l.at("hold_batch_released"); err != nil {
			return err
		}
	}
}

// settleHolds goes on with what callers have left behind: searches not gone
// through to their end, and released holds that still hold something.
func (l *Lifecycle) settleHolds(ctx context.Context) error {
	placing, err := holds(ctx, l.DB, `where searching order by id`)
	if err != nil {
		return err
	}
	var failed error
	for _, h := range placing {
		ids, err := l.chosen(ctx, nil, h.Filter)
		if err == nil {
			err = l.placeRest(ctx, h.ID, ids)
		}
		if err != nil && !errors.Is(err, ErrState) {
			failed = errors.Join(failed, fmt.Errorf("go on with hold %s: %w", h.ID, err))
		}
	}
	released, err := idsOf(ctx, l.DB, `
		select id from legal_holds l where state = 'released'
			and exists (select from holds where kind = 'legal' and ref = l.id)`)
	if err != nil {
		return errors.Join(failed, err)
	}
	for _, id := range released {
		if err := l.releaseRest(ctx, id); err != nil {
			failed = errors.Join(failed, fmt.Errorf("go on with the release of hold %s: %w", id, err))
		}
	}
	return failed
}

// Holds lists legal holds, newest first.
func (l *Lifecycle) Holds(ctx context.Context, actor access.Actor, list List) (archive.Page[Hold], error) {
	if err := actor.May(access.ReadLifecycle); err != nil {
		return archive.Page[Hold]{}, err
	}
	limit, from, err := list.start()
	if err != nil {
		return archive.Page[Hold]{}, err
	}
	found, err := holds(ctx, l.DB, `
		where (placed_at, id) < ($1, $2) and ($3 = '' or state = $3)
		order by placed_at desc, id desc limit $4`, from.At, from.ID, list.State, limit+1)
	if err != nil {
		return archive.Page[Hold]{}, fmt.Errorf("list holds: %w", err)
	}
	return page(found, limit, func(h Hold) cursor { return cursor{h.PlacedAt, h.ID} })
}

// Hold returns one legal hold; db.ErrNotFound.
func (l *Lifecycle) Hold(ctx context.Context, actor access.Actor, id uuid.UUID) (Hold, error) {
	if err := actor.May(access.ReadLifecycle); err != nil {
		return Hold{}, err
	}
	return l.hold(ctx, id)
}

func (l *Lifecycle) hold(ctx context.Context, id uuid.UUID) (Hold, error) {
	found, err := holds(ctx, l.DB, `where id = $1`, id)
	return only(found, err, "read hold")
}

func lockHold(ctx context.Context, tx *db.Tx, id uuid.UUID) (Hold, error) {
	found, err := holds(ctx, tx, `where id = $1 for update`, id)
	return only(found, err, "read hold")
}

func holds(ctx context.Context, q db.Querier, where string, args ...any) ([]Hold, error) {
	rows, err := q.Query(ctx, `
		select id, matter, reason, state, filter, searching, gone, placed_by, placed_at,
			release_requested_by, release_requested_at, released_by, released_at,
			(select count(*) from holds where kind = 'legal' and ref = legal_holds.id) as interactions
		from legal_holds `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read holds: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[Hold])
	if err != nil {
		return nil, fmt.Errorf("read holds: %w", err)
	}
	return found, nil
}

// only is the one thing that was looked for by its id.
func only[T any](found []T, err error, doing string) (one T, _ error) {
	if err == nil && len(found) == 0 {
		err = db.ErrNotFound
	}
	if err != nil {
		return one, fmt.Errorf("%s: %w", doing, err)
	}
	return found[0], nil
}

// idsOf reads a column of ids.
func idsOf(ctx context.Context, q db.Querier, sql string, args ...any) ([]uuid.UUID, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read ids: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("read ids: %w", err)
	}
	return ids, nil
}
