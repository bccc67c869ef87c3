package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"earmark/internal/access"
	"earmark/internal/consent"
	"earmark/internal/db"
	"earmark/internal/fault"
	"earmark/internal/invalid"
	"earmark/internal/ledger"
	"earmark/internal/seal"
)

// Submit takes in an interaction without audio. The same (source, source_id)
// with the same content again is the interaction that is kept, created false;
// with other content it is ErrConflict, and ErrErased once it was erased. What
// has no basis yet is quarantined; what the customer refused is not stored:
// ErrConsentRefused. Bad fields are an *invalid.Error.
func (a *Archive) Submit(ctx context.Context, actor access.Actor, n NewInteraction) (i Interaction, created bool, err error) {
	s, err := a.submission(actor, n)
	if err != nil {
		return Interaction{}, false, err
	}
	kept, _, err := a.known(ctx, s)
	if err != nil {
		return Interaction{}, false, err
	}
	if kept != nil {
		return a.same(ctx, s, *kept)
	}
	if err := a.prepare(s); err != nil {
		return Interaction{}, false, err
	}
	err = a.record(ctx, s)
	if errors.Is(err, errTaken) {
		return a.lost(ctx, s)
	}
	if err != nil {
		return Interaction{}, false, a.refusal(ctx, s, err)
	}
	fault.Point("archive.committed")
	return a.answer(s)
}

// SubmitWithAudio takes in an interaction together with a recording, both or
// neither. An interaction that was sent before, with the same metadata and
// without this recording, gets it now. Beside Submit's errors: media.ErrNotAudio,
// ErrTooLarge, ErrTruncated, ErrFraming, ErrDigest, blob.ErrFull and
// blob.ErrUnavailable; nothing is stored after any of them.
func (a *Archive) SubmitWithAudio(ctx context.Context, actor access.Actor, n NewInteraction, audio Audio) (i Interaction, created bool, err error) {
	s, err := a.submission(actor, n)
	if err != nil {
		return Interaction{}, false, err
	}
	if err := audio.check(); err != nil {
		return Interaction{}, false, err
	}
	kept, objected, err := a.known(ctx, s)
	if err != nil {
		return Interaction{}, false, err
	}
	if kept != nil {
		return a.sameWithAudio(ctx, s, *kept, audio)
	}
	if err := a.refusedAlready(ctx, s, objected); err != nil {
		return Interaction{}, false, a.refusal(ctx, s, err)
	}
	if err := a.prepare(s); err != nil {
		return Interaction{}, false, err
	}
	if s.recording, err = a.store(ctx, s.holder, audio); err != nil {
		return Interaction{}, false, err
	}
	err = a.record(ctx, s)
	switch {
	case errors.Is(err, errTaken):
		return a.lostWithAudio(ctx, s, audio)
	case errors.Is(err, db.ErrCommitUnknown):
		return Interaction{}, false, err
	case err != nil:
		a.discard(ctx, s.recording.key)
		return Interaction{}, false, a.refusal(ctx, s, err)
	}
	fault.Point("archive.committed")
	return a.answer(s)
}

// submission is an interaction on its way in.
type submission struct {
	NewInteraction
	holder
	actor       access.Actor
	identity    []byte
	fingerprint []byte
	wrapped     seal.Wrapped
	person      *consent.Person
	recording   *stored // nil: none came with it

	// What the transaction decides.
	customer *uuid.UUID
	basis    *consent.Statement
	purposes []access.Purpose
	policy   *uuid.UUID
	until    *time.Time
}

func (a *Archive) submission(actor access.Actor, n NewInteraction) (*submission, error) {
	if err := actor.May(access.SubmitInteractions); err != nil {
		return nil, err
	}
	if err := claimSource(actor, &n); err != nil {
		return nil, err
	}
	if err := n.Validate(a.DB.Now()); err != nil {
		return nil, err
	}
	canonical, err := json.Marshal(n)
	if err != nil {
		return nil, fmt.Errorf("fingerprint: %w", err)
	}
	s := &submission{
		NewInteraction: n,
		actor:          actor,
		identity:       a.keyed("identity", []byte(n.Source), []byte(n.SourceID)),
		fingerprint:    a.keyed("fingerprint", canonical),
	}
	s.ANI, s.DNIS = a.normalNumber(s.ANI), a.normalNumber(s.DNIS)
	s.person = s.whoCalls()
	return s, nil
}

