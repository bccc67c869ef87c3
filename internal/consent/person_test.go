package consent_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"earmark/internal/access"
	"earmark/internal/consent"
	"earmark/internal/db"
	"earmark/internal/invalid"
)

func TestAllFormsOfAPhoneAreOneCustomer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	lan := b.resolve(t, consent.Person{Phone: "+84901234567"})
	for _, form := range []string{"84901234567", "0901234567", "0901 234 567", "(090) 123-4567", "0084901234567", "sip:0901234567@pbx"} {
		if again := b.resolve(t, consent.Person{Phone: form}); again == nil || *again != *lan {
			t.Errorf("%s is another customer", form)
		}
	}
	for _, nobody := range []string{"", "3201", "anonymous", "restricted", "sip:3201@pbx"} {
		if id := b.resolve(t, consent.Person{Phone: nobody}); id != nil {
			t.Errorf("%q is a customer", nobody)
		}
	}
}

func TestTheStrongestIdentifierChooses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	byPhone := *b.resolve(t, consent.Person{Phone: "0900000001"})
	byEmail := *b.resolve(t, consent.Person{Email: "Lan@Example.VN"})
	byNumber := *b.resolve(t, consent.Person{Number: "KH-1"})
	all := consent.Person{Number: "KH-1", Email: "lan@example.vn", Phone: "0900000001"}
	if got := *b.resolve(t, all); got != byNumber {
		t.Error("the company's number does not win")
	}
	if got := *b.resolve(t, consent.Person{Email: all.Email, Phone: all.Phone}); got != byEmail {
		t.Error("the e-mail does not win over the phone")
	}
	if got := *b.resolve(t, consent.Person{ID: &byPhone, Number: "KH-1"}); got != byPhone {
		t.Error("the id does not win")
	}
	if got := *b.resolve(t, consent.Person{Phone: all.Phone}); got != byPhone {
		t.Error("customers were merged")
	}
}

func TestWhatNobodyWasKnownByIsAttached(t *testing.T) {
	t.Parallel()
	b := setup(t)
	lan := *b.resolve(t, consent.Person{Phone: "0901234567"})
	for _, p := range []consent.Person{
		{Phone: "0901234567", Email: "lan@example.vn"},
		{Email: "lan@example.vn", Number: "KH-1", Name: "Lan"},
		{Number: "KH-1", Phone: "0900000002", Name: "Lan Nguyễn"},
		{ID: &lan, Phone: "0900000003"},
	} {
		if got := *b.resolve(t, p); got != lan {
			t.Errorf("%+v is another customer", p)
		}
	}
	got, err := b.Customer(t.Context(), b.officer, lan)
	if err != nil {
		t.Fatal(err)
	}
	want := []consent.Identifier{
		{Kind: "email", Value: "lan@example.vn"}, {Kind: "number", Value: "KH-1"},
		{Kind: "phone", Value: "+84900000002"}, {Kind: "phone", Value: "+84900000003"}, {Kind: "phone", Value: "+84901234567"},
	}
	if diff := cmp.Diff(want, got.Identifiers); diff != "" {
		t.Error(diff)
	}
	if got.Name != "Lan" {
		t.Errorf("the first name said is %q", got.Name)
	}
}

func TestTwoCompanyNumbersAreTwoCustomers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	mother := *b.resolve(t, consent.Person{Number: "KH-1", Phone: "0901234567"})
	daughter := *b.resolve(t, consent.Person{Number: "KH-2", Phone: "0901234567"})
	if mother == daughter {
		t.Error("a shared phone makes one customer of two")
	}
	if got := *b.resolve(t, consent.Person{Phone: "0901234567"}); got != mother {
		t.Error("the phone moved to another customer")
	}
}

func TestAnUnknownIDIsACompanysNumber(t *testing.T) {
	t.Parallel()
	b := setup(t)
	theirs := uuid.New()
	lan := *b.resolve(t, consent.Person{ID: &theirs, Phone: "0901234567"})
	if got := *b.resolve(t, consent.Person{ID: &theirs}); got != lan || lan == theirs {
		t.Error("a company's own UUID does not name its customer")
	}
	found, err := b.Find(t.Context(), b.db, strings.ToUpper(theirs.String()))
	if err != nil || !slices.Equal(found, []uuid.UUID{lan}) {
		t.Errorf("%v, %v", found, err)
	}
	if a, b := b.resolve(t, consent.Person{Name: "Lan"}), b.resolve(t, consent.Person{Name: "Lan"}); a == nil || b == nil || *a == *b {
		t.Error("a name alone names nobody, but is kept")
	}
}

func TestManyCallsOfANewCustomerAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	known := *b.resolve(t, consent.Person{Phone: "0907654321"})
	for name, person := range map[string]func(i int) consent.Person{
		"the same phone": func(int) consent.Person { return consent.Person{Phone: "0901234567", Name: "Lan"} },
		"one phone, many e-mails": func(i int) consent.Person {
			return consent.Person{Phone: "0900000001", Email: fmt.Sprintf("%d@x.vn", i)}
		},
		"first name of known one": func(int) consent.Person { return consent.Person{Phone: "0907654321", Name: "Minh"} },
		"identifiers in any order": func(i int) consent.Person {
			return consent.Person{Number: "KH-9", Phone: fmt.Sprintf("090000010%d", i%2)}
		},
		"by id, a name to be written": func(int) consent.Person { return consent.Person{ID: &known, Name: "Minh"} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			customers := map[uuid.UUID]int{}
			start := make(chan struct{})
			var group sync.WaitGroup
			for i := range 32 {
				group.Go(func() {
					<-start
					err := b.db.Write(context.Background(), func(tx *db.Tx) error {
						id, err := b.Resolve(context.Background(), tx, person(i))
						if err != nil {
							return err
						}
						mu.Lock()
						defer mu.Unlock()
						customers[*id]++
						return nil
					})
					if err != nil {
						t.Error(err)
					}
				})
			}
			close(start)
			group.Wait()
			if len(customers) != 1 {
				t.Errorf("%d customers", len(customers))
			}
		})
	}
	var orphans int
	err := b.db.QueryRow(t.Context(), `
		select count(*) from customers c
		where not exists (select from customer_identifiers i where i.customer_id = c.id)`).Scan(&orphans)
	if err != nil || orphans != 0 {
		t.Errorf("%d customers without an identifier, %v", orphans, err)
	}
}

