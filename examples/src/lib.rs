//! No example is here yet.
