package lifecycle

import (
	"errors"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/db"
	"earmark/internal/invalid"
)

const phone = "0912345678"

func (b *bundle) erase(t testing.TB, customer uuid.UUID) Erasure {
	t.Helper()
	e, err := b.Erase(t.Context(), b.privacy, customer, "asked for by telephone")
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (b *bundle) wantErasure(t testing.TB, id uuid.UUID, state string) Erasure {
	t.Helper()
	e, err := b.Erasure(t.Context(), b.privacy, id)
	if err != nil {
		t.Fatal(err)
	}
	if e.State != state {
		t.Errorf("the request is %s, want %s", e.State, state)
	}
	return e
}

func (b *bundle) wantForgotten(t testing.TB, customer uuid.UUID) {
	t.Helper()
	if n := value[int](t, b, `select count(*) from customer_identifiers where customer_id = $1`, customer); n != 0 {
		t.Errorf("the customer is still known by %d identifiers", n)
	}
	if value[bool](t, b, `select erased_at is null or name is not null from customers where id = $1`, customer) {
		t.Error("the customer is not erased")
	}
}

func TestErasureOfACustomer(t *testing.T) {
	t.Parallel()
	for name, store := range stores() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, over(store(t)))
			theirs, other := b.calls(t, 3, from(phone)), b.calls(t, 2, from("0987654321"))
			customer := b.customerOf(t, theirs[0])

			e := b.erase(t, customer)
			if e.State != "running" || len(e.Purges) != 1 || !e.DueAt.Equal(e.RequestedAt.Add(defaultErasureTerm)) {
				t.Errorf("request is %+v", e)
			}
			again := b.erase(t, customer)
			if again.ID != e.ID {
				t.Errorf("asked for again it is %s, want %s", again.ID, e.ID)
			}
			b.mustWork(t)
			b.wantGone(t, theirs...)
			b.wantKept(t, other...)
			e = b.wantErasure(t, e.ID, "done")
			if e.Reason != "" || e.DoneAt == nil {
				t.Errorf("done request is %+v, want no reason", e)
			}
			b.wantForgotten(t, customer)
			c := b.certificate(t, e.Purges[0])
			if len(c.Items) != 3 || c.Kind != "erasure" || *c.ErasureRequestID != e.ID || c.ApprovedBy != "customer:"+customer.String() {
				t.Errorf("certificate is %+v", c)
			}
			b.wantSound(t)
			if _, err := b.Erase(t.Context(), b.privacy, customer, "again"); !errors.Is(err, ErrState) {
				t.Errorf("erased once more: %v, want ErrState", err)
			}
		})
	}
}

func TestErasureWaitsForHolds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := b.calls(t, 3, from(phone))
	customer := b.customerOf(t, ids[0])
	one, two := b.held(t, ids[0], ids[1]), b.held(t, ids[1])

	e := b.erase(t, customer)
	b.wantState(t, archive.Restricted, ids[0], ids[1])
	b.mustWork(t)
	b.wantGone(t, ids[2])
	b.wantErasure(t, e.ID, "waiting_for_hold")

	b.release(t, one.ID)
	b.mustWork(t)
	b.wantGone(t, ids[0])
	b.wantKept(t, ids[1])
	b.wantErasure(t, e.ID, "waiting_for_hold")

	b.release(t, two.ID)
	b.mustWork(t)
	b.wantGone(t, ids...)
	e = b.wantErasure(t, e.ID, "done")
	b.wantForgotten(t, customer)
	var certified []uuid.UUID
	for _, purge := range e.Purges {
		for _, item := range b.certificate(t, purge).Items {
			certified = append(certified, item.InteractionID)
		}
	}
	if diff := cmp.Diff(sorted(ids), sorted(certified)); diff != "" {
		t.Errorf("certified by all purges (-want +got):\n%s", diff)
	}
	b.wantSound(t)
}

func TestErasureTakesWhatComesInMeanwhile(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := b.calls(t, 2, from(phone))
	customer := b.customerOf(t, ids[0])
	hold := b.held(t, ids[0])
	e := b.erase(t, customer)
	later := b.call(t, from(phone))
	b.mustWork(t)
	if b.customerOf(t, later) != customer && b.state(t, later) == archive.Active {
		t.Fatal("the later call is another customer's")
	}
	b.wantGone(t, ids[1], later)
	waiting := b.call(t, from(phone))
	if err := b.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.mustWork(t)
	b.wantGone(t, waiting)
	b.release(t, hold.ID)
	b.mustWork(t)
	b.wantGone(t, ids...)
	b.wantErasure(t, e.ID, "done")

	// Who calls after that is somebody new.
	fresh := b.call(t, from(phone))
	if err := b.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.mustWork(t)
	b.wantKept(t, fresh)
	if b.customerOf(t, fresh) == customer {
		t.Error("an erased customer has come back")
	}
	b.wantSound(t)
}

func TestErasureOfACustomerWithoutInteractions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.call(t, from(phone))
	customer := b.customerOf(t, id)
	b.run(t, b.approved(t, id))
	e := b.erase(t, customer)
	b.mustWork(t)
	e = b.wantErasure(t, e.ID, "done")
	b.wantForgotten(t, customer)
	if c := b.certificate(t, e.Purges[0]); len(c.Items) != 0 {
		t.Errorf("certified are %d items, want none", len(c.Items))
	}
}

