package quality

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"
	"pgregory.net/rapid"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/blob"
	"earmark/internal/consent"
	"earmark/internal/db"
	"earmark/internal/db/dbtest"
	"earmark/internal/seal"
)

var may = Window{
	From: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC),
	To:   time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC),
}

// bundle is an archive and the engine over it, in a database of their own.
type bundle struct {
	*Quality
	t          testing.TB
	verifier   note.Verifier
	supervisor access.Actor
}

func setup(t testing.TB) *bundle {
	t.Helper()
	d := dbtest.New(t)
	store, err := blob.OpenDisk(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	ring, err := seal.ParseRing(seal.NewKEK())
	if err != nil {
		t.Fatal(err)
	}
	a, err := archive.New(t.Context(), archive.Options{
		DB: d, Blob: store, Keys: ring, Consent: consent.New(d, "VN"), SpoolDir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	signer, verifier := testSigner(t)
	b := &bundle{Quality: New(Options{DB: d, Archive: a, Keys: ring, Signer: signer}), t: t, verifier: verifier}
	b.supervisor = b.person(access.Supervisor, "")
	return b
}

// person is a user who was made for the test.
func (b *bundle) person(role access.Role, agentID string) access.Actor {
	b.t.Helper()
	id := b.db.NewID()
	b.exec(`insert into users (id, login, name, role, agent_id, password_hash, password_set_at, created_at)
		values ($1, $2, $2, $3, nullif($4, ''), 'none', $5, $5)`, id, id.String(), role, agentID, b.db.Now())
	return access.Actor{Kind: "user", ID: id, Person: id, Role: role, AgentID: agentID}
}

func (b *bundle) exec(sql string, args ...any) {
	b.t.Helper()
	err := b.db.Write(context.Background(), func(tx *db.Tx) error {
		_, err := tx.Exec(context.Background(), sql, args...)
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// call is an interaction to be there; the zero value is one that may be drawn.
type call struct {
	agent     string
	state     string
	at        time.Time
	queue     string
	duration  time.Duration
	purposes  []access.Purpose
	customer  *uuid.UUID
	recording string // its state; "none" for none
	flags     []string
}

// calls puts interactions into the archive's tables as take-in leaves them.
func (b *bundle) calls(all ...call) []uuid.UUID {
	b.t.Helper()
	ctx := context.Background()
	made := make([]uuid.UUID, len(all))
	err := b.db.Write(ctx, func(tx *db.Tx) error {
		batch := &pgx.Batch{}
		for i, c := range all {
			made[i] = tx.NewID()
			c.insert(batch, tx, made[i])
		}
		return tx.SendBatch(ctx, batch).Close()
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return made
}

func (c call) insert(batch *pgx.Batch, tx *db.Tx, id uuid.UUID) {
	if c.state == "" {
		c.state = "active"
	}
	if c.at.IsZero() {
		c.at = may.From.Add(24 * time.Hour)
	}
	if c.duration == 0 {
		c.duration = time.Minute
	}
	if c.purposes == nil {
		c.purposes = []access.Purpose{access.QualityAssurance, access.Training}
	}
	if c.recording == "" {
		c.recording = "ready"
	}
	if c.flags == nil {
		c.flags = []string{}
	}
	unique := make([]byte, 32)
	if _, err := rand.Read(unique); err != nil {
		panic(err)
	}
	batch.Queue(`
		insert into interactions (id, identity, fingerprint, state, source, channel, started_at, duration_ms, agent_id, queue,
			customer_id, consent, purposes, received_at, received_from, kek_id, wrapped_key)
		values ($1, $2, $2, $3, 'pbx', 'voice', $4, $5, nullif($6, ''), nullif($7, ''), $8,
			'{"basis": "consent", "status": "granted", "at": "2026-05-01T00:00:00Z"}', $9, $10, 'key', 'kek', 'key')`,
		id, unique, c.state, c.at, c.duration.Milliseconds(), c.agent, c.queue, c.customer, c.purposes, tx.Now)
	if c.recording != "none" {
		batch.Queue(`
			insert into recordings (id, interaction_id, name, media_type, bytes, sha256, state, flags, duration_ms, received_at)
			values ($1, $2, 'audio', 'audio/wav', 1000, $3, $4, $5, $6, $7)`,
			tx.NewID(), id, unique, c.recording, c.flags, c.duration.Milliseconds(), tx.Now)
	}
}

// plan makes a form, and a plan of it.
func (b *bundle) plan(n NewPlan) Plan {
	b.t.Helper()
	f, err := b.CreateForm(b.t.Context(), b.supervisor, NewForm{Name: "Form", Definition: form(Average, section(1, choice("a", 1, 0, 10),
		Question{ID: "words", Text: "Words", Kind: Text}))})
	if err != nil {
		b.t.Fatal(err)
	}
	n.Name, n.FormID = "Plan", f.ID
	plan, err := b.CreatePlan(b.t.Context(), b.supervisor, n)
	if err != nil {
		b.t.Fatal(err)
	}
	return plan
}

// draw runs a draw of the plan over May.
func (b *bundle) draw(p Plan) Draw {
	b.t.Helper()
	ctx := b.t.Context()
	d, err := b.CommitDraw(ctx, b.supervisor, p.ID, may)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.RunDraw(ctx, d.ID); err != nil {
		b.t.Fatal(err)
	}
	if d, err = b.Draw(ctx, b.supervisor, d.ID); err != nil {
		b.t.Fatal(err)
	}
	return d
}

func (b *bundle) assignments(query AssignmentQuery) []Assignment {
	b.t.Helper()
	query.Limit = maxLimit
	var all []Assignment
	for {
		p, err := b.Assignments(b.t.Context(), b.supervisor, query)
		if err != nil {
			b.t.Fatal(err)
		}
		all = append(all, p.Items...)
		if query.Cursor = p.NextCursor; query.Cursor == "" {
			return all
		}
	}
}

// held are the interactions that a draw holds.
func (b *bundle) held(draw uuid.UUID) map[uuid.UUID]bool {
	b.t.Helper()
	rows, err := b.db.Query(b.t.Context(), `select interaction_id from holds where kind = 'review' and ref = $1`, draw)
	if err != nil {
		b.t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		b.t.Fatal(err)
	}
	held := map[uuid.UUID]bool{}
	for _, id := range all {
		held[id] = true
	}
	return held
}

// sound fails the test for everything that Verify reports.
func (b *bundle) sound() {
	b.t.Helper()
	err := b.Verify(b.t.Context(), func(problem string) { b.t.Error(problem) })
	if err != nil {
		b.t.Fatal(err)
	}
}

func TestDrawFillsExactQuotasFromSkewedVolume(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var want []stratum
	var all []call
	for i := range 15 {
		agent := fmt.Sprintf("agent %02d", i)
		n := i * i
		all = append(all, slices.Repeat([]call{{agent: agent}}, n)...)
		if n > 0 {
			want = append(want, stratum{AgentID: agent, N: n, K: 5, Shortfall: max(0, 5-n)})
		}
	}
	all = append(all,
		call{agent: "never", state: "quarantined"}, call{agent: "never", state: "restricted"},
		call{agent: "never", purposes: []access.Purpose{access.Training}},
		call{agent: "never", recording: "none"}, call{agent: "never", recording: "flagged"},
		call{agent: "never", recording: "ready", flags: []string{"empty"}}, call{agent: "never", duration: 1},
		call{agent: "nobody", state: "erased"}, call{agent: "nobody", state: "purging"},
		call{agent: "nobody", at: may.To}, call{agent: "nobody", at: may.From.Add(-time.Microsecond)},
		call{agent: ""},
	)
	want = append(want, stratum{AgentID: "never", K: 5, Shortfall: 5, Excluded: map[string]int{notActive: 2, noBasis: 1, noRecording: 4}})
	b.calls(all...)
	b.calls(call{agent: "agent 03", recording: "received", at: may.From}) // a tenth, not probed yet, at the very start
	want[2].N = 10
	reviewers := []access.Actor{b.person(access.Reviewer, ""), b.person(access.Reviewer, ""), b.person(access.Reviewer, "agent 07")}

	p := b.plan(NewPlan{PerAgent: 5})
	d := b.draw(p)

	signed, err := b.Manifest(t.Context(), b.supervisor, d.ID)
	if err != nil {
		t.Fatal(err)
	}
	report, err := VerifyManifest(signed, b.verifier)
	if err != nil {
		t.Fatal(err)
	}
	m, err := readOwnManifest(t.Context(), b.db, d.ID)
	if err != nil {
		t.Fatal(err)
	}
	var got []stratum
	for _, s := range m.Strata {
		got = append(got, stratum{AgentID: s.AgentID, N: s.N, K: s.K, Shortfall: s.Shortfall, Excluded: s.Excluded})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("strata (-want +got):\n%s", diff)
	}
	if m.Unattributed != 1 {
		t.Errorf("%d without an agent, want 1", m.Unattributed)
	}
	eligible := 1
	for i := range 15 {
		eligible += i * i
	}
	wantDraw := Draw{
		ID: d.ID, PlanID: p.ID, State: drawn, Window: may, SeedCommitment: d.SeedCommitment, Seed: m.Seed, ManifestSHA256: d.ManifestSHA256,
		Agents: 15, Eligible: eligible, Picked: 1 + 4 + 12*5, Shortfall: 4 + 1 + 5,
		RequestedAt: d.RequestedAt, DueAt: d.RequestedAt, DrawnAt: d.DrawnAt,
	}
	if diff := cmp.Diff(wantDraw, d); diff != "" {
		t.Errorf("draw (-want +got):\n%s", diff)
	}
	b.checkAssigned(d, report.Picks, reviewers)
	b.sound()
}

// checkAssigned checks that exactly the picks are held and assigned, evenly,
// and to nobody's own calls.
func (b *bundle) checkAssigned(d Draw, picks []uuid.UUID, reviewers []access.Actor) {
	b.t.Helper()
	held, loads := b.held(d.ID), map[uuid.UUID]int{}
	for _, a := range b.assignments(AssignmentQuery{DrawID: &d.ID}) {
		if !slices.Contains(picks, a.InteractionID) || !held[a.InteractionID] {
			b.t.Errorf("%s is assigned and not picked and held", a.InteractionID)
		}
		i := slices.IndexFunc(reviewers, func(r access.Actor) bool { return a.reviewedBy(r) })
		if i < 0 || reviewers[i].AgentID == a.AgentID {
			b.t.Errorf("%s of agent %s is assigned to the wrong reviewer", a.ID, a.AgentID)
			continue
		}
		loads[reviewers[i].ID]++
	}
	total, least, most := 0, len(picks), 0
	for _, r := range reviewers {
		total, least, most = total+loads[r.ID], min(least, loads[r.ID]), max(most, loads[r.ID])
	}
	if total != len(picks) || len(held) != len(picks) || most-least > 1 {
		b.t.Errorf("%d picks, %d held, %d assigned, loads %d to %d", len(picks), len(held), total, least, most)
	}
}

func TestRunningADrawAgainChangesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.calls(slices.Repeat([]call{{agent: "an"}}, 20)...)
	b.person(access.Reviewer, "")
	d := b.draw(b.plan(NewPlan{PerAgent: 5}))
	before := b.assignments(AssignmentQuery{})
	b.calls(slices.Repeat([]call{{agent: "an"}}, 20)...)

	if err := b.RunDraw(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}

	again, err := b.Draw(t.Context(), b.supervisor, d.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d, again); diff != "" {
		t.Errorf("the draw changed:\n%s", diff)
	}
	if diff := cmp.Diff(before, b.assignments(AssignmentQuery{})); diff != "" {
		t.Errorf("assignments changed:\n%s", diff)
	}
	b.sound()
}

func TestTheSeedIsCommittedToBeforeAndToldAfter(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := b.plan(NewPlan{PerAgent: 5})
	from := b.db.Now().Add(24 * time.Hour)
	d, err := b.CommitDraw(t.Context(), b.supervisor, p.ID, Window{from, from.Add(24 * time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if d.Seed != "" || len(d.SeedCommitment) != 64 || !d.DueAt.Equal(d.To) {
		t.Errorf("seed %q, commitment %q, due %s for a window that ends %s", d.Seed, d.SeedCommitment, d.DueAt, d.To)
	}
	if _, err := b.Manifest(t.Context(), b.supervisor, d.ID); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("a manifest before the draw: %v", err)
	}
	var kept []byte
	var due time.Time
	err = b.db.QueryRow(t.Context(), `select seed from draws where id = $1`, d.ID).Scan(&kept)
	if err != nil || kept != nil {
		t.Errorf("the seed lies open before the draw: %v", err)
	}
	err = b.db.QueryRow(t.Context(), `select due_at from outbox where kind = $1 and args ->> 'draw_id' = $2`, JobDraw, d.ID.String()).Scan(&due)
	if err != nil || !due.Equal(d.To) {
		t.Errorf("the job is due %s: %v", due, err)
	}
	if err := b.RunDraw(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
	if d, err = b.Draw(t.Context(), b.supervisor, d.ID); err != nil || len(d.Seed) != 64 {
		t.Errorf("seed %q after the draw: %v", d.Seed, err)
	}
	b.sound()
}

func TestWhatWasDrawnIsNotDrawnAgainInItsStream(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.calls(slices.Repeat([]call{{agent: "an"}}, 8)...)
	p := b.plan(NewPlan{PerAgent: 5})
	first, second := b.draw(p), b.draw(p)
	targeted := b.draw(b.plan(NewPlan{PerAgent: 5, Stream: Targeted}))
	got := []int{first.Picked, second.Picked, second.Eligible, targeted.Eligible, targeted.Picked}
	if diff := cmp.Diff([]int{5, 3, 3, 8, 5}, got); diff != "" {
		t.Errorf("first picked, second picked and eligible, targeted eligible and picked:\n%s", diff)
	}
	m, err := readOwnManifest(t.Context(), b.db, second.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Strata[0].Excluded[drawnBefore]; got != 5 {
		t.Errorf("%d were drawn before, want 5", got)
	}
	b.sound()
}

func TestDrawsAtOnceShareNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.calls(slices.Repeat([]call{{agent: "an"}, {agent: "binh"}}, 40)...)
	p := b.plan(NewPlan{PerAgent: 5})
	var wg sync.WaitGroup
	for range 8 {
		d, err := b.CommitDraw(t.Context(), b.supervisor, p.ID, may)
		if err != nil {
			t.Fatal(err)
		}
		// Two workers at the same draw, eight draws at once.
		for range 2 {
			wg.Go(func() {
				if err := b.RunDraw(t.Context(), d.ID); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	seen := map[uuid.UUID]bool{}
	for _, a := range b.assignments(AssignmentQuery{}) {
		if seen[a.InteractionID] {
			t.Errorf("%s is drawn twice", a.InteractionID)
		}
		seen[a.InteractionID] = true
	}
	if len(seen) != 80 {
		t.Errorf("%d drawn, want 8 draws of 5 for 2 agents", len(seen))
	}
	b.sound()
}

func TestPlanFiltersWhatIsDrawn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	want := b.calls(call{agent: "an", queue: "Khiếu nại", duration: 60 * time.Second}, call{agent: "an", queue: "Khiếu nại", duration: 90 * time.Second})
	b.calls(call{agent: "an", queue: "sales"}, call{agent: "an", queue: "Khiếu nại", duration: 59 * time.Second}, call{agent: "an", queue: "Khiếu nại", duration: 91 * time.Second})
	// Decomposed, as some keyboards send it.
	d := b.draw(b.plan(NewPlan{PerAgent: 5, Filter: Filter{Channel: "voice", Queue: "Khiê\u0301u na\u0323i", MinDuration: 60, MaxDuration: 90}}))
	var got []uuid.UUID
	for _, a := range b.assignments(AssignmentQuery{DrawID: &d.ID}) {
		got = append(got, a.InteractionID)
	}
	slices.SortFunc(got, compareIDs)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("drawn (-want +got):\n%s", diff)
	}
}

// Invariant 7: no listening without a purpose that the customer's consent
// covers; so what was withdrawn is not drawn, and the next is.
func TestWithdrawnConsentIsPassedOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	customer := b.db.NewID()
	b.exec(`insert into customers (id, created_at) values ($1, $2)`, customer, b.db.Now())
	b.exec(`insert into consents (id, customer_id, basis, status, purposes, at, recorded_by, recorded_at)
		values ($1, $2, 'consent', 'withdrawn', '{quality_assurance}', $3, 'test', $3)`, b.db.NewID(), customer, b.db.Now())
	b.calls(slices.Repeat([]call{{agent: "an", customer: &customer}}, 10)...)
	free := b.calls(call{agent: "an"}, call{agent: "an"})
	d := b.draw(b.plan(NewPlan{PerAgent: 2}))
	var got []uuid.UUID
	for _, a := range b.assignments(AssignmentQuery{DrawID: &d.ID}) {
		got = append(got, a.InteractionID)
	}
	slices.SortFunc(got, compareIDs)
	if diff := cmp.Diff(free, got); diff != "" {
		t.Errorf("drawn (-want +got):\n%s", diff)
	}
	b.sound()
}

func TestNobodyMayReviewIsSaid(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.calls(call{agent: "an"}, call{agent: "binh"})
	self := b.person(access.Reviewer, "an")
	p := b.plan(NewPlan{PerAgent: 1, Reviewers: []uuid.UUID{self.ID}})
	d := b.draw(p)
	for _, a := range b.assignments(AssignmentQuery{DrawID: &d.ID}) {
		if (a.State == Unassignable) != (a.AgentID == "an") || (a.ReviewerID == nil) != (a.AgentID == "an") {
			t.Errorf("agent %s: %s, reviewer %v", a.AgentID, a.State, a.ReviewerID)
		}
	}
	b.sound()
}

func TestTheDatabaseRefusesSelfReview(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.calls(call{agent: "an"})
	b.person(access.Reviewer, "")
	b.draw(b.plan(NewPlan{PerAgent: 1}))
	err := b.db.Write(t.Context(), func(tx *db.Tx) error {
		_, err := tx.Exec(t.Context(), `update assignments set reviewer_agent_id = 'an'`)
		return err
	})
	if err == nil {
		t.Error("a reviewer with the agent's own id was let through")
	}
}

func TestPublishedVersionsNeverChange(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f, err := b.CreateForm(t.Context(), b.supervisor, ExampleForms()[0])
	if err != nil {
		t.Fatal(err)
	}
	next := ExampleForms()[1].Definition
	second, err := b.PublishVersion(t.Context(), b.supervisor, f.ID, next)
	if err != nil {
		t.Fatal(err)
	}
	first, err := b.Form(t.Context(), b.supervisor, f.ID, 1)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f, first); diff != "" {
		t.Errorf("version 1 changed:\n%s", diff)
	}
	latest, err := b.Form(t.Context(), b.supervisor, f.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(second, latest); diff != "" || latest.Version != 2 {
		t.Errorf("version %d is the latest:\n%s", latest.Version, diff)
	}
	for _, sql := range []string{
		`update form_versions set definition = '{}' where version = 1`,
		`delete from form_versions`, `truncate form_versions cascade`,
	} {
		err := b.db.Write(t.Context(), func(tx *db.Tx) error {
			_, err := tx.Exec(t.Context(), sql)
			return err
		})
		if err == nil || !strings.Contains(err.Error(), "never changes") {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

func TestFormsPublishedAtOnceGetVersionsOfTheirOwn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f, err := b.CreateForm(t.Context(), b.supervisor, ExampleForms()[0])
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	versions := make([]int, 8)
	for i := range versions {
		wg.Go(func() {
			next, err := b.PublishVersion(t.Context(), b.supervisor, f.ID, f.Definition)
			if err != nil {
				t.Error(err)
			}
			versions[i] = next.Version
		})
	}
	wg.Wait()
	slices.Sort(versions)
	if diff := cmp.Diff([]int{2, 3, 4, 5, 6, 7, 8, 9}, versions); diff != "" {
		t.Error(diff)
	}
}

// Invariant 5: a purge that races a draw destroys what the draw does not hold,
// and nothing that it assigned.
func TestAPurgeRacingADrawNeverTakesWhatIsAssigned(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.person(access.Reviewer, "")
	for round := range 15 {
		agent := fmt.Sprintf("agent %d", round)
		calls := b.calls(slices.Repeat([]call{{agent: agent, queue: agent}, {agent: agent + " b", queue: agent}}, 30)...)
		p := b.plan(NewPlan{PerAgent: 6, Filter: Filter{Queue: agent}})
		d, err := b.CommitDraw(t.Context(), b.supervisor, p.ID, may)
		if err != nil {
			t.Fatal(err)
		}
		destroyed := map[uuid.UUID]bool{}
		var wg sync.WaitGroup
		wg.Go(func() {
			for batch := range slices.Chunk(calls, 1+round*2) {
				err := b.db.Write(t.Context(), func(tx *db.Tx) error {
					done, _, _, err := b.archive.Destroy(t.Context(), tx, batch, uuid.Max)
					for _, i := range done {
						destroyed[i.ID] = true
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			if err := b.RunDraw(t.Context(), d.ID); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		for _, a := range b.assignments(AssignmentQuery{DrawID: &d.ID}) {
			if destroyed[a.InteractionID] {
				t.Errorf("round %d: %s is assigned and destroyed", round, a.InteractionID)
			}
		}
	}
	b.sound()
}

// Invariant 5, the moment itself: what is being destroyed while the draw wants
// to hold it is gone for the draw, which says so and takes the next.
func TestWhatIsBeingDestroyedIsPassedOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	calls := b.calls(slices.Repeat([]call{{agent: "an"}}, 4)...)
	d, err := b.CommitDraw(t.Context(), b.supervisor, b.plan(NewPlan{PerAgent: 3}).ID, may)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	err = b.db.Write(t.Context(), func(tx *db.Tx) error {
		if _, _, _, err := b.archive.Destroy(t.Context(), tx, calls[:2], uuid.Max); err != nil {
			return err
		}
		go func() { done <- b.RunDraw(t.Context(), d.ID) }()
		b.untilSomebodyWaits()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var got []uuid.UUID
	for _, a := range b.assignments(AssignmentQuery{DrawID: &d.ID}) {
		got = append(got, a.InteractionID)
	}
	slices.SortFunc(got, compareIDs)
	if diff := cmp.Diff(calls[2:], got); diff != "" {
		t.Errorf("assigned (-want +got):\n%s", diff)
	}
	m, err := readOwnManifest(t.Context(), b.db, d.ID)
	if err != nil {
		t.Fatal(err)
	}
	if s := m.Strata[0]; s.N != 2 || s.Shortfall != 1 || s.Excluded[gone] != 2 {
		t.Errorf("%d eligible, %d lacking, excluded %v", s.N, s.Shortfall, s.Excluded)
	}
	b.sound()
}

// untilSomebodyWaits returns once a connection waits for another's lock.
func (b *bundle) untilSomebodyWaits() {
	b.t.Helper()
	deadline, cancel := context.WithTimeout(b.t.Context(), 30*time.Second)
	defer cancel()
	for waits := false; !waits; {
		err := b.db.QueryRow(deadline, `
			select exists (select from pg_locks l join pg_stat_activity a using (pid)
				where not l.granted and a.datname = current_database())`).Scan(&waits)
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

// drawnLive is a draw of some calls of one agent, with two reviewers.
func drawnLive(b *bundle, calls, perAgent int) (d Draw, reviewers [2]access.Actor) {
	b.t.Helper()
	reviewers = [2]access.Actor{b.person(access.Reviewer, ""), b.person(access.Reviewer, "")}
	b.calls(slices.Repeat([]call{{agent: "an"}}, calls)...)
	return b.draw(b.plan(NewPlan{PerAgent: perAgent, Reviewers: []uuid.UUID{reviewers[0].ID, reviewers[1].ID}})), reviewers
}

func reviewerOf(a Assignment, reviewers [2]access.Actor) (his, other access.Actor) {
	if a.reviewedBy(reviewers[0]) {
		return reviewers[0], reviewers[1]
	}
	return reviewers[1], reviewers[0]
}

func TestEvaluationsLife(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	d, reviewers := drawnLive(b, 3, 1)
	a := b.assignments(AssignmentQuery{DrawID: &d.ID})[0]
	reviewer, _ := reviewerOf(a, reviewers)
	agent := b.person(access.Agent, "an")

	first, err := b.Submit(ctx, reviewer, NewEvaluation{AssignmentID: a.ID, Comment: " Tô\u0301t ", Answers: append(answers("a=0"), Answer{Question: "words", Text: "chậm"})})
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.Submit(ctx, reviewer, NewEvaluation{AssignmentID: a.ID, Comment: "Tốt", Answers: append(answers("a=10"), Answer{Question: "words", Text: "rõ"})})
	if err != nil {
		t.Fatal(err)
	}
	if first.Revision != 1 || *first.Score != 0 || first.Comment != "Tốt" || second.Revision != 2 || *second.Score != 100 {
		t.Errorf("revisions %d and %d score %v and %v", first.Revision, second.Revision, *first.Score, *second.Score)
	}
	if kept, err := b.Evaluation(ctx, b.supervisor, first.ID); err != nil || cmp.Diff(first, kept) != "" {
		t.Errorf("revision 1 was not kept as it was: %v\n%s", err, cmp.Diff(first, kept))
	}
	if p, err := b.Evaluations(ctx, agent, EvaluationQuery{}); err != nil || len(p.Items) != 0 {
		t.Errorf("the agent sees %d that are not released: %v", len(p.Items), err)
	}
	if _, err := b.Evaluation(ctx, agent, second.ID); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("the agent reads what is not released: %v", err)
	}
	if _, err := b.Release(ctx, b.supervisor, first.ID); !errors.Is(err, ErrState) {
		t.Errorf("releasing an earlier revision: %v", err)
	}
	if !b.held(d.ID)[a.InteractionID] {
		t.Error("the interaction is not held until the release")
	}
	released, err := b.Release(ctx, b.supervisor, second.ID)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := b.Release(ctx, b.supervisor, second.ID); err != nil || cmp.Diff(released, again) != "" {
		t.Errorf("releasing again: %v\n%s", err, cmp.Diff(released, again))
	}
	if len(b.held(d.ID)) != 0 {
		t.Error("the hold outlives the release")
	}
	p, err := b.Evaluations(ctx, agent, EvaluationQuery{})
	if err != nil || len(p.Items) != 1 || cmp.Diff(released, p.Items[0]) != "" {
		t.Errorf("the agent sees %v: %v", p.Items, err)
	}
	if p, err := b.Evaluations(ctx, b.person(access.Agent, "binh"), EvaluationQuery{}); err != nil || len(p.Items) != 0 {
		t.Errorf("another agent sees %d: %v", len(p.Items), err)
	}
	if p, err := b.Evaluations(ctx, b.person(access.Agent, ""), EvaluationQuery{}); err != nil || len(p.Items) != 0 {
		t.Errorf("an agent without an id sees %d: %v", len(p.Items), err)
	}
	if _, err := b.Submit(ctx, reviewer, NewEvaluation{AssignmentID: a.ID, Answers: answers("a=0")}); !errors.Is(err, ErrState) {
		t.Errorf("submitting after the release: %v", err)
	}
	b.sound()
}

// Invariant 6: what reviewers wrote goes with the interaction; the scores stay.
func TestErasureTakesWhatWasWritten(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	d, reviewers := drawnLive(b, 2, 2)
	const word = "khách hàng tên Lan"
	all := b.assignments(AssignmentQuery{DrawID: &d.ID})
	for _, a := range all {
		reviewer, _ := reviewerOf(a, reviewers)
		e, err := b.Submit(ctx, reviewer, NewEvaluation{AssignmentID: a.ID, Comment: word, Answers: []Answer{
			{Question: "a", Option: "10", Comment: word}, {Question: "words", Text: word},
		}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Release(ctx, b.supervisor, e.ID); err != nil {
			t.Fatal(err)
		}
	}
	erased := all[0].InteractionID
	err := b.db.Write(ctx, func(tx *db.Tx) error {
		if _, _, _, err := b.archive.Destroy(ctx, tx, []uuid.UUID{erased}, uuid.Max); err != nil {
			return err
		}
		return b.archive.Scrub(ctx, tx, []uuid.UUID{erased})
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := b.Evaluations(ctx, b.supervisor, EvaluationQuery{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range p.Items {
		want := []Answer{{Question: "a", Option: "10", Comment: word}, {Question: "words", Text: word}}
		comment := word
		if e.InteractionID == erased {
			want, comment = []Answer{{Question: "a", Option: "10"}, {Question: "words"}}, ""
		}
		if diff := cmp.Diff(want, e.Answers); diff != "" || e.Comment != comment || *e.Score != 100 {
			t.Errorf("comment %q, score %v, answers (-want +got):\n%s", e.Comment, *e.Score, diff)
		}
	}
	b.sound()
}

func TestEvaluationsNeverLoseTheirScores(t *testing.T) {
	t.Parallel()
	b := setup(t)
	d, reviewers := drawnLive(b, 1, 1)
	a := b.assignments(AssignmentQuery{DrawID: &d.ID})[0]
	reviewer, _ := reviewerOf(a, reviewers)
	if _, err := b.Submit(t.Context(), reviewer, NewEvaluation{AssignmentID: a.ID, Answers: answers("a=0")}); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{`update evaluations set score = 100`, `delete from evaluations`} {
		err := b.db.Write(t.Context(), func(tx *db.Tx) error {
			_, err := tx.Exec(t.Context(), sql)
			return err
		})
		if err == nil {
			t.Errorf("%s was let through", sql)
		}
	}
}

func TestSkipDrawsTheNextOfTheSameDraw(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	d, reviewers := drawnLive(b, 4, 2)
	m, err := readOwnManifest(ctx, b.db, d.ID)
	if err != nil {
		t.Fatal(err)
	}
	seed, eligible, err := m.stratum("an")
	if err != nil {
		t.Fatal(err)
	}
	order := ids(bottomK(seed, eligible, 4))
	a := b.assignments(AssignmentQuery{DrawID: &d.ID})[0]
	// The third in the order goes before it is needed.
	err = b.db.Write(ctx, func(tx *db.Tx) error {
		_, _, _, err := b.archive.Destroy(ctx, tx, order[2:3], uuid.Max)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	reviewer, _ := reviewerOf(a, reviewers)
	skipped, next, err := b.Skip(ctx, reviewer, a.ID, Inaudible)
	if err != nil {
		t.Fatal(err)
	}
	if skipped.State != Skipped || skipped.Reason != Inaudible || next == nil || next.InteractionID != order[3] || *next.Replaces != a.ID || next.State != Assigned {
		t.Errorf("skipped %v, replacement %v; want interaction %s", skipped, next, order[3])
	}
	held := b.held(d.ID)
	if held[a.InteractionID] || !held[order[3]] {
		t.Errorf("the hold did not move on: %v", held)
	}
	kept, err := b.Assignment(ctx, b.supervisor, next.ID)
	if err != nil || cmp.Diff(*next, kept) != "" {
		t.Errorf("replacement as kept: %v\n%s", err, cmp.Diff(*next, kept))
	}
	if _, none, err := b.Skip(ctx, b.supervisor, next.ID, OtherReason); err != nil || none != nil {
		t.Errorf("a replacement %v from nothing: %v", none, err)
	}
	if _, _, err := b.Skip(ctx, b.supervisor, next.ID, OtherReason); !errors.Is(err, ErrState) {
		t.Errorf("skipping twice: %v", err)
	}
	b.sound()
}

// Each operation, tried by each role and by the wrong person of the right one.
// What is tried is never valid or never in the right state, so that whoever may
// is told that, and nothing changes.
func TestOperationsAreRefusedToThoseWhoseTheyAreNot(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	d, reviewers := drawnLive(b, 2, 1)
	a := b.assignments(AssignmentQuery{DrawID: &d.ID})[0]
	reviewer, another := reviewerOf(a, reviewers)
	e, err := b.Submit(ctx, reviewer, NewEvaluation{AssignmentID: a.ID, Answers: answers("a=10")})
	if err != nil {
		t.Fatal(err)
	}
	who := map[string]access.Actor{
		"the reviewer": reviewer, "another reviewer": another,
		"the agent": b.person(access.Agent, "an"), "another agent": b.person(access.Agent, "binh"),
		"a supervisor whose call it is": b.person(access.Supervisor, "an"),
	}
	for _, role := range access.Roles {
		if role != access.Reviewer && role != access.Agent {
			who[string(role)] = b.person(role, "")
		}
	}
	manages := []string{"supervisor", "a supervisor whose call it is"}
	sees := append([]string{"the reviewer", "auditor", "admin"}, manages...)
	looks := append([]string{"another reviewer"}, sees...)
	for _, try := range []struct {
		name    string
		allowed []string
		do      func(access.Actor) error
	}{
		{"create a form", manages, func(who access.Actor) error { _, err := b.CreateForm(ctx, who, NewForm{}); return err }},
		{"publish a version", manages, func(who access.Actor) error {
			_, err := b.PublishVersion(ctx, who, a.FormID, Definition{})
			return err
		}},
		{"create a plan", manages, func(who access.Actor) error { _, err := b.CreatePlan(ctx, who, NewPlan{}); return err }},
		{"draw", manages, func(who access.Actor) error { _, err := b.CommitDraw(ctx, who, d.PlanID, Window{}); return err }},
		{"submit", []string{"the reviewer"}, func(who access.Actor) error {
			_, err := b.Submit(ctx, who, NewEvaluation{AssignmentID: a.ID, Answers: answers("a=7")})
			return err
		}},
		{"skip", append([]string{"the reviewer"}, manages...), func(who access.Actor) error {
			_, _, err := b.Skip(ctx, who, a.ID, Inaudible)
			return err
		}},
		{"reassign", manages, func(who access.Actor) error { _, err := b.Reassign(ctx, who, a.ID, another.ID); return err }},
		{"void", manages, func(who access.Actor) error { _, err := b.Void(ctx, who, a.ID, "nonsense"); return err }},
		{"read forms", looks, func(who access.Actor) error { _, err := b.Forms(ctx, who, List{}); return err }},
		{"read a form", append([]string{"the agent", "another agent"}, looks...), func(who access.Actor) error {
			_, err := b.Form(ctx, who, a.FormID, 1)
			return err
		}},
		{"read plans", looks, func(who access.Actor) error { _, err := b.Plans(ctx, who, List{}); return err }},
		{"read a plan", looks, func(who access.Actor) error { _, err := b.Plan(ctx, who, d.PlanID); return err }},
		{"read draws", looks, func(who access.Actor) error { _, err := b.Draws(ctx, who, DrawQuery{}); return err }},
		{"read a draw", looks, func(who access.Actor) error { _, err := b.Draw(ctx, who, d.ID); return err }},
		{"read a manifest", looks, func(who access.Actor) error { _, err := b.Manifest(ctx, who, d.ID); return err }},
		{"read the assignment", sees, func(who access.Actor) error { _, err := b.Assignment(ctx, who, a.ID); return err }},
		{"read the assignment in a list", sees, func(who access.Actor) error {
			p, err := b.Assignments(ctx, who, AssignmentQuery{})
			return seenOr(err, len(p.Items))
		}},
		{"read the evaluation", sees, func(who access.Actor) error { _, err := b.Evaluation(ctx, who, e.ID); return err }},
		{"read the evaluation in a list", sees, func(who access.Actor) error {
			p, err := b.Evaluations(ctx, who, EvaluationQuery{})
			return seenOr(err, len(p.Items))
		}},
	} {
		for person, actor := range who {
			err := try.do(actor)
			refused := errors.Is(err, access.ErrForbidden) || errors.Is(err, db.ErrNotFound)
			if allowed := slices.Contains(try.allowed, person); allowed == refused {
				t.Errorf("%s by %s: %v", try.name, person, err)
			}
		}
	}
	for person, actor := range who {
		if person == "supervisor" {
			continue
		}
		if _, err := b.Release(ctx, actor, e.ID); !errors.Is(err, access.ErrForbidden) {
			t.Errorf("release by %s: %v", person, err)
		}
	}
	if _, err := b.Release(ctx, who["supervisor"], e.ID); err != nil {
		t.Errorf("release by the supervisor: %v", err)
	}
	b.sound()
}

// seenOr is err, or db.ErrNotFound when nothing was seen.
func seenOr(err error, seen int) error {
	if err == nil && seen == 0 {
		return db.ErrNotFound
	}
	return err
}

func TestReassign(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	d, reviewers := drawnLive(b, 2, 1)
	a := b.assignments(AssignmentQuery{DrawID: &d.ID})[0]
	his, other := reviewerOf(a, reviewers)
	got, err := b.Reassign(ctx, b.supervisor, a.ID, other.ID)
	if err != nil || *got.ReviewerID != other.ID {
		t.Fatalf("reassigned to %v: %v", got.ReviewerID, err)
	}
	if _, err := b.Assignment(ctx, his, a.ID); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("whose it was still sees it: %v", err)
	}
	disabled := b.person(access.Reviewer, "")
	b.exec(`update users set disabled_at = now() where id = $1`, disabled.ID)
	for _, unfit := range []access.Actor{b.person(access.Reviewer, "an"), b.person(access.Auditor, ""), disabled, {ID: uuid.Max}} {
		if _, err := b.Reassign(ctx, b.supervisor, a.ID, unfit.ID); err == nil {
			t.Errorf("reassigned to role %q, agent %q", unfit.Role, unfit.AgentID)
		} else if got := locations(t, err); got[0] != "body.reviewer_id" {
			t.Errorf("refused at %v", got)
		}
	}
}

func TestListsGoOnWhereTheyStopped(t *testing.T) {
	t.Parallel()
	b := setup(t)
	d, _ := drawnLive(b, 7, 7)
	var got []uuid.UUID
	query := AssignmentQuery{DrawID: &d.ID, List: List{Limit: 3}}
	for range 3 {
		p, err := b.Assignments(t.Context(), b.supervisor, query)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range p.Items {
			got = append(got, a.ID)
		}
		query.Cursor = p.NextCursor
	}
	var want []uuid.UUID
	for _, a := range b.assignments(AssignmentQuery{DrawID: &d.ID}) {
		want = append(want, a.ID)
	}
	if diff := cmp.Diff(want, got); diff != "" || query.Cursor != "" || len(got) != 7 {
		t.Errorf("cursor %q, pages (-whole +pages):\n%s", query.Cursor, diff)
	}
	for _, l := range []List{{Limit: -1}, {Limit: 501}, {Cursor: "x"}, {Cursor: "!"}} {
		_, err := b.Forms(t.Context(), b.supervisor, l)
		locations(t, err)
	}
}

func TestVerifyFindsWhatWasChangedByHand(t *testing.T) {
	t.Parallel()
	b := setup(t)
	d, reviewers := drawnLive(b, 5, 2)
	a := b.assignments(AssignmentQuery{DrawID: &d.ID})[0]
	reviewer, _ := reviewerOf(a, reviewers)
	if _, err := b.Submit(t.Context(), reviewer, NewEvaluation{AssignmentID: a.ID, Answers: answers("a=10")}); err != nil {
		t.Fatal(err)
	}
	b.sound()
	for _, c := range []struct{ change, want string }{
		{`update evaluations set answers = '[{"question": "a", "option": "0"}]'`, "another score"},
		{`delete from holds`, "not held"},
		{`update draws set manifest_sha256 = seed_commitment`, "SHA-256"},
		{`update draws set manifest = convert_to(replace(convert_from(manifest, 'UTF8'), '"k": 2', '"k": 1'), 'UTF8')`, "signature"},
	} {
		b.exec(c.change)
		var problems []string
		if err := b.Verify(t.Context(), func(p string) { problems = append(problems, p) }); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.Join(problems, "\n"), c.want) {
			t.Errorf("after %s: %q", c.change, problems)
		}
	}
}

// The life of assignments under random steps, against a model of it; what is
// open is held and there, and nothing else is held.
func TestAssignmentsLifeByRandomSteps(t *testing.T) {
	t.Parallel()
	b := setup(t)
	rapid.Check(t, func(rt *rapid.T) {
		agent := uuid.NewString()
		reviewer := b.person(access.Reviewer, "")
		n := rapid.IntRange(1, 8).Draw(rt, "calls")
		calls := b.calls(slices.Repeat([]call{{agent: agent, queue: agent}}, n)...)
		d := b.draw(b.plan(NewPlan{PerAgent: 3, Filter: Filter{Queue: agent}, Reviewers: []uuid.UUID{reviewer.ID}}))
		m := &lifeModel{b: b, draw: d, calls: calls, agent: agent, reviewer: reviewer,
			state: map[uuid.UUID]AssignmentState{}, evaluation: map[uuid.UUID]uuid.UUID{}, of: map[uuid.UUID]uuid.UUID{}, gone: map[uuid.UUID]bool{}}
		for _, a := range b.assignments(AssignmentQuery{DrawID: &d.ID, AgentID: agent}) {
			m.add(a)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"submit": m.submit, "release": m.release, "skip": m.skip, "void": m.void, "destroy": m.destroy, "": m.check,
		})
	})
	b.sound()
}

type lifeModel struct {
	b          *bundle
	draw       Draw
	calls      []uuid.UUID
	agent      string
	reviewer   access.Actor
	order      []uuid.UUID
	state      map[uuid.UUID]AssignmentState
	of         map[uuid.UUID]uuid.UUID // the assignment's interaction
	evaluation map[uuid.UUID]uuid.UUID // the assignment's latest
	gone       map[uuid.UUID]bool
}

func (m *lifeModel) add(a Assignment) {
	m.order = append(m.order, a.ID)
	m.state[a.ID], m.of[a.ID] = a.State, a.InteractionID
}

func (m *lifeModel) some(t *rapid.T) uuid.UUID {
	if len(m.order) == 0 {
		t.Skip("nothing was drawn")
	}
	return rapid.SampledFrom(m.order).Draw(t, "assignment")
}

// expect fails unless err is nil when the model allows it and ErrState when not.
func (m *lifeModel) expect(t *rapid.T, err error, id uuid.UUID, from ...AssignmentState) bool {
	allowed := slices.Contains(from, m.state[id])
	if allowed && err != nil || !allowed && !errors.Is(err, ErrState) {
		t.Fatalf("from %s: %v", m.state[id], err)
	}
	return allowed
}

func (m *lifeModel) submit(t *rapid.T) {
	id := m.some(t)
	e, err := m.b.Submit(context.Background(), m.reviewer, NewEvaluation{AssignmentID: id, Answers: answers("a=10")})
	if m.expect(t, err, id, Assigned, Submitted) {
		m.state[id], m.evaluation[id] = Submitted, e.ID
	}
}

func (m *lifeModel) release(t *rapid.T) {
	id := m.some(t)
	if _, scored := m.evaluation[id]; !scored {
		t.Skip("nothing to release")
	}
	_, err := m.b.Release(context.Background(), m.b.supervisor, m.evaluation[id])
	if m.expect(t, err, id, Submitted, Released) {
		m.state[id] = Released
	}
}

func (m *lifeModel) skip(t *rapid.T) {
	id := m.some(t)
	_, next, err := m.b.Skip(context.Background(), m.reviewer, id, Inaudible)
	if !m.expect(t, err, id, Assigned) {
		return
	}
	m.state[id] = Skipped
	left := 0
	taken := map[uuid.UUID]bool{}
	for _, interaction := range m.of {
		taken[interaction] = true
	}
	for _, interaction := range m.calls {
		if !taken[interaction] && !m.gone[interaction] {
			left++
		}
	}
	if (next == nil) != (left == 0) {
		t.Fatalf("%d calls were left, and the replacement is %v", left, next)
	}
	if next != nil {
		m.add(*next)
	}
}

func (m *lifeModel) void(t *rapid.T) {
	id := m.some(t)
	_, err := m.b.Void(context.Background(), m.b.supervisor, id, WrongForm)
	if m.expect(t, err, id, Assigned, Submitted) {
		m.state[id] = Voided
	}
}

func (m *lifeModel) open(interaction uuid.UUID) bool {
	for id, of := range m.of {
		if of == interaction && slices.Contains([]AssignmentState{Assigned, Submitted}, m.state[id]) {
			return true
		}
	}
	return false
}

func (m *lifeModel) destroy(t *rapid.T) {
	interaction := rapid.SampledFrom(m.calls).Draw(t, "interaction")
	err := m.b.db.Write(context.Background(), func(tx *db.Tx) error {
		destroyed, _, _, err := m.b.archive.Destroy(context.Background(), tx, []uuid.UUID{interaction}, uuid.Max)
		if err != nil {
			return err
		}
		if !m.gone[interaction] && (len(destroyed) == 1) == m.open(interaction) {
			return fmt.Errorf("destroyed %d, open %v", len(destroyed), m.open(interaction))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !m.open(interaction) {
		m.gone[interaction] = true
	}
}

func (m *lifeModel) check(t *rapid.T) {
	held := m.b.held(m.draw.ID)
	for _, interaction := range m.calls {
		if held[interaction] != m.open(interaction) {
			t.Fatalf("%s: held %v, open %v", interaction, held[interaction], m.open(interaction))
		}
	}
	for _, a := range m.b.assignments(AssignmentQuery{DrawID: &m.draw.ID, AgentID: m.agent}) {
		if a.State != m.state[a.ID] {
			t.Fatalf("assignment is %s, want %s", a.State, m.state[a.ID])
		}
	}
}
