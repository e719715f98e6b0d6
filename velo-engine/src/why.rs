//! Why a run is not running: a reason decided by facts, never a guess.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::code::graph_of;
use crate::run_id::RunId;
use crate::store::run::RunStatus;
use crate::store::why::{Facts, Held};

/// What a run is doing, or why it is doing nothing.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "why", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Why {
    /// It has ended.
    Ended {
        /// How.
        status: RunStatus,
    },
    /// A worker is at it.
    Running {
        /// The worker's incarnation.
        worker: i32,
        /// The worker's name.
        name: String,
        /// Whether it was asked to end.
        is_cancelled: bool,
    },
    /// A worker is at it, and stops with it at its next step boundary.
    Stopping {
        /// The worker's incarnation.
        worker: i32,
        /// The worker's name.
        name: String,
        /// Whether it ends then; otherwise it is paused.
        is_end: bool,
    },
    /// It waits for its turn on its thread.
    InThreadLine {
        /// The thread.
        thread: String,
        /// The live run of the thread.
        behind: Option<RunId>,
        /// Runs before it in line, counted up to a thousand.
        ahead: i64,
    },
    /// Its worker's heartbeat has stopped: another one takes over as soon as one looks.
    WorkerSilent {
        /// The worker's incarnation.
        worker: i32,
        /// Since when its leases no longer hold.
        since: DateTime<Utc>,
    },
    /// It is ready, and no live worker has its code.
    NoCapableWorker {
        /// What a worker must have.
        code: String,
        /// Since when it is ready.
        since: DateTime<Utc>,
    },
    /// It is ready, and was left by a worker that has its graph and lacks something that it needs; no
    /// live worker has that. It goes on by itself as soon as one does.
    LacksCode {
        /// The graph and version.
        code: String,
        /// What is lacking, such as a node that is next.
        lacks: String,
        /// Since when it is ready.
        since: DateTime<Utc>,
    },
    /// It is ready, and the workers that have its code are busy with others.
    InLine {
        /// Since when it is ready.
        since: DateTime<Utc>,
        /// Runs before it, counted up to a thousand.
        ahead: i64,
        /// Live workers that have its code.
        workers: i64,
    },
    /// It is ready to go on, and its queue holds it back.
    HeldBack {
        /// The queue.
        queue: String,
        /// Since when it is ready.
        since: DateTime<Utc>,
        /// Why.
        #[serde(flatten)]
        by: HeldBack,
        /// Runs of the queue before it, counted up to a thousand.
        ahead: i64,
    },
    /// It is ready, and its graph is paused.
    GraphPaused {
        /// What is paused, such as `graph/report`.
        gate: String,
        /// Why, if somebody said.
        note: Option<String>,
        /// Since when the run is ready.
        since: DateTime<Utc>,
    },
    /// Nodes of it wait until a limit lets them go on.
    HeldUp {
        /// Which, and why.
        by: Vec<HeldUp>,
        /// When it looks again in any case.
        until: Option<DateTime<Utc>>,
        /// Open questions.
        questions: Vec<String>,
        /// Names of messages that it waits for.
        signals: Vec<String>,
    },
    /// It waits for the next attempt of a node that failed.
    Retrying {
        /// When that begins.
        until: DateTime<Utc>,
        /// How often it has failed.
        attempt: i32,
        /// Why it failed last.
        error: String,
    },
    /// It sleeps until a time, or until something comes for it before.
    Asleep {
        /// The time.
        until: DateTime<Utc>,
        /// Open questions.
        questions: Vec<String>,
        /// Names of messages that it waits for.
        signals: Vec<String>,
    },
    /// It waits for answers or messages.
    Waiting {
        /// Open questions.
        questions: Vec<String>,
        /// Names of messages that it waits for.
        signals: Vec<String>,
    },
    /// It waits for runs that its nodes have started, and perhaps for more.
    AwaitingChildren {
        /// The runs.
        children: Vec<AwaitedChild>,
        /// Open questions of its own.
        questions: Vec<String>,
        /// Names of messages that it waits for.
        signals: Vec<String>,
        /// When it goes on in any case.
        until: Option<DateTime<Utc>>,
    },
    /// It is paused, since its workers have died of it again and again.
    Quarantined {
        /// The node that was at work when the last one died, if it is known.
        node: Option<String>,
        /// How many workers have died.
        crashes: i64,
    },
    /// It is paused, and needs attention.
    Paused {
        /// What happened.
        error: Option<Value>,
    },
    /// No rule explains it: a fault of the engine.
    Unexplained,
}

