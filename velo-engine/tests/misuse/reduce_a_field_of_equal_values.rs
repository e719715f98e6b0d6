use serde::{Deserialize, Serialize};
use velo_engine::prelude::*;

#[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
struct Report {
    #[state(any, append)]
    drafts: Vec<u32>,
}

fn main() {}
