package media

import (
	"bytes"

	"github.com/gabriel-vasile/mimetype"
)

// sniffMPEG knows MP3 and ADTS AAC by their frames, with or without an ID3v2 tag
// before them. Two bytes of frame sync prove little, so the next frames must
// stand where the first one says.
func sniffMPEG(head []byte, size int64) (Type, bool) {
	tag := id3Size(head)
	if tag >= len(head) && tag > 0 {
		// The tag fills the head; ffmpeg will see what follows it.
		return Type{MediaType: "audio/mpeg", Container: "mp3"}, size < 0 || size > int64(tag)
	}
	body := head[tag:]
	if bytes.HasPrefix(body, []byte("fLaC")) {
		return sniffFLAC(body, size)
	}
	if frames(body, adtsFrame) {
		return Type{MediaType: "audio/aac", Container: "aac", Codec: "aac"}, true
	}
	if frames(body, mp3Frame) || cutMP3(body) {
		return Type{MediaType: "audio/mpeg", Container: "mp3", Codec: "mp3"}, true
	}
	return Type{}, false
}

// cutMP3 knows an MP3 that begins within a frame, as a stream cut in two does:
// three frames in a row, in a head that is nothing else.
func cutMP3(body []byte) bool {
	if !mimetype.Detect(body).Is("audio/mpeg") {
		return false
	}
	for at := range body {
		first := mp3Frame(body[at:])
		if first > 0 && at+first < len(body) && frames(body[at+first:], mp3Frame) {
			return true
		}
	}
	return false
}

// id3Size returns the length of an ID3v2.2 to 2.4 tag with its header, 0 if
// there is none.
func id3Size(head []byte) int {
	if len(head) < 10 || string(head[:3]) != "ID3" || head[3] < 2 || head[3] > 4 || head[4] == 0xFF {
		return 0
	}
	size := 0
	for _, b := range head[6:10] {
		if b&0x80 != 0 {
			return 0
		}
		size = size<<7 | int(b)
	}
	return size + 10
}

// frames reports whether body begins with frames, each where the one before
// ends: at least two, of which the last may be cut off, or one that is all there is.
func frames(body []byte, length func([]byte) int) bool {
	for n := 0; ; n++ {
		size := length(body)
		switch {
		case size == 0:
			return n >= 2
		case size == len(body):
			return true
		case size > len(body):
			return n >= 1
		}
		body = body[size:]
	}
}

// mp3Frame returns the length of the layer III frame that b begins with, or 0
// (ISO/IEC 11172-3, 13818-3 and the unofficial MPEG 2.5).
func mp3Frame(b []byte) int {
	if len(b) < 4 || b[0] != 0xFF || b[1]&0xE6 != 0xE2 {
		return 0
	}
	version, rate, sampling, padding := b[1]>>3&3, b[2]>>4, b[2]>>2&3, int(b[2]>>1&1)
	if version == 1 || rate == 0 || rate == 15 || sampling == 3 {
		return 0
	}
	kilobits := [2][15]int{
		{0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160},
		{0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320},
	}
	hertz := [4][3]int{{11025, 12000, 8000}, {}, {22050, 24000, 16000}, {44100, 48000, 32000}}
	if version == 3 {
		return 144*1000*kilobits[1][rate]/hertz[version][sampling] + padding
	}
	return 72*1000*kilobits[0][rate]/hertz[version][sampling] + padding
}

// adtsFrame returns the length of the ADTS frame that b begins with, or 0
// (ISO/IEC 13818-7).
func adtsFrame(b []byte) int {
	if len(b) < 7 || b[0] != 0xFF || b[1]&0xF6 != 0xF0 || b[2]>>2&0xF > 12 {
		return 0
	}
	length := int(b[3]&3)<<11 | int(b[4])<<3 | int(b[5])>>5
	if length < 7 {
		return 0
	}
	return length
}
