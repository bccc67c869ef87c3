package media

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// analyse is Analyse with other limits, of bytes that are what name says.
func analyse(t testing.TB, l limits, src Source) Info {
	t.Helper()
	info, err := l.analyse(t.Context(), src, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// restated returns a 1 s recording of 8 kHz whose header states another number of data bytes.
func restated(data uint32) []byte {
	file := pcm(1, sine(440, 0.5))
	binary.LittleEndian.PutUint32(file[4:], data+36)
	binary.LittleEndian.PutUint32(file[40:], data)
	return file
}

func TestDurationIsMeasuredNotBelieved(t *testing.T) {
	t.Parallel()
	flac := read(t, convert(t, "a.flac"))
	// The last 36 bits of the number of samples in STREAMINFO.
	binary.BigEndian.PutUint32(flac[22:], 8000*36000)
	xing := read(t, convert(t, "a.mp3", "-id3v2_version", "0"))
	at := bytes.Index(xing, []byte("Info"))
	if at < 0 {
		t.Fatal("no Info frame in the MP3")
	}
	binary.BigEndian.PutUint32(xing[at+8:], 14*36000)
	mka := read(t, convert(t, "a.mka", "-c:a", "pcm_s16le"))
	at = bytes.Index(mka, []byte{0x44, 0x89, 0x88})
	if at < 0 {
		t.Fatal("no duration in the Matroska file")
	}
	binary.BigEndian.PutUint64(mka[at+3:], 0x418128A880000000) // 36,000,016 ms
	whole := reference(t)
	for _, test := range []struct {
		what, name string
		data       []byte
		length     time.Duration
		flags      []string
	}{
		{"10 hours stated over 1 s", "a.wav", restated(36000 * 16000), time.Second, []string{FlagLyingHeader}},
		{"1 s stated over 1 s", "a.wav", restated(16000), time.Second, nil},
		{"sizes 0", "a.wav", restated(0), time.Second, []string{FlagUnclosed}},
		{"sizes 0xFFFFFFFF", "a.wav", restated(0xFFFFFFFF), time.Second, []string{FlagUnclosed}},
		{"sox's sizes", "a.wav", restated(0x7FFFF000), time.Second, []string{FlagUnclosed}},
		{"a FLAC", "a.flac", flac, whole, []string{FlagLyingHeader}},
		{"an MP3 with an index", "a.mp3", xing, whole, []string{FlagLyingHeader}},
		{"a Matroska file", "a.mka", mka, whole, []string{FlagLyingHeader}},
	} {
		info := analyse(t, standard, source(t, test.data, test.name))
		near(t, test.what, info.Duration, test.length, 150*time.Millisecond)
		if diff := cmp.Diff(test.flags, info.Flags); diff != "" {
			t.Errorf("%s: flags (-want +got):\n%s", test.what, diff)
		}
	}
}

func TestEmptyAndUndecodableAreNoErrors(t *testing.T) {
	t.Parallel()
	films := func(name string, args ...string) []byte { return drawn(t, name, args...) }
	withSound := read(t, convert(t, "v.mkv", "-f", "lavfi", "-i", "testsrc=duration=1:size=64x64:rate=5", "-c:v", "mpeg4", "-c:a", "libopus"))
	withCover := func() []byte {
		cover := filepath.Join(t.TempDir(), "cover.png")
		if err := os.WriteFile(cover, films("p.png", "-frames:v", "1"), 0o600); err != nil {
			t.Fatal(err)
		}
		return read(t, convert(t, "c.mp3", "-i", cover, "-map", "0:a", "-map", "1:v", "-c:v", "copy", "-disposition:v", "attached_pic"))
	}()
	m4a := read(t, convert(t, "a.m4a"))
	for _, test := range []struct {
		what, name string
		data       []byte
		flags      []string
	}{
		{"a header alone", "a.wav", pcm(0, silence), []string{FlagEmpty}},
		{"no bytes", "a.wav", nil, []string{FlagEmpty}},
		{"a FLAC of a header", "a.flac", read(t, convert(t, "e.flac", "-t", "0")), []string{FlagEmpty}},
		{"an M4A without its index", "a.m4a", m4a[:len(m4a)/2], []string{FlagUndecodable}},
		{"a FLAC of noise", "a.flac", append([]byte("fLaC\x00\x00\x00\x22"), noise(1, 50_000)...), []string{FlagUndecodable}},
		{"a WAV of an unknown codec", "a.wav", wav(0x7777, 1, 8000, 1, 8, noise(2, 5000)), []string{FlagUndecodable}},
		{"an MP3 tag and noise", "a.mp3", append([]byte("ID3\x04\x00\x00\x00\x00\x40\x00"), noise(3, 20000)...), []string{FlagUndecodable}},
		{"pictures alone", "a.mkv", films("p.mkv"), []string{FlagVideo, FlagNoAudioStream}},
		{"pictures and sound", "a.mkv", withSound, []string{FlagVideo}},
		{"a cover", "a.mp3", withCover, nil},
	} {
		src := source(t, test.data, test.name)
		info := analyse(t, standard, src)
		if diff := cmp.Diff(test.flags, info.Flags); diff != "" {
			t.Errorf("%s: flags (-want +got):\n%s", test.what, diff)
		}
		silent := info.Has(FlagEmpty) || info.Has(FlagUndecodable) || info.Has(FlagNoAudioStream)
		if silent && NeedsListeningCopy(info) {
			t.Errorf("%s: a copy of nothing is wanted", test.what)
		}
		if err := ListeningCopy(t.Context(), src, io.Discard); errors.Is(err, ErrUndecodable) != silent {
			t.Errorf("%s: ListeningCopy: %v", test.what, err)
		}
	}
}

// Whatever a client sends in the form of a recording, the job on it ends without
// an error, since an error would have it tried again.
func TestBrokenFilesAreNoErrors(t *testing.T) {
	t.Parallel()
	for _, f := range formats() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			data := f.make(t, f.name)
			src := source(t, data, f.name)
			half := Source{ReaderAt: src, Size: src.Size / 2, Type: src.Type}
			if info := analyse(t, standard, half); info.Duration > reference(t)*2 {
				t.Errorf("half of it lasts %v", info.Duration)
			}
			r := rand.New(rand.NewPCG(uint64(len(data)), 1))
			broken := slices.Clone(data)
			for range 1 + len(broken)/200 {
				broken[r.IntN(len(broken))] = byte(r.Uint32())
			}
			analyse(t, standard, Source{ReaderAt: bytes.NewReader(broken), Size: src.Size, Type: src.Type})
		})
	}
}

