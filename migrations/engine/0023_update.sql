-- Updates: requests to runs, each answered once, with what the answer has written.

-- An accepted one is part of the state from the moment at which it was accepted. The next step has its writes
-- before those of its tasks; until then they are applied to the state after the newest step by whoever reads it.
create table velo.run_update (
    run_id bigint not null,
    -- Chosen by who asks: a second request with the same key is the first one, sent again.
    key text not null check (key <> ''),
    -- The order in which they are answered.
    number bigint generated always as identity,
    name text not null check (name <> ''),
    request jsonb not null,
    asked_at timestamptz not null default clock_timestamp(),
    -- Null until it is answered.
    verdict text check (verdict in ('accepted', 'refused')),
    -- Or why it was refused.
    answer jsonb,
    -- As a step's delta.
    writes bytea,
    -- The newest step when it was answered.
    seq integer,
    answered_at timestamptz,
    -- The step that has what it wrote.
    used_seq integer,
    primary key (run_id, key),
    check ((verdict is null) = (answered_at is null)),
    check ((verdict is null) = (answer is null)),
    check ((verdict is not distinct from 'accepted') = (writes is not null)),
    check (used_seq is null or writes is not null)
) partition by range (run_id);

create table velo.run_update_rest partition of velo.run_update default;

create index run_update_open on velo.run_update (run_id, number)
    where used_seq is null and verdict is distinct from 'refused';

-- Stores answers, with what they wrote and the messages that go with them: `done`, also when they were stored
-- before, by this very call, whose answer was lost; `behind`, when a step was committed since `p_seq`; `lost`, when
-- the lease is gone.
--
-- The row in the queue is locked before anything is read: a lease that was given back is gone for a call that comes
-- late, and who edits the state sees either none of the answers or all of them.
create function velo.answer_updates(
    p_worker integer, p_run bigint, p_fence bigint, p_seq integer,
    p_number bigint[], p_verdict text[], p_answer jsonb[], p_writes bytea[],
    p_signal_name text[], p_signal_payload jsonb[]
) returns text
language plpgsql as $$
begin
    perform velo.keep_leases(p_worker);
    perform from velo.queue q
    where q.run_id = p_run and q.branch = 0 and q.worker = p_worker and q.fence = p_fence
    for update;
    if not found then
        return 'lost';
    end if;
    if (select max(s.seq) from velo.step s where s.run_id = p_run) is distinct from p_seq then
        return 'behind';
    end if;
    update velo.run_update u
    set verdict = g.verdict, answer = g.answer, writes = g.writes, seq = p_seq, answered_at = clock_timestamp()
    from unnest(p_number, p_verdict, p_answer, p_writes) as g (number, verdict, answer, writes)
    where u.run_id = p_run and u.number = g.number and u.verdict is null;
    -- None is stored without the others.
    if found then
        insert into velo.signal (run_id, name, payload)
        select p_run, g.name, g.payload
        from unnest(p_signal_name, p_signal_payload) with ordinality as g (name, payload, place)
        order by g.place;
    end if;
    return 'done';
end $$;
