package quality

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/consent"
	"earmark/internal/db"
	"earmark/internal/invalid"
	"earmark/internal/ledger"
	"earmark/internal/seal"
)

// Window is the period that a draw draws from: what started at or after From
// and before To.
type Window struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// Draw is one running of a plan.
type Draw struct {
	ID     uuid.UUID `json:"id"`
	PlanID uuid.UUID `json:"plan_id"`
	// State is committed, then drawn.
	State string `json:"state"`
	Window
	// SeedCommitment is the SHA-256 of the seed, in hex.
	SeedCommitment string `json:"seed_commitment"`
	// Seed is told, in hex, once the draw is done.
	Seed string `json:"seed,omitempty"`
	// ManifestSHA256 is that of the signed manifest, in hex.
	ManifestSHA256 string `json:"manifest_sha256,omitempty"`
	// Agents had Eligible interactions between them; Picked were drawn, and
	// Shortfall are lacking to the agents' quotas. Why is in the manifest.
	Agents      int        `json:"agents"`
	Eligible    int        `json:"eligible"`
	Picked      int        `json:"picked"`
	Shortfall   int        `json:"shortfall"`
	RequestedAt time.Time  `json:"requested_at"`
	DueAt       time.Time  `json:"due_at"`
	DrawnAt     *time.Time `json:"drawn_at,omitempty"`
}

const (
	seedSize  = 32
	maxWindow = 366 * 24 * time.Hour

	committed = "committed"
	drawn     = "drawn"
)

// JobDraw is the kind of the job that runs a draw; its args are {draw_id}.
const JobDraw = "draw.run"

// CommitDraw makes the draw's seed, publishes the seed's SHA-256 in the ledger
// and leaves the job JobDraw, due at once, or at the end of a window that has
// not opened yet. Who wants the result now may call RunDraw where DueAt has
// come; the job then finds it done. Needs access.ManageQuality.
func (q *Quality) CommitDraw(ctx context.Context, actor access.Actor, planID uuid.UUID, w Window) (Draw, error) {
	if err := actor.May(access.ManageQuality); err != nil {
		return Draw{}, err
	}
	if err := w.validate(); err != nil {
		return Draw{}, err
	}
	var draw Draw
	err := q.db.Write(ctx, func(tx *db.Tx) error {
		if _, err := readPlan(ctx, tx, planID); err != nil {
			return err
		}
		draw = Draw{ID: tx.NewID(), PlanID: planID, State: committed, Window: w.utc(), RequestedAt: tx.Now, DueAt: tx.Now}
		if w.From.After(tx.Now) {
			draw.DueAt = draw.To
		}
		return q.commit(ctx, tx, actor, &draw)
	})
	if err != nil {
		return Draw{}, fmt.Errorf("commit draw: %w", err)
	}
	return draw, nil
}

func (w Window) validate() error {
	wrong := &invalid.Error{}
	if w.From.IsZero() {
		wrong.Add("body.from", "must be the time at which the window begins")
	}
	if !w.To.After(w.From) || w.To.Sub(w.From) > maxWindow {
		wrong.Add("body.to", "must be after from, by at most %d days", maxWindow/(24*time.Hour))
	}
	return wrong.Err()
}

// utc is w as PostgreSQL keeps it.
func (w Window) utc() Window {
	return Window{From: w.From.UTC().Truncate(time.Microsecond), To: w.To.UTC().Truncate(time.Microsecond)}
}