/// Why a queue holds a run back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "by", rename_all = "snake_case")]
#[non_exhaustive]
pub enum HeldBack {
    /// It is paused.
    Paused {
        /// Why, if somebody said.
        note: Option<String>,
    },
    /// As many of its runs as it allows are at work or about to be.
    Full {
        /// How many it allows.
        max: i64,
        /// How many are.
        inside: i64,
    },
    /// Its rate lets no other run begin yet.
    Rate {
        /// When the next one may.
        until: DateTime<Utc>,
    },
    /// It has its share of the line, or the run is about to be let in.
    Share {
        /// Its runs in the line and at work.
        inside: i64,
    },
}

/// A limit that a node waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldUp {
    /// The limit, such as `limit/mail`.
    pub gate: String,
    /// The node.
    pub node: String,
    /// Since when it waits.
    pub since: DateTime<Utc>,
    /// When its token may be used, if it waits for that.
    pub until: Option<DateTime<Utc>>,
    /// Whether the limit is paused.
    pub is_paused: bool,
    /// Why it is paused, if somebody said.
    pub note: Option<String>,
    /// How many it allows at once.
    pub max: Option<i64>,
    /// How many have a place.
    pub inside: i64,
}

/// A child run that its parent waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitedChild {
    /// The run.
    pub run: RunId,
    /// The name that the node gave it.
    pub name: String,
    /// Its graph, such as `report@1`.
    pub graph: String,
    /// How far it is; the parent of one that has ended is about to be told.
    pub status: RunStatus,
}

impl Why {
    pub(crate) fn of(facts: Facts) -> Self {
        if facts.status.is_terminal() {
            return if facts.is_queued {
                Self::Unexplained
            } else {
                Self::Ended {
                    status: facts.status,
                }
            };
        }
        if facts.is_held && facts.status != RunStatus::Paused {
            return Self::InThreadLine {
                thread: facts.thread.unwrap_or_default(),
                behind: facts.behind,
                ahead: facts.before,
            };
        }
        if let Some(worker) = facts.worker {
            return match (facts.is_expired, facts.expires_at) {
                (Some(false), _) if facts.halt.is_some() && !facts.is_cancelled => Self::Stopping {
                    worker,
                    name: facts.worker_name.unwrap_or_default(),
                    is_end: facts.halt.as_deref() == Some("end"),
                },
                (Some(false), _) => Self::Running {
                    worker,
                    name: facts.worker_name.unwrap_or_default(),
                    is_cancelled: facts.is_cancelled,
                },
                (Some(true), Some(since)) => Self::WorkerSilent { worker, since },
                _ => Self::Unexplained,
            };
        }
        if let Some(held) = facts.held {
            return Self::held_back(held.0);
        }
        match (facts.ready_at, facts.wake_at, facts.code) {
            (Some(since), _, Some(_)) if facts.graph_gate.is_some() && !facts.is_cancelled => {
                Self::GraphPaused {
                    gate: facts.graph_gate.unwrap_or_default(),
                    note: facts.graph_note,
                    since,
                }
            }
            (Some(since), _, Some(code)) if facts.capable == 0 => match facts.lacks {
                Some(lacks) => Self::LacksCode {
                    code: graph_of(&code).to_owned(),
                    lacks,
                    since,
                },
                None => Self::NoCapableWorker { code, since },
            },
            (Some(since), _, Some(_)) => Self::InLine {
                since,
                ahead: facts.ahead,
                workers: facts.capable,
            },
            (None, until, Some(_))
                if !facts.permits.is_empty() && facts.status != RunStatus::Paused =>
            {
                Self::HeldUp {
                    by: facts.permits.0,
                    until,
                    questions: facts.questions,
                    signals: facts.signals,
                }
            }
            (None, until, Some(_))
                if !facts.children.is_empty() && facts.status != RunStatus::Paused =>
            {
                Self::AwaitingChildren {
                    children: facts.children.0,
                    questions: facts.questions,
                    signals: facts.signals,
                    until,
                }
            }
            (None, Some(until), Some(_)) => match (facts.failed_error, facts.failed_attempt) {
                (Some(error), Some(attempt))
                    if facts.questions.is_empty() && facts.signals.is_empty() =>
                {
                    Self::Retrying {
                        until,
                        attempt,
                        error: error["message"].as_str().unwrap_or_default().to_owned(),
                    }
                }
                _ => Self::Asleep {
                    until,
                    questions: facts.questions,
                    signals: facts.signals,
                },
            },
            (None, None, Some(_)) if facts.status == RunStatus::Paused => Self::paused(facts.error),
            (None, None, Some(_)) if facts.status == RunStatus::Waiting => Self::Waiting {
                questions: facts.questions,
                signals: facts.signals,
            },
            _ => Self::Unexplained,
        }
    }

