package quality

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"
	"pgregory.net/rapid"

	"earmark/internal/ledger"
)

// idsFrom are n ids that differ with the name, and are always the same.
func idsFrom(name string, n int) []uuid.UUID {
	all := make([]uuid.UUID, n)
	for i := range all {
		all[i] = uuid.NewSHA1(uuid.Nil, fmt.Appendf(nil, "%s %d", name, i))
	}
	return all
}

func seedFrom(n int) []byte {
	seed := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
	return seed[:]
}

func TestBottomKIsTheLowestKeysWhateverTheOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := idsFrom("call", rapid.IntRange(0, 60).Draw(t, "n"))
		seed, k := seedFrom(rapid.IntRange(0, 1000).Draw(t, "seed")), rapid.IntRange(0, 70).Draw(t, "k")

		// The definition itself: sort by the HMAC, take the first k.
		want := slices.Clone(all)
		slices.SortFunc(want, func(a, b uuid.UUID) int { return bytes.Compare(keyOf(seed, a), keyOf(seed, b)) })
		want = want[:min(k, len(want))]

		got := ids(bottomK(seed, rapid.Permutation(all).Draw(t, "order"), k))
		if !slices.Equal(got, want) {
			t.Fatalf("drew %v, want %v", got, want)
		}
	})
}

func keyOf(seed []byte, id uuid.UUID) []byte {
	mac := hmac.New(sha256.New, seed)
	mac.Write(id[:])
	return mac.Sum(nil)
}

// Every call of an agent is picked equally often: over 2,000 draws of 5 of 40,
// each is expected 250 times. The statistic follows chi-square with 39 degrees
// of freedom once it is corrected for drawing without putting back.
func TestDrawsAreFair(t *testing.T) {
	t.Parallel()
	const calls, k, draws = 40, 5, 2000
	all := idsFrom("call", calls)
	picked := map[uuid.UUID]int{}
	for n := range draws {
		for _, c := range bottomK(seedFrom(n), all, k) {
			picked[c.id]++
		}
	}
	expected, statistic := float64(draws*k)/calls, 0.0
	for _, id := range all {
		statistic += (float64(picked[id]) - expected) * (float64(picked[id]) - expected) / expected
	}
	statistic *= float64(calls-1) / float64(calls-k)
	const p999 = 72.05
	if statistic > p999 || statistic < 10 {
		t.Errorf("chi-square is %.1f with 39 degrees of freedom: not what a fair draw gives", statistic)
	}
}

func TestBalanceIsAsEvenAsItCanBe(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		agentIDs := []string{"a", "b", "c"}
		var all []reviewer
		for i := range rapid.IntRange(0, 3).Draw(t, "reviewers") {
			own := rapid.SampledFrom(append(agentIDs, "")).Draw(t, "own")
			all = append(all, reviewer{id: idsFrom("reviewer", 3)[i], agentID: own})
		}
		picks := rapid.SliceOfN(rapid.SampledFrom(append(agentIDs, "d")), 0, 7).Draw(t, "picks")

		got := balance(picks, all)

		if again := balance(picks, all); !slices.Equal(got, again) {
			t.Fatalf("%v, then %v", got, again)
		}
		loads := make([]int, len(all))
		for pick, r := range got {
			if r == nobody {
				if slices.ContainsFunc(all, func(r reviewer) bool { return r.may(picks[pick]) }) {
					t.Fatalf("pick %d has no reviewer, and somebody may", pick)
				}
				continue
			}
			if !all[r].may(picks[pick]) {
				t.Fatalf("pick %d is reviewed by its own agent", pick)
			}
			loads[r]++
		}
		if squares(loads) != evenest(picks, all, make([]int, len(all))) {
			t.Fatalf("loads %v are not as even as they can be", loads)
		}
	})
}

func squares(loads []int) (sum int) {
	for _, l := range loads {
		sum += l * l
	}
	return sum
}

