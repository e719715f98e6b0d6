//! What a brief says, sorted by what it is good for. Everything quoted is a piece of the brief.

use super::knowledge::{Facet, Knowledge};
use super::language;
use super::product::{Named, has_noun, name_in, plain, word_spans};
use super::sentence::{Sentence, Shape, sentences};
use super::words::{Words, short};

/// Most wishes that are followed up.
pub(super) const MAX_WISHES: usize = 14;
/// Most pieces of text of any other kind that are kept.
const MAX_KEPT: usize = 5;
/// Most characters of a quote.
const MAX_QUOTE_CHARS: usize = 200;
/// Most known wishes that one clause is read as.
const MAX_FACETS: usize = 2;
/// Among how many sentences at the beginning the product is looked for.
const MAX_OPENING: usize = 5;
/// Most words of a title that come from behind the name.
const MAX_TITLE_WORDS: usize = 9;
/// Wishes in the sentence that names the product, up to this many, are what it is about.
const MAX_HEADLINE: usize = 3;

const JOINTS: [&str; 9] = ["and", "plus", "&", "und", "et", "y", "e", "en", "with"];
const NEGATIONS: [&str; 14] = [
    "no",
    "not",
    "without",
    "dont",
    "doesnt",
    "never",
    "exclude",
    "excluding",
    "skip",
    "ohne",
    "kein",
    "keine",
    "sans",
    "sin",
];
const DUTIES: [&str; 8] = [
    "must",
    "essential",
    "important",
    "core",
    "key",
    "critical",
    "mandatory",
    "required",
];
const MAYBES: [&str; 11] = [
    "optional",
    "optionally",
    "maybe",
    "later",
    "eventually",
    "nice",
    "ideally",
    "someday",
    "future",
    "perhaps",
    "bonus",
];
const GIVEN: [&str; 34] = [
    "budget",
    "deadline",
    "weeks",
    "months",
    "weeks'",
    "rust",
    "python",
    "typescript",
    "react",
    "vue",
    "postgres",
    "postgresql",
    "sqlite",
    "django",
    "rails",
    "node",
    "java",
    "kotlin",
    "swift",
    "flutter",
    "kubernetes",
    "docker",
    "aws",
    "azure",
    "gcp",
    "wordpress",
    "shopify",
    "php",
    "go",
    "golang",
    "htmx",
    "svelte",
    "open-source",
    "self-hosted",
];
/// Words that begin a circumstance and not a function.
const PLACES: [&str; 8] = ["in", "on", "at", "from", "by", "via", "during", "until"];
/// Words for those who use products.
const PEOPLE: [&str; 24] = [
    "people",
    "families",
    "family",
    "kids",
    "children",
    "parents",
    "students",
    "teams",
    "friends",
    "companies",
    "businesses",
    "schools",
    "beginners",
    "adults",
    "women",
    "men",
    "everyone",
    "everybody",
    "agencies",
    "couples",
    "nurses",
    "families",
    "clubs",
    "colleagues",
];
const TROUBLE: [&str; 16] = [
    "because",
    "currently",
    "today",
    "problem",
    "struggle",
    "struggles",
    "hard",
    "tired",
    "hate",
    "difficult",
    "annoying",
    "frustrated",
    "frustrating",
    "waste",
    "wasting",
    "lose",
];
/// Words of sentences that speak to whoever writes the document rather than of the product.
const TO_THE_WRITER: [&str; 14] = [
    "ignore",
    "disregard",
    "prompt",
    "instructions",
    "instruction",
    "jailbreak",
    "pretend",
    "assistant:",
    "respond",
    "reply",
    "output",
    "chatgpt",
    "override",
    "system:",
];

/// A brief, read.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) named: Named,
    /// The words that name the product.
    pub(super) quote: Option<String>,
    /// What the brief says right behind a name that says little.
    pub(super) purpose: Option<Wish>,
    pub(super) audience: Option<String>,
    pub(super) wishes: Vec<Wish>,
    pub(super) excluded: Vec<String>,
    pub(super) background: Vec<String>,
    pub(super) questions: Vec<String>,
    /// Sentences that speak to the writer.
    pub(super) addressed: Vec<String>,
    /// Wishes that were not followed up.
    pub(super) left_out: usize,
    pub(super) language: &'static str,
    pub(super) has_words: bool,
}

/// Something that the brief asks for.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) quote: String,
    pub(super) facet: Option<&'static Facet>,
    pub(super) weight: Weight,
    /// Whether it is a given rather than a function.
    pub(super) is_given: bool,
    /// Whether it follows `that` or `which` and so says what the product does.
    pub(super) is_predicate: bool,
}

