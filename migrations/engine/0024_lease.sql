-- Claiming looks into indexes, in their order, whatever the planner knows of the queue. A table that grew since it was last
-- analyzed looks short to it: then it reads all that is ready and sorts it, or all there is to see whether anything is
-- held back, and keeps that plan.
alter function velo.claim(integer, text[], integer, bigint) set enable_seqscan = off;
alter function velo.claim(integer, text[], integer, bigint) set enable_bitmapscan = off;
alter function velo.claim(integer, text[], integer, bigint) set enable_sort = off;
-- What is switched off counts as dear, and what is dear would be compiled, each time.
alter function velo.claim(integer, text[], integer, bigint) set jit = off;

-- Leases like `velo.claim`, and tells with a run that nobody has had yet where it stands: that is its first step, if
-- nothing else has been written about it and it is small. The columns from `control` on are null where a worker has to read more.
--
-- In a second statement, since its snapshot must be newer than the leases.
create function velo.lease(p_worker integer, p_codes text[], p_limit integer, p_only bigint)
returns table (
    run_id bigint, fence bigint, code text, is_cancelled boolean, lane text,
    control bytea, snapshot bytea, age float8, fingerprint uuid, trace text
)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
    runs bigint[];
    fences bigint[];
    codes text[];
    cancelled boolean[];
    lanes text[];
begin
    select array_agg(c.run_id), array_agg(c.fence), array_agg(c.code), array_agg(c.is_cancelled), array_agg(c.lane)
    into runs, fences, codes, cancelled, lanes
    from velo.claim(p_worker, p_codes, p_limit, p_only) c;
    if runs is null then
        return;
    end if;
    return query
    select g.run_id, g.fence, g.code, g.is_cancelled, g.lane,
           f.control, f.snapshot, f.age, f.fingerprint, f.trace
    from (select unnest(runs) as run_id, unnest(fences) as fence, unnest(codes) as code,
                 unnest(cancelled) as is_cancelled, unnest(lanes) as lane) g
    left join lateral (
        select s.control, s.snapshot, extract(epoch from clock_timestamp() - s.at)::float8 as age, r.fingerprint, r.trace
        from (select n.seq, n.control, n.snapshot, n.at
              from velo.step n where n.run_id = g.run_id order by n.seq desc limit 1) s
        join velo.run r on r.id = g.run_id
        join velo.queue q on q.run_id = g.run_id and q.branch = 0
        where g.fence = 1 and s.seq = 0 and octet_length(s.snapshot) <= 65536
          and substring(s.snapshot from 1 for 1) <> '\x03' and substring(s.control from 1 for 1) <> '\x03'
          and r.parent is null and not r.has_children
          and not q.is_poked and q.crashes = 0 and q.halt is null and q.step_limit is null and q.resumed_at is null
          and not exists (select from velo.memo x where x.run_id = g.run_id)
          and not exists (select from velo.outcome x where x.run_id = g.run_id)
          and not exists (select from velo.failure x where x.run_id = g.run_id)
          and not exists (select from velo.wait x where x.run_id = g.run_id)
          and not exists (select from velo.signal x where x.run_id = g.run_id)
    ) f on true;
end $$;

-- As before, but for `keep_leases`: a commit of its own needs no limit to the time that its process may freeze in it, and
-- a call within a call costs as much as three rows.
create or replace function velo.commit_all(
    p_worker integer, p_run bigint[], p_fence bigint[], p_seq integer[],
    p_delta bytea[], p_control bytea[], p_snapshot bytea[], p_finish bigint[], p_yield bigint[]
) returns void
language plpgsql set plan_cache_mode = force_generic_plan as $$
declare
    added integer;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'a lease can be checked only at isolation level read committed'
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    perform pg_advisory_xact_lock_shared(1986358383, p_worker);
    -- In the list of what is selected, arrays are read as they are wanted; after `from` they would be
    -- written to a table of their own first.
    insert into velo.step (run_id, seq, fence, delta, control, snapshot)
    select g.run_id, g.seq, g.fence, g.delta, g.control, g.snapshot
    from (select unnest(p_run) as run_id, unnest(p_fence) as fence, unnest(p_seq) as seq,
                 unnest(p_delta) as delta, unnest(p_control) as control, unnest(p_snapshot) as snapshot) g
    where (select q.worker = p_worker and q.fence = g.fence
           from velo.queue q where q.run_id = g.run_id and q.branch = 0);
    get diagnostics added = row_count;
    if added <> cardinality(p_run) then
        raise exception 'the worker holds % of the % runs', added, cardinality(p_run) using errcode = 'VL010';
    end if;

    if cardinality(p_finish) > 0 then
        with finished as (
            update velo.run r set status = 'completed', error = null, finished_at = clock_timestamp()
            where r.id = any (p_finish)
            returning r.id, r.thread
        ), freed as (
            update velo.thread t set is_live = false
            from finished f where t.name = f.thread and t.run_id = f.id
        )
        delete from velo.queue q where q.run_id = any (p_finish);
    end if;
    if cardinality(p_yield) > 0 then
        update velo.queue q set worker = null, ready_at = clock_timestamp()
        where q.run_id = any (p_yield) and q.branch = 0;
    end if;
end $$;
