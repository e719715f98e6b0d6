use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One of the nine departments of the agency.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Division {
    /// Builds the product.
    Engineering,
    /// Shapes how it looks and behaves.
    Design,
    /// Brings it to people.
    Marketing,
    /// Decides what is worth building.
    Product,
    /// Plans the work and keeps it moving.
    ProjectManagement,
    /// Proves that it works, or that it does not.
    Testing,
    /// Looks after users, data and operation.
    Support,
    /// Builds for headsets and augmented reality.
    SpatialComputing,
    /// Serves all the others.
    Specialized,
}

impl Division {
    /// All nine, in the agency's order.
    pub const ALL: [Self; 9] = [
        Self::Engineering,
        Self::Design,
        Self::Marketing,
        Self::Product,
        Self::ProjectManagement,
        Self::Testing,
        Self::Support,
        Self::SpatialComputing,
        Self::Specialized,
    ];

    /// The name that people read, such as `Project Management`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Engineering => "Engineering",
            Self::Design => "Design",
            Self::Marketing => "Marketing",
            Self::Product => "Product",
            Self::ProjectManagement => "Project Management",
            Self::Testing => "Testing",
            Self::Support => "Support",
            Self::SpatialComputing => "Spatial Computing",
            Self::Specialized => "Specialized",
        }
    }
}

impl fmt::Display for Division {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
