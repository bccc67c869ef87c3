package media

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gabriel-vasile/mimetype"
)

// HeadSize is how many leading bytes of a file [Sniff] looks at.
const HeadSize = 4096

// Type is what the first bytes of a file, and for raw audio its name, say of it.
type Type struct {
	MediaType string     // "audio/wav"; enough to Open the file again
	Container string     // "wav", "mp3", "ogg", "flac", "mp4", "aac", "amr", "matroska", "webm", "aiff", "au", or the raw format
	Codec     string     // ffmpeg's name, "" where the head does not tell
	Raw       *RawFormat // set for headerless audio, known by its name alone
	Flags     []string   // FlagEmpty, FlagUnclosed or FlagLyingHeader
}

// RawFormat is what a headerless file cannot say of itself.
type RawFormat struct {
	SampleRate int // hertz
	Channels   int
}

// Sniff decides from the first bytes of a file whether it is audio that the
// archive takes. The head holds the first [HeadSize] bytes, or the whole file if
// that is shorter; size is the length of the file, -1 where it is not known yet.
//
// Headerless audio (Asterisk's .gsm, .ulaw, .alaw, .sln, .sln16, .g722, .g729 …)
// is known by the extension of fileName, unless its bytes say otherwise.
// A declaredType makes nothing audio; it only tells, where the name does not,
// that a file of no bytes was meant to be a recording.
//
// It returns [ErrNotAudio] for everything else. It keeps no reference to head.
func Sniff(head []byte, size int64, fileName, declaredType string) (Type, error) {
	return sniff(head, size, rawByName(fileName), fileName, declaredType)
}

func sniff(head []byte, size int64, raw *rawKind, hints ...string) (Type, error) {
	head = head[:min(len(head), HeadSize)]
	if size < 0 && len(head) < HeadSize {
		size = int64(len(head))
	}
	if size == 0 || len(head) == 0 {
		return sniffNothing(raw, hints)
	}
	for _, look := range containers {
		if kind, ok := look(head, size); ok {
			return kind, nil
		}
	}
	if raw != nil && raw.fits(head) {
		return raw.kind(), nil
	}
	return Type{}, fmt.Errorf("%w but %s", ErrNotAudio, mimetype.Detect(head))
}

// sniffNothing judges a file of no bytes by what it was called.
func sniffNothing(raw *rawKind, hints []string) (Type, error) {
	if raw != nil {
		kind := raw.kind()
		kind.Flags = []string{FlagEmpty}
		return kind, nil
	}
	for _, hint := range hints {
		hint, _, _ = strings.Cut(strings.ToLower(hint), ";")
		for _, named := range namedTypes {
			if hint == named.mediaType || slices.Contains(named.extensions, path.Ext(hint)) {
				return Type{MediaType: named.mediaType, Container: named.container, Flags: []string{FlagEmpty}}, nil
			}
		}
	}
	return Type{}, fmt.Errorf("%w but no bytes at all", ErrNotAudio)
}

// namedTypes are the containers by the names that files and clients give them.
var namedTypes = []struct {
	mediaType, container string
	extensions           []string
}{
	{"audio/wav", "wav", []string{".wav", ".wave", ".wav49"}},
	{"audio/x-wav", "wav", nil},
	{"audio/wave", "wav", nil},
	{"audio/vnd.wave", "wav", nil},
	{"audio/mpeg", "mp3", []string{".mp3"}},
	{"audio/ogg", "ogg", []string{".ogg", ".oga", ".opus", ".spx"}},
	{"audio/flac", "flac", []string{".flac"}},
	{"audio/mp4", "mp4", []string{".m4a", ".mp4", ".3gp"}},
	{"audio/aac", "aac", []string{".aac"}},
	{"audio/amr", "amr", []string{".amr"}},
	{"audio/amr-wb", "amr", []string{".awb"}},
	{"audio/matroska", "matroska", []string{".mka", ".mkv"}},
	{"audio/webm", "webm", []string{".webm"}},
	{"audio/aiff", "aiff", []string{".aif", ".aiff", ".aifc"}},
	{"audio/basic", "au", []string{".au", ".snd"}},
}

// containers look for one format each, the surest first.
var containers = []func(head []byte, size int64) (Type, bool){
	sniffWAV, sniffOgg, sniffFLAC, sniffMP4, sniffMatroska, sniffAMR, sniffAU, sniffAIFF, sniffMPEG,
}

