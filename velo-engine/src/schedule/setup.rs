//! Creating a schedule.

use std::fmt;
use std::time::Duration;

use super::error::ScheduleError;
use super::overlap::Overlap;
use super::plan::Rule;
use super::spec::Spec;
use crate::engine::Engine;
use crate::graph::Graph;
use crate::start::Start;
use crate::state::State;
use crate::store::schedule::{self as store, NewSchedule};
use crate::vault::Home;

/// How late a fire may be because no worker was there, unless told otherwise.
pub const CATCH_UP_DEFAULT: Duration = Duration::from_secs(3_600);
/// Shortest catch-up window: workers look every other second, and may be busy or restarted.
pub const CATCH_UP_MIN: Duration = Duration::from_secs(10);
/// Longest catch-up window and jitter: ten years.
pub const DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Most characters of a name.
const NAME_MAX: usize = 200;

const DOING: &str = "create the schedule";

/// A schedule about to be created; see [`Engine::schedule`].
#[must_use = "nothing is created before create or replace is awaited"]
pub struct ScheduleSetup<'a, S: State> {
    engine: &'a Engine,
    graph: &'a Graph<S>,
    name: String,
    spec: Spec,
    start: Start<'a, S>,
    priority: i16,
    queue: Option<String>,
    overlap: Overlap,
    catch_up: Duration,
    jitter: Duration,
}

impl<'a, S: State> ScheduleSetup<'a, S> {
    pub(crate) fn new(
        engine: &'a Engine,
        graph: &'a Graph<S>,
        name: String,
        spec: Spec,
        state: S,
    ) -> Self {
        Self {
            engine,
            graph,
            name,
            spec,
            start: engine.start(graph, state),
            priority: 0,
            queue: None,
            overlap: Overlap::default(),
            catch_up: CATCH_UP_DEFAULT,
            jitter: Duration::ZERO,
        }
    }

    /// Says what becomes of a fire while a run of the schedule has not ended; it is skipped otherwise.
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }

    /// Lets fires that nobody was there for come this late; [`CATCH_UP_DEFAULT`] otherwise, and between
    /// [`CATCH_UP_MIN`] and [`DURATION_MAX`]. What is later is missed, and recorded so.
    pub fn catch_up(mut self, window: Duration) -> Self {
        self.catch_up = window.clamp(CATCH_UP_MIN, DURATION_MAX);
        self
    }

    /// Lets each fire be late on purpose, by less than this: by how much follows from the schedule's name
    /// and the time. So many schedules of the same time do not start at once. At most [`DURATION_MAX`].
    pub fn jitter(mut self, most: Duration) -> Self {
        self.jitter = most.min(DURATION_MAX);
        self
    }

    /// Lets runs of a lower number go first; zero otherwise.
    pub fn priority(mut self, priority: i16) -> Self {
        self.priority = priority;
        self
    }

    /// Starts each run into this queue, as [`Start::queue`](crate::Start::queue) does.
    ///
    /// # Panics
    /// When the name is empty.
    pub fn queue(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        assert!(!name.is_empty(), "a queue has a name");
        self.queue = Some(name);
        self
    }

    /// Lets each run take `steps` steps, whatever its graph says.
    pub fn step_limit(mut self, steps: u64) -> Self {
        self.start = self.start.step_limit(steps);
        self
    }

    /// Creates the schedule; one of the same name is not touched.
    ///
    /// # Errors
    /// [`ScheduleError::Exists`], [`ScheduleError::Name`], [`ScheduleError::State`], or the database's.
    ///
    /// # Cancel safety
    /// Dropped half-way, it may or may not be created.
    pub async fn create(self) -> Result<(), ScheduleError> {
        if self.put(false).await? {
            Ok(())
        } else {
            Err(ScheduleError::Exists(self.name))
        }
    }

    /// Creates the schedule, or replaces all of one of the same name: its runs go on, its record is kept,
    /// and if it is paused it stays so. With the same times it fires what has come due meanwhile, so that a
    /// service can replace its schedules whenever it starts.
    ///
    /// # Errors
    /// [`ScheduleError::Name`], [`ScheduleError::State`], or the database's.
    ///
    /// # Cancel safety
    /// Call it again: a second time does no harm.
    pub async fn replace(self) -> Result<(), ScheduleError> {
        self.put(true).await.map(drop)
    }

    async fn put(&self, replaces: bool) -> Result<bool, ScheduleError> {
        let length = self.name.chars().count();
        if !(1..=NAME_MAX).contains(&length) || self.name.chars().any(char::is_control) {
            return Err(ScheduleError::Name(self.name.escape_debug().to_string()));
        }
        let state = |source| ScheduleError::State {
            name: self.name.clone(),
            source: Box::new(source),
        };
        let encoded = self.start.encoded().map_err(state)?;
        let pool = self.engine.pool();
        let now = store::now(pool).await.map_err(ScheduleError::on(DOING))?;
        let rule = Rule {
            name: &self.name,
            spec: &self.spec,
            jitter: whole_milliseconds(self.jitter),
            catch_up: self.catch_up,
        };
        let seal = |what, plain: Vec<u8>| {
            let sealed = self
                .engine
                .vault()
                .seal(Home::named(what, &self.name), plain);
            sealed.map_err(|source| ScheduleError::Sealed {
                name: self.name.clone(),
                source,
            })
        };
        let control = seal("schedule control", encoded.control)?;
        let state = seal("schedule state", encoded.state)?;
        let shape = self.graph.shape();
        let new = NewSchedule {
            name: &self.name,
            graph: shape.name(),
            version: shape.version().cast_signed(),
            fingerprint: self.graph.fingerprint(),
            code: self.graph.queued(),
            priority: self.priority,
            lane: self.queue.as_deref(),
            control: &control,
            state: &state,
            spec: serde_json::to_value(&self.spec).expect("texts and numbers are always JSON"),
            jitter_ms: milliseconds(self.jitter),
            catch_up_ms: milliseconds(self.catch_up),
            overlap: self.overlap,
            next: rule.after(now).next(),
        };
        store::put(pool, new, replaces)
            .await
            .map_err(ScheduleError::on(DOING))
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).expect("bounded by DURATION_MAX")
}

/// As it is read back.
fn whole_milliseconds(time: Duration) -> Duration {
    Duration::from_millis(milliseconds(time).unsigned_abs())
}

impl<S: State> fmt::Debug for ScheduleSetup<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScheduleSetup")
            .field("name", &self.name)
            .field("graph", &self.graph)
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}
