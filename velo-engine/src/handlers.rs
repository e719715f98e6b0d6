//! What a graph answers from outside: updates, which may change the state, and queries, which do not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::NodeError;
use crate::graph::GraphBuilder;
use crate::schema::{apply_delta, mark};
use crate::state::{CodecError, State, StoredWrite, Update};
use crate::storable::{self, NotStorable};
use crate::updated::{Refusal, UpdateResult};

type Types<S, In, Out> = PhantomData<fn() -> (S, In, Out)>;

/// The name of an update, with the types of the state, of what is asked for, and of the answer.
pub struct UpdateKey<S, In = (), Out = ()> {
    name: &'static str,
    types: Types<S, In, Out>,
}

/// The name of a query, with the types of the state, of what is asked, and of the answer.
pub struct QueryKey<S, In, Out> {
    name: &'static str,
    types: Types<S, In, Out>,
}

macro_rules! key {
    ($key:ident, $example:literal) => {
        impl<S, In, Out> $key<S, In, Out> {
            /// A key, usually a constant:
            #[doc = $example]
            #[must_use]
            pub const fn new(name: &'static str) -> Self {
                Self {
                    name,
                    types: PhantomData,
                }
            }

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                self.name
            }
        }

        impl<S, In, Out> Clone for $key<S, In, Out> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<S, In, Out> Copy for $key<S, In, Out> {}

        impl<S, In, Out> fmt::Debug for $key<S, In, Out> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($key), "({})"), self.name)
            }
        }
    };
}

key!(
    UpdateKey,
    "`const REVISE: UpdateKey<Order, Patch, Quote> = UpdateKey::new(\"revise\");`"
);
key!(
    QueryKey,
    "`const TOTAL: QueryKey<Order, (), u64> = QueryKey::new(\"total\");`"
);

/// An update that was accepted, as it is stored.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) answer: Value,
    /// As a step's delta.
    pub(crate) writes: Vec<u8>,
    pub(crate) signals: Vec<(String, Value)>,
}

type OnUpdate<S> =
    Box<dyn Fn(&S, &Value) -> UpdateResult<S, Result<Value, NotStorable>> + Send + Sync>;
type OnQuery<S> = Box<dyn Fn(&S, &Value) -> Result<Value, serde_json::Error> + Send + Sync>;

/// The handlers of a graph, by name.
pub(crate) struct Handlers<S: State> {
    updates: BTreeMap<&'static str, OnUpdate<S>>,
    queries: BTreeMap<&'static str, OnQuery<S>>,
    /// Names that were given two handlers.
    pub(crate) doubled: Vec<&'static str>,
}

impl<S: State> Default for Handlers<S> {
    fn default() -> Self {
        Self {
            updates: BTreeMap::new(),
            queries: BTreeMap::new(),
            doubled: Vec::new(),
        }
    }
}

impl<S: State> Handlers<S> {
    /// Takes an update into the state and says what is stored of it; or why it is refused, and then the state is
    /// to be thrown away.
    pub(crate) fn update(
        &self,
        state: &mut S,
        name: &str,
        request: &Value,
    ) -> Result<Accepted, Refusal> {
        let Some(handler) = self.updates.get(name) else {
            return Err(Refusal::new(format!(
                "the graph has no update `{name}`: declare it with .on_update(…)"
            )));
        };
        // Handler and reducers are code of the user: a panic there is a refusal and nothing worse.
        let handled = catch_unwind(AssertUnwindSafe(|| {
            let updated = handler(state, request)?;
            let writes = kept(state, &updated.update).map_err(|error| told(&error))?;
            apply_delta(state, &writes).map_err(|error| told(&error))?;
            let signals = updated.signals.into_iter();
            let signals = signals.map(|(name, payload)| Ok((name, payload?)));
            let signals: Result<_, NotStorable> = signals.collect();
            Ok(Accepted {
                answer: updated.answer.map_err(|error| told(&error))?,
                writes,
                signals: signals.map_err(|error| told(&error))?,
            })
        }));
        handled.unwrap_or_else(|panic| {
            let error = NodeError::panic("the handler of the update", &*panic);
            Err(Refusal::new(error.to_string()))
        })
    }

