package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"os"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"earmark/internal/access"
	"earmark/internal/blob"
	"earmark/internal/db"
	"earmark/internal/fault"
	"earmark/internal/ledger"
	"earmark/internal/media"
	"earmark/internal/seal"
)

const defaultRecording = "audio"

// Audio is a recording as it arrives.
type Audio struct {
	// Name is the recording's, "audio" when empty.
	Name string
	// FileName tells headerless formats apart; it is kept.
	FileName string
	// MediaType is what the client says it is; the bytes decide.
	MediaType string
	Body      io.Reader
	// Bytes is the exact size, -1 when it is not known.
	Bytes int64
	// Digests are what the client says the bytes hash to, by the names of
	// RFC 9530: sha-256 and sha-512; others are ignored.
	Digests map[string][]byte
}

// intake reads a recording's body once: it counts, hashes, and ends in io.EOF
// only when size and digests are those that were announced, so that nothing
// else is ever sealed as a whole.
type intake struct {
	body  io.Reader
	size  int64 // -1: not known
	limit int64

	count  int64
	sha256 hash.Hash
	sha512 hash.Hash // nil unless asked for
	want   map[string][]byte
	err    error
}

func newIntake(audio Audio, limit int64) *intake {
	in := &intake{body: audio.Body, size: audio.Bytes, limit: limit, sha256: sha256.New(), want: audio.Digests}
	if in.want["sha-512"] != nil {
		in.sha512 = sha512.New()
	}
	return in
}

func (in *intake) Read(p []byte) (int, error) {
	if in.err != nil {
		return 0, in.err
	}
	n, err := in.body.Read(p)
	in.count += int64(n)
	in.sha256.Write(p[:n])
	if in.sha512 != nil {
		in.sha512.Write(p[:n])
	}
	in.err = in.judge(err)
	return n, in.err
}

func (in *intake) judge(err error) error {
	switch {
	case in.size >= 0 && in.count > in.size:
		return ErrFraming
	case in.count > in.limit:
		return ErrTooLarge
	case err == nil:
		return nil
	case err != io.EOF: //nolint:errorlint // a reader ends in io.EOF itself; what wraps it is a failure
		return fmt.Errorf("%w: %w", ErrTruncated, err)
	case in.count < in.size:
		return ErrTruncated
	case !in.digestsHold():
		return ErrDigest
	}
	return io.EOF
}

func (in *intake) digestsHold() bool {
	if want := in.want["sha-256"]; want != nil && !bytes.Equal(want, in.sha256.Sum(nil)) {
		return false
	}
	want := in.want["sha-512"]
	return want == nil || bytes.Equal(want, in.sha512.Sum(nil))
}

// broken is why the body was not read to its proper end, nil while it may be.
func (in *intake) broken() error {
	if in.err == io.EOF { //nolint:errorlint // as above
		return nil
	}
	return in.err
}

// failed is the body's own error, which comes before what the store makes of it.
func (in *intake) failed(err error) error {
	if err != nil && in.broken() != nil {
		return in.broken()
	}
	return err
}

// stored is a recording whose sealed object is in the store and whose row is
// not yet written.
type stored struct {
	id          uuid.UUID
	name        string
	fileName    string
	kind        media.Type
	bytes       int64
	sealedBytes int64
	sha256      []byte
	header      []byte
	key         string
}

// empty says that there is nothing in it to analyse.
func (s *stored) empty() bool {
	for _, flag := range s.kind.Flags {
		if flag == media.FlagEmpty {
			return true
		}
	}
	return false
}

func (s *stored) state() string {
	if s.empty() {
		return "flagged"
	}
	return "received"
}

// prefix is where the objects of an interaction lie.
func prefix(interaction uuid.UUID, received time.Time) string {
	return received.UTC().Format("2006/01/02/") + interaction.String() + "/"
}

const sealedSuffix = ".age"

func objectKey(interaction uuid.UUID, received time.Time, recording uuid.UUID, kind string) string {
	key := prefix(interaction, received) + recording.String()
	if kind != "original" {
		key += "." + kind
	}
	return key + sealedSuffix
}

// store sniffs, hashes, seals and puts a recording, in one pass over its body.
// When it returns an error nothing is left in the store, as far as the store
// could be asked.
func (a *Archive) store(ctx context.Context, owner holder, audio Audio) (*stored, error) {
	if audio.Bytes > a.MaxBytes {
		return nil, ErrTooLarge
	}
	in := newIntake(audio, a.MaxBytes)
	head := make([]byte, media.HeadSize)
	n, err := io.ReadFull(in, head)
	if err != nil && in.broken() != nil {
		return nil, in.broken() // else it is only short
	}
	head = head[:n]
	kind, err := media.Sniff(head, audio.Bytes, audio.FileName, audio.MediaType)
	if err != nil {
		return nil, fmt.Errorf("take in recording: %w", err)
	}
	s := &stored{id: a.DB.NewID(), name: audio.Name, fileName: audio.FileName, kind: kind}
	s.key = objectKey(owner.id, owner.received, s.id, "original")
	sealed, err := owner.key.Seal(io.MultiReader(bytes.NewReader(head), in))
	if err != nil {
		return nil, fmt.Errorf("take in recording: %w", err)
	}
	if err := a.put(ctx, s.key, sealed, audio.Bytes); err != nil {
		return nil, in.failed(err)
	}
	s.bytes, s.sealedBytes, s.sha256 = in.count, seal.SealedSize(in.count), in.sha256.Sum(nil)
	if s.header, err = sealed.Header(); err != nil {
		a.discard(ctx, s.key)
		return nil, fmt.Errorf("take in recording: %w", err)
	}
	fault.Point("archive.stored")
	return s, nil
}

