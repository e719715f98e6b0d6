//! How payloads are made unreadable to whoever reads the database without a key.
//!
//! An engine that is [connected with a codec](crate::Engine::with_codec) seals what it writes: states and
//! updates, inputs, sends, answers, messages, questions, kept results, errors, events, documents of the long-term
//! store. What was written without one stays readable, so that a codec can be given to a database in use;
//! [`Engine::reencrypt`](crate::Engine::reencrypt) seals it afterwards.
//!
//! **In the clear** stay: which graph, node and task; the names of steps, questions, signals, events and
//! threads, and the keys of signals; ids, numbers and times; how large a payload is; the id of the key that it
//! is sealed with; which runs hold the same large value; what operators note; schedules but for the state that
//! their runs begin with; and all that nodes write in transactions of their own. Do not put secrets into names.
//!
//! With the feature `encryption`, `Keyring` is a codec that is ready to be used.

#[cfg(feature = "encryption")]
mod keyring;

use std::fmt;

use sha2::{Digest, Sha256};

use crate::error::{NodeError, NodeErrorKind};

#[cfg(feature = "encryption")]
pub use keyring::{BadKey, KEY_BYTES, Keyring};

/// Most bytes of a key's id.
pub const KEY_ID_MAX: usize = 64;

/// The address of a large value: what it is stored and found under.
pub type Address = [u8; 32];

/// Seals payloads with a key that has an id, and opens them again.
///
/// Both run where the engine runs nodes: let them neither wait nor call out. Fetch keys from where they
/// are managed before the engine is connected.
///
/// ```
/// use velo_engine::codec::{Codec, SealError};
///
/// /// Hides nothing: for a test that wants to see what is sealed.
/// #[derive(Debug)]
/// struct Reversed;
///
/// impl Codec for Reversed {
///     fn key(&self) -> &str { "reversed" }
///     fn seal(&self, _home: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
///         Ok(plain.iter().rev().copied().collect())
///     }
///     fn open(&self, key: &str, _home: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
///         match key {
///             "reversed" => Ok(sealed.iter().rev().copied().collect()),
///             other => Err(SealError::UnknownKey { key: other.to_owned() }),
///         }
///     }
/// }
/// assert_eq!(Reversed.seal(b"", b"ab")?, b"ba");
/// # Ok::<(), SealError>(())
/// ```
pub trait Codec: fmt::Debug + Send + Sync + 'static {
    /// The id of the key that new payloads are sealed with; not empty, and at most [`KEY_ID_MAX`] bytes.
    /// It is stored readable beside each.
    fn key(&self) -> &str;

    /// Seals `plain` with that key. `home` says where the payload is stored: what is sealed for one home
    /// must not open in another.
    ///
    /// # Errors
    /// [`SealError::Failed`].
    fn seal(&self, home: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError>;

    /// Opens what was sealed with the key of this id, which may be an older one.
    ///
    /// # Errors
    /// [`SealError::UnknownKey`], or [`SealError::Broken`] when the bytes or their home are not those that
    /// were sealed.
    fn open(&self, key: &str, home: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError>;

    /// Where a large value is stored. Equal values have equal addresses, which whoever reads the tables can
    /// see: derive them with a key, so that nobody else can try what they guess. The default needs none.
    fn address(&self, content: &[u8]) -> Address {
        plain_address(content)
    }
}

/// The address of a large value by its content alone.
pub(crate) fn plain_address(content: &[u8]) -> Address {
    Sha256::digest(content).into()
}

/// A payload that cannot be sealed or opened. Says nothing of what is in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The key is not among those that the codec has.
    #[error(
        "it is sealed with the key `{key}`, which this process does not have: give its codec that key"
    )]
    UnknownKey {
        /// The key's id.
        key: String,
    },
    /// It is sealed, and the engine has no codec at all.
    #[error(
        "it is sealed with the key `{key}`, and this process has no codec: connect its engine with one"
    )]
    NoCodec {
        /// The key's id.
        key: String,
    },
    /// The key does not fit, or the bytes are not those that were sealed here.
    #[error(
        "it does not open with the key `{key}`: the key is another one of that id, or the bytes were changed or moved"
    )]
    Broken {
        /// The key's id.
        key: String,
    },
    /// A large value that it names is not there.
    #[error(
        "a large value that it names is not there: its run is being deleted, or rows were removed by hand"
    )]
    Missing,
    /// The bytes are no payload of this engine.
    #[error("it begins like a sealed payload, and is none that this version can read")]
    Malformed,
    /// The codec could not seal it.
    #[error("the codec could not seal it")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl SealError {
    /// What it means to a node: it is not tried again.
    pub(crate) fn of_node(&self) -> NodeError {
        NodeError::of(NodeErrorKind::Unreadable, self)
    }
}
