package lifecycle

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/invalid"
)

func days(n int) *int { return &n }

func policy(n byte, priority int, keep *int, m Match) Policy {
	return Policy{ID: uuid.UUID{15: n}, NewPolicy: NewPolicy{Priority: priority, Match: m, KeepDays: keep}, State: active}
}

func TestWhichPolicyApplies(t *testing.T) {
	t.Parallel()
	end := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	call := facts{Channel: "voice", Queue: "sales", Direction: "inbound", Disposition: "sold", Tags: []string{"vip", "loan"}, End: end}
	for name, test := range map[string]struct {
		policies []Policy
		want     byte // 0: none
		days     int  // -1: until erasure
	}{
		"none":                       {nil, 0, -1},
		"one for all":                {[]Policy{policy(1, 0, days(30), Match{})}, 1, 30},
		"one for another queue":      {[]Policy{policy(1, 0, days(30), Match{Queue: "billing"})}, 0, -1},
		"every field matches":        {[]Policy{policy(1, 0, days(1), Match{"voice", "sales", "inbound", "sold", "loan"})}, 1, 1},
		"one field does not":         {[]Policy{policy(1, 0, days(1), Match{"voice", "sales", "inbound", "lost", "loan"})}, 0, -1},
		"the highest priority":       {[]Policy{policy(1, 1, days(900), Match{}), policy(2, 2, days(7), Match{Tag: "vip"})}, 2, 7},
		"then the longest term":      {[]Policy{policy(1, 1, days(7), Match{}), policy(2, 1, days(90), Match{})}, 2, 90},
		"until erasure is longest":   {[]Policy{policy(1, 1, nil, Match{}), policy(2, 1, days(90), Match{})}, 1, -1},
		"until erasure by priority":  {[]Policy{policy(1, 9, nil, Match{Tag: "vip"}), policy(2, 1, days(90), Match{})}, 1, -1},
		"zero days end with the end": {[]Policy{policy(1, 1, days(0), Match{})}, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, until := retention(test.policies, call)
			if test.want == 0 {
				if got != nil || until != nil {
					t.Errorf("policy %v until %v, want none", got, until)
				}
				return
			}
			if got == nil || *got != (uuid.UUID{15: test.want}) {
				t.Fatalf("policy is %v, want %d", got, test.want)
			}
			var want *time.Time
			if test.days >= 0 {
				at := end.AddDate(0, 0, test.days)
				want = &at
			}
			if diff := cmp.Diff(want, until); diff != "" {
				t.Errorf("kept until (-want +got):\n%s", diff)
			}
		})
	}
}

func drawPolicies(t *rapid.T) []Policy {
	count := rapid.IntRange(0, 5).Draw(t, "policies")
	drawn := make([]Policy, count)
	for i := range drawn {
		keep := rapid.Ptr(rapid.IntRange(0, 3), true).Draw(t, "days")
		m := Match{Queue: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "queue"), Tag: rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "tag")}
		drawn[i] = policy(byte(i+1), rapid.IntRange(0, 2).Draw(t, "priority"), keep, m)
	}
	return drawn
}

func drawFacts(t *rapid.T) facts {
	return facts{
		Queue: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "is in"),
		Tags:  rapid.SampledFrom([][]string{nil, {"x"}, {"x", "y"}}).Draw(t, "tags"),
		End:   time.Unix(0, 0),
	}
}

// The order in which policies are read decides nothing.
func TestPolicyDoesNotDependOnOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		policies, f := drawPolicies(t), drawFacts(t)
		one, until := retention(policies, f)
		two, again := retention(rapid.Permutation(policies).Draw(t, "other order"), f)
		if !same(one, two) || !sameTime(until, again) {
			t.Fatalf("%v until %v, in another order %v until %v", one, until, two, again)
		}
	})
}

