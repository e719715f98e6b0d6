//! Which `initdb` and `postgres` are run.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::timeout;

use super::candidates;
use super::error::PostgresError;
use super::place::Place;
use super::program;
use super::settings::Settings;
use super::stage::Stage;

/// The oldest major version that Velo works with.
const OLDEST_MAJOR: u32 = 14;

/// How long a server may take to tell its version.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// Names the folder to take the binaries from.
const CHOICE: &str = "VELO_PG_BIN";

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
        for folder in candidates::in_order(Path::new("/"), &path, &place.binaries()) {
            match Self::look(&folder, place).await {
                Ok(found) if suits(found.major, data) => return Ok(found),
                Ok(found) => unusable.push(found.described()),
                Err(why) => unusable.push(format!("{}: {why}", folder.display())),
            }
        }
        let download = match download(place, data.unwrap_or(DOWNLOADED_MAJOR), progress).await {
            Ok(folder) => {
                match Self::look(&folder, place).await {
                    Ok(found) => return Ok(found),
                    Err(why) => unusable.push(format!("{}: {why}", folder.display())),
                }
                None
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
        if !candidates::is_complete(&folder) {
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
        let asked = postgres.arg("--version").kill_on_drop(true).output();
        let output = match timeout(VERSION_LIMIT, asked).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(format!("could not run postgres: {error}")),
            Err(_) => return Err("postgres does not tell its version in time".to_owned()),
        };
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

/// Reads `postgres (PostgreSQL) 15.18 (Debian …)`, also `17beta1`.
fn major_in(said: &str) -> Option<u32> {
    candidates::leading_number(said.split_once("(PostgreSQL)")?.1.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

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
