package quality

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"earmark/internal/db"
)

// scrub removes what reviewers wrote about interactions that are erased. The
// choices they made, and the scores, stay.
func scrub(ctx context.Context, tx *db.Tx, interactions []uuid.UUID) error {
	_, err := tx.Exec(ctx, `
		update evaluations e set comment = null, answers = (
			select coalesce(jsonb_agg(answer - 'text' - 'date' - 'comment' order by n), '[]')
			from jsonb_array_elements(e.answers) with ordinality as given (answer, n))
		from assignments a
		where a.id = e.assignment_id and a.interaction_id = any($1)`, interactions)
	if err != nil {
		return fmt.Errorf("scrub evaluations: %w", err)
	}
	return nil
}
