package archive_test

import (
	"bytes"
	"errors"
	"net"
	"net/url"
	"sync/atomic"
	"testing"

	"earmark/internal/access"
	"earmark/internal/db"
	"earmark/internal/db/dbtest"
)

// When the answer to a commit is lost, the recording may have its record: its
// object stays, nobody is told 201, and the same again is found to be there.
func TestLostAnswerToACommit(t *testing.T) { // invariants 1 and 2
	t.Parallel()
	var armed atomic.Bool
	address := behindProxy(t, dbtest.URL(t), &armed)
	h := open(t, setting{url: address})
	actor, n, content := pbx(), call(), wav(100)
	armed.Store(true)
	if _, _, err := h.SubmitWithAudio(t.Context(), actor, n, audio(content)); !errors.Is(err, db.ErrCommitUnknown) {
		t.Fatalf("error %v", err)
	}
	i, created, err := h.SubmitWithAudio(t.Context(), actor, n, audio(content))
	if err != nil || created {
		t.Fatalf("the same again: created %v, %v", created, err)
	}
	if got := h.hear(key(access.Reviewer), i.ID, "audio", access.Training); !bytes.Equal(got, content) {
		t.Error("other bytes")
	}
	if keys := h.objects(); len(keys) != 1 {
		t.Errorf("objects: %v", keys)
	}
	h.sound()
}

// behindProxy is the address of a database behind a proxy that, once armed,
// cuts the connection on which the next commit was done, before its answer.
func behindProxy(t *testing.T, address string, armed *atomic.Bool) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	server := u.Host
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
	})
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go forward(client, server, armed)
		}
	}()
	u.Host = listener.Addr().String()
	return u.String()
}

func forward(client net.Conn, server string, armed *atomic.Bool) {
	defer client.Close()
	upstream, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	defer upstream.Close()
	var cut atomic.Bool
	go func() {
		defer client.Close()
		buffer := make([]byte, 64<<10)
		for {
			n, err := upstream.Read(buffer)
			if err != nil || cut.Load() {
				return
			}
			if _, err := client.Write(buffer[:n]); err != nil {
				return
			}
		}
	}()
	buffer := make([]byte, 64<<10)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		if bytes.Contains(buffer[:n], []byte("commit\x00")) && armed.CompareAndSwap(true, false) {
			cut.Store(true)
		}
		if _, err := upstream.Write(buffer[:n]); err != nil {
			return
		}
	}
}