// evenest tries everything.
func evenest(picks []string, all []reviewer, loads []int) int {
	if len(picks) == 0 {
		return squares(loads)
	}
	best := -1
	for i, r := range all {
		if !r.may(picks[0]) {
			continue
		}
		loads[i]++
		if s := evenest(picks[1:], all, loads); best < 0 || s < best {
			best = s
		}
		loads[i]--
	}
	if best < 0 {
		return evenest(picks[1:], all, loads)
	}
	return best
}

func TestBalanceOfManyIsWithinOne(t *testing.T) {
	t.Parallel()
	all := make([]reviewer, 7)
	for i := range all {
		all[i] = reviewer{id: idsFrom("reviewer", 7)[i], agentID: fmt.Sprint("agent ", i)}
	}
	var picks []string
	for i := range 500 {
		picks = append(picks, slices.Repeat([]string{fmt.Sprint("agent ", i)}, 5)...)
	}
	loads := make([]int, len(all))
	for _, r := range balance(picks, all) {
		loads[r]++
	}
	if slices.Max(loads)-slices.Min(loads) > 1 {
		t.Errorf("loads are %v", loads)
	}
}

func testSigner(t testing.TB) (*ledger.Signer, note.Verifier) {
	t.Helper()
	secret, public, err := ledger.NewSigner("earmark.test")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ledger.ParseSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := ledger.ParseVerifier(public)
	if err != nil {
		t.Fatal(err)
	}
	return signer, verifier
}

func drawnManifest(k int, eligible map[string]int) manifest {
	seed := seedFrom(7)
	commitment := sha256.Sum256(seed)
	m := manifest{
		Method: drawMethod, DrawID: idsFrom("draw", 1)[0], PlanID: idsFrom("plan", 1)[0], FormID: idsFrom("form", 1)[0],
		FormVersion: 1, Stream: Random, PerAgent: k,
		Window:         Window{time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)},
		SeedCommitment: fmt.Sprintf("%x", commitment), Seed: fmt.Sprintf("%x", seed),
	}
	for _, agent := range slices.Sorted(maps.Keys(eligible)) {
		all := idsFrom(agent, eligible[agent])
		slices.SortFunc(all, compareIDs)
		m.Strata = append(m.Strata, newStratum(agent, k, all, nil, bottomK(seed, all, k)))
	}
	return m
}