    /// What a query answers; `None` when the graph has none of this name.
    pub(crate) fn query(
        &self,
        state: &S,
        name: &str,
        input: &Value,
    ) -> Option<Result<Value, serde_json::Error>> {
        Some(self.queries.get(name)?(state, input))
    }
}

fn told(error: &(dyn std::error::Error + 'static)) -> Refusal {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        reason = format!("{reason}: {cause}");
        source = cause.source();
    }
    Refusal::new(reason)
}

/// What the update writes, as a step's delta. An update is no step: a field that each step sets back keeps its
/// value, for the tasks that are to see it.
fn kept<S: State>(state: &S, update: &S::Update) -> Result<Vec<u8>, CodecError> {
    let mut delta = mark(S::VERSION);
    let begin = delta.len();
    delta.append(&mut update.encode()?);
    let rules = S::rules().into_iter();
    let ephemeral: Vec<_> = rules.filter(|rule| rule.resets_to.is_some()).collect();
    if ephemeral.is_empty() {
        return Ok(delta);
    }
    let written: BTreeSet<String> = StoredWrite::list(&delta[begin..])?
        .iter()
        .map(|write| write.field().to_owned())
        .collect();
    let encode = |source| CodecError::Encode {
        field: "*".to_owned(),
        source,
    };
    let whole = serde_json::to_vec(state).map_err(encode)?;
    let whole: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(&whole).map_err(encode)?;
    for rule in ephemeral {
        if let Some(value) = whole.get(&rule.name)
            && !written.contains(&rule.name)
        {
            let write = serde_json::to_vec(&(&rule.name, value, true)).map_err(encode)?;
            delta.pop();
            if delta.len() > begin + 1 {
                delta.push(b',');
            }
            delta.extend(write);
            delta.push(b']');
        }
    }
    Ok(delta)
}

impl<S: State> GraphBuilder<S> {
    /// Answers updates of this name: `handler` looks at the state and at what is asked for, and either refuses, or
    /// returns what is written to the state and the answer. [`Engine::update`](crate::Engine::update) asks.
    ///
    /// It runs in a worker, between two steps or while all of the run waits, and nowhere else: no node is at work
    /// that has seen an older state. What it writes is part of the state at once, and of the next step's writes,
    /// before those of its nodes. It may be called more than once for one request, so it only looks at what it is
    /// given. A panic in it refuses the update.
    ///
    /// An update leads nowhere: nodes that wait go on waiting. One that is to go on is sent what it waits for, by
    /// [`Updated::signal`](crate::Updated::signal).
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use velo_engine::{UpdateKey, prelude::*};
    ///
    /// #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// struct Order { items: u32, is_shipped: bool }
    ///
    /// const SHIP: NodeKey<Order> = NodeKey::new("ship");
    /// /// Changes the number of items, and answers with the price.
    /// const CHANGE: UpdateKey<Order, u32, u64> = UpdateKey::new("change");
    ///
    /// async fn ship(cx: Context<Order>) -> NodeResult<Order> {
    ///     let () = cx.signal("ready").await?;
    ///     Ok(Order::update().is_shipped(true).into())
    /// }
    ///
    /// let graph = Graph::builder("order", 1)
    ///     .node(SHIP, ship)
    ///     .start(SHIP)
    ///     .on_update(CHANGE, |order, items| {
    ///         if items == 0 {
    ///             return Err("an order has at least one item".into());
    ///         }
    ///         let cents = u64::from(items) * 100;
    ///         Ok((Order::update().items(items), cents).into())
    ///     })
    ///     .compile()?;
    /// # Ok::<(), velo_engine::ShapeErrors>(())
    /// ```
    #[must_use]
    pub fn on_update<In, Out>(
        mut self,
        key: UpdateKey<S, In, Out>,
        handler: impl Fn(&S, In) -> UpdateResult<S, Out> + Send + Sync + 'static,
    ) -> Self
    where
        In: DeserializeOwned,
        Out: Serialize,
    {
        let whole = move |state: &S, request: &Value| {
            let request = In::deserialize(request).map_err(|error| {
                Refusal::new(format!("what is asked for cannot be read: {error}"))
            })?;
            let updated = handler(state, request)?;
            Ok(crate::updated::Updated {
                answer: storable::to_value("answer", &updated.answer),
                update: updated.update,
                signals: updated.signals,
            })
        };
        let before = self.handlers.updates.insert(key.name, Box::new(whole));
        if before.is_some() {
            self.handlers.doubled.push(key.name);
        }
        self
    }

