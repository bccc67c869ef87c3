package quality

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/db"
	"earmark/internal/invalid"
	"earmark/internal/ledger"
)

// AssignmentState is how far an assignment is.
type AssignmentState string

// The states of an assignment. The interaction is held in the first three.
const (
	// Assigned: a reviewer is to evaluate it.
	Assigned AssignmentState = "assigned"
	// Unassignable: no reviewer may; a supervisor reassigns or voids it.
	Unassignable AssignmentState = "unassignable"
	// Submitted: scored, and not released yet.
	Submitted AssignmentState = "submitted"
	// Released: the agent sees the evaluation.
	Released AssignmentState = "released"
	// Skipped: given up, and another drawn in its place.
	Skipped AssignmentState = "skipped"
	// Voided: ended without a replacement; it counts nowhere.
	Voided AssignmentState = "voided"
)

// AssignmentStates are all states.
var AssignmentStates = []AssignmentState{Assigned, Unassignable, Submitted, Released, Skipped, Voided}

// Reason is why an assignment was skipped or voided.
type Reason string

// The reasons.
const (
	Inaudible       Reason = "inaudible"
	NoConversation  Reason = "no_conversation"
	WrongAgent      Reason = "wrong_agent"
	WrongForm       Reason = "wrong_form"
	UnknownLanguage Reason = "unknown_language"
	KnownPerson     Reason = "known_person"
	NoConsent       Reason = "no_consent"
	OtherReason     Reason = "other"
)

// Reasons are all reasons, in the order in which pages show them.
var Reasons = []Reason{
	Inaudible, NoConversation, WrongAgent, WrongForm, UnknownLanguage, KnownPerson, NoConsent, OtherReason,
}

func (r Reason) validate() error {
	if slices.Contains(Reasons, r) {
		return nil
	}
	return invalid.New("body.reason", "must be one of %v", Reasons)
}

// Assignment is one interaction that somebody is to evaluate.
type Assignment struct {
	ID            uuid.UUID `json:"id"`
	DrawID        uuid.UUID `json:"draw_id"`
	Stream        Stream    `json:"stream"`
	InteractionID uuid.UUID `json:"interaction_id"`
	AgentID       string    `json:"agent_id"`
	// ReviewerID is nil when there is nobody who may review it.
	ReviewerID  *uuid.UUID      `json:"reviewer_id"`
	FormID      uuid.UUID       `json:"form_id"`
	FormVersion int             `json:"form_version"`
	State       AssignmentState `json:"state"`
	// Reason is why it was skipped or voided.
	Reason Reason `json:"reason,omitempty"`
	// Replaces is the skipped assignment in whose place this one was drawn.
	Replaces  *uuid.UUID `json:"replaces,omitempty"`
	DueAt     time.Time  `json:"due_at"`
	CreatedAt time.Time  `json:"created_at"`
	ClosedAt  *time.Time `json:"closed_at,omitempty"`
}

func (a Assignment) reviewedBy(actor access.Actor) bool {
	return a.ReviewerID != nil && *a.ReviewerID == actor.Person
}

func (a Assignment) in(states ...AssignmentState) error {
	if slices.Contains(states, a.State) {
		return nil
	}
	return fmt.Errorf("%w: it is %s", ErrState, a.State)
}

// give sets the reviewer, or that there is none.
func (a *Assignment) give(able []reviewer, index int) {
	a.State, a.ReviewerID = Unassignable, nil
	if index != nobody {
		a.State, a.ReviewerID = Assigned, &able[index].id
	}
}

// assign gives the picks of a draw to the plan's reviewers.
func (r *running) assign(ctx context.Context, strata []stratum) error {
	able, err := reviewers(ctx, r.tx, r.plan.Reviewers)
	if err != nil {
		return fmt.Errorf("find reviewers: %w", err)
	}
	var all []Assignment
	var agents []string
	for _, s := range strata {
		for _, id := range s.Picks {
			agents = append(agents, s.AgentID)
			all = append(all, Assignment{
				ID: r.tx.NewID(), DrawID: r.draw.ID, Stream: r.plan.Stream, InteractionID: id, AgentID: s.AgentID,
				FormID: r.form.ID, FormVersion: r.form.Version,
				DueAt: r.tx.Now.AddDate(0, 0, r.plan.DueDays), CreatedAt: r.tx.Now,
			})
		}
	}
	for i, index := range balance(agents, able) {
		all[i].give(able, index)
	}
	return insertAssignments(ctx, r.tx, access.System(JobDraw), able, all)
}

