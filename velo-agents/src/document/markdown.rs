//! Markdown around text that other people wrote: whatever they wrote shows as text.

use super::Envelope;
use crate::catalogue::Catalogue;

/// Stands before everything that rules wrote.
const OFFLINE: &str = "**Offline model**: written by rules, without a language model";

/// `text` on one line, showing every character of it; fit for table cells and list items too.
pub(super) fn inline(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut shown = String::with_capacity(line.len() + 8);
    let numbers = line.bytes().take_while(u8::is_ascii_digit).count();
    for (at, letter) in line.char_indices() {
        match letter {
            '&' => shown.push_str("&amp;"),
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' => {
                shown.push('\\');
                shown.push(letter);
            }
            // What would open a heading, a list or a rule at the beginning of a line.
            '#' | '-' | '+' | '=' if at == 0 => {
                shown.push('\\');
                shown.push(letter);
            }
            '.' | ')' if numbers > 0 && at == numbers => {
                shown.push('\\');
                shown.push(letter);
            }
            letter if letter.is_control() => {}
            letter => shown.push(letter),
        }
    }
    shown
}

/// `text` letter by letter in a fence that nothing inside it can close.
pub(super) fn verbatim(text: &str) -> String {
    let longest = text
        .split(|letter| letter != '`')
        .map(str::len)
        .max()
        .unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{text}\n{fence}")
}

/// `text` as it may stand between the quotes of a Mermaid label.
pub(super) fn mermaid(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut shown = String::with_capacity(line.len());
    for letter in line.chars() {
        match letter {
            '"' => shown.push_str("#quot;"),
            '#' => shown.push_str("#35;"),
            '<' => shown.push_str("#lt;"),
            '>' => shown.push_str("#gt;"),
            '&' => shown.push_str("#amp;"),
            '`' => shown.push('\''),
            letter if letter.is_control() => {}
            letter => shown.push(letter),
        }
    }
    shown
}

/// One row of a table; the cells are Markdown already.
pub(super) fn row<const N: usize>(cells: [&str; N]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

/// The heading, who wrote it with which model, and when.
pub(super) fn head(title: &str, schema: &str, envelope: &Envelope) -> String {
    let by = &envelope.produced_by;
    let staff = Catalogue::built_in();
    let name = staff
        .agent(by.agent.as_str())
        .map_or(by.agent.as_str(), |agent| &agent.name);
    let offline = if by.offline {
        format!("{OFFLINE}\n\n")
    } else {
        String::new()
    };
    format!(
        "# {title}\n\n{offline}Written by {} on {}. Model: {}. Run {}, prompt {}, `{schema}`.\n",
        inline(name),
        envelope.created_at.format("%Y-%m-%d %H:%M UTC"),
        inline(&by.model),
        envelope.run_id,
        by.prompt_hash
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(12)
            .collect::<String>(),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_is_written_stays_one_cell_and_one_label(text in any::<String>(), signs in "[|\\\\`<>&\"#\\[\\]*_~\n -]{0,20}") {
            for text in [text, signs] {
                let cell = inline(&text);
                let bare = cell.replace("\\\\", "").replace("\\|", "");
                prop_assert!(!bare.contains(['|', '<', '>', '\n']), "{cell}");
                let label = mermaid(&text);
                prop_assert!(!label.contains(['"', '`', '<', '\n']), "{label}");
                let block = verbatim(&text);
                let fence = block.split("text\n").next().expect("a fence");
                prop_assert_eq!(block.matches(fence).count(), 2, "{}", block);
            }
        }
    }

    #[test]
    fn what_others_wrote_shows_as_text() {
        assert_eq!(
            inline("# a | b\n\n<script>`x`</script> & *y*"),
            "\\# a \\| b &lt;script&gt;\\`x\\`&lt;/script&gt; &amp; \\*y\\*"
        );
        assert_eq!(inline("1. one"), "1\\. one");
        assert_eq!(inline("R-001 is 1.5"), "R-001 is 1.5");
        assert_eq!(
            inline("- [link](javascript:x)"),
            "\\- \\[link\\](javascript:x)"
        );
        assert_eq!(inline("nul\0"), "nul");
    }

    #[test]
    fn a_fence_is_longer_than_any_inside_it() {
        assert_eq!(verbatim("plain"), "```text\nplain\n```");
        assert_eq!(verbatim("a ```` b"), "`````text\na ```` b\n`````");
    }

    #[test]
    fn a_label_cannot_end_itself() {
        assert_eq!(
            mermaid("say \"hi\"\n```\n<b>#1"),
            "say #quot;hi#quot; ''' #lt;b#gt;#35;1"
        );
    }
}
