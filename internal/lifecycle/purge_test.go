package lifecycle

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/blob"
	"earmark/internal/db"
	"earmark/internal/invalid"
)

func TestPurgeFromPreviewToCertificate(t *testing.T) {
	t.Parallel()
	for name, store := range stores() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, over(store(t)))
			doomed, other, held := b.calls(t, 3), b.call(t), b.call(t)
			b.held(t, held)

			p, err := b.Preview(t.Context(), b.officer, NewPurge{Reason: "case closed", Interactions: append(doomed, held)})
			if err != nil {
				t.Fatal(err)
			}
			if p.Items != 3 || p.Exempt != 1 || p.ExemptBy["held_legal"] != 1 || len(p.Examples) != 3 || p.Bytes != 3*int64(len(wav())) {
				t.Errorf("preview is %+v, %+v", p, *p.PurgeDetail)
			}
			b.wantKept(t, doomed...)
			if err := b.Run(t.Context(), p.ID); !errors.Is(err, ErrState) {
				t.Errorf("running what nobody approved: %v, want ErrState", err)
			}
			if _, err := b.Approve(t.Context(), b.second, p.ID, false); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Certificate(t.Context(), b.auditor, p.ID); !errors.Is(err, ErrState) {
				t.Errorf("certificate before the end: %v, want ErrState", err)
			}
			b.mustWork(t)

			b.wantGone(t, doomed...)
			b.wantKept(t, other, held)
			c := b.certificate(t, p.ID)
			if len(c.Items) != 3 || len(c.Remaining) != 0 || c.Reason != "case closed" {
				t.Errorf("certificate is %+v", c)
			}
			for _, item := range c.Items {
				if item.Recordings != 1 || item.VersionsRemoved != 1 || item.Bytes != int64(len(wav())) ||
					item.KeyDestroyedAt.After(item.GoneAt) || item.GoneAt.After(c.FinishedAt) {
					t.Errorf("certified item is %+v", item)
				}
			}
			want := []CertifiedExempt{{held, "held_legal"}}
			if diff := cmp.Diff(want, c.Exempt); diff != "" {
				t.Errorf("certified exemptions (-want +got):\n%s", diff)
			}
			b.wantSound(t)
		})
	}
}

