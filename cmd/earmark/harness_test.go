package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/blob"
	"earmark/internal/consent"
	"earmark/internal/db"
	"earmark/internal/db/dbtest"
	"earmark/internal/seal"
)

// asProgram makes the test binary the program itself, so that tests can kill
// it, and so that the race detector watches it.
const asProgram = "EARMARK_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// patience is how long anything may take that is waited for.
const patience = 90 * time.Second

// lease is how long the work of a killed worker rests in these tests.
const lease = 3 * time.Second

// installation is what a service has: a database, a bucket and a Redis of its
// own, and the directory of its machine.
type installation struct {
	env      map[string]string
	database *db.DB
	redis    *redisServer
	// keys are API keys by the name of their holder.
	keys map[string]string
}

const source = "test-pbx"

// install makes an installation whose servers are real.
func install(t *testing.T) *installation {
	t.Helper()
	in := &installation{redis: newRedis(t), keys: map[string]string{}}
	in.env = map[string]string{
		"EARMARK_DATA":                 t.TempDir(),
		"EARMARK_DATABASE_URL":         dbtest.URL(t),
		"EARMARK_DATABASE_CONNECTIONS": "10",
		"EARMARK_REDIS_URL":            in.redis.url,
		"EARMARK_KEK":                  seal.NewKEK(),
		"EARMARK_LEASE":                lease.String(),
		"EARMARK_ADDR":                 "127.0.0.1:0",
	}
	in.database = dbtest.Open(t, in.env["EARMARK_DATABASE_URL"], db.Options{MaxConns: 4})
	in.makeKeys(t, in.database)
	return in
}

// onS3 gives the installation a bucket of its own instead of a directory.
func (in *installation) onS3(t *testing.T) *installation {
	t.Helper()
	in.env["EARMARK_S3_ENDPOINT"] = testServer(t, "EARMARK_TEST_S3_ENDPOINT")
	in.env["EARMARK_S3_ACCESS_KEY"] = testServer(t, "EARMARK_TEST_S3_ACCESS_KEY")
	in.env["EARMARK_S3_SECRET_KEY"] = testServer(t, "EARMARK_TEST_S3_SECRET_KEY")
	in.env["EARMARK_S3_BUCKET"] = "e2e-" + uuid.NewString()
	store := in.store(t)
	t.Cleanup(func() {
		var refs []blob.Ref
		for info, err := range store.List(context.Background(), "", "") {
			if err != nil {
				t.Error(err)
				return
			}
			refs = append(refs, info.Ref)
		}
		if _, err := store.Delete(context.Background(), refs...); err != nil {
			t.Error(err)
		}
	})
	return in
}

func testServer(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set: run `make test`, which starts the servers that tests need", name)
	}
	return value
}

func (in *installation) makeKeys(t *testing.T, d *db.DB) {
	t.Helper()
	a := access.New(d)
	for _, n := range []access.NewKey{
		{Name: "uploader", Role: access.Uploader, Source: source, Basis: &access.Basis{Basis: "consent", Method: "announcement"}},
		{Name: "reviewer", Role: access.Reviewer},
		{Name: "supervisor", Role: access.Supervisor},
		{Name: "records", Role: access.RecordsOfficer},
		{Name: "second", Role: access.RecordsOfficer},
		{Name: "auditor", Role: access.Auditor},
	} {
		_, secret, err := a.CreateKey(t.Context(), access.System("test"), n)
		if err != nil {
			t.Fatal(err)
		}
		in.keys[n.Name] = secret
	}
}

// store goes to the objects round the service.
func (in *installation) store(t *testing.T) blob.Store {
	t.Helper()
	store, closeStore, err := in.settings().store(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := closeStore(); err != nil {
			t.Error(err)
		}
	})
	return store
}

func (in *installation) settings() settings {
	return settings{
		Data: in.env["EARMARK_DATA"], DatabaseURL: in.env["EARMARK_DATABASE_URL"], KEK: in.env["EARMARK_KEK"],
		S3Endpoint: in.env["EARMARK_S3_ENDPOINT"], S3Bucket: in.env["EARMARK_S3_BUCKET"],
		S3AccessKey: in.env["EARMARK_S3_ACCESS_KEY"], S3SecretKey: in.env["EARMARK_S3_SECRET_KEY"],
	}
}

