package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// body hands out exactly size bytes of a reader, or an error in place of the
// last of them: a store that counts never takes an object of the wrong length
// for a complete one.
//
// An HTTP transport may go on reading a request's body after the request has
// returned. stop ends that: no read of the inner reader is under way after it.
type body struct {
	ctx context.Context

	mu      sync.Mutex
	r       io.Reader
	left    int64
	stopped bool
	err     error
}

var errStopped = errors.New("put has returned")

// newBody refuses a reader that is known to be too long before a byte is sent.
func newBody(ctx context.Context, r io.Reader, size int64) (*body, error) {
	if size < 0 {
		return nil, fmt.Errorf("%w: size %d", ErrSize, size)
	}
	b := &body{ctx: ctx, r: r, left: size}
	if size == 0 {
		return b, b.atEnd()
	}
	return b, nil
}

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.stopped:
		return 0, errStopped
	case b.err != nil:
		return 0, b.err
	case b.left == 0:
		return 0, io.EOF
	}
	n, err := b.read(p)
	if err != nil {
		b.err = err
		return 0, err
	}
	return n, nil
}

func (b *body) read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	if err != nil && err != io.EOF {
		return 0, err
	}
	if err == io.EOF && b.left > 0 {
		return 0, fmt.Errorf("%w: %d bytes are missing", ErrSize, b.left)
	}
	if b.left == 0 && err == nil && n > 0 {
		return n, b.atEnd()
	}
	return n, nil
}

// atEnd returns nil when the reader has nothing left.
func (b *body) atEnd() error {
	var extra [1]byte
	for range 100 {
		n, err := b.r.Read(extra[:])
		switch {
		case n > 0:
			return fmt.Errorf("%w: there are more bytes", ErrSize)
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

// stop waits for a read that is under way and lets no other begin. It tells
// whether every byte was handed out, and the error that kept it from that.
func (b *body) stop() (sent bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
	return b.left == 0 && b.err == nil, b.err
}
