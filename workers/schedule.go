package workers

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"earmark/internal/db"
)

const scheduleInterval = time.Second

// plan writes down which duties come by themselves, and how often.
func (w *Workers) plan(ctx context.Context) error {
	return w.DB.Write(ctx, func(tx *db.Tx) error {
		batch := &pgx.Batch{}
		for kind, d := range w.duties {
			if d.every == 0 {
				continue
			}
			batch.Queue(`
				insert into schedules (kind, every, next_at) values ($1, $2, $3)
				on conflict (kind) do update set every = excluded.every`, kind, d.every, tx.Now)
		}
		return tx.SendBatch(ctx, batch).Close()
	})
}

// keepSchedule puts duties into the outbox as their times come. With several
// processes, whoever moves the row's time is the one who enqueues.
func (w *Workers) keepSchedule(ctx context.Context) error {
	tick := time.NewTicker(scheduleInterval)
	defer tick.Stop()
	for {
		if err := w.enqueueDue(ctx); err != nil && ctx.Err() == nil {
			w.Log.Warn("keep schedule", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (w *Workers) enqueueDue(ctx context.Context) error {
	return w.DB.Write(ctx, func(tx *db.Tx) error {
		rows, err := tx.Query(ctx, `
			update schedules set next_at = $1 + every
			where kind in (select kind from schedules where next_at <= $1 for update skip locked)
			returning kind`, tx.Now)
		if err != nil {
			return fmt.Errorf("find due duties: %w", err)
		}
		kinds, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return fmt.Errorf("read due duties: %w", err)
		}
		for _, kind := range kinds {
			tx.Enqueue(db.Job{Kind: kind, Args: struct{}{}, UniqueKey: kind})
		}
		return nil
	})
}