// Invariant 12: a draw's manifest and seed give the same picks to anybody.
func TestVerifyManifest(t *testing.T) {
	t.Parallel()
	signer, verifier := testSigner(t)
	m := drawnManifest(5, map[string]int{"an": 40, "binh": 3, "chi": 0})
	signed, err := ledger.SignDocument(signer, ManifestType, m)
	if err != nil {
		t.Fatal(err)
	}

	got, err := VerifyManifest(signed, verifier)
	if err != nil {
		t.Fatal(err)
	}
	want := ManifestReport{
		DrawID: m.DrawID, PlanID: m.PlanID, Stream: Random, Window: m.Window, SeedCommitment: m.SeedCommitment,
		Agents: 3, Eligible: 43, Picked: 8, Shortfall: 2 + 5,
		Picks: append(slices.Clone(m.Strata[0].Picks), m.Strata[1].Picks...),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}

	_, other := testSigner(t)
	if _, err := VerifyManifest(signed, other); !errors.Is(err, ledger.ErrUnknownKey) {
		t.Errorf("another key: %v", err)
	}
	edited := bytes.Replace(signed, []byte(`"per_agent": 5`), []byte(`"per_agent": 4`), 1)
	if bytes.Equal(edited, signed) {
		t.Fatal("nothing was edited")
	}
	if _, err := VerifyManifest(edited, verifier); !errors.Is(err, ledger.ErrSignature) {
		t.Errorf("edited: %v", err)
	}
	receipt, err := ledger.SignDocument(signer, "earmark.receipt/1", m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyManifest(receipt, verifier); !errors.Is(err, ErrManifest) {
		t.Errorf("another document: %v", err)
	}
}

// Invariant 12, against somebody who holds the key: what was edited and signed
// again does not come out as drawn.
func TestVerifyManifestRefusesWhatWasSignedAgain(t *testing.T) {
	t.Parallel()
	signer, verifier := testSigner(t)
	for _, c := range []struct {
		name string
		edit func(*manifest)
		want string
	}{
		{"nothing", func(*manifest) {}, ""},
		{"another seed", func(m *manifest) { m.Seed = fmt.Sprintf("%x", seedFrom(8)) }, "not the one that was committed to"},
		{"a short seed", func(m *manifest) { m.Seed = "ab" }, "32 bytes"},
		{"another seed, committed to", func(m *manifest) {
			commitment := sha256.Sum256(seedFrom(8))
			m.Seed, m.SeedCommitment = fmt.Sprintf("%x", seedFrom(8)), fmt.Sprintf("%x", commitment)
		}, "draws other picks"},
		{"a pick exchanged", func(m *manifest) { m.Strata[0].Picks[0] = outsider(m.Strata[0]) }, "draws other picks"},
		{"a pick left out", func(m *manifest) { m.Strata[0].Picks = m.Strata[0].Picks[1:] }, "draws other picks"},
		{"a pick left out with its interaction", func(m *manifest) {
			s := &m.Strata[0]
			at := bytes.Index(s.Eligible, s.Picks[0][:])
			s.Eligible = slices.Delete(slices.Clone(s.Eligible), at, at+16)
			s.Picks, s.N = s.Picks[1:], s.N-1
		}, "draws other picks"},
		{"an interaction twice", func(m *manifest) {
			s := &m.Strata[0]
			s.Eligible, s.N = append(slices.Clone(s.Eligible[:16]), s.Eligible...), s.N+1
		}, "not in order"},
		{"eligible cut off", func(m *manifest) { m.Strata[0].Eligible = m.Strata[0].Eligible[:20] }, "cut off"},
		{"a wrong count", func(m *manifest) { m.Strata[0].N++ }, "counts 41 eligible and lists 40"},
		{"another quota", func(m *manifest) { m.Strata[0].K++ }, "quota"},
		{"a shortfall hidden", func(m *manifest) { m.Strata[1].Shortfall = 0 }, "shortfall is 2, not 0"},
		{"another cutoff key", func(m *manifest) { m.Strata[0].CutoffKey = m.Strata[1].CutoffKey }, "cutoff key"},
		{"an agent twice", func(m *manifest) { m.Strata[1] = m.Strata[0] }, "not in order"},
		{"another's calls as well", func(m *manifest) {
			m.Strata[1].N, m.Strata[1].Shortfall = m.Strata[0].N, 0
			m.Strata[1].Eligible, m.Strata[1].Picks, m.Strata[1].CutoffKey = m.Strata[0].Eligible, m.Strata[0].Picks, m.Strata[0].CutoffKey
		}, "for two agents"},
		{"another method", func(m *manifest) { m.Method = "by hand" }, "method"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := drawnManifest(5, map[string]int{"an": 40, "binh": 3})
			c.edit(&m)
			signed, err := ledger.SignDocument(signer, ManifestType, m)
			if err != nil {
				t.Fatal(err)
			}
			_, err = VerifyManifest(signed, verifier)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, ErrManifest) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// outsider is an eligible interaction that was not picked.
func outsider(s stratum) uuid.UUID {
	for chunk := range slices.Chunk(s.Eligible, 16) {
		if id := uuid.UUID(chunk); !slices.Contains(s.Picks, id) {
			return id
		}
	}
	return uuid.Nil
}

func FuzzVerifyManifest(f *testing.F) {
	m := drawnManifest(2, map[string]int{"an": 3})
	text, err := json.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := readManifest(text)
		if err != nil || m.verify() != nil {
			return
		}
		if r := m.report(); r.Picked > r.Eligible || r.Shortfall < 0 {
			t.Fatalf("%d picked of %d eligible, %d lacking", r.Picked, r.Eligible, r.Shortfall)
		}
	})
}