/// How much the brief cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    Headline,
    Plain,
    Maybe,
}

/// What a heading says about the sentences below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Wishes,
    Later,
    Excluded,
    Background,
    People,
}

pub(super) fn read(brief: &str) -> Reading {
    let (all, more) = sentences(brief);
    let (brand, at) = opening(&all);
    let text = at.map_or("", |at| all[at].text);
    let (phrase, after) = name_in(text);
    let mut reader = Reader::new(Reading {
        named: Named::new(brand, phrase, brief),
        quote: quotable(phrase),
        purpose: None,
        audience: None,
        wishes: Vec::new(),
        excluded: Vec::new(),
        background: Vec::new(),
        questions: Vec::new(),
        addressed: Vec::new(),
        left_out: more,
        language: language::guess(brief),
        has_words: brief.chars().any(char::is_alphabetic),
    });
    let before = at.unwrap_or(all.len());
    for sentence in &all[..before] {
        reader.before_the_name(sentence, brand);
    }
    reader.name(phrase, after);
    for sentence in all.iter().skip(before + 1) {
        reader.sentence(sentence);
    }
    reader.reading
}

/// The sentence that names the product, and a name of its own that stands before it: "Velo: a bike
/// rental" has one, while "# Habit tracker" is the product itself.
fn opening<'t>(all: &[Sentence<'t>]) -> (Option<&'t str>, Option<usize>) {
    let is_open = |sentence: &Sentence<'_>| {
        !addresses_the_writer(sentence.text)
            && (sentence.shape != Shape::Label || section_of(sentence.text).is_none())
    };
    let says_what = |at: &usize| is_open(&all[*at]) && has_noun(name_in(all[*at].text).0);
    let near = all.len().min(MAX_OPENING);
    let at = (0..near)
        .find(says_what)
        .or_else(|| (0..all.len()).find(|at| is_open(&all[*at])));
    let brand = at
        .filter(|at| *at > 0)
        .map(|at| all[at - 1])
        .filter(|before| before.shape == Shape::Label && is_open(before))
        .map(|before| before.text);
    (brand, at)
}

/// The wishes in `remarks` on an earlier draft, and the remarks that are none.
pub(super) fn read_remarks(remarks: &str, named: &Named) -> (Reading, Vec<String>) {
    let (all, _) = sentences(remarks);
    let mut reader = Reader::new(Reading {
        named: named.clone(),
        quote: None,
        purpose: None,
        audience: None,
        wishes: Vec::new(),
        excluded: Vec::new(),
        background: Vec::new(),
        questions: Vec::new(),
        addressed: Vec::new(),
        left_out: 0,
        language: "en",
        has_words: true,
    });
    for sentence in &all {
        reader.sentence(sentence);
    }
    let plain = all
        .iter()
        .map(|sentence| short(sentence.text, MAX_QUOTE_CHARS))
        .take(MAX_KEPT)
        .collect();
    (reader.reading, plain)
}

struct Reader {
    section: Section,
    /// Whether the section's list has begun.
    has_points: bool,
    reading: Reading,
}

impl Reader {
    fn new(reading: Reading) -> Self {
        Self {
            section: Section::Wishes,
            has_points: false,
            reading,
        }
    }

    /// What comes before the product is named is about the world and not about the product, unless
    /// it contains a known wish.
    fn before_the_name(&mut self, sentence: &Sentence<'_>, brand: Option<&str>) {
        if brand == Some(sentence.text) {
            return;
        }
        let words = Words::of(sentence.text);
        let is_wish = facets_in(&words, &self.reading.named).next().is_some();
        if is_wish || sentence.shape == Shape::Label || addresses_the_writer(sentence.text) {
            return self.sentence(sentence);
        }
        self.keep(|reading| &mut reading.background, sentence.text);
    }

    /// The name of the product, and the rest of the sentence that has it.
    fn name(&mut self, phrase: &str, after: &str) {
        self.facets_of(phrase, Weight::Headline, false);
        let (before, behind) = self.audience(after);
        let named = self.reading.named.clone();
        let first = split(before, &named).into_iter().next();
        let says_purpose =
            |clause: &Clause<'_>| clause.is_predicate || begins_with_verb(clause.text);
        if named.kind.purpose
            && let Some(clause) = first.filter(says_purpose)
        {
            self.reading.purpose = quotable(clause.text).map(|quote| Wish {
                quote,
                facet: None,
                weight: Weight::Headline,
                is_given: false,
                is_predicate: clause.is_predicate,
            });
            let words: Vec<&str> = before
                .split([',', '.', '(', ';'])
                .next()
                .unwrap_or_default()
                .split_whitespace()
                .take(MAX_TITLE_WORDS)
                .collect();
            self.reading.named = named.titled(&words.join(" "));
        } else if let Some(audience) = self.reading.audience.clone() {
            let words: Vec<&str> = audience
                .split_whitespace()
                .skip_while(|word| ["a", "an", "the", "my", "our"].contains(&plain(word).as_str()))
                .take(MAX_TITLE_WORDS)
                .collect();
            if !words.is_empty() {
                self.reading.named = named.titled(&format!("for {}", words.join(" ")));
            }
        }
        self.clauses(before, Weight::Headline);
        self.clauses(behind, Weight::Headline);
    }

