package lifecycle

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"earmark/internal/access"
	"earmark/internal/archive"
)

// machine is a model of what may and what must be destroyed, beside the real
// thing.
type machine struct {
	*bundle
	t *testing.T

	calls  map[uuid.UUID]*modelCall
	order  []uuid.UUID
	holds  map[uuid.UUID][]uuid.UUID // active ones
	purges map[uuid.UUID]*modelPurge // previewed and approved ones
	phones []string
	// erasing are those whose erasure was asked for.
	erasing map[string]bool
}

type modelCall struct {
	phone string
	// due is when retention ends; nil: never.
	due   *time.Time
	holds int
	// doomed: somebody with the right to said that it goes.
	doomed bool
	// shielded: it was held at some time after that, so that it may have stayed.
	shielded bool
	gone     bool
}

type modelPurge struct {
	items    []uuid.UUID
	approved bool
}

// sequencesFor is how long sequences are tried; one that fails is looked into
// for as long as it takes.
const sequencesFor = 15 * time.Second

// What random sequences of holds, purges, sweeps, erasures and deaths leave:
// nothing held is destroyed (invariant 5), nothing is destroyed that nobody
// doomed, everything doomed and free is (invariants 6 and 10), and every
// certificate is true.
func TestRandomSequences(t *testing.T) {
	t.Parallel()
	for name, store := range stores() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, over(store(t)))
			b.runBatch, b.holdBatch, b.sweepBatch = 2, 2, 3
			b.policy(t, NewPolicy{KeepDays: days(30), Match: Match{Queue: "billing"}})
			b.mustWork(t)
			var callers atomic.Int64
			var failed atomic.Bool
			deadline := time.Now().Add(sequencesFor)
			rapid.Check(t, func(r *rapid.T) {
				if !failed.Load() && time.Now().After(deadline) {
					return
				}
				defer func() { failed.Store(failed.Load() || r.Failed()) }()
				m := &machine{bundle: b, t: t, calls: map[uuid.UUID]*modelCall{}, holds: map[uuid.UUID][]uuid.UUID{},
					purges: map[uuid.UUID]*modelPurge{}, erasing: map[string]bool{}}
				// Nobody of an earlier sequence, whose erasure may still wait.
				for range 2 {
					m.phones = append(m.phones, fmt.Sprintf("09%08d", callers.Add(1)))
				}
				m.submit(r)
				r.Repeat(map[string]func(*rapid.T){
					"submit": m.submit, "hold": m.hold, "release": m.releaseOne, "preview": m.preview,
					"approve": m.approve, "cancel": m.cancel, "work": m.works, "die": m.dies,
					"erase": m.erases, "sweep": m.sweeps, "": m.check,
				})
				m.settle(r)
			})
			b.wantSound(t)
		})
	}
}

func (m *machine) fatal(r *rapid.T, err error) {
	if err != nil {
		r.Fatal(err)
	}
}

func (m *machine) some(r *rapid.T) []uuid.UUID {
	chosen := rapid.SliceOfNDistinct(rapid.SampledFrom(m.order), 1, min(4, len(m.order)), rapid.ID).Draw(r, "calls")
	return chosen
}

func (m *machine) submit(r *rapid.T) {
	phone := rapid.SampledFrom(m.phones).Draw(r, "caller")
	queue := rapid.SampledFrom([]string{"sales", "billing"}).Draw(r, "queue")
	id, err := m.bundle.submit(m.t.Context(), from(phone), inQueue(queue))
	m.fatal(r, err)
	m.calls[id] = &modelCall{phone: phone, due: m.retainUntil(m.t, id)}
	m.order = append(m.order, id)
}

