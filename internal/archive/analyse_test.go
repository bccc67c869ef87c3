package archive_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/blob"
	"earmark/internal/db"
	"earmark/internal/media"
)

func TestAnalyse(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, h *house) {
		pcm := tone()
		unclosed := bytes.Clone(pcm)
		binary.LittleEndian.PutUint32(unclosed[4:], 0)
		binary.LittleEndian.PutUint32(unclosed[40:], 0)
		cases := map[string]struct {
			file    string
			content []byte
			state   string
			flags   []string
			codec   string
			copied  bool
		}{
			"PCM":          {"call.wav", pcm, "ready", []string{}, "pcm_s16le", false},
			"GSM in WAV":   {"call.WAV", converted(t, pcm, "wav", "-e", "gsm-full-rate"), "ready", []string{}, "gsm_ms", true},
			"raw GSM":      {"call.gsm", converted(t, pcm, "gsm"), "ready", []string{}, "gsm", true},
			"G.711":        {"call.wav", converted(t, pcm, "wav", "-e", "a-law"), "ready", []string{}, "pcm_alaw", true},
			"raw G.711":    {"call.ulaw", converted(t, pcm, "ul"), "ready", []string{}, "pcm_mulaw", true},
			"MP3":          {"call.mp3", converted(t, pcm, "mp3"), "ready", []string{}, "mp3", false},
			"Ogg":          {"call.ogg", converted(t, pcm, "ogg"), "ready", []string{}, "vorbis", true},
			"FLAC":         {"call.flac", converted(t, pcm, "flac"), "ready", []string{}, "flac", false},
			"never closed": {"call.wav", unclosed, "flagged", []string{media.FlagUnclosed}, "pcm_s16le", true},
		}
		for name, c := range cases {
			a := audio(c.content)
			a.FileName = c.file
			i, _, err := h.SubmitWithAudio(t.Context(), pbx(), call(), a)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			for range 2 {
				if err := h.Analyse(t.Context(), i.Recordings[0].ID); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
			got, err := h.Get(t.Context(), key(access.Reviewer), i.ID)
			if err != nil {
				t.Fatal(err)
			}
			r := got.Recordings[0]
			if r.State != c.state || !slices.Equal(r.Flags, c.flags) || r.Codec != c.codec || r.Channels != 1 || r.SampleRate != 8000 ||
				r.HasListeningCopy != c.copied || !r.HasPeaks {
				t.Errorf("%s: %+v", name, r)
			}
			if r.DurationMS == nil || *r.DurationMS < 900 || *r.DurationMS > 1200 || got.DurationMS == nil || *got.DurationMS != *r.DurationMS {
				t.Errorf("%s: %+v", name, got)
			}
			peaks, err := h.Peaks(t.Context(), key(access.Reviewer), i.ID, "audio")
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if p, err := media.ReadPeaks(bytes.NewReader(peaks)); err != nil || p.Len() < 15 {
				t.Errorf("%s: peaks %v, %v", name, p.Len(), err)
			}
			l, err := h.Listen(t.Context(), key(access.Reviewer), i.ID, "audio", access.Training, true)
			if err != nil {
				t.Fatal(err)
			}
			heard := h.read(l, 0, l.Size)
			if bytes.Equal(heard, c.content) == c.copied || c.copied && l.MediaType != "audio/mpeg" {
				t.Errorf("%s: the listening copy is %d bytes of %s", name, len(heard), l.MediaType)
			}
		}
		h.sound()
	})
}

