//! Reading what has become of a run since a place in its history.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{FromRow, PgExecutor};

use super::run::RunStatus;
use crate::run_id::RunId;

/// Most rows of each kind that one look returns.
const ROWS: i64 = 128;
/// Most bytes of each kind that one look returns, unless a single row has more.
const BYTES: i64 = 1024 * 1024;

/// From where, and what is looked for.
#[derive(Debug, Default)]
pub(crate) struct Look {
    pub(crate) step: i32,
    /// Tasks of the step after that, which are not to be read again, and the same below.
    pub(crate) outcomes: Vec<i32>,
    pub(crate) failures: Vec<String>,
    pub(crate) waits: Vec<String>,
    pub(crate) children: Vec<RunId>,
    pub(crate) events: i64,
    pub(crate) pieces: i64,
    pub(crate) wants: Wants,
}

/// What is looked for beside steps and outcomes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wants {
    pub(crate) failures: bool,
    pub(crate) waits: bool,
    pub(crate) children: bool,
    /// Only children for which the task waits.
    pub(crate) only_awaited: bool,
    pub(crate) events: bool,
    pub(crate) pieces: bool,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) status: RunStatus,
    /// When it was looked.
    pub(crate) now: DateTime<Utc>,
    pub(crate) steps: Vec<FoundStep>,
    pub(crate) outcomes: Vec<FoundOutcome>,
    pub(crate) failures: Vec<FoundFailure>,
    pub(crate) waits: Vec<FoundWait>,
    pub(crate) children: Vec<FoundChild>,
    pub(crate) events: Vec<FoundEvent>,
    pub(crate) pieces: Vec<FoundPiece>,
    /// Which kinds have more.
    pub(crate) more: More,
    /// Place of the run's first piece, and of its newest; zero when there is none.
    pub(crate) pieces_from: i64,
    pub(crate) pieces_to: i64,
}

/// Which kinds of rows were cut off: there are more than were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct More {
    pub(crate) steps: bool,
    pub(crate) outcomes: bool,
    pub(crate) failures: bool,
    pub(crate) waits: bool,
    pub(crate) children: bool,
    pub(crate) events: bool,
    pub(crate) pieces: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct FoundStep {
    pub(crate) seq: i32,
    pub(crate) at: DateTime<Utc>,
    pub(crate) fence: i64,
    pub(crate) delta: Vec<u8>,
    pub(crate) control: Vec<u8>,
    /// Where the state cannot be made from the step before: at the start, and after a gap.
    pub(crate) snapshot: Option<Vec<u8>>,
}

#[derive(Debug, Clone)]
pub(crate) struct FoundOutcome {
    pub(crate) seq: i32,
    pub(crate) task: i32,
    pub(crate) outcome: Vec<u8>,
}

#[derive(Debug, Clone)]
pub(crate) struct FoundFailure {
    pub(crate) seq: i32,
    pub(crate) task: i32,
    pub(crate) attempt: i32,
    pub(crate) error: Value,
    pub(crate) retry_at: Option<DateTime<Utc>>,
    pub(crate) at: DateTime<Utc>,
}

#[derive(Debug, Clone)]
pub(crate) struct FoundWait {
    pub(crate) seq: i32,
    pub(crate) task: i32,
    pub(crate) name: String,
    pub(crate) node: String,
    pub(crate) question: Value,
    pub(crate) schema: Option<Value>,
    pub(crate) at: DateTime<Utc>,
    pub(crate) expires_at: Option<DateTime<Utc>>,
    pub(crate) refusal: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct FoundChild {
    pub(crate) seq: i32,
    pub(crate) task: i32,
    pub(crate) run: RunId,
    pub(crate) node: String,
    pub(crate) name: String,
    pub(crate) graph: String,
    pub(crate) is_awaited: bool,
    pub(crate) at: DateTime<Utc>,
}

#[derive(Debug, Clone)]
pub(crate) struct FoundEvent {
    pub(crate) seq: i64,
    pub(crate) kind: String,
    pub(crate) body: Value,
    pub(crate) at: DateTime<Utc>,
}

#[derive(Debug, Clone)]
pub(crate) struct FoundPiece {
    pub(crate) id: i64,
    pub(crate) seq: i32,
    pub(crate) task: i32,
    pub(crate) attempt: i32,
    pub(crate) fence: i64,
    pub(crate) node: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) start: i64,
    pub(crate) body: String,
    pub(crate) lost: i32,
    pub(crate) at: DateTime<Utc>,
}

