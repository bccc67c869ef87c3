package audit

import (
	"fmt"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/tlog"
)

// maxProblems bounds the list in a Report.
const maxProblems = 1000

// Report is what Verify found.
type Report struct {
	// Size and Root are those of the newest checkpoint whose signature holds.
	Size int64     `json:"size"`
	Root tlog.Hash `json:"root"`
	// Entries, Checkpoints and Published count what was read: entries with a
	// place, checkpoints in the database and in the object store.
	Entries     int64 `json:"entries"`
	Checkpoints int64 `json:"checkpoints"`
	Published   int64 `json:"published"`
	// Pending counts the entries that have no place yet.
	Pending int64 `json:"pending"`
	// Problems are empty when all is as it was written; at most 1000 are listed.
	Problems []Problem `json:"problems"`
	// Omitted counts those found beyond the list.
	Omitted int64 `json:"omitted,omitempty"`
}

// OK says whether everything that is stored agrees.
func (r Report) OK() bool { return len(r.Problems) == 0 }

// Code says what kind of problem it is.
type Code string

// The kinds of problem.
const (
	// EntryMissing: the tree has these leaves, their entries are gone.
	EntryMissing Code = "entry_missing"
	// EntryChanged: the entry is not the one whose hash is in the tree.
	EntryChanged Code = "entry_changed"
	// EntryMalformed: the leaf's text is no entry.
	EntryMalformed Code = "entry_malformed"
	// EntryUnsigned: an entry with a place that no checkpoint covers.
	EntryUnsigned Code = "entry_unsigned"
	// HashMissing, HashChanged, HashUnsigned: the same of the tree's hashes.
	HashMissing  Code = "hash_missing"
	HashChanged  Code = "hash_changed"
	HashUnsigned Code = "hash_unsigned"
	// CheckpointInvalid: a checkpoint in the database that no known key signed.
	CheckpointInvalid Code = "checkpoint_invalid"
	// CheckpointBroken: the tree is not the one that was signed; something in
	// these leaves was rewritten together with its hashes.
	CheckpointBroken Code = "checkpoint_broken"
	// CheckpointMissing: published, and no longer in the database.
	CheckpointMissing Code = "checkpoint_missing"
	// RolledBack: published, and larger than the database's whole ledger.
	RolledBack Code = "rolled_back"
	// PublishedMissing: was published, and is no longer in the object store.
	PublishedMissing Code = "published_missing"
	// PublishedDiffers: not the database's checkpoint of that size.
	PublishedDiffers Code = "published_differs"
	// PublishedInvalid: an object among the checkpoints that no known key signed.
	PublishedInvalid Code = "published_invalid"
	// PendingInvalid: an entry without a place that can never get one.
	PendingInvalid Code = "pending_invalid"
)

// Problem is one thing that is not as it was written. Leaf and LastLeaf tell
// where, ID is the entry's as it now reads, Size that of the checkpoint; those
// that do not apply are nil.
type Problem struct {
	Code     Code       `json:"code"`
	Leaf     *int64     `json:"leaf,omitempty"`
	LastLeaf *int64     `json:"last_leaf,omitempty"`
	ID       *uuid.UUID `json:"id,omitempty"`
	Size     *int64     `json:"size,omitempty"`
	// Message is a sentence for people.
	Message string `json:"message"`
}

func (p Problem) String() string { return string(p.Code) + ": " + p.Message }

func (r *Report) add(p Problem, format string, args ...any) {
	if len(r.Problems) == maxProblems {
		r.Omitted++
		return
	}
	p.Message = fmt.Sprintf(format, args...)
	r.Problems = append(r.Problems, p)
}

// leaves says which leaves a problem concerns.
func leaves(first, last int64) Problem { return Problem{Leaf: &first, LastLeaf: &last} }
