-- One winner of several things that are waited for, questions that are closed, and breakpoints.

-- A question and a message may have one name.
alter table velo.wait drop constraint wait_pkey;
alter table velo.wait add primary key (run_id, seq, task, kind, name);

-- No longer waited for: the time of a question has passed without an answer, or something else that was waited
-- for beside it has won.
alter table velo.wait add column is_closed boolean not null default false;
-- Of those with the same word here, one wins.
alter table velo.wait add column race text check (race <> '');

-- The task for which a message is kept, since it was decided that it goes on with that. It says nothing once the
-- step is another one.
alter table velo.signal add column kept_seq integer;
alter table velo.signal add column kept_task integer;

-- The newest step when somebody last resumed the run: a breakpoint right after it has had its effect.
alter table velo.queue add column resumed_seq integer;

-- Closes a question whose time has passed, so that no answer is accepted any more: `closed`; `answered`, when an
-- answer was accepted before, which then counts; `lost`, when the lease is gone.
--
-- What is decided by is read in a later statement than the one that waits for the lock, here and below: answers
-- hold the row of the queue until they commit.
create function velo.close_question(
    p_worker integer, p_run bigint, p_fence bigint, p_seq integer, p_task integer, p_name text
) returns table (verdict text, answer jsonb)
language plpgsql as $$
begin
    if not velo.hold(p_worker, p_run, p_fence) then
        return query select 'lost', null::jsonb;
        return;
    end if;
    perform from velo.queue q where q.run_id = p_run and q.branch = 0 for update;
    update velo.wait w set is_closed = true
    where w.run_id = p_run and w.seq = p_seq and w.task = p_task and w.kind = 'ask' and w.name = p_name
      and w.answer is null;
    return query
    select case when w.answer is null then 'closed' else 'answered' end, w.answer
    from velo.wait w
    where w.run_id = p_run and w.seq = p_seq and w.task = p_task and w.kind = 'ask' and w.name = p_name;
end $$;

-- Decides which of the things that a task waits for wins: `decided`, with the decision that counts, which may be one
-- of an attempt before; `answered`, when an answer was accepted meanwhile, which is not lost; `taken`, when the
-- message is no longer to be had; `lost`, when the lease is gone. `p_signal` is the message that wins, if one does.
create function velo.decide(
    p_worker integer, p_run bigint, p_fence bigint, p_seq integer, p_task integer, p_name text,
    p_decision bytea, p_signal bigint
) returns table (verdict text, decision bytea)
language plpgsql as $$
declare
    earlier bytea;
begin
    if not velo.hold(p_worker, p_run, p_fence) then
        return query select 'lost', null::bytea;
        return;
    end if;
    perform from velo.queue q where q.run_id = p_run and q.branch = 0 for update;
    select m.value into earlier
    from velo.memo m
    where m.run_id = p_run and m.seq = p_seq and m.task = p_task and m.name = p_name;
    if found then
        return query select 'decided', earlier;
        return;
    end if;
    if exists (select from velo.wait w
               where w.run_id = p_run and w.seq = p_seq and w.task = p_task and w.race = p_name
                 and w.answer is not null) then
        return query select 'answered', null::bytea;
        return;
    end if;
    if p_signal is not null then
        update velo.signal i set kept_seq = p_seq, kept_task = p_task
        where i.run_id = p_run and i.id = p_signal and i.used_seq is null
          and i.kept_seq is distinct from p_seq;
        if not found then
            return query select 'taken', null::bytea;
            return;
        end if;
    end if;
    insert into velo.memo (run_id, seq, task, name, value) values (p_run, p_seq, p_task, p_name, p_decision);
    update velo.wait w set is_closed = true
    where w.run_id = p_run and w.seq = p_seq and w.task = p_task and w.race = p_name;
    return query select 'decided', p_decision;
end $$;
