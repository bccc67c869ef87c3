package quality

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"

	"earmark/internal/ledger"
)

// ManifestType is the type of a manifest as a signed document.
const ManifestType = "earmark.draw_manifest/1"

// ErrManifest is a document that is no draw's manifest, or one whose draw does
// not come out as it says.
var ErrManifest = errors.New("the manifest does not hold")

const drawMethod = "per agent the k lowest HMAC-SHA256(seed, the 16 bytes of the interaction's id)"

// manifest is all that is needed to draw again.
type manifest struct {
	Method      string    `json:"method"`
	DrawID      uuid.UUID `json:"draw_id"`
	PlanID      uuid.UUID `json:"plan_id"`
	FormID      uuid.UUID `json:"form_id"`
	FormVersion int       `json:"form_version"`
	Stream      Stream    `json:"stream"`
	PerAgent    int       `json:"per_agent"`
	Filter      Filter    `json:"filter"`
	Window
	CommittedAt time.Time `json:"committed_at"`
	// Cutoff is when the eligible were read: what arrived later joins a later draw.
	Cutoff         time.Time `json:"cutoff"`
	SeedCommitment string    `json:"seed_commitment"`
	Seed           string    `json:"seed"`
	// Unattributed interactions have no agent and are in no stratum.
	Unattributed int       `json:"unattributed"`
	Strata       []stratum `json:"strata"`
}

// stratum is one agent's interactions of the window.
type stratum struct {
	AgentID string `json:"agent_id"`
	// N were eligible, K are wanted, Shortfall are lacking.
	N         int `json:"n"`
	K         int `json:"k"`
	Shortfall int `json:"shortfall"`
	// Excluded counts those that were not eligible, by the reason.
	Excluded map[string]int `json:"excluded,omitempty"`
	// CutoffKey is the highest key that was picked, in hex.
	CutoffKey string `json:"cutoff_key"`
	// Eligible are the ids of the eligible, sorted, 16 bytes each.
	Eligible []byte `json:"eligible"`
	// Picks are in the order of their keys.
	Picks []uuid.UUID `json:"picks"`
}

func newStratum(agentID string, k int, eligible []uuid.UUID, excluded map[string]int, picked []candidate) stratum {
	s := stratum{
		AgentID: agentID, N: len(eligible), K: k, Shortfall: k - len(picked), Excluded: excluded,
		CutoffKey: cutoffKey(picked), Eligible: make([]byte, 0, len(eligible)*len(uuid.UUID{})), Picks: ids(picked),
	}
	for _, id := range eligible {
		s.Eligible = append(s.Eligible, id[:]...)
	}
	return s
}

func cutoffKey(picked []candidate) string {
	if len(picked) == 0 {
		return ""
	}
	return hex.EncodeToString(picked[len(picked)-1].key[:])
}

func ids(candidates []candidate) []uuid.UUID {
	all := make([]uuid.UUID, len(candidates))
	for i, c := range candidates {
		all[i] = c.id
	}
	return all
}

// eligible are the ids of the eligible.
func (s stratum) eligible() ([]uuid.UUID, error) {
	const size = len(uuid.UUID{})
	if len(s.Eligible)%size != 0 {
		return nil, fmt.Errorf("%w: the eligible ids of a stratum are cut off", ErrManifest)
	}
	all := make([]uuid.UUID, 0, len(s.Eligible)/size)
	for chunk := range slices.Chunk(s.Eligible, size) {
		all = append(all, uuid.UUID(chunk))
	}
	return all, nil
}

// stratum returns the seed and one agent's eligible interactions.
func (m manifest) stratum(agentID string) (seed []byte, eligible []uuid.UUID, err error) {
	if seed, err = hex.DecodeString(m.Seed); err != nil {
		return nil, nil, fmt.Errorf("%w: the seed is not hex", ErrManifest)
	}
	i := slices.IndexFunc(m.Strata, func(s stratum) bool { return s.AgentID == agentID })
	if i < 0 {
		return nil, nil, fmt.Errorf("%w: it lacks an agent of its own picks", ErrManifest)
	}
	eligible, err = m.Strata[i].eligible()
	return seed, eligible, err
}

// ManifestReport is what a manifest that holds says.
type ManifestReport struct {
	DrawID uuid.UUID `json:"draw_id"`
	PlanID uuid.UUID `json:"plan_id"`
	Stream Stream    `json:"stream"`
	Window
	CommittedAt    time.Time `json:"committed_at"`
	Cutoff         time.Time `json:"cutoff"`
	SeedCommitment string    `json:"seed_commitment"`
	// Agents had Eligible interactions between them; Picked were drawn, and
	// Shortfall are lacking to their quotas.
	Agents    int `json:"agents"`
	Eligible  int `json:"eligible"`
	Picked    int `json:"picked"`
	Shortfall int `json:"shortfall"`
	// Picks are the interactions drawn, by agent and then in the order of their keys.
	Picks []uuid.UUID `json:"picks"`
}

