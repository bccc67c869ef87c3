package workers

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"earmark/internal/archive"
)

// duty is one kind of job: the queue it waits in, how often it comes by
// itself (zero: only when asked for), and the operation it calls.
type duty struct {
	queue string
	every time.Duration
	do    func(context.Context, json.RawMessage) error
}

// mux is every kind of job that the service leaves behind.
func (w *Workers) mux() map[string]duty {
	return map[string]duty{
		"recording.analyse":   {queue: "media", do: w.analyse},
		archive.ReleaseJob:    {queue: "prompt", do: w.releaseQuarantined},
		"purge.run":           {queue: "prompt", do: w.runPurge},
		"erasure.run":         {queue: "prompt", do: w.runErasure},
		"retention.sweep":     {queue: "prompt", every: 15 * time.Minute, do: w.sweepRetention},
		"retention.recompute": {queue: "prompt", do: w.recomputeRetention},
		"draw.run":            {queue: "prompt", do: w.runDraw},
		"orphans.sweep":       {queue: "prompt", every: 15 * time.Minute, do: w.sweepOrphans},
		"sessions.expire":     {queue: "prompt", every: 24 * time.Hour, do: w.expireSessions},
	}
}

func (w *Workers) kindsOf(q queue) []string {
	var kinds []string
	for kind, d := range w.duties {
		if d.queue == q.name {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// do calls the job's operation. A panic is that job's failure, not the
// process's.
func (w *Workers) do(ctx context.Context, j job) (err error) {
	defer func() {
		if p := recover(); p != nil {
			w.Log.Error("job panicked", "kind", j.kind, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic in %s", j.kind)
		}
	}()
	d, ok := w.duties[j.kind]
	if !ok {
		return fmt.Errorf("no worker knows the kind %q", j.kind)
	}
	return d.do(ctx, j.args)
}

// idIn reads the one id that most jobs carry.
func idIn(args json.RawMessage, name string) (uuid.UUID, error) {
	var fields map[string]uuid.UUID
	if err := json.Unmarshal(args, &fields); err != nil {
		return uuid.Nil, fmt.Errorf("read job's arguments: %w", err)
	}
	id, ok := fields[name]
	if !ok {
		return uuid.Nil, fmt.Errorf("job's arguments lack %s", name)
	}
	return id, nil
}
