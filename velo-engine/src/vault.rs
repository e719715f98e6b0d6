//! How payloads go into the database and come back.

mod document;
mod home;
mod large;
mod loaded;
mod renew;
mod splice;

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::Value;

use crate::codec::{Codec, KEY_ID_MAX, SealError};
use crate::limits::Limits;

pub(crate) use home::Home;
pub(crate) use large::unsealed;

/// First byte of a payload that is sealed. Then come the length of the key's id, the id, and what the
/// codec has made.
const SEALED: u8 = 2;
/// First bytes of payloads that are no JSON are below this one.
const PLAIN_FROM: u8 = 9;
/// The one key of a JSON value that is sealed.
const SEALED_KEY: &str = "$velo.sealed";
/// The one key of a JSON value that looks as if it were.
const PLAIN_KEY: &str = "$velo.plain";
/// First character of a text that is sealed.
const SEALED_TEXT: char = '\u{2}';
/// First character of a text that looks as if it were.
const PLAIN_TEXT: char = '\u{3}';

/// How an engine keeps payloads: with which codec, and how large ones. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Vault {
    codec: Option<Arc<dyn Codec>>,
    limits: Limits,
}

impl Vault {
    pub(crate) fn set_codec(&mut self, codec: Arc<dyn Codec>) {
        self.codec = Some(codec);
    }

    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// How large what is stored may be.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Whether payloads are sealed: they belong to their places then, and the database cannot look into them.
    pub(crate) fn is_sealing(&self) -> bool {
        self.codec.is_some()
    }

    /// As it is given to the database, which stores large values apart. Nothing at all stays nothing.
    pub(crate) fn seal(&self, home: Home<'_>, plain: Vec<u8>) -> Result<Vec<u8>, SealError> {
        match self.carried(home, &plain)? {
            Some(carried) => Ok(carried),
            None => self.seal_whole(home, plain),
        }
    }

    /// As [`seal`](Self::seal), with all of its values in it.
    fn seal_whole(&self, home: Home<'_>, plain: Vec<u8>) -> Result<Vec<u8>, SealError> {
        match &self.codec {
            Some(codec) if !plain.is_empty() => sealed(&**codec, home, &plain),
            _ => Ok(plain),
        }
    }