// All in one statement, and so of one moment: whoever sees a step sees what led to it. Each kind is cut
// off after some rows or bytes, and says whether it was.
pub(crate) const READ: &str = "\
-- velo: stream.read
with step as (
  select s.seq, s.at, s.fence, s.delta, s.control,
         case when s.seq = 0 or s.place = 1 and s.seq > $2 + 1 then s.snapshot end as snapshot, s.more
  from (select p.*, row_number() over w as place, lead(p.seq) over w is not null as more,
               sum(velo.weight(p.delta) + velo.weight(p.control)) over (w rows between unbounded preceding and 1 preceding) as before
        from (select * from velo.step where run_id = $1 and seq > $2 order by seq limit $15 + 1) p
        window w as (order by p.seq)) s
  where s.place <= $15 and coalesce(s.before, 0) < $16
), top as (
  select coalesce(max(seq), $2) + 1 as seq from step
)
select 'run' as kind, 0 as seq, 0 as task, 0::bigint as a, 0::bigint as b, 0::bigint as c, false as flag, false as more,
       r.status as name, null::text as label, null::text as text, null::text as note,
       null::bytea as one, null::bytea as two, null::bytea as three,
       null::jsonb as json, null::jsonb as extra, clock_timestamp() as at, null::timestamptz as until
from velo.run r
where r.id = $1
union all
select 'step', s.seq, 0, s.fence, 0, 0, false, s.more, null, null, null, null,
       velo.whole(s.delta), velo.whole(s.control), velo.whole(s.snapshot),
       null, null, s.at, null
from step s
union all
select 'outcome', o.seq, o.task, 0, 0, 0, false, o.more, null, null, null, null, velo.whole(o.outcome), null, null,
       null, null, null, null
from (select p.*, row_number() over w as place, lead(p.seq) over w is not null as more,
             sum(velo.weight(p.outcome)) over (w rows between unbounded preceding and 1 preceding) as before
      from (select o.seq, o.task, o.outcome
            from velo.outcome o, top
            where o.run_id = $1 and o.seq > $2 and o.seq <= top.seq
              and not (o.seq = $2 + 1 and o.task = any($3))
            order by o.seq, o.task
            limit $15 + 1) p
      window w as (order by p.seq, p.task)) o
where o.place <= $15 and coalesce(o.before, 0) < $16
union all
select 'failure', f.seq, f.task, f.attempt, 0, 0, false, f.more, null, null, null, null, null, null, null,
       f.error, null, f.at, f.retry_at
from (select p.*, row_number() over w as place, lead(p.seq) over w is not null as more
      from (select f.*
            from velo.failure f, top
            where $7 and f.run_id = $1 and f.seq > $2 and f.seq <= top.seq
              and not (f.seq = $2 + 1 and f.task || '.' || f.attempt = any($4))
            order by f.seq, f.task, f.attempt
            limit $15 + 1) p
      window w as (order by p.seq, p.task, p.attempt)) f
where f.place <= $15
union all
select 'wait', q.seq, q.task, 0, 0, 0, false, q.more, q.name, q.node, q.refusal, null, null, null, null,
       q.question, q.schema, q.asked_at, q.due_at
from (select p.*, row_number() over w as place, lead(p.seq) over w is not null as more
      from (select w.*
            from velo.wait w, top
            where $8 and w.run_id = $1 and w.kind = 'ask' and w.seq > $2 and w.seq <= top.seq
              and not (w.seq = $2 + 1 and w.task || '.' || w.name = any($5))
            order by w.seq, w.task, w.name
            limit $15 + 1) p
      window w as (order by p.seq, p.task, p.name)) q
