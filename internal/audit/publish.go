package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"earmark/internal/blob"
	"earmark/internal/db"
)

const (
	publishedPrefix = "ledger/checkpoints/"
	publishAtOnce   = 100
	// longestNote is far above any checkpoint with its signatures.
	longestNote = 64 << 10
)

// Publish puts every checkpoint that is not yet there into the object store, as
// "ledger/checkpoints/" and its size in 20 digits. An object is created once and
// never overwritten; publishing again what is there already is success. Another
// checkpoint of the same size in its place is ErrForked; the others are published
// all the same.
func (a *Audit) Publish(ctx context.Context) error {
	var forked []error
	for after := int64(-1); ; {
		waiting, err := unpublished(ctx, a.db, after)
		if err != nil {
			return err
		}
		var done []int64
		for _, c := range waiting {
			after = c.size
			if err = a.put(ctx, c); errors.Is(err, ErrForked) {
				forked, err = append(forked, err), nil
				continue
			}
			if err != nil {
				break
			}
			done = append(done, c.size)
		}
		if err := errors.Join(err, a.markPublished(ctx, done)); err != nil {
			return errors.Join(append(forked, err)...)
		}
		if len(waiting) < publishAtOnce {
			return errors.Join(forked...)
		}
	}
}

// kept is a checkpoint as the database keeps it.
type kept struct {
	size        int64
	note        string
	isPublished bool
}

func unpublished(ctx context.Context, q db.Querier, after int64) ([]kept, error) {
	rows, err := q.Query(ctx, `
		select size, note, false from ledger_checkpoints
		where published_at is null and size > $1 order by size limit $2`, after, publishAtOnce)
	return collectKept(rows, err)
}

func collectKept(rows pgx.Rows, err error) ([]kept, error) {
	if err != nil {
		return nil, fmt.Errorf("read checkpoints: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c kept, err error) {
		return c, row.Scan(&c.size, &c.note, &c.isPublished)
	})
	if err != nil {
		return nil, fmt.Errorf("read checkpoints: %w", err)
	}
	return all, nil
}

func (a *Audit) markPublished(ctx context.Context, sizes []int64) error {
	if len(sizes) == 0 {
		return nil
	}
	return a.db.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `
			update ledger_checkpoints set published_at = $2
			where size = any($1) and published_at is null`, sizes, tx.Now)
		if err != nil {
			return fmt.Errorf("mark checkpoints published: %w", err)
		}
		return nil
	})
}

func (a *Audit) put(ctx context.Context, c kept) error {
	_, err := a.store.Put(ctx, publishedKey(c.size), strings.NewReader(c.note), int64(len(c.note)))
	if err == nil {
		return nil
	}
	if !errors.Is(err, blob.ErrExists) {
		return fmt.Errorf("publish checkpoint of size %d: %w", c.size, err)
	}
	there, err := a.read(ctx, c.size)
	if err != nil {
		return fmt.Errorf("publish checkpoint of size %d: %w", c.size, err)
	}
	if !bytes.Equal(there, []byte(c.note)) {
		return fmt.Errorf("publish checkpoint of size %d: %w", c.size, ErrForked)
	}
	return nil
}

// read reads a published checkpoint.
func (a *Audit) read(ctx context.Context, size int64) (_ []byte, err error) {
	body, _, err := a.store.Open(ctx, publishedKey(size), 0, -1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	return io.ReadAll(io.LimitReader(body, longestNote))
}

// published yields the sizes of the checkpoints in the object store that are
// larger than after, rising; size -1 stands for an object that is none.
func (a *Audit) published(ctx context.Context, after int64) iter.Seq2[int64, error] {
	return func(yield func(int64, error) bool) {
		last := after
		for info, err := range a.store.List(ctx, publishedPrefix, publishedKey(after)) {
			if err != nil {
				yield(0, err)
				return
			}
			size := publishedSize(info.Key)
			// A versioned bucket lists a key once a version.
			if size == last || info.DeleteMarker {
				continue
			}
			last = size
			if !yield(size, nil) {
				return
			}
		}
	}
}

func publishedKey(size int64) string {
	return fmt.Sprintf("%s%020d", publishedPrefix, size)
}

func publishedSize(key string) int64 {
	size, err := strconv.ParseInt(strings.TrimPrefix(key, publishedPrefix), 10, 64)
	if err != nil || size < 0 || publishedKey(size) != key {
		return -1
	}
	return size
}