    /// As [`seal`](Self::seal), of something that is also needed as it is.
    pub(crate) fn seal_copy<'a>(
        &self,
        home: Home<'_>,
        plain: &'a [u8],
    ) -> Result<Cow<'a, [u8]>, SealError> {
        if let Some(carried) = self.carried(home, plain)? {
            return Ok(Cow::Owned(carried));
        }
        match &self.codec {
            Some(codec) if !plain.is_empty() => sealed(&**codec, home, plain).map(Cow::Owned),
            _ => Ok(Cow::Borrowed(plain)),
        }
    }

    /// Makes what is stored what it was.
    pub(crate) fn open(&self, home: Home<'_>, stored: &mut Vec<u8>) -> Result<(), SealError> {
        match stored.first() {
            Some(&large::CARRIES) => {
                *stored = self.joined(home, stored)?;
                Ok(())
            }
            Some(&large::NAMES) => Err(SealError::Missing),
            Some(first) if *first < PLAIN_FROM => {
                *stored = self.opened(home, stored)?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn opened(&self, home: Home<'_>, stored: &[u8]) -> Result<Vec<u8>, SealError> {
        let (key, sealed) = envelope(stored).ok_or(SealError::Malformed)?;
        match &self.codec {
            Some(codec) => codec.open(key, &home.to_bytes(), sealed),
            None => Err(SealError::NoCodec {
                key: key.to_owned(),
            }),
        }
    }

    /// As [`seal`](Self::seal), for a column of JSON.
    pub(crate) fn seal_json(&self, home: Home<'_>, plain: Value) -> Result<Value, SealError> {
        match &self.codec {
            Some(codec) => {
                let bytes = plain.to_string().into_bytes();
                let sealed = sealed(&**codec, home, &bytes)?;
                Ok(single(SEALED_KEY, STANDARD_NO_PAD.encode(sealed).into()))
            }
            None if is_marked(&plain) => Ok(single(PLAIN_KEY, plain)),
            None => Ok(plain),
        }
    }

    /// A document of the long-term store as it is stored, when that is not as it is.
    pub(crate) fn seal_item(
        &self,
        namespace: &str,
        key: &str,
        value: &Value,
    ) -> Result<Option<Value>, SealError> {
        if !self.is_sealing() && !is_marked(value) {
            return Ok(None);
        }
        let name = item_name(namespace, key);
        let sealed = self.seal_json(Home::named("item", &name), value.clone())?;
        Ok(Some(sealed))
    }

    /// Makes a stored document what was put.
    pub(crate) fn open_item(
        &self,
        namespace: &str,
        key: &str,
        stored: &mut Value,
    ) -> Result<(), SealError> {
        if !is_marked(stored) {
            return Ok(());
        }
        let name = item_name(namespace, key);
        self.open_json(Home::named("item", &name), stored)
    }

    /// As [`open`](Self::open), for a column of JSON.
    pub(crate) fn open_json(&self, home: Home<'_>, stored: &mut Value) -> Result<(), SealError> {
        if !is_marked(stored) {
            return Ok(());
        }
        if let Some(plain) = stored.get_mut(PLAIN_KEY) {
            *stored = plain.take();
            return Ok(());
        }
        let coded = stored[SEALED_KEY].as_str().ok_or(SealError::Malformed)?;
        let sealed = STANDARD_NO_PAD
            .decode(coded)
            .map_err(|_| SealError::Malformed)?;
        let plain = self.opened(home, &sealed)?;
        *stored = serde_json::from_slice(&plain).map_err(|_| SealError::Malformed)?;
        Ok(())
    }

    /// As [`open_json`](Self::open_json), where one that cannot be opened is no reason to show nothing: it is
    /// replaced by an error that says so.
    pub(crate) fn show_error(&self, home: Home<'_>, stored: &mut Value) {
        if let Err(error) = self.open_json(home, stored) {
            *stored = serde_json::json!({ "kind": "sealed", "message": error.to_string() });
        }
    }

    /// Whether a text is not stored as it is.
    pub(crate) fn alters(&self, plain: &str) -> bool {
        self.codec.is_some() || plain.starts_with([SEALED_TEXT, PLAIN_TEXT])
    }

    /// As [`seal`](Self::seal), for a column of text.
    pub(crate) fn seal_text(&self, home: Home<'_>, plain: &str) -> Result<String, SealError> {
        match &self.codec {
            Some(codec) => {
                let coded = STANDARD_NO_PAD.encode(sealed(&**codec, home, plain.as_bytes())?);
                Ok(format!("{SEALED_TEXT}{coded}"))
            }
            // What looks as if it were sealed must not be taken for that.
            None if plain.starts_with([SEALED_TEXT, PLAIN_TEXT]) => {
                Ok(format!("{PLAIN_TEXT}{plain}"))
            }
            None => Ok(plain.to_owned()),
        }
    }

    /// As [`open`](Self::open), for a column of text.
    pub(crate) fn open_text(&self, home: Home<'_>, stored: &mut String) -> Result<(), SealError> {
        if let Some(coded) = stored.strip_prefix(SEALED_TEXT) {
            let sealed = STANDARD_NO_PAD.decode(coded);
            let plain = self.opened(home, &sealed.map_err(|_| SealError::Malformed)?)?;
            *stored = String::from_utf8(plain).map_err(|_| SealError::Malformed)?;
        } else if stored.starts_with(PLAIN_TEXT) {
            stored.remove(0);
        }
        Ok(())
    }
}

fn sealed(codec: &dyn Codec, home: Home<'_>, plain: &[u8]) -> Result<Vec<u8>, SealError> {
    let (key, body) = (codec.key(), codec.seal(&home.to_bytes(), plain)?);
    let length = u8::try_from(key.len())
        .ok()
        .filter(|length| (1..=KEY_ID_MAX).contains(&usize::from(*length)));
    let length = length.ok_or_else(|| {
        SealError::Failed("the id of its key has no length that can be stored".into())
    })?;
    let mut whole = Vec::with_capacity(2 + key.len() + body.len());
    whole.extend_from_slice(&[SEALED, length]);
    whole.extend_from_slice(key.as_bytes());
    whole.extend_from_slice(&body);
    Ok(whole)
}

/// The id of the key, and what it has sealed.
fn envelope(stored: &[u8]) -> Option<(&str, &[u8])> {
    let rest = stored.strip_prefix(&[SEALED])?;
    let (length, rest) = rest.split_first()?;
    let (key, sealed) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(key).ok()?, sealed))
}

/// No namespace has the character between.
fn item_name(namespace: &str, key: &str) -> String {
    format!("{namespace}\u{2}{key}")
}

fn single(key: &str, value: Value) -> Value {
    let mut object = serde_json::Map::new();
    object.insert(key.to_owned(), value);
    Value::Object(object)
}

fn is_marked(value: &Value) -> bool {
    match value {
        Value::Object(fields) if fields.len() == 1 => {
            fields.contains_key(SEALED_KEY) || fields.contains_key(PLAIN_KEY)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::run_id::RunId;

    fn home<'a>() -> Home<'a> {
        Home::of_run(RunId::from_i64(1), "error")
    }

    #[test]
    fn without_a_codec_a_value_that_looks_sealed_is_still_only_a_value() {
        let vault = Vault::default();
        let odd = [
            json!({ "$velo.sealed": "AAAA" }),
            json!({ "$velo.plain": { "$velo.sealed": 1 } }),
            json!({ "$velo.plain": 1, "more": 2 }),
            json!(null),
        ];
        for value in odd {
            let mut stored = vault.seal_json(home(), value.clone()).unwrap();
            vault.open_json(home(), &mut stored).unwrap();
            assert_eq!(stored, value);
        }
        for text in ["plain", "", "\u{2}AAAA", "\u{3}", "\u{3}\u{2}"] {
            let mut stored = vault.seal_text(home(), text).unwrap();
            vault.open_text(home(), &mut stored).unwrap();
            assert_eq!(stored, text);
        }
    }

    #[test]
    fn bytes_that_are_no_payload_are_refused_and_not_taken_for_json() {
        let vault = Vault::default();
        for bytes in [&b"\x02"[..], b"\x02\x05ab", b"\x08{}", b"\x02\x01\xff"] {
            let refused = vault.open(home(), &mut bytes.to_vec());
            assert!(matches!(refused, Err(SealError::Malformed)), "{bytes:?}");
        }
        let refused = vault.open(home(), &mut b"\x02\x01k...".to_vec());
        assert!(matches!(refused, Err(SealError::NoCodec { key }) if key == "k"));
    }
}
