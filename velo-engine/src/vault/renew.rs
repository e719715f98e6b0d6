//! Sealing anew what is stored.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::{Home, SEALED, SEALED_KEY, SEALED_TEXT, Vault};
use crate::codec::SealError;
use crate::store::reencrypt::Payload;

impl Vault {
    /// How bytes begin that are sealed with the current key.
    pub(crate) fn beginning(&self) -> Result<Vec<u8>, SealError> {
        let none = || SealError::Failed("the engine has no codec to seal with".into());
        let key = self.codec.as_ref().ok_or_else(none)?.key();
        let length = u8::try_from(key.len()).map_err(|error| SealError::Failed(error.into()))?;
        Ok([&[SEALED, length], key.as_bytes()].concat())
    }

    /// The payload sealed with the current key; `None` when it is that already.
    pub(crate) fn renew(
        &self,
        home: Home<'_>,
        stored: &Payload,
    ) -> Result<Option<Payload>, SealError> {
        let beginning = self.beginning()?;
        let coded = match stored {
            Payload::Bytes(bytes) if bytes.starts_with(&beginning) => return Ok(None),
            Payload::Bytes(_) => None,
            Payload::Json(value) => value[SEALED_KEY].as_str(),
            Payload::Text(text) => text.strip_prefix(SEALED_TEXT),
        };
        let sealed = coded.and_then(|coded| STANDARD_NO_PAD.decode(coded).ok());
        if sealed.is_some_and(|sealed| sealed.starts_with(&beginning)) {
            return Ok(None);
        }
        Ok(Some(match stored.clone() {
            Payload::Bytes(mut bytes) => {
                self.open(home, &mut bytes)?;
                Payload::Bytes(self.seal(home, bytes)?)
            }
            Payload::Json(mut value) => {
                self.open_json(home, &mut value)?;
                Payload::Json(self.seal_json(home, value)?)
            }
            Payload::Text(mut text) => {
                self.open_text(home, &mut text)?;
                Payload::Text(self.seal_text(home, &text)?)
            }
        }))
    }
}
