package ledger

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// A Signer signs checkpoints and documents with an Ed25519 key. It is a
// note.Signer and safe for concurrent use.
type Signer struct {
	note.Signer
	verifier string
}

// Verifier returns the public half, as ParseVerifier reads it.
func (s *Signer) Verifier() string { return s.verifier }

// NewSigner makes an Ed25519 key with the given name, which must hold neither
// white space nor a plus sign. secret is what ParseSigner reads, to be kept
// secret; verifier is its public half, name+hash+base64, to be given to everybody
// (the key texts of golang.org/x/mod/sumdb/note and C2SP signed-note).
func NewSigner(name string) (secret, verifier string, err error) {
	secret, verifier, err = note.GenerateKey(rand.Reader, name)
	if err != nil {
		return "", "", fmt.Errorf("make signing key: %w", err)
	}
	if _, err := ParseVerifier(verifier); err != nil {
		return "", "", fmt.Errorf("make signing key: %w", err)
	}
	return secret, verifier, nil
}

// ParseSigner reads a secret key that NewSigner made. White space around it is
// ignored. Errors wrap ErrMalformed and never show the key.
func ParseSigner(secret string) (*Signer, error) {
	secret = strings.TrimSpace(secret)
	signer, err := note.NewSigner(secret)
	if err != nil {
		return nil, fmt.Errorf("read signing key: %w: %w", ErrMalformed, err)
	}
	// PRIVATE+KEY+name+hash+base64: the base64 may hold plus signs of its own.
	key, err := base64.StdEncoding.DecodeString(strings.SplitN(secret, "+", 5)[4])
	if err != nil || len(key) != 1+ed25519.SeedSize {
		return nil, fmt.Errorf("read signing key: %w", ErrMalformed)
	}
	public := ed25519.NewKeyFromSeed(key[1:]).Public().(ed25519.PublicKey)
	verifier, err := note.NewEd25519VerifierKey(signer.Name(), public)
	if err != nil {
		return nil, fmt.Errorf("read signing key: %w", err)
	}
	return &Signer{Signer: signer, verifier: verifier}, nil
}

// ParseVerifier reads a public key in the form name+hash+base64. White space
// around it is ignored. Errors wrap ErrMalformed.
func ParseVerifier(key string) (note.Verifier, error) {
	verifier, err := note.NewVerifier(strings.TrimSpace(key))
	if err != nil {
		return nil, fmt.Errorf("read public key: %w: %w", ErrMalformed, err)
	}
	return verifier, nil
}

// keyID names a key in a document's signature: name+hash.
func keyID(key interface {
	Name() string
	KeyHash() uint32
}) string {
	return fmt.Sprintf("%s+%08x", key.Name(), key.KeyHash())
}

// keyring is note.VerifierList, except that a key may be listed twice.
type keyring []note.Verifier

// Verifier implements note.Verifiers.
func (k keyring) Verifier(name string, hash uint32) (note.Verifier, error) {
	for _, verifier := range k {
		if verifier.Name() == name && verifier.KeyHash() == hash {
			return verifier, nil
		}
	}
	return nil, &note.UnknownVerifierError{Name: name, KeyHash: hash}
}
