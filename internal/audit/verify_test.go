package audit_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"

	"earmark/internal/audit"
	"earmark/internal/ledger"
)

func (h *house) put(t *testing.T, key, content string) {
	t.Helper()
	if _, err := h.store.Put(t.Context(), key, strings.NewReader(content), int64(len(content))); err != nil {
		t.Fatal(err)
	}
}

// remove takes an object away behind the store's back.
func (h *house) remove(t *testing.T, key string) {
	t.Helper()
	if err := os.Remove(filepath.Join(h.dir, "objects", filepath.FromSlash(key))); err != nil {
		t.Fatal(err)
	}
}

func diffCodes(want []audit.Code, report audit.Report) string {
	var got []audit.Code
	for _, p := range report.Problems {
		got = append(got, p.Code)
	}
	return cmp.Diff(want, got)
}

// setBack is what restoring an older copy of the database amounts to.
var setBack = []string{
	`delete from ledger_entries where leaf >= 13`,
	fmt.Sprintf(`delete from ledger_hashes where index >= %d`, tlog.StoredHashCount(13)),
	`delete from ledger_checkpoints where size > 13`,
}

const moveNine = `insert into ledger_entries (leaf, entry) values (9, $entry$%s$entry$)`

// found is a Problem without its message.
type found struct {
	Code     audit.Code
	Leaf     int64
	LastLeaf int64
	Size     int64
	ID       string
}

const none = -1

func problems(report audit.Report) []found {
	number := func(n *int64) int64 {
		if n == nil {
			return none
		}
		return *n
	}
	var all []found
	for _, p := range report.Problems {
		f := found{Code: p.Code, Leaf: number(p.Leaf), LastLeaf: number(p.LastLeaf), Size: number(p.Size)}
		if p.ID != nil {
			f.ID = p.ID.String()
		}
		all = append(all, f)
	}
	return all
}

