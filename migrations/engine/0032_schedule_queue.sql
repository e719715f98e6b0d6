-- The queue that a schedule's runs are started into.
alter table velo.schedule add column lane text check (lane <> '');
