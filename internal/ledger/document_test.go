package ledger_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"earmark/internal/ledger"

	"github.com/google/go-cmp/cmp"
)

type certificate struct {
	Purge     string         `json:"purge"`
	Completed string         `json:"completed_at"`
	Destroyed map[string]int `json:"destroyed"`
	Remaining []remainder    `json:"remaining"`
	Verified  bool           `json:"verified"`
	Note      *string        `json:"note"`
}

type remainder struct {
	Interaction string `json:"interaction"`
	Reason      string `json:"reason"`
}

func exampleCertificate() certificate {
	return certificate{
		Purge:     "01953a2e-8000-7000-8000-000000000001",
		Completed: "2026-03-01T02:03:04.000005Z",
		Destroyed: map[string]int{"interactions": 812, "objects": 2436, "bytes": 1 << 40},
		Remaining: []remainder{{"01953a2e-8000-7000-8000-000000000002", `legal_hold "tranh chấp" <7\8>`}},
		Verified:  true,
	}
}

func signedCertificate(t testing.TB, signer *ledger.Signer) []byte {
	t.Helper()
	signed, err := ledger.SignDocument(signer, "purge_certificate", exampleCertificate())
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func compact(t testing.TB, data []byte) string {
	t.Helper()
	var out bytes.Buffer
	if err := json.Compact(&out, data); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func canonical(t testing.TB, data []byte) string {
	t.Helper()
	text, err := ledger.Canonical(json.RawMessage(data))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestDocumentReadsBack(t *testing.T) {
	t.Parallel()
	signer, verifier := signerOf(t, "earmark.example", 1)
	_, other := signerOf(t, "earmark.example", 2)
	typ, doc, err := ledger.OpenDocument(signedCertificate(t, signer), other, verifier)
	if err != nil {
		t.Fatal(err)
	}
	if typ != "purge_certificate" {
		t.Errorf("type %q", typ)
	}
	var read struct {
		Type string `json:"type"`
		certificate
	}
	if err := json.Unmarshal(doc, &read); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(exampleCertificate(), read.certificate); diff != "" || read.Type != typ {
		t.Errorf("type %q, %s", read.Type, diff)
	}
}

func TestDocumentSurvivesAnotherLayout(t *testing.T) {
	t.Parallel()
	signer, verifier := signerOf(t, "earmark.example", 1)
	signed := signedCertificate(t, signer)
	document, signature, found := strings.Cut(strings.TrimSuffix(compact(t, signed), "}"), `,"signature":`)
	if !found {
		t.Fatal("no signature")
	}
	reordered := `{"signature":` + signature + "," + strings.TrimPrefix(document, "{") + "}"
	reordered = strings.Replace(reordered, `,"verified":true`, ``, 1)
	reordered = strings.Replace(reordered, `"document":{`, `"document":{"verified":true,`, 1)
	layouts := map[string][]byte{
		"compact":   []byte(compact(t, signed)),
		"spread":    []byte(strings.ReplaceAll(string(signed), "\n", "\r\n \t")),
		"reordered": []byte(reordered),
		"escaped":   []byte(strings.Replace(string(signed), "ấ", `\u1ea5`, 1)),
	}
	for name, layout := range layouts {
		if _, _, err := ledger.OpenDocument(layout, verifier); err != nil {
			t.Errorf("%s: %v\n%s", name, err, layout)
		}
	}
}

func TestSignDocumentRefuses(t *testing.T) {
	t.Parallel()
	signer, _ := signerOf(t, "earmark.example", 1)
	tests := map[string]struct {
		typ string
		doc any
	}{
		"no type":      {"", map[string]any{}},
		"another type": {"receipt", map[string]any{"type": "purge_certificate"}},
		"no object":    {"receipt", []any{}},
		"null":         {"receipt", nil},
		"float":        {"receipt", map[string]any{"share": 0.5}},
	}
	for name, tt := range tests {
		if signed, err := ledger.SignDocument(signer, tt.typ, tt.doc); !errors.Is(err, ledger.ErrMalformed) {
			t.Errorf("%s: got %s, %v; want ErrMalformed", name, signed, err)
		}
	}
}

func TestOpenDocumentSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	signer, verifier := signerOf(t, "earmark.example", 1)
	_, other := signerOf(t, "earmark.example", 2)
	signed := string(signedCertificate(t, signer))
	value := signed[strings.Index(signed, `"value": "`)+len(`"value": "`):]
	value = value[:strings.IndexByte(value, '"')]
	// 64 bytes leave four unused bits before "==".
	loose := value[:85] + string(value[85]+1) + "=="
	tests := map[string]struct {
		from, to string
		want     error
	}{
		"changed value":           {"812", "813", ledger.ErrSignature},
		"changed key":             {`"verified"`, `"Verified"`, ledger.ErrSignature},
		"changed type":            {`purge_certificate`, `receipt`, ledger.ErrSignature},
		"extra field":             {`"verified"`, `"extra": null, "verified"`, ledger.ErrSignature},
		"removed field":           {"\"note\": null,", "", ledger.ErrSignature},
		"value of another kind":   {"true", `"true"`, ledger.ErrSignature},
		"duplicate field":         {`"verified"`, `"verified": true, "verified"`, ledger.ErrMalformed},
		"number spelt otherwise":  {"812", "8.12e2", ledger.ErrMalformed},
		"extra member":            {`"signature":`, `"extra": 1, "signature":`, ledger.ErrMalformed},
		"extra signature member":  {`"key"`, `"extra": 1, "key"`, ledger.ErrMalformed},
		"member in other case":    {`"signature"`, `"Signature"`, ledger.ErrMalformed},
		"unused bits":             {value, loose, ledger.ErrMalformed},
		"no padding":              {value, strings.TrimRight(value, "="), ledger.ErrMalformed},
		"line break in signature": {value, value[:10] + `\n` + value[10:], ledger.ErrMalformed},
		"empty signature":         {value, "", ledger.ErrSignature},
		"another name":            {`"key": "earmark`, `"key": "eermark`, ledger.ErrUnknownKey},
		"truncated":               {"}\n}\n", "", ledger.ErrMalformed},
		"followed by more":        {"}\n}\n", "}\n}\n{}", ledger.ErrMalformed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changed := strings.Replace(signed, tt.from, tt.to, 1)
			if changed == signed {
				t.Fatal("the change changes nothing")
			}
			if _, _, err := ledger.OpenDocument([]byte(changed), verifier); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	if _, _, err := ledger.OpenDocument([]byte(signed), other); !errors.Is(err, ledger.ErrUnknownKey) {
		t.Errorf("another key of the same name: got %v, want ErrUnknownKey", err)
	}
}

func TestChangedDocumentIsRefused(t *testing.T) {
	t.Parallel()
	signer, verifier := signerOf(t, "earmark.example", 1)
	signed := signedCertificate(t, signer)
	want := canonical(t, signed)
	tried := 0
	mutations(signed, func(changed []byte) {
		tried++
		_, _, err := ledger.OpenDocument(changed, verifier)
		if err == nil && canonical(t, changed) != want {
			t.Errorf("accepted: %s", changed)
		}
	})
	if tried < 10*len(signed) {
		t.Errorf("only %d changes tried", tried)
	}
}

func TestDocumentSignatureIsNoNoteSignature(t *testing.T) {
	t.Parallel()
	signer, verifier := signerOf(t, "earmark.example", 1)
	text, err := ledger.Canonical(map[string]any{"type": "receipt"})
	if err != nil {
		t.Fatal(err)
	}
	bare, err := signer.Sign(text)
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := json.Marshal(map[string]any{
		"document":  json.RawMessage(text),
		"signature": map[string]any{"key": signer.Verifier()[:strings.LastIndex(signer.Verifier(), "+")], "value": bare},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := ledger.OpenDocument(envelope, verifier); !errors.Is(err, ledger.ErrSignature) {
		t.Errorf("got %v, want ErrSignature", err)
	}
}

func FuzzOpenDocument(f *testing.F) {
	signer, verifier := signerOf(f, "earmark.example", 1)
	signed := signedCertificate(f, signer)
	_, want, err := ledger.OpenDocument(signed, verifier)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Add([]byte(`{"document":{"type":"\ud800"},"signature":{"key":"","value":""}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, doc, err := ledger.OpenDocument(data, verifier)
		if err == nil && !bytes.Equal(doc, want) {
			t.Fatalf("%s was never signed", doc)
		}
	})
}