    fn paused(error: Option<Value>) -> Self {
        match &error {
            Some(error) if error["kind"] == "crashed" => Self::Quarantined {
                node: error["node"].as_str().map(str::to_owned),
                crashes: error["crashes"].as_i64().unwrap_or_default(),
            },
            _ => Self::Paused { error },
        }
    }

    fn held_back(held: Held) -> Self {
        let by = match (held.is_paused, held.max, held.until) {
            (true, ..) => HeldBack::Paused { note: held.note },
            (_, Some(max), _) if held.inside >= max => HeldBack::Full {
                max,
                inside: held.inside,
            },
            (.., Some(until)) => HeldBack::Rate { until },
            _ => HeldBack::Share {
                inside: held.inside,
            },
        };
        Self::HeldBack {
            queue: held.queue,
            since: held.since,
            by,
            ahead: held.ahead,
        }
    }
}

/// One sentence for a person, with what to do where something is to be done.
impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended { status } => write!(f, "it has ended: {}", status.as_str()),
            Self::Running {
                worker,
                name,
                is_cancelled,
            } => {
                write!(f, "worker {worker} ({name}) is at it")?;
                if *is_cancelled {
                    f.write_str(" and was asked to end it")?;
                }
                Ok(())
            }
            Self::Stopping {
                worker,
                name,
                is_end,
            } => {
                let then = if *is_end { "end" } else { "be paused" };
                write!(
                    f,
                    "worker {worker} ({name}) is at it, and it is to {then} when its step is committed"
                )
            }
            Self::InThreadLine {
                thread,
                behind,
                ahead,
            } => {
                write!(f, "it waits for its turn on thread {thread}: ")?;
                match behind {
                    Some(run) => write!(
                        f,
                        "run {run} has not ended, and {ahead} are before it in line"
                    ),
                    None => write!(f, "{ahead} are before it in line"),
                }
            }
            Self::WorkerSilent { worker, since } => write!(
                f,
                "worker {worker} had it and has been silent since {}: another worker takes over when it looks next; start one if there is none",
                time(*since)
            ),
            Self::NoCapableWorker { code, since } => write!(
                f,
                "it has been ready since {}, and no live worker has {code}: start one that does",
                time(*since)
            ),
            Self::LacksCode { code, lacks, since } => write!(
                f,
                "it has been ready since {}, and no live worker of {code} has {lacks}: deploy one that does, or move or edit the run",
                time(*since)
            ),
            Self::InLine {
                since,
                ahead,
                workers,
            } => write!(
                f,
                "it has been ready since {}: {ahead} runs are ahead of it, and {workers} workers have its code",
                time(*since)
            ),
            Self::HeldBack {
                queue,
                since,
                by,
                ahead,
            } => write!(
                f,
                "it has been ready since {}, and its queue `{queue}` {by}; {ahead} of its runs are ahead of it",
                time(*since)
            ),
            Self::GraphPaused { gate, note, since } => {
                write!(
                    f,
                    "it has been ready since {}, and {gate} is paused",
                    time(*since)
                )?;
                said(f, note.as_deref())
            }
            Self::HeldUp {
                by,
                until,
                questions,
                signals,
            } => {
                let by: Vec<String> = by.iter().map(ToString::to_string).collect();
                f.write_str(&by.join(" and "))?;
                if !questions.is_empty() || !signals.is_empty() {
                    f.write_str("; it also waits for ")?;
                    waited_for(f, questions, signals)?;
                }
                if let Some(until) = until {
                    write!(f, "; it looks again at {}", time(*until))?;
                }
                Ok(())
            }
            Self::Retrying {
                until,
                attempt,
                error,
            } => write!(
                f,
                "attempt {attempt} failed ({error}), and the next one begins at {}",
                time(*until)
            ),
            Self::Asleep {
                until,
                questions,
                signals,
            } => {
                write!(f, "it sleeps until {}", time(*until))?;
                if !questions.is_empty() || !signals.is_empty() {
                    f.write_str(", unless this comes before: ")?;
                    waited_for(f, questions, signals)?;
                }
                Ok(())
            }
            Self::Waiting { questions, signals } => {
                f.write_str("it waits for ")?;
                waited_for(f, questions, signals)
            }
            Self::AwaitingChildren {
                children,
                questions,
                signals,
                until,
            } => {
                let named = |child: &AwaitedChild| {
                    let AwaitedChild {
                        run, name, graph, ..
                    } = child;
                    let status = child.status.as_str();
                    format!("the end of `{name}` (run {run} of {graph}, which is {status})")
                };
                let children: Vec<String> = children.iter().map(named).collect();
                write!(f, "it waits for {}", children.join(" and "))?;
                if !questions.is_empty() || !signals.is_empty() {
                    f.write_str(" and ")?;
                    waited_for(f, questions, signals)?;
                }
                if let Some(until) = until {
                    write!(f, ", and until {}", time(*until))?;
                }
                Ok(())
            }
            Self::Quarantined { node, crashes } => {
                write!(
                    f,
                    "it is paused, since {crashes} workers in a row have died at the same step"
                )?;
                if let Some(node) = node {
                    write!(f, ", the last one while `{node}` was at work")?;
                }
                f.write_str("; mend the cause and resume it")
            }
            Self::Paused { error } => {
                let text = |field: &str| {
                    let error = error.as_ref()?;
                    error[field].as_str().map(str::to_owned)
                };
                let node = text("node")
                    .map(|node| format!("{node}: "))
                    .unwrap_or_default();
                let message = text("message").unwrap_or_else(|| "nobody said why".to_owned());
                if text("kind").as_deref() == Some("paused") {
                    return write!(f, "somebody has paused it: {message}; resume it");
                }
                if text("kind").as_deref() == Some(crate::breakpoint::KIND) {
                    return write!(f, "it is paused at {message}: resume it");
                }
                write!(
                    f,
                    "it is paused: {node}{message}; mend the cause and resume it"
                )
            }
            Self::Unexplained => f.write_str(
                "no rule explains its state: this is a fault of the engine, please report it",
            ),
        }
    }
}