func insertAssignments(ctx context.Context, tx *db.Tx, actor access.Actor, able []reviewer, all []Assignment) error {
	agentOf := map[uuid.UUID]string{}
	for _, r := range able {
		agentOf[r.id] = r.agentID
	}
	columns := []string{
		"id", "draw_id", "interaction_id", "stream", "agent_id", "reviewer_id", "reviewer_agent_id",
		"form_id", "form_version", "state", "replaces", "due_at", "created_at",
	}
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"assignments"}, columns, pgx.CopyFromSlice(len(all), func(i int) ([]any, error) {
		a := all[i]
		var reviewerAgent *string
		if a.ReviewerID != nil && agentOf[*a.ReviewerID] != "" {
			own := agentOf[*a.ReviewerID]
			reviewerAgent = &own
		}
		return []any{
			a.ID, a.DrawID, a.InteractionID, string(a.Stream), a.AgentID, a.ReviewerID, reviewerAgent,
			a.FormID, a.FormVersion, string(a.State), a.Replaces, a.DueAt, a.CreatedAt,
		}, nil
	}))
	if err != nil {
		return fmt.Errorf("insert assignments: %w", err)
	}
	for _, a := range all {
		tx.Record(a.entry(actor, "assignment.created", map[string]any{
			"draw": a.DrawID.String(), "interaction": a.InteractionID.String(), "state": string(a.State),
		}))
	}
	return nil
}

// entry is what the ledger says of a.
func (a Assignment) entry(actor access.Actor, action string, details map[string]any) ledger.Entry {
	if a.ReviewerID != nil {
		details["reviewer"] = a.ReviewerID.String()
	}
	if a.Replaces != nil {
		details["replaces"] = a.Replaces.String()
	}
	return ledger.Entry{Actor: actor.String(), Action: action, Subject: "assignment:" + a.ID.String(), Details: details}
}

const selectAssignments = `
	select id, draw_id, stream, interaction_id, agent_id, reviewer_id, form_id, form_version, state,
		coalesce(reason, ''), replaces, due_at, created_at, closed_at
	from assignments`

func scanAssignment(row pgx.Row) (a Assignment, err error) {
	err = row.Scan(&a.ID, &a.DrawID, &a.Stream, &a.InteractionID, &a.AgentID, &a.ReviewerID, &a.FormID, &a.FormVersion, &a.State,
		&a.Reason, &a.Replaces, &a.DueAt, &a.CreatedAt, &a.ClosedAt)
	inUTC(&a.DueAt, &a.CreatedAt, a.ClosedAt)
	return a, err
}

// lockAssignment reads an assignment that is about to change.
func lockAssignment(ctx context.Context, tx *db.Tx, id uuid.UUID) (Assignment, error) {
	a, err := scanAssignment(tx.QueryRow(ctx, selectAssignments+` where id = $1 for update`, id))
	if err != nil {
		return a, fmt.Errorf("lock assignment: %w", db.Found(err))
	}
	return a, nil
}

// save writes what changes in an assignment's life.
func (a Assignment) save(ctx context.Context, tx *db.Tx, reviewerAgent string) error {
	_, err := tx.Exec(ctx, `
		update assignments set state = $2, reviewer_id = $3, reviewer_agent_id = nullif($4, ''), reason = nullif($5, ''), closed_at = $6
		where id = $1`,
		a.ID, a.State, a.ReviewerID, reviewerAgent, a.Reason, a.ClosedAt)
	if err != nil {
		return fmt.Errorf("save assignment: %w", err)
	}
	return nil
}

// AssignmentQuery narrows a list of assignments; what is empty does not.
type AssignmentQuery struct {
	State         AssignmentState
	DrawID        *uuid.UUID
	InteractionID *uuid.UUID
	ReviewerID    *uuid.UUID
	AgentID       string
	List
}

// Assignments lists assignments, newest first; reviewers see their own. Needs
// access.ReadQuality.
func (q *Quality) Assignments(ctx context.Context, actor access.Actor, query AssignmentQuery) (archive.Page[Assignment], error) {
	if err := actor.May(access.ReadQuality); err != nil {
		return archive.Page[Assignment]{}, err
	}
	limit, before, err := query.bounds()
	if err != nil {
		return archive.Page[Assignment]{}, err
	}
	if query.State != "" && !slices.Contains(AssignmentStates, query.State) {
		return archive.Page[Assignment]{}, invalid.New("query.state", "must be one of %v", AssignmentStates)
	}
	rows, err := q.db.Query(ctx, selectAssignments+`
		where id < $1 and ($2 = '' or state = $2) and ($3::uuid is null or draw_id = $3)
			and ($4::uuid is null or interaction_id = $4) and ($5::uuid is null or reviewer_id = $5)
			and ($6 = '' or agent_id = $6) and ($7::uuid is null or reviewer_id = $7)
		order by id desc limit $8`,
		before, query.State, query.DrawID, query.InteractionID, query.ReviewerID, query.AgentID, onlyReviewer(actor), limit+1)
	all, err := collect(rows, err, scanAssignment)
	if err != nil {
		return archive.Page[Assignment]{}, fmt.Errorf("list assignments: %w", err)
	}
	return page(all, limit, func(a Assignment) uuid.UUID { return a.ID }), nil
}

