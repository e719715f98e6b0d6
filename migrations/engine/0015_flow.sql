-- Flow control: queues, limits and rates for the whole fleet, and what is paused.

-- What is allowed of something. Its name says of what: `queue/NAME` of the runs that were started into a queue,
-- `limit/NAME` of the nodes that ask for a limit, `node/GRAPH@VERSION/NAME` of a node, `graph/GRAPH@VERSION` and
-- `graph/GRAPH` of a graph's runs. A name that ends in `/*` is for all that begin so and have none of their own.
create table velo.gate (
    name text primary key check (name ~ '^(queue|limit|node|graph)/.'),
    max_running integer check (max_running >= 0),
    -- So many in so long, and so many at once after a rest.
    rate_count integer check (rate_count > 0),
    rate_ms bigint check (rate_ms > 0),
    burst integer check (burst > 0),
    -- A queue's share of the line beside other queues.
    weight integer not null default 1 check (weight between 1 and 1000),
    is_paused boolean not null default false,
    note text,
    changed_at timestamptz not null default clock_timestamp(),
    check (num_nonnulls(rate_count, rate_ms, burst) in (0, 3))
);

create index gate_paused on velo.gate (name) where is_paused;

-- When the tokens of a rate would all be used up, had they come one after the other.
create table velo.bucket (
    gate text primary key,
    empty_at timestamptz not null
) with (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);

-- What nodes have of a gate, or wait for. One that is had counts while the lease with its fence holds and its step is
-- not committed: nothing has to be given back for it to end.
create table velo.permit (
    run_id bigint not null,
    seq integer not null,
    task integer not null,
    gate text not null,
    node text not null,
    -- Of the lease that has it; null while it is waited for.
    fence bigint,
    attempt integer not null,
    -- How often the attempt has asked.
    calls integer not null,
    asked_at timestamptz not null default clock_timestamp(),
    -- When the token that was set aside for it may be used, and whether that time has come.
    due_at timestamptz,
    is_paid boolean not null default false,
    -- Until when a place is kept for it, since it was told to come.
    kept_until timestamptz,
    primary key (run_id, seq, task, gate)
) with (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);

create index permit_gate on velo.permit (gate, asked_at);

-- The queue that the run was started into. A run of a queue that is ready to go on is held back first, and let into
-- the line as its queue allows: so the line has a few of each queue, however many wait, and claims look at nothing else.
alter table velo.queue add column lane text check (lane <> '');
alter table velo.queue add column gated_at timestamptz;
alter table velo.queue drop constraint queue_check;
alter table velo.queue add constraint queue_check
    check (num_nonnulls(ready_at, wake_at, worker, gated_at) <= 1);

-- A level of priority is worth a minute of waiting: whoever has waited for long enough goes first. The order of two
-- that wait never changes, so it can be kept in an index.
create index queue_line on velo.queue
    (code, ((ready_at - timestamptz '2000-01-01 00:00:00+00') + priority * interval '1 minute'))
    where ready_at is not null;
drop index velo.queue_ready;

-- Those that have begun come first.
create index queue_held on velo.queue
    (lane, (least(fence, 1)), ((gated_at - timestamptz '2000-01-01 00:00:00+00') + priority * interval '1 minute'))
    where gated_at is not null;
create index queue_let_in on velo.queue (lane)
    where lane is not null and (ready_at is not null or worker is not null);

create function velo.hold_back() returns trigger
language plpgsql as $$
begin
    new.gated_at := coalesce(new.gated_at, new.ready_at);
    new.ready_at := null;
    return new;
end $$;

-- Whatever made it ready. One that is to be ended is let through.
create trigger queue_hold_new before insert on velo.queue
for each row
when (new.lane is not null and new.ready_at is not null)
execute function velo.hold_back();

create trigger queue_hold before update of ready_at on velo.queue
for each row
when (new.lane is not null and new.ready_at is not null and old.ready_at is null
      and (new.gated_at is not null or old.gated_at is null) and not new.is_cancelled)
