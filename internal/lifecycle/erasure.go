package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/db"
	"earmark/internal/invalid"
	"earmark/internal/ledger"
)

// Erasure is a customer's request that everything of them be destroyed.
type Erasure struct {
	ID         uuid.UUID `json:"id"`
	CustomerID uuid.UUID `json:"customer_id"`
	// State is received, running, waiting_for_hold or done.
	State string `json:"state"`
	// Reason goes with the rest when the request is done.
	Reason      string     `json:"reason"`
	RequestedBy string     `json:"requested_by"`
	RequestedAt time.Time  `json:"requested_at"`
	DueAt       time.Time  `json:"due_at"`
	DoneAt      *time.Time `json:"done_at,omitempty"`
	// Purges are those that the request led to, each with its certificate.
	Purges []uuid.UUID `json:"purges"`
}

// Erase has everything of a customer destroyed, on the customer's word that
// the actor has; it needs no second person. What is held is restricted and
// goes by itself on its release. Asked for again while it runs, it is the same
// request. Errors: *invalid.Error, db.ErrNotFound, ErrState (the customer was
// erased already), access.ErrForbidden.
func (l *Lifecycle) Erase(ctx context.Context, actor access.Actor, customer uuid.UUID, reason string) (Erasure, error) {
	if err := actor.May(access.RequestErasure); err != nil {
		return Erasure{}, err
	}
	reason = line(reason)
	problems := &invalid.Error{}
	checkText(problems, "body.reason", reason, maxReason)
	if err := problems.Err(); err != nil {
		return Erasure{}, err
	}
	var id uuid.UUID
	err := l.DB.Write(ctx, func(tx *db.Tx) (err error) {
		erased, err := lockCustomer(ctx, tx, customer)
		if err != nil {
			return err
		}
		if erased {
			return ErrState
		}
		open, err := erasures(ctx, tx, `where customer_id = $1 and state <> 'done'`, customer)
		if err != nil {
			return err
		}
		if len(open) > 0 {
			id = open[0].ID
			return nil
		}
		if id, err = l.insertErasure(ctx, tx, actor, customer, reason); err != nil {
			return err
		}
		return l.advance(ctx, tx, id)
	})
	if err != nil {
		return Erasure{}, fmt.Errorf("erase customer: %w", err)
	}
	return l.erasure(ctx, id)
}

func (l *Lifecycle) insertErasure(ctx context.Context, tx *db.Tx, actor access.Actor, customer uuid.UUID, reason string) (uuid.UUID, error) {
	id := tx.NewID()
	_, err := tx.Exec(ctx, `
		insert into erasure_requests (id, customer_id, state, reason, requested_by, requested_at, due_at)
		values ($1, $2, 'received', $3, $4, $5, $6)`,
		id, customer, reason, actor.PersonString(), tx.Now, tx.Now.Add(l.ErasureTerm))
	if err != nil {
		return uuid.Nil, fmt.Errorf("write request: %w", err)
	}
	tx.Record(ledger.Entry{Actor: actor.String(), Action: "customer.erasure_requested",
		Subject: "customer:" + customer.String(), Details: map[string]any{"request": id.String()}})
	return id, nil
}

// lockCustomer keeps interactions from being added to a customer until the
// transaction ends, and waits for those that are being added.
func lockCustomer(ctx context.Context, tx *db.Tx, customer uuid.UUID) (erased bool, err error) {
	err = tx.QueryRow(ctx, `select erased_at is not null from customers where id = $1 for update`, customer).Scan(&erased)
	if err != nil {
		return false, fmt.Errorf("lock customer: %w", db.Found(err))
	}
	return erased, nil
}

func eraseLater(request uuid.UUID) db.Job {
	return db.Job{Kind: "erasure.run", Args: map[string]uuid.UUID{"request_id": request}}
}

// RunErasure goes on with a request: purges what is free, restricts what is
// held, and, when nothing is left, erases the customer. It may be called at
// any time, by several workers at once.
func (l *Lifecycle) RunErasure(ctx context.Context, request uuid.UUID) error {
	var customer uuid.UUID
	err := l.DB.QueryRow(ctx, `select customer_id from erasure_requests where id = $1`, request).Scan(&customer)
	if err != nil {
		return fmt.Errorf("run erasure: %w", db.Found(err))
	}
	err = l.DB.Write(ctx, func(tx *db.Tx) error {
		if _, err := lockCustomer(ctx, tx, customer); err != nil {
			return err
		}
		return l.advance(ctx, tx, request)
	})
	if err != nil {
		return fmt.Errorf("run erasure %s: %w", request, err)
	}
	return nil
}

// remains is what is left of a customer's interactions.
type remains struct {
	free, held []uuid.UUID
	// elsewhere counts those that another purge is destroying.
	elsewhere int
}

