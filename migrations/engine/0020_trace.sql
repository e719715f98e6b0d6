-- The trace that a run belongs to, as a W3C traceparent. Runs that its nodes start find it from there.
alter table velo.run add column trace text check (trace ~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$');