// environ is the environment of the installation's processes: nothing else
// that leads to an installation is passed on.
func (in *installation) environ(extra ...string) []string {
	env := []string{asProgram + "=1"}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "EARMARK_") {
			env = append(env, v)
		}
	}
	for name, value := range in.env {
		env = append(env, name+"="+value)
	}
	return append(env, extra...)
}

// redisServer is a real Redis of the test's own, which may go and come back.
type redisServer struct {
	socket string
	url    string
	cmd    *exec.Cmd
}

func newRedis(t *testing.T) *redisServer {
	t.Helper()
	dir, err := os.MkdirTemp("", "earmark-redis-") //nolint:usetesting // a socket's path is at most 107 bytes long
	if err != nil {
		t.Fatal(err)
	}
	r := &redisServer{socket: filepath.Join(dir, "s")}
	r.url = "redis-socket://" + r.socket
	t.Cleanup(func() {
		r.stop(t)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	r.start(t)
	return r
}

func (r *redisServer) start(t *testing.T) {
	t.Helper()
	r.cmd = exec.Command("redis-server", "--port", "0", "--unixsocket", r.socket, "--save", "", "--appendonly", "no")
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "Redis answers", func() bool { return r.do(t, "PING") == nil })
}

func (r *redisServer) stop(t *testing.T) {
	t.Helper()
	if r.cmd == nil {
		return
	}
	if err := r.cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	if err := r.cmd.Wait(); err == nil {
		t.Error("Redis ended by itself")
	}
	r.cmd = nil
}

func (r *redisServer) do(t *testing.T, args ...any) error {
	t.Helper()
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: r.socket, MaxRetries: -1})
	return errors.Join(client.Do(context.Background(), args...).Err(), client.Close())
}

// flush makes Redis forget everything.
func (r *redisServer) flush(t *testing.T) {
	t.Helper()
	if err := r.do(t, "FLUSHALL"); err != nil {
		t.Fatal(err)
	}
}

// process is the program at work.
type process struct {
	cmd    *exec.Cmd
	base   string // http://address
	greets chan string
	stdout transcript
	stderr transcript
	ended  chan struct{}
	err    error
}

// transcript is what a process has said so far.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// launch starts the program and does not wait for it.
func (in *installation) launch(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(program, args...), greets: make(chan string, 1), ended: make(chan struct{})}
	p.cmd.Env, p.cmd.Dir = in.environ(env...), "/"
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			fmt.Fprintln(&p.stdout, lines.Text())
			if base, ok := strings.CutPrefix(lines.Text(), "Earmark is up: "); ok {
				p.greets <- base
			}
		}
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		select {
		case <-p.ended:
		default:
			if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Error(err)
			}
			<-p.ended
		}
		if strings.Contains(p.stderr.String(), "DATA RACE") || strings.Contains(p.stderr.String(), "panic:") || t.Failed() {
			t.Errorf("earmark %s said:\n%s", strings.Join(args, " "), &p.stderr)
		}
	})
	return p
}

// start starts a process that serves and returns when it does.
func (in *installation) start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := in.launch(t, env, args...)
	p.awaitGreeting(t)
	return p
}

func (p *process) awaitGreeting(t *testing.T) {
	t.Helper()
	select {
	case p.base = <-p.greets:
	case <-p.ended:
		t.Fatalf("earmark did not start (%v):\n%s", p.err, &p.stderr)
	case <-time.After(patience):
		t.Fatalf("earmark is not up:\n%s", &p.stderr)
	}
}

// stop asks the process to end and expects it to do so well.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	if err := p.wait(t); err != nil {
		t.Fatalf("after SIGTERM: %v\n%s", err, &p.stderr)
	}
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// wait returns how the process ended, nil for exit code 0.
func (p *process) wait(t *testing.T) error {
	t.Helper()
	select {
	case <-p.ended:
		return p.err
	case <-time.After(patience):
		t.Fatalf("earmark does not end:\n%s", &p.stderr)
		return nil
	}
}

// waitKilled expects the process to die, and of SIGKILL.
func (p *process) waitKilled(t *testing.T) {
	t.Helper()
	var exit *exec.ExitError
	err := p.wait(t)
	if !errors.As(err, &exit) || !exit.Sys().(syscall.WaitStatus).Signaled() {
		t.Fatalf("expected death by signal, got %v\n%s", err, &p.stderr)
	}
}

// result is how a command ended.
type result struct {
	stdout, stderr string
	code           int
}

