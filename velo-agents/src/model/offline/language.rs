//! In which language a text is written, as far as its letters and smallest words tell.

use super::words::Words;

/// Fewest small words of a language that count as a sign of it.
const SIGNS: usize = 2;

const SMALL_WORDS: [(&str, &[&str]); 6] = [
    (
        "de",
        &[
            "ein", "eine", "einen", "und", "mit", "für", "der", "die", "das", "ist", "nicht",
            "ich", "wir", "zum", "zur",
        ],
    ),
    (
        "fr",
        &[
            "une", "et", "avec", "pour", "les", "des", "est", "qui", "dans", "sur", "je", "nous",
            "du",
        ],
    ),
    (
        "es",
        &[
            "una", "con", "para", "los", "las", "que", "por", "y", "del", "quiero",
        ],
    ),
    (
        "it",
        &[
            "uno", "una", "con", "per", "gli", "che", "della", "di", "il", "voglio",
        ],
    ),
    (
        "pt",
        &[
            "um", "uma", "com", "para", "os", "que", "do", "da", "não", "quero",
        ],
    ),
    (
        "nl",
        &[
            "een", "met", "voor", "het", "en", "van", "niet", "ik", "wij",
        ],
    ),
];

/// The language's tag; `en` when nothing speaks for another one.
pub(super) fn guess(text: &str) -> &'static str {
    let letters = text.chars().filter(|letter| letter.is_alphabetic());
    let (mut latin, mut other) = (0_usize, [0_usize; SCRIPTS.len()]);
    for letter in letters {
        match SCRIPTS
            .iter()
            .position(|(_, range)| range.contains(&letter))
        {
            Some(at) => other[at] += 1,
            None => latin += 1,
        }
    }
    // Japanese mixes its own letters with those of Chinese.
    let kana = other[0];
    let foreign: usize = other.iter().sum();
    if foreign > latin {
        let most = (0..other.len()).max_by_key(|at| (other[*at], usize::MAX - at));
        return match most {
            _ if kana > 0 && kana * 10 >= foreign => "ja",
            Some(at) => SCRIPTS[at].0,
            None => "en",
        };
    }
    let words = Words::of(text);
    let count = |small: &[&str]| words.iter().filter(|word| small.contains(word)).count();
    let english = count(&[
        "a", "an", "the", "and", "with", "for", "that", "to", "of", "is", "it",
    ]);
    let (language, signs) = SMALL_WORDS
        .iter()
        .map(|(language, small)| (*language, count(small)))
        .fold(
            ("en", 0),
            |best, next| if next.1 > best.1 { next } else { best },
        );
    if signs >= SIGNS && signs > english {
        language
    } else {
        "en"
    }
}

const SCRIPTS: [(&str, std::ops::RangeInclusive<char>); 9] = [
    ("ja", '\u{3040}'..='\u{30ff}'),
    ("zh", '\u{4e00}'..='\u{9fff}'),
    ("ko", '\u{ac00}'..='\u{d7af}'),
    ("ru", '\u{0400}'..='\u{04ff}'),
    ("ar", '\u{0600}'..='\u{06ff}'),
    ("he", '\u{0590}'..='\u{05ff}'),
    ("el", '\u{0370}'..='\u{03ff}'),
    ("hi", '\u{0900}'..='\u{097f}'),
    ("th", '\u{0e00}'..='\u{0e7f}'),
];

/// The language's name in English; the tag itself when it has none here.
pub(super) fn name(tag: &str) -> &str {
    match tag {
        "de" => "German",
        "fr" => "French",
        "es" => "Spanish",
        "it" => "Italian",
        "pt" => "Portuguese",
        "nl" => "Dutch",
        "ja" => "Japanese",
        "zh" => "Chinese",
        "ko" => "Korean",
        "ru" => "Russian",
        "ar" => "Arabic",
        "he" => "Hebrew",
        "el" => "Greek",
        "hi" => "Hindi",
        "th" => "Thai",
        "en" => "English",
        tag => tag,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_and_small_words_tell_the_language() {
        for (text, language) in [
            ("A habit tracker with streaks and reminders", "en"),
            ("Ein Habit-Tracker mit Streaks und Erinnerungen", "de"),
            ("Une application avec des rappels pour les familles", "fr"),
            ("Una aplicación con recordatorios para los niños", "es"),
            ("習慣トラッカー、リマインダー付き", "ja"),
            ("习惯追踪应用", "zh"),
            ("Трекер привычек с напоминаниями", "ru"),
            ("🏃📱", "en"),
            ("", "en"),
        ] {
            assert_eq!(guess(text), language, "{text}");
        }
    }
}
