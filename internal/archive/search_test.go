package archive_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/consent"
)

// find collects all pages of a search.
func (h *house) find(actor access.Actor, q archive.Query) []archive.Interaction {
	h.Helper()
	found := []archive.Interaction{}
	for {
		page, err := h.Search(h.Context(), actor, q)
		if err != nil {
			h.Fatal(err)
		}
		found = append(found, page.Items...)
		if page.NextCursor == "" {
			return found
		}
		q.Cursor = page.NextCursor
	}
}

func idsOf(list []archive.Interaction) []uuid.UUID {
	ids := []uuid.UUID{}
	for _, i := range list {
		ids = append(ids, i.ID)
	}
	return ids
}

func TestEveryFilter(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	actor := pbx()
	n := call()
	n.Source, n.Agent, n.Queue = "pbx-7", &archive.Agent{ID: "a7", Name: "Trần Thị Đào"}, "Bảo hành"
	n.Channel, n.Direction, n.Disposition, n.Tags = "chat", "outbound", "sold", []string{"vip", "complaint"}
	n.Customer = &archive.Customer{ID: "C-77", Phone: "0901234567", Email: "An@Example.com", Name: "Lê An"}
	n.DNIS, n.StartedAt = "0901234567", time.Date(2026, 5, 5, 10, 0, 0, 0, time.UTC)
	end := n.StartedAt.Add(90 * time.Second)
	n.EndedAt = &end
	n.Messages = []archive.Message{{From: "customer", Text: "Tôi muốn đổi điện thoại bị hỏng"}}
	wanted, _, err := h.Submit(t.Context(), actor, n)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, _, err := h.Submit(t.Context(), actor, call()); err != nil {
			t.Fatal(err)
		}
	}
	at := func(t time.Time) *time.Time { return &t }
	number := func(f float64) *float64 { return &f }
	hits := map[string]archive.Query{
		"from":                    {From: at(n.StartedAt)},
		"agent":                   {Agent: "a7"},
		"queue":                   {Queue: "Bảo hành"},
		"queue, decomposed":       {Queue: "Bảo hành"},
		"channel":                 {Channel: "chat"},
		"direction":               {Direction: "outbound"},
		"customer's number":       {Customer: "C-77"},
		"customer's phone":        {Customer: "+84 90 123 45 67"},
		"customer's phone, local": {Customer: "0901234567"},
		"its last digits":         {Customer: "34567"},
		"customer's e-mail":       {Customer: "an@example.com"},
		"customer's id":           {Customer: wanted.Customer.ID},
		"disposition":             {Disposition: "sold"},
		"tag":                     {Tag: "complaint"},
		"source":                  {Source: "pbx-7"},
		"state":                   {State: archive.Active, Queue: "Bảo hành"},
		"duration":                {MinDuration: number(90), MaxDuration: number(90)},
		"words":                   {Text: "đổi điện thoại"},
		"words without marks":     {Text: "doi dien thoai"},
		"words in capitals":       {Text: "ĐIỆN THOẠI"},
		"a phrase":                {Text: `"dien thoai bi hong"`},
		"not a word":              {Text: "dien -laptop"},
		"agent's name":            {Text: "tran thi dao"},
		"all of them": {Text: "hong", From: at(n.StartedAt), To: at(n.StartedAt.Add(time.Second)), Agent: "a7", Queue: "Bảo hành", Channel: "chat",
			Direction: "outbound", Customer: "C-77", Disposition: "sold", Tag: "vip", Source: "pbx-7", MinDuration: number(1)},
	}
	for name, q := range hits {
		if got := h.find(key(access.Reviewer), q); !slices.Equal(idsOf(got), []uuid.UUID{wanted.ID}) {
			t.Errorf("%s finds %d", name, len(got))
		}
	}
	misses := map[string]archive.Query{
		"to":             {To: at(n.StartedAt), Agent: "a7"},
		"another phrase": {Text: `"thoai dien"`},
		"excluded":       {Text: "dien -hong"},
		"longer":         {MinDuration: number(91)},
		"shorter":        {MaxDuration: number(89.9), Agent: "a7"},
		"erased":         {State: archive.Erased},
		"nobody":         {Customer: "0999999999"},
		"the name of the customer, which is not for everybody": {Text: "Lê An"},
	}
	for name, q := range misses {
		if got := h.find(key(access.Reviewer), q); len(got) != 0 {
			t.Errorf("%s finds %d", name, len(got))
		}
	}
	for id, err := range h.Matching(t.Context(), h.db, archive.Query{Tag: "vip"}) {
		if err != nil || id != wanted.ID {
			t.Errorf("Matching = %v, %v", id, err)
		}
	}
	wrong := map[string]archive.Query{
		"query.channel": {Channel: "x"}, "query.direction": {Direction: "x"}, "query.state": {State: "x"}, "query.limit": {Limit: 501},
		"query.cursor": {Cursor: "x"}, "query.q": {Text: "a\x00"}, "query.tag": {Tag: strings.Repeat("x", 600)},
	}
	for location, q := range wrong {
		_, err := h.Search(t.Context(), key(access.Reviewer), q)
		if got := locations(t, err); !slices.Equal(got, []string{location}) {
			t.Errorf("%s: %v", location, got)
		}
	}
}

