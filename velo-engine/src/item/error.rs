//! Why the long-term store did not do what it was asked for.

use super::Namespace;
use crate::codec::SealError;
use crate::storable::BadValue;
use crate::store;

/// Why the long-term store did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ItemError {
    /// The database refused or was away.
    #[error("could not {doing}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// The cause.
        #[source]
        source: sqlx::Error,
    },
    /// The labels are no namespace.
    #[error(
        "could not use the namespace: it has 1 to 16 labels of 1 to 256 bytes each and 1000 bytes \
         altogether, without control characters"
    )]
    Namespace,
    /// The text is no key.
    #[error("could not use the key: it has 1 to 1024 bytes, and none of them is NUL")]
    Key,
    /// The value has no JSON form.
    #[error("could not store the item: its value has no JSON form")]
    Unstorable(#[source] serde_json::Error),
    /// The value could not be read back as it was.
    #[error("could not store the item")]
    BadValue(#[source] BadValue),
    /// The text to find it by is one that the database cannot hold.
    #[error("could not store the item: text with a NUL character cannot be stored")]
    Nul,
    /// The value is too large.
    #[error(
        "could not store the item: its value has {bytes} bytes of JSON, and {most} are the most; keep what is \
         large elsewhere and put where it is"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        most: usize,
    },
    /// A time that is no time to live.
    #[error("could not store the item: it would have expired when it is put")]
    Ttl,
    /// The numbers are no direction.
    #[error("could not use the embedding: it has 1 to 16000 finite numbers that are not all zero")]
    Embedding,
    /// There is no such language in the database.
    #[error(
        "could not read the text: the database has no text search configuration `{0}`; \\dF in psql lists \
         those it has"
    )]
    NoLanguage(String),
    /// The database cannot compare vectors.
    #[error(
        "could not search by vector: the database does not have the extension pgvector; install it on the \
         server and run `create extension vector`, or search by text and filters"
    )]
    NoVectors,
    /// The database would have to look into documents, which are sealed.
    #[error(
        "could not use {what}: the engine has a codec, and the database cannot look into sealed documents; \
         search by namespace alone, and look into what is found"
    )]
    UnderCodec {
        /// What cannot be used.
        what: &'static str,
    },
    /// The document cannot be sealed or opened.
    #[error("could not {doing} `{key}` of {namespace}")]
    Sealed {
        /// What was being done.
        doing: &'static str,
        /// Where it is.
        namespace: Namespace,
        /// Its name there.
        key: String,
        /// The cause.
        #[source]
        source: SealError,
    },
    /// A search has too many conditions.
    #[error("could not search: there are {filters} filters, and {most} are the most")]
    TooManyFilters {
        /// Their number.
        filters: usize,
        /// The limit.
        most: usize,
    },
    /// A node writes too many documents.
    #[error(
        "could not note the item: a node writes at most {most} in one step; send the rest to others"
    )]
    TooManyWrites {
        /// The limit.
        most: usize,
    },
    /// The node's transaction is in use.
    #[error("could not read the item: the node's transaction is in use; let go of it first")]
    InUse,
    /// The value is none of the type that it was to be read as.
    #[error("could not read the item `{key}` of {namespace} as what was asked for")]
    Unreadable {
        /// Where it is.
        namespace: Namespace,
        /// Its name there.
        key: String,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
}

impl ItemError {
    pub(crate) fn on(doing: &'static str) -> impl Fn(sqlx::Error) -> Self + Copy {
        move |source| Self::Database { doing, source }
    }

    /// As [`on`](Self::on), of a statement that names a language.
    pub(super) fn of_language<'a>(
        doing: &'static str,
        language: &'a str,
    ) -> impl Fn(sqlx::Error) -> Self + 'a {
        move |source| {
            let code = source.as_database_error().and_then(|error| error.code());
            // undefined_object
            if code.is_some_and(|code| code == "42704") {
                Self::NoLanguage(language.to_owned())
            } else {
                Self::Database { doing, source }
            }
        }
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Database { source, .. } if store::is_transient(source))
    }
}
