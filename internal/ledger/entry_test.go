package ledger_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"earmark/internal/ledger"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"
)

const encodedEntry = `{"action":"recording.played","actor":"user:7","at":"2026-03-01T02:03:04.000005Z","details":{"bytes":12,"purpose":"quality_assurance"},"id":"01953a2e-8000-7000-8000-000000000001","subject":"recording:9"}`

func exampleEntry() ledger.Entry {
	return ledger.Entry{
		ID: uuid.MustParse("01953a2e-8000-7000-8000-000000000001"),
		At: time.Date(2026, 3, 1, 9, 3, 4, 5999, time.FixedZone("", 7*3600)),

		Actor: "user:7", Action: "recording.played", Subject: "recording:9",
		Details: map[string]any{"purpose": "quality_assurance", "bytes": 12},
	}
}

func TestEntryHasOneText(t *testing.T) {
	t.Parallel()
	text, err := exampleEntry().Encode()
	if err != nil {
		t.Fatal(err)
	}
	if text != encodedEntry {
		t.Errorf("got  %s\nwant %s", text, encodedEntry)
	}
}

func TestEntryReadsBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.String().Filter(func(s string) bool { return !strings.Contains(s, "\x00") })
		values := rapid.OneOf(
			texts.AsAny(), rapid.Bool().AsAny(), rapid.Just[any](nil),
			rapid.Int64Range(-1<<53+1, 1<<53-1).AsAny(),
			rapid.SliceOf(texts.AsAny()).Filter(func(s []any) bool { return s != nil }).AsAny(),
		)
		entry := ledger.Entry{
			ID:      uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Filter(func(b []byte) bool { return uuid.UUID(b) != uuid.Nil }).Draw(t, "id")),
			At:      time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(t, "at")).UTC(),
			Actor:   texts.Draw(t, "actor"),
			Action:  texts.Filter(func(s string) bool { return s != "" }).Draw(t, "action"),
			Subject: texts.Draw(t, "subject"),
		}
		if details := rapid.MapOf(texts, values).Draw(t, "details"); len(details) > 0 {
			entry.Details = details
		}
		text, err := entry.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(text, "\n\r") {
			t.Fatalf("more than one line: %q", text)
		}
		read, err := ledger.Decode(text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(entry, read); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*ledger.Entry){
		"no id":            func(e *ledger.Entry) { e.ID = uuid.Nil },
		"no action":        func(e *ledger.Entry) { e.Action = "" },
		"the year 10000":   func(e *ledger.Entry) { e.At = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"before year zero": func(e *ledger.Entry) { e.At = time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC) },
		"float":            func(e *ledger.Entry) { e.Details["score"] = 0.5 },
		"too long":         func(e *ledger.Entry) { e.Subject = strings.Repeat("x", ledger.MaxEntry) },
		"NUL":              func(e *ledger.Entry) { e.Details["reason"] = "a\x00b" },
		"invalid UTF-8":    func(e *ledger.Entry) { e.Actor = "\xff" },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			entry := exampleEntry()
			spoil(&entry)
			if _, err := entry.Encode(); !errors.Is(err, ledger.ErrMalformed) {
				t.Errorf("got %v, want ErrMalformed", err)
			}
		})
	}
}

func TestDecodeTakesNothingButTheOneText(t *testing.T) {
	t.Parallel()
	tests := map[string][2]string{
		"unknown field":             {`{"action"`, `{"a":1,"action"`},
		"duplicate field":           {`{"action"`, `{"action":"recording.played","action"`},
		"order":                     {`{"action":"recording.played","actor":"user:7"`, `{"actor":"user:7","action":"recording.played"`},
		"white space":               {`,"id"`, `, "id"`},
		"line end":                  {`:9"}`, ":9\"}\n"},
		"capital id":                {`01953a2e`, `01953A2E`},
		"id in another form":        {`"id":"0`, `"id":"urn:uuid:0`},
		"other zone":                {`005Z`, `005+00:00`},
		"milliseconds":              {`000005Z`, `000Z`},
		"nanoseconds":               {`000005Z`, `000005000Z`},
		"needless escape":           {`"user`, `"\u0075ser`},
		"empty details":             {`{"bytes":12,"purpose":"quality_assurance"}`, `{}`},
		"details not an object":     {`{"bytes":12,"purpose":"quality_assurance"}`, `[]`},
		"number for a string":       {`"user:7"`, `7`},
		"null for a string":         {`"user:7"`, `null`},
		"missing field":             {`,"subject":"recording:9"`, ``},
		"float":                     {`12`, `12.0`},
		"name in other case":        {`"subject"`, `"Subject"`},
		"nothing":                   {encodedEntry, ``},
		"not an object":             {encodedEntry, `[]`},
		"longer than an entry may ": {`user:7`, strings.Repeat("7", ledger.MaxEntry)},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(encodedEntry, change[0], change[1], 1)
			if text == encodedEntry {
				t.Fatal("the change changes nothing")
			}
			if _, err := ledger.Decode(text); !errors.Is(err, ledger.ErrMalformed) {
				t.Errorf("%s: got %v, want ErrMalformed", text, err)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encodedEntry)
	f.Add(`{"action":"a","actor":"","at":"2026-03-01T02:03:04.000005Z","id":"01953a2e-8000-7000-8000-000000000001","subject":"\u0001\\"}`)
	f.Add(`{"action":"\ud800"}`)
	f.Fuzz(func(t *testing.T, text string) {
		entry, err := ledger.Decode(text)
		if err != nil {
			if !errors.Is(err, ledger.ErrMalformed) {
				t.Fatalf("%v is not ErrMalformed", err)
			}
			return
		}
		if again, err := entry.Encode(); err != nil || again != text {
			t.Fatalf("%q read, %q written (%v)", text, again, err)
		}
	})
}
