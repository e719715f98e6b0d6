//! The tables of behaviours in `docs/langgraph.md`, against the marks of the tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The behaviours of which each has a row.
const BEHAVIOURS: &[u32] = &[
    1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 21, // routing
    22, 23, 24, 26, 27, 28, 29, 30, 31, 33, 35, 36, 37, 39, 40, 41, // failure
    42, 43, 45, 46, 48, 49, 50, 52, 53, 55, 56, 57, 59, 60, 62, 63, 64, 67,
    68, // interrupts and subgraphs
    69, 70, 72, 73, 74, 75, 77, 79, 80, 82, 83, 85, // time travel
];
/// The groups of cases of what keeps checkpoints, and how many cases each has.
const GROUPS: &[(&str, usize)] = &[
    ("put", 17),
    ("put_writes", 10),
    ("get_tuple", 10),
    ("list", 16),
    ("delete_thread", 5),
    ("delete_for_runs", 7),
    ("copy_thread", 8),
    ("prune", 8),
    ("delta_channel_history", 8),
];
/// Where a row says that there is no test.
const NO_TEST: &str = "–";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A behaviour, such as `B6`, or a case of a group, such as `put/roundtrip`.
fn is_mark(text: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_word = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte == b'_' || byte.is_ascii_lowercase())
    };
    match (text.strip_prefix(['B', 'E']), text.split_once('/')) {
        (Some(number), None) => is_number(number),
        (_, Some((group, case))) => is_word(group) && is_word(case),
        (None, None) => false,
    }
}

/// The marks at the beginning of a comment.
fn marks(comment: &str) -> Vec<String> {
    let until = comment.split_once([':', '.']);
    let listed = until.map_or(comment, |(before, _)| before);
    let listed = listed.split(", ").map(str::trim);
    listed
        .take_while(|word| is_mark(word))
        .map(str::to_owned)
        .collect()
}

fn comment_of(line: &str) -> Option<&str> {
    let documentation = line.strip_prefix("/// ");
    documentation.or_else(|| line.strip_prefix("// "))
}

/// The marks of the tests in a file: each with the name of its test. A file that only has to be
/// refused by the compiler is a test of its own.
fn marked(path: &Path, text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = Vec::new();
    for line in text.lines().map(str::trim_start) {
        if let Some(documentation) = line.strip_prefix("//! ") {
            let stem = path.file_stem().unwrap().to_string_lossy();
            found.extend(
                marks(documentation)
                    .into_iter()
                    .map(|mark| (mark, stem.to_string())),
            );
        } else if let Some(comment) = comment_of(line) {
            open.extend(marks(comment));
        } else if let Some((_, after)) = line.split_once("fn ") {
            let name: String = after
                .chars()
                .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
                .collect();
            found.extend(open.drain(..).map(|mark| (mark, name.clone())));
        }
    }
    assert!(
        open.is_empty(),
        "{open:?} of {} mark nothing",
        path.display()
    );
    found
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

struct Row {
    tests: Vec<String>,
    outcome: String,
    difference: String,
}

/// The rows whose first cell is a mark.
fn rows(document: &str) -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::new();
    for line in document.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        if !is_mark(cells[0]) {
            continue;
        }
        let [mark, tests, outcome, difference] = cells[..] else {
            panic!("not four cells: {line}")
        };
        let row = Row {
            tests: tests
                .split(", ")
                .filter(|test| *test != NO_TEST)
                .map(|test| test.trim_matches('`').to_owned())
                .collect(),
            outcome: outcome.to_owned(),
            difference: difference.to_owned(),
        };
        assert!(
            rows.insert(mark.to_owned(), row).is_none(),
            "{mark} is there twice"
        );
    }
    rows
}

#[test]
fn the_table_of_behaviours_and_the_marks_of_the_tests_agree() {
    let document = fs::read_to_string(root().join("docs/langgraph.md")).unwrap();
    let rows = rows(&document);
    let mut files = Vec::new();
    for folder in [
        "velo-engine/src",
        "velo-engine/tests",
        "velo-worker/src",
        "velo-worker/tests",
    ] {
        sources(&root().join(folder), &mut files);
    }
    let mut tests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in files {
        for (mark, test) in marked(&path, &fs::read_to_string(&path).unwrap()) {
            tests.entry(mark).or_default().push(test);
        }
    }
    let mut wrong = Vec::new();
    for (mark, row) in &rows {
        let mut listed = row.tests.clone();
        let mut marked = tests.remove(mark).unwrap_or_default();
        listed.sort();
        marked.sort();
        if listed != marked {
            wrong.push(format!(
                "{mark}: the table has {listed:?}, the tests {marked:?}"
            ));
        }
        if row.outcome.is_empty() || (listed.is_empty() && row.difference.is_empty()) {
            wrong.push(format!(
                "{mark}: no outcome, or neither a test nor a reason"
            ));
        }
    }
    wrong.extend(
        tests
            .into_iter()
            .map(|(mark, tests)| format!("{mark} of {tests:?} has no row")),
    );
    let behaviours = BEHAVIOURS.iter().map(|number| format!("B{number}"));
    let missing = behaviours.filter(|mark| !rows.contains_key(mark));
    wrong.extend(missing.map(|mark| format!("{mark} has no row")));
    for (group, cases) in GROUPS {
        let of_group = rows
            .keys()
            .filter(|mark| mark.split('/').next() == Some(group));
        let rows = of_group.count();
        if rows != *cases {
            wrong.push(format!("{group} has {rows} rows, and {cases} cases"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn marks_are_read_from_the_beginning_of_a_comment_only() {
    assert_eq!(marks("B6: what follows"), ["B6"]);
    assert_eq!(
        marks("B22, B23, put/roundtrip"),
        ["B22", "B23", "put/roundtrip"]
    );
    assert_eq!(marks("Both, B6"), Vec::<String>::new());
    assert_eq!(marks("E3"), ["E3"]);
}