// What one person may retire alone never shortens anything.
func TestRetiringAloneNeverShortens(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		policies, f := drawPolicies(t), drawFacts(t)
		if len(policies) == 0 {
			return
		}
		i := rapid.IntRange(0, len(policies)-1).Draw(t, "retired")
		if mayShorten(policies[i], policies) {
			return
		}
		_, before := retention(policies, f)
		_, after := retention(append(append([]Policy{}, policies[:i]...), policies[i+1:]...), f)
		if after != nil && (before == nil || after.Before(*before)) {
			t.Fatalf("kept until %v with it, until %v without", before, after)
		}
	})
}

// propose and approve a policy.
func (b *bundle) policy(t testing.TB, n NewPolicy) Policy {
	t.Helper()
	if n.Name == "" {
		n.Name = "policy"
	}
	p, err := b.ProposePolicy(t.Context(), b.officer, n)
	if err != nil {
		t.Fatal(err)
	}
	if p, err = b.ApprovePolicy(t.Context(), b.second, p.ID); err != nil {
		t.Fatal(err)
	}
	return p
}

func (b *bundle) retainUntil(t testing.TB, id uuid.UUID) *time.Time {
	t.Helper()
	return value[*time.Time](t, b, `select retain_until from interactions where id = $1`, id)
}

// Invariant 9: two people.
func TestPolicyNeedsTwoPeople(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p, err := b.ProposePolicy(t.Context(), b.officer, NewPolicy{Name: "a year", KeepDays: days(365)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.ApprovePolicy(t.Context(), b.officer, p.ID); !errors.Is(err, access.ErrSamePerson) {
		t.Errorf("approved by the proposer: %v, want ErrSamePerson", err)
	}
	id := b.call(t)
	if until := b.retainUntil(t, id); until != nil {
		t.Errorf("a proposed policy keeps it until %v", until)
	}
	if p, err = b.ApprovePolicy(t.Context(), b.second, p.ID); err != nil || p.State != active {
		t.Fatalf("approved: %s, %v", p.State, err)
	}
	if _, err := b.ApprovePolicy(t.Context(), b.second, p.ID); !errors.Is(err, ErrState) {
		t.Errorf("approved twice: %v, want ErrState", err)
	}
	if until := b.retainUntil(t, b.call(t)); until == nil {
		t.Error("an approved policy does not apply to what comes in")
	}
}

func TestRetiringWhatHoldsAShorterTermBackNeedsTwoPeople(t *testing.T) {
	t.Parallel()
	b := setup(t)
	short := b.policy(t, NewPolicy{KeepDays: days(1)})
	long := b.policy(t, NewPolicy{KeepDays: days(365), Priority: 5, Match: Match{Queue: "sales"}})

	p, err := b.RetirePolicy(t.Context(), b.officer, long.ID)
	if err != nil || p.State != active || p.RetirementRequestedBy == nil {
		t.Fatalf("asked for: %+v, %v; want it to be still active", p, err)
	}
	if _, err := b.RetirePolicy(t.Context(), b.officer, long.ID); !errors.Is(err, access.ErrSamePerson) {
		t.Errorf("done by the same person: %v, want ErrSamePerson", err)
	}
	if p, err = b.RetirePolicy(t.Context(), b.second, long.ID); err != nil || p.State != retired {
		t.Errorf("done by another: %s, %v", p.State, err)
	}
	// Nothing is shorter than nothing: one person is enough.
	if p, err = b.RetirePolicy(t.Context(), b.officer, short.ID); err != nil || p.State != retired {
		t.Errorf("the last one: %s, %v", p.State, err)
	}
	if _, err := b.RetirePolicy(t.Context(), b.officer, short.ID); !errors.Is(err, ErrState) {
		t.Errorf("retired twice: %v, want ErrState", err)
	}
}

func TestPolicyIsChecked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, n := range map[string]NewPolicy{
		"no name":            {},
		"a negative term":    {Name: "x", KeepDays: days(-1)},
		"an unknown channel": {Name: "x", Match: Match{Channel: "telegraph"}},
		"a huge priority":    {Name: "x", Priority: 1 << 40},
	} {
		var fields *invalid.Error
		if _, err := b.ProposePolicy(t.Context(), b.officer, n); !errors.As(err, &fields) {
			t.Errorf("%s: %v, want an invalid.Error", name, err)
		}
	}
	if _, err := b.ProposePolicy(t.Context(), b.auditor, NewPolicy{Name: "x"}); !errors.Is(err, access.ErrForbidden) {
		t.Errorf("proposed by an auditor: %v, want ErrForbidden", err)
	}
}

func TestArchiveIsRecomputed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.recomputeBatch = 4
	sales, billing := b.calls(t, 9), b.calls(t, 5, inQueue("billing"))
	b.policy(t, NewPolicy{KeepDays: days(30), Match: Match{Queue: "billing"}})

	b.crashAt("recomputed_batch", 2)
	if err := b.Recompute(t.Context()); !errors.Is(err, errCrash) {
		t.Fatalf("recompute: %v, want a crash", err)
	}
	r, err := b.RecomputationState(t.Context(), b.auditor)
	if err != nil || r.Examined != 8 || r.FinishedAt != nil {
		t.Errorf("after two batches: %+v, %v; want 8 examined", r, err)
	}
	b.crash = nil
	b.mustWork(t)
	r, err = b.RecomputationState(t.Context(), b.auditor)
	if err != nil || r.Examined != 14 || r.Changed != 5 || r.FinishedAt == nil {
		t.Errorf("at the end: %+v, %v; want 14 examined, 5 changed", r, err)
	}
	for _, id := range billing {
		ended := value[time.Time](t, b, `select coalesce(ended_at, started_at) from interactions where id = $1`, id)
		if until := b.retainUntil(t, id); until == nil || !until.Equal(ended.AddDate(0, 0, 30)) {
			t.Errorf("billing is kept until %v, want %v", until, ended.AddDate(0, 0, 30))
		}
	}
	for _, id := range sales {
		if until := b.retainUntil(t, id); until != nil {
			t.Errorf("sales is kept until %v, want until erasure", until)
		}
	}
}

