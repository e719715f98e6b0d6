-- Nobody waits for long because of a large value that others store or delete at that moment.

-- As before, but for a payload that has its values with it and would have to wait for somebody's transaction, which
-- may be a caller's and last: it is stored as it came, with its values.
create or replace function velo.keep_large(p_run bigint, p_payload bytea) returns bytea
language plpgsql set lock_timeout = '500ms' as $$
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
    begin
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
    exception when lock_not_available then
        if not is_whole then
            raise;
        end if;
        return p_payload;
    end;
    return '\x03'::bytea || substring(p_payload from 2 for 4 + 32 * number) || substring(p_payload from place);
end $$;

-- Whoever names one of these values waits for this, so this does not wait for ever: it fails, and is done again.
alter function velo.sweep_blobs() set lock_timeout = '5s';
