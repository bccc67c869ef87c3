package audit_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/audit"
	"earmark/internal/db"
	"earmark/internal/invalid"
	"earmark/internal/ledger"
)

func TestEntriesAreFound(t *testing.T) {
	t.Parallel()
	h := setup(t)
	err := h.db.Write(t.Context(), func(tx *db.Tx) error {
		for _, e := range []ledger.Entry{
			{Actor: "user:1", Action: "hold.placed", Subject: "hold:1"},
			{Actor: "user:2", Action: "hold.placed", Subject: "hold:2"},
			{Actor: "user:1", Action: "hold.released", Subject: "hold:1"},
			{Actor: "user:1", Action: "hold.placed", Subject: "hold:3"},
		} {
			tx.Record(e)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	h.sequence(t, 4)
	tests := map[string]struct {
		query audit.Query
		want  []int64
		next  string
	}{
		"all":         {audit.Query{}, []int64{0, 1, 2, 3}, ""},
		"from a leaf": {audit.Query{From: 2}, []int64{2, 3}, ""},
		"subject":     {audit.Query{Subject: "hold:1"}, []int64{0, 2}, ""},
		"action":      {audit.Query{Action: "hold.placed"}, []int64{0, 1, 3}, ""},
		"actor":       {audit.Query{Actor: "user:2"}, []int64{1}, ""},
		"all of them": {audit.Query{Actor: "user:1", Action: "hold.placed", Subject: "hold:3"}, []int64{3}, ""},
		"first page":  {audit.Query{Action: "hold.placed", Limit: 2}, []int64{0, 1}, "3"},
		"next page":   {audit.Query{Action: "hold.placed", Limit: 2, Cursor: "3"}, []int64{3}, ""},
		"exact page":  {audit.Query{Limit: 4}, []int64{0, 1, 2, 3}, ""},
		"none":        {audit.Query{Subject: "hold:9"}, nil, ""},
	}
	for name, tt := range tests {
		page, err := h.Entries(t.Context(), auditor, tt.query)
		if err != nil {
			t.Fatal(err)
		}
		var leaves []int64
		for _, entry := range page.Items {
			leaves = append(leaves, entry.Leaf)
		}
		if diff := cmp.Diff(tt.want, leaves); diff != "" || page.NextCursor != tt.next {
			t.Errorf("%s: %s, next %q", name, diff, page.NextCursor)
		}
		if page.Items == nil {
			t.Errorf("%s: items would be null in JSON", name)
		}
	}
	for _, query := range []audit.Query{{Limit: -1}, {Limit: 501}, {Cursor: "x"}} {
		var wrong *invalid.Error
		if _, err := h.Entries(t.Context(), auditor, query); !errors.As(err, &wrong) {
			t.Errorf("%+v: got %v, want an invalid.Error", query, err)
		}
	}
}

func TestOnlyThoseWhoMayReadTheLedger(t *testing.T) {
	t.Parallel()
	h := grown(t)
	id := h.entries(t)[0].ID
	for _, role := range access.Roles {
		actor := access.Actor{Kind: "user", ID: uuid.New(), Role: role}
		want := actor.May(access.ReadLedger)
		_, entries := h.Entries(t.Context(), actor, audit.Query{})
		_, checkpoint := h.Checkpoint(t.Context(), actor)
		_, leaf := h.Leaf(t.Context(), actor, id)
		_, inclusion := h.InclusionProof(t.Context(), actor, 0, 0)
		_, consistency := h.ConsistencyProof(t.Context(), actor, 5, 13)
		for _, err := range []error{entries, checkpoint, leaf, inclusion, consistency} {
			if !errors.Is(err, want) {
				t.Errorf("%s: got %v, want %v", role, err, want)
			}
		}
	}
}

// Invariant 8: an outsider checks offline, with the public key alone, that an
// entry is in the ledger and that the ledger was only added to.
func TestProofsHoldOffline(t *testing.T) {
	t.Parallel()
	h := grown(t)
	key, err := ledger.ParseVerifier(h.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range h.entries(t) {
		leaf, err := h.Leaf(t.Context(), auditor, entry.ID)
		if err != nil {
			t.Fatal(err)
		}
		proof, err := h.InclusionProof(t.Context(), auditor, leaf, 0)
		if err != nil {
			t.Fatal(err)
		}
		checkpoint, err := ledger.OpenCheckpoint([]byte(proof.Checkpoint), key)
		if err != nil {
			t.Fatal(err)
		}
		if proof.Entry != entry.Text || proof.Size != 21 {
			t.Fatalf("%+v is not about leaf %d", proof, leaf)
		}
		if err := ledger.CheckInclusion(checkpoint, proof.Entry, proof.Leaf, proof.Hashes); err != nil {
			t.Error(err)
		}
	}
	for _, from := range []int64{5, 13, 21} {
		proof, err := h.ConsistencyProof(t.Context(), auditor, from, 0)
		if err != nil {
			t.Fatal(err)
		}
		earlier, err := ledger.OpenCheckpoint([]byte(proof.FromCheckpoint), key)
		if err != nil {
			t.Fatal(err)
		}
		later, err := ledger.OpenCheckpoint([]byte(proof.ToCheckpoint), key)
		if err != nil {
			t.Fatal(err)
		}
		if err := ledger.CheckConsistency(earlier, later, proof.Hashes); err != nil {
			t.Error(err)
		}
	}
	newest, err := h.Checkpoint(t.Context(), auditor)
	if err != nil {
		t.Fatal(err)
	}
	if checkpoint, err := ledger.OpenCheckpoint([]byte(newest), key); err != nil || checkpoint.Size != 21 {
		t.Errorf("newest checkpoint %+v, %v", checkpoint, err)
	}
}

func TestProofsOfSizesThatWereNotSigned(t *testing.T) {
	t.Parallel()
	h := grown(t)
	inclusion, err := h.InclusionProof(t.Context(), auditor, 3, 9)
	if err != nil || inclusion.Checkpoint != "" || inclusion.Size != 9 {
		t.Errorf("%+v, %v", inclusion, err)
	}
	if _, err := h.ConsistencyProof(t.Context(), auditor, 0, 7); err != nil {
		t.Error(err)
	}
	var wrong *invalid.Error
	for _, at := range [][2]int64{{21, 21}, {-1, 21}, {0, 22}, {0, -1}, {9, 9}} {
		if _, err := h.InclusionProof(t.Context(), auditor, at[0], at[1]); !errors.As(err, &wrong) {
			t.Errorf("leaf %d of size %d: got %v, want an invalid.Error", at[0], at[1], err)
		}
	}
	for _, sizes := range [][2]int64{{13, 5}, {-1, 5}, {5, 22}, {5, -1}} {
		if _, err := h.ConsistencyProof(t.Context(), auditor, sizes[0], sizes[1]); !errors.As(err, &wrong) {
			t.Errorf("sizes %v: got %v, want an invalid.Error", sizes, err)
		}
	}
}

func TestProofThatWouldNotHoldIsNotGiven(t *testing.T) {
	t.Parallel()
	h := grown(t)
	h.exec(t, `update ledger_entries set entry = entry || ' ' where leaf = 7`)
	if _, err := h.InclusionProof(t.Context(), auditor, 7, 0); !errors.Is(err, audit.ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
	if _, err := h.Entries(t.Context(), auditor, audit.Query{From: 7}); !errors.Is(err, audit.ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
	h.exec(t, `update ledger_hashes set hash = decode(repeat('00', 32), 'hex')`)
	if _, err := h.ConsistencyProof(t.Context(), auditor, 5, 13); !errors.Is(err, audit.ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
}

func TestBeforeThereIsAnything(t *testing.T) {
	t.Parallel()
	h := setup(t)
	if _, err := h.Checkpoint(t.Context(), auditor); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("checkpoint: got %v, want ErrNotFound", err)
	}
	if _, err := h.InclusionProof(t.Context(), auditor, 0, 0); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("proof: got %v, want ErrNotFound", err)
	}
	if _, err := h.Leaf(t.Context(), auditor, uuid.New()); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("leaf: got %v, want ErrNotFound", err)
	}
	if report := h.verify(t); !report.OK() || report.Size != 0 {
		t.Errorf("%+v", report)
	}
	h.record(t, 1)
	id := one[uuid.UUID](t, h.db, `select id from ledger_pending`)
	if _, err := h.Leaf(t.Context(), auditor, id); !errors.Is(err, audit.ErrPending) {
		t.Errorf("leaf: got %v, want ErrPending", err)
	}
}
