package bench

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	searchPage = 50
	// A deep page is what follows deepPages pages of deepPage rows, or as many
	// as there are.
	deepPages = 20
	deepPage  = 500
	// deepPlaces are measured in turn, each with values of its own.
	deepPlaces = 4
)

// search asks for pages by every filter, one request at a time, beside the
// bare SQL of the same page: it selects a row's own columns, without
// recordings, holds or authorisation. Both must find the same.
func (b *bench) search(ctx context.Context) error {
	all := filters(b.Rows)
	b.progress.steps(b.Rows/seedBatch + 2 + len(all))
	if err := b.seedSearch(ctx); err != nil {
		return err
	}
	for _, f := range all {
		if err := b.progress.step("%s", f.name); err != nil {
			return err
		}
		if err := b.searchBy(ctx, f); err != nil {
			return fmt.Errorf("by %s: %w", f.name, err)
		}
	}
	return nil
}

func (b *bench) searchBy(ctx context.Context, f filter) error {
	err := b.searchAt(ctx, f.name+", first page", func(int) place { return place{probe: f.probe()} })
	if err != nil {
		return err
	}
	places := make([]place, deepPlaces)
	for i := range places {
		if places[i], err = b.turnPages(ctx, f.probe()); err != nil {
			return err
		}
	}
	return b.searchAt(ctx, f.name+", deep page", func(i int) place { return places[i%len(places)] })
}

// searchAt measures requests at the places that at tells. Whoever asks first
// finds the pages of the tables cold: they take turns.
func (b *bench) searchAt(ctx context.Context, name string, at func(i int) place) error {
	var direct, earmark samples
	for i := range b.Requests {
		p := at(i)
		var found, wanted []uuid.UUID
		ask := []func() error{
			func() (err error) {
				began := time.Now()
				found, err = b.service.page(ctx, p)
				earmark.add(time.Since(began))
				return err
			},
			func() (err error) {
				began := time.Now()
				wanted, err = b.service.barePage(ctx, p)
				direct.add(time.Since(began))
				return err
			},
		}
		for turn := range ask {
			if err := ask[(i+turn)%len(ask)](); err != nil {
				return err
			}
		}
		if !slices.Equal(found, wanted) {
			return fmt.Errorf("%s: %d were found, not the %d that are there", p.values.Encode(), len(found), len(wanted))
		}
	}
	m := Measurement{Work: "search", Case: name, Rows: b.Rows, Concurrency: 1}.times(direct.all, earmark.all, "ms")
	m.P50MS, m.P99MS = earmark.quantiles()
	return b.report.add(m)
}

// place is a page of a search.
type place struct {
	probe
	cursor string
	// after is the last row before the page; zero for the first page.
	after row
}

type row struct {
	ID        uuid.UUID `json:"id"`
	StartedAt time.Time `json:"started_at"`
}

type resultPage struct {
	Items      []row  `json:"items"`
	NextCursor string `json:"next_cursor"`
}

func (s *service) ask(ctx context.Context, p place, limit int) (page resultPage, err error) {
	values := url.Values{"limit": {fmt.Sprint(limit)}}
	for key := range p.values {
		values.Set(key, p.values.Get(key))
	}
	if p.cursor != "" {
		values.Set("cursor", p.cursor)
	}
	return page, s.reviewer.ask(ctx, "/v1/interactions?"+values.Encode(), nil, &page)
}

func (s *service) page(ctx context.Context, p place) ([]uuid.UUID, error) {
	page, err := s.ask(ctx, p, searchPage)
	ids := make([]uuid.UUID, len(page.Items))
	for i, item := range page.Items {
		ids[i] = item.ID
	}
	return ids, err
}

// turnPages goes to the last page but one, or as far as deepPages.
func (b *bench) turnPages(ctx context.Context, p probe) (place, error) {
	at := place{probe: p}
	for range deepPages {
		page, err := b.service.ask(ctx, at, deepPage)
		if err != nil {
			return at, err
		}
		if page.NextCursor == "" {
			break
		}
		at.cursor, at.after = page.NextCursor, page.Items[len(page.Items)-1]
	}
	return at, nil
}

