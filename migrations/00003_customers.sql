-- +goose Up

create table customers (
    id         uuid primary key,
    name       text,
    created_at timestamptz not null,
    erased_at  timestamptz
);
create index customers_name on customers using gin (to_tsvector('earmark', coalesce(name, '')));

-- How a customer is known: phone in E.164, e-mail in lower case, the company's own number.
create table customer_identifiers (
    kind        text not null check (kind in ('phone', 'email', 'number')),
    value       text not null,
    customer_id uuid not null references customers on delete cascade,
    primary key (kind, value)
);
create index customer_identifiers_customer on customer_identifiers (customer_id);
create index customer_identifiers_suffix on customer_identifiers (reverse(value) text_pattern_ops);

-- What a customer agreed to or withdrew: appended, never changed.
create table consents (
    id          uuid primary key,
    customer_id uuid not null references customers on delete cascade,
    basis       text not null,
    status      text not null check (status in ('granted', 'refused', 'withdrawn')),
    purposes    text[] not null,
    method      text,
    wording     text,
    proof       jsonb,
    reason      text,
    at          timestamptz not null,
    expires_at  timestamptz,
    recorded_by text not null,
    recorded_at timestamptz not null
);
create index consents_customer on consents (customer_id, at desc, id desc);

-- The basis that holds for everything a source sends, such as the announcement every caller hears.
create table source_bases (
    source      text primary key,
    basis       text not null,
    purposes    text[] not null,
    method      text,
    reason      text,
    recorded_by text not null,
    recorded_at timestamptz not null
);

-- +goose Down
drop table source_bases, consents, customer_identifiers, customers;
