package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/gin-gonic/gin"
)

// defaultStall is how long a body may stand still before it is given up.
const defaultStall = time.Minute

// What is read of a body whose request was refused already.
const (
	hearOutBytes = 64 << 20
	hearOutTime  = 30 * time.Second
)

// errStalled: nothing more of a body came for too long.
var errStalled = errors.New("the body stands still")

// attend gives up a body that stands still, and lets one that comes slowly
// take its time. When a request is refused, the rest of its body is taken
// within bounds: most clients send all of it before they look for an answer,
// and would see a broken connection in place of the problem.
func attend(stall time.Duration) gin.HandlerFunc {
	return func(c *gin.Context) {
		if c.Request.Body == nil || c.Request.Body == http.NoBody {
			c.Next()
			return
		}
		p := &patient{ReadCloser: c.Request.Body, control: http.NewResponseController(c.Writer), stall: stall}
		c.Request.Body = p
		// Lets the refusal out before the body is heard out: a client that does
		// look stops sending.
		if err := p.control.EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			refuse(c, err)
			return
		}
		c.Next()
		unasked := p.count == 0 && c.GetHeader("Expect") != ""
		if c.Writer.Status() >= http.StatusBadRequest && p.ended == nil && !unasked {
			c.Writer.Flush()
			p.hearOut()
		}
	}
}

// patient is a request's body. Each read has the stall time anew.
type patient struct {
	io.ReadCloser
	control *http.ResponseController
	stall   time.Duration
	until   time.Time
	count   int64
	ended   error // io.EOF, or what broke it
}

func (p *patient) Read(buf []byte) (int, error) {
	// Moving the deadline costs a timer: not at every read.
	if now := time.Now(); p.until.Sub(now) < p.stall*3/4 {
		if err := p.giveUntil(now.Add(p.stall)); err != nil {
			return 0, err
		}
	}
	n, err := p.ReadCloser.Read(buf)
	p.count += int64(n)
	if err == nil {
		return n, nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("%w: %w", errStalled, err)
	}
	p.ended = err
	// What follows the body may take its time: a deadline that passes would
	// look like a client that hung up, and end the request.
	if unset := p.giveUntil(time.Time{}); unset != nil && errors.Is(err, io.EOF) {
		return n, unset
	}
	return n, err
}

func (p *patient) giveUntil(t time.Time) error {
	p.until = t
	if err := p.control.SetReadDeadline(t); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

func (p *patient) hearOut() {
	if p.giveUntil(time.Now().Add(hearOutTime)) != nil {
		return
	}
	// Whatever ends it early, the answer is out and the server closes.
	//nolint:errcheck // see above
	io.CopyN(io.Discard, p.ReadCloser, hearOutBytes)
}
