package workers

import (
	"context"
	"encoding/json"
)

func (w *Workers) expireSessions(ctx context.Context, _ json.RawMessage) error {
	return w.Access.PurgeExpiredSessions(ctx)
}
