package lifecycle

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/db"
	"earmark/internal/invalid"
)

func TestHoldOnAList(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ids := b.calls(t, 3)
	b.run(t, b.approved(t, ids[2]))
	h := b.held(t, ids...)
	if h.Interactions != 2 || h.State != "active" {
		t.Errorf("hold is %+v", h)
	}
	if diff := cmp.Diff([]uuid.UUID{ids[2]}, h.Gone); diff != "" {
		t.Errorf("told to be gone (-want +got):\n%s", diff)
	}
	purge := b.approved(t, ids...)
	b.run(t, purge)
	b.wantKept(t, ids[:2]...)
	want := []CertifiedExempt{{ids[0], "held_legal"}, {ids[1], "held_legal"}, {ids[2], "already_gone"}}
	if diff := cmp.Diff(want, b.certificate(t, purge).Exempt); diff != "" {
		t.Errorf("certified exemptions (-want +got):\n%s", diff)
	}
}

func TestHoldOnASearch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.holdBatch = 4
	matching, other := b.calls(t, 11, inQueue("billing")), b.call(t)
	n := NewHold{Matter: "m", Reason: "r", Filter: &archive.Query{Queue: "billing"}}

	b.crashAt("hold_batch_placed", 2)
	if _, err := b.PlaceHold(t.Context(), b.officer, n); !errors.Is(err, errCrash) {
		t.Fatalf("place: %v, want a crash", err)
	}
	b.crash = nil
	page, err := b.Holds(t.Context(), b.auditor, List{})
	if err != nil || len(page.Items) != 1 || !page.Items[0].Placing || page.Items[0].Interactions != 8 {
		t.Fatalf("after two batches: %+v, %v", page.Items, err)
	}
	b.clock.advance(2 * holdGrace)
	b.mustWork(t)
	h, err := b.Hold(t.Context(), b.auditor, page.Items[0].ID)
	if err != nil || h.Placing || h.Interactions != 11 {
		t.Errorf("at the end: %+v, %v; want 11 held", h, err)
	}

	if _, err := b.RequestRelease(t.Context(), b.officer, h.ID); err != nil {
		t.Fatal(err)
	}
	b.crashAt("hold_batch_released", 1)
	if _, err := b.ApproveRelease(t.Context(), b.second, h.ID); !errors.Is(err, errCrash) {
		t.Fatalf("release: %v, want a crash", err)
	}
	b.crash = nil
	b.clock.advance(2 * holdGrace)
	b.mustWork(t)
	if n := value[int](t, b, `select count(*) from holds`); n != 0 {
		t.Errorf("a released hold still holds %d", n)
	}
	b.run(t, b.approved(t, matching...))
	b.wantGone(t, matching...)
	b.wantKept(t, other)
}

// Invariant 9: two people.
func TestReleaseNeedsTwoPeople(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.call(t)
	h := b.held(t, id)
	if _, err := b.ApproveRelease(t.Context(), b.second, h.ID); !errors.Is(err, ErrState) {
		t.Errorf("released without being asked for: %v, want ErrState", err)
	}
	if _, err := b.RequestRelease(t.Context(), b.second, h.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := b.RequestRelease(t.Context(), b.officer, h.ID); !errors.Is(err, ErrState) {
		t.Errorf("asked for twice: %v, want ErrState", err)
	}
	if _, err := b.ApproveRelease(t.Context(), b.second, h.ID); !errors.Is(err, access.ErrSamePerson) {
		t.Errorf("released by whoever asked: %v, want ErrSamePerson", err)
	}
	b.run(t, b.approved(t, id))
	b.wantKept(t, id)
	released, err := b.ApproveRelease(t.Context(), b.officer, h.ID)
	if err != nil || released.State != "released" || released.Interactions != 0 {
		t.Errorf("released by another: %+v, %v", released, err)
	}
	b.run(t, b.approved(t, id))
	b.wantGone(t, id)
}

func TestHoldIsChecked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.call(t)
	for name, n := range map[string]NewHold{
		"no matter":           {Reason: "r", Interactions: []uuid.UUID{id}},
		"no reason":           {Matter: "m", Interactions: []uuid.UUID{id}},
		"nothing":             {Matter: "m", Reason: "r"},
		"a list and a filter": {Matter: "m", Reason: "r", Interactions: []uuid.UUID{id}, Filter: &archive.Query{}},
		"an unknown one":      {Matter: "m", Reason: "r", Interactions: []uuid.UUID{id, uuid.New()}},
	} {
		var fields *invalid.Error
		if _, err := b.PlaceHold(t.Context(), b.officer, n); !errors.As(err, &fields) {
			t.Errorf("%s: %v, want an invalid.Error", name, err)
		}
	}
	if n := value[int](t, b, `select count(*) from legal_holds`); n != 0 {
		t.Errorf("%d holds were written down, want none", n)
	}
	if _, err := b.Hold(t.Context(), b.auditor, uuid.New()); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("an unknown hold: %v, want ErrNotFound", err)
	}
}

// schedules is how many random interleavings of holds and purges are tried.
const schedules = 1000