// Invariant 9: two people.
func TestNobodyApprovesTheirOwnPurge(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p, err := b.Preview(t.Context(), b.officer, NewPurge{Reason: "case closed", Interactions: b.calls(t, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ownKey := access.Actor{Kind: "key", ID: uuid.New(), Person: b.officer.Person, Role: access.RecordsOfficer}
	for name, actor := range map[string]access.Actor{"the same person": b.officer, "the same person's key": ownKey} {
		if _, err := b.Approve(t.Context(), actor, p.ID, false); !errors.Is(err, access.ErrSamePerson) {
			t.Errorf("approved by %s: %v, want ErrSamePerson", name, err)
		}
	}
	if _, err := b.Approve(t.Context(), b.auditor, p.ID, false); !errors.Is(err, access.ErrForbidden) {
		t.Errorf("approved by an auditor: %v, want ErrForbidden", err)
	}
	if _, err := b.Approve(t.Context(), b.second, p.ID, false); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Approve(t.Context(), b.second, p.ID, false); !errors.Is(err, ErrState) {
		t.Errorf("approved twice: %v, want ErrState", err)
	}
}

func TestCancelledPurgeDestroysNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.call(t)
	purge := b.approved(t, id)
	if _, err := b.Cancel(t.Context(), b.officer, purge); err != nil {
		t.Fatal(err)
	}
	b.mustWork(t)
	b.wantKept(t, id)
	if _, err := b.Approve(t.Context(), b.second, purge, false); !errors.Is(err, ErrState) {
		t.Errorf("approving it: %v, want ErrState", err)
	}
	done := b.approved(t, id)
	b.run(t, done)
	if _, err := b.Cancel(t.Context(), b.officer, done); !errors.Is(err, ErrState) {
		t.Errorf("cancelling what is done: %v, want ErrState", err)
	}
}

func TestPreviewRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.call(t)
	for name, n := range map[string]NewPurge{
		"no reason":           {Interactions: []uuid.UUID{id}},
		"nothing":             {Reason: "r"},
		"a list and a filter": {Reason: "r", Interactions: []uuid.UUID{id}, Filter: &archive.Query{}},
		"an unknown one":      {Reason: "r", Interactions: []uuid.UUID{id, uuid.New()}},
	} {
		var fields *invalid.Error
		if _, err := b.Preview(t.Context(), b.officer, n); !errors.As(err, &fields) {
			t.Errorf("%s: %v, want an invalid.Error", name, err)
		}
	}
	if _, err := b.Preview(t.Context(), b.uploader, NewPurge{Reason: "r", Interactions: []uuid.UUID{id}}); !errors.Is(err, access.ErrForbidden) {
		t.Errorf("asked by an uploader: %v, want ErrForbidden", err)
	}
	if n := value[int](t, b, `select count(*) from purges`); n != 0 {
		t.Errorf("%d purges were written down, want none", n)
	}
}

func TestPreviewBySearchFindsAllPages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	many := b.calls(t, 60, inQueue("billing"))
	other := b.call(t)
	p, err := b.Preview(t.Context(), b.officer, NewPurge{Reason: "r", Filter: &archive.Query{Queue: "billing"}})
	if err != nil {
		t.Fatal(err)
	}
	if p.Items != 60 || len(p.Examples) != maxExamples {
		t.Errorf("%d items and %d examples, want 60 and %d", p.Items, len(p.Examples), maxExamples)
	}
	if _, err := b.Approve(t.Context(), b.second, p.ID, false); err != nil {
		t.Fatal(err)
	}
	b.mustWork(t)
	b.wantGone(t, many...)
	b.wantKept(t, other)
	var listed []uuid.UUID
	for list := (List{Limit: 25}); ; {
		page, err := b.Items(t.Context(), b.auditor, p.ID, list)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range page.Items {
			listed = append(listed, item.InteractionID)
		}
		if list.Cursor = page.NextCursor; list.Cursor == "" {
			break
		}
	}
	if diff := cmp.Diff(sorted(many), listed); diff != "" {
		t.Errorf("items listed (-want +got):\n%s", diff)
	}
}

func TestGuardRailIsOverriddenTwice(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		rail   GuardRail
		before time.Duration
		items  int
	}{
		"too large a share": {GuardRail{MaxShare: 0.5, SmallArchive: 5, MinAge: time.Hour}, 2 * time.Hour, 6},
		"too young":         {GuardRail{MaxShare: 1, SmallArchive: 5, MinAge: time.Hour}, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, guardedBy(test.rail))
			ids := b.calls(t, 10)
			b.clock.advance(test.before)
			n := NewPurge{Reason: "r", Interactions: ids[:test.items]}
			var refused *GuardRailError
			if _, err := b.Preview(t.Context(), b.officer, n); !errors.As(err, &refused) || !errors.Is(err, ErrGuardRail) {
				t.Fatalf("said once: %v, want a GuardRailError", err)
			}
			if refused.Items != test.items || refused.Archive != 10 {
				t.Errorf("refusal is %+v", refused)
			}
			n.Override = true
			p, err := b.Preview(t.Context(), b.officer, n)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.Approve(t.Context(), b.second, p.ID, false); !errors.Is(err, ErrGuardRail) {
				t.Errorf("approved without saying it again: %v, want ErrGuardRail", err)
			}
			if _, err := b.Approve(t.Context(), b.second, p.ID, true); err != nil {
				t.Errorf("said twice: %v", err)
			}
		})
	}
}

