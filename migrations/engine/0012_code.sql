-- Code over time: what a run needs and the worker that had its graph did not have, and the shapes of graphs.

-- What the run's place in the queue is marked with then, in words; its `code` says the same, so that only
-- a worker which has it claims the run.
alter table velo.queue add column lacks text;

create index queue_lacking on velo.queue (code) where lacks is not null;

-- One row a shape that a worker has served. A run is pinned to its fingerprint; what that stood for is
-- asked when another shape goes on with the run.
create table velo.shape (
    fingerprint uuid primary key,
    joins jsonb not null
);
