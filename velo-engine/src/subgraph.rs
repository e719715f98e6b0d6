//! Graphs as nodes of other graphs.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::graph::{Graph, GraphBuilder};
use crate::next::Next;
use crate::node::NodeKey;
use crate::state::State;

impl<S: State> GraphBuilder<S> {
    /// Adds a node whose work is a run of `graph`: `into` makes the state that it begins with, and `back`
    /// what the node returns for the state that it ended with, an update or a [`Next`] that decides where
    /// this run goes.
    ///
    /// The run is a [child](Context::child) of its own, with a state type of its own, and begins anew each
    /// time the node is reached. Both functions may be called again and only look at what they are given.
    /// The node's own steps are not repeated by a failure below: the child is paused, and this run waits.
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use velo_engine::prelude::*;
    ///
    /// #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// struct Essay { topic: String, text: String }
    ///
    /// #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// struct Book { topic: String, text: String }
    ///
    /// const DRAFT: NodeKey<Essay> = NodeKey::new("draft");
    /// const ESSAY: NodeKey<Book> = NodeKey::new("essay");
    /// const PRINT: NodeKey<Book> = NodeKey::new("print");
    ///
    /// async fn draft(cx: Context<Essay>) -> NodeResult<Essay> {
    ///     Ok(Essay::update().text(format!("about {}", cx.state().topic)).into())
    /// }
    ///
    /// let essay = Graph::builder("essay", 1).node(DRAFT, draft).start(DRAFT).compile()?;
    /// let book = Graph::builder("book", 1)
    ///     .subgraph(
    ///         ESSAY,
    ///         &essay,
    ///         |cx| Essay { topic: cx.state().topic.clone(), ..Essay::default() },
    ///         |essay| match essay.text.as_str() {
    ///             "" => Next::end(),
    ///             _ => Book::update().text(essay.text).goto(PRINT),
    ///         },
    ///     )
    ///     .node(PRINT, async |_: Context<Book>| Ok(Next::none()))
    ///     .start(ESSAY)
    ///     .may_go(ESSAY, PRINT)
    ///     .compile()?;
    /// # Ok::<(), velo_engine::ShapeErrors>(())
    /// ```
    #[must_use]
    pub fn subgraph<I, C, R>(
        self,
        key: NodeKey<S, I>,
        graph: &Graph<C>,
        into: impl Fn(&Context<S, I>) -> C + Send + Sync + 'static,
        back: impl Fn(C) -> R + Send + Sync + 'static,
    ) -> Self
    where
        I: DeserializeOwned + Send + Sync + 'static,
        C: State,
        R: Into<Next<S>>,
    {
        let (child, name) = (graph.clone(), key.name());
        let mapped = Arc::new((into, back));
        self.child(graph).node(key, move |cx: Context<S, I>| {
            let (child, mapped) = (child.clone(), Arc::clone(&mapped));
            async move {
                let (into, back) = &*mapped;
                let ended = cx.child(name, &child, into(&cx)).await?;
                Ok(back(ended).into())
            }
        })
    }

    /// As [`subgraph`](Self::subgraph), with a memory: `into` is also given the state that the node's
    /// last run of `graph` ended with, in this run; none the first time. Tasks side by side in one step
    /// each see what earlier steps left.
    #[must_use]
    pub fn stateful_subgraph<I, C, R>(
        self,
        key: NodeKey<S, I>,
        graph: &Graph<C>,
        into: impl Fn(&Context<S, I>, Option<C>) -> C + Send + Sync + 'static,
        back: impl Fn(C) -> R + Send + Sync + 'static,
    ) -> Self
    where
        I: DeserializeOwned + Send + Sync + 'static,
        C: State,
        R: Into<Next<S>>,
    {
        let (child, name) = (graph.clone(), key.name());
        let mapped = Arc::new((into, back));
        self.child(graph).node(key, move |cx: Context<S, I>| {
            let (child, mapped) = (child.clone(), Arc::clone(&mapped));
            async move {
                let (into, back) = &*mapped;
                let last = cx.last_child::<C>(name).await?;
                let ended = cx.child(name, &child, into(&cx, last)).await?;
                Ok(back(ended).into())
            }
        })
    }
}
