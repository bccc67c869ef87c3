package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/audit"
	"earmark/internal/blob"
	"earmark/internal/consent"
	"earmark/internal/db"
	"earmark/internal/db/dbtest"
	"earmark/internal/ledger"
	"earmark/internal/lifecycle"
	"earmark/internal/quality"
	"earmark/internal/seal"
)

// Personal data that tests send: none of it may be repeated or logged.
const (
	customerName  = "Trần Thị Kiều Oanh Zx9q"
	customerPhone = "0912345678"
	customerE164  = "+84912345678"
	customerEmail = "kieu.oanh.zx9q@example.vn"
	agentName     = "Phạm Quốc Bảo Zx9q"
	spokenWords   = "tôi muốn khoá thẻ zx9q"
	marker        = "Zx9q"
	markerNumber  = "739517395173"
)

// logged is all that was logged, at every level, by all tests.
var logged lockedBuffer

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug})))
	code := m.Run()
	if err := nothingPersonalLogged(); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		code = 1
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		code = 1
	}
	os.Exit(code)
}

func nothingPersonalLogged() error {
	all := strings.ToLower(logged.String())
	for _, personal := range []string{customerName, customerPhone, customerE164, customerPhone[1:], customerEmail, agentName,
		spokenWords, marker, markerNumber, "cuộc gọi", "kieu", "ek_"} {
		if at := strings.Index(all, strings.ToLower(personal)); at >= 0 {
			return fmt.Errorf("the log holds %q: %s", personal, all[max(0, at-200):min(len(all), at+200)])
		}
	}
	return nil
}

// house is the whole service behind a socket of its own.
type house struct {
	testing.TB
	*API
	db       *db.DB
	store    *watchedStore
	disk     string // the store's folder, when it is one
	spool    string
	url      string
	keys     map[access.Role]string
	began    atomic.Int64
	under    atomic.Int64
	verifier string
}

type setting struct {
	s3    bool
	stall time.Duration
	max   int64
}

func open(t testing.TB, s setting) *house {
	t.Helper()
	h := &house{TB: t, spool: t.TempDir(), keys: map[access.Role]string{}}
	h.openStore(s)
	ring, err := seal.ParseRing(seal.NewKEK())
	h.must(err)
	secret, public, err := ledger.NewSigner("test")
	h.must(err)
	signer, err := ledger.ParseSigner(secret)
	h.must(err)
	h.verifier = public
	h.db = dbtest.Open(t, dbtest.URL(t), db.Options{MaxConns: 8})
	o := Options{Access: access.New(h.db), Consent: consent.New(h.db, "VN"), Log: slog.Default(), Stall: s.stall, Ready: h.db.Ping}
	o.Archive, err = archive.New(t.Context(), archive.Options{
		DB: h.db, Blob: h.store, Keys: ring, Consent: o.Consent, Signer: signer, Retention: lifecycle.RetainUntil,
		SpoolDir: h.spool, MaxBytes: s.max})
	h.must(err)
	o.Lifecycle = lifecycle.New(lifecycle.Options{DB: h.db, Archive: o.Archive, Consent: o.Consent, Blob: h.store, Signer: signer})
	o.Quality = quality.New(quality.Options{DB: h.db, Archive: o.Archive, Keys: ring, Signer: signer})
	o.Audit, err = audit.New(audit.Options{DB: h.db, Store: h.store, Signer: signer})
	h.must(err)
	h.API = New(o)
	h.serve()
	h.makeKeys()
	return h
}

func (h *house) openStore(s setting) {
	h.Helper()
	if !s.s3 {
		h.disk = h.TempDir()
		disk, err := blob.OpenDisk(h.disk)
		h.must(err)
		h.Cleanup(func() { h.must(disk.Close()) })
		h.store = &watchedStore{Store: disk}
		return
	}
	endpoint := os.Getenv("EARMARK_TEST_S3_ENDPOINT")
	if endpoint == "" {
		h.Fatal("EARMARK_TEST_S3_ENDPOINT is not set: run `make test`, which starts the servers that tests need")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	store, err := blob.OpenS3(h.Context(), blob.S3Config{
		Endpoint: endpoint, AccessKey: os.Getenv("EARMARK_TEST_S3_ACCESS_KEY"), SecretKey: os.Getenv("EARMARK_TEST_S3_SECRET_KEY"),
		Bucket: "api-" + strings.ToLower(rand.Text()[:16]), CreateBucket: true, Transport: transport,
	})
	h.must(err)
	h.Cleanup(transport.CloseIdleConnections)
	h.store = &watchedStore{Store: store}
}

// serve listens as the program does, and knows what is under way.
func (h *house) serve() {
	h.Helper()
	socket, err := (&net.ListenConfig{}).Listen(h.Context(), "tcp", "127.0.0.1:0")
	h.must(err)
	server := Server("", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.began.Add(1)
		h.under.Add(1)
		defer h.under.Add(-1)
		h.API.ServeHTTP(w, r)
	}), slog.Default())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(socket) }()
	h.Cleanup(func() {
		h.must(server.Close())
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			h.Error(err)
		}
	})
	h.url = "http://" + socket.Addr().String()
}

