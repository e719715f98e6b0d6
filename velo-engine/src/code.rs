//! What a worker must have to run a run, as the queue names it: a graph, a version of its state, and
//! sometimes one thing more.
//!
//! For those who write worker loops; `velo-worker` is one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

use crate::shape::{JoinRule, Shape};
use crate::state::State;
use crate::store;

/// Most marked places of the queue that one look finds; more are found when these are gone.
const WANTED_MAX: i64 = 256;

/// What stands between a graph's version and that of its state.
const STATE: &str = "+state";

/// The code of runs whose state is in this version; that of the first one is the graph's name and version
/// alone.
pub(crate) fn with_state(graph: &str, version: u32) -> String {
    match version {
        1 => graph.to_owned(),
        version => format!("{graph}{STATE}{version}"),
    }
}

/// The graph's name and version in a code.
#[must_use]
pub fn graph_of(code: &str) -> &str {
    let Some(at) = code.rfind('@') else {
        return code;
    };
    let digits = code[at + 1..].bytes().take_while(u8::is_ascii_digit);
    &code[..=at + digits.count()]
}

/// One thing that a run needs beside a version of its graph, since a worker that had the graph did not
/// have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Need {
    /// A node.
    Node(String),
    /// The very shape, since its joins have begun to wait.
    Shape(Uuid),
    /// Code that reads this version of the state.
    Reads(u32),
    /// Code that has this version of the state, to end the step under way.
    Writes(u32),
}

impl Need {
    /// The code of a run of this graph and version that has the need.
    pub(crate) fn code(&self, graph: &str) -> String {
        let need = match self {
            Self::Node(node) => format!("node:{node}"),
            Self::Shape(fingerprint) => format!("shape:{fingerprint}"),
            Self::Reads(version) => format!("reads:{version}"),
            Self::Writes(version) => format!("writes:{version}"),
        };
        format!("{graph}!{need}")
    }

    /// The need that a code names after its graph and version.
    pub(crate) fn of(code: &str) -> Option<Self> {
        let (_, need) = code.rsplit_once('!')?;
        let (kind, value) = need.split_once(':')?;
        match kind {
            "node" => Some(Self::Node(value.to_owned())),
            "shape" => Uuid::from_str(value).ok().map(Self::Shape),
            "reads" => value.parse().ok().map(Self::Reads),
            "writes" => value.parse().ok().map(Self::Writes),
            _ => None,
        }
    }
}

/// As in "the worker lacks …".
impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => write!(f, "the node `{node}`"),
            Self::Shape(_) => f.write_str("the joins that have begun to wait"),
            Self::Reads(version) => write!(f, "what reads version {version} of the state"),
            Self::Writes(version) => write!(
                f,
                "version {version} of the state, with which tasks of the step under way have finished"
            ),
        }
    }
}

/// What is kept of a graph's shape, to compare it with a later one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    pub(crate) fingerprint: Uuid,
    pub(crate) joins: Vec<JoinForm>,
}

/// A join, as a later shape is compared with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JoinForm {
    target: String,
    sources: Vec<String>,
    /// How many of the sources open it; all of them when it does not say.
    needs: Option<usize>,
}

impl Form {
    pub(crate) fn of<S: State>(shape: &Shape<S>, fingerprint: Uuid) -> Self {
        let joins = shape.joins().iter().map(|join| JoinForm {
            target: join.target.to_owned(),
            sources: join
                .sources
                .iter()
                .map(|source| (*source).to_owned())
                .collect(),
            needs: match join.rule {
                JoinRule::All => None,
                JoinRule::Some(needs) => Some(needs),
            },
        });
        Self {
            fingerprint,
            joins: joins.collect(),
        }
    }
}

/// Keeps what the shapes of these graphs are, so that later ones can be compared with them.
///
/// # Errors
/// The database's.
///
/// # Cancel safety
/// Call it again: what is there stays.
pub async fn keep(pool: &PgPool, forms: &[Form]) -> Result<(), sqlx::Error> {
    for form in forms {
        let joins = serde_json::to_value(&form.joins).unwrap_or(Value::Null);
        store::code::keep(pool, form.fingerprint, &joins).await?;
    }
    Ok(())
}

/// The codes of ready runs that need something a worker with their graph did not have.
///
/// # Errors
/// The database's.
///
/// # Cancel safety
/// Reads only.
pub async fn wanted(pool: &PgPool) -> Result<Vec<String>, sqlx::Error> {
    store::code::wanted(pool, WANTED_MAX).await
}

/// Of these codes, those that live runs have, and how many: what a worker asks that reads none of them.
///
/// # Errors
/// The database's.
///
/// # Cancel safety
/// Reads only.
pub async fn live(pool: &PgPool, codes: &[String]) -> Result<Vec<(String, i64)>, sqlx::Error> {
    if codes.is_empty() {
        return Ok(Vec::new());
    }
    store::code::live(pool, codes).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_names_the_graph_and_what_a_run_needs_beside() {
        let shape = Uuid::from_u128(7);
        let needs = [
            Need::Node("publish".to_owned()),
            Need::Shape(shape),
            Need::Reads(2),
            Need::Writes(3),
        ];
        for need in needs {
            let code = need.code("a@b!c@12");
            assert_eq!(graph_of(&code), "a@b!c@12");
            assert_eq!(Need::of(&code), Some(need));
        }
        assert_eq!(with_state("report@1", 1), "report@1");
        assert_eq!(graph_of(&with_state("report@1", 4)), "report@1");
        assert_eq!(Need::of("report@1+state4"), None);
    }
}
