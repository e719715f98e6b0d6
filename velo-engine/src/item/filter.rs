//! Conditions on the values of documents.

use serde_json::{Map, Value, json};

/// Most filters of one search.
pub const FILTERS_MAX: usize = 16;

/// A condition on a field of a document's value.
///
/// A field is named by itself, or by a JSON Pointer (RFC 6901), which begins with a slash: `status`,
/// `/address/city`, `/tags/0`. Without such a field a document only fits [`ne`](Self::ne).
///
/// What is greater or less is a number or a text, by its bytes; a text is neither greater nor less than a
/// number. Times as RFC 3339 writes them, all in one zone, are ordered as texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    path: Vec<String>,
    op: &'static str,
    value: Value,
}

impl Filter {
    /// The field is this value.
    #[must_use]
    pub fn eq(field: &str, value: impl Into<Value>) -> Self {
        Self::new(field, "eq", value)
    }

    /// The field is another value, or not there.
    #[must_use]
    pub fn ne(field: &str, value: impl Into<Value>) -> Self {
        Self::new(field, "ne", value)
    }

    /// The field is greater.
    #[must_use]
    pub fn gt(field: &str, value: impl Into<Value>) -> Self {
        Self::new(field, "gt", value)
    }

    /// The field is greater or the same.
    #[must_use]
    pub fn gte(field: &str, value: impl Into<Value>) -> Self {
        Self::new(field, "gte", value)
    }

    /// The field is less.
    #[must_use]
    pub fn lt(field: &str, value: impl Into<Value>) -> Self {
        Self::new(field, "lt", value)
    }

    /// The field is less or the same.
    #[must_use]
    pub fn lte(field: &str, value: impl Into<Value>) -> Self {
        Self::new(field, "lte", value)
    }

    fn new(field: &str, op: &'static str, value: impl Into<Value>) -> Self {
        let unescaped = |part: &str| part.replace("~1", "/").replace("~0", "~");
        let path = match field.strip_prefix('/') {
            Some(parts) => parts.split('/').map(unescaped).collect(),
            None => vec![field.to_owned()],
        };
        Self {
            path,
            op,
            value: value.into(),
        }
    }

    /// Whether text in it is such as no document has.
    pub(super) fn has_nul(&self) -> bool {
        let has_nul = |text: &String| text.contains('\0');
        self.path.iter().any(has_nul) || crate::engine::has_nul(&self.value)
    }
}

/// As the database takes them.
pub(super) fn stored(filters: &[Filter]) -> Option<Value> {
    let stored =
        |filter: &Filter| json!({ "path": filter.path, "op": filter.op, "value": filter.value });
    (!filters.is_empty()).then(|| filters.iter().map(stored).collect())
}

/// What every document contains that fits the filters: by this an index finds them.
pub(super) fn contained(filters: &[Filter]) -> Option<Value> {
    let mut whole = Map::new();
    // A number in a path may be a place in a list.
    let is_named = |filter: &&Filter| {
        filter.op == "eq" && filter.path.iter().all(|part| part.parse::<i32>().is_err())
    };
    for filter in filters.iter().filter(is_named) {
        insert(&mut whole, &filter.path, &filter.value);
    }
    (!whole.is_empty()).then_some(Value::Object(whole))
}

/// Inserts the value, unless another filter has something in its way.
fn insert(whole: &mut Map<String, Value>, path: &[String], value: &Value) {
    match path {
        [] => (),
        [last] => {
            whole.entry(last).or_insert_with(|| value.clone());
        }
        [first, rest @ ..] => {
            let below = whole.entry(first).or_insert_with(|| json!({}));
            if let Value::Object(below) = below {
                insert(below, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equalities_become_one_document_that_is_contained() {
        let filters = [
            Filter::eq("status", "open"),
            Filter::eq("/who/name", "ada"),
            Filter::eq("/who/age", 36),
            Filter::eq("/tags/0", "a"),
            Filter::gt("price", 3),
        ];
        let contained = contained(&filters).unwrap();
        let wanted = json!({ "status": "open", "who": { "name": "ada", "age": 36 } });
        assert_eq!(contained, wanted);
        assert_eq!(super::contained(&filters[3..]), None);
        assert_eq!(stored(&[]), None);
    }

    #[test]
    fn a_pointer_is_unescaped() {
        assert_eq!(Filter::eq("/a~1b/c~0d", 1).path, ["a/b", "c~d"]);
        assert_eq!(Filter::eq("a.b", 1).path, ["a.b"]);
        assert!(Filter::eq("a\0", 1).has_nul() && Filter::eq("a", "\0").has_nul());
    }
}
