use serde::Deserialize;
use sha2::{Digest, Sha256};

/// What separates the parts of a template: its head, the system text if it has one, the user text.
const SYSTEM: &str = "\n--- system\n";
const USER: &str = "\n--- user\n";

/// A prompt: a file with a head in TOML, perhaps a text for the system, and a text for the user, in which
/// `{{name}}` is a placeholder.
#[derive(Debug)]
pub struct Prompt {
    head: Head,
    system: Option<Template>,
    user: Template,
    sha256: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    name: String,
    version: u32,
    #[serde(default)]
    purpose: Option<String>,
}

/// Why a prompt could not be read or filled in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The file has no user text.
    #[error("could not read a prompt: its part `{part}` is missing; see the other prompts")]
    Part {
        /// What is missing.
        part: &'static str,
    },
    /// The head is not TOML with a name and a version.
    #[error("could not read the head of a prompt")]
    Head(#[from] toml::de::Error),
    /// A `{{` that no `}}` closes.
    #[error("could not read a prompt: the placeholder that begins `{beginning}` is not closed")]
    Open {
        /// The text there.
        beginning: String,
    },
    /// The text has a placeholder for which there is no value.
    #[error("could not fill in a prompt: there is no value for its placeholder `{name}`")]
    Missing {
        /// The placeholder.
        name: String,
    },
    /// There is a value for which the text has no placeholder.
    #[error("could not fill in a prompt: it has no placeholder `{name}` for the value given")]
    Unknown {
        /// The value's name.
        name: String,
    },
}

impl Prompt {
    /// Reads a template.
    ///
    /// # Errors
    /// [`TemplateError`] when the text is not a template.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let (before, user) = text
            .split_once(USER)
            .ok_or(TemplateError::Part { part: "user" })?;
        let (head, system) = match before.split_once(SYSTEM) {
            Some((head, system)) => (head, Some(Template::parse(system.trim())?)),
            None => (before, None),
        };
        Ok(Self {
            head: toml::from_str(head)?,
            system,
            user: Template::parse(user.trim())?,
            sha256: hex(&Sha256::digest(text.as_bytes())),
        })
    }

    /// Its name, such as `oracle/draft_prd`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.head.name
    }

    /// Its version: raised whenever the wording changes on purpose.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.head.version
    }

    /// The purpose of the requests made with it; `None` leaves it as it was.
    #[must_use]
    pub fn purpose(&self) -> Option<&str> {
        self.head.purpose.as_deref()
    }

    /// SHA-256 of the whole file in hexadecimal, to be recorded with what it led to.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The system text, filled in; `None` for a prompt that goes on in a conversation.
    ///
    /// # Errors
    /// [`TemplateError`] when `values` are not exactly what the text asks for.
    pub fn system(&self, values: &[(&str, &str)]) -> Result<Option<String>, TemplateError> {
        let filled = self.system.as_ref().map(|system| system.fill(values));
        filled.transpose()
    }

    /// The user text, filled in.
    ///
    /// # Errors
    /// [`TemplateError`] when `values` are not exactly what the text asks for.
    pub fn user(&self, values: &[(&str, &str)]) -> Result<String, TemplateError> {
        self.user.fill(values)
    }
}

/// Text and the placeholders in it, in turn: one more text than placeholders.
#[derive(Debug)]
struct Template {
    texts: Vec<String>,
    names: Vec<String>,
}

impl Template {
    fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = text.split("{{");
        let mut texts: Vec<String> = pieces.next().map(str::to_owned).into_iter().collect();
        let mut names = Vec::new();
        for piece in pieces {
            let (name, text) = piece.split_once("}}").ok_or_else(|| TemplateError::Open {
                beginning: piece.chars().take(20).collect(),
            })?;
            names.push(name.trim().to_owned());
            texts.push(text.to_owned());
        }
        Ok(Self { texts, names })
    }

    /// Values are put in as they are: a `{{` inside one is text.
    fn fill(&self, values: &[(&str, &str)]) -> Result<String, TemplateError> {
        let unknown = values
            .iter()
            .find(|(name, _)| !self.names.iter().any(|known| known == name));
        if let Some((name, _)) = unknown {
            return Err(TemplateError::Unknown {
                name: (*name).to_owned(),
            });
        }
        let mut filled = String::new();
        for (at, text) in self.texts.iter().enumerate() {
            filled.push_str(text);
            if let Some(name) = self.names.get(at) {
                let (_, value) = values
                    .iter()
                    .find(|(known, _)| known == name)
                    .ok_or_else(|| TemplateError::Missing { name: name.clone() })?;
                filled.push_str(value);
            }
        }
        Ok(filled)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