execute function velo.hold_back();

-- What is allowed of this name: by a row of its own, or by one for all that begin so.
create function velo.gate_of(p_name text) returns velo.gate
language sql stable as $$
    select g
    from velo.gate g
    where g.name in (p_name, regexp_replace(p_name, '/[^/]*$', '/*'), split_part(p_name, '/', 1) || '/*')
    order by g.name = p_name desc, length(g.name) desc
    limit 1
$$;

-- Lets runs of a queue into the line, as many as it allows, or takes out those that it no longer allows. Returns how
-- many it let in, and when the next may come if only the rate is in the way.
--
-- Only this function lets runs in, under a lock of the queue, and what is in the line or at work is counted under it:
-- so there are never more than allowed, and a place is free as soon as the row says so, whoever wrote that.
create function velo.balance(p_lane text, p_must boolean, out let_in integer, out next_at timestamptz)
language plpgsql as $$
declare
    -- Of each queue there are so many in the line, times its weight. As each that is claimed makes room for one at
    -- the end of the line, queues are served in proportion to their weights.
    share constant integer := 8;
    gate velo.gate;
    in_line integer;
    at_work integer;
    room integer;
    moved integer;
    spacing interval;
    empty_at timestamptz;
    tokens integer;
begin
    let_in := 0;
    if p_must then
        perform pg_advisory_xact_lock(1986358384, hashtext(p_lane));
    elsif not pg_try_advisory_xact_lock(1986358384, hashtext(p_lane)) then
        return;
    end if;
    gate := velo.gate_of('queue/' || p_lane);
    -- In one look: between two, a run could move from one count to the other.
    select count(q.ready_at), count(q.worker) into in_line, at_work
    from velo.queue q
    where q.lane = p_lane and (q.ready_at is not null or q.worker is not null);
    room := case when gate.is_paused then 0
                 else greatest(0, least(share * coalesce(gate.weight, 1), gate.max_running - at_work)) end - in_line;
    if room < 0 then
        with back as (
            select q.run_id, q.branch
            from velo.queue q
            where q.lane = p_lane and q.ready_at is not null and not q.is_cancelled
            order by q.ready_at desc
            limit -room
            for update skip locked
        )
        update velo.queue q set gated_at = q.ready_at, ready_at = null
        from back b where q.run_id = b.run_id and q.branch = b.branch;
        return;
    end if;
    if room = 0 then
        return;
    end if;
    with next as (
        select q.run_id, q.branch
        from velo.queue q
        where q.lane = p_lane and q.gated_at is not null and least(q.fence, 1) = 1
        order by (q.gated_at - timestamptz '2000-01-01 00:00:00+00') + q.priority * interval '1 minute'
        limit room
        for update skip locked
    )
    update velo.queue q set gated_at = null, ready_at = clock_timestamp()
    from next n where q.run_id = n.run_id and q.branch = n.branch;
    get diagnostics let_in = row_count;
    room := room - let_in;
    tokens := room;
    if gate.rate_count is not null and room > 0 then
        spacing := interval '1 millisecond' * (gate.rate_ms::float8 / gate.rate_count);
        select greatest(b.empty_at, clock_timestamp()) into empty_at
        from velo.bucket b where b.gate = 'queue/' || p_lane;
        empty_at := coalesce(empty_at, clock_timestamp());
        tokens := least(room, floor(extract(epoch from clock_timestamp() + gate.burst * spacing - empty_at)
                                    / extract(epoch from spacing)));
    end if;
    if tokens > 0 then
        with next as (
            select q.run_id, q.branch
            from velo.queue q
            where q.lane = p_lane and q.gated_at is not null and least(q.fence, 1) = 0
            order by (q.gated_at - timestamptz '2000-01-01 00:00:00+00') + q.priority * interval '1 minute'
            limit tokens
            for update skip locked
        )
        update velo.queue q set gated_at = null, ready_at = clock_timestamp()
        from next n where q.run_id = n.run_id and q.branch = n.branch;
        get diagnostics moved = row_count;
        let_in := let_in + moved;
    else
        moved := 0;
    end if;
    if gate.rate_count is not null and room > 0 then
        if moved > 0 then
            insert into velo.bucket as b (gate, empty_at)
            values ('queue/' || p_lane, empty_at + moved * spacing)
            on conflict on constraint bucket_pkey do update set empty_at = excluded.empty_at;
        end if;
        if room > moved and exists (select from velo.queue q
                                    where q.lane = p_lane and q.gated_at is not null and least(q.fence, 1) = 0) then
            next_at := empty_at + (moved + 1 - gate.burst) * spacing;
        end if;
    end if;
