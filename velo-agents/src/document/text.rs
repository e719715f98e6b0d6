/// `text` for comparing: letters lowercase, every run of white space one space, none at the ends.
pub(super) fn normalised(text: &str) -> String {
    // Letter by letter, since `str::to_lowercase` looks at a letter's neighbours (final sigma),
    // and a quote has other neighbours than its source.
    let words: Vec<&str> = text.split_whitespace().collect();
    words
        .join(" ")
        .chars()
        .flat_map(char::to_lowercase)
        .collect()
}

/// Whether `id` is `prefix` and a number of `least` to six digits.
pub(super) fn is_numbered(id: &str, prefix: &str, least: usize) -> bool {
    id.strip_prefix(prefix).is_some_and(|digits| {
        (least..=6).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// How an id or a text is shown inside a finding.
pub(super) fn quoted(text: &str) -> String {
    const MOST_CHARS: usize = 60;
    match text.char_indices().nth(MOST_CHARS) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}
