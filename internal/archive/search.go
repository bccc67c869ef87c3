package archive

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"earmark/internal/access"
	"earmark/internal/db"
	"earmark/internal/invalid"
)

// Query is a search: each field that is given must match. Its JSON is how
// features keep a filter.
type Query struct {
	// Text is looked for, with or without marks, in agent's name, tags,
	// disposition, queue and codes, and in messages and transcript where the
	// asker may read them: words, "phrases", or, -not.
	Text string `json:"q,omitempty"`
	// From and To bound the start: From inclusive, To exclusive.
	From      *time.Time `json:"from,omitempty"`
	To        *time.Time `json:"to,omitempty"`
	Agent     string     `json:"agent,omitempty"` // the agent's id
	Queue     string     `json:"queue,omitempty"`
	Channel   string     `json:"channel,omitempty"`
	Direction string     `json:"direction,omitempty"`
	// Customer is a number in any form, an e-mail address or an id.
	Customer    string `json:"customer,omitempty"`
	Disposition string `json:"disposition,omitempty"`
	Tag         string `json:"tag,omitempty"`
	State       State  `json:"state,omitempty"`
	Source      string `json:"source,omitempty"`
	// MinDuration and MaxDuration are in seconds, inclusive.
	MinDuration *float64 `json:"min_duration,omitempty"`
	MaxDuration *float64 `json:"max_duration,omitempty"`
	// Limit is of a page: 1 to 500, 50 when 0. Cursor is the last page's NextCursor.
	Limit  int    `json:"-"`
	Cursor string `json:"-"`
}

const (
	defaultLimit  = 50
	maxLimit      = 500
	searchTimeout = 10 * time.Second
)

// Search finds interactions, newest first. Uploaders find their source's and
// agents their own; what is quarantined, restricted or gone is found by roles
// that deal with it alone, and what is gone only when its state is asked for.
// Nobody learns from a search which words are in what they may not read.
// Bad fields are an *invalid.Error; ErrTooBroad after ten seconds.
func (a *Archive) Search(ctx context.Context, actor access.Actor, query Query) (Page[Interaction], error) {
	none := Page[Interaction]{Items: []Interaction{}}
	if err := actor.May(access.ReadInteractions); err != nil {
		return none, err
	}
	after, err := query.check()
	if err != nil {
		return none, err
	}
	states := query.states(visibleStates(actor))
	if len(states) == 0 {
		return none, nil
	}
	bounded, cancel := context.WithTimeout(ctx, searchTimeout)
	defer cancel()
	page, err := a.search(bounded, actor, query, states, after)
	if err != nil && ctx.Err() == nil && errors.Is(bounded.Err(), context.DeadlineExceeded) {
		return none, ErrTooBroad
	}
	return page, err
}

func (a *Archive) search(ctx context.Context, actor access.Actor, query Query, states []State, after *position) (Page[Interaction], error) {
	page := Page[Interaction]{Items: []Interaction{}}
	var args arguments
	from, where, err := a.conditions(ctx, a.DB, query, states, &actor, &args)
	if err != nil {
		return page, err
	}
	where = append(where, scope(actor, &args))
	if after != nil {
		where = append(where, "(i.started_at, i.id) < ("+args.add(after.startedAt)+", "+args.add(after.id)+")")
	}
	limit := query.limit()
	// The columns of a page are read after it is cut.
	rows, err := a.DB.Query(ctx, `select `+viewColumns(actor)+`
		from (select i.id from `+from+` where `+strings.Join(where, " and ")+`
			order by i.started_at desc, i.id desc limit `+args.add(limit+1)+`) found
		join interactions i using (id)
		order by i.started_at desc, i.id desc`, args...)
	if err != nil {
		return page, fmt.Errorf("search: %w", err)
	}
	found, err := pgx.CollectRows(rows, scanView)
	if err != nil {
		return page, fmt.Errorf("search: %w", err)
	}
	if len(found) > limit {
		found = found[:limit]
		last := found[limit-1]
		page.NextCursor = position{last.StartedAt, last.ID}.cursor()
	}
	page.Items = append(page.Items, found...)
	return page, nil
}

