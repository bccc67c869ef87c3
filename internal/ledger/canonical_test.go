package ledger_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"earmark/internal/ledger"

	"github.com/google/uuid"
)

func TestCanonical(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		in   any
		want string
	}{
		{"null", nil, `null`},
		{"literals", []any{true, false, nil}, `[true,false,null]`},
		{"integers", []any{0, -1, int64(1<<53 - 1), uint8(7)}, `[0,-1,9007199254740991,7]`},
		{"RFC 8785 string", json.RawMessage(`"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/"`), `"€$\u000f\nA'B\"\\\\\"/"`},
		{"control characters", "\b\t\n\f\r\x00\x1f\x7f\u2028<&>", "\"\\b\\t\\n\\f\\r\\u0000\\u001f\x7f\u2028<&>\""},
		{
			"RFC 8785 order of keys",
			json.RawMessage(`{"\u20ac":1,"\r":2,"\ufb33":3,"1":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7}`),
			"{\"\\r\":2,\"1\":4,\"\u0080\":6,\"ö\":7,\"€\":1,\"😀\":5,\"\ufb33\":3}",
		},
		{"a key before the longer one", map[string]any{"ab": 1, "a": 2, "": 3}, `{"":3,"a":2,"ab":1}`},
		{"nil map and slice as encoding/json has them", []any{map[string]any(nil), []any(nil)}, `[null,null]`},
		{"other types by encoding/json", struct {
			B []string  `json:"b"`
			A uuid.UUID `json:"a"`
			T time.Time `json:"t"`
		}{B: []string{"<"}, T: time.Unix(0, 0).UTC()}, `{"a":"00000000-0000-0000-0000-000000000000","b":["<"],"t":"1970-01-01T00:00:00Z"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := ledger.Canonical(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			again, err := ledger.Canonical(json.RawMessage(got))
			if err != nil || string(again) != tt.want {
				t.Errorf("read back: %s, %v", again, err)
			}
		})
	}
}

func TestCanonicalRefuses(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 40) + strings.Repeat("]", 40)
	tests := []struct {
		name string
		in   any
	}{
		{"float", 1.5},
		{"whole float", 1.0},
		{"float in a struct", struct{ F float64 }{0.5}},
		{"not a number", struct{ F any }{func() {}}},
		{"integer of 54 bits", int64(1 << 53)},
		{"integer of 54 bits by encoding/json", uint64(1 << 53)},
		{"invalid UTF-8", "\xff"},
		{"invalid UTF-8 in a key", map[string]any{"\xff": 1}},
		{"too deep", json.RawMessage(deep)},
		{"duplicate key", json.RawMessage(`{"a":1,"a":1}`)},
		{"duplicate key, one of them escaped", json.RawMessage(`{"a":1,"\u0061":1}`)},
		{"first half of a surrogate pair", json.RawMessage(`"\ud800"`)},
		{"second half of a surrogate pair", json.RawMessage(`"\udc00"`)},
		{"half a surrogate pair after an escaped backslash", json.RawMessage(`"\\\ud800\u0041"`)},
		{"decimal point", json.RawMessage(`1.0`)},
		{"exponent", json.RawMessage(`1e0`)},
		{"minus zero", json.RawMessage(`-0`)},
		{"invalid UTF-8 in JSON", json.RawMessage("\"\xff\"")},
		{"two values", json.RawMessage(`1 2`)},
		{"nothing", json.RawMessage(``)},
		{"trailing comma", json.RawMessage(`[1,]`)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got, err := ledger.Canonical(tt.in); !errors.Is(err, ledger.ErrMalformed) {
				t.Errorf("got %s, %v; want ErrMalformed", got, err)
			}
		})
	}
}

func TestCanonicalStopsAtACycle(t *testing.T) {
	t.Parallel()
	cycle := map[string]any{}
	cycle["again"] = cycle
	if _, err := ledger.Canonical(cycle); !errors.Is(err, ledger.ErrMalformed) {
		t.Errorf("got %v, want ErrMalformed", err)
	}
}
