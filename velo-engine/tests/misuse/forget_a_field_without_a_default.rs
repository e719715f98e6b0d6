use serde::{Deserialize, Serialize};
use velo_engine::prelude::*;

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Mood {
    Fine,
}

#[derive(State, Debug, Clone, Serialize, Deserialize)]
struct Report {
    #[state(ephemeral)]
    mood: Mood,
}

fn main() {}
