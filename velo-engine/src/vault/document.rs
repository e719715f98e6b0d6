//! Payloads in an exported document.

use serde_json::{Map, Value, json};

use super::{Home, Vault};
use crate::codec::SealError;
use crate::export::Payload;
use crate::run_id::RunId;

/// How a payload is stored.
#[derive(Debug, Clone, Copy)]
enum Form {
    Bytes,
    Json,
    Text,
}

/// Every column of payloads: the rows of a document, the column, what its [`Home`] is called, and its form.
const COLUMNS: [(&str, &str, &str, Form); 15] = [
    ("steps", "delta", "delta", Form::Bytes),
    ("steps", "control", "control", Form::Bytes),
    ("steps", "snapshot", "snapshot", Form::Bytes),
    ("memos", "value", "memo", Form::Bytes),
    ("outcomes", "outcome", "outcome", Form::Bytes),
    ("waits", "question", "question", Form::Json),
    ("waits", "schema", "schema", Form::Json),
    ("waits", "answer", "answer", Form::Json),
    ("waits", "refusal", "refusal", Form::Text),
    ("signals", "payload", "signal", Form::Json),
    ("updates", "request", "update request", Form::Json),
    ("updates", "answer", "update answer", Form::Json),
    ("updates", "writes", "update writes", Form::Bytes),
    ("failures", "error", "failure", Form::Json),
    ("events", "body", "event", Form::Json),
];

impl Vault {
    /// Opens all payloads of an exported document of the run `old`, and seals them as those of another, if
    /// there is one.
    pub(crate) fn rewrite(
        &self,
        document: &mut Value,
        old: RunId,
        new: Option<RunId>,
    ) -> Result<(), SealError> {
        for (rows, column, what, form) in COLUMNS {
            let rows = document[rows].as_array_mut().into_iter().flatten();
            for row in rows.filter_map(Value::as_object_mut) {
                let mut payload = row.get_mut(column).map(Value::take).unwrap_or_default();
                if !payload.is_null() {
                    let homes = (home(what, old, row), new.map(|new| home(what, new, row)));
                    self.rewrite_one(&mut payload, form, homes)?;
                    row.insert(column.to_owned(), payload);
                }
            }
        }
        let error = &mut document["run"]["error"];
        if !error.is_null() {
            let home = |run| Home::of_run(run, "error");
            self.rewrite_one(error, Form::Json, (home(old), new.map(home)))?;
        }
        Ok(())
    }

    fn rewrite_one(
        &self,
        payload: &mut Value,
        form: Form,
        (old, new): (Home<'_>, Option<Home<'_>>),
    ) -> Result<(), SealError> {
        match form {
            Form::Json => {
                self.open_json(old, payload)?;
                if let Some(new) = new {
                    *payload = self.seal_json(new, payload.take())?;
                }
            }
            Form::Text => {
                let mut text = payload.as_str().unwrap_or_default().to_owned();
                self.open_text(old, &mut text)?;
                if let Some(new) = new {
                    text = self.seal_text(new, &text)?;
                }
                *payload = text.into();
            }
            // What is no payload is left to whoever reads it next, and refuses it.
            Form::Bytes => {
                let read = serde_json::from_value::<Payload>(payload.clone()).ok();
                let Some(mut bytes) = read.and_then(|read| read.to_bytes()) else {
                    return Ok(());
                };
                self.open(old, &mut bytes)?;
                if let Some(new) = new {
                    bytes = self.seal(new, bytes)?;
                }
                *payload = json!(Payload::of_bytes(&bytes));
            }
        }
        Ok(())
    }
}

/// Where a column of this row is stored.
fn home<'a>(what: &'static str, run: RunId, row: &'a Map<String, Value>) -> Home<'a> {
    let number = |field| {
        let number = row.get(field).and_then(Value::as_i64);
        number
            .and_then(|number| i32::try_from(number).ok())
            .unwrap_or(0)
    };
    let text = |field| row.get(field).and_then(Value::as_str).unwrap_or_default();
    match what {
        "delta" | "control" | "snapshot" => Home::of_step(run, number("seq"), what),
        "failure" => Home::of_run(run, what),
        "signal" => Home::named_of_run(run, what, text("name")),
        "event" => Home::named_of_run(run, what, text("kind")),
        "update request" | "update answer" | "update writes" => {
            Home::named_of_run(run, what, text("key"))
        }
        "outcome" => Home::of_task(run, number("seq"), number("task"), what, ""),
        _ => Home::of_task(run, number("seq"), number("task"), what, text("name")),
    }
}
