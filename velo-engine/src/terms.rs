//! What is said of a run before it is started, whatever it begins from.

use crate::run_id::RunId;
use crate::thread::{IfBusy, IfClosed};

#[derive(Debug, Clone, Default)]
pub(crate) struct Terms {
    pub(crate) id: Option<RunId>,
    pub(crate) thread: Option<String>,
    pub(crate) priority: i16,
    pub(crate) queue: Option<String>,
    pub(crate) step_limit: Option<u64>,
    pub(crate) if_busy: IfBusy,
    pub(crate) if_closed: IfClosed,
}

/// The builder methods of what has a field `terms`.
macro_rules! terms {
    () => {
        /// Starts the run in a thread, which has one live run at a time: what becomes of a second start
        /// says [`if_busy`](Self::if_busy), and it is [`EngineError::ThreadBusy`] otherwise. Name it after
        /// what the run is about, such as `order/42`.
        ///
        /// The thread is free again when the run has ended. For the same request not to start a second run
        /// after that either, say [`if_closed`](Self::if_closed).
        pub fn thread(mut self, name: impl Into<String>) -> Self {
            self.terms.thread = Some(name.into());
            self
        }

        /// Says what becomes of the start while the thread has a live run; without a thread it says nothing.
        pub fn if_busy(mut self, policy: $crate::IfBusy) -> Self {
            self.terms.if_busy = policy;
            self
        }

        /// Says what becomes of the start when the thread had a run that has ended; without a thread it says
        /// nothing. The engine remembers as long as that run is not deleted.
        pub fn if_closed(mut self, policy: $crate::IfClosed) -> Self {
            self.terms.if_closed = policy;
            self
        }

        /// Starts the run with an id of your own, drawn by [`RunId::random`]; a second start with it is
        /// refused.
        pub fn id(mut self, id: RunId) -> Self {
            self.terms.id = Some(id);
            self
        }

        /// Lets runs of a lower number go first; zero otherwise. Each number is worth a minute of waiting, so
        /// that a run of whatever number has its turn.
        pub fn priority(mut self, priority: i16) -> Self {
            self.terms.priority = priority;
            self
        }

        /// Starts the run into a queue, whose [`Gate`](crate::Gate::Queue) may limit how many of its runs are
        /// at work at once, how fast they begin, and their share of the workers beside other queues. Name it
        /// after whom the work is for, or what it needs, such as `tenant/acme`. Queues need not be made; there
        /// may be as many as there are tenants. The runs that the run starts are of the same queue.
        ///
        /// # Panics
        /// When the name is empty.
        pub fn queue(mut self, name: impl Into<String>) -> Self {
            let name = name.into();
            assert!(!name.is_empty(), "a queue has a name");
            self.terms.queue = Some(name);
            self
        }

        /// Lets this run take `steps` steps, whatever its graph says. A run that has taken them all is
        /// paused before the next one; [`Engine::resume_within`](crate::Engine::resume_within) gives it more.
        pub fn step_limit(mut self, steps: u64) -> Self {
            self.terms.step_limit = Some(steps);
            self
        }
    };
}
pub(crate) use terms;
