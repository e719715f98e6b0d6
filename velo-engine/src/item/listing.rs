//! Listing namespaces.

use std::future::{Future, IntoFuture};
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use super::namespace::{self, after, encoded};
use super::{ItemError, LABELS_MAX, Namespace};
use crate::engine::PAGE_MAX;
use crate::store;

/// Most namespaces that one call looks at.
pub const WALK_MAX: usize = 10_000;
/// Namespaces that one statement looks at.
const BATCH: i64 = 1_000;

/// What stands for any one label.
const ANY: &str = "*";

/// A listing about to be made. Await it.
///
/// The namespaces with documents that have not expired, each once, in their order.
///
/// ```no_run
/// # use velo_engine::Engine;
/// # use velo_engine::item::ItemError;
/// # async fn example(engine: &Engine) -> Result<(), ItemError> {
/// let mut next = None;
/// loop {
///     let listing = engine.items().namespaces().prefix(["users", "*"]).suffix(["memories"]);
///     let page = listing.max_depth(3).after(next).await?;
///     page.namespaces.iter().for_each(|namespace| println!("{namespace}"));
///     next = page.next;
///     if next.is_none() {
///         return Ok(());
///     }
/// }
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is listed before it is awaited"]
pub struct Namespaces {
    pool: PgPool,
    pattern: Pattern,
    limit: usize,
    start: Option<NamespaceCursor>,
}

/// Which namespaces are wanted.
#[derive(Debug, Clone, Default, PartialEq)]
struct Pattern {
    prefix: Vec<String>,
    suffix: Vec<String>,
    depth: Option<usize>,
}

/// A page of namespaces. It may have fewer than were asked for, or none, and still have a next one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NamespacePage {
    /// The namespaces.
    pub namespaces: Vec<Namespace>,
    /// Where the next page begins; `None` when there is none.
    pub next: Option<NamespaceCursor>,
}

/// A place among the namespaces, for [`Namespaces::after`]. It can be kept as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NamespaceCursor(String);

impl Namespaces {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self {
            pool,
            pattern: Pattern::default(),
            limit: usize::try_from(PAGE_MAX).unwrap_or(usize::MAX),
            start: None,
        }
    }

    /// Only those that begin with these labels; `*` is any one label.
    pub fn prefix<L: Into<String>>(mut self, labels: impl IntoIterator<Item = L>) -> Self {
        self.pattern.prefix = labels.into_iter().map(Into::into).collect();
        self
    }

    /// Only those that end with these labels; `*` is any one label.
    pub fn suffix<L: Into<String>>(mut self, labels: impl IntoIterator<Item = L>) -> Self {
        self.pattern.suffix = labels.into_iter().map(Into::into).collect();
        self
    }

    /// Cuts those off that have more labels, and lists each that is left over once.
    pub fn max_depth(mut self, labels: usize) -> Self {
        self.pattern.depth = Some(labels.max(1));
        self
    }

    /// At most so many, and [`PAGE_MAX`], which is also what there are without it.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = self.limit.min(limit);
        self
    }

    /// Only those after this place, which another page gave; the first page otherwise.
    pub fn after(mut self, cursor: impl Into<Option<NamespaceCursor>>) -> Self {
        self.start = cursor.into();
        self
    }

    async fn page(self) -> Result<NamespacePage, ItemError> {
        if !self.pattern.is_possible() {
            return Err(ItemError::Namespace);
        }
        let (first, end) = self.pattern.range();
        let mut from = self.start.map_or(first, |NamespaceCursor(place)| place);
        let mut namespaces = Vec::new();
        let mut walked = 0;
        while walked < WALK_MAX && namespaces.len() < self.limit {
            let depth = self.pattern.may_skip_below();
            let batch = store::item::namespaces(&self.pool, &from, &end, depth, BATCH)
                .await
                .map_err(ItemError::on("list the namespaces"))?;
            walked += batch.len();
            let is_last = batch.len() < usize::try_from(BATCH).unwrap_or(usize::MAX);
            for stored in batch {
                // What is listed already hides what is cut off to the same.
                if stored < from {
                    continue;
                }
                if namespaces.len() == self.limit {
                    return Ok(NamespacePage {
                        namespaces,
                        next: Some(NamespaceCursor(from)),
                    });
                }
                let found = Namespace::decoded(&stored);
                from = match self.pattern.listed(found) {
                    Some(listed) => {
                        let next = self.pattern.after(&listed);
                        namespaces.push(listed);
                        next
                    }
                    None => just_after(&stored),
                };
            }
            if is_last {
                return Ok(NamespacePage {
                    namespaces,
                    next: None,
                });
            }
        }
        Ok(NamespacePage {
            namespaces,
            next: (self.limit > 0).then_some(NamespaceCursor(from)),
        })
    }
}

