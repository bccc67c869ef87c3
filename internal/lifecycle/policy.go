package lifecycle

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/text/unicode/norm"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/db"
	"earmark/internal/invalid"
	"earmark/internal/ledger"
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

const (
	proposed = "proposed"
	active   = "active"
	retired  = "retired"
)

// facts are what policies look at in an interaction.
type facts struct {
	Channel, Queue, Direction, Disposition string
	Tags                                   []string
	// End is when it ended, or when it began where that is not known.
	End time.Time
}

func factsOf(i archive.Interaction) facts {
	end := i.StartedAt
	if i.EndedAt != nil {
		end = *i.EndedAt
	}
	return facts{i.Channel, i.Queue, i.Direction, i.Disposition, i.Tags, end}
}

func (m Match) covers(f facts) bool {
	fits := func(want, is string) bool { return want == "" || want == is }
	return fits(m.Channel, f.Channel) && fits(m.Queue, f.Queue) && fits(m.Direction, f.Direction) &&
		fits(m.Disposition, f.Disposition) && (m.Tag == "" || slices.Contains(f.Tags, m.Tag))
}

// overlaps says whether one interaction could be covered by both. Tags never
// tell: it can have two.
func (m Match) overlaps(o Match) bool {
	fits := func(a, b string) bool { return a == "" || b == "" || a == b }
	return fits(m.Channel, o.Channel) && fits(m.Queue, o.Queue) && fits(m.Direction, o.Direction) &&
		fits(m.Disposition, o.Disposition)
}

// compareTerms orders terms by their length; none is the longest.
func compareTerms(a, b *int) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return cmp.Compare(*a, *b)
}

// compareStrength orders policies by which of them applies where both match:
// the stronger one is less.
func compareStrength(a, b Policy) int {
	return cmp.Or(
		cmp.Compare(b.Priority, a.Priority),
		compareTerms(b.KeepDays, a.KeepDays),
		strings.Compare(a.ID.String(), b.ID.String()),
	)
}

// retention is what the active policies say of an interaction.
func retention(inForce []Policy, f facts) (policy *uuid.UUID, until *time.Time) {
	var strongest *Policy
	for i, p := range inForce {
		if p.Match.covers(f) && (strongest == nil || compareStrength(p, *strongest) < 0) {
			strongest = &inForce[i]
		}
	}
	if strongest == nil {
		return nil, nil
	}
	if strongest.KeepDays == nil {
		return &strongest.ID, nil
	}
	end := f.End.Add(time.Duration(*strongest.KeepDays) * 24 * time.Hour)
	return &strongest.ID, &end
}

// mayShorten says whether something that p keeps could be kept for a shorter
// time without it.
func mayShorten(p Policy, inForce []Policy) bool {
	return slices.ContainsFunc(inForce, func(o Policy) bool {
		return o.ID != p.ID && compareStrength(p, o) < 0 &&
			compareTerms(o.KeepDays, p.KeepDays) < 0 && p.Match.overlaps(o.Match)
	})
}

const (
	maxName     = 200
	maxReason   = 2000
	maxKeepDays = 200 * 365
	maxPriority = 1_000_000
)

// line returns s as it is kept: trimmed and in NFC.
func line(s string) string { return norm.NFC.String(strings.TrimSpace(s)) }

// checkText notes an empty or overlong text.
func checkText(problems *invalid.Error, location, text string, most int) {
	if text == "" || utf8.RuneCountInString(text) > most || strings.ContainsRune(text, 0) || !utf8.ValidString(text) {
		problems.Add(location, "expected 1 to %d characters", most)
	}
}