func (h *house) makeKeys() {
	h.Helper()
	for _, role := range access.Roles {
		n := access.NewKey{Name: string(role), Role: role}
		if role == access.Uploader {
			n.Basis = &access.Basis{Basis: access.LegitimateInterests, Method: "announcement", Reason: "every caller hears it"}
		}
		if role == access.Agent {
			n.AgentID = "agent-7"
		}
		_, secret, err := h.Access.CreateKey(h.Context(), access.System("test"), n)
		h.must(err)
		h.keys[role] = secret
	}
}

func (h *house) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// idle waits until no request is under way.
func (h *house) idle() {
	h.Helper()
	h.until("all requests ended", func() bool { return h.under.Load() == 0 })
}

func (h *house) until(what string, holds func() bool) {
	h.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			h.Fatalf("not within 30 s: %s", what)
		case <-tick.C:
		}
	}
}

// watchedStore is a real store whose puts a test can hold up.
type watchedStore struct {
	blob.Store
	afterPut atomic.Pointer[func()]
}

func (s *watchedStore) Put(ctx context.Context, key string, r io.Reader, size int64) (blob.Info, error) {
	info, err := s.Store.Put(ctx, key, r, size)
	if after := s.afterPut.Load(); after != nil && err == nil {
		(*after)()
	}
	return info, err
}

// answer is a response with its body read.
type answer struct {
	*http.Response
	body []byte
}

