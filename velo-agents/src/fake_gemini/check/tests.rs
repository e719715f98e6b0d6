use serde_json::{Value, json};

use super::*;

fn by_key() -> Endpoint {
    Endpoint::ApiKey {
        version: "v1beta".to_owned(),
    }
}

fn on_vertex(location: &str) -> Endpoint {
    Endpoint::Vertex {
        project: "acme".to_owned(),
        location: location.to_owned(),
    }
}

fn asked(more: &Value) -> Value {
    let mut asked = json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]});
    for (name, value) in more.as_object().expect("an object") {
        asked[name] = value.clone();
    }
    asked
}

fn refusal(endpoint: Endpoint, asked: &Value) -> String {
    let received = Received::example(Method::Generate, endpoint, "gemini-3.8-flash");
    match body(&received, asked) {
        Ok(()) => String::new(),
        Err(refusal) => {
            assert_eq!(refusal.status, 400);
            refusal.message
        }
    }
}

fn with_schema(schema: &Value) -> Value {
    asked(&json!({"generationConfig": {
        "responseMimeType": "application/json",
        "responseJsonSchema": schema,
    }}))
}

#[test]
fn unknown_fields_are_named_with_their_place() {
    for (sent, wanted) in [
        (
            json!({"surprise": 1}),
            "Invalid JSON payload received. Unknown name \"surprise\": Cannot find field.",
        ),
        (
            json!({"generationConfig": {"maxTokens": 1}}),
            "Invalid JSON payload received. Unknown name \"maxTokens\" at 'generation_config': Cannot find field.",
        ),
        (
            json!({"generationConfig": {"thinkingConfig": {"level": 1}}}),
            "Invalid JSON payload received. Unknown name \"level\" at 'generation_config.thinking_config': Cannot find field.",
        ),
        (
            json!({"contents": [{"role": "user", "parts": [{"txt": "hello"}]}]}),
            "Invalid JSON payload received. Unknown name \"txt\" at 'contents[0].parts[0]': Cannot find field.",
        ),
    ] {
        assert_eq!(refusal(by_key(), &asked(&sent)), wanted);
    }
}

#[test]
fn both_spellings_are_read() {
    let sent = asked(&json!({
        "system_instruction": {"parts": [{"text": "be brief"}]},
        "generation_config": {"max_output_tokens": 100},
    }));
    assert_eq!(refusal(by_key(), &sent), "");
    let sent = asked(&json!({"generation_config": {"max_output_tokens": 0}}));
    assert!(refusal(by_key(), &sent).contains("maxOutputTokens value of 0"));
}

#[test]
fn a_conversation_must_be_there_and_end_with_the_user() {
    let turn = |role: &str| json!({"role": role, "parts": [{"text": "hello"}]});
    for (contents, wanted) in [
        (json!([]), "contents is not specified"),
        (json!(null), "contents is not specified"),
        (json!([turn("user"), turn("model")]), "end with a user role"),
        (json!([turn("system")]), "valid role"),
        (
            json!([{"role": "user", "parts": []}]),
            "parts must not be empty",
        ),
    ] {
        let message = refusal(by_key(), &json!({"contents": contents}));
        assert!(message.contains(wanted), "{contents}: {message}");
    }
    let roleless = json!({"contents": [{"parts": [{"text": "hello"}]}]});
    assert_eq!(refusal(by_key(), &roleless), "");
    assert!(refusal(on_vertex("global"), &roleless).contains("valid role"));
}

#[test]
fn a_schema_keyword_that_is_not_on_the_list_is_refused_wherever_it_stands() {
    for schema in [
        json!({"type": "string", "pattern": "x"}),
        json!({"type": "object", "properties": {"a": {"type": "string", "minLength": 1}}}),
        json!({"type": "array", "items": {"const": 1}}),
        json!({"anyOf": [{"type": "null"}, {"type": "integer", "multipleOf": 2}]}),
        json!({"type": "object", "$defs": {"A": {"allOf": []}}}),
        json!({"type": "object", "additionalProperties": {"type": "string", "default": ""}}),
    ] {
        let message = refusal(by_key(), &with_schema(&schema));
        assert!(message.contains("Cannot find field"), "{schema}: {message}");
    }
    let named_like_keywords = json!({
        "type": "object",
        "properties": {"pattern": {"type": "string"}, "const": {"$ref": "#/$defs/default"}},
        "additionalProperties": false,
        "$defs": {"default": {"type": "string", "enum": ["a"]}},
    });
    assert_eq!(refusal(by_key(), &with_schema(&named_like_keywords)), "");
}

