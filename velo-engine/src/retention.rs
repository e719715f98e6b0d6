//! How long runs that have ended are kept, and deleting those whose time has come.
//!
//! The rules are in the database and may be changed at any time; workers delete, one of them at a time, in batches
//! that are a transaction each, beside their work. A pass goes through all runs that are old enough, in the order of
//! their starts, and says after each batch how far it is.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgConnection};

use crate::engine::{Engine, EngineError, RunStatus};
use crate::run_id::RunId;
use crate::store::retention::{self as rows, Seen};
use crate::store::{self, delete, piece};

/// The name that stands for all graphs that have no rule of their own.
pub const ALL_GRAPHS: &str = "*";

/// Rules that are read; what is over is as if nobody had said it.
const RULES_MAX: i64 = 10_000;
/// Runs that one transaction deletes.
const BATCH: usize = 500;
/// Steps that it deletes, unless one run alone has more.
const STEPS_MAX: i64 = 20_000;
/// Runs that [`Engine::prunable`] looks at.
const LOOKED_MAX: usize = 100_000;
/// Between two passes through few runs.
const SOON: Duration = Duration::from_secs(60);
/// Between two passes through many.
const LATER: Duration = Duration::from_secs(15 * 60);
/// How long an operation on many runs is remembered after its end.
const BULKS_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a rate is remembered that nobody asks for; it is full by then.
const BUCKETS_KEPT: Duration = Duration::from_secs(24 * 3600);
/// Rows of each of these that the end of a pass deletes.
const FORGOTTEN: i64 = 1_000;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a time of retention is about.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type,
)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Kept {
    /// Runs that came to their end.
    Completed,
    /// Runs that somebody cancelled, who gave no reason.
    Cancelled,
    /// Runs that ended early with a reason: terminated, dismissed, or cancelled while a failure had paused them.
    Failed,
    /// The newest run of a thread, with which the thread's state goes, and the memory of its last start. It goes
    /// when this time has passed and the one for its own end too.
    Thread,
}

impl Kept {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Completed, Self::Cancelled, Self::Failed, Self::Thread];

    /// The word for it, as stored and as typed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Thread => "thread",
        }
    }

    /// How long it is kept while nobody has said anything: thirty days, ninety for failed runs, and the newest run of
    /// each thread for ever, as `None` says.
    #[must_use]
    pub fn default_time(self) -> Option<Duration> {
        match self {
            Self::Completed | Self::Cancelled => Some(30 * DAY),
            Self::Failed => Some(90 * DAY),
            Self::Thread => None,
        }
    }

    fn of(run: &Seen) -> Option<Self> {
        match run.status {
            RunStatus::Completed => Some(Self::Completed),
            RunStatus::Cancelled if run.has_error => Some(Self::Failed),
            RunStatus::Cancelled => Some(Self::Cancelled),
            _ => None,
        }
    }
}

/// As [`as_str`](Kept::as_str).
impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is none of a [`Kept`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not kept by time: say completed, cancelled, failed or thread")]
pub struct BadKept(String);

impl FromStr for Kept {
    type Err = BadKept;

    fn from_str(text: &str) -> Result<Self, BadKept> {
        let found = Self::ALL.into_iter().find(|kept| kept.as_str() == text);
        found.ok_or_else(|| BadKept(text.to_owned()))
    }
}

/// How long some runs are kept after their end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct RetentionRule {
    /// The graph's name, or [`ALL_GRAPHS`].
    pub graph: String,
    /// Which of its runs.
    pub outcome: Kept,
    /// In milliseconds; `None` is for ever.
    pub keep_ms: Option<i64>,
    /// Whether nobody has said it.
    pub is_default: bool,
}

impl RetentionRule {
    /// How long they are kept; `None` is for ever.
    #[must_use]
    pub fn time(&self) -> Option<Duration> {
        self.keep_ms
            .map(|keep| Duration::from_millis(keep.unsigned_abs()))
    }

