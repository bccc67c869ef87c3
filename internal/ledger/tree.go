package ledger

import (
	"crypto/sha256"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// emptyRoot is the root of the tree without leaves (RFC 6962, section 2.1).
var emptyRoot = tlog.Hash(sha256.Sum256(nil))

// EmptyTree is the tree before its first leaf.
func EmptyTree() tlog.Tree { return tlog.Tree{Hash: emptyRoot} }

// Extend adds leaf hashes to the tree old. It returns the hashes to store, which
// follow those already stored without a gap (the first has the index
// tlog.StoredHashCount(old.N)), and the tree that results.
//
// It reads the right edge of the old tree, at most log₂(old.N) stored hashes, in
// one call, however many leaves are added, and refuses with ErrProof to build on
// stored hashes that do not give old.Hash.
func Extend(old tlog.Tree, leaves []tlog.Hash, stored tlog.HashReader) ([]tlog.Hash, tlog.Tree, error) {
	size := old.N + int64(len(leaves))
	if err := checkOrder(old.N, size); err != nil {
		return nil, tlog.Tree{}, fmt.Errorf("extend tree: %w", err)
	}
	grown, err := growFrom(old, stored)
	if err != nil {
		return nil, tlog.Tree{}, fmt.Errorf("extend tree of size %d: %w", old.N, err)
	}
	for i, leaf := range leaves {
		hashes, err := tlog.StoredHashesForRecordHash(old.N+int64(i), leaf, grown)
		if err != nil {
			return nil, tlog.Tree{}, fmt.Errorf("extend tree: %w", err)
		}
		grown.added = append(grown.added, hashes...)
	}
	root, err := tlog.TreeHash(size, grown)
	if err != nil {
		return nil, tlog.Tree{}, fmt.Errorf("extend tree: %w", err)
	}
	return grown.added, tlog.Tree{N: size, Hash: root}, nil
}

// growth answers for the hashes that adding leaves to a tree can need: the old
// tree's right edge and what was added since.
type growth struct {
	edge  map[int64]tlog.Hash
	first int64 // stored index of added[0]
	added []tlog.Hash
}

func growFrom(old tlog.Tree, stored tlog.HashReader) (*growth, error) {
	indexes := edgeIndexes(old.N)
	grown := &growth{edge: make(map[int64]tlog.Hash, len(indexes)), first: tlog.StoredHashCount(old.N)}
	if len(indexes) > 0 {
		hashes, err := stored.ReadHashes(indexes)
		if err != nil {
			return nil, err
		}
		if len(hashes) != len(indexes) {
			return nil, fmt.Errorf("asked for %d stored hashes, got %d", len(indexes), len(hashes))
		}
		for i, index := range indexes {
			grown.edge[index] = hashes[i]
		}
	}
	root, err := tlog.TreeHash(old.N, grown)
	if err != nil {
		return nil, err
	}
	if root != old.Hash {
		return nil, fmt.Errorf("%w: the stored hashes do not give its root", ErrProof)
	}
	return grown, nil
}

// edgeIndexes lists, in rising order, where the roots of the complete subtrees
// that make up a tree of the given size are stored: one for each one-bit of size.
func edgeIndexes(size int64) []int64 {
	var indexes []int64
	for level := bits.Len64(uint64(size)) - 1; level >= 0; level-- {
		if nodes := size >> level; nodes&1 == 1 {
			indexes = append(indexes, tlog.StoredHashIndex(level, nodes-1))
		}
	}
	return indexes
}

// ReadHashes implements tlog.HashReader.
func (g *growth) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		hash, ok := g.hash(index)
		if !ok {
			return nil, fmt.Errorf("stored hash %d is not on the edge of the tree", index)
		}
		hashes[i] = hash
	}
	return hashes, nil
}

func (g *growth) hash(index int64) (tlog.Hash, bool) {
	if i := index - g.first; i >= 0 && i < int64(len(g.added)) {
		return g.added[i], true
	}
	hash, ok := g.edge[index]
	return hash, ok
}