func (q *Quality) commit(ctx context.Context, tx *db.Tx, actor access.Actor, draw *Draw) error {
	seed := make([]byte, seedSize)
	if _, err := rand.Read(seed); err != nil {
		return fmt.Errorf("make seed: %w", err)
	}
	commitment := sha256.Sum256(seed)
	draw.SeedCommitment = hex.EncodeToString(commitment[:])
	wrapped := q.keys.Wrap(seed, seedUse(draw.ID))
	_, err := tx.Exec(ctx, `
		insert into draws (id, plan_id, state, window_from, window_to, seed_commitment, seed_kek_id, seed_wrapped, requested_by, requested_at, due_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		draw.ID, draw.PlanID, committed, draw.From, draw.To, commitment[:], wrapped.KEK, wrapped.Bytes,
		actor.PersonString(), tx.Now, draw.DueAt)
	if err != nil {
		return err
	}
	tx.Record(ledger.Entry{
		Actor: actor.String(), Action: "draw.committed", Subject: "draw:" + draw.ID.String(),
		Details: map[string]any{
			"plan": draw.PlanID.String(), "seed_commitment": draw.SeedCommitment,
			"from": draw.From.Format(time.RFC3339Nano), "to": draw.To.Format(time.RFC3339Nano),
		},
	})
	tx.Enqueue(db.Job{Kind: JobDraw, Args: map[string]any{"draw_id": draw.ID}, DueAt: draw.DueAt, UniqueKey: JobDraw + ":" + draw.ID.String()})
	return nil
}

// seedUse binds a wrapped seed to its draw.
func seedUse(draw uuid.UUID) string { return "draw:" + draw.String() }

// RunDraw draws what was committed, in one transaction: reads what is eligible
// now, picks, holds and assigns the picks, signs and keeps the manifest, and
// reveals the seed. Draws of one stream run one after another. Idempotent;
// db.ErrNotFound when there is no such draw.
func (q *Quality) RunDraw(ctx context.Context, id uuid.UUID) error {
	err := q.db.Write(ctx, func(tx *db.Tx) error {
		r, err := q.begin(ctx, tx, id)
		if err != nil || r.draw.State == drawn {
			return err
		}
		return r.run(ctx)
	})
	if err != nil {
		return fmt.Errorf("run draw: %w", err)
	}
	return nil
}

// running is a draw in its transaction.
type running struct {
	*Quality
	tx   *db.Tx
	draw Draw
	plan Plan
	form Form
	seed []byte
}

// begin locks the draw and its stream.
func (q *Quality) begin(ctx context.Context, tx *db.Tx, id uuid.UUID) (*running, error) {
	draw, err := scanDraw(tx.QueryRow(ctx, selectDraws+` where id = $1 for update`, id))
	if err != nil || draw.State == drawn {
		return &running{draw: draw}, db.Found(err)
	}
	plan, err := readPlan(ctx, tx, draw.PlanID)
	if err != nil {
		return nil, err
	}
	form, err := readForm(ctx, tx, plan.FormID, 0)
	if err != nil {
		return nil, err
	}
	if err := lockStream(ctx, tx, plan.Stream); err != nil {
		return nil, err
	}
	var w seal.Wrapped
	err = tx.QueryRow(ctx, `select seed_kek_id, seed_wrapped from draws where id = $1`, id).Scan(&w.KEK, &w.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read seed: %w", err)
	}
	seed, err := q.keys.Unwrap(w, seedUse(id))
	if err != nil {
		return nil, fmt.Errorf("unwrap seed: %w", err)
	}
	return &running{Quality: q, tx: tx, draw: draw, plan: plan, form: form, seed: seed}, nil
}

// lockStream makes those who pick in one stream wait for each other, so that
// each sees what the others picked.
func lockStream(ctx context.Context, tx *db.Tx, s Stream) error {
	_, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtextextended('quality.stream.' || $1, 0))`, string(s))
	if err != nil {
		return fmt.Errorf("lock stream: %w", err)
	}
	return nil
}

