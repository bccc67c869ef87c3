-- +goose Up

create table forms (
    id         uuid primary key,
    name       text not null,
    created_by text not null,
    created_at timestamptz not null
);

-- A published version never changes.
create table form_versions (
    form_id      uuid not null references forms,
    version      int not null,
    definition   jsonb not null,
    published_by text not null,
    published_at timestamptz not null,
    primary key (form_id, version)
);

create table sampling_plans (
    id           uuid primary key,
    name         text not null,
    form_id      uuid not null references forms,
    stream       text not null check (stream in ('random', 'targeted')),
    per_agent    int not null check (per_agent > 0),
    filter       jsonb not null,
    -- Principals; empty: every enabled reviewer.
    reviewers    uuid[] not null,
    due_days     int not null default 7,
    created_by   text not null,
    created_at   timestamptz not null
);

create table draws (
    id               uuid primary key,
    plan_id          uuid not null references sampling_plans,
    state            text not null check (state in ('committed', 'drawn', 'failed')),
    window_from      timestamptz not null,
    window_to        timestamptz not null,
    seed_commitment  bytea not null check (length(seed_commitment) = 32),
    -- The seed, wrapped until the draw is done and then revealed.
    seed_kek_id      text,
    seed_wrapped     bytea,
    seed             bytea,
    manifest         bytea,
    manifest_sha256  bytea,
    eligible         int,
    picked           int,
    requested_by     text not null,
    requested_at     timestamptz not null,
    drawn_at         timestamptz
);
create index draws_plan on draws (plan_id, requested_at desc);

create table assignments (
    id                uuid primary key,
    draw_id           uuid not null references draws,
    interaction_id    uuid not null references interactions,
    agent_id          text not null,
    reviewer_id       uuid,
    -- The reviewer's own agent id, kept so that the database itself refuses self-review.
    reviewer_agent_id text,
    form_id           uuid not null,
    form_version      int not null,
    state             text not null check (state in ('assigned', 'unassignable', 'in_progress', 'submitted', 'released', 'closed', 'skipped', 'voided')),
    due_at            timestamptz not null,
    created_at        timestamptz not null,
    closed_at         timestamptz,
    unique (draw_id, interaction_id),
    foreign key (form_id, form_version) references form_versions,
    check (reviewer_agent_id is null or reviewer_agent_id <> agent_id),
    check ((state = 'unassignable') = (reviewer_id is null))
);
create index assignments_reviewer on assignments (reviewer_id, state, due_at);
create index assignments_interaction on assignments (interaction_id);
create index assignments_agent on assignments (agent_id, created_at desc);

-- Revisions are appended: a rescore never erases what was there.
create table evaluations (
    id            uuid primary key,
    assignment_id uuid not null references assignments,
    revision      int not null,
    answers       jsonb not null,
    comment       text,
    -- Percentages, rounded half up to two decimals; null: nothing was applicable.
    score         numeric(5, 2),
    raw_score     numeric(5, 2),
    critical_score numeric(5, 2),
    failed        boolean not null,
    submitted_by  uuid not null,
    submitted_at  timestamptz not null,
    released_at   timestamptz,
    unique (assignment_id, revision)
);

-- +goose Down
drop table evaluations, assignments, draws, sampling_plans, form_versions, forms;