// onlyReviewer is the actor when they see only what they review themselves.
func onlyReviewer(actor access.Actor) *uuid.UUID {
	if actor.May(access.Evaluate) == nil && actor.May(access.ManageQuality) != nil {
		return &actor.Person
	}
	return nil
}

// Assignment reads one assignment; reviewers see their own. Needs
// access.ReadQuality; db.ErrNotFound when there is none that the actor sees.
func (q *Quality) Assignment(ctx context.Context, actor access.Actor, id uuid.UUID) (Assignment, error) {
	if err := actor.May(access.ReadQuality); err != nil {
		return Assignment{}, err
	}
	a, err := scanAssignment(q.db.QueryRow(ctx, selectAssignments+`
		where id = $1 and ($2::uuid is null or reviewer_id = $2)`, id, onlyReviewer(actor)))
	if err != nil {
		return Assignment{}, fmt.Errorf("read assignment: %w", db.Found(err))
	}
	return a, nil
}

// Reassign gives an assignment that is not submitted yet to another reviewer,
// who must be enabled, may evaluate, and is not the agent. Needs
// access.ManageQuality. ErrState when it is further.
func (q *Quality) Reassign(ctx context.Context, actor access.Actor, id, reviewerID uuid.UUID) (Assignment, error) {
	if err := actor.May(access.ManageQuality); err != nil {
		return Assignment{}, err
	}
	var a Assignment
	err := q.db.Write(ctx, func(tx *db.Tx) (err error) {
		if a, err = lockAssignment(ctx, tx, id); err != nil {
			return err
		}
		if err := a.in(Assigned, Unassignable); err != nil {
			return err
		}
		able, err := reviewers(ctx, tx, []uuid.UUID{reviewerID})
		if err != nil {
			return err
		}
		if len(able) == 0 || !able[0].may(a.AgentID) {
			return invalid.New("body.reviewer_id", "must be an enabled user or key that may evaluate, and not the agent")
		}
		a.give(able, 0)
		tx.Record(a.entry(actor, "assignment.reassigned", map[string]any{}))
		return a.save(ctx, tx, able[0].agentID)
	})
	if err != nil {
		return Assignment{}, fmt.Errorf("reassign: %w", err)
	}
	return a, nil
}

// Skip gives up an assignment that is not submitted yet, for a reason, ends its
// hold, and draws the agent's next interaction in its place, by the order of
// the draw's own keys. The replacement is nil when nothing is left, which the
// ledger says. For the reviewer whose it is, and for access.ManageQuality.
func (q *Quality) Skip(ctx context.Context, actor access.Actor, id uuid.UUID, reason Reason) (skipped Assignment, replacement *Assignment, err error) {
	if actor.May(access.Evaluate) != nil {
		return Assignment{}, nil, access.ErrForbidden
	}
	if err := reason.validate(); err != nil {
		return Assignment{}, nil, err
	}
	err = q.db.Write(ctx, func(tx *db.Tx) (err error) {
		if skipped, err = lockAssignment(ctx, tx, id); err != nil {
			return err
		}
		if actor.May(access.ManageQuality) != nil && !skipped.reviewedBy(actor) {
			return access.ErrForbidden
		}
		if err := skipped.in(Assigned, Unassignable); err != nil {
			return err
		}
		if err := q.end(ctx, tx, &skipped, Skipped, reason); err != nil {
			return err
		}
		if replacement, err = q.replace(ctx, tx, actor, skipped); err != nil {
			return fmt.Errorf("draw a replacement: %w", err)
		}
		tx.Record(skipped.entry(actor, "assignment.skipped", map[string]any{
			"reason": string(reason), "replaced": replacement != nil,
		}))
		return nil
	})
	if err != nil {
		return Assignment{}, nil, fmt.Errorf("skip: %w", err)
	}
	return skipped, replacement, nil
}

