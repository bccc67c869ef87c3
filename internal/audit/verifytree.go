package audit

import (
	"context"
	"fmt"
	"iter"
	"math/bits"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"earmark/internal/ledger"
)

// checkTree walks the leaves once. Each entry is compared with its stored leaf
// hash, each other stored hash with the two below it, and at each checkpoint the
// root that the stored hashes give with the one that was signed. If all of that
// agrees, every entry is the one that was signed. Going by what is stored below,
// not by what was recomputed, keeps one wrong hash from being named at every level
// above it.
func (v *verification) checkTree(ctx context.Context) error {
	checkpoints, stop := lookAhead(v.signedCheckpoints(ctx))
	defer stop()
	w := &walk{report: &v.report, gap: -1}
	for from := int64(0); from < v.report.Size; from += leavesAtOnce {
		to := min(from+leavesAtOnce, v.report.Size)
		page, err := v.readLeaves(ctx, from, to)
		if err != nil {
			return err
		}
		for leaf := from; leaf < to; leaf++ {
			w.visit(leaf, page)
			if checkpoints.more && checkpoints.value.Size == leaf+1 {
				w.checkRoot(checkpoints.value)
				checkpoints.advance()
			}
		}
	}
	w.closeGap(v.report.Size)
	return checkpoints.err
}

// signedCheckpoints yields the database's checkpoints whose signatures hold.
func (v *verification) signedCheckpoints(ctx context.Context) iter.Seq2[ledger.Checkpoint, error] {
	return func(yield func(ledger.Checkpoint, error) bool) {
		for page, err := range v.checkpoints(ctx) {
			if err != nil {
				yield(ledger.Checkpoint{}, err)
				return
			}
			for _, c := range page {
				checkpoint, err := v.audit.open(c.size, []byte(c.note))
				if err != nil || checkpoint.Size == 0 {
					continue // named where the checkpoints are checked
				}
				if !yield(checkpoint, nil) {
					return
				}
			}
		}
	}
}

// leafPage is what is stored of a run of leaves: rows and hashes are nil where
// they are missing.
type leafPage struct {
	from   int64
	rows   []*leafRow
	first  int64 // stored index of hashes[0]
	hashes []*tlog.Hash
}

type leafRow struct {
	id   *uuid.UUID
	text string
}

func (v *verification) readLeaves(ctx context.Context, from, to int64) (leafPage, error) {
	first := tlog.StoredHashCount(from)
	page := leafPage{
		from: from, rows: make([]*leafRow, to-from),
		first: first, hashes: make([]*tlog.Hash, tlog.StoredHashCount(to)-first),
	}
	rows, err := v.q.Query(ctx, `
		select leaf, id, entry from ledger_entries where leaf >= $1 and leaf < $2`, from, to)
	if err != nil {
		return leafPage{}, fmt.Errorf("read entries from leaf %d: %w", from, err)
	}
	var at int64
	var row leafRow
	_, err = pgx.ForEachRow(rows, []any{&at, &row.id, &row.text}, func() error {
		found := row
		page.rows[at-from] = &found
		return nil
	})
	if err != nil {
		return leafPage{}, fmt.Errorf("read entries from leaf %d: %w", from, err)
	}
	rows, err = v.q.Query(ctx, `
		select index, hash from ledger_hashes where index >= $1 and index < $2`, first, first+int64(len(page.hashes)))
	if err != nil {
		return leafPage{}, fmt.Errorf("read stored hashes from %d: %w", first, err)
	}
	var stored []byte
	_, err = pgx.ForEachRow(rows, []any{&at, &stored}, func() error {
		hash, err := hashOf(stored)
		page.hashes[at-first] = &hash
		return err
	})
	if err != nil {
		return leafPage{}, fmt.Errorf("read stored hashes from %d: %w", first, err)
	}
	return page, nil
}

func (p leafPage) row(leaf int64) *leafRow { return p.rows[leaf-p.from] }

func (p leafPage) hash(level int, n int64) *tlog.Hash {
	return p.hashes[tlog.StoredHashIndex(level, n)-p.first]
}

