//! Nothing is here yet.
