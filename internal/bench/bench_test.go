package bench

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"earmark/internal/media"
)

func TestQuantileIsTheNearestRank(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values []int
		q      float64
		want   int
	}{
		{nil, 0.5, 0},
		{[]int{7}, 0.99, 7},
		{[]int{3, 1, 2}, 0.5, 2},
		{[]int{4, 3, 2, 1}, 0.5, 2},
		{[]int{4, 3, 2, 1}, 1, 4},
		{[]int{4, 3, 2, 1}, 0, 1},
	} {
		if got := quantile(c.values, c.q); got != c.want {
			t.Errorf("quantile(%v, %v) = %d, want %d", c.values, c.q, got, c.want)
		}
	}
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = 100 - i
	}
	if got := quantile(hundred, 0.99); got != 99 {
		t.Errorf("the 99th percentile of 1 to 100 is %d", got)
	}
}

func TestMedianRatioComparesRoundByRound(t *testing.T) {
	t.Parallel()
	if got := median([]float64{9, 1, 2, 4}); got != 3 {
		t.Errorf("median of an even number: %v", got)
	}
	// The machine was slow in the second round, for both alike.
	direct, earmark := []float64{100, 10, 100}, []float64{50, 5, 200}
	if got := medianRatio(earmark, direct); got != 0.5 {
		t.Errorf("ratio %v, want 0.5", got)
	}
	if got := medianRatio([]float64{1}, []float64{0}); got != 0 {
		t.Errorf("ratio to nothing: %v", got)
	}
}

func TestRatioIsTheShareReachedOfRatesAndOfTimes(t *testing.T) {
	t.Parallel()
	rates := Measurement{}.rates([]float64{200}, []float64{100}, "objects/s")
	times := Measurement{}.times([]float64{1}, []float64{2}, "ms")
	if rates.Ratio != 0.5 || times.Ratio != 0.5 {
		t.Errorf("half as fast is %v by rate and %v by time", rates.Ratio, times.Ratio)
	}
}

func TestRoundKeepsThreeDigits(t *testing.T) {
	t.Parallel()
	for given, want := range map[float64]float64{0: 0, 1234.5: 1230, 0.012345: 0.0123, -98765: -98800, 2: 2} {
		if got := round(given); cmp.Diff(want, got) != "" && fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("round(%v) = %v, want %v", given, got, want)
		}
	}
}

func TestTurnAboutGivesEachTheFirstTurn(t *testing.T) {
	t.Parallel()
	var order []string
	contender := func(name string, value float64) func(context.Context) (float64, error) {
		return func(context.Context) (float64, error) {
			order = append(order, name)
			return value, nil
		}
	}
	got, err := turnAbout(t.Context(), 2, contender("a", 1), contender("b", 2))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b", "b", "a"}, order); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([][]float64{{1, 1}, {2, 2}}, got); diff != "" {
		t.Error(diff)
	}
}

func TestLoadDoesEachOnceAndStopsAtAnError(t *testing.T) {
	t.Parallel()
	done := make(chan int, 100)
	if _, err := load(t.Context(), 100, 7, func(_ context.Context, i int) error { done <- i; return nil }); err != nil {
		t.Fatal(err)
	}
	close(done)
	seen := map[int]bool{}
	for i := range done {
		seen[i] = true
	}
	if len(seen) != 100 {
		t.Errorf("%d of 100 were done", len(seen))
	}
	broken := errors.New("broken")
	if _, err := load(t.Context(), 100, 2, func(context.Context, int) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("load: %v", err)
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"100K": "100 KiB", "5MiB": "5 MiB", "1500": "1500 B", "1048576": "1 MiB", "2G": "2 GiB"} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s.String() != want {
			t.Errorf("%s is %s, want %s (%v)", text, s, want, err)
		}
	}
	for _, text := range []string{"", "K", "-1M", "1.5M", "99999999999G"} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is a size: %d", text, s)
		}
	}
}

func TestRecordingsAreWavFilesAndNoTwoAlike(t *testing.T) {
	t.Parallel()
	c := newContent(64 << 10)
	one, other := c.recording(), c.recording()
	if one.sha256 == other.sha256 {
		t.Error("two recordings are alike")
	}
	whole, err := io.ReadAll(one.reader())
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(whole); hex.EncodeToString(sum[:]) != one.sha256 {
		t.Error("a recording does not hash to what it says")
	}
	if err := iotest.TestReader(one.reader(), whole); err != nil {
		t.Error(err)
	}
	kind, err := media.Sniff(whole[:media.HeadSize], int64(len(whole)), "", "")
	if err != nil || kind.MediaType != "audio/wav" || len(kind.Flags) > 0 {
		t.Errorf("sniffed %+v, %v", kind, err)
	}
}

