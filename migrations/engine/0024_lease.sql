-- Leases up to `p_limit` ready runs whose code the worker has, or `p_only` that one run, and tells with one that nobody has
-- had yet where it stands: that is its first step, if nothing else has been written about it and it is small. Where
-- `control` is null, a worker has to read more. Returns nothing for a worker that was given up: what it would lease now,
-- nobody would take over.
--
-- It looks at the line behind the place `p_after` alone. In front of it are the places of those that were leased before, for
-- as long as some session may still see them there: a look at the whole line walks past all of them. `place` is that of the
-- last one in the line that was leased now.
--
-- It looks into indexes, in their order, whatever the planner knows of the queue. A table that grew since it was last analyzed
-- looks short to it: then it would read all that is ready and sort it, or all there is to see whether anything is held back, and
-- keep that plan. What is switched off counts as dear, and what is dear would be compiled, each time.
create function velo.lease(
    p_worker integer, p_codes text[], p_limit integer, p_only bigint, p_after interval
)
returns table (
    run_id bigint, fence bigint, code text, is_cancelled boolean, lane text, place interval,
    control bytea, snapshot bytea, age float8, fingerprint uuid, trace text
)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
    -- Queues that a claim looks at when the line is short.
    lanes_max constant integer := 100;
    -- A first step of more bytes is read by the turn, when it has room for it.
    small constant integer := 65536;
    runs bigint[] := '{}';
    last_place interval;
    moved integer;
    them bigint[];
    its_place interval;
begin
    perform pg_advisory_xact_lock_shared(1986358383, p_worker);
    if not exists (select from velo.worker w where w.id = p_worker) then
        raise exception 'worker % was given up', p_worker using errcode = 'VL001';
    end if;
    if exists (select from velo.gate g where g.is_paused and g.name >= 'graph/' and g.name < 'graph0') then
        p_codes := array(
            select w.name
            from unnest(p_codes) as w (name)
            where not exists (select from velo.gate g
                              where g.is_paused
                                -- A code may say more than the graph and its version.
                                and g.name in ('graph/' || regexp_replace(w.name, '(@[0-9]+).*$', '\1'),
                                               'graph/' || split_part(w.name, '@', 1))));
    end if;
    for round in 1 .. 2 loop
        with picked as (
            select r.run_id, r.branch, r.place
            from unnest(p_codes) as wanted (name)
            cross join lateral (
                select q.run_id, q.branch,
                       (q.ready_at - timestamptz '2000-01-01 00:00:00+00') + q.priority * interval '1 minute' as place
                from velo.queue q
                where q.code = wanted.name and q.ready_at is not null
                  and (q.ready_at - timestamptz '2000-01-01 00:00:00+00') + q.priority * interval '1 minute'
                      >= coalesce(p_after, interval '-178000000 years')
                  and (p_only is null or q.run_id = p_only)
                order by (q.ready_at - timestamptz '2000-01-01 00:00:00+00') + q.priority * interval '1 minute'
                limit p_limit
                for update skip locked
            ) r
            order by r.place
            limit p_limit
        ), leased as (
            update velo.queue q set worker = p_worker, ready_at = null, fence = q.fence + 1
            from picked p where q.run_id = p.run_id and q.branch = p.branch
            returning q.run_id, p.place
        )
        select array_agg(l.run_id), max(l.place), count(*) into them, its_place, moved from leased l;
        if moved > 0 then
            runs := runs || them;
            last_place := greatest(last_place, its_place);
        end if;
        p_limit := p_limit - moved;
        exit when round = 2 or not exists (select from velo.queue q where q.gated_at is not null);
        -- What it has just leased has made room behind it. In the order of the locks, so that two claims do not wait
        -- for each other.
        perform velo.balance(l.lane, true)
        from (select q.lane
              from velo.queue q
              where q.worker = p_worker and q.lane is not null
              group by q.lane
              order by hashtext(q.lane), q.lane) l;
        exit when p_limit <= 0;
        -- None before the worker's own were let go: a lock that is tried keeps nobody waiting.
        select coalesce(sum((velo.balance(l.lane, false)).let_in), 0) into moved
        from velo.held_lanes('', lanes_max) as l (lane);
        exit when moved = 0 and cardinality(runs) > 0;
        -- What was let in may be anywhere in the line.
        p_after := null;
    end loop;
    if cardinality(runs) = 0 then
        return;
    end if;
    -- In a snapshot that is newer than the leases.
    return query
    select q.run_id, q.fence, q.code, q.is_cancelled, q.lane, last_place,
           f.control, f.snapshot, f.age, f.fingerprint, f.trace
    from (select unnest(runs) as run_id) g
    join velo.queue q on q.run_id = g.run_id and q.branch = 0
    left join lateral (
        select s.control, s.snapshot, extract(epoch from clock_timestamp() - s.at)::float8 as age,
               r.fingerprint, r.trace
        from (select n.seq, n.control, n.snapshot, n.at
              from velo.step n where n.run_id = g.run_id order by n.seq desc limit 1) s
        join velo.run r on r.id = g.run_id
        where q.fence = 1 and s.seq = 0 and octet_length(s.snapshot) <= small
          and substring(s.snapshot from 1 for 1) <> '\x03' and substring(s.control from 1 for 1) <> '\x03'
          and r.parent is null and not r.has_children
          and not q.is_poked and q.crashes = 0 and q.halt is null and q.step_limit is null and q.resumed_at is null
          and not exists (select from velo.memo x where x.run_id = g.run_id)
          and not exists (select from velo.outcome x where x.run_id = g.run_id)
          and not exists (select from velo.failure x where x.run_id = g.run_id)
          and not exists (select from velo.wait x where x.run_id = g.run_id)
          and not exists (select from velo.signal x where x.run_id = g.run_id)
          and not exists (select from velo.run_update x where x.run_id = g.run_id)
    ) f on true;
end $$;

-- For workers of the version before.
create or replace function velo.claim(p_worker integer, p_codes text[], p_limit integer, p_only bigint)
returns table (run_id bigint, fence bigint, code text, is_cancelled boolean, lane text)
language sql as $$
    select l.run_id, l.fence, l.code, l.is_cancelled, l.lane
    from velo.lease(p_worker, p_codes, p_limit, p_only, null) l
$$;

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