// command runs the program to its end.
func (in *installation) command(t *testing.T, args ...string) result {
	t.Helper()
	p := in.launch(t, nil, args...)
	err := p.wait(t)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{p.stdout.String(), p.stderr.String(), p.cmd.ProcessState.ExitCode()}
}

func (r result) expect(t *testing.T, code int) result {
	t.Helper()
	if r.code != code {
		t.Fatalf("exit code %d, want %d\n%s%s", r.code, code, r.stdout, r.stderr)
	}
	return r
}

// client speaks to a process as the holder of a key.
type client struct {
	base string
	key  string
}

func (in *installation) client(p *process, holder string) client {
	return client{p.base, in.keys[holder]}
}

// stranger speaks to a process without a key.
func (p *process) stranger() client { return client{base: p.base} }

// answer is what came back; its status is 0 where nothing did.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// problem is the code of a problem document, empty where it is none.
func (a answer) problem() string {
	var p struct {
		Code string `json:"code"`
	}
	if a.header.Get("Content-Type") != "application/problem+json" || json.Unmarshal(a.body, &p) != nil {
		return ""
	}
	return p.Code
}

func (a answer) expect(t *testing.T, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	return a
}

// expectProblem expects that problem, as a document.
func (a answer) expectProblem(t *testing.T, status int, code string) {
	t.Helper()
	if a.expect(t, status); a.problem() != code {
		t.Fatalf("problem %q, want %q: %s", a.problem(), code, a.body)
	}
}

func (a answer) read(t *testing.T, out any) {
	t.Helper()
	if err := json.Unmarshal(a.body, out); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
}

// send returns the empty answer with the error when the service is not there,
// or dies over it.
func (c client) send(ctx context.Context, method, path, contentType string, body io.Reader) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return answer{}, err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	if c.key != "" {
		request.Header.Set("Authorization", "Bearer "+c.key)
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return answer{}, err
	}
	data, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return answer{}, err
	}
	return answer{response.StatusCode, response.Header, data}, nil
}

