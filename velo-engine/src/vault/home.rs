//! Where a payload is stored: what is sealed for one place does not open in another.

use crate::run_id::RunId;

/// A place in the tables.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Home<'a> {
    /// Table and column.
    what: &'static str,
    run: i64,
    seq: i32,
    task: i32,
    name: &'a str,
}

impl<'a> Home<'a> {
    /// A column of a step.
    pub(crate) fn of_step(run: RunId, seq: i32, what: &'static str) -> Self {
        Self {
            seq,
            ..Self::of_run(run, what)
        }
    }

    /// A column of something that a task of a step has under this name.
    pub(crate) fn of_task(
        run: RunId,
        seq: i32,
        task: i32,
        what: &'static str,
        name: &'a str,
    ) -> Self {
        Self {
            what,
            run: run.as_i64(),
            seq,
            task,
            name,
        }
    }

    /// Something of a run.
    pub(crate) fn of_run(run: RunId, what: &'static str) -> Self {
        Self::named_of_run(run, what, "")
    }

    /// Something of a run that has this name.
    pub(crate) fn named_of_run(run: RunId, what: &'static str, name: &'a str) -> Self {
        Self::of_task(run, 0, 0, what, name)
    }

    /// A payload that was found in a column, of this run.
    pub(crate) fn found(
        run: RunId,
        what: &'static str,
        seq: i32,
        task: i32,
        name: &'a str,
    ) -> Self {
        match what {
            "delta" | "control" | "snapshot" => Self::of_step(run, seq, what),
            "failure" | "error" => Self::of_run(run, what),
            "signal" | "event" | "update request" | "update answer" | "update writes" => {
                Self::named_of_run(run, what, name)
            }
            "schedule control" | "schedule state" | "blob" | "item" => Self::named(what, name),
            _ => Self::of_task(run, seq, task, what, name),
        }
    }

    /// Something that belongs to no run.
    pub(crate) fn named(what: &'static str, name: &'a str) -> Self {
        Self::named_of_run(RunId::from_i64(0), what, name)
    }

    /// How many levels down in a payload its values are, where large ones are stored apart.
    pub(super) fn depth(self) -> Option<usize> {
        match self.what {
            "memo" => Some(0),
            "snapshot" => Some(1),
            "delta" => Some(2),
            "control" | "outcome" => Some(3),
            _ => None,
        }
    }

    /// The same for two homes only if they are one.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = b"velo 1\0".to_vec();
        bytes.extend_from_slice(self.what.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&self.run.to_be_bytes());
        bytes.extend_from_slice(&self.seq.to_be_bytes());
        bytes.extend_from_slice(&self.task.to_be_bytes());
        bytes.extend_from_slice(self.name.as_bytes());
        bytes
    }
}
