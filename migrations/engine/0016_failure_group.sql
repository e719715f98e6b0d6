-- Which node kills its process, failures in groups, operations on many runs, checks of fences by third parties.

-- The node that was at work when a run's worker died, noted only for runs whose workers have died before at the
-- same step.
alter table velo.queue add column suspect text;

-- What a run is paused by, as far as nobody has to be kept from knowing it: `node`, `kind`, `fingerprint`. The error
-- itself may be sealed.
alter table velo.run add column failed_as jsonb;

-- Without the status, so that runs which begin to wait are updated in place as before.
create index run_failed on velo.run (id) where failed_as is not null and finished_at is null;

-- Ends a worker's incarnation and hands on its runs; returns how many, or null when it is not there
-- or, with `p_only_expired`, lives. What it was committing is either in before, or refused after.
--
-- A run whose last `crash_budget` leases all ended with the death of their worker, at the same step,
-- probably kills them: it is paused instead, so that it does not go on to kill the whole fleet. The first deaths count
-- for all runs that the worker had. From then on each of them has its nodes at work alone among such runs in its
-- process, and notes which: only who was at work when the worker died is counted. When none was, it died of something
-- else about one of them, and all are counted.
create or replace function velo.give_up(p_worker integer, p_only_expired boolean, p_crashed boolean) returns integer
language plpgsql set lock_timeout = '5s' as $$
declare
    crash_budget constant integer := 5;
    -- The turn of a run has the same number.
    suspected_from constant integer := 2;
    handed_on integer;
begin
    perform pg_advisory_xact_lock(1986358383, p_worker);
    delete from velo.worker
    where id = p_worker and (not p_only_expired or expires_at < clock_timestamp());
    if not found then
        return null;
    end if;
    with held as (
        select q.run_id, q.branch, q.crashes, q.crash_seq, q.suspect,
               (select max(s.seq) from velo.step s where s.run_id = q.run_id) as seq
        from velo.queue q where q.worker = p_worker
    ), counted as (
        select h.run_id, h.branch, h.suspect,
               case when not p_crashed then h.crashes
                    when h.crash_seq <> h.seq then 1
                    when h.crashes < suspected_from or h.suspect is not null
                      or not exists (select from held o where o.suspect is not null) then h.crashes + 1
                    else h.crashes end as crashes,
               case when p_crashed then h.seq else h.crash_seq end as crash_seq
        from held h
    ), handed as (
        update velo.queue q
        set worker = null,
            ready_at = case when c.crashes < crash_budget or q.is_cancelled then clock_timestamp() end,
            crashes = c.crashes,
            crash_seq = c.crash_seq,
            suspect = null
        from counted c where q.run_id = c.run_id and q.branch = c.branch
        returning q.run_id, q.crashes, q.is_cancelled, c.suspect
    ), poison as (
        update velo.run r
        set status = 'paused',
            failed_as = jsonb_strip_nulls(jsonb_build_object(
                'kind', 'crashed', 'node', h.suspect, 'fingerprint', 'crashed')),
            error = jsonb_strip_nulls(jsonb_build_object(
                'kind', 'crashed',
                'node', h.suspect,
                'crashes', h.crashes,
                'message', format('the last %s workers that ran it died at the same step', h.crashes)))
        from handed h where r.id = h.run_id and h.crashes >= crash_budget and not h.is_cancelled
    )
    select count(*) into handed_on from handed;
    return handed_on;
end $$;

-- What is to be done to all runs that a filter finds, in batches, by whichever worker comes; and how far it is.
create table velo.bulk (
    id bigint generated always as identity primary key,
    action text not null check (action in ('cancel', 'terminate', 'resume')),
    -- Why the runs are terminated.
    reason text,
    filter jsonb not null,
    -- All runs up to this one have been looked at.
    after_run bigint not null default 0,
    matched bigint not null default 0,
    changed bigint not null default 0,
    status text not null default 'running' check (status in ('running', 'done', 'cancelled')),
    -- Of who is at a batch: the same batch is done again, by somebody else, when it has not ended in time.
    turn bigint not null default 0,
    taken_until timestamptz,
    created_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    check ((reason is not null) = (action = 'terminate')),
    check ((finished_at is not null) = (status <> 'running'))
);

create index bulk_running on velo.bulk (id) where status = 'running';

-- Whether this fence is the one of the run's lease, and then until the transaction ends: for who writes to tables of
-- this database on behalf of a node, in a transaction of its own. The isolation level is read committed.
create function velo.check_fence(p_run bigint, p_fence bigint) returns boolean
language plpgsql as $$
declare
    holder integer;
begin
    select q.worker into holder
    from velo.queue q
    where q.run_id = p_run and q.branch = 0 and q.fence = p_fence and q.worker is not null;
    return found and velo.hold(holder, p_run, p_fence);
end $$;