func TestCostIsBounded(t *testing.T) {
	t.Parallel()
	small := limits{wall: time.Minute, cpu: 20 * time.Second, memory: standard.memory, audio: 10 * time.Second}
	for _, test := range []struct {
		what, name string
		data       []byte
		flag       string
	}{
		{"more audio than allowed", "a.wav", pcm(11, sine(440, 0.5)), FlagTooLong},
		// One sample a second makes days of audio out of little.
		{"a rate of 1 Hz", "a.wav", wav(1, 1, 1, 2, 16, noise(4, 200_000)), FlagTooLong},
		{"10,000 channels", "a.wav", wav(1, 10_000, 8000, 20_000, 16, noise(5, 200_000)), FlagUndecodable},
		{"65,535 channels of a byte", "a.wav", wav(1, 65_535, 8000, 65_535, 8, noise(6, 200_000)), FlagUndecodable},
	} {
		if info := analyse(t, small, source(t, test.data, test.name)); !info.Has(test.flag) {
			t.Errorf("%s: %+v", test.what, info)
		}
	}
	slow := small
	slow.cpu = 1 * time.Second
	slow.audio = standard.audio
	if info := analyse(t, slow, source(t, wav(1, 8, 7, 16, 16, noise(7, 8_000_000)), "a.wav")); !info.Has(FlagTooLong) {
		t.Errorf("what takes too much computing: %+v", info)
	}
	var long bytes.Buffer
	if err := small.listeningCopy(t.Context(), source(t, wav(1, 1, 1, 2, 16, noise(8, 200_000)), "a.wav"), &long); err != nil {
		t.Error(err)
	}
	if long.Len() > 50_000 {
		t.Errorf("a copy of 10 s has %d bytes", long.Len())
	}
}

// A playlist in the clothes of a recording makes ffmpeg open what it lists. Here
// even one that Sniff had let through reaches nothing.
func TestPlaylistsReachNothing(t *testing.T) {
	t.Parallel()
	var reached atomic.Int32
	trap := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reached.Add(1)
		if _, err := w.Write(pcm(1, sine(440, 0.5))); err != nil {
			t.Log(err)
		}
	}))
	defer trap.Close()
	local := filepath.Join(t.TempDir(), "secret.wav")
	if err := os.WriteFile(local, pcm(1, sine(440, 0.5)), 0o600); err != nil {
		t.Fatal(err)
	}
	targets := []string{trap.URL + "/a.wav", "tcp" + strings.TrimPrefix(trap.URL, "http"), "file://" + local, local}
	hls, concat := "#EXTM3U\n#EXT-X-TARGETDURATION:1\n", "ffconcat version 1.0\n"
	for _, target := range targets {
		hls += "#EXTINF:1,\n" + target + "\n"
		concat += "file '" + target + "'\n"
	}
	var tries sync.WaitGroup
	for container := range demuxers {
		for kind, playlist := range map[string]string{"hls": hls + "#EXT-X-ENDLIST\n", "concat": concat} {
			tries.Go(func() {
				src := Source{ReaderAt: strings.NewReader(playlist), Size: int64(len(playlist)), Type: Type{Container: container, Raw: raw(8000)}}
				var mp3 bytes.Buffer
				if err := ListeningCopy(t.Context(), src, &mp3); err != nil && !errors.Is(err, ErrUndecodable) {
					t.Error(err)
				}
				// As raw audio the list itself is heard: a moment of noise.
				if mp3.Len() > 2500 {
					t.Errorf("%s as %s: %d bytes heard", kind, container, mp3.Len())
				}
			})
		}
	}
	tries.Wait()
	if n := reached.Load(); n > 0 {
		t.Errorf("%d requests reached another server", n)
	}
}

