package lifecycle

import (
	"context"
	"io"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"

	"earmark/internal/archive"
)

// CertificateType is the type of a purge's certificate as a signed document.
const CertificateType = "earmark.purge_certificate/1"

// Certificate says what a purge destroyed. It holds ids, times and counts, and
// the reason that was given.
type Certificate struct {
	PurgeID          uuid.UUID  `json:"purge_id"`
	Kind             string     `json:"kind"`
	Reason           string     `json:"reason"`
	PolicyID         *uuid.UUID `json:"policy_id,omitempty"`
	ErasureRequestID *uuid.UUID `json:"erasure_request_id,omitempty"`
	RequestedBy      string     `json:"requested_by"`
	RequestedAt      time.Time  `json:"requested_at"`
	ApprovedBy       string     `json:"approved_by"`
	ApprovedAt       time.Time  `json:"approved_at"`
	FinishedAt       time.Time  `json:"finished_at"`
	// Statement tells in words what gone means and how it was checked.
	Statement string            `json:"statement"`
	Items     []CertifiedItem   `json:"items"`
	Exempt    []CertifiedExempt `json:"exempt"`
	// Remaining are objects that the store's own lock keeps, unreadable since
	// their key is destroyed.
	Remaining []CertifiedRemaining `json:"remaining"`
}

// CertifiedItem is an interaction that is gone.
type CertifiedItem struct {
	InteractionID  uuid.UUID `json:"interaction_id"`
	Recordings     int       `json:"recordings"`
	Bytes          int64     `json:"bytes"`
	KeyDestroyedAt time.Time `json:"key_destroyed_at"`
	// VersionsRemoved counts the objects' versions that were seen to go.
	VersionsRemoved int       `json:"versions_removed"`
	GoneAt          time.Time `json:"gone_at"`
}

// CertifiedExempt is an interaction that the purge did not destroy, and why.
type CertifiedExempt struct {
	InteractionID uuid.UUID `json:"interaction_id"`
	Reason        string    `json:"reason"`
}

// CertifiedRemaining is an object that the store's lock keeps until a time.
type CertifiedRemaining struct {
	InteractionID uuid.UUID `json:"interaction_id"`
	archive.Remaining
}

// VerifyCertificate reads a certificate that one of the verifiers signed. It
// needs nothing but the public key. Errors wrap ledger.ErrMalformed,
// ledger.ErrUnknownKey or ledger.ErrSignature.
func VerifyCertificate(data []byte, verifiers ...note.Verifier) (*Certificate, error) {
	panic("unwritten")
}

// Describe writes for people what the certificate says.
func (c *Certificate) Describe(w io.Writer) error { panic("unwritten") }

// VerifyAll checks every certificate against its signature, the database and
// the object store, and reports what does not hold, each problem once, by ids.
func (l *Lifecycle) VerifyAll(ctx context.Context, report func(problem string)) error {
	panic("unwritten")
}
