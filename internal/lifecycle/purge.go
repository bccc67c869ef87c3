package lifecycle

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/archive"
)

// GuardRail is what a purge may not exceed unless it is said twice.
type GuardRail struct {
	// MaxShare is the largest part of the archive, from 0 to 1.
	MaxShare float64
	// SmallArchive is up to how many interactions MaxShare does not count.
	SmallArchive int
	// MinAge is how long ago an interaction was received at least.
	MinAge time.Duration
}

// DefaultGuardRail refuses half of an archive of more than a hundred, and what
// came in within a day.
var DefaultGuardRail = GuardRail{MaxShare: 0.5, SmallArchive: 100, MinAge: 24 * time.Hour}

// GuardRailError tells what the guard rail refuses. It is ErrGuardRail.
type GuardRailError struct {
	GuardRail
	// Items of Archive interactions would be destroyed, Young of them received
	// less than MinAge ago.
	Items, Archive, Young int
}

// Error implements error.
func (e *GuardRailError) Error() string {
	return fmt.Sprintf("the guard rail refuses this purge: %d of the archive's %d interactions, %d of them younger than %s; "+
		"to do it all the same, say override both when it is previewed and when it is approved",
		e.Items, e.Archive, e.Young, e.MinAge)
}

// Is makes a GuardRailError an ErrGuardRail.
func (e *GuardRailError) Is(target error) bool { return target == ErrGuardRail }

// NewPurge is a purge as it is asked for: of a list of interactions or of all
// that a search finds now; exactly one of the two.
type NewPurge struct {
	// Reason goes into the certificate, word for word.
	Reason       string         `json:"reason"`
	Interactions []uuid.UUID    `json:"interactions,omitempty"`
	Filter       *archive.Query `json:"filter,omitempty"`
	// Override goes past the guard rail; the approval must say it again.
	Override bool `json:"override,omitempty"`
}

// Purge is a destruction, from its preview to its certificate.
type Purge struct {
	ID uuid.UUID `json:"id"`
	// Kind is chosen (by staff), retention or erasure.
	Kind string `json:"kind"`
	// State is previewed, approved, running, done or cancelled.
	State            string         `json:"state"`
	Reason           string         `json:"reason"`
	Filter           *archive.Query `json:"filter,omitempty"`
	PolicyID         *uuid.UUID     `json:"policy_id,omitempty"`
	ErasureRequestID *uuid.UUID     `json:"erasure_request_id,omitempty"`
	RequestedBy      string         `json:"requested_by"`
	RequestedAt      time.Time      `json:"requested_at"`
	ApprovedBy       *string        `json:"approved_by,omitempty"`
	ApprovedAt       *time.Time     `json:"approved_at,omitempty"`
	CancelledBy      *string        `json:"cancelled_by,omitempty"`
	CancelledAt      *time.Time     `json:"cancelled_at,omitempty"`
	FinishedAt       *time.Time     `json:"finished_at,omitempty"`
	// Overridden says that the guard rail was, and that the approval must say so.
	Overridden bool `json:"overridden"`
	// Items would go, Exempt would stay, and Bytes is how large the recordings
	// of the former are, all as previewed.
	Items  int   `json:"items"`
	Exempt int   `json:"exempt"`
	Bytes  int64 `json:"bytes"`
	// Detail is not in lists.
	*PurgeDetail
}

// PurgeDetail is what is counted and shown for one purge.
type PurgeDetail struct {
	// Progress counts the items by state: pending, purging, gone, exempt.
	Progress map[string]int `json:"progress"`
	// ExemptBy counts the exempt items by reason: held_legal, held_review,
	// held_disclosure, already_gone, other_purge.
	ExemptBy map[string]int `json:"exempt_by"`
	// Examples are up to 20 of the items that go.
	Examples []Example `json:"examples"`
}

// Example shows an item without saying whose it is.
type Example struct {
	InteractionID uuid.UUID `json:"interaction_id"`
	Channel       string    `json:"channel"`
	Direction     string    `json:"direction,omitempty"`
	StartedAt     time.Time `json:"started_at"`
	Recordings    int       `json:"recordings"`
	Bytes         int64     `json:"bytes"`
}

// Item is one interaction in a purge.
type Item struct {
	InteractionID uuid.UUID `json:"interaction_id"`
	// State is pending, purging, gone or exempt.
	State          string     `json:"state"`
	ExemptReason   string     `json:"exempt_reason,omitempty"`
	Recordings     int        `json:"recordings"`
	Bytes          int64      `json:"bytes"`
	KeyDestroyedAt *time.Time `json:"key_destroyed_at,omitempty"`
	// VersionsRemoved counts the objects' versions that were seen to go.
	VersionsRemoved int `json:"versions_removed"`
	// Remaining are objects that the store itself keeps locked.
	Remaining []archive.Remaining `json:"remaining,omitempty"`
	GoneAt    *time.Time          `json:"gone_at,omitempty"`
	// Attempts counts the removals that failed, for LastError the last time.
	Attempts  int    `json:"attempts"`
	LastError string `json:"last_error,omitempty"`
}

// Preview finds what would go and what is exempt and why, and writes it down
// for another person to approve. Nothing is destroyed. Errors: *invalid.Error,
// ErrGuardRail, access.ErrForbidden.
func (l *Lifecycle) Preview(ctx context.Context, actor access.Actor, n NewPurge) (Purge, error) {
	panic("unwritten")
}

// Approve has a previewed purge run. override is needed, again, where the
// guard rail refuses or was overridden. Errors: access.ErrSamePerson, ErrState,
// ErrGuardRail.
func (l *Lifecycle) Approve(ctx context.Context, actor access.Actor, id uuid.UUID, override bool) (Purge, error) {
	panic("unwritten")
}

// Cancel ends a purge that has not begun. Errors: ErrState.
func (l *Lifecycle) Cancel(ctx context.Context, actor access.Actor, id uuid.UUID) (Purge, error) {
	panic("unwritten")
}

// Purges lists purges, newest first, without their detail.
func (l *Lifecycle) Purges(ctx context.Context, actor access.Actor, list List) (archive.Page[Purge], error) {
	panic("unwritten")
}

// Purge returns one purge with its detail.
func (l *Lifecycle) Purge(ctx context.Context, actor access.Actor, id uuid.UUID) (Purge, error) {
	panic("unwritten")
}

// Items lists the items of a purge, by interaction.
func (l *Lifecycle) Items(ctx context.Context, actor access.Actor, id uuid.UUID, list List) (archive.Page[Item], error) {
	panic("unwritten")
}

// Certificate returns the signed certificate of a finished purge, as
// VerifyCertificate reads it; ErrState before that.
func (l *Lifecycle) Certificate(ctx context.Context, actor access.Actor, id uuid.UUID) ([]byte, error) {
	panic("unwritten")
}

// Run carries out an approved purge, from wherever an earlier run stopped or
// died, up to its certificate. Nil: the certificate is signed and stored, or
// the purge was cancelled. ErrIncomplete, ErrBusy and errors of the store or
// the database: call it again later.
func (l *Lifecycle) Run(ctx context.Context, id uuid.UUID) error { panic("unwritten") }
