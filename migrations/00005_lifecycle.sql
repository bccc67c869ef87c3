-- +goose Up

create table retention_policies (
    id                      uuid primary key,
    name                    text not null,
    priority                int not null,
    -- {channel, queue, direction, disposition, tag}: each given one must match.
    match                   jsonb not null,
    -- Days from the end of the interaction; null: until erasure is asked for.
    keep_days               int check (keep_days >= 0),
    state                   text not null check (state in ('proposed', 'active', 'retired')),
    proposed_by             text not null,
    proposed_at             timestamptz not null,
    approved_by             text,
    approved_at             timestamptz,
    -- Where retiring a policy lets a shorter one apply, two people retire it.
    retirement_requested_by text,
    retired_by              text,
    retired_at              timestamptz,
    check (approved_by is null or approved_by <> proposed_by),
    check (retired_by is null or retired_by <> retirement_requested_by)
);
create index retention_policies_active on retention_policies (priority desc, id) where state = 'active';

-- Whoever reads the policies to decide on an interaction holds this lock,
-- shared, until its transaction ends; whoever changes them takes it alone. So
-- no interaction is committed by policies that were replaced in the meantime
-- and that a recomputation has already passed by. The function is volatile
-- for its second query to see what was committed while it waited.
-- +goose StatementBegin
create function active_retention_policies() returns setof retention_policies
language plpgsql volatile as $$
begin
    perform pg_advisory_xact_lock_shared(hashtext('retention_policies'));
    return query select * from retention_policies where state = 'active' order by priority desc, id;
end
$$;
-- +goose StatementEnd

-- How far the archive has been recomputed after the last change of the
-- policies: one row, begun anew by each change.
create table retention_recomputation (
    singleton   boolean primary key default true check (singleton),
    -- The last interaction that was looked at; null: none yet.
    cursor      uuid,
    examined    bigint not null,
    changed     bigint not null,
    started_at  timestamptz not null,
    finished_at timestamptz
);

create table legal_holds (
    id                   uuid primary key,
    matter               text not null,
    reason               text not null,
    state                text not null check (state in ('active', 'release_requested', 'released')),
    -- What was asked to be held, where it was a search.
    filter               jsonb,
    -- The search has not been gone through to its end yet.
    searching            boolean not null default false,
    -- What was asked to be held and was already being destroyed.
    gone                 uuid[] not null default '{}',
    placed_by            text not null,
    placed_at            timestamptz not null,
    release_requested_by text,
    release_requested_at timestamptz,
    released_by          text,
    released_at          timestamptz,
    check (released_by is null or released_by <> release_requested_by)
);
create index legal_holds_time on legal_holds (placed_at desc, id desc);
create index legal_holds_searching on legal_holds (id) where searching;

create table erasure_requests (
    id           uuid primary key,
    customer_id  uuid not null references customers,
    state        text not null check (state in ('received', 'running', 'waiting_for_hold', 'done')),
    reason       text not null,
    requested_by text not null,
    requested_at timestamptz not null,
    due_at       timestamptz not null,
    done_at      timestamptz
);
create index erasure_requests_customer on erasure_requests (customer_id);
create unique index erasure_requests_one_open on erasure_requests (customer_id) where state <> 'done';
create index erasure_requests_time on erasure_requests (requested_at desc, id desc);
create index erasure_requests_open on erasure_requests (due_at) where state <> 'done';

create table purges (
    id                    uuid primary key,
    kind                  text not null check (kind in ('retention', 'erasure', 'chosen')),
    state                 text not null check (state in ('previewed', 'approved', 'running', 'done', 'cancelled')),
    reason                text not null,
    filter                jsonb,
    policy_id             uuid references retention_policies,
    erasure_request_id    uuid references erasure_requests,
    requested_by          text not null,
    requested_at          timestamptz not null,
    approved_by           text,
    approved_at           timestamptz,
    cancelled_by          text,
    cancelled_at          timestamptz,
    finished_at           timestamptz,
    -- The guard rail on share and age was overridden; the approval says so again.
    overridden            boolean not null default false,
    -- As previewed: what would go, what is exempt, and how large what would go is.
    items                 int not null,
    exempt                int not null default 0,
    bytes                 bigint not null,
    certificate           bytea,
    -- When the certificate's copy reached the object store.
    certificate_stored_at timestamptz,
    check (approved_by is null or approved_by <> requested_by),
    check ((state = 'done') = (certificate is not null))
);
create index purges_time on purges (requested_at desc, id desc);
create index purges_unfinished on purges (state) where state in ('approved', 'running');
create index purges_erasure on purges (erasure_request_id) where erasure_request_id is not null;

create table purge_items (
    purge_id         uuid not null references purges,
    interaction_id   uuid not null references interactions,
    state            text not null check (state in ('pending', 'purging', 'gone', 'exempt')),
    -- Why it is exempt: held_legal, held_review, held_disclosure, already_gone, other_purge.
    exempt_reason    text,
    bytes            bigint not null,
    recordings       int not null,
    key_destroyed_at timestamptz,
    versions_removed int not null default 0,
    -- What the object store itself keeps locked: [{key, until}].
    remaining        jsonb,
    gone_at          timestamptz,
    attempts         int not null default 0,
    last_error       text,
    primary key (purge_id, interaction_id),
    check ((state = 'exempt') = (exempt_reason is not null))
);
create index purge_items_state on purge_items (purge_id, state, interaction_id);
create index purge_items_interaction on purge_items (interaction_id);

-- +goose Down
drop table purge_items, purges, erasure_requests, legal_holds, retention_recomputation;
drop function active_retention_policies;
drop table retention_policies;
