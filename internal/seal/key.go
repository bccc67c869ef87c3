package seal

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"log/slog"

	"filippo.io/age"
)

// Key is the key of one interaction: an age X25519 identity. It seals and opens
// all objects of that interaction. The zero Key is not usable.
type Key struct {
	identity *age.X25519Identity
	// sizes authenticates the size in an object's header; it is derived from
	// the identity so that opening takes no second X25519 computation.
	sizes []byte
}

// NewKey makes a key.
func NewKey() (Key, error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return Key{}, fmt.Errorf("seal: new key: %w", err)
	}
	return newKey(identity)
}

func newKey(identity *age.X25519Identity) (Key, error) {
	sizes, err := hkdf.Key(sha256.New, []byte(identity.String()), nil, "earmark/seal/size/v1", sha256.Size)
	if err != nil {
		return Key{}, fmt.Errorf("seal: derive key: %w", err)
	}
	return Key{identity, sizes}, nil
}

// Wrap encrypts the key for keeping, bound to its interaction. What is wrapped
// is the text AGE-SECRET-KEY-1…, which the age program takes as an identity.
func (k Key) Wrap(ring *Ring, interactionID string) Wrapped {
	return ring.Wrap([]byte(k.identity.String()), interactionID)
}

// Open decrypts an interaction's key: [ErrNoKEK], [ErrUnwrap].
func (r *Ring) Open(w Wrapped, interactionID string) (Key, error) {
	text, err := r.Unwrap(w, interactionID)
	if err != nil {
		return Key{}, err
	}
	identity, err := age.ParseX25519Identity(string(text))
	if err != nil {
		return Key{}, fmt.Errorf("seal: open key: %w", ErrUnwrap) // the library's error shows the key
	}
	return newKey(identity)
}

// String shows nothing of the key.
func (k Key) String() string { return "seal.Key" }

// GoString shows nothing of the key.
func (k Key) GoString() string { return "seal.Key" }

// LogValue shows nothing of the key.
func (k Key) LogValue() slog.Value { return slog.StringValue("seal.Key") }
