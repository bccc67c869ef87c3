package media

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// analysed returns what Analyse says of a WAV file.
func analysed(t testing.TB, file []byte) (Info, Peaks) {
	t.Helper()
	var dat bytes.Buffer
	info, err := Analyse(t.Context(), source(t, file, "a.wav"), &dat)
	if err != nil {
		t.Fatal(err)
	}
	peaks, err := ReadPeaks(&dat)
	if err != nil {
		t.Fatal(err)
	}
	return info, peaks
}

// expected computes a pixel's pair from the function that made the samples.
func expected(at func(float64) float64, pixel, samples int) (low, high int8) {
	least, most := 32767, -32768
	for i := pixel * 400; i < min((pixel+1)*400, samples); i++ {
		v := int(math.Round(at(float64(i)/8000) * 32767))
		least, most = min(least, v), max(most, v)
	}
	return int8(least / 256), int8(most / 256)
}

func TestPeaksAreThoseOfTheSamples(t *testing.T) {
	t.Parallel()
	rising := func(s float64) float64 { return s / 3 * math.Sin(2*math.Pi*300*s) }
	sides := []func(float64) float64{silence, rising}
	const seconds = 2.52 // the last pixel is not full
	info, peaks := analysed(t, pcm(seconds, sides...))
	if info.Channels != 2 || info.Duration.Milliseconds() != 2520 || info.Flags != nil {
		t.Errorf("info = %+v", info)
	}
	if peaks.SampleRate != 8000 || peaks.SamplesPerPixel != 400 || peaks.Channels != 2 || peaks.Len() != 51 {
		t.Fatalf("peaks: %d Hz, %d samples a pixel, %d channels, %d pixels", peaks.SampleRate, peaks.SamplesPerPixel, peaks.Channels, peaks.Len())
	}
	for pixel := range peaks.Len() {
		for c, side := range sides {
			low, high := expected(side, pixel, seconds*8000)
			if got := peaks.Data[4*pixel+2*c:][:2]; got[0] != low || got[1] != high {
				t.Fatalf("pixel %d channel %d: %v, want [%d %d]", pixel, c, got, low, high)
			}
		}
	}
}

func TestPeaksAfterResampling(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sine.wav")
	command(t, "sox", "-n", "-r", "44100", "-b", "16", file, "synth", "3", "sine", "440", "vol", "0.5")
	_, peaks := analysed(t, read(t, file))
	for pixel := 1; pixel < peaks.Len()-1; pixel++ {
		if got := peaks.Data[2*pixel:][:2]; got[0] < -64 || got[0] > -62 || got[1] < 62 || got[1] > 64 {
			t.Fatalf("pixel %d of a sine of half the range: %v", pixel, got)
		}
	}
}

// Each side has its own loudness, so a mixed or swapped channel shows.
func TestPeaksKeepChannels(t *testing.T) {
	t.Parallel()
	for _, channels := range []int{1, 2, 3, 4, 5, 6, 7, 8, 12} {
		var sides []func(float64) float64
		for c := range channels {
			sides = append(sides, sine(400, float64(c+1)/16))
		}
		info, peaks := analysed(t, pcm(1, sides...))
		if info.Channels != channels || peaks.Channels != min(channels, 8) {
			t.Errorf("%d channels: info says %d, peaks %d", channels, info.Channels, peaks.Channels)
			continue
		}
		for c := range peaks.Channels {
			_, want := expected(sides[c], 5, 8000)
			if got := peaks.Data[(5*peaks.Channels+c)*2+1]; got != want {
				t.Errorf("%d channels: channel %d reaches %d, want %d", channels, c, got, want)
			}
		}
	}
}

