package archive_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/invalid"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// locations are those of the fields that an error names.
func locations(t testing.TB, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	var fields *invalid.Error
	if !errors.As(err, &fields) {
		t.Fatalf("not about fields: %v", err)
	}
	var all []string
	for _, f := range fields.Fields {
		all = append(all, f.Location)
	}
	slices.Sort(all)
	return all
}

func TestParseNew(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000)
	cases := map[string]struct{ text, location string }{
		"not JSON":            {`nonsense`, "body"},
		"an array":            {`[]`, "body"},
		"two values":          {`{} {}`, "body"},
		"half":                {`{"source":`, "body"},
		"an unknown field":    {`{"sauce": "pbx"}`, "body.sauce"},
		"an odd field":        {`{"<script>": 1}`, "body"},
		"a wrong type":        {`{"queue": 7}`, "body.queue"},
		"a wrong type inside": {`{"agent": {"id": 7}}`, "body.agent.id"},
		"a field twice":       {`{"queue": "a", "queue": "b"}`, "body.queue"},
		"twice in a list":     {`{"messages": [{"text": "a"}, {"text": "a", "text": "b"}]}`, "body.messages[1].text"},
		"an attribute twice":  {`{"attributes": {"A": {"b": 1, "b": 2}}}`, "body.attributes"},
		"capital letters":     {`{"Queue": "a"}`, "body"},
		"no time":             {`{"started_at": "yesterday"}`, "body.started_at"},
		"a time without zone": {`{"ended_at": "2026-03-04T05:06:07"}`, "body.ended_at"},
		"no time of message":  {`{"messages": [{"at": "yesterday"}]}`, "body"},
		"bad UTF-8":           {"{\"queue\": \"\xff\"}", "body"},
		"10,000 levels":       {`{"attributes": ` + deep + `}`, "body"},
		"too much":            {`{"transcript": "` + strings.Repeat("a", archive.MaxMetadata) + `"}`, "body"},
	}
	for name, c := range cases {
		_, err := archive.ParseNew([]byte(c.text))
		if got := locations(t, err); !slices.Equal(got, []string{c.location}) {
			t.Errorf("%s: %v, want %s", name, got, c.location)
		}
		if err != nil && (strings.Contains(err.Error(), "yesterday") || strings.Contains(err.Error(), "script")) {
			t.Errorf("%s: the value is repeated: %v", name, err)
		}
	}
	n, err := archive.ParseNew([]byte(`{"source": "pbx", "started_at": "2026-03-04T12:06:07+07:00", "attributes": {"[{": "}\"]"}}`))
	if err != nil || n.Source != "pbx" || n.StartedAt.Unix() != 1772600767 {
		t.Errorf("= %+v, %v", n, err)
	}
	if _, err := archive.ParsePatch([]byte(`{"tags": ["a"], "queue": "b"}`)); err == nil {
		t.Error("a patch of what cannot be amended was taken")
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ế", 256)
	many := func(n int) []string {
		tags := make([]string, n)
		for i := range tags {
			tags[i] = strings.Repeat("x", i+1)
		}
		return tags
	}
	at := func(t time.Time) *time.Time { return &t }
	number, seconds := -1, -0.5
	cases := map[string]func(*archive.NewInteraction){
		"body.source":                     func(n *archive.NewInteraction) { n.Source = " " },
		"body.source_id":                  func(n *archive.NewInteraction) { n.SourceID = long },
		"body.channel":                    func(n *archive.NewInteraction) { n.Channel = "pigeon" },
		"body.direction":                  func(n *archive.NewInteraction) { n.Direction = "up" },
		"body.started_at":                 func(n *archive.NewInteraction) { n.StartedAt = time.Time{} },
		"body.ended_at":                   func(n *archive.NewInteraction) { n.EndedAt = at(n.StartedAt.Add(-time.Second)) },
		"body.agent.name":                 func(n *archive.NewInteraction) { n.Agent = &archive.Agent{Name: "a\x00b"} },
		"body.agent.id":                   func(n *archive.NewInteraction) { n.Agent = &archive.Agent{ID: "\xff"} },
		"body.queue":                      func(n *archive.NewInteraction) { n.Queue = long },
		"body.customer.phone":             func(n *archive.NewInteraction) { n.Customer = &archive.Customer{Phone: long} },
		"body.participants[0].role":       func(n *archive.NewInteraction) { n.Participants = []archive.Participant{{Role: "king"}} },
		"body.participants":               func(n *archive.NewInteraction) { n.Participants = make([]archive.Participant, 101) },
		"body.hold_count":                 func(n *archive.NewInteraction) { n.HoldCount = &number },
		"body.hold_seconds":               func(n *archive.NewInteraction) { n.HoldSeconds = &seconds },
		"body.after_contact_work_seconds": func(n *archive.NewInteraction) { n.AfterContactWorkSeconds = &seconds },
		"body.tags":                       func(n *archive.NewInteraction) { n.Tags = many(65) },
		"body.tags[1]":                    func(n *archive.NewInteraction) { n.Tags = []string{"a", ""} },
		"body.messages":                   func(n *archive.NewInteraction) { n.Messages = make([]archive.Message, 10_001) },
		"body.messages[0].text":           func(n *archive.NewInteraction) { n.Messages = []archive.Message{{Text: "\x00"}} },
		"body.transcript":                 func(n *archive.NewInteraction) { n.Transcript = "\x00" },
	}
	for want, spoil := range cases {
		n := call()
		spoil(&n)
		if got := locations(t, n.Validate(noon)); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %v", want, got)
		}
	}
	for name, attributes := range map[string]string{
		"an array": `[]`, "a NUL": `{"a": "\u0000"}`, "a NUL in a key": `{"\u0000": 1}`, "a huge number": `{"a": 1e999}`,
		"a tiny number": `{"a": 1e-99999}`, "too many levels": strings.Repeat(`{"a":`, 33) + "1" + strings.Repeat("}", 33),
		"too much": `{"a": "` + strings.Repeat("x", 64<<10) + `"}`, "two": `{} {}`,
	} {
		n := call()
		n.Attributes = json.RawMessage(attributes)
		if got := locations(t, n.Validate(noon)); !slices.Equal(got, []string{"body.attributes"}) {
			t.Errorf("attributes with %s: %v", name, got)
		}
	}
	for _, start := range []time.Time{noon.Add(25 * time.Hour), time.Date(1989, 12, 31, 0, 0, 0, 0, time.UTC), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)} {
		n := call()
		n.StartedAt = start
		if got := locations(t, n.Validate(noon)); !slices.Equal(got, []string{"body.started_at"}) {
			t.Errorf("%v: %v", start, got)
		}
	}
}

