//! Where the content of artifacts is kept: once for each content and tenant, under its hash.
//!
//! A key is never written twice with different bytes, so nothing needs locking and a copy that was
//! read whole is proven by its name.

use std::error::Error as _;
use std::io;
use std::path::Path as FilePath;
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::TenantId;

/// The longest content that is kept, in bytes.
pub const MAX_BLOB: usize = 16 * 1024 * 1024;

/// Content that the store has: what a row says about it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Blob {
    /// Its key, `tenant/{id}/artifacts/{sha256}`.
    pub path: String,
    /// Its hash, 64 lowercase hexadecimal digits.
    pub sha256: String,
    /// Its length.
    pub bytes: i64,
}

impl Blob {
    /// What `content` is called once the store has it. Stores nothing.
    #[must_use]
    pub fn describe(tenant: TenantId, content: &[u8]) -> Self {
        let sha256 = sha256_hex(content);
        Self {
            path: format!("tenant/{tenant}/artifacts/{sha256}"),
            sha256,
            bytes: i64::try_from(content.len()).expect("no memory holds that much"),
        }
    }
}

/// SHA-256 of `content`, as 64 lowercase hexadecimal digits.
#[must_use]
pub fn sha256_hex(content: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(content)
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a string takes all text");
            text
        })
}

/// The store of contents: a local folder, or anything else that `object_store` speaks to.
///
/// ```
/// # async fn example(folder: &std::path::Path) -> Result<(), velo_agents::blob::BlobError> {
/// use velo_agents::{blob::Blobs, domain::LOCAL_TENANT};
///
/// let blobs = Blobs::local(folder)?;
/// let blob = blobs.put(LOCAL_TENANT, b"# PRD".to_vec()).await?;
/// assert_eq!(blobs.get(&blob.path, &blob.sha256).await?, b"# PRD");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
}

impl Blobs {
    /// A store in `folder`, which is made if it does not exist. What it acknowledges has reached
    /// the disk, because rows that point at it are just as durable.
    ///
    /// # Errors
    /// [`BlobError::Folder`] when the folder cannot be made or opened.
    pub fn local(folder: &FilePath) -> Result<Self, BlobError> {
        let refused = |source: io::Error| BlobError::Folder {
            folder: folder.display().to_string(),
            source,
        };
        std::fs::create_dir_all(folder).map_err(refused)?;
        let store = LocalFileSystem::new_with_prefix(folder)
            .map_err(|error| refused(io::Error::other(error)))?;
        Ok(Self {
            store: Arc::new(store.with_fsync(true)),
        })
    }

    /// A store in anything that `object_store` speaks to.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }

    /// Keeps `content`, unless the tenant has it already. A copy that turns out to be damaged is
    /// replaced.
    ///
    /// # Errors
    /// [`BlobError::TooLong`], [`BlobError::NoSpace`] or [`BlobError::Store`].
    ///
    /// # Cancel safety
    /// The content may be kept or not; putting it again is right in both cases.
    pub async fn put(&self, tenant: TenantId, content: Vec<u8>) -> Result<Blob, BlobError> {
        if content.len() > MAX_BLOB {
            return Err(BlobError::TooLong {
                bytes: content.len() as u64,
            });
        }
        let blob = Blob::describe(tenant, &content);
        let payload = PutPayload::from(content);
        match self
            .write(&blob.path, payload.clone(), PutMode::Create)
            .await
        {
            Err(object_store::Error::AlreadyExists { .. }) => {
                match self.get(&blob.path, &blob.sha256).await {
                    Ok(_) => Ok(blob),
                    Err(
                        BlobError::Corrupt { .. }
                        | BlobError::Missing { .. }
                        | BlobError::TooLong { .. },
                    ) => {
                        tracing::warn!(blob.path = %blob.path, "replaced a damaged blob");
                        self.write(&blob.path, payload, PutMode::Overwrite)
                            .await
                            .map(|()| blob.clone())
                            .map_err(|error| BlobError::on("write", &blob.path, error))
                    }
                    Err(error) => Err(error),
                }
            }
            Ok(()) => Ok(blob),
            Err(error) => Err(BlobError::on("write", &blob.path, error)),
        }
    }

