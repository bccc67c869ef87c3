package lifecycle

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"

	"earmark/internal/archive"
	"earmark/internal/ledger"
)

// CertificateType is the type of a purge's certificate as a signed document.
const CertificateType = "earmark.purge_certificate/1"

// Certificate says what a purge destroyed. It holds ids, times and counts, and
// the reason that was given.
type Certificate struct {
	Type             string     `json:"type"`
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

const statement = "Each interaction under items is gone: its encryption key was destroyed first, which made every copy of its " +
	"recordings unreadable, copies of the object store included; then all versions of its objects, the derived ones too, " +
	"were removed and the object store was listed again; only after that listing showed none of them, or none but those " +
	"under remaining, was the record reduced to a tombstone without personal data. What is under remaining is kept by a " +
	"lock of the object store itself, unreadable, until the time given. What is under exempt was not destroyed by this " +
	"purge, for the reason given. versions_removed counts what was seen to go; an attempt that was interrupted is not in it."

// certify writes down what became of a purge's items; ErrIncomplete while
// one of them is under way.
func certify(p Purge, all []Item) (Certificate, error) {
	c := Certificate{
		Type: CertificateType, PurgeID: p.ID, Kind: p.Kind, Reason: p.Reason,
		PolicyID: p.PolicyID, ErasureRequestID: p.ErasureRequestID,
		RequestedBy: p.RequestedBy, RequestedAt: p.RequestedAt,
		ApprovedBy: *p.ApprovedBy, ApprovedAt: *p.ApprovedAt, FinishedAt: *p.FinishedAt,
		Statement: statement,
		Items:     []CertifiedItem{}, Exempt: []CertifiedExempt{}, Remaining: []CertifiedRemaining{},
	}
	underway := 0
	for _, item := range all {
		switch item.State {
		case "gone":
			c.Items = append(c.Items, CertifiedItem{item.InteractionID, item.Recordings, item.Bytes,
				*item.KeyDestroyedAt, item.VersionsRemoved, *item.GoneAt})
			c.Remaining = append(c.Remaining, remainingOf(item)...)
		case "exempt":
			c.Exempt = append(c.Exempt, CertifiedExempt{item.InteractionID, *item.ExemptReason})
		default:
			underway++
		}
	}
	if underway > 0 {
		return Certificate{}, fmt.Errorf("%w: %d of %d items", ErrIncomplete, underway, len(all))
	}
	return c, nil
}

func remainingOf(item Item) []CertifiedRemaining {
	certified := make([]CertifiedRemaining, len(item.Remaining))
	for i, r := range item.Remaining {
		certified[i] = CertifiedRemaining{item.InteractionID, r}
	}
	return certified
}

var errNoCertificate = errors.New("this is a signed document, but no certificate of a purge")

// VerifyCertificate reads a certificate that one of the verifiers signed. It
// needs nothing but the public key. Errors wrap ledger.ErrMalformed,
// ledger.ErrUnknownKey or ledger.ErrSignature.
func VerifyCertificate(data []byte, verifiers ...note.Verifier) (*Certificate, error) {
	typ, document, err := ledger.OpenDocument(data, verifiers...)
	if err != nil {
		return nil, fmt.Errorf("verify certificate: %w", err)
	}
	if typ != CertificateType {
		return nil, fmt.Errorf("verify certificate: %w: %w", ledger.ErrMalformed, errNoCertificate)
	}
	var c Certificate
	if err := json.Unmarshal(document, &c); err != nil {
		return nil, fmt.Errorf("verify certificate: %w: %w", ledger.ErrMalformed, err)
	}
	return &c, nil
}

// Describe writes for people what the certificate says.
func (c *Certificate) Describe(w io.Writer) error {
	var b strings.Builder
	var recordings, versions int
	var size int64
	for _, item := range c.Items {
		recordings, versions, size = recordings+item.Recordings, versions+item.VersionsRemoved, size+item.Bytes
	}
	fmt.Fprintf(&b, "Certificate of purge %s (%s)\n", c.PurgeID, c.Kind)
	fmt.Fprintf(&b, "  reason     %s\n", c.Reason)
	fmt.Fprintf(&b, "  requested  %s by %s\n", stamp(c.RequestedAt), c.RequestedBy)
	fmt.Fprintf(&b, "  approved   %s by %s\n", stamp(c.ApprovedAt), c.ApprovedBy)
	fmt.Fprintf(&b, "  finished   %s\n", stamp(c.FinishedAt))
	fmt.Fprintf(&b, "  gone       %d interactions, %d recordings, %d bytes, %d object versions\n",
		len(c.Items), recordings, size, versions)
	for _, item := range c.Items {
		fmt.Fprintf(&b, "             %s  key destroyed %s, gone %s\n",
			item.InteractionID, stamp(item.KeyDestroyedAt), stamp(item.GoneAt))
	}
	fmt.Fprintf(&b, "  exempt     %d\n", len(c.Exempt))
	for _, e := range c.Exempt {
		fmt.Fprintf(&b, "             %s  %s\n", e.InteractionID, e.Reason)
	}
	fmt.Fprintf(&b, "  remaining  %d locked objects, unreadable\n", len(c.Remaining))
	for _, r := range c.Remaining {
		until := "no known end"
		if r.Until != nil {
			until = "until " + stamp(*r.Until)
		}
		fmt.Fprintf(&b, "             %s  %s\n", r.Key, until)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
