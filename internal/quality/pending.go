package quality

import (
	"context"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/db"
)

// NewForm is a form to be: its name and its first version.
type NewForm struct {
	Name string `json:"name"`
	Definition
}

// Form is one version of a form.
type Form struct {
	ID          uuid.UUID `json:"id"`
	Name        string    `json:"name"`
	Version     int       `json:"version"`
	PublishedAt time.Time `json:"published_at"`
	Definition
}

// CreateForm keeps a form and publishes its first version.
func (q *Quality) CreateForm(ctx context.Context, actor access.Actor, n NewForm) (Form, error) {
	panic("unwritten")
}

// PublishVersion publishes the form's next version. What was published before stays as it is.
func (q *Quality) PublishVersion(ctx context.Context, actor access.Actor, formID uuid.UUID, d Definition) (Form, error) {
	panic("unwritten")
}

// Forms lists the latest version of every form.
func (q *Quality) Forms(ctx context.Context, actor access.Actor, l List) (archive.Page[Form], error) {
	panic("unwritten")
}

// Form reads one version of a form; the latest when version is 0.
func (q *Quality) Form(ctx context.Context, actor access.Actor, id uuid.UUID, version int) (Form, error) {
	panic("unwritten")
}

// Stream keeps two kinds of draws apart that are never averaged together.
type Stream string

// The streams.
const (
	// Random may feed an agent's figures.
	Random Stream = "random"
	// Targeted is for coaching and risk.
	Targeted Stream = "targeted"
)

// Filter narrows what a plan draws from. Each given field must match.
type Filter struct {
	Channel     string `json:"channel,omitempty"`
	Direction   string `json:"direction,omitempty"`
	Queue       string `json:"queue,omitempty"`
	Skill       string `json:"skill,omitempty"`
	Campaign    string `json:"campaign,omitempty"`
	Source      string `json:"source,omitempty"`
	Disposition string `json:"disposition,omitempty"`
	// Tags must all be there.
	Tags []string `json:"tags,omitempty"`
	// MinDuration and MaxDuration are in whole seconds, inclusive.
	MinDuration int `json:"min_duration,omitempty"`
	MaxDuration int `json:"max_duration,omitempty"`
}

// NewPlan is a sampling plan to be.
type NewPlan struct {
	Name   string    `json:"name"`
	FormID uuid.UUID `json:"form_id"`
	// Stream is Random when empty.
	Stream Stream `json:"stream,omitempty"`
	// PerAgent is how many interactions of each agent a draw picks.
	PerAgent int    `json:"per_agent"`
	Filter   Filter `json:"filter,omitzero"`
	// Reviewers are users and keys that may evaluate; empty: everybody
	// enabled whose role is reviewer, at the time of the draw.
	Reviewers []uuid.UUID `json:"reviewers,omitempty"`
	// DueDays is how long reviewers have; 7 when 0.
	DueDays int `json:"due_days,omitempty"`
}

// Plan says what is drawn, how many, for whom. It never changes.
type Plan struct {
	ID uuid.UUID `json:"id"`
	NewPlan
	CreatedAt time.Time `json:"created_at"`
}

// CreatePlan keeps a sampling plan.
func (q *Quality) CreatePlan(ctx context.Context, actor access.Actor, n NewPlan) (Plan, error) {
	panic("unwritten")
}

// Plans lists the sampling plans.
func (q *Quality) Plans(ctx context.Context, actor access.Actor, l List) (archive.Page[Plan], error) {
	panic("unwritten")
}

// Plan reads one sampling plan.
func (q *Quality) Plan(ctx context.Context, actor access.Actor, id uuid.UUID) (Plan, error) {
	panic("unwritten")
}

