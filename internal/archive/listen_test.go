package archive_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/blob"
	"earmark/internal/consent"
	"earmark/internal/db"
)

func TestRanges(t *testing.T) { // invariant 4
	t.Parallel()
	onEachStore(t, func(t *testing.T, h *house) {
		content := wav(150_000)
		i := h.submit(pbx(), content)
		l, err := h.Listen(t.Context(), key(access.Reviewer), i.ID, "audio", access.Training, false)
		if err != nil {
			t.Fatal(err)
		}
		if l.Size != int64(len(content)) || l.MediaType != "audio/wav" || l.ETag != `"`+sumOf(content)+`"` {
			t.Errorf("listening = %+v", l)
		}
		size := len(content)
		rapid.Check(t, func(rt *rapid.T) {
			off := rapid.OneOf(rapid.IntRange(0, size-1), rapid.SampledFrom([]int{0, 65535, 65536, 65537, size - 1})).Draw(rt, "off")
			n := rapid.OneOf(rapid.IntRange(1, size-off), rapid.Just(1), rapid.Just(size-off)).Draw(rt, "n")
			if got := h.read(l, int64(off), int64(n)); !bytes.Equal(got, content[off:off+n]) {
				rt.Errorf("bytes %d+%d are others", off, n)
			}
		})
		if _, err := l.Range(t.Context(), 0, l.Size+1); err == nil {
			t.Error("a range beyond the end was given")
		}
	})
}

// Roles and purposes are those of the one table, and each play leaves a trace.
func TestWhoHearsForWhat(t *testing.T) { // invariant 7
	t.Parallel()
	h := open(t, setting{})
	n := call()
	n.Agent = &archive.Agent{ID: "a1"}
	n.Transcript = "xin chào"
	i, _, err := h.SubmitWithAudio(t.Context(), pbx(), n, audio(wav(10)))
	if err != nil {
		t.Fatal(err)
	}
	heard := 0
	for _, role := range access.Roles {
		actor := key(role)
		if role == access.Agent {
			actor.AgentID = "a1"
		}
		for _, purpose := range append([]access.Purpose{"", "curiosity"}, access.Purposes...) {
			want := actor.MayFor(access.Hear, purpose)
			if role == access.Agent {
				want = actor.MayFor(access.HearOwn, purpose)
			}
			if want == nil && purpose == access.Research {
				want = archive.ErrConsentMissing // covered by no default basis
			}
			_, err := h.Listen(t.Context(), actor, i.ID, "audio", purpose, false)
			if !errors.Is(err, want) {
				t.Errorf("%s for %q: Listen %v, want %v", role, purpose, err, want)
			}
			text, err := h.Read(t.Context(), actor, i.ID, purpose)
			if !errors.Is(err, want) || (err == nil) != (text.Transcript == "xin chào") {
				t.Errorf("%s for %q: Read %q, %v, want %v", role, purpose, text.Transcript, err, want)
			}
			if want == nil {
				heard++
			}
		}
	}
	if n := h.entries("recording.heard"); n != heard || heard == 0 {
		t.Errorf("%d entries of %d plays", n, heard)
	}
	if n := h.entries("interaction.read"); n != heard {
		t.Errorf("%d entries of %d readings", n, heard)
	}
	stranger := key(access.Agent)
	stranger.AgentID = "a2"
	if _, err := h.Listen(t.Context(), stranger, i.ID, "audio", access.Training, false); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("another agent: %v", err)
	}
	if _, err := h.Listen(t.Context(), key(access.Reviewer), i.ID, "video", access.Training, false); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("another name: %v", err)
	}
	if _, err := h.Listen(t.Context(), key(access.Reviewer), uuid.New(), "audio", access.Training, false); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("another id: %v", err)
	}
	if _, err := h.Peaks(t.Context(), pbx(), i.ID, "audio"); !errors.Is(err, access.ErrForbidden) {
		t.Errorf("an uploader sees peaks: %v", err)
	}
}