impl Pattern {
    /// Whether there can be a namespace like it.
    fn is_possible(&self) -> bool {
        let labels = [&self.prefix, &self.suffix];
        labels.iter().all(|labels| {
            labels.len() <= LABELS_MAX
                && (labels.is_empty() || Namespace::new(labels.iter().cloned()).is_ok())
        })
    }

    /// The first stored form, and the one after the last, of those that begin with the labels that are
    /// known.
    fn range(&self) -> (String, String) {
        let known: Vec<String> = self
            .prefix
            .iter()
            .take_while(|label| *label != ANY)
            .cloned()
            .collect();
        if known.is_empty() {
            namespace::everything()
        } else {
            (encoded(&known), after(&known))
        }
    }

    /// The namespace as it is listed, if it is wanted.
    fn listed(&self, namespace: Namespace) -> Option<Namespace> {
        let labels = namespace.labels();
        let fits = |pattern: &[String], labels: &[String]| {
            let mut pairs = pattern.iter().zip(labels);
            pairs.all(|(wanted, label)| wanted == ANY || wanted == label)
        };
        let (starts, ends) = (self.prefix.len(), self.suffix.len());
        if labels.len() < starts.max(ends)
            || !fits(&self.prefix, labels)
            || !fits(&self.suffix, &labels[labels.len() - ends..])
        {
            return None;
        }
        Some(match self.depth {
            Some(depth) => namespace.cut(depth),
            None => namespace,
        })
    }

    /// The depth below which nothing else can be listed than what the first one found there is: not when
    /// the end of what is cut off, or a label of it, decides.
    fn may_skip_below(&self) -> Option<i32> {
        let depth = self
            .depth
            .filter(|depth| self.suffix.is_empty() && self.prefix.len() <= *depth)?;
        i32::try_from(depth).ok()
    }

    /// Where what comes after a listed one begins.
    fn after(&self, listed: &Namespace) -> String {
        if self
            .depth
            .is_some_and(|depth| listed.labels().len() >= depth)
        {
            after(listed.labels())
        } else {
            just_after(&listed.encoded())
        }
    }
}

/// The least stored form that is greater.
fn just_after(stored: &str) -> String {
    format!("{stored}{}", namespace::END)
}

impl IntoFuture for Namespaces {
    type Output = Result<NamespacePage, ItemError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// Lists them; one call looks at most at [`WALK_MAX`] namespaces.
    ///
    /// Errors are [`ItemError::Namespace`] for labels that no namespace has, or the database's. Dropped
    /// half-way, nothing is lost.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.page())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(prefix: &[&str], suffix: &[&str], depth: Option<usize>) -> Pattern {
        let owned = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect();
        Pattern {
            prefix: owned(prefix),
            suffix: owned(suffix),
            depth,
        }
    }

    fn listed(pattern: &Pattern, labels: &[&str]) -> Option<String> {
        let namespace = Namespace::new(labels.iter().copied()).unwrap();
        pattern.listed(namespace).map(|listed| listed.to_string())
    }

    #[test]
    fn prefix_and_suffix_fit_whole_labels_and_a_star_fits_one() {
        let any = pattern(&["users", "*"], &["*", "v1"], None);
        assert_eq!(
            listed(&any, &["users", "ada", "v1"]),
            Some("users/ada/v1".to_owned())
        );
        assert_eq!(listed(&any, &["users", "v1"]), Some("users/v1".to_owned()));
        assert_eq!(listed(&any, &["users2", "ada", "v1"]), None);
        assert_eq!(listed(&any, &["users"]), None);
        assert_eq!(listed(&any, &["users", "ada", "v1", "x"]), None);
    }

    #[test]
    fn what_is_too_deep_is_cut_after_it_was_found_to_fit() {
        let cut = pattern(&[], &["v1"], Some(1));
        assert_eq!(
            listed(&cut, &["users", "ada", "v1"]),
            Some("users".to_owned())
        );
        assert_eq!(cut.may_skip_below(), None);
        assert_eq!(pattern(&["a"], &[], Some(1)).may_skip_below(), Some(1));
        assert_eq!(pattern(&["a", "b"], &[], Some(1)).may_skip_below(), None);
    }
}
