-- What workers have told of the graphs that they have code for, so that those without it can draw a run and
-- read its state. One row a graph and version; the newest telling counts.
create table velo.outline (
    code text primary key check (code <> ''),
    outline jsonb not null,
    at timestamptz not null default clock_timestamp()
);
