-- Retention: how long runs that have ended are kept, and how far deleting them is.

-- What operators have said. What nobody has said anything about is kept as long as the engine says.
create table velo.retention (
    -- The name of a graph, or * for all graphs that nothing is said about.
    graph text not null check (graph <> ''),
    -- How a run has ended; `thread` for the newest one of its thread, which keeps the thread's state.
    outcome text not null check (outcome in ('completed', 'cancelled', 'failed', 'thread')),
    -- Null for ever.
    keep_ms bigint check (keep_ms >= 0),
    changed_at timestamptz not null default clock_timestamp(),
    primary key (graph, outcome)
);

-- How far deleting is: one row, which whoever deletes holds until it commits. So there is one at a time, and what a
-- process that dies had begun is as if it had never been.
create table velo.sweep (
    id boolean primary key default true check (id),
    -- All runs up to this one have been looked at in this pass; they are in the order of their starts.
    after_run bigint not null default 0,
    -- When the next look is due.
    due_at timestamptz not null default clock_timestamp(),
    -- When the last whole pass ended.
    passed_at timestamptz,
    -- How many runs have ever been deleted.
    deleted bigint not null default 0
) with (fillfactor = 50, autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = 0);

-- Where runs have ended before there was retention, nothing is deleted in the first week: time to say what is to stay.
insert into velo.sweep (due_at)
select clock_timestamp()
       + case when exists (select from velo.run where finished_at is not null) then interval '7 days' else interval '0' end;

-- Whether a run that has not ended was forked from this one, or from a fork of it: it may look at what the children of
-- this one have left.
create function velo.has_live_fork(p_run bigint) returns boolean
language sql stable as $$
    with recursive forks (id, finished_at, depth) as (
        select r.id, r.finished_at, 1
        from velo.run r
        where r.origin_run = p_run
        union all
        select r.id, r.finished_at, f.depth + 1
        from forks f
        join velo.run r on r.origin_run = f.id
        where f.depth < 1000
    )
    select exists (select from forks where finished_at is null)
$$;
