package console

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/api"
	"earmark/internal/archive"
	"earmark/internal/blob"
	"earmark/internal/consent"
	"earmark/internal/db"
	"earmark/internal/db/dbtest"
	"earmark/internal/ledger"
	"earmark/internal/lifecycle"
	"earmark/internal/quality"
	"earmark/internal/seal"
)

// house is a real service on a loopback address, with a person for each role.
type house struct {
	*Console
	url    string
	people map[access.Role]access.Actor
}

const password = "a sentence that is easy to keep"

func open(t *testing.T) *house {
	t.Helper()
	d := dbtest.Open(t, dbtest.URL(t), db.Options{MaxConns: 8})
	store, err := blob.OpenDisk(t.TempDir())
	must(t, err)
	t.Cleanup(func() { must(t, store.Close()) })
	ring, err := seal.ParseRing(seal.NewKEK())
	must(t, err)
	secret, _, err := ledger.NewSigner("earmark.test")
	must(t, err)
	signer, err := ledger.ParseSigner(secret)
	must(t, err)
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))

	o := Options{Access: access.New(d), Consent: consent.New(d, "VN"), Actor: api.ActorFrom, Log: log}
	o.Archive, err = archive.New(t.Context(), archive.Options{
		DB: d, Blob: store, Keys: ring, Consent: o.Consent, Retention: lifecycle.RetainUntil, SpoolDir: t.TempDir(),
	})
	must(t, err)
	o.Lifecycle = lifecycle.New(lifecycle.Options{DB: d, Archive: o.Archive, Consent: o.Consent, Blob: store, Signer: signer})
	o.Quality = quality.New(quality.Options{DB: d, Archive: o.Archive, Keys: ring, Signer: signer})
	h := &house{people: map[access.Role]access.Actor{}}
	h.Console, err = New(o)
	must(t, err)
	server := httptest.NewServer(api.New(api.Options{
		Access: o.Access, Consent: o.Consent, Archive: o.Archive, Lifecycle: o.Lifecycle, Quality: o.Quality,
		Ready: d.Ping, Log: log, Pages: h.Mount,
	}))
	t.Cleanup(server.Close)
	h.url = server.URL
	return h
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// person makes a user whose password is known, once a login.
func (h *house) person(t *testing.T, login string, role access.Role) access.Actor {
	t.Helper()
	n := access.NewUser{Login: login, Name: "Người " + login, Role: role, Password: password}
	if role == access.Agent {
		n.AgentID = "3201"
	}
	u, _, err := h.Access.CreateUser(t.Context(), access.System("test"), n)
	must(t, err)
	return access.Actor{Kind: "user", ID: u.ID, Person: u.ID, Name: u.Name, Role: role, AgentID: u.AgentID}
}

// softphone sends what has a basis.
var softphone = access.Actor{
	Kind: "key", ID: uuid.New(), Person: uuid.New(), Role: access.Uploader,
	Basis: &access.Basis{Basis: access.Consent, Method: "announcement"},
}

// call takes in and analyses a call of an agent, two voices of some seconds.
func (h *house) call(t *testing.T, id, agent string, seconds int) archive.Interaction {
	t.Helper()
	ctx := t.Context()
	sound := wav(seconds)
	i, _, err := h.Archive.SubmitWithAudio(ctx, softphone, archive.NewInteraction{
		Metadata: archive.Metadata{
			Source: "pbx", SourceID: id, Channel: "voice", Direction: "inbound", Queue: "billing",
			StartedAt: time.Now().Add(-48 * time.Hour), Agent: &archive.Agent{ID: agent, Name: "Nguyễn Thị Lan"},
			Customer: &archive.Customer{Phone: "0901234567", Name: "Phạm Thu Hà"}, ANI: "0901234567",
		},
		Transcript: "Tôi muốn hỏi về hóa đơn tháng mười.",
	}, archive.Audio{FileName: id + ".wav", Body: bytes.NewReader(sound), Bytes: int64(len(sound))})
	must(t, err)
	must(t, h.Archive.Analyse(ctx, i.Recordings[0].ID))
	return i
}

