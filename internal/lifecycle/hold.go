package lifecycle

import (
	"context"
	"time"

	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/archive"
)

// NewHold is a legal hold as it is asked for: on a list of interactions or on
// all that a search finds now; exactly one of the two.
type NewHold struct {
	// Matter is the case's name or number.
	Matter       string         `json:"matter"`
	Reason       string         `json:"reason"`
	Interactions []uuid.UUID    `json:"interactions,omitempty"`
	Filter       *archive.Query `json:"filter,omitempty"`
}

// Hold is a legal hold.
type Hold struct {
	ID     uuid.UUID `json:"id"`
	Matter string    `json:"matter"`
	Reason string    `json:"reason"`
	// State is active, release_requested or released.
	State  string         `json:"state"`
	Filter *archive.Query `json:"filter,omitempty"`
	// Placing says that the search has not been gone through to its end yet.
	Placing bool `json:"placing"`
	// Interactions is how many it holds now.
	Interactions int `json:"interactions"`
	// Gone are those that were already being destroyed when it was placed: the
	// hold came too late for them.
	Gone               []uuid.UUID `json:"gone"`
	PlacedBy           string      `json:"placed_by"`
	PlacedAt           time.Time   `json:"placed_at"`
	ReleaseRequestedBy *string     `json:"release_requested_by,omitempty"`
	ReleaseRequestedAt *time.Time  `json:"release_requested_at,omitempty"`
	ReleasedBy         *string     `json:"released_by,omitempty"`
	ReleasedAt         *time.Time  `json:"released_at,omitempty"`
}

// PlaceHold keeps interactions from being destroyed until the hold is
// released. When it returns, each of them is held or is among Gone. Errors:
// *invalid.Error (an unknown interaction among them), access.ErrForbidden.
func (l *Lifecycle) PlaceHold(ctx context.Context, actor access.Actor, n NewHold) (Hold, error) {
	panic("unwritten")
}

// RequestRelease asks for the release of a hold; it goes on holding.
func (l *Lifecycle) RequestRelease(ctx context.Context, actor access.Actor, id uuid.UUID) (Hold, error) {
	panic("unwritten")
}

// ApproveRelease releases a hold whose release another person asked for. What
// waited for it to be erased is erased. Errors: access.ErrSamePerson, ErrState.
func (l *Lifecycle) ApproveRelease(ctx context.Context, actor access.Actor, id uuid.UUID) (Hold, error) {
	panic("unwritten")
}

// Holds lists legal holds, newest first.
func (l *Lifecycle) Holds(ctx context.Context, actor access.Actor, list List) (archive.Page[Hold], error) {
	panic("unwritten")
}

// Hold returns one legal hold.
func (l *Lifecycle) Hold(ctx context.Context, actor access.Actor, id uuid.UUID) (Hold, error) {
	panic("unwritten")
}
