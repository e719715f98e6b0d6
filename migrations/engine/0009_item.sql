-- The long-term store: documents that outlive runs.
--
-- A namespace is a list of labels, each of which is followed by U+0001 here. No label has a control
-- character, so by their bytes namespaces have the order of their lists, and all that are under another one
-- are one range of the key.
create table velo.item (
    namespace text collate "C" not null check (namespace <> ''),
    key text collate "C" not null check (key <> ''),
    value jsonb not null,
    -- How long it lives after it was put, or read by somebody who asks that it live on.
    ttl interval,
    expires_at timestamptz,
    -- What full-text search finds it by. Made by the statement that puts it, from a bounded text: a
    -- generated column would refuse every document whose words are more than a megabyte.
    search tsvector,
    -- Not of the type that pgvector brings, which need not be there.
    embedding real[],
    created_at timestamptz not null default statement_timestamp(),
    updated_at timestamptz not null default statement_timestamp(),
    primary key (namespace, key),
    check ((ttl is null) = (expires_at is null)),
    check (array_ndims(embedding) = 1)
);

create index item_value on velo.item using gin (value jsonb_path_ops);
create index item_search on velo.item using gin (search) where search is not null;
create index item_expires on velo.item (expires_at) where expires_at is not null;

-- Whether a document fits all filters: a list of {path, op, value}. What is greater or less is a number or
-- a text, by its bytes, of the same kind as the one it is compared with; anything else is neither.
create function velo.item_matches(p_value jsonb, p_filters jsonb) returns boolean
language sql immutable parallel safe as $$
    select coalesce(bool_and(coalesce(
        case c.op
            when 'eq' then c.found = c.wanted
            when 'ne' then c.found is distinct from c.wanted
            when 'gt' then c.difference > 0
            when 'gte' then c.difference >= 0
            when 'lt' then c.difference < 0
            when 'lte' then c.difference <= 0
        end, false)), true)
    from (
        select f.op, f.found, f.wanted,
               case
                   when jsonb_typeof(f.found) is distinct from jsonb_typeof(f.wanted) then null
                   when jsonb_typeof(f.found) not in ('number', 'string') then null
                   when f.found = f.wanted then 0
                   when jsonb_typeof(f.found) = 'number' then case when f.found > f.wanted then 1 else -1 end
                   when (f.found #>> '{}') collate "C" > (f.wanted #>> '{}') collate "C" then 1
                   else -1
               end as difference
        from (
            select e ->> 'op' as op, e -> 'value' as wanted,
                   p_value #> array(select jsonb_array_elements_text(e -> 'path')) as found
            from jsonb_array_elements(p_filters) e
        ) f
    ) c
$$;
