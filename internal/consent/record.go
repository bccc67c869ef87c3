package consent

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"earmark/internal/access"
	"earmark/internal/db"
	"earmark/internal/invalid"
	"earmark/internal/ledger"
)

// Recorded is a statement on a customer's record. It is never changed.
type Recorded struct {
	ID         uuid.UUID `json:"id"`
	CustomerID uuid.UUID `json:"customer_id"`
	Statement
	// RecordedBy is who wrote it down, as access.Actor.PersonString says it.
	RecordedBy string    `json:"recorded_by"`
	RecordedAt time.Time `json:"recorded_at"`
}

// Record appends s to what the customer has on record; said now, where it does
// not say when. A grant releases, in the same transaction, what waited for it
// (OnGrant). It needs access.RecordConsent. Errors: access.ErrForbidden,
// db.ErrNotFound (nobody by that id, or erased), *invalid.Error.
func (c *Consent) Record(ctx context.Context, actor access.Actor, customer uuid.UUID, s Statement) (Recorded, error) {
	if err := actor.May(access.RecordConsent); err != nil {
		return Recorded{}, err
	}
	s, err := s.Checked("body", c.db.Now())
	if err != nil {
		return Recorded{}, err
	}
	var r Recorded
	err = c.db.Write(ctx, func(tx *db.Tx) error {
		if err := lockCustomer(ctx, tx, customer); err != nil {
			return err
		}
		r = Recorded{ID: tx.NewID(), CustomerID: customer, Statement: s, RecordedBy: actor.PersonString(), RecordedAt: tx.Now}
		if r.At == nil {
			r.At = &r.RecordedAt
		}
		if err := r.insert(ctx, tx); err != nil {
			return err
		}
		tx.Record(ledger.Entry{
			Actor: actor.String(), Action: "consent.recorded", Subject: "customer:" + customer.String(),
			Details: details(s.Basis, s.Status, s.Purposes),
		})
		if s.Status != Granted {
			return nil
		}
		return c.granted(ctx, tx, Grant{Customer: &customer})
	})
	if err != nil {
		return Recorded{}, fmt.Errorf("record consent: %w", err)
	}
	return r, nil
}

// lockCustomer keeps every Resolve of the customer out until the transaction
// ends: an interaction that is being taken in either is seen by it or sees it.
func lockCustomer(ctx context.Context, tx *db.Tx, customer uuid.UUID) error {
	var id uuid.UUID
	err := tx.QueryRow(ctx, `
		select id from customers where id = $1 and erased_at is null for no key update`, customer).Scan(&id)
	return db.Found(err)
}

func (r Recorded) insert(ctx context.Context, tx *db.Tx) error {
	_, err := tx.Exec(ctx, `
		insert into consents (id, customer_id, basis, status, purposes, method, wording, proof, reason,
		                      at, expires_at, recorded_by, recorded_at)
		values ($1, $2, $3, $4, $5, nullif($6, ''), nullif($7, ''), $8, nullif($9, ''), $10, $11, $12, $13)`,
		r.ID, r.CustomerID, r.Basis, r.Status, r.Purposes, r.Method, r.Wording, orNull(r.Proof), r.Reason,
		r.At, r.ExpiresAt, r.RecordedBy, r.RecordedAt)
	return err
}

func orNull(raw json.RawMessage) any {
	if raw == nil {
		return nil
	}
	return raw
}

func details(basis, status string, purposes []access.Purpose) map[string]any {
	names := make([]any, len(purposes))
	for i, p := range purposes {
		names[i] = string(p)
	}
	return map[string]any{"basis": basis, "status": status, "purposes": names}
}

// SourceBasis is the standing basis of all that a source sends.
type SourceBasis struct {
	Source string `json:"source"`
	access.Basis
	// RecordedBy is who wrote it down, as access.Actor.PersonString says it.
	RecordedBy string    `json:"recorded_by"`
	RecordedAt time.Time `json:"recorded_at"`
}

// SetSourceBasis says on which basis all stands that source sends, in place of
// what was said before, and releases, in the same transaction, what waited for
// it (OnGrant). Purposes left out are DefaultPurposes. It needs
// access.RecordConsent. Errors: access.ErrForbidden, *invalid.Error.
func (c *Consent) SetSourceBasis(ctx context.Context, actor access.Actor, source string, b access.Basis) (SourceBasis, error) {
	if err := actor.May(access.RecordConsent); err != nil {
		return SourceBasis{}, err
	}
	if err := checkSourceBasis(source, b); err != nil {
		return SourceBasis{}, err
	}
	b.Purposes = Statement{Basis: b.Basis, Status: Granted, Purposes: b.Purposes}.covered()
	var set SourceBasis
	err := c.db.Write(ctx, func(tx *db.Tx) error {
		if err := lockSource(ctx, tx, source); err != nil {
			return err
		}
		set = SourceBasis{Source: source, Basis: b, RecordedBy: actor.PersonString(), RecordedAt: tx.Now}
		if err := set.upsert(ctx, tx); err != nil {
			return err
		}
		tx.Record(ledger.Entry{
			Actor: actor.String(), Action: "consent.recorded", Subject: "source",
			Details: details(b.Basis, Granted, b.Purposes),
		})
		return c.granted(ctx, tx, Grant{Source: source})
	})
	if err != nil {
		return SourceBasis{}, fmt.Errorf("set the basis of a source: %w", err)
	}
	return set, nil
}

func checkSourceBasis(source string, b access.Basis) error {
	e := &invalid.Error{}
	if strings.TrimSpace(source) == "" {
		e.Add("path.source", "name the source")
	}
	checkText(e, "path.source", source, maxLine)
	b.Check(e, "body")
	return e.Err()
}

func (b SourceBasis) upsert(ctx context.Context, tx *db.Tx) error {
	_, err := tx.Exec(ctx, `
		insert into source_bases (source, basis, purposes, method, reason, recorded_by, recorded_at)
		values ($1, $2, $3, nullif($4, ''), nullif($5, ''), $6, $7)
		on conflict (source) do update set
			basis = excluded.basis, purposes = excluded.purposes, method = excluded.method,
			reason = excluded.reason, recorded_by = excluded.recorded_by, recorded_at = excluded.recorded_at`,
		b.Source, b.Basis.Basis, b.Purposes, b.Method, b.Reason, b.RecordedBy, b.RecordedAt)
	return err
}

// SourceBases are the standing bases of all sources that have one, by name.
// It needs access.RecordConsent.
func (c *Consent) SourceBases(ctx context.Context, actor access.Actor) ([]SourceBasis, error) {
	if err := actor.May(access.RecordConsent); err != nil {
		return nil, err
	}
	rows, err := c.db.Query(ctx, `
		select source, basis, purposes, coalesce(method, ''), coalesce(reason, ''), recorded_by, recorded_at
		from source_bases order by source`)
	if err != nil {
		return nil, fmt.Errorf("list the bases of sources: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (b SourceBasis, err error) {
		err = row.Scan(&b.Source, &b.Basis.Basis, &b.Purposes, &b.Method, &b.Reason, &b.RecordedBy, &b.RecordedAt)
		return b, err
	})
	if err != nil {
		return nil, fmt.Errorf("list the bases of sources: %w", err)
	}
	return all, nil
}

func lockSource(ctx context.Context, tx *db.Tx, source string) error {
	_, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtextextended('source:' || $1, 0))`, source)
	return err
}

func lockSourceShared(ctx context.Context, tx *db.Tx, source string) error {
	_, err := tx.Exec(ctx, `select pg_advisory_xact_lock_shared(hashtextextended('source:' || $1, 0))`, source)
	return err
}