// A customer is not forgotten while another purge still has something of them.
func TestErasureWaitsForAnotherPurge(t *testing.T) {
	t.Parallel()
	f := &failing{Store: disk(t)}
	b := setup(t, over(f))
	ids := b.calls(t, 4, from(phone))
	customer := b.customerOf(t, ids[0])
	purge := b.approved(t, ids...)
	if err := b.Run(t.Context(), purge); !errors.Is(err, ErrIncomplete) {
		t.Fatalf("run: %v, want ErrIncomplete", err)
	}
	e := b.erase(t, customer)
	b.wantErasure(t, e.ID, "running")
	if n := value[int](t, b, `select count(*) from customer_identifiers where customer_id = $1`, customer); n == 0 {
		t.Error("the customer is forgotten before all of them is gone")
	}
	f.healthy.Store(true)
	b.run(t, purge)
	b.clock.advance(otherPurgeRetry * 2)
	b.mustWork(t)
	b.wantErasure(t, e.ID, "done")
	b.wantGone(t, ids...)
	b.wantForgotten(t, customer)
	b.wantSound(t)
}

func TestErasureIsForPrivacyOfficers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	customer := b.customerOf(t, b.call(t, from(phone)))
	for _, actor := range []access.Actor{b.officer, b.auditor, b.uploader} {
		if _, err := b.Erase(t.Context(), actor, customer, "r"); !errors.Is(err, access.ErrForbidden) {
			t.Errorf("by a %s: %v, want ErrForbidden", actor.Role, err)
		}
	}
	var fields *invalid.Error
	if _, err := b.Erase(t.Context(), b.privacy, customer, " "); !errors.As(err, &fields) {
		t.Errorf("without a reason: %v, want an invalid.Error", err)
	}
	if _, err := b.Erase(t.Context(), b.privacy, uuid.New(), "r"); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("of nobody: %v, want ErrNotFound", err)
	}
}

// Calls, holds and releases at once with an erasure: in the end nothing of the
// customer is left, and whoever was taken in after that is another.
func TestErasureUnderWay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := b.calls(t, 4, from(phone))
	customer := b.customerOf(t, ids[0])
	var group sync.WaitGroup
	group.Go(func() {
		for range 15 {
			if _, err := b.submit(t.Context(), from(phone)); err != nil {
				t.Error(err)
			}
		}
	})
	group.Go(func() {
		for _, id := range ids {
			h, err := b.PlaceHold(t.Context(), b.officer, NewHold{Matter: "m", Reason: "r", Interactions: []uuid.UUID{id}})
			if err != nil {
				t.Error(err)
				continue
			}
			if _, err := b.RequestRelease(t.Context(), b.officer, h.ID); err != nil {
				t.Error(err)
			}
			if _, err := b.ApproveRelease(t.Context(), b.second, h.ID); err != nil {
				t.Error(err)
			}
		}
	})
	e := b.erase(t, customer)
	for range 5 {
		b.mustWork(t)
	}
	group.Wait()
	b.mustWork(t)
	b.clock.advance(otherPurgeRetry * 2)
	b.mustWork(t)
	if err := b.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.mustWork(t)
	b.wantErasure(t, e.ID, "done")
	b.wantGone(t, ids...)
	b.wantForgotten(t, customer)
	if n := value[int](t, b, `select count(*) from interactions where customer_id = $1`, customer); n != 0 {
		t.Errorf("%d interactions are still the erased customer's", n)
	}
	b.wantSound(t)
}

// Numbers that staff looked for go with the customer they are of.
func TestErasureForgetsWhatWasLookedFor(t *testing.T) {
	t.Parallel()
	b := setup(t)
	theirs, other := b.call(t, from(phone)), b.call(t, from("0987654321"))
	customer := b.customerOf(t, theirs)
	for _, number := range []string{phone, "+84 912 345 678", "5678", "0987654321", "someone@example.com"} {
		n := NewPurge{Reason: "r", Filter: &archive.Query{Customer: number}}
		if _, err := b.Preview(t.Context(), b.officer, n); err != nil {
			t.Fatal(err)
		}
	}
	h, err := b.PlaceHold(t.Context(), b.officer, NewHold{Matter: "m", Reason: "r", Filter: &archive.Query{Customer: phone}})
	if err != nil {
		t.Fatal(err)
	}
	if h.Interactions != 1 {
		t.Errorf("the hold has %d interactions, want 1", h.Interactions)
	}
	b.erase(t, customer)
	b.release(t, h.ID)
	b.mustWork(t)
	b.wantForgotten(t, customer)
	b.wantKept(t, other)
	kept := value[[]string](t, b, `select array_agg(filter ->> 'customer' order by filter ->> 'customer') from (
		select filter from purges union all select filter from legal_holds) f where filter ? 'customer'`)
	if diff := cmp.Diff([]string{"0987654321", "someone@example.com"}, kept); diff != "" {
		t.Errorf("filters that name a customer (-want +got):\n%s", diff)
	}
}
