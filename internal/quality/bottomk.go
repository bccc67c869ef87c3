package quality

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"slices"

	"github.com/google/uuid"
)

// key is what an interaction is drawn by: HMAC-SHA256(seed, its id's 16 bytes).
type key [sha256.Size]byte

// candidate is an interaction with its key. Lower keys are drawn first.
type candidate struct {
	key key
	id  uuid.UUID
}

func (a candidate) compare(b candidate) int {
	if c := bytes.Compare(a.key[:], b.key[:]); c != 0 {
		return c
	}
	return compareIDs(a.id, b.id)
}

func compareIDs(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }

// bottomK returns the k candidates with the lowest keys, lowest first, or all
// when there are fewer. The order of ids does not matter.
func bottomK(seed []byte, ids []uuid.UUID, k int) []candidate {
	mac := hmac.New(sha256.New, seed)
	lowest := make([]candidate, 0, min(k, len(ids))+1)
	for _, id := range ids {
		c := candidate{id: id}
		mac.Reset()
		mac.Write(id[:])
		mac.Sum(c.key[:0])
		if len(lowest) == k && (k == 0 || c.compare(lowest[k-1]) > 0) {
			continue
		}
		at, _ := slices.BinarySearchFunc(lowest, c, candidate.compare)
		lowest = slices.Insert(lowest, at, c)
		lowest = lowest[:min(k, len(lowest))]
	}
	return lowest
}
