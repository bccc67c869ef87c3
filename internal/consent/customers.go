package consent

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/text/unicode/norm"

	"earmark/internal/access"
	"earmark/internal/db"
	"earmark/internal/invalid"
)

// Customer is a person of whom interactions are kept.
type Customer struct {
	ID          uuid.UUID    `json:"id"`
	Name        string       `json:"name,omitempty"`
	Identifiers []Identifier `json:"identifiers"`
	CreatedAt   time.Time    `json:"created_at"`
	// ErasedAt is when all of them was erased but the id.
	ErasedAt *time.Time `json:"erased_at,omitempty"`
}

// Query asks for customers. Text, when not empty, is an id, e-mail, number,
// phone or the end of one, as Find takes it, or words of a name, with or
// without Vietnamese marks.
type Query struct {
	Text string
	// Limit is how many to return at most: 50 when 0, never more than 500.
	Limit  int
	Cursor string
}

// Page is one page of a list, and how to ask for the next; the last has no
// NextCursor.
type Page[T any] struct {
	Items      []T    `json:"items"`
	NextCursor string `json:"next_cursor,omitempty"`
}

const (
	defaultLimit = 50
	maxLimit     = 500
)

const selectCustomer = `
	select c.id, coalesce(c.name, ''), c.created_at, c.erased_at,
	       array(select kind from customer_identifiers where customer_id = c.id order by kind, value),
	       array(select value from customer_identifiers where customer_id = c.id order by kind, value)
	from customers c `

func scanCustomer(row pgx.CollectableRow) (c Customer, err error) {
	var kinds, values []string
	err = row.Scan(&c.ID, &c.Name, &c.CreatedAt, &c.ErasedAt, &kinds, &values)
	c.Identifiers = make([]Identifier, len(kinds))
	for i := range kinds {
		c.Identifiers[i] = Identifier{kinds[i], values[i]}
	}
	return c, err
}

// Customers lists those that q asks for and that are not erased, newest first.
// It needs access.ReadCustomers. A cursor that is not one of ours is an
// *invalid.Error.
func (c *Consent) Customers(ctx context.Context, actor access.Actor, q Query) (Page[Customer], error) {
	if err := actor.May(access.ReadCustomers); err != nil {
		return Page[Customer]{}, err
	}
	before, err := decodeCursor(q.Cursor)
	if err != nil {
		return Page[Customer]{}, err
	}
	where, args, err := c.matching(ctx, q.Text)
	if err != nil {
		return Page[Customer]{}, err
	}
	limit := limitOf(q.Limit)
	args = append(args, before, limit+1)
	rows, err := c.db.Query(ctx, selectCustomer+fmt.Sprintf(`
		where c.erased_at is null and %s and ($%d::uuid is null or c.id < $%[2]d)
		order by c.id desc limit $%d`, where, len(args)-1, len(args)), args...)
	if err != nil {
		return Page[Customer]{}, fmt.Errorf("list customers: %w", err)
	}
	items, err := pgx.CollectRows(rows, scanCustomer)
	if err != nil {
		return Page[Customer]{}, fmt.Errorf("list customers: %w", err)
	}
	if len(items) <= limit {
		return Page[Customer]{Items: items}, nil
	}
	items = items[:limit]
	return Page[Customer]{Items: items, NextCursor: encodeCursor(items[limit-1].ID)}, nil
}

// matching is the condition on customers c that text stands for.
func (c *Consent) matching(ctx context.Context, text string) (where string, args []any, err error) {
	if strings.TrimSpace(text) == "" {
		return "true", nil, nil
	}
	found, err := c.Find(ctx, c.db, text)
	if err != nil || len(found) > 0 {
		return "c.id = any($1)", []any{found}, err
	}
	return "to_tsvector('earmark', coalesce(c.name, '')) @@ to_tsquery('earmark', $1)", []any{beginnings(text)}, nil
}

