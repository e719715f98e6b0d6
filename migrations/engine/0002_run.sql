-- Runs, their steps, and who may work on them.
--
-- Rules that hold for every table here:
-- * The key begins with the run's id, which grows with time: history is partitioned by it, and a
--   partition is dropped when no live run is in it. There is no foreign key for the same reason.
-- * Only `queue`, `worker` and `thread` are updated in place, and never once a step.
-- * Payloads are bytea. Plain JSON begins with a printable character; a first byte below 0x09 is
--   kept for codecs.

-- One row a worker process and start of it. Its id is never used again, so a lease that names it
-- cannot be mistaken for one of a later process. 32 bits, since it is half of an advisory lock.
create sequence velo.worker_id as integer;

create table velo.worker (
    id integer primary key default nextval('velo.worker_id'),
    name text not null,
    -- Where process ids mean the same: a boot of a machine, and a namespace of it.
    host text not null,
    pid integer not null,
    started_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz not null
) with (fillfactor = 50, autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = 0);

create table velo.run (
    id bigint not null,
    -- Made by the client with the id: tells a start that is sent again from a collision of ids.
    nonce bigint not null,
    graph text not null check (graph <> ''),
    version integer not null,
    fingerprint uuid not null,
    thread text check (thread <> ''),
    status text not null default 'active'
           check (status in ('active', 'paused', 'completed', 'cancelled')),
    -- Why it is paused: what the failed attempt left.
    error jsonb,
    created_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    primary key (id),
    check ((finished_at is not null) = (status in ('completed', 'cancelled')))
) partition by range (id);

create table velo.run_rest partition of velo.run default;

create index run_unfinished on velo.run (id) where finished_at is null;

-- A thread has one live run at a time.
create table velo.thread (
    name text primary key check (name <> ''),
    run_id bigint not null,
    is_live boolean not null
);

-- One row a committed step, never changed: what was written, and what comes next.
create table velo.step (
    run_id bigint not null,
    seq integer not null check (seq >= 0),
    -- The lease that committed it: the receipt when an answer is lost.
    fence bigint not null,
    delta bytea not null,
    control bytea not null,
    -- The whole state after this step, now and then, so that reading it back stays cheap.
    snapshot bytea,
    at timestamptz not null default clock_timestamp(),
    primary key (run_id, seq)
) partition by range (run_id);

create table velo.step_rest partition of velo.step default;

-- Results that outlive the attempt which made them, until their step is committed.
create table velo.memo (
    run_id bigint not null,
    seq integer not null,
    task integer not null,
    name text not null check (name <> ''),
    value bytea not null,
    primary key (run_id, seq, task, name)
) partition by range (run_id);

create table velo.memo_rest partition of velo.memo default;

-- Finished tasks of a step whose other tasks are not finished yet.
create table velo.outcome (
    run_id bigint not null,
    seq integer not null,
    task integer not null,
    fence bigint not null,
    outcome bytea not null,
    primary key (run_id, seq, task)
) partition by range (run_id);

create table velo.outcome_rest partition of velo.outcome default;

-- Failed attempts. Counted by the retry policy until somebody resumes the run.
create table velo.failure (
    run_id bigint not null,
    seq integer not null,
    task integer not null,
    attempt integer not null check (attempt >= 1),
    fence bigint not null,
    error jsonb not null,
    -- When the next attempt may begin; null when there is none.
    retry_at timestamptz,
    is_settled boolean not null default false,
    at timestamptz not null default clock_timestamp(),
    primary key (run_id, seq, task, attempt)
) partition by range (run_id);

create table velo.failure_rest partition of velo.failure default;

-- One row for each live run. It is in one of four states: ready (`ready_at`), asleep (`wake_at`),
-- leased (`worker`), or parked until somebody acts (none of them).
create table velo.queue (
    run_id bigint not null,
    -- Zero is the run itself; other numbers are for branches that go to other workers.
    branch integer not null default 0,
    -- What a worker must have to run it: name and version of the graph.
    code text not null,
    priority smallint not null default 0,
    ready_at timestamptz,
    wake_at timestamptz,
    worker integer,
    -- Grows with each lease.
    fence bigint not null default 0,
    is_cancelled boolean not null default false,
    -- Leases in a row that ended with the death of their worker and brought no step. Giving a lease
    -- back ends the row.
    crashes integer not null default 0,
    crash_seq integer not null default -1,
    primary key (run_id, branch),
    check (num_nonnulls(ready_at, wake_at, worker) <= 1)
) with (fillfactor = 70, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0);

