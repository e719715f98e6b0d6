//! Flow control: what the fleet as a whole is allowed to do at once, how fast, and what is paused.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, EngineError, PAGE_MAX};
use crate::store;

pub use crate::store::gate::GateInfo;

/// Something that can be limited and paused, for the whole fleet and while it runs.
///
/// A name that ends in `/*` is for all that begin so and have no gate of their own, each for itself:
/// with `queue/tenant/*` at four, every tenant has four.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Gate {
    /// The runs that were [started into](crate::Start::queue) the queue of this name. A limit counts runs
    /// that a worker has or is about to take, and not those that wait for something; a rate counts
    /// runs that begin.
    Queue(String),
    /// The nodes that ask for the limit of this name by [`Context::limit`](crate::Context::limit).
    Limit(String),
    /// A node, whether or not its code asks for anything.
    Node {
        /// Name and version of the graph, such as `report@1`.
        graph: String,
        /// The node.
        node: String,
    },
    /// The runs of a graph: `report@1`, or `report` for all its versions. They can be paused, and not
    /// limited: a queue is for that.
    Graph(String),
}

impl Gate {
    /// The gate of a queue.
    #[must_use]
    pub fn queue(name: impl Into<String>) -> Self {
        Self::Queue(name.into())
    }

    /// The gate of a limit.
    #[must_use]
    pub fn limit(name: impl Into<String>) -> Self {
        Self::Limit(name.into())
    }

    /// The gate of a node of a graph such as `report@1`.
    #[must_use]
    pub fn node(graph: impl Into<String>, node: impl Into<String>) -> Self {
        Self::Node {
            graph: graph.into(),
            node: node.into(),
        }
    }

    /// The gate of a graph such as `report@1`, or `report` for all its versions.
    #[must_use]
    pub fn graph(name: impl Into<String>) -> Self {
        Self::Graph(name.into())
    }
}

/// As it is stored and typed: `queue/NAME`, `limit/NAME`, `node/GRAPH@VERSION/NAME`, `graph/NAME`.
impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(name) => write!(f, "queue/{name}"),
            Self::Limit(name) => write!(f, "limit/{name}"),
            Self::Node { graph, node } => write!(f, "node/{graph}/{node}"),
            Self::Graph(name) => write!(f, "graph/{name}"),
        }
    }
}

/// Text that names no [`Gate`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no gate: write queue/NAME, limit/NAME, node/GRAPH@VERSION/NAME or graph/NAME")]
pub struct NoGate(pub String);

impl FromStr for Gate {
    type Err = NoGate;

    fn from_str(text: &str) -> Result<Self, NoGate> {
        let no_gate = || NoGate(text.to_owned());
        let (kind, name) = text.split_once('/').ok_or_else(no_gate)?;
        if name.is_empty() || name.contains('\0') {
            return Err(no_gate());
        }
        match kind {
            "queue" => Ok(Self::queue(name)),
            "limit" => Ok(Self::limit(name)),
            "graph" => Ok(Self::graph(name)),
            "node" => match name.split_once('/') {
                Some((graph, node)) if !graph.is_empty() && !node.is_empty() => {
                    Ok(Self::node(graph, node))
                }
                _ => Err(no_gate()),
            },
            _ => Err(no_gate()),
        }
    }
}

/// So many in so long: a bucket of `burst` tokens that fills by `count` in `per`, on the database's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In how long; milliseconds count.
    pub per: Duration,
    /// How many at once after a rest.
    pub burst: u32,
}

impl Rate {
    /// `count` in `per`, evenly spaced.
    #[must_use]
    pub fn new(count: u32, per: Duration) -> Self {
        Self {
            count,
            per,
            burst: 1,
        }
    }

    /// Lets up to `burst` come at once after a rest.
    #[must_use]
    pub fn burst(self, burst: u32) -> Self {
        Self { burst, ..self }
    }
}

/// What a [`Gate`] allows. Without anything set, all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Allowance {
    /// How many at once, in the whole fleet.
    pub max: Option<u32>,
    /// How many in a time.
    pub rate: Option<Rate>,
    /// A queue's share of the workers when other queues want them too, one unless told otherwise; up to
    /// a thousand.
    pub weight: Option<u16>,
}

impl Allowance {
    /// At most so many at once.
    #[must_use]
    pub fn at_most(max: u32) -> Self {
        Self {
            max: Some(max),
            ..Self::default()
        }
    }

    /// Also at this rate.
    #[must_use]
    pub fn rate(self, rate: Rate) -> Self {
        Self {
            rate: Some(rate),
            ..self
        }
    }

    /// Also with this weight.
    #[must_use]
    pub fn weight(self, weight: u16) -> Self {
        Self {
            weight: Some(weight),
            ..self
        }
    }
}

/// Why a gate cannot be set like this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadAllowance {
    /// A graph has neither limit nor rate.
    #[error("a graph can be paused and not limited: start its runs into a queue and limit that")]
    Graph,
    /// Only queues have weights.
    #[error("only a queue has a weight")]
    Weight,
    /// A part of the rate is zero, or too long.
    #[error("a rate has a count, a burst and a time of at least a millisecond")]
    Rate,
    /// The weight or the limit is out of range.
    #[error("a weight is between 1 and 1000, and a limit is below 2147483648")]
    Range,
}