    async fn write(
        &self,
        path: &str,
        payload: PutPayload,
        mode: PutMode,
    ) -> Result<(), object_store::Error> {
        // No attributes: a local folder refuses them. The media type is in the row.
        let options = PutOptions {
            mode,
            ..PutOptions::default()
        };
        self.store
            .put_opts(&Path::parse(path)?, payload, options)
            .await
            .map(|_| ())
    }

    /// Reads the content at `path` and proves it by `sha256`.
    ///
    /// # Errors
    /// [`BlobError::Missing`] when it is not there, [`BlobError::Corrupt`] when it is not what was
    /// written, [`BlobError::Store`] when the store does not answer.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn get(&self, path: &str, sha256: &str) -> Result<Vec<u8>, BlobError> {
        let failed = |error| BlobError::on("read", path, error);
        let key = Path::parse(path).map_err(|error| failed(error.into()))?;
        let found = self.store.get(&key).await.map_err(failed)?;
        // Looked at before reading: a foreign file of any size must not fill the memory.
        if found.meta.size > MAX_BLOB as u64 {
            return Err(BlobError::TooLong {
                bytes: found.meta.size,
            });
        }
        let content = found.bytes().await.map_err(failed)?;
        let actual = sha256_hex(&content);
        if actual == sha256 {
            Ok(content.into())
        } else {
            Err(BlobError::Corrupt {
                path: path.to_owned(),
                actual,
            })
        }
    }
}

/// Content that could not be kept or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// The local folder cannot be used.
    #[error("could not open the artifact folder {folder}: make it writable, or choose another")]
    Folder {
        /// The folder.
        folder: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The content exceeds [`MAX_BLOB`].
    #[error(
        "could not handle an artifact of {bytes} bytes, because at most {MAX_BLOB} are kept: split it"
    )]
    TooLong {
        /// Its length.
        bytes: u64,
    },
    /// The disk or the quota is full.
    #[error(
        "could not write artifact {path}, because no space is left in the store: free some and try again"
    )]
    NoSpace {
        /// The key.
        path: String,
        /// The cause.
        #[source]
        source: object_store::Error,
    },
    /// Nothing is stored under this key.
    #[error(
        "could not read artifact {path}, because the store does not have it: restore it from a backup of the store"
    )]
    Missing {
        /// The key.
        path: String,
    },
    /// What is stored is not what was written.
    #[error(
        "could not read artifact {path}, because its content has hash {actual}: restore it from a backup of the store"
    )]
    Corrupt {
        /// The key.
        path: String,
        /// Hash of what is there.
        actual: String,
    },
    /// The store did not do what it was asked.
    #[error("could not {doing} artifact {path}: check that the store can be reached and try again")]
    Store {
        /// `read` or `write`.
        doing: &'static str,
        /// The key.
        path: String,
        /// The cause.
        #[source]
        source: object_store::Error,
    },
}

impl BlobError {
    fn on(doing: &'static str, path: &str, source: object_store::Error) -> Self {
        let path = path.to_owned();
        match source {
            object_store::Error::NotFound { .. } => Self::Missing { path },
            source if is_out_of_space(&source) => Self::NoSpace { path, source },
            source => Self::Store {
                doing,
                path,
                source,
            },
        }
    }

    /// Whether the same call may succeed later without the data changing.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::NoSpace { .. } | Self::Store { .. })
    }
}