// A change of the policies while a recomputation runs begins it anew, whatever
// becomes of the first one's job.
func TestPolicyChangedDuringRecomputation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.recomputeBatch = 2
	ids := b.calls(t, 8)
	first := b.policy(t, NewPolicy{KeepDays: days(30)})
	b.crashAt("recomputed_batch", 3)
	if err := b.Recompute(t.Context()); !errors.Is(err, errCrash) {
		t.Fatalf("recompute: %v, want a crash", err)
	}
	b.crash = nil
	if _, err := b.RetirePolicy(t.Context(), b.officer, first.ID); err != nil {
		t.Fatal(err)
	}
	b.mustWork(t)
	for _, id := range ids {
		if until := b.retainUntil(t, id); until != nil {
			t.Errorf("%s is kept until %v by a policy that is retired", id, until)
		}
	}
}

func TestSweepTakesWhatIsDue(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.sweepBatch = 4
	p := b.policy(t, NewPolicy{Name: "a month", KeepDays: days(30), Match: Match{Queue: "billing"}})
	due, kept := b.calls(t, 9, inQueue("billing")), b.calls(t, 2)
	if err := b.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := value[int](t, b, `select count(*) from purges`); n != 0 {
		t.Fatalf("%d purges of what is not due", n)
	}
	b.clock.advance(31 * 24 * time.Hour)
	for range 2 { // the second finds nothing that the first has not taken
		if err := b.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	b.mustWork(t)
	b.wantGone(t, due...)
	b.wantKept(t, kept...)
	page, err := b.Purges(t.Context(), b.auditor, List{})
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, purge := range page.Items {
		total += purge.Items
		if purge.Kind != "retention" || purge.Items > 4 || *purge.PolicyID != p.ID || *purge.ApprovedBy != b.second.PersonString() {
			t.Errorf("purge is %+v", purge)
		}
		b.certificate(t, purge.ID)
	}
	if total != len(due) {
		t.Errorf("%d items in all purges, want %d", total, len(due))
	}
	b.wantSound(t)
}

func TestSweepLeavesTheHeldAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.policy(t, NewPolicy{KeepDays: days(1)})
	id := b.call(t)
	hold := b.held(t, id)
	b.clock.advance(48 * time.Hour)
	for range 3 {
		if err := b.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	b.mustWork(t)
	if n := value[int](t, b, `select count(*) from purges`); n != 0 {
		t.Errorf("%d purges of what is held, want none", n)
	}
	b.wantKept(t, id)
	b.release(t, hold.ID)
	if err := b.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.mustWork(t)
	b.wantGone(t, id)
}

// A retired policy destroys nothing any more, even where no recomputation has
// come by yet.
func TestSweepAsksThePoliciesInForce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.policy(t, NewPolicy{KeepDays: days(1)})
	ids := b.calls(t, 3)
	if _, err := b.RetirePolicy(t.Context(), b.officer, p.ID); err != nil {
		t.Fatal(err)
	}
	b.clock.advance(48 * time.Hour)
	if err := b.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.mustWork(t)
	b.wantKept(t, ids...)
	if n := value[int](t, b, `select count(*) from purges`); n != 0 {
		t.Errorf("%d purges, want none", n)
	}
}

