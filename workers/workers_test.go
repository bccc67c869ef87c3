package workers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"earmark/internal/audit"
	"earmark/internal/blob"
	"earmark/internal/db"
	"earmark/internal/db/dbtest"
	"earmark/internal/ledger"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute

// house is a database and a Redis of a test's own, for any number of workers.
type house struct {
	db     *db.DB
	socket string
	audit  *audit.Audit
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{db: dbtest.Open(t, dbtest.URL(t), db.Options{MaxConns: 8}), socket: startRedis(t)}
	store, err := blob.OpenDisk(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	secret, _, err := ledger.NewSigner("earmark.test")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ledger.ParseSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	if h.audit, err = audit.New(audit.Options{DB: h.db, Store: store, Signer: signer}); err != nil {
		t.Fatal(err)
	}
	return h
}

// startRedis starts a real Redis for this test alone and returns its socket.
func startRedis(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "earmark-redis-") //nolint:usetesting // a socket's path is at most 107 bytes long
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	cmd := exec.Command("redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Error("Redis ended by itself")
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	h := house{socket: socket}
	eventually(t, "Redis answers", func() bool {
		return h.redis(func(c *redis.Client) error { return c.Ping(context.Background()).Err() }) == nil
	})
	return socket
}

func (h *house) redis(fn func(*redis.Client) error) error {
	c := redis.NewClient(&redis.Options{Network: "unix", Addr: h.socket, MaxRetries: -1})
	return errors.Join(fn(c), c.Close())
}

func (h *house) flush(t *testing.T) {
	t.Helper()
	if err := h.redis(func(c *redis.Client) error { return c.FlushAll(t.Context()).Err() }); err != nil {
		t.Fatal(err)
	}
}

// pending is how many tickets wait in Redis.
func (h *house) pending(t *testing.T, queue string) (n int64) {
	t.Helper()
	err := h.redis(func(c *redis.Client) (err error) {
		n, err = c.LLen(t.Context(), "asynq:{"+queue+"}:pending").Result()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// workers are those of one process, which does nothing but what do says.
func (h *house) workers(t *testing.T, lease time.Duration, do func(context.Context, json.RawMessage) error) *Workers {
	t.Helper()
	w, err := New(Options{
		DB: h.db, RedisURL: "redis-socket://" + h.socket, Audit: h.audit, Lease: lease, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.duties = map[string]duty{"test.job": {queue: "prompt", do: do}}
	return w
}

// run runs workers until stop is called or the test ends.
func run(t *testing.T, w *Workers) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("workers: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// enqueue leaves n jobs behind and returns their numbers.
func (h *house) enqueue(t *testing.T, n int) (numbers []int) {
	t.Helper()
	err := h.db.Write(t.Context(), func(tx *db.Tx) error {
		numbers = nil
		for i := range n {
			tx.Enqueue(db.Job{Kind: "test.job", Args: map[string]int{"n": i}})
			numbers = append(numbers, i)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return numbers
}

func (h *house) count(t *testing.T, sql string, args ...any) (n int) {
	t.Helper()
	if err := h.db.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func (h *house) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	err := h.db.Write(t.Context(), func(tx *db.Tx) error {
		_, err := tx.Exec(t.Context(), sql, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (h *house) left(t *testing.T) int { return h.count(t, `select count(*) from outbox`) }

// book notes which jobs ran.
type book struct {
	mu   sync.Mutex
	runs []int
}

func (b *book) note(args json.RawMessage) {
	var fields map[string]int
	if err := json.Unmarshal(args, &fields); err != nil {
		panic(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.runs = append(b.runs, fields["n"])
}

func (b *book) sorted() []int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(slices.Values(b.runs))
}

func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for !so() {
		select {
		case <-deadline:
			t.Fatalf("not within %s: %s", patience, what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestTwoProcessesShareTheWork(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	numbers := h.enqueue(t, 200)
	var both book
	var mine [2]atomic.Int64
	for i := range mine {
		run(t, h.workers(t, time.Minute, func(_ context.Context, args json.RawMessage) error {
			both.note(args)
			mine[i].Add(1)
			return nil
		}))
	}
	eventually(t, "every job is done", func() bool { return h.left(t) == 0 })
	if diff := cmp.Diff(numbers, both.sorted()); diff != "" {
		t.Errorf("jobs (-enqueued +run):\n%s", diff)
	}
	if mine[0].Load() == 0 || mine[1].Load() == 0 {
		t.Errorf("one of them did nothing: %d and %d", mine[0].Load(), mine[1].Load())
	}
}

// A job that fails is tried again, later and later, and says why.
func TestFailureIsTriedAgain(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func() error{
		"error": func() error { return errors.New("store_unavailable") },
		"panic": func() error { panic("out of range") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.enqueue(t, 1)
			var runs atomic.Int64
			goOn := make(chan struct{})
			run(t, h.workers(t, time.Minute, func(context.Context, json.RawMessage) error {
				if runs.Add(1) == 1 {
					return fail()
				}
				<-goOn
				return nil
			}))
			eventually(t, "the failure is noted", func() bool {
				return h.count(t, `select count(*) from outbox where attempts = 1 and last_error <> ''
					and due_at between now() + '100 ms' and now() + '1300 ms'`) == 1
			})
			eventually(t, "it is tried again", func() bool { return runs.Load() == 2 })
			if n := h.count(t, `select attempts from outbox`); n != 2 {
				t.Errorf("%d attempts are counted, want 2", n)
			}
			close(goOn)
			eventually(t, "it is done", func() bool { return h.left(t) == 0 })
		})
	}
}

func TestBackOff(t *testing.T) {
	t.Parallel()
	for attempts, least := range map[int]time.Duration{
		1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 10: 512 * time.Second, 11: 10 * time.Minute, 1_000_000: 10 * time.Minute,
	} {
		for range 100 {
			if got := backOff(attempts); got < least || got > least+least/5 {
				t.Fatalf("after %d attempts: got %s, want %s and up to a fifth more", attempts, got, least)
			}
		}
	}
}

// What nobody here knows stays for a process that does.
func TestUnknownKindWaits(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.exec(t, `insert into outbox (id, kind, args, due_at, created_at) values ($1, 'later.version', '{}', now(), now())`, uuid.New())
	h.enqueue(t, 1)
	run(t, h.workers(t, time.Minute, func(context.Context, json.RawMessage) error { return nil }))
	eventually(t, "the known one is done", func() bool { return h.left(t) == 1 })
	if n := h.count(t, `select count(*) from outbox where kind = 'later.version' and attempts = 0 and due_at <= now()`); n != 1 {
		t.Error("the unknown one was touched")
	}
}

// Invariant 10, Redis may vanish: a flush loses no work, and what waits in
// Redis stays bounded after it.
func TestFlushLosesNoWork(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	numbers := h.enqueue(t, 300)
	var ran book
	goOn := make(chan struct{})
	run(t, h.workers(t, time.Second, func(_ context.Context, args json.RawMessage) error {
		<-goOn
		ran.note(args)
		return nil
	}))
	full := func() bool { return h.pending(t, "prompt") == waiting }
	eventually(t, "the queue is full", full)
	h.flush(t)
	eventually(t, "the queue is full again", full)
	// Leases end many times over meanwhile.
	for looked := time.Now(); time.Since(looked) < 3*time.Second; {
		if n := h.pending(t, "prompt"); n > waiting {
			t.Fatalf("%d tickets wait, want at most %d", n, waiting)
		}
	}
	h.flush(t)
	close(goOn)
	eventually(t, "every job is done", func() bool { return h.left(t) == 0 })
	if diff := cmp.Diff(numbers, slices.Compact(ran.sorted())); diff != "" {
		t.Errorf("jobs (-enqueued +run):\n%s", diff)
	}
}

// A lease keeps others away for as long as the worker shows signs of life.
func TestLongJobIsNotTakenAway(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.enqueue(t, 1)
	const lease = 2 * time.Second
	var runs atomic.Int64
	goOn := make(chan struct{})
	for range 2 {
		run(t, h.workers(t, lease, func(context.Context, json.RawMessage) error {
			runs.Add(1)
			<-goOn
			return nil
		}))
	}
	eventually(t, "it runs", func() bool { return runs.Load() == 1 })
	first := h.due(t)
	eventually(t, "its lease is renewed past two of its ends", func() bool { return h.due(t).Sub(first) > 2*lease })
	close(goOn)
	eventually(t, "it is done", func() bool { return h.left(t) == 0 })
	if n := runs.Load(); n != 1 {
		t.Errorf("it ran %d times", n)
	}
}

func (h *house) due(t *testing.T) (at time.Time) {
	t.Helper()
	if err := h.db.QueryRow(t.Context(), `select due_at from outbox`).Scan(&at); err != nil {
		t.Fatal(err)
	}
	return at
}

// What a worker held that died is taken over when its lease ends, and not
// before; a ticket of an earlier lease opens nothing.
func TestDeadWorkersJobIsTakenOver(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.enqueue(t, 1)
	var runs atomic.Int64
	w := h.workers(t, 2*time.Second, func(context.Context, json.RawMessage) error {
		runs.Add(1)
		return nil
	})
	tickets, err := w.lease(t.Context(), []string{"test.job"}, 10)
	if err != nil || len(tickets) != 1 {
		t.Fatalf("leased %d jobs: %v", len(tickets), err)
	}
	if again, err := w.lease(t.Context(), []string{"test.job"}, 10); err != nil || len(again) != 0 {
		t.Errorf("leased %d jobs twice: %v", len(again), err)
	}
	if _, held, err := w.claim(t.Context(), tickets[0]); err != nil || !held {
		t.Fatalf("claimed: %v, %v", held, err)
	}
	if _, held, err := w.claim(t.Context(), tickets[0]); err != nil || held {
		t.Errorf("claimed twice by one ticket: %v, %v", held, err)
	}
	until := h.due(t)
	run(t, w)
	eventually(t, "it is done", func() bool { return h.left(t) == 0 })
	if now := time.Now(); now.Before(until) {
		t.Errorf("it was done %s before its lease ended", until.Sub(now))
	}
	if n := runs.Load(); n != 1 {
		t.Errorf("it ran %d times", n)
	}
}

// A duty that is due comes once, however many processes keep the schedule, and
// not again before it is done.
func TestScheduleComesOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var all []*Workers
	for range 4 {
		w := h.workers(t, time.Minute, func(context.Context, json.RawMessage) error { return nil })
		w.duties["test.sweep"] = duty{queue: "prompt", every: time.Hour, do: w.duties["test.job"].do}
		if err := w.plan(t.Context()); err != nil {
			t.Fatal(err)
		}
		all = append(all, w)
	}
	round := func() {
		var group sync.WaitGroup
		for _, w := range all {
			group.Go(func() {
				if err := w.enqueueDue(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	}
	round()
	if n := h.left(t); n != 1 {
		t.Errorf("%d jobs, want 1", n)
	}
	if n := h.count(t, `select count(*) from schedules where next_at between now() + '59 minutes' and now() + '1 hour'`); n != 1 {
		t.Error("the next time is not an hour away")
	}
	round()
	h.exec(t, `update schedules set next_at = now()`)
	round()
	if n := h.left(t); n != 1 {
		t.Errorf("%d jobs while the first is not done, want 1", n)
	}
	h.exec(t, `delete from outbox`)
	h.exec(t, `update schedules set next_at = now()`)
	round()
	if n := h.left(t); n != 1 {
		t.Errorf("%d jobs an hour later, want 1", n)
	}
}

// Whoever stops lets what is under way finish.
func TestStopLetsJobsFinish(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.enqueue(t, 1)
	running, goOn := make(chan struct{}), make(chan struct{})
	stop := run(t, h.workers(t, time.Minute, func(ctx context.Context, _ json.RawMessage) error {
		close(running)
		<-goOn
		return ctx.Err()
	}))
	<-running
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	close(goOn)
	<-stopped
	if n := h.left(t); n != 0 {
		t.Errorf("%d jobs are left, want none", n)
	}
}

// What does not finish in time is interrupted and done by the next process.
func TestStopInterruptsLongJobs(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.enqueue(t, 1)
	running := make(chan struct{})
	interrupted := make(chan struct{})
	stop := run(t, h.workers(t, time.Second, func(ctx context.Context, _ json.RawMessage) error {
		close(running)
		<-ctx.Done()
		close(interrupted)
		return fmt.Errorf("interrupted: %w", ctx.Err())
	}))
	<-running
	began := time.Now()
	stop()
	if took := time.Since(began); took > shutdownGrace+10*time.Second {
		t.Errorf("stopping took %s", took)
	}
	<-interrupted
	if n := h.left(t); n != 1 {
		t.Fatalf("%d jobs are left, want the one", n)
	}
	run(t, h.workers(t, time.Second, func(context.Context, json.RawMessage) error { return nil }))
	eventually(t, "the next process does it", func() bool { return h.left(t) == 0 })
}

func TestEveryKindIsServed(t *testing.T) {
	t.Parallel()
	w, err := New(Options{RedisURL: "redis://127.0.0.1:6379/0"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, q := range queues() {
		names = append(names, q.name)
	}
	for kind, d := range w.duties {
		if !slices.Contains(names, d.queue) {
			t.Errorf("%s waits in %q, which nobody serves", kind, d.queue)
		}
	}
	for _, kind := range []string{
		"recording.analyse", "purge.run", "erasure.run", "retention.sweep", "retention.recompute", "draw.run",
		"orphans.sweep", "sessions.expire",
	} {
		if _, ok := w.duties[kind]; !ok {
			t.Errorf("nobody does %s", kind)
		}
	}
}
