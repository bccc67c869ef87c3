package archive

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"earmark/internal/access"
	"earmark/internal/consent"
	"earmark/internal/db"
	"earmark/internal/invalid"
	"earmark/internal/ledger"
)

// Amend changes what may be changed afterwards. The consent is for those alone
// who may record consents: a grant, or another basis, releases the interaction
// from quarantine; a refusal closes it. Errors are those of Get, and
// *invalid.Error.
func (a *Archive) Amend(ctx context.Context, actor access.Actor, id uuid.UUID, p Patch) (i Interaction, err error) {
	if err := actor.May(access.AmendInteractions); err != nil {
		return Interaction{}, err
	}
	if p.Consent != nil {
		if err := actor.May(access.RecordConsent); err != nil {
			return Interaction{}, err
		}
	}
	if err := p.validate(a.DB.Now()); err != nil {
		return Interaction{}, err
	}
	err = a.DB.Write(ctx, func(tx *db.Tx) error {
		i, err = a.amend(ctx, tx, actor, id, p)
		return err
	})
	if err != nil {
		return Interaction{}, err
	}
	return i, nil
}

func (p *Patch) validate(now time.Time) error {
	e := &invalid.Error{}
	if p.Tags != nil {
		tags := checkTags(e, *p.Tags)
		p.Tags = &tags
	}
	for location, field := range map[string]**string{
		"body.disposition": &p.Disposition, "body.wrap_up_code": &p.WrapUpCode, "body.disconnect_reason": &p.DisconnectReason,
	} {
		if *field != nil {
			clean := **field
			line(e, location, &clean)
			*field = &clean
		}
	}
	if p.Attributes != nil {
		p.Attributes = checkAttributes(e, p.Attributes)
		if p.Attributes == nil {
			p.Attributes = []byte("{}")
		}
	}
	if p.Consent != nil {
		checked, err := p.Consent.Checked("body.consent", now)
		collect(e, err)
		p.Consent = &checked
	}
	return e.Err()
}

func (a *Archive) amend(ctx context.Context, tx *db.Tx, actor access.Actor, id uuid.UUID, p Patch) (Interaction, error) {
	if _, err := tx.Exec(ctx, `select from interactions where id = $1 for no key update`, id); err != nil {
		return Interaction{}, fmt.Errorf("amend: %w", err)
	}
	i, err := a.load(ctx, tx, actor, id)
	if err != nil {
		return Interaction{}, err
	}
	if !slices.Contains(visibleStates(actor), i.State) || !slices.Contains(living, i.State) {
		return Interaction{}, closed(i.State)
	}
	wasQuarantined := i.State == Quarantined
	changed := p.apply(&i)
	if err := a.settle(ctx, tx, &i); err != nil {
		return Interaction{}, err
	}
	if err := update(ctx, tx, i, p.Consent != nil); err != nil {
		return Interaction{}, err
	}
	tx.Record(ledger.Entry{Actor: actor.String(), Action: "interaction.amended", Subject: "interaction:" + id.String(),
		Details: map[string]any{"fields": strings.Join(changed, ",")}})
	if wasQuarantined && i.State == Active {
		recordRelease(tx, actor, i)
	}
	return i, nil
}

// apply returns the names of the fields that it set.
func (p Patch) apply(i *Interaction) (changed []string) {
	set := func(name string, from *string, to *string) {
		if from != nil {
			*to, changed = *from, append(changed, name)
		}
	}
	set("disposition", p.Disposition, &i.Disposition)
	set("wrap_up_code", p.WrapUpCode, &i.WrapUpCode)
	set("disconnect_reason", p.DisconnectReason, &i.DisconnectReason)
	if p.Tags != nil {
		i.Tags, changed = *p.Tags, append(changed, "tags")
	}
	if p.Attributes != nil {
		i.Attributes, changed = p.Attributes, append(changed, "attributes")
		if string(p.Attributes) == "{}" {
			i.Attributes = nil
		}
	}
	if p.Consent != nil {
		said := *p.Consent
		if said.At == nil {
			said.At = &i.StartedAt
		}
		i.Consent, changed = &said, append(changed, "consent")
		i.Purposes = []access.Purpose{}
		if said.Status == consent.Granted {
			i.Purposes = said.Purposes
		}
	}
	return changed
}

// settle brings state and retention into line with what was changed. One
// person's amendment lengthens retention or leaves it: what shortens it is a
// policy that two people put in force, when the archive is recomputed by it.
func (a *Archive) settle(ctx context.Context, tx *db.Tx, i *Interaction) error {
	released := i.State == Quarantined && len(i.Purposes) > 0
	if released {
		i.State, i.PolicyID, i.RetainUntil = Active, nil, nil
	}
	if i.State == Quarantined || a.Retention == nil {
		return nil
	}
	policy, until, err := a.Retention(ctx, tx, *i)
	if err != nil {
		return fmt.Errorf("find retention: %w", err)
	}
	if released || !endsBefore(until, i.RetainUntil) {
		i.PolicyID, i.RetainUntil = policy, until
	}
	return nil
}

