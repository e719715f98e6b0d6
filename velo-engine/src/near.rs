//! The name that was probably meant.

use std::fmt;

/// Longer names are nobody's slip of the finger, and would cost their square.
const COMPARED_MAX: usize = 64;

/// The one of the `known` names that is most like `name`, if one is so like it that it may have been meant: of equal
/// ones the first. For messages, never for decisions.
///
/// ```
/// use velo_engine::nearest;
///
/// assert_eq!(nearest("chrage", ["charge", "refund"]), Some("charge"));
/// assert_eq!(nearest("ship", ["charge", "refund"]), None);
/// ```
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted: Vec<char> = name.chars().flat_map(char::to_lowercase).collect();
    if wanted.len() > COMPARED_MAX {
        return None;
    }
    // One slip in three letters, and one in shorter names.
    let most = (wanted.len() / 3).max(1);
    let distances = known.into_iter().filter_map(|known| {
        let letters: Vec<char> = known.chars().flat_map(char::to_lowercase).collect();
        let is_near = letters.len().abs_diff(wanted.len()) <= most && !letters.is_empty();
        let distance = is_near.then(|| distance(&wanted, &letters))?;
        // A name of which nothing is left is another one.
        (distance <= most && distance < wanted.len().max(letters.len()))
            .then_some((distance, known))
    });
    let nearest = distances.min_by_key(|(distance, _)| *distance)?;
    Some(nearest.1)
}

/// How many letters have to be put in, taken out, replaced or swapped with their neighbours.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let replaced = row[j] + usize::from(a != b);
            let mut least = replaced.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[other.len()]
}

/// The end of a message about an unknown name.
pub(crate) struct Hint<'a>(pub(crate) Option<&'a str>);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(near) => write!(f, "; did you mean `{near}`?"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_finger_are_found_and_other_names_are_not() {
        let known = ["charge", "refund", "send_mail", "a"];
        let near = |name| nearest(name, known);
        for slip in ["chrage", "charg", "charrge", "Charge", "chargé", "carge"] {
            assert_eq!(near(slip), Some("charge"), "{slip}");
        }
        assert_eq!(near("sendmail"), Some("send_mail"));
        assert_eq!(near("refnud"), Some("refund"));
        for other in ["", "b", "ship", "send", &"x".repeat(COMPARED_MAX + 1)] {
            assert_eq!(near(other), None, "{other}");
        }
    }

    #[test]
    fn of_names_that_are_as_near_the_first_is_taken() {
        assert_eq!(nearest("pat", ["cat", "bat"]), Some("cat"));
        assert_eq!(nearest("bate", ["cat", "bat"]), Some("bat"));
    }
}