-- Future work is not in it: a scan for ready work would walk past all of it.
create index queue_ready on velo.queue (code, priority, ready_at) where ready_at is not null;
create index queue_asleep on velo.queue (wake_at) where wake_at is not null;
create index queue_leased on velo.queue (worker) where worker is not null;

-- Lets nobody take leases away from the worker before the transaction ends.
--
-- Whoever takes leases away holds the exclusive form of this lock. What is decided by a lease is read in a
-- later statement, because the snapshot of the first one may be older than the lock. The time limit is
-- for a process that freezes between this call and its commit: it must not hold the lock for ever.
create function velo.keep_leases(p_worker integer) returns void
language plpgsql as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'a lease can be checked only at isolation level read committed'
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    perform pg_advisory_xact_lock_shared(1986358383, p_worker);
    perform set_config('idle_in_transaction_session_timeout', '10000', true);
end $$;

-- Says whether the lease still holds, and lets nobody take it away before the transaction ends.
--
-- By the run's key alone, here and below: as a condition on the worker the planner may prefer to read
-- all that the worker has.
create function velo.hold(p_worker integer, p_run bigint, p_fence bigint) returns boolean
language plpgsql as $$
begin
    perform velo.keep_leases(p_worker);
    return coalesce((select q.worker = p_worker and q.fence = p_fence
                     from velo.queue q where q.run_id = p_run and q.branch = 0), false);
end $$;

-- Commits steps of several runs that one worker holds, and says of each what became of it:
-- `added`; `repeated`, when this lease had committed it before; `behind`, when the lease holds and an
-- earlier one has committed the step since this one began, by a COMMIT that came late; `lost`, when the
-- lease is gone.
-- `p_then` says what becomes of the lease: k(eep), y(ield) or f(inish the run).
--
-- Plans are kept, here and in `claim`: for arrays a new one always looks cheaper, and making it costs
-- more than the statement.
create function velo.commit_steps(
    p_worker integer, p_run bigint[], p_fence bigint[], p_seq integer[],
    p_delta bytea[], p_control bytea[], p_snapshot bytea[], p_then text[]
) returns table (place integer, verdict text)
language plpgsql set plan_cache_mode = force_generic_plan as $$
declare
    kept bigint[];
begin
    perform velo.keep_leases(p_worker);
    with given as (
        select * from unnest(p_run, p_fence, p_seq, p_delta, p_control, p_snapshot)
               as g (run_id, fence, seq, delta, control, snapshot)
    ), added as (
        insert into velo.step (run_id, seq, fence, delta, control, snapshot)
        select g.run_id, g.seq, g.fence, g.delta, g.control, g.snapshot
        from given g
        where (select q.worker = p_worker and q.fence = g.fence
               from velo.queue q where q.run_id = g.run_id and q.branch = 0)
        on conflict (run_id, seq) do nothing
        returning step.run_id
    )
    select coalesce(array_agg(added.run_id), '{}') into kept from added;

    if 'f' = any (p_then) then
        with done as (
            select g.run_id from unnest(p_run, p_then) as g (run_id, what)
            where what = 'f' and g.run_id = any (kept)
        ), finished as (
            update velo.run r set status = 'completed', error = null, finished_at = clock_timestamp()
            from done where r.id = done.run_id
            returning r.id, r.thread
        ), freed as (
            update velo.thread t set is_live = false
            from finished f where t.name = f.thread and t.run_id = f.id
        )
        delete from velo.queue q using done where q.run_id = done.run_id;
    end if;
    if 'y' = any (p_then) then
        update velo.queue q set worker = null, ready_at = clock_timestamp()
        from unnest(p_run, p_then) as g (run_id, what)
        where what = 'y' and g.run_id = any (kept) and q.run_id = g.run_id and q.branch = 0;
    end if;

    return query
    select g.place::integer,
           case when g.run_id = any (kept) then 'added'
                when exists (select from velo.step s
                             where s.run_id = g.run_id and s.seq = g.seq and s.fence = g.fence)
                then 'repeated'
                when exists (select from velo.step s where s.run_id = g.run_id and s.seq = g.seq)
                 and exists (select from velo.queue q
                             where q.run_id = g.run_id and q.branch = 0
                               and q.worker = p_worker and q.fence = g.fence)
                then 'behind'
                else 'lost' end
    from unnest(p_run, p_fence, p_seq) with ordinality as g (run_id, fence, seq, place);
end $$;

-- Keeps outcomes of tasks of one step whose siblings are still at work; says of each whether it was added,
-- or null of all when the lease is gone.
create function velo.add_outcomes(
    p_worker integer, p_run bigint, p_fence bigint, p_seq integer, p_task integer[], p_outcome bytea[]
) returns integer[]
language plpgsql as $$
declare
    added integer[];
