-- What nodes say while they are at work, such as the tokens of a model.
--
-- It is for those who watch, and nothing that a run needs, so it is not logged: it costs no WAL, and is
-- gone after a crash of the server. Whoever reads on is told of what it has missed.

-- One row a run that has said something. Its counter is taken under a row lock that the writer holds until
-- it commits, so that pieces become visible in order. It begins at the microseconds of the clock: a
-- place from before a crash is smaller than all places after it.
create unlogged table velo.piece_head (
    run_id bigint primary key,
    first_id bigint not null,
    last_id bigint not null,
    at timestamptz not null default clock_timestamp()
) with (fillfactor = 50);

create unlogged table velo.piece (
    run_id bigint not null,
    id bigint not null,
    -- Which attempt said it: one that fails, or dies, is told from the next by its number or its fence.
    seq integer not null,
    task integer not null,
    attempt integer not null,
    fence bigint not null,
    node text not null,
    kind text not null check (kind in ('text', 'custom')),
    name text not null,
    -- How many bytes of text this attempt has said before under this name.
    start bigint not null,
    body text not null,
    -- Pieces before this one that the worker could not keep.
    lost integer not null,
    at timestamptz not null default clock_timestamp(),
    primary key (run_id, id)
) with (autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0);
