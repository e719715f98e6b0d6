//! A run as one document, to be kept elsewhere or taken to another database.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::engine::{Engine, EngineError, RunStatus};
use crate::run_id::RunId;
use crate::store;
use crate::stored::Control;
use crate::vault::unsealed;

/// What an export calls itself.
const FORMAT: &str = "velo.run";
/// The version of the format that is written, and the newest that is read.
const VERSION: u32 = 1;
/// Most steps that an export can have.
const STEPS_MAX: usize = 100_000;

/// A run with all that is stored of it, as JSON. What was stored as JSON is readable in it; what was sealed
/// is sealed in it, until it is [opened](Engine::open_export).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunExport {
    /// `velo.run`.
    pub format: String,
    /// The version of the format: 1.
    pub version: u32,
    /// The run itself.
    pub run: ExportedRun,
    /// Its committed steps, from zero, without a gap.
    pub steps: Vec<ExportedStep>,
    /// Kept results of side effects.
    pub memos: Vec<Map<String, Value>>,
    /// Finished tasks of a step that is not committed.
    pub outcomes: Vec<Map<String, Value>>,
    /// What it waits for, and what it waited for.
    pub waits: Vec<Map<String, Value>>,
    /// Messages to it, in the order of their arrival.
    pub signals: Vec<Map<String, Value>>,
    /// Updates that it was asked for, in that order, with their answers.
    #[serde(default)]
    pub updates: Vec<Map<String, Value>>,
    /// Its failed attempts.
    pub failures: Vec<Map<String, Value>>,
    /// What its nodes emitted.
    pub events: Vec<Map<String, Value>>,
}

/// The run of an export.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExportedRun {
    /// The id that it had, as a number.
    pub id: i64,
    /// The graph's name.
    pub graph: String,
    /// The graph's version.
    pub version: i32,
    /// The graph's fingerprint.
    pub fingerprint: Uuid,
    /// Its thread.
    pub thread: Option<String>,
    /// How far it was.
    pub status: RunStatus,
    /// Why it was paused.
    pub error: Option<Value>,
    /// When it was started.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// A committed step of an export.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExportedStep {
    /// Which step it is.
    pub seq: i32,
    /// The fence of the lease that committed it.
    pub fence: i64,
    /// When it was committed.
    pub at: DateTime<Utc>,
    /// What was written.
    pub delta: Payload,
    /// What came next.
    pub control: Payload,
    /// The whole state, now and then.
    pub snapshot: Option<Payload>,
}

/// Stored bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// They are JSON.
    Json(Value),
    /// They are JSON with numbers that a JSON value here would not keep to the last digit.
    Text(String),
    /// They are something else, as hexadecimal digits.
    Hex(String),
}

/// An export that cannot be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadExport {
    /// It is no export, or of a newer format.
    #[error(
        "it is of the format `{format}`, version {version}, and `velo.run`, version 1, can be read"
    )]
    Format {
        /// What it calls itself.
        format: String,
        /// Its version.
        version: u32,
    },
    /// A step is missing, or there are too many.
    #[error("its steps do not go from zero on without a gap, or are more than a hundred thousand")]
    Steps,
    /// A payload cannot be read.
    #[error("step {seq} cannot be read")]
    Payload {
        /// The step.
        seq: i32,
    },
    /// A row does not have the form of its table.
    #[error("a row does not have the form that its table needs")]
    Row(#[source] sqlx::Error),
}

impl Payload {
    fn of(hex: &str) -> Self {
        let digits = hex.strip_prefix("\\x").unwrap_or(hex);
        bytes(digits).map_or_else(
            || Self::Hex(digits.to_owned()),
            |bytes| Self::of_bytes(&unsealed(&bytes).unwrap_or(bytes)),
        )
    }

    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Self::Hex(digits(bytes));
        };
        match serde_json::from_str::<Value>(text) {
            Ok(value) if is_exact(&value) => Self::Json(value),
            Ok(_) => Self::Text(text.to_owned()),
            Err(_) => Self::Hex(digits(bytes)),
        }
    }

    /// The bytes, if it can be read.
    pub(crate) fn to_bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Json(value) => serde_json::to_vec(value).ok(),
            Self::Text(text) => Some(text.clone().into_bytes()),
            Self::Hex(digits) => bytes(digits),
        }
    }

    /// As Postgres reads bytea.
    fn to_column(&self) -> Option<String> {
        Some(format!("\\x{}", digits(&self.to_bytes()?)))
    }
}

/// Whether all its numbers are whole, so that none is rounded on the way.
fn is_exact(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_i64() || number.is_u64(),
        Value::Array(items) => items.iter().all(is_exact),
        Value::Object(fields) => fields.values().all(is_exact),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

fn digits(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut digits, byte| {
        write!(digits, "{byte:02x}").expect("a String takes all that is written");
        digits
    })
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    if !digits.is_ascii() || !digits.len().is_multiple_of(2) {
        return None;
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok())
        .collect()
}

/// The columns of bytes, by the list of rows that has them.
const BYTES: [(&str, &[&str]); 4] = [
    ("steps", &["delta", "control", "snapshot"]),
    ("memos", &["value"]),
    ("outcomes", &["outcome"]),
    ("updates", &["writes"]),
];

