-- Commits steps of several runs that one worker holds, all of them or none: what nearly every commit is.
--
-- Fails with `unique_violation` when one of the steps is there already, and with VL010 when one of the leases
-- is gone; `commit_steps` then tells of each step what became of it. Apart from it, because `on conflict`
-- makes each row dearer by half: it is looked for before, and its place in the index is reserved first.
-- `p_finish` and `p_yield` are the runs among them that end, and whose leases are given back.
create function velo.commit_all(
    p_worker integer, p_run bigint[], p_fence bigint[], p_seq integer[],
    p_delta bytea[], p_control bytea[], p_snapshot bytea[], p_finish bigint[], p_yield bigint[]
) returns void
language plpgsql set plan_cache_mode = force_generic_plan as $$
declare
    added integer;
begin
    perform velo.keep_leases(p_worker);
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
