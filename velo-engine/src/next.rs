//! What a node returns: what it writes, and where the run goes.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::node::NodeKey;
use crate::state::{State, Update};
use crate::storable;

/// The outcome of a node: updates of the state and, if any, an explicit route.
///
/// An explicit route replaces the node's static edges. Each target of one is declared with
/// [`may_go`](crate::GraphBuilder::may_go); a run that takes another way is paused.
#[derive(Debug, Clone)]
pub struct Next<S: State> {
    pub(crate) updates: Vec<S::Update>,
    pub(crate) route: Route,
    /// What is to take back what was done, if the run turns back.
    pub(crate) compensations: Vec<(&'static str, Sent)>,
}

/// Where a run goes after a node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Route {
    /// Along the node's edges.
    Edges,
    /// To these nodes, instead of along the edges; to none, when the list is empty.
    To(Vec<Target>),
    /// Back, over what was registered.
    Unwind(Back),
}

/// How a run turns back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Back {
    /// Where it goes in the end.
    pub(crate) then: Option<&'static str>,
    /// An explicit route beside that, which cannot be taken.
    pub(crate) beside: Option<&'static str>,
}

/// One target of an explicit route.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Target {
    Goto(&'static str),
    Send(&'static str, Sent),
}

/// What is sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sent {
    /// The payload, or why it has no JSON form.
    pub(crate) input: Result<Value, String>,
    /// How long an attempt of the task may take, in place of what the graph says.
    pub(crate) within: Option<Duration>,
}

impl Target {
    /// The node that it leads to.
    pub(crate) fn node(&self) -> &'static str {
        match self {
            Self::Goto(node) | Self::Send(node, _) => node,
        }
    }
}

impl Back {
    fn beside(self, target: Option<&Target>) -> Self {
        Self {
            beside: self.beside.or_else(|| target.map(Target::node)),
            ..self
        }
    }
}

impl<S: State> Next<S> {
    /// Writes nothing and follows the edges.
    #[must_use]
    pub fn none() -> Self {
        Self {
            updates: Vec::new(),
            route: Route::Edges,
            compensations: Vec::new(),
        }
    }

    /// Writes nothing and goes nowhere: this branch of the run ends.
    #[must_use]
    pub fn end() -> Self {
        Self {
            updates: Vec::new(),
            route: Route::To(Vec::new()),
            compensations: Vec::new(),
        }
    }

    /// Writes nothing and goes to `node`.
    #[must_use]
    pub fn goto(node: NodeKey<S>) -> Self {
        Self::end().and_goto(node)
    }

    /// Writes nothing and starts one task of `node` with its own `input`.
    #[must_use]
    pub fn send<I: Serialize>(node: NodeKey<S, I>, input: I) -> Self {
        Self::end().and_send(node, input)
    }

    /// As [`send`](Self::send), and an attempt of the task may take `time`, whatever the node's
    /// [`start_to_close`](crate::TimeLimit::start_to_close) says; its other limits hold as they are. The time is stored
    /// with the task, in whole milliseconds: it holds for each attempt, in whatever worker, and in forks.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use serde::{Deserialize, Serialize};
    /// # use velo_engine::prelude::*;
    /// # #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// # struct Pages { urls: Vec<String> }
    /// const FETCH: NodeKey<Pages, String> = NodeKey::new("fetch");
    ///
    /// async fn plan(cx: Context<Pages>) -> NodeResult<Pages> {
    ///     let sends = cx.state().urls.iter().map(|url| {
    ///         let patience = if url.ends_with(".pdf") { 120 } else { 10 };
    ///         Next::send_within(FETCH, url.clone(), Duration::from_secs(patience))
    ///     });
    ///     Ok(sends.collect())
    /// }
    /// ```
    #[must_use]
    pub fn send_within<I: Serialize>(node: NodeKey<S, I>, input: I, time: Duration) -> Self {
        Self::end().and_send_within(node, input, time)
    }

