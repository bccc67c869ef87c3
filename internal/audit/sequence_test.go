package audit_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"earmark/internal/audit"
	"earmark/internal/blob"
	"earmark/internal/db"
	"earmark/internal/ledger"
)

func TestBacklogIsPlacedInBatches(t *testing.T) {
	t.Parallel()
	h := setup(t)
	h.sequence(t, 0)
	h.record(t, 2500)
	h.sequence(t, 2500)
	h.sequence(t, 0)
	h.publish(t)
	report := h.verify(t)
	if !report.OK() || report.Size != 2500 || report.Entries != 2500 || report.Checkpoints != 3 || report.Published != 3 {
		t.Errorf("%+v", report)
	}
	for i, entry := range h.entries(t) {
		if entry.Leaf != int64(i) || entry.Details["bytes"] != int64(i) {
			t.Fatalf("entry %d is %+v", i, entry)
		}
	}
}

func TestRecordedWithTheChangeOrNotAtAll(t *testing.T) {
	t.Parallel()
	h := setup(t)
	failure := errors.New("failure")
	err := h.db.Write(t.Context(), func(tx *db.Tx) error {
		tx.Record(ledger.Entry{Action: "recording.received"})
		return failure
	})
	if !errors.Is(err, failure) {
		t.Fatal(err)
	}
	h.sequence(t, 0)
}

// While one process sequences, a second leaves it alone and writers go on.
func TestSequencerHoldsUpNobody(t *testing.T) {
	t.Parallel()
	h := setup(t)
	h.record(t, 3)
	err := h.db.Conn(t.Context(), func(conn *pgx.Conn) error {
		other, err := conn.Begin(t.Context())
		if err != nil {
			return err
		}
		if _, err := other.Exec(t.Context(), `select pg_advisory_xact_lock(x'6c6564676572'::bigint)`); err != nil {
			return err
		}
		// What a sequencer in the middle of its work holds.
		if _, err := other.Exec(t.Context(), `delete from ledger_pending`); err != nil {
			return err
		}
		h.sequence(t, 0)
		h.record(t, 1)
		return other.Rollback(t.Context())
	})
	if err != nil {
		t.Fatal(err)
	}
	h.sequence(t, 4)
}

func TestWritersAndTwoSequencersAtOnce(t *testing.T) {
	t.Parallel()
	h := setup(t)
	second := open(t, h.url, h.dir, h.secret)
	ctx, cancel := context.WithCancel(t.Context())
	var sequencers, writers sync.WaitGroup
	for _, s := range []*house{h, second} {
		sequencers.Go(func() {
			if err := s.Run(ctx, 5*time.Millisecond); err != nil {
				t.Error(err)
			}
		})
	}
	const writerCount, writes, entriesEach = 6, 30, 3
	for range writerCount {
		writers.Go(func() {
			for range writes {
				h.record(t, entriesEach)
			}
		})
	}
	writers.Wait()
	total := int64(writerCount * writes * entriesEach)
	deadline := time.Now().Add(30 * time.Second)
	for done := false; !done && time.Now().Before(deadline); {
		done = one[bool](t, h.db, `
			select coalesce(max(size), 0) = $1 and bool_and(published_at is not null) from ledger_checkpoints`, total)
	}
	cancel()
	sequencers.Wait()
	report := h.verify(t)
	if !report.OK() || report.Entries != total || report.Pending != 0 || report.Published != report.Checkpoints {
		t.Fatalf("%+v", report)
	}
	ids := map[uuid.UUID]bool{}
	for _, entry := range h.entries(t) {
		ids[entry.ID] = true
	}
	if int64(len(ids)) != total {
		t.Errorf("%d entries, %d recorded", len(ids), total)
	}
}

// Entries are signed and published about a second after they were committed when
// the sequencer looks twice a second.
func TestRunIsPrompt(t *testing.T) {
	t.Parallel()
	h := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- h.Run(ctx, 500*time.Millisecond) }()
	h.record(t, 1)
	begin := time.Now()
	for one[int](t, h.db, `select count(*) from ledger_checkpoints where published_at is not null`) == 0 {
		if time.Since(begin) > 5*time.Second {
			t.Fatal("not published after 5 seconds")
		}
	}
	cancel()
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
}

const childVariable = "EARMARK_AUDIT_TEST_CHILD"

// TestSequencerChild is the process that TestKilledBeforePublication kills.
func TestSequencerChild(t *testing.T) {
	if os.Getenv(childVariable) == "" {
		return
	}
	h := open(t, os.Getenv("EARMARK_AUDIT_TEST_URL"), os.Getenv("EARMARK_AUDIT_TEST_DIR"), os.Getenv("EARMARK_AUDIT_TEST_KEY"))
	h.sequence(t, 7)
	h.publish(t)
}

func TestKilledBeforePublication(t *testing.T) {
	t.Parallel()
	h := setup(t)
	h.record(t, 7)
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSequencerChild$")
	child.Env = append(os.Environ(), childVariable+"=1", "EARMARK_FAULT=audit.sequenced",
		"EARMARK_AUDIT_TEST_URL="+h.url, "EARMARK_AUDIT_TEST_DIR="+h.dir, "EARMARK_AUDIT_TEST_KEY="+h.secret)
	output, err := child.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child was not killed: %v\n%s", err, output)
	}

	report := h.verify(t)
	if !report.OK() || report.Size != 7 || report.Published != 0 {
		t.Fatalf("after the kill: %+v", report)
	}
	h.publish(t)
	h.sequence(t, 0)
	report = h.verify(t)
	if !report.OK() || report.Published != 1 {
		t.Fatalf("after the restart: %+v", report)
	}
}

