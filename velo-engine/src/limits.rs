//! How large what is stored may be.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{NodeError, NodeErrorKind};

/// Most bytes of one value, unless told otherwise.
pub const VALUE_MAX: usize = 16 * 1024 * 1024;
/// Most bytes of a state, unless told otherwise.
pub const STATE_MAX: usize = 64 * 1024 * 1024;
/// Most bytes of all that one step leaves, unless told otherwise.
pub const STEP_MAX: usize = 64 * 1024 * 1024;

/// Bytes of a value that is stored apart from what it is in, unless told otherwise.
pub const INLINE_MAX: usize = 64 * 1024;
/// Values of fewer bytes are never stored apart: it would cost more than it saves.
pub const APART_LEAST: usize = 1024;

/// How large, as JSON, what is stored may be: before it is sealed, and wherever it is kept. What is larger is
/// refused with [`TooLarge`], and a run whose node returned it is paused.
///
/// What is larger than a few megabytes is better kept in a place for files, with its address in the state: a
/// state is read whole whenever a run changes hands.
///
/// ```
/// use velo_engine::limits::Limits;
///
/// let limits = Limits { value: 1024 * 1024, ..Limits::default() };
/// # let _ = limits;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one value: what is written to a field at once, what is sent to a node, an answer, a message, a
    /// kept result, a question, an event. [`VALUE_MAX`] unless told otherwise.
    pub value: usize,
    /// Bytes of a state. [`STATE_MAX`] unless told otherwise.
    pub state: usize,
    /// Bytes of all that one step writes and sends. [`STEP_MAX`] unless told otherwise.
    pub step: usize,
    /// Bytes from which on a value is stored apart from the state, update, send, outcome or kept result that it is
    /// in, and once, however often its run or another writes it. [`INLINE_MAX`] unless told otherwise, and at least
    /// [`APART_LEAST`].
    ///
    /// It is there as long as a run is that has ever written it. Questions, answers, messages, events and documents
    /// of the long-term store are stored whole.
    pub inline: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            value: VALUE_MAX,
            state: STATE_MAX,
            step: STEP_MAX,
            inline: INLINE_MAX,
        }
    }
}

/// Something is larger than it may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooLarge {
    /// Which limit was passed.
    pub measured: Measured,
    /// What is so large: the field, or what else it is called. Of a state and of a step, the largest field.
    pub field: String,
    /// The node that left it, or those of the step; none when it came from outside.
    pub node: Option<String>,
    /// How many bytes it has as JSON.
    pub size: usize,
    /// How many it may have.
    pub limit: usize,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Measured {
    /// One value.
    Value,
    /// A whole state.
    State,
    /// All that one step writes and sends.
    Step,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field, size, limit, ..
        } = self;
        match self.measured {
            Measured::Value => write!(f, "`{field}`")?,
            Measured::State => write!(f, "the state, in which `{field}` is the largest field,")?,
            Measured::Step => write!(f, "what the step writes and sends, most of it `{field}`,")?,
        }
        if let Some(node) = &self.node {
            write!(f, " of node `{node}`")?;
        }
        write!(
            f,
            " has {size} bytes, and {limit} are allowed: keep it elsewhere and store where it is, or raise the limits of the engine"
        )
    }
}

impl std::error::Error for TooLarge {}

impl TooLarge {
    /// What it means to a node: the code must be mended.
    pub(crate) fn of_node(&self) -> NodeError {
        NodeError::of(NodeErrorKind::Refused, self)
    }
}

impl Limits {
    /// Bytes of the smallest value that is stored apart.
    pub(crate) fn least_apart(self) -> usize {
        self.inline.max(APART_LEAST)
    }

    pub(crate) fn check_value(
        self,
        field: &str,
        node: Option<&str>,
        size: usize,
    ) -> Result<(), TooLarge> {
        self.check(Measured::Value, self.value, node, size, || field.to_owned())
    }

    /// Checks a value that came from outside, or goes there.
    pub(crate) fn check_json(
        self,
        field: &str,
        node: Option<&str>,
        value: &Value,
    ) -> Result<(), TooLarge> {
        self.check_value(field, node, size_of(value))
    }

    /// Checks each write of an update, as stored.
    pub(crate) fn check_writes(self, node: Option<&str>, update: &[u8]) -> Result<(), TooLarge> {
        if update.len() <= self.value {
            return Ok(());
        }
        writes(update)
            .iter()
            .try_for_each(|write| self.check_value(&write.0, node, write.1.get().len()))
    }