impl Engine {
    /// All that is stored of a run, as it is at one moment. What is sealed stays so: see
    /// [`open_export`](Self::open_export).
    ///
    /// # Errors
    /// [`EngineError::NoRun`], [`EngineError::NotBegun`], [`EngineError::BadExport`] when it has more than a hundred thousand steps,
    /// or the database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn export(&self, run: RunId) -> Result<RunExport, EngineError> {
        const EXPORTING: &str = "export the run";
        if self.run(run).await?.steps.unsigned_abs() as usize >= STEPS_MAX {
            return Err(EngineError::BadExport(BadExport::Steps));
        }
        let found = store::export::read(self.pool(), run)
            .await
            .map_err(EngineError::on(EXPORTING))?;
        let mut document = found.ok_or(EngineError::NoRun(run))?;
        if document["steps"].as_array().is_none_or(Vec::is_empty) {
            return Err(EngineError::NotBegun(run));
        }
        for (rows, columns) in BYTES {
            let rows = document[rows].as_array_mut().into_iter().flatten();
            for row in rows {
                for column in columns {
                    if let Some(hex) = row[*column].as_str() {
                        row[*column] = json!(Payload::of(hex));
                    }
                }
            }
        }
        document["format"] = json!(FORMAT);
        document["version"] = json!(VERSION);
        serde_json::from_value(document).map_err(|source| EngineError::Unstorable { source })
    }

    /// The same export with all that is sealed in it opened, by the codec of this engine: for people to read.
    ///
    /// # Errors
    /// [`EngineError::Sealed`] when something does not open, or [`EngineError::BadExport`].
    pub fn open_export(&self, export: &RunExport) -> Result<RunExport, EngineError> {
        let unstorable = |source| EngineError::Unstorable { source };
        let mut document = serde_json::to_value(export).map_err(unstorable)?;
        let id = RunId::from_i64(export.run.id);
        let open = self.vault().rewrite(&mut document, id, None);
        open.map_err(EngineError::sealed("open the export"))?;
        serde_json::from_value(document).map_err(unstorable)
    }

    /// Brings an exported run into this database, under a new id, which is returned. One that had
    /// ended has ended here too; any other is paused, so that it does not go on in two places: stop the
    /// original, then [resume](Self::resume) this one. Fences and times are those that it had. What is
    /// sealed in it is opened, and all of it sealed anew if this engine has a codec.
    ///
    /// # Errors
    /// [`EngineError::Sealed`] when something does not open; [`EngineError::BadExport`] when it is no export that can be read; [`EngineError::ThreadBusy`] when
    /// its thread has a live run here; or the database's.
    ///
    /// # Cancel safety
    /// All of it is imported or nothing. Dropped half-way, or when the answer is lost, it may be there,
    /// paused, under an id that nobody knows: see the paused runs.
    pub async fn import(&self, export: &RunExport) -> Result<RunId, EngineError> {
        const IMPORTING: &str = "import the run";
        let opened = self.open_export(export)?;
        check(&opened).map_err(EngineError::BadExport)?;
        let id = RunId::random();
        let mut document =
            serde_json::to_value(&opened).map_err(|source| EngineError::Unstorable { source })?;
        self.vault()
            .rewrite(&mut document, RunId::from_i64(export.run.id), Some(id))
            .map_err(EngineError::sealed(IMPORTING))?;
        for (rows, columns) in BYTES {
            let rows = document[rows].as_array_mut().into_iter().flatten();
            for (seq, row) in (0..).zip(rows) {
                for column in columns {
                    if row[*column].is_null() {
                        continue;
                    }
                    let payload = serde_json::from_value::<Payload>(row[*column].take()).ok();
                    let hex = payload.and_then(|payload| payload.to_column());
                    let hex = hex.ok_or(EngineError::BadExport(BadExport::Payload { seq }))?;
                    row[*column] = Value::String(hex);
                }
            }
        }
        document["run"]["nonce"] = json!(Uuid::new_v4().as_u64_pair().0.cast_signed());
        if !export.run.status.is_terminal() {
            document["run"]["status"] = json!(RunStatus::Paused);
            if export.run.error.is_none() {
                document["run"]["error"] = json!({
                    "kind": "imported",
                    "message": "it was imported while it was under way: stop the original, then resume it",
                });
            }
        }
        let imported = store::export::write(self.pool(), id, &document).await;
        let imported = imported.map_err(|error| {
            let code = error.as_database_error().and_then(|error| error.code());
            // Data exceptions and violated constraints: the rows are not such as are exported.
            if code.is_some_and(|code| code.starts_with("22") || code.starts_with("23")) {
                EngineError::BadExport(BadExport::Row(error))
            } else {
                EngineError::on(IMPORTING)(error)
            }
        })?;
        if imported {
            return Ok(id);
        }
        let thread = export.run.thread.clone().unwrap_or_default();
        let live = store::thread::live_run(self.pool(), &thread)
            .await
            .map_err(EngineError::on(IMPORTING))?;
        match live {
            Some(run) => Err(EngineError::ThreadBusy { thread, run }),
            None => Err(EngineError::on(IMPORTING)(sqlx::Error::RowNotFound)),
        }
    }
}

fn check(export: &RunExport) -> Result<(), BadExport> {
    if export.format != FORMAT || export.version != VERSION {
        return Err(BadExport::Format {
            format: export.format.clone(),
            version: export.version,
        });
    }
    let is_gapless = (0..).zip(&export.steps).all(|(seq, step)| step.seq == seq);
    if export.steps.is_empty() || export.steps.len() > STEPS_MAX || !is_gapless {
        return Err(BadExport::Steps);
    }
    for step in &export.steps {
        let control = step.control.to_bytes();
        let has_control = control.is_some_and(|control| Control::decode(&control).is_ok());
        if !has_control || (step.seq == 0 && step.snapshot.is_none()) {
            return Err(BadExport::Payload { seq: step.seq });
        }
    }
    Ok(())
}
