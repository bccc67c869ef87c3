package consent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"earmark/internal/access"
	"earmark/internal/db"
)

// What is decided at the door.
const (
	// Covered: the customer agreed.
	Covered = "covered"
	// Lawful: another basis than consent holds.
	Lawful = "lawful"
	// Unknown: no basis is known, so nobody may open it until one arrives.
	Unknown = "unknown"
	// Declined: the customer said no; it is not to be stored.
	Declined = "refused"
)

// Decision is what may be done with an interaction.
type Decision struct {
	// Outcome is Covered, Lawful, Unknown or Declined.
	Outcome string
	// Basis is what it rests on, to be kept with the interaction; nil
	// unless it is covered or lawful.
	Basis *Statement
	// Purposes that the basis covers, never empty when there is a basis.
	Purposes []access.Purpose
}

// Decide says what may be done with an interaction that actor sends from
// source, with customer (nil: nobody known), of which it was said what said
// says (nil: nothing; else as Checked returned it, with At set by the caller
// where it was left out: the interaction's start). In this order:
//
//  1. the interaction's own word: a no is Declined, a grant decides;
//  2. the standing basis of the key, then
//  3. that of the source, each less what the customer refused or withdrew of
//     the same basis;
//  4. what the customer has on record, the latest word for each purpose;
//  5. Declined where the customer's record says no to every purpose, else Unknown.
//
// In a transaction, an answer of Unknown stays true until the commit as far as
// the source is concerned: SetSourceBasis waits for it.
func (c *Consent) Decide(ctx context.Context, q db.Querier, actor access.Actor, source string, customer *uuid.UUID, said *Statement) (Decision, error) {
	if said != nil {
		return byWord(*said), nil
	}
	record, err := readRecord(ctx, q, customer)
	if err != nil {
		return Decision{}, err
	}
	now := c.db.Now()
	if actor.Basis != nil {
		if s := lessRefused(*actor.Basis, record, now); len(s.Purposes) > 0 {
			// Whatever the source's basis is: it need not be read and locked.
			return rest(s), nil
		}
	}
	sources, err := readSourceBasis(ctx, q, source)
	if err != nil {
		return Decision{}, err
	}
	return decide(record, now, sources), nil
}

// Covers says whether an interaction may be opened for purpose p now. It was
// kept on basis, a Decision's (nil: it is still unknown), for purposes. What
// its customer said since counts at once: a refusal or withdrawal of that
// basis not older than the basis itself closes the purpose, a standing basis
// yields to any; a later grant opens it again, or renews one that expired.
// Purposes that the interaction was not kept for are never covered.
func (c *Consent) Covers(ctx context.Context, q db.Querier, customer *uuid.UUID, purposes []access.Purpose, basis *Statement, p access.Purpose) (bool, error) {
	if basis == nil || !slices.Contains(purposes, p) {
		return false, nil
	}
	record, err := readRecord(ctx, q, customer)
	if err != nil {
		return false, err
	}
	return covers(record, c.db.Now(), *basis, p), nil
}

// byWord decides by what the interaction itself says.
func byWord(said Statement) Decision {
	if said.Status != Granted {
		return Decision{Outcome: Declined}
	}
	said.Purposes = said.covered()
	return rest(said)
}

// decide decides where the interaction says nothing: by the standing bases, in
// their order (nil ones are skipped), then by the customer's record, which is
// newest first.
func decide(record []Recorded, now time.Time, standing ...*access.Basis) Decision {
	for _, b := range standing {
		if b == nil {
			continue
		}
		if s := lessRefused(*b, record, now); len(s.Purposes) > 0 {
			return rest(s)
		}
	}
	for _, basis := range access.Bases {
		if s, ok := onRecord(basis, record, now); ok {
			return rest(s)
		}
	}
	if refusesAll(record, now) {
		return Decision{Outcome: Declined}
	}
	return Decision{Outcome: Unknown}
}

func rest(s Statement) Decision {
	outcome := Lawful
	if s.Basis == access.Consent {
		outcome = Covered
	}
	return Decision{Outcome: outcome, Basis: &s, Purposes: s.Purposes}
}

