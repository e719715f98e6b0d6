//! What is wrong with a value under a JSON Schema, in words that a person or a model can act on.
//!
//! Checked is what the crate `schemars` says of Rust types: types, fields, lists, unions, constants,
//! references, bounds. What is not known is not checked.

use schemars::JsonSchema;
use serde_json::{Map, Value};

/// Most problems that are told at once.
const MAX_PROBLEMS: usize = 20;
/// Most places that are looked at; unions in unions multiply.
const MAX_STEPS: usize = 100_000;
/// Deepest nesting that is looked at; a schema may refer to itself.
const MAX_DEPTH: usize = 1_000;
/// Most characters of a value that a problem quotes.
const MAX_QUOTE_CHARS: usize = 40;

/// The JSON Schema of what `T` is read from.
#[must_use]
pub fn of<T: JsonSchema>() -> Value {
    let mut schema = schemars::schema_for!(T).to_value();
    if let Value::Object(schema) = &mut schema {
        schema.remove("$schema");
    }
    schema
}

/// The problems of `value` under the root schema `schema`, each beginning with the JSON pointer
/// of its place. Keywords that are not known are not checked, so an empty list is no proof.
///
/// ```
/// use serde_json::json;
/// use velo_engine::json_schema::problems;
///
/// let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
/// assert_eq!(problems(&json!({"n": "x"}), &schema), ["/n: must be integer, not \"x\""]);
/// assert_eq!(problems(&json!({}), &schema), ["/n: is missing"]);
/// ```
#[must_use]
pub fn problems(value: &Value, schema: &Value) -> Vec<String> {
    let mut check = Check {
        root: schema,
        steps: 0,
        depth: 0,
    };
    let mut found = check.node(value, schema, "");
    found.truncate(MAX_PROBLEMS);
    found
}

#[derive(Debug)]
struct Check<'a> {
    root: &'a Value,
    steps: usize,
    depth: usize,
}

impl<'a> Check<'a> {
    fn node(&mut self, value: &Value, schema: &'a Value, path: &str) -> Vec<String> {
        self.steps += 1;
        let Value::Object(schema) = schema else {
            return Vec::new();
        };
        if self.steps > MAX_STEPS || self.depth >= MAX_DEPTH {
            return Vec::new();
        }
        self.depth += 1;
        let found = self.keywords(value, schema, path);
        self.depth -= 1;
        found
    }

    fn keywords(
        &mut self,
        value: &Value,
        schema: &'a Map<String, Value>,
        path: &str,
    ) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(target) = self.target(schema) {
            found.extend(self.node(value, target, path));
        }
        for part in list(schema, "allOf") {
            found.extend(self.node(value, part, path));
        }
        for union in ["anyOf", "oneOf"] {
            found.extend(self.union(value, list(schema, union), path));
        }
        if let Some(problem) = plain_problem(value, schema) {
            found.push(format!("{}: {problem}", place(path)));
            return found;
        }
        match value {
            Value::Array(items) => self.array(items, schema, path, &mut found),
            Value::Object(fields) => self.object(fields, schema, path, &mut found),
            _ => {}
        }
        found
    }

    fn target(&self, schema: &Map<String, Value>) -> Option<&'a Value> {
        let reference = schema.get("$ref")?.as_str()?;
        if reference == "#" {
            return Some(self.root);
        }
        let name = reference
            .strip_prefix("#/$defs/")
            .or_else(|| reference.strip_prefix("#/definitions/"))?;
        let defs = self
            .root
            .get("$defs")
            .or_else(|| self.root.get("definitions"));
        defs.and_then(|defs| defs.get(name))
    }

    /// The problems under the branch that fits best.
    fn union(&mut self, value: &Value, branches: &'a [Value], path: &str) -> Vec<String> {
        let mut best: Option<(bool, Vec<String>)> = None;
        for branch in branches {
            let found = self.node(value, branch, path);
            if found.is_empty() {
                return found;
            }
            // A branch of another type says less than one that fits but for a field.
            let none = Map::new();
            let is_foreign = plain_problem(value, branch.as_object().unwrap_or(&none)).is_some();
            let is_better = best
                .as_ref()
                .is_none_or(|(foreign, least)| (is_foreign, found.len()) < (*foreign, least.len()));
            if is_better {
                best = Some((is_foreign, found));
            }
        }
        best.map(|(_, found)| found).unwrap_or_default()
    }

    fn array(
        &mut self,
        items: &[Value],
        schema: &'a Map<String, Value>,
        path: &str,
        found: &mut Vec<String>,
    ) {
        let prefix = list(schema, "prefixItems");
        let least = schema.get("minItems").and_then(Value::as_u64);
        if let Some(least) = least
            && (items.len() as u64) < least
        {
            found.push(format!("{}: must have at least {least} items", place(path)));
        }
        let most = schema.get("maxItems").and_then(Value::as_u64);
        if let Some(most) = most
            && (items.len() as u64) > most
        {
            found.push(format!("{}: must have at most {most} items", place(path)));
        }
        for (index, item) in items.iter().enumerate() {
            if found.len() >= MAX_PROBLEMS {
                return;
            }
            if let Some(schema) = prefix.get(index).or_else(|| schema.get("items")) {
                found.extend(self.node(item, schema, &format!("{path}/{index}")));
            }
        }
    }

    fn object(
        &mut self,
        fields: &Map<String, Value>,
        schema: &'a Map<String, Value>,
        path: &str,
        found: &mut Vec<String>,
    ) {
        let properties = schema.get("properties").and_then(Value::as_object);
        for name in list(schema, "required").iter().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                found.push(format!("{}: is missing", below(path, name)));
            }
        }
        for (name, value) in fields {
            if found.len() >= MAX_PROBLEMS {
                return;
            }
            let known = properties.and_then(|properties| properties.get(name));
            match known.or_else(|| schema.get("additionalProperties")) {
                Some(Value::Bool(false)) => {
                    found.push(format!("{}: is not a known field", below(path, name)));
                }
                Some(schema) => found.extend(self.node(value, schema, &below(path, name))),
                None => {}
            }
        }
    }
}

