package seal

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"filippo.io/age"
	"golang.org/x/crypto/chacha20poly1305"
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
	to := &recipient{X25519Recipient: k.identity.Recipient()}
	empty, err := age.EncryptReader(strings.NewReader(""), to)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	file, err := io.ReadAll(empty)
	if err != nil {
		return nil, fmt.Errorf("seal: header: %w", err)
	}
	if len(file) != fileHeader+tagSize {
		return nil, errors.New("seal: the age header is longer than it was")
	}
	header := file[:fileHeader:fileHeader]
	aead, err := payload(to.fileKey, header)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	count := &counter{r: plain}
	return &Sealed{key: k, file: io.MultiReader(bytes.NewReader(header), &sealer{aead: aead, plain: count}), header: header, plain: count}, nil
}

// recipient keeps the file key that age makes: age's own payload writer grows
// its buffer to twice what a chunk needs, for every upload anew.
type recipient struct {
	*age.X25519Recipient
	fileKey []byte
}

func (r *recipient) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	r.fileKey = bytes.Clone(fileKey)
	return r.X25519Recipient.Wrap(fileKey)
}

var sealerBuffers = sync.Pool{New: func() any { return new([sealedChunk]byte) }}

// sealer reads the chunks of an age file's payload (C2SP age, "Payload").
type sealer struct {
	aead  cipher.AEAD
	plain io.Reader

	chunk int64
	// ahead is the first byte of the next chunk: only who has it knows that
	// the chunk before is not the last.
	ahead []byte
	buf   *[sealedChunk]byte
	ready []byte // sealed and not yet read, in buf
	err   error
}

func (s *sealer) Read(p []byte) (int, error) {
	if len(s.ready) == 0 {
		if s.err == nil {
			s.err = s.next()
		}
		if len(s.ready) == 0 && s.err != nil {
			s.release()
			return 0, s.err
		}
	}
	n := copy(p, s.ready)
	s.ready = s.ready[n:]
	return n, nil
}

// next seals a chunk; io.EOF after the last.
func (s *sealer) next() error {
	if s.buf == nil {
		s.buf, _ = sealerBuffers.Get().(*[sealedChunk]byte)
	}
	n := copy(s.buf[:], s.ahead)
	last := false
	for n <= chunkSize && !last {
		read, err := s.plain.Read(s.buf[n : chunkSize+1])
		n += read
		last = err == io.EOF && n <= chunkSize
		if err != nil && err != io.EOF {
			return err
		}
	}
	s.ahead = append(s.ahead[:0], s.buf[min(n, chunkSize):n]...)
	s.ready = s.aead.Seal(s.buf[:0], nonce(s.chunk, last), s.buf[:n-len(s.ahead)], nil)
	s.chunk++
	if last {
		return io.EOF
	}
	return nil
}

func (s *sealer) release() {
	if s.buf != nil {
		sealerBuffers.Put(s.buf)
		s.buf = nil
	}
}

// nonce is that of a chunk: an 11-byte counter and a flag on the last.
func nonce(chunk int64, last bool) []byte {
	nonce := make([]byte, chacha20poly1305.NonceSize)
	binary.BigEndian.PutUint64(nonce[3:11], uint64(chunk))
	if last {
		nonce[11] = 1
	}
	return nonce
}

// payload derives the cipher of an age file's chunks from its key and its first
// bytes (C2SP age, "Payload").
func payload(fileKey, header []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, fileKey, header[fileHeader-16:], "payload", chacha20poly1305.KeySize)
	if err != nil {
		return nil, err
	}
	return chacha20poly1305.New(key)
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
