//! The folders in which a server may be found, best first.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// Where distributions put the folder `bin`: below the first, in a folder that begins with the second.
const DISTRIBUTIONS: [(&str, &str); 6] = [
    ("usr/lib/postgresql", ""),
    ("usr", "pgsql-"),
    ("opt/homebrew/opt", "postgresql@"),
    ("usr/local/opt", "postgresql@"),
    ("home/linuxbrew/.linuxbrew/opt", "postgresql@"),
    ("usr/local", "pgsql"),
];

/// The folders with a server, best first: distributions' from new to old, `PATH` in its order, downloads.
pub(super) fn in_order(top: &Path, path: &OsStr, downloads: &Path) -> Vec<PathBuf> {
    let distributions = DISTRIBUTIONS
        .iter()
        .flat_map(|(below, beginning)| below_versions(&top.join(below), beginning));
    let mut found = newest_first(distributions.collect());
    found.extend(env::split_paths(path).filter_map(|folder| behind_links(&folder)));
    found.extend(newest_first(below_versions(downloads, "")));
    let mut seen = Vec::new();
    found.retain(|folder| {
        let resolved = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        let is_new = is_complete(folder) && !seen.contains(&resolved);
        seen.push(resolved);
        is_new
    });
    found
}

/// The folders `bin` in the folders of `parent` whose names begin so, with the version that the rest names.
fn below_versions(parent: &Path, beginning: &str) -> Vec<(Option<u32>, PathBuf)> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix(beginning)?;
            Some((leading_number(version), entry.path().join("bin")))
        })
        .collect()
}

fn newest_first(mut folders: Vec<(Option<u32>, PathBuf)>) -> Vec<PathBuf> {
    folders.sort_by(|a, b| b.cmp(a));
    folders.into_iter().map(|(_, folder)| folder).collect()
}

/// The folder in which `initdb` really is: distributions link some programs into `PATH` and not others.
fn behind_links(folder: &Path) -> Option<PathBuf> {
    let initdb = folder.join("initdb").canonicalize().ok()?;
    let behind = initdb.parent().filter(|behind| is_complete(behind));
    Some(behind.unwrap_or(folder).to_owned())
}

pub(super) fn is_complete(folder: &Path) -> bool {
    ["initdb", "postgres"]
        .iter()
        .all(|program| folder.join(program).is_file())
}

pub(super) fn leading_number(text: &str) -> Option<u32> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(top: &Path, folder: &str, programs: &[&str]) -> PathBuf {
        let folder = top.join(folder);
        fs::create_dir_all(&folder).unwrap();
        for program in programs {
            fs::write(folder.join(program), "").unwrap();
        }
        folder
    }

    const BOTH: &[&str] = &["initdb", "postgres"];

    #[test]
    fn the_newest_of_all_distributions_comes_first_and_path_after_them() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path();
        let path = with(top, "somewhere/bin", BOTH);
        let downloads = with(top, "data/binaries", &[]);
        let downloaded = with(&downloads, "18.6.0/bin", BOTH);
        let source = with(top, "usr/local/pgsql/bin", BOTH);
        let nine = with(top, "usr/lib/postgresql/9.6/bin", BOTH);
        let fifteen = with(top, "usr/lib/postgresql/15/bin", BOTH);
        let sixteen = with(top, "usr/pgsql-16/bin", BOTH);
        let brewed = with(top, "opt/homebrew/opt/postgresql@17/bin", BOTH);
        with(top, "usr/lib/postgresql/18/bin", &["postgres", "psql"]);
        let expected = [
            brewed,
            sixteen,
            fifteen,
            nine,
            source,
            path.clone(),
            downloaded,
        ];
        assert_eq!(in_order(top, path.as_os_str(), &downloads), expected);
    }

    #[test]
    fn a_link_in_path_leads_to_the_folder_behind_it() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        let real = with(&top, "cellar/16/bin", BOTH);
        let linked = with(&top, "links", &[]);
        std::os::unix::fs::symlink(real.join("initdb"), linked.join("initdb")).unwrap();
        let nothing = with(&top, "nothing", &["psql"]);
        let path = env::join_paths([&nothing, &linked, &real]).unwrap();
        assert_eq!(in_order(&top, &path, &top.join("none")), [real]);
    }

    #[test]
    fn a_folder_found_twice_is_tried_once() {
        let top = tempfile::tempdir().unwrap();
        let fifteen = with(top.path(), "usr/lib/postgresql/15/bin", BOTH);
        assert_eq!(
            in_order(top.path(), fifteen.as_os_str(), &top.path().join("none")),
            [fifteen]
        );
    }
}
