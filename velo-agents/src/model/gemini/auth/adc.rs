//! Application default credentials: whichever of the sources this machine has.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::{AuthorizedUser, MetadataServer, ServiceAccount, TokenSource};
use crate::model::gemini::config::ConfigError;

const LOGIN_FILE: &str = "gcloud/application_default_credentials.json";

/// What was found.
#[derive(Debug)]
pub struct Adc {
    /// Where tokens come from.
    pub tokens: Arc<dyn TokenSource>,
    /// The project that the credentials file names, if there is one.
    pub project: Option<String>,
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
    project_id: Option<String>,
    quota_project_id: Option<String>,
}

impl Adc {
    /// Looks, in this order, for the file that `GOOGLE_APPLICATION_CREDENTIALS` names, for the
    /// login of `gcloud`, and at last relies on the metadata server (`GCE_METADATA_HOST`).
    /// `vars` looks up environment variables. Files are read at once, tokens are not fetched.
    ///
    /// # Errors
    /// [`ConfigError`] when a file is there but cannot be used, or is named but not there.
    pub fn find(vars: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        if let Some(path) = vars("GOOGLE_APPLICATION_CREDENTIALS") {
            return Self::read(Path::new(&path));
        }
        if let Some(path) = login_file(&vars) {
            match Self::read(&path) {
                Err(ConfigError::Credentials { source, .. })
                    if source.kind() == io::ErrorKind::NotFound => {}
                found => return found,
            }
        }
        Ok(Self {
            tokens: Arc::new(MetadataServer::new(vars("GCE_METADATA_HOST").as_deref())?),
            project: None,
        })
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Credentials {
            path: path.display().to_string(),
            source,
        })?;
        let refuse = |reason: String| {
            ConfigError::invalid(format!("the credentials file {}", path.display()), reason)
        };
        let envelope: Envelope = serde_json::from_str(&text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            refuse(format!("is not a credentials file (at {line}:{column})"))
        })?;
        let tokens: Arc<dyn TokenSource> = match envelope.kind.as_str() {
            "service_account" => Arc::new(ServiceAccount::from_json(&text)?),
            "authorized_user" => Arc::new(AuthorizedUser::from_json(&text)?),
            kind => {
                return Err(refuse(format!(
                    "is of the type {kind:?}: use a service_account key or an authorized_user login"
                )));
            }
        };
        Ok(Self {
            tokens,
            project: envelope.project_id.or(envelope.quota_project_id),
        })
    }
}

fn login_file(vars: &impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let folder = match vars("APPDATA") {
        Some(folder) if cfg!(windows) => PathBuf::from(folder),
        _ => PathBuf::from(vars("HOME")?).join(".config"),
    };
    Some(folder.join(LOGIN_FILE))
}
