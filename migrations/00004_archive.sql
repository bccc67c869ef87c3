-- +goose Up

create table interactions (
    id                              uuid primary key,
    -- HMAC of (source, source_id): outlives the row's personal data, so that
    -- what was erased is not taken in again.
    identity                        bytea not null unique check (length(identity) = 32),
    -- HMAC of what was sent under that identity.
    fingerprint                     bytea not null check (length(fingerprint) = 32),
    state                           text not null check (state in ('active', 'quarantined', 'restricted', 'purging', 'erased')),
    source                          text not null,
    source_id                       text,
    channel                         text not null,
    direction                       text,
    started_at                      timestamptz not null,
    ended_at                        timestamptz,
    duration_ms                     bigint,
    agent_id                        text,
    agent_name                      text,
    queue                           text,
    skill                           text,
    campaign                        text,
    customer_id                     uuid references customers on delete set null,
    ani                             text,
    dnis                            text,
    participants                    jsonb,
    disposition                     text,
    wrap_up_code                    text,
    hold_count                      int,
    hold_seconds                    double precision,
    after_contact_work_seconds      double precision,
    disconnect_reason               text,
    tags                            text[] not null default '{}',
    attributes                      jsonb,
    -- The basis that covers this interaction and the purposes it covers.
    consent                         jsonb,
    purposes                        text[] not null default '{}',
    messages                        jsonb,
    transcript                      text,
    policy_id                       uuid,
    -- When retention ends; null: kept until erasure is asked for.
    retain_until                    timestamptz,
    received_at                     timestamptz not null,
    received_from                   text not null,
    -- The interaction's own age identity, wrapped under a KEK. Null once destroyed.
    kek_id                          text,
    wrapped_key                     bytea,
    key_destroyed_at                timestamptz,
    erased_at                       timestamptz,
    purge_id                        uuid
);
create index interactions_time on interactions (started_at desc, id desc);
create index interactions_agent on interactions (agent_id, started_at desc, id desc);
create index interactions_queue on interactions (queue, started_at desc, id desc);
create index interactions_customer on interactions (customer_id, started_at desc, id desc);
create index interactions_source on interactions (source, started_at desc, id desc);
create index interactions_channel on interactions (channel, started_at desc, id desc);
create index interactions_direction on interactions (direction, started_at desc, id desc);
create index interactions_disposition on interactions (disposition, started_at desc, id desc) where disposition is not null;
create index interactions_duration on interactions (duration_ms, started_at desc, id desc) where duration_ms is not null;
create index interactions_ani on interactions (ani, started_at desc) where ani is not null;
create index interactions_dnis on interactions (dnis, started_at desc) where dnis is not null;
create index interactions_tags on interactions using gin (tags) with (fastupdate = off);
create index interactions_state on interactions (state, started_at desc, id desc) where state <> 'active';
create index interactions_due on interactions (retain_until, id) where retain_until is not null and state in ('active', 'quarantined', 'restricted');

-- What the words of an interaction are found by.
create table interaction_words (
    interaction_id uuid primary key references interactions on delete cascade,
    -- All of them, also those that were said or written.
    words          tsvector not null,
    -- Those of the metadata alone, for who may not read the rest.
    labels         tsvector not null default ''
);
create index interaction_words_words on interaction_words using gin (words);
create index interaction_words_labels on interaction_words using gin (labels);

create table recordings (
    id             uuid primary key,
    interaction_id uuid not null references interactions,
    name           text not null,
    file_name      text,
    media_type     text not null,
    bytes          bigint not null,
    sha256         bytea,
    -- received, ready (probed), flagged, erased
    state          text not null check (state in ('received', 'ready', 'flagged', 'erased')),
    flags          text[] not null default '{}',
    codec          text,
    channels       int,
    sample_rate    int,
    duration_ms    bigint,
    received_at    timestamptz not null,
    unique (interaction_id, name)
);

-- Every sealed object that a recording has: the original as it was sent, the
-- peaks of its waveform, the copy that browsers can play.
create table objects (
    key          text primary key,
    recording_id uuid not null references recordings,
    kind         text not null check (kind in ('original', 'peaks', 'listening')),
    media_type   text not null,
    bytes        bigint not null,
    sealed_bytes bigint not null,
    sha256       bytea not null check (length(sha256) = 32),
    -- The age header and nonce, so that a seek needs no read of the object's start.
    header       bytea not null,
    unique (recording_id, kind)
);

-- Why an interaction may not be destroyed now. The features that place holds release them.
create table holds (
    interaction_id uuid not null references interactions,
    kind           text not null check (kind in ('legal', 'review', 'disclosure')),
    ref            uuid not null,
    placed_at      timestamptz not null,
    primary key (interaction_id, kind, ref)
);
create index holds_ref on holds (kind, ref);

-- Who listened to what and why: one row a listener, object of listening and purpose in 15 minutes.
create table listenings (
    recording_id uuid not null references recordings,
    listener     text not null,
    purpose      text not null,
    since        timestamptz not null,
    primary key (recording_id, listener, purpose, since)
);

-- +goose Down
drop table listenings, holds, objects, recordings, interaction_words, interactions;
