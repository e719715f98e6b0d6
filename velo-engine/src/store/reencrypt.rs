//! Every column of payloads, to be read and written over page by page.

use serde_json::Value;
use sqlx::{PgConnection, PgExecutor};

use crate::run_id::RunId;
use crate::vault::Home;

/// A column of payloads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lane {
    /// What the payload's home is called.
    pub(crate) what: &'static str,
    pub(crate) form: Form,
    pub(crate) read: &'static str,
    pub(crate) write: &'static str,
}

/// What a column is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    Bytes,
    Json,
    Text,
}

/// A column by its table, its name, its home, its form, and the key of its table.
///
/// `read` finds at most $5 payloads after the place ($1, $2, $3, $4), in its order; of bytes, those that do not
/// begin with $6. `write` puts $5 in the place of $6, and nothing if something else is there by now.
macro_rules! lane {
    ($table:literal, $column:literal, $what:literal, $form:ident, $key:ident) => {
        Lane {
            what: $what,
            form: Form::$form,
            read: concat!(
                "-- velo: reencrypt.read_", $table, "_", $column,
                "\nselect ", $key!(columns), ", ", $column,
                "\nfrom velo.", $table,
                "\nwhere ", $key!(after),
                "\n  and ", $column, " is not null",
                "\n  and ", due!($form $column),
                "\norder by ", $key!(order),
                "\nlimit $5"
            ),
            write: concat!(
                "-- velo: reencrypt.write_", $table, "_", $column,
                "\nupdate velo.", $table,
                "\nset ", $column, " = $5",
                "\nwhere ", $key!(at),
                "\n  and ", $column, " = $6"
            ),
        }
    };
}

macro_rules! due {
    (Bytes $column:literal) => {
        concat!(
            "octet_length(",
            $column,
            ") > 0 and substring(",
            $column,
            " from 1 for octet_length($6::bytea)) <> $6"
        )
    };
    ($form:ident $column:literal) => {
        "$6::bytea is not null"
    };
}

// For each key: run, two numbers and a name that make a place, and the name of the home; what comes after a
// place, in which order; and what is at one. A key names all four parameters, also those it has no use for.

macro_rules! step {
    (columns) => {
        "run_id, seq::bigint, 0, '', ''"
    };
    (after) => {
        "(run_id, seq) > ($1, $2) and $3::integer is not null and $4::text is not null"
    };
    (order) => {
        "run_id, seq"
    };
    (at) => {
        "run_id = $1 and seq = $2 and $3::integer is not null and $4::text is not null"
    };
}

macro_rules! task {
    (columns) => {
        "run_id, seq::bigint, task, '', ''"
    };
    (after) => {
        "(run_id, seq, task) > ($1, $2, $3) and $4::text is not null"
    };
    (order) => {
        "run_id, seq, task"
    };
    (at) => {
        "run_id = $1 and seq = $2 and task = $3 and $4::text is not null"
    };
}

macro_rules! named {
    (columns) => {
        "run_id, seq::bigint, task, name, name"
    };
    (after) => {
        "(run_id, seq, task, name) > ($1, $2, $3, $4)"
    };
    (order) => {
        "run_id, seq, task, name"
    };
    (at) => {
        "run_id = $1 and seq = $2 and task = $3 and name = $4"
    };
}

macro_rules! attempt {
    (columns) => {
        "run_id, seq::bigint, task, attempt::text, ''"
    };
    (after) => {
        "(run_id, seq, task, attempt) > ($1, $2, $3, coalesce(nullif($4::text, ''), '0')::integer)"
    };
    (order) => {
        "run_id, seq, task, attempt"
    };
    (at) => {
        "run_id = $1 and seq = $2 and task = $3 and attempt = $4::text::integer"
    };
}

macro_rules! signal {
    (columns) => {
        "run_id, id, 0, '', name"
    };
    (after) => {
        "(run_id, id) > ($1, $2) and $3::integer is not null and $4::text is not null"
    };
    (order) => {
        "run_id, id"
    };
    (at) => {
        "run_id = $1 and id = $2 and $3::integer is not null and $4::text is not null"
    };
}

macro_rules! update {
    (columns) => {
        "run_id, 0::bigint, 0, key, key"
    };
    (after) => {
        "(run_id, key) > ($1, $4) and $2::bigint is not null and $3::integer is not null"
    };
    (order) => {
        "run_id, key"
    };
    (at) => {
        "run_id = $1 and key = $4 and $2::bigint is not null and $3::integer is not null"
    };
}

// Streams of runs alone: those of others hold what others have written.
macro_rules! event {
    (columns) => { "run_id, seq, 0, stream, kind" };
    (after) => { "(stream, seq) > ($4, $2) and $1::bigint is not null and $3::integer is not null and stream = 'run/' || run_id" };
    (order) => { "stream, seq" };
    (at) => { "stream = $4 and seq = $2 and $1::bigint is not null and $3::integer is not null" };
}

