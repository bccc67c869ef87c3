package consent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/text/unicode/norm"

	"earmark/internal/db"
	"earmark/internal/invalid"
)

// Person is what an interaction says of its customer.
type Person struct {
	// ID is a Customer's, as this service gave it. One that nobody has here is
	// taken for Number, if that is empty: many companies number by UUIDs.
	ID *uuid.UUID
	// Number is the company's own number of the customer.
	Number string
	Email  string
	// Phone is in any form that NormalisePhone takes; others are passed over.
	Phone string
	Name  string
}

// Check notes in e which fields of p cannot be kept. Locations begin with
// prefix, such as "body.customer".
func (p Person) Check(e *invalid.Error, prefix string) {
	checkText(e, prefix+".number", p.Number, maxLine)
	checkText(e, prefix+".email", p.Email, maxLine*2)
	checkText(e, prefix+".phone", p.Phone, maxLine)
	checkText(e, prefix+".name", p.Name, maxLine*2)
}

// Identifier is one way in which a customer is known.
type Identifier struct {
	// Kind is number (the company's own), email or phone.
	Kind string `json:"kind"`
	// Value is normalised: a phone in E.164, an e-mail in lower case.
	Value string `json:"value"`
}

const (
	byNumber = "number"
	byEmail  = "email"
	byPhone  = "phone"
)

// identifiers are those of p that can be used, the strongest first.
func (c *Consent) identifiers(p Person) []Identifier {
	var all []Identifier
	add := func(kind, value string, ok bool) {
		if ok {
			all = append(all, Identifier{kind, value})
		}
	}
	number, ok := normaliseNumber(p.Number)
	add(byNumber, number, ok)
	email, ok := normaliseEmail(p.Email)
	add(byEmail, email, ok)
	phone, ok := NormalisePhone(p.Phone, c.region)
	add(byPhone, phone, ok)
	return all
}

// Resolve finds the customer that p speaks of, or makes one, and attaches what
// nobody was known by before. Where identifiers lead to different customers,
// the id wins over the company's number, that over the e-mail, that over the
// phone; nobody is merged, and nobody gets a second company number: a new
// number on a known phone is a new customer. It returns nil for a person of
// whom nothing usable is said. An unknown or erased ID is an *invalid.Error at
// "body.customer.id".
//
// It is safe under any concurrency. Until the transaction ends the customer is
// neither erased nor does Record change what they agreed to.
func (c *Consent) Resolve(ctx context.Context, tx *db.Tx, p Person) (customerID *uuid.UUID, err error) {
	if p, err = c.knownID(ctx, tx, p); err != nil {
		return nil, err
	}
	p.Name = norm.NFC.String(strings.TrimSpace(p.Name))
	r := resolution{tx: tx, person: p, identifiers: c.identifiers(p)}
	if p.ID == nil && len(r.identifiers) == 0 && p.Name == "" {
		return nil, nil
	}
	customer, err := r.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("resolve customer: %w", err)
	}
	return &customer, nil
}

// knownID makes a company's number of an ID that nobody has here.
func (c *Consent) knownID(ctx context.Context, tx *db.Tx, p Person) (Person, error) {
	if p.ID == nil {
		return p, nil
	}
	var known bool
	err := tx.QueryRow(ctx, `select exists (select from customers where id = $1)`, *p.ID).Scan(&known)
	if err != nil {
		return p, fmt.Errorf("resolve customer: %w", err)
	}
	if known {
		return p, nil
	}
	if p.Number == "" {
		p.Number = p.ID.String()
	}
	p.ID = nil
	return p, nil
}

type resolution struct {
	tx          *db.Tx
	person      Person
	identifiers []Identifier
}

// run first looks without a lock on the identifiers, which is enough where all
// of them are known, and else again under one on each, which it then owns. It
// looks again whenever the customer whom it found was erased meanwhile.
func (r resolution) run(ctx context.Context) (uuid.UUID, error) {
	for locked := false; ; locked = true {
		owners, err := r.owners(ctx)
		if err != nil {
			return uuid.Nil, err
		}
		customer, found := r.chosen(owners)
		allKnown := len(owners) == len(r.identifiers)
		switch {
		case found && (allKnown || locked):
			taken, err := r.take(ctx, customer)
			if err != nil {
				return uuid.Nil, err
			}
			if taken {
				return customer, r.attach(ctx, customer, owners)
			}
		case locked:
			return r.create(ctx, owners)
		}
		if err := r.lock(ctx); err != nil {
			return uuid.Nil, err
		}
	}
}