// wav is a tone on the left and silence with a beat on the right, 16 bit at 8 kHz.
func wav(seconds int) []byte {
	const rate = 8000
	var samples bytes.Buffer
	for n := range seconds * rate {
		left := int16(12000 * math.Sin(float64(n)*2*math.Pi*440/rate))
		right := int16(0)
		if n/rate%2 == 0 {
			right = left / 2
		}
		samples.Write(binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(nil, uint16(left)), uint16(right)))
	}
	var file bytes.Buffer
	put := func(values ...any) {
		for _, v := range values {
			if s, ok := v.(string); ok {
				file.WriteString(s)
				continue
			}
			if err := binary.Write(&file, binary.LittleEndian, v); err != nil {
				panic(err)
			}
		}
	}
	put("RIFF", uint32(36+samples.Len()), "WAVEfmt ", uint32(16), uint16(1), uint16(2), uint32(rate), uint32(rate*4),
		uint16(4), uint16(16), "data", uint32(samples.Len()))
	return append(file.Bytes(), samples.Bytes()...)
}

// draw has every agent's call drawn for the reviewers there are.
func (h *house) draw(t *testing.T, supervisor access.Actor) {
	t.Helper()
	ctx := t.Context()
	f, err := h.Quality.CreateForm(ctx, supervisor, quality.ExampleForms()[0])
	must(t, err)
	plan, err := h.Quality.CreatePlan(ctx, supervisor, quality.NewPlan{Name: "Tháng", FormID: f.ID, PerAgent: 1})
	must(t, err)
	now := time.Now()
	d, err := h.Quality.CommitDraw(ctx, supervisor, plan.ID, quality.Window{From: now.AddDate(0, 0, -7), To: now})
	must(t, err)
	must(t, h.Quality.RunDraw(ctx, d.ID))
}

// purger runs purges as they are approved, as the workers do, until the test ends.
func (h *house) purger(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	reader := access.Actor{Kind: "system", Name: "test", Role: access.RecordsOfficer}
	go func() {
		defer close(done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			page, err := h.Lifecycle.Purges(ctx, reader, lifecycle.List{State: "approved"})
			for _, p := range page.Items {
				err = errors.Join(err, h.Lifecycle.Run(ctx, p.ID))
			}
			if err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	}()
	t.Cleanup(func() { stop(); <-done })
}

// browser is a person's browser without script.
type browser struct {
	t *testing.T
	*http.Client
	url string
}

func (h *house) browser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	must(t, err)
	return &browser{t, &http.Client{Jar: jar}, h.url}
}

// signedIn is a browser of whoever has the login.
func (h *house) signedIn(t *testing.T, login string) *browser {
	t.Helper()
	b := h.browser(t)
	status, _, page := b.post("/signin", url.Values{"login": {login}, "password": {password}})
	if status != http.StatusOK || strings.Contains(page, `name="password"`) {
		t.Fatalf("%s cannot sign in: %d", login, status)
	}
	return b
}

func (b *browser) get(path string) (status int, address, page string) {
	b.t.Helper()
	return b.do(http.MethodGet, path, nil)
}

func (b *browser) post(path string, form url.Values) (status int, address, page string) {
	b.t.Helper()
	return b.do(http.MethodPost, path, form)
}

// do asks as browsers do and follows redirects; address is where it ended.
func (b *browser) do(method, path string, form url.Values) (status int, address, page string) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, strings.NewReader(form.Encode()))
	must(b.t, err)
	r.Header.Set("Accept", "text/html,*/*")
	r.Header.Set("Accept-Language", "en")
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	answer, err := b.Do(r)
	must(b.t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	must(b.t, err)
	return answer.StatusCode, answer.Request.URL.RequestURI(), string(body)
}

// within waits until something has come about.
func within(t *testing.T, come func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !come() {
		select {
		case <-deadline:
			t.Fatal("it did not come about within 20 s")
		case <-tick.C:
		}
	}
}
