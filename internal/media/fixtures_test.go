package media

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// workshop holds the speech that fixtures are made from.
var workshop string

func TestMain(m *testing.M) {
	var err error
	if workshop, err = os.MkdirTemp("", "media"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := os.RemoveAll(workshop); err != nil {
			panic(err)
		}
		os.Exit(code)
	}))
}

// command runs a tool that the machine must have.
func command(t testing.TB, name string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%s is missing: run the tests by `make test`, which installs it", name)
	}
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// speech is a Vietnamese call of a few seconds, 8 kHz: the agent left, the customer right.
var speech = func() func(t testing.TB) string {
	var once sync.Once
	return func(t testing.TB) string {
		call := filepath.Join(workshop, "call.wav")
		once.Do(func() {
			agent, customer := filepath.Join(workshop, "agent.wav"), filepath.Join(workshop, "customer.wav")
			command(t, "espeak-ng", "-v", "vi", "-w", agent, "Xin chào, tôi là Lan ở tổng đài. Cuộc gọi được ghi âm.")
			command(t, "espeak-ng", "-v", "vi-vn-x-south", "-w", customer, "Chào chị, tôi muốn hỏi về hoá đơn tháng trước.")
			command(t, "sox", "-M", agent, customer, "-r", "8000", "-b", "16", call)
		})
		return call
	}
}()

