package quality

import (
	"context"
	"encoding/json"
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

// Stream keeps two kinds of draws apart that are never averaged together.
type Stream string

// The streams.
const (
	// Random may feed an agent's figures.
	Random Stream = "random"
	// Targeted is for coaching and risk.
	Targeted Stream = "targeted"
)

// Filter narrows what a plan draws from. Each field that is given must match.
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
	// MinDuration and MaxDuration are in whole seconds, inclusive; 0: any.
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
	// DueDays is how many days reviewers have; 7 when 0.
	DueDays int `json:"due_days,omitempty"`
}

// Plan says what is drawn, how many, and for whom. It never changes.
type Plan struct {
	ID uuid.UUID `json:"id"`
	NewPlan
	CreatedAt time.Time `json:"created_at"`
}

const (
	maxPerAgent    = 1000
	maxReviewers   = 1000
	maxDueDays     = 365
	defaultDueDays = 7
	maxFilterText  = 200
	maxDuration    = 7 * 24 * 60 * 60
)

// Validate returns an *invalid.Error that names every field that is wrong in itself.
func (n NewPlan) Validate() error {
	wrong := &invalid.Error{}
	if n.FormID == uuid.Nil {
		wrong.Add("body.form_id", "must be the id of a form")
	}
	if n.Stream != "" && n.Stream != Random && n.Stream != Targeted {
		wrong.Add("body.stream", "must be random or targeted")
	}
	if n.PerAgent < 1 || n.PerAgent > maxPerAgent {
		wrong.Add("body.per_agent", "must be 1 to %d", maxPerAgent)
	}
	if n.DueDays < 0 || n.DueDays > maxDueDays {
		wrong.Add("body.due_days", "must be 1 to %d days, or 0 for %d", maxDueDays, defaultDueDays)
	}
	if len(n.Reviewers) > maxReviewers {
		wrong.Add("body.reviewers", "must be at most %d", maxReviewers)
	}
	n.Filter.validate(wrong)
	return withName(strings.TrimSpace(n.Name), wrong.Err())
}

func (f Filter) validate(wrong *invalid.Error) {
	if f.Channel != "" && !slices.Contains(archive.Channels, f.Channel) {
		wrong.Add("body.filter.channel", "must be one of %s", strings.Join(archive.Channels, ", "))
	}
	if f.Direction != "" && !slices.Contains(archive.Directions, f.Direction) {
		wrong.Add("body.filter.direction", "must be one of %s", strings.Join(archive.Directions, ", "))
	}
	for _, c := range f.exact() {
		if utf8.RuneCountInString(c.value) > maxFilterText || strings.ContainsRune(c.value, 0) {
			wrong.Add("body.filter."+c.column, "must be at most %d characters long", maxFilterText)
		}
	}
	for i, tag := range f.Tags {
		if tag == "" || utf8.RuneCountInString(tag) > maxFilterText || strings.ContainsRune(tag, 0) {
			wrong.Add(fmt.Sprintf("body.filter.tags[%d]", i), "must be 1 to %d characters long", maxFilterText)
		}
	}
	if f.MinDuration < 0 || f.MinDuration > maxDuration {
		wrong.Add("body.filter.min_duration", "must be 0 to %d seconds", maxDuration)
	}
	if f.MaxDuration < 0 || f.MaxDuration > maxDuration || f.MaxDuration != 0 && f.MaxDuration < f.MinDuration {
		wrong.Add("body.filter.max_duration", "must be 0 to %d seconds and not less than min_duration", maxDuration)
	}
}

type condition struct{ column, value string }

// exact are the fields that must be equal, by the names of their columns.
func (f Filter) exact() []condition {
	return []condition{
		{"channel", f.Channel}, {"direction", f.Direction}, {"queue", f.Queue}, {"skill", f.Skill},
		{"campaign", f.Campaign}, {"source", f.Source}, {"disposition", f.Disposition},
	}
}

// where is the filter as SQL over interactions i, each condition after an
// "and"; args are those before and its own.
func (f Filter) where(args []any) (string, []any) {
	var sql strings.Builder
	add := func(condition string, arg any) {
		args = append(args, arg)
		fmt.Fprintf(&sql, " and "+condition, len(args))
	}
	for _, c := range f.exact() {
		if c.value != "" {
			add("i."+c.column+" = $%d", c.value)
		}
	}
	if len(f.Tags) > 0 {
		add("i.tags @> $%d", f.Tags)
	}
	if f.MinDuration > 0 {
		add("i.duration_ms >= $%d", int64(f.MinDuration)*1000)
	}
	if f.MaxDuration > 0 {
		add("i.duration_ms <= $%d", int64(f.MaxDuration)*1000)
	}
	return sql.String(), args
}

// normalised is f as it is kept and matched: in Unicode's NFC.
func (f Filter) normalised() Filter {
	for _, s := range []*string{&f.Queue, &f.Skill, &f.Campaign, &f.Source, &f.Disposition} {
		*s = norm.NFC.String(*s)
	}
	tags := make([]string, len(f.Tags))
	for i, tag := range f.Tags {
		tags[i] = norm.NFC.String(tag)
	}
	f.Tags = tags
	return f
}

