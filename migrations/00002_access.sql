-- +goose Up

create table users (
    id                   uuid primary key,
    login                text not null unique check (login = lower(login)),
    name                 text not null,
    role                 text not null,
    -- The id under which this person's own calls are recorded, if they take calls.
    agent_id             text,
    password_hash        text not null,
    -- A session is opened only on the password that was compared.
    password_set_at      timestamptz not null,
    must_change_password boolean not null default false,
    created_at           timestamptz not null,
    disabled_at          timestamptz
);

create table sessions (
    token_hash bytea primary key,
    user_id    uuid not null references users on delete cascade,
    created_at timestamptz not null,
    expires_at timestamptz not null
);
create index sessions_user on sessions (user_id);
create index sessions_expiry on sessions (expires_at);

create table api_keys (
    id           uuid primary key,
    name         text not null,
    role         text not null,
    -- What an uploader's key may say it is; null: any source.
    source       text,
    -- The lawful basis that holds for all that this key sends.
    basis        jsonb,
    -- The id under which the key's owner takes calls, where it acts for one agent.
    agent_id     text,
    -- The person it acts for, where it is somebody's own: what they may not do
    -- with a second hand, they may not do with this key.
    user_id      uuid references users,
    secret_hash  bytea not null unique,
    created_by   text not null,
    created_at   timestamptz not null,
    expires_at   timestamptz,
    revoked_at   timestamptz
);

-- Everybody who can be given work: people, and keys that are nobody's own.
create view principals as
    select id, name, role, agent_id, disabled_at is null as enabled from users
    union all
    select id, name, role, agent_id, revoked_at is null from api_keys where user_id is null;

-- +goose Down
drop view principals;
drop table api_keys, sessions, users;
