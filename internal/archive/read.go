package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"earmark/internal/access"
	"earmark/internal/consent"
	"earmark/internal/db"
	"earmark/internal/ledger"
)

// Get returns an interaction's metadata: db.ErrNotFound when there is none that
// the asker may know of, ErrErased when it is gone, ErrConsentMissing or
// ErrRestricted when its state keeps it from them.
func (a *Archive) Get(ctx context.Context, actor access.Actor, id uuid.UUID) (Interaction, error) {
	if err := actor.May(access.ReadInteractions); err != nil {
		return Interaction{}, err
	}
	i, err := a.load(ctx, a.DB, actor, id)
	if err != nil {
		return Interaction{}, err
	}
	if !slices.Contains(visibleStates(actor), i.State) {
		return Interaction{}, closed(i.State)
	}
	return i, nil
}

// closed is why an interaction in that state is not opened, nil when it may be.
func closed(s State) error {
	switch s {
	case Active:
		return nil
	case Quarantined:
		return ErrConsentMissing
	case Restricted:
		return ErrRestricted
	default:
		return ErrErased
	}
}

// visibleStates are those whose metadata the actor may see. What is not active
// needs a role that deals with it.
func visibleStates(actor access.Actor) []State {
	switch {
	case actor.May(access.RecordConsent) == nil:
		return States
	case actor.May(access.PlaceHolds) == nil:
		return []State{Active, Restricted, Purging, Erased}
	case actor.May(access.ReadLedger) == nil:
		return []State{Active, Purging, Erased}
	case actor.May(access.SubmitInteractions) == nil:
		return []State{Active, Quarantined}
	default:
		return []State{Active}
	}
}

// scope is the SQL condition, over interactions as i, that keeps uploaders to
// their source and agents to their own calls.
func scope(actor access.Actor, args *arguments) string {
	switch {
	case actor.Role == access.Agent:
		return "i.agent_id = " + args.add(actor.AgentID) + " and i.agent_id <> ''"
	case actor.Role == access.Uploader && actor.Source != "":
		return "i.source = " + args.add(actor.Source)
	case actor.Role == access.Uploader:
		return "i.received_from = " + args.add(actor.PersonString())
	default:
		return "true"
	}
}

// arguments are those of a statement that is put together.
type arguments []any

func (args *arguments) add(value any) string {
	*args = append(*args, value)
	return fmt.Sprintf("$%d", len(*args))
}

// viewColumns are what scanView reads. Who the customer is and how they agreed
// is for those alone who may see customers; that it is held for a court, or to
// be evaluated, for those who deal with that, and not for the agent.
func viewColumns(actor access.Actor) string {
	who, basis := `jsonb_build_object('id', i.customer_id)`, `i.consent - 'proof' - 'wording'`
	if actor.May(access.ReadCustomers) == nil {
		who = `(select jsonb_build_object('id', c.id, 'name', coalesce(c.name, ''),
			'phone', coalesce((select value from customer_identifiers where customer_id = c.id and kind = 'phone' order by value limit 1), ''),
			'email', coalesce((select value from customer_identifiers where customer_id = c.id and kind = 'email' order by value limit 1), ''))
			from customers c where c.id = i.customer_id)`
		basis = `i.consent`
	}
	holds := `'[]'::jsonb`
	if actor.May(access.ReadLifecycle) == nil || actor.May(access.ReadQuality) == nil {
		holds = `coalesce((select jsonb_agg(jsonb_build_object('kind', h.kind, 'ref', h.ref, 'placed_at', h.placed_at) order by h.placed_at, h.ref)
			from holds h where h.interaction_id = i.id), '[]')`
	}
	return `i.id, i.state, i.source, coalesce(i.source_id, ''), i.channel, coalesce(i.direction, ''), i.started_at, i.ended_at, i.duration_ms,
		coalesce(i.agent_id, ''), coalesce(i.agent_name, ''), coalesce(i.queue, ''), coalesce(i.skill, ''), coalesce(i.campaign, ''),
		case when i.customer_id is not null then ` + who + ` end, coalesce(i.ani, ''), coalesce(i.dnis, ''), i.participants,
		coalesce(i.disposition, ''), coalesce(i.wrap_up_code, ''), i.hold_count, i.hold_seconds, i.after_contact_work_seconds,
		coalesce(i.disconnect_reason, ''), i.tags, i.attributes, ` + basis + `, i.purposes, i.policy_id, i.retain_until, i.received_at,
		i.messages is not null or i.transcript is not null,
		coalesce((select jsonb_agg(jsonb_build_object('id', r.id, 'interaction_id', r.interaction_id, 'name', r.name,
				'file_name', coalesce(r.file_name, ''), 'media_type', r.media_type, 'bytes', r.bytes, 'sha256', coalesce(encode(r.sha256, 'hex'), ''),
				'state', r.state, 'flags', r.flags, 'codec', coalesce(r.codec, ''), 'channels', coalesce(r.channels, 0),
				'sample_rate', coalesce(r.sample_rate, 0), 'duration_ms', r.duration_ms, 'received_at', r.received_at,
				'has_listening_copy', exists (select from objects o where o.recording_id = r.id and o.kind = 'listening'),
				'has_peaks', exists (select from objects o where o.recording_id = r.id and o.kind = 'peaks')) order by r.received_at, r.id)
			from recordings r where r.interaction_id = i.id), '[]'), ` + holds
}

