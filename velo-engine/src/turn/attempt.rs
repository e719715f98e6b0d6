//! One attempt of one task.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::FutureExt;
use tracing::Instrument;

use super::at_work::AtWork;
use super::parked::UntilParked;
use super::place::Place;
use super::{Turn, task_number};
use crate::context::{Memos, Scene, Seen, Voice, Waits};
use crate::error::{NodeError, NodeErrorKind, NodeResult};
use crate::observed::Happening;
use crate::state::State;
use crate::time_limit::{Pulse, TimeLimit};
use crate::trace;

/// An attempt that came to its end.
pub(super) struct Ended<S: State> {
    pub(super) index: usize,
    /// `None` when all that is left of it waits for something outside.
    pub(super) result: Option<NodeResult<S>>,
    pub(super) scene: Arc<Scene>,
    /// How long it took.
    pub(super) took: Duration,
}

impl<S: State> Turn<'_, S> {
    pub(super) fn begin(
        &self,
        place: &mut Place<S>,
        index: usize,
        running: &mut AtWork<S>,
    ) -> Result<Arc<Scene>, NodeError> {
        let task = &place.checkpoint.tasks[index];
        let number = task_number(index);
        let work = self.graph.work(&task.node).ok_or_else(|| {
            let message = format!(
                "the graph {} has no node `{}`: was it renamed while the run was under way?",
                self.graph.code(),
                task.node
            );
            NodeError::new(NodeErrorKind::Refused, message)
        })?;
        let attempt = place
            .failures
            .get(&number)
            .map_or(1, |failures| failures.counted + 1);
        let is_resumed = place
            .failures
            .get(&number)
            .is_some_and(|failures| failures.number > failures.counted.cast_signed());
        let limit = self.graph.handling().limit(&task.node);
        let limit = TimeLimit {
            start_to_close: task.within.or(limit.start_to_close),
            ..limit
        };
        let is_first = [
            place.failures.contains_key(&number),
            place.memos.contains_key(&number),
        ] == [false; 2]
            && !place.waits.contains_key(&number);
        let age = place.age();
        limit.may_begin(is_first, age)?;
        let memos = Memos {
            kept: place.memos.get(&number).cloned().unwrap_or_default(),
            ..Memos::default()
        };
        // A message is looked for among the messages: its name may be that of a question too.
        let waits = place.waits.get(&number).into_iter().flatten();
        let seen = waits.filter(|wait| wait.kind != "signal").map(|wait| {
            let seen = Seen {
                answer: wait.answer.clone(),
                is_due: wait.is_due,
                is_closed: wait.is_closed,
            };
            (wait.name.clone(), seen)
        });
        let waits = Waits {
            seen: seen.collect(),
            ..Waits::default()
        };
        let scene = Arc::new(Scene {
            pool: self.setting.pool.clone(),
            places: self.setting.places.clone(),
            vault: self.setting.vault.clone(),
            lease: self.lease,
            seq: place.seq + 1,
            task: number,
            node: task.node.clone(),
            attempt,
            is_resumed,
            cancelled: self.reach.cancelled.child_token(),
            pulse: Pulse::new(),
            steps_left: place.checkpoint.steps_left(self.graph.shape()),
            lost: self.lost.clone(),
            resources: Arc::clone(&self.setting.resources),
            observer: self.setting.observer.clone(),
            voice: Voice::new(&self.setting.pieces),
            memos: Mutex::new(memos),
            transaction: tokio::sync::Mutex::default(),
            emitted: Mutex::default(),
            items: Mutex::default(),
            waits: Mutex::new(waits),
            permits: Mutex::default(),
            asked: Arc::clone(&self.asked),
            signals: Arc::clone(&place.signals),
            has_family: Arc::clone(&self.has_family),
        });
        let node = work.begin(
            Arc::clone(&scene),
            Arc::clone(&place.checkpoint),
            task.input.as_ref(),
        );
        let node = match self.setting.gates.of_node(self.graph.code(), &task.node) {
            None => node,
            Some(gate) => {
                let scene = Arc::clone(&scene);
                async move {
                    scene.pass(gate).await?;
                    node.await
                }
                .boxed()
            }
        };
        let span = tracing::info_span!(
            trace::NODE,
            { trace::RUN_ID } = %self.lease.run,
            { trace::NODE_NAME } = %task.node,
            { trace::STEP } = place.seq + 1,
            { trace::TASK } = number,
            { trace::ATTEMPT } = attempt,
        );
        let context = self.trace.get().cloned();
        scene.observe(Happening::Started { attempt });
        let shown = Arc::clone(&scene);
        let whole = async move {
            let began = Instant::now();
            let node = UntilParked::new(node, Arc::clone(&scene));
            let bounded = async {
                if limit == TimeLimit::default() {
                    return node.await;
                }
                // Dropped with its time: no code of the user can swallow that.
                tokio::select! {
                    biased;
                    ended = node => ended,
                    error = limit.passed(age, &scene.pulse) => {
                        scene.cancelled.cancel();
                        Some(Err(error))
                    }
                }
            };
            let bounded = async {
                match context {
                    Some(context) => context.scope(bounded).await,
                    None => bounded.await,
                }
            };
            let caught = AssertUnwindSafe(bounded).catch_unwind().await;
            let result =
                caught.unwrap_or_else(|panic| Some(Err(NodeError::panic("the node", &*panic))));
            scene.voice.settle().await;
            if scene.may_have_permits() {
                scene.release_permits().await;
            }
            Ended {
                index,
                result,
                scene,
                took: began.elapsed(),
            }
        };
        running.begin(whole.instrument(span), place.checkpoint.tasks.len() == 1);
        Ok(shown)
    }
}
