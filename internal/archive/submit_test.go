package archive_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/blob"
	"earmark/internal/consent"
	"earmark/internal/ledger"
	"earmark/internal/media"
)

func TestBytesInAreBytesOut(t *testing.T) { // invariant 4
	t.Parallel()
	onEachStore(t, func(t *testing.T, h *house) {
		for _, samples := range []int{1, 1000, 32746, 32747, 400_000} {
			content := wav(samples)
			i := h.submit(pbx(), content)
			got := h.hear(key(access.Reviewer), i.ID, "audio", access.Training)
			if !bytes.Equal(got, content) {
				t.Errorf("%d bytes came back as %d others", len(content), len(got))
			}
			if i.Recordings[0].SHA256 != sumOf(content) || i.Recordings[0].Bytes != int64(len(content)) {
				t.Errorf("recording = %+v", i.Recordings[0])
			}
		}
		h.sound()
	})
}

func TestNothingIsStoredInTheClear(t *testing.T) {
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
	content := wav(200_000)
	h.submit(pbx(), content)
	files := 0
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		stored, err := os.ReadFile(path)
		if err == nil && bytes.Contains(stored, content[1000:1016]) {
			t.Errorf("%s holds the recording in the clear", path)
		}
		return err
	})
	if err != nil || files == 0 {
		t.Fatalf("%d files, %v", files, err)
	}
}

func TestTheSameAgainIsTheSame(t *testing.T) { // invariant 3
	t.Parallel()
	h := open(t, setting{})
	actor, n, content := pbx(), call(), wav(5000)
	first, created, err := h.SubmitWithAudio(t.Context(), actor, n, audio(content))
	if err != nil || !created {
		t.Fatalf("created %v, %v", created, err)
	}
	again, created, err := h.SubmitWithAudio(t.Context(), actor, n, audio(content))
	if err != nil || created || again.ID != first.ID {
		t.Fatalf("the same again: created %v, %v", created, err)
	}
	first.Receipt, again.Receipt = nil, nil
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("answers differ (-first +again):\n%s", diff)
	}
	if another, created, err := h.SubmitWithAudio(t.Context(), pbx(), n, audio(content)); err != nil || created || another.ID != first.ID {
		t.Errorf("the same by another key of the source: created %v, %v", created, err)
	}
	other := n
	other.Queue = "sales"
	if _, _, err := h.SubmitWithAudio(t.Context(), actor, other, audio(content)); !errors.Is(err, archive.ErrConflict) {
		t.Errorf("other metadata: %v", err)
	}
	if _, _, err := h.SubmitWithAudio(t.Context(), actor, n, audio(wav(5000))); !errors.Is(err, archive.ErrConflict) {
		t.Errorf("other audio: %v", err)
	}
	if _, _, err := h.Submit(t.Context(), actor, other); !errors.Is(err, archive.ErrConflict) {
		t.Errorf("other metadata without audio: %v", err)
	}
	if got, _, err := h.Submit(t.Context(), actor, n); err != nil || got.ID != first.ID {
		t.Errorf("the same metadata without audio: %v", err)
	}
	if keys := h.objects(); len(keys) != 1 {
		t.Errorf("objects: %v", keys)
	}
	h.sound()
}

