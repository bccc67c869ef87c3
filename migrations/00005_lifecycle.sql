-- +goose Up

create table retention_policies (
    id           uuid primary key,
    name         text not null,
    priority     int not null,
    -- {channel, queue, direction, disposition, tag}: each given one must match.
    match        jsonb not null,
    -- Days from the end of the interaction; null: until erasure is asked for.
    keep_days    int check (keep_days >= 0),
    state        text not null check (state in ('proposed', 'active', 'retired')),
    proposed_by  text not null,
    proposed_at  timestamptz not null,
    approved_by  text,
    approved_at  timestamptz,
    check (approved_by is null or approved_by <> proposed_by)
);
create index retention_policies_active on retention_policies (priority desc, id) where state = 'active';

create table legal_holds (
    id                   uuid primary key,
    matter               text not null,
    reason               text not null,
    state                text not null check (state in ('active', 'release_requested', 'released')),
    placed_by            text not null,
    placed_at            timestamptz not null,
    release_requested_by text,
    release_requested_at timestamptz,
    released_by          text,
    released_at          timestamptz,
    check (released_by is null or released_by <> release_requested_by)
);

create table purges (
    id            uuid primary key,
    kind          text not null check (kind in ('retention', 'erasure', 'chosen')),
    state         text not null check (state in ('previewed', 'approved', 'running', 'done', 'cancelled')),
    reason        text not null,
    filter        jsonb,
    requested_by  text not null,
    requested_at  timestamptz not null,
    approved_by   text,
    approved_at   timestamptz,
    finished_at   timestamptz,
    -- Said twice: the guard rail on share and age was overridden.
    overridden    boolean not null default false,
    items         int not null,
    exempt        int not null default 0,
    bytes         bigint not null,
    certificate   bytea,
    check (approved_by is null or approved_by <> requested_by)
);
create index purges_time on purges (requested_at desc, id desc);
create index purges_unfinished on purges (state) where state in ('approved', 'running');

create table purge_items (
    purge_id         uuid not null references purges,
    interaction_id   uuid not null references interactions,
    state            text not null check (state in ('pending', 'purging', 'gone', 'exempt')),
    -- Why it is exempt: held_legal, held_review, held_disclosure, already_gone …
    exempt_reason    text,
    bytes            bigint not null,
    recordings       int not null,
    key_destroyed_at timestamptz,
    versions_removed int,
    gone_at          timestamptz,
    attempts         int not null default 0,
    last_error       text,
    primary key (purge_id, interaction_id)
);
create index purge_items_state on purge_items (purge_id, state, interaction_id);
create index purge_items_interaction on purge_items (interaction_id);

create table erasure_requests (
    id           uuid primary key,
    customer_id  uuid not null references customers,
    state        text not null check (state in ('received', 'running', 'waiting_for_hold', 'done')),
    reason       text not null,
    requested_by text not null,
    requested_at timestamptz not null,
    due_at       timestamptz not null,
    purge_id     uuid references purges,
    done_at      timestamptz
);
create index erasure_requests_customer on erasure_requests (customer_id);
create index erasure_requests_open on erasure_requests (due_at) where state <> 'done';

-- +goose Down
drop table erasure_requests, purge_items, purges, legal_holds, retention_policies;
