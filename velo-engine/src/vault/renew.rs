//! Sealing anew what is stored.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::{Home, SEALED, SEALED_KEY, SEALED_TEXT, Vault, large};
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
            Payload::Bytes(bytes) => {
                let left = large::named(bytes).map_or(bytes.as_slice(), |(_, left)| left);
                if left.starts_with(&beginning) {
                    return Ok(None);
                }
                None
            }
            Payload::Json(value) => value[SEALED_KEY].as_str(),
            Payload::Text(text) => text.strip_prefix(SEALED_TEXT),
        };
        let sealed = coded.and_then(|coded| STANDARD_NO_PAD.decode(coded).ok());
        if sealed.is_some_and(|sealed| sealed.starts_with(&beginning)) {
            return Ok(None);
        }
        self.moved(home, home, stored.clone()).map(Some)
    }

    /// The payload as it is stored at another home, in place of what is there. Large values stay where they are,
    /// and so does what says which they are.
    pub(crate) fn moved(
        &self,
        from: Home<'_>,
        to: Home<'_>,
        stored: Payload,
    ) -> Result<Payload, SealError> {
        Ok(match stored {
            Payload::Bytes(mut bytes) => {
                let front = large::named(&bytes).map(|(front, _)| front.to_vec());
                let front = front.unwrap_or_default();
                let mut left = bytes.split_off(front.len());
                self.open(from, &mut left)?;
                bytes.extend(self.seal_whole(to, left)?);
                Payload::Bytes(bytes)
            }
            Payload::Json(mut value) => {
                self.open_json(from, &mut value)?;
                Payload::Json(self.seal_json(to, value)?)
            }
            Payload::Text(mut text) => {
                self.open_text(from, &mut text)?;
                Payload::Text(self.seal_text(to, &text)?)
            }
        })
    }
}
