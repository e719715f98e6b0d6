//! Taking large values out of a payload, and putting them back.
//!
//! What is left of a payload begins with [`SPLICED`] and says which values go where in the text that follows,
//! so that nothing in the text itself can be taken for one.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::codec::{Address, SealError};

/// First byte of what is left of a payload; no JSON begins with it.
pub(super) const SPLICED: u8 = b'+';
/// Bytes of the number of values, and of a place in the text.
const NUMBER: usize = 4;
/// Bytes that say which value goes where.
const REFERENCE: usize = NUMBER + size_of::<Address>();

/// Values by their addresses.
pub(super) type Values = BTreeMap<Address, Vec<u8>>;

/// Takes out of `json` the values that are `depth` levels down or deeper and have `least` bytes or more: the
/// innermost, so that a list of large values is not one of them, whose items may be found elsewhere too. Returns
/// what is left, if anything was taken.
pub(super) fn cut(
    json: &[u8],
    depth: usize,
    least: usize,
    address: &dyn Fn(&[u8]) -> Address,
) -> Option<(Vec<u8>, Values)> {
    let mut cutter = Cutter {
        text: Vec::with_capacity(json.len()),
        references: Vec::new(),
        open: Vec::new(),
        depth,
        least,
        address,
        values: Values::new(),
    };
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        at += match byte {
            b'"' => cutter.text(&json[at..]),
            _ => cutter.mark(*byte),
        };
    }
    let left = encoded(&cutter.text, &cutter.references)?;
    Some((left, cutter.values))
}

/// A list or an object that has begun.
struct Open {
    text: usize,
    references: usize,
    is_object: bool,
    /// Whether the next text is a key.
    is_key_next: bool,
}

struct Cutter<'a> {
    text: Vec<u8>,
    references: Vec<(usize, Address)>,
    open: Vec<Open>,
    depth: usize,
    least: usize,
    address: &'a dyn Fn(&[u8]) -> Address,
    values: Values,
}

impl Cutter<'_> {
    /// Takes in a text, or a key; returns its length.
    fn text(&mut self, rest: &[u8]) -> usize {
        let mut end = 1;
        while let Some(byte) = rest.get(end) {
            match byte {
                b'"' => break,
                b'\\' => end += 2,
                _ => end += 1,
            }
        }
        let length = (end + 1).min(rest.len());
        let (begin, references) = (self.text.len(), self.references.len());
        self.text.extend_from_slice(&rest[..length]);
        match self.open.last_mut() {
            Some(open) if open.is_key_next => open.is_key_next = false,
            _ => self.ended(begin, references),
        }
        length
    }

    fn mark(&mut self, byte: u8) -> usize {
        match byte {
            b'{' | b'[' => self.open.push(Open {
                text: self.text.len(),
                references: self.references.len(),
                is_object: byte == b'{',
                is_key_next: byte == b'{',
            }),
            b',' => {
                if let Some(open) = self.open.last_mut() {
                    open.is_key_next = open.is_object;
                }
            }
            _ => (),
        }
        self.text.push(byte);
        if matches!(byte, b'}' | b']')
            && let Some(open) = self.open.pop()
        {
            self.ended(open.text, open.references);
        }
        1
    }

    /// A value has ended: takes it out if it is large and whole.
    fn ended(&mut self, begin: usize, references: usize) {
        let is_large = self.text.len() - begin >= self.least;
        let is_whole = self.references.len() == references;
        if !is_large || !is_whole || self.open.len() < self.depth {
            return;
        }
        let content = self.text.split_off(begin);
        let address = (self.address)(&content);
        self.values.insert(address, content);
        self.references.push((begin, address));
    }
}

/// A text that lacks values; nothing when it lacks none, or is longer than a place can say.
fn encoded(text: &[u8], references: &[(usize, Address)]) -> Option<Vec<u8>> {
    if references.is_empty() {
        return None;
    }
    let mut whole = Vec::with_capacity(1 + NUMBER + REFERENCE * references.len() + text.len());
    whole.push(SPLICED);
    whole.extend_from_slice(&u32::try_from(references.len()).ok()?.to_be_bytes());
    for (at, address) in references {
        whole.extend_from_slice(&u32::try_from(*at).ok()?.to_be_bytes());
        whole.extend_from_slice(address);
    }
    whole.extend_from_slice(text);
    Some(whole)
}

/// Which values go where in which text.
struct Left<'a> {
    references: Vec<(usize, Address)>,
    text: &'a [u8],
}

