use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Something that the product must do or be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Requirement {
    ///
    pub id: String,
    /// The words of the brief that ask for it, letter by letter
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_quote: Option<String>,
    /// True when the brief does not say it and the product cannot do without it
    pub derived: bool,
    /// Why it is needed
    pub rationale: String,
    /// What happens, for whom, and within which limits
    pub statement: String,
    /// Whether it is about what happens, how well it happens, or what is given
    pub kind: RequirementKind,
    /// P0 pointless without, P1 first release, P2 can wait
    pub priority: RequirementPriority,
    /// The goals that it serves
    pub goal_ids: Vec<String>,
    /// The personas that it is for
    pub persona_ids: Vec<String>,
    /// How somebody else finds out that it holds; at least one
    pub acceptance: Vec<Acceptance>,
}

/// Whether a requirement is about what happens, how well it happens, or what is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "a described variant would turn the schema's one `enum` into a `oneOf`, which models follow less well"
)]
pub enum RequirementKind {
    Functional,
    Nonfunctional,
    Constraint,
}

impl RequirementKind {
    /// The word used in documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Functional => "functional",
            Self::Nonfunctional => "nonfunctional",
            Self::Constraint => "constraint",
        }
    }
}

/// How much depends on a requirement.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[expect(
    missing_docs,
    reason = "a described variant would turn the schema's one `enum` into a `oneOf`, which models follow less well"
)]
pub enum RequirementPriority {
    P0,
    P1,
    P2,
}

impl RequirementPriority {
    /// The word used in documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::P0 => "P0",
            Self::P1 => "P1",
            Self::P2 => "P2",
        }
    }
}

/// How somebody else finds out that a requirement holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Acceptance {
    /// R-001.A1, R-001.A2, …
    pub id: String,
    /// The situation
    pub given: String,
    /// What is done
    pub when: String,
    /// What is then seen
    pub then: String,
    /// Who can tell
    pub verify: Verify,
}

/// Who can tell whether a criterion holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "a described variant would turn the schema's one `enum` into a `oneOf`, which models follow less well"
)]
pub enum Verify {
    AutoTest,
    Build,
    Manual,
    Review,
}

impl Verify {
    /// The words that people read.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::AutoTest => "automatic test",
            Self::Build => "build",
            Self::Manual => "tried by a person",
            Self::Review => "review",
        }
    }
}
