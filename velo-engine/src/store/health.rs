//! What is known of a server and of the engine's tables on it, for who asks whether it is safe to run there.

use sqlx::{Acquire as _, FromRow, PgConnection, PgExecutor, PgPool, Row as _};

/// All that the findings are decided by, read at about one moment.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub(crate) struct Vitals {
    pub(crate) version: i32,
    pub(crate) fsync: bool,
    pub(crate) full_page_writes: bool,
    pub(crate) synchronous_commit: String,
    pub(crate) autovacuum: bool,
    pub(crate) is_read_only: bool,
    /// Seconds since the Unix epoch, by the server's clock.
    pub(crate) clock: f64,
    /// Transactions since the oldest row of the database was frozen.
    pub(crate) frozen_age: i32,
    pub(crate) connections: i64,
    pub(crate) connections_max: i64,
}

pub(crate) const VITALS: &str = "\
-- velo: health.vitals
select current_setting('server_version_num')::integer as version,
       current_setting('fsync')::boolean as fsync,
       current_setting('full_page_writes')::boolean as full_page_writes,
       current_setting('synchronous_commit') as synchronous_commit,
       current_setting('autovacuum')::boolean as autovacuum,
       pg_is_in_recovery() or current_setting('transaction_read_only')::boolean as is_read_only,
       extract(epoch from clock_timestamp())::float8 as clock,
       (select age(datfrozenxid) from pg_database where datname = current_database()) as frozen_age,
       (select count(*) from pg_stat_activity where backend_type = 'client backend') as connections,
       current_setting('max_connections')::bigint as connections_max";

pub(crate) async fn vitals(db: impl PgExecutor<'_>) -> Result<Vitals, sqlx::Error> {
    sqlx::query_as(VITALS).fetch_one(db).await
}

/// What keeps dead rows from being removed.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub(crate) struct Holder {
    /// Such as `process 4711 (psql)`.
    pub(crate) who: String,
    /// Seconds since it began; null when that is not known.
    pub(crate) seconds: Option<f64>,
}

// Other roles' sessions are seen without their details by who may not see them: counted by their process then.
pub(crate) const HOLDERS: &str = "\
-- velo: health.holders
select who, seconds
from (
  select format('process %s (%s)', pid, coalesce(nullif(application_name, ''), backend_type)) as who,
         extract(epoch from clock_timestamp() - xact_start)::float8 as seconds
  from pg_stat_activity
  where pid <> pg_backend_pid()
    and (backend_xmin is not null or backend_xid is not null)
    and datname = current_database()
    and backend_type <> 'autovacuum worker'
  union all
  select format('prepared transaction %s', gid), extract(epoch from clock_timestamp() - prepared)::float8
  from pg_prepared_xacts
  where database = current_database()
  union all
  select format('replication slot %s, which nobody uses', slot_name), null
  from pg_replication_slots
  where not active and (xmin is not null or catalog_xmin is not null)
) held
order by seconds desc nulls first
limit 20";

/// The oldest of those that keep dead rows from being removed, oldest first.
pub(crate) async fn holders(db: impl PgExecutor<'_>) -> Result<Vec<Holder>, sqlx::Error> {
    sqlx::query_as(HOLDERS).fetch_all(db).await
}

/// A table of the engine.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) live: i64,
    pub(crate) dead: i64,
    pub(crate) bytes: i64,
    /// Whether this role may read and write it.
    pub(crate) is_allowed: bool,
}

pub(crate) const TABLES: &str = "\
-- velo: health.tables
select c.relname::text as name,
       coalesce(s.n_live_tup, 0) as live,
       coalesce(s.n_dead_tup, 0) as dead,
       pg_total_relation_size(c.oid) as bytes,
       has_table_privilege(c.oid, 'select') and (c.relname = 'migrations'
         or (has_table_privilege(c.oid, 'insert') and has_table_privilege(c.oid, 'update')
             and has_table_privilege(c.oid, 'delete'))) as is_allowed
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
left join pg_stat_user_tables s on s.relid = c.oid
where n.nspname = 'velo'
  and c.relkind in ('r', 'p')