// Pages put together are the whole list, each once, newest first, whatever is
// taken in meanwhile.
func TestPages(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	actor := pbx()
	var want []archive.Interaction
	for n := range 53 {
		c := call()
		c.StartedAt = c.StartedAt.Add(time.Duration(n/5) * time.Minute) // several at the same moment
		i, _, err := h.Submit(t.Context(), actor, c)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, i)
	}
	slices.SortFunc(want, func(a, b archive.Interaction) int {
		return cmp.Or(b.StartedAt.Compare(a.StartedAt), strings.Compare(b.ID.String(), a.ID.String()))
	})
	for _, limit := range []int{1, 7, 53, 500} {
		got := h.find(key(access.Supervisor), archive.Query{Limit: limit})
		if diff := gocmp.Diff(idsOf(want), idsOf(got)); diff != "" {
			t.Errorf("pages of %d:\n%s", limit, diff)
		}
	}
	page, err := h.Search(t.Context(), key(access.Supervisor), archive.Query{Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	late := call()
	late.StartedAt = late.StartedAt.Add(time.Hour)
	if _, _, err := h.Submit(t.Context(), actor, late); err != nil {
		t.Fatal(err)
	}
	rest := h.find(key(access.Supervisor), archive.Query{Limit: 10, Cursor: page.NextCursor})
	if diff := gocmp.Diff(idsOf(want[10:]), idsOf(rest)); diff != "" {
		t.Errorf("after one more came:\n%s", diff)
	}
}

func TestWhoFindsWhat(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	mine, other := pbx(), pbx()
	submit := func(actor access.Actor, agent string) archive.Interaction {
		n := call()
		n.Agent, n.ANI = &archive.Agent{ID: agent}, "0901234567"
		i, _, err := h.Submit(t.Context(), actor, n)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	a, b := submit(mine, "a1"), submit(other, "a2")
	agent := key(access.Agent)
	agent.AgentID = "a1"
	for name, c := range map[string]struct {
		actor access.Actor
		want  []uuid.UUID
	}{
		"the uploader its own":     {mine, []uuid.UUID{a.ID}},
		"another uploader its own": {other, []uuid.UUID{b.ID}},
		"a strange uploader":       {pbx(), []uuid.UUID{}},
		"the agent its own":        {agent, []uuid.UUID{a.ID}},
		"an agent without an id":   {key(access.Agent), []uuid.UUID{}},
		"a reviewer":               {key(access.Reviewer), []uuid.UUID{b.ID, a.ID}},
	} {
		if diff := gocmp.Diff(c.want, idsOf(h.find(c.actor, archive.Query{}))); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
		_, err := h.Get(t.Context(), c.actor, b.ID)
		if slices.Contains(c.want, b.ID) != (err == nil) {
			t.Errorf("%s: Get %v", name, err)
		}
	}
	for _, role := range []access.Role{access.Reviewer, access.PrivacyOfficer} {
		i, err := h.Get(t.Context(), key(role), a.ID)
		if err != nil {
			t.Fatal(err)
		}
		if named := i.Customer.Phone != ""; named != (role == access.PrivacyOfficer) {
			t.Errorf("%s sees the customer as %+v", role, i.Customer)
		}
	}
}

// Invariant 7, no listening without a purpose: who may not read what was said
// does not learn from a search which words are in it, or are not.
func TestWordsAreFoundByThoseWhoMayReadThem(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	said := func(n archive.NewInteraction) archive.NewInteraction {
		n.Agent, n.Disposition = &archive.Agent{ID: "a1", Name: "Trần Thị Đào"}, "sold"
		n.Transcript = "số thẻ của tôi"
		return n
	}
	open, closed, waiting := said(call()), said(call()), said(call())
	closed.Consent = &consent.Statement{Basis: access.LegalObligation, Reason: "the law asks for it", Purposes: []access.Purpose{access.Legal}}
	var ids []uuid.UUID
	for _, submitted := range []struct {
		actor access.Actor
		n     archive.NewInteraction
	}{{pbx(), open}, {pbx(), closed}, {key(access.Uploader), waiting}} {
		i, _, err := h.Submit(t.Context(), submitted.actor, submitted.n)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, i.ID)
	}
	agent := key(access.Agent)
	agent.AgentID = "a1"
	sender := access.Actor{Kind: "key", Role: access.Uploader, Source: "pbx"}
	for name, c := range map[string]struct {
		actor         access.Actor
		read, visible []uuid.UUID
	}{
		"a reviewer":        {key(access.Reviewer), ids[:1], []uuid.UUID{ids[1], ids[0]}},
		"the agent":         {agent, ids[:1], []uuid.UUID{ids[1], ids[0]}},
		"a records officer": {key(access.RecordsOfficer), []uuid.UUID{ids[1], ids[0]}, []uuid.UUID{ids[1], ids[0]}},
		"a privacy officer": {key(access.PrivacyOfficer), []uuid.UUID{ids[1], ids[0]}, []uuid.UUID{ids[2], ids[1], ids[0]}},
		"an administrator":  {key(access.Admin), []uuid.UUID{}, []uuid.UUID{ids[1], ids[0]}},
		"the uploader":      {sender, []uuid.UUID{}, []uuid.UUID{ids[2], ids[1], ids[0]}},
	} {
		for text, want := range map[string][]uuid.UUID{
			"so the": c.read, "dao the": c.read, "dao": c.visible, "sold": c.visible,
			"sold -the": without(c.visible, c.read),
		} {
			if diff := gocmp.Diff(want, idsOf(h.find(c.actor, archive.Query{Text: text}))); diff != "" {
				t.Errorf("%s looks for %q:\n%s", name, text, diff)
			}
		}
	}
	tags := []string{"vip"}
	if _, err := h.Amend(t.Context(), key(access.Supervisor), ids[1], archive.Patch{Tags: &tags}); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]int{"vip": 1, "the": 0} {
		if found := h.find(key(access.Admin), archive.Query{Text: text}); len(found) != want {
			t.Errorf("after an amendment %q finds %d", text, len(found))
		}
	}
}