func TestOneOfManyAtOnce(t *testing.T) { // invariant 3
	t.Parallel()
	onEachStore(t, func(t *testing.T, h *house) {
		actor, n, content := pbx(), call(), wav(20_000)
		var mu sync.Mutex
		created, ids := 0, map[string]int{}
		var group errgroup.Group
		for range 32 {
			group.Go(func() error {
				i, first, err := h.SubmitWithAudio(context.Background(), actor, n, audio(content))
				mu.Lock()
				defer mu.Unlock()
				ids[i.ID.String()]++
				if first {
					created++
				}
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		if created != 1 || len(ids) != 1 {
			t.Errorf("created %d, ids %v", created, ids)
		}
		if keys := h.objects(); len(keys) != 1 {
			t.Errorf("objects: %v", keys)
		}
		h.sound()
	})
}

func TestAudioAfterMetadata(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	actor, n, content := pbx(), call(), wav(3000)
	first, _, err := h.Submit(t.Context(), actor, n)
	if err != nil {
		t.Fatal(err)
	}
	r, created, err := h.PutRecording(t.Context(), actor, first.ID, audio(content))
	if err != nil || !created || r.Name != "audio" || r.SHA256 != sumOf(content) {
		t.Fatalf("PutRecording = %+v, %v, %v", r, created, err)
	}
	if _, created, err := h.PutRecording(t.Context(), actor, first.ID, audio(content)); err != nil || created {
		t.Errorf("again: created %v, %v", created, err)
	}
	if _, _, err := h.PutRecording(t.Context(), actor, first.ID, audio(wav(3000))); !errors.Is(err, archive.ErrConflict) {
		t.Errorf("other bytes: %v", err)
	}
	leg := audio(content)
	leg.Name = "leg-a"
	if _, created, err := h.PutRecording(t.Context(), actor, first.ID, leg); err != nil || !created {
		t.Errorf("another name: created %v, %v", created, err)
	}
	leg = audio(content)
	leg.Name = "../x"
	if _, _, err := h.PutRecording(t.Context(), actor, first.ID, leg); err == nil {
		t.Error("an odd name was taken")
	}

	n = call()
	first, _, err = h.Submit(t.Context(), actor, n)
	if err != nil {
		t.Fatal(err)
	}
	both, created, err := h.SubmitWithAudio(t.Context(), actor, n, audio(content))
	if err != nil || created || both.ID != first.ID || len(both.Recordings) != 1 {
		t.Errorf("multipart after JSON = %+v, %v, %v", both, created, err)
	}
	h.sound()
}

// A JSON submission that comes while a multipart one is being stored wins; the
// recording is not lost, though the body it came in was read.
func TestAudioThatLostTheRaceIsKept(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	actor, n, content := pbx(), call(), wav(100_000)
	var once sync.Once
	h.store.hookPut(func(ctx context.Context, _ string, put func() (blob.Info, error)) (blob.Info, error) {
		info, err := put()
		once.Do(func() {
			if _, created, err := h.Submit(ctx, actor, n); err != nil || !created {
				t.Errorf("Submit in between: %v, %v", created, err)
			}
		})
		return info, err
	})
	i, created, err := h.SubmitWithAudio(t.Context(), actor, n, audio(content))
	if err != nil || created || len(i.Recordings) != 1 {
		t.Fatalf("= %+v, %v, %v", i, created, err)
	}
	if got := h.hear(key(access.Reviewer), i.ID, "audio", access.Training); !bytes.Equal(got, content) {
		t.Error("other bytes")
	}
	if keys := h.objects(); len(keys) != 1 {
		t.Errorf("objects: %v", keys)
	}
	h.sound()
}

func TestUnknownSize(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, h *house) {
		for _, samples := range []int{10, 100_000, 1_500_000} {
			content := wav(samples)
			a := audio(content)
			a.Bytes, a.Body = -1, iotest.HalfReader(bytes.NewReader(content))
			i, _, err := h.SubmitWithAudio(t.Context(), pbx(), call(), a)
			if err != nil {
				t.Fatal(err)
			}
			if got := h.hear(key(access.Reviewer), i.ID, "audio", access.Training); !bytes.Equal(got, content) {
				t.Errorf("%d bytes came back as %d others", len(content), len(got))
			}
		}
		if left, err := os.ReadDir(h.spool); err != nil || len(left) > 0 {
			t.Errorf("left in the spool: %v, %v", left, err)
		}
		h.sound()
	})
}

func TestRefusedBodiesLeaveNothing(t *testing.T) { // invariant 2
	t.Parallel()
	content := wav(50_000)
	wrong := sha256.Sum256([]byte("something else"))
	lost := errors.New("connection reset")
	cases := map[string]struct {
		spoil func(*archive.Audio)
		want  error
	}{
		"shorter than announced": {func(a *archive.Audio) { a.Bytes++ }, archive.ErrTruncated},
		"longer than announced":  {func(a *archive.Audio) { a.Bytes-- }, archive.ErrFraming},
		"cut in the head":        {func(a *archive.Audio) { a.Body = bytes.NewReader(content[:100]) }, archive.ErrTruncated},
		"lost on the way": {func(a *archive.Audio) {
			a.Body = io.MultiReader(bytes.NewReader(content[:70_000]), iotest.ErrReader(lost))
		}, archive.ErrTruncated},
		"lost on the way, size unknown": {func(a *archive.Audio) {
			a.Body, a.Bytes = io.MultiReader(bytes.NewReader(content[:70_000]), iotest.ErrReader(lost)), -1
		}, archive.ErrTruncated},
		"wrong digest":               {func(a *archive.Audio) { a.Digests = map[string][]byte{"sha-256": wrong[:]} }, archive.ErrDigest},
		"wrong sha-512":              {func(a *archive.Audio) { a.Digests = map[string][]byte{"sha-512": wrong[:]} }, archive.ErrDigest},
		"wrong digest, size unknown": {func(a *archive.Audio) { a.Digests, a.Bytes = map[string][]byte{"sha-256": wrong[:]}, -1 }, archive.ErrDigest},
		"not audio": {func(a *archive.Audio) {
			page := bytes.Repeat([]byte("<html>"), 1000)
			a.Body, a.Bytes, a.FileName = bytes.NewReader(page), int64(len(page)), "call.wav"
		}, media.ErrNotAudio},
		"too large":               {func(a *archive.Audio) { a.Bytes = 200_000 }, archive.ErrTooLarge},
		"too large, size unknown": {func(a *archive.Audio) { a.Body, a.Bytes = bytes.NewReader(wav(100_000)), -1 }, archive.ErrTooLarge},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := open(t, setting{options: func(o *archive.Options) { o.MaxBytes = 150_000 }})
			actor, n, a := pbx(), call(), audio(content)
			n.ANI = "0901234567"
			c.spoil(&a)
			if _, _, err := h.SubmitWithAudio(t.Context(), actor, n, a); !errors.Is(err, c.want) {
				t.Fatalf("error %v, want %v", err, c.want)
			}
			h.empty()
			if _, created, err := h.SubmitWithAudio(t.Context(), actor, n, audio(content)); err != nil || !created {
				t.Errorf("sent again: %v, %v", created, err)
			}
		})
	}
}

