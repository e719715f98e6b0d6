//! Words: finding them, and giving them the form that a sentence needs.

use super::vocabulary::UNCOUNTABLE;

/// A text as lowercase words, in which beginnings of words can be looked for.
#[derive(Debug)]
pub(super) struct Words(String);

impl Words {
    pub(super) fn of(text: &str) -> Self {
        let mut words = String::with_capacity(text.len() + 2);
        words.push(' ');
        for letter in text.chars() {
            if letter.is_alphanumeric() || letter == '-' {
                words.extend(letter.to_lowercase());
            } else if letter == '\'' || letter == '’' {
                // "it's" is one word.
            } else if !words.ends_with(' ') {
                words.push(' ');
            }
        }
        if !words.ends_with(' ') {
            words.push(' ');
        }
        Self(words)
    }

    /// Where a word begins with `stem`; with a `$` at its end, where the whole word is `stem`.
    pub(super) fn find(&self, stem: &str) -> Option<usize> {
        match stem.strip_suffix('$') {
            Some(word) => self.0.find(&format!(" {word} ")),
            None => self.0.find(&format!(" {stem}")),
        }
    }

    pub(super) fn has(&self, stem: &str) -> bool {
        self.find(stem).is_some()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split_whitespace()
    }

    /// The same text without the words of `other`.
    pub(super) fn without(&self, other: &Self) -> Self {
        let kept: Vec<&str> = self
            .iter()
            .filter(|word| !other.iter().any(|left_out| left_out == *word))
            .collect();
        Self(format!(" {} ", kept.join(" ")))
    }
}

/// `text` with its first letter large.
pub(super) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

/// `text` with its first letter small, unless the word is spelled with large letters (`CRM`, `iOS`).
pub(super) fn uncapitalised(text: &str) -> String {
    let is_spelled = text
        .split_whitespace()
        .next()
        .is_some_and(|word| word.chars().skip(1).any(char::is_uppercase));
    let mut letters = text.chars();
    match letters.next() {
        Some(first) if !is_spelled => first.to_lowercase().chain(letters).collect(),
        _ => text.to_owned(),
    }
}

/// The one thing that `word` is a name of, if it can be counted.
pub(super) fn singular(word: &str) -> Option<String> {
    let word = word.to_lowercase();
    let one = if let Some(stem) = word.strip_suffix("ies").filter(|stem| stem.len() > 2) {
        format!("{stem}y")
    } else if ["sses", "xes", "ches", "shes"]
        .iter()
        .any(|end| word.ends_with(end))
    {
        word[..word.len() - 2].to_owned()
    } else if word.len() > 3
        && word.ends_with('s')
        && !["ss", "us", "is"].iter().any(|end| word.ends_with(end))
    {
        word[..word.len() - 1].to_owned()
    } else {
        word
    };
    let is_countable = one.len() > 2
        && one.bytes().all(|byte| byte.is_ascii_lowercase())
        && !["ing", "ness"].iter().any(|end| one.ends_with(end))
        && !UNCOUNTABLE.has(&one);
    is_countable.then_some(one)
}

/// Several of `word`.
pub(super) fn plural(word: &str) -> String {
    let before_y = word
        .strip_suffix('y')
        .filter(|stem| !stem.ends_with(['a', 'e', 'i', 'o', 'u']));
    if let Some(stem) = before_y {
        return format!("{stem}ies");
    }
    if ["s", "x", "ch", "sh"].iter().any(|end| word.ends_with(end)) {
        return format!("{word}es");
    }
    format!("{word}s")
}

/// `word` with `a` or `an`.
pub(super) fn one(word: &str) -> String {
    match word.starts_with(['a', 'e', 'i', 'o', 'u']) {
        true => format!("an {word}"),
        false => format!("a {word}"),
    }
}

/// `text` on one line with at most `most` characters, cut between words where it can be.
pub(super) fn short(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some((end, _)) = line.char_indices().nth(most) else {
        return line;
    };
    let cut = &line[..end];
    cut.rsplit_once(' ')
        .map_or(cut, |(whole, _)| whole)
        .trim_end_matches([',', ';', ':', '-'])
        .to_owned()
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_by_their_beginning_or_whole() {
        let words = Words::of("Pay by card; it's REMINDING you, log-in");
        assert!(words.has("remind") && words.has("pay$") && words.has("log-in"));
        assert!(!words.has("mind") && !words.has("car$") && words.has("car"));
        assert!(words.has("its$"));
    }

    #[test]
    fn nouns_are_counted_where_they_can_be() {
        for (word, one, many) in [
            ("habits", "habit", "habits"),
            ("Entries", "entry", "entries"),
            ("boxes", "box", "boxes"),
            ("day", "day", "days"),
        ] {
            assert_eq!(singular(word).as_deref(), Some(one));
            assert_eq!(plural(one), many);
        }
        for word in ["water", "reading", "fitness", "привычка", "x"] {
            assert_eq!(singular(word), None, "{word}");
        }
    }

    #[test]
    fn a_text_is_cut_between_words() {
        assert_eq!(short("one  two\nthree", 9), "one two");
        assert_eq!(short("ääääää", 3), "äää");
        assert_eq!(short("short", 9), "short");
    }
}
