package workers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"earmark/internal/consent"
	"earmark/internal/db"
)

// analyse looks into a recording: what it holds, its peaks, its listening copy.
func (w *Workers) analyse(ctx context.Context, args json.RawMessage) error {
	id, err := idIn(args, "recording_id")
	if err != nil {
		return err
	}
	return goneIsDone(w.Archive.Analyse(ctx, id))
}

// releaseQuarantined opens what waited for a basis that has arrived.
func (w *Workers) releaseQuarantined(ctx context.Context, args json.RawMessage) error {
	var g consent.Grant
	if err := json.Unmarshal(args, &g); err != nil {
		return fmt.Errorf("read job's arguments: %w", err)
	}
	return w.Archive.Release(ctx, g)
}

// orphanAge is how old an object without a record must be before it is
// removed: older than any upload that may still commit.
const orphanAge = time.Hour

func (w *Workers) sweepOrphans(ctx context.Context, _ json.RawMessage) error {
	removed, err := w.Archive.SweepOrphans(ctx, orphanAge)
	if removed > 0 {
		w.Log.Info("objects without a record removed", "objects", removed)
	}
	return err
}

// goneIsDone: work on what has been purged meanwhile is done.
func goneIsDone(err error) error {
	if errors.Is(err, db.ErrNotFound) {
		return nil
	}
	return err
}
