package archive_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"
	"golang.org/x/mod/sumdb/note"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/blob"
	"earmark/internal/consent"
	"earmark/internal/db"
	"earmark/internal/db/dbtest"
	"earmark/internal/ledger"
	"earmark/internal/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// house is an archive with all that it stands on.
type house struct {
	testing.TB
	*archive.Archive
	db       *db.DB
	store    *store
	consent  *consent.Consent
	spool    string
	verifier note.Verifier
}

type setting struct {
	url     string // of its database; a new one when empty
	s3      bool
	now     func() time.Time
	options func(*archive.Options)
}

// open makes an empty house on a database of its own.
func open(t testing.TB, s setting) *house {
	t.Helper()
	ring, err := seal.ParseRing(seal.NewKEK())
	if err != nil {
		t.Fatal(err)
	}
	signer, verifier := newSigner(t)
	h := &house{TB: t, store: &store{Store: openStore(t, s.s3)}, spool: t.TempDir(), verifier: verifier}
	if s.url == "" {
		s.url = dbtest.URL(t)
	}
	h.db = dbtest.Open(t, s.url, db.Options{Now: s.now, MaxConns: 8})
	h.consent = consent.New(h.db, "VN")
	options := archive.Options{DB: h.db, Blob: h.store, Keys: ring, Consent: h.consent, SpoolDir: h.spool, Signer: signer}
	if s.options != nil {
		s.options(&options)
	}
	if h.Archive, err = archive.New(t.Context(), options); err != nil {
		t.Fatal(err)
	}
	return h
}

func newSigner(t testing.TB) (*ledger.Signer, note.Verifier) {
	t.Helper()
	secret, public, err := ledger.NewSigner("test")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ledger.ParseSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := ledger.ParseVerifier(public)
	if err != nil {
		t.Fatal(err)
	}
	return signer, verifier
}

func openStore(t testing.TB, s3 bool) blob.Store {
	t.Helper()
	if !s3 {
		disk, err := blob.OpenDisk(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := disk.Close(); err != nil {
				t.Error(err)
			}
		})
		return disk
	}
	endpoint := os.Getenv("EARMARK_TEST_S3_ENDPOINT")
	if endpoint == "" {
		t.Fatal("EARMARK_TEST_S3_ENDPOINT is not set: run `make test`, which starts the servers that tests need")
	}
	transport := sharedTransport()
	s, err := blob.OpenS3(t.Context(), blob.S3Config{
		Endpoint: endpoint, AccessKey: os.Getenv("EARMARK_TEST_S3_ACCESS_KEY"), SecretKey: os.Getenv("EARMARK_TEST_S3_SECRET_KEY"),
		Bucket: "archive-" + strings.ToLower(rand.Text()[:16]), CreateBucket: true, Transport: transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	return s
}

// onEachStore runs a test on the disk and on the S3 service.
func onEachStore(t *testing.T, test func(t *testing.T, h *house)) {
	for name, s3 := range map[string]bool{"disk": false, "s3": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t, setting{s3: s3}))
		})
	}
}

// store is a real store whose calls a test can watch and spoil.
type store struct {
	blob.Store
	mu    sync.Mutex
	onPut func(ctx context.Context, key string, put func() (blob.Info, error)) (blob.Info, error)
}