// lessRefused is the standing basis b for this customer.
func lessRefused(b access.Basis, record []Recorded, now time.Time) Statement {
	s := Statement{Basis: b.Basis, Status: Granted, Method: b.Method, Purposes: b.Purposes, Reason: b.Reason}
	s.Purposes = slices.DeleteFunc(s.covered(), func(p access.Purpose) bool {
		word, said := latest(record, now, b.Basis, p)
		return said && word.Status != Granted
	})
	return s
}

// onRecord sums up what the record grants on that basis: the newest grant
// names the method, the oldest the time, and the first to expire the end.
// The proof stays with the customer.
func onRecord(basis string, record []Recorded, now time.Time) (sum Statement, ok bool) {
	sum = Statement{Basis: basis, Status: Granted}
	var newest time.Time
	for _, p := range access.Purposes {
		word, said := latest(record, now, basis, p)
		if !said || word.Status != Granted {
			continue
		}
		sum.Purposes = append(sum.Purposes, p)
		if newest.Before(*word.At) {
			newest, sum.Method, sum.Reason = *word.At, word.Method, word.Reason
		}
		sum.At, sum.ExpiresAt = earlier(sum.At, word.At), earlier(sum.ExpiresAt, word.ExpiresAt)
	}
	return sum, len(sum.Purposes) > 0
}

// earlier is the earlier of two times, nil being never.
func earlier(a, b *time.Time) *time.Time {
	if a == nil || b != nil && b.Before(*a) {
		return b
	}
	return a
}

func refusesAll(record []Recorded, now time.Time) bool {
	for _, p := range access.Purposes {
		if word, said := latest(record, now, access.Consent, p); !said || word.Status == Granted {
			return false
		}
	}
	return true
}

// latest is the last word in force about the purpose, on that basis.
func latest(record []Recorded, now time.Time, basis string, p access.Purpose) (word Statement, said bool) {
	for _, r := range record {
		if r.Basis == basis && r.inForce(now) && slices.Contains(r.Purposes, p) {
			return r.Statement, true
		}
	}
	return Statement{}, false
}

func covers(record []Recorded, now time.Time, basis Statement, p access.Purpose) bool {
	own := basis.Status == Granted && basis.inForce(now)
	word, said := latest(record, now, basis.Basis, p)
	switch {
	case !said:
		return own
	case word.Status == Granted:
		return true
	default:
		return own && basis.At != nil && basis.At.After(*word.At)
	}
}

// readRecord reads what the customer said, newest first; nothing of nobody.
func readRecord(ctx context.Context, q db.Querier, customer *uuid.UUID) ([]Recorded, error) {
	if customer == nil {
		return nil, nil
	}
	rows, err := q.Query(ctx, `
		select id, customer_id, basis, status, purposes, coalesce(method, ''), coalesce(wording, ''),
		       proof, coalesce(reason, ''), at, expires_at, recorded_by, recorded_at
		from consents where customer_id = $1
		order by at desc, id desc`, *customer)
	if err != nil {
		return nil, fmt.Errorf("read a customer's consents: %w", err)
	}
	record, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r Recorded, err error) {
		err = row.Scan(&r.ID, &r.CustomerID, &r.Basis, &r.Status, &r.Purposes, &r.Method, &r.Wording,
			&r.Proof, &r.Reason, &r.At, &r.ExpiresAt, &r.RecordedBy, &r.RecordedAt)
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("read a customer's consents: %w", err)
	}
	return record, nil
}

// readSourceBasis reads a source's standing basis; nil: it has none.
func readSourceBasis(ctx context.Context, q db.Querier, source string) (*access.Basis, error) {
	if tx, inTransaction := q.(*db.Tx); inTransaction {
		if err := lockSourceShared(ctx, tx, source); err != nil {
			return nil, err
		}
	}
	var b access.Basis
	err := q.QueryRow(ctx, `
		select basis, purposes, coalesce(method, ''), coalesce(reason, '')
		from source_bases where source = $1`, source).
		Scan(&b.Basis, &b.Purposes, &b.Method, &b.Reason)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the basis of a source: %w", err)
	}
	return &b, nil
}