func (m *machine) hold(r *rapid.T) {
	ids := m.some(r)
	h, err := m.PlaceHold(m.t.Context(), m.officer, NewHold{Matter: "m", Reason: "r", Interactions: ids})
	m.fatal(r, err)
	var placed []uuid.UUID
	for _, id := range ids {
		if slices.Contains(h.Gone, id) {
			if !m.calls[id].doomed {
				r.Fatalf("%s is said to be gone, and nobody doomed it", id)
			}
			m.calls[id].gone = true
			continue
		}
		m.calls[id].holds++
		m.calls[id].shielded = true
		placed = append(placed, id)
	}
	m.holds[h.ID] = placed
}

func key[V any](r *rapid.T, of map[uuid.UUID]V) uuid.UUID {
	if len(of) == 0 {
		r.Skip("none")
	}
	ids := slices.SortedFunc(maps.Keys(of), func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	return rapid.SampledFrom(ids).Draw(r, "which")
}

func (m *machine) releaseOne(r *rapid.T) {
	id := key(r, m.holds)
	_, err := m.RequestRelease(m.t.Context(), m.officer, id)
	m.fatal(r, err)
	if _, err := m.ApproveRelease(m.t.Context(), m.officer, id); !errors.Is(err, access.ErrSamePerson) {
		r.Fatalf("released by whoever asked: %v", err)
	}
	_, err = m.ApproveRelease(m.t.Context(), m.second, id)
	m.fatal(r, err)
	for _, call := range m.holds[id] {
		m.calls[call].holds--
	}
	delete(m.holds, id)
}

func (m *machine) preview(r *rapid.T) {
	ids := m.some(r)
	p, err := m.Preview(m.t.Context(), m.officer, NewPurge{Reason: "r", Interactions: ids})
	m.fatal(r, err)
	page, err := m.Items(m.t.Context(), m.auditor, p.ID, List{State: "pending"})
	m.fatal(r, err)
	model := &modelPurge{}
	for _, item := range page.Items {
		if m.calls[item.InteractionID].holds > 0 {
			r.Fatalf("%s is held, and not exempt in the preview", item.InteractionID)
		}
		model.items = append(model.items, item.InteractionID)
	}
	m.purges[p.ID] = model
}

func (m *machine) approve(r *rapid.T) {
	id := key(r, m.purges)
	if _, err := m.Approve(m.t.Context(), m.officer, id, true); err == nil {
		r.Fatal("approved by whoever asked")
	}
	p := m.purges[id]
	_, err := m.Approve(m.t.Context(), m.second, id, false)
	if p.approved {
		if !errors.Is(err, ErrState) {
			r.Fatalf("approved twice: %v", err)
		}
		return
	}
	m.fatal(r, err)
	p.approved = true
	m.doom(p.items...)
}

// doom says that calls go, and forgets what shielded them before.
func (m *machine) doom(ids ...uuid.UUID) {
	for _, id := range ids {
		call := m.calls[id]
		if call.doomed && !call.shielded {
			continue
		}
		call.doomed, call.shielded = true, call.holds > 0
	}
}

func (m *machine) cancel(r *rapid.T) {
	id := key(r, m.purges)
	_, err := m.Cancel(m.t.Context(), m.officer, id)
	if errors.Is(err, ErrState) && m.purges[id].approved {
		return // it has begun
	}
	m.fatal(r, err)
	for _, item := range m.purges[id].items {
		// It may still go by another's word.
		m.calls[item].shielded = true
	}
	delete(m.purges, id)
}

// works lets the workers work, who try again what is incomplete: what died in
// the middle of a commit may still hold its locks.
func (m *machine) works(r *rapid.T) {
	deadline := time.After(10 * time.Second)
	for {
		err := m.work(m.t)
		if !errors.Is(err, ErrIncomplete) {
			m.fatal(r, err)
			return
		}
		select {
		case <-deadline:
			r.Fatal(err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (m *machine) dies(r *rapid.T) {
	m.crashAt("", rapid.IntRange(1, 8).Draw(r, "moment"))
	err := m.work(m.t)
	m.crash = nil
	if err != nil && !errors.Is(err, errCrash) {
		r.Fatal(err)
	}
}

func (m *machine) erases(r *rapid.T) {
	phone := rapid.SampledFrom(m.phones).Draw(r, "customer")
	var theirs []uuid.UUID
	var customer *uuid.UUID
	for _, id := range m.order {
		if m.calls[id].phone != phone {
			continue
		}
		owner := value[*uuid.UUID](m.t, m.bundle, `select customer_id from interactions where id = $1`, id)
		if owner != nil {
			theirs, customer = append(theirs, id), owner
		}
	}
	if customer == nil {
		r.Skip("nobody")
	}
	_, err := m.Erase(m.t.Context(), m.privacy, *customer, "r")
	m.fatal(r, err)
	m.erasing[phone] = true
	for _, id := range theirs {
		// A release makes it go by itself: no hold shields it for good.
		m.calls[id].doomed, m.calls[id].shielded = true, false
	}
}

func (m *machine) sweeps(r *rapid.T) {
	m.clock.advance(time.Duration(rapid.IntRange(1, 20).Draw(r, "days")) * 24 * time.Hour)
	m.sweep(r)
}

func (m *machine) sweep(r *rapid.T) {
	m.fatal(r, m.Sweep(m.t.Context()))
	for _, call := range m.calls {
		if call.due != nil && !call.due.After(m.DB.Now()) {
			call.doomed, call.shielded = true, call.holds > 0
		}
	}
}

// check compares the model with what there is.
func (m *machine) check(r *rapid.T) {
	for id, state := range m.states(r) {
		call := m.calls[id]
		destroyed := state == archive.Purging || state == archive.Erased
		switch {
		case destroyed && call.holds > 0:
			r.Fatalf("%s is held by %d, and %s", id, call.holds, state)
		case destroyed && !call.doomed:
			// A job may have swept it, and new calls of a customer who is being
			// erased go with the others.
			if !m.erasing[call.phone] && (call.due == nil || call.due.After(m.DB.Now())) {
				r.Fatalf("%s is %s, and nobody doomed it", id, state)
			}
			call.doomed = true
		case call.gone && !destroyed:
			r.Fatalf("%s was gone, and is %s", id, state)
		}
		call.gone = destroyed
	}
}

func (m *machine) states(r *rapid.T) map[uuid.UUID]archive.State {
	rows, err := m.DB.Query(m.t.Context(), `select id, state from interactions where id = any($1)`, m.order)
	m.fatal(r, err)
	states := make(map[uuid.UUID]archive.State, len(m.order))
	var id uuid.UUID
	var state archive.State
	_, err = pgx.ForEachRow(rows, []any{&id, &state}, func() error {
		states[id] = state
		return nil
	})
	m.fatal(r, err)
	return states
}

// settle lets everything come to its end: then all that is doomed and was
// never shielded is gone, and no request waits without a hold.
func (m *machine) settle(r *rapid.T) {
	for range 3 {
		m.works(r)
		m.clock.advance(2 * otherPurgeRetry)
		m.sweep(r)
	}
	m.works(r)
	m.check(r)
	for id, state := range m.states(r) {
		call := m.calls[id]
		if call.doomed && !call.shielded && call.holds == 0 && state != archive.Erased {
			r.Fatalf("%s is doomed and free, and %s", id, state)
		}
		if n := m.objects(m.t, id); (n == 0) != (state == archive.Erased) {
			r.Fatalf("%s is %s, and the store has %d objects of it", id, state, n)
		}
	}
	for id, p := range m.purges {
		state := value[string](m.t, m.bundle, `select state from purges where id = $1`, id)
		if p.approved && state != "done" {
			r.Fatalf("purge %s is approved, and %s at the end", id, state)
		}
	}
	waiting := value[int](m.t, m.bundle, `
		select count(*) from erasure_requests r where state <> 'done' and not exists (
			select from interactions i join holds h on h.interaction_id = i.id where i.customer_id = r.customer_id)`)
	if waiting > 0 {
		r.Fatalf("%d requests wait for nothing", waiting)
	}
}