// claimSource fills in the source that a key stands for, and refuses another.
func claimSource(actor access.Actor, n *NewInteraction) error {
	switch {
	case actor.Source == "":
		return nil
	case n.Source == "":
		n.Source = actor.Source
		return nil
	case n.Source != actor.Source:
		return invalid.New("body.source", "the source that this key stands for, or leave it out")
	}
	return nil
}

// known looks for an interaction under the same identity, nil when there is
// none, and tells whether the customer ever objected to something.
func (a *Archive) known(ctx context.Context, s *submission) (kept *keptIdentity, objected bool, err error) {
	var id *uuid.UUID
	var k keptIdentity
	var person consent.Person
	if s.person != nil {
		person = *s.person
	}
	phone, _ := consent.NormalisePhone(person.Phone, a.Region)
	err = a.DB.QueryRow(ctx, `
		select i.id, coalesce(i.state, ''), i.fingerprint, exists (
			select from customer_identifiers known join consents c using (customer_id)
			where (known.kind, known.value) in (('phone', $2), ('email', $3), ('number', $4)) and c.status <> 'granted'
			union all
			select from consents c where c.customer_id = $5 and c.status <> 'granted')
		from (select) as one left join interactions i on i.identity = $1`,
		s.identity, phone, strings.ToLower(person.Email), person.Number, person.ID).
		Scan(&id, &k.state, &k.fingerprint, &objected)
	if err != nil {
		return nil, false, fmt.Errorf("look up identity: %w", err)
	}
	if id == nil {
		return nil, objected, nil
	}
	k.id = *id
	return &k, objected, nil
}

type keptIdentity struct {
	id          uuid.UUID
	state       State
	fingerprint []byte
}

// matches returns nil when what is kept is what s sends.
func (k keptIdentity) matches(s *submission) error {
	switch {
	case k.state == Purging || k.state == Erased:
		return ErrErased
	case string(k.fingerprint) != string(s.fingerprint):
		return ErrConflict
	}
	return nil
}

func (a *Archive) same(ctx context.Context, s *submission, k keptIdentity) (Interaction, bool, error) {
	if err := k.matches(s); err != nil {
		return Interaction{}, false, err
	}
	i, err := a.view(ctx, a.DB, s.actor, k.id)
	if err != nil {
		return Interaction{}, false, err
	}
	i.Receipt, err = a.receipt(i, i.Recordings...)
	return i, false, err
}

// sameWithAudio reads the body to its end whatever the answer: a client that
// is still sending would not hear it.
func (a *Archive) sameWithAudio(ctx context.Context, s *submission, k keptIdentity, audio Audio) (Interaction, bool, error) {
	if refused := k.matches(s); refused != nil {
		if _, err := a.drain(audio); err != nil {
			return Interaction{}, false, errors.Join(refused, err)
		}
		return Interaction{}, false, refused
	}
	i, err := a.view(ctx, a.DB, s.actor, k.id)
	if err != nil {
		return Interaction{}, false, err
	}
	if _, _, err := a.putRecording(ctx, s.actor, i, audio); err != nil {
		return Interaction{}, false, err
	}
	return a.same(ctx, s, k)
}

// lost answers whoever lost the race for an identity.
func (a *Archive) lost(ctx context.Context, s *submission) (Interaction, bool, error) {
	k, _, err := a.known(ctx, s)
	if err != nil {
		return Interaction{}, false, err
	}
	if k == nil {
		return Interaction{}, false, fmt.Errorf("look up identity: %w", db.ErrNotFound)
	}
	return a.same(ctx, s, *k)
}

// lostWithAudio does so when a recording came along. The body is read, but its
// bytes are in the store, sealed under a key that is still at hand: what the
// winner lacks is taken from there.
func (a *Archive) lostWithAudio(ctx context.Context, s *submission, audio Audio) (Interaction, bool, error) {
	defer a.discard(ctx, s.recording.key)
	plain, err := s.holder.key.Open(s.recording.header, a.fetch(s.recording.key))
	if err != nil {
		return Interaction{}, false, fmt.Errorf("read recording again: %w", err)
	}
	body, err := plain.Range(ctx, 0, plain.Size())
	if err != nil {
		return Interaction{}, false, fmt.Errorf("read recording again: %w", err)
	}
	audio.Body, audio.Bytes = body, plain.Size()
	k, _, err := a.known(ctx, s)
	if err != nil || k == nil {
		return Interaction{}, false, errors.Join(err, body.Close(), db.ErrNotFound)
	}
	i, created, err := a.sameWithAudio(ctx, s, *k, audio)
	return i, created, errors.Join(err, body.Close())
}

