//! Questions that are open, and their answers.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{FromRow, PgExecutor};

use crate::lease::Lease;
use crate::run_id::RunId;

/// A question that is open.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct Question {
    /// What tells it from all others.
    #[sqlx(try_from = "String")]
    pub id: QuestionId,
    /// The run that asks.
    #[sqlx(rename = "run_id")]
    pub run: RunId,
    /// The step that is under way.
    pub seq: i32,
    /// Which task of the step asks.
    pub task: i32,
    /// The node that asks.
    pub node: String,
    /// The question's name, unique in its task.
    pub name: String,
    /// What is shown to the person.
    pub question: Value,
    /// JSON Schema of the answer; null when the node gave none.
    pub schema: Option<Value>,
    /// When it was asked.
    pub asked_at: DateTime<Utc>,
    /// Until when it can be answered.
    #[sqlx(rename = "due_at")]
    pub expires_at: Option<DateTime<Utc>>,
    /// Why the last answer was not taken.
    pub refusal: Option<String>,
}

/// A question that is open, and the run that asks it.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct ListedQuestion {
    /// The question.
    #[serde(flatten)]
    #[sqlx(flatten)]
    pub question: Question,
    /// The name of the run's graph.
    pub graph: String,
    /// The thread that the run is part of.
    pub thread: Option<String>,
}

/// What tells a question from all others: its run, step, task and name, such as `482….3.0.approve`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuestionId {
    /// The run that asks.
    pub run: RunId,
    /// The step that is under way.
    pub seq: i32,
    /// Which task of the step asks.
    pub task: i32,
    /// The question's name.
    pub name: String,
}

/// A text that is no [`QuestionId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no id of a question: it has the form run.step.task.name")]
pub struct BadQuestionId(String);

impl fmt::Display for QuestionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}.{}", self.run, self.seq, self.task, self.name)
    }
}

impl FromStr for QuestionId {
    type Err = BadQuestionId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let mut parts = text.splitn(4, '.');
            Some(Self {
                run: parts.next()?.parse().ok()?,
                seq: parts.next()?.parse().ok()?,
                task: parts.next()?.parse().ok()?,
                name: parts.next().filter(|name| !name.is_empty())?.to_owned(),
            })
        };
        read().ok_or_else(|| BadQuestionId(text.to_owned()))
    }
}