// Invariant 8, the ledger cannot be rewritten unseen: whatever somebody does to
// it by hand in SQL or in the object store is named.
func TestTamperingIsNamed(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		tamper func(t *testing.T, h *house, entries []audit.Entry)
		want   func(entries []audit.Entry) []found
	}{
		{
			"nothing",
			func(*testing.T, *house, []audit.Entry) {},
			func([]audit.Entry) []found { return nil },
		},
		{
			"entry changed",
			func(t *testing.T, h *house, _ []audit.Entry) {
				h.exec(t, `update ledger_entries set entry = replace(entry, '"bytes":2', '"bytes":3') where leaf = 7`)
			},
			func(entries []audit.Entry) []found {
				return []found{{audit.EntryChanged, 7, 7, none, entries[7].ID.String()}}
			},
		},
		{
			"entry changed by white space alone",
			func(t *testing.T, h *house, _ []audit.Entry) {
				h.exec(t, `update ledger_entries set entry = entry || ' ' where leaf = 0`)
			},
			func(entries []audit.Entry) []found {
				return []found{{audit.EntryChanged, 0, 0, none, entries[0].ID.String()}}
			},
		},
		{
			"entries removed",
			func(t *testing.T, h *house, _ []audit.Entry) {
				h.exec(t, `delete from ledger_entries where leaf in (6, 7, 20)`)
			},
			func([]audit.Entry) []found {
				return []found{{audit.EntryMissing, 6, 7, none, ""}, {audit.EntryMissing, 20, 20, none, ""}}
			},
		},
		{
			"entry removed and the later ones moved up",
			func(t *testing.T, h *house, _ []audit.Entry) {
				h.exec(t, `delete from ledger_entries where leaf = 18`,
					`update ledger_entries set leaf = 18 where leaf = 19`, `update ledger_entries set leaf = 19 where leaf = 20`)
			},
			func(entries []audit.Entry) []found {
				return []found{
					{audit.EntryChanged, 18, 18, none, entries[19].ID.String()},
					{audit.EntryChanged, 19, 19, none, entries[20].ID.String()},
					{audit.EntryMissing, 20, 20, none, ""},
				}
			},
		},
		{
			"entries reordered",
			func(t *testing.T, h *house, _ []audit.Entry) {
				h.exec(t, `update ledger_entries set leaf = -1 where leaf = 8`,
					`update ledger_entries set leaf = 8 where leaf = 9`, `update ledger_entries set leaf = 9 where leaf = -1`)
			},
			func(entries []audit.Entry) []found {
				return []found{
					{audit.EntryChanged, 8, 8, none, entries[9].ID.String()},
					{audit.EntryChanged, 9, 9, none, entries[8].ID.String()},
				}
			},
		},
		{
			"entry put in at the end",
			func(t *testing.T, h *house, entries []audit.Entry) {
				h.exec(t, `insert into ledger_entries (leaf, entry) select 21, replace(entry, id::text, '01953a2e-8000-7000-8000-0000000000bb') from ledger_entries where leaf = 2`)
			},
			func([]audit.Entry) []found {
				return []found{{audit.EntryUnsigned, 21, 21, none, "01953a2e-8000-7000-8000-0000000000bb"}}
			},
		},
		{
			"entry and its leaf hash replaced",
			func(t *testing.T, h *house, entries []audit.Entry) {
				forged := strings.Replace(entries[9].Text, `"bytes":4`, `"bytes":5`, 1)
				h.exec(t, `delete from ledger_entries where leaf = 9`, fmt.Sprintf(moveNine, forged),
					setHash(0, 9, ledger.LeafHash(forged)))
			},
			func([]audit.Entry) []found { return []found{{audit.HashChanged, 8, 9, none, ""}} },
		},
		{
			"entry and every hash above it replaced",
			func(t *testing.T, h *house, entries []audit.Entry) { h.rewrite(t, entries, 9) },
			func([]audit.Entry) []found { return []found{{audit.CheckpointBroken, 5, 12, 13, ""}} },
		},
		{
			"hash in the tree changed",
			func(t *testing.T, h *house, _ []audit.Entry) { h.exec(t, setHash(2, 1, tlog.Hash{})) },
			func([]audit.Entry) []found {
				return []found{{audit.HashChanged, 4, 7, none, ""}, {audit.HashChanged, 0, 7, none, ""}}
			},
		},
		{
			"hash removed",
			func(t *testing.T, h *house, _ []audit.Entry) {
				h.exec(t, fmt.Sprintf(`delete from ledger_hashes where index in (%d, %d)`, tlog.StoredHashIndex(0, 3), tlog.StoredHashIndex(1, 4)))
			},
			func([]audit.Entry) []found {
				return []found{{audit.HashMissing, 3, 3, none, ""}, {audit.HashMissing, 8, 9, none, ""}}
			},
		},
		{
			"hash put in",
			func(t *testing.T, h *house, _ []audit.Entry) {
				h.exec(t, `insert into ledger_hashes values (1000, decode(repeat('00', 32), 'hex'))`)
			},
			func([]audit.Entry) []found { return []found{{audit.HashUnsigned, none, none, none, ""}} },
		},
		{
			"checkpoint changed",
			func(t *testing.T, h *house, _ []audit.Entry) {
				h.exec(t, `update ledger_checkpoints set note = replace(note, e'\n13\n', e'\n12\n') where size = 13`)
			},
			func([]audit.Entry) []found {
				return []found{{audit.CheckpointInvalid, none, none, 13, ""}, {audit.PublishedDiffers, none, none, 13, ""}}
			},
		},
		{
			"checkpoint removed",
			func(t *testing.T, h *house, _ []audit.Entry) {
				h.exec(t, `delete from ledger_checkpoints where size = 13`)
			},
			func([]audit.Entry) []found { return []found{{audit.CheckpointMissing, none, none, 13, ""}} },
		},
		{
			"checkpoint forged far beyond",
			func(t *testing.T, h *house, _ []audit.Entry) {
				h.exec(t, `insert into ledger_checkpoints select 9000000000000000, note, now(), null from ledger_checkpoints where size = 21`)
			},
			func([]audit.Entry) []found {
				return []found{{audit.CheckpointInvalid, none, none, 9000000000000000, ""}}
			},
		},
		{
			"set back to an earlier state",
			func(t *testing.T, h *house, _ []audit.Entry) { h.exec(t, setBack...) },
			func([]audit.Entry) []found { return []found{{audit.RolledBack, none, none, 21, ""}} },
		},
		{
			"everything deleted",
			func(t *testing.T, h *house, _ []audit.Entry) {
				h.exec(t, `truncate ledger_entries, ledger_hashes, ledger_checkpoints`)
			},
			func([]audit.Entry) []found {
				return []found{{audit.RolledBack, none, none, 5, ""}, {audit.RolledBack, none, none, 13, ""}, {audit.RolledBack, none, none, 21, ""}}
			},
		},
		{
			"published checkpoint removed",
			func(t *testing.T, h *house, _ []audit.Entry) {
				h.remove(t, "ledger/checkpoints/00000000000000000013")
			},
			func([]audit.Entry) []found { return []found{{audit.PublishedMissing, none, none, 13, ""}} },
		},
		{
			"published checkpoint replaced",
			func(t *testing.T, h *house, _ []audit.Entry) {
				h.remove(t, "ledger/checkpoints/00000000000000000021")
				h.put(t, "ledger/checkpoints/00000000000000000021", "another")
			},
			func([]audit.Entry) []found { return []found{{audit.PublishedDiffers, none, none, 21, ""}} },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := grown(t)
			entries := h.entries(t)
			tt.tamper(t, h, entries)
			report := h.verify(t)
			if diff := cmp.Diff(tt.want(entries), problems(report)); diff != "" {
				t.Errorf("%s\n%v", diff, report.Problems)
			}
		})
	}
}