// convert makes a file of that name from the speech with ffmpeg.
func convert(t testing.TB, name string, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	all := append([]string{"-v", "error", "-nostdin", "-i", speech(t)}, args...)
	command(t, "ffmpeg", append(all, file)...)
	return file
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// source sniffs data as a file of that name and makes a Source of it.
func source(t testing.TB, data []byte, name string) Source {
	t.Helper()
	kind, err := Sniff(data[:min(len(data), HeadSize)], int64(len(data)), name, "")
	if err != nil {
		t.Fatalf("Sniff(%s): %v", name, err)
	}
	return Source{ReaderAt: bytes.NewReader(data), Size: int64(len(data)), Type: kind}
}

// wav builds a WAV file by hand, to be lied in by the caller.
func wav(tag uint16, channels, rate, align, bits int, data []byte) []byte {
	file := make([]byte, 44, 44+len(data))
	copy(file, "RIFF")
	binary.LittleEndian.PutUint32(file[4:], uint32(36+len(data)))
	copy(file[8:], "WAVEfmt \x10\x00\x00\x00")
	binary.LittleEndian.PutUint16(file[20:], tag)
	binary.LittleEndian.PutUint16(file[22:], uint16(channels))
	binary.LittleEndian.PutUint32(file[24:], uint32(rate))
	binary.LittleEndian.PutUint32(file[28:], uint32(rate*align))
	binary.LittleEndian.PutUint16(file[32:], uint16(align))
	binary.LittleEndian.PutUint16(file[34:], uint16(bits))
	copy(file[36:], "data")
	binary.LittleEndian.PutUint32(file[40:], uint32(len(data)))
	return append(file, data...)
}

// pcm builds a 16-bit WAV of 8 kHz from one function of time a channel.
func pcm(seconds float64, channels ...func(second float64) float64) []byte {
	var data []byte
	for i := range int(seconds * 8000) {
		for _, at := range channels {
			data = binary.LittleEndian.AppendUint16(data, uint16(int16(math.Round(at(float64(i)/8000)*32767))))
		}
	}
	return wav(1, len(channels), 8000, 2*len(channels), 16, data)
}

func sine(hertz, amplitude float64) func(float64) float64 {
	return func(second float64) float64 { return amplitude * math.Sin(2*math.Pi*hertz*second) }
}

func silence(float64) float64 { return 0 }

// noise is the same bytes for the same seed.
func noise(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return data
}

// A format is a way in which clients write recordings.
type format struct {
	name     string // of the file
	make     func(t testing.TB, name string) []byte
	want     Type
	codec    string // as decoded; want.Codec if ""
	channels int
	rate     int
	plays    bool // in every browser
}

func byFFmpeg(args ...string) func(testing.TB, string) []byte {
	return func(t testing.TB, name string) []byte { return read(t, convert(t, name, args...)) }
}

func bySox(args ...string) func(testing.TB, string) []byte {
	return func(t testing.TB, name string) []byte {
		file := filepath.Join(t.TempDir(), name)
		command(t, "sox", append(append([]string{speech(t)}, args...), file)...)
		return read(t, file)
	}
}

// g729 has no free encoder; any bits are some sound in it.
func g729() []byte { return noise(729, 10*500) }

func raw(rate int) *RawFormat { return &RawFormat{SampleRate: rate, Channels: 1} }

func wavType(codec string) Type { return Type{MediaType: "audio/wav", Container: "wav", Codec: codec} }

func formats() []format {
	mono8 := func(more ...string) []string { return append([]string{"-ac", "1", "-ar", "8000"}, more...) }
	all := []format{
		{name: "pcm.wav", make: byFFmpeg(), want: wavType("pcm_s16le"), channels: 2, rate: 8000, plays: true},
		{name: "pcm8.wav", make: byFFmpeg("-c:a", "pcm_u8"), want: wavType("pcm_u8"), channels: 2, rate: 8000, plays: true},
		{name: "pcm24.wav", make: byFFmpeg("-c:a", "pcm_s24le"), want: wavType("pcm_s24le"), channels: 2, rate: 8000},
		{name: "float.wav", make: byFFmpeg("-c:a", "pcm_f32le"), want: wavType("pcm_f32le"), channels: 2, rate: 8000},
		{name: "extensible.wav", make: bySox("-b", "24", "-r", "48000"), want: wavType("pcm_s24le"), channels: 2, rate: 48000},
		{name: "alaw.wav", make: byFFmpeg("-c:a", "pcm_alaw"), want: wavType("pcm_alaw"), channels: 2, rate: 8000},
		{name: "mulaw.wav", make: byFFmpeg("-c:a", "pcm_mulaw"), want: wavType("pcm_mulaw"), channels: 2, rate: 8000},
		{name: "wav49.WAV", make: byFFmpeg(mono8("-c:a", "libgsm_ms")...), want: wavType("gsm_ms"), channels: 1, rate: 8000},
		{name: "sox-gsm.wav", make: bySox("-e", "gsm-full-rate", "-c", "1"), want: wavType("gsm_ms"), channels: 1, rate: 8000},
		{name: "ms.wav", make: byFFmpeg("-c:a", "adpcm_ms"), want: wavType("adpcm_ms"), channels: 2, rate: 8000},
		{name: "ima.wav", make: byFFmpeg("-c:a", "adpcm_ima_wav"), want: wavType("adpcm_ima_wav"), channels: 2, rate: 8000},
		{name: "g726.wav", make: byFFmpeg(mono8("-c:a", "g726")...), want: wavType("adpcm_g726"), channels: 1, rate: 8000},
		{name: "g723.wav", make: byFFmpeg(mono8("-c:a", "g723_1", "-b:a", "6300")...), want: wavType("g723_1"), channels: 1, rate: 8000},
		{name: "mp3.wav", make: byFFmpeg("-c:a", "libmp3lame", "-ar", "16000"), want: wavType("mp3"), channels: 2, rate: 16000},
		{name: "g729.wav", make: func(testing.TB, string) []byte { return wav(0x83, 1, 8000, 10, 0, g729()) }, want: wavType("g729"), channels: 1, rate: 8000},
		{name: "rf64.wav", make: byFFmpeg("-rf64", "always"), want: wavType("pcm_s16le"), channels: 2, rate: 8000, plays: true},
		{name: "plain.mp3", make: byFFmpeg("-id3v2_version", "0", "-write_xing", "0"), want: Type{MediaType: "audio/mpeg", Container: "mp3", Codec: "mp3"}, channels: 2, rate: 8000, plays: true},
		{name: "tagged.mp3", make: byFFmpeg("-metadata", "title=Cuộc gọi", "-ar", "44100"), want: Type{MediaType: "audio/mpeg", Container: "mp3", Codec: "mp3"}, channels: 2, rate: 44100, plays: true},
		{name: "vbr.mp3", make: byFFmpeg("-q:a", "4", "-ar", "22050"), want: Type{MediaType: "audio/mpeg", Container: "mp3", Codec: "mp3"}, channels: 2, rate: 22050, plays: true},
		{name: "opus.ogg", make: byFFmpeg("-c:a", "libopus"), want: Type{MediaType: "audio/ogg", Container: "ogg", Codec: "opus"}, channels: 2, rate: 48000},
		{name: "vorbis.ogg", make: byFFmpeg("-c:a", "libvorbis"), want: Type{MediaType: "audio/ogg", Container: "ogg", Codec: "vorbis"}, channels: 2, rate: 8000},
		{name: "speex.spx", make: byFFmpeg("-c:a", "libspeex"), want: Type{MediaType: "audio/ogg", Container: "ogg", Codec: "speex"}, channels: 2, rate: 8000},
		{name: "flac.oga", make: byFFmpeg("-c:a", "flac"), want: Type{MediaType: "audio/ogg", Container: "ogg", Codec: "flac"}, channels: 2, rate: 8000},
		{name: "call.flac", make: byFFmpeg(), want: Type{MediaType: "audio/flac", Container: "flac", Codec: "flac"}, channels: 2, rate: 8000, plays: true},
		{name: "moov-last.m4a", make: byFFmpeg("-c:a", "aac"), want: Type{MediaType: "audio/mp4", Container: "mp4"}, codec: "aac", channels: 2, rate: 8000, plays: true},
		{name: "moov-first.m4a", make: byFFmpeg("-c:a", "aac", "-movflags", "+faststart"), want: Type{MediaType: "audio/mp4", Container: "mp4"}, codec: "aac", channels: 2, rate: 8000, plays: true},
		{name: "call.mp4", make: byFFmpeg("-c:a", "aac"), want: Type{MediaType: "audio/mp4", Container: "mp4"}, codec: "aac", channels: 2, rate: 8000, plays: true},
		{name: "alac.m4a", make: byFFmpeg("-c:a", "alac"), want: Type{MediaType: "audio/mp4", Container: "mp4"}, codec: "alac", channels: 2, rate: 8000},
		{name: "call.3gp", make: byFFmpeg("-c:a", "aac", "-f", "3gp"), want: Type{MediaType: "audio/mp4", Container: "mp4"}, codec: "aac", channels: 2, rate: 8000, plays: true},
		{name: "call.aac", make: byFFmpeg("-f", "adts"), want: Type{MediaType: "audio/aac", Container: "aac", Codec: "aac"}, channels: 2, rate: 8000},
		{name: "call.amr", make: bySox("-c", "1", "-t", "amr-nb"), want: Type{MediaType: "audio/amr", Container: "amr", Codec: "amr_nb"}, channels: 1, rate: 8000},
		{name: "linphone.mkv", make: byFFmpeg("-c:a", "libopus"), want: Type{MediaType: "audio/matroska", Container: "matroska"}, codec: "opus", channels: 2, rate: 48000},
		{name: "pcm.mka", make: byFFmpeg("-c:a", "pcm_s16le"), want: Type{MediaType: "audio/matroska", Container: "matroska"}, codec: "pcm_s16le", channels: 2, rate: 8000},
		{name: "browser.webm", make: byFFmpeg("-c:a", "libopus"), want: Type{MediaType: "audio/webm", Container: "webm"}, codec: "opus", channels: 2, rate: 48000},
		{name: "call.aiff", make: byFFmpeg(), want: Type{MediaType: "audio/aiff", Container: "aiff"}, codec: "pcm_s16be", channels: 2, rate: 8000},
		{name: "call.aifc", make: bySox("-t", "aifc"), want: Type{MediaType: "audio/aiff", Container: "aiff"}, codec: "pcm_s16be", channels: 2, rate: 8000},
		{name: "call.au", make: byFFmpeg("-c:a", "pcm_mulaw"), want: Type{MediaType: "audio/basic", Container: "au", Codec: "pcm_mulaw"}, channels: 2, rate: 8000},
		{name: "linear.snd", make: bySox("-t", "au"), want: Type{MediaType: "audio/basic", Container: "au", Codec: "pcm_s16be"}, channels: 2, rate: 8000},
		{name: "call.gsm", make: byFFmpeg(mono8()...), want: Type{MediaType: "audio/x-gsm", Container: "gsm", Codec: "gsm", Raw: raw(8000)}, channels: 1, rate: 8000},
		{name: "call.g722", make: byFFmpeg("-ac", "1", "-ar", "16000"), want: Type{MediaType: "audio/g722", Container: "g722", Codec: "adpcm_g722", Raw: raw(16000)}, channels: 1, rate: 16000},
		{name: "call.g729", make: func(testing.TB, string) []byte { return g729() }, want: Type{MediaType: "audio/g729", Container: "g729", Codec: "g729", Raw: raw(8000)}, channels: 1, rate: 8000},
	}
	for _, name := range []string{"call.ulaw", "call.ul", "call.PCM"} {
		all = append(all, format{name: name, make: byFFmpeg(mono8("-f", "mulaw")...), want: Type{MediaType: "audio/pcmu", Container: "mulaw", Codec: "pcm_mulaw", Raw: raw(8000)}, channels: 1, rate: 8000})
	}
	for _, name := range []string{"call.alaw", "call.al"} {
		all = append(all, format{name: name, make: byFFmpeg(mono8("-f", "alaw")...), want: Type{MediaType: "audio/pcma", Container: "alaw", Codec: "pcm_alaw", Raw: raw(8000)}, channels: 1, rate: 8000})
	}
	for extension, rate := range map[string]int{"sln": 8000, "sln16": 16000, "sln44": 44100, "sln48": 48000} {
		all = append(all, format{
			name: "call." + extension, make: byFFmpeg("-ac", "1", "-ar", fmt.Sprint(rate), "-f", "s16le"),
			want:     Type{MediaType: fmt.Sprintf("audio/x-sln;rate=%d", rate), Container: "sln", Codec: "pcm_s16le", Raw: raw(rate)},
			channels: 1, rate: rate,
		})
	}
	return all
}
