-- What runs wait for: answers, times, signals.

-- Something has come for the run since its worker last looked: look again before giving it back.
alter table velo.queue add column is_poked boolean not null default false;

-- What the worker has code for, so that a run which nobody can run is told from one that waits its turn.
alter table velo.worker add column codes text[] not null default '{}';

alter table velo.run drop constraint run_status_check;
alter table velo.run add constraint run_status_check
    check (status in ('active', 'waiting', 'paused', 'completed', 'cancelled'));

-- What a task of the step that is under way waits for. Rows of committed steps mean nothing any more.
create table velo.wait (
    run_id bigint not null,
    seq integer not null,
    task integer not null,
    name text not null check (name <> ''),
    kind text not null check (kind in ('ask', 'sleep', 'signal')),
    node text not null,
    -- For the person who is asked.
    question jsonb,
    schema jsonb,
    asked_at timestamptz not null default clock_timestamp(),
    -- When a sleep ends, and when a question is no longer open.
    due_at timestamptz,
    answer jsonb,
    -- Why the last answer was not taken.
    refusal text,
    -- Whether an attempt has seen that what it waited for has come.
    is_seen boolean not null default false,
    primary key (run_id, seq, task, name),
    check ((kind = 'sleep') <= (due_at is not null)),
    check (answer is null or kind = 'ask')
) partition by range (run_id);

create table velo.wait_rest partition of velo.wait default;

create index wait_open on velo.wait (run_id) where kind = 'ask' and answer is null;

-- Messages to runs, in the order of their arrival, until a step has used them.
create table velo.signal (
    run_id bigint not null,
    id bigint generated always as identity,
    name text not null check (name <> ''),
    payload jsonb not null,
    -- A second signal with the same key is the first one, sent again.
    key text check (key <> ''),
    sent_at timestamptz not null default clock_timestamp(),
    -- The step that used it.
    used_seq integer,
    primary key (run_id, id),
    unique (run_id, key)
) partition by range (run_id);

create table velo.signal_rest partition of velo.signal default;

create index signal_unused on velo.signal (run_id, id) where used_seq is null;