func TestGuardRailHoldsAtApprovalToo(t *testing.T) {
	t.Parallel()
	b := setup(t, guardedBy(GuardRail{MaxShare: 0.5, SmallArchive: 2, MinAge: -time.Hour}))
	ids := b.calls(t, 10)
	p, err := b.Preview(t.Context(), b.officer, NewPurge{Reason: "r", Interactions: ids[:5]})
	if err != nil {
		t.Fatal(err)
	}
	b.run(t, b.approved(t, ids[5:]...))
	if _, err := b.Approve(t.Context(), b.second, p.ID, true); !errors.Is(err, ErrGuardRail) {
		t.Errorf("approving what has become the whole archive: %v, want ErrGuardRail", err)
	}
}

// Invariant 6: gone is gone, and proven, whatever dies on the way.
func TestDeathAtEachStep(t *testing.T) {
	t.Parallel()
	for _, moment := range []string{"approved", "batch_destroyed", "objects_removed", "batch_done", "before_certificate"} {
		for name, store := range stores() {
			t.Run(moment+" on "+name, func(t *testing.T) {
				t.Parallel()
				b := setup(t, over(store(t)))
				b.runBatch = 2
				doomed, held := b.calls(t, 7), b.call(t)
				purge := b.approved(t, append(doomed, held)...)
				b.held(t, held)
				b.crashAt(moment, 1)
				if err := b.Run(t.Context(), purge); !errors.Is(err, errCrash) {
					t.Fatalf("run: %v, want a crash", err)
				}
				if _, err := b.Certificate(t.Context(), b.auditor, purge); !errors.Is(err, ErrState) {
					t.Errorf("certificate after the crash: %v, want none", err)
				}
				b.crashAt(moment, 2)
				if err := b.Run(t.Context(), purge); err != nil && !errors.Is(err, errCrash) {
					t.Fatal(err)
				}
				b.crash = nil
				b.mustWork(t)
				b.wantGone(t, doomed...)
				b.wantKept(t, held)
				if c := b.certificate(t, purge); len(c.Items) != 7 || len(c.Exempt) != 1 {
					t.Errorf("certified are %d, exempt %d; want 7 and 1", len(c.Items), len(c.Exempt))
				}
				b.wantSound(t)
			})
		}
	}
}

func TestRunnersAtOnce(t *testing.T) {
	t.Parallel()
	for name, store := range stores() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, over(store(t)))
			b.runBatch = 3
			doomed := b.calls(t, 40)
			purge := b.approved(t, doomed...)
			var group sync.WaitGroup
			for range 3 {
				group.Go(func() {
					if err := b.Run(t.Context(), purge); err != nil && !errors.Is(err, ErrIncomplete) {
						t.Error(err)
					}
				})
			}
			group.Wait()
			b.run(t, purge)
			b.wantGone(t, doomed...)
			if c := b.certificate(t, purge); len(c.Items) != 40 {
				t.Errorf("certified are %d, want 40", len(c.Items))
			}
			entries := value[int](t, b, `select count(*) from ledger_pending where entry::jsonb ->> 'action' = 'interaction.erased'`)
			if entries != 40 {
				t.Errorf("the ledger says %d times that an interaction was erased, want 40", entries)
			}
			b.wantSound(t)
		})
	}
}

