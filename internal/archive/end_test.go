package archive_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"earmark/internal/access"
	"earmark/internal/archive"
	"earmark/internal/blob"
	"earmark/internal/consent"
	"earmark/internal/db"
)

// mark is a text that stands in everything personal that a test sends.
const mark = "Nguyễnmark"

// marked is an interaction every field of which is filled.
func marked() archive.NewInteraction {
	one, seconds := 1, 2.5
	end := time.Date(2026, 3, 4, 5, 16, 7, 0, time.UTC)
	return archive.NewInteraction{
		Metadata: archive.Metadata{
			Source: "pbx", SourceID: mark + uuid.NewString(), Channel: "voice", Direction: "inbound",
			StartedAt: end.Add(-time.Minute), EndedAt: &end,
			Agent: &archive.Agent{ID: mark + "agent", Name: mark}, Queue: mark, Skill: mark, Campaign: mark,
			Customer: &archive.Customer{ID: mark, Phone: "0901234567", Email: "nguyenmark@example.com", Name: mark},
			ANI:      mark + "901", DNIS: mark + "902",
			Participants: []archive.Participant{{Role: "customer", Name: mark, Phone: mark, Email: mark}},
			Disposition:  mark, WrapUpCode: mark, HoldCount: &one, HoldSeconds: &seconds, AfterContactWorkSeconds: &seconds,
			DisconnectReason: mark, Tags: []string{mark}, Attributes: json.RawMessage(`{"ticket": "` + mark + `"}`),
		},
		Consent: &consent.Statement{Basis: access.Consent, Status: consent.Granted, Method: mark, Wording: mark,
			Proof: json.RawMessage(`"` + mark + `"`)},
		Messages:   []archive.Message{{From: mark, Text: "xin chào " + mark}},
		Transcript: mark,
	}
}

