-- Large values, each stored once.
--
-- A payload with large values is stored without them. It begins with a byte that says so, how many they are
-- (four bytes, big-endian, as all numbers here) and their addresses (32 bytes each); then comes what is left of it:
--
--   stored       03  number  addresses                     rest
--   on its way   04  number  addresses  lengths  contents  rest
--
-- On its way to the database and back it has them with it, so that whoever writes a payload stores its values in
-- the same transaction, and whoever reads one reads them in the same snapshot.

-- A value under an address that is made from its content, which is never another one, though it may be sealed
-- with another key.
create table velo.blob (
    address bytea primary key check (octet_length(address) = 32),
    content bytea not null
);

-- Which runs have payloads that name it.
create table velo.blob_use (
    run_id bigint not null,
    address bytea not null references velo.blob,
    primary key (run_id, address)
);

create index blob_use_address on velo.blob_use (address);

create function velo.number_at(p_bytes bytea, p_place integer) returns integer
language sql immutable as $$
    select (get_byte(p_bytes, p_place) << 24) | (get_byte(p_bytes, p_place + 1) << 16)
           | (get_byte(p_bytes, p_place + 2) << 8) | get_byte(p_bytes, p_place + 3)
$$;

-- Stores the values that a payload has with it and notes that the run needs them; returns the payload as it is
-- stored. One that names values without having them with it is of another run, which must have them still.
--
-- What a run needs stays, so only what it did not need before is locked. Whoever deletes a value locks it first,
-- and looks then who needs it: a value that is found here and is locked against that stays, and one that is being
-- deleted at this moment is stored again.
create function velo.keep_large(p_run bigint, p_payload bytea) returns bytea
language plpgsql as $$
declare
    -- Of two tries one at most finds a value that is deleted before it is locked, unless others store and delete
    -- it without an end.
    tries constant integer := 8;
    is_whole boolean;
    number integer;
    place integer;
    size integer := 0;
    it bytea;
begin
    if p_payload is null or octet_length(p_payload) = 0 or get_byte(p_payload, 0) not in (3, 4) then
        return p_payload;
    end if;
    is_whole := get_byte(p_payload, 0) = 4;
    number := velo.number_at(p_payload, 1);
    place := 6 + number * case when is_whole then 36 else 32 end;
    for i in 0 .. number - 1 loop
        it := substring(p_payload from 6 + 32 * i for 32);
        if is_whole then
            size := velo.number_at(p_payload, 5 + 32 * number + 4 * i);
        end if;
        if not exists (select from velo.blob_use u where u.run_id = p_run and u.address = it) then
            for try in 1 .. tries loop
                if is_whole then
                    insert into velo.blob (address, content)
                    values (it, substring(p_payload from place for size))
                    on conflict do nothing;
                end if;
                perform from velo.blob b where b.address = it for key share;
                exit when found;
                if not is_whole or try = tries then
                    raise exception 'a value that run % is to need is being deleted', p_run
                        using errcode = 'serialization_failure';
                end if;
            end loop;
            insert into velo.blob_use (run_id, address) values (p_run, it) on conflict do nothing;
        end if;
        place := place + size;
    end loop;
    return '\x03'::bytea || substring(p_payload from 2 for 4 + 32 * number) || substring(p_payload from place);
end $$;

-- A payload that is stored without its values, with them; the length of one that is not there is -1.
create function velo.with_large(p_payload bytea) returns bytea
language sql stable as $$
    select '\x04'::bytea || substring(p_payload from 2 for 4 + 32 * n.number)
           || string_agg(int4send(coalesce(octet_length(b.content), -1)), ''::bytea order by g.i)
           || coalesce(string_agg(b.content, ''::bytea order by g.i), '')
           || substring(p_payload from 6 + 32 * n.number)
    from (select velo.number_at(p_payload, 1) as number) n
    cross join lateral generate_series(0, n.number - 1) as g (i)
    left join velo.blob b on b.address = substring(p_payload from 6 + 32 * g.i for 32)
    group by n.number
$$;

-- A payload with all of its values. Short enough to be part of the statement that calls it.
create function velo.whole(p_payload bytea) returns bytea
language sql stable as $$
    select case when substring(p_payload from 1 for 1) = '\x03' then velo.with_large(p_payload) else p_payload end
$$;

create function velo.large_weight(p_payload bytea) returns integer
language sql stable as $$
    select octet_length(p_payload) + coalesce(sum(octet_length(b.content)), 0)::integer
    from generate_series(0, velo.number_at(p_payload, 1) - 1) as g (i)
    join velo.blob b on b.address = substring(p_payload from 6 + 32 * g.i for 32)
$$;

-- How many bytes it has with all of its values.
create function velo.weight(p_payload bytea) returns integer
language sql stable as $$
    select case when substring(p_payload from 1 for 1) = '\x03' then velo.large_weight(p_payload)
                else octet_length(p_payload) end
$$;

-- For payloads without large values, nearly all there are, nothing is called: the condition is a few comparisons.

create function velo.step_large() returns trigger
language plpgsql as $$
begin
    new.delta := velo.keep_large(new.run_id, new.delta);
    new.control := velo.keep_large(new.run_id, new.control);
    new.snapshot := velo.keep_large(new.run_id, new.snapshot);
    return new;
end $$;

create trigger step_large before insert on velo.step
for each row
when (new.delta < '\x05' and new.delta >= '\x03'
      or new.control < '\x05' and new.control >= '\x03'
      or new.snapshot < '\x05' and new.snapshot >= '\x03')
execute function velo.step_large();

create function velo.memo_large() returns trigger
language plpgsql as $$
begin
    new.value := velo.keep_large(new.run_id, new.value);
    return new;
end $$;

create trigger memo_large before insert on velo.memo
for each row
when (new.value < '\x05' and new.value >= '\x03')
execute function velo.memo_large();

create function velo.outcome_large() returns trigger
language plpgsql as $$
begin
    new.outcome := velo.keep_large(new.run_id, new.outcome);
    return new;
end $$;

create trigger outcome_large before insert on velo.outcome
for each row
when (new.outcome < '\x05' and new.outcome >= '\x03')
execute function velo.outcome_large();

create function velo.input_large() returns trigger
language plpgsql as $$
begin
    new.delta := velo.keep_large(new.run_id, new.delta);
    new.control := velo.keep_large(new.run_id, new.control);
    new.fresh := velo.keep_large(new.run_id, new.fresh);
    return new;
end $$;

create trigger input_large before insert on velo.input
for each row
when (new.delta < '\x05' and new.delta >= '\x03'
      or new.control < '\x05' and new.control >= '\x03'
      or new.fresh < '\x05' and new.fresh >= '\x03')
execute function velo.input_large();

-- Deletes the values that no run needs any more, of those that some were just said not to need. Each statement
-- sees what was committed before it: of two that give up the last uses of a value at once, the second finds it
-- unused.
create function velo.sweep_blobs() returns trigger
language plpgsql as $$
begin
    perform from velo.blob b
    where b.address in (select g.address from gone g)
    order by b.address
    for update;
    delete from velo.blob b
    where b.address in (select g.address from gone g)
      and not exists (select from velo.blob_use u where u.address = b.address);
    return null;
end $$;

create trigger blob_unused after delete on velo.blob_use
referencing old table as gone
for each statement
execute function velo.sweep_blobs();
