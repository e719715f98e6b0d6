//! Reading back where a run stands.

use std::time::Duration;

use serde_json::Value;
use sqlx::types::Json;
use sqlx::{FromRow, PgExecutor};
use uuid::Uuid;

use super::update::{OPEN_UPDATES_MAX, OpenUpdate, UPDATES_MAX};
use super::wait::{StoredSignal, StoredWait};
use crate::error::NodeError;
use crate::lease::First;
use crate::run_id::RunId;

/// Where a run stands, as stored.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// From the newest snapshot to the newest step, then the updates that were accepted since; never empty.
    pub(crate) steps: Vec<StoredStep>,
    pub(crate) memos: Vec<StoredMemo>,
    pub(crate) outcomes: Vec<StoredOutcome>,
    pub(crate) failures: Vec<StoredFailures>,
    pub(crate) waits: Vec<StoredWait>,
    pub(crate) signals: Vec<StoredSignal>,
    /// Updates that are not answered, in the order in which they were asked for.
    pub(crate) updates: Vec<OpenUpdate>,
    /// Whether something has come for the run since a worker last looked.
    pub(crate) is_poked: bool,
    /// Workers in a row that have died at this step.
    pub(crate) crashes: i64,
    /// Whether it has a parent or children.
    pub(crate) has_family: bool,
    /// What is to happen before its next step.
    pub(crate) halt: Option<Halt>,
    /// Steps that it may take, given when it was resumed.
    pub(crate) step_limit: Option<u64>,
    /// Whether somebody resumed it after its newest step.
    pub(crate) is_resumed: bool,
    /// The trace that it belongs to, or the nearest run above it that belongs to one.
    pub(crate) trace: Option<String>,
    /// The shape that it is pinned to.
    pub(crate) shape: Uuid,
    /// How long ago the newest step was committed, or the run was resumed after that.
    pub(crate) age: Duration,
}

/// What is to happen to a run at a step boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Halt {
    Pause,
    End,
}

/// A step, or an update that was accepted after the newest one: that has the step's number and no control.
#[derive(Debug, Default, FromRow)]
pub(crate) struct StoredStep {
    pub(crate) seq: i32,
    pub(crate) delta: Vec<u8>,
    pub(crate) control: Option<Vec<u8>>,
    pub(crate) snapshot: Option<Vec<u8>>,
    #[sqlx(skip)]
    pub(crate) update: Option<AcceptedUpdate>,
}

/// What tells an accepted update from others of its run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AcceptedUpdate {
    pub(crate) number: i64,
    pub(crate) key: String,
}

