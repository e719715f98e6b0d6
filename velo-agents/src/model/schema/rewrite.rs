//! The rewriting itself, one node at a time.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::definitions::{Definitions, ROOT};
use super::{MAX_DEPTH, MAX_NODES, SchemaError, merge};

/// Formats that Gemini knows; others say nothing that `type` does not.
const FORMATS: [&str; 3] = ["date-time", "date", "time"];
/// Keywords that restrict a value in ways that nothing else here can say.
const REFUSED: [&str; 8] = [
    "not",
    "if",
    "then",
    "else",
    "patternProperties",
    "dependentSchemas",
    "contains",
    "propertyNames",
];
/// Keywords that are about other things than which values are allowed.
const NOTES: [&str; 10] = [
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$schema",
    "$defs",
    "definitions",
];

#[derive(Debug)]
pub(super) struct Rewriter<'a> {
    definitions: &'a Definitions<'a>,
    nodes: usize,
    /// Recursive definitions that were met.
    used: BTreeSet<&'a str>,
}

impl<'a> Rewriter<'a> {
    pub(super) fn new(definitions: &'a Definitions<'a>) -> Self {
        Self {
            definitions,
            nodes: 0,
            used: BTreeSet::new(),
        }
    }

    /// Rewrites the root, and adds the definitions that are still referred to.
    pub(super) fn root(mut self, root: &Value) -> Result<Value, SchemaError> {
        let mut rewritten = self.node(root, "", 0)?;
        let mut written = BTreeMap::new();
        while let Some(name) = self.used.iter().find(|name| !written.contains_key(**name)) {
            let name = *name;
            let schema = self
                .definitions
                .get(name)
                .expect("only definitions that exist are marked as used");
            let path = format!("/$defs/{name}");
            written.insert(name, self.value(schema, &path, 0)?);
        }
        if !written.is_empty() {
            let written: Map<String, Value> = written
                .into_iter()
                .map(|(name, schema)| (name.to_owned(), schema))
                .collect();
            rewritten.insert("$defs".to_owned(), Value::Object(written));
        }
        Ok(Value::Object(rewritten))
    }

    fn value(&mut self, schema: &Value, path: &str, depth: usize) -> Result<Value, SchemaError> {
        self.node(schema, path, depth).map(Value::Object)
    }