func TestPurgedIsGone(t *testing.T) { // invariant 6
	t.Parallel()
	onEachStore(t, func(t *testing.T, h *house) {
		content := wav(8000)
		a := audio(content)
		a.FileName = mark + ".wav"
		i, _, err := h.SubmitWithAudio(t.Context(), pbx(), marked(), a)
		if err != nil {
			t.Fatal(err)
		}
		bystander := h.submit(pbx(), wav(100))
		if err := h.Analyse(t.Context(), i.Recordings[0].ID); err != nil {
			t.Fatal(err)
		}
		h.hear(key(access.Reviewer), i.ID, "audio", access.Training)
		customer := uuid.MustParse(i.Customer.ID)

		purge := uuid.New()
		destroy := func() (destroyed []archive.Destroyed) {
			err := h.db.Write(t.Context(), func(tx *db.Tx) (err error) {
				destroyed, _, _, err = h.Destroy(t.Context(), tx, []uuid.UUID{i.ID}, purge)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return destroyed
		}
		first := destroy()
		if len(first) != 1 || first[0].Bytes != int64(len(content)) || first[0].Recordings != 1 {
			t.Fatalf("Destroy = %+v", first)
		}
		if diff := cmp.Diff(first, destroy()); diff != "" {
			t.Errorf("Destroy again differs:\n%s", diff)
		}
		if _, err := h.Listen(t.Context(), key(access.Reviewer), i.ID, "audio", access.Training, false); !errors.Is(err, archive.ErrErased) {
			t.Errorf("Listen: %v", err)
		}
		removed, err := h.RemoveObjects(t.Context(), []uuid.UUID{i.ID})
		if diff := cmp.Diff(map[uuid.UUID]archive.Removal{i.ID: {Versions: 2}}, removed); err != nil || diff != "" {
			t.Errorf("RemoveObjects: %v\n%s", err, diff)
		}
		removed, err = h.RemoveObjects(t.Context(), []uuid.UUID{i.ID})
		if diff := cmp.Diff(map[uuid.UUID]archive.Removal{i.ID: {}}, removed); err != nil || diff != "" {
			t.Errorf("RemoveObjects again: %v\n%s", err, diff)
		}
		for range 2 {
			err := h.db.Write(t.Context(), func(tx *db.Tx) error {
				if err := h.Scrub(t.Context(), tx, []uuid.UUID{i.ID}); err != nil {
					return err
				}
				return h.consent.ScrubCustomer(t.Context(), tx, customer)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		h.nowhere(mark, "nguyenmark", "901234567", sumOf(content))
		if n := h.entries("interaction.erased"); n != 1 {
			t.Errorf("%d entries of the erasure", n)
		}
		h.sound()
		if keys := h.objects(); len(keys) != 1 || !strings.Contains(keys[0], bystander.ID.String()) {
			t.Errorf("objects: %v", keys)
		}
	})
}

// nowhere fails when one of the texts stands in any column of any table, as
// text, in JSON, in a text search vector or in bytes.
func (h *house) nowhere(texts ...string) {
	h.Helper()
	rows, err := h.db.Query(context.Background(), `
		select table_name, column_name from information_schema.columns
		where table_schema = 'public' and data_type in ('text', 'ARRAY', 'jsonb', 'json', 'bytea', 'tsvector', 'USER-DEFINED')`)
	if err != nil {
		h.Fatal(err)
	}
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Table, Column string }])
	if err != nil || len(columns) < 50 {
		h.Fatalf("%d columns, %v", len(columns), err)
	}
	for _, c := range columns {
		column := pgx.Identifier{c.Column}.Sanitize()
		for _, text := range texts {
			for _, form := range []string{text, strings.ToLower(text), "nguyenmark"} {
				n := h.count(fmt.Sprintf(`select count(*) from %s where position(lower($1) in lower(%s::text)) > 0
					or position(encode(convert_to($1, 'UTF8'), 'hex') in %s::text) > 0`,
					pgx.Identifier{c.Table}.Sanitize(), column, column), form)
				if n > 0 {
					h.Errorf("%s.%s still holds %q", c.Table, c.Column, form)
				}
			}
		}
	}
}

// Every column that may say something of a person is declared: as scrubbed, or
// as free of personal data.
func TestEveryColumnIsDeclared(t *testing.T) { // invariant 6
	t.Parallel()
	h := open(t, setting{})
	rows, err := h.db.Query(t.Context(), `
		select table_name || '.' || column_name from information_schema.columns
		where table_schema = 'public' and table_name <> 'goose_db_version'
		and table_name in (select table_name from information_schema.tables where table_schema = 'public' and table_type = 'BASE TABLE')
		and (data_type in ('text', 'character varying', 'ARRAY', 'jsonb', 'json', 'bytea', 'tsvector', 'USER-DEFINED')
			or column_name ~ '(interaction|customer|agent|recording)')`)
	if err != nil {
		t.Fatal(err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, column := range found {
		if archive.Columns[column] == "" {
			t.Errorf("%s is declared nowhere: scrub it and say by whom, or say why it is free of personal data, in archive.Columns", column)
		}
	}
	for column := range archive.Columns {
		if !slices.Contains(found, column) {
			t.Errorf("%s is declared and is no such column", column)
		}
	}
}

// Whether they lie close together or far apart, just the objects of those that
// are purged go, and each one's are counted as its own.
func TestRemovalAmongOthers(t *testing.T) { // invariant 6
	t.Parallel()
	onEachStore(t, func(t *testing.T, h *house) {
		actor, all := pbx(), make([]archive.Interaction, 40)
		for n := range all {
			all[n] = h.submit(actor, wav(5))
			if n%3 == 0 {
				second := audio(wav(5))
				second.Name = "second"
				if _, _, err := h.PutRecording(t.Context(), actor, all[n].ID, second); err != nil {
					t.Fatal(err)
				}
			}
		}
		left := map[uuid.UUID]int{}
		for n, i := range all {
			left[i.ID] = 1
			if n%3 == 0 {
				left[i.ID] = 2
			}
		}
		for _, picks := range [][]int{{0, 39}, {1}, {3, 4, 5, 7, 9, 20}, {38, 2, 36}} {
			var ids []uuid.UUID
			want := map[uuid.UUID]archive.Removal{}
			for _, n := range picks {
				ids = append(ids, all[n].ID)
				want[all[n].ID] = archive.Removal{Versions: left[all[n].ID]}
				delete(left, all[n].ID)
			}
			err := h.db.Write(t.Context(), func(tx *db.Tx) error {
				_, _, _, err := h.Destroy(t.Context(), tx, ids, uuid.New())
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			got, err := h.RemoveObjects(t.Context(), ids)
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("RemoveObjects: %v\n%s", err, diff)
			}
		}
		found := map[uuid.UUID]int{}
		for _, k := range h.objects() {
			found[uuid.MustParse(strings.Split(k, "/")[3])]++
		}
		if diff := cmp.Diff(left, found); diff != "" {
			t.Errorf("what is left:\n%s", diff)
		}
	})
}

func TestObjectsOfTheLivingStay(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	i := h.submit(pbx(), wav(10))
	if _, err := h.RemoveObjects(t.Context(), []uuid.UUID{i.ID}); !errors.Is(err, archive.ErrLiving) {
		t.Errorf("error %v", err)
	}
	if err := h.db.Write(t.Context(), func(tx *db.Tx) error { return h.Scrub(t.Context(), tx, []uuid.UUID{i.ID}) }); err != nil {
		t.Error(err)
	}
	h.sound()
}

// keeping is a store that confirms no deletion, as one with object lock.
type keeping struct{ blob.Store }

func (keeping) Delete(_ context.Context, refs ...blob.Ref) ([]blob.Kept, error) {
	until := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	kept := make([]blob.Kept, len(refs))
	for i, ref := range refs {
		kept[i] = blob.Kept{Ref: ref, Err: &blob.LockedError{Ref: ref, Mode: "COMPLIANCE", Until: until}}
	}
	return kept, nil
}

func TestWhatTheStoreKeepsIsSaid(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	i := h.submit(pbx(), wav(10))
	h.store.Store = keeping{h.store.Store}
	err := h.db.Write(t.Context(), func(tx *db.Tx) error {
		_, _, _, err := h.Destroy(t.Context(), tx, []uuid.UUID{i.ID}, uuid.New())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	removed, err := h.RemoveObjects(t.Context(), []uuid.UUID{i.ID})
	until := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	want := map[uuid.UUID]archive.Removal{i.ID: {Remaining: []archive.Remaining{{Key: h.objects()[0], Until: &until, Reason: "locked"}}}}
	if diff := cmp.Diff(want, removed); err != nil || diff != "" {
		t.Errorf("RemoveObjects: %v\n%s", err, diff)
	}
}

// A hold that is placed while a purge runs either stops it or is told that the
// interaction is gone: no third case, in a thousand random schedules.
func TestHoldAgainstPurge(t *testing.T) { // invariant 5
	t.Parallel()
	h := open(t, setting{})
	ctx := t.Context()
	var mu sync.Mutex
	outcomes := map[string]int{}
	var schedules errgroup.Group
	schedules.SetLimit(4)
	for range 1000 {
		schedules.Go(func() error {
			spared, err := holdAgainstPurge(ctx, h)
			mu.Lock()
			defer mu.Unlock()
			outcomes[spared]++
			return err
		})
	}
	if err := schedules.Wait(); err != nil {
		t.Fatal(err)
	}
	if outcomes["0"] == 0 || outcomes["2"] == 0 {
		t.Errorf("the schedules never raced: %v", outcomes)
	}
	h.sound()
}

// holdAgainstPurge places a hold on two interactions while they are destroyed,
// and returns how many the hold saved.
func holdAgainstPurge(ctx context.Context, h *house) (spared string, err error) {
	ids := make([]uuid.UUID, 2)
	for n := range ids {
		i, _, err := h.Submit(ctx, pbx(), call())
		if err != nil {
			return "", err
		}
		ids[n] = i.ID
	}
	delay := func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `select pg_sleep($1)`, rand.Float64()*rand.Float64()*0.004)
		return err
	}
	var placed, holdGone, purgeGone []uuid.UUID
	var destroyed []archive.Destroyed
	var held map[uuid.UUID]string
	var group errgroup.Group
	for _, step := range shuffled([]func(tx *db.Tx) error{
		func(tx *db.Tx) (err error) {
			placed, holdGone, err = h.PlaceHold(ctx, tx, archive.Hold{Kind: "legal", Ref: uuid.New()}, shuffled(slices.Clone(ids)))
			return err
		},
		func(tx *db.Tx) (err error) {
			destroyed, held, purgeGone, err = h.Destroy(ctx, tx, shuffled(slices.Clone(ids)), uuid.New())
			return err
		},
	}) {
		group.Go(func() error {
			return h.db.Write(ctx, func(tx *db.Tx) error {
				if err := delay(tx); err != nil {
					return err
				}
				if err := step(tx); err != nil {
					return err
				}
				return delay(tx)
			})
		})
	}
	if err := group.Wait(); err != nil {
		return "", err
	}
	outcome := fmt.Sprintf("placed %v, gone %v; destroyed %v, held %v, gone %v", placed, holdGone, destroyed, held, purgeGone)
	if len(purgeGone) > 0 || len(placed)+len(holdGone) != 2 || len(destroyed)+len(held) != 2 {
		return "", fmt.Errorf("a third case: %s", outcome)
	}
	for _, d := range destroyed {
		if !slices.Contains(holdGone, d.ID) {
			return "", fmt.Errorf("destroyed under a hold: %s", outcome)
		}
	}
	for id, reason := range held {
		if !slices.Contains(placed, id) || reason != "held_legal" {
			return "", fmt.Errorf("spared without a hold: %s", outcome)
		}
	}
	return strconv.Itoa(len(held)), nil
}

// Holds and purges in any order do what a small model of them does.
func TestHoldsAsModelled(t *testing.T) { // invariant 5
	t.Parallel()
	h := open(t, setting{})
	ctx := t.Context()
	var last []uuid.UUID
	h.OnRelease(func(_ context.Context, _ *db.Tx, ids []uuid.UUID) error {
		last = append(last, ids...)
		return nil
	})
	write := func(t *rapid.T, fn func(tx *db.Tx) error) {
		if err := h.db.Write(ctx, fn); err != nil {
			t.Fatal(err)
		}
	}
	refs := []archive.Hold{{Kind: "legal", Ref: uuid.New()}, {Kind: "review", Ref: uuid.New()}, {Kind: "disclosure", Ref: uuid.New()}}
	rapid.Check(t, func(t *rapid.T) {
		i, _, err := h.Submit(ctx, pbx(), call())
		if err != nil {
			t.Fatal(err)
		}
		id := []uuid.UUID{i.ID}
		model := map[archive.Hold]bool{}
		gone := false
		t.Repeat(map[string]func(*rapid.T){
			"place": func(t *rapid.T) {
				hold := rapid.SampledFrom(refs).Draw(t, "hold")
				write(t, func(tx *db.Tx) error {
					placed, missed, err := h.PlaceHold(ctx, tx, hold, id)
					if len(placed) == 1 == gone || len(missed) == 1 != gone {
						t.Fatalf("placed %v, gone %v", placed, missed)
					}
					return err
				})
				if !gone {
					model[hold] = true
				}
			},
			"release": func(t *rapid.T) {
				hold := rapid.SampledFrom(refs).Draw(t, "hold")
				last = nil
				write(t, func(tx *db.Tx) error {
					released, err := h.ReleaseHold(ctx, tx, hold, id)
					if (len(released) == 1) != model[hold] {
						t.Fatalf("released %v", released)
					}
					return err
				})
				was := model[hold]
				delete(model, hold)
				if (len(last) == 1) != (was && len(model) == 0) {
					t.Fatalf("the last hold went: %v, left %v", last, model)
				}
			},
			"destroy": func(t *rapid.T) {
				write(t, func(tx *db.Tx) error {
					destroyed, held, missed, err := h.Destroy(ctx, tx, id, uuid.New())
					if len(destroyed)+len(held)+len(missed) != 1 || (len(held) == 1) != (len(model) > 0) || (len(missed) == 1) != gone {
						t.Fatalf("destroyed %v, held %v, gone %v", destroyed, held, missed)
					}
					return err
				})
				gone = gone || len(model) == 0
			},
		})
	})
}

// Of two that release an interaction's last two holds at once, one sees that
// it was the last.
func TestLastReleaseIsSeen(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	ctx := t.Context()
	told := make(chan uuid.UUID, 10)
	h.OnRelease(func(_ context.Context, _ *db.Tx, ids []uuid.UUID) error {
		for _, id := range ids {
			told <- id
		}
		return nil
	})
	for range 50 {
		i, _, err := h.Submit(ctx, pbx(), call())
		if err != nil {
			t.Fatal(err)
		}
		holds := []archive.Hold{{Kind: "legal", Ref: uuid.New()}, {Kind: "review", Ref: uuid.New()}}
		var group errgroup.Group
		for _, hold := range holds {
			err := h.db.Write(ctx, func(tx *db.Tx) error {
				_, _, err := h.PlaceHold(ctx, tx, hold, []uuid.UUID{i.ID})
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, hold := range holds {
			group.Go(func() error {
				return h.db.Write(ctx, func(tx *db.Tx) error {
					_, err := h.ReleaseHold(ctx, tx, hold, nil)
					return err
				})
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		if len(told) != 1 || <-told != i.ID {
			t.Fatal("the last release was not seen, or seen twice")
		}
	}
}

func TestRestriction(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	open := h.submit(pbx(), wav(5))
	waiting, _, err := h.Submit(t.Context(), key(access.Uploader), call())
	if err != nil {
		t.Fatal(err)
	}
	ids := []uuid.UUID{open.ID, waiting.ID}
	if err := h.db.Write(t.Context(), func(tx *db.Tx) error { return h.Restrict(t.Context(), tx, ids) }); err != nil {
		t.Fatal(err)
	}
	for _, role := range access.Roles {
		actor := key(role)
		for _, purpose := range access.Purposes {
			if _, err := h.Listen(t.Context(), actor, open.ID, "audio", purpose, false); err == nil {
				t.Errorf("%s hears what is restricted for %s", role, purpose)
			}
		}
		page, err := h.Search(t.Context(), actor, archive.Query{})
		if err != nil {
			t.Fatal(err)
		}
		if may := role == access.RecordsOfficer || role == access.PrivacyOfficer; (len(page.Items) == 2) != may {
			t.Errorf("%s finds %d", role, len(page.Items))
		}
	}
	if err := h.db.Write(t.Context(), func(tx *db.Tx) error { return h.Unrestrict(t.Context(), tx, ids) }); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[uuid.UUID]archive.State{open.ID: archive.Active, waiting.ID: archive.Quarantined} {
		if i, err := h.Get(t.Context(), key(access.PrivacyOfficer), id); err != nil || i.State != want {
			t.Errorf("state %s, %v, want %s", i.State, err, want)
		}
	}
}

func TestOfCustomer(t *testing.T) {
	t.Parallel()
	h := open(t, setting{})
	actor := pbx()
	var want []uuid.UUID
	var customer uuid.UUID
	for _, change := range []func(*archive.NewInteraction){
		func(n *archive.NewInteraction) {
			n.Customer = &archive.Customer{Phone: "0901234567", Email: "an@example.com"}
		},
		func(n *archive.NewInteraction) { n.Customer = &archive.Customer{Email: "AN@example.com"} },
		func(n *archive.NewInteraction) { n.ANI = "+84 901 234 567" },
		func(n *archive.NewInteraction) { n.Direction, n.DNIS = "outbound", "84901234567" },
		func(n *archive.NewInteraction) { n.Direction, n.ANI = "", "0901234567" }, // nobody said at whose end the number is
	} {
		n := call()
		change(&n)
		i, _, err := h.Submit(t.Context(), actor, n)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, i.ID)
		if i.Customer != nil {
			customer = uuid.MustParse(i.Customer.ID)
		}
	}
	stranger := call()
	stranger.ANI = "0907654321"
	if _, _, err := h.Submit(t.Context(), actor, stranger); err != nil {
		t.Fatal(err)
	}
	got, err := h.OfCustomer(t.Context(), h.db, customer)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("OfCustomer: %v\n%s", err, diff)
	}
}