// endsBefore compares two ends of retention, nil being none.
func endsBefore(a, b *time.Time) bool { return a != nil && (b == nil || a.Before(*b)) }

func recordRelease(tx *db.Tx, actor access.Actor, i Interaction) {
	tx.Record(ledger.Entry{Actor: actor.String(), Action: "interaction.released_from_quarantine", Subject: "interaction:" + i.ID.String(),
		Details: map[string]any{"basis": i.Consent.Basis}})
}

// update writes what can change of an interaction, and the words it is found
// by; its consent only where that did change, for a view may not show all of it.
func update(ctx context.Context, tx *db.Tx, i Interaction, consentChanged bool) error {
	var text Text
	err := tx.QueryRow(ctx, `
		update interactions set state = $2, tags = $3, disposition = nullif($4, ''), wrap_up_code = nullif($5, ''),
			disconnect_reason = nullif($6, ''), attributes = $7,
			consent = case when $12 then $8 else consent end, purposes = $9, policy_id = $10, retain_until = $11
		where id = $1 returning coalesce(messages, '[]'), coalesce(transcript, '')`,
		i.ID, i.State, flagsOf(i.Tags), i.Disposition, i.WrapUpCode,
		i.DisconnectReason, i.Attributes, i.Consent, purposesOf(i.Purposes), i.PolicyID, i.RetainUntil, consentChanged).
		Scan(&text.Messages, &text.Transcript)
	if err != nil {
		return fmt.Errorf("update interaction: %w", err)
	}
	_, err = tx.Exec(ctx, `
		insert into interaction_words (interaction_id, words, labels) values ($1, to_tsvector('earmark', $2), to_tsvector('earmark', $3))
		on conflict (interaction_id) do update set words = excluded.words, labels = excluded.labels`,
		i.ID, wordsOf(i.Metadata, text.Messages, text.Transcript), wordsOf(i.Metadata, nil, ""))
	if err != nil {
		return fmt.Errorf("update interaction's words: %w", err)
	}
	return nil
}

// ReleaseJob is the kind of the job that Release does; its arguments are the
// consent.Grant.
const ReleaseJob = "quarantine.release"

// releaseBatch is how many one transaction releases: what the source sends
// waits for that long.
const releaseBatch = 500

// releaseGranted opens what waited in quarantine for the basis that arrived;
// where that is much, the rest is left to a job.
func (a *Archive) releaseGranted(ctx context.Context, tx *db.Tx, g consent.Grant) error {
	last, err := a.releaseSome(ctx, tx, g, uuid.Nil)
	if err == nil && last != uuid.Nil {
		tx.Enqueue(db.Job{Kind: ReleaseJob, Args: g})
	}
	return err
}

// Release opens, in batches, what waits in quarantine for a basis that has
// arrived. It is idempotent.
func (a *Archive) Release(ctx context.Context, g consent.Grant) error {
	after := uuid.Nil
	for {
		var last uuid.UUID
		err := a.DB.Write(ctx, func(tx *db.Tx) (err error) {
			last, err = a.releaseSome(ctx, tx, g, after)
			return err
		})
		if err != nil {
			return fmt.Errorf("release from quarantine: %w", err)
		}
		if last == uuid.Nil {
			return nil
		}
		after = last
	}
}

// releaseSome looks at a batch of those after an id and returns the last of
// them, uuid.Nil when there are no more.
func (a *Archive) releaseSome(ctx context.Context, tx *db.Tx, g consent.Grant, after uuid.UUID) (last uuid.UUID, err error) {
	rows, err := tx.Query(ctx, `
		select id, source, customer_id from interactions
		where state = 'quarantined' and (customer_id = $1 or source = nullif($2, '')) and id > $3
		order by id limit $4 for no key update`, g.Customer, g.Source, after, releaseBatch)
	if err != nil {
		return uuid.Nil, fmt.Errorf("find quarantined: %w", err)
	}
	type waiting struct {
		ID       uuid.UUID
		Source   string
		Customer *uuid.UUID
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[waiting])
	if err != nil {
		return uuid.Nil, fmt.Errorf("find quarantined: %w", err)
	}
	for _, w := range all {
		if err := a.reconsider(ctx, tx, w.ID, w.Source, w.Customer); err != nil {
			return uuid.Nil, err
		}
	}
	if len(all) < releaseBatch {
		return uuid.Nil, nil
	}
	return all[len(all)-1].ID, nil
}

// reconsider decides again on one quarantined interaction.
func (a *Archive) reconsider(ctx context.Context, tx *db.Tx, id uuid.UUID, source string, customer *uuid.UUID) error {
	system := access.System("archive")
	d, err := a.Consent.Decide(ctx, tx, system, source, customer, nil)
	if err != nil {
		return fmt.Errorf("decide on consent: %w", err)
	}
	if d.Basis == nil {
		return nil
	}
	i, err := a.load(ctx, tx, system, id)
	if err != nil {
		return err
	}
	i.Consent, i.Purposes = d.Basis, d.Purposes
	if err := a.settle(ctx, tx, &i); err != nil {
		return err
	}
	if err := update(ctx, tx, i, true); err != nil {
		return err
	}
	recordRelease(tx, system, i)
	return nil
}