func TestSweepEndsQuarantine(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.uploader.Basis = nil
	id := b.call(t)
	b.wantState(t, archive.Quarantined, id)
	b.clock.advance(31 * 24 * time.Hour)
	if err := b.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.mustWork(t)
	b.wantGone(t, id)
	b.wantSound(t)
}

// No interaction is committed by policies that a recomputation has already
// replaced behind it.
func TestPolicyApprovedWhileCallsComeIn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const writers, each = 4, 25
	taken := make(chan uuid.UUID, writers*each)
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for range each {
				id, err := b.submit(t.Context())
				if err != nil {
					t.Error(err)
				}
				taken <- id
			}
		})
	}
	first := <-taken
	for range 5 {
		p := b.policy(t, NewPolicy{KeepDays: days(30)})
		if err := b.Recompute(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := b.RetirePolicy(t.Context(), b.officer, p.ID); err != nil {
			t.Error(err)
		}
		if err := b.Recompute(t.Context()); err != nil {
			t.Error(err)
		}
	}
	last := b.policy(t, NewPolicy{KeepDays: days(30)})
	if err := b.Recompute(t.Context()); err != nil {
		t.Error(err)
	}
	group.Wait()
	close(taken)
	ids := []uuid.UUID{first}
	for id := range taken {
		ids = append(ids, id)
	}
	for _, id := range ids {
		if got := value[*uuid.UUID](t, b, `select policy_id from interactions where id = $1`, id); got == nil || *got != last.ID {
			t.Errorf("%s is kept by policy %v, want %s", id, got, last.ID)
		}
	}
}

// Invariant 9: one person's amendment does not move a call under a shorter
// term; it may move it under a longer one.
func TestAmendingAloneNeverShortens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	short, long := 1, 1000
	b.policy(t, NewPolicy{Match: Match{Tag: "short"}, KeepDays: &short})
	id := b.call(t)
	tag := func(tags ...string) *time.Time {
		t.Helper()
		i, err := b.Archive.Amend(t.Context(), b.officer, id, archive.Patch{Tags: &tags})
		if err != nil {
			t.Fatal(err)
		}
		return i.RetainUntil
	}
	if until := tag("short"); until != nil {
		t.Errorf("kept until %v, though one person alone said so", until)
	}
	dated := b.call(t, func(n *archive.NewInteraction) { n.Tags = []string{"short"} })
	b.policy(t, NewPolicy{Match: Match{Tag: "long"}, KeepDays: &long})
	before, err := b.Archive.Get(t.Context(), b.officer, dated)
	if err != nil || before.RetainUntil == nil {
		t.Fatalf("%+v, %v", before, err)
	}
	id = dated
	if until := tag("short", "long"); until == nil || !until.After(*before.RetainUntil) {
		t.Errorf("kept until %v, before until %v: it was to be kept longer", until, before.RetainUntil)
	}
}
