package media

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// sourceURL is what ffmpeg is told to open. The name resolves nowhere: requests
// for it reach the loopback that the child's environment names as its proxy.
const sourceURL = "http://recording.invalid/audio"

// A loopback serves one Source to one call's children, which may seek in it.
//
// It poses as their HTTP proxy, for two reasons: the secret that opens it stands
// in their environment, which other users of the machine cannot read as they can
// a command line; and whatever else a child might be tricked into requesting by
// HTTP comes here, too, and is refused.
type loopback struct {
	source   Source
	password string
	server   *http.Server
	address  string

	reading sync.RWMutex // held for reading while a request is served
	closed  bool

	mu     sync.Mutex
	failed error
}

func serve(source Source) (*loopback, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen on the loopback: %w", err)
	}
	l := &loopback{source: source, password: rand.Text(), address: listener.Addr().String()}
	l.server = &http.Server{
		Handler:           l,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	go func() {
		if err := l.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			l.fail(err)
		}
	}()
	return l, nil
}

const proxyUser = "earmark"

// environment is all that a child gets to see of ours.
func (l *loopback) environment() []string {
	return []string{"http_proxy=http://" + proxyUser + ":" + l.password + "@" + l.address + "/"}
}

// close ends the service and returns once the source is no longer read.
func (l *loopback) close() error {
	err := l.server.Close()
	l.reading.Lock()
	defer l.reading.Unlock()
	l.closed = true
	return err
}

// err returns what went wrong while the source was read, so that a broken store
// is not taken for a broken recording.
func (l *loopback) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

func (l *loopback) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = err
	}
}

// ReadAt reads the source and remembers its first failure.
func (l *loopback) ReadAt(p []byte, at int64) (int, error) {
	n, err := l.source.ReadAt(p, at)
	if errors.Is(err, io.EOF) && at+int64(n) < l.source.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && !errors.Is(err, io.EOF) {
		l.fail(err)
	}
	return n, err
}

func (l *loopback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.reading.RLock()
	defer l.reading.RUnlock()
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(proxyUser+":"+l.password))
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Proxy-Authorization")), []byte(want)) != 1 {
		w.Header().Set("Proxy-Authenticate", `Basic realm="recording"`)
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	if l.closed || r.Method != http.MethodGet || r.URL.Hostname() != "recording.invalid" || r.URL.Path != "/audio" {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(l, 0, l.source.Size))
}