func TestDigestsThatHold(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	content := wav(100)
	sum, a := sha256.Sum256(content), audio(content)
	a.Digests = map[string][]byte{"sha-256": sum[:], "md5": []byte("ignored")}
	if _, _, err := h.SubmitWithAudio(t.Context(), pbx(), call(), a); err != nil {
		t.Error(err)
	}
}

func TestStoreFailures(t *testing.T) { // invariants 1 and 2
	t.Parallel()
	type put = func() (blob.Info, error)
	cases := map[string]struct {
		onPut func(put) (blob.Info, error)
		want  error
	}{
		"does not answer": {func(put) (blob.Info, error) { return blob.Info{}, blob.ErrUnavailable }, blob.ErrUnavailable},
		"is full":         {func(put) (blob.Info, error) { return blob.Info{}, blob.ErrFull }, blob.ErrFull},
		"stored it and says it is uncertain": {func(p put) (blob.Info, error) {
			if info, err := p(); err != nil {
				return info, err
			}
			return blob.Info{}, fmt.Errorf("%w: %w", blob.ErrUncertain, blob.ErrUnavailable)
		}, blob.ErrUncertain},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := open(t, setting{})
			actor, n, content := pbx(), call(), wav(9000)
			h.store.hookPut(func(_ context.Context, _ string, p func() (blob.Info, error)) (blob.Info, error) { return c.onPut(p) })
			if _, _, err := h.SubmitWithAudio(t.Context(), actor, n, audio(content)); !errors.Is(err, c.want) {
				t.Fatalf("error %v, want %v", err, c.want)
			}
			h.empty()
			h.store.hookPut(nil)
			i, created, err := h.SubmitWithAudio(t.Context(), actor, n, audio(content))
			if err != nil || !created {
				t.Fatalf("sent again: %v, %v", created, err)
			}
			if got := h.hear(key(access.Reviewer), i.ID, "audio", access.Training); !bytes.Equal(got, content) {
				t.Error("other bytes")
			}
		})
	}
}

// A client that hangs up after its last byte gets no answer, but what it sent
// is kept as a whole.
func TestHangingUpAtTheEnd(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	ctx, hangUp := context.WithCancel(t.Context())
	h.store.hookPut(func(_ context.Context, _ string, put func() (blob.Info, error)) (blob.Info, error) {
		defer hangUp()
		return put()
	})
	i, created, err := h.SubmitWithAudio(ctx, pbx(), call(), audio(wav(100)))
	if err != nil || !created {
		t.Fatalf("created %v, %v", created, err)
	}
	if got, err := h.Get(t.Context(), key(access.Reviewer), i.ID); err != nil || len(got.Recordings) != 1 {
		t.Errorf("Get = %+v, %v", got, err)
	}
	h.sound()
}