macro_rules! run {
    (columns) => {
        "id, 0::bigint, 0, '', ''"
    };
    (after) => {
        "id > $1 and $2::bigint is not null and $3::integer is not null and $4::text is not null"
    };
    (order) => {
        "id"
    };
    (at) => {
        "id = $1 and $2::bigint is not null and $3::integer is not null and $4::text is not null"
    };
}

macro_rules! schedule {
    (columns) => { "0::bigint, 0::bigint, 0, name, name" };
    (after) => { "name > $4 and $1::bigint is not null and $2::bigint is not null and $3::integer is not null" };
    (order) => { "name" };
    (at) => { "name = $4 and $1::bigint is not null and $2::bigint is not null and $3::integer is not null" };
}

macro_rules! input {
    (columns) => {
        "run_id, 0::bigint, 0, '', ''"
    };
    (after) => {
        "run_id > $1 and $2::bigint is not null and $3::integer is not null and $4::text is not null"
    };
    (order) => {
        "run_id"
    };
    (at) => {
        "run_id = $1 and $2::bigint is not null and $3::integer is not null and $4::text is not null"
    };
}

macro_rules! blob {
    (columns) => { "0::bigint, 0::bigint, 0, encode(address, 'hex'), encode(address, 'hex')" };
    (after) => { "address > decode($4, 'hex') and $1::bigint is not null and $2::bigint is not null and $3::integer is not null" };
    (order) => { "address" };
    (at) => { "address = decode($4, 'hex') and $1::bigint is not null and $2::bigint is not null and $3::integer is not null" };
}

/// Documents of the long-term store, by namespace and key with U+0002 between, which no namespace has. What
/// they were found by would tell what is in them.
const ITEMS: Lane = Lane {
    what: "item",
    form: Form::Json,
    read: "\
-- velo: reencrypt.read_item_value
select 0::bigint, 0::bigint, 0, namespace || chr(2) || key, namespace || chr(2) || key, value
from velo.item
where (namespace, key) > (split_part($4, chr(2), 1), substr($4, strpos($4, chr(2)) + 1))
  and $1::bigint is not null and $2::bigint is not null and $3::integer is not null
  and $6::bytea is not null
order by namespace, key
limit $5",
    write: "\
-- velo: reencrypt.write_item_value
update velo.item
set value = $5, search = null, embedding = null
where namespace = split_part($4, chr(2), 1) and key = substr($4, strpos($4, chr(2)) + 1)
  and $1::bigint is not null and $2::bigint is not null and $3::integer is not null
  and value = $6",
};

/// All of them, but for what is gone within hours.
pub(crate) const LANES: [Lane; 23] = [
    lane!("step", "snapshot", "snapshot", Bytes, step),
    lane!("step", "delta", "delta", Bytes, step),
    lane!("step", "control", "control", Bytes, step),
    lane!("memo", "value", "memo", Bytes, named),
    lane!("outcome", "outcome", "outcome", Bytes, task),
    lane!("failure", "error", "failure", Json, attempt),
    lane!("wait", "question", "question", Json, named),
    lane!("wait", "schema", "schema", Json, named),
    lane!("wait", "answer", "answer", Json, named),
    lane!("wait", "refusal", "refusal", Text, named),
    lane!("signal", "payload", "signal", Json, signal),
    lane!("run_update", "request", "update request", Json, update),
    lane!("run_update", "answer", "update answer", Json, update),
    lane!("run_update", "writes", "update writes", Bytes, update),
    lane!("event", "body", "event", Json, event),
    lane!("run", "error", "error", Json, run),
    lane!("schedule", "control", "schedule control", Bytes, schedule),
    lane!("schedule", "state", "schedule state", Bytes, schedule),
    lane!("input", "delta", "delta", Bytes, input),
    lane!("input", "control", "control", Bytes, input),
    lane!("input", "fresh", "snapshot", Bytes, input),
    lane!("blob", "content", "blob", Bytes, blob),
    ITEMS,
];

/// Where a payload is among those of its lane.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Place {
    pub(crate) run: i64,
    pub(crate) a: i64,
    pub(crate) b: i32,
    pub(crate) name: String,
}

impl Place {
    /// Before the first.
    pub(crate) const START: Self = Self {
        run: -1,
        a: -1,
        b: -1,
        name: String::new(),
    };
}

/// A payload as stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Payload {
    Bytes(Vec<u8>),
    Json(Value),
    Text(String),
}

/// A payload that was found, and the name of its home.
pub(crate) struct Found {
    pub(crate) place: Place,
    pub(crate) label: String,
    pub(crate) payload: Payload,
}

impl Found {
    /// Where it is stored, or where it was in the run that it was copied from, whose steps are counted so much
    /// further on.
    pub(crate) fn home(&self, lane: &Lane, run: RunId, later: i32) -> Home<'_> {
        let seq = i32::try_from(self.place.a).unwrap_or_default() + later;
        Home::found(run, lane.what, seq, self.place.b, &self.label)
    }
}

type Row<P> = (i64, i64, i32, String, String, P);