#[test]
fn a_reference_leads_somewhere_and_stands_alone() {
    for (schema, wanted) in [
        (json!({"$ref": "#/$defs/A"}), "leads to no definition"),
        (
            json!({"$ref": "#/$defs/A", "description": "x", "$defs": {"A": {"type": "string"}}}),
            "must have no other fields",
        ),
    ] {
        let message = refusal(by_key(), &with_schema(&schema));
        assert!(message.contains(wanted), "{schema}: {message}");
    }
}

#[test]
fn a_schema_needs_the_json_type_and_only_one_dialect() {
    let schema = json!({"type": "STRING"});
    for (config, wanted) in [
        (json!({"responseJsonSchema": schema}), "application/json"),
        (
            json!({
                "responseMimeType": "application/json",
                "responseJsonSchema": schema,
                "responseSchema": schema,
            }),
            "must not both be set",
        ),
    ] {
        let message = refusal(by_key(), &asked(&json!({"generationConfig": config})));
        assert!(message.contains(wanted), "{message}");
    }
    let open_api = json!({"generationConfig": {
        "responseMimeType": "application/json",
        "responseSchema": {"type": "STRING", "pattern": "x", "nullable": true},
    }});
    assert_eq!(refusal(on_vertex("global"), &asked(&open_api)), "");
}

#[test]
fn nesting_has_an_end() {
    let deep = (0..100).fold(
        json!({"type": "string"}),
        |inner, _| json!({"type": "array", "items": inner}),
    );
    assert!(refusal(by_key(), &with_schema(&deep)).contains("nesting depth"));
}

#[test]
fn a_model_without_sampling_refuses_a_temperature_and_levels_that_it_does_not_have() {
    for config in [
        json!({"temperature": 0.5}),
        json!({"thinkingConfig": {"thinkingLevel": "MINIMAL"}}),
    ] {
        let message = refusal(by_key(), &asked(&json!({"generationConfig": config})));
        assert!(message.contains("not supported"), "{message}");
    }
}

#[test]
fn labels_are_plain() {
    let endpoint = || on_vertex("global");
    assert_eq!(
        refusal(
            endpoint(),
            &asked(&json!({"labels": {"velo_agent": "a-1"}}))
        ),
        ""
    );
    for labels in [json!({"Agent": "a"}), json!({"agent": "A b"})] {
        let message = refusal(endpoint(), &asked(&json!({"labels": labels})));
        assert!(message.contains("Invalid label"), "{message}");
    }
}

#[test]
fn unknown_and_retired_models_and_wrong_locations_are_not_found() {
    for (endpoint, id, is_found) in [
        (by_key(), "gemini-3.8-flash", true),
        (by_key(), "gemini-3.5-flash-001", true),
        (by_key(), "gemini-2.5-pro", false),
        (by_key(), "gemini-9", false),
        (by_key(), "served-here", true),
        (on_vertex("eu"), "gemini-3.8-flash", true),
        (on_vertex("us-central1"), "gemini-3.8-flash", false),
        (on_vertex("us-central1"), "gemini-3.5-flash", true),
    ] {
        let received = Received::example(Method::Generate, endpoint, id);
        let found = model(&received, &["served-here".to_owned()]);
        assert_eq!(found.is_ok(), is_found, "{id}");
        if let Err(refusal) = found {
            assert_eq!(refusal.status, 404);
        }
    }
}

#[test]
fn counting_by_key_takes_the_contents_alone() {
    let sent = asked(&json!({"systemInstruction": {"parts": [{"text": "be brief"}]}}));
    for (endpoint, is_taken) in [(by_key(), false), (on_vertex("global"), true)] {
        let received = Received::example(Method::Count, endpoint, "gemini-3.8-flash");
        assert_eq!(body(&received, &sent).is_ok(), is_taken);
    }
}
