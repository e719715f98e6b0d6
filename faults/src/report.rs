//! The report, as Markdown.

use std::fmt::Write as _;

use crate::matrix::{Fault, Matrix};
use crate::trial::Trials;

const HEAD: &str = "\
# Faults

What can go wrong, what is to come of it, and what came of it when it was let happen. `cargo run -p velo-faults`
runs the tests and writes this file; `faults/matrix.toml` has the rows. The invariants that must hold after each:

- **G1** every acknowledged start comes to an end or waits with a reason;
- **G2** what a node wrote in its transaction is there as often as its steps were committed;
- **G3** calls outside carry as many keys as steps were committed, however often they were made;
- **G4** the steps of a run have no gap, and none is committed twice;
- **G5** no step is committed under an older lease than the one before it;
- **G6** limits are never exceeded;
- **G7** nothing is left that belongs to no run: no lease, timer, message, or place in the queue;
- **G8** what is counted agrees with what is there.
";

const KINDS: [(char, &str); 5] = [
    ('A', "Worker processes"),
    ('B', "The database"),
    ('C', "Time"),
    ('D', "Several at once"),
    ('E', "Code, data and upgrades"),
];

pub(crate) fn of(matrix: &Matrix, trials: &Trials) -> String {
    let mut report = HEAD.to_owned();
    report.push_str("\n## Figures of this run\n\n```text\n");
    for line in &trials.figures {
        report.push_str(line);
        report.push('\n');
    }
    report.push_str("```\n");
    for (letter, title) in KINDS {
        let _ = write!(
            report,
            "\n## {letter}. {title}\n\n| | what goes wrong | what is to come of it | | shown by |\n|---|---|---|---|---|\n"
        );
        for fault in &matrix.faults {
            if fault.id.starts_with(letter) {
                report.push_str(&line(fault, trials));
            }
        }
    }
    report
}

fn line(fault: &Fault, trials: &Trials) -> String {
    let Fault {
        id, what, expect, ..
    } = fault;
    let (outcome, shown) = match &fault.absent {
        Some(why) => ("not here", why.clone()),
        None => {
            let holds = fault.tests.iter().all(|test| trials.holds(test));
            let tests: Vec<String> = fault
                .tests
                .iter()
                .map(|test| format!("`{}`", test.name()))
                .collect();
            (if holds { "holds" } else { "**broken**" }, tests.join(", "))
        }
    };
    format!("| {id} | {what} | {expect} | {outcome} | {shown} |\n")
}