// barePage reads the same page from PostgreSQL.
func (s *service) barePage(ctx context.Context, p place) ([]uuid.UUID, error) {
	where, args := p.where, slices.Clone(p.args)
	if p.cursor != "" {
		where += fmt.Sprintf(" and (i.started_at, i.id) < ($%d, $%d)", len(args)+1, len(args)+2)
		args = append(args, p.after.StartedAt, p.after.ID)
	}
	rows, err := s.db.Query(ctx, `
		select i.id, i.source, i.source_id, i.channel, i.direction, i.started_at, i.ended_at, i.duration_ms, i.agent_id, i.agent_name,
			i.queue, i.customer_id, i.ani, i.disposition, i.tags, i.consent, i.purposes, i.received_at
		from `+p.from+` where i.state = 'active' and `+where+`
		order by i.started_at desc, i.id desc limit `+fmt.Sprint(searchPage), args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (uuid.UUID, error) {
		values, err := r.Values()
		if err != nil {
			return uuid.Nil, err
		}
		id, ok := values[0].([16]byte)
		if !ok {
			return uuid.Nil, errors.New("a row without an id")
		}
		return id, nil
	})
}

// probe is one search, as it is asked for and as PostgreSQL is asked.
type probe struct {
	values      url.Values
	from, where string
	args        []any
}

// filter makes probes.
type filter struct {
	name  string
	probe func() probe
}

const (
	bareTable = "interactions i"
	wordTable = "interactions i join interaction_words w on w.interaction_id = i.id"
)

func bare(values url.Values, where string, args ...any) probe {
	return probe{values, bareTable, where, args}
}

// equal filters by a column whose values are prefix and a number below n.
func equal(key, column, prefix string, n int) filter {
	return filter{key, func() probe {
		value := prefix + number(n)
		return bare(url.Values{key: {value}}, "i."+column+" = $1", value)
	}}
}

// constant filters by one value.
func constant(key, column, value string) filter {
	return filter{key, func() probe {
		return bare(url.Values{key: {value}}, "i."+column+" = $1", value)
	}}
}

// filters are all that GET /v1/interactions has, with values that seedSearch
// gave to the rows.
func filters(rows int) []filter {
	return []filter{
		{"none", func() probe { return bare(nil, "true") }},
		equal("agent", "agent_id", "agent-", seedAgents),
		equal("queue", "queue", "queue-", seedQueues),
		equal("disposition", "disposition", "outcome-", seedOutcomes),
		equal("source", "source", "pbx-", seedSources),
		constant("channel", "channel", "email"),
		constant("direction", "direction", "outbound"),
		constant("state", "state", "active"),
		{"tag", func() probe {
			tag := "tag-" + number(seedTags)
			return bare(url.Values{"tag": {tag}}, "i.tags @> $1", []string{tag})
		}},
		{"customer", func() probe {
			phone := fmt.Sprintf("9%08s", number(customersOf(rows)))
			return bare(url.Values{"customer": {"0" + phone}}, "i.ani = $1", "+84"+phone)
		}},
		{"duration", func() probe {
			from := numberBelow(800)
			return bare(url.Values{"min_duration": {fmt.Sprint(from)}, "max_duration": {fmt.Sprint(from + 60)}},
				"i.duration_ms between $1 and $2", from*1000, (from+60)*1000)
		}},
		{"from and to", func() probe {
			from, to := days(1)
			return bare(bounds(from, to), "i.started_at >= $1 and i.started_at < $2", from, to)
		}},
		{"agent and queue", func() probe {
			agent, queue := "agent-"+number(seedAgents), "queue-"+number(seedQueues)
			return bare(url.Values{"agent": {agent}, "queue": {queue}}, "i.agent_id = $1 and i.queue = $2", agent, queue)
		}},
		{"q, rare", func() probe {
			return probe{url.Values{"q": {"hoan tien"}}, wordTable, "w.words @@ websearch_to_tsquery('earmark', $1)", []any{"hoan tien"}}
		}},
		{"q, frequent, a month", func() probe {
			from, to := days(30)
			values := bounds(from, to)
			values.Set("q", "xin chao")
			return probe{values, wordTable, "w.words @@ websearch_to_tsquery('earmark', $3) and i.started_at >= $1 and i.started_at < $2",
				[]any{from, to, "xin chao"}}
		}},
	}
}

func bounds(from, to time.Time) url.Values {
	return url.Values{"from": {from.Format(time.RFC3339)}, "to": {to.Format(time.RFC3339)}}
}

// days are some days in the midst of the rows.
func days(n int) (from, to time.Time) {
	from = seedBegin.AddDate(0, 0, 1+numberBelow(seedDays-n-2))
	return from, from.AddDate(0, 0, n)
}
