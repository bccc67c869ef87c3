package media

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func zipped(t testing.TB, name string, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t testing.TB, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func tarred(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "call.wav", Size: 4, Mode: 0o600}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("RIFF")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// drawn makes a picture or a film with ffmpeg.
func drawn(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	all := append([]string{"-v", "error", "-f", "lavfi", "-i", "testsrc=duration=1:size=64x64:rate=5"}, args...)
	command(t, "ffmpeg", append(all, file)...)
	return read(t, file)
}

// strangers are files that are no audio, though some would like to be.
func strangers(t testing.TB) map[string][]byte {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	mp3 := read(t, convert(t, "inside.mp3"))
	return map[string][]byte{
		"text":            []byte("Khách hàng gọi lúc 9 giờ sáng.\n"),
		"utf-16":          []byte("\xff\xfeC\x00a\x00l\x00l\x00 \x00c\x00e\x00n\x00t\x00r\x00e\x00"),
		"html":            []byte("<!DOCTYPE html><html><body>502 Bad Gateway</body></html>"),
		"xml":             []byte(`<?xml version="1.0"?><recording/>`),
		"json":            []byte(`{"error":"no such recording"}`),
		"csv":             []byte("src,dst,duration\n100,200,5\n100,201,6\n"),
		"script":          []byte("#!/bin/sh\nrm -rf /\n"),
		"m3u":             []byte("#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n"),
		"hls":             []byte("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://169.254.169.254/\n#EXT-X-ENDLIST\n"),
		"concat":          []byte("ffconcat version 1.0\nfile /etc/passwd\n"),
		"pls":             []byte("[playlist]\nFile1=/etc/passwd\n"),
		"sdp":             []byte("v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n"),
		"svg":             []byte(`<svg xmlns="http://www.w3.org/2000/svg"/>`),
		"pdf":             []byte("%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n"),
		"zip":             zipped(t, "call.mp3", mp3),
		"gzip":            gzipped(t, mp3),
		"tar":             tarred(t),
		"7z":              append([]byte("7z\xbc\xaf\x27\x1c\x00\x04"), noise(7, 200)...),
		"rar":             append([]byte("Rar!\x1a\x07\x01\x00"), noise(8, 200)...),
		"elf":             read(t, self)[:HeadSize],
		"windows program": append([]byte("MZ\x90\x00\x03\x00\x00\x00"), make([]byte, 200)...),
		"png":             drawn(t, "p.png", "-frames:v", "1"),
		"jpeg":            drawn(t, "p.jpg", "-frames:v", "1"),
		"gif":             drawn(t, "p.gif"),
		"bmp":             drawn(t, "p.bmp", "-frames:v", "1"),
		"webp":            drawn(t, "p.webp", "-frames:v", "1"),
		"avi":             drawn(t, "p.avi"),
		"mov":             drawn(t, "p.mov"),
		"mpeg":            drawn(t, "p.mpg", "-r", "25"),
		"transport":       drawn(t, "p.ts"),
		"flv":             drawn(t, "p.flv"),
		"theora":          drawn(t, "p.ogv", "-c:v", "libtheora"),
		"heic":            []byte("\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic"),
		"avif":            []byte("\x00\x00\x00\x18ftypavif\x00\x00\x00\x00mif1avif"),
		"m4v":             []byte("\x00\x00\x00\x18ftypM4V \x00\x00\x00\x00M4V mp42"),
		"sqlite":          append([]byte("SQLite format 3\x00\x10\x00"), make([]byte, 200)...),
		"pcap":            append([]byte("\xd4\xc3\xb2\xa1\x02\x00\x04\x00"), noise(9, 200)...),
		"midi":            []byte("MThd\x00\x00\x00\x06\x00\x00\x00\x01\x00\x60MTrk"),
		"age":             []byte("age-encryption.org/v1\n-> X25519 abc\n"),
		"noise":           noise(10, HeadSize),
		"zeros":           make([]byte, HeadSize),
		"riff of pages":   []byte("RIFF\x24\x00\x00\x00ACON" + strings.Repeat("\x00", 40)),
		"form of pixels":  []byte("FORM\x00\x00\x00\x24ILBM" + strings.Repeat("\x00", 40)),
		"id3 of words":    []byte("ID3 is a way to write titles into files"),
		"mp3 sync alone":  []byte("\xff\xfb\x90\x64 and then words that are no frame at all"),
		"adts sync alone": []byte("\xff\xf1\x50\x80 and then words that are no frame at all"),
	}
}

func TestSniffRefusesWhatIsNotAudio(t *testing.T) {
	t.Parallel()
	for kind, data := range strangers(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			head := data[:min(len(data), HeadSize)]
			for _, name := range []string{"", "call.wav", "call.mp3", "call.gsm"} {
				if got, err := Sniff(head, int64(len(data)), name, "audio/wav"); !errors.Is(err, ErrNotAudio) {
					t.Errorf("Sniff as %q = %+v, %v; want ErrNotAudio", name, got, err)
				}
			}
		})
	}
}

