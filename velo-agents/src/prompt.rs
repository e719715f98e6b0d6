//! The words with which the agents ask a model: templates with a version and a content hash.
//!
//! What people wrote is data in a prompt and not a part of its instructions: it stands in a
//! [`block`] whose marks nothing inside it can imitate, and the prompts say so.
//!
//! ```
//! use velo_agents::prompt;
//!
//! let asked = prompt::draft_prd("A habit tracker with streaks and reminders", &[]);
//! assert_eq!(asked.request.purpose, "draft_prd");
//! assert_eq!(asked.prompt.sha256().len(), 64);
//! assert!(asked.request.turns[0].text.contains("streaks"));
//! ```

pub mod block;
mod planning;
mod template;

pub use planning::{MAX_BRIEF_BYTES, Prompted, break_down, draft_prd};
pub use template::{Prompt, TemplateError};

use std::sync::LazyLock;

/// A prompt of this program, compiled in. A test reads every one of them.
macro_rules! prompts {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)+) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub fn $name() -> &'static Prompt {
                static PROMPT: LazyLock<Prompt> = LazyLock::new(|| {
                    Prompt::parse(include_str!(concat!("../prompts/", $file)))
                        .expect("the prompts are a part of the program and read by a test")
                });
                &PROMPT
            }
        )+

        /// Every prompt.
        #[must_use]
        pub fn all() -> Vec<&'static Prompt> {
            vec![$($name()),+]
        }
    };
}

prompts! {
    /// With which Oracle writes a PRD: `brief`, `remarks`.
    oracle_draft_prd = "oracle_draft_prd.md";
    /// With which Oracle is told what is wrong with its PRD: `problems`.
    oracle_repair = "oracle_repair.md";
    /// With which Neuron breaks a PRD down: `prd`, `staff`, `remarks`.
    neuron_break_down = "neuron_break_down.md";
    /// With which Neuron is told what is wrong with its plan: `problems`.
    neuron_repair = "neuron_repair.md";
    /// With which any agent is told what is wrong with its reply: `problems`.
    repair = "repair.md";
}

#[cfg(test)]
mod tests;
