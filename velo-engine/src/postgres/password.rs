//! The password of the private server's only role.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use uuid::Uuid;

use super::error::PostgresError;
use super::place::Place;

/// The role that owns everything in the private server: a superuser, as the server is the caller's alone.
pub(super) const ROLE: &str = "velo";

/// Reads the password, or makes one if there is no database yet that could have another.
pub(super) fn of(place: &Place) -> Result<String, PostgresError> {
    let path = place.password();
    match fs::read_to_string(&path) {
        Ok(password) => return Ok(password.trim().to_owned()),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(PostgresError::files("read", &path, error));
        }
        Err(_) => {}
    }
    if place.data().exists() {
        let why = format!("its password file {} is missing", path.display());
        return Err(PostgresError::Damaged {
            folder: place.data(),
            why,
        });
    }
    // Two random ids, since there is no other source of randomness among the dependencies: 244 random bits.
    let password = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    write(place, &path, &password)
        .map_err(|source| PostgresError::files("write", &path, source))?;
    Ok(password)
}

/// Writes a file that only the server's account may read; it appears when it is complete.
fn write(place: &Place, path: &Path, secret: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(secret.as_bytes())?;
    file.sync_all()?;
    place.account.give(&new)?;
    fs::rename(&new, path)
}