    /// Writes nothing and starts one task of `node` for each input; with no input at all, this branch
    /// of the run ends. The tasks run side by side. What `node` has an edge to begins once, when all of
    /// them have finished.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use velo_engine::prelude::*;
    /// # #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// # struct Order { items: Vec<String>, receipt: String }
    /// const PACK: NodeKey<Order, String> = NodeKey::new("pack");
    ///
    /// async fn charge(cx: Context<Order>) -> NodeResult<Order> {
    ///     let paid = Order::update().receipt("r-1");
    ///     Ok(Next::send_all(PACK, cx.state().items.clone()).and_update(paid))
    /// }
    /// ```
    #[must_use]
    pub fn send_all<I: Serialize>(
        node: NodeKey<S, I>,
        inputs: impl IntoIterator<Item = I>,
    ) -> Self {
        inputs
            .into_iter()
            .fold(Self::end(), |next, input| next.and_send(node, input))
    }

    /// Also goes to `node`.
    #[must_use]
    pub fn and_goto(self, node: NodeKey<S>) -> Self {
        self.and(Target::Goto(node.name()))
    }

    /// Also starts one task of `node` with its own `input`.
    #[must_use]
    pub fn and_send<I: Serialize>(self, node: NodeKey<S, I>, input: I) -> Self {
        self.and_sent(node, &input, None)
    }

    /// Also starts one task of `node` with its own `input`, each attempt of which may take `time`; see
    /// [`send_within`](Self::send_within).
    #[must_use]
    pub fn and_send_within<I: Serialize>(
        self,
        node: NodeKey<S, I>,
        input: I,
        time: Duration,
    ) -> Self {
        self.and_sent(node, &input, Some(time))
    }

    fn and_sent<I: Serialize>(
        self,
        node: NodeKey<S, I>,
        input: &I,
        within: Option<Duration>,
    ) -> Self {
        let input = storable::to_value("payload", input).map_err(|error| error.to_string());
        self.and(Target::Send(node.name(), Sent { input, within }))
    }

    /// Writes nothing and turns back: what [`and_compensation`](Self::and_compensation) has registered runs, the last
    /// first, each in a step of its own; then the run ends. Whatever else is under way is left where it is: branches
    /// beside this one, deferred nodes, joins that wait.
    ///
    /// The way back is as durable as the way there: each of its steps is committed with what is left of it, and is
    /// tried again, and paused when it fails for good, like any other. Its tasks have no way of their own: not even
    /// their edges are followed, and an explicit route, there or beside this one, pauses the run. A run that is cancelled does not turn back.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use velo_engine::NodeFailure;
    /// # use velo_engine::prelude::*;
    /// # #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// # struct Trip { why: Option<String> }
    /// # async fn book_hotel() -> Result<u64, NodeError> { Ok(7) }
    /// const CANCEL_HOTEL: NodeKey<Trip, u64> = NodeKey::new("cancel_hotel");
    ///
    /// async fn hotel(cx: Context<Trip>) -> NodeResult<Trip> {
    ///     let booking = cx.step("book", |_| book_hotel()).await?;
    ///     Ok(Next::none().and_compensation(CANCEL_HOTEL, booking))
    /// }
    ///
    /// // A handler of whatever fails for good later on.
    /// async fn give_up(cx: Context<Trip, NodeFailure>) -> NodeResult<Trip> {
    ///     let why = Trip::update().why(Some(cx.input().error.to_string()));
    ///     Ok(Next::unwind().and_update(why))
    /// }
    /// ```
    #[must_use]
    pub fn unwind() -> Self {
        Self {
            route: Route::Unwind(Back::default()),
            ..Self::none()
        }
    }

    /// As [`unwind`](Self::unwind), and at the end of the way back the run goes to `node`, as declared with
    /// [`may_go`](crate::GraphBuilder::may_go).
    #[must_use]
    pub fn unwind_to(node: NodeKey<S>) -> Self {
        Self {
            route: Route::Unwind(Back {
                then: Some(node.name()),
                beside: None,
            }),
            ..Self::none()
        }
    }