fn list<'a>(schema: &'a Map<String, Value>, keyword: &str) -> &'a [Value] {
    schema
        .get(keyword)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn plain_problem(value: &Value, schema: &Map<String, Value>) -> Option<String> {
    let kinds: Vec<&str> = match schema.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !kinds.is_empty() && !kinds.iter().any(|kind| is_of(value, kind)) {
        return Some(format!(
            "must be {}, not {}",
            kinds.join(" or "),
            quote(value)
        ));
    }
    let is_named = match (schema.get("const"), schema.get("enum")) {
        (Some(only), _) => value == only,
        (None, Some(Value::Array(values))) => values.contains(value),
        _ => true,
    };
    if !is_named {
        let only = schema.get("const").map(std::slice::from_ref);
        let names: Vec<String> = only
            .unwrap_or_else(|| list(schema, "enum"))
            .iter()
            .take(MAX_PROBLEMS)
            .map(quote)
            .collect();
        return Some(format!(
            "must be one of {}, not {}",
            names.join(", "),
            quote(value)
        ));
    }
    let number = value.as_f64()?;
    let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_f64);
    if let Some(least) = bound("minimum").filter(|least| number < *least) {
        return Some(format!("must be at least {least}, not {number}"));
    }
    bound("maximum")
        .filter(|most| number > *most)
        .map(|most| format!("must be at most {most}, not {number}"))
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    }
}

fn quote(value: &Value) -> String {
    match value {
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        plain => {
            let text = plain.to_string();
            match text.char_indices().nth(MAX_QUOTE_CHARS) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text,
            }
        }
    }
}

fn below(path: &str, name: &str) -> String {
    format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// The whole value has an empty pointer, which nobody would see.
fn place(path: &str) -> &str {
    if path.is_empty() { "(the whole)" } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_problem_names_its_place() {
        let schema = json!({
            "type": "object",
            "properties": {
                "items": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/Item"}},
                "a/b": {"type": "integer", "maximum": 3},
            },
            "required": ["items"],
            "additionalProperties": false,
            "$defs": {"Item": {"type": "object", "required": ["kind"], "properties": {
                "kind": {"type": "string", "enum": ["x", "y"]},
                "note": {"type": ["string", "null"]},
            }}},
        });
        let value = json!({"items": [{"kind": "z", "note": null}, {}, 3], "a/b": 4, "more": 1});
        assert_eq!(
            problems(&value, &schema),
            [
                "/items/0/kind: must be one of \"x\", \"y\", not \"z\"",
                "/items/1/kind: is missing",
                "/items/2: must be object, not 3",
                "/a~1b: must be at most 3, not 4",
                "/more: is not a known field",
            ]
        );
        assert_eq!(
            problems(&json!({"items": []}), &schema),
            ["/items: must have at least 1 items"]
        );
        assert_eq!(
            problems(&json!([]), &schema),
            ["(the whole): must be object, not an array"]
        );
    }

    #[test]
    fn a_union_tells_of_its_closest_branch() {
        let schema = json!({"anyOf": [
            {"type": "null"},
            {"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "string"}}},
        ]});
        assert_eq!(problems(&json!({"a": "x"}), &schema), ["/b: is missing"]);
        assert!(problems(&Value::Null, &schema).is_empty());
    }

    #[test]
    fn a_type_of_rust_is_held_to_its_schema() {
        #[derive(JsonSchema)]
        #[expect(dead_code, reason = "only its schema is looked at")]
        #[serde(rename_all = "snake_case")]
        enum Verdict {
            Publish,
            Redo { section: u8, why: Option<String> },
        }
        let schema = of::<Verdict>();
        let good = [json!("publish"), json!({"redo": {"section": 3}})];
        for value in good {
            assert!(problems(&value, &schema).is_empty(), "{value}");
        }
        let bad = [
            json!("perhaps"),
            json!(null),
            json!({"redo": {}}),
            json!({"redo": {"section": 300}}),
            json!({"redo": {"section": 3, "why": 4}}),
        ];
        for value in bad {
            assert!(!problems(&value, &schema).is_empty(), "{value}");
        }
        let pair = of::<(u32, bool)>();
        assert!(problems(&json!([1, true]), &pair).is_empty());
        assert_eq!(
            problems(&json!([1]), &pair),
            ["(the whole): must have at least 2 items"]
        );
        assert_eq!(
            problems(&json!([1, true, 3]), &pair),
            ["(the whole): must have at most 2 items"]
        );
    }

    #[test]
    fn a_schema_that_refers_to_nothing_but_itself_comes_to_an_end() {
        assert!(problems(&json!(1), &json!({"$ref": "#"})).is_empty());
    }

    #[test]
    fn unions_that_multiply_come_to_an_end() {
        let branch = json!({"type": "array", "items": {"$ref": "#/$defs/N"}});
        let schema =
            json!({"$ref": "#/$defs/N", "$defs": {"N": {"anyOf": [branch, branch, branch]}}});
        let value = (0..60).fold(json!(1), |inner, _| json!([inner]));
        assert!(problems(&value, &schema).len() <= MAX_PROBLEMS);
    }
}
