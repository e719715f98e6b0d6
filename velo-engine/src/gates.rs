//! What a worker knows of gates: a view that its caretaker refreshes. Where it is old, the database decides.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use crate::code::graph_of;

/// The names of gates that are paused, and of those of nodes. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Gates {
    names: Arc<RwLock<BTreeSet<String>>>,
}

impl Gates {
    /// Replaces what is known.
    pub(crate) fn learn(&self, names: Vec<String>) {
        let mut known = self.names.write().unwrap_or_else(PoisonError::into_inner);
        *known = names.into_iter().collect();
    }

    /// Whether a run of this code and this queue is to stop after its step.
    pub(crate) fn stops(&self, code: &str, queue: Option<&str>) -> bool {
        let known = self.names.read().unwrap_or_else(PoisonError::into_inner);
        if known.is_empty() {
            return false;
        }
        let code = graph_of(code);
        let graph = code.split('@').next().unwrap_or(code);
        known.contains(&format!("graph/{code}"))
            || known.contains(&format!("graph/{graph}"))
            || queue.is_some_and(|queue| is_named(&known, &format!("queue/{queue}")))
    }

    /// The gate of a node, if something is said of it.
    pub(crate) fn of_node(&self, code: &str, node: &str) -> Option<String> {
        let known = self.names.read().unwrap_or_else(PoisonError::into_inner);
        if known.is_empty() {
            return None;
        }
        let gate = format!("node/{}/{node}", graph_of(code));
        is_named(&known, &gate).then_some(gate)
    }
}

/// Whether there is a gate of this name, or one for all that begin so: the same names as in `velo.gate_of`.
fn is_named(known: &BTreeSet<String>, name: &str) -> bool {
    let folder = name.rsplit_once('/').map(|(folder, _)| folder);
    let kind = name.split('/').next();
    known.contains(name)
        || folder.is_some_and(|folder| known.contains(&format!("{folder}/*")))
        || kind.is_some_and(|kind| known.contains(&format!("{kind}/*")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_by_itself_and_by_the_pattern_over_it() {
        let gates = Gates::default();
        assert!(!gates.stops("report@1", Some("tenant/acme")));
        gates.learn(vec![
            "queue/tenant/*".to_owned(),
            "node/report@1/a".to_owned(),
        ]);
        assert!(gates.stops("report@1", Some("tenant/acme")));
        assert!(!gates.stops("report@1", Some("tenant")));
        assert!(!gates.stops("report@1", None));
        assert_eq!(
            gates.of_node("report@1", "a").as_deref(),
            Some("node/report@1/a")
        );
        assert_eq!(gates.of_node("report@2", "a"), None);
        gates.learn(vec!["graph/report".to_owned()]);
        assert!(gates.stops("report@7+state2", None) && !gates.stops("reports@7", None));
    }
}
