package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"earmark/internal/blob"
	"earmark/internal/db"
	"earmark/internal/media"
	"earmark/internal/seal"
)

// Analyse measures a recording, draws its waveform and, where browsers cannot
// play the original, makes a copy that they can, sealed under the same key. It
// is idempotent; a recording that is unknown, analysed or destroyed needs no
// work and is no error. Other errors are worth another try.
func (a *Archive) Analyse(ctx context.Context, recordingID uuid.UUID) error {
	o, received, err := a.toAnalyse(ctx, recordingID)
	if errors.Is(err, db.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	w := analysis{archive: a, openedObject: o, prefix: prefix(o.interaction, received)}
	err = w.run(ctx)
	if err != nil && !errors.Is(err, db.ErrCommitUnknown) {
		w.discard(ctx)
	}
	if err != nil && a.noLongerWanted(ctx, recordingID) {
		return nil
	}
	return err
}

// toAnalyse reads a recording that waits for its analysis, else db.ErrNotFound.
func (a *Archive) toAnalyse(ctx context.Context, recordingID uuid.UUID) (o openedObject, received time.Time, err error) {
	err = a.DB.QueryRow(ctx, `
		select i.id, i.received_at, i.kek_id, i.wrapped_key, r.id, r.flags, o.key, o.media_type, o.bytes, o.sha256, o.header
		from recordings r
		join interactions i on i.id = r.interaction_id
		join objects o on o.recording_id = r.id and o.kind = 'original'
		where r.id = $1 and r.state = 'received' and i.wrapped_key is not null`, recordingID).
		Scan(&o.interaction, &received, &o.wrapped.KEK, &o.wrapped.Bytes, &o.recording.ID, &o.recording.Flags,
			&o.key, &o.mediaType, &o.bytes, &o.sha256, &o.header)
	if errors.Is(err, pgx.ErrNoRows) {
		return o, received, db.ErrNotFound
	}
	if err != nil {
		return o, received, fmt.Errorf("analyse: %w", err)
	}
	return o, received, nil
}

// noLongerWanted says whether a failed analysis failed because its recording
// was destroyed meanwhile, or was done by another.
func (a *Archive) noLongerWanted(ctx context.Context, recordingID uuid.UUID) bool {
	_, _, err := a.toAnalyse(ctx, recordingID)
	return errors.Is(err, db.ErrNotFound)
}

// analysis is one recording at work.
type analysis struct {
	archive *Archive
	openedObject
	prefix  string
	key     seal.Key
	derived []derived
}

// derived is an object made from a recording.
type derived struct {
	key, kind, mediaType string
	bytes, sealedBytes   int64
	sha256, header       []byte
}

func (w *analysis) run(ctx context.Context) error {
	var err error
	if w.key, err = w.archive.Keys.Open(w.wrapped, w.interaction.String()); err != nil {
		return fmt.Errorf("analyse: %w", err)
	}
	plain, err := w.archive.plain(w.openedObject)
	if err != nil {
		return fmt.Errorf("analyse: %w", err)
	}
	source, err := media.Open(&blocks{ctx: ctx, plain: plain}, plain.Size(), w.mediaType)
	if errors.Is(err, media.ErrNotAudio) {
		return w.record(ctx, media.Info{Flags: []string{media.FlagUndecodable}})
	}
	if err != nil {
		return fmt.Errorf("analyse: %w", err)
	}
	info, err := w.measure(ctx, source)
	if err != nil {
		return fmt.Errorf("analyse: %w", err)
	}
	if err := w.copy(ctx, source, &info); err != nil {
		return fmt.Errorf("analyse: %w", err)
	}
	return w.record(ctx, info)
}

func (w *analysis) measure(ctx context.Context, source media.Source) (media.Info, error) {
	var peaks bytes.Buffer
	info, err := media.Analyse(ctx, source, &peaks)
	if err != nil || peaks.Len() == 0 {
		return info, err
	}
	return info, w.put(ctx, "peaks", media.PeaksMediaType, &peaks, int64(peaks.Len()))
}

// copy makes the listening copy where one is needed. It goes from ffmpeg to the
// store without being in the clear anywhere but in memory.
func (w *analysis) copy(ctx context.Context, source media.Source, info *media.Info) error {
	if !media.NeedsListeningCopy(*info) {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reader, writer := io.Pipe()
	made := make(chan error, 1)
	go func() {
		err := media.ListeningCopy(ctx, source, writer)
		made <- err
		writer.CloseWithError(err) // nil ends the copy in io.EOF
	}()
	err := w.put(ctx, "listening", media.ListeningCopyMediaType, reader, -1)
	cancel()
	reader.CloseWithError(context.Canceled)
	if made := <-made; errors.Is(made, media.ErrUndecodable) {
		info.Flags = append(info.Flags, media.FlagUndecodable)
		return nil
	}
	return err
}

// put seals and stores a derived object. Where the process died in an earlier
// attempt its object still has the name; it is left to the sweep of orphans,
// for it may be that of an attempt that still runs.
func (w *analysis) put(ctx context.Context, kind, mediaType string, content io.Reader, size int64) error {
	in := newIntake(Audio{Body: content, Bytes: size}, math.MaxInt64)
	sealed, err := w.key.Seal(in)
	if err != nil {
		return err
	}
	d := derived{key: w.prefix + w.recording.ID.String() + "." + kind + sealedSuffix, kind: kind, mediaType: mediaType}
	if _, err := w.archive.Blob.Stat(ctx, d.key); err == nil {
		d.key = w.prefix + w.recording.ID.String() + "." + kind + "." + w.archive.DB.NewID().String() + sealedSuffix
	} else if !errors.Is(err, blob.ErrNotFound) {
		return err
	}
	if err := w.archive.put(ctx, d.key, sealed, size); err != nil {
		return in.failed(err)
	}
	d.bytes, d.sealedBytes, d.sha256 = in.count, seal.SealedSize(in.count), in.sha256.Sum(nil)
	w.derived = append(w.derived, d)
	last := &w.derived[len(w.derived)-1]
	last.header, err = sealed.Header()
	return err
}

func (w *analysis) discard(ctx context.Context) {
	for _, d := range w.derived {
		w.archive.discard(ctx, d.key)
	}
}

// record writes what was found out, unless the interaction is being destroyed
// or another was faster: then errTaken or ErrErased.
func (w *analysis) record(ctx context.Context, info media.Info) error {
	flags := union(w.recording.Flags, info.Flags)
	state := "ready"
	if len(flags) > 0 {
		state = "flagged"
	}
	var duration *int64
	if ms := info.Duration.Milliseconds(); ms > 0 {
		duration = &ms
	}
	return w.archive.DB.Write(ctx, func(tx *db.Tx) error {
		if err := lockLiving(ctx, tx, w.interaction, "no key update"); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `
			update recordings set state = $2, flags = $3, codec = coalesce(nullif($4, ''), codec), channels = nullif($5, 0),
				sample_rate = nullif($6, 0), duration_ms = $7
			where id = $1 and state = 'received'`,
			w.recording.ID, state, flags, info.Codec, info.Channels, info.SampleRate, duration)
		if err != nil {
			return fmt.Errorf("record analysis: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return errTaken
		}
		batch := &pgx.Batch{}
		for _, d := range w.derived {
			batch.Queue(`
				insert into objects (key, recording_id, kind, media_type, bytes, sealed_bytes, sha256, header)
				values ($1, $2, $3, $4, $5, $6, $7, $8)`,
				d.key, w.recording.ID, d.kind, d.mediaType, d.bytes, d.sealedBytes, d.sha256, d.header)
		}
		batch.Queue(`update interactions set duration_ms = coalesce(duration_ms, $2) where id = $1`, w.interaction, duration)
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return fmt.Errorf("record analysis: %w", err)
		}
		return nil
	})
}

func union(a, b []string) []string {
	all := append(append([]string{}, a...), b...)
	slices.Sort(all)
	return slices.Compact(all)
}

const (
	blockSize  = 1 << 20
	keptBlocks = 4
)

// blocks reads a sealed recording in large pieces and keeps the last few: the
// tools read small ones, mostly in order, and each would be a request.
type blocks struct {
	ctx   context.Context
	plain *seal.Plain

	mu   sync.Mutex
	kept []block
}

type block struct {
	offset  int64
	content []byte
}

// ReadAt implements io.ReaderAt.
func (b *blocks) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		at := off + int64(n)
		if at >= b.plain.Size() {
			return n, io.EOF
		}
		content, err := b.block(at - at%blockSize)
		if err != nil {
			return n, err
		}
		n += copy(p[n:], content[at%blockSize:])
	}
	return n, nil
}

func (b *blocks) block(offset int64) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range b.kept {
		if k.offset == offset {
			return k.content, nil
		}
	}
	content := make([]byte, min(blockSize, b.plain.Size()-offset))
	if _, err := b.plain.ReaderAt(b.ctx).ReadAt(content, offset); err != nil {
		return nil, err
	}
	if len(b.kept) == keptBlocks {
		b.kept = slices.Delete(b.kept, 0, 1)
	}
	b.kept = append(b.kept, block{offset, content})
	return content, nil
}