// sniffOgg reads the identification header of the first stream (RFC 3533, RFC 5334).
func sniffOgg(head []byte, _ int64) (Type, bool) {
	if !bytes.HasPrefix(head, []byte("OggS\x00")) || bytes.Contains(head, []byte("\x80theora")) {
		return Type{}, false
	}
	kind := Type{MediaType: "audio/ogg", Container: "ogg"}
	for _, id := range []struct{ magic, codec string }{
		{"OpusHead", "opus"}, {"\x01vorbis", "vorbis"}, {"Speex   ", "speex"}, {"\x7fFLAC", "flac"},
	} {
		if bytes.Contains(head, []byte(id.magic)) {
			kind.Codec = id.codec
			return kind, true
		}
	}
	return Type{}, false
}

func sniffFLAC(head []byte, _ int64) (Type, bool) {
	return Type{MediaType: "audio/flac", Container: "flac", Codec: "flac"},
		bytes.HasPrefix(head, []byte("fLaC"))
}

// mp4Brands are the major brands of files that hold, or may hold, audio alone.
// Pictures (heic, avif), cinema (qt, M4V) and pages of JPEG 2000 bear others.
var mp4Brands = []string{
	"M4A ", "M4B ", "M4P ", "F4A ", "F4B ", "isom", "iso2", "iso3", "iso4", "iso5", "iso6", "iso7", "iso8", "iso9",
	"mp41", "mp42", "mp71", "dash", "MSNV", "3gp4", "3gp5", "3gp6", "3gp7", "3gp8", "3gp9", "3gr6", "3gs6", "3g2a", "3g2b", "3g2c",
}

// sniffMP4 goes by the ftyp box (ISO/IEC 14496-12).
func sniffMP4(head []byte, _ int64) (Type, bool) {
	if len(head) < 12 || string(head[4:8]) != "ftyp" || binary.BigEndian.Uint32(head) < 16 {
		return Type{}, false
	}
	return Type{MediaType: "audio/mp4", Container: "mp4"}, slices.Contains(mp4Brands, string(head[8:12]))
}

// sniffMatroska takes pictures along, too: softphones record video calls into
// the same files, and the audio is wanted either way (RFC 9559).
func sniffMatroska(head []byte, _ int64) (Type, bool) {
	kind := mimetype.Detect(head)
	switch {
	case kind.Is("video/webm"):
		return Type{MediaType: "audio/webm", Container: "webm"}, true
	case kind.Is("video/x-matroska"):
		return Type{MediaType: "audio/matroska", Container: "matroska"}, true
	}
	return Type{}, false
}

// sniffAMR knows the single-channel storage formats of RFC 4867, the only ones
// that ffmpeg reads.
func sniffAMR(head []byte, _ int64) (Type, bool) {
	switch {
	case bytes.HasPrefix(head, []byte("#!AMR\n")):
		return Type{MediaType: "audio/amr", Container: "amr", Codec: "amr_nb"}, true
	case bytes.HasPrefix(head, []byte("#!AMR-WB\n")):
		return Type{MediaType: "audio/amr-wb", Container: "amr", Codec: "amr_wb"}, true
	}
	return Type{}, false
}

// sniffAU reads the header of Sun's .au, NeXT's .snd.
func sniffAU(head []byte, size int64) (Type, bool) {
	if len(head) < 24 || string(head[:4]) != ".snd" {
		return Type{}, false
	}
	codecs := map[uint32]string{
		1: "pcm_mulaw", 2: "pcm_s8", 3: "pcm_s16be", 4: "pcm_s24be", 5: "pcm_s32be",
		6: "pcm_f32be", 7: "pcm_f64be", 24: "adpcm_g722", 27: "pcm_alaw",
	}
	kind := Type{MediaType: "audio/basic", Container: "au", Codec: codecs[binary.BigEndian.Uint32(head[12:])]}
	start, length := binary.BigEndian.Uint32(head[4:]), binary.BigEndian.Uint32(head[8:])
	switch {
	case start < 24:
		return Type{}, false
	case size >= 0 && size <= int64(start):
		kind.Flags = []string{FlagEmpty}
	case length == 0 || length == unknownSize:
		kind.Flags = []string{FlagUnclosed}
	}
	return kind, true
}

func sniffAIFF(head []byte, _ int64) (Type, bool) {
	if len(head) < 12 || string(head[:4]) != "FORM" {
		return Type{}, false
	}
	kind := Type{MediaType: "audio/aiff", Container: "aiff"}
	form := string(head[8:12])
	return kind, form == "AIFF" || form == "AIFC"
}

// A rawKind is a headerless format, known by the extensions that Asterisk and
// FreeSWITCH give it.
type rawKind struct {
	extension, mediaType, container, codec string
	sampleRate                             int
}