end $$;

-- Leases up to `p_limit` ready runs whose code the worker has, or `p_only` that one run. Returns nothing for a worker that
-- was given up: what it would lease now, nobody would take over.
--
-- A look at queues costs who has none a single look into an empty index.
drop function velo.claim(integer, text[], integer, bigint);
create function velo.claim(p_worker integer, p_codes text[], p_limit integer, p_only bigint)
returns table (run_id bigint, fence bigint, code text, is_cancelled boolean, lane text)
language plpgsql set plan_cache_mode = force_generic_plan as $$
declare
    -- Queues that a claim looks at when the line is short.
    lanes_max constant integer := 100;
    claimed integer := 0;
    moved integer;
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
        return query
        with picked as (
            select r.run_id, r.branch
            from unnest(p_codes) as wanted (name)
            cross join lateral (
                select q.run_id, q.branch,
                       (q.ready_at - timestamptz '2000-01-01 00:00:00+00') + q.priority * interval '1 minute' as place
                from velo.queue q
                where q.code = wanted.name and q.ready_at is not null
                  and (p_only is null or q.run_id = p_only)
                order by (q.ready_at - timestamptz '2000-01-01 00:00:00+00') + q.priority * interval '1 minute'
                limit p_limit
                for update skip locked
            ) r
            order by r.place
            limit p_limit
        )
        update velo.queue q set worker = p_worker, ready_at = null, fence = q.fence + 1
        from picked p where q.run_id = p.run_id and q.branch = p.branch
        returning q.run_id, q.fence, q.code, q.is_cancelled, q.lane;
        get diagnostics moved = row_count;
        claimed := claimed + moved;
        p_limit := p_limit - moved;
        if round = 2 or not exists (select from velo.queue q where q.gated_at is not null) then
            return;
        end if;
        -- What it has just leased has made room behind it. In the order of the locks, so that two claims do not wait
        -- for each other.
        perform velo.balance(l.lane, true)
        from (select q.lane
              from velo.queue q
              where q.worker = p_worker and q.lane is not null
              group by q.lane
              order by hashtext(q.lane), q.lane) l;
        if p_limit <= 0 then
            return;
        end if;
        -- None before the worker's own were let go: a lock that is tried keeps nobody waiting.
        select coalesce(sum((velo.balance(l.lane, false)).let_in), 0) into moved
        from velo.held_lanes('', lanes_max) as l (lane);
        if moved = 0 and claimed > 0 then
            return;
        end if;
    end loop;
end $$;

-- Queues of which runs are held back, by name, after `p_after`: one look into the index for each.
create function velo.held_lanes(p_after text, p_limit integer) returns setof text
language sql stable as $$
    with recursive lanes as (
        (select q.lane from velo.queue q where q.gated_at is not null and q.lane > p_after order by q.lane limit 1)
        union all
        select (select q.lane from velo.queue q
                where q.gated_at is not null and q.lane > l.lane order by q.lane limit 1)
        from lanes l where l.lane is not null
    )
    select lanes.lane from lanes where lanes.lane is not null limit p_limit