func TestEmptyRecordingsAreKeptAndNotAnalysed(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	for _, content := range [][]byte{wavOf(nil), {}} {
		i := h.submit(pbx(), content)
		r := i.Recordings[0]
		if r.State != "flagged" || !slices.Contains(r.Flags, media.FlagEmpty) {
			t.Errorf("%d bytes: %+v", len(content), r)
		}
		if n := h.count(`select count(*) from outbox`); n != 0 {
			t.Errorf("%d jobs", n)
		}
		if err := h.Analyse(t.Context(), r.ID); err != nil {
			t.Error(err)
		}
		if got := h.hear(key(access.Reviewer), i.ID, "audio", access.Training); !bytes.Equal(got, content) {
			t.Errorf("%d bytes came back", len(got))
		}
	}
	h.submit(pbx(), wav(10))
	if n := h.count(`select count(*) from outbox where kind = 'recording.analyse'`); n != 1 {
		t.Errorf("%d jobs", n)
	}
	h.sound()
}

// An interaction that is destroyed while its recording is analysed gets no
// object back.
func TestDestroyedWhileAnalysed(t *testing.T) { // invariant 6
	t.Parallel()
	h := open(t, setting{})
	a := audio(converted(t, tone(), "gsm"))
	a.FileName = "call.gsm"
	i, _, err := h.SubmitWithAudio(t.Context(), pbx(), call(), a)
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	h.store.hookPut(func(_ context.Context, k string, put func() (blob.Info, error)) (blob.Info, error) {
		info, err := put()
		if strings.Contains(k, ".listening.") {
			once.Do(func() { h.purge(i.ID) })
		}
		return info, err
	})
	if err := h.Analyse(t.Context(), i.Recordings[0].ID); err != nil {
		t.Errorf("Analyse: %v", err)
	}
	if keys := h.objects(); len(keys) != 0 {
		t.Errorf("objects: %v", keys)
	}
	h.sound()
	if err := h.Analyse(t.Context(), i.Recordings[0].ID); err != nil {
		t.Errorf("Analyse of what is erased: %v", err)
	}
	if err := h.Analyse(t.Context(), uuid.New()); err != nil {
		t.Errorf("Analyse of what never was: %v", err)
	}
}

// An attempt that died after it had stored something is no obstacle, and what
// it left goes with the sweep.
func TestAnalyseAfterACrash(t *testing.T) { // invariants 2 and 10
	t.Parallel()
	var mu sync.Mutex
	ahead := time.Duration(0)
	h := open(t, setting{now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return time.Now().Add(ahead)
	}})
	i := h.submit(pbx(), tone())
	leftover := strings.TrimSuffix(h.objects()[0], ".age") + ".peaks.age"
	if _, err := h.store.Put(t.Context(), leftover, strings.NewReader("half"), 4); err != nil {
		t.Fatal(err)
	}
	h.store.hookPut(func(context.Context, string, func() (blob.Info, error)) (blob.Info, error) {
		return blob.Info{}, blob.ErrUnavailable
	})
	if err := h.Analyse(t.Context(), i.Recordings[0].ID); err == nil {
		t.Error("a store that does not answer was no error")
	}
	h.store.hookPut(nil)
	if err := h.Analyse(t.Context(), i.Recordings[0].ID); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Peaks(t.Context(), key(access.Reviewer), i.ID, "audio"); err != nil {
		t.Error(err)
	}
	if removed, err := h.SweepOrphans(t.Context(), 0); err != nil || removed != 0 {
		t.Errorf("a young object was swept: %d, %v", removed, err)
	}
	mu.Lock()
	ahead = 2 * time.Hour
	mu.Unlock()
	if problems := h.problems(); len(problems) != 1 || !strings.Contains(problems[0], leftover) {
		t.Errorf("Verify says %v", problems)
	}
	if removed, err := h.SweepOrphans(t.Context(), 24*time.Hour); err != nil || removed != 0 {
		t.Errorf("a younger object than asked was swept: %d, %v", removed, err)
	}
	if removed, err := h.SweepOrphans(t.Context(), 0); err != nil || removed != 1 {
		t.Errorf("swept %d, %v", removed, err)
	}
	if keys := h.objects(); len(keys) != 2 || slices.Contains(keys, leftover) {
		t.Errorf("objects: %v", keys)
	}
	h.sound()
}

func TestSweepKeepsWhatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, h *house) {
		ahead := open(t, setting{now: func() time.Time { return time.Now().Add(2 * time.Hour) }})
		ahead.store.Store = h.store.Store
		certificate := "certificates/" + uuid.NewString() + ".json"
		orphan := "2026/03/04/" + uuid.NewString() + "/" + uuid.NewString() + ".age"
		for _, k := range []string{certificate, orphan} {
			if _, err := h.store.Put(t.Context(), k, strings.NewReader("x"), 1); err != nil {
				t.Fatal(err)
			}
		}
		i := ahead.submit(pbx(), wav(10))
		if removed, err := ahead.SweepOrphans(t.Context(), 0); err != nil || removed != 1 {
			t.Errorf("swept %d, %v", removed, err)
		}
		keys := h.objects()
		if len(keys) != 2 || !slices.Contains(keys, certificate) || !strings.Contains(keys[0], i.ID.String()) {
			t.Errorf("objects: %v", keys)
		}
		ahead.sound()
	})
}

func TestVerifyNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	spoil := map[string]struct {
		do   func(h *house, i archive.Interaction)
		want string
	}{
		"a hash changed": {func(h *house, _ archive.Interaction) {
			h.execute(`update objects set sha256 = sha256('other')`)
		}, "not what was sealed"},
		"an object's row gone": {func(h *house, _ archive.Interaction) { h.execute(`delete from objects`) }, "no original object"},
		"a key swapped": {func(h *house, _ archive.Interaction) {
			other := h.submit(pbx(), wav(3))
			h.execute(`update interactions set wrapped_key = (select wrapped_key from interactions where id = $1) where id <> $1`, other.ID)
		}, "key does not open"},
		"an erased one's object back": {func(h *house, i archive.Interaction) {
			k := h.objects()[0]
			h.purge(i.ID)
			if _, err := h.store.Put(context.Background(), k, strings.NewReader("x"), 1); err != nil {
				h.Fatal(err)
			}
		}, "is erased and object"},
		"an erased one's words back": {func(h *house, i archive.Interaction) {
			h.purge(i.ID)
			h.execute(`update interactions set transcript = 'again'`)
		}, "personal data are left"},
		"a key that outlived its interaction": {func(h *house, _ archive.Interaction) {
			h.execute(`update interactions set state = 'purging'`)
		}, "still has its key"},
		"a hold on what is gone": {func(h *house, i archive.Interaction) {
			h.purge(i.ID)
			h.execute(`insert into holds values ($1, 'legal', $1, now())`, i.ID)
		}, "under a hold"},
	}
	for name, c := range spoil {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := open(t, setting{})
			i := h.submit(pbx(), wav(3))
			h.sound()
			c.do(h, i)
			if problems := strings.Join(h.problems(), "\n"); !strings.Contains(problems, c.want) {
				t.Errorf("Verify says %q, want %q", problems, c.want)
			}
		})
	}
}

// A failed transaction leaves neither rows nor objects, and the same call
// later succeeds.
func TestDatabaseFailure(t *testing.T) { // invariant 2
	t.Parallel()
	h := open(t, setting{options: func(o *archive.Options) {
		failed := false
		o.Retention = func(context.Context, db.Querier, archive.Interaction) (*uuid.UUID, *time.Time, error) {
			if !failed {
				failed = true
				return nil, nil, context.Canceled
			}
			return nil, nil, nil
		}
	}})
	n, content := call(), wav(500)
	if _, _, err := h.SubmitWithAudio(t.Context(), pbx(), n, audio(content)); err == nil {
		t.Fatal("no error")
	}
	h.empty()
	if _, created, err := h.SubmitWithAudio(t.Context(), pbx(), n, audio(content)); err != nil || !created {
		t.Errorf("again: %v, %v", created, err)
	}
	h.sound()
}
