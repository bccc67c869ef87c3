package seal

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"filippo.io/age"
)

var (
	// ErrCorrupt says that an object is not what was sealed: flipped, truncated,
	// extended, or another one. No byte that it concerns was handed out.
	ErrCorrupt = errors.New("sealed object is corrupt")
	// ErrRange says that the bytes asked for are not all inside the plaintext.
	ErrRange = errors.New("range outside the plaintext")
)

// Fetch reads length bytes of a sealed object from offset, in one request, and
// tells the size of the whole object. The context governs the body too.
type Fetch func(ctx context.Context, offset, length int64) (body io.ReadCloser, size int64, err error)

// Plain is the plaintext of a sealed object, read in ranges. It is safe for
// concurrent use.
type Plain struct {
	header []byte
	aead   cipher.AEAD
	size   int64
	fetch  Fetch
}

// Open returns the plaintext of an object with the header that [Sealed.Header]
// returned for it. It fetches nothing yet. [ErrCorrupt] when the header is not
// one that this key made.
func (k Key) Open(header []byte, fetch Fetch) (*Plain, error) {
	if len(header) != HeaderSize {
		return nil, fmt.Errorf("seal: open: %w: header of %d bytes", ErrCorrupt, len(header))
	}
	signed, mac := header[:HeaderSize-macSize], header[HeaderSize-macSize:]
	if !hmac.Equal(mac, k.mac(signed)) {
		return nil, fmt.Errorf("seal: open: %w: header is not of this key", ErrCorrupt)
	}
	aead, err := k.payload(signed[:fileHeader])
	if err != nil {
		return nil, fmt.Errorf("seal: open: %w: %w", ErrCorrupt, err)
	}
	size := int64(binary.BigEndian.Uint64(signed[fileHeader:]))
	return &Plain{bytes.Clone(signed[:fileHeader]), aead, size, fetch}, nil
}

// payload opens an age file's first bytes and derives the cipher of its chunks.
func (k Key) payload(header []byte) (cipher.AEAD, error) {
	fileKey, err := age.DecryptHeader(header[:fileHeader-16], k.identity)
	if err != nil {
		return nil, err
	}
	return payload(fileKey, header)
}

// Size is the size of the plaintext in bytes, authenticated by the key.
func (p *Plain) Size() int64 { return p.size }

// Range reads n bytes of the plaintext from off by one fetch of the chunks that
// hold them. It hands out a byte only after the chunk around it was found
// genuine and in its place; else [ErrCorrupt]. [ErrRange] when not all n bytes
// exist. The errors of the fetch come through. The caller closes the reader.
func (p *Plain) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if off < 0 || n < 0 || off > p.size || n > p.size-off {
		return nil, fmt.Errorf("seal: %w: offset %d, length %d, size %d", ErrRange, off, n, p.size)
	}
	if n == 0 && p.size > 0 {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	first, last := off/chunkSize, max(0, off+n-1)/chunkSize
	start, end := p.chunkStart(first), p.chunkStart(last+1)
	if first == 0 {
		start = 0 // the header comes along and is checked too
	}
	body, size, err := p.fetch(ctx, start, end-start)
	if err != nil {
		return nil, fmt.Errorf("seal: fetch: %w", err)
	}
	if want := SealedSize(p.size); size != want {
		corrupt := fmt.Errorf("seal: %w: object of %d bytes, not %d", ErrCorrupt, size, want)
		return nil, errors.Join(corrupt, body.Close())
	}
	r := &rangeReader{p: p, body: body, next: first, skip: off - first*chunkSize, left: n, pending: true}
	return r, nil
}

// ReaderAt returns the plaintext as an io.ReaderAt whose every read is a Range.
func (p *Plain) ReaderAt(ctx context.Context) io.ReaderAt { return readerAt{ctx, p} }

type readerAt struct {
	ctx context.Context
	p   *Plain
}

func (r readerAt) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off > r.p.size {
		return 0, fmt.Errorf("seal: %w: offset %d, size %d", ErrRange, off, r.p.size)
	}
	part := b[:min(int64(len(b)), r.p.size-off)]
	body, err := r.p.Range(r.ctx, off, int64(len(part)))
	if err != nil {
		return 0, err
	}
	n, err := io.ReadFull(body, part)
	if failed := errors.Join(err, body.Close()); failed != nil {
		return n, failed
	}
	if len(part) < len(b) {
		return n, io.EOF // itself, as io.ReaderAt's callers compare it
	}
	return n, nil
}

