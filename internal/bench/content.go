package bench

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"strconv"
	"strings"
)

// Size is a number of bytes, written 102400, 100K or 5M (binary multiples).
type Size int64

var units = []struct {
	suffix string
	bytes  int64
}{{"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}}

// UnmarshalText reads what String writes, with or without "iB".
func (s *Size) UnmarshalText(text []byte) error {
	digits, factor := strings.TrimSuffix(strings.TrimSuffix(string(text), "B"), "i"), int64(1)
	for _, unit := range units {
		if head, ok := strings.CutSuffix(digits, unit.suffix); ok {
			digits, factor = head, unit.bytes
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 32)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is not a size such as 100K or 5M", text)
	}
	*s = Size(n * factor)
	return nil
}

// String is the size in its largest whole unit.
func (s Size) String() string {
	for _, unit := range units {
		if s != 0 && int64(s)%unit.bytes == 0 {
			return fmt.Sprintf("%d %siB", int64(s)/unit.bytes, unit.suffix)
		}
	}
	return fmt.Sprintf("%d B", int64(s))
}

const (
	wavHeader  = 44
	stampBytes = 32
	// minContent is the smallest recording: a header, a stamp, some sound.
	minContent = 1 << 10
)

// content is what recordings of one size have in common: the header of a WAV
// file (8 kHz, 16 bit, mono) and random samples, which nothing compresses.
type content struct{ bytes []byte }

func newContent(size Size) *content {
	c := &content{make([]byte, size)}
	mathrand.NewChaCha8([32]byte{1}).Read(c.bytes)
	var h bytes.Buffer
	h.WriteString("RIFF")
	h.Write(binary.LittleEndian.AppendUint32(nil, uint32(size-8)))
	h.WriteString("WAVEfmt ")
	h.Write(binary.LittleEndian.AppendUint32(nil, 16))
	for _, field := range []uint16{1, 1, 8000, 0, 16000, 0, 2, 16} {
		h.Write(binary.LittleEndian.AppendUint16(nil, field))
	}
	h.WriteString("data")
	h.Write(binary.LittleEndian.AppendUint32(nil, uint32(size-wavHeader)))
	copy(c.bytes, h.Bytes())
	return c
}

func (c *content) size() int64 { return int64(len(c.bytes)) }

// recordings are n recordings, no two alike: each has its own first samples.
func (c *content) recordings(n int) []*recording {
	all := make([]*recording, n)
	for i := range all {
		all[i] = c.recording()
	}
	return all
}

func (c *content) recording() *recording {
	r := &recording{content: c}
	copy(r.stamp[:], rand.Text())
	hash := sha256.New()
	hash.Write(c.bytes[:wavHeader])
	hash.Write(r.stamp[:])
	hash.Write(c.bytes[wavHeader+stampBytes:])
	r.sha256 = hex.EncodeToString(hash.Sum(nil))
	return r
}

// recording is a WAV file that takes no memory of its own.
type recording struct {
	*content
	stamp  [stampBytes]byte
	sha256 string
	// id is its interaction's, once it has one.
	id string
	// key is its own in the direct bucket.
	key string
}

// ReadAt implements [io.ReaderAt].
func (r *recording) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > r.size() {
		return 0, errors.New("read outside the recording")
	}
	n := copy(p, r.bytes[off:])
	for i := max(off, wavHeader); i < min(off+int64(n), wavHeader+stampBytes); i++ {
		p[i-off] = r.stamp[i-wavHeader]
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (r *recording) reader() *io.SectionReader { return io.NewSectionReader(r, 0, r.size()) }