impl fmt::Display for HeldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused { note } => {
                f.write_str("is paused")?;
                said(f, note.as_deref())
            }
            Self::Full { max, inside } => write!(
                f,
                "allows {max} at once, and {inside} are at work or about to be"
            ),
            Self::Rate { until } => {
                write!(f, "lets the next one begin at {}", time(*until))
            }
            Self::Share { inside } => write!(
                f,
                "has its share of the line with {inside} runs, or is about to let it in"
            ),
        }
    }
}

impl fmt::Display for HeldUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} waits: {}", self.node, self.gate)?;
        match (self.is_paused, self.until, self.max) {
            (true, ..) => {
                f.write_str(" is paused")?;
                said(f, self.note.as_deref())
            }
            (_, Some(until), _) => write!(f, " has a token for it at {}", time(until)),
            (.., Some(max)) => write!(f, " allows {max} at once, and {} have a place", self.inside),
            _ => f.write_str(" is about to let it go on"),
        }
    }
}

fn said(f: &mut fmt::Formatter<'_>, note: Option<&str>) -> fmt::Result {
    note.map_or(Ok(()), |note| write!(f, ": {note}"))
}

fn waited_for(f: &mut fmt::Formatter<'_>, questions: &[String], signals: &[String]) -> fmt::Result {
    let named = |what: &str, names: &[String]| match names {
        [] => None,
        names => Some(format!("{what} {}", names.join(", "))),
    };
    let parts = [
        named("an answer to", questions),
        named("a message called", signals),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    f.write_str(&parts.join(" and "))
}

fn time(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(status: RunStatus) -> Facts {
        Facts {
            status,
            code: Some("report@1".to_owned()),
            lacks: None,
            error: None,
            is_queued: !status.is_terminal(),
            ready_at: None,
            wake_at: None,
            worker: None,
            worker_name: None,
            expires_at: None,
            is_expired: None,
            is_cancelled: false,
            capable: 1,
            ahead: 0,
            questions: Vec::new(),
            signals: Vec::new(),
            children: sqlx::types::Json(Vec::new()),
            failed_error: None,
            failed_attempt: None,
            is_held: false,
            halt: None,
            thread: None,
            behind: None,
            before: 0,
            held: None,
            graph_gate: None,
            graph_note: None,
            permits: sqlx::types::Json(Vec::new()),
        }
    }

    #[test]
    fn a_ready_run_that_nobody_can_run_is_told_from_one_in_line() {
        let ready = Facts {
            ready_at: Some(DateTime::UNIX_EPOCH),
            ..facts(RunStatus::Active)
        };
        assert!(matches!(Why::of(ready.clone()), Why::InLine { .. }));
        let alone = Facts {
            capable: 0,
            ..ready
        };
        assert!(
            Why::of(alone)
                .to_string()
                .contains("no live worker has report@1")
        );
    }

    #[test]
    fn a_state_that_no_rule_explains_is_said_to_be_one() {
        assert_eq!(Why::of(facts(RunStatus::Active)), Why::Unexplained);
        let ended = Facts {
            is_queued: true,
            ..facts(RunStatus::Completed)
        };
        assert_eq!(Why::of(ended), Why::Unexplained);
        assert!(matches!(
            Why::of(facts(RunStatus::Paused)),
            Why::Paused { .. }
        ));
    }
}