// chunkStart is where a chunk begins in the sealed object, or the object's end.
func (p *Plain) chunkStart(chunk int64) int64 {
	return min(fileHeader+chunk*sealedChunk, SealedSize(p.size))
}

// rangeReader opens one chunk after the other.
type rangeReader struct {
	p       *Plain
	body    io.ReadCloser
	next    int64 // the chunk that body is at
	skip    int64 // bytes of that chunk before the range
	left    int64 // bytes of the range not yet handed out
	pending bool  // a chunk must be opened even for an empty plaintext
	buffer  []byte
	ready   []byte
	err     error
}

func (r *rangeReader) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if len(r.ready) == 0 {
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(b, r.ready)
	r.ready = r.ready[n:]
	r.left -= int64(n)
	return n, nil
}

// WriteTo implements io.WriterTo, chunk by chunk and without copying.
func (r *rangeReader) WriteTo(w io.Writer) (int64, error) {
	var written int64
	for {
		if len(r.ready) == 0 {
			if err := r.fill(); errors.Is(err, io.EOF) {
				return written, nil
			} else if err != nil {
				return written, err
			}
		}
		n, err := w.Write(r.ready)
		r.ready = r.ready[n:]
		r.left -= int64(n)
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
}

// fill opens the next chunk. Its error stays.
func (r *rangeReader) fill() error {
	if r.err == nil && r.left == 0 && !r.pending {
		r.err = io.EOF
	}
	if r.err != nil {
		return r.err
	}
	r.ready, r.err = r.chunk()
	if r.err == nil && len(r.ready) == 0 {
		r.err = io.EOF
	}
	return r.err
}

func (r *rangeReader) chunk() ([]byte, error) {
	if r.buffer == nil {
		r.buffer = make([]byte, sealedChunk)
		if r.next == 0 {
			if err := r.checkHeader(); err != nil {
				return nil, err
			}
		}
	}
	sealed := r.buffer[:r.p.chunkStart(r.next+1)-r.p.chunkStart(r.next)]
	if err := r.readFull(sealed); err != nil {
		return nil, err
	}
	plain, err := r.p.aead.Open(sealed[:0], nonce(r.next, r.next == chunks(r.p.size)-1), sealed, nil)
	if err != nil {
		return nil, fmt.Errorf("seal: %w: chunk %d", ErrCorrupt, r.next)
	}
	plain = plain[r.skip:]
	r.next, r.skip, r.pending = r.next+1, 0, false
	return plain[:min(int64(len(plain)), r.left)], nil
}

// checkHeader compares the object's header with the one that was kept.
func (r *rangeReader) checkHeader() error {
	header := r.buffer[:fileHeader]
	if err := r.readFull(header); err != nil {
		return err
	}
	if !bytes.Equal(header, r.p.header) {
		return fmt.Errorf("seal: %w: header is another one", ErrCorrupt)
	}
	return nil
}

// readFull takes a plain end of the body for a truncated object; what the
// transport has to say of itself comes through.
func (r *rangeReader) readFull(b []byte) error {
	_, err := io.ReadFull(r.body, b)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("seal: %w: it ends early", ErrCorrupt)
	}
	if err != nil {
		return fmt.Errorf("seal: read: %w", err)
	}
	return nil
}

func (r *rangeReader) Close() error { return r.body.Close() }

// Check returns a reader of r that ends in [ErrCorrupt] in place of io.EOF when
// what it has read does not hash to sum, so that no caller can forget to look.
func Check(r io.ReadCloser, sum [sha256.Size]byte) io.ReadCloser {
	return &checkReader{r, sha256.New(), sum}
}

type checkReader struct {
	io.ReadCloser
	hash hash.Hash
	sum  [sha256.Size]byte
}

func (c *checkReader) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.hash.Write(p[:n])
	if err == io.EOF && !bytes.Equal(c.hash.Sum(nil), c.sum[:]) {
		return n, fmt.Errorf("seal: %w: wrong SHA-256", ErrCorrupt)
	}
	return n, err
}