// put stores what is sealed as one object of known size; where the plaintext's
// is not known, the sealed bytes wait on disk until it is.
func (a *Archive) put(ctx context.Context, key string, sealed *seal.Sealed, plain int64) (err error) {
	var body io.Reader = sealed
	size := seal.SealedSize(max(0, plain))
	if plain < 0 {
		spool, err := openSpool(a.SpoolDir)
		if err != nil {
			return spoolError(err)
		}
		defer func() { err = errors.Join(err, spool.Close()) }()
		if size, err = io.Copy(spool, sealed); err != nil {
			return spoolError(err)
		}
		body = io.NewSectionReader(spool, 0, size)
	}
	_, err = a.Blob.Put(ctx, key, body, size)
	if errors.Is(err, blob.ErrUncertain) {
		a.discard(ctx, key)
	}
	return err
}

// openSpool opens a file without a name: nothing of it outlives the process.
func openSpool(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if err == nil {
		return f, nil
	}
	if f, err = os.CreateTemp(dir, "spool-*"); err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func spoolError(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("spool recording: %w: %w", blob.ErrFull, err)
	}
	return fmt.Errorf("spool recording: %w", err)
}

const discardTimeout = 30 * time.Second

// discard removes an object that no row refers to nor ever will. What it
// cannot remove the sweep of orphans does.
func (a *Archive) discard(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTimeout)
	defer cancel()
	kept, err := a.Blob.Delete(ctx, blob.Ref{Key: key})
	if err != nil || len(kept) > 0 {
		slog.WarnContext(ctx, "an object without a record is left to the sweep", "key", key, "error", err)
	}
}

// drain reads a body to its end and returns its SHA-256; nothing is stored.
func (a *Archive) drain(audio Audio) ([]byte, error) {
	if audio.Bytes > a.MaxBytes {
		return nil, ErrTooLarge
	}
	in := newIntake(audio, a.MaxBytes)
	if _, err := io.Copy(io.Discard, in); err != nil {
		return nil, err
	}
	return in.sha256.Sum(nil), nil
}

// holder is an interaction as far as its objects are concerned.
type holder struct {
	id       uuid.UUID
	received time.Time
	state    State
	key      seal.Key
}

// PutRecording adds a recording to an interaction that is there. The same name
// with the same bytes again is the recording that is kept, created false; with
// other bytes it is ErrConflict. The errors of a body are those of
// SubmitWithAudio.
func (a *Archive) PutRecording(ctx context.Context, actor access.Actor, id uuid.UUID, audio Audio) (r Recording, created bool, err error) {
	if err := actor.May(access.SubmitInteractions); err != nil {
		return Recording{}, false, err
	}
	if err := audio.check(); err != nil {
		return Recording{}, false, err
	}
	i, err := a.load(ctx, a.DB, actor, id)
	if err != nil {
		return Recording{}, false, err
	}
	return a.putRecording(ctx, actor, i, audio)
}

func (a *Archive) putRecording(ctx context.Context, actor access.Actor, i Interaction, audio Audio) (Recording, bool, error) {
	if i.State == Purging || i.State == Erased {
		return Recording{}, false, ErrErased
	}
	if kept, ok := i.recording(audio.Name); ok {
		return a.sameRecording(i, kept, audio)
	}
	owner, err := a.holderOf(ctx, a.DB, i.ID)
	if err != nil {
		return Recording{}, false, err
	}
	s, err := a.store(ctx, owner, audio)
	if err != nil {
		return Recording{}, false, err
	}
	err = a.recordRecording(ctx, actor, owner.id, s)
	switch {
	case errors.Is(err, errTaken):
		a.discard(ctx, s.key)
		return a.takenRecording(ctx, actor, i.ID, s)
	case errors.Is(err, db.ErrCommitUnknown):
		return Recording{}, false, err
	case err != nil:
		a.discard(ctx, s.key)
		return Recording{}, false, err
	}
	fault.Point("archive.committed")
	if i, err = a.view(ctx, a.DB, actor, i.ID); err != nil {
		return Recording{}, false, err
	}
	r, ok := i.recording(audio.Name)
	if !ok {
		return Recording{}, false, ErrErased
	}
	r.Receipt, err = a.receipt(i, r)
	return r, true, err
}

func (i Interaction) recording(name string) (Recording, bool) {
	for _, r := range i.Recordings {
		if r.Name == name {
			return r, true
		}
	}
	return Recording{}, false
}

