package main

import (
	"net"
	"net/url"
	"sync"
	"testing"
)

// link passes bytes on to a server until it is cut, and holds them back while
// it is stalled.
type link struct {
	to     string
	addr   string
	mu     sync.Mutex
	open   map[net.Conn]bool
	closed bool
	listen net.Listener
	gate   sync.RWMutex
}

// linkTo puts a link before the server of a URL and returns the URL of the link.
func linkTo(t *testing.T, server string) (*link, string) {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	l := &link{to: u.Host, addr: "127.0.0.1:0", open: map[net.Conn]bool{}}
	l.mend(t)
	t.Cleanup(func() { l.cut(t) })
	u.Host = l.addr
	return l, u.String()
}

func (l *link) mend(t *testing.T) {
	t.Helper()
	listen, err := net.Listen("tcp", l.addr)
	if err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listen, l.closed, l.addr = listen, false, listen.Addr().String()
	go func() {
		for {
			from, err := listen.Accept()
			if err != nil {
				return
			}
			go l.pass(from)
		}
	}()
}

// cut breaks every connection and takes no new ones.
func (l *link) cut(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	if err := l.listen.Close(); err != nil {
		t.Error(err)
	}
	for conn := range l.open {
		hangUp(conn)
	}
}

// stall holds everything back until resume is called.
func (l *link) stall() (resume func()) {
	l.gate.Lock()
	return sync.OnceFunc(l.gate.Unlock)
}

func (l *link) keep(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		hangUp(conn)
		return false
	}
	l.open[conn] = true
	return true
}

func (l *link) pass(from net.Conn) {
	to, err := net.Dial("tcp", l.to)
	if err != nil {
		hangUp(from)
		return
	}
	if !l.keep(from) || !l.keep(to) {
		hangUp(from, to)
		return
	}
	var both sync.WaitGroup
	both.Go(func() { l.copy(to, from) })
	both.Go(func() { l.copy(from, to) })
	both.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, from)
	delete(l.open, to)
}

func (l *link) copy(to, from net.Conn) {
	defer hangUp(to, from)
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		l.gate.RLock()
		_, failed := to.Write(buf[:n])
		l.gate.RUnlock()
		if err != nil || failed != nil {
			return
		}
	}
}

func hangUp(conns ...net.Conn) {
	for _, conn := range conns {
		conn.Close() //nolint:errcheck // the other side may have been faster
	}
}