#[derive(Debug)]
pub(crate) struct StoredMemo {
    pub(crate) task: i32,
    pub(crate) name: String,
    pub(crate) value: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct StoredOutcome {
    pub(crate) task: i32,
    pub(crate) outcome: Vec<u8>,
}

/// The failed attempts of one task.
#[derive(Debug)]
pub(crate) struct StoredFailures {
    pub(crate) task: i32,
    /// All of them.
    pub(crate) number: i32,
    /// Those since somebody last resumed the run.
    pub(crate) counted: i32,
    /// Seconds until the next attempt, zero or less when it is due; `None` when there is none.
    pub(crate) due_in: Option<f64>,
    pub(crate) error: Json<Value>,
}

impl StoredFailures {
    pub(crate) fn error(&self) -> NodeError {
        serde_json::from_value(self.error.0.clone())
            .unwrap_or_else(|_| NodeError::permanent(self.error.0.to_string()))
    }
}

// Only the newest step's control counts, so the others' is left in the server. In one statement with the updates
// since, each of which is in the answer once: by itself, or as part of a step.
pub(crate) const STEPS: &str = "\
-- velo: run.load_steps
select seq, velo.whole(delta) as delta,
       case when row_number() over (order by seq desc) = 1 then velo.whole(control) end as control,
       velo.whole(snapshot) as snapshot,
       null::bigint as number, null as key
from velo.step
where run_id = $1
  and seq >= (select seq
              from velo.step
              where run_id = $1 and snapshot is not null
              order by seq desc
              limit 1)
union all
select (select max(s.seq) from velo.step s where s.run_id = $1), u.writes, null, null, u.number, u.key
from velo.run_update u
where u.run_id = $1
  and u.used_seq is null
  and u.verdict is distinct from 'refused'
  and u.verdict is not null
order by seq, number nulls first";

/// Most unused signals that one look finds; later ones are found by later looks.
const SIGNALS_MAX: i64 = 1_000;

// All in one statement: a run that was just leased costs one round trip before its first node, or a share of
// one. The ids come as JSON, since its length says nothing to the planner: of an array it would think that a new
// plan is worth its while, each time. The bound at the end makes it expect few runs: for a hundred it might
// compile the plan to machine code, each time.
pub(crate) const ALL: &str = "\
-- velo: run.load
select given.place, found.*
from jsonb_array_elements_text($1) with ordinality as given (run, place)
cross join lateral (
  with place as (
    select (select max(seq) from velo.step where run_id = given.run::bigint) as newest,
           (select seq from velo.step where run_id = given.run::bigint and snapshot is not null
            order by seq desc limit 1) as base
  )
  select 'step' as kind, s.seq::bigint as a, 0 as b, null::text as name, null::text as label,
         velo.whole(s.delta) as one, case when s.seq = p.newest then velo.whole(s.control) end as two,
         velo.whole(s.snapshot) as three,
         null::jsonb as json,
         case when s.seq = p.newest then
           extract(epoch from clock_timestamp() - greatest(s.at, (
             select q.resumed_at from velo.queue q where q.run_id = given.run::bigint and q.branch = 0)))::float8
         end as due_in,
         false as is_due, false as is_seen
  from place p
  join velo.step s on s.run_id = given.run::bigint and s.seq >= p.base
  union all
  select 'memo', m.task, 0, m.name, null, velo.whole(m.value), null, null, null, null, false, false
  from place p
  join velo.memo m on m.run_id = given.run::bigint and m.seq = p.newest + 1
  union all
  select 'outcome', o.task, 0, null, null, velo.whole(o.outcome), null, null, null, null, false, false
  from place p
  join velo.outcome o on o.run_id = given.run::bigint and o.seq = p.newest + 1
  union all
  (select distinct on (f.task)
          'failure', f.task,
          (count(*) filter (where not f.is_settled) over (partition by f.task))::integer,
          null, (max(f.attempt) over (partition by f.task))::text, null, null, null, f.error,
          case when f.is_settled then 0
               else extract(epoch from f.retry_at - clock_timestamp())::float8 end,
          false, false
   from place p
   join velo.failure f on f.run_id = given.run::bigint and f.seq = p.newest + 1
   order by f.task, f.attempt desc)
  union all
  select 'wait', w.task, w.is_closed::integer, w.name, w.kind, null, null, null, w.answer, null,
         coalesce(w.due_at <= clock_timestamp(), false)
         or (w.kind = 'child'
             and exists (select from velo.child c
                         join velo.run r on r.id = c.child
                         where c.run_id = w.run_id and c.seq = w.seq and c.task = w.task and c.name = w.name
                           and r.finished_at is not null)),
         w.is_seen
  from place p
  join velo.wait w on w.run_id = given.run::bigint and w.seq = p.newest + 1
  union all
  (select 'signal', i.id, case when i.kept_seq = p.newest + 1 then i.kept_task else -1 end, i.name, null,
          null, null, null, i.payload, null, false, false
   from place p
   join velo.signal i on i.run_id = given.run::bigint and i.used_seq is null
   order by i.id
   limit $2)
  union all
  (select 'update', u.number, (u.verdict is not null)::integer, u.key, u.name, u.writes, null, null,
          case when u.verdict is null then u.request end, null, false, false
   from velo.run_update u
   where u.run_id = given.run::bigint and u.used_seq is null and u.verdict is distinct from 'refused'
   order by u.verdict is null, u.number
   limit $3)
  union all
  select 'poke', case when q.crash_seq = p.newest then q.crashes else 0 end, 0, null, null, null, null, null,
         null, null, q.is_poked, false
  from place p
  join velo.queue q on q.run_id = given.run::bigint and q.branch = 0 and (q.is_poked or q.crashes > 0)
  union all
  select 'word', coalesce(q.step_limit, -1), 0, q.halt, null, null, null, null, null, null, false, false
  from velo.queue q
  where q.run_id = given.run::bigint and q.branch = 0 and (q.halt is not null or q.step_limit is not null)
  union all
  select 'resumed', 0, 0, null, null, null, null, null, null, null, false, false
  from place p
  join velo.queue q on q.run_id = given.run::bigint and q.branch = 0 and q.resumed_seq = p.newest
  union all
  select 'run', (r.parent is not null or r.has_children)::integer, 0,
         case when r.parent is null or r.trace is not null then r.trace
              else (with recursive above as (
                              select p.parent, p.trace, 1 as height
                              from velo.run p
                              where p.id = r.parent
                              union all
                              select p.parent, p.trace, a.height + 1
                              from above a
                              join velo.run p on p.id = a.parent
                              where a.trace is null and a.height < 32
                            )
                            select a.trace from above a where a.trace is not null) end,
         null, uuid_send(r.fingerprint), null, null, null, null, false, false
  from velo.run r
  where r.id = given.run::bigint
) found
where given.place between 1 and 1000";

/// A row of [`ALL`], of whatever kind.
#[derive(Debug, FromRow)]
struct Row {
    place: i64,
    kind: String,
    a: i64,
    b: i32,
    name: Option<String>,
    label: Option<String>,
    one: Option<Vec<u8>>,
    two: Option<Vec<u8>>,
    three: Option<Vec<u8>>,
    json: Option<Value>,
    due_in: Option<f64>,
    is_due: bool,
    is_seen: bool,
}

/// Reads where the run stands; `None` when there is no such run.
pub(crate) async fn stored(
    db: impl PgExecutor<'_>,
    run: RunId,
) -> Result<Option<Stored>, sqlx::Error> {
    Ok(several(db, &[run]).await?.pop().flatten())
}

/// Reads where runs stand, in the order of the ids; `None` for one that there is not.
pub(crate) async fn several(
    db: impl PgExecutor<'_>,
    runs: &[RunId],
) -> Result<Vec<Option<Stored>>, sqlx::Error> {
    let ids: Vec<i64> = runs.iter().map(|run| run.as_i64()).collect();
    let rows: Vec<Row> = sqlx::query_as(ALL)
        .bind(Json(ids))
        .bind(SIGNALS_MAX)
        .bind(i64::try_from(UPDATES_MAX + OPEN_UPDATES_MAX).unwrap_or(i64::MAX))
        .fetch_all(db)
        .await?;
    let mut all: Vec<Stored> = runs.iter().map(|_| Stored::default()).collect();
    for row in rows {
        let place = usize::try_from(row.place - 1).ok();
        let stored = place.and_then(|place| all.get_mut(place)).ok_or_else(|| {
            sqlx::Error::Protocol(format!("run.load answered for place {}", row.place))
        })?;
        stored.take(row)?;
    }
    let sorted = all.into_iter().map(|mut stored| {
        stored.settle_steps();
        stored.signals.sort_by_key(|signal| signal.id);
        (!stored.steps.is_empty()).then_some(stored)
    });
    Ok(sorted.collect())
}

impl From<First> for Stored {
    fn from(first: First) -> Self {
        Self {
            steps: vec![StoredStep {
                seq: 0,
                delta: Vec::new(),
                control: Some(first.control),
                snapshot: Some(first.snapshot),
                update: None,
            }],
            trace: first.trace,
            shape: first.shape,
            age: first.age,
            ..Self::default()
        }
    }
}

impl Stored {
    /// Brings steps and updates in their order.
    fn settle_steps(&mut self) {
        let newest = self.steps.iter().map(|step| step.seq).max().unwrap_or(0);
        for step in self.steps.iter_mut().filter(|step| step.update.is_some()) {
            step.seq = newest;
        }
        self.steps.sort_by_key(|step| {
            let update = step.update.as_ref();
            (step.seq, update.map(|update| update.number))
        });
        self.updates.sort_by_key(|update| update.number);
    }