$$;

-- Forgets permits of this gate whose lease has ended, whose step is committed, or whose run has.
create function velo.forget_permits(p_gate text) returns void
language sql as $$
    delete from velo.permit p
    where p.gate = p_gate
      and not exists (select from velo.queue q
                      where q.run_id = p.run_id and q.branch = 0
                        and (p.fence is null or (q.worker is not null and q.fence = p.fence))
                        and p.seq = (select max(s.seq) + 1 from velo.step s where s.run_id = p.run_id))
$$;

-- Asks for a permit of a gate, for an attempt of a task: `free`, when nothing limits it; `granted`; `wait`, and for how many
-- seconds if a time is known; `lost`, when the lease is gone. The same call again has the same answer.
create function velo.take_permit(
    p_worker integer, p_run bigint, p_fence bigint, p_seq integer, p_task integer, p_node text, p_attempt integer,
    p_call integer, p_gate text, out verdict text, out seconds float8
)
language plpgsql as $$
declare
    gate velo.gate;
    mine velo.permit;
    spacing interval;
    empty_at timestamptz;
    taken integer;
    before integer := 0;
begin
    if not velo.hold(p_worker, p_run, p_fence) then
        verdict := 'lost';
        return;
    end if;
    gate := velo.gate_of(p_gate);
    if gate.name is null then
        delete from velo.permit p
        where p.run_id = p_run and p.seq = p_seq and p.task = p_task and p.gate = p_gate;
        verdict := 'free';
        return;
    end if;
    perform pg_advisory_xact_lock(1986358385, hashtext(p_gate));
    gate := velo.gate_of(p_gate);
    insert into velo.permit as p (run_id, seq, task, gate, node, attempt, calls)
    values (p_run, p_seq, p_task, p_gate, p_node, p_attempt, 0)
    on conflict on constraint permit_pkey do update set node = p.node
    returning * into mine;
    if mine.fence = p_fence and mine.attempt = p_attempt and mine.calls >= p_call then
        verdict := 'granted';
        return;
    end if;
    verdict := 'wait';
    if mine.due_at <= clock_timestamp() then
        mine.due_at := null;
        mine.is_paid := true;
    end if;
    if not gate.is_paused and gate.rate_count is not null and mine.due_at is null and not mine.is_paid then
        -- A token is set aside for it at once: who asked first is served first, and nobody has to ask again and again.
        spacing := interval '1 millisecond' * (gate.rate_ms::float8 / gate.rate_count);
        select greatest(b.empty_at, clock_timestamp()) into empty_at
        from velo.bucket b where b.gate = p_gate;
        empty_at := coalesce(empty_at, clock_timestamp()) + spacing;
        insert into velo.bucket as b (gate, empty_at) values (p_gate, empty_at)
        on conflict on constraint bucket_pkey do update set empty_at = excluded.empty_at;
        mine.due_at := empty_at - gate.burst * spacing;
        mine.is_paid := mine.due_at <= clock_timestamp();
        if mine.is_paid then
            mine.due_at := null;
        end if;
    end if;
    if gate.is_paused then
        null;
    elsif mine.due_at is not null then
        seconds := extract(epoch from mine.due_at - clock_timestamp());
    elsif gate.max_running is null or mine.fence = p_fence then
        verdict := 'granted';
    else
        perform velo.forget_permits(p_gate);
        select count(*) filter (where p.fence is not null or p.kept_until > clock_timestamp()),
               count(*) filter (where p.fence is null and p.kept_until is null and p.due_at is null
                                  and (p.asked_at, p.run_id, p.task) < (mine.asked_at, mine.run_id, mine.task)
                                  and coalesce(mine.kept_until < clock_timestamp(), true))
        into taken, before
        from velo.permit p
        where p.gate = p_gate and (p.run_id, p.seq, p.task) <> (p_run, p_seq, p_task);
        if taken + before < gate.max_running then
            verdict := 'granted';
        end if;
    end if;
    update velo.permit p
    set fence = case when verdict = 'granted' then p_fence end,
        attempt = p_attempt,
        calls = p_call,
        due_at = mine.due_at,
        -- What it had paid for is used up by being granted.
        is_paid = mine.is_paid and verdict <> 'granted',
        kept_until = null
    where p.run_id = p_run and p.seq = p_seq and p.task = p_task and p.gate = p_gate;