func scanView(row pgx.CollectableRow) (Interaction, error) {
	var i Interaction
	var agent Agent
	err := row.Scan(&i.ID, &i.State, &i.Source, &i.SourceID, &i.Channel, &i.Direction, &i.StartedAt, &i.EndedAt, &i.DurationMS,
		&agent.ID, &agent.Name, &i.Queue, &i.Skill, &i.Campaign,
		&i.Customer, &i.ANI, &i.DNIS, &i.Participants,
		&i.Disposition, &i.WrapUpCode, &i.HoldCount, &i.HoldSeconds, &i.AfterContactWorkSeconds,
		&i.DisconnectReason, &i.Tags, &i.Attributes, &i.Consent, &i.Purposes, &i.PolicyID, &i.RetainUntil, &i.ReceivedAt,
		&i.HasText, &i.Recordings, &i.Holds)
	if agent != (Agent{}) {
		i.Agent = &agent
	}
	i.inUTC()
	return i, err
}

// inUTC makes times that came as JSON equal to those that came as columns.
func (i *Interaction) inUTC() {
	for n := range i.Recordings {
		i.Recordings[n].ReceivedAt = i.Recordings[n].ReceivedAt.UTC()
	}
	for n := range i.Holds {
		i.Holds[n].PlacedAt = i.Holds[n].PlacedAt.UTC()
	}
}

// load reads an interaction in any state, or returns db.ErrNotFound when it is
// outside the actor's scope.
func (a *Archive) load(ctx context.Context, q db.Querier, actor access.Actor, id uuid.UUID) (Interaction, error) {
	var args arguments
	return a.viewWhere(ctx, q, actor, `i.id = `+args.add(id)+` and `+scope(actor, &args), args)
}

// view reads an interaction for an actor who was found to have to do with it.
func (a *Archive) view(ctx context.Context, q db.Querier, actor access.Actor, id uuid.UUID) (Interaction, error) {
	return a.viewWhere(ctx, q, actor, `i.id = $1`, arguments{id})
}

func (a *Archive) viewWhere(ctx context.Context, q db.Querier, actor access.Actor, where string, args arguments) (Interaction, error) {
	rows, err := q.Query(ctx, `select `+viewColumns(actor)+` from interactions i where `+where, args...)
	if err != nil {
		return Interaction{}, fmt.Errorf("read interaction: %w", err)
	}
	i, err := pgx.CollectExactlyOneRow(rows, scanView)
	if err != nil {
		return Interaction{}, fmt.Errorf("read interaction: %w", db.Found(err))
	}
	return i, nil
}

// Read returns what was written in an interaction, or transcribed from it, for
// a purpose that the asker's role may use and the interaction's basis covers.
// Each reading leaves a ledger entry before the text is given. The errors are
// those of Listen.
func (a *Archive) Read(ctx context.Context, actor access.Actor, id uuid.UUID, purpose access.Purpose) (Text, error) {
	if err := mayOpen(actor, purpose); err != nil {
		return Text{}, err
	}
	var text Text
	err := a.DB.Write(ctx, func(tx *db.Tx) error {
		err := tx.QueryRow(ctx, `select coalesce(messages, '[]'), coalesce(transcript, '') from interactions where id = $1 for share`, id).
			Scan(&text.Messages, &text.Transcript)
		if err != nil {
			return fmt.Errorf("read text: %w", db.Found(err))
		}
		i, err := a.load(ctx, tx, actor, id)
		if err != nil {
			return err
		}
		if err := a.opens(ctx, tx, opening{i.State, customerOf(i), i.Purposes, i.Consent}, purpose); err != nil {
			return err
		}
		tx.Record(ledger.Entry{Actor: actor.String(), Action: "interaction.read", Subject: "interaction:" + id.String(),
			Details: map[string]any{"purpose": string(purpose)}})
		return nil
	})
	if err != nil {
		return Text{}, err
	}
	return text, nil
}

func customerOf(i Interaction) *uuid.UUID {
	if i.Customer == nil {
		return nil
	}
	id, err := uuid.Parse(i.Customer.ID)
	if err != nil {
		return nil
	}
	return &id
}

// mayOpen returns nil when the role may hear and read for the purpose; an agent
// may its own calls, to which scope keeps it.
func mayOpen(actor access.Actor, purpose access.Purpose) error {
	err := actor.MayFor(access.Hear, purpose)
	if errors.Is(err, access.ErrForbidden) && actor.May(access.HearOwn) == nil {
		return actor.MayFor(access.HearOwn, purpose)
	}
	return err
}

// opening is what decides whether an interaction opens for a purpose.
type opening struct {
	state    State
	customer *uuid.UUID
	purposes []access.Purpose
	consent  *consent.Statement
}

func (a *Archive) opens(ctx context.Context, q db.Querier, o opening, purpose access.Purpose) error {
	if err := closed(o.state); err != nil {
		return err
	}
	covered, err := a.Consent.Covers(ctx, q, o.customer, o.purposes, o.consent, purpose)
	if err != nil {
		return fmt.Errorf("look up consent: %w", err)
	}
	if !covered {
		return ErrConsentMissing
	}
	return nil
}

// opensForSome returns nil when an interaction opens for one of the purposes.
func (a *Archive) opensForSome(ctx context.Context, o opening, purposes []access.Purpose) error {
	refused := ErrConsentMissing
	for _, purpose := range purposes {
		if refused = a.opens(ctx, a.DB, o, purpose); !errors.Is(refused, ErrConsentMissing) {
			return refused
		}
	}
	return refused
}
