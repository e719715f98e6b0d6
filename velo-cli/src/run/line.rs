//! The changing line: what is under way, in as many words as there is room for.

use std::time::Duration;

use chrono::{DateTime, Utc};
use console::measure_text_width;
use velo_agents::domain::usage::UsageTotal;

use super::progress::spent;

/// What is kept of the text that is being written, in characters.
const TAIL_MAX: usize = 200;
/// A shorter end of the text tells nobody anything, in columns.
const TAIL_MIN: usize = 12;
const BETWEEN: &str = " · ";

/// The step under way.
#[derive(Debug, Default)]
pub(super) struct Now {
    what: String,
    began: Option<DateTime<Utc>>,
    pub(super) model: String,
    /// The end of what is being written, each run of white space as one space.
    tail: String,
    characters: usize,
    pub(super) used: UsageTotal,
}

impl Now {
    pub(super) fn begin(&mut self, what: String, at: DateTime<Utc>) {
        // An agent that begins again says so again.
        if self.what != what {
            self.began = Some(at);
        }
        self.what = what;
        self.model.clear();
        self.restart();
    }

    /// How long `what` took, if its beginning was seen.
    pub(super) fn took(&self, what: &str, end: DateTime<Utc>) -> Option<Duration> {
        let began = self.began.filter(|_| self.what == what)?;
        (end - began).to_std().ok()
    }

    pub(super) fn end(&mut self, what: &str) {
        if self.what == what {
            self.what.clear();
            self.model.clear();
            self.began = None;
            self.restart();
        }
    }

    pub(super) fn write(&mut self, text: &str) {
        for c in text.chars() {
            self.characters += 1;
            let c = if c.is_control() || c.is_whitespace() {
                ' '
            } else {
                c
            };
            if c != ' ' || !self.tail.ends_with(' ') {
                self.tail.push(c);
            }
        }
        let surplus = self.tail.chars().count().saturating_sub(TAIL_MAX);
        if let Some((at, _)) = self.tail.char_indices().nth(surplus) {
            self.tail.drain(..at);
        }
    }

    /// What was written is void.
    pub(super) fn restart(&mut self) {
        self.tail.clear();
        self.characters = 0;
    }

    /// The line in at most `room` columns, as long as the step's name fits: what matters least is left out first.
    pub(super) fn line(&self, room: usize) -> String {
        let written = match self.characters {
            0 => String::new(),
            characters => format!("{characters} characters"),
        };
        let spent = match self.used.calls {
            0 => String::new(),
            _ => spent(self.used),
        };
        // In the order in which they are read; the numbers say in which order they get room.
        let parts = [
            (0, self.what.as_str()),
            (3, self.model.as_str()),
            (1, written.as_str()),
            (2, spent.as_str()),
        ];
        let mut fits = [false; 4];
        let mut used = 0;
        for rank in 0..parts.len() {
            let found = parts.iter().position(|(of, _)| *of == rank);
            let at = found.expect("each rank is given once");
            let width = measure_text_width(parts[at].1);
            let between = if used == 0 {
                0
            } else {
                BETWEEN.chars().count()
            };
            if width > 0 && (used + between + width <= room || used == 0) {
                fits[at] = true;
                used += between + width;
            }
        }
        let kept = parts.iter().zip(fits).filter(|(_, fits)| *fits);
        let mut line = kept
            .map(|((_, part), _)| *part)
            .collect::<Vec<_>>()
            .join(BETWEEN);
        let left = room.saturating_sub(used + BETWEEN.chars().count() + 1);
        if left >= TAIL_MIN && !self.tail.trim().is_empty() {
            line = format!("{line}{BETWEEN}…{}", end_of(&self.tail, left));
        }
        line
    }
}

/// The end of a text, in at most `room` columns.
fn end_of(text: &str, room: usize) -> &str {
    let begin = text
        .char_indices()
        .map(|(at, _)| at)
        .find(|at| measure_text_width(&text[*at..]) <= room);
    begin.map_or("", |at| &text[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Now {
        let mut now = Now::default();
        now.begin("Oracle · Writing the PRD".to_owned(), Utc::now());
        now.model = "gemini-3.8-flash".to_owned();
        now.used = UsageTotal {
            calls: 1,
            tokens_used: 2_383,
            cost_usd: 0.006_7,
            ..UsageTotal::default()
        };
        now.write("{\n   \"title\":   \"Ein Laden für Tee 茶\"");
        now
    }

    #[test]
    fn a_wide_line_says_all_and_ends_with_the_newest_text() {
        let line = now().line(200);
        assert_eq!(
            line,
            "Oracle · Writing the PRD · gemini-3.8-flash · 37 characters · 2383 tokens, $0.0067 · \
             …{ \"title\": \"Ein Laden für Tee 茶\""
        );
    }

    #[test]
    fn a_line_is_never_wider_than_its_room_and_what_matters_least_goes_first() {
        for room in 24..200 {
            let line = now().line(room);
            assert!(measure_text_width(&line) <= room, "{room}: {line}");
        }
        assert_eq!(
            now().line(66),
            "Oracle · Writing the PRD · 37 characters · 2383 tokens, $0.0067"
        );
        assert_eq!(now().line(30), "Oracle · Writing the PRD");
    }

    #[test]
    fn a_step_took_from_its_first_beginning_to_its_end() {
        let (mut now, at) = (Now::default(), Utc::now());
        now.begin("a".to_owned(), at);
        now.begin("a".to_owned(), at + Duration::from_secs(5));
        let end = at + Duration::from_secs(7);
        assert_eq!(now.took("a", end), Some(Duration::from_secs(7)));
        assert_eq!(now.took("b", end), None);
        now.end("a");
        assert_eq!(now.took("a", end), None);
    }

    #[test]
    fn a_long_text_is_kept_by_its_end_only() {
        let mut now = Now::default();
        now.write(&"é".repeat(10_000));
        assert_eq!(now.tail.chars().count(), TAIL_MAX);
        assert_eq!(now.characters, 10_000);
    }
}