// The children ask us for everything that they ask for by HTTP, and we refuse.
func TestLoopbackIsTheOnlyHost(t *testing.T) {
	t.Parallel()
	var reached atomic.Int32
	trap := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer trap.Close()
	input, err := serve(source(t, pcm(1, silence), "a.wav"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := input.close(); err != nil {
			t.Error(err)
		}
	}()
	out, err := standard.run(t.Context(), "ffprobe", input.environment(), []string{"-v", "error", "-i", trap.URL}, drain)
	if err != nil || out.ok || reached.Load() > 0 {
		t.Errorf("ffprobe of another host: %+v, %v, %d requests reached it", out, err, reached.Load())
	}
}

func TestLoopbackNeedsItsPassword(t *testing.T) {
	t.Parallel()
	input, err := serve(source(t, pcm(1, silence), "a.wav"))
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(input.source.input(), func(arg string) bool { return strings.Contains(arg, input.password) }) {
		t.Error("the password stands in the command line")
	}
	get := func(path, password string) (int, error) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+input.address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = "recording.invalid"
		request.URL.Opaque = "http://recording.invalid" + path
		request.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(proxyUser+":"+password)))
		request.Close = true
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			return 0, err
		}
		return response.StatusCode, response.Body.Close()
	}
	for _, test := range []struct {
		path, password string
		want           int
	}{
		{"/audio", input.password, http.StatusOK},
		{"/audio", "", http.StatusProxyAuthRequired},
		{"/audio", "guess", http.StatusProxyAuthRequired},
		{"/other", input.password, http.StatusForbidden},
	} {
		if got, err := get(test.path, test.password); got != test.want || err != nil {
			t.Errorf("GET %s with %q: %d, %v; want %d", test.path, test.password, got, err, test.want)
		}
	}
	if err := input.close(); err != nil {
		t.Fatal(err)
	}
	if got, err := get("/audio", input.password); err == nil {
		t.Errorf("after the call it still answers %d", got)
	}
}