// VerifyManifest checks a manifest offline: that one of the verifiers signed
// it, that the seed is the one committed to, and that drawing again gives the
// same picks. That the commitment stood in the ledger before is the ledger's to
// show. Errors wrap ErrManifest, or the ledger's ErrMalformed, ErrUnknownKey or
// ErrSignature, and say what is wrong.
func VerifyManifest(data []byte, verifiers ...note.Verifier) (ManifestReport, error) {
	typ, document, err := ledger.OpenDocument(data, verifiers...)
	if err != nil {
		return ManifestReport{}, fmt.Errorf("verify manifest: %w", err)
	}
	if typ != ManifestType {
		return ManifestReport{}, fmt.Errorf("verify manifest: %w: its type is not %s", ErrManifest, ManifestType)
	}
	m, err := readManifest(document)
	if err != nil {
		return ManifestReport{}, fmt.Errorf("verify manifest: %w", err)
	}
	if err := m.verify(); err != nil {
		return ManifestReport{}, fmt.Errorf("verify manifest: %w", err)
	}
	return m.report(), nil
}

func readManifest(document []byte) (manifest, error) {
	var typed struct {
		Type string `json:"type"`
		manifest
	}
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&typed); err != nil {
		return manifest{}, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return typed.manifest, nil
}

func (m manifest) verify() error {
	if m.Method != drawMethod {
		return fmt.Errorf("%w: it states another method of drawing", ErrManifest)
	}
	if m.PerAgent < 1 || !m.To.After(m.From) {
		return fmt.Errorf("%w: it states no quota or no window", ErrManifest)
	}
	seed, err := hex.DecodeString(m.Seed)
	if err != nil || len(seed) != seedSize {
		return fmt.Errorf("%w: the seed is not %d bytes in hex", ErrManifest, seedSize)
	}
	if commitment := sha256.Sum256(seed); hex.EncodeToString(commitment[:]) != m.SeedCommitment {
		return fmt.Errorf("%w: the seed is not the one that was committed to", ErrManifest)
	}
	drawn := map[uuid.UUID]bool{}
	for i, s := range m.Strata {
		if i > 0 && m.Strata[i-1].AgentID >= s.AgentID {
			return fmt.Errorf("%w: agents are not in order, each once", ErrManifest)
		}
		if err := s.verify(seed, m.PerAgent); err != nil {
			return fmt.Errorf("stratum %d: %w", i, err)
		}
		for _, id := range s.Picks {
			if drawn[id] {
				return fmt.Errorf("%w: interaction %s is picked for two agents", ErrManifest, id)
			}
			drawn[id] = true
		}
	}
	return nil
}

func (s stratum) verify(seed []byte, k int) error {
	eligible, err := s.eligible()
	if err != nil {
		return err
	}
	for i := 1; i < len(eligible); i++ {
		if compareIDs(eligible[i-1], eligible[i]) >= 0 {
			return fmt.Errorf("%w: the eligible ids are not in order, each once", ErrManifest)
		}
	}
	picked := bottomK(seed, eligible, k)
	switch {
	case s.K != k:
		return fmt.Errorf("%w: the quota is not the plan's", ErrManifest)
	case s.N != len(eligible):
		return fmt.Errorf("%w: it counts %d eligible and lists %d", ErrManifest, s.N, len(eligible))
	case !slices.Equal(s.Picks, ids(picked)):
		return fmt.Errorf("%w: the seed draws other picks than it lists", ErrManifest)
	case s.Shortfall != k-len(picked):
		return fmt.Errorf("%w: the shortfall is %d, not %d", ErrManifest, k-len(picked), s.Shortfall)
	case s.CutoffKey != cutoffKey(picked):
		return fmt.Errorf("%w: the cutoff key is another", ErrManifest)
	}
	return nil
}

func (m manifest) report() ManifestReport {
	r := ManifestReport{
		DrawID: m.DrawID, PlanID: m.PlanID, Stream: m.Stream, Window: m.Window,
		CommittedAt: m.CommittedAt, Cutoff: m.Cutoff, SeedCommitment: m.SeedCommitment,
		Agents: len(m.Strata),
	}
	for _, s := range m.Strata {
		r.Eligible += s.N
		r.Picked += len(s.Picks)
		r.Shortfall += s.Shortfall
		r.Picks = append(r.Picks, s.Picks...)
	}
	return r
}
