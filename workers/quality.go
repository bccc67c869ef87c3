package workers

import (
	"context"
	"encoding/json"
)

func (w *Workers) runDraw(ctx context.Context, args json.RawMessage) error {
	id, err := idIn(args, "draw_id")
	if err != nil {
		return err
	}
	return w.Quality.RunDraw(ctx, id)
}