fn decoded(left: &[u8]) -> Option<Left<'_>> {
    let rest = left.strip_prefix(&[SPLICED])?;
    let (count, rest) = rest.split_first_chunk::<NUMBER>()?;
    let count = usize::try_from(u32::from_be_bytes(*count)).ok()?;
    let (listed, text) = rest.split_at_checked(count.checked_mul(REFERENCE)?)?;
    let mut references: Vec<(usize, Address)> = Vec::with_capacity(count);
    for reference in listed.chunks_exact(REFERENCE) {
        let (at, address) = reference.split_first_chunk::<NUMBER>()?;
        let at = usize::try_from(u32::from_be_bytes(*at)).ok()?;
        let is_in_order = references.last().is_none_or(|(before, _)| *before <= at);
        if at > text.len() || !is_in_order {
            return None;
        }
        references.push((at, address.try_into().ok()?));
    }
    Some(Left { references, text })
}

/// Puts the values back.
pub(super) fn join(
    left: &[u8],
    values: &BTreeMap<Address, Cow<'_, [u8]>>,
) -> Result<Vec<u8>, SealError> {
    let Left { references, text } = decoded(left).ok_or(SealError::Malformed)?;
    let mut whole = Vec::with_capacity(text.len());
    let mut from = 0;
    for (at, address) in references {
        whole.extend_from_slice(&text[from..at]);
        from = at;
        whole.extend_from_slice(values.get(&address).ok_or(SealError::Missing)?);
    }
    whole.extend_from_slice(&text[from..]);
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::codec::plain_address;

    fn cut_at(value: &Value, depth: usize, least: usize) -> (Vec<u8>, Values) {
        let json = serde_json::to_vec(value).unwrap();
        cut(&json, depth, least, &plain_address).unwrap_or((json, Values::new()))
    }

    fn joined(left: &[u8], values: &Values) -> Result<Vec<u8>, SealError> {
        if left.first() != Some(&SPLICED) {
            return Ok(left.to_vec());
        }
        let values = values.iter().map(|(at, value)| (*at, value.into()));
        join(left, &values.collect())
    }

    #[test]
    fn a_value_that_is_large_is_taken_out_once_and_put_back() {
        let document = "d".repeat(50);
        let value = json!({ "a": document, "b": [1, document, { "c": document }], "small": "s" });
        let (left, values) = cut_at(&value, 1, 50);
        assert_eq!(values.len(), 1);
        let whole = serde_json::to_vec(&value).unwrap();
        assert_eq!(joined(&left, &values).unwrap(), whole);
        let missing = joined(&left, &Values::new()).unwrap_err();
        assert!(matches!(missing, SealError::Missing), "{missing:?}");
    }

    #[test]
    fn keys_and_what_is_above_the_depth_stay() {
        let key = "k".repeat(60);
        assert!(cut_at(&json!({ key: "v" }), 1, 50).1.is_empty());
        let many = json!([vec!["short"; 100]]);
        assert!(cut_at(&many, 2, 50).1.is_empty());
        assert_eq!(cut_at(&many, 1, 50).1.len(), 1);
        let (left, _) = cut_at(&json!("t".repeat(60)), 0, 50);
        assert_eq!(left.len(), 1 + NUMBER + REFERENCE);
    }

    #[test]
    fn bytes_that_lie_about_what_they_lack_are_refused() {
        let (left, values) = cut_at(&json!(["d".repeat(60), "e".repeat(60)]), 1, 50);
        let listed = 1 + NUMBER + 2 * REFERENCE;
        for length in 1..listed {
            assert!(joined(&left[..length], &values).is_err(), "{length}");
        }
        let mut far = left.clone();
        far[5..9].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(matches!(joined(&far, &values), Err(SealError::Malformed)));
        let mut many = left;
        many[1..5].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(matches!(joined(&many, &values), Err(SealError::Malformed)));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            "[a\"\\\\{}\\[\\],:\u{1}é]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[a\"\\\\]{0,5}", inner, 0..6)
                    .prop_map(|fields| fields.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_is_taken_out_is_put_back(value in any_json(), depth in 0..4_usize, least in 1..60_usize) {
            let (left, values) = cut_at(&value, depth, least);
            prop_assert!(values.values().all(|value| value.len() >= least));
            prop_assert_eq!(joined(&left, &values).unwrap(), serde_json::to_vec(&value).unwrap());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let mut left = vec![SPLICED];
            left.extend(bytes);
            drop(joined(&left, &Values::new()));
        }
    }
}
