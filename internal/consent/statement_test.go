package consent

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"earmark/internal/access"
	"earmark/internal/invalid"
)

func TestStatementsAreFilledIn(t *testing.T) {
	t.Parallel()
	hanoi := time.FixedZone("", 7*60*60)
	at := time.Date(2026, 3, 2, 18, 0, 0, 123456789, hanoi)
	kept := time.Date(2026, 3, 2, 11, 0, 0, 123456000, time.UTC)
	for name, c := range map[string]struct{ said, want Statement }{
		"status alone": {
			Statement{Status: Granted},
			Statement{Basis: access.Consent, Status: Granted, Purposes: allBut(access.Research)},
		},
		"basis alone": {
			Statement{Basis: access.Contract},
			Statement{Basis: access.Contract, Status: Granted, Purposes: allBut(access.Research)},
		},
		"withdrawal of all": {
			Statement{Status: Withdrawn},
			Statement{Basis: access.Consent, Status: Withdrawn, Purposes: access.Purposes},
		},
		"everything": {
			Statement{Basis: access.Consent, Status: Granted, Method: " lời nói ", At: &at, Purposes: some(legal, qa, legal),
				Proof: json.RawMessage(` { "n" : 1.50, "s": "x" } `), Wording: "Ghi âm?", ExpiresAt: hour(100)},
			Statement{Basis: access.Consent, Status: Granted, Method: "lời nói", At: &kept, Purposes: some(qa, legal),
				Proof: json.RawMessage(`{"n":1.50,"s":"x"}`), Wording: "Ghi âm?", ExpiresAt: hour(100)},
		},
		"no proof": {
			Statement{Status: Granted, Proof: json.RawMessage("null"), Purposes: some(qa)},
			Statement{Basis: access.Consent, Status: Granted, Purposes: some(qa)},
		},
		"a clock that is four minutes ahead": {
			Statement{Status: Refused, At: ptr(noon.Add(4 * time.Minute))},
			Statement{Basis: access.Consent, Status: Refused, At: ptr(noon.Add(4 * time.Minute)), Purposes: access.Purposes},
		},
	} {
		got, err := c.said.Checked("body.consent", noon)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func ptr[T any](v T) *T { return &v }

func TestStatementsAreRefused(t *testing.T) {
	t.Parallel()
	proof := func(text string) Statement { return Statement{Status: Granted, Proof: json.RawMessage(text)} }
	for name, c := range map[string]struct {
		said  Statement
		where string
	}{
		"nothing":              {Statement{}, "basis"},
		"unknown basis":        {Statement{Basis: "habit", Status: Granted}, "basis"},
		"silence":              {Statement{Basis: access.Consent}, "status"},
		"unknown status":       {Statement{Basis: access.Consent, Status: "maybe"}, "status"},
		"no purposes":          {Statement{Status: Granted, Purposes: []access.Purpose{}}, "purposes"},
		"unknown purpose":      {Statement{Status: Granted, Purposes: some(qa, "fun")}, "purposes"},
		"the future":           {Statement{Status: Granted, At: ptr(noon.Add(6 * time.Minute))}, "at"},
		"before all calendars": {Statement{Status: Granted, At: ptr(time.Time{}.Add(-time.Hour))}, "at"},
		"ends before it began": {Statement{Status: Granted, At: hour(-1), ExpiresAt: hour(-2)}, "expires_at"},
		"a refusal that ends":  {Statement{Status: Refused, ExpiresAt: hour(9)}, "expires_at"},
		"long method":          {Statement{Status: Granted, Method: strings.Repeat("x", 201)}, "method"},
		"NUL in the wording":   {Statement{Status: Granted, Wording: "a\x00"}, "wording"},
		"reason not UTF-8":     {Statement{Status: Granted, Reason: "\xff"}, "reason"},
		"proof not JSON":       {proof(`{"a":`), "proof"},
		"two proofs":           {proof(`{} {}`), "proof"},
		"NUL in the proof":     {proof(`{"a":["\u0000"]}`), "proof"},
		"NUL in a name":        {proof(`{"\u0000":1}`), "proof"},
		"a number too large":   {proof(`1e999999`), "proof"},
		"long proof":           {proof(`"` + strings.Repeat("x", maxProof) + `"`), "proof"},
		"deep proof":           {proof(strings.Repeat("[", 34) + strings.Repeat("]", 34)), "proof"},
	} {
		_, err := c.said.Checked("body.consent", noon)
		var e *invalid.Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if e.Fields[0].Location != "body.consent."+c.where {
			t.Errorf("%s: %v", name, e)
		}
		if strings.Contains(err.Error(), "habit") || strings.Contains(err.Error(), "fun") {
			t.Errorf("%s: the value is echoed: %v", name, err)
		}
	}
}
