-- Events: what watchers of a run or a project see, in the order in which it was committed.

create schema if not exists velo;

-- One row a stream. Its counter is taken under a row lock that the writer holds until it commits, so
-- sequence numbers are without gaps and become visible in order; a sequence object gives neither.
create table velo.stream (
    name text primary key check (name <> ''),
    last_seq bigint not null check (last_seq > 0)
) with (fillfactor = 50);

create table velo.event (
    stream text not null,
    seq bigint not null check (seq > 0),
    kind text not null check (kind <> ''),
    body jsonb not null,
    run_id bigint,
    at timestamptz not null default clock_timestamp(),
    primary key (stream, seq)
);