// beginnings asks for names that hold a word beginning with each of text's.
func beginnings(text string) string {
	words := strings.FieldsFunc(norm.NFC.String(text), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
	for i := range words {
		words[i] += ":*"
	}
	return strings.Join(words, " & ")
}

func limitOf(asked int) int {
	if asked <= 0 {
		return defaultLimit
	}
	return min(asked, maxLimit)
}

func encodeCursor(id uuid.UUID) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

func decodeCursor(cursor string) (*uuid.UUID, error) {
	if cursor == "" {
		return nil, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil {
		var id uuid.UUID
		if id, err = uuid.FromBytes(raw); err == nil {
			return &id, nil
		}
	}
	return nil, invalid.New("query.cursor", "a `next_cursor` of this list, unchanged")
}

// Customer reads one, an erased one too. It needs access.ReadCustomers.
func (c *Consent) Customer(ctx context.Context, actor access.Actor, id uuid.UUID) (Customer, error) {
	if err := actor.May(access.ReadCustomers); err != nil {
		return Customer{}, err
	}
	rows, err := c.db.Query(ctx, selectCustomer+`where c.id = $1`, id)
	if err != nil {
		return Customer{}, fmt.Errorf("read customer: %w", err)
	}
	customer, err := pgx.CollectExactlyOneRow(rows, scanCustomer)
	if err != nil {
		return Customer{}, fmt.Errorf("read customer: %w", db.Found(err))
	}
	return customer, nil
}

// Consents is what the customer agreed to, refused and withdrew, newest first.
// It needs access.ReadCustomers; db.ErrNotFound: nobody by that id.
func (c *Consent) Consents(ctx context.Context, actor access.Actor, id uuid.UUID) ([]Recorded, error) {
	if _, err := c.Customer(ctx, actor, id); err != nil {
		return nil, err
	}
	return readRecord(ctx, c.db, &id)
}

const (
	// minSuffix is how many trailing digits say enough to look for.
	minSuffix = 4
	// maxFound bounds what Find returns.
	maxFound = 1000
)

// Find returns the customers that text names: by id, by e-mail, by the
// company's number or by phone in any form that NormalisePhone takes; where
// nobody is known by exactly that, and it is four digits or more, those whose
// number or phone ends with them, at most the 1,000 newest.
func (c *Consent) Find(ctx context.Context, q db.Querier, text string) ([]uuid.UUID, error) {
	text = strings.TrimSpace(text)
	if !findable(text) {
		return nil, nil
	}
	found, err := c.exactly(ctx, q, text)
	if err != nil || len(found) > 0 {
		return found, err
	}
	digits := digitsOf(text)
	if len(digits) < minSuffix {
		return nil, nil
	}
	return ids(ctx, q, `
		select distinct customer_id from customer_identifiers
		where kind in ('phone', 'number') and reverse(value) like reverse($1) || '%'
		order by customer_id desc limit $2`, digits, maxFound)
}

func findable(text string) bool {
	return text != "" && utf8.ValidString(text) && !strings.ContainsRune(text, 0) && len(text) <= maxLine*2
}

// exactly finds those whom text names in full.
func (c *Consent) exactly(ctx context.Context, q db.Querier, text string) ([]uuid.UUID, error) {
	if id, err := uuid.Parse(text); err == nil {
		return ids(ctx, q, `
			select id from customers where id = $1
			union select customer_id from customer_identifiers where kind = 'number' and value = $2`, id, id.String())
	}
	kinds, values := columns(c.identifiers(Person{Number: text, Email: text, Phone: text}))
	return ids(ctx, q, `
		select distinct customer_id from customer_identifiers
		join unnest($1::text[], $2::text[]) as given (kind, value) using (kind, value)`, kinds, values)
}

// Named returns the one customer whom text names in full, as Find understands
// it: for what must not fall on the wrong person. It needs
// access.ReadCustomers. Errors: db.ErrNotFound, *invalid.Error at location
// when several customers are known by it.
func (c *Consent) Named(ctx context.Context, actor access.Actor, text, location string) (uuid.UUID, error) {
	if err := actor.May(access.ReadCustomers); err != nil {
		return uuid.Nil, err
	}
	text = strings.TrimSpace(text)
	if !findable(text) {
		return uuid.Nil, db.ErrNotFound
	}
	found, err := c.exactly(ctx, c.db, text)
	switch {
	case err != nil:
		return uuid.Nil, err
	case len(found) == 0:
		return uuid.Nil, db.ErrNotFound
	case len(found) > 1:
		return uuid.Nil, invalid.New(location, "this names %d customers: give the id of the one", len(found))
	}
	return found[0], nil
}

// digitsOf are the digits of a text that holds nothing else but punctuation.
func digitsOf(text string) string {
	if !dialled.MatchString(plain(text)) {
		return ""
	}
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, plain(text))
}

func ids(ctx context.Context, q db.Querier, sql string, args ...any) ([]uuid.UUID, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("find customers: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("find customers: %w", err)
	}
	return found, nil
}

// ScrubCustomer takes everything personal from a customer: identifiers, name,
// and the words and proofs of their consents. The row keeps its id, and when
// it was erased. It is idempotent; whoever calls it writes the ledger entry.
// It waits for interactions of theirs that are just being taken in.
func (c *Consent) ScrubCustomer(ctx context.Context, tx *db.Tx, customer uuid.UUID) error {
	// The customer's row first: it is what Resolve holds while it uses the rest.
	for _, sql := range []string{
		`update customers set name = null, erased_at = coalesce(erased_at, $2) where id = $1`,
		`delete from customer_identifiers where customer_id = $1 and $2::timestamptz is not null`,
		`update consents set proof = null, wording = null, reason = null, method = null
		 where customer_id = $1 and $2::timestamptz is not null`,
	} {
		if _, err := tx.Exec(ctx, sql, customer, tx.Now); err != nil {
			return fmt.Errorf("scrub customer: %w", err)
		}
	}
	return nil
}