var rawKinds = []rawKind{
	{"gsm", "audio/x-gsm", "gsm", "gsm", 8000},
	{"ulaw", "audio/pcmu", "mulaw", "pcm_mulaw", 8000},
	{"ul", "audio/pcmu", "mulaw", "pcm_mulaw", 8000},
	{"ulw", "audio/pcmu", "mulaw", "pcm_mulaw", 8000},
	{"mu", "audio/pcmu", "mulaw", "pcm_mulaw", 8000},
	// Asterisk's "pcm" is G.711 µ-law, not linear samples.
	{"pcm", "audio/pcmu", "mulaw", "pcm_mulaw", 8000},
	{"alaw", "audio/pcma", "alaw", "pcm_alaw", 8000},
	{"al", "audio/pcma", "alaw", "pcm_alaw", 8000},
	{"alw", "audio/pcma", "alaw", "pcm_alaw", 8000},
	{"g722", "audio/g722", "g722", "adpcm_g722", 16000},
	{"g729", "audio/g729", "g729", "g729", 8000},
	{"sln", "audio/x-sln;rate=8000", "sln", "pcm_s16le", 8000},
	{"sln12", "audio/x-sln;rate=12000", "sln", "pcm_s16le", 12000},
	{"sln16", "audio/x-sln;rate=16000", "sln", "pcm_s16le", 16000},
	{"sln24", "audio/x-sln;rate=24000", "sln", "pcm_s16le", 24000},
	{"sln32", "audio/x-sln;rate=32000", "sln", "pcm_s16le", 32000},
	{"sln44", "audio/x-sln;rate=44100", "sln", "pcm_s16le", 44100},
	{"sln48", "audio/x-sln;rate=48000", "sln", "pcm_s16le", 48000},
	{"sln96", "audio/x-sln;rate=96000", "sln", "pcm_s16le", 96000},
	{"sln192", "audio/x-sln;rate=192000", "sln", "pcm_s16le", 192000},
}

func rawByName(fileName string) *rawKind {
	extension := strings.TrimPrefix(strings.ToLower(path.Ext(fileName)), ".")
	return findRaw(func(k rawKind) bool { return k.extension == extension })
}

func rawByMediaType(mediaType string) *rawKind {
	return findRaw(func(k rawKind) bool { return k.mediaType == mediaType })
}

func findRaw(match func(rawKind) bool) *rawKind {
	if i := slices.IndexFunc(rawKinds, match); i >= 0 {
		return &rawKinds[i]
	}
	return nil
}

func (k *rawKind) kind() Type {
	return Type{
		MediaType: k.mediaType, Container: k.container, Codec: k.codec,
		Raw: &RawFormat{SampleRate: k.sampleRate, Channels: 1},
	}
}

// fits reports whether the bytes can be what the name says.
func (k *rawKind) fits(head []byte) bool {
	if k.container == "gsm" {
		return gsmFrames(head)
	}
	return !looksLikeText(head) && !hasForeignMagic(head)
}

// gsmFrames reports whether every 33 bytes begin with GSM 06.10's signature, 0xD
// in the upper half of the byte.
func gsmFrames(head []byte) bool {
	if len(head) < 33 {
		return false
	}
	for ; len(head) > 0; head = head[min(33, len(head)):] {
		if head[0]>>4 != 0xD {
			return false
		}
	}
	return true
}

// looksLikeText reports whether the head is UTF-8 without control characters.
// One byte repeated is no text: a silent line is encoded so.
func looksLikeText(head []byte) bool {
	if len(bytes.Trim(head, string(head[:1]))) == 0 && len(head) > 1 {
		return false
	}
	for len(head) > 0 {
		r, n := utf8.DecodeRune(head)
		if r == utf8.RuneError && n == 1 {
			return len(head) < utf8.UTFMax // the cut end of the head
		}
		if r < ' ' && !strings.ContainsRune("\t\n\f\r", r) || r == 0x7F {
			return false
		}
		head = head[n:]
	}
	return true
}

// quietMagics are types whose signature is so short that samples around silence
// bear it by chance: 0xFF 0xFB is quiet µ-law, 00 00 01 00 is quiet linear audio.
var quietMagics = []string{
	"application/octet-stream", "text/plain", "audio/mpeg", "audio/aac", "image/x-icon", "font/ttf",
	"application/x-dbf", "application/vnd.lotus-1-2-3", "image/jxl", "application/vnd.shx",
}

func hasForeignMagic(head []byte) bool {
	kind := mimetype.Detect(head)
	return !slices.ContainsFunc(quietMagics, kind.Is)
}
