-- +goose Up

create table forms (
    id         uuid primary key,
    name       text not null,
    created_by text not null,
    created_at timestamptz not null
);

create table form_versions (
    form_id      uuid not null references forms,
    version      int not null,
    definition   jsonb not null,
    published_by text not null,
    published_at timestamptz not null,
    primary key (form_id, version)
);

-- +goose StatementBegin
create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% of % is refused: what is kept there never changes', tg_op, tg_table_name
        using errcode = 'restrict_violation';
end $$;
-- +goose StatementEnd

-- A published version never changes.
create trigger form_versions_never_change before update or delete on form_versions
    for each row execute function refuse_change();
create trigger form_versions_never_go before truncate on form_versions
    for each statement execute function refuse_change();

create table sampling_plans (
    id           uuid primary key,
    name         text not null,
    form_id      uuid not null references forms,
    stream       text not null check (stream in ('random', 'targeted')),
    per_agent    int not null check (per_agent > 0),
    filter       jsonb not null,
    -- Principals; empty: every enabled reviewer.
    reviewers    uuid[] not null,
    due_days     int not null check (due_days > 0),
    created_by   text not null,
    created_at   timestamptz not null
);

create table draws (
    id               uuid primary key,
    plan_id          uuid not null references sampling_plans,
    state            text not null check (state in ('committed', 'drawn')),
    window_from      timestamptz not null,
    window_to        timestamptz not null check (window_to > window_from),
    seed_commitment  bytea not null check (length(seed_commitment) = 32),
    -- The seed, wrapped until the draw is done and then revealed.
    seed_kek_id      text,
    seed_wrapped     bytea,
    seed             bytea,
    manifest         bytea,
    manifest_sha256  bytea,
    eligible         int not null default 0,
    agents           int not null default 0,
    picked           int not null default 0,
    -- How many picks the agents' quotas lack together.
    shortfall        int not null default 0,
    requested_by     text not null,
    requested_at     timestamptz not null,
    due_at           timestamptz not null,
    drawn_at         timestamptz,
    check ((state = 'drawn') = (seed is not null and manifest is not null and manifest_sha256 is not null and drawn_at is not null)),
    check ((state = 'committed') = (seed_wrapped is not null and seed_kek_id is not null))
);
create index draws_plan on draws (plan_id, id desc);
-- A manifest is mostly random bytes, up to tens of megabytes: compressing it gains nothing.
alter table draws alter column manifest set storage external;

create table assignments (
    id                uuid primary key,
    draw_id           uuid not null references draws,
    interaction_id    uuid not null references interactions,
    stream            text not null check (stream in ('random', 'targeted')),
    agent_id          text not null,
    reviewer_id       uuid,
    -- The reviewer's own agent id, kept so that the database itself refuses self-review.
    reviewer_agent_id text,
    form_id           uuid not null,
    form_version      int not null,
    state             text not null check (state in ('assigned', 'unassignable', 'submitted', 'released', 'skipped', 'voided')),
    -- Why it was skipped or voided: a code.
    reason            text,
    -- The skipped assignment in whose place this one was drawn.
    replaces          uuid unique references assignments,
    due_at            timestamptz not null,
    created_at        timestamptz not null,
    closed_at         timestamptz,
    -- What was drawn in a stream is not drawn in it again.
    unique (interaction_id, stream),
    foreign key (form_id, form_version) references form_versions,
    check (reviewer_agent_id <> agent_id),
    check (state <> 'unassignable' or reviewer_id is null),
    check (state not in ('assigned', 'submitted', 'released') or reviewer_id is not null),
    check ((reason is not null) = (state in ('skipped', 'voided'))),
    check ((closed_at is not null) = (state in ('released', 'skipped', 'voided')))
);
create index assignments_draw on assignments (draw_id, id desc);
create index assignments_reviewer on assignments (reviewer_id, state, id desc);
create index assignments_agent on assignments (agent_id, id desc);

-- Revisions are appended: a rescore never erases what was there.
create table evaluations (
    id             uuid primary key,
    assignment_id  uuid not null references assignments,
    revision       int not null check (revision > 0),
    -- What was written in words goes when the interaction is erased; the scores stay.
    answers        jsonb not null,
    comment        text,
    -- Percentages, rounded half up to two decimals; null: nothing was applicable.
    score          numeric(5, 2),
    raw_score      numeric(5, 2),
    critical_score numeric(5, 2),
    failed         boolean not null,
    sections       jsonb not null,
    submitted_by   uuid not null,
    submitted_at   timestamptz not null,
    released_at    timestamptz,
    unique (assignment_id, revision)
);
create trigger evaluations_keep_their_scores
    before update of id, assignment_id, revision, score, raw_score, critical_score, failed, sections, submitted_by, submitted_at
    on evaluations for each row execute function refuse_change();
create trigger evaluations_never_go before delete on evaluations
    for each row execute function refuse_change();

-- +goose Down
drop table evaluations, assignments, draws, sampling_plans, form_versions, forms;
drop function refuse_change;