func TestWhoMaySubmit(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	for _, role := range access.Roles {
		_, _, err := h.Submit(t.Context(), key(role), call())
		if want := key(role).May(access.SubmitInteractions); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", role, err, want)
		}
	}
	bound := pbx()
	bound.Source = "pbx-2"
	if _, _, err := h.Submit(t.Context(), bound, call()); err == nil {
		t.Error("another source was taken from a key that stands for one")
	}
	n := call()
	n.Source = ""
	i, _, err := h.Submit(t.Context(), bound, n)
	if err != nil || i.Source != "pbx-2" {
		t.Fatalf("source %q, %v", i.Source, err)
	}
	if _, _, err := h.PutRecording(t.Context(), pbx(), i.ID, audio(wav(1))); err == nil {
		t.Error("a recording was taken for another's interaction")
	}
}

func TestReceipt(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	content := wav(10)
	i := h.submit(pbx(), content)
	typ, doc, err := ledger.OpenDocument(i.Receipt, h.verifier)
	if err != nil || typ != "earmark.receipt/1" || !bytes.Contains(doc, []byte(sumOf(content))) || !bytes.Contains(doc, []byte(i.ID.String())) {
		t.Errorf("receipt = %s %s, %v", typ, doc, err)
	}
}

func TestConsentAtTheDoor(t *testing.T) {
	t.Parallel()
	said := func(status string) *consent.Statement {
		return &consent.Statement{Basis: access.Consent, Status: status}
	}
	cases := map[string]struct {
		basis *access.Basis
		said  *consent.Statement
		state archive.State
		err   error
	}{
		"nobody said anything":    {nil, nil, archive.Quarantined, nil},
		"the key's basis":         {pbx().Basis, nil, archive.Active, nil},
		"granted in the call":     {nil, said(consent.Granted), archive.Active, nil},
		"refused in the call":     {pbx().Basis, said(consent.Refused), "", archive.ErrConsentRefused},
		"another basis by itself": {nil, &consent.Statement{Basis: access.Contract, Reason: "order"}, archive.Active, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := open(t, setting{})
			actor, n := key(access.Uploader), call()
			actor.Basis, n.Consent = c.basis, c.said
			i, _, err := h.SubmitWithAudio(t.Context(), actor, n, audio(wav(100)))
			if !errors.Is(err, c.err) || i.State != c.state {
				t.Fatalf("state %q, %v", i.State, err)
			}
			if c.err != nil {
				h.empty()
				if h.entries("interaction.refused") != 1 {
					t.Error("the refusal left no entry")
				}
				return
			}
			if (i.State == archive.Quarantined) != (len(i.Purposes) == 0) || (i.State == archive.Quarantined) != (i.RetainUntil != nil) {
				t.Errorf("purposes %v, retained until %v", i.Purposes, i.RetainUntil)
			}
			h.sound()
		})
	}
}

func TestWhoeverObjectedIsNotStored(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	actor := key(access.Uploader)
	actor.Basis = &access.Basis{Basis: access.Consent, Method: "announcement"}
	n := call()
	n.ANI = "0901 234 567"
	i, _, err := h.SubmitWithAudio(t.Context(), actor, n, audio(wav(100)))
	if err != nil || i.Customer == nil || i.ANI != "+84901234567" {
		t.Fatalf("%+v, %v", i, err)
	}
	customers, err := h.consent.Find(t.Context(), h.db, "+84901234567")
	if err != nil || len(customers) != 1 {
		t.Fatalf("customers %v, %v", customers, err)
	}
	no := consent.Statement{Basis: access.Consent, Status: consent.Withdrawn}
	if _, err := h.consent.Record(t.Context(), key(access.PrivacyOfficer), customers[0], no); err != nil {
		t.Fatal(err)
	}
	puts := 0
	h.store.hookPut(func(_ context.Context, _ string, put func() (blob.Info, error)) (blob.Info, error) {
		puts++
		return put()
	})
	next := call()
	next.ANI = "84901234567"
	if _, _, err := h.SubmitWithAudio(t.Context(), actor, next, audio(wav(100))); !errors.Is(err, archive.ErrConsentRefused) {
		t.Errorf("error %v", err)
	}
	if _, _, err := h.Submit(t.Context(), actor, next); !errors.Is(err, archive.ErrConsentRefused) {
		t.Errorf("without audio: %v", err)
	}
	if puts != 0 {
		t.Error("the audio was stored before the refusal")
	}
	// What was kept before is answered as before, and no longer opens.
	if again, created, err := h.Submit(t.Context(), actor, n); err != nil || created || again.ID != i.ID {
		t.Errorf("the earlier call again: %v, %v", created, err)
	}
	if _, err := h.Listen(t.Context(), key(access.Reviewer), i.ID, "audio", access.Training, false); !errors.Is(err, archive.ErrConsentMissing) {
		t.Errorf("Listen after the withdrawal: %v", err)
	}
}

