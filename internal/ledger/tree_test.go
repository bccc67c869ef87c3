package ledger_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"testing"

	"earmark/internal/ledger"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// stored keeps hashes as a database would and counts the calls.
type stored struct {
	hashes []tlog.Hash
	calls  int
	read   int
}

func (s *stored) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	s.calls++
	s.read += len(indexes)
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index >= int64(len(s.hashes)) {
			return nil, fmt.Errorf("hash %d is not stored", index)
		}
		out[i] = s.hashes[index]
	}
	return out, nil
}

// rootOf is RFC 6962, section 2.1, word for word.
func rootOf(entries []string) tlog.Hash {
	switch len(entries) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return sha256.Sum256(append([]byte{0}, entries[0]...))
	}
	k := 1
	for 2*k < len(entries) {
		k *= 2
	}
	left, right := rootOf(entries[:k]), rootOf(entries[k:])
	return sha256.Sum256(slices.Concat([]byte{1}, left[:], right[:]))
}

func leavesOf(entries []string) []tlog.Hash {
	leaves := make([]tlog.Hash, len(entries))
	for i, entry := range entries {
		leaves[i] = ledger.LeafHash(entry)
	}
	return leaves
}

type fataler interface {
	Helper()
	Fatal(args ...any)
}

func build(t fataler, entries []string) (*stored, ledger.Checkpoint) {
	t.Helper()
	hashes, tree, err := ledger.Extend(ledger.EmptyTree(), leavesOf(entries), &stored{})
	if err != nil {
		t.Fatal(err)
	}
	return &stored{hashes: hashes}, ledger.Checkpoint{Origin: "log", Size: tree.N, Root: tree.Hash}
}

// The roots of the Certificate Transparency project's own test tree.
func TestRootsAreThoseOfCertificateTransparency(t *testing.T) {
	t.Parallel()
	entries := []string{"", "\x00", "\x10", "\x20\x21", "\x30\x31", "\x40\x41\x42\x43", "\x50\x51\x52\x53\x54\x55\x56\x57", "\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f"}
	roots := []string{
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
		"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
	for size, want := range roots {
		_, checkpoint := build(t, entries[:size])
		if got := hex.EncodeToString(checkpoint.Root[:]); got != want {
			t.Errorf("size %d: root %s, want %s", size, got, want)
		}
	}
}

func TestExtendInAnyBatchesGivesTheSameTree(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		batches := rapid.SliceOfN(rapid.SliceOfN(rapid.String(), 0, 40), 0, 8).Draw(t, "batches")
		tree, log := ledger.EmptyTree(), &stored{}
		var entries []string
		for _, batch := range batches {
			log.calls, log.read = 0, 0
			hashes, grown, err := ledger.Extend(tree, leavesOf(batch), log)
			if err != nil {
				t.Fatal(err)
			}
			if log.calls > 1 || log.read > 9 {
				t.Fatalf("%d calls for %d hashes to add %d leaves", log.calls, log.read, len(batch))
			}
			log.hashes = append(log.hashes, hashes...)
			entries = append(entries, batch...)
			tree = grown
		}
		if want := (tlog.Tree{N: int64(len(entries)), Hash: rootOf(entries)}); tree != want {
			t.Fatalf("tree %+v, want %+v", tree, want)
		}
		if want := tlog.StoredHashCount(tree.N); int64(len(log.hashes)) != want {
			t.Fatalf("%d hashes stored, want %d", len(log.hashes), want)
		}
	})
}

