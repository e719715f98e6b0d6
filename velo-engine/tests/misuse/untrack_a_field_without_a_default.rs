use serde::{Deserialize, Serialize};
use velo_engine::prelude::*;

#[derive(Debug, Clone)]
struct Cache;

#[derive(State, Debug, Clone, Serialize, Deserialize)]
struct Report {
    #[state(untracked)]
    #[serde(skip)]
    cache: Cache,
}

fn main() {}
