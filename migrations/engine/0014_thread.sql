-- What comes for a busy thread, what its next run begins from, stopping at a step boundary, draining.

-- The run whose state the thread had before the newest one; what a roll-back goes back to.
alter table velo.thread add column before_run bigint;
-- Whether the newest run counts as never having been.
alter table velo.thread add column is_undone boolean not null default false;
-- Whether runs wait for their turn.
alter table velo.thread add column has_line boolean not null default false;

-- Whether the run waits for its turn on its thread: nobody readies it before.
alter table velo.queue add column is_held boolean not null default false;
-- What is to happen at the run's next step boundary.
alter table velo.queue add column halt text check (halt in ('pause', 'end'));
-- Steps that the run may take, given when it was resumed.
alter table velo.queue add column step_limit bigint;
alter table velo.queue add constraint queue_held_check
    check (not is_held or num_nonnulls(ready_at, wake_at, worker) = 0);

-- Whether somebody has asked the worker to stop in order.
alter table velo.worker add column is_draining boolean not null default false;

alter table velo.schedule drop constraint schedule_overlap_check;
alter table velo.schedule add constraint schedule_overlap_check check (overlap in (
    'skip', 'buffer_one', 'buffer_all', 'cancel_other', 'terminate_other', 'allow_all'));

-- Runs that wait for their turn on a thread, and runs that begin from its state and have not begun.
create table velo.input (
    run_id bigint primary key,
    thread text not null,
    place bigint not null generated always as identity,
    -- Whether its turn has come; only the others are in line.
    is_turn boolean not null default false,
    -- Of a run that begins from the thread's state: what is written to that, what comes then, and the
    -- state that it begins with if the thread has none.
    delta bytea,
    control bytea,
    fresh bytea,
    -- The run from whose state it begins, once its turn has come.
    base_run bigint,
    check (num_nulls(delta, control, fresh) in (0, 3))
);

create index input_line on velo.input (thread, place) where not is_turn;
create index input_base on velo.input (base_run) where base_run is not null;

-- Has the first in line begin, in the transaction that ends the run before it.
--
-- Whoever joins the line holds the thread's row, and so does whoever gets here: what is in line is seen.
-- Locks are taken in the order queue, run, thread, then those of runs in line, which nobody holds who
-- reaches for the thread.
create function velo.begin_next() returns trigger
language plpgsql as $$
declare
    head constant bigint := case when new.is_undone then new.before_run else new.run_id end;
    next record;
begin
    loop
        select i.run_id, i.delta is not null as is_from_state into next
        from velo.input i
        where i.thread = new.name and not i.is_turn
        order by i.place
        limit 1;
        if not found then
            new.has_line := false;
            return new;
        end if;
        -- A statement of its own: whether the run is paused is read once its row cannot change.
        perform from velo.queue q where q.run_id = next.run_id and q.branch = 0 for update;
        if found then
            update velo.queue q
            set is_held = false,
                ready_at = case when r.status <> 'paused' then clock_timestamp() end
            from velo.run r
            where q.run_id = next.run_id and q.branch = 0 and r.id = q.run_id;
            update velo.run set status = 'active' where id = next.run_id and status = 'waiting';
            if next.is_from_state then
                update velo.input set is_turn = true, base_run = head where run_id = next.run_id;
            else
                delete from velo.input where run_id = next.run_id;
            end if;
            new.before_run := head;
            new.is_undone := false;
            new.run_id := next.run_id;
            new.is_live := true;
            return new;
        end if;
        -- It was cancelled while it waited.
        delete from velo.input where run_id = next.run_id;
    end loop;
end $$;

create trigger thread_free before update of is_live on velo.thread
for each row
when (old.is_live and not new.is_live and new.has_line)
execute function velo.begin_next();