// advance takes a request as far as it goes now. The customer is locked.
func (l *Lifecycle) advance(ctx context.Context, tx *db.Tx, request uuid.UUID) error {
	found, err := erasures(ctx, tx, `where id = $1 for update`, request)
	r, err := only(found, err, "read request")
	if err != nil {
		return err
	}
	var underway bool
	err = tx.QueryRow(ctx, `
		select exists (select from purges where erasure_request_id = $1 and state in ('approved', 'running'))`, request).
		Scan(&underway)
	if err != nil || underway {
		return err
	}
	left, err := l.remainsOf(ctx, tx, r.CustomerID)
	if err != nil {
		return err
	}
	if err := l.Archive.Restrict(ctx, tx, left.held); err != nil {
		return err
	}
	nothing := len(left.free)+len(left.held)+left.elsewhere == 0
	switch {
	case nothing && r.State == "done":
		return nil
	case len(left.free) > 0 || nothing && len(r.Purges) == 0:
		return l.purgeCustomer(ctx, tx, r, left.free)
	case left.elsewhere > 0:
		tx.Enqueue(waitForOther(r.ID, tx.Now))
		return setErasure(ctx, tx, r.ID, "running")
	case len(left.held) > 0:
		return setErasure(ctx, tx, r.ID, "waiting_for_hold")
	}
	return l.endErasure(ctx, tx, r)
}

const otherPurgeRetry = 10 * time.Second

// waitForOther looks again a little later: another purge does not know that
// somebody waits for it.
func waitForOther(request uuid.UUID, now time.Time) db.Job {
	job := eraseLater(request)
	job.DueAt = now.Add(otherPurgeRetry)
	job.UniqueKey = fmt.Sprintf("erasure.run:%s:%d", request, job.DueAt.Unix())
	return job
}

// remainsOf locks what is left of a customer's interactions, so that a hold is
// placed or released either before this look or after what follows from it.
func (l *Lifecycle) remainsOf(ctx context.Context, tx *db.Tx, customer uuid.UUID) (left remains, err error) {
	living, err := l.Archive.OfCustomer(ctx, tx, customer)
	if err != nil {
		return remains{}, err
	}
	_, err = idsOf(ctx, tx, `select id from interactions where id = any($1) order by id for update`, living)
	if err != nil {
		return remains{}, err
	}
	rows, err := tx.Query(ctx, `
		select id, state = 'purging', exists (select from holds where interaction_id = i.id)
		from interactions i
		where id = any($1) and state <> 'erased' or customer_id = $2 and state = 'purging'
		order by id`, living, customer)
	if err != nil {
		return remains{}, fmt.Errorf("read what is left: %w", err)
	}
	var (
		id            uuid.UUID
		purging, held bool
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &purging, &held}, func() error {
		switch {
		case purging:
			left.elsewhere++
		case held:
			left.held = append(left.held, id)
		default:
			left.free = append(left.free, id)
		}
		return nil
	})
	if err != nil {
		return remains{}, fmt.Errorf("read what is left: %w", err)
	}
	return left, nil
}

// purgeCustomer begins a purge on the customer's word. One of nothing, where
// there never was an interaction, still gives the certificate.
func (l *Lifecycle) purgeCustomer(ctx context.Context, tx *db.Tx, r Erasure, ids []uuid.UUID) error {
	by := "customer:" + r.CustomerID.String()
	p := Purge{Kind: "erasure", State: "approved", Reason: "the customer asked for erasure",
		ErasureRequestID: &r.ID, RequestedBy: r.RequestedBy, ApprovedBy: &by, ApprovedAt: &r.RequestedAt}
	id, err := insertPurge(ctx, tx, p, ids)
	if err != nil {
		return err
	}
	tx.Enqueue(runLater(id))
	if err := recordPurge(ctx, tx, access.System("erasure"), "purge.approved", id); err != nil {
		return err
	}
	return setErasure(ctx, tx, r.ID, "running")
}

func setErasure(ctx context.Context, tx *db.Tx, request uuid.UUID, state string) error {
	_, err := tx.Exec(ctx, `update erasure_requests set state = $2, done_at = null where id = $1`, request, state)
	return err
}

// forgetFilters takes a customer out of what staff looked for: there they may
// stand in any form, as the last digits too.
func forgetFilters(ctx context.Context, tx *db.Tx, customer uuid.UUID) error {
	// A hold that is still searching by its filter needs the whole of it.
	for table, settled := range map[string]string{"purges": "true", "legal_holds": "not searching"} {
		_, err := tx.Exec(ctx, `
			update `+table+` f set filter = filter - 'customer' - 'q'
			where filter ? 'customer' and `+settled+` and exists (
				select from customer_identifiers c where c.customer_id = $1 and (
					lower(f.filter ->> 'customer') = lower(c.value)
					or c.kind in ('phone', 'number') and c.value ~ (substring(
						regexp_replace(f.filter ->> 'customer', '\D', '', 'g') from '^0*(\d{4,})$') || '$')))`,
			customer)
		if err != nil {
			return fmt.Errorf("forget filters of %s: %w", table, err)
		}
	}
	return nil
}

