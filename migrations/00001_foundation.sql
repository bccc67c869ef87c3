-- +goose Up

create extension if not exists unaccent;

-- Words are found with and without Vietnamese marks: unaccent folds them, đ included.
create text search configuration earmark (copy = simple);
alter text search configuration earmark
    alter mapping for word, hword, hword_part with unaccent, simple;

-- Secrets of this installation (the ledger's signing key, the key of the
-- pseudonyms), each wrapped under a key-encryption key.
create table instance_secrets (
    name       text primary key,
    kek_id     text not null,
    wrapped    bytea not null,
    created_at timestamptz not null
);

-- Work that is due. Redis only makes it prompt: a row leaves when its work is done.
create table outbox (
    id         uuid primary key,
    kind       text not null,
    args       jsonb not null,
    unique_key text unique,
    due_at     timestamptz not null,
    attempts   int not null default 0,
    last_error text,
    created_at timestamptz not null
);
create index outbox_due on outbox (kind, due_at);

-- Periodic duties. Whoever advances next_at puts the duty into the outbox.
create table schedules (
    kind    text primary key,
    every   interval not null,
    next_at timestamptz not null
);

-- The ledger. A change inserts its entries unsequenced; the sequencer gives
-- them a leaf index, in batches, and so never makes a writer wait.
create table ledger_pending (
    id    uuid primary key,
    entry text not null
);

create table ledger_entries (
    leaf    bigint primary key,
    entry   text not null,
    id      uuid generated always as ((entry::jsonb ->> 'id')::uuid) stored,
    action  text generated always as (entry::jsonb ->> 'action') stored,
    actor   text generated always as (entry::jsonb ->> 'actor') stored,
    subject text generated always as (entry::jsonb ->> 'subject') stored
);
create unique index ledger_entries_id on ledger_entries (id);
create index ledger_entries_subject on ledger_entries (subject, leaf);
create index ledger_entries_action on ledger_entries (action, leaf);
create index ledger_entries_actor on ledger_entries (actor, leaf);

-- golang.org/x/mod/sumdb/tlog's stored hashes.
create table ledger_hashes (
    index bigint primary key,
    hash  bytea not null check (length(hash) = 32)
);

create table ledger_checkpoints (
    size         bigint primary key,
    note         text not null,
    signed_at    timestamptz not null,
    published_at timestamptz
);
create index ledger_checkpoints_unpublished on ledger_checkpoints (size) where published_at is null;

-- +goose Down
drop table ledger_checkpoints, ledger_hashes, ledger_entries, ledger_pending, schedules, outbox, instance_secrets;
drop text search configuration earmark;
drop extension unaccent;
