//! The documents as files.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use velo_agents::domain::artifact::Artifact;
use velo_agents::domain::project::Project;

use crate::exit::{Failure, chain};
use crate::house::House;

/// Longest folder name that is made of a project's name.
const SLUG_MAX: usize = 48;

/// Writes the documents into `out`, or into a folder of the project's name; returns the folder.
pub(super) async fn write(
    house: &House,
    project: &Project,
    out: Option<&Path>,
    artifacts: &[Artifact],
) -> Result<PathBuf, Failure> {
    let folder = out.map_or_else(|| default_folder(project), Path::to_path_buf);
    for artifact in artifacts {
        let content = house
            .agency
            .blobs()
            .get(&artifact.gcs_path, &artifact.sha256)
            .await
            .map_err(|error| Failure::environment(chain(&error)))?;
        let path = folder.join(&artifact.file_name);
        write_whole(&path, &content).map_err(|error| {
            Failure::environment(format!(
                "could not write {}: {error}; the documents are kept: velo run --resume {} --out FOLDER writes them elsewhere",
                path.display(),
                project.id
            ))
        })?;
    }
    Ok(folder)
}

/// Whether documents can be written into `out`: asked before anything is paid for.
pub(super) fn probe(out: &Path) -> Result<(), Failure> {
    let probe = out.join(format!(".velo-{}", std::process::id()));
    std::fs::create_dir_all(out)
        .and_then(|()| std::fs::File::create(&probe))
        .and_then(|_| std::fs::remove_file(&probe))
        .map_err(|error| {
            Failure::environment(format!(
                "could not write into {}: {error}; choose another folder with --out",
                out.display()
            ))
        })
}

/// Beside, then renamed: a reader never sees half a document.
fn write_whole(path: &Path, content: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let beside = path.with_extension(format!("part-{}", std::process::id()));
    let written = std::fs::File::create(&beside).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| std::fs::rename(&beside, path));
    if renamed.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    renamed
}

fn default_folder(project: &Project) -> PathBuf {
    let id = project.id.to_string();
    // The end of the id is chance, the beginning time.
    let tail = &id[id.len() - 6..];
    Path::new("velo-out").join(format!("{}-{tail}", slug(&project.name)))
}

fn slug(name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        if c.is_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() >= SLUG_MAX {
            break;
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() {
        "project".to_owned()
    } else {
        slug.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_named_after_the_project_and_stays_plain() {
        assert_eq!(
            slug("A Habit Tracker, with streaks!"),
            "a-habit-tracker-with-streaks"
        );
        assert_eq!(slug("../../etc/passwd"), "etc-passwd");
        assert_eq!(slug("🦀🦀"), "project");
        assert!(slug(&"ä".repeat(500)).len() <= SLUG_MAX + 4);
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_is_left_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/prd.md");
        write_whole(&path, b"one").unwrap();
        write_whole(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(
            std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1
        );
    }
}
