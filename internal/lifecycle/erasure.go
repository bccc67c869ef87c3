package lifecycle

import (
	"context"
	"time"

	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/archive"
)

// Erasure is a customer's request that everything of them be destroyed.
type Erasure struct {
	ID         uuid.UUID `json:"id"`
	CustomerID uuid.UUID `json:"customer_id"`
	// State is received, running, waiting_for_hold or done.
	State string `json:"state"`
	// Reason goes with the rest when the request is done.
	Reason      string     `json:"reason"`
	RequestedBy string     `json:"requested_by"`
	RequestedAt time.Time  `json:"requested_at"`
	DueAt       time.Time  `json:"due_at"`
	DoneAt      *time.Time `json:"done_at,omitempty"`
	// Purges are those that the request led to, each with its certificate.
	Purges []uuid.UUID `json:"purges"`
}

// Erase has everything of a customer destroyed, on the customer's word that
// the actor has. What is held is restricted and goes by itself on its release.
// Asked for again while it runs, it is the same request. Errors:
// db.ErrNotFound, access.ErrForbidden.
func (l *Lifecycle) Erase(ctx context.Context, actor access.Actor, customer uuid.UUID, reason string) (Erasure, error) {
	panic("unwritten")
}

// RunErasure goes on with a request: purges what is free, restricts what is
// held, and, when nothing is left, erases the customer. It may be called at
// any time.
func (l *Lifecycle) RunErasure(ctx context.Context, request uuid.UUID) error { panic("unwritten") }

// Erasures lists requests, newest first.
func (l *Lifecycle) Erasures(ctx context.Context, actor access.Actor, list List) (archive.Page[Erasure], error) {
	panic("unwritten")
}

// Erasure returns one request.
func (l *Lifecycle) Erasure(ctx context.Context, actor access.Actor, id uuid.UUID) (Erasure, error) {
	panic("unwritten")
}