// prepare makes the interaction's id and key.
func (a *Archive) prepare(s *submission) (err error) {
	s.id, s.received = a.DB.NewID(), a.DB.Now()
	if s.key, err = seal.NewKey(); err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	s.wrapped = s.key.Wrap(a.Keys, s.id.String())
	return nil
}

// whoCalls says how the customer is known: as such, or else as a participant. A
// caller whom nobody named is known by the number at the customer's end, so
// that a later erasure finds the call.
func (s *submission) whoCalls() *consent.Person {
	if p := s.Customer; p != nil && *p != (Customer{}) {
		person := &consent.Person{Phone: p.Phone, Email: p.Email, Name: p.Name}
		if id, err := uuid.Parse(p.ID); err == nil {
			person.ID = &id
		} else {
			person.Number = p.ID
		}
		return person
	}
	for _, p := range s.Participants {
		if p.Role == "customer" && (p.Phone != "" || p.Email != "") {
			return &consent.Person{Phone: p.Phone, Email: p.Email, Name: p.Name}
		}
	}
	number := ""
	switch s.Direction {
	case "inbound":
		number = s.ANI
	case "outbound":
		number = s.DNIS
	}
	if !strings.HasPrefix(number, "+") {
		return nil
	}
	return &consent.Person{Phone: number}
}

// normalNumber is a telephone number in E.164, or as it was sent when it is
// none, such as an extension.
func (a *Archive) normalNumber(number string) string {
	if e164, ok := consent.NormalisePhone(number, a.Region); ok {
		return e164
	}
	return number
}

// errTried undoes a transaction that was only a trial.
var errTried = errors.New("tried")

// refusedAlready tells before the audio is read whether it would be in vain:
// by the interaction's own word, or by what the customer objected to. record
// decides for good.
func (a *Archive) refusedAlready(ctx context.Context, s *submission, objected bool) error {
	if s.Consent != nil {
		return a.decide(ctx, a.DB, s, nil)
	}
	if !objected {
		return nil
	}
	err := a.DB.Write(ctx, func(tx *db.Tx) error {
		if err := a.resolveAndDecide(ctx, tx, s); err != nil {
			return err
		}
		return errTried
	})
	if errors.Is(err, errTried) {
		return nil
	}
	return err
}

func (a *Archive) resolveAndDecide(ctx context.Context, tx *db.Tx, s *submission) error {
	var customer *uuid.UUID
	if s.person != nil {
		var err error
		if customer, err = a.Consent.Resolve(ctx, tx, *s.person); err != nil {
			return err
		}
	}
	return a.decide(ctx, tx, s, customer)
}

func (a *Archive) decide(ctx context.Context, q db.Querier, s *submission, customer *uuid.UUID) error {
	said := s.Consent
	if said != nil && said.At == nil {
		dated := *said
		dated.At = &s.StartedAt
		said = &dated
	}
	d, err := a.Consent.Decide(ctx, q, s.actor, s.Source, customer, said)
	if err != nil {
		return fmt.Errorf("decide on consent: %w", err)
	}
	if d.Outcome == consent.Declined {
		return ErrConsentRefused
	}
	s.customer, s.basis, s.purposes, s.state = customer, d.Basis, d.Purposes, Active
	if d.Outcome == consent.Unknown {
		s.state = Quarantined
	}
	return nil
}

// refusal notes in the ledger that something was refused, and nothing of what.
func (a *Archive) refusal(ctx context.Context, s *submission, err error) error {
	if !errors.Is(err, ErrConsentRefused) {
		return err
	}
	noted := a.DB.Write(ctx, func(tx *db.Tx) error {
		tx.Record(ledger.Entry{Actor: s.actor.String(), Action: "interaction.refused", Subject: "source",
			Details: map[string]any{"channel": s.Channel, "reason": "consent_refused"}})
		return nil
	})
	return errors.Join(err, noted)
}

// record writes all rows of the submission in one transaction, or returns
// errTaken when another has its identity.
func (a *Archive) record(ctx context.Context, s *submission) error {
	ctx, cancel := finish(ctx)
	defer cancel()
	return a.DB.Write(ctx, func(tx *db.Tx) error {
		if err := a.resolveAndDecide(ctx, tx, s); err != nil {
			return err
		}
		if err := a.retain(ctx, tx, s); err != nil {
			return err
		}
		if err := s.insert(ctx, tx); err != nil {
			return err
		}
		a.announce(tx, s)
		return nil
	})
}

