use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::{Value, json};

use super::*;

#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is looked at")]
enum Priority {
    Urgent,
    High,
    /// can wait
    Low,
}

#[derive(JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is looked at")]
enum Action {
    Send { to: String },
    Nothing,
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is looked at")]
struct Brief {
    /// What it is called
    title: String,
    /// How soon
    priority: Priority,
    fallback: Option<Priority>,
    note: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    score: u8,
    #[schemars(range(min = 1, max = 5))]
    stars: u8,
    big: i64,
    share: f32,
    counts: BTreeMap<String, i32>,
    action: Action,
    pair: (String, i32),
    id: uuid::Uuid,
    at: chrono::DateTime<chrono::Utc>,
    #[schemars(length(min = 1, max = 5), regex(pattern = r"^a"))]
    code: String,
    #[schemars(length(max = 3))]
    few: Vec<Action>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is looked at")]
struct Endless {
    name: String,
    children: Vec<Self>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is looked at")]
struct Tree {
    name: String,
    #[serde(default)]
    children: Vec<Self>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is looked at")]
struct Forest {
    first: Option<Box<Branch>>,
    /// the others
    rest: Vec<Branch>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is looked at")]
struct Branch {
    name: String,
    next: Option<Box<Self>>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is looked at")]
struct Flat {
    id: String,
    #[serde(flatten)]
    action: Action,
}

/// Every keyword in `schema`, property names left out.
fn keywords(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Array(list) => list.iter().for_each(|item| keywords(item, found)),
        Value::Object(object) => {
            for (keyword, value) in object {
                found.push(keyword.clone());
                match keyword.as_str() {
                    "properties" | "$defs" => value
                        .as_object()
                        .expect("a map")
                        .values()
                        .for_each(|item| keywords(item, found)),
                    "required" | "propertyOrdering" | "enum" | "type" => {}
                    _ => keywords(value, found),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn a_derived_type_becomes_what_is_accepted_in_declaration_order() {
    let schema = of::<Brief>().unwrap();
    let urgency = json!(["urgent", "high", "low"]);
    let action = json!({"anyOf": [
        {
            "type": "object",
            "properties": {"kind": {"type": "string", "enum": ["send"]}, "to": {"type": "string"}},
            "required": ["kind", "to"],
            "propertyOrdering": ["kind", "to"],
        },
        {
            "type": "object",
            "properties": {"kind": {"type": "string", "enum": ["nothing"]}},
            "required": ["kind"],
            "propertyOrdering": ["kind"],
        },
    ]});
    let wanted = json!({
        "title": {"type": "string", "description": "What it is called"},
        "priority": {"type": "string", "description": "How soon", "enum": urgency},
        "fallback": {"anyOf": [
            {"type": "string", "description": "low: can wait", "enum": urgency},
            {"type": "null"},
        ]},
        "note": {"type": ["string", "null"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "score": {"type": "integer", "minimum": 0},
        "stars": {"type": "integer", "minimum": 1, "maximum": 5},
        "big": {"type": "integer"},
        "share": {"type": "number"},
        "counts": {"type": "object", "additionalProperties": {"type": "integer"}},
        "action": action,
        "pair": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "minItems": 2},
        "id": {"type": "string"},
        "at": {"type": "string", "format": "date-time"},
        "code": {"type": "string"},
        "few": {"type": "array", "items": action},
    });
    for (property, schema) in schema["properties"].as_object().unwrap() {
        assert_eq!(schema, &wanted[property], "{property}");
    }
    let order: Vec<&String> = wanted.as_object().unwrap().keys().collect();
    assert_eq!(schema["propertyOrdering"], json!(order));
    assert_eq!(schema["additionalProperties"], json!(false));
    let required = schema["required"].as_array().unwrap();
    let optional = ["fallback", "note", "tags"];
    let expected: Vec<&&String> = order
        .iter()
        .filter(|name| !optional.contains(&name.as_str()))
        .collect();
    assert_eq!(json!(required), json!(expected));
}

#[test]
fn only_accepted_keywords_are_left() {
    let accepted = [
        "$defs",
        "$ref",
        "type",
        "description",
        "enum",
        "format",
        "properties",
        "required",
        "propertyOrdering",
        "additionalProperties",
        "items",
        "prefixItems",
        "minItems",
        "minimum",
        "maximum",
        "anyOf",
    ];
    for schema in [
        of::<Brief>(),
        of::<Tree>(),
        of::<Forest>(),
        of::<Flat>(),
        of::<Vec<Action>>(),
    ] {
        let mut found = Vec::new();
        keywords(&schema.unwrap(), &mut found);
        for keyword in found {
            assert!(accepted.contains(&keyword.as_str()), "{keyword}");
        }
    }
}

#[test]
fn a_schema_that_is_accepted_already_stays_as_it_is() {
    for schema in [
        of::<Brief>(),
        of::<Tree>(),
        of::<Forest>(),
        of::<Flat>(),
        of::<Priority>(),
    ] {
        let schema = schema.unwrap();
        assert_eq!(for_gemini(&schema).unwrap(), schema);
    }
}

#[test]
fn open_values_are_refused_with_their_place() {
    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Open {
        list: Vec<Inner>,
    }
    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Inner {
        /// whatever
        any: Value,
    }
    let path = "/properties/list/items/properties/any".to_owned();
    assert_eq!(of::<Open>(), Err(SchemaError::OpenValue { path }));
    assert!(matches!(of::<Value>(), Err(SchemaError::OpenValue { .. })));
    assert!(matches!(
        of::<BTreeMap<String, Value>>(),
        Err(SchemaError::OpenValue { .. })
    ));
    assert!(matches!(
        of::<Vec<Value>>(),
        Err(SchemaError::OpenValue { .. })
    ));
}

#[test]
fn recursion_is_accepted_only_behind_an_optional_field() {
    assert!(matches!(
        of::<Endless>(),
        Err(SchemaError::RequiredRecursion { .. })
    ));
    let tree = of::<Tree>().unwrap();
    let child = &tree["properties"]["children"]["items"]["$ref"];
    let name = child
        .as_str()
        .and_then(|child| child.strip_prefix("#/$defs/"))
        .unwrap();
    assert_eq!(tree["$defs"][name]["required"], json!(["name"]));
    let forest = of::<Forest>().unwrap();
    assert_eq!(
        forest["properties"]["rest"]["items"],
        json!({"$ref": "#/$defs/Branch"})
    );
    assert_eq!(
        forest["$defs"]["Branch"]["properties"]["name"],
        json!({"type": "string"})
    );
}

#[test]
fn fields_beside_a_flattened_enum_belong_to_each_branch() {
    let schema = of::<Flat>().unwrap();
    let branches = schema["anyOf"].as_array().unwrap();
    assert_eq!(branches.len(), 2);
    for branch in branches {
        assert_eq!(branch["properties"]["id"], json!({"type": "string"}));
        assert!(
            branch["required"]
                .as_array()
                .unwrap()
                .contains(&json!("id")),
            "{branch}"
        );
    }
}

#[test]
fn what_cannot_be_said_is_refused() {
    let not = json!({"type": "object", "properties": {"a": {"not": {"type": "string"}}}});
    assert!(matches!(
        for_gemini(&not),
        Err(SchemaError::Unsupported { .. })
    ));
    let lost = json!({"$ref": "#/$defs/Nobody"});
    assert!(matches!(
        for_gemini(&lost),
        Err(SchemaError::UnknownReference { .. })
    ));
    let deep = (0..40).fold(
        json!({"type": "string"}),
        |inner, _| json!({"type": "array", "items": inner}),
    );
    assert!(matches!(
        for_gemini(&deep),
        Err(SchemaError::TooLarge { .. })
    ));
    let pair = |to: &str| json!({"type": "array", "prefixItems": [{"$ref": to}, {"$ref": to}]});
    let mut defs = serde_json::Map::new();
    defs.insert("D0".to_owned(), json!({"type": "string"}));
    for level in 1..25 {
        defs.insert(
            format!("D{level}"),
            pair(&format!("#/$defs/D{}", level - 1)),
        );
    }
    let wide = json!({"$ref": "#/$defs/D24", "$defs": defs});
    assert!(matches!(
        for_gemini(&wide),
        Err(SchemaError::TooLarge { .. })
    ));
}

#[test]
fn a_null_in_an_enum_becomes_a_branch() {
    let schema = json!({"type": ["string", "null"], "enum": ["a", null], "description": "d"});
    assert_eq!(
        for_gemini(&schema).unwrap(),
        json!({"description": "d", "anyOf": [{"type": "string", "enum": ["a"]}, {"type": "null"}]})
    );
}

#[test]
fn parts_that_hold_at_once_become_one() {
    let schema = json!({
        "description": "outer",
        "allOf": [{"$ref": "#/$defs/A"}, {"type": "object", "properties": {"b": {"type": "string"}}, "required": ["b"]}],
        "$defs": {"A": {"type": "object", "description": "inner", "properties": {"a": {"type": "string"}}}},
    });
    let merged = for_gemini(&schema).unwrap();
    assert_eq!(merged["propertyOrdering"], json!(["a", "b"]));
    assert_eq!(merged["description"], "outer");
    let conflict = json!({"allOf": [{"type": "string"}, {"type": "integer"}]});
    assert!(matches!(
        for_gemini(&conflict),
        Err(SchemaError::Unsupported { .. })
    ));
}
