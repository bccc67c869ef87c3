package media

import (
	"bytes"
	"math"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestEveryFormat takes each format that clients write through the whole package.
func TestEveryFormat(t *testing.T) {
	t.Parallel()
	for _, f := range formats() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			data := f.make(t, f.name)
			src := source(t, data, f.name)
			if diff := cmp.Diff(f.want, src.Type); diff != "" {
				t.Fatalf("Sniff (-want +got):\n%s", diff)
			}
			again, err := Open(src.ReaderAt, src.Size, src.MediaType)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(src.Type, again.Type); diff != "" {
				t.Errorf("Open by media type (-want +got):\n%s", diff)
			}

			var dat bytes.Buffer
			info, err := Analyse(t.Context(), src, &dat)
			if err != nil {
				t.Fatal(err)
			}
			codec := f.codec
			if codec == "" {
				codec = f.want.Codec
			}
			want := Info{Container: f.want.Container, Codec: codec, Channels: f.channels, SampleRate: f.rate}
			got := Info{Container: info.Container, Codec: info.Codec, Channels: info.Channels, SampleRate: info.SampleRate, Flags: info.Flags}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Info (-want +got):\n%s", diff)
			}
			length := reference(t)
			if f.want.Codec == "g729" {
				length = 5 * time.Second
			}
			near(t, "duration", info.Duration, length, 200*time.Millisecond) // codecs pad
			if info.BitRate < 1000 || info.BitRate > 2_400_000 {
				t.Errorf("BitRate = %d", info.BitRate)
			}

			peaks, err := ReadPeaks(&dat)
			if err != nil {
				t.Fatal(err)
			}
			near(t, "waveform", time.Duration(peaks.Len())*50*time.Millisecond, info.Duration, 50*time.Millisecond)
			if peaks.Channels != f.channels || loudest(peaks) < 40 {
				t.Errorf("peaks of %d channels, up to %d", peaks.Channels, loudest(peaks))
			}

			if NeedsListeningCopy(info) == f.plays {
				t.Errorf("NeedsListeningCopy = %v", !f.plays)
			}
			if !f.plays {
				checkCopy(t, src, info)
			}
		})
	}
}

func near(t *testing.T, what string, got, want, tolerance time.Duration) {
	t.Helper()
	if (got - want).Abs() > tolerance {
		t.Errorf("%s = %v, want %v ± %v", what, got, want, tolerance)
	}
}

func loudest(p Peaks) (loud int) {
	for _, v := range p.Data {
		loud = max(loud, int(math.Abs(float64(v))))
	}
	return loud
}

// reference is how long the speech is by sox, a program that we do not use.
func reference(t *testing.T) time.Duration {
	t.Helper()
	out, err := exec.Command("soxi", "-D", speech(t)).Output()
	if err != nil {
		t.Fatal(err)
	}
	seconds, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(seconds * float64(time.Second))
}

// checkCopy makes a listening copy and analyses that.
func checkCopy(t *testing.T, src Source, original Info) {
	t.Helper()
	var mp3 bytes.Buffer
	if err := ListeningCopy(t.Context(), src, &mp3); err != nil {
		t.Fatal(err)
	}
	copied := source(t, mp3.Bytes(), "")
	if copied.MediaType != ListeningCopyMediaType {
		t.Errorf("the copy is %s", copied.MediaType)
	}
	var peaks bytes.Buffer
	info, err := Analyse(t.Context(), copied, &peaks)
	if err != nil {
		t.Fatal(err)
	}
	if info.Flags != nil || NeedsListeningCopy(info) || info.Channels != min(original.Channels, 2) {
		t.Errorf("the copy holds %+v", info)
	}
	near(t, "the copy's duration", info.Duration, original.Duration, 200*time.Millisecond)
	sameFrames(t, mp3.Bytes())
}

// sameFrames checks what makes an MP3 seekable by counting: frames of one size
// (but for the padding byte) from the first byte to the last.
func sameFrames(t *testing.T, mp3 []byte) {
	t.Helper()
	first := mp3Frame(mp3)
	for at := 0; at < len(mp3); {
		size := mp3Frame(mp3[at:])
		if size == 0 || size < first-1 || size > first+1 {
			t.Fatalf("at byte %d of %d: a frame of %d bytes, the first has %d", at, len(mp3), size, first)
		}
		at += size
	}
}

func TestListeningCopyKeepsTheSidesApart(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sides.au")
	command(t, "sox", "-n", "-r", "8000", file, "synth", "2", "sine", "440", "sine", "440", "remix", "1v0", "2")
	var mp3, dat bytes.Buffer
	if err := ListeningCopy(t.Context(), source(t, read(t, file), "sides.au"), &mp3); err != nil {
		t.Fatal(err)
	}
	if _, err := Analyse(t.Context(), source(t, mp3.Bytes(), ""), &dat); err != nil {
		t.Fatal(err)
	}
	peaks, err := ReadPeaks(&dat)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(peaks.Data); i += 4 {
		if left := peaks.Data[i : i+2]; left[0] < -1 || left[1] > 1 {
			t.Fatalf("pixel %d: the silent side has peaks %v", i/4, left)
		}
	}
}