    fn take(&mut self, row: Row) -> Result<(), sqlx::Error> {
        let odd = |what: &str| sqlx::Error::Protocol(format!("run.load answered with {what}"));
        let small = i32::try_from(row.a).map_err(|_| odd("a number out of range"));
        match row.kind.as_str() {
            "step" => {
                if let Some(seconds) = row.due_in {
                    self.age = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default();
                }
                self.steps.push(StoredStep {
                    seq: small?,
                    delta: row.one.unwrap_or_default(),
                    control: row.two,
                    snapshot: row.three,
                    update: None,
                });
            }
            "memo" => self.memos.push(StoredMemo {
                task: small?,
                name: row.name.unwrap_or_default(),
                value: row.one.unwrap_or_default(),
            }),
            "outcome" => self.outcomes.push(StoredOutcome {
                task: small?,
                outcome: row.one.unwrap_or_default(),
            }),
            "failure" => self.failures.push(StoredFailures {
                task: small?,
                number: row.label.and_then(|label| label.parse().ok()).unwrap_or(0),
                counted: row.b,
                due_in: row.due_in,
                error: Json(row.json.unwrap_or_default()),
            }),
            "wait" => self.waits.push(StoredWait {
                task: small?,
                name: row.name.unwrap_or_default(),
                kind: row.label.unwrap_or_default(),
                answer: row.json,
                is_due: row.is_due,
                is_closed: row.b != 0,
                is_seen: row.is_seen,
            }),
            "signal" => self.signals.push(StoredSignal {
                id: row.a,
                name: row.name.unwrap_or_default(),
                payload: row.json.unwrap_or_default(),
                kept: (row.b >= 0).then_some(row.b),
            }),
            "update" if row.b != 0 => self.steps.push(StoredStep {
                delta: row.one.unwrap_or_default(),
                update: Some(AcceptedUpdate {
                    number: row.a,
                    key: row.name.unwrap_or_default(),
                }),
                ..StoredStep::default()
            }),
            "update" => self.updates.push(OpenUpdate {
                number: row.a,
                key: row.name.unwrap_or_default(),
                name: row.label.unwrap_or_default(),
                request: row.json.unwrap_or_default(),
            }),
            "word" => {
                self.halt = match row.name.as_deref() {
                    Some("pause") => Some(Halt::Pause),
                    Some(_) => Some(Halt::End),
                    None => None,
                };
                self.step_limit = u64::try_from(row.a).ok();
            }
            "poke" => {
                self.is_poked = row.is_due;
                self.crashes = row.a;
            }
            "resumed" => self.is_resumed = true,
            "run" => {
                self.has_family = row.a != 0;
                self.trace = row.name;
                let shape = Uuid::from_slice(&row.one.unwrap_or_default());
                self.shape = shape.map_err(|_| odd("a shape that is none"))?;
            }
            other => return Err(odd(other)),
        }
        Ok(())
    }
}

/// The steps from the newest snapshot on, then the updates that were accepted since the newest step.
pub(crate) async fn steps(
    db: impl PgExecutor<'_>,
    run: RunId,
) -> Result<Vec<StoredStep>, sqlx::Error> {
    let rows: Vec<StepRow> = sqlx::query_as(STEPS).bind(run).fetch_all(db).await?;
    let step = |row: StepRow| StoredStep {
        update: row.number.map(|number| AcceptedUpdate {
            number,
            key: row.key.unwrap_or_default(),
        }),
        ..row.step
    };
    Ok(rows.into_iter().map(step).collect())
}

#[derive(Debug, FromRow)]
struct StepRow {
    #[sqlx(flatten)]
    step: StoredStep,
    number: Option<i64>,
    key: Option<String>,
}
