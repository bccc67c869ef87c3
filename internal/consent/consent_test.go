package consent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"earmark/internal/access"
	"earmark/internal/consent"
	"earmark/internal/db"
	"earmark/internal/db/dbtest"
	"earmark/internal/invalid"
	"earmark/internal/ledger"
)

// bundle is a company without customers, and a clock that tests turn.
type bundle struct {
	*consent.Consent
	db      *db.DB
	officer access.Actor

	mu  sync.Mutex
	now time.Time
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{now: time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)}
	b.db = dbtest.Open(t, dbtest.URL(t), db.Options{MaxConns: 12, Now: func() time.Time {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.now
	}})
	b.Consent = consent.New(b.db, "VN")
	b.officer = access.Actor{Kind: "user", ID: uuid.New(), Person: uuid.New(), Role: access.PrivacyOfficer}
	return b
}

func (b *bundle) turn(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

// fatal is what *testing.T and *rapid.T share.
type fatal interface {
	Helper()
	Fatal(...any)
}

func (b *bundle) resolve(t fatal, p consent.Person) *uuid.UUID {
	t.Helper()
	var id *uuid.UUID
	err := b.db.Write(context.Background(), func(tx *db.Tx) (err error) {
		id, err = b.Resolve(context.Background(), tx, p)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (b *bundle) record(t fatal, customer uuid.UUID, s consent.Statement) consent.Recorded {
	t.Helper()
	r, err := b.Record(context.Background(), b.officer, customer, s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (b *bundle) scrub(t fatal, customer uuid.UUID) {
	t.Helper()
	err := b.db.Write(context.Background(), func(tx *db.Tx) error {
		return b.ScrubCustomer(context.Background(), tx, customer)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bundle) ledger(t *testing.T) []string {
	t.Helper()
	rows, err := b.db.Query(t.Context(), `select entry from ledger_pending order by id`)
	if err != nil {
		t.Fatal(err)
	}
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, text := range texts {
		e, err := ledger.Decode(text)
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, fmt.Sprint(e.Actor, " ", e.Action, " ", e.Subject, " ", e.Details))
	}
	return said
}

func TestRecordAppends(t *testing.T) {
	t.Parallel()
	b := setup(t)
	lan := *b.resolve(t, consent.Person{Phone: "0901234567"})
	at := b.now.Add(-time.Hour)
	granted := b.record(t, lan, consent.Statement{
		Status: consent.Granted, Method: "web_form", At: &at, Purposes: []access.Purpose{access.Training},
		Proof: json.RawMessage(`{"form":"f-1"}`), Wording: "Đồng ý?", Reason: "",
	})
	withdrawn := b.record(t, lan, consent.Statement{Status: consent.Withdrawn})

	all, err := b.Consents(t.Context(), b.officer, lan)
	if err != nil {
		t.Fatal(err)
	}
	sameJSON := cmp.Comparer(func(x, y json.RawMessage) bool {
		var a, b any
		return json.Unmarshal(orNull(x), &a) == nil && json.Unmarshal(orNull(y), &b) == nil && cmp.Equal(a, b)
	})
	if diff := cmp.Diff([]consent.Recorded{withdrawn, granted}, all, sameJSON, cmpopts.EquateApproxTime(0)); diff != "" {
		t.Error(diff)
	}
	if !withdrawn.At.Equal(b.now) || withdrawn.RecordedBy != b.officer.PersonString() {
		t.Errorf("%+v", withdrawn)
	}
	want := []string{
		fmt.Sprintf("%s consent.recorded customer:%s map[basis:consent purposes:[training] status:granted]", b.officer, lan),
		fmt.Sprintf("%s consent.recorded customer:%s map[basis:consent purposes:%v status:withdrawn]", b.officer, lan, access.Purposes),
	}
	if diff := cmp.Diff(want, b.ledger(t)); diff != "" {
		t.Error(diff)
	}
}

func orNull(raw json.RawMessage) json.RawMessage {
	if raw == nil {
		return json.RawMessage("null")
	}
	return raw
}

func TestRecordRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	lan := *b.resolve(t, consent.Person{Phone: "0901234567"})
	for _, r := range access.Roles {
		actor := access.Actor{Kind: "key", ID: uuid.New(), Role: r}
		_, record := b.Record(t.Context(), actor, lan, consent.Statement{Status: consent.Granted})
		_, set := b.SetSourceBasis(t.Context(), actor, "pbx", access.Basis{Basis: access.Consent})
		if may := r == access.PrivacyOfficer; may != (record == nil) || may != (set == nil) {
			t.Errorf("%s: %v, %v", r, record, set)
		}
	}
	if _, err := b.Record(t.Context(), b.officer, uuid.New(), consent.Statement{Status: consent.Granted}); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("nobody's consent: %v", err)
	}
	var wrong *invalid.Error
	if _, err := b.Record(t.Context(), b.officer, lan, consent.Statement{}); !errors.As(err, &wrong) || wrong.Fields[0].Location != "body.basis" {
		t.Errorf("an empty statement: %v", err)
	}
	b.scrub(t, lan)
	if _, err := b.Record(t.Context(), b.officer, lan, consent.Statement{Status: consent.Granted}); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("the consent of an erased customer: %v", err)
	}
	for source, basis := range map[string]access.Basis{
		" ": {Basis: access.Consent}, "a\x00": {Basis: access.Consent}, "pbx": {Basis: access.Contract}, "pbx2": {Basis: "habit"},
	} {
		if _, err := b.SetSourceBasis(t.Context(), b.officer, source, basis); !errors.As(err, &wrong) {
			t.Errorf("%q: %v", source, err)
		}
	}
}

func TestDecideReadsKeySourceAndRecord(t *testing.T) {
	t.Parallel()
	b := setup(t)
	lan := b.resolve(t, consent.Person{Phone: "0901234567"})
	minh := b.resolve(t, consent.Person{Phone: "0907654321"})
	plain := access.Actor{Role: access.Uploader}
	announcing := access.Actor{Role: access.Uploader, Basis: &access.Basis{Basis: access.Consent, Method: "announcement"}}
	decide := func(want string, actor access.Actor, source string, customer *uuid.UUID, said *consent.Statement) consent.Decision {
		t.Helper()
		d, err := b.Decide(t.Context(), b.db, actor, source, customer, said)
		if err != nil {
			t.Fatal(err)
		}
		if d.Outcome != want {
			t.Errorf("%s, not %s", d.Outcome, want)
		}
		return d
	}

	decide(consent.Unknown, plain, "pbx", lan, nil)
	decide(consent.Unknown, plain, "pbx", nil, nil)
	decide(consent.Covered, announcing, "pbx", nil, nil)
	set, err := b.SetSourceBasis(t.Context(), b.officer, "pbx", access.Basis{
		Basis: access.LegitimateInterests, Reason: "fraud", Purposes: []access.Purpose{access.Legal},
	})
	if err != nil {
		t.Fatal(err)
	}
	d := decide(consent.Lawful, plain, "pbx", nil, nil)
	want := &consent.Statement{
		Basis: access.LegitimateInterests, Status: consent.Granted, Reason: "fraud", Purposes: []access.Purpose{access.Legal},
	}
	if diff := cmp.Diff(want, d.Basis); diff != "" {
		t.Error(diff)
	}
	decide(consent.Unknown, plain, "another", nil, nil)
	b.record(t, *lan, consent.Statement{Status: consent.Refused})
	decide(consent.Declined, announcing, "another", lan, nil)
	decide(consent.Lawful, announcing, "pbx", lan, nil)
	decide(consent.Covered, announcing, "another", minh, nil)
	decide(consent.Covered, plain, "another", lan, &consent.Statement{Basis: access.Consent, Status: consent.Granted})
	decide(consent.Declined, announcing, "pbx", minh, &consent.Statement{Basis: access.Consent, Status: consent.Refused})

	again, err := b.SetSourceBasis(t.Context(), b.officer, "pbx", access.Basis{Basis: access.Consent, Method: "announcement"})
	if err != nil {
		t.Fatal(err)
	}
	decide(consent.Covered, plain, "pbx", nil, nil)
	all, err := b.SourceBases(t.Context(), b.officer)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]consent.SourceBasis{again}, all, cmpopts.EquateApproxTime(0)); diff != "" {
		t.Error(diff)
	}
	entry := fmt.Sprintf("%s consent.recorded source map[basis:legitimate_interests purposes:[legal] status:granted]", b.officer)
	if got := b.ledger(t)[0]; got != entry || set.RecordedBy != b.officer.PersonString() {
		t.Errorf("%q, not %q", got, entry)
	}
}

func TestAGrantReleasesInItsTransaction(t *testing.T) {
	t.Parallel()
	b := setup(t)
	lan := *b.resolve(t, consent.Person{Phone: "0901234567"})
	var released []consent.Grant
	var fails error
	b.OnGrant(func(_ context.Context, _ *db.Tx, g consent.Grant) error {
		released = append(released, g)
		return fails
	})
	b.record(t, lan, consent.Statement{Status: consent.Refused})
	b.record(t, lan, consent.Statement{Status: consent.Granted})
	if _, err := b.SetSourceBasis(t.Context(), b.officer, "pbx", access.Basis{Basis: access.Consent}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]consent.Grant{{Customer: &lan}, {Source: "pbx"}}, released); diff != "" {
		t.Error(diff)
	}
	fails = errors.New("the archive is full")
	if _, err := b.Record(t.Context(), b.officer, lan, consent.Statement{Status: consent.Granted}); !errors.Is(err, fails) {
		t.Errorf("%v", err)
	}
	if _, err := b.SetSourceBasis(t.Context(), b.officer, "chat", access.Basis{Basis: access.Consent}); !errors.Is(err, fails) {
		t.Errorf("%v", err)
	}
	all, err := b.Consents(t.Context(), b.officer, lan)
	if err != nil || len(all) != 2 || len(b.ledger(t)) != 3 {
		t.Errorf("what failed left something behind: %d statements, %d entries, %v", len(all), len(b.ledger(t)), err)
	}
}

// An interaction that is being taken in while a basis arrives either sees the
// basis or is seen by what releases it: else it stays in quarantine for ever.
func TestNothingSlipsBetweenDecidingAndReleasing(t *testing.T) {
	t.Parallel()
	for name, arrive := range map[string]func(b *bundle, customer uuid.UUID) error{
		"consent": func(b *bundle, customer uuid.UUID) error {
			_, err := b.Record(context.Background(), b.officer, customer, consent.Statement{Status: consent.Granted})
			return err
		},
		"source": func(b *bundle, _ uuid.UUID) error {
			_, err := b.SetSourceBasis(context.Background(), b.officer, "pbx", access.Basis{Basis: access.Consent})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			execute(t, b, `create table quarantined (id uuid)`)
			var seen int
			b.OnGrant(func(ctx context.Context, tx *db.Tx, _ consent.Grant) error {
				return tx.QueryRow(ctx, `select count(*) from quarantined`).Scan(&seen)
			})
			lan := b.resolve(t, consent.Person{Phone: "0901234567"})
			done := make(chan error, 1)
			err := b.db.Write(t.Context(), func(tx *db.Tx) error {
				customer, err := b.Resolve(t.Context(), tx, consent.Person{Phone: "0901234567"})
				if err != nil {
					return err
				}
				d, err := b.Decide(t.Context(), tx, access.Actor{Role: access.Uploader}, "pbx", customer, nil)
				if err != nil || d.Outcome != consent.Unknown {
					return errors.Join(err, fmt.Errorf("outcome %s", d.Outcome))
				}
				go func() { done <- arrive(b, *lan) }()
				if err := waitForLock(t.Context(), b.db); err != nil {
					return err
				}
				_, err = tx.Exec(t.Context(), `insert into quarantined values ($1)`, tx.NewID())
				return err
			})
			if err := errors.Join(err, <-done); err != nil {
				t.Fatal(err)
			}
			if seen != 1 {
				t.Error("the basis arrived, and what waits for it was not seen")
			}
		})
	}
}