    /// Answers queries of this name from the state of a run, and changes nothing.
    /// [`Engine::query`](crate::Engine::query) asks, also of runs that have ended.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// use velo_engine::{QueryKey, prelude::*};
    /// # #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// # struct Order { items: u32 }
    /// # const SHIP: NodeKey<Order> = NodeKey::new("ship");
    ///
    /// /// The price at so many cents an item.
    /// const PRICE: QueryKey<Order, u64, u64> = QueryKey::new("price");
    ///
    /// let graph = Graph::builder("order", 1)
    ///     .node(SHIP, async |_: Context<Order>| Ok(Next::none()))
    ///     .start(SHIP)
    ///     .on_query(PRICE, |order, cents| u64::from(order.items) * cents)
    ///     .compile()?;
    /// # Ok::<(), velo_engine::ShapeErrors>(())
    /// ```
    #[must_use]
    pub fn on_query<In, Out>(
        mut self,
        key: QueryKey<S, In, Out>,
        handler: impl Fn(&S, In) -> Out + Send + Sync + 'static,
    ) -> Self
    where
        In: DeserializeOwned,
        Out: Serialize,
    {
        let whole = move |state: &S, input: &Value| {
            serde_json::to_value(handler(state, In::deserialize(input)?))
        };
        let before = self.handlers.queries.insert(key.name, Box::new(whole));
        if before.is_some() {
            self.handlers.doubled.push(key.name);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::State;
    use crate::graph::Graph;
    use crate::schema::encode_state;

    #[derive(State, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
    struct Desk {
        open: u32,
        #[state(append)]
        notes: Vec<String>,
        #[state(ephemeral)]
        hint: String,
    }

    const OPEN: UpdateKey<Desk, u32, u32> = UpdateKey::new("open");
    const HINT: UpdateKey<Desk, String> = UpdateKey::new("hint");
    const ODD: UpdateKey<Desk> = UpdateKey::new("odd");

    fn handlers() -> Handlers<Desk> {
        let builder = Graph::builder("desk", 1)
            .on_update(OPEN, |desk: &Desk, more| {
                if more > 9 {
                    return Err(Refusal::new("too many").details(json!(9 - desk.open)));
                }
                let open = desk.open + more;
                let update = Desk::update().open(open).notes(vec![format!("+{more}")]);
                Ok((update, open).into())
            })
            .on_update(HINT, |_, hint| Ok((Desk::update().hint(hint), ()).into()))
            .on_update(ODD, |_, ()| {
                let update = Desk::update().open(1_u32).open(2_u32);
                Ok((update, ()).into())
            });
        builder.handlers
    }

    fn desk() -> Desk {
        Desk {
            open: 1,
            notes: vec!["a".to_owned()],
            hint: "here".to_owned(),
        }
    }

    #[test]
    fn what_is_stored_of_an_update_gives_the_state_that_it_has_left() {
        let (before, mut after) = (desk(), desk());
        let accepted = handlers().update(&mut after, "open", &json!(2)).unwrap();
        assert_eq!(accepted.answer, json!(3));
        let whole = encode_state(&before).unwrap();
        let written = crate::Written::new(&whole, [accepted.writes.as_slice()]);
        assert_eq!(written.restore::<Desk>().unwrap(), after);
        assert_eq!((after.open, after.notes.len()), (3, 2));
        assert_eq!(after.hint, "here", "an update sets nothing back");
        handlers()
            .update(&mut after, "hint", &json!("there"))
            .unwrap();
        assert_eq!(after.hint, "there");
    }

    #[test]
    fn a_refusal_tells_why() {
        let update = |name: &str, request| handlers().update(&mut desk(), name, &request);
        let refused = update("open", json!(10)).unwrap_err();
        assert_eq!(
            (refused.reason.as_str(), refused.details),
            ("too many", json!(8))
        );
        for (name, request, why) in [
            ("open", json!("x"), "cannot be read"),
            ("close", json!(1), "no update `close`"),
            ("odd", json!(null), "more than once"),
        ] {
            let refused = update(name, request).unwrap_err();
            assert!(refused.reason.contains(why), "{refused}");
        }
    }
}
