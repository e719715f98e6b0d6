//! Nodes and their typed names.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;

use async_trait::async_trait;

use crate::context::Context;
use crate::error::NodeResult;
use crate::state::State;

/// The name of a node, with the types of the state that it works on and of the payload that it takes.
///
/// A node without a payload can be reached by an edge, a `goto` or a join; one with a payload only
/// by a send. That is checked by the compiler: edges take `NodeKey<S>`, sends take `NodeKey<S, I>`
/// and a matching `I`.
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

/// The work of a node: an `async fn(Context<S, I>) -> NodeResult<S>`, or a type that owns what the
/// work needs.
///
/// It may run more than once, since a process may die before its result is committed. What must not
/// happen twice belongs into [`Context::step`] or [`Context::tx`].
///
/// A closure will do as well, `async |cx: Context<Report>| …`. One that uses what is around it is called
/// more than once, so it clones that for each call: `move |cx| { let client = client.clone(); async move
/// { … } }`.
///
/// ```
/// use async_trait::async_trait;
/// use serde::{Deserialize, Serialize};
/// use velo_engine::prelude::*;
///
/// #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
/// struct Report { topic: String, #[state(append)] drafts: Vec<String> }
///
/// struct Write { style: String }
///
/// #[async_trait]
/// impl Node<Report, String> for Write {
///     async fn run(&self, cx: Context<Report, String>) -> NodeResult<Report> {
///         let draft = format!("{} about {}, {}", self.style, cx.state().topic, cx.input());
///         Ok(Report::update().drafts(vec![draft]).into())
///     }
/// }
/// ```
#[async_trait]
pub trait Node<S: State, I = ()>: Send + Sync + 'static {
    /// Does the work once.
    ///
    /// # Errors
    /// A [`NodeError`](crate::NodeError), which says whether the work is tried again.
    ///
    /// # Cancel safety
    /// The future is dropped when the lease is lost or the run is cancelled; nothing that it wrote
    /// through its context is committed then.
    async fn run(&self, cx: Context<S, I>) -> NodeResult<S>;
}

#[async_trait]
impl<S, I, F, Fut> Node<S, I> for F
where
    S: State,
    I: Send + Sync + 'static,
    F: Fn(Context<S, I>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = NodeResult<S>> + Send + 'static,
{
    async fn run(&self, cx: Context<S, I>) -> NodeResult<S> {
        self(cx).await
    }
}
