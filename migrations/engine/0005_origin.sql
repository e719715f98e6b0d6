-- Runs that were forked from a step of another one, and finding a thread's runs.

-- Where the run was forked from. The fork has a copy of the state, so that the original may be deleted.
alter table velo.run add column origin_run bigint;
alter table velo.run add column origin_seq integer;
alter table velo.run add constraint run_origin_check
    check ((origin_run is null) = (origin_seq is null));

create index run_origin on velo.run (origin_run) where origin_run is not null;
create index run_thread on velo.run (thread, id) where thread is not null;
