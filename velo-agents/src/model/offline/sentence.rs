//! A text as sentences, each a piece of it.

/// Most sentences that are read; a book is not a brief.
const MAX_SENTENCES: usize = 2_000;

/// A piece of a text between two marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sentence<'t> {
    pub(super) text: &'t str,
    pub(super) shape: Shape,
    /// Whether a question mark ends it.
    pub(super) is_question: bool,
}

/// How a sentence stands in its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// In running text.
    Plain,
    /// A point of a list.
    Point,
    /// A heading, or words before a colon.
    Label,
}

/// The sentences of `text`, and how many more there would be.
pub(super) fn sentences(text: &str) -> (Vec<Sentence<'_>>, usize) {
    let mut all = Vec::new();
    for (block, shape) in blocks(text) {
        split(block, shape, &mut all);
    }
    let more = all.len().saturating_sub(MAX_SENTENCES);
    all.truncate(MAX_SENTENCES);
    (all, more)
}

/// Headings, points of lists and paragraphs; a line that goes on is a part of the one before.
fn blocks(text: &str) -> Vec<(&str, Shape)> {
    let mut blocks: Vec<(usize, usize, Shape)> = Vec::new();
    let mut is_open = false;
    let mut at = 0;
    for line in text.split_inclusive(['\n', '\r']) {
        let end = at + line.len();
        let bare = line.trim();
        let (content, shape) = marked(bare);
        let start = at + (content.as_ptr() as usize - line.as_ptr() as usize);
        if content.is_empty() {
            is_open = false;
        } else if shape == Shape::Plain && is_open {
            if let Some(block) = blocks.last_mut() {
                block.1 = end;
            }
        } else {
            blocks.push((start, end, shape));
            is_open = shape != Shape::Label;
        }
        at = end;
    }
    blocks
        .into_iter()
        .map(|(start, end, shape)| (&text[start..end], shape))
        .collect()
}

/// A line without the mark of a heading or a point.
fn marked(line: &str) -> (&str, Shape) {
    if line.starts_with('#') {
        return (line.trim_start_matches('#').trim(), Shape::Label);
    }
    for mark in ["- ", "* ", "+ ", "• ", "– ", "· "] {
        if let Some(point) = line.strip_prefix(mark) {
            let point = point.trim_start();
            let point = point.strip_prefix("[ ]").map_or(point, str::trim_start);
            return (point, Shape::Point);
        }
    }
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    if (1..=2).contains(&digits)
        && let Some(point) = line[digits..]
            .strip_prefix(". ")
            .or_else(|| line[digits..].strip_prefix(") "))
    {
        return (point.trim_start(), Shape::Point);
    }
    (line, Shape::Plain)
}

fn split<'t>(block: &'t str, shape: Shape, all: &mut Vec<Sentence<'t>>) {
    let mut start = 0;
    let mut push = |piece: &'t str, shape: Shape, is_question: bool| {
        let text = piece.trim_matches(|letter: char| {
            letter.is_whitespace() || letter.is_control() || "*_`\"“”„()".contains(letter)
        });
        if !text.is_empty() {
            all.push(Sentence {
                text,
                shape,
                is_question,
            });
        }
    };
    let mut letters = block.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        let is_before_space = letters.peek().is_none_or(|(_, next)| next.is_whitespace());
        let is_end = match letter {
            '.' | '!' | '?' | ';' => is_before_space && !is_abbreviation(&block[start..at]),
            '。' | '！' | '？' | '；' => true,
            ':' => is_before_space,
            letter => letter.is_control() && !letter.is_whitespace(),
        };
        if is_end {
            let piece = &block[start..at];
            let is_label = letter == ':' && piece.split_whitespace().count() <= 6;
            let shape = if is_label { Shape::Label } else { shape };
            push(piece, shape, matches!(letter, '?' | '？'));
            start = at + letter.len_utf8();
        }
    }
    push(&block[start..], shape, false);
}

fn is_abbreviation(before: &str) -> bool {
    ["e.g", "i.e", "etc", " vs", "z.B", " ca", " approx"]
        .iter()
        .any(|end| before.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(&str, Shape)> {
        let (all, _) = sentences(text);
        all.iter()
            .map(|sentence| (sentence.text, sentence.shape))
            .collect()
    }

    #[test]
    fn a_text_is_read_as_sentences_points_and_labels() {
        let text = "# Shop\nSells bread\nand cakes. Opens at 7.30, e.g. on Mondays!\n\nMust have:\n- **login**\n- pay by\n  card\n2. search\nUses: Rust";
        assert_eq!(
            read(text),
            [
                ("Shop", Shape::Label),
                ("Sells bread\nand cakes", Shape::Plain),
                ("Opens at 7.30, e.g. on Mondays", Shape::Plain),
                ("Must have", Shape::Label),
                ("login", Shape::Point),
                ("pay by\n  card", Shape::Point),
                ("search\nUses", Shape::Label),
                ("Rust", Shape::Point),
            ]
        );
    }

    #[test]
    fn control_characters_and_foreign_marks_end_a_sentence() {
        assert_eq!(
            read("习惯追踪。提醒？a\u{7}b"),
            [
                ("习惯追踪", Shape::Plain),
                ("提醒", Shape::Plain),
                ("a", Shape::Plain),
                ("b", Shape::Plain),
            ]
        );
        assert_eq!(read(" \n\t\u{0} "), []);
    }

    #[test]
    fn a_book_is_not_read_to_its_end() {
        let book = "One. ".repeat(MAX_SENTENCES + 3);
        let (all, more) = sentences(&book);
        assert_eq!((all.len(), more), (MAX_SENTENCES, 3));
    }
}
