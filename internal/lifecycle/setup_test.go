package lifecycle

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
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

// bundle is a lifecycle over a real database and a real object store.
type bundle struct {
	*Lifecycle
	store    blob.Store
	clock    *clock
	verifier note.Verifier

	uploader, officer, second, privacy, auditor access.Actor
}

// clock is a time of the test's own.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time           { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(by time.Duration) { c.ahead.Add(int64(by)) }

func person(role access.Role) access.Actor {
	id := uuid.New()
	return access.Actor{Kind: "user", ID: id, Person: id, Role: role}
}

// wide is a guard rail that lets everything pass.
var wide = GuardRail{MaxShare: 1, SmallArchive: 1, MinAge: -time.Hour}

type tune func(*Options)

func over(store blob.Store) tune    { return func(o *Options) { o.Blob = store } }
func guardedBy(rail GuardRail) tune { return func(o *Options) { o.GuardRail = rail } }
func setup(t testing.TB, tunes ...tune) *bundle {
	t.Helper()
	b := &bundle{
		clock:    &clock{},
		uploader: person(access.Uploader),
		officer:  person(access.RecordsOfficer),
		second:   person(access.RecordsOfficer),
		privacy:  person(access.PrivacyOfficer),
		auditor:  person(access.Auditor),
	}
	b.uploader.Basis = &access.Basis{Basis: access.LegitimateInterests, Reason: "tests"}
	o := Options{DB: dbtest.Open(t, dbtest.URL(t), db.Options{Now: b.clock.now, MaxConns: 12}), GuardRail: wide}
	o.Signer, b.verifier = signer(t)
	for _, tune := range tunes {
		tune(&o)
	}
	if o.Blob == nil {
		o.Blob = disk(t)
	}
	b.store = o.Blob
	ring, err := seal.ParseRing(seal.NewKEK())
	if err != nil {
		t.Fatal(err)
	}
	o.Consent = consent.New(o.DB, "VN")
	o.Archive, err = archive.New(t.Context(), archive.Options{
		DB: o.DB, Blob: o.Blob, Keys: ring, Consent: o.Consent, Retention: RetainUntil,
	})
	if err != nil {
		t.Fatal(err)
	}
	b.Lifecycle = New(o)
	return b
}

func signer(t testing.TB) (*ledger.Signer, note.Verifier) {
	t.Helper()
	secret, public, err := ledger.NewSigner("earmark.test")
	if err != nil {
		t.Fatal(err)
	}
	s, err := ledger.ParseSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	v, err := ledger.ParseVerifier(public)
	if err != nil {
		t.Fatal(err)
	}
	return s, v
}

