package lifecycle

import (
	"context"
	"time"

	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/db"
)

// Match says which interactions a policy is for: those that have every value
// given. A zero Match is for all.
type Match struct {
	Channel     string `json:"channel,omitempty"`
	Queue       string `json:"queue,omitempty"`
	Direction   string `json:"direction,omitempty"`
	Disposition string `json:"disposition,omitempty"`
	Tag         string `json:"tag,omitempty"`
}

// NewPolicy is a retention policy as it is proposed.
type NewPolicy struct {
	Name string `json:"name"`
	// Priority decides where several policies match: the highest wins, among
	// equals the longest term.
	Priority int   `json:"priority"`
	Match    Match `json:"match"`
	// KeepDays is how many days of 24 hours after its end (or its start, where
	// no end is known) an interaction is kept; nil: until erasure is asked for.
	KeepDays *int `json:"keep_days"`
}

// Policy is a retention policy. Where no active policy matches, interactions
// are kept until erasure is asked for.
type Policy struct {
	ID uuid.UUID `json:"id"`
	NewPolicy
	// State is proposed, active or retired.
	State                 string     `json:"state"`
	ProposedBy            string     `json:"proposed_by"`
	ProposedAt            time.Time  `json:"proposed_at"`
	ApprovedBy            *string    `json:"approved_by,omitempty"`
	ApprovedAt            *time.Time `json:"approved_at,omitempty"`
	RetirementRequestedBy *string    `json:"retirement_requested_by,omitempty"`
	RetiredBy             *string    `json:"retired_by,omitempty"`
	RetiredAt             *time.Time `json:"retired_at,omitempty"`
}

// ProposePolicy writes a policy down; it changes nothing until another person
// approves it. Errors: *invalid.Error, access.ErrForbidden.
func (l *Lifecycle) ProposePolicy(ctx context.Context, actor access.Actor, n NewPolicy) (Policy, error) {
	panic("unwritten")
}

// ApprovePolicy puts a proposed policy in force and has the archive recomputed
// by it. Errors: access.ErrSamePerson, ErrState, db.ErrNotFound.
func (l *Lifecycle) ApprovePolicy(ctx context.Context, actor access.Actor, id uuid.UUID) (Policy, error) {
	panic("unwritten")
}

// RetirePolicy takes a policy out of force. Where a shorter term could then
// apply to what it covered, the first call only asks for it (the policy stays
// active) and a second person's call does it; the first person's second call
// is access.ErrSamePerson.
func (l *Lifecycle) RetirePolicy(ctx context.Context, actor access.Actor, id uuid.UUID) (Policy, error) {
	panic("unwritten")
}

// Policies are all policies: active ones first, in the order in which they are
// applied.
func (l *Lifecycle) Policies(ctx context.Context, actor access.Actor) ([]Policy, error) {
	panic("unwritten")
}

// RetainUntil tells which active policy applies to an interaction and until
// when it is kept by it; nil and nil: until erasure is asked for. It is one
// query. Called in a transaction, it keeps the policies from changing until
// the transaction ends.
func RetainUntil(ctx context.Context, q db.Querier, i archive.Interaction) (policy *uuid.UUID, until *time.Time, err error) {
	panic("unwritten")
}

// Recomputation is how far the archive has been brought in line with the last
// change of the policies.
type Recomputation struct {
	Examined   int64      `json:"examined"`
	Changed    int64      `json:"changed"`
	StartedAt  time.Time  `json:"started_at"`
	FinishedAt *time.Time `json:"finished_at,omitempty"`
}

// RecomputationState tells how far the recomputation is; db.ErrNotFound when
// no policy was ever approved.
func (l *Lifecycle) RecomputationState(ctx context.Context, actor access.Actor) (Recomputation, error) {
	panic("unwritten")
}

// Recompute brings the retention of the whole archive in line with the active
// policies, in small transactions, from where an earlier call stopped. It may
// be called by several workers at once.
func (l *Lifecycle) Recompute(ctx context.Context) error { panic("unwritten") }

// Sweep purges what retention has made due, under the approvals of the
// policies, goes on with placing holds and with erasures that were left
// behind, and returns when there is nothing to begin. The purges run as jobs.
func (l *Lifecycle) Sweep(ctx context.Context) error { panic("unwritten") }