// sameRecording tells the same bytes again from others under the same name.
func (a *Archive) sameRecording(i Interaction, kept Recording, audio Audio) (Recording, bool, error) {
	sum, err := a.drain(audio)
	if err != nil {
		return Recording{}, false, err
	}
	return a.ifSame(i, kept, sum)
}

func (a *Archive) ifSame(i Interaction, kept Recording, sum []byte) (Recording, bool, error) {
	if fmt.Sprintf("%x", sum) != kept.SHA256 {
		return Recording{}, false, ErrConflict
	}
	var err error
	kept.Receipt, err = a.receipt(i, kept)
	return kept, false, err
}

// takenRecording answers whoever lost a race for a name.
func (a *Archive) takenRecording(ctx context.Context, actor access.Actor, id uuid.UUID, s *stored) (Recording, bool, error) {
	i, err := a.view(ctx, a.DB, actor, id)
	if err != nil {
		return Recording{}, false, err
	}
	kept, ok := i.recording(s.name)
	if !ok {
		return Recording{}, false, ErrErased
	}
	return a.ifSame(i, kept, s.sha256)
}

// errTaken says that another was faster with the same identity or name.
var errTaken = errors.New("taken")

const recordTimeout = 30 * time.Second

// finish is the context of what follows the last byte of a body: a client that
// hangs up now no longer leaves it in doubt.
func finish(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
}

// recordRecording writes the rows of a stored recording, unless its
// interaction is being destroyed or the name is taken.
func (a *Archive) recordRecording(ctx context.Context, actor access.Actor, interaction uuid.UUID, s *stored) error {
	ctx, cancel := finish(ctx)
	defer cancel()
	err := a.DB.Write(ctx, func(tx *db.Tx) error {
		if err := lockLiving(ctx, tx, interaction, "share"); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `
			with r as (
				insert into recordings (id, interaction_id, name, file_name, media_type, bytes, sha256, state, flags, codec, received_at)
				values ($1, $2, $3, nullif($4, ''), $5, $6, $7, $8, $9, nullif($10, ''), $11)
				on conflict (interaction_id, name) do nothing
				returning id)
			insert into objects (key, recording_id, kind, media_type, bytes, sealed_bytes, sha256, header)
			select $12, id, 'original', $5, $6, $13, $7, $14 from r`,
			s.id, interaction, s.name, s.fileName, s.kind.MediaType, s.bytes, s.sha256, s.state(), flagsOf(s.kind.Flags),
			s.kind.Codec, tx.Now, s.key, s.sealedBytes, s.header)
		if err != nil {
			return fmt.Errorf("record recording: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return errTaken
		}
		tx.Record(ledger.Entry{Actor: actor.String(), Action: "recording.received", Subject: "recording:" + s.id.String(),
			Details: map[string]any{"interaction_id": interaction.String(), "bytes": s.bytes, "content": a.contentHash(s.sha256)}})
		a.enqueueAnalysis(tx, s)
		return nil
	})
	return err
}

// lockLiving keeps an interaction from being destroyed until the transaction
// ends, or returns ErrErased when it is. The lock is share or, for whoever
// goes on to change the row, no key update.
func lockLiving(ctx context.Context, tx *db.Tx, interaction uuid.UUID, lock string) error {
	var state State
	err := tx.QueryRow(ctx, `select state from interactions where id = $1 for `+lock, interaction).Scan(&state)
	if err != nil {
		return fmt.Errorf("lock interaction: %w", db.Found(err))
	}
	if state == Purging || state == Erased {
		return ErrErased
	}
	return nil
}

// AnalyseJob is the kind of the job that Analyse does, AnalyseArgs its arguments.
const AnalyseJob = "recording.analyse"

// AnalyseArgs name the recording to analyse.
type AnalyseArgs struct {
	RecordingID uuid.UUID `json:"recording_id"`
}

func (a *Archive) enqueueAnalysis(tx *db.Tx, s *stored) {
	if !s.empty() {
		tx.Enqueue(db.Job{Kind: AnalyseJob, Args: AnalyseArgs{s.id}})
	}
}

// contentHash stands for a recording's bytes in the ledger.
func (a *Archive) contentHash(sum []byte) string {
	return fmt.Sprintf("%x", a.keyed("content", sum))
}

func flagsOf(flags []string) []string {
	if flags == nil {
		return []string{}
	}
	return flags
}

// holderOf reads an interaction's key. ErrErased when it is destroyed.
func (a *Archive) holderOf(ctx context.Context, q db.Querier, id uuid.UUID) (holder, error) {
	h := holder{id: id}
	var w seal.Wrapped
	err := q.QueryRow(ctx, `select state, received_at, coalesce(kek_id, ''), wrapped_key from interactions where id = $1`, id).
		Scan(&h.state, &h.received, &w.KEK, &w.Bytes)
	if errors.Is(err, pgx.ErrNoRows) {
		return holder{}, db.ErrNotFound
	}
	if err != nil {
		return holder{}, fmt.Errorf("read key: %w", err)
	}
	if w.Bytes == nil {
		return holder{}, ErrErased
	}
	if h.key, err = a.Keys.Open(w, id.String()); err != nil {
		return holder{}, fmt.Errorf("read key: %w", err)
	}
	return h, nil
}