// walk is the state between leaves.
type walk struct {
	report *Report
	// edge holds, by level, the root of the last complete subtree of that height.
	edge [64]tlog.Hash
	// gap is the first of a run of missing entries, or -1.
	gap int64
	// good is the size of the last checkpoint that agreed with the tree.
	good   int64
	broken bool
}

// visit takes the next leaf and every subtree that it completes.
func (w *walk) visit(leaf int64, page leafPage) {
	hash := w.checkLeaf(leaf, page.row(leaf), page.hash(0, leaf))
	top := bits.TrailingZeros64(uint64(leaf + 1))
	for level := 1; level <= top; level++ {
		n := leaf >> level
		want := tlog.NodeHash(w.edge[level-1], hash)
		hash = w.checkNode(level, n, want, page.hash(level, n))
	}
	w.edge[top] = hash
}

func (w *walk) checkLeaf(leaf int64, row *leafRow, stored *tlog.Hash) tlog.Hash {
	if row == nil {
		if w.gap < 0 {
			w.gap = leaf
		}
		return w.checkNode(0, leaf, tlog.Hash{}, stored)
	}
	w.closeGap(leaf)
	w.report.Entries++
	problem := leaves(leaf, leaf)
	problem.ID = row.id
	hash := ledger.LeafHash(row.text)
	if stored == nil {
		return w.checkNode(0, leaf, hash, stored)
	}
	if hash != *stored {
		problem.Code = EntryChanged
		w.report.add(problem, "leaf %d (entry %v) is not the entry whose hash is in the tree", leaf, row.id)
	} else if _, err := ledger.Decode(row.text); err != nil {
		problem.Code = EntryMalformed
		w.report.add(problem, "leaf %d (entry %v): %v", leaf, row.id, err)
	}
	return *stored
}

// checkNode compares a stored hash with what it should be and goes on with what
// is stored. A leaf without its entry has nothing that its hash could be compared
// with.
func (w *walk) checkNode(level int, n int64, want tlog.Hash, stored *tlog.Hash) tlog.Hash {
	first, last := n<<level, (n+1)<<level-1
	problem := leaves(first, last)
	switch {
	case stored == nil:
		problem.Code = HashMissing
		w.report.add(problem, "the stored hash over leaves %d to %d (level %d) is missing", first, last, level)
		return want
	case level > 0 && *stored != want:
		problem.Code = HashChanged
		w.report.add(problem, "the stored hash over leaves %d to %d (level %d) is not that of the hashes below it", first, last, level)
	}
	return *stored
}

// closeGap names the missing entries before leaf.
func (w *walk) closeGap(leaf int64) {
	if w.gap < 0 {
		return
	}
	problem := leaves(w.gap, leaf-1)
	problem.Code = EntryMissing
	w.report.add(problem, "the entries of leaves %d to %d are missing", w.gap, leaf-1)
	w.gap = -1
}

// checkRoot compares the tree so far with a checkpoint of its size. Once one is
// broken all later ones are, so only the first is named.
func (w *walk) checkRoot(checkpoint ledger.Checkpoint) {
	if w.broken {
		return
	}
	if w.root(checkpoint.Size) == checkpoint.Root {
		w.good = checkpoint.Size
		return
	}
	w.broken = true
	problem := leaves(w.good, checkpoint.Size-1)
	problem.Code, problem.Size = CheckpointBroken, &checkpoint.Size
	w.report.add(problem, "the tree of size %d is not the one that was signed: leaves %d to %d, or hashes over them, were rewritten",
		checkpoint.Size, w.good, checkpoint.Size-1)
}

// root is the root of the tree of the leaves so far (RFC 6962, section 2.1).
func (w *walk) root(size int64) tlog.Hash {
	low := bits.TrailingZeros64(uint64(size))
	hash := w.edge[low]
	for level := low + 1; size>>level > 0; level++ {
		if size>>level&1 == 1 {
			hash = tlog.NodeHash(w.edge[level], hash)
		}
	}
	return hash
}
