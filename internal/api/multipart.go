package api

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"

	"earmark/internal/archive"
	"earmark/internal/invalid"
)

const (
	// maxMetadata bounds the JSON that describes an interaction.
	maxMetadata = archive.MaxMetadata
	// maxFraming bounds all else that comes before the audio.
	maxFraming = 64 << 10
)

var errMetadata error = statusProblem(http.StatusRequestEntityTooLarge, "The metadata are over 1 MiB.")

// upload is a multipart/form-data body: the part `metadata`, then the part
// `audio`. The audio is not read yet.
type upload struct {
	metadata []byte
	audio    archive.Audio
}

// readUpload reads up to the audio. Where the body's length is announced, so
// is the audio's, by the framing that is left: the object store wants to know
// it before the first byte.
func readUpload(r *http.Request) (*upload, error) {
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	boundary := params["boundary"]
	if err != nil || boundary == "" {
		return nil, invalid.New("header.Content-Type", "expected multipart/form-data with a boundary")
	}
	body := &lines{r: bufio.NewReaderSize(r.Body, 16<<10), whole: true, limit: maxMetadata + maxFraming}
	parts := multipart.NewReader(body, boundary)
	u := &upload{}
	part, err := nextPart(parts, "metadata")
	if err != nil {
		return nil, err
	}
	u.metadata, err = readMetadata(part)
	if err != nil {
		return nil, err
	}
	part, err = nextPart(parts, "audio")
	if err != nil {
		return nil, err
	}
	body.whole = false
	size := audioBytes(r.ContentLength, body.read, boundary)
	u.audio = archive.Audio{
		FileName:  lastName(part.FileName()),
		MediaType: part.Header.Get("Content-Type"),
		Body:      &audioPart{Part: part, parts: parts, body: body, size: size},
		Bytes:     size,
	}
	u.audio.Digests, err = contentDigests(http.Header(part.Header))
	return u, err
}

// readMetadata reads the JSON that describes an interaction, within its bound.
func readMetadata(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxMetadata+1))
	if err != nil {
		return nil, broken(err, archive.ErrTruncated)
	}
	if len(data) > maxMetadata {
		return nil, errMetadata
	}
	return data, nil
}

// broken says what a body that cannot be read on is: otherwise, unless the
// body itself said why, or ended where its length says that it goes on.
func broken(err, otherwise error) error {
	switch {
	case errors.Is(err, errStalled), errors.Is(err, errMetadata):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: %w", archive.ErrTruncated, err)
	}
	return fmt.Errorf("%w: %w", otherwise, err)
}

func nextPart(parts *multipart.Reader, name string) (*multipart.Part, error) {
	part, err := parts.NextRawPart()
	if errors.Is(err, io.EOF) {
		return nil, invalid.New("body."+name, "the part is missing: send `metadata` (JSON), then `audio` (the file)")
	}
	if err != nil {
		return nil, broken(err, archive.ErrFraming)
	}
	if part.FormName() != name {
		return nil, invalid.New("body."+name, "expected this part here: send `metadata` (JSON) first, then `audio` (the file)")
	}
	return part, nil
}

// audioBytes is how long the audio is when it is the last part and the body
// ends as multipart bodies do; -1 when that cannot be known.
func audioBytes(contentLength, read int64, boundary string) int64 {
	// Some releases of this client's library end the body without the last
	// line break, others with it: only the audio's end tells.
	const undecided = "----formdata-undici-"
	if contentLength < 0 || strings.HasPrefix(boundary, undecided) {
		return -1
	}
	return max(-1, contentLength-read-int64(len("\r\n--"+boundary+"--\r\n")))
}

// audioPart is the audio. It ends only where the whole body ends.
type audioPart struct {
	*multipart.Part
	parts *multipart.Reader
	body  io.Reader
	size  int64 // -1: not known
	count int64
	ended bool
}

func (p *audioPart) Read(buf []byte) (int, error) {
	n, err := p.Part.Read(buf)
	p.count += int64(n)
	if !errors.Is(err, io.EOF) || p.ended {
		return n, err
	}
	p.ended = true
	if err := p.nothingMore(); err != nil {
		return n, err
	}
	return n, io.EOF
}

// nothingMore reads the end of the body: the last boundary, and an epilogue,
// which says nothing.
func (p *audioPart) nothingMore() error {
	_, err := p.parts.NextRawPart()
	if err == nil {
		return fmt.Errorf("%w: another part follows the audio", archive.ErrFraming)
	}
	if !errors.Is(err, io.EOF) {
		return broken(err, archive.ErrFraming)
	}
	if p.count < p.size {
		return fmt.Errorf("%w: more follows the audio", archive.ErrFraming)
	}
	if _, err = io.CopyN(io.Discard, p.body, maxFraming); err == nil {
		return fmt.Errorf("%w: more follows the audio", archive.ErrFraming)
	}
	if !errors.Is(err, io.EOF) {
		return broken(err, archive.ErrTruncated)
	}
	return nil
}

// lines gives multipart's reader no more than a line at a time while whole is
// set, so that it cannot read ahead and the count of what it took is exact.
type lines struct {
	r     *bufio.Reader
	whole bool
	limit int64 // of what is read while whole is set
	read  int64
}

func (l *lines) Read(buf []byte) (n int, err error) {
	if !l.whole {
		n, err = l.r.Read(buf)
		l.read += int64(n)
		return n, err
	}
	if l.read > l.limit {
		return 0, errMetadata
	}
	for n < len(buf) {
		b, err := l.r.ReadByte()
		if err != nil {
			l.read += int64(n)
			return n, err
		}
		buf[n] = b
		n++
		if b == '\n' {
			break
		}
	}
	l.read += int64(n)
	return n, nil
}
