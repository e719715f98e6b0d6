//! Kills the binary at every step.
