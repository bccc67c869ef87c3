package lifecycle

import (
	"context"
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

// GuardRail is what a purge may not exceed unless it is said twice.
type GuardRail struct {
	// MaxShare is the largest part of the archive, from 0 to 1.
	MaxShare float64
	// SmallArchive is up to how many interactions MaxShare does not count.
	SmallArchive int
	// MinAge is how long ago an interaction was received at least.
	MinAge time.Duration
}

// DefaultGuardRail refuses half of an archive of more than a hundred, and what
// came in within a day.
var DefaultGuardRail = GuardRail{MaxShare: 0.5, SmallArchive: 100, MinAge: 24 * time.Hour}

// GuardRailError tells what the guard rail refuses. It is ErrGuardRail.
type GuardRailError struct {
	GuardRail
	// Items of Archive interactions would be destroyed, Young of them received
	// less than MinAge ago.
	Items, Archive, Young int
}

// Error implements error.
func (e *GuardRailError) Error() string {
	return fmt.Sprintf("the guard rail refuses this purge: %d of the archive's %d interactions, %d of them younger than %s; "+
		"to do it all the same, say override both when it is previewed and when it is approved",
		e.Items, e.Archive, e.Young, e.MinAge)
}

// Is makes a GuardRailError an ErrGuardRail.
func (e *GuardRailError) Is(target error) bool { return target == ErrGuardRail }

// NewPurge is a purge as it is asked for: of a list of interactions or of all
// that a search finds now; exactly one of the two.
type NewPurge struct {
	// Reason goes into the certificate, word for word.
	Reason       string         `json:"reason"`
	Interactions []uuid.UUID    `json:"interactions,omitempty"`
	Filter       *archive.Query `json:"filter,omitempty"`
	// Override goes past the guard rail; the approval must say it again.
	Override bool `json:"override,omitempty"`
}

// Purge is a destruction, from its preview to its certificate.
type Purge struct {
	ID uuid.UUID `json:"id"`
	// Kind is chosen (by staff), retention or erasure.
	Kind string `json:"kind"`
	// State is previewed, approved, running, done or cancelled.
	State  string `json:"state"`
	Reason string `json:"reason"`
	// Filter is without the customer and the words looked for, once it is over.
	Filter           *archive.Query `json:"filter,omitempty"`
	PolicyID         *uuid.UUID     `json:"policy_id,omitempty"`
	ErasureRequestID *uuid.UUID     `json:"erasure_request_id,omitempty"`
	RequestedBy      string         `json:"requested_by"`
	RequestedAt      time.Time      `json:"requested_at"`
	ApprovedBy       *string        `json:"approved_by,omitempty"`
	ApprovedAt       *time.Time     `json:"approved_at,omitempty"`
	CancelledBy      *string        `json:"cancelled_by,omitempty"`
	CancelledAt      *time.Time     `json:"cancelled_at,omitempty"`
	FinishedAt       *time.Time     `json:"finished_at,omitempty"`
	// Overridden says that the guard rail was, and that the approval must say so.
	Overridden bool `json:"overridden"`
	// Items would go, Exempt would stay, and Bytes is how large the recordings
	// of the former are, all as previewed.
	Items  int   `json:"items"`
	Exempt int   `json:"exempt"`
	Bytes  int64 `json:"bytes"`
	// Detail is not in lists.
	*PurgeDetail `db:"-"`
}

// PurgeDetail is what is counted and shown for one purge.
type PurgeDetail struct {
	// Progress counts the items by state: pending, purging, gone, exempt.
	Progress map[string]int `json:"progress"`
	// ExemptBy counts the exempt items by reason: held_legal, held_review,
	// held_disclosure, already_gone, other_purge.
	ExemptBy map[string]int `json:"exempt_by"`
	// Examples are up to 20 of the items that go.
	Examples []Example `json:"examples"`
}

// Example shows an item without saying whose it is.
type Example struct {
	InteractionID uuid.UUID `json:"interaction_id"`
	Channel       string    `json:"channel"`
	Direction     string    `json:"direction,omitempty"`
	StartedAt     time.Time `json:"started_at"`
	Recordings    int       `json:"recordings"`
	Bytes         int64     `json:"bytes"`
}

// Item is one interaction in a purge.
type Item struct {
	InteractionID uuid.UUID `json:"interaction_id"`
	// State is pending, purging, gone or exempt.
	State          string     `json:"state"`
	ExemptReason   *string    `json:"exempt_reason,omitempty"`
	Recordings     int        `json:"recordings"`
	Bytes          int64      `json:"bytes"`
	KeyDestroyedAt *time.Time `json:"key_destroyed_at,omitempty"`
	// VersionsRemoved counts the objects' versions that were seen to go.
	VersionsRemoved int `json:"versions_removed"`
	// Remaining are objects that the store itself keeps locked.
	Remaining []archive.Remaining `json:"remaining,omitempty"`
	GoneAt    *time.Time          `json:"gone_at,omitempty"`
	// Attempts counts the removals that failed, for LastError the last time.
	Attempts  int     `json:"attempts"`
	LastError *string `json:"last_error,omitempty"`
}

// maxItems bounds a purge, whose certificate names each of them.
const maxItems = 200_000

func (n *NewPurge) validate() error {
	n.Reason = line(n.Reason)
	problems := &invalid.Error{}
	checkText(problems, "body.reason", n.Reason, maxReason)
	checkSelection(problems, n.Interactions, n.Filter)
	return problems.Err()
}

// Preview finds what would go and what is exempt and why, and writes it down
// for another person to approve. Nothing is destroyed. Errors: *invalid.Error,
// ErrGuardRail, access.ErrForbidden, archive.ErrTooBroad.
func (l *Lifecycle) Preview(ctx context.Context, actor access.Actor, n NewPurge) (Purge, error) {
	if err := actor.May(access.RequestPurges); err != nil {
		return Purge{}, err
	}
	if err := n.validate(); err != nil {
		return Purge{}, err
	}
	ids, err := l.chosen(ctx, n.Interactions, n.Filter)
	if err != nil {
		return Purge{}, fmt.Errorf("preview purge: %w", err)
	}
	if len(ids) > maxItems {
		return Purge{}, invalid.New("body.filter", "finds more than %d interactions; narrow it, by from and to for example", maxItems)
	}
	var id uuid.UUID
	err = l.DB.Write(ctx, func(tx *db.Tx) (err error) {
		if err := mustExist(ctx, tx, ids); err != nil {
			return err
		}
		p := Purge{Kind: "chosen", State: "previewed", Reason: n.Reason, Filter: n.Filter,
			RequestedBy: actor.PersonString()}
		if id, err = insertPurge(ctx, tx, p, ids); err != nil {
			return err
		}
		refused, err := l.guard(ctx, tx, id)
		if err != nil {
			return err
		}
		if refused != nil && !n.Override {
			return refused
		}
		_, err = tx.Exec(ctx, `update purges set overridden = $2 where id = $1`, id, refused != nil)
		if err != nil {
			return err
		}
		return recordPurge(ctx, tx, actor, "purge.previewed", id)
	})
	if err != nil {
		return Purge{}, fmt.Errorf("preview purge: %w", err)
	}
	return l.purge(ctx, id)
}

// insertBatch is how many items one statement writes.
const insertBatch = 10_000

// insertPurge writes a purge with its items, each pending or exempt, and counts
// them.
func insertPurge(ctx context.Context, tx *db.Tx, p Purge, ids []uuid.UUID) (uuid.UUID, error) {
	id := tx.NewID()
	_, err := tx.Exec(ctx, `
		insert into purges (id, kind, state, reason, filter, policy_id, erasure_request_id,
			requested_by, requested_at, approved_by, approved_at, items, bytes)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0, 0)`,
		id, p.Kind, p.State, p.Reason, p.Filter, p.PolicyID, p.ErasureRequestID,
		p.RequestedBy, tx.Now, p.ApprovedBy, p.ApprovedAt)
	if err != nil {
		return uuid.Nil, fmt.Errorf("write purge: %w", err)
	}
	for batch := range slices.Chunk(ids, insertBatch) {
		_, err := tx.Exec(ctx, `
			insert into purge_items (purge_id, interaction_id, state, exempt_reason, bytes, recordings)
			select $1, i.id, case when e.reason is null then 'pending' else 'exempt' end, e.reason, r.bytes, r.count
			from interactions i,
				lateral (select count(*) as count, coalesce(sum(bytes), 0) as bytes
					from recordings where interaction_id = i.id) r,
				lateral (select case i.state when 'erased' then 'already_gone' when 'purging' then 'other_purge' else (
					select 'held_' || kind from holds where interaction_id = i.id
					order by array_position(array['legal', 'disclosure', 'review'], kind) limit 1) end as reason) e
			where i.id = any($2)`, id, batch)
		if err != nil {
			return uuid.Nil, fmt.Errorf("write purge items: %w", err)
		}
	}
	_, err = tx.Exec(ctx, `
		update purges set items = s.items, exempt = s.exempt, bytes = s.bytes
		from (select count(*) filter (where state = 'pending') as items, count(*) filter (where state = 'exempt') as exempt,
			coalesce(sum(bytes) filter (where state = 'pending'), 0) as bytes from purge_items where purge_id = $1) s
		where id = $1`, id)
	if err != nil {
		return uuid.Nil, fmt.Errorf("count purge items: %w", err)
	}
	return id, nil
}

// guard returns what the guard rail has against a purge, or nil.
func (l *Lifecycle) guard(ctx context.Context, tx *db.Tx, id uuid.UUID) (*GuardRailError, error) {
	e := &GuardRailError{GuardRail: l.GuardRail}
	err := tx.QueryRow(ctx, `
		select count(*), count(*) filter (where i.received_at > $2),
			(select count(*) from interactions where state <> 'erased')
		from purge_items p join interactions i on i.id = p.interaction_id
		where p.purge_id = $1 and p.state = 'pending'`, id, tx.Now.Add(-l.GuardRail.MinAge)).
		Scan(&e.Items, &e.Young, &e.Archive)
	if err != nil {
		return nil, fmt.Errorf("ask the guard rail: %w", err)
	}
	if e.Young > 0 || e.large() {
		return e, nil
	}
	return nil, nil
}

func (e *GuardRailError) large() bool {
	return e.Archive > e.SmallArchive && float64(e.Items) > e.MaxShare*float64(e.Archive)
}

// recordPurge tells the ledger what happened to a purge, with its counts.
func recordPurge(ctx context.Context, tx *db.Tx, actor access.Actor, action string, id uuid.UUID) error {
	var (
		kind                 string
		items, exempt, bytes int64
	)
	err := tx.QueryRow(ctx, `select kind, items, exempt, bytes from purges where id = $1`, id).
		Scan(&kind, &items, &exempt, &bytes)
	if err != nil {
		return fmt.Errorf("read purge: %w", err)
	}
	tx.Record(ledger.Entry{Actor: actor.String(), Action: action, Subject: "purge:" + id.String(),
		Details: map[string]any{"kind": kind, "items": items, "exempt": exempt, "bytes": bytes}})
	return nil
}

func runLater(id uuid.UUID) db.Job {
	return db.Job{Kind: "purge.run", Args: map[string]uuid.UUID{"purge_id": id}, UniqueKey: "purge.run:" + id.String()}
}

// Approve has a previewed purge run. override is needed, again, where the
// guard rail was overridden. A purge that the guard rail refuses only now,
// since the archive has shrunk, is to be previewed again. Errors:
// access.ErrSamePerson, ErrState, ErrGuardRail, db.ErrNotFound.
func (l *Lifecycle) Approve(ctx context.Context, actor access.Actor, id uuid.UUID, override bool) (Purge, error) {
	if err := actor.May(access.ApprovePurges); err != nil {
		return Purge{}, err
	}
	err := l.DB.Write(ctx, func(tx *db.Tx) error {
		p, err := lockPurge(ctx, tx, id)
		if err != nil {
			return err
		}
		if p.State != "previewed" {
			return ErrState
		}
		if err := actor.Approves(p.RequestedBy); err != nil {
			return err
		}
		refused, err := l.guard(ctx, tx, id)
		if err != nil {
			return err
		}
		if refused == nil && p.Overridden {
			refused = &GuardRailError{GuardRail: l.GuardRail, Items: p.Items}
		}
		if refused != nil && !(p.Overridden && override) {
			return refused
		}
		_, err = tx.Exec(ctx, `update purges set state = 'approved', approved_by = $2, approved_at = $3 where id = $1`,
			id, actor.PersonString(), tx.Now)
		if err != nil {
			return err
		}
		tx.Enqueue(runLater(id))
		return recordPurge(ctx, tx, actor, "purge.approved", id)
	})
	if err != nil {
		return Purge{}, fmt.Errorf("approve purge: %w", err)
	}
	return l.purge(ctx, id)
}

// Cancel ends a purge that staff chose and that has not begun. Errors:
// ErrState, db.ErrNotFound.
func (l *Lifecycle) Cancel(ctx context.Context, actor access.Actor, id uuid.UUID) (Purge, error) {
	if actor.May(access.RequestPurges) != nil && actor.May(access.ApprovePurges) != nil {
		return Purge{}, access.ErrForbidden
	}
	err := l.DB.Write(ctx, func(tx *db.Tx) error {
		p, err := lockPurge(ctx, tx, id)
		if err != nil {
			return err
		}
		if p.Kind != "chosen" || p.State != "previewed" && p.State != "approved" {
			return ErrState
		}
		_, err = tx.Exec(ctx, `
			update purges set state = 'cancelled', cancelled_by = $2, cancelled_at = $3, filter = filter - 'customer' - 'q'
			where id = $1`, id, actor.PersonString(), tx.Now)
		if err != nil {
			return err
		}
		return recordPurge(ctx, tx, actor, "purge.cancelled", id)
	})
	if err != nil {
		return Purge{}, fmt.Errorf("cancel purge: %w", err)
	}
	return l.purge(ctx, id)
}

// Purges lists purges, newest first, without their detail.
func (l *Lifecycle) Purges(ctx context.Context, actor access.Actor, list List) (archive.Page[Purge], error) {
	if err := actor.May(access.ReadLifecycle); err != nil {
		return archive.Page[Purge]{}, err
	}
	limit, from, err := list.start()
	if err != nil {
		return archive.Page[Purge]{}, err
	}
	found, err := purges(ctx, l.DB, `
		where (requested_at, id) < ($1, $2) and ($3 = '' or state = $3)
		order by requested_at desc, id desc limit $4`, from.At, from.ID, list.State, limit+1)
	if err != nil {
		return archive.Page[Purge]{}, fmt.Errorf("list purges: %w", err)
	}
	return page(found, limit, func(p Purge) cursor { return cursor{p.RequestedAt, p.ID} })
}

// Purge returns one purge with its detail; db.ErrNotFound.
func (l *Lifecycle) Purge(ctx context.Context, actor access.Actor, id uuid.UUID) (Purge, error) {
	if err := actor.May(access.ReadLifecycle); err != nil {
		return Purge{}, err
	}
	return l.purge(ctx, id)
}

// purge reads a purge with its detail, all of one moment.
func (l *Lifecycle) purge(ctx context.Context, id uuid.UUID) (p Purge, err error) {
	err = l.DB.Snapshot(ctx, func(q db.Querier) error {
		found, err := purges(ctx, q, `where id = $1`, id)
		if p, err = only(found, err, "read purge"); err != nil {
			return err
		}
		p.PurgeDetail, err = detail(ctx, q, id)
		return err
	})
	return p, err
}

const maxExamples = 20

func detail(ctx context.Context, q db.Querier, id uuid.UUID) (*PurgeDetail, error) {
	d := &PurgeDetail{Progress: map[string]int{}, ExemptBy: map[string]int{}, Examples: []Example{}}
	rows, err := q.Query(ctx, `
		select state, coalesce(exempt_reason, ''), count(*) from purge_items where purge_id = $1 group by 1, 2`, id)
	if err != nil {
		return nil, fmt.Errorf("count purge items: %w", err)
	}
	var (
		state, reason string
		count         int
	)
	_, err = pgx.ForEachRow(rows, []any{&state, &reason, &count}, func() error {
		d.Progress[state] += count
		if reason != "" {
			d.ExemptBy[reason] += count
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("count purge items: %w", err)
	}
	rows, err = q.Query(ctx, `
		select p.interaction_id, i.channel, coalesce(i.direction, '') as direction, i.started_at, p.recordings, p.bytes
		from purge_items p join interactions i on i.id = p.interaction_id
		where p.purge_id = $1 and p.state <> 'exempt' order by p.interaction_id limit $2`, id, maxExamples)
	if err != nil {
		return nil, fmt.Errorf("read examples: %w", err)
	}
	if d.Examples, err = pgx.CollectRows(rows, pgx.RowToStructByName[Example]); err != nil {
		return nil, fmt.Errorf("read examples: %w", err)
	}
	return d, nil
}

func lockPurge(ctx context.Context, tx *db.Tx, id uuid.UUID) (Purge, error) {
	found, err := purges(ctx, tx, `where id = $1 for update`, id)
	return only(found, err, "read purge")
}

func purges(ctx context.Context, q db.Querier, where string, args ...any) ([]Purge, error) {
	rows, err := q.Query(ctx, `
		select id, kind, state, reason, filter, policy_id, erasure_request_id, requested_by, requested_at,
			approved_by, approved_at, cancelled_by, cancelled_at, finished_at, overridden, items, exempt, bytes
		from purges `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read purges: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[Purge])
	if err != nil {
		return nil, fmt.Errorf("read purges: %w", err)
	}
	return found, nil
}

// Items lists the items of a purge, by interaction, also those of one state
// alone; db.ErrNotFound.
func (l *Lifecycle) Items(ctx context.Context, actor access.Actor, id uuid.UUID, list List) (archive.Page[Item], error) {
	if err := actor.May(access.ReadLifecycle); err != nil {
		return archive.Page[Item]{}, err
	}
	limit, from, err := list.start()
	if err != nil {
		return archive.Page[Item]{}, err
	}
	if list.Cursor == "" {
		from.ID = uuid.Nil
	}
	found, err := purges(ctx, l.DB, `where id = $1`, id)
	if _, err := only(found, err, "read purge"); err != nil {
		return archive.Page[Item]{}, err
	}
	listed, err := items(ctx, l.DB, `
		where purge_id = $1 and interaction_id > $2 and ($3 = '' or state = $3)
		order by interaction_id limit $4`, id, from.ID, list.State, limit+1)
	if err != nil {
		return archive.Page[Item]{}, err
	}
	return page(listed, limit, func(i Item) cursor { return cursor{ID: i.InteractionID} })
}

func items(ctx context.Context, q db.Querier, where string, args ...any) ([]Item, error) {
	rows, err := q.Query(ctx, `
		select interaction_id, state, exempt_reason, recordings, bytes, key_destroyed_at, versions_removed,
			remaining, gone_at, attempts, last_error
		from purge_items `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read purge items: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[Item])
	if err != nil {
		return nil, fmt.Errorf("read purge items: %w", err)
	}
	return found, nil
}

// Certificate returns the signed certificate of a finished purge, as
// VerifyCertificate reads it. Errors: ErrState before it is finished,
// db.ErrNotFound.
func (l *Lifecycle) Certificate(ctx context.Context, actor access.Actor, id uuid.UUID) (certificate []byte, err error) {
	if err := actor.May(access.ReadLifecycle); err != nil {
		return nil, err
	}
	if err := l.DB.QueryRow(ctx, `select certificate from purges where id = $1`, id).Scan(&certificate); err != nil {
		return nil, fmt.Errorf("read certificate: %w", db.Found(err))
	}
	if certificate == nil {
		return nil, fmt.Errorf("read certificate: %w", ErrState)
	}
	return certificate, nil
}
