package media

import (
	"encoding/binary"
	"fmt"
)

// unknownSize stands in a header for a length that was to be filled in later.
const unknownSize = 0xFFFFFFFF

// streamedSize is the least of the placeholders just below 2 GiB that sox and
// libsndfile write when they cannot seek back.
const streamedSize = 0x7FFF0000

// emptyWAVSize is the length of a plain WAV header. PBXs write nothing more for
// a call that nobody answered.
const emptyWAVSize = 44

// sniffWAV reads the chunks of a WAV file (Microsoft's RIFF), or of its 64-bit
// forms RF64 and BW64 (EBU Tech 3306, ITU-R BS.2088).
func sniffWAV(head []byte, size int64) (Type, bool) {
	if len(head) < 4 {
		return Type{}, false
	}
	magic := string(head[:4])
	if magic != "RIFF" && magic != "RF64" && magic != "BW64" {
		return Type{}, false
	}
	kind := Type{MediaType: "audio/wav", Container: "wav"}
	if len(head) < 12 {
		kind.Flags = []string{FlagEmpty}
		return kind, size >= 0 && size < 12
	}
	if string(head[8:12]) != "WAVE" {
		return Type{}, false
	}
	header := readWAV(head)
	kind.Codec = header.codec
	if size >= 0 {
		kind.Flags = header.flags(size)
	}
	return kind, true
}

type wavHeader struct {
	codec     string
	byteRate  uint64 // bytes a second, as stated
	riffSize  uint64
	dataStart int64 // 0: the data chunk lies beyond the head
	dataSize  uint64
}

func readWAV(head []byte) wavHeader {
	h := wavHeader{riffSize: uint64(binary.LittleEndian.Uint32(head[4:]))}
	var ds64 []byte
	for at := int64(12); at+8 <= int64(len(head)); {
		id, length := string(head[at:at+4]), binary.LittleEndian.Uint32(head[at+4:])
		body := head[at+8 : min(at+8+int64(length), int64(len(head)))]
		switch id {
		case "fmt ":
			h.codec = wavCodec(body)
			if len(body) >= 12 {
				h.byteRate = uint64(binary.LittleEndian.Uint32(body[8:]))
			}
		case "ds64":
			ds64 = body
		case "data":
			h.dataStart, h.dataSize = at+8, uint64(length)
			if len(ds64) >= 16 && length == unknownSize {
				h.riffSize = binary.LittleEndian.Uint64(ds64)
				h.dataSize = binary.LittleEndian.Uint64(ds64[8:])
			}
			return h
		}
		at += 8 + int64(length) + int64(length&1)
	}
	return h
}

// flags judges the sizes in the header of a file of that many bytes.
func (h wavHeader) flags(size int64) []string {
	switch {
	case size <= emptyWAVSize:
		return []string{FlagEmpty}
	case h.dataStart == 0:
		return nil
	case size <= h.dataStart, h.dataSize == 0 && h.riffSize+8 == uint64(size):
		return []string{FlagEmpty}
	case isPlaceholder(h.dataSize, size), h.riffSize == 0, h.riffSize == unknownSize:
		return []string{FlagUnclosed}
	case h.lies(uint64(size - h.dataStart)):
		return []string{FlagLyingHeader}
	}
	return nil
}

// lies reports whether more audio is stated than follows; a second, or one part
// in fifty, is no lie. It has to be seen here, because ffprobe silently corrects it.
func (h wavHeader) lies(present uint64) bool {
	return h.dataSize > present && h.dataSize-present > max(h.byteRate, present/50)
}

func isPlaceholder(stated uint64, size int64) bool {
	return stated == 0 || stated == unknownSize ||
		stated >= streamedSize && stated <= 0x7FFFFFFF && stated > uint64(size)
}

// wavCodec names the codec of a fmt chunk as ffmpeg does; "" if it is not one
// that recorders write.
func wavCodec(format []byte) string {
	if len(format) < 16 {
		return ""
	}
	tag, bits := binary.LittleEndian.Uint16(format), binary.LittleEndian.Uint16(format[14:])
	const extensible = 0xFFFE
	if tag == extensible && len(format) >= 26 {
		tag = binary.LittleEndian.Uint16(format[24:])
	}
	switch tag {
	case 0x0001:
		return pcmCodec(bits)
	case 0x0003:
		return fmt.Sprintf("pcm_f%dle", bits)
	case 0x0045, 0x0064:
		return "adpcm_g726"
	}
	return wavCodecs[tag]
}

func pcmCodec(bits uint16) string {
	switch bits {
	case 8:
		return "pcm_u8"
	case 16, 24, 32:
		return fmt.Sprintf("pcm_s%dle", bits)
	}
	return ""
}

// wavCodecs are registered WAVE format tags (RFC 2361 and mmreg.h).
var wavCodecs = map[uint16]string{
	0x0002: "adpcm_ms",
	0x0006: "pcm_alaw",
	0x0007: "pcm_mulaw",
	0x0011: "adpcm_ima_wav",
	0x0031: "gsm_ms",
	0x0042: "g723_1",
	0x0050: "mp2",
	0x0055: "mp3",
	0x0083: "g729",
	0x028F: "adpcm_g722",
}
