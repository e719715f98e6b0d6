//! Which schemas of a reply the real server takes.

use serde_json::{Map, Value};

use crate::fake_gemini::refusal::Refusal;

/// Deepest nesting.
const MAX_DEPTH: usize = 32;

/// Keywords of a dialect of schemas, by what stands behind them.
struct Dialect {
    plain: &'static [&'static str],
    schemas: &'static [&'static str],
    lists: &'static [&'static str],
    maps: &'static [&'static str],
    reference: &'static str,
    definitions: &'static str,
}

const JSON: Dialect = Dialect {
    plain: &[
        "$id",
        "$ref",
        "$anchor",
        "type",
        "format",
        "title",
        "description",
        "enum",
        "minItems",
        "maxItems",
        "minimum",
        "maximum",
        "required",
        "propertyOrdering",
    ],
    schemas: &["items", "additionalProperties"],
    lists: &["prefixItems", "anyOf", "oneOf"],
    maps: &["$defs", "properties"],
    reference: "$ref",
    definitions: "$defs",
};

const OPEN_API: Dialect = Dialect {
    plain: &[
        "type",
        "format",
        "title",
        "description",
        "nullable",
        "enum",
        "required",
        "propertyOrdering",
        "default",
        "example",
        "minItems",
        "maxItems",
        "minLength",
        "maxLength",
        "minProperties",
        "maxProperties",
        "minimum",
        "maximum",
        "pattern",
        "ref",
    ],
    schemas: &["items", "additionalProperties"],
    lists: &["anyOf"],
    maps: &["defs", "properties"],
    reference: "ref",
    definitions: "defs",
};

/// Checks what stands in `responseJsonSchema`.
pub(super) fn json(schema: &Value, place: &str) -> Result<(), Refusal> {
    JSON.node(schema, schema, place, 0)
}

/// Checks what stands in `responseSchema`.
pub(super) fn open_api(schema: &Value, place: &str) -> Result<(), Refusal> {
    OPEN_API.node(schema, schema, place, 0)
}

impl Dialect {
    fn node(&self, schema: &Value, root: &Value, place: &str, depth: usize) -> Result<(), Refusal> {
        if depth > MAX_DEPTH {
            return Err(Refusal::invalid(
                "The schema exceeds the maximum allowed nesting depth.",
            ));
        }
        let schema = match schema {
            Value::Object(schema) => schema,
            Value::Bool(_) if place.ends_with("additionalProperties") => return Ok(()),
            _ => return Err(Refusal::invalid(format!("Invalid value at '{place}'"))),
        };
        self.reference(schema, root, place)?;
        for (keyword, value) in schema {
            let below = format!("{place}.{keyword}");
            let name = keyword.as_str();
            if self.plain.contains(&name) {
                plain(name, value, &below)?;
            } else if self.schemas.contains(&name) {
                self.node(value, root, &below, depth + 1)?;
            } else if self.lists.contains(&name) {
                for branch in value.as_array().ok_or_else(|| invalid(&below))? {
                    self.node(branch, root, &below, depth + 1)?;
                }
            } else if self.maps.contains(&name) {
                let named = value.as_object().ok_or_else(|| invalid(&below))?;
                for (name, schema) in named {
                    self.node(schema, root, &format!("{below}[{name}]"), depth + 1)?;
                }
            } else {
                return Err(Refusal::unknown_field(keyword, place));
            }
        }
        Ok(())
    }

    /// A reference must lead to a definition and stand alone.
    fn reference(
        &self,
        schema: &Map<String, Value>,
        root: &Value,
        place: &str,
    ) -> Result<(), Refusal> {
        let Some(reference) = schema.get(self.reference) else {
            return Ok(());
        };
        let target = reference
            .as_str()
            .and_then(|text| text.strip_prefix(&format!("#/{}/", self.definitions)))
            .and_then(|name| root[self.definitions].get(name));
        if target.is_none() {
            return Err(Refusal::invalid(format!(
                "The reference {reference} at '{place}' leads to no definition."
            )));
        }
        let stands_alone = schema
            .keys()
            .all(|key| key.starts_with('$') || key == self.reference);
        if stands_alone {
            return Ok(());
        }
        Err(Refusal::invalid(format!(
            "A schema with {} must have no other fields, at '{place}'.",
            self.reference
        )))
    }
}

fn plain(keyword: &str, value: &Value, place: &str) -> Result<(), Refusal> {
    let is_right = match keyword {
        "enum" => value
            .as_array()
            .is_some_and(|values| values.iter().all(|v| v.is_string() || v.is_number())),
        "required" | "propertyOrdering" => value
            .as_array()
            .is_some_and(|names| names.iter().all(Value::is_string)),
        "title" | "description" | "format" | "pattern" => value.is_string(),
        _ => true,
    };
    if is_right {
        Ok(())
    } else {
        Err(invalid(place))
    }
}

fn invalid(place: &str) -> Refusal {
    Refusal::invalid(format!("Invalid value at '{place}'"))
}
