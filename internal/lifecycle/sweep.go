package lifecycle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/db"
)

// sweepBatch is how many due interactions one purge takes at most.
const sweepBatch = 5000

var sweeper = access.System("retention.sweep")

// Sweep begins purges of what retention has made due, under the approvals of
// the policies; they run as jobs. What is held stays due and is taken once it
// is free. It also goes on with holds and erasures that were left behind.
func (l *Lifecycle) Sweep(ctx context.Context) error {
	failed := l.settleHolds(ctx)
	failed = errors.Join(failed, l.resumeForgotten(ctx))
	for {
		more, err := l.sweepSome(ctx)
		if err != nil {
			return errors.Join(failed, fmt.Errorf("sweep: %w", err))
		}
		if !more {
			return failed
		}
	}
}

// sweepSome puts some of what is due into purges, one a policy.
func (l *Lifecycle) sweepSome(ctx context.Context) (more bool, err error) {
	err = l.DB.Write(ctx, func(tx *db.Tx) error {
		inForce, err := activePolicies(ctx, tx)
		if err != nil {
			return err
		}
		due, err := kept(ctx, tx, `
			where i.retain_until <= $1 and i.state in ('active', 'quarantined', 'restricted')
				and not exists (select from holds where interaction_id = i.id)
				and not exists (select from purge_items p join purges u on u.id = p.purge_id
					where p.interaction_id = i.id and p.state = 'pending' and u.state in ('approved', 'running'))
			order by i.retain_until, i.id limit $2 for no key update of i skip locked`, tx.Now, l.sweepBatch)
		if err != nil {
			return err
		}
		more = len(due) == l.sweepBatch
		groups, err := sortDue(ctx, tx, inForce, due)
		if err != nil {
			return err
		}
		for _, policy := range slices.SortedFunc(maps.Keys(groups), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }) {
			if err := l.purgeDue(ctx, tx, inForce, policy, groups[policy]); err != nil {
				return err
			}
		}
		return nil
	})
	return more, err
}

// sortDue groups what is due by its policy, uuid.Nil for the quarantine's
// term. A recomputation may not have come by yet: what the policies no longer
// say is corrected and left.
func sortDue(ctx context.Context, tx *db.Tx, inForce []Policy, due []keptRow) (map[uuid.UUID][]uuid.UUID, error) {
	groups := map[uuid.UUID][]uuid.UUID{}
	var ruled []keptRow
	for _, row := range due {
		if row.State == string(archive.Quarantined) {
			groups[uuid.Nil] = append(groups[uuid.Nil], row.ID)
			continue
		}
		ruled = append(ruled, row)
	}
	corrected, err := correct(ctx, tx, inForce, ruled)
	if err != nil {
		return nil, err
	}
	for _, row := range ruled {
		if !slices.Contains(corrected, row.ID) {
			groups[*row.PolicyID] = append(groups[*row.PolicyID], row.ID)
		}
	}
	return groups, nil
}

func (l *Lifecycle) purgeDue(ctx context.Context, tx *db.Tx, inForce []Policy, policy uuid.UUID, ids []uuid.UUID) error {
	// The quarantine's term is the operator's, who configured it.
	by := "configuration:quarantine_term"
	p := Purge{Kind: "retention", State: "approved", Reason: "the term of quarantine has ended",
		RequestedBy: sweeper.PersonString(), ApprovedBy: &by, ApprovedAt: &tx.Now}
	if i := slices.IndexFunc(inForce, func(p Policy) bool { return p.ID == policy }); i >= 0 {
		p.PolicyID, p.ApprovedBy, p.ApprovedAt = &policy, inForce[i].ApprovedBy, inForce[i].ApprovedAt
		p.Reason = "the term of the retention policy has ended: " + inForce[i].Name
	}
	id, err := insertPurge(ctx, tx, p, ids)
	if err != nil {
		return err
	}
	tx.Enqueue(runLater(id))
	return recordPurge(ctx, tx, sweeper, "purge.approved", id)
}