func TestMeterDoesNotMindHowItIsFed(t *testing.T) {
	t.Parallel()
	samples := pcm(1.03, sine(100, 1), sine(333, 0.7))[44:]
	whole, piecemeal := newMeter(2), newMeter(2)
	for _, feed := range []struct {
		m    *meter
		size int
	}{{whole, len(samples)}, {piecemeal, 7}} {
		for rest := samples; len(rest) > 0; {
			n := min(feed.size, len(rest))
			if _, err := feed.m.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
	}
	if diff := cmp.Diff(whole.finish(), piecemeal.finish()); diff != "" {
		t.Error(diff)
	}
}

func TestPeaksLayout(t *testing.T) {
	t.Parallel()
	p := Peaks{SampleRate: 8000, SamplesPerPixel: 400, Channels: 2, Data: []int8{-1, 2, -128, 127}}
	var file bytes.Buffer
	if n, err := p.WriteTo(&file); err != nil || n != 28 {
		t.Fatalf("WriteTo = %d, %v", n, err)
	}
	want := []byte{
		2, 0, 0, 0, 1, 0, 0, 0, 0x40, 0x1f, 0, 0, 0x90, 1, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0,
		0xff, 2, 0x80, 0x7f,
	}
	if diff := cmp.Diff(want, file.Bytes()); diff != "" {
		t.Errorf("file (-want +got):\n%s", diff)
	}
	got, err := ReadPeaks(iotest.OneByteReader(&file))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p, got); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

func TestReadPeaksRefuses(t *testing.T) {
	t.Parallel()
	header := func(fields ...uint32) (file []byte) {
		for _, v := range fields {
			file = binary.LittleEndian.AppendUint32(file, v)
		}
		return file
	}
	for what, file := range map[string][]byte{
		"nothing":             nil,
		"half a header":       header(2, 1, 8000),
		"version 1":           append(header(1, 1, 8000, 400, 1), 0, 0),
		"16 bits":             append(header(2, 0, 8000, 400, 1, 1), 0, 0, 0, 0),
		"no channels":         header(2, 1, 8000, 400, 0, 0),
		"negative channels":   header(2, 1, 8000, 400, 1, 0xFFFFFFFF),
		"no rate":             header(2, 1, 0, 400, 0, 1),
		"no samples a pixel":  header(2, 1, 8000, 0, 0, 1),
		"a length of 4 G":     header(2, 1, 8000, 400, 0xFFFFFFFF, 2),
		"a byte too few":      append(header(2, 1, 8000, 400, 1, 1), 0),
		"a byte too many":     append(header(2, 1, 8000, 400, 1, 1), 0, 0, 0),
		"something else":      []byte("RIFF....WAVEfmt and so on"),
		"a million channels?": header(2, 1, 8000, 400, 1, 1_000_000),
	} {
		if _, err := ReadPeaks(bytes.NewReader(file)); !errors.Is(err, ErrPeaks) {
			t.Errorf("%s: %v, want ErrPeaks", what, err)
		}
	}
	broken := errors.New("broken")
	if _, err := ReadPeaks(iotest.ErrReader(broken)); !errors.Is(err, broken) || errors.Is(err, ErrPeaks) {
		t.Errorf("a reader that fails: %v", err)
	}
}

func FuzzReadPeaks(f *testing.F) {
	var file bytes.Buffer
	p := Peaks{SampleRate: 8000, SamplesPerPixel: 400, Channels: 2, Data: []int8{-1, 2, -128, 127}}
	if _, err := p.WriteTo(&file); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes())
	f.Add(file.Bytes()[:24])
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ReadPeaks(bytes.NewReader(data))
		if err != nil {
			if !errors.Is(err, ErrPeaks) {
				t.Fatal(err)
			}
			return
		}
		var again bytes.Buffer
		if _, err := p.WriteTo(&again); err != nil {
			t.Fatal(err)
		}
		// Bits of the flags that nobody uses are not kept.
		data[4], data[5], data[6], data[7] = 1, 0, 0, 0
		if !bytes.Equal(data, again.Bytes()) {
			t.Fatalf("%x became %x", data, again.Bytes())
		}
	})
}
