//! Where documents are kept.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ItemError;

/// Most labels of a namespace.
pub const LABELS_MAX: usize = 16;
/// Most bytes of a label.
pub const LABEL_MAX: usize = 256;
/// Most bytes of all labels, stored: with a key they must fit an index row, of about 2,700.
const ENCODED_MAX: usize = 1_000;

/// What follows each label, stored. Less than any character that a label may have, so that namespaces have
/// the order of their lists.
pub(super) const END: char = '\u{1}';
/// What comes right after [`END`].
const AFTER_END: char = '\u{2}';
/// The greatest character, which is in no label.
const LAST: char = char::MAX;

/// Where documents are kept: a list of labels, such as `users`, `ada`. A label may have any visible
/// character, also a dot or a slash.
///
/// ```
/// use velo_engine::item::Namespace;
///
/// let ada = Namespace::new(["users", "ada@example.org"])?;
/// assert_eq!(ada.labels().len(), 2);
/// assert!(Namespace::new([""]).is_err());
/// # Ok::<(), velo_engine::item::ItemError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Namespace(Vec<String>);

impl Namespace {
    /// A namespace of these labels.
    ///
    /// # Errors
    /// [`ItemError::Namespace`] when there is none or too many, or one is empty, too long or has a control
    /// character.
    pub fn new<L: Into<String>>(labels: impl IntoIterator<Item = L>) -> Result<Self, ItemError> {
        let labels: Vec<String> = labels.into_iter().map(Into::into).collect();
        let is_named = !labels.is_empty() && labels.iter().all(|label| is_label(label));
        let namespace = Self(labels);
        let is_short = namespace.0.len() <= LABELS_MAX && namespace.encoded().len() <= ENCODED_MAX;
        if !is_named || !is_short {
            return Err(ItemError::Namespace);
        }
        Ok(namespace)
    }

    /// Its labels.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.0
    }

    /// As it is stored.
    pub(crate) fn encoded(&self) -> String {
        encoded(&self.0)
    }

    /// What was stored.
    pub(crate) fn decoded(stored: &str) -> Self {
        let labels = stored.strip_suffix(END).unwrap_or(stored).split(END);
        Self(labels.map(str::to_owned).collect())
    }

    /// Its first labels, at most `depth` of them.
    pub(super) fn cut(mut self, depth: usize) -> Self {
        self.0.truncate(depth.max(1));
        self
    }

    /// The first stored form, and the one after the last, of this and all under it.
    pub(crate) fn range(&self) -> (String, String) {
        (self.encoded(), after(&self.0))
    }
}

/// The stored form of a list of labels.
pub(super) fn encoded(labels: &[String]) -> String {
    labels.iter().flat_map(|label| [label, "\u{1}"]).collect()
}

/// What comes right after the stored forms of all that begin with these labels.
pub(super) fn after(labels: &[String]) -> String {
    let mut end = encoded(labels);
    if end.pop().is_some() {
        end.push(AFTER_END);
    } else {
        end.push(LAST);
    }
    end
}

/// The first stored form, and the one after the last, of all namespaces.
pub(super) fn everything() -> (String, String) {
    (String::new(), after(&[]))
}

fn is_label(label: &str) -> bool {
    let is_odd = |char: char| char.is_control() || char == LAST;
    !label.is_empty() && label.len() <= LABEL_MAX && !label.contains(is_odd)
}

impl TryFrom<Vec<String>> for Namespace {
    type Error = ItemError;

    fn try_from(labels: Vec<String>) -> Result<Self, ItemError> {
        Self::new(labels)
    }
}

impl From<Namespace> for Vec<String> {
    fn from(namespace: Namespace) -> Self {
        namespace.0
    }
}

/// Its labels with slashes between them, for people.
impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_namespace() -> impl Strategy<Value = Namespace> {
        prop::collection::vec("[ a-c.\u{7f}-\u{ff}\u{10000}]{1,3}", 1..4)
            .prop_filter_map("a namespace", |labels| Namespace::new(labels).ok())
    }

    proptest! {
        #[test]
        fn stored_namespaces_are_read_back_in_the_order_of_their_lists(
            one in any_namespace(),
            other in any_namespace(),
        ) {
            prop_assert_eq!(&Namespace::decoded(&one.encoded()), &one);
            prop_assert_eq!(one.encoded().cmp(&other.encoded()), one.cmp(&other));
        }

        #[test]
        fn a_range_has_those_that_begin_with_its_labels_and_no_others(
            one in any_namespace(),
            other in any_namespace(),
        ) {
            let (from, to) = one.range();
            let stored = other.encoded();
            let is_in = from <= stored && stored < to;
            prop_assert_eq!(is_in, other.labels().starts_with(one.labels()));
            let (from, to) = everything();
            prop_assert!(from <= stored && stored < to);
        }
    }

    #[test]
    fn what_is_no_namespace_is_refused() {
        let long = "x".repeat(LABEL_MAX + 1);
        for labels in [&[][..], &[""], &["a", ""], &["a\0"], &["a\u{1}b"], &[&long]] {
            assert!(matches!(
                Namespace::new(labels.iter().copied()),
                Err(ItemError::Namespace)
            ));
        }
        assert!(Namespace::new(vec!["a"; LABELS_MAX + 1]).is_err());
        assert!(Namespace::new(vec!["x".repeat(250); 4]).is_err());
        assert!(Namespace::new(vec!["x".repeat(249); 4]).is_ok());
    }
}