    fn node(
        &mut self,
        schema: &Value,
        path: &str,
        depth: usize,
    ) -> Result<Map<String, Value>, SchemaError> {
        self.nodes += 1;
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            return Err(SchemaError::TooLarge {
                path: path.to_owned(),
            });
        }
        let Value::Object(schema) = schema else {
            return Err(SchemaError::OpenValue {
                path: path.to_owned(),
            });
        };
        if let Some(keyword) = REFUSED
            .iter()
            .find(|keyword| schema.contains_key(**keyword))
        {
            return Err(SchemaError::Unsupported {
                path: path.to_owned(),
                keyword: (*keyword).to_owned(),
            });
        }
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            return self.reference(schema, reference, path, depth);
        }
        if let Some(Value::Array(parts)) = schema.get("allOf") {
            let whole = self.all_of(schema, parts, path)?;
            return self.node(&whole, path, depth + 1);
        }
        for keyword in ["oneOf", "anyOf"] {
            if let Some(Value::Array(branches)) = schema.get(keyword) {
                return self.any_of(schema, keyword, branches, path, depth);
            }
        }
        self.plain(schema, path, depth)
    }

    fn reference(
        &mut self,
        schema: &Map<String, Value>,
        reference: &str,
        path: &str,
        depth: usize,
    ) -> Result<Map<String, Value>, SchemaError> {
        let definitions = self.definitions;
        let unknown = || SchemaError::UnknownReference {
            path: path.to_owned(),
            reference: reference.to_owned(),
        };
        let (name, target) = definitions.find(reference).ok_or_else(unknown)?;
        if definitions.is_recursive(name) {
            self.used.insert(name);
            let mut kept = Map::new();
            kept.insert("$ref".to_owned(), format!("#/$defs/{name}").into());
            return Ok(kept);
        }
        debug_assert_ne!(
            name, ROOT,
            "the root refers to itself only when it is recursive"
        );
        let mut written = self.node(target, path, depth + 1)?;
        // What is said here is about this use and replaces what is said of the type.
        if let Some(description) = schema.get("description") {
            written.insert("description".to_owned(), description.clone());
        }
        Ok(described_first(written))
    }

    /// The parts of an `allOf` and what stands beside it, as one schema.
    fn all_of(
        &self,
        schema: &Map<String, Value>,
        parts: &[Value],
        path: &str,
    ) -> Result<Value, SchemaError> {
        let unsupported = || SchemaError::Unsupported {
            path: path.to_owned(),
            keyword: "allOf".to_owned(),
        };
        let mut whole = schema.clone();
        whole.shift_remove("allOf");
        for part in parts {
            let mut part = part;
            // A definition that is one more reference is followed; cycles are refused already.
            for _ in 0..MAX_DEPTH {
                let Some(reference) = part.get("$ref").and_then(Value::as_str) else {
                    break;
                };
                let Some((name, target)) = self.definitions.find(reference) else {
                    break;
                };
                if self.definitions.is_recursive(name) && parts.len() > 1 {
                    return Err(unsupported());
                }
                part = target;
            }
            let part = part.as_object().ok_or_else(unsupported)?;
            whole = merge::both(&whole, part).ok_or_else(unsupported)?;
        }
        Ok(Value::Object(whole))
    }

    fn any_of(
        &mut self,
        schema: &Map<String, Value>,
        keyword: &str,
        branches: &[Value],
        path: &str,
        depth: usize,
    ) -> Result<Map<String, Value>, SchemaError> {
        let mut beside = schema.clone();
        beside.shift_remove(keyword);
        let description = beside.get("description").cloned();
        beside.retain(|key, _| !NOTES.contains(&key.as_str()));
        let mut rewritten = Vec::with_capacity(branches.len());
        for (index, branch) in branches.iter().enumerate() {
            let path = format!("{path}/{keyword}/{index}");
            // Fields beside a union belong to each of its branches.
            let whole = if beside.is_empty() {
                branch.clone()
            } else {
                let parts = [branch.clone()];
                self.all_of(&beside, &parts, &path)?
            };
            rewritten.push(self.node(&whole, &path, depth + 1)?);
        }
        let mut sum = if rewritten.iter().all(is_string_enum) {
            one_enum(&rewritten)
        } else if rewritten.len() == 1 {
            rewritten.remove(0)
        } else {
            let mut sum = Map::new();
            sum.insert(
                "anyOf".to_owned(),
                rewritten.into_iter().map(Value::Object).collect(),
            );
            sum
        };
        if let Some(description) = description {
            let text = match sum.get("description").and_then(Value::as_str) {
                Some(variants) if sum.contains_key("enum") => {
                    json!(format!(
                        "{}\n{variants}",
                        description.as_str().unwrap_or_default()
                    ))
                }
                _ => description,
            };
            if !sum.contains_key("$ref") {
                sum.insert("description".to_owned(), text);
            }
        }
        Ok(described_first(sum))
    }

    /// A schema without references and unions.
    fn plain(
        &mut self,
        schema: &Map<String, Value>,
        path: &str,
        depth: usize,
    ) -> Result<Map<String, Value>, SchemaError> {
        let mut out = Map::new();
        if let Some(kind) = type_of(schema) {
            out.insert("type".to_owned(), kind);
        }
        if let Some(description) = schema.get("description") {
            out.insert("description".to_owned(), description.clone());
        }
        if let Some(values) = enum_of(schema) {
            let has_null = values.iter().any(Value::is_null);
            let named: Vec<Value> = values
                .into_iter()
                .filter(|value| value.is_string() || value.is_number())
                .collect();
            if !named.is_empty() {
                out.insert("enum".to_owned(), named.into());
            }
            if has_null && out.contains_key("enum") {
                return Ok(or_null(out));
            }
        }
        if let Some(format) = schema.get("format").and_then(Value::as_str)
            && FORMATS.contains(&format)
        {
            out.insert("format".to_owned(), format.into());
        }
        for bound in ["minimum", "maximum"] {
            if let Some(value) = schema.get(bound)
                && !is_bound_of_width(schema, bound, value)
            {
                out.insert(bound.to_owned(), value.clone());
            }
        }
        self.array(schema, &mut out, path, depth)?;
        self.object(schema, &mut out, path, depth)?;
        let says_nothing = !out.contains_key("type") && !out.contains_key("enum");
        if says_nothing {
            return Err(SchemaError::OpenValue {
                path: path.to_owned(),
            });
        }
        Ok(out)
    }

    fn array(
        &mut self,
        schema: &Map<String, Value>,
        out: &mut Map<String, Value>,
        path: &str,
        depth: usize,
    ) -> Result<(), SchemaError> {
        let prefix = schema.get("prefixItems").and_then(Value::as_array);
        if let Some(prefix) = prefix {
            let mut items = Vec::with_capacity(prefix.len());
            for (index, item) in prefix.iter().enumerate() {
                items.push(self.value(item, &format!("{path}/prefixItems/{index}"), depth + 1)?);
            }
            out.insert("prefixItems".to_owned(), items.into());
        }
        match schema.get("items") {
            // After a prefix: no further items, which `maxItems` says already.
            Some(Value::Bool(false)) => {}
            Some(items) => {
                let items = self.value(items, &format!("{path}/items"), depth + 1)?;
                out.insert("items".to_owned(), items);
            }
            None if prefix.is_none() && has_type(schema, "array") => {
                return Err(SchemaError::OpenValue {
                    path: format!("{path}/items"),
                });
            }
            None => {}
        }
        if let Some(least) = schema.get("minItems") {
            out.insert("minItems".to_owned(), least.clone());
        }
        Ok(())
    }

    fn object(
        &mut self,
        schema: &Map<String, Value>,
        out: &mut Map<String, Value>,
        path: &str,
        depth: usize,
    ) -> Result<(), SchemaError> {
        if let Some(Value::Object(properties)) = schema.get("properties") {
            let mut rewritten = Map::new();
            for (name, property) in properties {
                let escaped = name.replace('~', "~0").replace('/', "~1");
                let path = format!("{path}/properties/{escaped}");
                rewritten.insert(name.clone(), self.value(property, &path, depth + 1)?);
            }
            let order: Vec<&String> = properties.keys().collect();
            let required: Vec<&String> = order
                .iter()
                .filter(|name| {
                    schema
                        .get("required")
                        .and_then(Value::as_array)
                        .is_some_and(|required| required.iter().any(|one| one == name.as_str()))
                })
                .copied()
                .collect();
            out.insert("properties".to_owned(), Value::Object(rewritten));
            if !required.is_empty() {
                out.insert("required".to_owned(), json!(required));
            }
            out.insert("propertyOrdering".to_owned(), json!(order));
        }
        match schema.get("additionalProperties") {
            None => {}
            Some(Value::Bool(false)) => {
                out.insert("additionalProperties".to_owned(), Value::Bool(false));
            }
            Some(more) => {
                let path = format!("{path}/additionalProperties");
                let more = self.value(more, &path, depth + 1)?;
                out.insert("additionalProperties".to_owned(), more);
            }
        }
        Ok(())
    }
}

