use serde::{Deserialize, Serialize};
use velo_engine::prelude::*;

#[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
struct Report {
    #[state(append, max)]
    drafts: Vec<u32>,
}

fn main() {}