    fn sentence(&mut self, sentence: &Sentence<'_>) {
        let text = sentence.text;
        if sentence.shape == Shape::Label {
            self.section = section_of(text).unwrap_or(Section::Wishes);
            self.has_points = false;
            return;
        }
        // Running text behind a list is no longer a part of it.
        if sentence.shape == Shape::Plain && self.has_points {
            self.section = Section::Wishes;
        }
        self.has_points |= sentence.shape == Shape::Point;
        if addresses_the_writer(text) {
            return self.keep(|reading| &mut reading.addressed, text);
        }
        if sentence.is_question {
            return self.keep(|reading| &mut reading.questions, text);
        }
        match self.section {
            Section::Excluded => return self.keep(|reading| &mut reading.excluded, text),
            Section::Background => return self.keep(|reading| &mut reading.background, text),
            Section::People => {
                if self.reading.audience.is_none() {
                    self.reading.audience = quotable(text);
                }
                return;
            }
            Section::Later => return self.clauses(text, Weight::Maybe),
            Section::Wishes => {}
        }
        let words = Words::of(text);
        let is_wish = facets_in(&words, &self.reading.named).next().is_some();
        if words.has_any(&TROUBLE) && !is_wish {
            return self.keep(|reading| &mut reading.background, text);
        }
        self.clauses(text, Weight::Plain);
    }

    /// What stands before and behind the words of `rest` that say for whom the product is, which
    /// are kept.
    fn audience<'t>(&mut self, rest: &'t str) -> (&'t str, &'t str) {
        const ENDS: [&str; 19] = [
            "with",
            "that",
            "which",
            "who",
            "to",
            "where",
            "using",
            "including",
            "and",
            "so",
            "on",
            "at",
            "via",
            "mit",
            "avec",
            "con",
            "featuring",
            "without",
            "in",
        ];
        let is_for = |span: &(usize, usize)| {
            ["for", "für", "pour", "para"].contains(&plain(&rest[span.0..span.1]).as_str())
        };
        let Some((at, behind)) = word_spans(rest).find(is_for) else {
            return (rest, "");
        };
        let mut found: Option<(usize, usize)> = None;
        for (start, end) in word_spans(&rest[behind..]).take(8) {
            let (start, end) = (start + behind, end + behind);
            let raw = &rest[start..end];
            let word = plain(raw);
            if ENDS.contains(&word.as_str()) || (found.is_none() && word.ends_with("ing")) {
                break;
            }
            let bare = raw.trim_end_matches([',', ';', ':', ')', '，', '、']);
            found = Some((found.map_or(start, |(from, _)| from), start + bare.len()));
            if bare.len() < raw.len() {
                break;
            }
        }
        // Further back, "for" also says what a function is about: "reminders for each habit".
        let is_first = rest[..at].trim().is_empty();
        let is_audience = |(start, end): &(usize, usize)| {
            let audience = Words::of(&rest[*start..*end]);
            is_first || is_people(&audience) || audience.begin_with_any(&["a", "an", "my", "our"])
        };
        match found.filter(is_audience) {
            Some((start, end)) => {
                self.reading.audience = quotable(&rest[start..end]);
                (&rest[..at], &rest[end..])
            }
            None => (rest, ""),
        }
    }

    /// The clauses of a sentence, each read as a wish or what else it is.
    fn clauses(&mut self, text: &str, weight: Weight) {
        let mut headline = 0;
        let mut weight_of_sentence = weight;
        if Words::of(text).has_any(&MAYBES) {
            weight_of_sentence = Weight::Maybe;
        }
        for clause in split(text, &self.reading.named) {
            let words = Words::of(clause.text);
            if words.iter().next().is_none() {
                continue;
            }
            if is_negative(&words) {
                self.keep(|reading| &mut reading.excluded, clause.text);
                continue;
            }
            let weight = match weight_of_sentence {
                _ if words.has_any(&DUTIES) => Weight::Headline,
                Weight::Headline if headline >= MAX_HEADLINE => Weight::Plain,
                weight => weight,
            };
            headline += 1;
            self.wish(clause, &words, weight);
        }
    }

    fn wish(&mut self, clause: Clause<'_>, words: &Words, weight: Weight) {
        if self.facets_of(clause.text, weight, clause.is_predicate) {
            return;
        }
        let is_said = self
            .reading
            .wishes
            .iter()
            .any(|wish| Words::of(&wish.quote).iter().eq(words.iter()));
        if is_said {
            return;
        }
        if self.reading.wishes.len() >= MAX_WISHES {
            self.reading.left_out += 1;
            return;
        }
        let is_given = words.has_any(&GIVEN)
            || words.begin_with_any(&PLACES)
            || clause.text.contains(['$', '€', '£']);
        if let Some(quote) = quotable(clause.text) {
            self.reading.wishes.push(Wish {
                quote,
                facet: None,
                weight,
                is_given,
                is_predicate: clause.is_predicate,
            });
        }
    }

    /// Whether the text contains known wishes; those not met before are kept.
    fn facets_of(&mut self, text: &str, weight: Weight, is_predicate: bool) -> bool {
        let words = Words::of(text);
        let found: Vec<&'static Facet> = facets_in(&words, &self.reading.named)
            .take(MAX_FACETS)
            .collect();
        let Some(quote) = quotable(text) else {
            return false;
        };
        for facet in &found {
            let is_known = self
                .reading
                .wishes
                .iter()
                .any(|wish| wish.facet.is_some_and(|known| known.id == facet.id));
            if is_known {
                continue;
            }
            if self.reading.wishes.len() >= MAX_WISHES {
                self.reading.left_out += 1;
                continue;
            }
            self.reading.wishes.push(Wish {
                quote: quote.clone(),
                facet: Some(facet),
                weight,
                is_given: false,
                is_predicate,
            });
        }
        !found.is_empty()
    }

    fn keep(&mut self, list: impl FnOnce(&mut Reading) -> &mut Vec<String>, text: &str) {
        let list = list(&mut self.reading);
        if list.len() < MAX_KEPT
            && let Some(quote) = quotable(text)
        {
            list.push(quote);
        }
    }
}

