package audit_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/audit"
	"earmark/internal/blob"
	"earmark/internal/db"
	"earmark/internal/db/dbtest"
	"earmark/internal/ledger"
)

var auditor = access.Actor{Kind: "user", ID: uuid.MustParse("01953a2e-8000-7000-8000-0000000000aa"), Role: access.Auditor}

// house is a ledger with its database and object store, each the test's own.
type house struct {
	*audit.Audit
	db     *db.DB
	url    string
	dir    string
	store  blob.Store
	secret string
}

func setup(t *testing.T) *house {
	t.Helper()
	secret, _, err := ledger.NewSigner("earmark.test")
	if err != nil {
		t.Fatal(err)
	}
	return open(t, dbtest.URL(t), filepath.Join(t.TempDir(), "store"), secret)
}

// open is another process of the same house.
func open(t *testing.T, url, dir, secret string) *house {
	t.Helper()
	store, err := blob.OpenDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	h := &house{db: dbtest.Open(t, url, db.Options{}), url: url, dir: dir, store: store, secret: secret}
	h.Audit = h.over(t, store)
	return h
}

// over is the same ledger over another object store.
func (h *house) over(t *testing.T, store blob.Store) *audit.Audit {
	t.Helper()
	signer, err := ledger.ParseSigner(h.secret)
	if err != nil {
		t.Fatal(err)
	}
	a, err := audit.New(audit.Options{DB: h.db, Store: store, Signer: signer, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// record writes n entries in one transaction.
func (h *house) record(t *testing.T, n int) {
	t.Helper()
	err := h.db.Write(t.Context(), func(tx *db.Tx) error {
		for i := range n {
			tx.Record(ledger.Entry{
				Actor: "key:1", Action: "recording.received",
				Subject: fmt.Sprintf("recording:%d", i), Details: map[string]any{"bytes": i},
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (h *house) sequence(t *testing.T, want int) {
	t.Helper()
	n, err := h.Sequence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n != want {
		t.Fatalf("%d entries placed, want %d", n, want)
	}
}

// grown is a house whose ledger has checkpoints of sizes 5, 13 and 21, all
// published.
func grown(t *testing.T) *house {
	t.Helper()
	h := setup(t)
	for _, n := range []int{5, 8, 8} {
		h.record(t, n)
		h.sequence(t, n)
	}
	h.publish(t)
	return h
}

func (h *house) publish(t *testing.T) {
	t.Helper()
	if err := h.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// exec changes the database by hand, as nobody should.
func (h *house) exec(t *testing.T, statements ...string) {
	t.Helper()
	err := h.db.Write(t.Context(), func(tx *db.Tx) error {
		for _, sql := range statements {
			if _, err := tx.Exec(t.Context(), sql); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (h *house) verify(t *testing.T) audit.Report {
	t.Helper()
	report, err := h.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func (h *house) entries(t *testing.T) []audit.Entry {
	t.Helper()
	var all []audit.Entry
	for cursor := ""; ; {
		page, err := h.Entries(t.Context(), auditor, audit.Query{Cursor: cursor, Limit: 500})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page.Items...)
		if cursor = page.NextCursor; cursor == "" {
			return all
		}
	}
}

func one[T any](t *testing.T, q db.Querier, sql string, args ...any) T {
	t.Helper()
	var value T
	if err := q.QueryRow(context.Background(), sql, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}