func (s *store) hookPut(fn func(ctx context.Context, key string, put func() (blob.Info, error)) (blob.Info, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onPut = fn
}

func (s *store) Put(ctx context.Context, key string, r io.Reader, size int64) (blob.Info, error) {
	s.mu.Lock()
	hook := s.onPut
	s.mu.Unlock()
	put := func() (blob.Info, error) { return s.Store.Put(ctx, key, r, size) }
	if hook == nil {
		return put()
	}
	return hook(ctx, key, put)
}

func key(role access.Role) access.Actor {
	id := uuid.New()
	return access.Actor{Kind: "key", ID: id, Person: id, Role: role}
}

// pbx is an uploader whose callers all hear the announcement.
func pbx() access.Actor {
	a := key(access.Uploader)
	a.Basis = &access.Basis{Basis: access.LegitimateInterests, Method: "announcement", Reason: "every caller hears it"}
	return a
}

// call is a call's metadata under an id of its own.
func call() archive.NewInteraction {
	return archive.NewInteraction{Metadata: archive.Metadata{
		Source: "pbx", SourceID: uuid.NewString(), Channel: "voice", Direction: "inbound",
		StartedAt: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
	}}
}

func audio(content []byte) archive.Audio {
	return archive.Audio{FileName: "call.wav", Body: bytes.NewReader(content), Bytes: int64(len(content))}
}

// wav is PCM noise of 8 kHz, 16 bit, mono, so that no two are the same and none
// of it is found elsewhere by chance.
func wav(samples int) []byte {
	data := make([]byte, 2*samples)
	if _, err := rand.Read(data); err != nil {
		panic(err)
	}
	return wavOf(data)
}

// tone is a second of a sine.
func tone() []byte {
	var data []byte
	for i := range 8000 {
		data = binary.LittleEndian.AppendUint16(data, uint16(int16(8000*math.Sin(2*math.Pi*440*float64(i)/8000))))
	}
	return wavOf(data)
}

func wavOf(data []byte) []byte {
	b := []byte("RIFF")
	b = binary.LittleEndian.AppendUint32(b, uint32(36+len(data)))
	b = append(b, "WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00"...)
	b = binary.LittleEndian.AppendUint32(b, 8000)
	b = binary.LittleEndian.AppendUint32(b, 16000)
	b = append(b, "\x02\x00\x10\x00data"...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

// converted is content made into another format by sox.
func converted(t testing.TB, content []byte, args ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.wav"), filepath.Join(dir, "out."+args[0])
	if err := os.WriteFile(in, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.Command("sox", append([]string{in}, append(args[1:], out)...)...).CombinedOutput(); err != nil {
		t.Fatalf("sox: %v: %s", err, output)
	}
	made, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// submit takes in a call with audio, for tests of what comes after.
func (h *house) submit(actor access.Actor, content []byte) archive.Interaction {
	h.Helper()
	i, created, err := h.SubmitWithAudio(h.Context(), actor, call(), audio(content))
	if err != nil || !created {
		h.Fatalf("SubmitWithAudio = created %v, %v", created, err)
	}
	return i
}

// hear reads a whole recording.
func (h *house) hear(actor access.Actor, id uuid.UUID, name string, purpose access.Purpose) []byte {
	h.Helper()
	l, err := h.Listen(h.Context(), actor, id, name, purpose, false)
	if err != nil {
		h.Fatal(err)
	}
	return h.read(l, 0, l.Size)
}

func (h *house) read(l *archive.Listening, off, n int64) []byte {
	h.Helper()
	body, err := l.Range(h.Context(), off, n)
	if err != nil {
		h.Fatal(err)
	}
	content, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil {
		h.Fatal(err)
	}
	return content
}

// objects are the keys of all that is in the store.
func (h *house) objects() []string {
	h.Helper()
	keys := []string{}
	for info, err := range h.store.List(context.Background(), "", "") {
		if err != nil {
			h.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	return keys
}

// count is a query's one number.
func (h *house) count(sql string, args ...any) int {
	h.Helper()
	var n int
	if err := h.db.QueryRow(context.Background(), sql, args...).Scan(&n); err != nil {
		h.Fatal(err)
	}
	return n
}

// entries counts the ledger entries of an action.
func (h *house) entries(action string) int {
	h.Helper()
	return h.count(`select count(*) from ledger_pending where entry::jsonb ->> 'action' = $1`, action)
}

func (h *house) execute(sql string, args ...any) {
	h.Helper()
	err := h.db.Write(context.Background(), func(tx *db.Tx) error {
		_, err := tx.Exec(context.Background(), sql, args...)
		return err
	})
	if err != nil {
		h.Fatal(err)
	}
}

// empty fails unless nothing was stored at all.
func (h *house) empty() {
	h.Helper()
	if keys := h.objects(); len(keys) > 0 {
		h.Errorf("objects are left: %v", keys)
	}
	for _, table := range []string{"interactions", "recordings", "objects", "customers"} {
		if n := h.count(`select count(*) from ` + table); n > 0 {
			h.Errorf("%d rows are left in %s", n, table)
		}
	}
	left, err := os.ReadDir(h.spool)
	if err != nil || len(left) > 0 {
		h.Errorf("left in the spool: %v, %v", left, err)
	}
}

// sound fails when Verify finds a problem.
func (h *house) sound() {
	h.Helper()
	for _, problem := range h.problems() {
		h.Errorf("Verify: %s", problem)
	}
}

func (h *house) problems() (found []string) {
	h.Helper()
	if err := h.Verify(context.Background(), func(problem string) { found = append(found, problem) }); err != nil {
		h.Fatal(err)
	}
	return found
}

// purge takes interactions to their end, as a purge does.
func (h *house) purge(ids ...uuid.UUID) {
	h.Helper()
	ctx := context.Background()
	err := h.db.Write(ctx, func(tx *db.Tx) error {
		destroyed, held, gone, err := h.Destroy(ctx, tx, ids, uuid.New())
		if err == nil && (len(destroyed) != len(ids) || len(held)+len(gone) > 0) {
			err = fmt.Errorf("destroyed %v, held %v, gone %v", destroyed, held, gone)
		}
		return err
	})
	if err != nil {
		h.Fatal(err)
	}
	if _, err := h.RemoveObjects(ctx, ids); err != nil {
		h.Fatal(err)
	}
	if err := h.db.Write(ctx, func(tx *db.Tx) error { return h.Scrub(ctx, tx, ids) }); err != nil {
		h.Fatal(err)
	}
}

func sumOf(content []byte) string { return fmt.Sprintf("%x", sha256.Sum256(content)) }

func shuffled[T any](list []T) []T {
	mathrand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}