func without(all, minus []uuid.UUID) []uuid.UUID {
	return slices.DeleteFunc(slices.Clone(all), func(id uuid.UUID) bool { return slices.Contains(minus, id) })
}

// What an agent may not know of a call: that it is drawn to be evaluated, or
// held for a court.
func TestHoldsAreShownToThoseWhoDealWithThem(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	n := call()
	n.Agent = &archive.Agent{ID: "a1"}
	sender := pbx()
	i, _, err := h.Submit(t.Context(), sender, n)
	if err != nil {
		t.Fatal(err)
	}
	h.execute(`insert into holds (interaction_id, kind, ref, placed_at) values ($1, 'review', $2, now())`, i.ID, uuid.New())
	agent := key(access.Agent)
	agent.AgentID = "a1"
	for _, c := range []struct {
		actor access.Actor
		holds int
	}{{agent, 0}, {sender, 0}, {key(access.Reviewer), 1}, {key(access.RecordsOfficer), 1}, {key(access.Auditor), 1}} {
		got, err := h.Get(t.Context(), c.actor, i.ID)
		if err != nil || len(got.Holds) != c.holds {
			t.Errorf("%s sees the holds %v, %v", c.actor.Role, got.Holds, err)
		}
	}
}

// Each filter alone is answered from an index.
func TestFiltersUseIndexes(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	h.execute(`insert into interactions (id, identity, fingerprint, state, source, channel, direction, started_at, duration_ms, agent_id,
			queue, ani, dnis, disposition, tags, received_at, received_from)
		select gen_random_uuid(), sha256(n::text::bytea), sha256('x'), 'active', 'source' || n % 500, 'channel' || n % 500, 'direction' || n % 500,
			timestamptz '2026-01-01' + n * interval '1 minute', n * 10, 'agent' || n % 500, 'queue' || n % 500, '+84' || n, '+85' || n,
			'disposition' || n % 500, array['tag' || n % 500], now(), 'test'
		from generate_series(1, 20000) n`)
	h.execute(`insert into interaction_words select id, to_tsvector('earmark', queue) from interactions`)
	h.execute(`analyze`)
	for column, condition := range map[string]string{
		"source": `i.source = 'source1'`, "channel": `i.channel = 'channel1'`, "direction": `i.direction = 'direction1'`,
		"agent_id": `i.agent_id = 'agent1'`, "queue": `i.queue = 'queue1'`, "disposition": `i.disposition = 'disposition1'`,
		"tags": `i.tags @> array['tag1']`, "duration_ms": `i.duration_ms >= 199500`, "ani": `(i.ani = '+8477' or i.dnis = '+8477')`,
		"started_at": `i.started_at < '2026-01-01 01:00'`, "no filter": `true`,
	} {
		rows, err := h.db.Query(t.Context(), `explain select i.id from interactions i
			where i.state in ('active', 'quarantined', 'restricted') and `+condition+` order by i.started_at desc, i.id desc limit 51`)
		if err != nil {
			t.Fatal(err)
		}
		var plan []string
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, line)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		if text := strings.Join(plan, "\n"); strings.Contains(text, "Seq Scan") {
			t.Errorf("%s:\n%s", column, text)
		}
	}
}

