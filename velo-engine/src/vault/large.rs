//! Payloads with large values, which are stored apart and once.
//!
//! On its way to the database and back a payload has its values with it: the database takes them out and puts
//! them in again, as migration 21 says. Their addresses are told twice: in front, for the database, and in what is
//! left of the payload, which a codec seals, so that nobody can put another value in the place of one.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::splice::{self, SPLICED, Values};
use super::{Home, SEALED, Vault, sealed};
use crate::codec::{Address, SealError, plain_address};

/// First byte of a payload that names large values.
pub(super) const NAMES: u8 = 3;
/// First byte of a payload that has them with it.
pub(super) const CARRIES: u8 = 4;
/// What a value is called that is sealed: its home is its address, wherever it is named.
pub(super) const BLOB: &str = "blob";

/// Bytes of a number.
const NUMBER: usize = 4;
const ADDRESS: usize = size_of::<Address>();

impl Vault {
    /// The payload with its large values beside it, if it has any that may be stored apart.
    pub(super) fn carried(
        &self,
        home: Home<'_>,
        plain: &[u8],
    ) -> Result<Option<Vec<u8>>, SealError> {
        let least = self.limits.least_apart();
        let Some(depth) = home.depth().filter(|_| plain.len() >= least) else {
            return Ok(None);
        };
        let address = |content: &[u8]| match &self.codec {
            Some(codec) => codec.address(content),
            None => plain_address(content),
        };
        let Some((left, values)) = splice::cut(plain, depth, least, &address) else {
            return Ok(None);
        };
        let contents = self.contents(values)?;
        let left = match &self.codec {
            Some(codec) => sealed(&**codec, home, &left)?,
            None => left,
        };
        encoded(&contents, &left).map(Some)
    }

    /// The values as they are stored.
    fn contents(&self, values: Values) -> Result<Values, SealError> {
        let Some(codec) = &self.codec else {
            return Ok(values);
        };
        let seal = |(address, content): (Address, Vec<u8>)| {
            let name = hex(&address);
            let sealed = sealed(&**codec, Home::named(BLOB, &name), &content)?;
            Ok((address, sealed))
        };
        values.into_iter().map(seal).collect()
    }

    /// What a payload was before its large values were taken out.
    pub(super) fn joined(&self, home: Home<'_>, stored: &[u8]) -> Result<Vec<u8>, SealError> {
        let Carried { contents, left } = decoded(stored)?;
        let mut values = BTreeMap::new();
        for (address, content) in contents {
            let content = match content.first() {
                Some(&SEALED) => {
                    let name = hex(&address);
                    Cow::Owned(self.opened(Home::named(BLOB, &name), content)?)
                }
                _ => Cow::Borrowed(content),
            };
            values.insert(address, content);
        }
        match left.first() {
            Some(&SEALED) => splice::join(&self.opened(home, left)?, &values),
            _ => splice::join(left, &values),
        }
    }
}

/// The payload as it was, if it has large values with it and nothing of it is sealed.
pub(crate) fn unsealed(stored: &[u8]) -> Option<Vec<u8>> {
    let Carried { contents, left } = decoded(stored).ok()?;
    let is_plain = |content: &[u8]| content.first() != Some(&SEALED);
    if left.first() != Some(&SPLICED) || !contents.iter().all(|(_, content)| is_plain(content)) {
        return None;
    }
    let values = contents
        .into_iter()
        .map(|(address, content)| (address, content.into()));
    splice::join(left, &values.collect()).ok()
}

/// A payload that is stored without its values: the part that says which they are, and what is left of it.
pub(super) fn named(stored: &[u8]) -> Option<(&[u8], &[u8])> {
    let (count, rest) = counted(stored.strip_prefix(&[NAMES])?)?;
    let listed = count.checked_mul(ADDRESS)?;
    let front = stored.len() - rest.len();
    stored.split_at_checked(front.checked_add(listed)?)
}

/// A payload with its values as they are stored.
struct Carried<'a> {
    contents: Vec<(Address, &'a [u8])>,
    left: &'a [u8],
}

fn encoded(contents: &Values, left: &[u8]) -> Result<Vec<u8>, SealError> {
    let number = |number: usize| {
        let number = i32::try_from(number).map_err(|error| SealError::Failed(error.into()));
        number.map(i32::to_be_bytes)
    };
    let bytes: usize = contents.values().map(Vec::len).sum();
    let front = 1 + NUMBER + contents.len() * (ADDRESS + NUMBER);
    let mut whole = Vec::with_capacity(front + bytes + left.len());
    whole.push(CARRIES);
    whole.extend_from_slice(&number(contents.len())?);
    for address in contents.keys() {
        whole.extend_from_slice(address);
    }
    for content in contents.values() {
        whole.extend_from_slice(&number(content.len())?);
    }
    for content in contents.values() {
        whole.extend_from_slice(content);
    }
    whole.extend_from_slice(left);
    Ok(whole)
}