func (c client) get(t *testing.T, path string) answer {
	t.Helper()
	a, err := c.send(t.Context(), http.MethodGet, path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (c client) post(t *testing.T, path string, v any) answer {
	t.Helper()
	a, err := c.tryPost(t, path, v)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// tryPost lets the service die over it.
func (c client) tryPost(t *testing.T, path string, v any) (answer, error) {
	t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return c.send(t.Context(), http.MethodPost, path, "application/json", bytes.NewReader(body))
}

// call is a recorded call as a PBX has it.
type call struct {
	sourceID string
	audio    []byte
	id       string
}

// newCall is a quarter of a second of noise, unlike any other.
func newCall() *call {
	const rate, samples = 8000, 2000
	noise := make([]byte, 2*samples)
	rand.Read(noise)
	wav := []byte("RIFF")
	wav = binary.LittleEndian.AppendUint32(wav, uint32(36+len(noise)))
	wav = append(wav, "WAVEfmt "...)
	wav = binary.LittleEndian.AppendUint32(wav, 16)
	wav = binary.LittleEndian.AppendUint16(wav, 1) // PCM
	wav = binary.LittleEndian.AppendUint16(wav, 1)
	wav = binary.LittleEndian.AppendUint32(wav, rate)
	wav = binary.LittleEndian.AppendUint32(wav, 2*rate)
	wav = binary.LittleEndian.AppendUint16(wav, 2)
	wav = binary.LittleEndian.AppendUint16(wav, 16)
	wav = append(wav, "data"...)
	wav = binary.LittleEndian.AppendUint32(wav, uint32(len(noise)))
	return &call{sourceID: rand.Text(), audio: append(wav, noise...)}
}

func newCalls(n int) []*call {
	calls := make([]*call, n)
	for i := range calls {
		calls[i] = newCall()
	}
	return calls
}

func (c *call) metadata() map[string]any {
	return map[string]any{
		"source": source, "source_id": c.sourceID, "channel": "voice", "direction": "inbound",
		"started_at": "2026-01-05T08:00:00Z", "ended_at": "2026-01-05T08:01:00Z",
		"agent": map[string]string{"id": "agent-" + c.sourceID[:1]},
	}
}

// upload sends the call with its audio in one request.
func (c *call) upload(ctx context.Context, to client) (answer, error) {
	body, contentType, err := c.form()
	if err != nil {
		return answer{}, err
	}
	return c.taken(to.send(ctx, http.MethodPost, "/v1/interactions", contentType, bytes.NewReader(body)))
}

func (c *call) form() (body []byte, contentType string, err error) {
	metadata, err := json.Marshal(c.metadata())
	if err != nil {
		return nil, "", err
	}
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	for _, part := range []struct {
		disposition, mediaType string
		content                []byte
	}{
		{`form-data; name="metadata"`, "application/json", metadata},
		{`form-data; name="audio"; filename="call.wav"`, "audio/wav", c.audio},
	} {
		w, err := form.CreatePart(textproto.MIMEHeader{"Content-Disposition": {part.disposition}, "Content-Type": {part.mediaType}})
		if err != nil {
			return nil, "", err
		}
		if _, err := w.Write(part.content); err != nil {
			return nil, "", err
		}
	}
	err = form.Close()
	return b.Bytes(), form.FormDataContentType(), err
}

// announce sends what is known of the call, without its audio.
func (c *call) announce(ctx context.Context, to client) (answer, error) {
	metadata, err := json.Marshal(c.metadata())
	if err != nil {
		return answer{}, err
	}
	return c.taken(to.send(ctx, http.MethodPost, "/v1/interactions", "application/json", bytes.NewReader(metadata)))
}

// put sends the audio of a call that is announced.
func (c *call) put(ctx context.Context, to client) (answer, error) {
	return to.send(ctx, http.MethodPut, "/v1/interactions/"+c.id+"/recordings/audio", "audio/wav", bytes.NewReader(c.audio))
}

// taken keeps the id of what was taken in.
func (c *call) taken(a answer, err error) (answer, error) {
	if err != nil || a.status >= http.StatusMultipleChoices {
		return a, err
	}
	var i struct {
		ID string `json:"id"`
	}
	err = json.Unmarshal(a.body, &i)
	c.id = i.ID
	return a, err
}

// takeIn uploads calls and expects each to be acknowledged.
func takeIn(t *testing.T, to client, calls ...*call) {
	t.Helper()
	for _, c := range calls {
		a, err := c.upload(t.Context(), to)
		if err != nil {
			t.Fatal(err)
		}
		a.expect(t, http.StatusCreated)
	}
}

func (c *call) audioPath() string {
	return "/v1/interactions/" + c.id + "/recordings/audio/audio?purpose=quality_assurance"
}

// mustPlay expects of each call the very bytes that were sent.
func mustPlay(t *testing.T, listener client, calls ...*call) {
	t.Helper()
	for _, c := range calls {
		a := listener.get(t, c.audioPath()).expect(t, http.StatusOK)
		if !bytes.Equal(a.body, c.audio) {
			t.Errorf("interaction %s plays other bytes than were sent", c.id)
		}
	}
}

func mustBeErased(t *testing.T, listener client, calls ...*call) {
	t.Helper()
	for _, c := range calls {
		listener.get(t, c.audioPath()).expectProblem(t, http.StatusGone, "erased")
	}
}

func ids(calls []*call) []string {
	all := make([]string, len(calls))
	for i, c := range calls {
		all[i] = c.id
	}
	return all
}

// purge is what the tests read of a purge.
type purge struct {
	ID       string         `json:"id"`
	State    string         `json:"state"`
	Exempt   int            `json:"exempt"`
	Progress map[string]int `json:"progress"`
}

// preview asks for a purge.
func (in *installation) preview(t *testing.T, p *process, calls ...*call) (asked purge) {
	t.Helper()
	in.client(p, "records").post(t, "/v1/purges", map[string]any{
		"reason": "end of the trial", "interactions": ids(calls), "override": true,
	}).expect(t, http.StatusCreated).read(t, &asked)
	return asked
}

// approve has another person approve it; the service may die over it.
func (in *installation) approve(t *testing.T, p *process, asked purge) (answer, error) {
	t.Helper()
	return in.client(p, "second").tryPost(t, "/v1/purges/"+asked.ID+"/approve", map[string]bool{"override": true})
}

// awaitPurge waits for the end of a purge and checks its certificate offline,
// by the program.
func (in *installation) awaitPurge(t *testing.T, p *process, asked purge) (done purge, certificate []byte) {
	t.Helper()
	records := in.client(p, "records")
	eventually(t, "the purge ends", func() bool {
		done = purge{}
		records.get(t, "/v1/purges/"+asked.ID).expect(t, http.StatusOK).read(t, &done)
		return done.State == "done"
	})
	certificate = records.get(t, "/v1/purges/"+asked.ID+"/certificate").expect(t, http.StatusOK).body
	in.verifyFile(t, p, certificate).expect(t, 0)
	return done, certificate
}

// verifyFile runs `earmark verify` on a document with nothing but the public key.
func (in *installation) verifyFile(t *testing.T, p *process, document []byte) result {
	t.Helper()
	dir := t.TempDir()
	key, file := filepath.Join(dir, "ledger.pub"), filepath.Join(dir, "document.json")
	public := p.stranger().get(t, "/v1/ledger/key").expect(t, http.StatusOK).body
	if err := errors.Join(os.WriteFile(key, public, 0o600), os.WriteFile(file, document, 0o600)); err != nil {
		t.Fatal(err)
	}
	return in.command(t, "verify", "--key", key, file)
}

// hold places a legal hold on calls and returns its id.
func (in *installation) hold(t *testing.T, p *process, calls ...*call) string {
	t.Helper()
	var placed struct {
		ID           string `json:"id"`
		Interactions int    `json:"interactions"`
	}
	in.client(p, "records").post(t, "/v1/legal-holds", map[string]any{
		"matter": "2026-017", "reason": "before the court", "interactions": ids(calls),
	}).expect(t, http.StatusCreated).read(t, &placed)
	if placed.Interactions != len(calls) {
		t.Fatalf("%d are held, want %d", placed.Interactions, len(calls))
	}
	return placed.ID
}

// awaitAnalysed waits until every recording was looked into.
func (in *installation) awaitAnalysed(t *testing.T) {
	t.Helper()
	eventually(t, "every recording is ready", func() bool {
		return in.count(t, `select count(*) from recordings where state = 'received'`) == 0 &&
			in.count(t, `select count(*) from outbox where kind = 'recording.analyse'`) == 0
	})
}

func (in *installation) awaitSequenced(t *testing.T) {
	t.Helper()
	eventually(t, "every entry has its place in the ledger", func() bool {
		return in.count(t, `select count(*) from ledger_pending`) == 0
	})
}

func (in *installation) count(t *testing.T, sql string, args ...any) (n int) {
	t.Helper()
	if err := in.database.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

func (in *installation) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	err := in.database.Write(t.Context(), func(tx *db.Tx) error {
		tag, err := tx.Exec(t.Context(), sql, args...)
		if err == nil && tag.RowsAffected() == 0 {
			err = pgx.ErrNoRows
		}
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// verifyAll expects everything stored to be as it should be, and, with the
// sweep's clock set forward, no object without a record and no record without
// its objects.
func (in *installation) verifyAll(t *testing.T) {
	t.Helper()
	in.sweep(t)
	in.command(t, "verify", "--all").expect(t, 0)
	if diff := cmp.Diff(in.recorded(t), in.stored(t)); diff != "" {
		t.Errorf("objects (-recorded +stored):\n%s", diff)
	}
}

// sweep removes what a crash left, as if two hours had passed, and returns
// how many objects that were.
func (in *installation) sweep(t *testing.T) int {
	t.Helper()
	later := func() time.Time { return time.Now().Add(2 * time.Hour) }
	d := dbtest.Open(t, in.env["EARMARK_DATABASE_URL"], db.Options{Now: later, MaxConns: 2})
	ring, err := seal.ParseRing(in.env["EARMARK_KEK"])
	if err != nil {
		t.Fatal(err)
	}
	a, err := archive.New(t.Context(), archive.Options{DB: d, Blob: in.store(t), Keys: ring, Consent: consent.New(d, region)})
	if err != nil {
		t.Fatal(err)
	}
	removed, err := a.SweepOrphans(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return removed
}

func (in *installation) recorded(t *testing.T) []string {
	t.Helper()
	rows, err := in.database.Query(t.Context(), `select key from objects order by key collate "C"`)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{}, keys...)
}

// stored are the keys of all objects but the ledger's and the certificates.
func (in *installation) stored(t *testing.T) []string {
	t.Helper()
	keys := []string{}
	for info, err := range in.store(t).List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(info.Key, ".age") {
			keys = append(keys, info.Key)
		}
	}
	return keys
}

// eventually looks again and again until it is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for !so() {
		select {
		case <-deadline:
			t.Fatalf("not within %s: %s", patience, what)
		case <-time.After(25 * time.Millisecond):
		}
	}
}