// CreatePlan keeps a sampling plan. Needs access.ManageQuality; what is wrong,
// a form or reviewer that is not there included, is an *invalid.Error.
func (q *Quality) CreatePlan(ctx context.Context, actor access.Actor, n NewPlan) (Plan, error) {
	if err := actor.May(access.ManageQuality); err != nil {
		return Plan{}, err
	}
	if err := n.Validate(); err != nil {
		return Plan{}, err
	}
	n.Name, n.Filter = norm.NFC.String(strings.TrimSpace(n.Name)), n.Filter.normalised()
	if n.Stream == "" {
		n.Stream = Random
	}
	if n.DueDays == 0 {
		n.DueDays = defaultDueDays
	}
	plan := Plan{NewPlan: n}
	err := q.db.Write(ctx, func(tx *db.Tx) error {
		if err := n.check(ctx, tx); err != nil {
			return err
		}
		plan.ID, plan.CreatedAt = tx.NewID(), tx.Now
		return insertPlan(ctx, tx, actor, plan)
	})
	if err != nil {
		return Plan{}, fmt.Errorf("create plan: %w", err)
	}
	return plan, nil
}

// check says what is wrong with n beside what is there.
func (n NewPlan) check(ctx context.Context, r db.Querier) error {
	wrong := &invalid.Error{}
	var formExists bool
	err := r.QueryRow(ctx, `select exists (select from forms where id = $1)`, n.FormID).Scan(&formExists)
	if err != nil {
		return err
	}
	if !formExists {
		wrong.Add("body.form_id", "must be the id of a form")
	}
	able, err := reviewers(ctx, r, n.Reviewers)
	if err != nil {
		return err
	}
	for i, id := range n.Reviewers {
		known := slices.ContainsFunc(able, func(r reviewer) bool { return r.id == id })
		if !known || slices.Contains(n.Reviewers[:i], id) {
			wrong.Add(fmt.Sprintf("body.reviewers[%d]", i), "must be an enabled user or key that may evaluate, each once")
		}
	}
	return wrong.Err()
}

func insertPlan(ctx context.Context, tx *db.Tx, actor access.Actor, p Plan) error {
	filter, err := json.Marshal(p.Filter)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		insert into sampling_plans (id, name, form_id, stream, per_agent, filter, reviewers, due_days, created_by, created_at)
		values ($1, $2, $3, $4, $5, $6, coalesce($7, '{}'::uuid[]), $8, $9, $10)`,
		p.ID, p.Name, p.FormID, p.Stream, p.PerAgent, filter, p.Reviewers, p.DueDays, actor.PersonString(), tx.Now)
	if err != nil {
		return err
	}
	tx.Record(ledger.Entry{
		Actor: actor.String(), Action: "plan.created", Subject: "plan:" + p.ID.String(),
		Details: map[string]any{"form": p.FormID.String(), "stream": string(p.Stream), "per_agent": p.PerAgent},
	})
	return nil
}

const selectPlans = `
	select id, name, form_id, stream, per_agent, filter, reviewers, due_days, created_at from sampling_plans`

// Plans lists the sampling plans, newest first. Needs access.ReadQuality.
func (q *Quality) Plans(ctx context.Context, actor access.Actor, l List) (archive.Page[Plan], error) {
	if err := actor.May(access.ReadQuality); err != nil {
		return archive.Page[Plan]{}, err
	}
	limit, before, err := l.bounds()
	if err != nil {
		return archive.Page[Plan]{}, err
	}
	rows, err := q.db.Query(ctx, selectPlans+` where id < $1 order by id desc limit $2`, before, limit+1)
	plans, err := collect(rows, err, scanPlan)
	if err != nil {
		return archive.Page[Plan]{}, fmt.Errorf("list plans: %w", err)
	}
	return page(plans, limit, func(p Plan) uuid.UUID { return p.ID }), nil
}

// Plan reads one sampling plan. Needs access.ReadQuality; db.ErrNotFound when
// there is none.
func (q *Quality) Plan(ctx context.Context, actor access.Actor, id uuid.UUID) (Plan, error) {
	if err := actor.May(access.ReadQuality); err != nil {
		return Plan{}, err
	}
	return readPlan(ctx, q.db, id)
}

func readPlan(ctx context.Context, r db.Querier, id uuid.UUID) (Plan, error) {
	plan, err := scanPlan(r.QueryRow(ctx, selectPlans+` where id = $1`, id))
	if err != nil {
		return Plan{}, fmt.Errorf("read plan: %w", db.Found(err))
	}
	return plan, nil
}

func scanPlan(row pgx.Row) (p Plan, err error) {
	err = row.Scan(&p.ID, &p.Name, &p.FormID, &p.Stream, &p.PerAgent, &p.Filter, &p.Reviewers, &p.DueDays, &p.CreatedAt)
	p.CreatedAt = p.CreatedAt.UTC()
	return p, err
}

// reviewers returns those of ids that are enabled and may evaluate; with no
// ids, everybody enabled whose role is reviewer. They come with the least
// open work first.
func reviewers(ctx context.Context, r db.Querier, ids []uuid.UUID) ([]reviewer, error) {
	able := []access.Role{access.Reviewer}
	if len(ids) > 0 {
		able = slices.DeleteFunc(slices.Clone(access.Roles), func(role access.Role) bool {
			return !slices.Contains(role.Actions(), access.Evaluate)
		})
	}
	rows, err := r.Query(ctx, `
		select p.id, coalesce(p.agent_id, '')
		from principals p
		where p.enabled and p.role = any($1) and (p.id = any($2) or cardinality($2::uuid[]) = 0)
			and not exists (select from api_keys k where k.id = p.id and k.expires_at <= now())
		order by (select count(*) from assignments a where a.reviewer_id = p.id and a.state = 'assigned'), p.id`,
		able, append([]uuid.UUID{}, ids...))
	return collect(rows, err, func(row pgx.Row) (r reviewer, err error) {
		err = row.Scan(&r.id, &r.agentID)
		return r, err
	})
}
