//! The agency on `velo-engine`: the catalogue of 51 agents, the domain's tables, the artifact store
//! and the contract of the model client.
#![deny(missing_docs)]

pub mod agency;
pub mod blob;
pub mod catalogue;
pub mod document;
pub mod domain;
#[cfg(feature = "fake-gemini")]
pub mod fake_gemini;
pub mod model;
pub mod planning;
pub mod prompt;