// Headerless formats are believed by name, so the bytes of known strangers must
// not get through under one.
func TestSniffRefusesStrangersUnderARawName(t *testing.T) {
	t.Parallel()
	// Any bytes are some µ-law, and nothing gives these away as something else.
	nameless := map[string]bool{"noise": true, "zeros": true, "mp3 sync alone": true, "adts sync alone": true, "riff of pages": true, "form of pixels": true, "utf-16": true, "transport": true, "pcap": true}
	for kind, data := range strangers(t) {
		if nameless[kind] {
			continue
		}
		for _, name := range []string{"call.ulaw", "call.al", "call.sln16", "call.g729", "call.g722"} {
			if _, err := Sniff(data[:min(len(data), HeadSize)], int64(len(data)), name, ""); !errors.Is(err, ErrNotAudio) {
				t.Errorf("%s as %s: %v; want ErrNotAudio", kind, name, err)
			}
		}
	}
}

// Quiet lines begin with bytes that are the signature of something else.
func TestSniffTakesQuietRawAudio(t *testing.T) {
	t.Parallel()
	for name, head := range map[string][]byte{
		"a.ulaw":  bytes.Repeat([]byte{0xFF}, 800),
		"b.ulaw":  append([]byte{0xFF, 0xFB}, bytes.Repeat([]byte{0x7F, 0xFE}, 400)...),
		"c.ulaw":  append([]byte{0xFF, 0xFE}, bytes.Repeat([]byte{0xFF}, 400)...),
		"d.alaw":  bytes.Repeat([]byte{0x55}, 800),
		"e.alaw":  bytes.Repeat([]byte{0xD5}, 800),
		"f.sln":   make([]byte, 800),
		"g.sln":   bytes.Repeat([]byte{0, 0, 1, 0}, 200),
		"h.sln16": bytes.Repeat([]byte{0, 1, 0, 0}, 200),
	} {
		if _, err := Sniff(head, int64(len(head)), name, ""); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSniffFindsEmptyAndUnclosedRecordings(t *testing.T) {
	t.Parallel()
	sized := func(riff, data uint32, samples int) []byte {
		file := wav(1, 1, 8000, 2, 16, make([]byte, 2*samples))
		binary.LittleEndian.PutUint32(file[4:], riff)
		binary.LittleEndian.PutUint32(file[40:], data)
		return file
	}
	empty, unclosed := []string{FlagEmpty}, []string{FlagUnclosed}
	for _, test := range []struct {
		what, name, declared string
		data                 []byte
		want                 []string
	}{
		{"a header alone", "a.wav", "", sized(36, 0, 0), empty},
		{"a header of placeholders alone", "a.wav", "", sized(0xFFFFFFFF, 0xFFFFFFFF, 0), empty},
		{"half a header", "a.wav", "", sized(36, 0, 0)[:20], empty},
		{"four bytes of a header", "", "", []byte("RIFF"), empty},
		{"nothing, named .wav", "monitor/2025/out-100.WAV", "", nil, empty},
		{"nothing, named .mp3", "a.mp3", "", nil, empty},
		{"nothing, named .gsm", "a.gsm", "", nil, empty},
		{"nothing, declared audio", "", "audio/x-wav; codec=1", nil, empty},
		{"closed, no samples, a chunk after", "a.wav", "", append(sized(36+12, 0, 0), "LIST\x04\x00\x00\x00INFO"...), empty},
		{"sizes 0", "a.wav", "", sized(0, 0, 800), unclosed},
		{"RIFF size 36", "a.wav", "", sized(36, 0, 800), unclosed},
		{"sizes 0xFFFFFFFF", "a.wav", "", sized(0xFFFFFFFF, 0xFFFFFFFF, 800), unclosed},
		{"sox's placeholder", "a.wav", "", sized(0x7FFFF024, 0x7FFFF000, 800), unclosed},
		{"closed", "a.wav", "", sized(36+1600, 1600, 800), nil},
	} {
		kind, err := Sniff(test.data, int64(len(test.data)), test.name, test.declared)
		if err != nil {
			t.Errorf("%s: %v", test.what, err)
		}
		if diff := cmp.Diff(test.want, kind.Flags); diff != "" {
			t.Errorf("%s: flags (-want +got):\n%s", test.what, diff)
		}
	}
	for _, name := range []string{"", "notes.txt", "wav"} {
		if _, err := Sniff(nil, 0, name, "text/plain"); !errors.Is(err, ErrNotAudio) {
			t.Errorf("nothing, named %q: %v, want ErrNotAudio", name, err)
		}
	}
}

func TestSniffKnowsAudioWithoutItsName(t *testing.T) {
	t.Parallel()
	mp3 := read(t, convert(t, "call.mp3", "-id3v2_version", "0", "-write_xing", "0"))
	for what, data := range map[string][]byte{
		"an MP3 cut within a frame": mp3[100:],
		"one MP3 frame":             mp3[:mp3Frame(mp3)],
		"a tag as long as the head": append([]byte("ID3\x04\x00\x00\x00\x00\x40\x00"), make([]byte, 20000)...),
		"FLAC after an ID3 tag":     append([]byte("ID3\x04\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00"), "fLaC\x00\x00\x00\x22"...),
	} {
		if _, err := Sniff(data[:min(len(data), HeadSize)], int64(len(data)), "", "application/octet-stream"); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestSniffWithoutSize(t *testing.T) {
	t.Parallel()
	long := pcm(2, sine(440, 0.5))
	if kind, err := Sniff(long[:HeadSize], -1, "", ""); err != nil || kind.Codec != "pcm_s16le" || kind.Flags != nil {
		t.Errorf("a long file of unknown size: %+v, %v", kind, err)
	}
	if kind, err := Sniff(long[:44], -1, "", ""); err != nil || len(kind.Flags) != 1 {
		t.Errorf("a short file of unknown size: %+v, %v; want it empty", kind, err)
	}
}

func FuzzSniff(f *testing.F) {
	// Made without a tool, since every worker of the fuzzer makes them again.
	rf64 := append([]byte("RF64\xff\xff\xff\xffWAVEds64\x1c\x00\x00\x00"), make([]byte, 28)...)
	for name, data := range map[string][]byte{
		"a.wav":  pcm(0.01, sine(440, 0.5), silence),
		"b.wav":  restated(0xFFFFFFFF)[:100],
		"c.wav":  wav(0x31, 1, 8000, 65, 0, noise(1, 65)),
		"d.wav":  append(rf64, pcm(0.01, silence)[12:]...),
		"a.mp3":  append([]byte("ID3\x04\x00\x00\x00\x00\x00\x00\xff\xfb\x90\x64"), make([]byte, 417)...),
		"b.mp3":  bytes.Repeat(append([]byte("\xff\xf3\x18\xc4"), make([]byte, 68)...), 4),
		"a.aac":  bytes.Repeat([]byte("\xff\xf1\x50\x80\x01\x1f\xfc\x00"), 4),
		"a.ogg":  []byte("OggS\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x13OpusHead\x01\x02"),
		"a.m4a":  []byte("\x00\x00\x00\x1cftypM4A \x00\x00\x02\x00M4A isomiso2"),
		"a.mkv":  []byte("\x1a\x45\xdf\xa3\xa3\x42\x86\x81\x01\x42\x82\x88matroska"),
		"a.webm": []byte("\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm"),
		"a.amr":  []byte("#!AMR\n\x3c"),
		"a.au":   []byte(".snd\x00\x00\x00\x18\xff\xff\xff\xff\x00\x00\x00\x01\x00\x00\x1f\x40\x00\x00\x00\x01\x7f"),
		"a.aiff": []byte("FORM\x00\x00\x00\x2eAIFFCOMM\x00\x00\x00\x12"),
		"a.flac": []byte("fLaC\x00\x00\x00\x22"),
		"a.gsm":  bytes.Repeat(append([]byte{0xD2}, noise(2, 32)...), 3),
		"a.ulaw": bytes.Repeat([]byte{0xFF, 0x7F}, 50),
		"a.sln":  []byte("words, not samples"),
	} {
		f.Add(data, int64(len(data)), name)
	}
	f.Fuzz(func(t *testing.T, head []byte, size int64, name string) {
		kind, err := Sniff(head, size, name, "audio/wav")
		if err != nil {
			if !errors.Is(err, ErrNotAudio) || kind.Container != "" {
				t.Fatalf("Sniff = %+v, %v", kind, err)
			}
			return
		}
		if demuxers[kind.Container] == "" || kind.MediaType == "" {
			t.Fatalf("nobody can open %+v", kind)
		}
		if len(head) > HeadSize || size != int64(len(head)) {
			return
		}
		again, err := Open(bytes.NewReader(head), size, kind.MediaType)
		if err != nil {
			t.Fatalf("Open of what Sniff took as %+v: %v", kind, err)
		}
		if diff := cmp.Diff(kind, again.Type); diff != "" {
			t.Fatalf("Open disagrees with Sniff (-sniff +open):\n%s", diff)
		}
	})
}
