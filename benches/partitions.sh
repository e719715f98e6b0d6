#!/bin/sh
# What it costs to delete old steps by the row, and what partitions by time would cost and give.
#
#   DATABASE_URL=postgres://… sh benches/partitions.sh [millions of steps]
#
# Makes the schema velo_partitions in that database, and drops it at the end. Wants a role that may read
# pg_current_wal_insert_lsn() and make checkpoints, psql and pgbench, fsync on, and nothing else on the server.
set -eu
millions=${1:-1}
runs=$((millions * 100000))
sql() { psql -qAtX -v ON_ERROR_STOP=1 "$DATABASE_URL" "$@"; }

sql <<'SQL'
set client_min_messages = warning;
drop schema if exists velo_partitions cascade;
create schema velo_partitions;
set search_path = velo_partitions;

-- A table of steps as the engine's, in so many partitions of the whole range of ids.
create procedure make(p_name text, p_parts integer, p_runs bigint) language plpgsql set search_path = velo_partitions as $$
begin
    execute format('create table %I (run_id bigint not null, seq integer not null, fence bigint not null, delta bytea not null,
                    control bytea not null, snapshot bytea, at timestamptz not null default clock_timestamp(),
                    primary key (run_id, seq)) partition by range (run_id)', p_name);
    execute format('create table %I partition of %I default', p_name || '_rest', p_name);
    for n in 1 .. p_parts - 1 loop
        execute format('create table %I partition of %I for values from (%s) to (%s)',
                       p_name || '_' || n, p_name, (n - 1) * p_runs / (p_parts - 1), n * p_runs / (p_parts - 1));
    end loop;
end $$;

-- Steps of runs of ten, a hundred rows a statement as workers commit them: those of one moment are of ten runs. The plan
-- is kept, as that of velo.commit_all is. Returns microseconds a row.
create function fill(p_name text, p_from bigint, p_to bigint) returns numeric
language plpgsql set plan_cache_mode = force_generic_plan as $$
declare
    began timestamptz := clock_timestamp();
    run bigint := p_from;
    payload bytea := convert_to(repeat('abcdefghij', 40), 'utf8');
    ids bigint[];
    seqs integer[];
begin
    select array_agg(g / 10 order by g), array_agg(g % 10 order by g) into ids, seqs from generate_series(0, 99) g;
    while run < p_to loop
        if p_name = 'one' then
            insert into velo_partitions.one (run_id, seq, fence, delta, control)
            select run + i.id, i.seq, 1, payload, '\x7b7d' from (select unnest(ids) as id, unnest(seqs) as seq) i;
        elsif p_name = 'some' then
            insert into velo_partitions.some (run_id, seq, fence, delta, control)
            select run + i.id, i.seq, 1, payload, '\x7b7d' from (select unnest(ids) as id, unnest(seqs) as seq) i;
        else
            insert into velo_partitions.many (run_id, seq, fence, delta, control)
            select run + i.id, i.seq, 1, payload, '\x7b7d' from (select unnest(ids) as id, unnest(seqs) as seq) i;
        end if;
        run := run + 10;
    end loop;
    return round(extract(epoch from clock_timestamp() - began) * 1e6 / ((p_to - p_from) * 10), 2);
end $$;

-- Looks for the last step of a run, as a claim and a commit do; returns microseconds a look.
create function find(p_name text, p_runs bigint, p_looks integer) returns numeric
language plpgsql set plan_cache_mode = force_generic_plan as $$
declare
    began timestamptz := clock_timestamp();
    run bigint;
    last integer;
begin
    for n in 1 .. p_looks loop
        run := (n * 7919::bigint) % p_runs;
        if p_name = 'one' then
            select max(s.seq) into last from velo_partitions.one s where s.run_id = run;
        elsif p_name = 'some' then
            select max(s.seq) into last from velo_partitions.some s where s.run_id = run;
        else
            select max(s.seq) into last from velo_partitions.many s where s.run_id = run;
        end if;
    end loop;
    return round(extract(epoch from clock_timestamp() - began) * 1e6 / p_looks, 2);
end $$;

-- Deletes runs by batches of 500, each a transaction; returns how many runs.
create procedure delete_by_row(p_name text, p_from bigint, p_to bigint) language plpgsql as $$
declare
    run bigint := p_from;
begin
    while run < p_to loop
        execute format('delete from velo_partitions.%I where run_id = any(array(select generate_series($1, $2)))', p_name)
        using run, run + 499;
        commit;
        run := run + 500;
    end loop;