begin
    if not velo.hold(p_worker, p_run, p_fence) then
        return null;
    end if;
    with kept as (
        insert into velo.outcome (run_id, seq, task, fence, outcome)
        select p_run, p_seq, g.task, p_fence, g.outcome
        from unnest(p_task, p_outcome) as g (task, outcome)
        on conflict do nothing
        returning task
    )
    select coalesce(array_agg(kept.task), '{}') into added from kept;
    return added;
end $$;

-- Keeps the result of a side effect: true; false, when one is there already, which then counts; null,
-- when the lease is gone.
create function velo.memoise(
    p_worker integer, p_run bigint, p_fence bigint, p_seq integer, p_task integer, p_name text, p_value bytea
) returns boolean
language plpgsql as $$
begin
    if not velo.hold(p_worker, p_run, p_fence) then
        return null;
    end if;
    -- A conflict is this very call, sent again because its answer was lost, or one of an attempt before
    -- that nobody waited for.
    insert into velo.memo (run_id, seq, task, name, value)
    values (p_run, p_seq, p_task, p_name, p_value)
    on conflict do nothing;
    return found;
end $$;

-- Leases up to `p_limit` ready runs whose code the worker has, or `p_only` that one run. Returns nothing for a worker that
-- was given up: what it would lease now, nobody would take over.
create function velo.claim(p_worker integer, p_codes text[], p_limit integer, p_only bigint)
returns table (run_id bigint, fence bigint, code text, is_cancelled boolean)
language plpgsql set plan_cache_mode = force_generic_plan as $$
begin
    perform pg_advisory_xact_lock_shared(1986358383, p_worker);
    if not exists (select from velo.worker w where w.id = p_worker) then
        raise exception 'worker % was given up', p_worker using errcode = 'VL001';
    end if;
    return query
    with picked as (
        select r.run_id, r.branch
        from unnest(p_codes) as wanted (name)
        cross join lateral (
            select q.run_id, q.branch, q.priority, q.ready_at
            from velo.queue q
            where q.code = wanted.name and q.ready_at is not null
              and (p_only is null or q.run_id = p_only)
            order by q.priority, q.ready_at
            limit p_limit
            for update skip locked
        ) r
        order by r.priority, r.ready_at
        limit p_limit
    )
    update velo.queue q set worker = p_worker, ready_at = null, fence = q.fence + 1
    from picked p where q.run_id = p.run_id and q.branch = p.branch
    returning q.run_id, q.fence, q.code, q.is_cancelled;
end $$;

-- Ends a worker's incarnation and hands on its runs; returns how many, or null when it is not there
-- or, with `p_only_expired`, lives. What it was committing is either in before, or refused after.
--
-- A run whose last `crash_budget` leases all ended with the death of their worker, at the same step,
-- probably kills them: it is paused instead, so that it does not go on to kill the whole fleet.
create function velo.give_up(p_worker integer, p_only_expired boolean, p_crashed boolean) returns integer
language plpgsql set lock_timeout = '5s' as $$
declare
    crash_budget constant integer := 5;
    handed_on integer;
begin
    perform pg_advisory_xact_lock(1986358383, p_worker);
    delete from velo.worker
    where id = p_worker and (not p_only_expired or expires_at < clock_timestamp());
    if not found then
        return null;
    end if;
    with held as (
        select q.run_id, q.branch, q.crashes, q.crash_seq,
               (select max(s.seq) from velo.step s where s.run_id = q.run_id) as seq
        from velo.queue q where q.worker = p_worker
    ), counted as (
        select h.run_id, h.branch,
               case when not p_crashed then h.crashes
                    when h.crash_seq = h.seq then h.crashes + 1
                    else 1 end as crashes,
               case when p_crashed then h.seq else h.crash_seq end as crash_seq
        from held h
    ), handed as (
        update velo.queue q
        set worker = null,
            ready_at = case when c.crashes < crash_budget or q.is_cancelled then clock_timestamp() end,
            crashes = c.crashes,
            crash_seq = c.crash_seq
        from counted c where q.run_id = c.run_id and q.branch = c.branch
        returning q.run_id, q.crashes, q.ready_at
    ), poison as (
        update velo.run r
        set status = 'paused',
            error = jsonb_build_object(
                'kind', 'crashed',
                'message', format('the last %s workers that ran it died at the same step', h.crashes))
        from handed h where r.id = h.run_id and h.ready_at is null
    )
    select count(*) into handed_on from handed;
    return handed_on;
end $$;
