//! From the JSON Schema of a Rust type to the part of JSON Schema that Gemini accepts.
//!
//! Refused are types that Gemini cannot be held to: open values, and recursion that no optional
//! field can end. Call [`of`] for every reply type at start-up, so that a wrong type is found
//! before a run depends on it.

mod definitions;
mod merge;
mod rewrite;

use schemars::JsonSchema;
use serde_json::Value;

pub use velo_engine::json_schema::problems;

use definitions::Definitions;
use rewrite::Rewriter;

/// Deepest nesting of a schema that is read; Gemini gives up long before.
pub const MAX_DEPTH: usize = 32;
/// Most nodes of a rewritten schema, definitions that are used twice counted twice.
pub const MAX_NODES: usize = 5_000;

/// Why a type cannot be asked for. `path` leads to the place in the schema, as a JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// Anything would be allowed there.
    #[error("{path:?} accepts any value: give it a type, such as a struct or a list of pairs")]
    OpenValue {
        /// Where.
        path: String,
    },
    /// A value of this type would have to contain another one, without end.
    #[error(
        "{definition} contains itself in required fields only: mark the field #[serde(default)] or bound the depth"
    )]
    RequiredRecursion {
        /// The type.
        definition: String,
    },
    /// A reference leads nowhere.
    #[error("{path:?} refers to {reference}, which is not a definition of this schema")]
    UnknownReference {
        /// Where.
        path: String,
        /// What it refers to.
        reference: String,
    },
    /// A keyword that has no counterpart and cannot be left out.
    #[error(
        "{path:?} uses {keyword}, which the model does not understand: describe the type otherwise"
    )]
    Unsupported {
        /// Where.
        path: String,
        /// The keyword.
        keyword: String,
    },
    /// Too deep, or too many nodes once definitions are written out.
    #[error(
        "{path:?} is beyond the limits of {MAX_DEPTH} levels and {MAX_NODES} nodes: split the type"
    )]
    TooLarge {
        /// Where.
        path: String,
    },
}

/// The schema of `T`, as Gemini accepts it.
///
/// ```
/// use schemars::JsonSchema;
/// use velo_agents::model::schema;
///
/// #[derive(JsonSchema)]
/// struct Verdict {
///     reason: String,
///     approved: bool,
/// }
///
/// let schema = schema::of::<Verdict>()?;
/// assert_eq!(schema["propertyOrdering"], serde_json::json!(["reason", "approved"]));
///
/// #[derive(JsonSchema)]
/// struct Anything {
///     value: serde_json::Value,
/// }
/// assert!(schema::of::<Anything>().is_err());
/// # Ok::<(), schema::SchemaError>(())
/// ```
///
/// # Errors
/// [`SchemaError`] when the type cannot be asked for.
pub fn of<T: JsonSchema>() -> Result<Value, SchemaError> {
    for_gemini(&root::<T>())
}

/// The schema of `T`, as `schemars` makes it.
#[must_use]
pub fn root<T: JsonSchema>() -> Value {
    schemars::schema_for!(T).to_value()
}

/// Rewrites a root schema as Gemini accepts it. A schema that was rewritten already stays as it is.
///
/// Definitions are written out where they are used, except recursive ones. Dropped are titles,
/// defaults, examples, lengths, patterns, `maxItems` and formats other than dates and times:
/// check those in Rust.
///
/// # Errors
/// [`SchemaError`] when the schema cannot be asked for.
pub fn for_gemini(root: &Value) -> Result<Value, SchemaError> {
    let definitions = Definitions::read(root)?;
    Rewriter::new(&definitions).root(root)
}

#[cfg(test)]
mod tests;