    /// Checks all that a step leaves.
    pub(crate) fn check_step(
        self,
        node: &str,
        delta: &[u8],
        control: &[u8],
    ) -> Result<(), TooLarge> {
        let size = delta.len() + control.len();
        self.check(Measured::Step, self.step, Some(node), size, || {
            let writes = writes(delta);
            let largest = writes.iter().max_by_key(|write| write.1.get().len());
            largest.map_or_else(
                || "the payloads of its sends".to_owned(),
                |write| write.0.clone(),
            )
        })
    }

    /// Checks a whole state.
    pub(crate) fn check_state(self, node: Option<&str>, state: &[u8]) -> Result<(), TooLarge> {
        self.check(Measured::State, self.state, node, state.len(), || {
            let fields = fields(state);
            let largest = fields.into_iter().max_by_key(|(_, size)| *size);
            largest.map_or_else(|| "*".to_owned(), |(field, _)| field)
        })
    }

    /// Checks a state that comes from outside, and each of its fields.
    pub(crate) fn check_input(self, state: &[u8]) -> Result<(), TooLarge> {
        self.check_state(None, state)?;
        if state.len() <= self.value {
            return Ok(());
        }
        fields(state)
            .iter()
            .try_for_each(|(field, size)| self.check_value(field, None, *size))
    }

    fn check(
        self,
        measured: Measured,
        limit: usize,
        node: Option<&str>,
        size: usize,
        field: impl FnOnce() -> String,
    ) -> Result<(), TooLarge> {
        if size <= limit {
            return Ok(());
        }
        Err(TooLarge {
            measured,
            field: field(),
            node: node.map(str::to_owned),
            size,
            limit,
        })
    }
}

#[derive(Deserialize)]
struct SizedWrite(
    String,
    Box<RawValue>,
    #[serde(default)]
    #[expect(dead_code, reason = "a write may have a third part")]
    bool,
);

fn writes(update: &[u8]) -> Vec<SizedWrite> {
    serde_json::from_slice(update).unwrap_or_default()
}

fn fields(state: &[u8]) -> Vec<(String, usize)> {
    let fields: std::collections::BTreeMap<String, Box<RawValue>> =
        serde_json::from_slice(state).unwrap_or_default();
    let sized = |(field, value): (String, Box<RawValue>)| (field, value.get().len());
    fields.into_iter().map(sized).collect()
}

/// How many bytes the value has as JSON.
fn size_of(value: &Value) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, value)
        .expect("a value has a JSON form, and counting succeeds");
    count.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        value: 8,
        state: 30,
        step: 40,
        inline: INLINE_MAX,
    };

    #[test]
    fn at_the_limit_it_is_stored_and_one_byte_more_is_refused_by_name() {
        let update = br#"[["short",1],["text","123456"]]"#;
        assert_eq!(LIMITS.check_writes(Some("write"), update), Ok(()));
        let update = br#"[["short",1],["text","1234567",true]]"#;
        let refused = LIMITS.check_writes(Some("write"), update).unwrap_err();
        assert_eq!(
            (refused.field.as_str(), refused.node.as_deref()),
            ("text", Some("write"))
        );
        assert_eq!(
            (refused.size, refused.limit, refused.measured),
            (9, 8, Measured::Value)
        );

        assert_eq!(LIMITS.check_input(br#"{"a":"123456","b":"12345"}"#), Ok(()));
        let refused = LIMITS
            .check_input(br#"{"a":1,"b":"123456789"}"#)
            .unwrap_err();
        assert_eq!((refused.field.as_str(), refused.size), ("b", 11));
        let state = br#"{"a":"123456","b":"123456","c":1}"#;
        let refused = LIMITS.check_state(None, state).unwrap_err();
        assert_eq!(
            (refused.measured, refused.field.as_str()),
            (Measured::State, "b")
        );

        let refused = LIMITS.check_step("write", update, b"{}").err();
        assert_eq!(refused, None);
        let refused = LIMITS.check_step("write", update, b"{...}").unwrap_err();
        assert_eq!((refused.field.as_str(), refused.size), ("text", 42));
        let said = refused.to_string();
        assert!(
            said.contains("`write`") && said.contains("42 bytes"),
            "{said}"
        );
        assert_eq!(size_of(&serde_json::json!({ "a": [1, "ä"] })), 14);
    }
}
