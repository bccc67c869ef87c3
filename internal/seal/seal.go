package seal

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

const (
	// chunkSize and tagSize are those of the age format's payload.
	chunkSize   = 64 << 10
	tagSize     = 16
	sealedChunk = chunkSize + tagSize
	// fileHeader is the length of an age header for one X25519 recipient, 168
	// bytes, and of the payload nonce that follows it.
	fileHeader = 168 + 16
	macSize    = sha256.Size
	// HeaderSize is the length in bytes of what [Sealed.Header] returns.
	HeaderSize = fileHeader + 8 + macSize
)

// ErrUnfinished says that a header was asked for before all was sealed.
var ErrUnfinished = errors.New("sealing is not finished")

// SealedSize is the exact size of the age file that plain bytes become.
func SealedSize(plain int64) int64 {
	return fileHeader + plain + chunks(plain)*tagSize
}

// chunks is how many chunks plain bytes take; nothing takes one, which is empty.
func chunks(plain int64) int64 {
	return max(1, (plain+chunkSize-1)/chunkSize)
}

// Sealed is a reader of the age file that a plaintext becomes. It holds one
// chunk at a time.
type Sealed struct {
	key    Key
	file   io.Reader
	header []byte
	plain  *counter
	done   bool
}

// Seal returns a reader that seals plain while it is read, into a standard age
// file for the key alone. It has [SealedSize] bytes.
func (k Key) Seal(plain io.Reader) (*Sealed, error) {
	count := &counter{r: plain}
	file, err := age.EncryptReader(count, k.identity.Recipient())
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	header := make([]byte, fileHeader)
	if _, err := io.ReadFull(file, header); err != nil {
		return nil, fmt.Errorf("seal: header: %w", err)
	}
	if count.n != 0 {
		return nil, errors.New("seal: the age header is longer than it was")
	}
	return &Sealed{key: k, file: io.MultiReader(bytes.NewReader(header), file), header: header, plain: count}, nil
}

// Read implements io.Reader.
func (s *Sealed) Read(p []byte) (int, error) {
	n, err := s.file.Read(p)
	if err == io.EOF {
		s.done = true
	}
	return n, err
}

// Header returns what [Key.Open] needs to read from any position: the file's
// first bytes and its authenticated size. It is kept beside the object, and
// holds no secret. [ErrUnfinished] until Read has returned io.EOF.
func (s *Sealed) Header() ([]byte, error) {
	if !s.done {
		return nil, fmt.Errorf("seal: header: %w", ErrUnfinished)
	}
	header := binary.BigEndian.AppendUint64(bytes.Clone(s.header), uint64(s.plain.n))
	return append(header, s.key.mac(header)...), nil
}

// mac authenticates a header's file part and size.
func (k Key) mac(header []byte) []byte {
	h := hmac.New(sha256.New, k.sizes)
	h.Write(header)
	return h.Sum(nil)
}

// counter counts what it reads.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
