//! What spans and events of the engine carry, and the trace that a run belongs to.
//!
//! All goes through `tracing`. A turn, which is what a worker does with a run from claiming it until it gives it
//! back, is a span [`TURN`] with [`RUN_ID`], [`GRAPH`] and [`FENCE`]; each attempt of a node is a span
//! [`NODE`] inside of it, with [`RUN_ID`], [`NODE_NAME`], [`STEP`], [`TASK`] and [`ATTEMPT`]. Events carry those
//! that they are about.
//!
//! A run that is started inside of a [`TraceContext`] keeps it: each of its turns, in whatever worker, and those
//! of the runs that its nodes start, belong to that trace. Whoever exports spans links them by [`on_turn`].

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use tracing::Span;

/// The span of a turn.
pub const TURN: &str = "turn";
/// The span of an attempt.
pub const NODE: &str = "node";
/// The run.
pub const RUN_ID: &str = "run.id";
/// Name and version of its graph.
pub const GRAPH: &str = "graph";
/// The fence of the lease under which it is worked on.
pub const FENCE: &str = "lease.fence";
/// The node.
pub const NODE_NAME: &str = "node.name";
/// The step that is under way.
pub const STEP: &str = "step.seq";
/// The task of the step, from zero.
pub const TASK: &str = "task.index";
/// The attempt of the task, from one.
pub const ATTEMPT: &str = "task.attempt";
/// The worker's incarnation.
pub const WORKER_ID: &str = "worker.id";
/// The worker's name.
pub const WORKER_NAME: &str = "worker.name";

/// Where a trace comes from, as the header `traceparent` of the W3C's Trace Context says it.
///
/// ```
/// use velo_engine::trace::TraceContext;
///
/// let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let context: TraceContext = header.parse()?;
/// assert_eq!(context.trace_id(), "0af7651916cd43dd8448eb211c80319c");
/// assert_eq!(context.to_string(), header);
/// # Ok::<(), velo_engine::trace::BadTraceContext>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext(String);

/// Text that is no `traceparent`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no traceparent of version 00: 00-TRACE-PARENT-FLAGS, in small hexadecimal digits")]
pub struct BadTraceContext;

tokio::task_local! {
    static CURRENT: TraceContext;
}

static SOURCE: OnceLock<fn() -> Option<TraceContext>> = OnceLock::new();
static LINK: OnceLock<fn(&Span, &TraceContext)> = OnceLock::new();

/// Lengths of the parts of a `traceparent`: version, trace, parent, flags.
const LENGTHS: [usize; 4] = [2, 32, 16, 2];

impl TraceContext {
    /// The whole of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of the trace: 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        &self.0[3..35]
    }

    /// The id of the span that the trace comes from: 16 hexadecimal digits.
    #[must_use]
    pub fn parent_id(&self) -> &str {
        &self.0[36..52]
    }

    /// Whether whoever began the trace records it.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        // The last bit of the last digit.
        self.0
            .ends_with(|digit: char| digit.to_digit(16).is_some_and(|flags| flags % 2 == 1))
    }

    /// Runs that `future` starts belong to this trace, as long as it starts them itself and not in tasks
    /// that it spawns.
    ///
    /// # Cancel safety
    /// That of `future`.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }

    /// The trace that a run belongs to which is started here: that of the span that this is in, where spans
    /// are exported, or else the one whose [`scope`](Self::scope) this is in; in a node, that of its run.
    #[must_use]
    pub fn current() -> Option<Self> {
        let exported = SOURCE.get().and_then(|source| source());
        exported.or_else(|| CURRENT.try_with(Self::clone).ok())
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TraceContext {
    type Err = BadTraceContext;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('-').collect();
        let is_hex = |part: &str| {
            part.bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let is_sound = parts.iter().map(|part| part.len()).eq(LENGTHS)
            && parts.iter().all(|part| is_hex(part))
            && parts[0] == "00"
            && [parts[1], parts[2]]
                .iter()
                .all(|id| id.bytes().any(|byte| byte != b'0'));
        is_sound
            .then(|| Self(text.to_owned()))
            .ok_or(BadTraceContext)
    }
}

/// Has `link` called with the span of each turn whose run belongs to a trace, before anything happens in it: for
/// who exports spans, to make the one a part of the other. For the whole process; the first call counts.
pub fn on_turn(link: fn(&Span, &TraceContext)) {
    // A second exporter in one process would get half of the spans.
    let _ = LINK.set(link);
}

/// Has `source` asked where a run is started, for who exports spans: the run belongs to the trace that it
/// tells. For the whole process; the first call counts.
pub fn on_start(source: fn() -> Option<TraceContext>) {
    let _ = SOURCE.set(source);
}

/// Makes the span a part of the trace, if somebody exports spans.
pub(crate) fn link(span: &Span, context: Option<&TraceContext>) {
    if let (Some(link), Some(context)) = (LINK.get(), context) {
        link(span, context);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_traceparent_is_refused() {
        let sound = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context: TraceContext = sound.parse().unwrap();
        assert!(context.is_sampled() && context.parent_id() == "b7ad6b7169203331");
        for wrong in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
        ] {
            assert_eq!(
                wrong.parse::<TraceContext>(),
                Err(BadTraceContext),
                "{wrong}"
            );
        }
    }
}
