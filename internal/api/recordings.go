package api

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/db"
)

func (a *API) recordings() {
	answer := a.answer("The recording, with its receipt", archive.Recording{})
	hears := needs{access.Hear, access.HearOwn}
	a.stream(needs{access.SubmitInteractions}, huma.Operation{
		OperationID: "put-recording", Method: http.MethodPut, Path: "/v1/interactions/{id}/recordings/{name}", Tags: []string{"recordings"},
		Summary:     "Take in a recording as a raw body",
		Description: "A second call with the same bytes answers 200. With Content-Digest (RFC 9530), bytes that do not match are refused. Raw gsm, ulaw, alaw, sln and g729 need a file name.",
		Parameters: []*huma.Param{pathID, pathName,
			{Name: "file_name", In: "query", Schema: anyText, Description: "The file's name; Content-Disposition's filename is taken too"},
			{Name: "Content-Digest", In: "header", Schema: anyText, Description: "sha-256=:<base64>: or sha-512=:<base64>:"}},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"audio/*": {Schema: anyBytes}}},
		Responses:   map[string]*huma.Response{"201": answer, "200": answer, "default": a.problemAnswer()},
	}, a.putRecording)

	listen := huma.Operation{
		OperationID: "play-recording", Method: http.MethodGet, Path: "/v1/interactions/{id}/recordings/{name}/audio", Tags: []string{"recordings"},
		Summary:     "Hear a recording, for a purpose",
		Description: "Gives the bytes that were sent, with Range and ETag. Each listener, recording and purpose leaves an entry in the ledger every 15 minutes.",
		Parameters: []*huma.Param{pathID, pathName,
			{Name: "purpose", In: "query", Required: true, Schema: anyText, Description: "Why: one of GET /v1/purposes that your role may use and the basis covers"},
			{Name: "listening", In: "query", Schema: &huma.Schema{Type: huma.TypeBoolean}, Description: "true: the copy that every browser plays, where the original is not one"}},
		Responses: map[string]*huma.Response{
			"200":     {Description: "All of it", Content: map[string]*huma.MediaType{"audio/*": {Schema: anyBytes}}},
			"206":     {Description: "The range that was asked for", Content: map[string]*huma.MediaType{"audio/*": {Schema: anyBytes}}},
			"default": a.problemAnswer()},
	}
	a.stream(hears, listen, a.play)
	head := listen
	head.Method, head.OperationID = http.MethodHead, "head-recording"
	a.stream(hears, head, a.play)

	a.stream(hears, huma.Operation{
		OperationID: "get-peaks", Method: http.MethodGet, Path: "/v1/interactions/{id}/recordings/{name}/peaks", Tags: []string{"recordings"},
		Summary:     "The waveform's peaks",
		Description: "In audiowaveform's .dat layout, version 2: 8 bit, 20 pairs a second. 404 until the recording has been analysed.",
		Parameters:  []*huma.Param{pathID, pathName},
		Responses: map[string]*huma.Response{
			"200":     {Description: "The peaks", Content: map[string]*huma.MediaType{"application/octet-stream": {Schema: anyBytes}}},
			"default": a.problemAnswer()},
	}, a.peaks)
}

var (
	anyText  = &huma.Schema{Type: huma.TypeString}
	anyBytes = &huma.Schema{Type: huma.TypeString, Format: "binary"}
	pathID   = &huma.Param{Name: "id", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString, Format: "uuid"}, Description: "The interaction's id"}
	pathName = &huma.Param{Name: "name", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString, Pattern: "^[a-z0-9._-]{1,64}$"}, Description: "The recording's name, such as audio"}
)

func (a *API) putRecording(c *gin.Context, actor access.Actor) error {
	id, err := idInPath(c)
	if err != nil {
		return err
	}
	digests, err := contentDigests(c.Request.Header)
	if err != nil {
		return err
	}
	recording, isNew, err := a.Archive.PutRecording(c.Request.Context(), actor, id, archive.Audio{
		Name:      c.Param("name"),
		FileName:  fileName(c),
		MediaType: c.GetHeader("Content-Type"),
		Body:      c.Request.Body,
		Bytes:     c.Request.ContentLength,
		Digests:   digests,
	})
	if err != nil {
		return err
	}
	c.JSON(statusOf(isNew), recording)
	return nil
}