/// The next payloads of a lane; of bytes, those that do not begin with `sealed`.
pub(crate) async fn read(
    db: impl PgExecutor<'_>,
    lane: Lane,
    after: &Place,
    sealed: &[u8],
    limit: i64,
) -> Result<Vec<Found>, sqlx::Error> {
    fn found<P>(rows: Vec<Row<P>>, payload: fn(P) -> Payload) -> Vec<Found> {
        let rows = rows.into_iter();
        rows.map(|(run, a, b, name, label, stored)| Found {
            place: Place { run, a, b, name },
            label,
            payload: payload(stored),
        })
        .collect()
    }
    macro_rules! rows {
        () => {
            sqlx::query_as(lane.read)
                .bind(after.run)
                .bind(after.a)
                .bind(after.b)
                .bind(&after.name)
                .bind(limit)
                .bind(sealed)
                .fetch_all(db)
                .await?
        };
    }
    Ok(match lane.form {
        Form::Bytes => found(rows!(), Payload::Bytes),
        Form::Json => found(rows!(), Payload::Json),
        Form::Text => found(rows!(), Payload::Text),
    })
}

/// Puts `new` in the place of `old`; `false` when that is not there any more.
pub(crate) async fn write(
    conn: &mut PgConnection,
    lane: Lane,
    place: &Place,
    new: &Payload,
    old: &Payload,
) -> Result<bool, sqlx::Error> {
    let mut update = sqlx::query(lane.write)
        .bind(place.run)
        .bind(place.a)
        .bind(place.b)
        .bind(&place.name);
    for payload in [new, old] {
        update = match payload {
            Payload::Bytes(bytes) => update.bind(bytes),
            Payload::Json(value) => update.bind(value),
            Payload::Text(text) => update.bind(text),
        };
    }
    Ok(update.execute(conn).await?.rows_affected() == 1)
}

#[cfg(all(test, feature = "test-kit"))]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::test_kit;

    /// Columns that no payload is in: names and keys, words of the engine and of operators, rules of graphs,
    /// addresses, and what is gone within an hour.
    const NO_PAYLOADS: &[&str] = &[
        "blob.address",
        "blob_use.address",
        "bucket.gate",
        "bulk.action",
        "bulk.filter",
        "bulk.reason",
        "bulk.status",
        "child.name",
        "child.node",
        "child.on_close",
        "event.kind",
        "event.stream",
        "gate.name",
        "gate.note",
        "input.thread",
        "item.key",
        "item.namespace",
        "memo.name",
        "migrations.checksum",
        "migrations.description",
        "outline.code",
        "outline.outline",
        "permit.gate",
        "permit.node",
        "piece.body",
        "piece.kind",
        "piece.name",
        "piece.node",
        "queue.code",
        "queue.halt",
        "queue.lacks",
        "queue.lane",
        "queue.suspect",
        "retention.graph",
        "retention.outcome",
        "run.failed_as",
        "run.graph",
        "run.status",
        "run.thread",
        "run.trace",
        "schedule.code",
        "schedule.graph",
        "schedule.name",
        "schedule.note",
        "schedule.overlap",
        "schedule.spec",
        "schedule_fire.cause",
        "schedule_fire.name",
        "schedule_fire.outcome",
        "shape.joins",
        "signal.key",
        "signal.name",
        "stream.name",
        "thread.name",
        "wait.kind",
        "wait.name",
        "wait.node",
        "wait.race",
        "worker.codes",
        "worker.host",
        "worker.name",
    ];

    #[tokio::test]
    async fn each_column_that_can_hold_a_payload_is_written_anew_or_known_to_hold_none() {
        let engine = test_kit::engine().await;
        let columns: Vec<String> = sqlx::query_scalar(
            "select c.relname || '.' || a.attname
             from pg_class c
             join pg_attribute a on a.attrelid = c.oid
             where c.relnamespace = 'velo'::regnamespace
               and c.relkind in ('r', 'p')
               and not c.relispartition
               and a.attnum > 0
               and not a.attisdropped
               and format_type(a.atttypid, a.atttypmod) in ('jsonb', 'json', 'bytea', 'text', 'text[]')",
        )
        .fetch_all(engine.pool())
        .await
        .unwrap();
        let of = |lane: &Lane| {
            let (_, rest) = lane.write.split_once("update velo.").unwrap();
            let (table, rest) = rest.split_once('\n').unwrap();
            let column = rest
                .strip_prefix("set ")
                .unwrap()
                .split(' ')
                .next()
                .unwrap();
            format!("{table}.{column}")
        };
        let anew: BTreeSet<String> = LANES.iter().map(of).collect();
        assert_eq!(anew.len(), LANES.len());
        let known: BTreeSet<String> = NO_PAYLOADS.iter().map(|&name| name.to_owned()).collect();
        let all: BTreeSet<String> = anew.union(&known).cloned().collect();
        let there: BTreeSet<String> = columns.into_iter().collect();
        let unknown: Vec<&String> = there.symmetric_difference(&all).collect();
        assert!(
            unknown.is_empty(),
            "give those of these columns a lane that hold payloads, and list the others: {unknown:?}"
        );
    }
}
