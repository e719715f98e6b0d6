//! Pure: what is told of one row, in its order.

use serde_json::Value;

use super::item::{StreamMode, Streamed};
use crate::question::{Question, QuestionId};
use crate::run_id::RunId;
use crate::state::CodecError;
use crate::store::stream::{FoundOutcome, FoundStep, FoundWait};
use crate::stored::{Control, StoredTask, show_delta, show_outcome};

/// An item that is made of a row, before its position is known. Its slot is the same whatever is asked
/// for: a reader may go on in the middle of a row.
pub(super) struct Part {
    pub(super) slot: u32,
    pub(super) mode: StreamMode,
    pub(super) what: Streamed,
    pub(super) state: Option<Value>,
}

const UPDATES: u32 = 0;
const ENDED: u32 = 1;
const VALUES: u32 = 2;
const CHECKPOINT: u32 = 3;
const ASKED: u32 = 4;
/// The first planned task; the others follow.
const PLANNED: u32 = 5;

fn part(slot: u32, mode: StreamMode, what: Streamed) -> Part {
    Part {
        slot,
        mode,
        what,
        state: None,
    }
}

pub(super) fn node_of(tasks: &[StoredTask], task: i32) -> String {
    let index = usize::try_from(task).ok();
    let task = index.and_then(|index| tasks.get(index));
    task.map_or_else(String::new, |task| task.node.clone())
}

/// A question, which whoever looks at values or at updates alone sees too.
pub(super) fn asked(run: RunId, wait: FoundWait) -> Vec<Part> {
    let question = Question {
        id: QuestionId {
            run,
            seq: wait.seq,
            task: wait.task,
            name: wait.name.clone(),
        },
        run,
        seq: wait.seq,
        task: wait.task,
        node: wait.node,
        name: wait.name,
        question: wait.question,
        schema: wait.schema,
        asked_at: wait.at,
        expires_at: wait.expires_at,
        refusal: wait.refusal,
    };
    let asked = |slot, mode| {
        let question = question.clone();
        part(slot, mode, Streamed::Asked { question })
    };
    vec![
        asked(UPDATES, StreamMode::Updates),
        asked(VALUES, StreamMode::Values),
        asked(ASKED, StreamMode::Tasks),
    ]
}

/// The end of a task that has siblings.
pub(super) fn ended(node: String, outcome: &FoundOutcome) -> Result<Vec<Part>, CodecError> {
    let (step, task) = (outcome.seq, outcome.task);
    let (writes, goes_to) = show_outcome(&outcome.outcome)?;
    let updates = Streamed::Updates {
        step,
        task: Some(task),
        nodes: vec![node.clone()],
        writes,
        is_edit: false,
    };
    let finished = Streamed::Finished {
        step,
        task,
        node,
        goes_to,
    };
    Ok(vec![
        part(UPDATES, StreamMode::Updates, updates),
        part(ENDED, StreamMode::Tasks, finished),
    ])
}

/// A committed step: what a lone task wrote, the state, the step, and what comes next. What several
/// tasks wrote is told with the end of each, unless that is not known any more.
pub(super) fn committed(
    row: &FoundStep,
    control: &Control,
    before: &[StoredTask],
    has_told_tasks: bool,
    state: Option<Value>,
) -> Result<Vec<Part>, CodecError> {
    let step = row.seq;
    let is_edit = control.edited().is_some();
    let nodes: Vec<String> = match control.edited() {
        Some(nodes) => nodes.to_vec(),
        None => before.iter().map(|task| task.node.clone()).collect(),
    };
    let mut parts = Vec::new();
    let is_lone = before.len() == 1 && !is_edit;
    if step > 0 && (is_edit || is_lone || !has_told_tasks) {
        let updates = Streamed::Updates {
            step,
            task: is_lone.then_some(0),
            nodes: nodes.clone(),
            writes: show_delta(&row.delta)?,
            is_edit,
        };
        parts.push(part(UPDATES, StreamMode::Updates, updates));
    }
    if is_lone && step > 0 {
        let finished = Streamed::Finished {
            step,
            task: 0,
            node: nodes[0].clone(),
            goes_to: None,
        };
        parts.push(part(ENDED, StreamMode::Tasks, finished));
    }
    if state.is_some() {
        let values = part(VALUES, StreamMode::Values, Streamed::Values { step });
        parts.push(Part { state, ..values });
    }
    let checkpoint = Streamed::Checkpoint {
        step,
        fence: row.fence,
        is_edit,
        nodes,
        next: control.nodes(),
    };
    parts.push(part(CHECKPOINT, StreamMode::Checkpoints, checkpoint));
    for (slot, (task, planned)) in (PLANNED..).zip((0..).zip(control.tasks())) {
        let planned = Streamed::Planned {
            step: step + 1,
            task,
            node: planned.node.clone(),
            input: planned.input.clone(),
        };
        parts.push(part(slot, StreamMode::Tasks, planned));
    }
    Ok(parts)
}
