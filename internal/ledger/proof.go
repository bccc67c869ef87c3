package ledger

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// ProveInclusion returns the audit path (RFC 6962, section 2.1.1) by which the
// tree of the given size holds the given leaf, counted from 0. It reads at most
// about 2·log₂(size) stored hashes in one call. A leaf that is not in the tree is
// ErrMalformed.
func ProveInclusion(size, leaf int64, stored tlog.HashReader) ([]tlog.Hash, error) {
	if err := checkLeaf(size, leaf); err != nil {
		return nil, fmt.Errorf("prove inclusion: %w", err)
	}
	proof, err := tlog.ProveRecord(size, leaf, stored)
	if err != nil {
		return nil, fmt.Errorf("prove inclusion: %w", err)
	}
	return proof, nil
}

// CheckInclusion checks offline that the tree of checkpoint holds entry, in its
// encoded form, as the given leaf. The checkpoint's own signature is checked by
// OpenCheckpoint. Errors wrap ErrProof, or ErrMalformed for a leaf outside the
// tree.
func CheckInclusion(checkpoint Checkpoint, entry string, leaf int64, proof []tlog.Hash) error {
	if err := checkLeaf(checkpoint.Size, leaf); err != nil {
		return fmt.Errorf("check inclusion: %w", err)
	}
	if err := tlog.CheckRecord(proof, checkpoint.Size, checkpoint.Root, leaf, LeafHash(entry)); err != nil {
		return fmt.Errorf("check inclusion of leaf %d: %w", leaf, ErrProof)
	}
	return nil
}

// ProveConsistency returns the proof (RFC 6962, section 2.1.2) that the tree of
// size from is the beginning of the tree of size to. The empty tree is the
// beginning of every tree and needs no hashes. Sizes out of order are
// ErrMalformed.
func ProveConsistency(from, to int64, stored tlog.HashReader) ([]tlog.Hash, error) {
	if err := checkOrder(from, to); err != nil {
		return nil, fmt.Errorf("prove consistency: %w", err)
	}
	if from == 0 {
		return []tlog.Hash{}, nil
	}
	proof, err := tlog.ProveTree(to, from, stored)
	if err != nil {
		return nil, fmt.Errorf("prove consistency: %w", err)
	}
	return proof, nil
}

// CheckConsistency checks offline that the log of checkpoint earlier was only added
// to on its way to checkpoint later: nothing of it was changed, removed or moved.
// Errors wrap ErrProof, or ErrMalformed for checkpoints of different logs or out
// of order.
func CheckConsistency(earlier, later Checkpoint, proof []tlog.Hash) error {
	if earlier.Origin != later.Origin {
		return fmt.Errorf("check consistency: %w: checkpoints of two logs", ErrMalformed)
	}
	if err := checkOrder(earlier.Size, later.Size); err != nil {
		return fmt.Errorf("check consistency: %w", err)
	}
	if !consistent(earlier, later, proof) {
		return fmt.Errorf("check consistency of sizes %d and %d: %w", earlier.Size, later.Size, ErrProof)
	}
	return nil
}

func consistent(earlier, later Checkpoint, proof []tlog.Hash) bool {
	if earlier.Size > 0 {
		return tlog.CheckTree(proof, later.Size, later.Root, earlier.Size, earlier.Root) == nil
	}
	emptyAgrees := later.Size > 0 || later.Root == emptyRoot
	return len(proof) == 0 && earlier.Root == emptyRoot && emptyAgrees
}

func checkLeaf(size, leaf int64) error {
	if err := checkSize(size); err != nil {
		return err
	}
	if leaf < 0 || leaf >= size {
		return fmt.Errorf("%w: leaf %d in a tree of size %d", ErrMalformed, leaf, size)
	}
	return nil
}

func checkOrder(from, to int64) error {
	if err := checkSize(to); err != nil {
		return err
	}
	if from < 0 || from > to {
		return fmt.Errorf("%w: tree sizes %d and %d", ErrMalformed, from, to)
	}
	return nil
}