// Matching yields the ids of all that a query finds, newest first, whoever may
// see them: for features that authorise by themselves. Limit and Cursor do not
// count. What is purging or erased is not found. An error is yielded last.
func (a *Archive) Matching(ctx context.Context, q db.Querier, query Query) iter.Seq2[uuid.UUID, error] {
	return func(yield func(uuid.UUID, error) bool) {
		if err := a.match(ctx, q, query, func(id uuid.UUID) bool { return yield(id, nil) }); err != nil {
			yield(uuid.Nil, err)
		}
	}
}

func (a *Archive) match(ctx context.Context, q db.Querier, query Query, visit func(uuid.UUID) bool) error {
	query.Limit, query.Cursor = 0, ""
	if _, err := query.check(); err != nil {
		return err
	}
	states := query.states(living)
	if len(states) == 0 {
		return nil
	}
	var args arguments
	from, where, err := a.conditions(ctx, q, query, states, nil, &args)
	if err != nil {
		return err
	}
	rows, err := q.Query(ctx, `select i.id from `+from+` where `+strings.Join(where, " and ")+`
		order by i.started_at desc, i.id desc`, args...)
	if err != nil {
		return fmt.Errorf("match: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			return fmt.Errorf("match: %w", err)
		}
		if !visit(id) {
			return nil
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("match: %w", err)
	}
	return nil
}

// living are the states of what is not being destroyed.
var living = []State{Active, Quarantined, Restricted}

// states are those of visible that the query asks for.
func (q Query) states(visible []State) []State {
	wanted := living
	if q.State != "" {
		wanted = []State{q.State}
	}
	return slices.DeleteFunc(slices.Clone(wanted), func(s State) bool { return !slices.Contains(visible, s) })
}

func (q Query) limit() int {
	if q.Limit == 0 {
		return defaultLimit
	}
	return q.Limit
}

// check also reads the cursor.
func (q Query) check() (*position, error) {
	e := &invalid.Error{}
	if q.Channel != "" {
		oneOf(e, "query.channel", q.Channel, Channels)
	}
	if q.Direction != "" {
		oneOf(e, "query.direction", q.Direction, Directions)
	}
	if q.State != "" && !slices.Contains(States, q.State) {
		e.Add("query.state", "one of active, quarantined, restricted, purging, erased")
	}
	for location, value := range map[string]string{
		"query.q": q.Text, "query.agent": q.Agent, "query.queue": q.Queue, "query.customer": q.Customer,
		"query.disposition": q.Disposition, "query.tag": q.Tag, "query.source": q.Source,
	} {
		if text(e, location, value); utf8.RuneCountInString(value) > 2*maxLine {
			e.Add(location, "at most %d characters", 2*maxLine)
		}
	}
	checkSeconds(e, "query.min_duration", q.MinDuration)
	checkSeconds(e, "query.max_duration", q.MaxDuration)
	for location, t := range map[string]*time.Time{"query.from": q.From, "query.to": q.To} {
		if t != nil && (t.Year() < 1 || t.Year() > 9999) {
			e.Add(location, "a time of the years 1 to 9999")
		}
	}
	if q.Limit < 0 || q.Limit > maxLimit {
		e.Add("query.limit", "1 to %d", maxLimit)
	}
	after, err := readCursor(q.Cursor)
	if err != nil {
		e.Add("query.cursor", "the next_cursor of an earlier page")
	}
	return after, e.Err()
}

// readable is the SQL condition, over interactions as i, under which reader may
// read what was said in one; nil may read all.
func readable(reader *access.Actor, args *arguments) string {
	if reader == nil {
		return "true"
	}
	return "i.state = 'active' and i.purposes && " + args.add(reader.Role.Purposes())
}

// saying is the SQL condition, over interaction_words as w, for text: what was
// said counts where the condition readable holds.
func saying(text, readable string, args *arguments) string {
	wanted := "websearch_to_tsquery('earmark', " + args.add(text) + ")"
	if strings.Contains(text, "-") {
		// That a word is missing tells something, too. What decides is opaque
		// to the planner, so this is not the way for all.
		return "(w.words @@ " + wanted + " or w.labels @@ " + wanted + ")" +
			" and case when " + readable + " then w.words else w.labels end @@ " + wanted
	}
	return "w.words @@ " + wanted + " and (" + readable + " or w.labels @@ " + wanted + ")"
}

// conditions are the tables and the SQL conditions of a query, over
// interactions as i; what was said counts where reader may read it. The states
// are this package's own constants: spelt out, they let the planner use partial
// indexes.
func (a *Archive) conditions(ctx context.Context, q db.Querier, query Query, states []State, reader *access.Actor, args *arguments) (from string, where []string, err error) {
	from = "interactions i"
	where = []string{"i.state in ('" + strings.Join(texts(states), "', '") + "')"}
	if text := normal(query.Text); text != "" {
		from += " join interaction_words w on w.interaction_id = i.id"
		where = append(where, saying(text, readable(reader, args), args))
	}
	equals := func(column, value string) {
		if value = normal(value); value != "" {
			where = append(where, "i."+column+" = "+args.add(value))
		}
	}
	equals("agent_id", query.Agent)
	equals("queue", query.Queue)
	equals("channel", query.Channel)
	equals("direction", query.Direction)
	equals("disposition", query.Disposition)
	equals("source", query.Source)
	if tag := normal(query.Tag); tag != "" {
		where = append(where, "i.tags @> "+args.add([]string{tag}))
	}
	if query.From != nil {
		where = append(where, "i.started_at >= "+args.add(*query.From))
	}
	if query.To != nil {
		where = append(where, "i.started_at < "+args.add(*query.To))
	}
	if query.MinDuration != nil {
		where = append(where, "i.duration_ms >= "+args.add(int64(*query.MinDuration*1000)))
	}
	if query.MaxDuration != nil {
		where = append(where, "i.duration_ms <= "+args.add(int64(*query.MaxDuration*1000)))
	}
	if customer := normal(query.Customer); customer != "" {
		ids, err := a.Consent.Find(ctx, q, customer)
		if err != nil {
			return "", nil, err
		}
		number := args.add(a.normalNumber(customer))
		where = append(where, "(i.customer_id = any("+args.add(ids)+") or i.ani = "+number+" or i.dnis = "+number+")")
	}
	return from, where, nil
}

// normal is a text as Validate would keep it.
func normal(s string) string {
	line(&invalid.Error{}, "", &s)
	return s
}

func texts(states []State) []string {
	all := make([]string, len(states))
	for i, s := range states {
		all[i] = string(s)
	}
	return all
}

// position is where a page ends.
type position struct {
	startedAt time.Time
	id        uuid.UUID
}

func (p position) cursor() string {
	return base64.RawURLEncoding.EncodeToString([]byte(p.startedAt.Format(time.RFC3339Nano) + " " + p.id.String()))
}

var errCursor = errors.New("not a cursor")

func readCursor(cursor string) (*position, error) {
	if cursor == "" {
		return nil, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return nil, errCursor
	}
	at, id, ok := strings.Cut(string(raw), " ")
	if !ok {
		return nil, errCursor
	}
	var p position
	if p.startedAt, err = time.Parse(time.RFC3339Nano, at); err != nil || p.startedAt.Year() < 1 {
		return nil, errCursor
	}
	if p.id, err = uuid.Parse(id); err != nil {
		return nil, errCursor
	}
	return &p, nil
}
