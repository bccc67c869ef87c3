package quality

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/text/unicode/norm"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/db"
	"earmark/internal/invalid"
)

// NewEvaluation is what a reviewer submits.
type NewEvaluation struct {
	AssignmentID uuid.UUID `json:"assignment_id"`
	Answers      []Answer  `json:"answers"`
	Comment      string    `json:"comment,omitempty"`
}

// Evaluation is one revision of a scored assignment.
type Evaluation struct {
	ID            uuid.UUID `json:"id"`
	AssignmentID  uuid.UUID `json:"assignment_id"`
	Revision      int       `json:"revision"`
	InteractionID uuid.UUID `json:"interaction_id"`
	AgentID       string    `json:"agent_id"`
	Stream        Stream    `json:"stream"`
	FormID        uuid.UUID `json:"form_id"`
	FormVersion   int       `json:"form_version"`
	// State is the assignment's: submitted, released or voided.
	State   AssignmentState `json:"state"`
	Answers []Answer        `json:"answers"`
	Comment string          `json:"comment,omitempty"`
	Result
	SubmittedBy uuid.UUID  `json:"submitted_by"`
	SubmittedAt time.Time  `json:"submitted_at"`
	ReleasedAt  *time.Time `json:"released_at,omitempty"`
}

// Submit scores an assignment by the version of the form that it was made
// with. Until the evaluation is released the reviewer may submit again: a
// revision is appended, and what was there is kept. For the reviewer whose it
// is (access.Evaluate), else access.ErrForbidden. Answers that do not fit the
// form are an *invalid.Error.
func (q *Quality) Submit(ctx context.Context, actor access.Actor, n NewEvaluation) (Evaluation, error) {
	if err := actor.May(access.Evaluate); err != nil {
		return Evaluation{}, err
	}
	n.Comment = norm.NFC.String(strings.TrimSpace(n.Comment))
	wrong := &invalid.Error{}
	if checkWords(wrong, "body.comment", n.Comment); wrong.Err() != nil {
		return Evaluation{}, wrong
	}
	var e Evaluation
	err := q.db.Write(ctx, func(tx *db.Tx) error {
		a, err := lockAssignment(ctx, tx, n.AssignmentID)
		if err != nil {
			return err
		}
		if !a.reviewedBy(actor) {
			return access.ErrForbidden
		}
		if err := a.in(Assigned, Submitted); err != nil {
			return err
		}
		e, err = appendRevision(ctx, tx, actor, a, n)
		return err
	})
	if err != nil {
		return Evaluation{}, fmt.Errorf("submit evaluation: %w", err)
	}
	return e, nil
}

func appendRevision(ctx context.Context, tx *db.Tx, actor access.Actor, a Assignment, n NewEvaluation) (Evaluation, error) {
	form, err := readForm(ctx, tx, a.FormID, a.FormVersion)
	if err != nil {
		return Evaluation{}, err
	}
	result, err := Score(form.Definition, n.Answers)
	if err != nil {
		return Evaluation{}, err
	}
	e := Evaluation{
		ID: tx.NewID(), AssignmentID: a.ID, InteractionID: a.InteractionID, AgentID: a.AgentID, Stream: a.Stream,
		FormID: a.FormID, FormVersion: a.FormVersion, State: Submitted,
		Answers: make([]Answer, len(n.Answers)), Comment: n.Comment, Result: result,
		SubmittedBy: actor.Person, SubmittedAt: tx.Now,
	}
	for i, answer := range n.Answers {
		e.Answers[i] = answer.normalised()
	}
	if err := e.insert(ctx, tx); err != nil {
		return Evaluation{}, fmt.Errorf("append revision: %w", err)
	}
	tx.Record(a.entry(actor, "evaluation.submitted", map[string]any{"evaluation": e.ID.String(), "revision": e.Revision}))
	_, err = tx.Exec(ctx, `update assignments set state = $2 where id = $1`, a.ID, Submitted)
	return e, err
}