/// The known wishes in `words`, in the order of the text, without what the product's kind covers.
pub(super) fn facets_in(
    words: &Words,
    named: &Named,
) -> impl Iterator<Item = &'static Facet> + use<> {
    let kind = named.kind;
    let mut found: Vec<(usize, &'static Facet)> = Knowledge::built_in()
        .facets
        .iter()
        .filter(|facet| facet.suits(kind))
        .filter_map(|facet| Some((facet.hits(words)?.1, facet)))
        .collect();
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, facet)| facet)
}

#[derive(Debug, Clone, Copy)]
struct Clause<'t> {
    text: &'t str,
    is_predicate: bool,
}

/// A sentence at its commas, and at each `and` that joins two wishes rather than two words.
fn split<'t>(text: &'t str, named: &Named) -> Vec<Clause<'t>> {
    let mut clauses = Vec::new();
    let is_list = text.contains([',', '、', '，']) || begins_a_list(text);
    for piece in text.split([',', '、', '，', '•', '/', '(', ')']) {
        let mut start = 0;
        for (at, end) in word_spans(piece) {
            if !JOINTS.contains(&plain(&piece[at..end]).as_str()) {
                continue;
            }
            let (left, right) = (&piece[start..at], &piece[end..]);
            if is_list || begins_a_wish(right, named) {
                clauses.extend(clean(left));
                start = end;
            }
        }
        clauses.extend(clean(&piece[start..]));
    }
    clauses
}

fn begins_a_list(text: &str) -> bool {
    Words::of(text).begin_with_any(&[
        "with",
        "including",
        "featuring",
        "mit",
        "avec",
        "con",
        "com",
        "met",
    ])
}

/// Whether a wish of its own follows, as in "sign up **and log in**".
fn begins_a_wish(right: &str, named: &Named) -> bool {
    let first: Vec<&str> = right.split_whitespace().take(3).collect();
    let words = Words::of(&first.join(" "));
    facets_in(&words, named).next().is_some()
        || words.begin_with_any(&VERBS)
        || words.begin_with_any(&["it", "they", "users", "people", "customers", "he", "she"])
}