func (l *Lifecycle) endErasure(ctx context.Context, tx *db.Tx, r Erasure) error {
	if err := forgetFilters(ctx, tx, r.CustomerID); err != nil {
		return err
	}
	if err := l.Consent.ScrubCustomer(ctx, tx, r.CustomerID); err != nil {
		return err
	}
	// The reason may name whom it was about.
	_, err := tx.Exec(ctx, `
		update erasure_requests set state = 'done', done_at = $2, reason = '' where id = $1`, r.ID, tx.Now)
	if err != nil {
		return err
	}
	tx.Record(ledger.Entry{Actor: access.System("erasure").String(), Action: "customer.erased",
		Subject: "customer:" + r.CustomerID.String(), Details: map[string]any{"request": r.ID.String(), "purges": len(r.Purges)}})
	return nil
}

// resumeErasures has the requests go on that waited for a hold on ids. It is
// called in the transaction that released them, which holds their rows: a
// request that restricts them at the same time is seen here or sees them free.
func (l *Lifecycle) resumeErasures(ctx context.Context, tx *db.Tx, ids []uuid.UUID) error {
	waiting, err := idsOf(ctx, tx, `
		select distinct r.id from interactions i join erasure_requests r on r.state <> 'done' and (
			r.customer_id = i.customer_id or i.customer_id is null and exists (
				select from customer_identifiers
				where customer_id = r.customer_id and kind = 'phone' and value in (i.ani, i.dnis)))
		where i.id = any($1)`, ids)
	if err != nil {
		return err
	}
	for _, request := range waiting {
		tx.Enqueue(eraseLater(request))
	}
	return nil
}

// resumeForgotten has all requests go on that may have something to do: open
// ones, and done ones to whose customer something was added since.
func (l *Lifecycle) resumeForgotten(ctx context.Context) error {
	open, err := idsOf(ctx, l.DB, `
		select id from erasure_requests r where state <> 'done' or exists (
			select from interactions where customer_id = r.customer_id and state not in ('purging', 'erased'))`)
	if err != nil {
		return err
	}
	var failed error
	for _, request := range open {
		failed = errors.Join(failed, l.RunErasure(ctx, request))
	}
	return failed
}

// Erasures lists requests, newest first.
func (l *Lifecycle) Erasures(ctx context.Context, actor access.Actor, list List) (archive.Page[Erasure], error) {
	if err := mayReadErasures(actor); err != nil {
		return archive.Page[Erasure]{}, err
	}
	limit, from, err := list.start()
	if err != nil {
		return archive.Page[Erasure]{}, err
	}
	found, err := erasures(ctx, l.DB, `
		where (requested_at, id) < ($1, $2) and ($3 = '' or state = $3)
		order by requested_at desc, id desc limit $4`, from.At, from.ID, list.State, limit+1)
	if err != nil {
		return archive.Page[Erasure]{}, fmt.Errorf("list erasures: %w", err)
	}
	return page(found, limit, func(e Erasure) cursor { return cursor{e.RequestedAt, e.ID} })
}

func mayReadErasures(actor access.Actor) error {
	if actor.May(access.RequestErasure) == nil {
		return nil
	}
	return actor.May(access.ReadLifecycle)
}

// Erasure returns one request; db.ErrNotFound.
func (l *Lifecycle) Erasure(ctx context.Context, actor access.Actor, id uuid.UUID) (Erasure, error) {
	if err := mayReadErasures(actor); err != nil {
		return Erasure{}, err
	}
	return l.erasure(ctx, id)
}

func (l *Lifecycle) erasure(ctx context.Context, id uuid.UUID) (Erasure, error) {
	found, err := erasures(ctx, l.DB, `where id = $1`, id)
	return only(found, err, "read erasure")
}

func erasures(ctx context.Context, q db.Querier, where string, args ...any) ([]Erasure, error) {
	rows, err := q.Query(ctx, `
		select id, customer_id, state, reason, requested_by, requested_at, due_at, done_at,
			array(select p.id from purges p where p.erasure_request_id = erasure_requests.id order by p.requested_at, p.id) as purges
		from erasure_requests `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read erasures: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[Erasure])
	if err != nil {
		return nil, fmt.Errorf("read erasures: %w", err)
	}
	return found, nil
}
