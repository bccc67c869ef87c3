package ledger_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"earmark/internal/ledger"

	"golang.org/x/mod/sumdb/note"
)

// signerOf makes the same key for the same name and seed in every process, so
// that fuzzing keeps what it finds.
func signerOf(t testing.TB, name string, seed byte) (*ledger.Signer, note.Verifier) {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	public, err := note.NewEd25519VerifierKey(name, key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	nameAndHash := strings.Join(strings.SplitN(public, "+", 3)[:2], "+")
	secret := "PRIVATE+KEY+" + nameAndHash + "+" + base64.StdEncoding.EncodeToString(append([]byte{1}, key.Seed()...))
	signer, err := ledger.ParseSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	if signer.Verifier() != public {
		t.Fatalf("public half is %q, want %q", signer.Verifier(), public)
	}
	verifier, err := ledger.ParseVerifier(signer.Verifier())
	if err != nil {
		t.Fatal(err)
	}
	return signer, verifier
}

// mutations calls try with data changed in one place: every byte set to other
// values, left out, and preceded by another.
func mutations(data []byte, try func([]byte)) {
	others := []byte{0, ' ', '"', '\\', '0', '}', 0xff}
	for i, b := range data {
		set := func(value byte) {
			changed := bytes.Clone(data)
			changed[i] = value
			try(changed)
		}
		for bit := range 8 {
			set(b ^ 1<<bit)
		}
		for _, other := range others {
			if other != b {
				set(other)
				try(slices.Insert(bytes.Clone(data), i, other))
			}
		}
		try(slices.Delete(bytes.Clone(data), i, i+1))
	}
}
