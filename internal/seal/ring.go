// Package seal keeps recordings unreadable without their key: one key an
// interaction, kept only wrapped by the key-encryption key in force, and age
// files (age-encryption.org/v1, C2SP) that can be read from any position.
//
// Destroying an interaction's wrapped key makes every copy of its objects
// unreadable.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

var (
	// ErrNoKEK says that a key is wrapped by a key-encryption key that the ring
	// does not hold: the set-up lacks it, or it was destroyed and what it
	// wrapped is lost for good.
	ErrNoKEK = errors.New("key-encryption key is not in the ring")
	// ErrUnwrap says that a wrapped key is damaged, or is not that of the
	// interaction it was presented for.
	ErrUnwrap = errors.New("wrapped key does not open")
	// ErrRing says that the text of a key ring is malformed.
	ErrRing = errors.New("malformed key ring")
)

const kekSize = 32

// Wrapped is a secret encrypted by a key-encryption key.
type Wrapped struct {
	// KEK is the id of the key-encryption key.
	KEK string
	// Bytes is nonce, ciphertext and tag of AES-256-GCM.
	Bytes []byte
}

// Ring holds the key-encryption keys (KEKs). The first one is in force and wraps;
// all unwrap. It is safe for concurrent use. One KEK may wrap 2^32 secrets, the
// bound of random nonces (NIST SP 800-38D, 8.3).
type Ring struct {
	inForce string
	keks    map[string]cipher.AEAD
}

var kekID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// ParseRing reads "id:key[,id:key…]", the key in force first; white space may
// stand for the comma. A key is 32 bytes in base64 or hexadecimal. Without an id
// it gets the first 16 hexadecimal digits of its SHA-256. Errors are [ErrRing]
// and never show a key.
func ParseRing(text string) (*Ring, error) {
	ring := &Ring{keks: make(map[string]cipher.AEAD)}
	entries := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\r' || r == '\t' })
	for i, entry := range entries {
		id, aead, err := parseKEK(entry)
		if err != nil {
			return nil, fmt.Errorf("seal: %w: key %d: %w", ErrRing, i+1, err)
		}
		if ring.keks[id] != nil {
			return nil, fmt.Errorf("seal: %w: key %d: id %s stands twice", ErrRing, i+1, id)
		}
		ring.keks[id] = aead
		if i == 0 {
			ring.inForce = id
		}
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("seal: %w: it is empty", ErrRing)
	}
	return ring, nil
}

func parseKEK(entry string) (string, cipher.AEAD, error) {
	id, encoded, named := strings.Cut(entry, ":")
	if !named {
		encoded = entry
	}
	key, err := decodeKEK(encoded)
	if err != nil {
		return "", nil, err
	}
	if !named {
		id = idOf(key)
	}
	if !kekID.MatchString(id) {
		return "", nil, errors.New("the id is not 1 to 64 letters, digits, '.', '_' or '-'")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return "", nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return id, aead, err
}

func decodeKEK(text string) ([]byte, error) {
	if key, err := hex.DecodeString(text); err == nil && len(key) == kekSize {
		return key, nil
	}
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	key, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil || len(key) != kekSize {
		return nil, errors.New("not 32 bytes in base64 or hexadecimal")
	}
	return key, nil
}

func idOf(key []byte) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}

// NewKEK makes a key-encryption key in the form that [ParseRing] reads, its id
// with it.
func NewKEK() string {
	key := make([]byte, kekSize)
	rand.Read(key) // never fails: crypto/rand ends the program instead
	return idOf(key) + ":" + base64.StdEncoding.EncodeToString(key)
}

// InForce is the id of the key that wraps.
func (r *Ring) InForce() string { return r.inForce }

// Has says whether the ring holds the key of that id.
func (r *Ring) Has(id string) bool { return r.keks[id] != nil }

// Wrap encrypts a short secret under the key in force. The same aad is needed to
// unwrap it; it binds the secret to what it belongs to.
func (r *Ring) Wrap(plain []byte, aad string) Wrapped {
	//nolint:gosec // this AEAD makes its own random nonce and takes none
	return Wrapped{r.inForce, r.keks[r.inForce].Seal(nil, nil, plain, []byte(aad))}
}

// Unwrap decrypts what Wrap made: [ErrNoKEK], or [ErrUnwrap] when the bytes are
// not those that were wrapped with this aad.
func (r *Ring) Unwrap(w Wrapped, aad string) ([]byte, error) {
	kek := r.keks[w.KEK]
	if kek == nil {
		return nil, fmt.Errorf("seal: unwrap: %w: %q", ErrNoKEK, w.KEK)
	}
	plain, err := kek.Open(nil, nil, w.Bytes, []byte(aad))
	if err != nil {
		return nil, fmt.Errorf("seal: unwrap: %w", ErrUnwrap)
	}
	return plain, nil
}

// Rewrap moves a secret under the key in force. What already is there comes back
// unchanged, though only after it was found to open.
func (r *Ring) Rewrap(w Wrapped, aad string) (Wrapped, error) {
	plain, err := r.Unwrap(w, aad)
	if err != nil {
		return Wrapped{}, err
	}
	if w.KEK == r.inForce {
		return w, nil
	}
	return r.Wrap(plain, aad), nil
}
