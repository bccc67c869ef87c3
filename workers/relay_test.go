package workers

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"earmark/internal/db"
	"earmark/internal/db/dbtest"
)

func workersOn(t *testing.T) *Workers {
	t.Helper()
	w, err := New(Options{DB: dbtest.New(t), RedisURL: "redis://127.0.0.1:1/0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// leave puts n jobs of a kind into the outbox, one a second, the first longest due.
func leave(t *testing.T, w *Workers, kind string, n int) {
	t.Helper()
	err := w.DB.Write(t.Context(), func(tx *db.Tx) error {
		_, err := tx.Exec(t.Context(), `
			insert into outbox (id, kind, args, due_at, created_at)
			select gen_random_uuid(), $1, '{}', $2::timestamptz - n * interval '1 second', $2 from generate_series(1, $3) n`,
			kind, tx.Now, n)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// However many relays lease at once, each job goes to one of them; the longest
// due ones go first, and none of another queue.
func TestEachJobIsLeasedOnce(t *testing.T) {
	t.Parallel()
	w := workersOn(t)
	leave(t, w, "a", 100)
	leave(t, w, "b", 100)
	leave(t, w, "c", 1)
	var before time.Time
	err := w.DB.QueryRow(t.Context(), `select due_at from outbox where kind = 'a' order by due_at offset 9 limit 1`).Scan(&before)
	if err != nil {
		t.Fatal(err)
	}
	if first, err := w.lease(t.Context(), []string{"a", "b"}, 20); err != nil || len(first) != 20 {
		t.Fatalf("leased %d, %v", len(first), err)
	}
	var passedOver int
	err = w.DB.QueryRow(t.Context(), `select count(*) from outbox where kind <> 'c' and due_at <= $1`, before).Scan(&passedOver)
	if err != nil || passedOver != 0 {
		t.Errorf("%d that were due longer were passed over, %v", passedOver, err)
	}
	var mu sync.Mutex
	leased := map[uuid.UUID]int{}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 20 {
				tickets, err := w.lease(context.Background(), []string{"a", "b"}, 7)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				for _, ticket := range tickets {
					leased[ticket.Job]++
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	for job, times := range leased {
		if times != 1 {
			t.Errorf("job %s was leased %d times", job, times)
		}
	}
	if len(leased) != 180 {
		t.Errorf("%d of 180 jobs were leased", len(leased))
	}
}

// A relay asks ten times a second: what it asks must not grow with what waits.
func TestLeasingReadsNoMoreThanItTakes(t *testing.T) {
	t.Parallel()
	w := workersOn(t)
	leave(t, w, "recording.analyse", 20_000)
	err := w.DB.Write(t.Context(), func(tx *db.Tx) error {
		if _, err := tx.Exec(t.Context(), `analyze outbox`); err != nil {
			return err
		}
		rows, err := tx.Query(t.Context(), `explain `+leaseDue, tx.Now, []string{"recording.analyse"}, tx.Now, 64)
		if err != nil {
			return err
		}
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		if slices.ContainsFunc(plan, func(line string) bool { return strings.Contains(line, "Seq Scan on outbox") }) {
			return fmt.Errorf("it reads all that is due:\n%s", strings.Join(plan, "\n"))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
