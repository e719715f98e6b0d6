//! A codec of keys that are held in memory.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{cmac, hmac, rand};

use super::{Address, Codec, KEY_ID_MAX, SealError};

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
/// Bytes that are drawn for each payload: half of them choose a key of its own, half are its nonce.
const NONCE_BYTES: usize = 24;
/// Bytes of each half.
const HALF: usize = NONCE_BYTES / 2;
/// Separates the key of addresses from the key of payloads.
const ADDRESSES: &[u8] = b"velo: addresses of large values";

/// Keys by their ids, one of which is the current one: AES-256 in Galois/counter mode, extended to nonces of
/// 192 bits (XAES-256-GCM of C2SP), so that any number of payloads may be sealed with one key.
///
/// To rotate, start all processes with the new key as an older one first, so that each can read what the
/// others will write; then with the new key as the current one; then
/// [re-encrypt](crate::Engine::reencrypt), and take the old key away.
///
/// ```
/// use velo_engine::codec::{Codec, Keyring};
///
/// let (old, new) = ([1; 32], [2; 32]); // from where secrets are kept
/// let before = Keyring::new("2025", &old)?;
/// let sealed = before.seal(b"home", b"secret")?;
///
/// let after = Keyring::new("2026", &new)?.with_old("2025", &old)?;
/// assert_eq!(after.open("2025", b"home", &sealed)?, b"secret");
/// assert!(after.open("2025", b"elsewhere", &sealed).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Keyring {
    current: String,
    keys: BTreeMap<String, Key>,
}

struct Key {
    payloads: cmac::Key,
    addresses: hmac::Key,
}

/// A key that cannot be used. Says nothing of the key itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadKey {
    /// Its id is empty, too long, or has characters that are not printable ASCII.
    #[error("the id of a key has 1 to {KEY_ID_MAX} printable ASCII characters, and `{0}` has not")]
    Id(String),
    /// There is another key of its id.
    #[error("there are two keys called `{0}`: give each its own id")]
    Twice(String),
    /// It has the wrong length.
    #[error("key `{id}` has {bytes} bytes, and {KEY_BYTES} are needed")]
    Length {
        /// The key's id.
        id: String,
        /// Its length.
        bytes: usize,
    },
}

impl Keyring {
    /// A keyring whose current key is this one: 32 bytes of chance.
    ///
    /// # Errors
    /// [`BadKey`].
    pub fn new(id: impl Into<String>, key: &[u8]) -> Result<Self, BadKey> {
        let mut ring = Self {
            current: id.into(),
            keys: BTreeMap::new(),
        };
        ring.add(ring.current.clone(), key)?;
        Ok(ring)
    }

    /// Also has a key that is only to open what was sealed with it.
    ///
    /// # Errors
    /// [`BadKey`].
    pub fn with_old(mut self, id: impl Into<String>, key: &[u8]) -> Result<Self, BadKey> {
        self.add(id.into(), key)?;
        Ok(self)
    }

    fn add(&mut self, id: String, key: &[u8]) -> Result<(), BadKey> {
        let is_printable = id.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if id.is_empty() || id.len() > KEY_ID_MAX || !is_printable {
            return Err(BadKey::Id(id));
        }
        let wrong_length = || BadKey::Length {
            id: id.clone(),
            bytes: key.len(),
        };
        if key.len() != KEY_BYTES {
            return Err(wrong_length());
        }
        let payloads = cmac::Key::new(cmac::AES_256, key).map_err(|_| wrong_length())?;
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), ADDRESSES);
        let addresses = hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref());
        let key = Key {
            payloads,
            addresses,
        };
        if self.keys.contains_key(&id) {
            return Err(BadKey::Twice(id));
        }
        self.keys.insert(id, key);
        Ok(())
    }

    fn current(&self) -> &Key {
        &self.keys[&self.current]
    }
}

impl Key {
    /// The key and the nonce of one payload.
    fn derived(&self, nonce: &[u8; NONCE_BYTES]) -> Option<(LessSafeKey, Nonce)> {
        let mut key = [0; KEY_BYTES];
        for (counter, half) in (1..).zip(key.chunks_exact_mut(KEY_BYTES / 2)) {
            let mut block = [0, counter, b'X', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            block[4..].copy_from_slice(&nonce[..HALF]);
            let tag = cmac::sign(&self.payloads, &block).ok()?;
            half.copy_from_slice(tag.as_ref());
        }
        let key = UnboundKey::new(&AES_256_GCM, &key).ok()?;
        let nonce = Nonce::try_assume_unique_for_key(&nonce[HALF..]).ok()?;
        Some((LessSafeKey::new(key), nonce))
    }
}

impl Codec for Keyring {
    fn key(&self) -> &str {
        &self.current
    }