func execute(t *testing.T, b *bundle, sql string) {
	t.Helper()
	err := b.db.Write(t.Context(), func(tx *db.Tx) error {
		_, err := tx.Exec(t.Context(), sql)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// waitForLock returns when some connection to this database waits for a lock.
func waitForLock(ctx context.Context, d *db.DB) error {
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		var waits bool
		err := d.QueryRow(ctx, `select exists (select from pg_stat_activity
			where datname = current_database() and wait_event_type = 'Lock')`).Scan(&waits)
		if err != nil || waits {
			return err
		}
		select {
		case <-poll.C:
		case <-deadline.C:
			return errors.New("nobody waits for a lock")
		}
	}
}

func TestCoversFollowsTheRecord(t *testing.T) {
	t.Parallel()
	b := setup(t)
	lan := b.resolve(t, consent.Person{Phone: "0901234567"})
	at := b.now
	basis := &consent.Statement{Basis: access.Consent, Status: consent.Granted, At: &at}
	purposes := []access.Purpose{access.QualityAssurance, access.Training}
	covers := func(want bool, customer *uuid.UUID, basis *consent.Statement, p access.Purpose) {
		t.Helper()
		got, err := b.Covers(t.Context(), b.db, customer, purposes, basis, p)
		if err != nil || got != want {
			t.Errorf("%s: %v, %v", p, got, err)
		}
	}
	covers(true, lan, basis, access.Training)
	covers(false, lan, basis, access.Legal)
	covers(false, lan, nil, access.Training)
	b.turn(time.Second)
	b.record(t, *lan, consent.Statement{Status: consent.Withdrawn, Purposes: []access.Purpose{access.Training}})
	covers(false, lan, basis, access.Training)
	covers(true, lan, basis, access.QualityAssurance)
	covers(true, nil, basis, access.Training)
	b.turn(time.Second)
	b.record(t, *lan, consent.Statement{Status: consent.Withdrawn})
	covers(false, lan, basis, access.QualityAssurance)
	contract := &consent.Statement{Basis: access.Contract, Status: consent.Granted, At: &at}
	covers(true, lan, contract, access.QualityAssurance)
	b.turn(time.Second)
	expires := b.now.Add(time.Minute)
	b.record(t, *lan, consent.Statement{Status: consent.Granted, ExpiresAt: &expires})
	covers(true, lan, basis, access.Training)
	b.turn(time.Minute)
	covers(false, lan, basis, access.Training)
}

// TestCoversAfterAnyHistory draws random histories of one customer and compares
// what is covered with a replay of them in the order of what was said.
func TestCoversAfterAnyHistory(t *testing.T) {
	t.Parallel()
	b := setup(t)
	purposes := []access.Purpose{access.QualityAssurance, access.Training}
	rapid.Check(t, func(t *rapid.T) {
		lan := *b.resolve(t, consent.Person{Name: "Lan"})
		kept := b.db.Now()
		basis := &consent.Statement{Basis: access.Consent, Status: consent.Granted, At: &kept}
		var history []consent.Recorded
		t.Repeat(map[string]func(*rapid.T){
			"say": func(t *rapid.T) {
				s := consent.Statement{
					Basis:    rapid.SampledFrom([]string{access.Consent, access.Consent, access.Contract}).Draw(t, "basis"),
					Status:   rapid.SampledFrom([]string{consent.Granted, consent.Refused, consent.Withdrawn}).Draw(t, "status"),
					Purposes: rapid.SampledFrom([][]access.Purpose{nil, purposes[:1], purposes[1:]}).Draw(t, "purposes"),
				}
				at := b.db.Now().Add(-time.Duration(rapid.IntRange(0, 4).Draw(t, "ago")) * time.Minute)
				s.At = &at
				if s.Status == consent.Granted && rapid.Bool().Draw(t, "ends") {
					end := at.Add(5 * time.Minute)
					s.ExpiresAt = &end
				}
				history = append(history, b.record(t, lan, s))
			},
			"wait": func(t *rapid.T) { b.turn(time.Minute) },
			"": func(t *rapid.T) {
				for _, p := range purposes {
					got, err := b.Covers(context.Background(), b.db, &lan, purposes, basis, p)
					if want := replay(history, kept, b.db.Now(), p); err != nil || got != want {
						t.Fatalf("%s: %v, not %v; %v", p, got, want, err)
					}
				}
			},
		})
	})
}

// replay begins with the consent that was given at kept and lets everything
// that was said of consent change it, oldest first; what has ended by now was
// never said.
func replay(history []consent.Recorded, kept, now time.Time, p access.Purpose) bool {
	slices.SortStableFunc(history, func(a, b consent.Recorded) int { return a.At.Compare(*b.At) })
	open, changed := true, kept
	for _, r := range history {
		ended := r.ExpiresAt != nil && !now.Before(*r.ExpiresAt)
		if r.Basis != access.Consent || ended || !slices.Contains(r.Purposes, p) || r.At.Before(changed) {
			continue
		}
		open, changed = r.Status == consent.Granted, *r.At
	}
	return open
}

func TestCustomersArePagedAndSearched(t *testing.T) {
	t.Parallel()
	b := setup(t)
	names := []string{"Nguyễn Thị Lan", "Trần Văn Đức", "Lê Minh", "", "Đặng Lan Anh"}
	var ids []uuid.UUID
	for i, name := range names {
		ids = append(ids, *b.resolve(t, consent.Person{Name: name, Phone: fmt.Sprintf("09012345%02d", i), Number: fmt.Sprintf("KH-%d", i)}))
	}
	b.scrub(t, ids[2])

	list := func(q consent.Query) []int {
		t.Helper()
		var got []int
		for {
			page, err := b.Customers(t.Context(), b.officer, q)
			if err != nil {
				t.Fatal(err)
			}
			if q.Limit > 0 && len(page.Items) > q.Limit {
				t.Errorf("%d on a page of %d", len(page.Items), q.Limit)
			}
			for _, c := range page.Items {
				for i := range ids {
					if ids[i] == c.ID {
						got = append(got, i)
					}
				}
			}
			if page.NextCursor == "" {
				return got
			}
			q.Cursor = page.NextCursor
		}
	}
	for _, limit := range []int{0, 1, 2, 4, 500, 9000} {
		if diff := cmp.Diff([]int{4, 3, 1, 0}, list(consent.Query{Limit: limit})); diff != "" {
			t.Errorf("limit %d: %s", limit, diff)
		}
	}
	for text, want := range map[string][]int{
		"lan": {4, 0}, "LAN": {4, 0}, "duc": {1}, "Đức": {1}, "tran van": {1}, "ngu thi": {0}, "nguyen duc": nil, "minh": nil,
		"KH-3": {3}, "kh-9": nil, "0901234501": {1}, "+84 901 234 501": {1}, "4501": {1}, "501": nil, ids[0].String(): {0},
		"'; drop table customers": nil, "& | !": nil, "lan:*": {4, 0}, "\x00": nil, "\xff": nil,
	} {
		if diff := cmp.Diff(want, list(consent.Query{Text: text, Limit: 1})); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
	var wrong *invalid.Error
	if _, err := b.Customers(t.Context(), b.officer, consent.Query{Cursor: "x"}); !errors.As(err, &wrong) {
		t.Errorf("a cursor of nowhere: %v", err)
	}
	for _, r := range access.Roles {
		_, err := b.Customers(t.Context(), access.Actor{Role: r}, consent.Query{})
		if may := (access.Actor{Role: r}).May(access.ReadCustomers) == nil; may != (err == nil) {
			t.Errorf("%s: %v", r, err)
		}
	}
}

// Invariant 6: a tombstone holds no personal data.
func TestAScrubbedCustomerIsATombstone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := consent.Person{Name: "Lan", Phone: "0901234567", Email: "lan@example.vn", Number: "KH-1"}
	lan := *b.resolve(t, p)
	b.record(t, lan, consent.Statement{
		Status: consent.Granted, Method: "secretmethod", Proof: json.RawMessage(`{"secretproof":1}`), Wording: "secretwording", Reason: "secretreason",
	})
	b.scrub(t, lan)
	erasedAt := b.now
	b.turn(time.Hour)
	b.scrub(t, lan)

	got, err := b.Customer(t.Context(), b.officer, lan)
	if err != nil {
		t.Fatal(err)
	}
	want := consent.Customer{ID: lan, Identifiers: []consent.Identifier{}, CreatedAt: erasedAt, ErasedAt: &erasedAt}
	if diff := cmp.Diff(want, got, cmpopts.EquateApproxTime(0)); diff != "" {
		t.Error(diff)
	}
	var left string
	err = b.db.QueryRow(t.Context(), `
		select coalesce(string_agg(c::text, ' '), '') || coalesce((select string_agg(i::text, ' ') from customer_identifiers i), '')
		from consents c`).Scan(&left)
	if err != nil || strings.Contains(left, "secret") || strings.Contains(left, "lan") || strings.Contains(left, "901") {
		t.Errorf("left: %s, %v", left, err)
	}
	if again := *b.resolve(t, p); again == lan {
		t.Error("who was erased is found again")
	}
	var wrong *invalid.Error
	err = b.db.Write(t.Context(), func(tx *db.Tx) error {
		_, err := b.Resolve(t.Context(), tx, consent.Person{ID: &lan})
		return err
	})
	if !errors.As(err, &wrong) || wrong.Fields[0].Location != "body.customer.id" {
		t.Errorf("the id of an erased customer: %v", err)
	}
	if _, err := b.Customer(t.Context(), b.officer, uuid.New()); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
}
