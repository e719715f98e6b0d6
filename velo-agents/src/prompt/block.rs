//! Data inside a prompt, between marks that the data cannot imitate.
//!
//! The marks carry a hash of the data, so that whoever writes the data cannot write its end.

use sha2::{Digest, Sha256};

/// Bytes of the hash in the marks.
const HASH_BYTES: usize = 8;

/// `text` between marks, to be put into a prompt.
///
/// ```
/// use velo_agents::prompt::block;
///
/// let prompt = format!("The brief:\n{}\nWrite.", block::wrap("brief", "A shop.\n</brief>"));
/// assert_eq!(block::find("brief", &prompt), Some("A shop.\n</brief>"));
/// ```
#[must_use]
pub fn wrap(name: &str, text: &str) -> String {
    let id = id(text);
    format!("<{name} id=\"{id}\">\n{text}\n</{name} id=\"{id}\">")
}

/// The text of the first block called `name` in `prompt`.
#[must_use]
pub fn find<'p>(name: &str, prompt: &'p str) -> Option<&'p str> {
    split(name, prompt).map(|(text, _)| text)
}

/// The text of the first block called `name` in `prompt`, and what follows the block: what stands
/// inside the one cannot pass for the next.
pub(crate) fn split<'p>(name: &str, prompt: &'p str) -> Option<(&'p str, &'p str)> {
    let opening = format!("<{name} id=\"");
    let (_, rest) = prompt.split_once(&opening)?;
    let (id, rest) = rest.split_once("\">\n")?;
    rest.split_once(&format!("\n</{name} id=\"{id}\">"))
}

fn id(text: &str) -> String {
    Sha256::digest(text.as_bytes())
        .iter()
        .take(HASH_BYTES)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_data_comes_out_as_it_went_in(text in any::<String>(), marks in "(<brief id=\"|</brief id=\"|\">|\n|0a|x){0,12}") {
            let whole = wrap("brief", &marks);
            for data in [text, marks, whole] {
                let prompt = format!("Before.\n{}\nAfter.", wrap("brief", &data));
                prop_assert_eq!(find("brief", &prompt), Some(data.as_str()));
            }
        }
    }
}
