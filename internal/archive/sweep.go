package archive

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"earmark/internal/blob"
	"earmark/internal/db"
)

// orphanAge is how long an object may be without a record: so long a
// transaction may still be on its way.
const orphanAge = time.Hour

// FlagMissing marks a recording whose object the store has lost.
const FlagMissing = "missing"

const sweepBatch = 500

// SweepOrphans removes the objects that no record refers to, which a crash
// left, once they are older than olderThan and at least an hour. Recordings
// whose object is not there are flagged. It returns how many objects, and
// remains of unfinished writes, it removed.
func (a *Archive) SweepOrphans(ctx context.Context, olderThan time.Duration) (removed int, err error) {
	before := a.DB.Now().Add(-max(olderThan, orphanAge))
	var orphans []blob.Ref
	flush := func() error {
		n, err := a.removeOrphans(ctx, orphans)
		removed, orphans = removed+n, orphans[:0]
		return err
	}
	for pair, err := range a.reconcile(ctx) {
		switch {
		case err != nil:
			return removed, fmt.Errorf("sweep orphans: %w", err)
		case pair.row == nil && pair.allBefore(before):
			orphans = append(orphans, pair.refs()...)
		case pair.row != nil && !pair.readable():
			if err := a.flagMissing(ctx, *pair.row); err != nil {
				return removed, fmt.Errorf("sweep orphans: %w", err)
			}
		}
		if len(orphans) >= sweepBatch {
			if err := flush(); err != nil {
				return removed, fmt.Errorf("sweep orphans: %w", err)
			}
		}
	}
	if err := flush(); err != nil {
		return removed, fmt.Errorf("sweep orphans: %w", err)
	}
	unfinished, err := a.Blob.Sweep(ctx, before)
	if err != nil {
		return removed, fmt.Errorf("sweep orphans: %w", err)
	}
	return removed + unfinished, nil
}

// removeOrphans looks once more whether a record came.
func (a *Archive) removeOrphans(ctx context.Context, refs []blob.Ref) (int, error) {
	if len(refs) == 0 {
		return 0, nil
	}
	keys := make([]string, len(refs))
	for i, ref := range refs {
		keys[i] = ref.Key
	}
	rows, err := a.DB.Query(ctx, `select key from unnest($1::text[]) as orphan (key) where not exists (select from objects where objects.key = orphan.key)`, keys)
	if err != nil {
		return 0, err
	}
	still, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return 0, err
	}
	orphan := make(map[string]bool, len(still))
	for _, key := range still {
		orphan[key] = true
	}
	doomed := make([]blob.Ref, 0, len(refs))
	for _, ref := range refs {
		if orphan[ref.Key] {
			doomed = append(doomed, ref)
		}
	}
	kept, err := a.Blob.Delete(ctx, doomed...)
	if err != nil {
		return 0, err
	}
	return len(doomed) - len(kept), nil
}

// flagMissing tells that an object is lost, unless it is being destroyed or is
// there after all.
func (a *Archive) flagMissing(ctx context.Context, row objectRow) error {
	_, err := a.Blob.Stat(ctx, row.key)
	if !errors.Is(err, blob.ErrNotFound) {
		return err
	}
	return a.DB.Write(ctx, func(tx *db.Tx) error {
		if err := lockLiving(ctx, tx, row.interaction, "share"); errors.Is(err, ErrErased) {
			return nil
		} else if err != nil {
			return err
		}
		if row.kind != "original" {
			_, err := tx.Exec(ctx, `delete from objects where key = $1`, row.key)
			return err
		}
		_, err := tx.Exec(ctx, `
			update recordings set state = 'flagged', flags = array_append(flags, $2)
			where id = $1 and not flags @> array[$2]`, row.recording, FlagMissing)
		return err
	})
}

// objectRow is an object as the database knows it.
type objectRow struct {
	key         string
	recording   uuid.UUID
	interaction uuid.UUID
	kind        string
	state       State
	bytes       int64
	sha256      []byte
}

