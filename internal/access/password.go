package access

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"earmark/internal/invalid"
)

// cost is what one guess at a password costs.
type cost struct {
	memory uint32 // KiB
	time   uint32
	lanes  uint8
}

// normalCost is the second recommended option of RFC 9106, section 4.
var normalCost = cost{memory: 64 << 10, time: 3, lanes: 4}

const (
	saltBytes = 16
	hashBytes = 32
	// hashesAtOnce bounds the memory that sign-ins take together.
	hashesAtOnce = 2
	minPassword  = 10
	maxPassword  = 1000
)

var errPasswordHash = errors.New("a stored password hash cannot be read")

// passwords hashes and compares with argon2id, few at a time.
type passwords struct {
	cost  cost
	slots chan struct{}
}

func newPasswords(c cost) *passwords {
	return &passwords{cost: c, slots: make(chan struct{}, hashesAtOnce)}
}

// derive waits for its turn.
func (p *passwords) derive(ctx context.Context, password string, salt []byte, c cost, size uint32) ([]byte, error) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	// Two keyboards may compose the same Vietnamese letter differently.
	same := norm.NFC.String(password)
	return argon2.IDKey([]byte(same), salt, c.time, c.memory, c.lanes, size), nil
}

// hash returns a PHC string: $argon2id$v=19$m=,t=,p=$salt$hash.
func (p *passwords) hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltBytes)
	rand.Read(salt) // never fails: crypto/rand ends the program instead
	key, err := p.derive(ctx, password, salt, p.cost, hashBytes)
	if err != nil {
		return "", err
	}
	return phc{p.cost, salt, key}.String(), nil
}

// matches says whether password made stored, and whether stored was made at
// less than today's cost. For an empty stored it takes as long, and says no.
func (p *passwords) matches(ctx context.Context, password, stored string) (ok, weak bool, err error) {
	against := phc{p.cost, make([]byte, saltBytes), make([]byte, hashBytes)}
	if stored != "" {
		if against, err = parsePHC(stored); err != nil {
			return false, false, err
		}
	}
	key, err := p.derive(ctx, password, against.salt, against.cost, uint32(len(against.key)))
	if err != nil {
		return false, false, err
	}
	same := subtle.ConstantTimeCompare(key, against.key) == 1
	return same && stored != "", against.cost.less(p.cost), nil
}

func (c cost) less(than cost) bool { return c.memory < than.memory || c.time < than.time }

// phc is a password hash with all that is needed to compare with it.
type phc struct {
	cost
	salt, key []byte
}

const phcLayout = "$argon2id$v=19$m=%d,t=%d,p=%d$"

func (h phc) String() string {
	encode := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf(phcLayout, h.memory, h.time, h.lanes) + encode(h.salt) + "$" + encode(h.key)
}

// parsePHC refuses costs at which argon2 would panic or exhaust the machine.
func parsePHC(text string) (phc, error) {
	var h phc
	parts := strings.Split(text, "$")
	if len(parts) != 6 {
		return phc{}, errPasswordHash
	}
	_, err := fmt.Sscanf(strings.Join(parts[:4], "$")+"$", phcLayout, &h.memory, &h.time, &h.lanes)
	if err != nil || h.time == 0 || h.time > 100 || h.lanes == 0 || h.memory > 1<<20 {
		return phc{}, errPasswordHash
	}
	salt, saltErr := base64.RawStdEncoding.DecodeString(parts[4])
	key, keyErr := base64.RawStdEncoding.DecodeString(parts[5])
	if saltErr != nil || keyErr != nil || len(salt) < 8 || len(key) < 16 || len(key) > 64 {
		return phc{}, errPasswordHash
	}
	h.salt, h.key = salt, key
	return h, nil
}

func checkPassword(e *invalid.Error, location, password, login string) {
	switch {
	case utf8.RuneCountInString(password) < minPassword:
		e.Add(location, "at least %d characters", minPassword)
	case len(password) > maxPassword:
		e.Add(location, "at most %d bytes", maxPassword)
	case strings.EqualFold(password, login):
		e.Add(location, "not the login")
	}
}

// oneTimePassword is of 128 bits or more, and can be read out.
func oneTimePassword() string {
	text := strings.ToLower(rand.Text())
	var groups []string
	for len(text) > 5 {
		groups = append(groups, text[:5])
		text = text[5:]
	}
	return strings.Join(append(groups, text), "-")
}
