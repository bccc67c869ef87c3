package ledger

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"golang.org/x/mod/sumdb/note"
)

// documentPrefix keeps a document's signature from being one of anything else
// made with the same key: no signed note can hold a NUL byte.
const documentPrefix = "earmark document v1\x00"

// SignDocument returns doc, an object as Canonical accepts it, with the member
// "type" set to typ, in a signed envelope of indented JSON:
//
//	{"document": {"type": typ, …}, "signature": {"key": "name+hash", "value": "base64"}}
//
// The signature is over a fixed prefix and the canonical text of the document, so
// it survives other white space and another order of keys, and nothing else.
// A doc that is no object, or states another type, is ErrMalformed.
func SignDocument(signer note.Signer, typ string, doc any) ([]byte, error) {
	document, err := typedDocument(typ, doc)
	if err != nil {
		return nil, fmt.Errorf("sign document: %w", err)
	}
	canonical, err := Canonical(document)
	if err != nil {
		return nil, fmt.Errorf("sign document: %w", err)
	}
	signature, err := signer.Sign(documentMessage(canonical))
	if err != nil {
		return nil, fmt.Errorf("sign document: %w", err)
	}
	envelope, err := Canonical(map[string]any{
		"document":  document,
		"signature": map[string]any{"key": keyID(signer), "value": base64.StdEncoding.EncodeToString(signature)},
	})
	if err != nil {
		return nil, fmt.Errorf("sign document: %w", err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, envelope, "", "  "); err != nil {
		return nil, fmt.Errorf("sign document: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

func typedDocument(typ string, doc any) (map[string]any, error) {
	canonical, err := Canonical(doc)
	if err != nil {
		return nil, err
	}
	value, err := parse(canonical)
	if err != nil {
		return nil, err
	}
	document, ok := value.(map[string]any)
	if !ok || typ == "" {
		return nil, fmt.Errorf("%w: a document is an object with a type", ErrMalformed)
	}
	if stated, ok := document["type"]; ok && stated != typ {
		return nil, fmt.Errorf("%w: document states another type than %q", ErrMalformed, typ)
	}
	document["type"] = typ
	return document, nil
}

// OpenDocument reads what SignDocument wrote and one of the verifiers signed. It
// returns the document's type and its canonical text, "type" included: what was
// signed, byte for byte. Errors wrap ErrMalformed, ErrUnknownKey (the key named is
// none of verifiers) or ErrSignature (a value, a key or the signature was
// changed).
func OpenDocument(data []byte, verifiers ...note.Verifier) (typ string, doc json.RawMessage, err error) {
	envelope, err := readEnvelope(data)
	if err != nil {
		return "", nil, fmt.Errorf("open document: %w", err)
	}
	if err := envelope.verify(verifiers); err != nil {
		return "", nil, fmt.Errorf("open document: %w", err)
	}
	return envelope.typ, envelope.canonical, nil
}

type envelope struct {
	typ       string
	canonical []byte
	key       string
	signature []byte
}

func readEnvelope(data []byte) (envelope, error) {
	value, err := parse(data)
	if err != nil {
		return envelope{}, err
	}
	members, _ := value.(map[string]any)
	document, isDocument := members["document"].(map[string]any)
	signature, isSigned := members["signature"].(map[string]any)
	typ, isTyped := document["type"].(string)
	key, hasKey := signature["key"].(string)
	encoded, hasValue := signature["value"].(string)
	if !isDocument || !isSigned || !isTyped || !hasKey || !hasValue || typ == "" || len(members) != 2 || len(signature) != 2 {
		return envelope{}, fmt.Errorf("%w: not a signed document", ErrMalformed)
	}
	sum, err := decodeBase64(encoded)
	if err != nil {
		return envelope{}, fmt.Errorf("signature: %w", err)
	}
	canonical, err := Canonical(document)
	if err != nil {
		return envelope{}, err
	}
	return envelope{typ: typ, canonical: canonical, key: key, signature: sum}, nil
}

func (e envelope) verify(verifiers []note.Verifier) error {
	known := false
	for _, verifier := range verifiers {
		if keyID(verifier) != e.key {
			continue
		}
		if verifier.Verify(documentMessage(e.canonical), e.signature) {
			return nil
		}
		known = true
	}
	if known {
		return fmt.Errorf("%w: key %q", ErrSignature, e.key)
	}
	return fmt.Errorf("%w: %q", ErrUnknownKey, e.key)
}

func documentMessage(canonical []byte) []byte {
	return append([]byte(documentPrefix), canonical...)
}
