//! A graph as data, for who does not have its code.

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, EngineError, PAGE_MAX};
use crate::rule::FieldRule;
use crate::store;
use crate::turn::Serve;

/// A graph as data: its nodes, the ways between them, and how its state is merged. Workers tell it to the
/// database, so that tools without the graph's code can draw it and its runs, and read their states.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outline {
    /// The graph's name.
    pub graph: String,
    /// Its version.
    pub version: u32,
    /// The nodes of the first step.
    pub starts: Vec<String>,
    /// Its nodes, by name.
    pub nodes: Vec<OutlineNode>,
    /// The ways between them.
    pub ways: Vec<Way>,
    /// The version of its state's stored form.
    pub state_version: u32,
    /// How its state is merged.
    pub fields: Vec<FieldRule>,
    /// It as a Mermaid flowchart.
    pub mermaid: String,
}

/// A node of an outline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlineNode {
    /// Its name.
    pub name: String,
    /// Whether it runs when nothing else is left to run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_deferred: bool,
    /// Most of its tasks at work at once in one run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<usize>,
}

/// A way from a node to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// Where it begins.
    pub from: String,
    /// Where it leads.
    pub to: String,
    /// When it is taken.
    pub kind: WayKind,
    /// What is written at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// When a way is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WayKind {
    /// Whenever the node has finished without choosing.
    Edge,
    /// When the node chooses it.
    Route,
    /// When the node has failed for good.
    Failure,
    /// When enough others have finished too.
    Join,
}

impl Outline {
    /// Name and version, such as `report@1`.
    #[must_use]
    pub fn code(&self) -> String {
        format!("{}@{}", self.graph, self.version)
    }
}

impl Engine {
    /// Tells the database the outline of a graph, as workers do of the graphs that they serve.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Call it again: a second time does no harm.
    pub async fn publish(&self, graph: &dyn Serve) -> Result<(), EngineError> {
        let Some(outline) = graph.outline() else {
            return Ok(());
        };
        let put = store::outline::put(self.pool(), graph.code(), &outline).await;
        put.map_err(EngineError::on("tell the graph's outline"))
    }

    /// What was last told of the graph called `code`, such as `report@1`; `None` when no worker of this
    /// version has served it yet.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn outline(&self, code: &str) -> Result<Option<Outline>, EngineError> {
        let found = store::outline::get(self.pool(), code).await;
        let found = found.map_err(EngineError::on("read the graph's outline"))?;
        // One that was told by another version and cannot be read is none.
        Ok(found.and_then(|outline| serde_json::from_value(outline).ok()))
    }

    /// The graphs of which there is an outline, by name and version, after `after`; at most `limit` and
    /// [`PAGE_MAX`].
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn outlines(&self, after: &str, limit: i64) -> Result<Vec<String>, EngineError> {
        store::outline::list(self.pool(), after, limit.clamp(0, PAGE_MAX))
            .await
            .map_err(EngineError::on("list the graphs"))
    }
}
