//! The product requirement document, `velo.prd/1`.

mod check;
mod render;
mod requirement;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Envelope, Finding, Rejected};

pub use check::{
    MAX_GOALS, MAX_OPEN_QUESTIONS, MAX_REQUIREMENTS, MAX_SUMMARY_WORDS, MAX_TITLE_CHARS,
};
pub use requirement::{Acceptance, Requirement, RequirementKind, RequirementPriority, Verify};

/// A product requirement document whose draft passed every check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prd {
    /// The shape of the document.
    pub schema: PrdSchema,
    /// Where it comes from.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// What was asked for, letter by letter.
    pub original_brief: String,
    /// What was understood.
    #[serde(flatten)]
    pub draft: PrdDraft,
}

/// The one shape of a [`Prd`]; reading another one is an error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PrdSchema {
    /// `velo.prd/1`
    #[default]
    #[serde(rename = "velo.prd/1")]
    V1,
}

impl Prd {
    /// The document of `draft`, if nothing is wrong with it.
    ///
    /// # Errors
    /// [`Rejected`] with all that [`PrdDraft::check`] found.
    pub fn new(draft: PrdDraft, brief: &str, envelope: Envelope) -> Result<Self, Rejected> {
        let findings = draft.check(brief);
        if !findings.is_empty() {
            return Err(Rejected { findings });
        }
        Ok(Self {
            schema: PrdSchema::V1,
            envelope,
            original_brief: brief.to_owned(),
            draft,
        })
    }

    /// Whether the founder must answer before planning goes on.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.draft.open_questions.iter().any(|open| open.blocking)
    }

    /// The document as people read it.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        render::markdown(self)
    }
}

/// What a brief asks for, in statements that can be tested.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PrdDraft {
    /// Name of the product, at most 80 characters
    pub title: String,
    /// Language of the brief as a tag such as `en`
    pub language: String,
    /// What is to be delivered
    pub project_type: ProjectType,
    /// Whose problem it is, and what they do about it today
    pub problem: String,
    /// The product in at most 120 words
    pub summary: String,
    /// 1 to 5 changes for somebody
    pub goals: Vec<Goal>,
    /// For whom it is
    pub personas: Vec<Persona>,
    /// What it must do or be, the most important first
    pub requirements: Vec<Requirement>,
    /// What it deliberately leaves out
    pub out_of_scope: Vec<String>,
    /// What was taken for granted
    pub assumptions: Vec<String>,
    /// At most 5 questions whose answer would change what is built
    pub open_questions: Vec<OpenQuestion>,
    /// What could go wrong
    pub risks: Vec<Risk>,
    /// How success will be seen
    pub success_criteria: Vec<SuccessCriterion>,
}

impl PrdDraft {
    /// Everything that is wrong with the draft of a document about `brief`.
    #[must_use]
    pub fn check(&self, brief: &str) -> Vec<Finding> {
        check::findings(self, brief)
    }
}

/// What is to be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "a described variant would turn the schema's one `enum` into a `oneOf`, which models follow less well"
)]
pub enum ProjectType {
    Software,
    Marketing,
    Design,
    Business,
    Content,
}

impl ProjectType {
    /// The word used in documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Software => "software",
            Self::Marketing => "marketing",
            Self::Design => "design",
            Self::Business => "business",
            Self::Content => "content",
        }
    }
}

/// A change for somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Goal {
    /// G1, G2, …
    pub id: String,
    /// What will be different, and for whom
    pub statement: String,
    /// What is measured
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// The value to reach
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// A kind of person that the product is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Persona {
    /// U1, U2, …
    pub id: String,
    /// A name or a role
    pub name: String,
    /// Their situation in a sentence
    pub description: String,
    /// What they need
    pub needs: Vec<String>,
}

/// Something that only the founder can decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpenQuestion {
    /// Q1, Q2, …
    pub id: String,
    /// The question
    pub question: String,
    /// What depends on it
    pub why: String,
    /// What is assumed until it is answered
    pub default_answer: String,
    /// Whether nothing should be built before it is answered
    pub blocking: bool,
}

/// Something that could go wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Risk {
    /// K1, K2, …
    pub id: String,
    /// What could happen, and why
    pub text: String,
    /// How probable it is
    pub likelihood: Level,
    /// How bad it would be
    pub impact: Level,
    /// What is done against it
    pub mitigation: String,
}

/// How much of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "a described variant would turn the schema's one `enum` into a `oneOf`, which models follow less well"
)]
pub enum Level {
    Low,
    Medium,
    High,
}

impl Level {
    /// The word used in documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// How success will be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SuccessCriterion {
    /// What is measured
    pub metric: String,
    /// The value to reach
    pub target: String,
    /// Where the number comes from
    pub how_measured: String,
}