func (e *Evaluation) insert(ctx context.Context, tx *db.Tx) error {
	answers, err := json.Marshal(e.Answers)
	if err != nil {
		return err
	}
	sections, err := json.Marshal(e.Sections)
	if err != nil {
		return err
	}
	return tx.QueryRow(ctx, `
		insert into evaluations (id, assignment_id, revision, answers, comment, score, raw_score, critical_score, failed, sections, submitted_by, submitted_at)
		select $1, $2, coalesce(max(revision), 0) + 1, $3, nullif($4, ''), $5::float8, $6::float8, $7::float8, $8, $9, $10, $11
		from evaluations where assignment_id = $2
		returning revision`,
		e.ID, e.AssignmentID, answers, e.Comment, e.Score, e.RawScore, e.CriticalScore, e.Failed, sections,
		e.SubmittedBy, e.SubmittedAt).Scan(&e.Revision)
}

// Release lets the agent see the latest revision of an evaluation, and lets the
// interaction go: the review's hold ends. Releasing it again changes nothing.
// Needs access.ManageQuality, and that the call is not one's own. ErrState for
// an earlier revision, or when the assignment is voided.
func (q *Quality) Release(ctx context.Context, actor access.Actor, id uuid.UUID) (Evaluation, error) {
	if err := actor.May(access.ManageQuality); err != nil {
		return Evaluation{}, err
	}
	var e Evaluation
	err := q.db.Write(ctx, func(tx *db.Tx) (err error) {
		if e, err = readEvaluation(ctx, tx, id); err != nil {
			return err
		}
		a, err := lockAssignment(ctx, tx, e.AssignmentID)
		if err != nil {
			return err
		}
		if e, err = readEvaluation(ctx, tx, id); err != nil || e.ReleasedAt != nil {
			return err
		}
		return q.release(ctx, tx, actor, a, &e)
	})
	if err != nil {
		return Evaluation{}, fmt.Errorf("release evaluation: %w", err)
	}
	return e, nil
}

func (q *Quality) release(ctx context.Context, tx *db.Tx, actor access.Actor, a Assignment, e *Evaluation) error {
	if actor.AgentID != "" && actor.AgentID == a.AgentID {
		return access.ErrForbidden
	}
	if err := a.in(Submitted); err != nil {
		return err
	}
	var latest int
	err := tx.QueryRow(ctx, `select max(revision) from evaluations where assignment_id = $1`, a.ID).Scan(&latest)
	if err != nil {
		return err
	}
	if e.Revision != latest {
		return fmt.Errorf("%w: there is a later revision", ErrState)
	}
	if _, err := tx.Exec(ctx, `update evaluations set released_at = $2 where id = $1`, e.ID, tx.Now); err != nil {
		return err
	}
	e.ReleasedAt, e.State = &tx.Now, Released
	tx.Record(a.entry(actor, "evaluation.released", map[string]any{"evaluation": e.ID.String(), "revision": e.Revision}))
	return q.end(ctx, tx, &a, Released, "")
}

const selectEvaluations = `
	select e.id, e.assignment_id, e.revision, a.interaction_id, a.agent_id, a.stream, a.form_id, a.form_version, a.state,
		e.answers, coalesce(e.comment, ''), e.score::float8, e.raw_score::float8, e.critical_score::float8, e.failed, e.sections,
		e.submitted_by, e.submitted_at, e.released_at
	from evaluations e join assignments a on a.id = e.assignment_id`

func scanEvaluation(row pgx.Row) (e Evaluation, err error) {
	err = row.Scan(&e.ID, &e.AssignmentID, &e.Revision, &e.InteractionID, &e.AgentID, &e.Stream, &e.FormID, &e.FormVersion, &e.State,
		&e.Answers, &e.Comment, &e.Score, &e.RawScore, &e.CriticalScore, &e.Failed, &e.Sections,
		&e.SubmittedBy, &e.SubmittedAt, &e.ReleasedAt)
	inUTC(&e.SubmittedAt, e.ReleasedAt)
	return e, err
}

