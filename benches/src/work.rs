//! The common work: a state of about 1 KB to which each of ten steps adds one item.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use velo_engine::prelude::*;

use crate::Outcome;

/// Steps of a run.
pub(crate) const STEPS: usize = 10;
/// Bytes that the state has from its start.
const NOTE: usize = 900;
/// After this long without an end, the engine is broken and not slow.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a run works on.
#[derive(State, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Work {
    id: i64,
    note: String,
    #[state(append)]
    items: Vec<String>,
}

impl Work {
    pub(crate) fn begin(id: i64) -> Self {
        Self {
            id,
            note: "x".repeat(NOTE),
            items: Vec::new(),
        }
    }

    /// As it must be after all steps.
    pub(crate) fn done(id: i64) -> Self {
        Self {
            items: (0..STEPS).map(|step| item(step, id)).collect(),
            ..Self::begin(id)
        }
    }
}

fn item(step: usize, id: i64) -> String {
    format!("step-{step}-{id}")
}

/// What a step writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writes {
    /// The new item.
    Item,
    /// The whole state with it, as engines do that know no partial updates.
    Whole,
}

/// Is told of each step as its node begins.
pub(crate) trait Watch: Send + Sync + 'static {
    fn begins(&self, id: i64, step: usize, fence: i64);
}

impl Watch for () {
    fn begins(&self, _: i64, _: usize, _: i64) {}
}

/// A chain of [`STEPS`] nodes.
pub(crate) fn chain<W: Watch>(
    writes: Writes,
    ended: &Ended,
    watch: &Arc<W>,
) -> Outcome<Graph<Work>> {
    const KEYS: [NodeKey<Work>; STEPS] = [
        NodeKey::new("step0"),
        NodeKey::new("step1"),
        NodeKey::new("step2"),
        NodeKey::new("step3"),
        NodeKey::new("step4"),
        NodeKey::new("step5"),
        NodeKey::new("step6"),
        NodeKey::new("step7"),
        NodeKey::new("step8"),
        NodeKey::new("step9"),
    ];
    let mut builder = Graph::builder("chain", 1).start(KEYS[0]);
    for (step, key) in KEYS.into_iter().enumerate() {
        let (ended, watch) = (ended.clone(), Arc::clone(watch));
        let node = move |cx: Context<Work>| {
            let (ended, watch) = (ended.clone(), Arc::clone(&watch));
            async move {
                watch.begins(cx.state().id, step, cx.fence());
                if step + 1 == STEPS {
                    ended.one();
                }
                Ok(written(writes, cx.state(), step).into())
            }
        };
        builder = builder.node(key, node);
    }
    for two in KEYS.windows(2) {
        builder = builder.edge(two[0], two[1]);
    }
    Ok(builder.compile()?)
}

fn written(writes: Writes, state: &Work, step: usize) -> WorkUpdate {
    let new = item(step, state.id);
    match writes {
        Writes::Item => Work::update().items(vec![new]),
        Writes::Whole => {
            let mut items = state.items.clone();
            items.push(new);
            Work::update()
                .id(state.id)
                .note(state.note.clone())
                .items(Overwrite(items))
        }
    }
}

/// Counts runs whose last node has begun, so that nobody asks the database while it is measured.
#[derive(Debug, Clone)]
pub(crate) struct Ended(Arc<Semaphore>);

impl Default for Ended {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }
}

impl Ended {
    pub(crate) fn one(&self) {
        self.0.add_permits(1);
    }

    /// Waits for this many more.
    pub(crate) async fn wait(&self, runs: usize) -> Outcome {
        let all = self.0.acquire_many(u32::try_from(runs)?);
        tokio::time::timeout(PATIENCE, all)
            .await
            .map_err(|_| format!("{runs} runs did not come to their end in {PATIENCE:?}"))??
            .forget();
        Ok(())
    }
}

/// When the steps of the run that is under way began.
#[derive(Debug, Default)]
pub(crate) struct Times(std::sync::Mutex<Vec<Instant>>);

impl Times {
    pub(crate) fn take(&self) -> Vec<Instant> {
        std::mem::take(
            &mut *self
                .0
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }
}

impl Watch for Times {
    fn begins(&self, _: i64, _: usize, _: i64) {
        let now = Instant::now();
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(now);
    }
}