// pair is what database and store know under one key.
type pair struct {
	key      string
	row      *objectRow  // nil: no record
	versions []blob.Info // none: no object
}

func (p pair) allBefore(t time.Time) bool {
	for _, v := range p.versions {
		if !v.Modified.Before(t) {
			return false
		}
	}
	return true
}

// readable says that the newest version is an object.
func (p pair) readable() bool {
	var newest *blob.Info
	for i, v := range p.versions {
		if newest == nil || v.Modified.After(newest.Modified) {
			newest = &p.versions[i]
		}
	}
	return newest != nil && !newest.DeleteMarker
}

func (p pair) refs() []blob.Ref {
	refs := make([]blob.Ref, len(p.versions))
	for i, v := range p.versions {
		refs[i] = v.Ref
	}
	return refs
}

var interactionKey = regexp.MustCompile(`^\d{4}/\d{2}/\d{2}/[0-9a-f-]{36}/[^/]+$`)

// reconcile walks through database and store side by side, in the order of the
// keys, so that neither has to fit into memory. Keys that are not an
// interaction's are passed over. Rows come from one moment before the listing:
// what was taken in since looks like an object without a record.
func (a *Archive) reconcile(ctx context.Context) iter.Seq2[pair, error] {
	return func(yield func(pair, error) bool) {
		rows, err := a.DB.Query(ctx, `
			select o.key, r.id, r.interaction_id, o.kind, i.state, o.bytes, o.sha256
			from objects o join recordings r on r.id = o.recording_id join interactions i on i.id = r.interaction_id
			order by o.key collate "C"`)
		if err != nil {
			yield(pair{}, fmt.Errorf("read objects: %w", err))
			return
		}
		defer rows.Close()
		next, stop := iter.Pull2(a.Blob.List(ctx, "", ""))
		defer stop()
		m := merge{rows: rows, next: next}
		for {
			p, err := m.pair()
			if errors.Is(err, errEnd) {
				return
			}
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

var errEnd = errors.New("end of both")

// merge holds the next of each side, nil when it is to be read.
type merge struct {
	rows    pgx.Rows
	next    func() (blob.Info, error, bool)
	row     *objectRow
	info    *blob.Info
	rowsEnd bool
	infoEnd bool
}

func (m *merge) pair() (pair, error) {
	if err := m.fill(); err != nil {
		return pair{}, err
	}
	switch {
	case m.row == nil && m.info == nil:
		return pair{}, errEnd
	case m.info == nil, m.row != nil && m.row.key < m.info.Key:
		p := pair{key: m.row.key, row: m.row}
		m.row = nil
		return p, nil
	case m.row == nil, m.info.Key < m.row.key:
		return m.versions(pair{key: m.info.Key})
	default:
		p := pair{key: m.row.key, row: m.row}
		m.row = nil
		return m.versions(p)
	}
}

// versions adds all versions of the pair's key.
func (m *merge) versions(p pair) (pair, error) {
	for m.info != nil && m.info.Key == p.key {
		p.versions = append(p.versions, *m.info)
		m.info = nil
		if err := m.fill(); err != nil {
			return pair{}, err
		}
	}
	return p, nil
}

func (m *merge) fill() error {
	if m.row == nil && !m.rowsEnd {
		if err := m.readRow(); err != nil {
			return err
		}
	}
	for m.info == nil && !m.infoEnd {
		info, err, ok := m.next()
		switch {
		case !ok:
			m.infoEnd = true
		case err != nil:
			return fmt.Errorf("list objects: %w", err)
		case interactionKey.MatchString(info.Key):
			m.info = &info
		}
	}
	return nil
}

func (m *merge) readRow() error {
	if !m.rows.Next() {
		m.rowsEnd = true
		if err := m.rows.Err(); err != nil {
			return fmt.Errorf("read objects: %w", err)
		}
		return nil
	}
	var r objectRow
	if err := m.rows.Scan(&r.key, &r.recording, &r.interaction, &r.kind, &r.state, &r.bytes, &r.sha256); err != nil {
		return fmt.Errorf("read objects: %w", err)
	}
	m.row = &r
	return nil
}
