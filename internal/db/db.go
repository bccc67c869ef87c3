// Package db is the way to PostgreSQL: a pool to read from and Write, the only
// way to change state. What a change says to the ledger and what work it
// leaves behind is written in the transaction that makes it.
package db

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"earmark/internal/ledger"
)

// ErrNotFound says that there is nothing by that id, or nothing the asker may see.
var ErrNotFound = errors.New("not found")

// ErrCommitUnknown says that the connection was lost while a transaction was
// being committed: it may stand or not. Whoever gets it must neither report
// success nor clean up what the transaction refers to.
var ErrCommitUnknown = errors.New("it is unknown whether the change was committed")

// Querier reads: a *DB, outside any transaction, or a *Tx, inside one.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// DB is a pool of connections to a migrated database. It is safe for
// concurrent use.
type DB struct {
	pool *pgxpool.Pool
	now  func() time.Time
}

// Options are what Open may be told.
type Options struct {
	// Now is the clock; time.Now when nil.
	Now func() time.Time
	// MaxConns bounds the pool; 0 takes the URL's or pgx's own default.
	MaxConns int32
}

// Open connects to the database at url. It does not migrate.
func Open(ctx context.Context, url string, o Options) (*DB, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	if o.MaxConns > 0 {
		config.MaxConns = o.MaxConns
	}
	config.ConnConfig.RuntimeParams["timezone"] = "UTC"
	config.ConnConfig.RuntimeParams["application_name"] = "earmark"
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("reach database: %w", err)
	}
	now := o.Now
	if now == nil {
		now = time.Now
	}
	return &DB{pool: pool, now: now}, nil
}

// Close waits for every connection to come back and closes the pool.
func (d *DB) Close() { d.pool.Close() }

// Now is the time by the database's owner's clock, in UTC to the microsecond,
// which is what PostgreSQL keeps.
func (d *DB) Now() time.Time { return d.now().UTC().Truncate(time.Microsecond) }

// NewID is a UUIDv7 (RFC 9562): unique, and in the order of time.
func (d *DB) NewID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

// Ping says whether the database answers.
func (d *DB) Ping(ctx context.Context) error { return d.pool.Ping(ctx) }

// Query reads rows outside any transaction.
func (d *DB) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return d.pool.Query(ctx, sql, args...)
}

// QueryRow reads one row outside any transaction.
func (d *DB) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return d.pool.QueryRow(ctx, sql, args...)
}

// Snapshot runs fn over one unchanging, read-only view of the database.
func (d *DB) Snapshot(ctx context.Context, fn func(Querier) error) error {
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return pgx.BeginTxFunc(ctx, d.pool, options, func(tx pgx.Tx) error { return fn(tx) })
}

// Conn lends one connection of the pool for as long as fn runs, for locks
// that belong to a session.
func (d *DB) Conn(ctx context.Context, fn func(*pgx.Conn) error) error {
	return d.pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error { return fn(c.Conn()) })
}

// Tx is a transaction that changes state.
type Tx struct {
	pgx.Tx
	// Now is the one time of everything in this transaction.
	Now time.Time

	newID   func() uuid.UUID
	entries []ledger.Entry
	jobs    []Job
}

// NewID is a UUIDv7, unique and in the order of time.
func (tx *Tx) NewID() uuid.UUID { return tx.newID() }

// Record puts e into the ledger if and when the transaction commits, with an
// id and the transaction's time. Details hold ids, counts, codes and keyed
// hashes; never a name, a number or a word that was said.
func (tx *Tx) Record(e ledger.Entry) {
	e.ID, e.At = tx.newID(), tx.Now
	tx.entries = append(tx.entries, e)
}

// Job is work that is due at a time, by a worker.
type Job struct {
	// Kind names the duty, such as "recording.analyse".
	Kind string
	// Args are marshalled as JSON; ids and numbers only.
	Args any
	// DueAt is when to begin; zero: at once.
	DueAt time.Time
	// UniqueKey, when not empty, keeps a second job of the same key away
	// for as long as the first is not done.
	UniqueKey string
}

// Enqueue leaves work behind if and when the transaction commits. It is never
// worked before, and gone with a rollback.
func (tx *Tx) Enqueue(j Job) { tx.jobs = append(tx.jobs, j) }

const maxTries = 5

// Write runs fn in a transaction and commits what it did, its ledger entries
// and its jobs together; when fn fails, none of it happened. After a
// serialisation failure or a deadlock fn runs again, in a new transaction: it
// must not do what cannot be undone. No object store is called inside.
func (d *DB) Write(ctx context.Context, fn func(*Tx) error) error {
	for try := 1; ; try++ {
		err := d.writeOnce(ctx, fn)
		if try == maxTries || !retryable(err) {
			return err
		}
	}
}

func (d *DB) writeOnce(ctx context.Context, fn func(*Tx) error) (err error) {
	inner, err := d.pool.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	tx := &Tx{Tx: inner, Now: d.Now(), newID: d.NewID}
	defer func() {
		if err == nil {
			return
		}
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if e := inner.Rollback(undo); e != nil && !errors.Is(e, pgx.ErrTxClosed) {
			err = errors.Join(err, fmt.Errorf("roll back: %w", e))
		}
	}()
	if err := fn(tx); err != nil {
		return err
	}
	if err := tx.flush(ctx); err != nil {
		return err
	}
	return commit(ctx, inner)
}

// commit tells a refused commit, which changed nothing, from a lost one.
func commit(ctx context.Context, tx pgx.Tx) error {
	err := tx.Commit(ctx)
	if err == nil {
		return nil
	}
	var refused *pgconn.PgError
	// A pooler that has lost the server answers in its place, with such a code.
	isRefused := errors.As(err, &refused) && !unavailableCode(refused.Code)
	if isRefused || errors.Is(err, pgx.ErrTxCommitRollback) || errors.Is(err, pgx.ErrTxClosed) {
		return fmt.Errorf("commit: %w", err)
	}
	return fmt.Errorf("%w: %w", ErrCommitUnknown, err)
}

// flush sends all entries and jobs in one round trip.
func (tx *Tx) flush(ctx context.Context) error {
	batch := &pgx.Batch{}
	if len(tx.entries) > 0 {
		ids, texts := make([]uuid.UUID, len(tx.entries)), make([]string, len(tx.entries))
		for i, e := range tx.entries {
			text, err := e.Encode()
			if err != nil {
				return fmt.Errorf("ledger entry %s: %w", e.Action, err)
			}
			ids[i], texts[i] = e.ID, text
		}
		batch.Queue(`insert into ledger_pending (id, entry) select * from unnest($1::uuid[], $2::text[])`, ids, texts)
	}
	for _, j := range tx.jobs {
		due := j.DueAt
		if due.IsZero() {
			due = tx.Now
		}
		batch.Queue(`
			insert into outbox (id, kind, args, unique_key, due_at, created_at)
			values ($1, $2, $3, nullif($4, ''), $5, $6)
			on conflict (unique_key) do nothing`,
			tx.newID(), j.Kind, j.Args, j.UniqueKey, due, tx.Now)
	}
	if batch.Len() == 0 {
		return nil
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("write ledger and outbox: %w", err)
	}
	return nil
}

func retryable(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false
	}
	const serialisationFailure, deadlock = "40001", "40P01"
	return e.Code == serialisationFailure || e.Code == deadlock
}

// Found turns pgx's "no rows" into ErrNotFound and leaves other errors alone.
func Found(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNotFound
	}
	return err
}