// request makes one in a role's name; an empty role is a stranger.
func (h *house) request(role access.Role, method, path string, body io.Reader, header ...string) *http.Request {
	h.Helper()
	r, err := http.NewRequestWithContext(h.Context(), method, h.url+path, body)
	h.must(err)
	if role != "" {
		r.Header.Set("Authorization", "Bearer "+h.keys[role])
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

func (h *house) do(r *http.Request) answer {
	h.Helper()
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		h.Fatalf("%s %s: %v", r.Method, r.URL.Path, err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		h.Fatalf("%s %s: read answer: %v", r.Method, r.URL.Path, err)
	}
	h.must(response.Body.Close())
	return answer{response, body}
}

func (h *house) get(role access.Role, path string, header ...string) answer {
	h.Helper()
	return h.do(h.request(role, http.MethodGet, path, nil, header...))
}

func (h *house) send(role access.Role, method, path, body string) answer {
	h.Helper()
	return h.do(h.request(role, method, path, strings.NewReader(body), "Content-Type", "application/json"))
}

// into reads an answer that must have the status.
func into[T any](h *house, a answer, status int) (v T) {
	h.Helper()
	if a.StatusCode != status {
		h.Fatalf("%s %s: %d, not %d: %s", a.Request.Method, a.Request.URL.Path, a.StatusCode, status, a.body)
	}
	h.must(json.Unmarshal(a.body, &v))
	return v
}

// problem reads an answer that must be a whole problem document.
func (h *house) problem(a answer, status int, code string) Problem {
	h.Helper()
	var p Problem
	if ct := a.Header.Get("Content-Type"); ct != "application/problem+json" {
		h.Fatalf("%d of type %q: %s", a.StatusCode, ct, a.body)
	}
	h.must(json.Unmarshal(a.body, &p))
	if a.StatusCode != status || p.Status != status || p.Code != code {
		h.Errorf("%d %s (%d in the document), not %d %s: %s", a.StatusCode, p.Code, p.Status, status, code, a.body)
	}
	if p.Type != "/docs#"+p.Code || p.Title == "" || p.Instance == "" || p.Instance != a.Header.Get("X-Request-Id") {
		h.Errorf("not a whole problem document: %s (X-Request-Id %s)", a.body, a.Header.Get("X-Request-Id"))
	}
	h.repeatsNothing(a.body)
	return p
}

func (h *house) repeatsNothing(body []byte) {
	h.Helper()
	for _, sent := range []string{marker, markerNumber, customerPhone, customerEmail} {
		if strings.Contains(strings.ToLower(string(body)), strings.ToLower(sent)) {
			h.Errorf("the problem repeats what was sent: %s", body)
		}
	}
}

// metadata is a call's, as JSON, under an id of its own.
func metadata(change ...string) string {
	m := map[string]any{
		"source": "pbx", "source_id": uuid.NewString(), "channel": "voice", "direction": "inbound",
		"started_at": "2026-03-04T05:06:07Z", "ended_at": "2026-03-04T05:07:07Z",
		"agent":    map[string]any{"id": "agent-7", "name": agentName},
		"customer": map[string]any{"phone": customerPhone, "email": customerEmail, "name": customerName},
	}
	for i := 0; i+1 < len(change); i += 2 {
		if change[i+1] == "" {
			delete(m, change[i])
			continue
		}
		m[change[i]] = json.RawMessage(change[i+1])
	}
	data, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(data)
}

const boundary = "----WebKitFormBoundary7MA4YWxkTrZu0gW"

// form is a multipart body as browsers and curl write it.
func form(metadata string, audio []byte) string {
	return part("metadata", "", metadata) + part("audio", `; filename="call.wav"`, string(audio)) + "--" + boundary + "--\r\n"
}

func part(name, more, content string) string {
	return "--" + boundary + "\r\nContent-Disposition: form-data; name=\"" + name + "\"" + more + "\r\n\r\n" + content + "\r\n"
}

const formType = "multipart/form-data; boundary=" + boundary

func (h *house) upload(metadata string, audio []byte) answer {
	h.Helper()
	return h.do(h.request(access.Uploader, http.MethodPost, "/v1/interactions", strings.NewReader(form(metadata, audio)), "Content-Type", formType))
}

// call is an interaction without a recording, kept now.
func (h *house) call() archive.Interaction {
	h.Helper()
	return into[archive.Interaction](h, h.send(access.Uploader, http.MethodPost, "/v1/interactions", metadata()), http.StatusCreated)
}

func audioPath(id uuid.UUID) string {
	return "/v1/interactions/" + id.String() + "/recordings/audio/audio?purpose=quality_assurance"
}

// noise is a WAV of random samples: none of it is found elsewhere by chance.
func noise(samples int) []byte {
	data := make([]byte, 2*samples)
	if _, err := rand.Read(data); err != nil {
		panic(err)
	}
	return wav(data, uint32(len(data)))
}

// tone is seconds of a sine in a WAV.
func tone(seconds int) []byte {
	var data []byte
	for i := range 8000 * seconds {
		data = binary.LittleEndian.AppendUint16(data, uint16(int16(8000*math.Sin(2*math.Pi*440*float64(i)/8000))))
	}
	return wav(data, uint32(len(data)))
}

func wav(data []byte, stated uint32) []byte {
	b := []byte("RIFF")
	b = binary.LittleEndian.AppendUint32(b, stated+36)
	b = append(b, "WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00"...)
	b = binary.LittleEndian.AppendUint32(b, 8000)
	b = binary.LittleEndian.AppendUint32(b, 16000)
	b = append(b, "\x02\x00\x10\x00data"...)
	b = binary.LittleEndian.AppendUint32(b, stated)
	return append(b, data...)
}

func sumOf(content []byte) string { return fmt.Sprintf("%x", sha256.Sum256(content)) }

func (h *house) count(sql string, args ...any) (n int) {
	h.Helper()
	h.must(h.db.QueryRow(context.Background(), sql, args...).Scan(&n))
	return n
}

// kept counts the rows and objects of all that was taken in.
func (h *house) kept() map[string]int {
	h.Helper()
	counts := map[string]int{}
	for _, table := range []string{"interactions", "interaction_words", "recordings", "objects", "outbox",
		"customers", "customer_identifiers", "consents"} {
		counts[table] = h.count(`select count(*) from ` + table)
	}
	for _, err := range h.store.List(context.Background(), "", "") {
		h.must(err)
		counts["in the store"]++
	}
	spooled, err := os.ReadDir(h.spool)
	h.must(err)
	counts["in the spool"] = len(spooled)
	return counts
}

// holds says whether any object or file of the store has the run of bytes.
func (h *house) holds(run []byte) bool {
	h.Helper()
	for info, err := range h.store.List(context.Background(), "", "") {
		h.must(err)
		body, _, err := h.store.Open(context.Background(), info.Key, 0, -1)
		h.must(err)
		content, err := io.ReadAll(body)
		h.must(err)
		h.must(body.Close())
		if bytes.Contains(content, run) {
			return true
		}
	}
	if h.disk == "" {
		return false
	}
	found := false
	h.must(filepath.WalkDir(h.disk, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		found = found || bytes.Contains(content, run)
		return err
	}))
	return found
}
