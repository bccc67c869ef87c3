package workers

import (
	"context"
	"encoding/json"
)

func (w *Workers) runPurge(ctx context.Context, args json.RawMessage) error {
	id, err := idIn(args, "purge_id")
	if err != nil {
		return err
	}
	return w.Lifecycle.Run(ctx, id)
}

func (w *Workers) runErasure(ctx context.Context, args json.RawMessage) error {
	id, err := idIn(args, "request_id")
	if err != nil {
		return err
	}
	return w.Lifecycle.RunErasure(ctx, id)
}

func (w *Workers) sweepRetention(ctx context.Context, _ json.RawMessage) error {
	return w.Lifecycle.Sweep(ctx)
}

func (w *Workers) recomputeRetention(ctx context.Context, _ json.RawMessage) error {
	return w.Lifecycle.Recompute(ctx)
}