// Void ends an assignment that is not released, for a reason and without a
// replacement. What was submitted is kept, and counts nowhere. Needs
// access.ManageQuality.
func (q *Quality) Void(ctx context.Context, actor access.Actor, id uuid.UUID, reason Reason) (Assignment, error) {
	if err := actor.May(access.ManageQuality); err != nil {
		return Assignment{}, err
	}
	if err := reason.validate(); err != nil {
		return Assignment{}, err
	}
	var a Assignment
	err := q.db.Write(ctx, func(tx *db.Tx) (err error) {
		if a, err = lockAssignment(ctx, tx, id); err != nil {
			return err
		}
		if err := a.in(Assigned, Unassignable, Submitted); err != nil {
			return err
		}
		tx.Record(a.entry(actor, "assignment.voided", map[string]any{"reason": string(reason)}))
		return q.end(ctx, tx, &a, Voided, reason)
	})
	if err != nil {
		return Assignment{}, fmt.Errorf("void: %w", err)
	}
	return a, nil
}

// end closes an assignment and lets its interaction go.
func (q *Quality) end(ctx context.Context, tx *db.Tx, a *Assignment, state AssignmentState, reason Reason) error {
	a.State, a.Reason, a.ClosedAt = state, reason, &tx.Now
	_, err := tx.Exec(ctx, `update assignments set state = $2, reason = nullif($3, ''), closed_at = $4 where id = $1`,
		a.ID, a.State, a.Reason, a.ClosedAt)
	if err != nil {
		return fmt.Errorf("close assignment: %w", err)
	}
	if _, err := q.archive.ReleaseHold(ctx, tx, reviewHold(a.DrawID), []uuid.UUID{a.InteractionID}); err != nil {
		return fmt.Errorf("release hold: %w", err)
	}
	return nil
}

// replace draws the next interaction of the skipped one's stratum.
func (q *Quality) replace(ctx context.Context, tx *db.Tx, actor access.Actor, skipped Assignment) (*Assignment, error) {
	if err := lockStream(ctx, tx, skipped.Stream); err != nil {
		return nil, err
	}
	draw, err := scanDraw(tx.QueryRow(ctx, selectDraws+` where id = $1`, skipped.DrawID))
	if err != nil {
		return nil, err
	}
	plan, err := readPlan(ctx, tx, draw.PlanID)
	if err != nil {
		return nil, err
	}
	next, err := q.next(ctx, tx, draw, skipped)
	if err != nil || next == uuid.Nil {
		return nil, err
	}
	able, err := reviewers(ctx, tx, plan.Reviewers)
	if err != nil {
		return nil, err
	}
	a := Assignment{
		ID: tx.NewID(), DrawID: draw.ID, Stream: plan.Stream, InteractionID: next, AgentID: skipped.AgentID,
		FormID: skipped.FormID, FormVersion: skipped.FormVersion, Replaces: &skipped.ID,
		DueAt: tx.Now.AddDate(0, 0, plan.DueDays), CreatedAt: tx.Now,
	}
	a.give(able, balance([]string{a.AgentID}, able)[0])
	return &a, insertAssignments(ctx, tx, actor, able, []Assignment{a})
}

// next holds and returns the interaction that the draw's seed picks after
// those that are assigned; uuid.Nil when there is none.
func (q *Quality) next(ctx context.Context, tx *db.Tx, draw Draw, skipped Assignment) (uuid.UUID, error) {
	m, err := readOwnManifest(ctx, tx, draw.ID)
	if err != nil {
		return uuid.Nil, err
	}
	seed, left, err := m.stratum(skipped.AgentID)
	if err != nil {
		return uuid.Nil, err
	}
	rows, err := tx.Query(ctx, `select interaction_id from assignments where stream = $1 and agent_id = $2`, skipped.Stream, skipped.AgentID)
	taken, err := collect(rows, err, func(row pgx.Row) (id uuid.UUID, err error) { return id, row.Scan(&id) })
	if err != nil {
		return uuid.Nil, err
	}
	for {
		left = slices.DeleteFunc(left, func(id uuid.UUID) bool { return slices.Contains(taken, id) })
		lowest := ids(bottomK(seed, left, 1))
		if len(lowest) == 0 {
			return uuid.Nil, nil
		}
		held := map[uuid.UUID]bool{}
		if _, err := q.hold(ctx, tx, draw.ID, lowest, held); err != nil {
			return uuid.Nil, err
		}
		if held[lowest[0]] {
			return lowest[0], nil
		}
		taken = lowest
	}
}

// readOwnManifest reads a draw's manifest as it was kept.
func readOwnManifest(ctx context.Context, r db.Querier, draw uuid.UUID) (manifest, error) {
	signed, err := readSigned(ctx, r, draw)
	if err != nil {
		return manifest{}, err
	}
	var envelope struct {
		Document json.RawMessage `json:"document"`
	}
	if err := json.Unmarshal(signed, &envelope); err != nil {
		return manifest{}, fmt.Errorf("read manifest: %w", err)
	}
	return readManifest(envelope.Document)
}
