use std::fmt;

use serde::{Deserialize, Serialize};

/// Something that is wrong with a document, in a sentence that its author can act on.
///
/// ```
/// use velo_agents::model::structured::Finding;
///
/// let finding = Finding::new("/tasks/3/depends_on/0", "`T-099` is not a task of this plan");
/// assert_eq!(
///     finding.to_string(),
///     "/tasks/3/depends_on/0: `T-099` is not a task of this plan"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Where, as a JSON pointer; empty for the whole document.
    pub path: String,
    /// What is wrong there, and what would be right.
    pub problem: String,
}

impl Finding {
    /// Something wrong at `path`.
    pub fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            problem: problem.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match self.path.as_str() {
            "" => "(the whole)",
            path => path,
        };
        write!(f, "{path}: {}", self.problem)
    }
}
