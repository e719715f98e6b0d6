-- Schedules, and what became of each of their times.
--
-- Whoever starts, moves or changes something of a schedule holds its row: that orders two workers that
-- find it due at once, and an edit against a fire.

create table velo.schedule (
    name text primary key check (name <> ''),
    -- What its runs begin with, as a start would store it.
    graph text not null check (graph <> ''),
    version integer not null,
    fingerprint uuid not null,
    code text not null,
    priority smallint not null,
    control bytea not null,
    state bytea not null,
    -- When it fires: a cron expression with its zone, or an interval with its phase.
    spec jsonb not null,
    jitter_ms bigint not null check (jitter_ms >= 0),
    catch_up_ms bigint not null check (catch_up_ms >= 0),
    overlap text not null check (overlap in ('skip', 'buffer_one', 'buffer_all', 'cancel_other', 'allow_all')),
    is_paused boolean not null default false,
    -- Why it is paused, for people.
    note text,
    -- The next time, and when the jitter lets it fire; null when there is none any more.
    next_at timestamptz,
    due_at timestamptz,
    -- Whether a fire waits for a run before it to end.
    is_buffering boolean not null default false,
    last_fire_at timestamptz,
    created_at timestamptz not null default clock_timestamp(),
    check ((next_at is null) = (due_at is null))
);

create index schedule_due on velo.schedule (due_at) where not is_paused;

-- One row a time that came. The key is what makes it come once.
create table velo.schedule_fire (
    name text not null references velo.schedule on delete cascade,
    fire_at timestamptz not null,
    id bigint not null generated always as identity,
    cause text not null check (cause in ('time', 'trigger', 'backfill')),
    outcome text not null check (outcome in ('started', 'buffered', 'skipped', 'missed')),
    run_id bigint,
    -- Of missed ones: all before this time were missed too, and have no rows of their own.
    until timestamptz,
    -- Whether nothing will come of it any more: its run has ended, or there is none.
    is_over boolean not null,
    at timestamptz not null default clock_timestamp(),
    primary key (name, fire_at),
    check ((outcome = 'started') = (run_id is not null)),
    check (outcome <> 'buffered' or not is_over)
);

create index schedule_fire_open on velo.schedule_fire (name, fire_at) where not is_over;
create index schedule_fire_order on velo.schedule_fire (name, id);