    fn default_of(outcome: Kept) -> Self {
        Self {
            graph: ALL_GRAPHS.to_owned(),
            outcome,
            keep_ms: outcome.default_time().map(milliseconds),
            is_default: true,
        }
    }
}

/// What one look has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// How many runs it has deleted.
    pub deleted: u64,
    /// Whether the pass is over; otherwise more of it is due at once.
    pub is_pass_over: bool,
}

/// What would be deleted now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Prunable {
    /// By graph and end.
    pub runs: Vec<PrunableRuns>,
    /// Whether all runs were looked at that are old enough; otherwise there may be more.
    pub is_all: bool,
    /// When workers look next.
    pub next_at: DateTime<Utc>,
    /// When they had last looked at all.
    pub passed_at: Option<DateTime<Utc>>,
    /// How many runs they have deleted since there is retention.
    pub deleted: i64,
}

/// Runs of a graph that would be deleted now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PrunableRuns {
    /// The graph's name.
    pub graph: String,
    /// How they have ended.
    pub outcome: Kept,
    /// How many.
    pub runs: u64,
    /// The one that was started first.
    pub oldest: RunId,
}

impl Engine {
    /// How long runs are kept: what was said, by graph, and what holds for all graphs where nothing was.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn retention(&self) -> Result<Vec<RetentionRule>, EngineError> {
        let mut said = rows::rules(self.pool(), RULES_MAX)
            .await
            .map_err(EngineError::on("read how long runs are kept"))?;
        let unsaid = Kept::ALL.into_iter().filter(|outcome| {
            !said
                .iter()
                .any(|rule| rule.graph == ALL_GRAPHS && rule.outcome == *outcome)
        });
        let unsaid: Vec<_> = unsaid.map(RetentionRule::default_of).collect();
        said.extend(unsaid);
        said.sort_by(|a, b| {
            let key = |rule: &RetentionRule| (rule.graph != ALL_GRAPHS, rule.graph.clone());
            (key(a), a.outcome).cmp(&(key(b), b.outcome))
        });
        Ok(said)
    }

    /// Has runs of `graph` that end so kept for `time` after their end, `None` for ever, and then deleted as by
    /// [`delete`](Self::delete). [`ALL_GRAPHS`] is for the graphs that nothing is said about. It holds at once, also
    /// for runs that have ended before.
    ///
    /// Never deleted, whatever is said: runs that have not ended; children before their parents; what a run that has
    /// not ended was forked from; the runs that a live thread is in the state of, or would go back to. The newest run
    /// of a thread is kept for [`Kept::Thread`], which is for ever if nobody says otherwise.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use velo_engine::{ALL_GRAPHS, Engine, Kept};
    ///
    /// # async fn example(engine: &Engine) -> Result<(), velo_engine::EngineError> {
    /// let day = Duration::from_secs(24 * 3600);
    /// engine.set_retention("import", Kept::Completed, Some(2 * day)).await?;
    /// engine.set_retention("order", Kept::Failed, None).await?;
    /// // Threads are named after orders here: nobody asks for one that is a year old.
    /// engine.set_retention(ALL_GRAPHS, Kept::Thread, Some(365 * day)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The database's; also for a graph without a name.
    ///
    /// # Cancel safety
    /// Dropped half-way, it may have been said or not: say it again.
    pub async fn set_retention(
        &self,
        graph: &str,
        outcome: Kept,
        time: Option<Duration>,
    ) -> Result<(), EngineError> {
        rows::set(self.pool(), graph, outcome, time.map(milliseconds))
            .await
            .map_err(EngineError::on("say how long runs are kept"))
    }

    /// Takes back what was said of a graph, or of all: what holds for all graphs holds again, or what the engine does
    /// [by itself](Kept::default_time). Returns whether something was said.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Call it again: a second time does no harm.
    pub async fn clear_retention(&self, graph: &str, outcome: Kept) -> Result<bool, EngineError> {
        rows::clear(self.pool(), graph, outcome)
            .await
            .map_err(EngineError::on("take back how long runs are kept"))
    }

    /// What the next looks of workers would delete, if nothing changed meanwhile; of families of runs only those above,
    /// since children go when their parents are gone. Goes through at most a hundred thousand runs.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn prunable(&self) -> Result<Prunable, EngineError> {
        let failed = EngineError::on("look for runs that are kept for long enough");
        let mut conn = self.pool().acquire().await.map_err(failed)?;
        look(&mut conn).await.map_err(EngineError::on(
            "look for runs that are kept for long enough",
        ))
    }

    /// Deletes the next batch of runs that were kept for long enough, if it is due and nobody else is at it; `None`
    /// otherwise. Workers call it.
    ///
    /// # Errors
    /// The database's: the batch is left to the next call.
    ///
    /// # Cancel safety
    /// A batch is one transaction: all of it is deleted or nothing.
    pub async fn advance_retention(&self) -> Result<Option<Swept>, EngineError> {
        let failed = EngineError::on("delete runs that are kept for long enough");
        let mut tx = store::begin(self.pool()).await.map_err(failed)?;
        let swept = sweep(&mut tx)
            .await
            .map_err(EngineError::on("delete runs that are kept for long enough"))?;
        tx.commit()
            .await
            .map_err(EngineError::on("delete runs that are kept for long enough"))?;
        Ok(swept)
    }
}