func setHash(level int, n int64, hash tlog.Hash) string {
	return fmt.Sprintf(`update ledger_hashes set hash = decode('%s', 'hex') where index = %d`,
		hex.EncodeToString(hash[:]), tlog.StoredHashIndex(level, n))
}

// rewrite replaces an entry and every stored hash above it, as somebody would who
// knows the tree and does not have the key.
func (h *house) rewrite(t *testing.T, entries []audit.Entry, leaf int) {
	t.Helper()
	var leaves []tlog.Hash
	forged := strings.Replace(entries[leaf].Text, `"key:1"`, `"key:2"`, 1)
	for i, entry := range entries {
		if i == leaf {
			entry.Text = forged
		}
		leaves = append(leaves, ledger.LeafHash(entry.Text))
	}
	hashes, _, err := ledger.Extend(ledger.EmptyTree(), leaves, tlog.HashReaderFunc(nil))
	if err != nil {
		t.Fatal(err)
	}
	statements := []string{fmt.Sprintf(`delete from ledger_entries where leaf = %d`, leaf), fmt.Sprintf(moveNine, forged)}
	for index, hash := range hashes {
		level, n := tlog.SplitStoredHashIndex(int64(index))
		statements = append(statements, setHash(level, n, hash))
	}
	h.exec(t, statements...)
}

func TestVerifyListsOnlySoManyProblems(t *testing.T) {
	t.Parallel()
	h := setup(t)
	h.record(t, 1100)
	h.sequence(t, 1100)
	h.exec(t, `update ledger_entries set entry = entry || ' '`)
	report := h.verify(t)
	if len(report.Problems) != 1000 || report.Omitted != 100 || report.Entries != 1100 {
		t.Errorf("%d problems, %d omitted, %d entries", len(report.Problems), report.Omitted, report.Entries)
	}
}

// More checkpoints than Publish and Verify take at once.
func TestManyCheckpoints(t *testing.T) {
	t.Parallel()
	h := setup(t)
	for range 205 {
		h.record(t, 1)
		h.sequence(t, 1)
	}
	h.publish(t)
	h.remove(t, "ledger/checkpoints/00000000000000000200")
	h.exec(t, `delete from ledger_checkpoints where size in (1, 201, 203)`)
	report := h.verify(t)
	want := []found{
		{audit.CheckpointMissing, none, none, 1, ""},
		{audit.CheckpointMissing, none, none, 201, ""},
		{audit.PublishedMissing, none, none, 200, ""},
		{audit.CheckpointMissing, none, none, 203, ""},
	}
	if diff := cmp.Diff(want, problems(report)); diff != "" || report.Checkpoints != 202 || report.Published != 204 {
		t.Errorf("%s\n%+v", diff, report)
	}
}

// What is sequenced and published while Verify runs is no problem.
func TestVerifyWhileTheLedgerGrows(t *testing.T) {
	t.Parallel()
	h := grown(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			h.record(t, 3)
			if _, err := h.Sequence(t.Context()); err != nil {
				t.Error(err)
			}
			if err := h.Publish(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}()
	for range 20 {
		if report := h.verify(t); !report.OK() {
			t.Errorf("%+v", report)
		}
	}
	cancel()
	<-done
}
