//! Which `initdb` and `postgres` are run.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::PostgresError;
use super::place::Place;
use super::program;
use super::settings::Settings;
use super::stage::Stage;

/// The oldest major version that Velo works with.
const OLDEST_MAJOR: u32 = 14;

/// Names the folder to take the binaries from.
const CHOICE: &str = "VELO_PG_BIN";

/// Where distributions put the folder `bin`: below the first, in a folder that begins with the second.
const DISTRIBUTIONS: [(&str, &str); 6] = [
    ("usr/lib/postgresql", ""),
    ("usr", "pgsql-"),
    ("opt/homebrew/opt", "postgresql@"),
    ("usr/local/opt", "postgresql@"),
    ("home/linuxbrew/.linuxbrew/opt", "postgresql@"),
    ("usr/local", "pgsql"),
];

/// A folder with a server of a known version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    folder: PathBuf,
    major: u32,
}

impl Binaries {
    /// Finds or downloads a server: of the major version `data`, if that has made the data already.
    ///
    /// # Cancel safety
    /// Nothing is lost; a download begins again.
    pub(super) async fn find(
        settings: &Settings,
        place: &Place,
        data: Option<u32>,
        progress: &mut impl FnMut(Stage),
    ) -> Result<Self, PostgresError> {
        let chosen = settings.binaries.clone();
        let chosen = chosen.or_else(|| {
            env::var_os(CHOICE)
                .filter(|set| !set.is_empty())
                .map(PathBuf::from)
        });
        if let Some(folder) = chosen {
            return Self::chosen(folder, place, data).await;
        }
        let mut unusable = Vec::new();
        let path = env::var_os("PATH").unwrap_or_default();
        for folder in candidates(Path::new("/"), &path, &place.binaries()) {
            match Self::look(&folder, place).await {
                Ok(found) if suits(found.major, data) => return Ok(found),
                Ok(found) => unusable.push(found.described()),
                Err(why) => unusable.push(format!("{}: {why}", folder.display())),
            }
        }
        let download = match download(place, data.unwrap_or(DOWNLOADED_MAJOR), progress).await {
            Ok(folder) => {
                let found = Self::look(&folder, place).await;
                return found.map_err(|why| PostgresError::ChosenBinaries { folder, why });
            }
            Err(why) => why,
        };
        Err(match data {
            Some(data) => PostgresError::OtherMajor {
                folder: place.data(),
                data,
                unusable,
            },
            None => PostgresError::NoBinaries { unusable, download },
        })
    }

    async fn chosen(
        folder: PathBuf,
        place: &Place,
        data: Option<u32>,
    ) -> Result<Self, PostgresError> {
        let folder = folder.canonicalize().unwrap_or(folder);
        if !is_complete(&folder) {
            let why = "it does not hold both initdb and postgres".to_owned();
            return Err(PostgresError::ChosenBinaries { folder, why });
        }
        let found = match Self::look(&folder, place).await {
            Ok(found) => found,
            Err(why) => return Err(PostgresError::ChosenBinaries { folder, why }),
        };
        match data {
            Some(data) if data != found.major => Err(PostgresError::OtherMajor {
                folder: place.data(),
                data,
                unusable: vec![found.described()],
            }),
            _ if found.major < OLDEST_MAJOR => {
                let why = format!(
                    "Velo needs Postgres {OLDEST_MAJOR} or newer, this is {}",
                    found.major
                );
                Err(PostgresError::ChosenBinaries { folder, why })
            }
            _ => Ok(found),
        }
    }

    /// Asks the server in `folder` for its version, as the account that will run it.
    async fn look(folder: &Path, place: &Place) -> Result<Self, String> {
        let mut postgres =
            program::command(folder.join("postgres"), &place.account, Path::new("/"));
        let asked = postgres.arg("--version").kill_on_drop(true).output().await;
        let output = asked.map_err(|error| format!("could not run postgres: {error}"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let Some(major) = major_in(&said) else {
            let said = program::excerpt(&String::from_utf8_lossy(&output.stderr));
            return Err(format!("postgres does not tell its version: {said}"));
        };
        Ok(Self {
            folder: folder.to_owned(),
            major,
        })
    }

    pub(super) fn initdb(&self) -> PathBuf {
        self.folder.join("initdb")
    }

    pub(super) fn postgres(&self) -> PathBuf {
        self.folder.join("postgres")
    }

    fn described(&self) -> String {
        format!("Postgres {} in {}", self.major, self.folder.display())
    }
}

/// What is downloaded when there is no data yet that needs another version.
const DOWNLOADED_MAJOR: u32 = 18;

#[cfg(feature = "fetch-postgres")]
async fn download(
    place: &Place,
    major: u32,
    progress: &mut impl FnMut(Stage),
) -> Result<PathBuf, Option<Box<dyn std::error::Error + Send + Sync>>> {
    progress(Stage::Downloading);
    super::fetch::fetch(&place.binaries(), major)
        .await
        .map_err(Some)
}

#[cfg(not(feature = "fetch-postgres"))]
async fn download(
    _place: &Place,
    _major: u32,
    _progress: &mut impl FnMut(Stage),
) -> Result<PathBuf, Option<Box<dyn std::error::Error + Send + Sync>>> {
    Err(None)
}

fn suits(major: u32, data: Option<u32>) -> bool {
    data.map_or(major >= OLDEST_MAJOR, |data| major == data)
}

/// The folders with a server, best first: distributions' from new to old, `PATH` in its order, downloads.
fn candidates(top: &Path, path: &OsStr, downloads: &Path) -> Vec<PathBuf> {
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

fn is_complete(folder: &Path) -> bool {
    ["initdb", "postgres"]
        .iter()
        .all(|program| folder.join(program).is_file())
}

/// Reads `postgres (PostgreSQL) 15.18 (Debian …)`, also `17beta1`.
fn major_in(said: &str) -> Option<u32> {
    leading_number(said.split_once("(PostgreSQL)")?.1.trim_start())
}

fn leading_number(text: &str) -> Option<u32> {
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
        assert_eq!(candidates(top, path.as_os_str(), &downloads), expected);
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
        assert_eq!(candidates(&top, &path, &top.join("none")), [real]);
    }

    #[test]
    fn a_folder_found_twice_is_tried_once() {
        let top = tempfile::tempdir().unwrap();
        let fifteen = with(top.path(), "usr/lib/postgresql/15/bin", BOTH);
        assert_eq!(
            candidates(top.path(), fifteen.as_os_str(), &top.path().join("none")),
            [fifteen]
        );
    }

    #[test]
    fn a_server_must_be_new_enough_or_of_the_version_of_the_data() {
        assert!(suits(14, None) && suits(18, None) && !suits(13, None));
        assert!(suits(15, Some(15)) && !suits(16, Some(15)));
    }

    #[test]
    fn versions_are_read_from_what_postgres_says() {
        assert_eq!(
            major_in("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"),
            Some(15)
        );
        assert_eq!(major_in("postgres (PostgreSQL) 19beta1\n"), Some(19));
        assert_eq!(major_in("mysqld 8.0\n"), None);
    }

    #[test]
    fn without_binaries_the_error_names_three_remedies() {
        let unusable = vec!["Postgres 12 in /usr/lib/postgresql/12/bin".to_owned()];
        let message = PostgresError::NoBinaries {
            unusable,
            download: None,
        }
        .to_string();
        for part in [
            "Postgres 12 in",
            "DATABASE_URL",
            "apt-get install postgresql",
            "brew install",
            "VELO_PG_BIN",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
}
