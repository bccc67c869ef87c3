// Package archive keeps interactions and their recordings: takes them in,
// finds them, lets those hear and read who may, and in the end destroys them.
//
// The audio is sealed under the interaction's own key and lies in the object
// store below YYYY/MM/DD/<interaction>/; everything else is in PostgreSQL.
// Authorisation, validation and the ledger entry happen inside each operation.
package archive

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"

	"earmark/internal/blob"
	"earmark/internal/consent"
	"earmark/internal/db"
	"earmark/internal/seal"
)

// Why an operation is refused.
var (
	// ErrConflict: other content is kept under this identity or name.
	ErrConflict = errors.New("something else is kept under this identity")
	// ErrErased: it was destroyed and does not come back.
	ErrErased = errors.New("this was erased")
	// ErrConsentRefused: the customer refused to be recorded; nothing was stored.
	ErrConsentRefused = errors.New("the customer refused to be recorded")
	// ErrConsentMissing: nothing allows opening this for that purpose.
	ErrConsentMissing = errors.New("no lawful basis covers this purpose")
	// ErrRestricted: an erasure is waiting for a hold to end; nobody opens this.
	ErrRestricted = errors.New("this is restricted")
	// ErrTooLarge: the recording is larger than the archive takes.
	ErrTooLarge = errors.New("the recording is too large")
	// ErrDigest: the bytes do not have the digest that was sent with them.
	ErrDigest = errors.New("the recording does not have the digest that was sent")
	// ErrTruncated: the body ended before the size that was announced.
	ErrTruncated = errors.New("the recording ended early")
	// ErrFraming: the body goes on beyond the size that was announced.
	ErrFraming = errors.New("the recording is longer than announced")
	// ErrCorrupt: what is stored is not what was sent. It is seal's.
	ErrCorrupt = seal.ErrCorrupt
	// ErrTooBroad: the search took too long; a bound on the time mends it. It
	// is a context.DeadlineExceeded.
	ErrTooBroad = fmt.Errorf("the search takes too long, narrow it by from and to: %w", context.DeadlineExceeded)
)

// Options are what New needs.
type Options struct {
	DB      *db.DB
	Blob    blob.Store
	Keys    *seal.Ring
	Consent *consent.Consent
	// SpoolDir holds unnamed files of sealed bytes whose size is not known
	// beforehand; os.TempDir() when empty.
	SpoolDir string
	// MaxBytes bounds a recording; 2 GiB when 0.
	MaxBytes int64
	// QuarantineTerm is how long an interaction without a basis is kept; 30
	// days when 0.
	QuarantineTerm time.Duration
	// Retention tells how long an interaction is kept, and by which policy.
	// until nil: until erasure is asked for. Nil: everything so.
	Retention func(ctx context.Context, q db.Querier, i Interaction) (policy *uuid.UUID, until *time.Time, err error)
	// Region is the country (ISO 3166-1 alpha-2) of telephone numbers without
	// a country code; VN when empty. It is the same as consent's.
	Region string
	// Signer signs receipts; nil: none are given.
	Signer note.Signer
}

const (
	defaultMaxBytes       = 2 << 30
	defaultQuarantineTerm = 30 * 24 * time.Hour
)

// Archive is safe for concurrent use. Its hooks are set before it is used.
type Archive struct {
	Options
	// secret keys the identities and fingerprints, so that a tombstone tells
	// nothing to those who guess.
	secret    []byte
	scrubbers []scrubber
	onRelease []func(ctx context.Context, tx *db.Tx, ids []uuid.UUID) error
}

// New returns the archive over a migrated database and a store, and makes the
// installation's secret of the identities when there is none yet. It registers
// with consent to release what is quarantined when a basis arrives.
func New(ctx context.Context, o Options) (*Archive, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.QuarantineTerm == 0 {
		o.QuarantineTerm = defaultQuarantineTerm
	}
	if o.Region == "" {
		o.Region = "VN"
	}
	if o.SpoolDir == "" {
		o.SpoolDir = os.TempDir()
	}
	if err := os.MkdirAll(o.SpoolDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the spool directory: %w", err)
	}
	secret, err := o.DB.Secret(ctx, o.Keys, "archive.identity", newSecret)
	if err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	a := &Archive{Options: o, secret: secret}
	o.Consent.OnGrant(a.releaseGranted)
	return a, nil
}

func newSecret() ([]byte, error) {
	secret := make([]byte, sha256.Size)
	_, err := rand.Read(secret)
	return secret, err
}

// keyed is the HMAC-SHA256 of parts under the installation's secret. Each use
// has a name of its own, so that a hash of one never passes for another's.
func (a *Archive) keyed(use string, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, a.secret)
	h.Write([]byte(use))
	for _, p := range parts {
		h.Write([]byte{0})
		h.Write(p)
	}
	return h.Sum(nil)
}