async fn sweep(conn: &mut PgConnection) -> Result<Option<Swept>, sqlx::Error> {
    let Some(at) = rows::take(conn).await? else {
        return Ok(None);
    };
    let rules = Rules::of(rows::rules(&mut *conn, RULES_MAX).await?);
    let is_first = at.after_run == RunId::from_i64(0);
    let mut swept = Swept {
        deleted: 0,
        is_pass_over: true,
    };
    let mut after = None;
    if let Some(until) = rules.until(at.now) {
        let page = rows::page(&mut *conn, at.after_run, until).await?;
        if page.len() == usize::try_from(rows::PAGE).unwrap_or(usize::MAX) {
            after = page.last().map(|run| run.id);
        }
        let due = Due::of(&rules, &page, BATCH);
        if due.has_more {
            after = due.runs.last().copied();
        }
        if !due.runs.is_empty() {
            let (batch, is_cut) = free_batch(conn, &due).await?;
            let deleted = delete::runs(&mut *conn, &batch).await?;
            swept.deleted = deleted.unsigned_abs();
            if is_cut {
                after = batch.last().copied();
            }
        }
        swept.is_pass_over = after.is_none();
    }
    if swept.is_pass_over {
        rows::forget_bulks(conn, BULKS_KEPT, FORGOTTEN).await?;
        rows::forget_buckets(conn, BUCKETS_KEPT, FORGOTTEN).await?;
        piece::prune(&mut *conn).await?;
    }
    let wait = match (swept.is_pass_over, is_first) {
        (false, _) => Duration::ZERO,
        (true, true) => SOON,
        (true, false) => LATER,
    };
    let deleted = i64::try_from(swept.deleted).unwrap_or(i64::MAX);
    rows::save(conn, after, wait, deleted).await?;
    Ok(Some(swept))
}

/// Those of the due runs that are deleted now, and whether there are more that could be.
async fn free_batch(conn: &mut PgConnection, due: &Due) -> Result<(Vec<RunId>, bool), sqlx::Error> {
    let held = rows::hold(conn, &due.runs).await?;
    let threads = match due.last.is_empty() {
        true => Vec::new(),
        false => rows::hold_threads(conn, &due.last).await?,
    };
    // A statement of its own: it sees what was committed before the locks were had.
    let free = rows::free(&mut *conn, &held, &due.last, &threads).await?;
    let (mut batch, mut steps) = (Vec::new(), 0);
    for (run, last_step) in free {
        steps += last_step + 1;
        if steps > STEPS_MAX && !batch.is_empty() {
            return Ok((batch, true));
        }
        batch.push(run);
    }
    Ok((batch, false))
}

