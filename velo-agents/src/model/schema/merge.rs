//! Two schemas that hold at once, as one: `allOf`, and unions beside properties.

use serde_json::{Map, Value};

/// `left` and `right` as one schema, or `None` when they say different things about a keyword.
pub(super) fn both(
    left: &Map<String, Value>,
    right: &Map<String, Value>,
) -> Option<Map<String, Value>> {
    let mut sum = left.clone();
    for (keyword, value) in right {
        let Some(known) = sum.get_mut(keyword) else {
            sum.insert(keyword.clone(), value.clone());
            continue;
        };
        match (keyword.as_str(), known, value) {
            (_, known, value) if known == value => {}
            ("properties", Value::Object(known), Value::Object(more)) => {
                for (property, schema) in more {
                    match known.get(property) {
                        Some(same) if same == schema => {}
                        Some(_) => return None,
                        None => {
                            known.insert(property.clone(), schema.clone());
                        }
                    }
                }
            }
            ("required", Value::Array(known), Value::Array(more)) => {
                for name in more {
                    if !known.contains(name) {
                        known.push(name.clone());
                    }
                }
            }
            // The outer text is about this use, the inner one about the type.
            ("description" | "title" | "default" | "$schema", _, _) => {}
            // One side says that the other's properties are not allowed: together they are.
            ("additionalProperties", known, value) => {
                if !matches!((&*known, value), (Value::Bool(_), Value::Bool(_))) {
                    return None;
                }
                *known = Value::Bool(false);
            }
            _ => return None,
        }
    }
    Some(sum)
}
