use serde::{Deserialize, Serialize};
use velo_engine::prelude::*;

#[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
struct Report {
    #[serde(default, skip_serializing)]
    topic: String,
}

fn main() {}