func readEvaluation(ctx context.Context, r db.Querier, id uuid.UUID) (Evaluation, error) {
	e, err := scanEvaluation(r.QueryRow(ctx, selectEvaluations+` where e.id = $1`, id))
	if err != nil {
		return e, fmt.Errorf("read evaluation: %w", db.Found(err))
	}
	return e, nil
}

// EvaluationQuery narrows a list of evaluations; what is empty does not.
type EvaluationQuery struct {
	AssignmentID  *uuid.UUID
	InteractionID *uuid.UUID
	FormID        *uuid.UUID
	AgentID       string
	Stream        Stream
	State         AssignmentState
	List
}

// view is whose evaluations an actor sees: as the reviewer, as the agent, or,
// both nil, everybody's.
type view struct {
	reviewer *uuid.UUID
	agent    *string
}

func viewOf(actor access.Actor) (view, error) {
	if actor.May(access.ReadQuality) == nil {
		return view{reviewer: onlyReviewer(actor)}, nil
	}
	if err := actor.May(access.ReadOwnEvaluations); err != nil {
		return view{}, err
	}
	return view{agent: &actor.AgentID}, nil
}

// visible is the view as SQL; an agent without an id sees nothing.
const visible = `
	($1::uuid is null or a.reviewer_id = $1)
	and ($2::text is null or a.agent_id = $2 and a.agent_id <> '' and a.state = 'released' and e.released_at is not null)`

// Evaluations lists the latest revision of each evaluation, newest first:
// reviewers see their own, agents those of their own calls that were released.
// Needs access.ReadQuality or access.ReadOwnEvaluations.
func (q *Quality) Evaluations(ctx context.Context, actor access.Actor, query EvaluationQuery) (archive.Page[Evaluation], error) {
	sees, err := viewOf(actor)
	if err != nil {
		return archive.Page[Evaluation]{}, err
	}
	limit, before, err := query.bounds()
	if err != nil {
		return archive.Page[Evaluation]{}, err
	}
	if query.State != "" && !slices.Contains(AssignmentStates, query.State) {
		return archive.Page[Evaluation]{}, invalid.New("query.state", "must be one of %v", AssignmentStates)
	}
	rows, err := q.db.Query(ctx, selectEvaluations+` where `+visible+`
			and e.id < $3 and e.revision = (select max(revision) from evaluations where assignment_id = a.id)
			and ($4::uuid is null or a.id = $4) and ($5::uuid is null or a.interaction_id = $5)
			and ($6::uuid is null or a.form_id = $6) and ($7 = '' or a.agent_id = $7)
			and ($8 = '' or a.stream = $8) and ($9 = '' or a.state = $9)
		order by e.id desc limit $10`,
		sees.reviewer, sees.agent, before, query.AssignmentID, query.InteractionID, query.FormID,
		query.AgentID, query.Stream, query.State, limit+1)
	all, err := collect(rows, err, scanEvaluation)
	if err != nil {
		return archive.Page[Evaluation]{}, fmt.Errorf("list evaluations: %w", err)
	}
	return page(all, limit, func(e Evaluation) uuid.UUID { return e.ID }), nil
}

// Evaluation reads one revision of an evaluation, with the same view.
// db.ErrNotFound when there is none that the actor sees.
func (q *Quality) Evaluation(ctx context.Context, actor access.Actor, id uuid.UUID) (Evaluation, error) {
	sees, err := viewOf(actor)
	if err != nil {
		return Evaluation{}, err
	}
	e, err := scanEvaluation(q.db.QueryRow(ctx, selectEvaluations+` where `+visible+` and e.id = $3`, sees.reviewer, sees.agent, id))
	if err != nil {
		return Evaluation{}, fmt.Errorf("read evaluation: %w", db.Found(err))
	}
	return e, nil
}