end $$;
SQL

say() { printf '%-58s %s\n' "$1" "$2"; }
lsn() { sql -c "select pg_current_wal_insert_lsn() - '0/0'::pg_lsn"; }
now() { sql -c "select extract(epoch from clock_timestamp())"; }
# Runs the rest, and says seconds and megabytes of WAL under the first word.
timed() {
    what=$1; shift
    sql -c checkpoint
    l0=$(lsn); t0=$(now)
    sql "$@" >/dev/null
    t1=$(now); l1=$(lsn)
    say "$what" "$(echo "$t0 $t1 $l0 $l1" | awk '{printf "%.2f s, %.1f MB of WAL", $2 - $1, ($4 - $3) / 1e6}')"
}
size() { sql -c "select round(sum(pg_total_relation_size(inhrelid)) / 1e6) from pg_inherits where inhparent = 'velo_partitions.$1'::regclass"; }

echo "$(sql -c 'show server_version'), $runs runs of ten steps"
sql -c "call velo_partitions.make('one', 1, $runs); " -c "call velo_partitions.make('some', 32, $runs)" \
    -c "call velo_partitions.make('many', 256, $runs)"

# In turn, since whatever else the machine does changes.
part=$((runs / 5))
for n in 0 1 2 3 4; do
    for table in one some many; do
        sql -c checkpoint
        say "insert into $table, microseconds a row" \
            "$(sql -c "select velo_partitions.fill('$table', $((n * part)), $(((n + 1) * part)))")"
    done
done
sql -c "vacuum (analyze) velo_partitions.one" -c "vacuum (analyze) velo_partitions.some" -c "vacuum (analyze) velo_partitions.many"
for n in 1 2 3; do
    for table in one some many; do
        say "last step of a run in $table, microseconds a look" "$(sql -c "select velo_partitions.find('$table', $runs, 100000)")"
    done
done

say "size before, MB" "$(size one)"
timed "delete by the row" -c "call velo_partitions.delete_by_row('one', 0, $runs)"
timed "vacuum after it" -c "vacuum velo_partitions.one"
say "size after vacuum, MB" "$(size one)"
timed "insert as much again" -c "select velo_partitions.fill('one', $runs, $((2 * runs)))"
say "size then, MB" "$(size one)"
tenth=$((runs / 10))
for n in 0 1 2 3 4 5 6 7 8 9; do
    sql -c "call velo_partitions.delete_by_row('one', $((runs + n * tenth)), $((runs + (n + 1) * tenth)))" \
        -c "vacuum velo_partitions.one" \
        -c "select velo_partitions.fill('one', $((2 * runs + n * tenth)), $((2 * runs + (n + 1) * tenth)))" >/dev/null
done
say "size after ten times a tenth deleted and inserted, MB" "$(size one)"
timed "drop 31 partitions" -c "$(for n in $(seq 1 31); do echo "drop table velo_partitions.some_$n;"; done)"

# Inserts of others meanwhile: eight clients, a hundred rows a transaction, the size of a batch of the worker.
sql -c "create sequence velo_partitions.run start $((10 * runs))"
cat >/tmp/velo_partitions.$$.sql <<'SQL'
insert into velo_partitions.one (run_id, seq, fence, delta, control)
select nextval('velo_partitions.run'), 0, 1, convert_to(repeat('abcdefghij', 40), 'utf8'), '\x7b7d' from generate_series(1, 100);
SQL
bench() { pgbench -n -c 8 -j 1 -T "$1" -f /tmp/velo_partitions.$$.sql "$DATABASE_URL" 2>/dev/null | awk '/^tps/ {print int($3 * 100)}'; }
for n in 1 2 3; do
    say "rows a second of others, alone" "$(bench 8)"
    # Half of the time, as the worker does.
    cat >/tmp/velo_partitions.$$.del <<SQL
\\set first random($((2 * runs)), $((3 * runs)))
delete from velo_partitions.one where run_id between :first and :first + 499;
SQL
    (
        end=$(($(date +%s) + 8))
        while [ "$(date +%s)" -lt $end ]; do
            pgbench -n -c 1 -t 20 -f /tmp/velo_partitions.$$.del "$DATABASE_URL" >/dev/null 2>&1
            sleep 0.2
        done
    ) &
    say "rows a second of others, while old ones are deleted" "$(bench 8)"
    wait
done
rm -f /tmp/velo_partitions.$$.sql /tmp/velo_partitions.$$.del
sql -c "set client_min_messages = warning" -c "drop schema velo_partitions cascade"