impl Allowance {
    fn check(&self, gate: &Gate) -> Result<(), BadAllowance> {
        if matches!(gate, Gate::Graph(_)) {
            return Err(BadAllowance::Graph);
        }
        if self.weight.is_some() && !matches!(gate, Gate::Queue(_)) {
            return Err(BadAllowance::Weight);
        }
        let fits = |number: u32| i32::try_from(number).is_ok();
        if let Some(Rate { count, per, burst }) = self.rate
            && (count == 0
                || burst == 0
                || !fits(count)
                || !fits(burst)
                || per.as_millis() == 0
                || per > store::failure::LONGEST)
        {
            return Err(BadAllowance::Rate);
        }
        let is_weight = self
            .weight
            .is_none_or(|weight| (1..=1_000).contains(&weight));
        if is_weight && self.max.is_none_or(fits) {
            Ok(())
        } else {
            Err(BadAllowance::Range)
        }
    }
}

impl Engine {
    /// Limits what comes through a gate, in place of what was allowed before; whether it is paused stays as
    /// it is. In effect at once for what comes after. What is at work beyond a lower limit goes on,
    /// and nothing more begins until it is kept again.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use velo_engine::{Allowance, Engine, Gate, Rate};
    ///
    /// # async fn example(engine: &Engine) -> Result<(), velo_engine::EngineError> {
    /// // Each tenant has four runs at work; one that pays has ten, and three times the share.
    /// engine.set_gate(&Gate::queue("tenant/*"), Allowance::at_most(4)).await?;
    /// engine.set_gate(&Gate::queue("tenant/acme"), Allowance::at_most(10).weight(3)).await?;
    /// // Nodes that ask for the limit `mail` go on 60 times a minute, ten of them at once.
    /// let rate = Rate::new(60, Duration::from_secs(60)).burst(10);
    /// engine.set_gate(&Gate::limit("mail"), Allowance::default().rate(rate)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`EngineError::Allowance`] when the gate cannot be limited like this, or the database's.
    ///
    /// # Cancel safety
    /// Dropped half-way, the change is made or not; call it again.
    pub async fn set_gate(&self, gate: &Gate, allowance: Allowance) -> Result<(), EngineError> {
        allowance.check(gate).map_err(EngineError::Allowance)?;
        store::gate::set(self.pool(), &gate.to_string(), &allowance)
            .await
            .map_err(EngineError::on("set the limit"))
    }

    /// Allows everything again, and ends a pause. Returns whether there was something to remove.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Call it again: a second time does no harm.
    pub async fn remove_gate(&self, gate: &Gate) -> Result<bool, EngineError> {
        store::gate::remove(self.pool(), &gate.to_string())
            .await
            .map_err(EngineError::on("remove the limit"))
    }

    /// Lets nothing through a gate until it is [resumed](Self::resume_gate). Runs that a worker has stop
    /// after the step they are at, within a few seconds. The note is for those who ask why.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Call it again: a second time does no harm.
    pub async fn pause_gate(&self, gate: &Gate, note: Option<&str>) -> Result<(), EngineError> {
        // text has no NUL.
        let note = note.map(|note| note.replace('\0', "\u{fffd}"));
        store::gate::pause(self.pool(), &gate.to_string(), note.as_deref())
            .await
            .map_err(EngineError::on("pause the gate"))
    }

    /// Lets through again what the gate allows. Returns whether it was paused.
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Call it again: a second time does no harm.
    pub async fn resume_gate(&self, gate: &Gate) -> Result<bool, EngineError> {
        store::gate::resume(self.pool(), &gate.to_string())
            .await
            .map_err(EngineError::on("resume the gate"))
    }

    /// The gates that are limited or paused, by name, after the name `after`, and what is at them; at most
    /// `limit` and [`PAGE_MAX`].
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn gates(&self, after: &str, limit: i64) -> Result<Vec<GateInfo>, EngineError> {
        store::gate::list(self.pool(), after, limit.clamp(0, PAGE_MAX))
            .await
            .map_err(EngineError::on("list the limits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_read_back_as_it_is_written() {
        for gate in [
            Gate::queue("tenant/acme"),
            Gate::limit("mail"),
            Gate::node("report@1", "write"),
            Gate::graph("report"),
        ] {
            assert_eq!(gate.to_string().parse(), Ok(gate));
        }
        for text in ["", "queue", "queue/", "door/a", "node/report@1", "node//a"] {
            assert_eq!(text.parse::<Gate>(), Err(NoGate(text.to_owned())));
        }
    }

    #[test]
    fn what_a_gate_cannot_keep_is_refused() {
        let rate = Allowance::default().rate(Rate::new(0, Duration::from_secs(1)));
        assert_eq!(rate.check(&Gate::limit("a")), Err(BadAllowance::Rate));
        let rate = Allowance::default().rate(Rate::new(1, Duration::from_micros(1)));
        assert_eq!(rate.check(&Gate::limit("a")), Err(BadAllowance::Rate));
        let weight = Allowance::default().weight(2);
        assert_eq!(weight.check(&Gate::limit("a")), Err(BadAllowance::Weight));
        assert_eq!(weight.check(&Gate::queue("a")), Ok(()));
        let weight = Allowance::default().weight(0);
        assert_eq!(weight.check(&Gate::queue("a")), Err(BadAllowance::Range));
        let max = Allowance::at_most(1);
        assert_eq!(max.check(&Gate::graph("a")), Err(BadAllowance::Graph));
    }
}
