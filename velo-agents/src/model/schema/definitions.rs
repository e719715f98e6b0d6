//! The named definitions of a schema, and which of them contain themselves.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{MAX_DEPTH, SchemaError};

/// What `$ref: "#"` leads to, under a name that a definition can have.
pub(super) const ROOT: &str = "ReplyRoot";

/// Definitions by name.
#[derive(Debug)]
pub(super) struct Definitions<'a> {
    by_name: BTreeMap<&'a str, &'a Value>,
    recursive: BTreeSet<&'a str>,
}

/// A definition's references to others.
#[derive(Debug, Default)]
struct Uses<'a> {
    all: BTreeSet<&'a str>,
    /// Those on a way without any optional property.
    required: BTreeSet<&'a str>,
}

impl<'a> Definitions<'a> {
    pub(super) fn read(root: &'a Value) -> Result<Self, SchemaError> {
        let defs = root.get("$defs").or_else(|| root.get("definitions"));
        let mut by_name: BTreeMap<&str, &Value> = defs
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, schema)| (name.as_str(), schema))
            .collect();
        by_name.entry(ROOT).or_insert(root);
        let mut uses = BTreeMap::new();
        for (name, schema) in &by_name {
            let mut found = Uses::default();
            collect(schema, true, name, 0, &mut found)?;
            uses.insert(*name, found);
        }
        let recursive = by_name
            .keys()
            .filter(|name| reaches_itself(name, &uses, |uses| &uses.all))
            .copied()
            .collect();
        if let Some(endless) = by_name
            .keys()
            .find(|name| reaches_itself(name, &uses, |uses| &uses.required))
        {
            return Err(SchemaError::RequiredRecursion {
                definition: (*endless).to_owned(),
            });
        }
        Ok(Self { by_name, recursive })
    }

    /// The definition that `reference` leads to, and its name.
    pub(super) fn find(&self, reference: &str) -> Option<(&'a str, &'a Value)> {
        let (name, schema) = self.by_name.get_key_value(name_of(reference)?)?;
        Some((*name, *schema))
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.by_name.get(name).copied()
    }

    pub(super) fn is_recursive(&self, name: &str) -> bool {
        self.recursive.contains(name)
    }
}

/// The definition's name in `#/$defs/Name`; [`ROOT`] for `#`.
pub(super) fn name_of(reference: &str) -> Option<&str> {
    if reference == "#" {
        return Some(ROOT);
    }
    reference
        .strip_prefix("#/$defs/")
        .or_else(|| reference.strip_prefix("#/definitions/"))
}

fn collect<'a>(
    schema: &'a Value,
    is_required: bool,
    path: &str,
    depth: usize,
    found: &mut Uses<'a>,
) -> Result<(), SchemaError> {
    if depth > MAX_DEPTH {
        return Err(SchemaError::TooLarge {
            path: path.to_owned(),
        });
    }
    if let Value::Array(list) = schema {
        for item in list {
            collect(item, is_required, path, depth + 1, found)?;
        }
        return Ok(());
    }
    let Value::Object(schema) = schema else {
        return Ok(());
    };
    if let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(name_of) {
        found.all.insert(name);
        if is_required {
            found.required.insert(name);
        }
    }
    for (keyword, value) in schema {
        match keyword.as_str() {
            "properties" => {
                let Some(properties) = value.as_object() else {
                    continue;
                };
                for (property, value) in properties {
                    let is_required = is_required && is_required_in(schema, property);
                    collect(value, is_required, path, depth + 1, found)?;
                }
            }
            "items" | "prefixItems" | "additionalProperties" | "allOf" | "anyOf" | "oneOf" => {
                collect(value, is_required, path, depth + 1, found)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_required_in(schema: &Map<String, Value>, property: &str) -> bool {
    schema
        .get("required")
        .and_then(Value::as_array)
        .is_some_and(|names| names.iter().any(|name| name == property))
}

fn reaches_itself<'a>(
    start: &str,
    uses: &BTreeMap<&'a str, Uses<'a>>,
    edges: for<'b> fn(&'b Uses<'a>) -> &'b BTreeSet<&'a str>,
) -> bool {
    let mut seen = BTreeSet::new();
    let mut next: Vec<&str> = vec![start];
    while let Some(name) = next.pop() {
        let Some(uses) = uses.get(name) else {
            continue;
        };
        for used in edges(uses) {
            if *used == start {
                return true;
            }
            if seen.insert(*used) {
                next.push(used);
            }
        }
    }
    false
}
