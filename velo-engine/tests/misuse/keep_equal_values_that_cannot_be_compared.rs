use serde::{Deserialize, Serialize};
use velo_engine::prelude::*;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Draft;

#[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
struct Report {
    #[state(any)]
    draft: Draft,
}

fn main() {}