fn has_type(schema: &Map<String, Value>, wanted: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(kind)) => kind == wanted,
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == wanted),
        _ => false,
    }
}

/// The type as written, or the one that the constant or the enum has.
fn type_of(schema: &Map<String, Value>) -> Option<Value> {
    if let Some(kind) = schema.get("type") {
        let Value::Array(kinds) = kind else {
            return Some(kind.clone());
        };
        return match kinds.as_slice() {
            [only] => Some(only.clone()),
            _ => Some(kind.clone()),
        };
    }
    let values = enum_of(schema);
    if let Some(values) = values {
        let mut kinds: Vec<&str> = values.iter().filter_map(kind_of).collect();
        kinds.dedup();
        return match kinds.as_slice() {
            [only] => Some(json!(only)),
            _ => None,
        };
    }
    let looks_like = |keyword: &str| schema.contains_key(keyword);
    if looks_like("properties") {
        return Some(json!("object"));
    }
    looks_like("items").then(|| json!("array"))
}

fn kind_of(value: &Value) -> Option<&'static str> {
    match value {
        Value::String(_) => Some("string"),
        Value::Bool(_) => Some("boolean"),
        Value::Null => Some("null"),
        Value::Number(number) if number.is_f64() => Some("number"),
        Value::Number(_) => Some("integer"),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// The values of `enum`, or the one of `const`.
fn enum_of(schema: &Map<String, Value>) -> Option<Vec<Value>> {
    if let Some(only) = schema.get("const") {
        return Some(vec![only.clone()]);
    }
    schema.get("enum").and_then(Value::as_array).cloned()
}

/// Enums of text cannot name null: it becomes a second branch.
fn or_null(mut named: Map<String, Value>) -> Map<String, Value> {
    let description = named.shift_remove("description");
    if let Some(Value::Array(kinds)) = named.get("type") {
        let mut kinds: Vec<Value> = kinds
            .iter()
            .filter(|kind| *kind != "null")
            .cloned()
            .collect();
        if kinds.len() == 1 {
            named.insert("type".to_owned(), kinds.remove(0));
        }
    }
    let mut sum = Map::new();
    if let Some(description) = description {
        sum.insert("description".to_owned(), description);
    }
    sum.insert("anyOf".to_owned(), json!([named, {"type": "null"}]));
    sum
}

/// Whether a bound says no more than how wide the Rust integer is.
fn is_bound_of_width(schema: &Map<String, Value>, bound: &str, value: &Value) -> bool {
    let Some(format) = schema.get("format").and_then(Value::as_str) else {
        return false;
    };
    let (least, most) = match format {
        "uint8" => (0, i64::from(u8::MAX)),
        "uint16" => (0, i64::from(u16::MAX)),
        "int8" => (i64::from(i8::MIN), i64::from(i8::MAX)),
        "int16" => (i64::from(i16::MIN), i64::from(i16::MAX)),
        _ => return false,
    };
    // That a count is not negative is worth saying.
    value.as_i64() == Some(if bound == "minimum" { least } else { most })
        && value.as_i64() != Some(0)
}

fn is_string_enum(schema: &Map<String, Value>) -> bool {
    schema.get("type").is_some_and(|kind| kind == "string") && schema.contains_key("enum")
}

/// Enums of text as one; what was said of each value goes into the description.
fn one_enum(branches: &[Map<String, Value>]) -> Map<String, Value> {
    let mut values: Vec<Value> = Vec::new();
    let mut lines = Vec::new();
    for branch in branches {
        let named = branch
            .get("enum")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let mut names = Vec::new();
        for value in named {
            names.extend(value.as_str());
            if !values.contains(value) {
                values.push(value.clone());
            }
        }
        if let Some(description) = branch.get("description").and_then(Value::as_str) {
            lines.push(format!("{}: {description}", names.join(", ")));
        }
    }
    let mut sum = Map::new();
    sum.insert("type".to_owned(), json!("string"));
    if !lines.is_empty() {
        sum.insert("description".to_owned(), lines.join("\n").into());
    }
    sum.insert("enum".to_owned(), values.into());
    sum
}

/// The same keywords with `type` and `description` before the others.
fn described_first(mut schema: Map<String, Value>) -> Map<String, Value> {
    let mut out = Map::new();
    for keyword in ["type", "description"] {
        if let Some(value) = schema.shift_remove(keyword) {
            out.insert(keyword.to_owned(), value);
        }
    }
    out.extend(schema);
    out
}