func TestValidateNormalises(t *testing.T) {
	t.Parallel()
	n := call()
	n.Queue, n.Tags = "  Hỗ trợ ", []string{"a", " a ", "ế"}
	n.Attributes = json.RawMessage(`{"b": 1, "a": 2.50}`)
	n.StartedAt = time.Date(2026, 3, 4, 12, 6, 7, 123456789, time.FixedZone("", 7*3600))
	if err := n.Validate(noon); err != nil {
		t.Fatal(err)
	}
	if n.Queue != "Hỗ trợ" {
		t.Errorf("queue %q", n.Queue)
	}
	if diff := cmp.Diff([]string{"a", "ế"}, n.Tags); diff != "" {
		t.Error(diff)
	}
	if string(n.Attributes) != `{"a":2.50,"b":1}` {
		t.Errorf("attributes %s", n.Attributes)
	}
	if want := time.Date(2026, 3, 4, 5, 6, 7, 123456000, time.UTC); n.StartedAt != want {
		t.Errorf("started at %v", n.StartedAt)
	}
	again := n
	if err := again.Validate(noon); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(n, again); diff != "" {
		t.Errorf("Validate is not idempotent:\n%s", diff)
	}
}

// Whatever Validate lets pass, PostgreSQL keeps.
func TestOddTextsAreKept(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	n := marked()
	n.Transcript = "\u202e\ufffe\U0001f600 \\u0000 ' \" $1 %s" + strings.Repeat(" aé½㎆", 60_000)
	n.Attributes = json.RawMessage(`{"a": 1e300, "b": [null, true, {"\ud800": "\udfff"}], "c": 1e-300}`)
	n.Tags = []string{"{", "}", `"`, ",", "\\", "null"}
	i, _, err := h.Submit(t.Context(), pbx(), n)
	if err != nil {
		t.Fatal(err)
	}
	got, err := h.Get(t.Context(), key(access.Reviewer), i.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(i.Tags, got.Tags); diff != "" {
		t.Error(diff)
	}
	text, err := h.Read(t.Context(), key(access.Reviewer), i.ID, "training")
	if err != nil || text.Transcript != n.Transcript {
		t.Errorf("another transcript, %v", err)
	}
}

func FuzzParseNew(f *testing.F) {
	for _, seed := range []string{
		`{"source": "pbx", "source_id": "1", "channel": "voice", "started_at": "2026-03-04T05:06:07Z"}`,
		`{"attributes": {"a": [1, {"b": null}]}, "tags": ["x"], "consent": {"status": "granted"}}`,
		`{"messages": [{"at": "2026-03-04T05:06:07Z", "from": "a", "text": "b"}], "customer": {"phone": "+84901234567"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := archive.ParseNew(data)
		if err != nil {
			locations(t, err)
			return
		}
		if err := n.Validate(noon); err != nil {
			locations(t, err)
			return
		}
		once, err := json.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Validate(noon); err != nil {
			t.Fatalf("valid once, then not: %v", err)
		}
		if twice, err := json.Marshal(n); err != nil || string(once) != string(twice) {
			t.Fatalf("Validate is not idempotent: %v", err)
		}
	})
}