func TestKilledBeforePublicationIsMarked(t *testing.T) {
	t.Parallel()
	h := grown(t)
	h.exec(t, `update ledger_checkpoints set published_at = null`)
	if report := h.verify(t); !report.OK() {
		t.Fatalf("%+v", report)
	}
	h.publish(t)
	if n := one[int](t, h.db, `select count(*) from ledger_checkpoints where published_at is null`); n != 0 {
		t.Errorf("%d checkpoints still unpublished", n)
	}
}

// failing is a store that does not answer.
type failing struct{ blob.Store }

func (failing) Put(context.Context, string, io.Reader, int64) (blob.Info, error) {
	return blob.Info{}, blob.ErrUnavailable
}

func TestStoreThatDoesNotAnswerDelaysNoCheckpoint(t *testing.T) {
	t.Parallel()
	h := setup(t)
	down := h.over(t, failing{h.store})
	h.record(t, 2)
	if n, err := down.Sequence(t.Context()); n != 2 || err != nil {
		t.Fatalf("%d placed, %v", n, err)
	}
	if err := down.Publish(t.Context()); !errors.Is(err, blob.ErrUnavailable) {
		t.Fatalf("got %v, want ErrUnavailable", err)
	}
	h.publish(t)
	if report := h.verify(t); !report.OK() || report.Published != 1 {
		t.Errorf("%+v", report)
	}
}

// Invariant 8, the ledger cannot be rewritten unseen: nothing is signed on top of
// a database that was set back.
func TestNothingIsSignedBehindWhatWasPublished(t *testing.T) {
	t.Parallel()
	h := grown(t)
	h.exec(t, setBack...)
	restarted := open(t, h.url, h.dir, h.secret)
	restarted.record(t, 1)
	if n, err := restarted.Sequence(t.Context()); n != 0 || !errors.Is(err, audit.ErrRolledBack) {
		t.Fatalf("%d placed, %v; want ErrRolledBack", n, err)
	}
	if n := one[int](t, h.db, `select count(*) from ledger_pending`); n != 1 {
		t.Errorf("%d entries pending, want the one recorded", n)
	}
}

func TestForeignObjectsDoNotStopTheLedger(t *testing.T) {
	t.Parallel()
	h := setup(t)
	h.put(t, "ledger/checkpoints/00000000000000000099", "nothing signed")
	h.put(t, "ledger/checkpoints/zzz", "no checkpoint")
	h.record(t, 1)
	h.sequence(t, 1)
	want := []audit.Code{audit.PublishedInvalid, audit.PublishedInvalid}
	if diff := diffCodes(want, h.verify(t)); diff != "" {
		t.Error(diff)
	}
}

func TestForkIsNotPublishedOver(t *testing.T) {
	t.Parallel()
	h := setup(t)
	h.record(t, 1)
	h.sequence(t, 1)
	h.put(t, "ledger/checkpoints/00000000000000000001", "another history")
	h.record(t, 1)
	h.sequence(t, 1)
	if err := h.Publish(t.Context()); !errors.Is(err, audit.ErrForked) {
		t.Fatalf("got %v, want ErrForked", err)
	}
	if unpublished := one[int64](t, h.db, `select sum(size)::bigint from ledger_checkpoints where published_at is null`); unpublished != 1 {
		t.Errorf("unpublished sizes sum to %d, want the forked 1 alone", unpublished)
	}
	want := []audit.Code{audit.PublishedDiffers}
	if diff := diffCodes(want, h.verify(t)); diff != "" {
		t.Error(diff)
	}
}

func TestNothingIsBuiltOnAChangedTree(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		sql  string
		want error
	}{
		"hash on the edge":  {`update ledger_hashes set hash = decode(repeat('00', 32), 'hex') where index = (select max(index) from ledger_hashes)`, ledger.ErrProof},
		"hash is gone":      {`delete from ledger_hashes where index = (select max(index) from ledger_hashes)`, audit.ErrCorrupt},
		"forged checkpoint": {`update ledger_checkpoints set note = replace(note, e'\n21\n', e'\n22\n') where size = 21`, ledger.ErrSignature},
		"moved checkpoint":  {`update ledger_checkpoints set size = 30 where size = 21`, audit.ErrCorrupt},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := grown(t)
			h.exec(t, tt.sql)
			h.record(t, 1)
			if n, err := h.Sequence(t.Context()); n != 0 || !errors.Is(err, tt.want) {
				t.Errorf("%d placed, %v; want %v", n, err, tt.want)
			}
		})
	}
}

func TestPendingEntryThatNobodyRecordedStopsNoOther(t *testing.T) {
	t.Parallel()
	h := grown(t)
	h.exec(t,
		`insert into ledger_pending values ('00000000-0000-0000-0000-000000000001', 'no entry')`,
		`insert into ledger_pending select '00000000-0000-0000-0000-000000000002', entry from ledger_entries where leaf = 3`,
		`insert into ledger_pending select id, entry from ledger_entries where leaf = 4`)
	h.record(t, 2)
	n, err := h.Sequence(t.Context())
	if n != 2 || !errors.Is(err, audit.ErrCorrupt) {
		t.Fatalf("%d placed, %v; want 2 and ErrCorrupt", n, err)
	}
	report := h.verify(t)
	if diff := diffCodes([]audit.Code{audit.PendingInvalid, audit.PendingInvalid, audit.PendingInvalid}, report); diff != "" {
		t.Error(diff)
	}
	if report.Pending != 3 || report.Problems[0].ID.String() != "00000000-0000-0000-0000-000000000001" {
		t.Errorf("%+v", report)
	}
}