func TestExtendRefusesToBuildOnChangedHashes(t *testing.T) {
	t.Parallel()
	entries := []string{"a", "b", "c", "d", "e", "f", "g"}
	log, checkpoint := build(t, entries)
	old := tlog.Tree{N: checkpoint.Size, Hash: checkpoint.Root}
	leaf := leavesOf([]string{"h"})
	if _, _, err := ledger.Extend(old, leaf, log); err != nil {
		t.Fatal(err)
	}
	edge := tlog.StoredHashIndex(1, 2)
	log.hashes[edge][0] ^= 1
	if _, _, err := ledger.Extend(old, leaf, log); !errors.Is(err, ledger.ErrProof) {
		t.Errorf("got %v, want ErrProof", err)
	}
	short := tlog.HashReaderFunc(func([]int64) ([]tlog.Hash, error) { return nil, nil })
	if _, _, err := ledger.Extend(old, leaf, short); err == nil {
		t.Error("a reader that answers nothing is believed")
	}
	if _, _, err := ledger.Extend(tlog.Tree{N: -1}, leaf, log); !errors.Is(err, ledger.ErrMalformed) {
		t.Errorf("negative size: got %v, want ErrMalformed", err)
	}
}

// Invariant 8, the ledger cannot be rewritten unseen: a log in which anything was
// changed, removed, inserted or moved has another root, and its consistency with
// the checkpoint of before cannot be proven.
func TestRewrittenLogIsSeen(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOfNDistinct(rapid.String(), 1, 40, rapid.ID).Draw(t, "entries")
		_, before := build(t, entries)
		i := rapid.IntRange(0, len(entries)-1).Draw(t, "at")
		j := rapid.IntRange(0, len(entries)-1).Draw(t, "with")
		rewritten := slices.Clone(entries)
		switch rapid.SampledFrom([]string{"change", "remove", "insert", "swap"}).Draw(t, "how") {
		case "change":
			rewritten[i] += "!"
		case "remove":
			rewritten = slices.Delete(rewritten, i, i+1)
		case "insert":
			rewritten = slices.Insert(rewritten, i, "inserted")
		case "swap":
			if i == j {
				return
			}
			rewritten[i], rewritten[j] = rewritten[j], rewritten[i]
		}
		rewritten = append(rewritten, rapid.SliceOfN(rapid.String(), 1, 9).Draw(t, "later")...)
		log, after := build(t, rewritten)
		if slices.Equal(rewritten[:min(len(entries), len(rewritten))], entries) {
			return
		}
		if _, same := build(t, rewritten[:min(len(entries), len(rewritten))]); same.Root == before.Root {
			t.Fatal("the rewritten log has the same root")
		}
		if after.Size < before.Size {
			return
		}
		proof, err := ledger.ProveConsistency(before.Size, after.Size, log)
		if err != nil {
			t.Fatal(err)
		}
		if err := ledger.CheckConsistency(before, after, proof); !errors.Is(err, ledger.ErrProof) {
			t.Fatalf("got %v, want ErrProof", err)
		}
	})
}

func TestInclusion(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOfNDistinct(rapid.String(), 1, 70, rapid.ID).Draw(t, "entries")
		log, whole := build(t, entries)
		size := rapid.Int64Range(1, whole.Size).Draw(t, "size")
		checkpoint := ledger.Checkpoint{Origin: "log", Size: size, Root: rootOf(entries[:size])}
		leaf := rapid.Int64Range(0, size-1).Draw(t, "leaf")
		log.calls = 0
		proof, err := ledger.ProveInclusion(size, leaf, log)
		if err != nil {
			t.Fatal(err)
		}
		if log.calls > 1 {
			t.Fatalf("%d reads for one proof", log.calls)
		}
		entry := entries[leaf]
		if err := ledger.CheckInclusion(checkpoint, entry, leaf, proof); err != nil {
			t.Fatal(err)
		}
		refuse := func(what string, checkpoint ledger.Checkpoint, entry string, leaf int64, proof []tlog.Hash) {
			if err := ledger.CheckInclusion(checkpoint, entry, leaf, proof); !errors.Is(err, ledger.ErrProof) && !errors.Is(err, ledger.ErrMalformed) {
				t.Fatalf("%s: got %v", what, err)
			}
		}
		refuse("another entry", checkpoint, entry+"!", leaf, proof)
		refuse("another leaf", checkpoint, entry, (leaf+1)%(size+1), proof)
		refuse("another root", ledger.Checkpoint{Origin: "log", Size: size, Root: ledger.LeafHash("x")}, entry, leaf, proof)
		refuse("a longer proof", checkpoint, entry, leaf, append(slices.Clone(proof), tlog.Hash{}))
		for i := range proof {
			refuse("a shorter proof", checkpoint, entry, leaf, slices.Delete(slices.Clone(proof), i, i+1))
			changed := slices.Clone(proof)
			changed[i][rapid.IntRange(0, 31).Draw(t, "byte")] ^= 1
			refuse("a changed proof", checkpoint, entry, leaf, changed)
			if i > 0 {
				changed = slices.Clone(proof)
				changed[0], changed[i] = changed[i], changed[0]
				refuse("a reordered proof", checkpoint, entry, leaf, changed)
			}
		}
	})
}

