package workers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"earmark/internal/db"
)

const (
	taskType      = "outbox"
	relayInterval = 100 * time.Millisecond
	// waiting is how many jobs a queue holds at most: enough to keep workers
	// busy, few enough that no lease ends before its turn.
	waiting = 64
)

// ticket is all that Redis knows of a job. Lease tells this handing-out from
// an earlier one that came to nothing.
type ticket struct {
	Job   uuid.UUID `json:"job"`
	Lease time.Time `json:"lease"`
}

// relay moves due jobs of one queue from the outbox to asynq until ctx ends.
func (w *Workers) relay(ctx context.Context, q queue) error {
	server, ok := w.redis.MakeRedisClient().(redis.UniversalClient)
	if !ok {
		return fmt.Errorf("asynq makes a client of an unknown kind: %T", w.redis)
	}
	defer func() {
		if err := server.Close(); err != nil {
			w.Log.Warn("close queue", "error", err)
		}
	}()
	tick := time.NewTicker(relayInterval)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		err := w.relayOnce(ctx, q, server)
		if (err != nil) != failing && ctx.Err() == nil {
			failing = err != nil
			w.Log.Warn("relay", "queue", q.name, "failing", failing, "error", err)
		}
	}
}

func (w *Workers) relayOnce(ctx context.Context, q queue, server redis.UniversalClient) error {
	pending, err := pendingIn(asynq.NewInspectorFromRedisClient(server), q.name)
	if err != nil {
		return fmt.Errorf("look at the queue: %w", err)
	}
	free := waiting - pending
	if free <= 0 {
		return nil
	}
	tickets, err := w.lease(ctx, w.kindsOf(q), free)
	if err != nil {
		return fmt.Errorf("lease jobs: %w", err)
	}
	// A client tells Redis once that there is this queue, which a flush makes
	// Redis forget: with a new one each time it is told again, and the queue is
	// counted.
	client := asynq.NewClientFromRedisClient(server)
	for _, t := range tickets {
		payload, err := json.Marshal(t)
		if err != nil {
			return fmt.Errorf("write ticket: %w", err)
		}
		// The outbox retries, not asynq: one place knows what is still due.
		_, err = client.EnqueueContext(ctx, asynq.NewTask(taskType, payload),
			asynq.Queue(q.name), asynq.MaxRetry(0), asynq.Timeout(24*time.Hour))
		if err != nil {
			return fmt.Errorf("enqueue: %w", err)
		}
	}
	return nil
}

// pendingIn counts what waits in a queue; asynq knows none that never held a
// task.
func pendingIn(inspector *asynq.Inspector, name string) (int, error) {
	known, err := inspector.Queues()
	if err != nil || !slices.Contains(known, name) {
		return 0, err
	}
	info, err := inspector.GetQueueInfo(name)
	if err != nil {
		return 0, err
	}
	return info.Pending, nil
}

// leaseDue takes the longest due of each kind and of these the longest due: over
// several kinds at once the index gives no order, and all that is due would be
// read and sorted for every few that are taken.
const leaseDue = `
	update outbox set due_at = $1
	where id in (
		select due.id from unnest($2::text[]) as k (kind), lateral (
			select id, due_at from outbox where kind = k.kind and due_at <= $3
			order by due_at limit $4 for update skip locked) as due
		order by due.due_at limit $4)
	returning id, due_at`

// lease takes due jobs and makes them due again when the lease ends.
func (w *Workers) lease(ctx context.Context, kinds []string, limit int) (tickets []ticket, err error) {
	err = w.DB.Write(ctx, func(tx *db.Tx) error {
		until := tx.Now.Add(w.Lease)
		rows, err := tx.Query(ctx, leaseDue, until, kinds, tx.Now, limit)
		if err != nil {
			return err
		}
		tickets, err = pgx.CollectRows(rows, pgx.RowToStructByPos[ticket])
		return err
	})
	return tickets, err
}

// work runs one job. What it returns to asynq is always success: what failed
// has its next attempt in the outbox.
func (w *Workers) work(ctx context.Context, task *asynq.Task) error {
	var t ticket
	if err := json.Unmarshal(task.Payload(), &t); err != nil {
		w.Log.Error("unreadable ticket", "error", err)
		return nil
	}
	j, held, err := w.claim(ctx, t)
	if err != nil {
		w.Log.Warn("claim job", "job", t.Job, "error", err)
		return nil
	}
	if !held {
		return nil
	}
	log := w.Log.With("job", t.Job, "kind", j.kind, "attempt", j.attempts)
	began := time.Now()
	err = w.whileHeld(ctx, t.Job, func(ctx context.Context) error { return w.do(ctx, j) })
	observe(j.kind, time.Since(began), err)
	settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	if err != nil {
		log.Warn("job failed, will be tried again", "error", err)
		err = w.postpone(settle, t.Job, j.attempts, err)
	} else {
		err = w.finish(settle, t.Job)
	}
	if err != nil {
		log.Warn("settle job", "error", err)
	}
	return nil
}

type job struct {
	kind     string
	args     json.RawMessage
	attempts int
}

// claim makes the job this worker's for a lease, unless another took it since
// the ticket was written, or it is done.
func (w *Workers) claim(ctx context.Context, t ticket) (j job, held bool, err error) {
	err = w.DB.Write(ctx, func(tx *db.Tx) error {
		return tx.QueryRow(ctx, `
			update outbox set due_at = $3, attempts = attempts + 1
			where id = $1 and due_at = $2
			returning kind, args, attempts`, t.Job, t.Lease, tx.Now.Add(w.Lease)).
			Scan(&j.kind, &j.args, &j.attempts)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return job{}, false, nil
	}
	return j, err == nil, err
}

// whileHeld runs fn and renews the lease as long as it runs.
func (w *Workers) whileHeld(ctx context.Context, id uuid.UUID, fn func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		tick := time.NewTicker(w.Lease / 3)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				w.renew(ctx, id)
			}
		}
	}()
	defer func() { stop(); <-renewed }()
	return fn(ctx)
}

func (w *Workers) renew(ctx context.Context, id uuid.UUID) {
	err := w.DB.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `update outbox set due_at = $2 where id = $1`, id, tx.Now.Add(w.Lease))
		return err
	})
	if err != nil && ctx.Err() == nil {
		w.Log.Warn("renew lease", "job", id, "error", err)
	}
}

func (w *Workers) finish(ctx context.Context, id uuid.UUID) error {
	return w.DB.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `delete from outbox where id = $1`, id)
		return err
	})
}

func (w *Workers) postpone(ctx context.Context, id uuid.UUID, attempts int, cause error) error {
	return w.DB.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `update outbox set due_at = $2, last_error = left($3, 500) where id = $1`,
			id, tx.Now.Add(backOff(attempts)), cause.Error())
		return err
	})
}

// backOff doubles from a second to ten minutes, with a fifth of jitter, and
// never gives up.
func backOff(attempts int) time.Duration {
	const longest = 10 * time.Minute
	wait := time.Second << min(attempts-1, 10)
	wait = min(wait, longest)
	return wait + time.Duration(rand.Int64N(int64(wait)/5+1)) //nolint:gosec // jitter guards no secret
}
