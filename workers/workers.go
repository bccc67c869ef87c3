// Package workers does what can wait: it carries due jobs from PostgreSQL's
// outbox to asynq, runs them, keeps the schedule, and sequences the ledger.
//
// The outbox owns every job until it is done. Redis holds no more than the
// row's id and a lease, so that a queue that is flushed or lost costs a lease's
// time and no work.
package workers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/hibiken/asynq"
	"golang.org/x/sync/errgroup"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/audit"
	"earmark/internal/db"
	"earmark/internal/lifecycle"
	"earmark/internal/quality"
)

// Options are what the workers work on.
type Options struct {
	DB *db.DB
	// RedisURL is where the queue is, such as redis://127.0.0.1:6379/0.
	RedisURL  string
	Access    *access.Access
	Archive   *archive.Archive
	Lifecycle *lifecycle.Lifecycle
	Quality   *quality.Quality
	Audit     *audit.Audit
	Log       *slog.Logger
	// Lease is how long a job may be out without a sign of life before
	// another worker takes it; a minute when not positive.
	Lease time.Duration
}

// Workers run jobs. Any number of processes may run them side by side.
type Workers struct {
	Options
	redis  asynq.RedisConnOpt
	duties map[string]duty
}

// New prepares the workers; Run starts them.
func New(o Options) (*Workers, error) {
	if o.Lease <= 0 {
		o.Lease = time.Minute
	}
	redis, err := asynq.ParseRedisURI(o.RedisURL)
	if err != nil {
		return nil, fmt.Errorf("address of Redis: %w", err)
	}
	w := &Workers{Options: o, redis: redis}
	w.duties = w.mux()
	return w, nil
}

// Run works until ctx ends, then lets what is under way finish for a few
// seconds. It returns an error only when it could not work at all.
func (w *Workers) Run(ctx context.Context) error {
	if err := w.plan(ctx); err != nil {
		return fmt.Errorf("plan the schedule: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, q := range queues() {
		group.Go(func() error { return w.serve(ctx, q) })
	}
	group.Go(func() error { return w.keepSchedule(ctx) })
	group.Go(func() error { return w.Audit.Run(ctx, sequenceEvery) })
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// sequenceEvery is how soon, at the latest, an entry gets its place.
const sequenceEvery = 500 * time.Millisecond

// queue is a class of jobs with workers of its own, so that a purge does not
// wait behind a hundred thousand recordings to be analysed.
type queue struct {
	name        string
	concurrency int
}

func queues() []queue {
	return []queue{
		{name: "prompt", concurrency: 4},
		{name: "media", concurrency: runtime.GOMAXPROCS(0)},
	}
}

const shutdownGrace = 5 * time.Second

// serve runs one queue's asynq server and the relay that feeds it.
func (w *Workers) serve(ctx context.Context, q queue) error {
	handler := asynq.NewServeMux()
	handler.HandleFunc(taskType, w.work)
	server := asynq.NewServer(w.redis, asynq.Config{
		Concurrency: q.concurrency,
		Queues:      map[string]int{q.name: 1},
		// asynq's own checks come once a second, which people would feel.
		TaskCheckInterval:        50 * time.Millisecond,
		DelayedTaskCheckInterval: time.Second,
		ShutdownTimeout:          shutdownGrace,
		Logger:                   asynqLog{w.Log.With("component", "asynq", "queue", q.name)},
		LogLevel:                 asynq.WarnLevel,
	})
	if err := server.Start(handler); err != nil {
		return fmt.Errorf("start the %s queue: %w", q.name, err)
	}
	defer server.Shutdown()
	return w.relay(ctx, q)
}

// asynqLog lets asynq speak through the service's own log.
type asynqLog struct{ log *slog.Logger }

func (l asynqLog) Debug(args ...any) { l.log.Debug(fmt.Sprint(args...)) }
func (l asynqLog) Info(args ...any)  { l.log.Info(fmt.Sprint(args...)) }
func (l asynqLog) Warn(args ...any)  { l.log.Warn(fmt.Sprint(args...)) }
func (l asynqLog) Error(args ...any) { l.log.Error(fmt.Sprint(args...)) }

// Fatal does not end the process: asynq calls it where its caller can decide.
func (l asynqLog) Fatal(args ...any) { l.log.Error(fmt.Sprint(args...)) }