async fn look(conn: &mut PgConnection) -> Result<Prunable, sqlx::Error> {
    let at = rows::get(&mut *conn)
        .await?
        .ok_or(sqlx::Error::RowNotFound)?;
    let rules = Rules::of(rows::rules(&mut *conn, RULES_MAX).await?);
    let mut prunable = Prunable {
        runs: Vec::new(),
        is_all: true,
        next_at: at.due_at,
        passed_at: at.passed_at,
        deleted: at.deleted,
    };
    let Some(until) = rules.until(at.now) else {
        return Ok(prunable);
    };
    let mut found: BTreeMap<(String, Kept), (u64, RunId)> = BTreeMap::new();
    let (mut after, mut looked) = (RunId::from_i64(0), 0);
    loop {
        let page = rows::page(&mut *conn, after, until).await?;
        let Some(last) = page.last() else {
            break;
        };
        after = last.id;
        looked += page.len();
        let due = Due::of(&rules, &page, usize::MAX);
        let threads = rows::threads(&mut *conn, &due.last).await?;
        let free = rows::free(&mut *conn, &due.runs, &due.last, &threads).await?;
        let seen: HashMap<RunId, &Seen> = page.iter().map(|run| (run.id, run)).collect();
        for (id, _) in free {
            let Some((run, outcome)) = seen.get(&id).and_then(|run| Some((run, Kept::of(run)?)))
            else {
                continue;
            };
            let group = found.entry((run.graph.clone(), outcome));
            group.or_insert((0, id)).0 += 1;
        }
        if looked >= LOOKED_MAX {
            prunable.is_all = false;
            break;
        }
    }
    prunable.runs = found
        .into_iter()
        .map(|((graph, outcome), (runs, oldest))| PrunableRuns {
            graph,
            outcome,
            runs,
            oldest,
        })
        .collect();
    Ok(prunable)
}

/// How long what is kept.
#[derive(Debug)]
struct Rules {
    said: HashMap<String, HashMap<Kept, Option<Duration>>>,
}

impl Rules {
    fn of(rules: Vec<RetentionRule>) -> Self {
        let mut said: HashMap<String, HashMap<Kept, Option<Duration>>> = HashMap::new();
        for rule in rules {
            let time = rule.time();
            said.entry(rule.graph)
                .or_default()
                .insert(rule.outcome, time);
        }
        Self { said }
    }

    /// `None` is for ever.
    fn time(&self, graph: &str, what: Kept) -> Option<Duration> {
        let said = |graph: &str| self.said.get(graph)?.get(&what).copied();
        said(graph)
            .or_else(|| said(ALL_GRAPHS))
            .unwrap_or_else(|| what.default_time())
    }

    /// The last run that may have been kept for long enough: later ones have been started later than that.
    fn until(&self, now: DateTime<Utc>) -> Option<RunId> {
        let of_all = Kept::ALL
            .into_iter()
            .map(|what| (what, self.time(ALL_GRAPHS, what)));
        let of_graphs = self
            .said
            .values()
            .flatten()
            .map(|(what, time)| (*what, *time));
        let shortest = of_all
            .chain(of_graphs)
            .filter(|(what, _)| *what != Kept::Thread)
            .filter_map(|(_, time)| time)
            .min()?;
        let at = now
            .timestamp_millis()
            .saturating_sub(milliseconds(shortest));
        Some(RunId::last_of(at))
    }
}

/// Runs whose time has come, oldest first.
#[derive(Debug, Default, PartialEq, Eq)]
struct Due {
    runs: Vec<RunId>,
    /// Those of them whose time has also come as the newest ones of their threads.
    last: Vec<RunId>,
    /// Whether there were more than asked for.
    has_more: bool,
}