func TestQuarantine(t *testing.T) {
	t.Parallel()
	officer := key(access.PrivacyOfficer)
	grant := consent.Statement{Basis: access.Consent, Status: consent.Granted, Method: "web_form"}
	releases := map[string]func(*house, archive.Interaction) error{
		"by amending it": func(h *house, i archive.Interaction) error {
			_, err := h.Amend(h.Context(), officer, i.ID, archive.Patch{Consent: &grant})
			return err
		},
		"by its customer's consent": func(h *house, _ archive.Interaction) error {
			customers, err := h.consent.Find(h.Context(), h.db, "0901234567")
			if err != nil || len(customers) != 1 {
				return fmt.Errorf("customers %v, %w", customers, err)
			}
			_, err = h.consent.Record(h.Context(), officer, customers[0], grant)
			return err
		},
		"by its source's basis": func(h *house, _ archive.Interaction) error {
			_, err := h.consent.SetSourceBasis(h.Context(), officer, "pbx", access.Basis{Basis: access.Contract, Reason: "orders"})
			return err
		},
	}
	for name, release := range releases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := open(t, setting{})
			uploader, n, content := key(access.Uploader), call(), wav(50)
			n.ANI = "0901234567"
			i, _, err := h.SubmitWithAudio(t.Context(), uploader, n, audio(content))
			if err != nil || i.State != archive.Quarantined {
				t.Fatalf("%s, %v", i.State, err)
			}
			for _, role := range access.Roles {
				actor := key(role)
				if role == access.Uploader {
					actor = uploader
				}
				_, err := h.Get(t.Context(), actor, i.ID)
				found, searchErr := h.Search(t.Context(), actor, archive.Query{})
				if searchErr != nil {
					t.Fatal(searchErr)
				}
				may := role == access.Uploader || role == access.PrivacyOfficer
				if (err == nil) != may || (len(found.Items) == 1) != may {
					t.Errorf("%s: Get %v, found %d", role, err, len(found.Items))
				}
				for _, purpose := range access.Purposes {
					if _, err := h.Listen(t.Context(), actor, i.ID, "audio", purpose, false); err == nil {
						t.Errorf("%s hears what is quarantined for %s", role, purpose)
					}
				}
			}
			if err := release(h, i); err != nil {
				t.Fatal(err)
			}
			if got := h.hear(key(access.Reviewer), i.ID, "audio", access.Training); !bytes.Equal(got, content) {
				t.Error("other bytes")
			}
			got, err := h.Get(t.Context(), uploader, i.ID)
			if err != nil || got.State != archive.Active || got.RetainUntil != nil {
				t.Errorf("after the release: %+v, %v", got, err)
			}
			if h.entries("interaction.released_from_quarantine") != 1 {
				t.Error("the release left no entry")
			}
		})
	}
}

func TestErasedStaysErased(t *testing.T) { // invariant 6
	t.Parallel()
	h := open(t, setting{})
	actor, n, content := pbx(), call(), wav(100)
	i, _, err := h.SubmitWithAudio(t.Context(), actor, n, audio(content))
	if err != nil {
		t.Fatal(err)
	}
	h.purge(i.ID)
	if _, _, err := h.SubmitWithAudio(t.Context(), actor, n, audio(content)); !errors.Is(err, archive.ErrErased) {
		t.Errorf("sent again: %v", err)
	}
	if _, _, err := h.Submit(t.Context(), actor, n); !errors.Is(err, archive.ErrErased) {
		t.Errorf("sent again without audio: %v", err)
	}
	if _, _, err := h.PutRecording(t.Context(), actor, i.ID, audio(content)); !errors.Is(err, archive.ErrErased) {
		t.Errorf("audio alone: %v", err)
	}
	if keys := h.objects(); len(keys) != 0 {
		t.Errorf("objects: %v", keys)
	}
	h.sound()
}