    fn seal(&self, home: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let failed = || SealError::Failed("the cipher refused".into());
        let mut nonce = [0; NONCE_BYTES];
        rand::fill(&mut nonce).map_err(|_| failed())?;
        let (key, own) = self.current().derived(&nonce).ok_or_else(failed)?;
        let mut sealed = Vec::with_capacity(NONCE_BYTES + plain.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let tag = key
            .seal_in_place_separate_tag(own, Aad::from(home), &mut sealed[NONCE_BYTES..])
            .map_err(|_| failed())?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    fn open(&self, key: &str, home: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let id = || key.to_owned();
        let found = self
            .keys
            .get(key)
            .ok_or_else(|| SealError::UnknownKey { key: id() })?;
        let broken = || SealError::Broken { key: id() };
        let (nonce, rest) = sealed
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or_else(broken)?;
        let (derived, own) = found.derived(nonce).ok_or_else(broken)?;
        let mut plain = rest.to_vec();
        let length = derived
            .open_in_place(own, Aad::from(home), &mut plain)
            .map_err(|_| broken())?
            .len();
        plain.truncate(length);
        Ok(plain)
    }

    fn address(&self, content: &[u8]) -> Address {
        let tag = hmac::sign(&self.current().addresses, content);
        tag.as_ref()
            .try_into()
            .expect("HMAC with SHA-256 has 32 bytes")
    }
}

/// The ids alone.
impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("current", &self.current)
            .field("keys", &self.keys.keys())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_broken(opened: &Result<Vec<u8>, SealError>) -> bool {
        matches!(opened, Err(SealError::Broken { .. }))
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn it_is_the_published_construction() {
        let nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX";
        let published = [
            (
                [1; 32],
                &b""[..],
                "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271",
            ),
            (
                [3; 32],
                b"c2sp.org/XAES-256-GCM",
                "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d",
            ),
        ];
        for (key, home, sealed) in published {
            let ring = Keyring::new("k", &key).unwrap();
            let (derived, own) = ring.current().derived(nonce).unwrap();
            let mut text = b"XAES-256-GCM".to_vec();
            derived
                .seal_in_place_append_tag(own, Aad::from(home), &mut text)
                .unwrap();
            assert_eq!(hex(&text), sealed);
        }
    }

    #[test]
    fn neither_keys_nor_what_is_sealed_are_shown() {
        let ring = Keyring::new("current", &[0x5a; 32]).unwrap();
        let ring = ring.with_old("older", &[0xa5; 32]).unwrap();
        let shown = format!("{ring:?}");
        assert_eq!(
            shown,
            r#"Keyring { current: "current", keys: ["current", "older"] }"#
        );
        let sealed = ring.seal(b"home", b"a secret").unwrap();
        let error = ring.open("current", b"other", &sealed).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"));
    }

    #[test]
    fn keys_that_cannot_be_told_apart_or_have_the_wrong_length_are_refused() {
        let ring = || Keyring::new("a", &[1; 32]).unwrap();
        assert_eq!(
            ring().with_old("a", &[2; 32]).unwrap_err(),
            BadKey::Twice("a".to_owned())
        );
        assert!(matches!(
            ring().with_old("b", &[2; 16]),
            Err(BadKey::Length { bytes: 16, .. })
        ));
        for id in ["", "tab\t", &"x".repeat(KEY_ID_MAX + 1)] {
            assert!(matches!(ring().with_old(id, &[2; 32]), Err(BadKey::Id(_))));
        }
    }

    #[test]
    fn equal_values_have_equal_addresses_under_one_key_alone() {
        let one = Keyring::new("a", &[1; 32]).unwrap();
        let other = Keyring::new("a", &[2; 32]).unwrap();
        assert_eq!(one.address(b"value"), one.address(b"value"));
        assert_ne!(one.address(b"value"), one.address(b"valuf"));
        assert_ne!(one.address(b"value"), other.address(b"value"));
        assert_ne!(one.address(b"value"), super::super::plain_address(b"value"));
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_at_home_and_with_its_own_bytes_alone(
            plain in proptest::collection::vec(any::<u8>(), 0..200),
            home in proptest::collection::vec(any::<u8>(), 0..40),
            place: prop::sample::Index,
            flip in 1_u8..,
        ) {
            let ring = Keyring::new("k", &[7; 32]).unwrap();
            let sealed = ring.seal(&home, &plain).unwrap();
            prop_assert_ne!(&ring.seal(&home, &plain).unwrap(), &sealed);
            prop_assert_eq!(ring.open("k", &home, &sealed).unwrap(), plain);

            let mut changed = sealed.clone();
            changed[place.index(sealed.len())] ^= flip;
            prop_assert!(is_broken(&ring.open("k", &home, &changed)));
            let cut = &sealed[..place.index(sealed.len())];
            prop_assert!(is_broken(&ring.open("k", &home, cut)));
            let mut elsewhere = home;
            elsewhere.push(flip);
            prop_assert!(is_broken(&ring.open("k", &elsewhere, &sealed)));
        }
    }
}