func (r *running) run(ctx context.Context) error {
	seen, err := r.survey(ctx)
	if err != nil {
		return fmt.Errorf("read what is eligible: %w", err)
	}
	strata, err := r.pick(ctx, seen)
	if err != nil {
		return fmt.Errorf("pick: %w", err)
	}
	m := manifest{
		Method: drawMethod, DrawID: r.draw.ID, PlanID: r.plan.ID, FormID: r.form.ID, FormVersion: r.form.Version,
		Stream: r.plan.Stream, PerAgent: r.plan.PerAgent, Filter: r.plan.Filter, Window: r.draw.Window,
		CommittedAt: r.draw.RequestedAt, Cutoff: r.tx.Now,
		SeedCommitment: r.draw.SeedCommitment, Seed: hex.EncodeToString(r.seed),
		Unattributed: seen.unattributed, Strata: strata,
	}
	if err := r.assign(ctx, strata); err != nil {
		return fmt.Errorf("assign: %w", err)
	}
	return r.finish(ctx, m)
}

// Why an interaction of the window is not eligible, as manifests say it.
const (
	notActive   = "not_active"   // quarantined or restricted
	noBasis     = "no_basis"     // nothing covers quality assurance
	noRecording = "no_recording" // none, or only empty or flagged ones
	drawnBefore = "drawn_before" // in this stream
	gone        = "gone"         // destroyed, restricted or withdrawn while it was being drawn
)

// seen is what a window holds.
type seen struct {
	byAgent      map[string]*agentSeen
	unattributed int
}

type agentSeen struct {
	eligible []uuid.UUID
	excluded map[string]int
}

func (s *agentSeen) exclude(reason string, n int) {
	if s.excluded == nil {
		s.excluded = map[string]int{}
	}
	s.excluded[reason] += n
}

// survey reads the window, one row at a time. The recordings are looked up
// from each interaction (OFFSET 0 keeps the planner from joining all there
// are), so that the cost follows the window and not the archive. The query is
// simple enough that compiling it costs more than it saves.
func (r *running) survey(ctx context.Context) (seen, error) {
	if _, err := r.tx.Exec(ctx, `set local jit = off`); err != nil {
		return seen{}, err
	}
	filter, args := r.plan.Filter.where([]any{
		r.draw.From, r.draw.To, r.plan.Stream, access.QualityAssurance,
		notActive, noBasis, drawnBefore, noRecording,
	})
	rows, err := r.tx.Query(ctx, `
		select i.id, coalesce(i.agent_id, ''),
			case
				when i.state <> 'active' then $5::text
				when not i.purposes @> array[$4::text] then $6
				when a.id is not null then $7
				when not exists (
					select from recordings c
					where c.interaction_id = i.id and c.state in ('received', 'ready')
						and not 'empty' = any (c.flags) and coalesce(c.duration_ms > 0, true)
					offset 0) then $8
				else ''
			end
		from interactions i left join assignments a on a.interaction_id = i.id and a.stream = $3
		where i.started_at >= $1 and i.started_at < $2 and i.state not in ('purging', 'erased')`+filter, args...)
	if err != nil {
		return seen{}, err
	}
	all := seen{byAgent: map[string]*agentSeen{}}
	var (
		id            uuid.UUID
		agent, reason string
	)
	_, err = pgx.ForEachRow(rows, []any{(*[16]byte)(&id), &agent, &reason}, func() error {
		all.add(agent, id, reason)
		return nil
	})
	return all, err
}

func (s *seen) add(agent string, id uuid.UUID, reason string) {
	if agent == "" {
		s.unattributed++
		return
	}
	of := s.byAgent[agent]
	if of == nil {
		of = &agentSeen{}
		s.byAgent[agent] = of
	}
	if reason != "" {
		of.exclude(reason, 1)
		return
	}
	of.eligible = append(of.eligible, id)
}

