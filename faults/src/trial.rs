//! Running the tests, and hearing how they ended and what they measured.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::Path;
use std::process::Command;

use crate::matrix::{Matrix, Test};

/// Tests that measure something begin such lines with their name.
const FIGURES: [&str; 2] = ["soak: ", "crash_everywhere: "];

/// How the tests of the matrix ended.
#[derive(Debug, Default)]
pub(crate) struct Trials {
    ended: BTreeMap<Test, bool>,
    pub(crate) figures: Vec<String>,
}

impl Trials {
    /// Runs each test once, those of one program together.
    pub(crate) fn run(root: &Path, matrix: &Matrix) -> Result<Self, Box<dyn Error>> {
        let mut programs: BTreeMap<(&str, &str), BTreeSet<&Test>> = BTreeMap::new();
        for test in matrix.tests() {
            let program = (test.package.as_str(), test.target.as_str());
            programs.entry(program).or_default().insert(test);
        }
        let mut trials = Self::default();
        for ((package, target), tests) in programs {
            println!("{} tests of {package} {target}", tests.len());
            let mut cargo = Command::new(env!("CARGO"));
            cargo.current_dir(root);
            cargo.args(["test", "--quiet", "--package", package, "--all-features"]);
            match target {
                "lib" => cargo.arg("--lib"),
                target => cargo.args(["--test", target]),
            };
            // One line a test, with its name, and what tests print about themselves.
            cargo.args(["--", "--exact", "--show-output", "--format=pretty"]);
            cargo.args(tests.iter().map(|test| &test.path));
            let output = cargo.output()?;
            let told = String::from_utf8_lossy(&output.stdout);
            trials.hear(&told, &tests);
            if let Some(test) = tests.iter().find(|test| !trials.ended.contains_key(*test)) {
                let why = String::from_utf8_lossy(&output.stderr);
                return Err(format!("the test `{test}` did not run:\n{told}\n{why}").into());
            }
        }
        Ok(trials)
    }

    fn hear(&mut self, told: &str, tests: &BTreeSet<&Test>) {
        for line in told.lines() {
            if FIGURES.iter().any(|name| line.starts_with(name)) {
                self.figures.push(line.to_owned());
            }
            let ended = line
                .strip_prefix("test ")
                .and_then(|rest| rest.split_once(" ... "));
            if let Some((path, end)) = ended
                && let Some(test) = tests.iter().find(|test| test.path == path)
            {
                self.ended.insert((*test).clone(), end == "ok");
            }
        }
    }

    pub(crate) fn holds(&self, test: &Test) -> bool {
        self.ended.get(test).copied().unwrap_or(false)
    }

    pub(crate) fn broken(&self) -> Vec<&Test> {
        let broken = self.ended.iter().filter(|(_, holds)| !**holds);
        broken.map(|(test, _)| test).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_and_figures_are_heard() {
        let test = |path: &str| Test::try_from(format!("p it {path}")).unwrap();
        let (good, bad, silent) = (test("a::good"), test("a::bad"), test("a::silent"));
        let tests: BTreeSet<&Test> = [&good, &bad, &silent].into();
        let mut trials = Trials::default();
        let told = "running 2 tests\ntest a::good ... ok\ntest a::bad ... FAILED\n\
                    test a::other ... ok\nsoak: 3 runs\nother: 4\n";
        trials.hear(told, &tests);
        assert!(trials.holds(&good) && !trials.holds(&bad) && !trials.holds(&silent));
        assert_eq!(trials.broken(), [&bad]);
        assert_eq!(trials.figures, ["soak: 3 runs"]);
    }
}
