package db_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"earmark/internal/db"
	"earmark/internal/db/dbtest"
	"earmark/internal/ledger"
	"earmark/internal/seal"
)

func query[T any](t *testing.T, d *db.DB, sql string, args ...any) []T {
	t.Helper()
	rows, err := d.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func write(t *testing.T, d *db.DB, fn func(*db.Tx) error) {
	t.Helper()
	if err := d.Write(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func execute(t *testing.T, d *db.DB, sql string) {
	t.Helper()
	write(t, d, func(tx *db.Tx) error {
		_, err := tx.Exec(t.Context(), sql)
		return err
	})
}

var entry = ledger.Entry{Actor: "system:test", Action: "test.done", Subject: "test", Details: map[string]any{"count": 3}}

func TestEntriesAndJobsLandWithTheChange(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 2, 8, 0, 0, 123456789, time.FixedZone("", 7*60*60))
	d := dbtest.Open(t, dbtest.URL(t), db.Options{Now: func() time.Time { return now }})
	execute(t, d, `create table changed (at timestamptz)`)
	later := now.Add(time.Hour).UTC()
	write(t, d, func(tx *db.Tx) error {
		tx.Record(entry)
		tx.Record(entry)
		tx.Enqueue(db.Job{Kind: "now", Args: map[string]int{"n": 1}})
		tx.Enqueue(db.Job{Kind: "later", Args: []string{}, DueAt: later})
		_, err := tx.Exec(t.Context(), `insert into changed values ($1)`, tx.Now)
		return err
	})

	want := now.UTC().Truncate(time.Microsecond)
	if got := query[time.Time](t, d, `select at from changed`); len(got) != 1 || !got[0].Equal(want) {
		t.Errorf("changed at %v, not %v", got, want)
	}
	texts := query[string](t, d, `select entry from ledger_pending order by id`)
	if len(texts) != 2 {
		t.Fatalf("%d entries", len(texts))
	}
	for i, id := range query[uuid.UUID](t, d, `select id from ledger_pending order by id`) {
		e, err := ledger.Decode(texts[i])
		if err != nil {
			t.Fatal(err)
		}
		if e.ID != id || id.Version() != 7 || !e.At.Equal(want) || e.Action != entry.Action || e.Details["count"] != int64(3) {
			t.Errorf("%s: %+v", id, e)
		}
	}
	jobs := query[string](t, d, `
		select kind || ' ' || args || ' ' || extract(epoch from due_at - created_at)::int || ' ' || attempts from outbox order by id`)
	if diff := cmp.Diff([]string{`now {"n": 1} 0 0`, `later [] 3600 0`}, jobs); diff != "" {
		t.Error(diff)
	}
}

func TestNothingIsLeftOfWhatFails(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	execute(t, d, `create table changed (n int check (n > 0))`)
	fails := errors.New("no")
	for name, fn := range map[string]func(*db.Tx) error{
		"by its own error": func(tx *db.Tx) error {
			if _, err := tx.Exec(t.Context(), `insert into changed values (1)`); err != nil {
				return err
			}
			return fails
		},
		"by an entry that cannot be written": func(tx *db.Tx) error {
			tx.Record(ledger.Entry{Action: "test.done", Details: map[string]any{"share": 0.5}})
			_, err := tx.Exec(t.Context(), `insert into changed values (1)`)
			return err
		},
		"by a constraint": func(tx *db.Tx) error {
			_, err := tx.Exec(t.Context(), `insert into changed values (0)`)
			return err
		},
		"at the commit": func(tx *db.Tx) error {
			// A statement that failed and was ignored makes the commit a rollback.
			if _, err := tx.Exec(t.Context(), `insert into changed values (0)`); err == nil {
				return errors.New("the constraint does not hold")
			}
			return nil
		},
	} {
		err := d.Write(t.Context(), func(tx *db.Tx) error {
			tx.Record(entry)
			tx.Enqueue(db.Job{Kind: "test"})
			return fn(tx)
		})
		if err == nil || errors.Is(err, db.ErrCommitUnknown) || name == "by its own error" && !errors.Is(err, fails) {
			t.Errorf("%s: %v", name, err)
		}
	}
	left := query[int64](t, d, `
		select count(*) from changed union all select count(*) from ledger_pending union all select count(*) from outbox`)
	if diff := cmp.Diff([]int64{0, 0, 0}, left); diff != "" {
		t.Error(diff)
	}
}

func TestACancelledWriteLeavesNothing(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := d.Write(ctx, func(tx *db.Tx) error {
		tx.Record(entry)
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if n := query[int64](t, d, `select count(*) from ledger_pending`); n[0] != 0 {
		t.Errorf("%d entries", n[0])
	}
}

// A commit whose answer is lost may stand: it is neither success nor failure.
func TestALostCommitIsUnknown(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	err := d.Write(t.Context(), func(tx *db.Tx) error {
		return tx.Conn().PgConn().Conn().Close()
	})
	if !errors.Is(err, db.ErrCommitUnknown) {
		t.Errorf("%v", err)
	}
	if err := d.Ping(t.Context()); err != nil {
		t.Errorf("the pool does not recover: %v", err)
	}
}

// A pooler between here and the server answers in the server's place when it
// loses it, and the server may have committed: so do its own last words.
func TestACommitAnsweredByALossIsUnknown(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	execute(t, d, `create table changed (code text)`)
	execute(t, d, `create function fail() returns trigger language plpgsql as
		$$ begin raise exception 'server connection lost' using errcode = new.code; end $$`)
	execute(t, d, `create constraint trigger fails after insert on changed deferrable initially deferred
		for each row execute function fail()`)
	for code, unknown := range map[string]bool{"08006": true, "08P01": true, "57P01": true, "23514": false} {
		err := d.Write(t.Context(), func(tx *db.Tx) error {
			_, err := tx.Exec(t.Context(), `insert into changed values ($1)`, code)
			return err
		})
		if errors.Is(err, db.ErrCommitUnknown) != unknown || err == nil {
			t.Errorf("%s: %v", code, err)
		}
	}
}

func TestADeadlockIsTriedAgain(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	execute(t, d, `create table counters (id int primary key, n int not null)`)
	execute(t, d, `insert into counters values (1, 0), (2, 0)`)
	var bothHold sync.WaitGroup
	bothHold.Add(2)
	runs := make([]int, 2)
	errs := make([]error, 2)
	var group sync.WaitGroup
	for i := range 2 {
		group.Go(func() {
			errs[i] = d.Write(context.Background(), func(tx *db.Tx) error {
				runs[i]++
				tx.Record(entry)
				if err := count(tx, 1+i); err != nil {
					return err
				}
				if runs[i] == 1 {
					bothHold.Done()
					bothHold.Wait()
				}
				return count(tx, 2-i)
			})
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if runs[0]+runs[1] < 3 {
		t.Errorf("%v runs: at least one of the two was to run again", runs)
	}
	if diff := cmp.Diff([]int32{2, 2}, query[int32](t, d, `select n from counters order by id`)); diff != "" {
		t.Error(diff)
	}
	if n := query[int64](t, d, `select count(*) from ledger_pending`); n[0] != 2 {
		t.Errorf("%d entries of two changes", n[0])
	}
}

func count(tx *db.Tx, id int) error {
	_, err := tx.Exec(context.Background(), `update counters set n = n + 1 where id = $1`, id)
	return err
}

func TestTryingAgainEnds(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	runs := 0
	err := d.Write(t.Context(), func(tx *db.Tx) error {
		runs++
		_, err := tx.Exec(t.Context(), `do $$ begin raise serialization_failure; end $$`)
		return err
	})
	if err == nil || runs != 5 {
		t.Errorf("%d runs, %v", runs, err)
	}
}

func TestAUniqueJobIsNotDoubled(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	enqueue := func(args ...int) {
		write(t, d, func(tx *db.Tx) error {
			for _, n := range args {
				tx.Enqueue(db.Job{Kind: "sweep", UniqueKey: "sweep", Args: n})
				tx.Enqueue(db.Job{Kind: "other", Args: n})
			}
			return nil
		})
	}
	sweeps := func() []string { return query[string](t, d, `select args::text from outbox where kind = 'sweep'`) }
	enqueue(1, 2)
	enqueue(3)
	if diff := cmp.Diff([]string{"1"}, sweeps()); diff != "" {
		t.Error(diff)
	}
	if n := query[int64](t, d, `select count(*) from outbox where kind = 'other'`); n[0] != 3 {
		t.Errorf("%d jobs without a key", n[0])
	}
	execute(t, d, `delete from outbox where unique_key = 'sweep'`)
	enqueue(4)
	if diff := cmp.Diff([]string{"4"}, sweeps()); diff != "" {
		t.Error(diff)
	}
}

func TestASnapshotDoesNotChangeAndChangesNothing(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	execute(t, d, `create table changed (n int)`)
	err := d.Snapshot(t.Context(), func(q db.Querier) error {
		for range 2 {
			var n int
			if err := q.QueryRow(t.Context(), `select count(*) from changed`).Scan(&n); err != nil {
				return err
			}
			if n != 0 {
				return fmt.Errorf("%d rows", n)
			}
			execute(t, d, `insert into changed values (1)`)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	err = d.Snapshot(t.Context(), func(q db.Querier) error {
		var n int
		return q.QueryRow(t.Context(), `insert into changed values (2) returning n`).Scan(&n)
	})
	if err == nil {
		t.Error("a snapshot can be written to")
	}
}

func ring(t *testing.T) *seal.Ring {
	t.Helper()
	r, err := seal.ParseRing(seal.NewKEK())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestASecretIsMadeOnce(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	keys := ring(t)
	secrets := make([][]byte, 8)
	start := make(chan struct{})
	var group sync.WaitGroup
	for i := range secrets {
		d := dbtest.Open(t, url, db.Options{MaxConns: 2})
		group.Go(func() {
			<-start
			secret, err := d.Secret(context.Background(), keys, "signing", func() ([]byte, error) {
				fresh := make([]byte, 32)
				_, err := rand.Read(fresh)
				return fresh, err
			})
			if err != nil {
				t.Error(err)
			}
			secrets[i] = secret
		})
	}
	close(start)
	group.Wait()
	for _, secret := range secrets {
		if len(secret) != 32 || !bytes.Equal(secret, secrets[0]) {
			t.Error("two openers have two secrets")
		}
	}
	d := dbtest.Open(t, url, db.Options{})
	again, err := d.Secret(t.Context(), keys, "signing", func() ([]byte, error) { return nil, errors.New("made twice") })
	if err != nil || !bytes.Equal(again, secrets[0]) {
		t.Errorf("the secret is another now: %v", err)
	}
	if stored := query[[]byte](t, d, `select wrapped from instance_secrets`); len(stored) != 1 || bytes.Contains(stored[0], again) {
		t.Error("the secret is stored as it is")
	}
	if _, err := d.Secret(t.Context(), ring(t), "signing", nil); err == nil {
		t.Error("another ring opens it")
	}
}

func TestMigratingAtOnce(t *testing.T) {
	t.Parallel()
	url := emptyDatabase(t)
	if err := db.CheckSchema(t.Context(), url); !errors.Is(err, db.ErrSchema) {
		t.Errorf("an empty database: %v", err)
	}
	applied := make([]int, 2)
	errs := make([]error, 2)
	var group sync.WaitGroup
	for i := range 2 {
		group.Go(func() { applied[i], errs[i] = db.Migrate(context.Background(), url) })
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if applied[0] != 0 && applied[1] != 0 || applied[0]+applied[1] == 0 {
		t.Errorf("%v migrations applied: one was to work and the other to wait", applied)
	}
	if err := db.CheckSchema(t.Context(), url); err != nil {
		t.Errorf("after it: %v", err)
	}
}

// emptyDatabase drops every table of a test's database.
func emptyDatabase(t *testing.T) (url string) {
	t.Helper()
	url = dbtest.URL(t)
	d := dbtest.Open(t, url, db.Options{})
	execute(t, d, `drop schema public cascade`)
	execute(t, d, `create schema public`)
	d.Close()
	return url
}