func disk(t testing.TB) blob.Store {
	t.Helper()
	store, err := blob.OpenDisk(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// minio is a bucket of its own on the tests' MinIO.
func minio(t testing.TB) blob.Store {
	t.Helper()
	endpoint := os.Getenv("EARMARK_TEST_S3_ENDPOINT")
	if endpoint == "" {
		t.Fatal("EARMARK_TEST_S3_ENDPOINT is not set: run `make test`, which starts the servers that tests need")
	}
	store, err := blob.OpenS3(t.Context(), blob.S3Config{
		Endpoint:  endpoint,
		AccessKey: os.Getenv("EARMARK_TEST_S3_ACCESS_KEY"), SecretKey: os.Getenv("EARMARK_TEST_S3_SECRET_KEY"),
		Bucket: "lifecycle-" + strings.ToLower(rand.Text()[:12]), CreateBucket: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// stores are the object stores that everything must hold on.
func stores() map[string]func(testing.TB) blob.Store {
	return map[string]func(testing.TB) blob.Store{"disk": disk, "minio": minio}
}

// wav is a second of noise, as G.711 has it.
func wav() []byte {
	data := make([]byte, 8000)
	rand.Read(data)
	var b bytes.Buffer
	b.WriteString("RIFF")
	b.Write(binary.LittleEndian.AppendUint32(nil, uint32(36+len(data))))
	b.WriteString("WAVEfmt ")
	for _, v := range []any{uint32(16), uint16(7), uint16(1), uint32(8000), uint32(8000), uint16(1), uint16(8)} {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	b.WriteString("data")
	b.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(data))))
	b.Write(data)
	return b.Bytes()
}

// submit takes in a recorded call, changed by what edits say.
func (b *bundle) submit(ctx context.Context, edits ...func(*archive.NewInteraction)) (uuid.UUID, error) {
	body := wav()
	n := archive.NewInteraction{Metadata: archive.Metadata{
		Source: "pbx", SourceID: uuid.NewString(), Channel: "voice", Direction: "inbound",
		StartedAt: b.DB.Now().Add(-time.Minute), Queue: "sales",
	}}
	for _, edit := range edits {
		edit(&n)
	}
	i, _, err := b.Archive.SubmitWithAudio(ctx, b.uploader, n, archive.Audio{Body: bytes.NewReader(body), Bytes: int64(len(body))})
	return i.ID, err
}

func (b *bundle) call(t testing.TB, edits ...func(*archive.NewInteraction)) uuid.UUID {
	t.Helper()
	id, err := b.submit(t.Context(), edits...)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (b *bundle) calls(t testing.TB, count int, edits ...func(*archive.NewInteraction)) []uuid.UUID {
	t.Helper()
	ids := make([]uuid.UUID, count)
	for i := range ids {
		ids[i] = b.call(t, edits...)
	}
	return ids
}

func from(phone string) func(*archive.NewInteraction) {
	return func(n *archive.NewInteraction) { n.Customer = &archive.Customer{Phone: phone} }
}

func inQueue(queue string) func(*archive.NewInteraction) {
	return func(n *archive.NewInteraction) { n.Queue = queue }
}

// customerOf is whose call it was.
func (b *bundle) customerOf(t testing.TB, id uuid.UUID) uuid.UUID {
	t.Helper()
	return value[uuid.UUID](t, b, `select customer_id from interactions where id = $1`, id)
}

// value is one value out of the database.
func value[T any](t testing.TB, b *bundle, sql string, args ...any) (v T) {
	t.Helper()
	if err := b.DB.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func (b *bundle) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	err := b.DB.Write(t.Context(), func(tx *db.Tx) error {
		_, err := tx.Exec(t.Context(), sql, args...)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// state is where an interaction stands.
func (b *bundle) state(t testing.TB, id uuid.UUID) archive.State {
	t.Helper()
	return value[archive.State](t, b, `select state from interactions where id = $1`, id)
}

func (b *bundle) wantState(t testing.TB, want archive.State, ids ...uuid.UUID) {
	t.Helper()
	for _, id := range ids {
		if got := b.state(t, id); got != want {
			t.Errorf("interaction %s is %s, want %s", id, got, want)
		}
	}
}

// objects counts what the store holds of an interaction.
func (b *bundle) objects(t testing.TB, id uuid.UUID) int {
	t.Helper()
	received := value[time.Time](t, b, `select received_at from interactions where id = $1`, id)
	count := 0
	for _, err := range b.store.List(t.Context(), received.UTC().Format("2006/01/02/")+id.String()+"/", "") {
		if err != nil {
			t.Fatal(err)
		}
		count++
	}
	return count
}

// wantGone checks that nothing is left of interactions but tombstones.
func (b *bundle) wantGone(t testing.TB, ids ...uuid.UUID) {
	t.Helper()
	b.wantState(t, archive.Erased, ids...)
	for _, id := range ids {
		if n := b.objects(t, id); n > 0 {
			t.Errorf("interaction %s is gone, but the store holds %d objects of it", id, n)
		}
		if value[bool](t, b, `select wrapped_key is not null or customer_id is not null or ani is not null or source_id is not null
			from interactions where id = $1`, id) {
			t.Errorf("interaction %s is gone, but its record is not scrubbed", id)
		}
	}
}

// wantKept checks that interactions are whole.
func (b *bundle) wantKept(t testing.TB, ids ...uuid.UUID) {
	t.Helper()
	for _, id := range ids {
		if s := b.state(t, id); s == archive.Purging || s == archive.Erased {
			t.Errorf("interaction %s is %s, want it kept", id, s)
		}
		if value[bool](t, b, `select wrapped_key is null from interactions where id = $1`, id) {
			t.Errorf("interaction %s is kept, but its key is destroyed", id)
		}
		if b.objects(t, id) == 0 {
			t.Errorf("interaction %s is kept, but the store holds nothing of it", id)
		}
	}
}

// approved is a purge of ids that one person asked for and another approved.
func (b *bundle) approved(t testing.TB, ids ...uuid.UUID) uuid.UUID {
	t.Helper()
	p, err := b.Preview(t.Context(), b.officer, NewPurge{Reason: "case closed", Interactions: ids})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Approve(t.Context(), b.second, p.ID, false); err != nil {
		t.Fatal(err)
	}
	return p.ID
}

func (b *bundle) run(t testing.TB, purge uuid.UUID) {
	t.Helper()
	if err := b.Run(t.Context(), purge); err != nil {
		t.Fatal(err)
	}
}

// certificate verifies a purge's certificate offline.
func (b *bundle) certificate(t testing.TB, purge uuid.UUID) *Certificate {
	t.Helper()
	data, err := b.Certificate(t.Context(), b.auditor, purge)
	if err != nil {
		t.Fatal(err)
	}
	c, err := VerifyCertificate(data, b.verifier)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// held places a legal hold.
func (b *bundle) held(t testing.TB, ids ...uuid.UUID) Hold {
	t.Helper()
	h, err := b.PlaceHold(t.Context(), b.officer, NewHold{Matter: "2026-17", Reason: "court order", Interactions: ids})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (b *bundle) release(t testing.TB, hold uuid.UUID) {
	t.Helper()
	if _, err := b.RequestRelease(t.Context(), b.officer, hold); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ApproveRelease(t.Context(), b.second, hold); err != nil {
		t.Fatal(err)
	}
}

// job is a row of the outbox.
type job struct {
	ID   uuid.UUID
	Kind string
	Args map[string]uuid.UUID
}

// work runs what is due, as a worker does, until nothing is or a job fails.
func (b *bundle) work(t testing.TB) error {
	t.Helper()
	for {
		var j job
		err := b.DB.QueryRow(t.Context(), `
			select id, kind, args from outbox
			where due_at <= $1 and kind in ('purge.run', 'erasure.run', 'retention.sweep', 'retention.recompute')
			order by due_at, id limit 1`, b.DB.Now()).Scan(&j.ID, &j.Kind, &j.Args)
		if errors.Is(db.Found(err), db.ErrNotFound) {
			return nil
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := b.do(t.Context(), j); err != nil {
			return fmt.Errorf("%s: %w", j.Kind, err)
		}
		b.exec(t, `delete from outbox where id = $1`, j.ID)
	}
}

func (b *bundle) do(ctx context.Context, j job) error {
	switch j.Kind {
	case "purge.run":
		return b.runAgain(ctx, j.Args["purge_id"])
	case "erasure.run":
		return b.RunErasure(ctx, j.Args["request_id"])
	case "retention.recompute":
		return b.Recompute(ctx)
	}
	return b.Sweep(ctx)
}

// runAgain calls Run as its worker does, again after ErrIncomplete: a run that
// was cut off may leave a transaction behind that the server is still
// committing, whose items the next run passes over.
func (b *bundle) runAgain(ctx context.Context, id uuid.UUID) error {
	deadline := time.Now().Add(5 * time.Second)
	for {
		err := b.Run(ctx, id)
		if !errors.Is(err, ErrIncomplete) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (b *bundle) mustWork(t testing.TB) {
	t.Helper()
	if err := b.work(t); err != nil {
		t.Fatal(err)
	}
}

// wantSound checks everything against everything.
func (b *bundle) wantSound(t testing.TB) {
	t.Helper()
	if err := b.VerifyAll(t.Context(), func(problem string) { t.Errorf("verify: %s", problem) }); err != nil {
		t.Fatal(err)
	}
}

var errCrash = errors.New("the process died")

// crashAt makes the process die at the nth moment of that name; "" is any.
func (b *bundle) crashAt(moment string, nth int) {
	var seen atomic.Int64
	b.crash = func(at string) error {
		if (moment == "" || at == moment) && seen.Add(1) >= int64(nth) {
			return errCrash
		}
		return nil
	}
}
