//! Ids of the domain: a type for each noun, so that a task's id cannot be passed for a project's.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord,
            Serialize, Deserialize, JsonSchema, sqlx::Type,
        )]
        #[serde(transparent)]
        #[sqlx(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id; later ones sort after earlier ones.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "no id is the default one")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id that `name` has within `scope`: always the same one, so that a step which
            /// runs again writes the same row.
            #[must_use]
            pub fn named(scope: Uuid, name: &str) -> Self {
                Self(Uuid::new_v5(&scope, name.as_bytes()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )+};
}

ids! {
    /// Id of a tenant: one company's separate world.
    TenantId;
    /// Id of a person.
    UserId;
    /// Id of a project.
    ProjectId;
    /// Id of a task.
    TaskId;
    /// Id of an artifact, shared by all its versions.
    ArtifactId;
    /// Id of one version of an artifact.
    VersionId;
    /// Id of one entry of the activity log.
    ActivityId;
    /// Id of one entry of the usage log.
    UsageId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_id_is_the_same_every_time_and_differs_by_scope_and_name() {
        let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
        assert_eq!(TaskId::named(one, "T-001"), TaskId::named(one, "T-001"));
        assert_ne!(TaskId::named(one, "T-001"), TaskId::named(one, "T-002"));
        assert_ne!(TaskId::named(one, "T-001"), TaskId::named(two, "T-001"));
    }

    #[test]
    fn an_id_is_read_back_from_its_text() {
        let id = ProjectId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}
