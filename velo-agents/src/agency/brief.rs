use super::AgencyError;

/// The longest brief, in bytes.
pub const MAX_BRIEF: usize = 100_000;

/// The longest name that a person may give, in characters.
pub const MAX_NAME: usize = 200;

/// The longest name that is made of a brief, in characters.
pub const DERIVED_NAME_MAX: usize = 80;

/// What a person asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBrief {
    /// The project's name. Without one, or with a blank one, it is called by the brief's first
    /// words.
    pub name: Option<String>,
    /// What is to be built, in the person's own words. It is kept as it is.
    pub brief: String,
}

impl NewBrief {
    /// A brief without a name.
    pub fn new(brief: impl Into<String>) -> Self {
        Self {
            name: None,
            brief: brief.into(),
        }
    }

    /// The name of its project, once all of it has been found acceptable.
    ///
    /// # Errors
    /// The refusals of [`AgencyError`].
    pub fn checked_name(&self) -> Result<String, AgencyError> {
        if self.brief.len() > MAX_BRIEF {
            return Err(AgencyError::BriefTooLong {
                bytes: self.brief.len(),
            });
        }
        if let Some(at) = self.brief.find('\0') {
            return Err(AgencyError::BriefHasNul { at });
        }
        let derived = derived_name(&self.brief).ok_or(AgencyError::BriefEmpty)?;
        match self.name.as_deref().map(str::trim) {
            None | Some("") => Ok(derived),
            Some(name) if name.chars().any(char::is_control) => Err(AgencyError::NameHasControl),
            Some(name) => match name.chars().count() {
                characters if characters > MAX_NAME => Err(AgencyError::NameTooLong { characters }),
                _ => Ok(name.to_owned()),
            },
        }
    }
}

/// As many of the brief's first words as make a name; `None` when it has no word.
fn derived_name(brief: &str) -> Option<String> {
    let mut words = brief
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty());
    let mut name: String = words.next()?.chars().take(DERIVED_NAME_MAX).collect();
    let mut length = name.chars().count();
    for word in words {
        length += 1 + word.chars().count();
        if length > DERIVED_NAME_MAX {
            break;
        }
        name.push(' ');
        name.push_str(word);
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> NewBrief {
        NewBrief {
            name: Some(name.to_owned()),
            brief: "a shop".to_owned(),
        }
    }

    #[test]
    fn a_brief_without_a_word_is_refused() {
        for brief in ["", "  \n\t ", "\u{7}\u{1b}"] {
            let error = NewBrief::new(brief).checked_name().unwrap_err();
            assert!(
                matches!(error, AgencyError::BriefEmpty),
                "{brief:?}: {error}"
            );
        }
    }

    #[test]
    fn a_brief_at_the_limit_is_read_and_one_byte_more_is_refused() {
        assert!(NewBrief::new("x".repeat(MAX_BRIEF)).checked_name().is_ok());
        let error = NewBrief::new("x".repeat(MAX_BRIEF + 1)).checked_name();
        assert!(
            matches!(error, Err(AgencyError::BriefTooLong { bytes }) if bytes == MAX_BRIEF + 1)
        );
    }

    #[test]
    fn a_nul_is_refused_with_its_place() {
        let error = NewBrief::new("a\0b").checked_name();
        assert!(matches!(error, Err(AgencyError::BriefHasNul { at: 1 })));
    }

    #[test]
    fn a_name_is_made_of_the_first_words_and_never_of_half_a_word() {
        let name = |brief: &str| NewBrief::new(brief).checked_name().unwrap();
        assert_eq!(name("  A shop\nfor   tea "), "A shop for tea");
        let full = format!("{} {}", "a".repeat(39), "b".repeat(40));
        assert_eq!(
            name(&full),
            full,
            "exactly {DERIVED_NAME_MAX} characters fit"
        );
        assert_eq!(name(&format!("{full}b")), "a".repeat(39));
        assert_eq!(name(&format!("{full} c")), full);
        assert_eq!(name(&"é".repeat(81)), "é".repeat(80));
    }

    #[test]
    fn a_given_name_is_kept_and_a_blank_one_counts_as_none() {
        assert_eq!(named(" Tea ").checked_name().unwrap(), "Tea");
        assert_eq!(named(" ").checked_name().unwrap(), "a shop");
        let longest = "é".repeat(MAX_NAME);
        assert_eq!(named(&longest).checked_name().unwrap(), longest);
        assert!(matches!(
            named(&format!("{longest}é")).checked_name(),
            Err(AgencyError::NameTooLong { characters }) if characters == MAX_NAME + 1
        ));
        assert!(matches!(
            named("a\nb").checked_name(),
            Err(AgencyError::NameHasControl)
        ));
    }
}