// Window is the period that a draw draws from: what started at or after From
// and before To.
type Window struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// Draw is one running of a plan.
type Draw struct {
	ID     uuid.UUID `json:"id"`
	PlanID uuid.UUID `json:"plan_id"`
	// State is committed, then drawn.
	State string `json:"state"`
	Window
	// SeedCommitment is the SHA-256 of the seed, in hex.
	SeedCommitment string `json:"seed_commitment"`
	// Seed is told, in hex, once the draw is done.
	Seed string `json:"seed,omitempty"`
	// ManifestSHA256 is that of the signed manifest, in hex.
	ManifestSHA256 string `json:"manifest_sha256,omitempty"`
	// Eligible interactions, of so many Agents; Picked of them; Shortfall is
	// how many the agents' quotas lack together.
	Eligible    int        `json:"eligible"`
	Agents      int        `json:"agents"`
	Picked      int        `json:"picked"`
	Shortfall   int        `json:"shortfall"`
	RequestedAt time.Time  `json:"requested_at"`
	DueAt       time.Time  `json:"due_at"`
	DrawnAt     *time.Time `json:"drawn_at,omitempty"`
}

// CommitDraw makes the draw's seed, publishes its SHA-256 in the ledger and
// leaves the job "draw.run" {draw_id}, due at once, or at the end of a window
// that has not opened yet. A caller that wants the result now may call RunDraw
// itself where DueAt has come: the job then finds it done.
func (q *Quality) CommitDraw(ctx context.Context, actor access.Actor, planID uuid.UUID, w Window) (Draw, error) {
	panic("unwritten")
}

// RunDraw draws what was committed: the picks are held and assigned, the
// manifest is signed and kept, the seed revealed. Idempotent.
func (q *Quality) RunDraw(ctx context.Context, id uuid.UUID) error { panic("unwritten") }

// DrawQuery narrows a list of draws.
type DrawQuery struct {
	PlanID *uuid.UUID
	List
}

// Draws lists draws.
func (q *Quality) Draws(ctx context.Context, actor access.Actor, query DrawQuery) (archive.Page[Draw], error) {
	panic("unwritten")
}

// Draw reads one draw.
func (q *Quality) Draw(ctx context.Context, actor access.Actor, id uuid.UUID) (Draw, error) {
	panic("unwritten")
}

// Manifest is the signed document from which anybody can run the draw again
// with VerifyManifest. db.ErrNotFound until the draw is done.
func (q *Quality) Manifest(ctx context.Context, actor access.Actor, id uuid.UUID) ([]byte, error) {
	panic("unwritten")
}

// ManifestType is the type of a manifest as a signed document.
const ManifestType = "earmark.draw_manifest/1"

// ManifestReport is what a manifest that holds says.
type ManifestReport struct {
	DrawID uuid.UUID `json:"draw_id"`
	PlanID uuid.UUID `json:"plan_id"`
	Stream Stream    `json:"stream"`
	Window
	Cutoff    time.Time `json:"cutoff"`
	Agents    int       `json:"agents"`
	Eligible  int       `json:"eligible"`
	Picked    int       `json:"picked"`
	Shortfall int       `json:"shortfall"`
}

// VerifyManifest checks a manifest offline: that one of the verifiers signed
// it, that the seed is the one committed to, and that drawing again gives the
// same picks. Errors wrap ErrManifest or one of the ledger's and say what is wrong.
func VerifyManifest(data []byte, verifiers ...note.Verifier) (ManifestReport, error) {
	panic("unwritten")
}

// Assignment is one interaction that somebody is to evaluate.
type Assignment struct {
	ID            uuid.UUID `json:"id"`
	DrawID        uuid.UUID `json:"draw_id"`
	PlanID        uuid.UUID `json:"plan_id"`
	Stream        Stream    `json:"stream"`
	InteractionID uuid.UUID `json:"interaction_id"`
	AgentID       string    `json:"agent_id"`
	// ReviewerID is nil when nobody may review it.
	ReviewerID  *uuid.UUID `json:"reviewer_id"`
	FormID      uuid.UUID  `json:"form_id"`
	FormVersion int        `json:"form_version"`
	// State is assigned, unassignable, submitted, released, skipped or voided.
	State string `json:"state"`
	// Reason is why it was skipped or voided.
	Reason Reason `json:"reason,omitempty"`
	// Replaces is the skipped assignment in whose place this one was drawn.
	Replaces  *uuid.UUID `json:"replaces,omitempty"`
	DueAt     time.Time  `json:"due_at"`
	CreatedAt time.Time  `json:"created_at"`
	ClosedAt  *time.Time `json:"closed_at,omitempty"`
}

