package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"earmark/internal/db"
	"earmark/internal/seal"
)

// Verify recomputes from what is stored whether it is what was taken in: every
// record has its objects, every object opens and hashes to what was sent, none
// is without a record for more than an hour, and of what was erased nothing is
// left. It reports each problem, by ids, and returns an error only when it
// could not look. report is called by one goroutine at a time.
func (a *Archive) Verify(ctx context.Context, report func(problem string)) error {
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		report(fmt.Sprintf(format, args...))
	}
	if err := a.verifyRecords(ctx, say); err != nil {
		return fmt.Errorf("verify archive: %w", err)
	}
	if err := a.verifyObjects(ctx, say); err != nil {
		return fmt.Errorf("verify archive: %w", err)
	}
	return nil
}

// inconsistencies are queries for ids that should find none.
var inconsistencies = []struct{ problem, sql string }{
	{"recording %s has no original object", `
		select r.id from recordings r join interactions i on i.id = r.interaction_id
		where i.state in ('active', 'quarantined', 'restricted')
		and not exists (select from objects where recording_id = r.id and kind = 'original')`},
	{"interaction %s is kept without its key", `
		select id from interactions where state in ('active', 'quarantined', 'restricted') and wrapped_key is null`},
	{"interaction %s is destroyed and still has its key", `
		select id from interactions where state in ('purging', 'erased') and (wrapped_key is not null or key_destroyed_at is null)`},
	{"interaction %s is destroyed and under a hold", `
		select i.id from interactions i where i.state in ('purging', 'erased') and exists (select from holds where interaction_id = i.id)`},
	{"interaction %s is erased and personal data are left", `
		select i.id from interactions i where i.state = 'erased' and (
			i.erased_at is null or i.source_id is not null or i.agent_id is not null or i.agent_name is not null
			or i.customer_id is not null or i.ani is not null or i.dnis is not null or i.participants is not null
			or i.attributes is not null or i.messages is not null or i.transcript is not null or i.consent is not null
			or i.tags <> '{}' or i.disposition is not null or i.queue is not null
			or exists (select from interaction_words where interaction_id = i.id)
			or exists (select from recordings r where r.interaction_id = i.id and (r.state <> 'erased' or r.sha256 is not null or r.file_name is not null)))`},
}

func (a *Archive) verifyRecords(ctx context.Context, say func(string, ...any)) error {
	for _, i := range inconsistencies {
		rows, err := a.DB.Query(ctx, i.sql)
		if err != nil {
			return err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err != nil {
			return err
		}
		for _, id := range ids {
			say(i.problem, id)
		}
	}
	return nil
}

func (a *Archive) verifyObjects(ctx context.Context, say func(string, ...any)) error {
	before := a.DB.Now().Add(-orphanAge)
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for p, err := range a.reconcile(groupCtx) {
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		group.Go(func() error {
			switch {
			case p.row == nil:
				return a.verifyOrphan(groupCtx, p, p.allBefore(before), say)
			case p.row.state == Erased:
				say("interaction %s is erased and still has object %s", p.row.interaction, p.key)
			case p.row.state == Purging:
			case !p.readable():
				return a.verifyMissing(groupCtx, *p.row, say)
			default:
				return a.verifyContent(groupCtx, *p.row, say)
			}
			return nil
		})
	}
	return group.Wait()
}

// verifyOrphan judges an object without a record: of an erased interaction it
// is a broken promise at once.
func (a *Archive) verifyOrphan(ctx context.Context, p pair, old bool, say func(string, ...any)) error {
	id := idIn(p.key)
	var erased, recorded bool
	err := a.DB.QueryRow(ctx, `
		select exists (select from interactions where id = $1 and state = 'erased'), exists (select from objects where key = $2)`, id, p.key).
		Scan(&erased, &recorded)
	if err != nil {
		return err
	}
	switch {
	case recorded: // since the walk began
	case erased:
		say("interaction %s is erased and object %s is there", id, p.key)
	case old:
		say("object %s has no record", p.key)
	}
	return nil
}

// verifyMissing looks again: the object may have been destroyed meanwhile.
func (a *Archive) verifyMissing(ctx context.Context, row objectRow, say func(string, ...any)) error {
	_, err := a.holderOf(ctx, a.DB, row.interaction)
	switch {
	case errors.Is(err, ErrErased):
		return nil
	case err != nil && !errors.Is(err, seal.ErrNoKEK) && !errors.Is(err, seal.ErrUnwrap):
		return err
	}
	say("recording %s: object %s is missing", row.recording, row.key)
	return nil
}

// verifyContent reads an object to its end.
func (a *Archive) verifyContent(ctx context.Context, row objectRow, say func(string, ...any)) error {
	owner, err := a.holderOf(ctx, a.DB, row.interaction)
	switch {
	case errors.Is(err, ErrErased):
		return nil
	case errors.Is(err, seal.ErrNoKEK), errors.Is(err, seal.ErrUnwrap):
		say("interaction %s: its key does not open", row.interaction)
		return nil
	case err != nil:
		return err
	}
	err = a.readThrough(ctx, owner, row)
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	if _, again := a.holderOf(ctx, a.DB, row.interaction); errors.Is(again, ErrErased) {
		return nil
	}
	if errors.Is(err, ErrCorrupt) || errors.Is(err, db.ErrNotFound) {
		say("recording %s: object %s is not what was sealed", row.recording, row.key)
		return nil
	}
	return err
}

func (a *Archive) readThrough(ctx context.Context, owner holder, row objectRow) (err error) {
	var header []byte
	err = a.DB.QueryRow(ctx, `select header from objects where key = $1`, row.key).Scan(&header)
	if err != nil {
		return db.Found(err)
	}
	plain, err := owner.key.Open(header, a.fetch(row.key))
	if err != nil {
		return err
	}
	l := Listening{Size: plain.Size(), plain: plain}
	if plain.Size() != row.bytes {
		return ErrCorrupt
	}
	copy(l.SHA256[:], row.sha256)
	body, err := l.Range(ctx, 0, l.Size)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	_, err = io.Copy(io.Discard, body)
	return err
}
