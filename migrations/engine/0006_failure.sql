-- Time limits that span attempts.

-- When somebody last resumed the run: the time that all attempts of a task may take together counts anew
-- from then.
alter table velo.queue add column resumed_at timestamptz;