func TestRecordingReadsTheSameInAnyPieces(t *testing.T) {
	t.Parallel()
	r := newContent(minContent).recording()
	whole, err := io.ReadAll(r.reader())
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		off := rapid.IntRange(0, minContent).Draw(t, "off")
		buf := make([]byte, rapid.IntRange(1, 200).Draw(t, "length"))
		n, err := r.ReadAt(buf, int64(off))
		want := whole[off:min(off+len(buf), len(whole))]
		if !bytes.Equal(buf[:n], want) || (n < len(buf)) != errors.Is(err, io.EOF) {
			t.Fatalf("%d bytes at %d: %v", n, off, err)
		}
	})
}

func TestWhatCannotBeMeasuredIsRefused(t *testing.T) {
	t.Parallel()
	servers := Servers{DatabaseURL: "postgres://127.0.0.1/", RedisURL: "redis://127.0.0.1", S3Endpoint: "http://127.0.0.1:1"}
	for name, o := range map[string]Options{
		"unknown work":             {Works: []string{"juggle"}, Servers: servers, Load: small()},
		"no servers":               {Load: small()},
		"purge of a running one":   {Works: []string{"purge"}, Servers: servers, Running: &Running{}, Load: small()},
		"all of a running one":     {Servers: servers, Running: &Running{}, Load: small()},
		"nothing to do":            {Servers: servers},
		"a recording of no size":   {Servers: servers, Load: with(func(l *Load) { l.Sizes = []Size{1} })},
		"nobody at once":           {Servers: servers, Load: with(func(l *Load) { l.Concurrency = []int{0} })},
		"agents with too few each": {Servers: servers, Load: with(func(l *Load) { l.Agents = l.Eligible })},
	} {
		if err := Run(t.Context(), o); !errors.Is(err, ErrUsage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func small() Load {
	return Load{
		Rounds: 1, Sizes: []Size{4 << 10, 300 << 10}, Concurrency: []int{1, 4}, SliceBytes: 64 << 10, SlowUploads: 4, SlowSeconds: 1,
		Ranges: 20, Rows: 3000, Requests: 2, Eligible: 400, Agents: 10, Objects: 20,
	}
}

func with(change func(*Load)) Load {
	l := small()
	change(&l)
	return l
}

// TestRun measures each work a little, on the program itself and real servers.
func TestRun(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "earmark")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "earmark/cmd/earmark")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	for _, work := range Works {
		t.Run(work, func(t *testing.T) {
			t.Parallel()
			var out, progress bytes.Buffer
			results := filepath.Join(t.TempDir(), "new", "results.jsonl")
			err := Run(t.Context(), Options{
				Works: []string{work}, Program: program, Servers: servers(t), Load: small(),
				Results: results, Out: &out, JSON: true, Progress: &progress,
			})
			if err != nil {
				t.Fatalf("%v\n%s", err, &progress)
			}
			kept, err := os.ReadFile(results)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(kept, out.Bytes()) {
				t.Error("what was printed is not what was kept")
			}
			checkLines(t, work, out.String())
		})
	}
}

func checkLines(t *testing.T, work, lines string) {
	t.Helper()
	seen := 0
	for line := range strings.Lines(lines) {
		var m Measurement
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		seen++
		if m.Work != work || m.CPUs == 0 || m.Go == "" || m.Time.IsZero() {
			t.Errorf("measurement %+v", m)
		}
		if slow := strings.HasPrefix(m.Case, "slow"); !slow && (m.Direct <= 0 || m.Earmark <= 0 || m.Ratio <= 0) {
			t.Errorf("measurement %+v", m)
		}
	}
	l := small()
	want := map[string]int{
		"ingest": 1 + 2*len(l.Sizes)*len(l.Concurrency), "play": 2, "search": 2 * len(filters(l.Rows)), "draw": 1, "purge": 1,
	}
	if seen != want[work] {
		t.Errorf("%d measurements, want %d", seen, want[work])
	}
}

func servers(t *testing.T) Servers {
	t.Helper()
	value := func(name string) string {
		v := os.Getenv("EARMARK_TEST_" + name)
		if v == "" {
			t.Fatalf("EARMARK_TEST_%s is not set: run `make test`, which starts the servers that tests need", name)
		}
		return v
	}
	return Servers{
		DatabaseURL: value("DATABASE_URL"), RedisURL: value("REDIS_URL"),
		S3Endpoint: value("S3_ENDPOINT"), S3AccessKey: value("S3_ACCESS_KEY"), S3SecretKey: value("S3_SECRET_KEY"),
	}
}
