use serde::{Deserialize, Serialize};
use velo_engine::prelude::*;

#[derive(State, Debug, Clone, Serialize, Deserialize)]
#[state(version = 2)]
struct Unsaid {
    cents: u64,
}

#[derive(State, Debug, Clone, Serialize, Deserialize)]
struct One {
    euros: u32,
}

#[derive(State, Debug, Clone, Serialize, Deserialize)]
#[state(version = 2, from = One)]
struct Missing {
    cents: u64,
}

#[derive(State, Debug, Clone, Serialize, Deserialize)]
#[state(version = 3, from = One)]
struct Skipped {
    cents: u64,
}

impl From<One> for Skipped {
    fn from(old: One) -> Self {
        Self { cents: u64::from(old.euros) * 100 }
    }
}

fn main() {}