order by c.relname";

/// The tables in the engine's schema.
pub(crate) async fn tables(db: impl PgExecutor<'_>) -> Result<Vec<Table>, sqlx::Error> {
    sqlx::query_as(TABLES).fetch_all(db).await
}

/// How the queue stands.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub(crate) struct Queue {
    /// Runs that are ready and whose code no live worker has, by code.
    pub(crate) orphaned: Vec<String>,
    /// Seconds that the run which is ready for longest has waited, among those that a worker could take.
    pub(crate) oldest: Option<f64>,
    /// Workers whose heartbeat has stopped and that still have runs.
    pub(crate) silent: i64,
    /// Runs that need attention.
    pub(crate) paused: i64,
}

pub(crate) const QUEUE: &str = "\
-- velo: health.queue
with served as (
  select distinct unnest(codes) as code from velo.worker where expires_at >= clock_timestamp()
)
select array(select distinct q.code from velo.queue q
             where q.ready_at is not null and q.code not in (select code from served)
             order by q.code limit 20) as orphaned,
       (select extract(epoch from clock_timestamp() - min(q.ready_at))::float8
        from velo.queue q
        where q.ready_at is not null and q.code in (select code from served)) as oldest,
       (select count(*) from velo.worker w
        where w.expires_at < clock_timestamp()
          and exists (select from velo.queue q where q.worker = w.id)) as silent,
       (select count(*) from velo.run r where r.finished_at is null and r.status = 'paused') as paused";

pub(crate) async fn queue(db: impl PgExecutor<'_>) -> Result<Queue, sqlx::Error> {
    sqlx::query_as(QUEUE).fetch_one(db).await
}

pub(crate) const BACKEND: &str = "\
-- velo: health.backend
select pg_backend_pid()";

/// Whether transactions of one connection reach different server processes: a pooler is between.
///
/// The second connection keeps one process busy. Plain statements, for a pooler may not keep prepared ones.
pub(crate) async fn is_pooled(pool: &PgPool) -> Result<bool, sqlx::Error> {
    if pool.options().get_max_connections() < 2 {
        return Ok(false);
    }
    let (mut one, mut other) = (pool.acquire().await?, pool.acquire().await?);
    let first = backend(&mut one).await?;
    let mut busy = other.begin().await?;
    let held = backend(&mut busy).await?;
    let second = backend(&mut one).await?;
    busy.rollback().await?;
    Ok(first != second || first == held)
}

/// Looks how often whether a prepared statement is there when another process is reached.
const PROBES: usize = 8;

/// Fails as [`is_of_prepared`] tells when the pooler in between does not keep prepared statements.
pub(crate) async fn probe_prepared(pool: &PgPool) -> Result<(), sqlx::Error> {
    let (mut one, mut other) = (pool.acquire().await?, pool.acquire().await?);
    for _ in 0..PROBES {
        let first: i32 = sqlx::query_scalar(BACKEND).fetch_one(&mut *one).await?;
        // Keeps busy the process that was used last, so that the statement meets another one.
        let mut busy = other.begin().await?;
        backend(&mut busy).await?;
        let second: i32 = sqlx::query_scalar(BACKEND).fetch_one(&mut *one).await?;
        busy.rollback().await?;
        if first != second {
            break;
        }
    }
    Ok(())
}

async fn backend(conn: &mut PgConnection) -> Result<i32, sqlx::Error> {
    sqlx::raw_sql(BACKEND).fetch_one(conn).await?.try_get(0)
}

/// Whether the error says that a prepared statement was lost or met another one, as behind a pooler that does
/// not keep them.
pub(crate) fn is_of_prepared(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("42P05" | "26000"))
}
