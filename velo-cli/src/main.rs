//! The binary `velo`. It can do nothing yet, and says so.

use std::process::ExitCode;

fn main() -> ExitCode {
    eprintln!("velo cannot run projects yet: README.md says what there is");
    ExitCode::FAILURE
}