func TestAmend(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	n := call()
	n.Transcript, n.Tags, n.Disposition = "xin chào", []string{"old"}, "open"
	i, _, err := h.Submit(t.Context(), pbx(), n)
	if err != nil {
		t.Fatal(err)
	}
	tags, disposition, none := []string{"mới", "mới"}, "Đã bán", ""
	patch := archive.Patch{Tags: &tags, Disposition: &disposition, WrapUpCode: &none, Attributes: []byte(`{"a": 1}`)}
	for _, role := range access.Roles {
		_, err := h.Amend(t.Context(), key(role), i.ID, patch)
		if may := key(role).May(access.AmendInteractions) == nil; (err == nil) != may {
			t.Errorf("%s: %v", role, err)
		}
	}
	got, err := h.Get(t.Context(), key(access.Supervisor), i.ID)
	if err != nil || fmt.Sprint(got.Tags) != "[mới]" || got.Disposition != "Đã bán" || string(got.Attributes) != `{"a": 1}` {
		t.Errorf("amended to %+v, %v", got, err)
	}
	for text, want := range map[string]int{"moi": 1, "da ban": 1, "xin chao": 1, "old": 0} {
		if found := h.find(key(access.Reviewer), archive.Query{Text: text}); len(found) != want {
			t.Errorf("%q finds %d", text, len(found))
		}
	}
	if _, err := h.Amend(t.Context(), key(access.Supervisor), uuid.New(), patch); err == nil {
		t.Error("what is not there was amended")
	}
	long := strings.Repeat("x", 300)
	_, err = h.Amend(t.Context(), key(access.Supervisor), i.ID, archive.Patch{Disposition: &long})
	if got := locations(t, err); !slices.Equal(got, []string{"body.disposition"}) {
		t.Errorf("%v", got)
	}
	h.purge(i.ID)
	if _, err := h.Amend(t.Context(), key(access.PrivacyOfficer), i.ID, patch); err == nil {
		t.Error("what is erased was amended")
	}
	h.sound()
}
