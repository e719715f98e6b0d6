//! Pages of a list, read from a position rather than by counting rows: rows that are added while
//! someone reads neither repeat nor hide others.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use uuid::Uuid;

/// Rows of a page when nothing else was asked.
pub const DEFAULT_PAGE: u32 = 50;

/// The most rows that one page has, whatever was asked.
pub const MAX_PAGE: u32 = 100;

/// The greatest sort key of a cursor: the last microsecond of the year 9999.
const MAX_KEY: i64 = 253_402_300_799_999_999;

/// Which page of a list is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PageRequest {
    limit: Option<u32>,
    after: Option<Cursor>,
}

impl PageRequest {
    /// The page of at most `limit` rows that follows `after`, or the first one. `limit` is held
    /// between 1 and [`MAX_PAGE`]; without it there are [`DEFAULT_PAGE`] rows.
    #[must_use]
    pub const fn new(limit: Option<u32>, after: Option<Cursor>) -> Self {
        Self { limit, after }
    }

    /// The most rows of the page.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE)
    }

    /// One row more than the page has: whether it exists says whether a next page does.
    pub(super) fn probe(&self) -> i64 {
        i64::from(self.limit()) + 1
    }

    pub(super) fn after_key(&self) -> Option<i64> {
        self.after.map(|cursor| cursor.key)
    }

    pub(super) fn after_time(&self) -> Option<DateTime<Utc>> {
        self.after_key().map(|key| {
            DateTime::from_timestamp_micros(key).expect("a cursor's key is below the year 10000")
        })
    }

    pub(super) fn after_id(&self) -> Option<Uuid> {
        self.after.map(|cursor| cursor.id)
    }
}

/// A part of a list, and where the rest begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Page<T> {
    /// The rows, in the list's order.
    pub items: Vec<T>,
    /// What to pass for the next page; `None` on the last one.
    pub next_cursor: Option<Cursor>,
}

impl<T> Page<T> {
    /// Makes a page of the rows that a query with [`PageRequest::probe`] as its limit returned.
    pub(super) fn cut(
        mut rows: Vec<T>,
        request: PageRequest,
        cursor: impl FnOnce(&T) -> Cursor,
    ) -> Self {
        let limit = request.limit() as usize;
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = if has_more {
            rows.last().map(cursor)
        } else {
            None
        };
        Self {
            items: rows,
            next_cursor,
        }
    }
}

/// A position in a list: the sort key and the id of the row before it. Its text form is for
/// passing back, not for reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    key: i64,
    id: Uuid,
}

impl Cursor {
    pub(super) fn by_time(at: DateTime<Utc>, id: Uuid) -> Self {
        Self {
            key: at.timestamp_micros(),
            id,
        }
    }

    pub(super) fn by_position(position: i32, id: Uuid) -> Self {
        Self {
            key: i64::from(position),
            id,
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.key, self.id.simple())
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Text that is not a [`Cursor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "could not read the cursor, because it is not one that a list returned: begin again without it"
)]
pub struct CursorError;

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, id) = text.split_once('.').ok_or(CursorError)?;
        let key = key.parse().map_err(|_| CursorError)?;
        let id = Uuid::try_parse(id).map_err(|_| CursorError)?;
        if (0..=MAX_KEY).contains(&key) {
            Ok(Self { key, id })
        } else {
            Err(CursorError)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_from_its_text() {
        let cursor = Cursor::by_time(Utc::now(), Uuid::now_v7());
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
    }

    #[test]
    fn text_that_is_no_cursor_is_refused() {
        let id = Uuid::nil().simple().to_string();
        for text in [
            "",
            ".",
            "12",
            "x.y",
            &format!("-1.{id}"),
            &format!("{}.{id}", i64::MAX),
            "12.\0",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(CursorError), "{text:?}");
        }
    }

    #[test]
    fn the_greatest_key_is_still_a_time() {
        let cursor: Cursor = format!("{MAX_KEY}.{}", Uuid::nil().simple())
            .parse()
            .unwrap();
        assert!(PageRequest::new(None, Some(cursor)).after_time().is_some());
    }

    #[test]
    fn a_page_never_has_more_rows_than_the_limit_and_knows_whether_there_are_more() {
        let of_two = PageRequest::new(Some(2), None);
        let cursor = |row: &i32| Cursor::by_position(*row, Uuid::nil());
        let page = Page::cut(vec![1, 2, 3], of_two, cursor);
        assert_eq!(
            (page.items, page.next_cursor),
            (vec![1, 2], Some(cursor(&2)))
        );
        let page = Page::cut(vec![1, 2], of_two, cursor);
        assert_eq!((page.items, page.next_cursor), (vec![1, 2], None));
    }

    #[test]
    fn a_limit_is_held_between_one_and_the_maximum() {
        for (asked, given) in [
            (None, DEFAULT_PAGE),
            (Some(0), 1),
            (Some(7), 7),
            (Some(u32::MAX), MAX_PAGE),
        ] {
            assert_eq!(PageRequest::new(asked, None).limit(), given);
        }
    }
}