func TestOneEntryInFifteenMinutes(t *testing.T) { // invariant 7
	t.Parallel()
	var mu sync.Mutex
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	h := open(t, setting{now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}})
	i := h.submit(pbx(), wav(10))
	reviewer := key(access.Reviewer)
	var group errgroup.Group
	for range 20 {
		group.Go(func() error {
			_, err := h.Listen(context.Background(), reviewer, i.ID, "audio", access.Training, false)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	listen := func(actor access.Actor, purpose access.Purpose) {
		if _, err := h.Listen(t.Context(), actor, i.ID, "audio", purpose, false); err != nil {
			t.Fatal(err)
		}
	}
	steps := []struct {
		do   func()
		want int
	}{
		{func() { listen(reviewer, access.Training) }, 1},
		{func() { listen(reviewer, access.QualityAssurance) }, 2},
		{func() { listen(key(access.Reviewer), access.Training) }, 3},
		{func() { listen(key(access.Reviewer), access.Training) }, 4},
		{func() {
			mu.Lock()
			now = now.Add(15 * time.Minute)
			mu.Unlock()
			listen(reviewer, access.Training)
		}, 5},
	}
	for n, step := range steps {
		step.do()
		if got := h.entries("recording.heard"); got != step.want {
			t.Errorf("step %d: %d entries, want %d", n, got, step.want)
		}
	}
}

func TestDamageIsNeverPlayed(t *testing.T) { // invariant 4
	t.Parallel()
	dir := t.TempDir()
	disk, err := blob.OpenDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
	h := open(t, setting{options: func(o *archive.Options) { o.Blob = disk }})
	h.store.Store = disk
	content := wav(100_000)
	i, other := h.submit(pbx(), content), h.submit(pbx(), wav(100_000))
	h.sound()
	var file, otherFile string
	for _, k := range h.objects() {
		path := filepath.Join(dir, "objects", k)
		if bytes.Contains([]byte(k), []byte(i.ID.String())) {
			file = path
		} else {
			otherFile = path
		}
	}
	sealed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(otherFile)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(sealed)
	flipped[150_000] ^= 1
	for name, damage := range map[string][]byte{
		"flipped": flipped, "cut": sealed[:len(sealed)-1], "longer": append(bytes.Clone(sealed), 0), "another's": foreign, "empty": {},
	} {
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, damage, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := h.Listen(t.Context(), key(access.Reviewer), i.ID, "audio", access.Training, false)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		body, err := l.Range(t.Context(), 0, l.Size)
		if err == nil {
			_, err = io.Copy(&got, body)
			err = errors.Join(err, body.Close())
		}
		if err == nil || !bytes.HasPrefix(content, got.Bytes()) {
			t.Errorf("%s: %d bytes, %v", name, got.Len(), err)
		}
		if problems := h.problems(); len(problems) != 1 {
			t.Errorf("%s: Verify says %v", name, problems)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	l, err := h.Listen(t.Context(), key(access.Reviewer), i.ID, "audio", access.Training, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Range(t.Context(), 0, 1); !errors.Is(err, archive.ErrCorrupt) {
		t.Errorf("missing: %v", err)
	}
	if problems := h.problems(); len(problems) != 1 {
		t.Errorf("missing: Verify says %v", problems)
	}
	if _, err := h.SweepOrphans(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	flagged, err := h.Get(t.Context(), key(access.Reviewer), i.ID)
	if err != nil || flagged.Recordings[0].State != "flagged" || !slices.Contains(flagged.Recordings[0].Flags, archive.FlagMissing) {
		t.Errorf("after the sweep: %+v, %v", flagged.Recordings, err)
	}
	if whole, err := h.Get(t.Context(), key(access.Reviewer), other.ID); err != nil || whole.Recordings[0].State != "received" {
		t.Errorf("the other: %+v, %v", whole.Recordings, err)
	}
}

// The waveform is for those who may listen: for some purpose of theirs.
func TestPeaksAreClosedToThoseWhoMayNotListen(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	n := call()
	n.Customer = &archive.Customer{Phone: "0901234567"}
	n.Consent = &consent.Statement{Status: consent.Granted, Purposes: []access.Purpose{access.Legal}}
	content := tone()
	i, _, err := h.SubmitWithAudio(t.Context(), pbx(), n, audio(content))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Analyse(t.Context(), i.Recordings[0].ID); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Peaks(t.Context(), key(access.Reviewer), i.ID, "audio"); !errors.Is(err, archive.ErrConsentMissing) {
		t.Errorf("a reviewer, who may not listen for legal purposes: %v", err)
	}
	if _, err := h.Peaks(t.Context(), key(access.RecordsOfficer), i.ID, "audio"); err != nil {
		t.Errorf("a records officer: %v", err)
	}
	customer, err := uuid.Parse(i.Customer.ID)
	if err != nil {
		t.Fatal(err)
	}
	withdrawn := consent.Statement{Status: consent.Withdrawn}
	if _, err := h.consent.Record(t.Context(), key(access.PrivacyOfficer), customer, withdrawn); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Peaks(t.Context(), key(access.RecordsOfficer), i.ID, "audio"); !errors.Is(err, archive.ErrConsentMissing) {
		t.Errorf("after the withdrawal: %v", err)
	}
}
