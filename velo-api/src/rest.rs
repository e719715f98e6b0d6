//! The REST handlers, a file for each noun.

pub(crate) mod agent;
pub(crate) mod artifact;
pub(crate) mod health;
pub(crate) mod project;