// AssignmentQuery narrows a list of assignments.
type AssignmentQuery struct {
	State         string
	DrawID        *uuid.UUID
	InteractionID *uuid.UUID
	ReviewerID    *uuid.UUID
	AgentID       string
	List
}

// Assignments lists assignments; reviewers see their own.
func (q *Quality) Assignments(ctx context.Context, actor access.Actor, query AssignmentQuery) (archive.Page[Assignment], error) {
	panic("unwritten")
}

// Assignment reads one assignment; reviewers see their own.
func (q *Quality) Assignment(ctx context.Context, actor access.Actor, id uuid.UUID) (Assignment, error) {
	panic("unwritten")
}

// Reassign gives an assignment that is not submitted to another reviewer.
func (q *Quality) Reassign(ctx context.Context, actor access.Actor, id, reviewerID uuid.UUID) (Assignment, error) {
	panic("unwritten")
}

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
	Other           Reason = "other"
)

// Reasons are all reasons, in the order in which pages show them.
var Reasons = []Reason{
	Inaudible, NoConversation, WrongAgent, WrongForm, UnknownLanguage, KnownPerson, NoConsent, Other,
}

// Skip gives up an assignment and draws the next interaction of the same agent
// in its place; replacement is nil when there is none left.
func (q *Quality) Skip(ctx context.Context, actor access.Actor, id uuid.UUID, reason Reason) (skipped Assignment, replacement *Assignment, err error) {
	panic("unwritten")
}

// Void ends an assignment that is not released, without a replacement.
func (q *Quality) Void(ctx context.Context, actor access.Actor, id uuid.UUID, reason Reason) (Assignment, error) {
	panic("unwritten")
}

// NewEvaluation is what a reviewer submits.
type NewEvaluation struct {
	AssignmentID uuid.UUID `json:"assignment_id"`
	Answers      []Answer  `json:"answers"`
	Comment      string    `json:"comment,omitempty"`
}

// Evaluation is a scored assignment: its latest revision.
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
	State   string   `json:"state"`
	Answers []Answer `json:"answers"`
	Comment string   `json:"comment,omitempty"`
	Result
	SubmittedBy uuid.UUID  `json:"submitted_by"`
	SubmittedAt time.Time  `json:"submitted_at"`
	ReleasedAt  *time.Time `json:"released_at,omitempty"`
}

// Submit scores an assignment. Until it is released, the reviewer may submit
// again: a revision is appended.
func (q *Quality) Submit(ctx context.Context, actor access.Actor, n NewEvaluation) (Evaluation, error) {
	panic("unwritten")
}

// Release lets the agent see an evaluation, and lets the interaction go: the
// review's hold ends. Releasing again changes nothing.
func (q *Quality) Release(ctx context.Context, actor access.Actor, id uuid.UUID) (Evaluation, error) {
	panic("unwritten")
}

// EvaluationQuery narrows a list of evaluations.
type EvaluationQuery struct {
	AssignmentID  *uuid.UUID
	InteractionID *uuid.UUID
	AgentID       string
	FormID        *uuid.UUID
	Stream        Stream
	State         string
	List
}

// Evaluations lists the latest revision of each evaluation: reviewers see
// their own, agents those of their own calls that were released.
func (q *Quality) Evaluations(ctx context.Context, actor access.Actor, query EvaluationQuery) (archive.Page[Evaluation], error) {
	panic("unwritten")
}

// Evaluation reads one evaluation, with the same view.
func (q *Quality) Evaluation(ctx context.Context, actor access.Actor, id uuid.UUID) (Evaluation, error) {
	panic("unwritten")
}

// ExampleForms are two complete forms, Vietnamese and English, to begin with.
func ExampleForms() []NewForm { panic("unwritten") }

// Verify recomputes every draw from what is stored and reports what does not hold.
func (q *Quality) Verify(ctx context.Context, report func(problem string)) error {
	panic("unwritten")
}

func scrub(ctx context.Context, tx *db.Tx, ids []uuid.UUID) error { panic("unwritten") }