func (n *NewPolicy) validate() error {
	n.Name = line(n.Name)
	for _, field := range []*string{&n.Match.Queue, &n.Match.Disposition, &n.Match.Tag} {
		*field = line(*field)
	}
	problems := &invalid.Error{}
	checkText(problems, "body.name", n.Name, maxName)
	if n.Priority < -maxPriority || n.Priority > maxPriority {
		problems.Add("body.priority", "expected %d to %d", -maxPriority, maxPriority)
	}
	if n.KeepDays != nil && (*n.KeepDays < 0 || *n.KeepDays > maxKeepDays) {
		problems.Add("body.keep_days", "expected 0 to %d, or null to keep until erasure is asked for", maxKeepDays)
	}
	if n.Match.Channel != "" && !slices.Contains(archive.Channels, n.Match.Channel) {
		problems.Add("body.match.channel", "expected one of %s", strings.Join(archive.Channels, ", "))
	}
	if n.Match.Direction != "" && !slices.Contains(archive.Directions, n.Match.Direction) {
		problems.Add("body.match.direction", "expected one of %s", strings.Join(archive.Directions, ", "))
	}
	for location, value := range map[string]string{
		"body.match.queue": n.Match.Queue, "body.match.disposition": n.Match.Disposition, "body.match.tag": n.Match.Tag,
	} {
		if value != "" {
			checkText(problems, location, value, maxName)
		}
	}
	return problems.Err()
}

// details are what the ledger says of a policy.
func (p Policy) details() map[string]any {
	details := map[string]any{"priority": p.Priority}
	if p.KeepDays != nil {
		details["keep_days"] = *p.KeepDays
	}
	return details
}

// ProposePolicy writes a policy down; it changes nothing until another person
// approves it. Errors: *invalid.Error, access.ErrForbidden.
func (l *Lifecycle) ProposePolicy(ctx context.Context, actor access.Actor, n NewPolicy) (p Policy, err error) {
	if err := actor.May(access.ProposePolicies); err != nil {
		return Policy{}, err
	}
	if err := n.validate(); err != nil {
		return Policy{}, err
	}
	err = l.DB.Write(ctx, func(tx *db.Tx) error {
		p = Policy{ID: tx.NewID(), NewPolicy: n, State: proposed, ProposedBy: actor.PersonString(), ProposedAt: tx.Now}
		_, err := tx.Exec(ctx, `
			insert into retention_policies (id, name, priority, match, keep_days, state, proposed_by, proposed_at)
			values ($1, $2, $3, $4, $5, $6, $7, $8)`,
			p.ID, p.Name, p.Priority, p.Match, p.KeepDays, p.State, p.ProposedBy, p.ProposedAt)
		if err != nil {
			return err
		}
		tx.Record(ledger.Entry{Actor: actor.String(), Action: "policy.proposed",
			Subject: "policy:" + p.ID.String(), Details: p.details()})
		return nil
	})
	if err != nil {
		return Policy{}, fmt.Errorf("propose policy: %w", err)
	}
	return p, nil
}

// ApprovePolicy puts a proposed policy in force and has the archive recomputed
// by it. Errors: access.ErrSamePerson, ErrState, db.ErrNotFound.
func (l *Lifecycle) ApprovePolicy(ctx context.Context, actor access.Actor, id uuid.UUID) (Policy, error) {
	p, err := l.changePolicy(ctx, actor, id, func(tx *db.Tx, p *Policy, _ []Policy) error {
		if p.State != proposed {
			return ErrState
		}
		if err := actor.Approves(p.ProposedBy); err != nil {
			return err
		}
		by := actor.PersonString()
		p.State, p.ApprovedBy, p.ApprovedAt = active, &by, &tx.Now
		tx.Record(ledger.Entry{Actor: actor.String(), Action: "policy.approved",
			Subject: "policy:" + p.ID.String(), Details: p.details()})
		return l.beginRecomputation(ctx, tx)
	})
	if err != nil {
		return Policy{}, fmt.Errorf("approve policy: %w", err)
	}
	return p, nil
}