impl Due {
    fn of(rules: &Rules, page: &[Seen], most: usize) -> Self {
        let mut due = Self::default();
        for run in page {
            let (Some(ended), Some(outcome)) = (run.ended_ms, Kept::of(run)) else {
                continue;
            };
            let has_come = |what| {
                rules
                    .time(&run.graph, what)
                    .is_some_and(|time| milliseconds(time) <= ended)
            };
            if !has_come(outcome) {
                continue;
            }
            if due.runs.len() == most {
                due.has_more = true;
                break;
            }
            due.runs.push(run.id);
            if has_come(Kept::Thread) {
                due.last.push(run.id);
            }
        }
        due
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(graph: &str, outcome: Kept, days: Option<u32>) -> RetentionRule {
        RetentionRule {
            graph: graph.to_owned(),
            outcome,
            keep_ms: days.map(|days| milliseconds(days * DAY)),
            is_default: false,
        }
    }

    fn seen(id: i64, graph: &str, status: RunStatus, has_error: bool, days: Option<u32>) -> Seen {
        Seen {
            id: RunId::from_i64(id),
            graph: graph.to_owned(),
            status,
            has_error,
            ended_ms: days.map(|days| milliseconds(days * DAY)),
        }
    }

    #[test]
    fn what_is_said_of_a_graph_counts_before_what_is_said_of_all_and_that_before_what_is_built_in()
    {
        let rules = Rules::of(vec![
            rule("a", Kept::Completed, Some(2)),
            rule("a", Kept::Failed, None),
            rule(ALL_GRAPHS, Kept::Completed, Some(7)),
        ]);
        assert_eq!(rules.time("a", Kept::Completed), Some(2 * DAY));
        assert_eq!(rules.time("b", Kept::Completed), Some(7 * DAY));
        assert_eq!(rules.time("a", Kept::Failed), None);
        assert_eq!(rules.time("b", Kept::Failed), Some(90 * DAY));
        assert_eq!(rules.time("b", Kept::Thread), None);
    }

    #[test]
    fn only_what_has_ended_for_long_enough_is_due_each_by_its_end() {
        let rules = Rules::of(vec![rule("a", Kept::Thread, Some(40))]);
        let page = [
            seen(1, "a", RunStatus::Completed, false, Some(31)),
            seen(2, "a", RunStatus::Cancelled, true, Some(31)),
            seen(3, "a", RunStatus::Paused, true, None),
            seen(4, "a", RunStatus::Cancelled, false, Some(41)),
            seen(5, "a", RunStatus::Completed, false, Some(29)),
            seen(6, "b", RunStatus::Cancelled, true, Some(91)),
        ];
        let ids = |ids: &[i64]| {
            ids.iter()
                .map(|id| RunId::from_i64(*id))
                .collect::<Vec<_>>()
        };
        let due = Due::of(&rules, &page, 9);
        assert_eq!(due.runs, ids(&[1, 4, 6]));
        assert_eq!(due.last, ids(&[4]));
        assert!(!due.has_more && Due::of(&rules, &page, 2).has_more);
    }

    #[test]
    fn a_pass_ends_where_runs_are_too_young_for_every_rule() {
        let now = DateTime::from_timestamp_millis(100 * milliseconds(DAY)).unwrap();
        let until = |rules: Vec<RetentionRule>| Rules::of(rules).until(now);
        let day = |day: u32| Some(RunId::last_of(milliseconds(day * DAY)));
        assert_eq!(until(Vec::new()), day(70));
        assert_eq!(until(vec![rule("a", Kept::Failed, Some(3))]), day(97));
        // A thread's newest run goes no sooner than others.
        assert_eq!(until(vec![rule("a", Kept::Thread, Some(3))]), day(70));
        let never = |what| rule(ALL_GRAPHS, what, None);
        let never = vec![
            never(Kept::Completed),
            never(Kept::Cancelled),
            never(Kept::Failed),
        ];
        assert_eq!(until(never), None);
    }

    #[test]
    fn the_words_of_the_database_are_read_as_they_are_typed() {
        for kept in Kept::ALL {
            assert_eq!(kept.as_str().parse(), Ok(kept));
        }
        assert!("done".parse::<Kept>().is_err());
    }
}