func TestConsistency(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOfNDistinct(rapid.String(), 0, 70, rapid.ID).Draw(t, "entries")
		log, whole := build(t, entries)
		to := rapid.Int64Range(0, whole.Size).Draw(t, "to")
		from := rapid.Int64Range(0, to).Draw(t, "from")
		earlier := ledger.Checkpoint{Origin: "log", Size: from, Root: rootOf(entries[:from])}
		later := ledger.Checkpoint{Origin: "log", Size: to, Root: rootOf(entries[:to])}
		proof, err := ledger.ProveConsistency(from, to, log)
		if err != nil {
			t.Fatal(err)
		}
		if err := ledger.CheckConsistency(earlier, later, proof); err != nil {
			t.Fatal(err)
		}
		refuse := func(what string, earlier, later ledger.Checkpoint, proof []tlog.Hash) {
			if err := ledger.CheckConsistency(earlier, later, proof); !errors.Is(err, ledger.ErrProof) {
				t.Fatalf("%s: got %v, want ErrProof", what, err)
			}
		}
		forged := earlier
		forged.Root = ledger.LeafHash("x")
		refuse("another beginning", forged, later, proof)
		if from > 0 || to == 0 {
			forged = later
			forged.Root = ledger.LeafHash("x")
			refuse("another end", earlier, forged, proof)
		}
		refuse("a longer proof", earlier, later, append(slices.Clone(proof), tlog.Hash{}))
		for i := range proof {
			refuse("a shorter proof", earlier, later, slices.Delete(slices.Clone(proof), i, i+1))
			changed := slices.Clone(proof)
			changed[i][0] ^= 1
			refuse("a changed proof", earlier, later, changed)
		}
	})
}

func TestProofsOfNothing(t *testing.T) {
	t.Parallel()
	log, checkpoint := build(t, []string{"a", "b"})
	for _, leaf := range []int64{-1, 2} {
		if _, err := ledger.ProveInclusion(2, leaf, log); !errors.Is(err, ledger.ErrMalformed) {
			t.Errorf("leaf %d: got %v, want ErrMalformed", leaf, err)
		}
	}
	// Sizes that overflow must end in an answer, not in an endless loop.
	huge := checkpoint
	huge.Size = 1<<63 - 1
	if err := ledger.CheckInclusion(huge, "a", 0, nil); !errors.Is(err, ledger.ErrMalformed) {
		t.Errorf("got %v, want ErrMalformed", err)
	}
	if err := ledger.CheckConsistency(checkpoint, huge, nil); !errors.Is(err, ledger.ErrMalformed) {
		t.Errorf("got %v, want ErrMalformed", err)
	}
	if _, err := ledger.ProveConsistency(2, 1, log); !errors.Is(err, ledger.ErrMalformed) {
		t.Errorf("got %v, want ErrMalformed", err)
	}
	other := checkpoint
	other.Origin = "another log"
	if err := ledger.CheckConsistency(checkpoint, other, nil); !errors.Is(err, ledger.ErrMalformed) {
		t.Errorf("got %v, want ErrMalformed", err)
	}
}
