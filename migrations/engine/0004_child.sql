-- Runs that were started by nodes of other runs.

-- The run whose node started it, and how many are above it.
alter table velo.run add column parent bigint;
alter table velo.run add column depth smallint not null default 0;
-- Whether it has started runs: those that have not need not be looked for when it ends.
alter table velo.run add column has_children boolean not null default false;

-- One row a started run, under the place in its parent that started it.
create table velo.child (
    run_id bigint not null,
    seq integer not null,
    task integer not null,
    name text not null check (name <> ''),
    child bigint not null,
    node text not null,
    -- Whether its parent waits for its end.
    is_awaited boolean not null,
    -- What becomes of it when its parent ends before it.
    on_close text not null check (on_close in ('cancel', 'abandon')),
    primary key (run_id, seq, task, name)
) partition by range (run_id);

create table velo.child_rest partition of velo.child default;

create index child_parent on velo.child (child);

-- Runs that have ended, of which a parent or children have not been told yet.
--
-- The row is written with the end itself. Telling is for later transactions, each of which touches one
-- other run: one that ended a run and reached for its parent would meet another that ends the parent and
-- reaches for the run.
create table velo.ending (
    run_id bigint primary key,
    -- The run that waits for it.
    waiter bigint
) with (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);

create function velo.note_ending() returns trigger
language plpgsql as $$
begin
    insert into velo.ending (run_id, waiter)
    select new.id, (select c.run_id from velo.child c where c.child = new.id and c.is_awaited);
    return null;
end $$;

-- However it ends.
create trigger run_ending after update of status on velo.run
for each row
when (old.finished_at is null and new.finished_at is not null and (new.parent is not null or new.has_children))
execute function velo.note_ending();

alter table velo.wait drop constraint wait_kind_check;
alter table velo.wait add constraint wait_kind_check check (kind in ('ask', 'sleep', 'signal', 'child'));

-- Starts a run for a task of another one, and returns its id: the one that the task has started before
-- under this name, if it has; null when the lease is gone.
create function velo.start_child(
    p_worker integer, p_run bigint, p_fence bigint, p_seq integer, p_task integer, p_name text, p_node text,
    p_is_awaited boolean, p_on_close text, p_child bigint, p_nonce bigint, p_graph text, p_version integer,
    p_fingerprint uuid, p_control bytea, p_state bytea, p_code text
) returns bigint
language plpgsql as $$
declare
    depth_max constant integer := 32;
    parent record;
    started bigint;
begin
    if not velo.hold(p_worker, p_run, p_fence) then
        return null;
    end if;
    -- The parent's end waits for this child, or is found here: a COMMIT that comes late leaves no child
    -- that nobody will ever cancel.
    select r.depth, r.has_children into parent
    from velo.run r where r.id = p_run and r.finished_at is null
    for no key update;
    if not found then
        return null;
    end if;
    select c.child into started
    from velo.child c
    where c.run_id = p_run and c.seq = p_seq and c.task = p_task and c.name = p_name;
    if found then
        return started;
    end if;
    if parent.depth >= depth_max then
        raise exception 'a run has at most % runs above it: does a graph start itself without end?', depth_max
            using errcode = 'VL002';
    end if;
    if not parent.has_children then
        update velo.run set has_children = true where id = p_run;
    end if;
    insert into velo.child (run_id, seq, task, name, child, node, is_awaited, on_close)
    values (p_run, p_seq, p_task, p_name, p_child, p_node, p_is_awaited, p_on_close);
    insert into velo.run (id, nonce, graph, version, fingerprint, parent, depth)
    values (p_child, p_nonce, p_graph, p_version, p_fingerprint, p_run, parent.depth + 1);
    insert into velo.step (run_id, seq, fence, delta, control, snapshot)
    values (p_child, 0, 0, '', p_control, p_state);
    insert into velo.queue (run_id, code, priority, ready_at)
    select p_child, p_code, q.priority, clock_timestamp()
    from velo.queue q where q.run_id = p_run and q.branch = 0;
    return p_child;
end $$;