// idInPath reads the path. What is not an id is the id of nothing.
func idInPath(c *gin.Context) (uuid.UUID, error) {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return uuid.Nil, db.ErrNotFound
	}
	return id, nil
}

func fileName(c *gin.Context) string {
	if name := c.Query("file_name"); name != "" {
		return lastName(name)
	}
	_, params, err := mime.ParseMediaType(c.GetHeader("Content-Disposition"))
	if err != nil {
		return ""
	}
	return lastName(params["filename"])
}

// lastName is a file's name without its folders. A name in another encoding
// than UTF-8 is no reason to lose a call: what cannot be read is marked.
func lastName(name string) string {
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	return strings.ToValidUTF8(name, "\ufffd")
}

func (a *API) play(c *gin.Context, actor access.Actor) error {
	id, err := idInPath(c)
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	listeningCopy := c.Query("listening") == "true"
	l, err := a.Archive.Listen(ctx, actor, id, c.Param("name"), access.Purpose(c.Query("purpose")), listeningCopy)
	if err != nil {
		return err
	}
	h := c.Writer.Header()
	h.Set("Content-Type", l.MediaType)
	h.Set("ETag", l.ETag)
	h.Set("Cache-Control", "private, no-store")
	if strings.Count(c.GetHeader("Range"), ",") >= maxRanges {
		c.Request.Header.Del("Range")
	}
	sound := &seeker{ctx: ctx, l: l, header: h}
	http.ServeContent(c.Writer, c.Request, "", l.Recording.ReceivedAt, sound)
	return sound.finish()
}

// maxRanges bounds the ranges of one request, each of which is a read of the
// object store. Who asks for more is given the whole, as RFC 9110 allows.
const maxRanges = 16

// seeker lets http.ServeContent, which knows Range, If-Range and the
// conditional headers, read a recording with one read of the object store a
// range: by the time it reads, it has said how many bytes it will send. For
// several ranges it reads in a goroutine that may outlive it: hence the lock.
type seeker struct {
	ctx    context.Context
	l      *archive.Listening
	header http.Header

	mu   sync.Mutex
	at   int64
	open io.ReadCloser
	// failed is what kept a byte from being read: ServeContent tells nobody.
	failed error
}

var errFinished = errors.New("the answer is finished")

func (s *seeker) Seek(offset int64, whence int) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		offset += s.at
	case io.SeekEnd:
		offset += s.l.Size
	}
	if offset < 0 {
		return 0, errors.New("seek before the start")
	}
	if offset != s.at {
		if err := s.close(); err != nil {
			return 0, err
		}
	}
	s.at = offset
	return offset, nil
}

func (s *seeker) Read(buf []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return 0, s.failed
	}
	if s.at >= s.l.Size {
		return 0, io.EOF
	}
	if s.open == nil {
		s.open, s.failed = s.l.Range(s.ctx, s.at, s.wanted())
		if s.failed != nil {
			return 0, s.failed
		}
	}
	n, err := s.open.Read(buf)
	s.at += int64(n)
	if err != nil && err != io.EOF {
		s.failed = err
	}
	return n, err
}

// wanted is how much is to come from here: the length announced, where it
// fits; an answer of several ranges announces more than each of them.
func (s *seeker) wanted() int64 {
	left := s.l.Size - s.at
	announced, err := strconv.ParseInt(s.header.Get("Content-Length"), 10, 64)
	if err != nil || announced > left {
		return left
	}
	return announced
}

// finish ends all reading and says what kept a byte from being read.
func (s *seeker) finish() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	failed := s.failed
	s.failed = errFinished
	return errors.Join(failed, s.close())
}

func (s *seeker) close() error {
	if s.open == nil {
		return nil
	}
	open := s.open
	s.open = nil
	return open.Close()
}

func (a *API) peaks(c *gin.Context, actor access.Actor) error {
	id, err := idInPath(c)
	if err != nil {
		return err
	}
	data, err := a.Archive.Peaks(c.Request.Context(), actor, id, c.Param("name"))
	if err != nil {
		return err
	}
	c.Data(http.StatusOK, "application/octet-stream", data)
	return nil
}
