//! Nodes: what they are called.

use std::fmt;
use std::marker::PhantomData;

/// The typed name of a node of a graph over the state `S`.
///
/// A node whose input `I` is not `()` takes a payload and is reached by `send` only; the compiler
/// refuses an edge or a `goto` to it.
pub struct NodeKey<S, I = ()> {
    name: &'static str,
    types: PhantomData<fn() -> (S, I)>,
}

impl<S, I> NodeKey<S, I> {
    /// A key, usually a constant: `const PLAN: NodeKey<Report> = NodeKey::new("plan");`.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            types: PhantomData,
        }
    }

    /// The node's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }
}

impl<S, I> Clone for NodeKey<S, I> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S, I> Copy for NodeKey<S, I> {}

impl<S, I> fmt::Debug for NodeKey<S, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({})", self.name)
    }
}