// Two purges of the same interactions: each is certified by the one that
// destroyed it.
func TestPurgesOfTheSame(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.runBatch = 2
	doomed := b.calls(t, 20)
	purges := []uuid.UUID{b.approved(t, doomed...), b.approved(t, doomed...)}
	var group sync.WaitGroup
	for _, purge := range purges {
		group.Go(func() {
			if err := b.Run(t.Context(), purge); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	b.wantGone(t, doomed...)
	certified := map[uuid.UUID]int{}
	for _, purge := range purges {
		c := b.certificate(t, purge)
		if len(c.Items)+len(c.Exempt) != 20 {
			t.Errorf("certificate accounts for %d, want 20", len(c.Items)+len(c.Exempt))
		}
		for _, item := range c.Items {
			certified[item.InteractionID]++
		}
	}
	for _, id := range doomed {
		if certified[id] != 1 {
			t.Errorf("%s is certified %d times, want once", id, certified[id])
		}
	}
	b.wantSound(t)
}

// failing deletes only each second object that it is asked to, and either says
// so or does not.
type failing struct {
	blob.Store
	lies    bool
	healthy atomic.Bool
	asked   atomic.Int64
}

func (f *failing) Delete(ctx context.Context, refs ...blob.Ref) ([]blob.Kept, error) {
	if f.healthy.Load() {
		return f.Store.Delete(ctx, refs...)
	}
	var kept []blob.Kept
	var pass []blob.Ref
	for _, ref := range refs {
		if f.asked.Add(1)%2 == 0 {
			kept = append(kept, blob.Kept{Ref: ref, Err: blob.ErrUnconfirmed})
			continue
		}
		pass = append(pass, ref)
	}
	refused, err := f.Store.Delete(ctx, pass...)
	if f.lies {
		return refused, err
	}
	return append(refused, kept...), err
}

// Invariant 6: nothing is certified that is not gone.
func TestStoreThatFailsEachSecondDelete(t *testing.T) {
	t.Parallel()
	for name, store := range stores() {
		for what, lies := range map[string]bool{"says so": false, "lies": true} {
			t.Run(name+" "+what, func(t *testing.T) {
				t.Parallel()
				f := &failing{Store: store(t), lies: lies}
				b := setup(t, over(f))
				b.runBatch = 4
				doomed := b.calls(t, 12)
				purge := b.approved(t, doomed...)
				if err := b.Run(t.Context(), purge); !errors.Is(err, ErrIncomplete) {
					t.Fatalf("run: %v, want ErrIncomplete", err)
				}
				if _, err := b.Certificate(t.Context(), b.auditor, purge); !errors.Is(err, ErrState) {
					t.Fatalf("certificate: %v, want none", err)
				}
				page, err := b.Items(t.Context(), b.auditor, purge, List{})
				if err != nil {
					t.Fatal(err)
				}
				stuck := 0
				for _, item := range page.Items {
					left := b.objects(t, item.InteractionID)
					switch {
					case item.State == "gone" && left > 0:
						t.Errorf("%s is said to be gone, and %d objects are there", item.InteractionID, left)
					case item.State == "purging":
						stuck++
						if left == 0 || item.Attempts != 1 || item.LastError == nil {
							t.Errorf("%s: %d objects left, %d attempts, last error %v", item.InteractionID, left, item.Attempts, item.LastError)
						}
					}
				}
				if stuck == 0 {
					t.Error("nothing is stuck: the store did not fail")
				}
				for range 20 {
					if err = b.Run(t.Context(), purge); err == nil {
						break
					}
				}
				if err != nil {
					t.Fatalf("still not done: %v", err)
				}
				b.wantGone(t, doomed...)
				b.wantSound(t)
			})
		}
	}
}

// unreachable is a store that cannot be asked.
type unreachable struct {
	blob.Store
	down atomic.Bool
}

func (u *unreachable) Delete(ctx context.Context, refs ...blob.Ref) ([]blob.Kept, error) {
	if u.down.Load() {
		return nil, blob.ErrUnavailable
	}
	return u.Store.Delete(ctx, refs...)
}

func TestStoreThatIsDown(t *testing.T) {
	t.Parallel()
	u := &unreachable{Store: disk(t)}
	b := setup(t, over(u))
	b.runBatch = 2
	doomed := b.calls(t, 9)
	purge := b.approved(t, doomed...)
	u.down.Store(true)
	if err := b.Run(t.Context(), purge); !errors.Is(err, blob.ErrUnavailable) {
		t.Fatalf("run: %v, want ErrUnavailable", err)
	}
	if n := value[int](t, b, `select count(*) from purge_items where state = 'purging' and last_error = 'store_unavailable'`); n == 0 {
		t.Error("no item tells that the store was unavailable")
	}
	u.down.Store(false)
	b.mustWork(t)
	b.wantGone(t, doomed...)
	b.wantSound(t)
}

// locking is a store whose own lock keeps every object until a time.
type locking struct {
	blob.Store
	until atomic.Pointer[time.Time]
	now   func() time.Time
}

func (l *locking) Delete(ctx context.Context, refs ...blob.Ref) ([]blob.Kept, error) {
	until := l.until.Load()
	if until == nil || l.now().After(*until) {
		return l.Store.Delete(ctx, refs...)
	}
	kept := make([]blob.Kept, len(refs))
	for i, ref := range refs {
		kept[i] = blob.Kept{Ref: ref, Err: &blob.LockedError{Ref: ref, Mode: "COMPLIANCE", Until: *until}}
	}
	return kept, nil
}

// What the store's own lock keeps is unreadable at once, certified as
// remaining, and removed when the lock ends.
func TestLockedObjects(t *testing.T) {
	t.Parallel()
	store := &locking{Store: disk(t)}
	b := setup(t, over(store))
	store.now = b.clock.now
	doomed := b.calls(t, 3)
	until := b.DB.Now().Add(48 * time.Hour)
	store.until.Store(&until)
	purge := b.approved(t, doomed...)
	b.mustWork(t)

	b.wantState(t, archive.Erased, doomed...)
	c := b.certificate(t, purge)
	if len(c.Items) != 3 || len(c.Remaining) != 3 {
		t.Fatalf("certified are %d, remaining %d; want 3 and 3", len(c.Items), len(c.Remaining))
	}
	for _, r := range c.Remaining {
		if r.Until == nil || !r.Until.Equal(until) {
			t.Errorf("remains until %v, want %v", r.Until, until)
		}
	}
	b.wantSound(t)

	b.clock.advance(49 * time.Hour)
	b.mustWork(t)
	b.wantGone(t, doomed...)
	if n := value[int](t, b, `select count(*) from purge_items where remaining is not null`); n != 0 {
		t.Errorf("%d items are still said to remain", n)
	}
	b.wantSound(t)
}

func TestCertificateIsStoredBesideTheObjects(t *testing.T) {
	t.Parallel()
	b := setup(t)
	purge := b.approved(t, b.calls(t, 1)...)
	b.run(t, purge)
	stored := value[[]byte](t, b, `select certificate from purges where id = $1`, purge)
	if err := b.compareCopy(t.Context(), purge, stored); err != nil {
		t.Fatal(err)
	}
	// A death between the copy and its note.
	b.exec(t, `update purges set certificate_stored_at = null where id = $1`, purge)
	b.run(t, purge)
	if _, err := b.store.Delete(t.Context(), blob.Ref{Key: certificateKey(purge)}); err != nil {
		t.Fatal(err)
	}
	b.exec(t, `update purges set certificate_stored_at = null where id = $1`, purge)
	b.run(t, purge)
	if err := b.compareCopy(t.Context(), purge, stored); err != nil {
		t.Fatal(err)
	}
}

func TestListsInPages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.call(t)
	var want []uuid.UUID
	for range 5 {
		p, err := b.Preview(t.Context(), b.officer, NewPurge{Reason: "r", Interactions: []uuid.UUID{id}})
		if err != nil {
			t.Fatal(err)
		}
		want = append([]uuid.UUID{p.ID}, want...)
	}
	var got []uuid.UUID
	for list := (List{Limit: 2, State: "previewed"}); ; {
		page, err := b.Purges(t.Context(), b.auditor, list)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range page.Items {
			got = append(got, p.ID)
		}
		if list.Cursor = page.NextCursor; list.Cursor == "" {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("purges listed (-want +got):\n%s", diff)
	}
	var fields *invalid.Error
	if _, err := b.Purges(t.Context(), b.auditor, List{Cursor: "x"}); !errors.As(err, &fields) {
		t.Errorf("a broken cursor: %v, want an invalid.Error", err)
	}
	if _, err := b.Purge(t.Context(), b.auditor, uuid.New()); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("an unknown purge: %v, want ErrNotFound", err)
	}
}
