//! The messages of the WebSocket, as JSON text.

use chrono::SecondsFormat;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use velo_agents::domain::ProjectId;
use velo_engine::events::Event;

/// What a client says.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum FromClient {
    /// Asks whether anybody is there.
    Ping {
        /// The client's time, which is sent back.
        timestamp: Option<String>,
    },
    /// Asks for the events of a project after a place; again, it begins anew from there.
    Subscribe {
        project_id: ProjectId,
        #[serde(default)]
        after: Option<i64>,
    },
}

/// Why a client's message was not followed, for programs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    BadMessage,
    UnknownProject,
    TooManySubscriptions,
    Unavailable,
}

impl Fault {
    const fn code(self) -> &'static str {
        match self {
            Self::BadMessage => "bad_message",
            Self::UnknownProject => "unknown_project",
            Self::TooManySubscriptions => "too_many_subscriptions",
            Self::Unavailable => "unavailable",
        }
    }
}

/// An event: its kind, its fields, its place and its time.
pub(super) fn event(event: &Event) -> String {
    let mut message = Map::new();
    message.insert("type".to_owned(), event.kind.clone().into());
    if let Value::Object(fields) = &event.body {
        message.extend(fields.clone());
    }
    let at = event.at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    message.insert("seq".to_owned(), event.seq.into());
    message.insert("timestamp".to_owned(), at.into());
    Value::Object(message).to_string()
}

pub(super) fn pong(timestamp: Option<&str>) -> String {
    json!({ "type": "pong", "timestamp": timestamp }).to_string()
}

pub(super) fn subscribed(project: ProjectId, after: i64) -> String {
    json!({ "type": "subscribed", "project_id": project, "after": after }).to_string()
}

pub(super) fn error(fault: Fault, message: &str) -> String {
    json!({ "type": "error", "code": fault.code(), "message": message }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<FromClient, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn the_documented_messages_are_understood() {
        let project_id = ProjectId::new();
        assert_eq!(
            read(r#"{"type":"ping","timestamp":"2025-11-24T12:00:00Z"}"#).unwrap(),
            FromClient::Ping {
                timestamp: Some("2025-11-24T12:00:00Z".to_owned())
            }
        );
        assert_eq!(
            read(&format!(
                r#"{{"type":"subscribe","project_id":"{project_id}"}}"#
            ))
            .unwrap(),
            FromClient::Subscribe {
                project_id,
                after: None
            }
        );
    }

    #[test]
    fn what_is_not_documented_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "EOF"),
            ("[]", "type"),
            (r#"{"type":"shout"}"#, "unknown variant `shout`"),
            (r#"{"type":"subscribe"}"#, "project_id"),
            (r#"{"type":"subscribe","project_id":"7"}"#, "UUID"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn an_event_is_its_fields_between_its_type_and_its_place() {
        let message = event(&Event {
            stream: "project/x".to_owned(),
            seq: 7,
            kind: "project_status".to_owned(),
            body: json!({ "status": "ready", "message": "done" }),
            run: None,
            at: "2025-11-24T12:05:00Z".parse().unwrap(),
        });
        assert_eq!(
            message,
            r#"{"type":"project_status","status":"ready","message":"done","seq":7,"timestamp":"2025-11-24T12:05:00Z"}"#
        );
    }
}