fn decoded(stored: &[u8]) -> Result<Carried<'_>, SealError> {
    let front = || {
        let (count, rest) = counted(stored.strip_prefix(&[CARRIES])?)?;
        let (addresses, rest) = rest.split_at_checked(count.checked_mul(ADDRESS)?)?;
        let (lengths, rest) = rest.split_at_checked(count.checked_mul(NUMBER)?)?;
        Some((addresses, lengths, rest))
    };
    let (addresses, lengths, mut left) = front().ok_or(SealError::Malformed)?;
    let mut contents = Vec::with_capacity(addresses.len() / ADDRESS);
    for (address, length) in addresses
        .chunks_exact(ADDRESS)
        .zip(lengths.chunks_exact(NUMBER))
    {
        let (address, length) = address
            .try_into()
            .ok()
            .zip(length.try_into().ok())
            .ok_or(SealError::Malformed)?;
        // One that is not there has the length of minus one.
        let length = usize::try_from(i32::from_be_bytes(length)).map_err(|_| SealError::Missing)?;
        let (content, rest) = left.split_at_checked(length).ok_or(SealError::Malformed)?;
        contents.push((address, content));
        left = rest;
    }
    Ok(Carried { contents, left })
}

fn counted(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (count, rest) = bytes.split_first_chunk::<NUMBER>()?;
    let count = usize::try_from(i32::from_be_bytes(*count)).ok()?;
    Some((count, rest))
}

fn hex(address: &Address) -> String {
    use std::fmt::Write as _;
    address.iter().fold(String::new(), |mut digits, byte| {
        write!(digits, "{byte:02x}").expect("a String takes all that is written");
        digits
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::Limits;
    use crate::run_id::RunId;

    fn home<'a>() -> Home<'a> {
        Home::of_step(RunId::from_i64(1), 0, "snapshot")
    }

    fn vault() -> Vault {
        let mut vault = Vault::default();
        vault.set_limits(Limits {
            inline: 2_000,
            ..Limits::default()
        });
        vault
    }

    #[test]
    fn a_payload_with_large_values_is_read_back_and_one_whose_values_are_gone_is_refused() {
        let large = "x".repeat(2_000);
        let plain = format!(r#"v2:{{"small":1,"large":"{large}","more":["{large}"]}}"#);
        let stored = vault().seal(home(), plain.clone().into_bytes()).unwrap();
        assert_eq!(stored[0], CARRIES);
        assert!(stored.len() < plain.len(), "it has the value once");
        let mut opened = stored.clone();
        vault().open(home(), &mut opened).unwrap();
        assert_eq!(opened, plain.as_bytes());
        assert_eq!(unsealed(&stored).as_deref(), Some(plain.as_bytes()));

        let mut gone = stored;
        gone[5 + ADDRESS..5 + ADDRESS + NUMBER].copy_from_slice(&(-1_i32).to_be_bytes());
        let refused = vault().open(home(), &mut gone);
        assert!(matches!(refused, Err(SealError::Missing)), "{refused:?}");
        let refused = vault().open(home(), &mut vec![NAMES, 0, 0, 0, 0]);
        assert!(matches!(refused, Err(SealError::Missing)), "{refused:?}");
    }

    #[test]
    fn what_is_not_large_is_stored_as_it_is() {
        let plain = format!(r#"{{"a":"{}","b":"c"}}"#, "x".repeat(1_997)).into_bytes();
        assert_eq!(vault().seal(home(), plain.clone()).unwrap(), plain);
        // Of a schedule all is kept in its row.
        let large = format!("\"{}\"", "x".repeat(3_000)).into_bytes();
        let home = Home::named("schedule state", "hourly");
        assert_eq!(vault().seal(home, large.clone()).unwrap(), large);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let mut stored = vec![CARRIES];
            stored.extend(&bytes);
            drop((vault().open(home(), &mut stored.clone()), unsealed(&stored)));
            stored[0] = NAMES;
            prop_assert!(named(&stored).is_none_or(|(front, left)| front.len() + left.len() == stored.len()));
        }
    }
}