func (a *Archive) retain(ctx context.Context, q db.Querier, s *submission) (err error) {
	s.policy, s.until = nil, nil
	if s.state == Quarantined {
		until := s.received.Add(a.QuarantineTerm)
		s.until = &until
		return nil
	}
	if a.Retention == nil {
		return nil
	}
	if s.policy, s.until, err = a.Retention(ctx, q, s.interaction()); err != nil {
		return fmt.Errorf("find retention: %w", err)
	}
	return nil
}

func (a *Archive) announce(tx *db.Tx, s *submission) {
	action := "interaction.received"
	if s.state == Quarantined {
		action = "interaction.received_quarantined"
	}
	details := map[string]any{"channel": s.Channel}
	if r := s.recording; r != nil {
		details["recording_id"] = r.id.String()
		details["bytes"] = r.bytes
		details["content"] = a.contentHash(r.sha256)
		a.enqueueAnalysis(tx, r)
	}
	tx.Record(ledger.Entry{Actor: s.actor.String(), Action: action, Subject: "interaction:" + s.id.String(), Details: details})
}

// insert writes interaction, words, recording and object in one statement.
func (s *submission) insert(ctx context.Context, tx *db.Tx) error {
	agent, r := s.agent(), s.recordingColumns()
	tag, err := tx.Exec(ctx, `
		with i as (
			insert into interactions (
				id, identity, fingerprint, state, source, source_id, channel, direction, started_at, ended_at, duration_ms,
				agent_id, agent_name, queue, skill, campaign, customer_id, ani, dnis, participants,
				disposition, wrap_up_code, hold_count, hold_seconds, after_contact_work_seconds, disconnect_reason,
				tags, attributes, consent, purposes, messages, transcript, policy_id, retain_until,
				received_at, received_from, kek_id, wrapped_key)
			values ($1, $2, $3, $4, $5, $6, $7, nullif($8, ''), $9, $10, $11,
				nullif($12, ''), nullif($13, ''), nullif($14, ''), nullif($15, ''), nullif($16, ''), $17, nullif($18, ''), nullif($19, ''), $20,
				nullif($21, ''), nullif($22, ''), $23, $24, $25, nullif($26, ''),
				$27, $28, $29, $30, $31, nullif($32, ''), $33, $34,
				$35, $36, $37, $38)
			on conflict (identity) do nothing
			returning id),
		w as (
			insert into interaction_words (interaction_id, words, labels)
			select id, to_tsvector('earmark', $39), to_tsvector('earmark', $52) from i where $39 <> ''),
		r as (
			insert into recordings (id, interaction_id, name, file_name, media_type, bytes, sha256, state, flags, codec, received_at)
			select $40::uuid, id, $41, nullif($42, ''), $43, $44, $45, $46, $47, nullif($48, ''), $35 from i where $40::uuid is not null
			returning id),
		o as (
			insert into objects (key, recording_id, kind, media_type, bytes, sealed_bytes, sha256, header)
			select $49, id, 'original', $43, $44, $50, $45, $51 from r)
		select from i`,
		s.id, s.identity, s.fingerprint, s.state, s.Source, s.SourceID, s.Channel, s.Direction, s.StartedAt, s.EndedAt, s.durationMS(),
		agent.ID, agent.Name, s.Queue, s.Skill, s.Campaign, s.customer, s.ANI, s.DNIS, jsonOrNull(s.Participants),
		s.Disposition, s.WrapUpCode, s.HoldCount, s.HoldSeconds, s.AfterContactWorkSeconds, s.DisconnectReason,
		flagsOf(s.Tags), s.Attributes, s.basis, purposesOf(s.purposes), jsonOrNull(s.Messages), s.Transcript, s.policy, s.until,
		s.received, s.actor.PersonString(), s.wrapped.KEK, s.wrapped.Bytes,
		wordsOf(s.Metadata, s.Messages, s.Transcript),
		r.id, r.name, r.fileName, r.mediaType, r.bytes, r.sha256, r.state, r.flags, r.codec, r.key, r.sealedBytes, r.header,
		wordsOf(s.Metadata, nil, ""))
	if err != nil {
		return fmt.Errorf("record interaction: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return errTaken
	}
	return nil
}

type recordingColumns struct {
	id                               *uuid.UUID
	name, fileName, mediaType, state string
	codec, key                       string
	bytes, sealedBytes               int64
	sha256, header                   []byte
	flags                            []string
}

func (s *submission) recordingColumns() recordingColumns {
	r := s.recording
	if r == nil {
		return recordingColumns{}
	}
	return recordingColumns{&r.id, r.name, r.fileName, r.kind.MediaType, r.state(), r.kind.Codec, r.key,
		r.bytes, r.sealedBytes, r.sha256, r.header, flagsOf(r.kind.Flags)}
}

func (s *submission) agent() Agent {
	if s.Agent == nil {
		return Agent{}
	}
	return *s.Agent
}

func (m Metadata) durationMS() *int64 {
	if m.EndedAt == nil {
		return nil
	}
	ms := m.EndedAt.Sub(m.StartedAt).Milliseconds()
	return &ms
}

// jsonOrNull keeps an empty list from being kept as JSON.
func jsonOrNull[T any](list []T) any {
	if len(list) == 0 {
		return nil
	}
	return list
}

func purposesOf(purposes []access.Purpose) []access.Purpose {
	if purposes == nil {
		return []access.Purpose{}
	}
	return purposes
}

// maxWords bounds the text that is indexed: PostgreSQL keeps no tsvector of
// more than a mebibyte, which a text of a quarter of that cannot reach.
const maxWords = 256 << 10

// wordsOf are what an interaction is found by: its beginning where it is very long.
func wordsOf(m Metadata, messages []Message, transcript string) string {
	var b strings.Builder
	add := func(words string) {
		if words != "" && b.Len() < maxWords {
			b.WriteString(words)
			b.WriteByte('\n')
		}
	}
	if m.Agent != nil {
		add(m.Agent.Name)
	}
	for _, words := range append([]string{m.Disposition, m.WrapUpCode, m.Queue, m.Skill, m.Campaign}, m.Tags...) {
		add(words)
	}
	for _, message := range messages {
		add(message.Text)
	}
	add(transcript)
	return cut(b.String(), maxWords)
}

// cut is at most n bytes of s, without half a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// interaction is the submission as those who sent it see it.
func (s *submission) interaction() Interaction {
	i := Interaction{
		ID: s.id, State: s.state, Metadata: s.Metadata, DurationMS: s.durationMS(),
		Consent: s.basis, Purposes: purposesOf(s.purposes), Recordings: []Recording{}, Holds: []Held{},
		PolicyID: s.policy, RetainUntil: s.until, ReceivedAt: s.received,
		HasText: len(s.Messages) > 0 || s.Transcript != "",
	}
	i.Tags, i.Customer = flagsOf(i.Tags), nil
	if s.customer != nil {
		i.Customer = &Customer{ID: s.customer.String()}
	}
	if r := s.recording; r != nil {
		i.Recordings = append(i.Recordings, Recording{
			ID: r.id, InteractionID: s.id, Name: r.name, FileName: r.fileName, MediaType: r.kind.MediaType,
			Bytes: r.bytes, SHA256: fmt.Sprintf("%x", r.sha256), State: r.state(), Flags: flagsOf(r.kind.Flags),
			Codec: r.kind.Codec, ReceivedAt: s.received,
		})
	}
	return i
}

func (a *Archive) answer(s *submission) (Interaction, bool, error) {
	i := s.interaction()
	if i.Consent != nil && s.actor.May(access.ReadCustomers) != nil {
		shown := *i.Consent
		shown.Proof, shown.Wording = nil, ""
		i.Consent = &shown
	}
	var err error
	i.Receipt, err = a.receipt(i, i.Recordings...)
	return i, true, err
}

// receipt signs what was taken in, by ids, sizes and hashes; nil without a signer.
func (a *Archive) receipt(i Interaction, recordings ...Recording) (json.RawMessage, error) {
	if a.Signer == nil {
		return nil, nil
	}
	kept := make([]any, 0, len(recordings))
	for _, r := range recordings {
		kept = append(kept, map[string]any{"id": r.ID.String(), "name": r.Name, "bytes": r.Bytes, "sha256": r.SHA256})
	}
	receipt, err := ledger.SignDocument(a.Signer, "earmark.receipt/1", map[string]any{
		"interaction_id": i.ID.String(), "source": i.Source, "source_id": i.SourceID,
		"received_at": i.ReceivedAt.Format(time.RFC3339Nano), "recordings": kept,
	})
	if err != nil {
		return nil, fmt.Errorf("sign receipt: %w", err)
	}
	return receipt, nil
}