end $$;

-- Tells those to come that a gate has places for, the longest waiting first, and keeps a place for each for a while;
-- returns how many.
create function velo.call_waiting(p_gate text, p_must boolean) returns integer
language plpgsql as $$
declare
    called_max constant integer := 200;
    keep constant interval := '10 seconds';
    gate velo.gate;
    room integer;
    called integer := 0;
    w record;
    q record;
begin
    if p_must then
        perform pg_advisory_xact_lock(1986358385, hashtext(p_gate));
    elsif not pg_try_advisory_xact_lock(1986358385, hashtext(p_gate)) then
        return 0;
    end if;
    gate := velo.gate_of(p_gate);
    if gate.is_paused then
        return 0;
    end if;
    perform velo.forget_permits(p_gate);
    -- Whoever did not come goes to the end, so that a run that nobody can run keeps no place from the others.
    update velo.permit p set kept_until = null, asked_at = clock_timestamp()
    where p.gate = p_gate and p.fence is null and p.kept_until <= clock_timestamp();
    select coalesce(gate.max_running - count(*), called_max) into room
    from velo.permit p
    where p.gate = p_gate and (p.fence is not null or p.kept_until is not null);
    for w in
        select p.run_id, p.seq, p.task
        from velo.permit p
        where p.gate = p_gate and p.fence is null and p.kept_until is null
          -- With the limit gone, nobody has to wait for a token either.
          and (p.due_at is null or p.due_at <= clock_timestamp() or gate.rate_count is null)
        order by p.asked_at, p.run_id, p.task
        limit greatest(0, least(room, called_max))
    loop
        update velo.permit p set kept_until = clock_timestamp() + keep
        where p.run_id = w.run_id and p.seq = w.seq and p.task = w.task and p.gate = p_gate;
        called := called + 1;
        -- One that is locked is being claimed, and asks by itself, or is being given back: it is told when its place
        -- was kept in vain.
        select u.worker, r.status into q
        from velo.queue u join velo.run r on r.id = u.run_id
        where u.run_id = w.run_id and u.branch = 0
        for update of u skip locked;
        if found then
            update velo.queue u
            set is_poked = u.is_poked or u.worker is not null,
                ready_at = case when u.worker is null and q.status <> 'paused' and u.gated_at is null
                                then coalesce(u.ready_at, clock_timestamp()) else u.ready_at end,
                wake_at = case when u.worker is null and q.status <> 'paused' then null else u.wake_at end
            where u.run_id = w.run_id and u.branch = 0;
            if q.status = 'waiting' then
                update velo.run r set status = 'active' where r.id = w.run_id and r.status = 'waiting';
            end if;
        end if;
    end loop;
    return called;
end $$;

-- Gives permits of an attempt back, and calls those that wait for them; returns how many it called.
create function velo.release_permits(p_run bigint, p_fence bigint, p_seq integer, p_task integer) returns integer
language plpgsql as $$
declare
    gates text[];
begin
    with gone as (
        delete from velo.permit p
        where p.run_id = p_run and p.seq = p_seq and p.task = p_task and p.fence = p_fence
        returning p.gate
    )
    select array_agg(gone.gate order by hashtext(gone.gate), gone.gate) into gates from gone;
    return (select coalesce(sum(velo.call_waiting(g.gate, true)), 0)
            from unnest(gates) as g (gate)
            where exists (select from velo.permit p where p.gate = g.gate));
end $$;