where q.place <= $15
union all
select 'child', c.seq, c.task, c.child, 0, 0, c.is_awaited, c.more, c.name, c.node, c.graph, null, null, null, null,
       null, null, c.created_at, null
from (select p.*, row_number() over w as place, lead(p.seq) over w is not null as more
      from (select c.*, r.graph || '@' || r.version as graph, r.created_at
            from top, velo.child c
            join velo.run r on r.id = c.child
            where $9 and c.run_id = $1 and c.seq > $2 and c.seq <= top.seq
              and (c.is_awaited or not $10)
              and not (c.seq = $2 + 1 and c.task = any($3))
              and c.child <> all($6)
            order by c.seq, c.task, c.name
            limit $15 + 1) p
      window w as (order by p.seq, p.task, p.name)) c
where c.place <= $15
union all
select 'event', 0, 0, e.seq, 0, 0, false, e.more, e.kind, null, null, null, null, null, null,
       e.body, null, e.at, null
from (select p.*, row_number() over w as place, lead(p.seq) over w is not null as more
      from (select *
            from velo.event
            where $11 and stream = 'run/' || $1 and seq > $12
            order by seq
            limit $15 + 1) p
      window w as (order by p.seq)) e
where e.place <= $15
union all
select 'pieces', 0, 0, h.first_id, h.last_id, 0, false, false, null, null, null, null, null, null, null,
       null, null, null, null
from velo.piece_head h
where $13 and h.run_id = $1
union all
select 'piece', i.seq, i.task, i.id, i.fence, i.start, false, i.more, i.name, i.node, i.kind || ' ' || i.attempt || ' ' || i.lost, i.body,
       null, null, null, null, null, i.at, null
from (select p.*, row_number() over w as place, lead(p.id) over w is not null as more
      from (select *
            from velo.piece
            where $13 and run_id = $1 and id > $14
            order by id
            limit $15 + 1) p
      window w as (order by p.id)) i
where i.place <= $15";

pub(crate) const PLACES: &str = "\
-- velo: stream.places
select coalesce((select max(e.seq) from velo.event e where e.stream = 'run/' || s.run_id and e.at <= s.at), 0),
       coalesce((select max(i.id) from velo.piece i where i.run_id = s.run_id and i.at <= s.at), 0)
from velo.step s
where s.run_id = $1
  and s.seq = $2";

/// Where a run's events and what its nodes said were when a step was committed; `None` when it has no
/// such step.
pub(crate) async fn places(
    db: impl PgExecutor<'_>,
    run: RunId,
    step: i32,
) -> Result<Option<(i64, i64)>, sqlx::Error> {
    sqlx::query_as(PLACES)
        .bind(run)
        .bind(step)
        .fetch_optional(db)
        .await
}

/// A row of [`READ`], of whatever kind.
#[derive(Debug, FromRow)]
struct Row {
    kind: String,
    seq: i32,
    task: i32,
    a: i64,
    b: i64,
    c: i64,
    flag: bool,
    more: bool,
    name: Option<String>,
    label: Option<String>,
    text: Option<String>,
    note: Option<String>,
    one: Option<Vec<u8>>,
    two: Option<Vec<u8>>,
    three: Option<Vec<u8>>,
    json: Option<Value>,
    extra: Option<Value>,
    at: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
}

