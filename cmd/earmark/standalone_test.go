package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"earmark/internal/db"
	"earmark/internal/db/dbtest"
	"earmark/internal/standalone"
)

// alone is an installation that brings its own servers. Its keys come with the
// first start.
func alone(t *testing.T) *installation {
	t.Helper()
	dir, err := os.MkdirTemp("", "earmark-alone-") //nolint:usetesting // PostgreSQL, as another user, must reach it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return &installation{keys: map[string]string{}, env: map[string]string{
		"EARMARK_DATA": filepath.Join(dir, "data"), "EARMARK_ADDR": "127.0.0.1:0", "EARMARK_LEASE": lease.String(),
	}}
}

// up starts the service and connects to the database that it brought along.
func (in *installation) up(t *testing.T) *process {
	t.Helper()
	p := in.start(t, nil, "up")
	found, err := standalone.Find(in.env["EARMARK_DATA"])
	if err != nil {
		t.Fatal(err)
	}
	in.database = dbtest.Open(t, found.DatabaseURL, db.Options{MaxConns: 2})
	if len(in.keys) == 0 {
		in.makeKeys(t, in.database)
	}
	return p
}

// Invariant 1, acknowledged is kept: `earmark up` killed with all that it
// brings comes back with every recording.
func TestStandaloneSurvivesKill(t *testing.T) {
	t.Parallel()
	in := alone(t)
	p := in.up(t)
	if !strings.Contains(p.stdout.String(), "one-time password") {
		t.Errorf("the first start does not tell the administrator's password: %s", &p.stdout)
	}
	calls := newCalls(5)
	takeIn(t, in.client(p, "uploader"), calls...)
	halfSent := newCall()
	finish := halfSent.uploadHalf(t, in.client(p, "uploader"))
	p.signal(t, syscall.SIGKILL)
	p.waitKilled(t)
	a, err := finish()
	died(t, a, err)

	p = in.up(t)
	if strings.Contains(p.stdout.String(), "one-time password") {
		t.Error("a later start makes another administrator")
	}
	mustPlay(t, in.client(p, "reviewer"), calls...)
	takeIn(t, in.client(p, "uploader"), halfSent)
	mustPlay(t, in.client(p, "reviewer"), halfSent)
	in.awaitAnalysed(t)
	in.command(t, "verify", "--all").expect(t, 0)

	refused := in.command(t, "up").expect(t, exitFailed)
	if !strings.Contains(refused.stderr, in.env["EARMARK_DATA"]) || !strings.Contains(refused.stderr, "in use") {
		t.Errorf("the refusal of a second start is not clear: %s", refused.stderr)
	}
	mustPlay(t, in.client(p, "reviewer"), calls...)
	in.mustFindService(t, p)
	p.stop(t)
	in.command(t, "key", "list").expect(t, exitFailed)
}

func (in *installation) mustFindService(t *testing.T, p *process) {
	t.Helper()
	made := in.command(t, "key", "create", "--role", "reviewer", "--name", "desk-1").expect(t, 0)
	secret, ok := strings.CutSuffix(made.stdout, "\n")
	if !ok || !strings.HasPrefix(secret, "ek_") || strings.ContainsAny(secret, " \n") || made.stderr != "" {
		t.Fatalf("expected the key alone, got %q and %q", made.stdout, made.stderr)
	}
	client{p.base, secret}.get(t, "/v1/interactions").expect(t, http.StatusOK)
	addr := strings.TrimPrefix(p.base, "http://")
	in.env["EARMARK_ADDR"] = addr
	in.command(t, "healthcheck").expect(t, 0)
	in.env["EARMARK_ADDR"] = "127.0.0.1:1"
	in.command(t, "healthcheck").expect(t, exitFailed)
	in.env["EARMARK_ADDR"] = "127.0.0.1:0"
}

// Invariants 1 and 2: a stop in the middle of an upload and a purge is clean
// and loses nothing.
func TestStandaloneStopsCleanly(t *testing.T) {
	t.Parallel()
	in := alone(t)
	p := in.up(t)
	kept, doomed, sent := newCalls(2), newCalls(10), newCall()
	takeIn(t, in.client(p, "uploader"), append(kept, doomed...)...)
	asked := in.preview(t, p, doomed...)
	finish := sent.uploadHalf(t, in.client(p, "uploader"))
	if _, err := in.approve(t, p, asked); err != nil {
		t.Fatal(err)
	}
	p.signal(t, syscall.SIGTERM)
	eventually(t, "the service takes no new connections", func() bool {
		_, err := p.stranger().send(t.Context(), http.MethodGet, "/healthz", "", nil)
		return err != nil
	})
	a, err := finish()
	if err != nil {
		t.Fatalf("an upload that was under way is cut off: %v", err)
	}
	a.expect(t, http.StatusCreated)
	if err := p.wait(t); err != nil {
		t.Fatalf("after SIGTERM: %v\n%s", err, &p.stderr)
	}
	if strings.Contains(p.stderr.String(), `"level":"ERROR"`) {
		t.Errorf("a clean stop logs errors:\n%s", &p.stderr)
	}

	p = in.up(t)
	mustPlay(t, in.client(p, "reviewer"), append(kept, sent)...)
	in.awaitPurge(t, p, asked)
	mustBeErased(t, in.client(p, "reviewer"), doomed...)
	in.awaitAnalysed(t)
	in.command(t, "verify", "--all").expect(t, 0)
	p.stop(t)
}