// Invariant 11: an interaction that is being taken in is never given to a
// customer who was erased meanwhile.
func TestResolvingRacesErasing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	execute(t, b, `create table taken (customer_id uuid, erased boolean)`)
	p := consent.Person{Phone: "0901234567", Email: "lan@example.vn"}
	for range 50 {
		lan := *b.resolve(t, p)
		var resolved, scrubbed error
		var group sync.WaitGroup
		group.Go(func() {
			resolved = b.db.Write(context.Background(), func(tx *db.Tx) error {
				id, err := b.Resolve(context.Background(), tx, p)
				if err != nil {
					return err
				}
				_, err = tx.Exec(context.Background(), `
					insert into taken select id, erased_at is not null from customers where id = $1`, *id)
				return err
			})
		})
		group.Go(func() {
			scrubbed = b.db.Write(context.Background(), func(tx *db.Tx) error {
				return b.ScrubCustomer(context.Background(), tx, lan)
			})
		})
		group.Wait()
		if resolved != nil || scrubbed != nil {
			t.Fatal(resolved, scrubbed)
		}
	}
	var wrong, left int
	err := b.db.QueryRow(t.Context(), `
		select count(*) filter (where erased),
		       (select count(*) from customer_identifiers join customers c on c.id = customer_id where c.erased_at is not null)
		from taken`).Scan(&wrong, &left)
	if err != nil || wrong != 0 || left != 0 {
		t.Errorf("%d given to erased customers, %d identifiers of erased ones, %v", wrong, left, err)
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	b := setup(t)
	lan := *b.resolve(t, consent.Person{Phone: "0901234567", Email: "lan@example.vn", Number: "KH-0042"})
	minh := *b.resolve(t, consent.Person{Phone: "0909994567"})
	lands := *b.resolve(t, consent.Person{Phone: "028 3822 1234", Number: "4567"})
	for text, want := range map[string][]uuid.UUID{
		"0901234567": {lan}, "+84 901-234-567": {lan}, "84901234567": {lan}, "sip:0901234567@pbx": {lan},
		"LAN@example.vn": {lan}, "Lan <lan@example.vn>": {lan}, "KH-0042": {lan}, "kh-0042": nil,
		lan.String(): {lan}, strings.ToUpper(lan.String()): {lan}, uuid.NewString(): nil,
		"34567": {lan}, "9994567": {minh}, "909 994 567": {minh}, "4567": {lands}, "38221234": {lands}, "567": nil,
		"0042": {lan}, "": nil, " ": nil, "%": nil, "____": nil, "lan": nil, "a\x00b": nil, "\xff": nil, strings.Repeat("1", 5000): nil,
	} {
		got, err := b.Find(t.Context(), b.db, text)
		if err != nil {
			t.Errorf("%.40q: %v", text, err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%.40q: %v", text, got)
		}
	}
	b.scrub(t, minh)
	if got, err := b.Find(t.Context(), b.db, "0909994567"); len(got) > 0 || err != nil {
		t.Errorf("an erased customer is found: %v, %v", got, err)
	}
}

func TestNamedIsOneCustomer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	lan := *b.resolve(t, consent.Person{Phone: "0901234567"})
	other := *b.resolve(t, consent.Person{Number: "0901234567"})
	minh := *b.resolve(t, consent.Person{Email: "minh@example.vn"})
	if got, err := b.Named(t.Context(), b.officer, " Minh@example.vn", "body.customer"); got != minh || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := b.Named(t.Context(), b.officer, "+84901234567", "body.customer"); got != lan || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := b.Named(t.Context(), b.officer, other.String(), "body.customer"); got != other || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	var wrong *invalid.Error
	if _, err := b.Named(t.Context(), b.officer, "0901234567", "body.customer"); !errors.As(err, &wrong) || wrong.Fields[0].Location != "body.customer" {
		t.Errorf("two customers: %v", err)
	}
	for _, text := range []string{"34567", "0909999999", "", "\xff"} {
		if _, err := b.Named(t.Context(), b.officer, text, "body.customer"); !errors.Is(err, db.ErrNotFound) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := b.Named(t.Context(), access.Actor{Role: access.Uploader}, lan.String(), ""); !errors.Is(err, access.ErrForbidden) {
		t.Errorf("an uploader: %v", err)
	}
}

// model is who is known by what.
type model struct {
	owner  map[string]string // identifier: customer
	number map[string]bool   // customer: has a company's number
}

func (m *model) resolve(identifiers []string) (customer string, known bool) {
	newNumber := false
	for _, i := range identifiers {
		owner, ok := m.owner[i]
		if ok && !(newNumber && m.number[owner]) {
			return owner, true
		}
		if strings.HasPrefix(i, "KH-") {
			newNumber = true
		}
	}
	return "", false
}

// TestIdentifiersNeverMove draws random customers who share phones, e-mails
// and numbers, and erasures, and compares with a model.
func TestIdentifiersNeverMove(t *testing.T) {
	t.Parallel()
	b := setup(t)
	rapid.Check(t, func(t *rapid.T) {
		run := uuid.NewString()[:8]
		phoneBlock := int(uuid.New().ID() % 100_000)
		m := model{owner: map[string]string{}, number: map[string]bool{}}
		var made []uuid.UUID
		pick := func(label string, forms ...string) string {
			return rapid.SampledFrom(append(forms, "", "")).Draw(t, label)
		}
		t.Repeat(map[string]func(*rapid.T){
			"resolve": func(*rapid.T) {
				var p consent.Person
				var identifiers []string
				if n := pick("number", "1", "2", "3"); n != "" {
					p.Number = "KH-" + run + n
					identifiers = append(identifiers, p.Number)
				}
				if e := pick("email", "a", "b", "c"); e != "" {
					p.Email = strings.ToUpper(e) + run + "@x.vn"
					identifiers = append(identifiers, e+run+"@x.vn")
				}
				if d := pick("phone", "1", "2", "3"); d != "" {
					subscriber := fmt.Sprintf("90%05d%s%s", phoneBlock, d, d)
					p.Phone = rapid.SampledFrom([]string{"0", "+84", "84", "0084"}).Draw(t, "form") + subscriber
					identifiers = append(identifiers, "+84"+subscriber)
				}
				want, known := m.resolve(identifiers)
				got := b.resolve(t, p)
				switch {
				case len(identifiers) == 0:
					if got != nil {
						t.Fatalf("nobody is %s", got)
					}
					return
				case known && got.String() != want:
					t.Fatalf("%+v is %s, not %s", p, got, want)
				case !known && slices.Contains(made, *got):
					t.Fatalf("%+v is no new customer", p)
				case !known:
					made = append(made, *got)
				}
				for _, i := range identifiers {
					if _, taken := m.owner[i]; !taken {
						m.owner[i] = got.String()
					}
					m.number[got.String()] = m.number[got.String()] || strings.HasPrefix(i, "KH-") && m.owner[i] == got.String()
				}
			},
			"erase": func(t *rapid.T) {
				if len(made) == 0 || rapid.IntRange(0, 3).Draw(t, "rarely") > 0 {
					t.Skip("not now")
				}
				erased := rapid.SampledFrom(made).Draw(t, "customer")
				b.scrub(t, erased)
				for i, owner := range m.owner {
					if owner == erased.String() {
						delete(m.owner, i)
					}
				}
				delete(m.number, erased.String())
			},
			"": func(t *rapid.T) {
				if diff := cmp.Diff(m.owner, b.owners(t, made)); diff != "" {
					t.Fatal(diff)
				}
			},
		})
	})
}

// owners are the identifiers of customers, and whose each is.
func (b *bundle) owners(t fatal, customers []uuid.UUID) map[string]string {
	t.Helper()
	rows, err := b.db.Query(context.Background(), `
		select value, customer_id::text from customer_identifiers where customer_id = any($1)`, customers)
	if err != nil {
		t.Fatal(err)
	}
	owners := map[string]string{}
	var value, customer string
	_, err = pgx.ForEachRow(rows, []any{&value, &customer}, func() error {
		owners[value] = customer
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return owners
}