/// Verbs with which a wish may begin.
pub(super) const VERBS: [&str; 62] = [
    "add",
    "allow",
    "answer",
    "ask",
    "assign",
    "browse",
    "build",
    "buy",
    "calculate",
    "change",
    "check",
    "choose",
    "collect",
    "compare",
    "connect",
    "create",
    "delete",
    "discover",
    "draw",
    "edit",
    "enter",
    "estimate",
    "explore",
    "find",
    "generate",
    "get",
    "give",
    "group",
    "handle",
    "help",
    "keep",
    "learn",
    "let",
    "list",
    "make",
    "manage",
    "match",
    "measure",
    "meet",
    "monitor",
    "offer",
    "order",
    "organise",
    "organize",
    "plan",
    "play",
    "post",
    "practice",
    "publish",
    "rate",
    "read",
    "receive",
    "record",
    "see",
    "sell",
    "send",
    "set",
    "show",
    "split",
    "track",
    "view",
    "write",
];

fn begins_with_verb(text: &str) -> bool {
    Words::of(text).begin_with_any(&VERBS)
}

/// Whether `words` name people, by a word for them or by an ending such as that of `teachers`.
pub(super) fn is_people(words: &Words) -> bool {
    const THINGS: [&str; 8] = [
        "numbers", "orders", "letters", "papers", "folders", "answers", "errors", "colors",
    ];
    words.has_any(&PEOPLE)
        || words.iter().any(|word| {
            let has_ending = ["ers", "ors", "ists", "ents", "ians", "ilien"]
                .iter()
                .any(|end| word.len() > 5 && word.ends_with(end));
            has_ending && !THINGS.contains(&word)
        })
}

/// A clause without the small words at its beginning.
fn clean(text: &str) -> Option<Clause<'_>> {
    const FILLERS: [&str; 48] = [
        "where",
        "it",
        "should",
        "must",
        "also",
        "has",
        "have",
        "and",
        "or",
        "then",
        "with",
        "which",
        "that",
        "a",
        "an",
        "the",
        "some",
        "support",
        "supports",
        "include",
        "includes",
        "including",
        "feature",
        "features",
        "featuring",
        "be",
        "able",
        "to",
        "there",
        "is",
        "are",
        "plus",
        "i",
        "want",
        "we",
        "need",
        "please",
        "so",
        "but",
        "even",
        "ein",
        "eine",
        "mit",
        "avec",
        "con",
        "und",
        "et",
        "of",
    ];
    let mut is_predicate = false;
    let mut start = text.len();
    for (at, end) in word_spans(text) {
        let word = plain(&text[at..end]);
        if FILLERS.contains(&word.as_str()) {
            is_predicate = ["that", "which", "it", "also"].contains(&word.as_str());
            continue;
        }
        if word.is_empty() && at < text.len() && start == text.len() {
            continue;
        }
        start = at;
        break;
    }
    let kept = text[start..].trim();
    (!kept.is_empty()).then_some(Clause {
        text: kept,
        is_predicate,
    })
}

fn is_negative(words: &Words) -> bool {
    words.iter().take(2).any(|word| NEGATIONS.contains(&word))
        && !words.has("offline")
        && !words.has("internet")
        && !words.has("network")
}

fn addresses_the_writer(text: &str) -> bool {
    let words = Words::of(text);
    let signs = TO_THE_WRITER
        .iter()
        .filter(|word| words.has_any(&[word.trim_end_matches(':')]))
        .count();
    signs >= 2 || words.has("you are now") || words.has("system prompt")
}

fn section_of(label: &str) -> Option<Section> {
    let words = Words::of(label);
    let is = |stems: &[&str]| stems.iter().any(|stem| words.has(stem));
    if is(&[
        "out of scope",
        "non-goal",
        "not includ",
        "exclu",
        "wont",
        "not part",
    ]) {
        Some(Section::Excluded)
    } else if is(&[
        "nice to have",
        "later",
        "optional",
        "future",
        "someday",
        "could have",
    ]) {
        Some(Section::Later)
    } else if is(&["background", "problem", "why$", "motivation", "context"]) {
        Some(Section::Background)
    } else if is(&[
        "audience",
        "users$",
        "personas",
        "target",
        "for whom",
        "customers$",
    ]) {
        Some(Section::People)
    } else if is(&[
        "feature",
        "requirement",
        "must",
        "should",
        "scope",
        "want",
        "need",
        "goals$",
        "function",
        "nice to have",
        "idea",
        "includ",
    ]) {
        Some(Section::Wishes)
    } else {
        None
    }
}

/// A piece of the brief as a quote; `None` when nothing in it can be read.
fn quotable(text: &str) -> Option<String> {
    let quote = short(
        text.trim_matches(|letter: char| letter.is_whitespace() || ",;:.-–—".contains(letter)),
        MAX_QUOTE_CHARS,
    );
    let quote = quote.trim().to_owned();
    (!quote.is_empty()).then_some(quote)
}
