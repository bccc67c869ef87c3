// Package consent knows the customers, what they agreed to, and therefore
// what an interaction with them may be kept and heard for.
package consent

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"earmark/internal/db"
)

// Consent is the feature. It is safe for concurrent use once every OnGrant is
// registered.
type Consent struct {
	db      *db.DB
	region  string
	onGrant []func(context.Context, *db.Tx, Grant) error
}

// New returns the feature over d. Phone numbers in their national form are
// those of defaultRegion (ISO 3166-1 alpha-2, such as "VN").
func New(d *db.DB, defaultRegion string) *Consent {
	return &Consent{db: d, region: defaultRegion}
}

// Grant says for whose interactions a basis has arrived: one customer's, or
// all of a source. Exactly one is set.
type Grant struct {
	Customer *uuid.UUID `json:"customer,omitempty"`
	Source   string     `json:"source,omitempty"`
}

// OnGrant has fn called in the transaction that records a basis, so that what
// waited for it in quarantine is released with it, or left to a job that is
// left behind with it. Call it before anything is served.
func (c *Consent) OnGrant(fn func(ctx context.Context, tx *db.Tx, g Grant) error) {
	c.onGrant = append(c.onGrant, fn)
}

func (c *Consent) granted(ctx context.Context, tx *db.Tx, g Grant) error {
	for _, fn := range c.onGrant {
		if err := fn(ctx, tx, g); err != nil {
			return fmt.Errorf("release what waited for a basis: %w", err)
		}
	}
	return nil
}