impl TryFrom<String> for QuestionId {
    type Error = BadQuestionId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl Serialize for QuestionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Which questions are listed; all of them by default, a hundred at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuestionFilter {
    /// Those of this run and of the child runs that it waits for, however deep.
    pub run: Option<RunId>,
    /// Those of the runs of this thread.
    pub thread: Option<String>,
    /// Those of the runs of the graph of this name.
    pub graph: Option<String>,
    /// Those that come after this one: the last of the page before.
    pub after: Option<QuestionId>,
    /// Most of them.
    pub limit: i64,
}

impl Default for QuestionFilter {
    fn default() -> Self {
        Self {
            run: None,
            thread: None,
            graph: None,
            after: None,
            limit: 100,
        }
    }
}

pub(crate) const OPEN: &str = "\
-- velo: question.open
with recursive family as (
  select $1::bigint as id, 0 as depth
  where $1 is not null
  union all
  select c.child, f.depth + 1
  from family f
  join velo.child c on c.run_id = f.id and c.is_awaited
  where f.depth < $2
)
select concat_ws('.', w.run_id, w.seq, w.task, w.name) as id, w.run_id, r.graph, r.thread,
       w.seq, w.task, w.node, w.name, w.question, w.schema, w.asked_at, w.due_at, w.refusal
from velo.wait w
join velo.queue q on q.run_id = w.run_id and q.branch = 0
join velo.run r on r.id = w.run_id
where ($1::bigint is null or w.run_id in (select id from family))
  and ($3::text is null or r.thread = $3)
  and ($4::text is null or r.graph = $4)
  and ($5::bigint is null or (w.run_id, w.task, w.name) > ($5, $6, $7))
  and w.kind = 'ask'
  and w.answer is null
  and not w.is_closed
  and (w.due_at is null or w.due_at > clock_timestamp())
  and w.seq = (select max(s.seq) + 1 from velo.step s where s.run_id = w.run_id)
order by w.run_id, w.task, w.name
limit $8";

/// The open questions, in the order of their runs, tasks and names.
pub(crate) async fn open(
    db: impl PgExecutor<'_>,
    filter: &QuestionFilter,
) -> Result<Vec<ListedQuestion>, sqlx::Error> {
    let after = filter.after.as_ref();
    sqlx::query_as(OPEN)
        .bind(filter.run)
        .bind(super::child::DEPTH_MAX)
        .bind(&filter.thread)
        .bind(&filter.graph)
        .bind(after.map(|after| after.run))
        .bind(after.map(|after| after.task))
        .bind(after.map(|after| &after.name))
        .bind(filter.limit)
        .fetch_all(db)
        .await
}

// The run's row in the queue is locked before anything is decided: of two answers at once the second
// finds the first, and an answer that comes while the run is being parked is not missed. Of the questions
// one of which is enough, the others are closed: an answer to one of them at the same time finds its row
// changed.
pub(crate) const ANSWER: &str = concat!(
    "\
-- velo: question.answer
",
    lock_run!(),
    ", answered as (
  update velo.wait w
  set answer = $5, refusal = null
  from locked l
  where w.run_id = l.run_id
    and w.seq = $2
    and w.task = $3
    and w.name = $4
    and w.kind = 'ask'
    and w.answer is null
    and not w.is_closed
    and (w.due_at is null or w.due_at > clock_timestamp())
    and w.seq = (select max(s.seq) + 1 from velo.step s where s.run_id = $1)
  returning w.run_id, w.race
), closed as (
  update velo.wait w
  set is_closed = true
  from answered a
  where w.run_id = a.run_id
    and w.seq = $2
    and w.task = $3
    and w.race = a.race
    and w.kind = 'ask'
    and w.name <> $4
), poked as (
  update velo.queue q
",
    poke!(),
    "\
  from locked l, run, answered a
  where q.run_id = a.run_id and q.branch = 0
), told as (
  update velo.run r
  set status = 'active'
  from run, answered a
  where r.id = run.id and run.status = 'waiting'
)
select count(*) from answered"
);

/// Answers a question; `false` when it is not open.
pub(crate) async fn answer(
    db: impl PgExecutor<'_>,
    id: &QuestionId,
    answer: &Value,
) -> Result<bool, sqlx::Error> {
    let answered: i64 = sqlx::query_scalar(ANSWER)
        .bind(id.run)
        .bind(id.seq)
        .bind(id.task)
        .bind(&id.name)
        .bind(Json(answer))
        .fetch_one(db)
        .await?;
    Ok(answered == 1)
}

pub(crate) const CLOSE: &str = "\
-- velo: question.close
select verdict, answer
from velo.close_question($1, $2, $3, $4, $5, $6)";

/// What became of a question whose time has passed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Closed {
    /// Nobody can answer it any more.
    Unanswered,
    /// An answer was accepted in time.
    Answered(Value),
}

/// Closes a question; `None` when the lease is gone.
pub(crate) async fn close(
    db: impl PgExecutor<'_>,
    lease: Lease,
    seq: i32,
    task: i32,
    name: &str,
) -> Result<Option<Closed>, sqlx::Error> {
    let (verdict, answer): (String, Option<Value>) = sqlx::query_as(CLOSE)
        .bind(lease.worker)
        .bind(lease.run)
        .bind(lease.fence)
        .bind(seq)
        .bind(task)
        .bind(name)
        .fetch_one(db)
        .await?;
    Ok(match (verdict.as_str(), answer) {
        ("lost", _) => None,
        (_, Some(answer)) => Some(Closed::Answered(answer)),
        (_, None) => Some(Closed::Unanswered),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_question_is_read_back_whatever_its_name() {
        for name in ["approve", "age/1", "a.b.c", "ja, gärna"] {
            let id = QuestionId {
                run: RunId::from_i64(7),
                seq: 3,
                task: 0,
                name: name.to_owned(),
            };
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for text in ["", "7", "7.3.0", "7.3.0.", "x.3.0.n", "7.x.0.n"] {
            assert!(text.parse::<QuestionId>().is_err(), "{text}");
        }
    }
}
