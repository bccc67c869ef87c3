package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"earmark/internal/access"
	"earmark/internal/ledger"
	"earmark/internal/quality"
)

const (
	// perAgent are drawn of each agent, and reviewers share them.
	perAgent  = 5
	reviewers = 20
)

// bareDraw reads what a draw reads, by the same SQL.
const bareDraw = `
	select i.id, i.agent_id from interactions i
	where i.started_at >= $1 and i.started_at < $2 and i.state = 'active' and i.purposes @> array['quality_assurance']
		and not exists (select from assignments a where a.interaction_id = i.id and a.stream = 'random' offset 0)
		and exists (select from recordings c where c.interaction_id = i.id and c.state in ('received', 'ready')
			and not 'empty' = any (c.flags) and coalesce(c.duration_ms > 0, true) offset 0)`

// draw draws samples of a month, from the request to the signed manifest,
// beside reading the eligible interactions' ids and doing nothing. Each draw
// takes its picks out of the next. Each manifest is verified: drawing again
// gives the same picks.
func (b *bench) draw(ctx context.Context) error {
	b.progress.steps(b.Eligible/seedBatch + 2 + 2*b.Rounds)
	if err := b.seedDraw(ctx); err != nil {
		return err
	}
	supervisor, err := b.service.keyOf(ctx, access.Supervisor, "supervisor")
	if err != nil {
		return err
	}
	for i := range reviewers {
		if _, err := b.service.keyOf(ctx, access.Reviewer, fmt.Sprintf("reviewer-%d", i)); err != nil {
			return err
		}
	}
	plan, err := makePlan(ctx, supervisor)
	if err != nil {
		return err
	}
	month := map[string]time.Time{"from": seedBegin, "to": seedBegin.AddDate(0, 0, 30)}
	left := b.Eligible
	took, err := turnAbout(ctx, b.Rounds,
		func(ctx context.Context) (float64, error) {
			if err := b.progress.step("reading the ids alone"); err != nil {
				return 0, err
			}
			return b.readIDs(ctx, month["from"], month["to"], left)
		},
		func(ctx context.Context) (float64, error) {
			if err := b.progress.step("drawing"); err != nil {
				return 0, err
			}
			seconds, err := b.drawOnce(ctx, supervisor, plan, month, left)
			left -= b.Agents * perAgent
			return seconds, err
		})
	if err != nil {
		return err
	}
	return b.report.add(Measurement{Work: "draw", Case: fmt.Sprintf("%d of each of %d agents", perAgent, b.Agents), Rows: b.Eligible}.
		times(took[0], took[1], "s"))
}

// readIDs is the direct limit.
func (b *bench) readIDs(ctx context.Context, from, to time.Time, want int) (seconds float64, err error) {
	began := time.Now()
	rows, err := b.service.db.Query(ctx, bareDraw, from, to)
	if err != nil {
		return 0, err
	}
	n := 0
	var id [16]byte
	var agent string
	if _, err := pgx.ForEachRow(rows, []any{&id, &agent}, func() error { n++; return nil }); err != nil {
		return 0, err
	}
	if n != want {
		return 0, fmt.Errorf("%d are eligible, not %d", n, want)
	}
	return time.Since(began).Seconds(), nil
}

func makePlan(ctx context.Context, supervisor client) (uuid.UUID, error) {
	var form, plan struct {
		ID uuid.UUID `json:"id"`
	}
	if err := supervisor.ask(ctx, "/v1/forms", quality.ExampleForms()[0], &form); err != nil {
		return uuid.Nil, err
	}
	return plan.ID, supervisor.ask(ctx, "/v1/sampling-plans", quality.NewPlan{Name: "bench", FormID: form.ID, PerAgent: perAgent}, &plan)
}

var errPicks = errors.New("the draw is not what it should be")

func (b *bench) drawOnce(ctx context.Context, supervisor client, plan uuid.UUID, window any, eligible int) (seconds float64, err error) {
	var draw quality.Draw
	began := time.Now()
	if err := supervisor.ask(ctx, "/v1/sampling-plans/"+plan.String()+"/draws", window, &draw); err != nil {
		return 0, err
	}
	seconds = time.Since(began).Seconds()
	if draw.State != "drawn" || draw.Eligible != eligible || draw.Agents != b.Agents || draw.Picked != b.Agents*perAgent {
		return 0, fmt.Errorf("%w: %s, %d of %d were picked for %d agents", errPicks, draw.State, draw.Picked, draw.Eligible, draw.Agents)
	}
	manifest, err := b.document(ctx, supervisor, "/v1/draws/"+draw.ID.String()+"/manifest")
	if err != nil {
		return 0, err
	}
	key, err := b.document(ctx, supervisor, "/v1/ledger/key")
	if err != nil {
		return 0, err
	}
	verifier, err := ledger.ParseVerifier(strings.TrimSpace(string(key)))
	if err != nil {
		return 0, err
	}
	_, err = quality.VerifyManifest(manifest, verifier)
	return seconds, err
}

// document reads a document whole.
func (b *bench) document(ctx context.Context, c client, path string) ([]byte, error) {
	response, err := c.send(ctx, request{method: http.MethodGet, path: path}, http.StatusOK)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(response.Body)
	return data, errors.Join(err, response.Body.Close())
}