    /// Also registers, in the commit of this step, what takes back what it did: if the run
    /// [turns back](Self::unwind), `node` runs with this `input`. Declare it with
    /// [`may_go`](crate::GraphBuilder::may_go).
    ///
    /// All that a run has registered is stored with each of its steps: keep inputs small, such as the number of a
    /// booking.
    #[must_use]
    pub fn and_compensation<I: Serialize>(mut self, node: NodeKey<S, I>, input: I) -> Self {
        let input = storable::to_value("payload", &input).map_err(|error| error.to_string());
        let sent = Sent {
            input,
            within: None,
        };
        self.compensations.push((node.name(), sent));
        self
    }

    /// Also writes `update`, after what is written already.
    #[must_use]
    pub fn and_update(mut self, update: S::Update) -> Self {
        self.updates.push(update);
        self
    }

    /// Also does what `later` does, after what is there already: for a node that returns several
    /// outcomes. Explicit routes add up; edges are followed only when neither has one.
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use velo_engine::prelude::*;
    ///
    /// #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// struct Log { #[state(append)] lines: Vec<String> }
    ///
    /// let line = |text: &str| Next::from(Log::update().lines(vec![text.to_owned()]));
    /// let both = line("a1").then(line("a2"));
    /// let also: Next<Log> = [line("a1"), line("a2")].into_iter().collect();
    /// # assert_eq!(format!("{both:?}"), format!("{also:?}"));
    /// ```
    #[must_use]
    pub fn then(mut self, later: Self) -> Self {
        self.updates.extend(later.updates);
        self.compensations.extend(later.compensations);
        self.route = match (self.route, later.route) {
            (Route::To(mut targets), Route::To(more)) => {
                targets.extend(more);
                Route::To(targets)
            }
            (Route::Unwind(back), Route::To(targets))
            | (Route::To(targets), Route::Unwind(back)) => {
                Route::Unwind(back.beside(targets.first()))
            }
            (Route::Unwind(back), Route::Unwind(other)) => Route::Unwind(Back {
                then: back.then.or(other.then),
                beside: back.beside.or(other.beside),
            }),
            (Route::Edges, route) | (route, Route::Edges) => route,
        };
        self
    }

    fn and(mut self, target: Target) -> Self {
        match &mut self.route {
            Route::To(targets) => targets.push(target),
            Route::Edges => self.route = Route::To(vec![target]),
            Route::Unwind(back) => *back = back.beside(Some(&target)),
        }
        self
    }
}

impl<S: State, U: Update<State = S>> From<U> for Next<S>
where
    S: State<Update = U>,
{
    fn from(update: U) -> Self {
        Self::none().and_update(update)
    }
}

/// All of them in order, as by [`Next::then`].
impl<S: State> FromIterator<Self> for Next<S> {
    fn from_iter<T: IntoIterator<Item = Self>>(outcomes: T) -> Self {
        outcomes.into_iter().fold(Self::none(), Self::then)
    }
}

/// Routing that starts from an update: `Report::update().approved(true).goto(PUBLISH)`.
pub trait UpdateRoute: Update {
    /// Writes this update and goes to `node`.
    #[must_use]
    fn goto(self, node: NodeKey<Self::State>) -> Next<Self::State> {
        Next::goto(node).and_update(self)
    }

    /// Writes this update and starts one task of `node` with its own `input`.
    #[must_use]
    fn send<I: Serialize>(self, node: NodeKey<Self::State, I>, input: I) -> Next<Self::State> {
        Next::send(node, input).and_update(self)
    }

    /// Writes this update and ends this branch of the run.
    #[must_use]
    fn end(self) -> Next<Self::State> {
        Next::end().and_update(self)
    }
}

impl<U: Update> UpdateRoute for U {}
