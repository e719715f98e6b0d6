//! Runs the tests of the fault matrix and writes what came of it to `FAULTS.md`.
//!
//! `cargo run -p velo-faults` takes some minutes. `VELO_SOAK_SECONDS=1800` makes the soak in it half an hour long.

mod matrix;
mod report;
mod trial;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use matrix::Matrix;
use trial::Trials;

/// Where the workspace is: this program is for its developers alone.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// What is written, from the root.
const FILE: &str = "FAULTS.md";

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let root = Path::new(ROOT);
    let matrix = Matrix::read(root)?;
    let trials = Trials::run(root, &matrix)?;
    let path = root.join(FILE);
    std::fs::write(&path, report::of(&matrix, &trials))
        .map_err(|error| format!("could not write {}: {error}", path.display()))?;
    let broken = trials.broken();
    for test in &broken {
        eprintln!("did not hold: {test}");
    }
    println!("{FILE} tells of {} faults", matrix.faults.len());
    Ok(if broken.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_that_the_matrix_names_is_there() {
        let root = Path::new(ROOT);
        let matrix = Matrix::read(root).unwrap();
        let missing: Vec<String> = matrix
            .tests()
            .filter(|test| !test.is_written(root))
            .map(|test| test.to_string())
            .collect();
        assert_eq!(missing, Vec::<String>::new());
    }

    #[test]
    fn every_fault_has_a_test_or_a_reason_and_a_line_in_the_report() {
        let root = Path::new(ROOT);
        let matrix = Matrix::read(root).unwrap();
        let report = std::fs::read_to_string(root.join(FILE)).unwrap();
        for fault in &matrix.faults {
            assert_ne!(
                fault.tests.is_empty(),
                fault.absent.is_none(),
                "{}",
                fault.id
            );
            let line = report
                .lines()
                .find(|line| line.starts_with(&format!("| {} |", fault.id)))
                .unwrap_or_else(|| panic!("{FILE} has no line for {}: make it anew", fault.id));
            assert!(!line.contains("**broken**"), "{line}");
            for test in &fault.tests {
                assert!(
                    line.contains(test.name()),
                    "{} lacks {test}: make {FILE} anew",
                    fault.id
                );
            }
        }
    }
}