/// Looks for a full disk in the chain of causes, where `object_store` leaves it.
fn is_out_of_space(error: &object_store::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            );
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::domain::LOCAL_TENANT;

    fn local() -> (tempfile::TempDir, Blobs) {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::local(&folder.path().join("blobs")).unwrap();
        (folder, blobs)
    }

    fn file(folder: &tempfile::TempDir, blob: &Blob) -> PathBuf {
        folder.path().join("blobs").join(&blob.path)
    }

    #[tokio::test]
    async fn what_was_put_is_got_back_under_its_hash() {
        let (folder, blobs) = local();
        let blob = blobs.put(LOCAL_TENANT, b"hello".to_vec()).await.unwrap();
        assert_eq!(
            blob.sha256,
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        );
        assert_eq!(
            blob.path,
            format!("tenant/{LOCAL_TENANT}/artifacts/{}", blob.sha256)
        );
        assert_eq!(blobs.get(&blob.path, &blob.sha256).await.unwrap(), b"hello");
        assert!(file(&folder, &blob).is_file());
    }

    #[tokio::test]
    async fn putting_the_same_content_again_writes_nothing() {
        let (folder, blobs) = local();
        let first = blobs.put(LOCAL_TENANT, b"hello".to_vec()).await.unwrap();
        let written = std::fs::metadata(file(&folder, &first))
            .unwrap()
            .modified()
            .unwrap();
        let second = blobs.put(LOCAL_TENANT, b"hello".to_vec()).await.unwrap();
        assert_eq!(first, second);
        assert_eq!(
            std::fs::metadata(file(&folder, &first))
                .unwrap()
                .modified()
                .unwrap(),
            written
        );
    }

    #[tokio::test]
    async fn two_tenants_do_not_share_content() {
        let (_folder, blobs) = local();
        let ours = blobs.put(LOCAL_TENANT, b"hello".to_vec()).await.unwrap();
        let theirs = blobs.put(TenantId::new(), b"hello".to_vec()).await.unwrap();
        assert_ne!(ours.path, theirs.path);
    }

    #[tokio::test]
    async fn damaged_content_is_never_returned_and_a_put_mends_it() {
        let (folder, blobs) = local();
        let blob = blobs.put(LOCAL_TENANT, b"hello".to_vec()).await.unwrap();
        std::fs::write(file(&folder, &blob), b"hellO").unwrap();
        let error = blobs.get(&blob.path, &blob.sha256).await.unwrap_err();
        assert!(
            matches!(error, BlobError::Corrupt { .. }) && !error.is_transient(),
            "{error}"
        );
        blobs.put(LOCAL_TENANT, b"hello".to_vec()).await.unwrap();
        assert_eq!(blobs.get(&blob.path, &blob.sha256).await.unwrap(), b"hello");
    }

    #[tokio::test]
    async fn missing_content_is_said_to_be_missing() {
        let (_folder, blobs) = local();
        let blob = Blob::describe(LOCAL_TENANT, b"never put");
        let error = blobs.get(&blob.path, &blob.sha256).await.unwrap_err();
        assert!(matches!(error, BlobError::Missing { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_path_cannot_leave_the_store() {
        let (folder, blobs) = local();
        std::fs::write(folder.path().join("secret"), b"hello").unwrap();
        let hash = sha256_hex(b"hello");
        for path in ["../secret", "/../secret", "tenant/../../secret"] {
            assert!(blobs.get(path, &hash).await.is_err(), "{path}");
        }
    }

    #[tokio::test]
    async fn content_at_the_limit_is_kept_and_one_byte_more_is_refused() {
        let (_folder, blobs) = local();
        let blob = blobs.put(LOCAL_TENANT, vec![7; MAX_BLOB]).await.unwrap();
        assert_eq!(
            blobs.get(&blob.path, &blob.sha256).await.unwrap().len(),
            MAX_BLOB
        );
        let error = blobs
            .put(LOCAL_TENANT, vec![7; MAX_BLOB + 1])
            .await
            .unwrap_err();
        assert!(
            matches!(error, BlobError::TooLong { bytes } if bytes == MAX_BLOB as u64 + 1),
            "{error}"
        );
    }

    #[test]
    fn a_full_disk_is_recognised_and_may_be_tried_again() {
        let full = object_store::Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(io::Error::from(io::ErrorKind::StorageFull)),
        };
        let error = BlobError::on("write", "tenant/x", full);
        assert!(
            matches!(error, BlobError::NoSpace { .. }) && error.is_transient(),
            "{error}"
        );
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Blobs::local(&file.path().join("under-a-file")).unwrap_err();
        assert!(error.to_string().contains("under-a-file"), "{error}");
    }
}