// owner is the customer whom an identifier names.
type owner struct {
	id uuid.UUID
	// number says that a company's number of theirs is known.
	number bool
}

// owners are the customers that the identifiers name.
func (r resolution) owners(ctx context.Context) (map[Identifier]owner, error) {
	kinds, values := columns(r.identifiers)
	rows, err := r.tx.Query(ctx, `
		select kind, value, customer_id,
		       exists (select from customer_identifiers n where n.customer_id = i.customer_id and n.kind = 'number')
		from unnest($1::text[], $2::text[]) as given (kind, value)
		join customer_identifiers i using (kind, value)`, kinds, values)
	if err != nil {
		return nil, err
	}
	owners := map[Identifier]owner{}
	var i Identifier
	var o owner
	_, err = pgx.ForEachRow(rows, []any{&i.Kind, &i.Value, &o.id, &o.number}, func() error {
		owners[i] = o
		return nil
	})
	return owners, err
}

// chosen is the customer to whom the interaction belongs.
func (r resolution) chosen(owners map[Identifier]owner) (uuid.UUID, bool) {
	if r.person.ID != nil {
		return *r.person.ID, true
	}
	newNumber := false
	for _, i := range r.identifiers {
		o, known := owners[i]
		if known && !(newNumber && o.number) {
			return o.id, true
		}
		newNumber = newNumber || i.Kind == byNumber
	}
	return uuid.Nil, false
}

// take names a customer who has no name yet, and keeps the row from being
// erased until the transaction ends. Not taken: erased. It locks in one step:
// two transactions that first shared the row could never both change it.
func (r resolution) take(ctx context.Context, customer uuid.UUID) (taken bool, err error) {
	named, err := r.tx.Exec(ctx, `
		update customers set name = $2
		where id = $1 and name is null and erased_at is null and $2 <> ''`, customer, r.person.Name)
	if err != nil || named.RowsAffected() > 0 {
		return err == nil, err
	}
	err = r.tx.QueryRow(ctx, `
		select true from customers where id = $1 and erased_at is null for share`, customer).Scan(&taken)
	if !errors.Is(err, pgx.ErrNoRows) {
		return taken, err
	}
	if r.person.ID != nil {
		return false, invalid.New("body.customer.id", "this customer was erased: send phone, email or the company's number instead")
	}
	return false, nil
}

func (r resolution) create(ctx context.Context, owners map[Identifier]owner) (uuid.UUID, error) {
	customer := r.tx.NewID()
	_, err := r.tx.Exec(ctx, `
		insert into customers (id, name, created_at) values ($1, nullif($2, ''), $3)`, customer, r.person.Name, r.tx.Now)
	if err != nil {
		return uuid.Nil, err
	}
	return customer, r.attach(ctx, customer, owners)
}

// attach gives the customer the identifiers that are nobody's yet.
func (r resolution) attach(ctx context.Context, customer uuid.UUID, owners map[Identifier]owner) error {
	free := slices.DeleteFunc(slices.Clone(r.identifiers), func(i Identifier) bool {
		_, taken := owners[i]
		return taken
	})
	if len(free) == 0 {
		return nil
	}
	kinds, values := columns(free)
	_, err := r.tx.Exec(ctx, `
		insert into customer_identifiers (kind, value, customer_id)
		select kind, value, $3 from unnest($1::text[], $2::text[]) as free (kind, value)`, kinds, values, customer)
	return err
}

// lock takes the identifiers in one order for all, so that two transactions
// never wait for each other.
func (r resolution) lock(ctx context.Context) error {
	names := make([]string, len(r.identifiers))
	for i, identifier := range r.identifiers {
		names[i] = "customer:" + identifier.Kind + ":" + identifier.Value
	}
	slices.Sort(names)
	for _, name := range names {
		if _, err := r.tx.Exec(ctx, `select pg_advisory_xact_lock(hashtextextended($1, 0))`, name); err != nil {
			return err
		}
	}
	return nil
}

func columns(identifiers []Identifier) (kinds, values []string) {
	for _, i := range identifiers {
		kinds, values = append(kinds, i.Kind), append(values, i.Value)
	}
	return kinds, values
}