// pick draws each agent's, and holds them. Those that went meanwhile are no
// longer eligible, and the next are drawn in their place.
func (r *running) pick(ctx context.Context, all seen) ([]stratum, error) {
	agents := slices.Sorted(maps.Keys(all.byAgent))
	picked := make([][]candidate, len(agents))
	for i, agent := range agents {
		of := all.byAgent[agent]
		slices.SortFunc(of.eligible, compareIDs)
		picked[i] = bottomK(r.seed, of.eligible, r.plan.PerAgent)
	}
	held := map[uuid.UUID]bool{}
	for {
		var fresh []uuid.UUID
		for _, candidates := range picked {
			fresh = append(fresh, slices.DeleteFunc(ids(candidates), func(id uuid.UUID) bool { return held[id] })...)
		}
		lost, err := r.hold(ctx, r.tx, r.draw.ID, fresh, held)
		if err != nil {
			return nil, err
		}
		if len(lost) == 0 {
			break
		}
		for i, agent := range agents {
			of := all.byAgent[agent]
			before := len(of.eligible)
			of.eligible = slices.DeleteFunc(of.eligible, func(id uuid.UUID) bool { return lost[id] })
			if missing := before - len(of.eligible); missing > 0 {
				of.exclude(gone, missing)
				picked[i] = bottomK(r.seed, of.eligible, r.plan.PerAgent)
			}
		}
	}
	strata := make([]stratum, len(agents))
	for i, agent := range agents {
		of := all.byAgent[agent]
		strata[i] = newStratum(agent, r.plan.PerAgent, of.eligible, of.excluded, picked[i])
	}
	return strata, nil
}

// hold places the review's hold on those of ids that may be reviewed still,
// notes them in held and returns the others. The rows stay locked until the
// transaction ends: what is held here cannot be destroyed, and what is being
// destroyed is not held.
func (q *Quality) hold(ctx context.Context, tx *db.Tx, draw uuid.UUID, wanted []uuid.UUID, held map[uuid.UUID]bool) (lost map[uuid.UUID]bool, err error) {
	open, err := q.reviewable(ctx, tx, wanted)
	if err != nil {
		return nil, err
	}
	placed, _, err := q.archive.PlaceHold(ctx, tx, reviewHold(draw), open)
	if err != nil {
		return nil, err
	}
	for _, id := range placed {
		held[id] = true
	}
	lost = map[uuid.UUID]bool{}
	for _, id := range wanted {
		if !held[id] {
			lost[id] = true
		}
	}
	return lost, nil
}

func reviewHold(draw uuid.UUID) archive.Hold { return archive.Hold{Kind: "review", Ref: draw} }

// reviewable locks the interactions and returns those that are active and may
// be heard for quality assurance by what their customers said up to now.
func (q *Quality) reviewable(ctx context.Context, tx *db.Tx, ids []uuid.UUID) ([]uuid.UUID, error) {
	type row struct {
		id       uuid.UUID
		customer *uuid.UUID
		purposes []access.Purpose
		basis    *consent.Statement
	}
	rows, err := tx.Query(ctx, `
		select id, customer_id, purposes, consent from interactions
		where id = any($1) and state = 'active' order by id for update`, ids)
	active, err := collect(rows, err, func(r pgx.Row) (i row, err error) {
		return i, r.Scan(&i.id, &i.customer, &i.purposes, &i.basis)
	})
	if err != nil {
		return nil, err
	}
	var open []uuid.UUID
	for _, i := range active {
		covered, err := q.archive.Consent.Covers(ctx, tx, i.customer, i.purposes, i.basis, access.QualityAssurance)
		if err != nil {
			return nil, err
		}
		if covered {
			open = append(open, i.id)
		}
	}
	return open, nil
}

