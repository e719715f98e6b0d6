//! What a user of the typed graph can observe, without a database.

mod executor;
mod misuse;
mod shape;
mod state;
