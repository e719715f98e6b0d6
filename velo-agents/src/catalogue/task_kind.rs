use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Division;

/// The craft a task needs: `research` finds out, `analysis` weighs, `design` shapes screens and
/// looks, `architecture` divides the system, `schema` models data, `api` describes endpoints,
/// `backend` and `frontend` build the two sides, `xr` builds for headsets, `integration` joins
/// parts, `infra` deploys, `test` proves, `docs` explains, `content` writes for the public, `fix`
/// mends a known fault.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "described above: a described variant would turn the schema's one `enum` into a `oneOf`, which models follow less well"
)]
pub enum TaskKind {
    Research,
    Analysis,
    Design,
    Architecture,
    Schema,
    Api,
    Backend,
    Frontend,
    Xr,
    Integration,
    Infra,
    Test,
    Docs,
    Content,
    Fix,
}

impl TaskKind {
    /// All kinds, roughly in the order in which a project meets them.
    pub const ALL: [Self; 15] = [
        Self::Research,
        Self::Analysis,
        Self::Design,
        Self::Architecture,
        Self::Schema,
        Self::Api,
        Self::Backend,
        Self::Frontend,
        Self::Xr,
        Self::Integration,
        Self::Infra,
        Self::Test,
        Self::Docs,
        Self::Content,
        Self::Fix,
    ];

    /// The word used in documents, such as `backend`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Research => "research",
            Self::Analysis => "analysis",
            Self::Design => "design",
            Self::Architecture => "architecture",
            Self::Schema => "schema",
            Self::Api => "api",
            Self::Backend => "backend",
            Self::Frontend => "frontend",
            Self::Xr => "xr",
            Self::Integration => "integration",
            Self::Infra => "infra",
            Self::Test => "test",
            Self::Docs => "docs",
            Self::Content => "content",
            Self::Fix => "fix",
        }
    }

    /// The division that answers for tasks of this kind when no agent stands out.
    #[must_use]
    pub fn division(self) -> Division {
        match self {
            Self::Research | Self::Analysis => Division::Product,
            Self::Design => Division::Design,
            Self::Architecture
            | Self::Schema
            | Self::Api
            | Self::Backend
            | Self::Frontend
            | Self::Integration
            | Self::Infra
            | Self::Fix => Division::Engineering,
            Self::Xr => Division::SpatialComputing,
            Self::Test => Division::Testing,
            Self::Docs => Division::Support,
            Self::Content => Division::Marketing,
        }
    }
}

impl fmt::Display for TaskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