// RetirePolicy takes a policy out of force, and withdraws one that is only
// proposed. Where a shorter term could then apply to what it covered, the
// first call only asks for it (the policy stays active) and a second person's
// call does it; the first person's second call is access.ErrSamePerson.
// Errors: ErrState, db.ErrNotFound.
func (l *Lifecycle) RetirePolicy(ctx context.Context, actor access.Actor, id uuid.UUID) (Policy, error) {
	p, err := l.changePolicy(ctx, actor, id, func(tx *db.Tx, p *Policy, others []Policy) error {
		if p.State == retired {
			return ErrState
		}
		by := actor.PersonString()
		entry := ledger.Entry{Actor: actor.String(), Action: "policy.retired", Subject: "policy:" + p.ID.String()}
		wasActive := p.State == active
		if wasActive && mayShorten(*p, others) {
			if p.RetirementRequestedBy == nil {
				p.RetirementRequestedBy = &by
				entry.Action = "policy.retirement_requested"
				tx.Record(entry)
				return nil
			}
			if err := actor.Approves(*p.RetirementRequestedBy); err != nil {
				return err
			}
		} else {
			// Nothing is approved here, so that the one who once asked may do it.
			p.RetirementRequestedBy = nil
		}
		p.State, p.RetiredBy, p.RetiredAt = retired, &by, &tx.Now
		tx.Record(entry)
		if !wasActive {
			return nil
		}
		return l.beginRecomputation(ctx, tx)
	})
	if err != nil {
		return Policy{}, fmt.Errorf("retire policy: %w", err)
	}
	return p, nil
}

// changePolicy changes one policy while nobody decides by the active ones.
func (l *Lifecycle) changePolicy(ctx context.Context, actor access.Actor, id uuid.UUID,
	change func(tx *db.Tx, p *Policy, inForce []Policy) error,
) (p Policy, err error) {
	if err := actor.May(access.ApprovePolicies); err != nil {
		return Policy{}, err
	}
	err = l.DB.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtext('retention_policies'))`); err != nil {
			return err
		}
		found, err := policies(ctx, tx, `select * from retention_policies where id = $1 for update`, id)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return db.ErrNotFound
		}
		inForce, err := activePolicies(ctx, tx)
		if err != nil {
			return err
		}
		p = found[0]
		if err := change(tx, &p, inForce); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			update retention_policies set state = $2, approved_by = $3, approved_at = $4,
				retirement_requested_by = $5, retired_by = $6, retired_at = $7 where id = $1`,
			p.ID, p.State, p.ApprovedBy, p.ApprovedAt, p.RetirementRequestedBy, p.RetiredBy, p.RetiredAt)
		return err
	})
	return p, err
}

// Policies are all policies: active ones first, in the order in which they are
// applied.
func (l *Lifecycle) Policies(ctx context.Context, actor access.Actor) ([]Policy, error) {
	if err := actor.May(access.ReadLifecycle); err != nil {
		return nil, err
	}
	all, err := policies(ctx, l.DB, `
		select * from retention_policies
		order by state, priority desc, keep_days desc nulls first, id`)
	if err != nil {
		return nil, fmt.Errorf("list policies: %w", err)
	}
	return all, nil
}

func policies(ctx context.Context, q db.Querier, sql string, args ...any) ([]Policy, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read policies: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[Policy])
	if err != nil {
		return nil, fmt.Errorf("read policies: %w", err)
	}
	return found, nil
}

func activePolicies(ctx context.Context, q db.Querier) ([]Policy, error) {
	return policies(ctx, q, `select * from active_retention_policies()`)
}

// RetainUntil tells which active policy applies to an interaction and until
// when it is kept by it; nil and nil: until erasure is asked for. It is one
// query. Called in a transaction, it keeps the policies from changing until
// the transaction ends.
func RetainUntil(ctx context.Context, q db.Querier, i archive.Interaction) (policy *uuid.UUID, until *time.Time, err error) {
	inForce, err := activePolicies(ctx, q)
	if err != nil {
		return nil, nil, err
	}
	policy, until = retention(inForce, factsOf(i))
	return policy, until, nil
}