// What is destroyed while a recording for it is on its way does not get it.
func TestRecordingForWhatIsGoing(t *testing.T) { // invariant 6
	t.Parallel()
	h := open(t, setting{})
	actor := pbx()
	i, _, err := h.Submit(t.Context(), actor, call())
	if err != nil {
		t.Fatal(err)
	}
	h.store.hookPut(func(_ context.Context, _ string, put func() (blob.Info, error)) (blob.Info, error) {
		info, err := put()
		h.purge(i.ID)
		return info, err
	})
	if _, _, err := h.PutRecording(t.Context(), actor, i.ID, audio(wav(100))); !errors.Is(err, archive.ErrErased) {
		t.Errorf("error %v", err)
	}
	if keys := h.objects(); len(keys) != 0 {
		t.Errorf("objects: %v", keys)
	}
	h.sound()
}

// A basis for a source may find a month's calls waiting: they are released in
// batches, and none of the source's new calls waits for that.
func TestManyAreReleasedFromQuarantineInBatches(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	if _, _, err := h.Submit(t.Context(), key(access.Uploader), call()); err != nil {
		t.Fatal(err)
	}
	h.execute(`insert into interactions (id, identity, fingerprint, state, source, source_id, channel, started_at, received_at, received_from, retain_until)
		select gen_random_uuid(), sha256(n::text::bytea), fingerprint, state, source, n, channel, started_at, received_at, received_from, retain_until
		from interactions, generate_series(1, 1200) n`)
	waiting := func() int { return h.count(`select count(*) from interactions where state = 'quarantined'`) }
	officer := key(access.PrivacyOfficer)
	basis := access.Basis{Basis: access.LegitimateInterests, Reason: "every caller hears it"}
	if _, err := h.consent.SetSourceBasis(t.Context(), officer, "pbx", basis); err != nil {
		t.Fatal(err)
	}
	if n := waiting(); n == 0 || n == 1201 {
		t.Errorf("%d of 1201 wait after the first batch", n)
	}
	var left consent.Grant
	err := h.db.QueryRow(t.Context(), `select args from outbox where kind = $1`, archive.ReleaseJob).Scan(&left)
	if err != nil || left.Source != "pbx" {
		t.Fatalf("the rest is left to %+v, %v", left, err)
	}
	for range 2 {
		if err := h.Release(t.Context(), left); err != nil {
			t.Fatal(err)
		}
	}
	if n := waiting(); n != 0 {
		t.Errorf("%d wait still", n)
	}
	if n := h.entries("interaction.released_from_quarantine"); n != 1201 {
		t.Errorf("%d entries of 1201 releases", n)
	}
}

// Who stands among the participants as the customer is the customer: what they
// refused counts, and their erasure finds the call.
func TestACustomerAmongTheParticipants(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	n := call()
	n.Direction, n.Channel = "", "email"
	n.Participants = []archive.Participant{
		{Role: "agent", Email: "support@example.com"},
		{Role: "customer", Email: "An@Example.com", Name: "Lê An"},
	}
	i, _, err := h.Submit(t.Context(), pbx(), n)
	if err != nil {
		t.Fatal(err)
	}
	found, err := h.consent.Find(t.Context(), h.db, "an@example.com")
	if err != nil || len(found) != 1 {
		t.Fatalf("the customer is known as %v, %v", found, err)
	}
	if theirs, err := h.OfCustomer(t.Context(), h.db, found[0]); err != nil || !slices.Equal(theirs, []uuid.UUID{i.ID}) {
		t.Errorf("theirs are %v, %v", theirs, err)
	}
	refused := consent.Statement{Basis: access.LegitimateInterests, Status: consent.Refused}
	for _, basis := range []string{access.LegitimateInterests, access.Consent} {
		refused.Basis = basis
		if _, err := h.consent.Record(t.Context(), key(access.PrivacyOfficer), found[0], refused); err != nil {
			t.Fatal(err)
		}
	}
	n.SourceID = uuid.NewString()
	if _, _, err := h.Submit(t.Context(), pbx(), n); !errors.Is(err, archive.ErrConsentRefused) {
		t.Errorf("after the refusal: %v", err)
	}
}