func drain(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

func TestChildrenAreConfined(t *testing.T) {
	t.Parallel()
	l := limits{cpu: time.Second, memory: 256 << 20}
	path := "PATH=" + os.Getenv("PATH")

	t.Run("environment", func(t *testing.T) {
		t.Parallel()
		var seen []byte
		_, err := l.run(t.Context(), "env", []string{"http_proxy=x"}, nil, func(r io.Reader) (err error) {
			seen, err = io.ReadAll(r)
			return err
		})
		if err != nil || string(seen) != "http_proxy=x\n" {
			t.Errorf("a child sees %q, %v", seen, err)
		}
	})
	t.Run("files", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "plaintext")
		out, err := l.run(t.Context(), "sh", []string{path}, []string{"-c", "echo voice > " + file}, drain)
		if err != nil || out.ok {
			t.Errorf("a child that writes a file: %+v, %v", out, err)
		}
		if data, err := os.ReadFile(file); err == nil && len(data) > 0 {
			t.Errorf("a child wrote %q", data)
		}
	})
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		out, err := l.run(t.Context(), "awk", nil, []string{`BEGIN { s = "x"; while (1) s = s s }`}, drain)
		if err != nil || out.ok {
			t.Errorf("a child that wants 1 GB: %+v, %v", out, err)
		}
	})
	t.Run("computing", func(t *testing.T) {
		t.Parallel()
		out, err := l.run(t.Context(), "sh", []string{path}, []string{"-c", "while :; do :; done"}, drain)
		if err != nil || !out.spent {
			t.Errorf("a child that never ends: %+v, %v", out, err)
		}
	})
	t.Run("errors", func(t *testing.T) {
		t.Parallel()
		out, err := l.run(t.Context(), "sh", []string{path}, []string{"-c", "yes | head -c 1000000 >&2"}, drain)
		if err != nil || len(out.stderr) > 16<<10 {
			t.Errorf("%d bytes of complaints kept, %v", len(out.stderr), err)
		}
	})
	t.Run("consumer", func(t *testing.T) {
		t.Parallel()
		enough := errors.New("enough")
		_, err := l.run(t.Context(), "yes", nil, nil, func(io.Reader) error { return enough })
		if !errors.Is(err, enough) {
			t.Errorf("err = %v, want what the consumer said", err)
		}
	})
	t.Run("group", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		_, err := l.run(ctx, "sh", []string{path}, []string{"-c", "sleep 1000 & echo started; sleep 1000"}, func(r io.Reader) error {
			if _, err := io.ReadFull(r, make([]byte, len("started"))); err != nil {
				return err
			}
			cancel()
			// The end of output comes when the grandchild is dead, too.
			return drain(r)
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("err = %v, want context.Canceled", err)
		}
	})
	t.Run("missing", func(t *testing.T) {
		t.Parallel()
		_, err := l.run(t.Context(), "no-such-ffmpeg", nil, nil, drain)
		if !errors.Is(err, ErrTool) || !strings.Contains(err.Error(), "install ffmpeg") {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("unloadable", func(t *testing.T) {
		t.Parallel()
		if _, err := l.run(t.Context(), "sh", nil, []string{"-c", "exit 127"}, drain); !errors.Is(err, ErrTool) {
			t.Errorf("err = %v, want ErrTool", err)
		}
	})
	t.Run("killed from outside", func(t *testing.T) {
		t.Parallel()
		if _, err := l.run(t.Context(), "sh", nil, []string{"-c", "kill -9 $$"}, drain); !errors.Is(err, ErrTool) {
			t.Errorf("err = %v, want ErrTool", err)
		}
	})
}

// hanging is a store that answers only when it is told to.
type hanging struct{ until <-chan struct{} }

func (h hanging) ReadAt([]byte, int64) (int, error) {
	<-h.until
	return 0, errors.New("gave up")
}

type failing struct {
	io.ReaderAt
	after int64
	err   error
}

func (f failing) ReadAt(p []byte, at int64) (int, error) {
	if at+int64(len(p)) > f.after {
		return 0, f.err
	}
	return f.ReaderAt.ReadAt(p, at)
}

// A store that fails must not look like a recording that is broken.
func TestFailuresOfTheSourceAreErrors(t *testing.T) {
	t.Parallel()
	src := source(t, pcm(60, sine(440, 0.5)), "a.wav")
	lost := errors.New("store lost")
	broken := Source{ReaderAt: failing{src, 500_000, lost}, Size: src.Size, Type: src.Type}
	if _, err := Analyse(t.Context(), broken, io.Discard); !errors.Is(err, ErrSource) || !errors.Is(err, lost) {
		t.Errorf("Analyse: %v", err)
	}
	if err := ListeningCopy(t.Context(), broken, io.Discard); !errors.Is(err, ErrSource) || !errors.Is(err, lost) {
		t.Errorf("ListeningCopy: %v", err)
	}
	short := Source{ReaderAt: src, Size: src.Size + 100_000, Type: src.Type}
	if _, err := Analyse(t.Context(), short, io.Discard); !errors.Is(err, ErrSource) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Analyse of a source that ends early: %v", err)
	}
	if _, err := Open(broken, src.Size, "audio/wav"); err != nil {
		t.Errorf("Open reads the head alone: %v", err)
	}
	if _, err := Open(failing{src, 0, lost}, src.Size, "audio/wav"); !errors.Is(err, ErrSource) || !errors.Is(err, lost) {
		t.Errorf("Open: %v", err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	hung := Source{ReaderAt: hanging{ctx.Done()}, Size: src.Size, Type: src.Type}
	if _, err := Analyse(ctx, hung, io.Discard); !errors.Is(err, ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a deadline: %v", err)
	}
	canceled, stop := context.WithCancel(t.Context())
	stop()
	if _, err := Analyse(canceled, src, io.Discard); !errors.Is(err, context.Canceled) || errors.Is(err, ErrTimeout) {
		t.Errorf("a caller who gave up: %v", err)
	}
}

func TestFailuresOfTheWriterAreErrors(t *testing.T) {
	t.Parallel()
	src := source(t, pcm(60, sine(440, 0.5)), "a.wav")
	full := errors.New("disk full")
	if err := ListeningCopy(t.Context(), src, errWriter{full}); !errors.Is(err, full) {
		t.Errorf("ListeningCopy: %v", err)
	}
	if _, err := Analyse(t.Context(), src, errWriter{full}); !errors.Is(err, full) {
		t.Errorf("Analyse: %v", err)
	}
}

type errWriter struct{ err error }

func (w errWriter) Write([]byte) (int, error) { return 0, w.err }

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	for i := range 6 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			info, _ := analysed(t, pcm(float64(i+1), sine(440, 0.5)))
			if info.Duration != time.Duration(i+1)*time.Second {
				t.Errorf("duration = %v", info.Duration)
			}
		})
	}
}