/// What has become of the run since; `None` when there is no such run.
pub(crate) async fn read(
    db: impl PgExecutor<'_>,
    run: RunId,
    look: &Look,
) -> Result<Option<Found>, sqlx::Error> {
    let wants = look.wants;
    let rows: Vec<Row> = sqlx::query_as(READ)
        .bind(run)
        .bind(look.step)
        .bind(&look.outcomes)
        .bind(&look.failures)
        .bind(&look.waits)
        .bind(&look.children)
        .bind(wants.failures)
        .bind(wants.waits)
        .bind(wants.children)
        .bind(wants.only_awaited)
        .bind(wants.events)
        .bind(look.events)
        .bind(wants.pieces)
        .bind(look.pieces)
        .bind(ROWS)
        .bind(BYTES)
        .fetch_all(db)
        .await?;
    let odd = |what: String| sqlx::Error::Protocol(format!("stream.read answered with {what}"));
    let Some(head) = rows.iter().find(|row| row.kind == "run") else {
        return Ok(None);
    };
    let status = head.name.as_deref().unwrap_or_default();
    let mut found = Found {
        status: RunStatus::ALL
            .into_iter()
            .find(|known| known.as_str() == status)
            .ok_or_else(|| odd(format!("the status {status}")))?,
        now: head.at.unwrap_or_default(),
        steps: Vec::new(),
        outcomes: Vec::new(),
        failures: Vec::new(),
        waits: Vec::new(),
        children: Vec::new(),
        events: Vec::new(),
        pieces: Vec::new(),
        more: More::default(),
        pieces_from: 0,
        pieces_to: 0,
    };
    for row in rows {
        let kind = row.kind.clone();
        found.take(row).ok_or_else(|| odd(kind))?;
    }
    found.sort();
    Ok(Some(found))
}

impl Found {
    fn take(&mut self, row: Row) -> Option<()> {
        match row.kind.as_str() {
            "run" => (),
            "step" => {
                self.more.steps = row.more;
                self.steps.push(FoundStep {
                    seq: row.seq,
                    at: row.at?,
                    fence: row.a,
                    delta: row.one?,
                    control: row.two?,
                    snapshot: row.three,
                });
            }
            "outcome" => {
                self.more.outcomes = row.more;
                self.outcomes.push(FoundOutcome {
                    seq: row.seq,
                    task: row.task,
                    outcome: row.one?,
                });
            }
            "failure" => {
                self.more.failures = row.more;
                self.failures.push(FoundFailure {
                    seq: row.seq,
                    task: row.task,
                    attempt: i32::try_from(row.a).ok()?,
                    error: row.json.unwrap_or_default(),
                    retry_at: row.until,
                    at: row.at?,
                });
            }
            "wait" => {
                self.more.waits = row.more;
                self.waits.push(FoundWait {
                    seq: row.seq,
                    task: row.task,
                    name: row.name?,
                    node: row.label?,
                    question: row.json.unwrap_or_default(),
                    schema: row.extra,
                    at: row.at?,
                    expires_at: row.until,
                    refusal: row.text,
                });
            }
            "child" => {
                self.more.children = row.more;
                self.children.push(FoundChild {
                    seq: row.seq,
                    task: row.task,
                    run: RunId::from_i64(row.a),
                    node: row.label?,
                    name: row.name?,
                    graph: row.text?,
                    is_awaited: row.flag,
                    at: row.at?,
                });
            }
            "event" => {
                self.more.events = row.more;
                self.events.push(FoundEvent {
                    seq: row.a,
                    kind: row.name?,
                    body: row.json.unwrap_or_default(),
                    at: row.at?,
                });
            }
            "pieces" => (self.pieces_from, self.pieces_to) = (row.a, row.b),
            "piece" => {
                self.more.pieces = row.more;
                let text = row.text?;
                let mut parts = text.split(' ');
                self.pieces.push(FoundPiece {
                    id: row.a,
                    seq: row.seq,
                    task: row.task,
                    kind: parts.next()?.to_owned(),
                    attempt: parts.next()?.parse().ok()?,
                    lost: parts.next()?.parse().ok()?,
                    fence: row.b,
                    node: row.label?,
                    name: row.name?,
                    start: row.c,
                    body: row.note?,
                    at: row.at?,
                });
            }
            _ => return None,
        }
        Some(())
    }

    /// The parts of a union come in no order.
    fn sort(&mut self) {
        self.steps.sort_by_key(|step| step.seq);
        self.outcomes
            .sort_by_key(|outcome| (outcome.seq, outcome.task));
        self.events.sort_by_key(|event| event.seq);
        self.pieces.sort_by_key(|piece| piece.id);
    }
}
