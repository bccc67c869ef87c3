package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"earmark/internal/access"
	"earmark/internal/blob"
	"earmark/internal/db"
	"earmark/internal/ledger"
	"earmark/internal/seal"
)

// listeningWindow is how long one ledger entry speaks for a listener, a
// recording and a purpose.
const listeningWindow = 15 * time.Minute

// Listening is a recording that may be heard, in the clear. It is safe for
// concurrent use.
type Listening struct {
	Recording Recording
	MediaType string
	// Size is in bytes; SHA256 is of all of them, ETag the same as a strong tag.
	Size   int64
	SHA256 [sha256.Size]byte
	ETag   string

	plain *seal.Plain
}

// Range reads n bytes from off by one read of the object store. It gives a byte
// only after it was found genuine, else ErrCorrupt; one that reads all bytes
// ends in ErrCorrupt when they do not hash to SHA256. The caller closes it.
func (l *Listening) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	body, err := l.plain.Range(ctx, off, n)
	if err != nil {
		return nil, err
	}
	if off == 0 && n == l.Size {
		return seal.Check(body, l.SHA256), nil
	}
	return body, nil
}

// Listen opens a recording for a purpose that the asker's role may use and the
// interaction's basis covers; agents theirs alone. The ledger entry is written
// before anything is given, once a listener, recording and purpose in 15
// minutes. listeningCopy asks for the copy that every browser plays, where
// there is one. Errors: access.ErrPurposeRequired, access.ErrPurposeNotPermitted,
// access.ErrForbidden, ErrConsentMissing, ErrRestricted, ErrErased, ErrCorrupt
// and db.ErrNotFound.
func (a *Archive) Listen(ctx context.Context, actor access.Actor, id uuid.UUID, name string, purpose access.Purpose, listeningCopy bool) (*Listening, error) {
	if err := mayOpen(actor, purpose); err != nil {
		return nil, err
	}
	kind := "original"
	if listeningCopy {
		kind = "listening"
	}
	since := a.DB.Now().Truncate(listeningWindow)
	o, err := a.openObject(ctx, actor, id, name, kind, heard{actor.PersonString(), purpose, since})
	if err != nil {
		return nil, err
	}
	if err := a.opens(ctx, a.DB, o.opening, purpose); err != nil {
		return nil, err
	}
	if o.key == "" {
		return nil, db.ErrNotFound
	}
	l, err := a.listening(o)
	if err != nil {
		return nil, err
	}
	if !o.heardBefore {
		if err := a.recordListening(ctx, actor, o, purpose, since); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// heard is what one ledger entry speaks for.
type heard struct {
	listener string
	purpose  access.Purpose
	since    time.Time
}

// openedObject is a recording's object with all that decides on opening it.
type openedObject struct {
	opening
	interaction  uuid.UUID
	wrapped      seal.Wrapped
	recording    Recording
	key          string // empty: there is none
	mediaType    string
	bytes        int64
	sha256       []byte
	header       []byte
	heardBefore  bool
	hasStatement bool
}

// openObject reads it in one query. Where there is no listening copy the
// original stands in for it.
func (a *Archive) openObject(ctx context.Context, actor access.Actor, id uuid.UUID, name, kind string, h heard) (openedObject, error) {
	o := openedObject{interaction: id}
	fallback := kind
	if kind == "listening" {
		fallback = "original"
	}
	var recording *uuid.UUID
	args := arguments{id, name, kind, fallback, h.listener, h.purpose, h.since}
	err := a.DB.QueryRow(ctx, `
		select i.state, i.customer_id, i.purposes, i.consent, coalesce(i.kek_id, ''), i.wrapped_key,
			exists (select from consents c where c.customer_id = i.customer_id),
			r.id, coalesce(r.name, ''), coalesce(r.file_name, ''), coalesce(r.state, ''), r.duration_ms,
			coalesce(o.key, ''), coalesce(o.media_type, ''), coalesce(o.bytes, 0), o.sha256, o.header,
			exists (select from listenings l where l.recording_id = r.id and l.listener = $5 and l.purpose = $6 and l.since = $7)
		from interactions i
		left join recordings r on r.interaction_id = i.id and r.name = $2
		left join lateral (
			select * from objects where recording_id = r.id and kind in ($3, $4) order by kind = $3 desc limit 1) o on true
		where i.id = $1 and `+scope(actor, &args), args...).
		Scan(&o.state, &o.customer, &o.purposes, &o.consent, &o.wrapped.KEK, &o.wrapped.Bytes,
			&o.hasStatement,
			&recording, &o.recording.Name, &o.recording.FileName, &o.recording.State, &o.recording.DurationMS,
			&o.key, &o.mediaType, &o.bytes, &o.sha256, &o.header,
			&o.heardBefore)
	if errors.Is(err, pgx.ErrNoRows) {
		return openedObject{}, db.ErrNotFound
	}
	if err != nil {
		return openedObject{}, fmt.Errorf("open recording: %w", err)
	}
	if !o.hasStatement {
		o.customer = nil // nothing on record that could say otherwise than the interaction
	}
	if recording != nil {
		o.recording.ID = *recording
	}
	o.recording.InteractionID, o.recording.MediaType = id, o.mediaType
	o.recording.Bytes, o.recording.SHA256 = o.bytes, fmt.Sprintf("%x", o.sha256)
	return o, nil
}

func (a *Archive) listening(o openedObject) (*Listening, error) {
	plain, err := a.plain(o)
	if err != nil {
		return nil, err
	}
	l := &Listening{Recording: o.recording, MediaType: o.mediaType, Size: plain.Size(), plain: plain}
	copy(l.SHA256[:], o.sha256)
	l.ETag = fmt.Sprintf("%q", o.recording.SHA256)
	return l, nil
}

func (a *Archive) plain(o openedObject) (*seal.Plain, error) {
	key, err := a.Keys.Open(o.wrapped, o.interaction.String())
	if err != nil {
		return nil, fmt.Errorf("open recording: %w", err)
	}
	plain, err := key.Open(o.header, a.fetch(o.key))
	if err != nil {
		return nil, fmt.Errorf("open recording: %w", err)
	}
	if plain.Size() != o.bytes {
		return nil, fmt.Errorf("open recording: %w: %d bytes, not %d", ErrCorrupt, plain.Size(), o.bytes)
	}
	return plain, nil
}

// fetch reads an object that has a record: one that is not there, or not as
// long, is damaged.
func (a *Archive) fetch(key string) seal.Fetch {
	return func(ctx context.Context, offset, length int64) (io.ReadCloser, int64, error) {
		body, info, err := a.Blob.Open(ctx, key, offset, length)
		if errors.Is(err, blob.ErrNotFound) || errors.Is(err, blob.ErrRange) {
			return nil, 0, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return body, info.Size, err
	}
}

// recordListening writes the ledger entry, unless the same was written at the
// same moment, and refuses what was destroyed or closed meanwhile.
func (a *Archive) recordListening(ctx context.Context, actor access.Actor, o openedObject, purpose access.Purpose, since time.Time) error {
	return a.DB.Write(ctx, func(tx *db.Tx) error {
		var state State
		if err := tx.QueryRow(ctx, `select state from interactions where id = $1 for share`, o.interaction).Scan(&state); err != nil {
			return fmt.Errorf("lock interaction: %w", db.Found(err))
		}
		if err := closed(state); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `
			insert into listenings (recording_id, listener, purpose, since) values ($1, $2, $3, $4)
			on conflict do nothing`, o.recording.ID, actor.PersonString(), purpose, since)
		if err != nil {
			return fmt.Errorf("record listening: %w", err)
		}
		if tag.RowsAffected() > 0 {
			tx.Record(ledger.Entry{Actor: actor.String(), Action: "recording.heard", Subject: "recording:" + o.recording.ID.String(),
				Details: map[string]any{"interaction_id": o.interaction.String(), "purpose": string(purpose)}})
		}
		return nil
	})
}

// Peaks returns a recording's waveform, in the layout of audiowaveform's .dat
// files, to those who may listen for some purpose. db.ErrNotFound when there is
// none, or none yet; the other errors are those of Listen.
func (a *Archive) Peaks(ctx context.Context, actor access.Actor, id uuid.UUID, name string) ([]byte, error) {
	if actor.May(access.Hear) != nil && actor.May(access.HearOwn) != nil {
		return nil, access.ErrForbidden
	}
	o, err := a.openObject(ctx, actor, id, name, "peaks", heard{})
	if err != nil {
		return nil, err
	}
	if err := a.opensForSome(ctx, o.opening, actor.Role.Purposes()); err != nil {
		return nil, err
	}
	if o.key == "" {
		return nil, db.ErrNotFound
	}
	return a.readAll(ctx, o)
}

// readAll reads a small object and checks its hash.
func (a *Archive) readAll(ctx context.Context, o openedObject) (content []byte, err error) {
	l, err := a.listening(o)
	if err != nil {
		return nil, err
	}
	body, err := l.Range(ctx, 0, l.Size)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	var buffer bytes.Buffer
	buffer.Grow(int(l.Size))
	_, err = buffer.ReadFrom(body)
	return buffer.Bytes(), err
}