// Invariant 5: a hold wins. Placed while a purge runs, it either stops the
// purge for that item or its placer is told that the item is gone.
func TestHoldsPlacedWhileAPurgeRuns(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.runBatch = 2
	const lanes = 4
	var group sync.WaitGroup
	for lane := range lanes {
		group.Go(func() {
			for n := lane; n < schedules && !t.Failed(); n += lanes {
				if err := b.schedule(t, uint64(n)); err != nil {
					t.Errorf("schedule %d: %v", n, err)
				}
			}
		})
	}
	group.Wait()
	b.wantSound(t)
}

// schedule lets holds begin at a random moment of a purge.
func (b *bundle) schedule(t *testing.T, seed uint64) error {
	random := rand.New(rand.NewPCG(seed, 5))
	ids := make([]uuid.UUID, 1+random.IntN(5))
	for i := range ids {
		var err error
		if ids[i], err = b.bare(t); err != nil {
			return err
		}
	}
	p, err := b.Preview(t.Context(), b.officer, NewPurge{Reason: "r", Interactions: ids})
	if err != nil {
		return err
	}
	if _, err := b.Approve(t.Context(), b.second, p.ID, false); err != nil {
		return err
	}

	// A runner of its own, whose moments start the holds.
	runner := *b.Lifecycle
	start, once := make(chan struct{}), sync.Once{}
	moments, dies := random.IntN(6), random.IntN(3) == 0
	var mu sync.Mutex
	runner.crash = func(string) error {
		mu.Lock()
		defer mu.Unlock()
		if moments--; moments >= 0 {
			return nil
		}
		once.Do(func() { close(start) })
		if dies {
			dies = false
			return errCrash
		}
		return nil
	}
	placers := make([][]uuid.UUID, 1+random.IntN(2))
	for i := range placers {
		for _, id := range ids {
			if random.IntN(2) == 0 {
				placers[i] = append(placers[i], id)
			}
		}
	}
	var (
		group sync.WaitGroup
		told  = make([]Hold, len(placers))
		fails = make([]error, len(placers)+1)
	)
	for i, chosen := range placers {
		if len(chosen) == 0 {
			continue
		}
		group.Go(func() {
			<-start
			told[i], fails[i] = b.PlaceHold(t.Context(), b.officer, NewHold{Matter: "m", Reason: "r", Interactions: chosen})
		})
	}
	group.Go(func() {
		// What dies in the middle of a commit may come to be committed only
		// after the next run has looked.
		err := errCrash
		for errors.Is(err, errCrash) || errors.Is(err, ErrIncomplete) {
			err = runner.Run(t.Context(), p.ID)
		}
		fails[len(placers)] = err
		once.Do(func() { close(start) })
	})
	group.Wait()
	if err := errors.Join(fails...); err != nil {
		return err
	}
	return b.judge(t, p.ID, ids, placers, told)
}

// judge looks for the third case.
func (b *bundle) judge(t *testing.T, purge uuid.UUID, ids []uuid.UUID, placers [][]uuid.UUID, told []Hold) error {
	held, gone := map[uuid.UUID]bool{}, map[uuid.UUID]bool{}
	for i, chosen := range placers {
		late := map[uuid.UUID]bool{}
		for _, id := range told[i].Gone {
			late[id], gone[id] = true, true
		}
		for _, id := range chosen {
			if !late[id] {
				held[id] = true
			}
		}
		if want := len(chosen) - len(late); told[i].Interactions != want {
			return fmt.Errorf("hold says %d, want %d", told[i].Interactions, want)
		}
	}
	for _, id := range ids {
		var state archive.State
		var hasKey, isHeld bool
		err := b.DB.QueryRow(t.Context(), `
			select state, wrapped_key is not null, exists (select from holds where interaction_id = i.id)
			from interactions i where id = $1`, id).Scan(&state, &hasKey, &isHeld)
		if err != nil {
			return err
		}
		switch {
		case held[id] && gone[id]:
			return fmt.Errorf("%s: held for one and gone for another", id)
		case held[id] && (state != archive.Active || !hasKey || !isHeld):
			return fmt.Errorf("%s: held, and %s", id, state)
		case !held[id] && (state != archive.Erased || hasKey || isHeld):
			return fmt.Errorf("%s: not held, and %s", id, state)
		}
	}
	c, err := b.Certificate(t.Context(), b.auditor, purge)
	if err != nil {
		return err
	}
	certified, err := VerifyCertificate(c, b.verifier)
	if err != nil {
		return err
	}
	for _, item := range certified.Items {
		if held[item.InteractionID] {
			return fmt.Errorf("%s: held, and certified as gone", item.InteractionID)
		}
	}
	if len(certified.Items)+len(held) != len(ids) || len(certified.Exempt) != len(held) {
		return fmt.Errorf("of %d, %d held: certified are %d, exempt %d", len(ids), len(held), len(certified.Items), len(certified.Exempt))
	}
	return nil
}

// bare takes in an interaction without audio, which is quick.
func (b *bundle) bare(t *testing.T) (uuid.UUID, error) {
	n := archive.NewInteraction{Metadata: archive.Metadata{
		Source: "pbx", SourceID: uuid.NewString(), Channel: "chat", StartedAt: b.DB.Now(),
	}, Messages: []archive.Message{{From: "customer", Text: "hello"}}}
	i, _, err := b.Archive.Submit(t.Context(), b.uploader, n)
	return i.ID, err
}