// finish signs and keeps the manifest and reveals the seed.
func (r *running) finish(ctx context.Context, m manifest) error {
	signed, err := ledger.SignDocument(r.signer, ManifestType, m)
	if err != nil {
		return err
	}
	sum, report := sha256.Sum256(signed), m.report()
	_, err = r.tx.Exec(ctx, `
		update draws set state = $2, seed = $3, seed_kek_id = null, seed_wrapped = null, manifest = $4, manifest_sha256 = $5,
			eligible = $6, agents = $7, picked = $8, shortfall = $9, drawn_at = $10
		where id = $1`,
		r.draw.ID, drawn, r.seed, signed, sum[:], report.Eligible, report.Agents, report.Picked, report.Shortfall, r.tx.Now)
	if err != nil {
		return err
	}
	r.tx.Record(ledger.Entry{
		Actor: access.System(JobDraw).String(), Action: "draw.done", Subject: "draw:" + r.draw.ID.String(),
		Details: map[string]any{
			"seed": m.Seed, "manifest_sha256": hex.EncodeToString(sum[:]), "agents": report.Agents,
			"eligible": report.Eligible, "picked": report.Picked, "shortfall": report.Shortfall,
		},
	})
	return nil
}

const selectDraws = `
	select id, plan_id, state, window_from, window_to, encode(seed_commitment, 'hex'), coalesce(encode(seed, 'hex'), ''),
		coalesce(encode(manifest_sha256, 'hex'), ''), agents, eligible, picked, shortfall, requested_at, due_at, drawn_at
	from draws`

func scanDraw(row pgx.Row) (d Draw, err error) {
	err = row.Scan(&d.ID, &d.PlanID, &d.State, &d.From, &d.To, &d.SeedCommitment, &d.Seed, &d.ManifestSHA256,
		&d.Agents, &d.Eligible, &d.Picked, &d.Shortfall, &d.RequestedAt, &d.DueAt, &d.DrawnAt)
	inUTC(&d.From, &d.To, &d.RequestedAt, &d.DueAt, d.DrawnAt)
	return d, err
}

func inUTC(times ...*time.Time) {
	for _, t := range times {
		if t != nil {
			*t = t.UTC()
		}
	}
}

// DrawQuery narrows a list of draws.
type DrawQuery struct {
	PlanID *uuid.UUID
	List
}

// Draws lists draws, newest first. Needs access.ReadQuality.
func (q *Quality) Draws(ctx context.Context, actor access.Actor, query DrawQuery) (archive.Page[Draw], error) {
	if err := actor.May(access.ReadQuality); err != nil {
		return archive.Page[Draw]{}, err
	}
	limit, before, err := query.bounds()
	if err != nil {
		return archive.Page[Draw]{}, err
	}
	rows, err := q.db.Query(ctx, selectDraws+`
		where id < $1 and ($2::uuid is null or plan_id = $2) order by id desc limit $3`, before, query.PlanID, limit+1)
	draws, err := collect(rows, err, scanDraw)
	if err != nil {
		return archive.Page[Draw]{}, fmt.Errorf("list draws: %w", err)
	}
	return page(draws, limit, func(d Draw) uuid.UUID { return d.ID }), nil
}

// Draw reads one draw. Needs access.ReadQuality; db.ErrNotFound when there is
// none.
func (q *Quality) Draw(ctx context.Context, actor access.Actor, id uuid.UUID) (Draw, error) {
	if err := actor.May(access.ReadQuality); err != nil {
		return Draw{}, err
	}
	draw, err := scanDraw(q.db.QueryRow(ctx, selectDraws+` where id = $1`, id))
	if err != nil {
		return Draw{}, fmt.Errorf("read draw: %w", db.Found(err))
	}
	return draw, nil
}

// Manifest is the signed document from which anybody can run the draw again,
// by VerifyManifest. Needs access.ReadQuality; db.ErrNotFound until the draw is
// done.
func (q *Quality) Manifest(ctx context.Context, actor access.Actor, id uuid.UUID) ([]byte, error) {
	if err := actor.May(access.ReadQuality); err != nil {
		return nil, err
	}
	return readSigned(ctx, q.db, id)
}

func readSigned(ctx context.Context, r db.Querier, draw uuid.UUID) (signed []byte, err error) {
	err = r.QueryRow(ctx, `select manifest from draws where id = $1 and state = 'drawn'`, draw).Scan(&signed)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", db.Found(err))
	}
	return signed, nil
}