-- Puts a change of a gate into effect, for all that it is about.
create function velo.apply_gate(p_name text) returns integer
language plpgsql as $$
declare
    -- The others are found by the looks of the workers.
    most constant integer := 1000;
    prefix text := case when p_name like '%/*' then left(p_name, -1) end;
    lane_prefix text := substr(prefix, 7);
    done integer := 0;
begin
    if p_name like 'queue/%' then
        select coalesce(sum((velo.balance(l.lane, true)).let_in), 0) into done
        from (select u.lane
              from (select substr(p_name, 7) as lane
                    where prefix is null
                    union
                    select h.lane from velo.held_lanes(lane_prefix, most) as h (lane)
                    where starts_with(h.lane, lane_prefix)
                    union
                    select q.lane
                    from velo.queue q
                    where q.lane is not null and (q.ready_at is not null or q.worker is not null)
                      and starts_with(q.lane, lane_prefix)) u
              order by hashtext(u.lane), u.lane
              limit most) l;
    else
        -- Those that wait for a token by the old rate ask again.
        update velo.permit p set due_at = clock_timestamp(), is_paid = false
        where case when prefix is null then p.gate = p_name else starts_with(p.gate, prefix) end
          and p.fence is null and p.due_at > clock_timestamp();
        delete from velo.bucket b
        where case when prefix is null then b.gate = p_name else starts_with(b.gate, prefix) end;
        select coalesce(sum(velo.call_waiting(g.gate, true)), 0) into done
        from (select p.gate
              from velo.permit p
              where case when prefix is null then p.gate = p_name else starts_with(p.gate, prefix) end
              group by p.gate
              order by hashtext(p.gate), p.gate
              limit most) g;
    end if;
    return done;
end $$;

-- What a worker does for all now and then: lets runs of queues after `p_after` in, calls those for whom there are places
-- again since a worker died, and says what is paused or limited by name.
create function velo.tend_gates(
    p_after text, out let_in integer, out next_in float8, out last_lane text, out names text[]
)
language plpgsql as $$
declare
    lanes_max constant integer := 200;
    gates_max constant integer := 200;
    names_max constant integer := 10000;
    next_at timestamptz;
    seen integer;
begin
    select coalesce(sum((b.balanced).let_in), 0), min((b.balanced).next_at), count(*), max(b.lane)
    into let_in, next_at, seen, last_lane
    from (select l.lane, velo.balance(l.lane, false) as balanced
          from velo.held_lanes(p_after, lanes_max) as l (lane)) b;
    if seen < lanes_max then
        last_lane := '';
    end if;
    let_in := let_in + coalesce((
        select sum(velo.call_waiting(w.gate, false))
        from (select p.gate from velo.permit p where p.fence is null group by p.gate limit gates_max) w), 0);
    next_in := extract(epoch from next_at - clock_timestamp());
    names := array(select g.name from velo.gate g
                   where g.is_paused or g.name like 'node/%'
                   order by g.name
                   limit names_max);
end $$;

-- As before, but a run that its queue holds back is not taken for one that is parked.
create or replace function velo.give_up(p_worker integer, p_only_expired boolean, p_crashed boolean) returns integer
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
        returning q.run_id, q.crashes, q.is_cancelled
    ), poison as (
        update velo.run r
        set status = 'paused',
            error = jsonb_build_object(
                'kind', 'crashed',
                'message', format('the last %s workers that ran it died at the same step', h.crashes))
        from handed h where r.id = h.run_id and h.crashes >= crash_budget and not h.is_cancelled
    )
    select count(*) into handed_on from handed;
    return handed_on;
end $$;

-- As before, but the child is of its parent's queue.
create or replace function velo.start_child(
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
    insert into velo.queue (run_id, code, priority, ready_at, lane)
    select p_child, p_code, q.priority, clock_timestamp(), q.lane
    from velo.queue q where q.run_id = p_run and q.branch = 0;
    return p_child;
end $$;
