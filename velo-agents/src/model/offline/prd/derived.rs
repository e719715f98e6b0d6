//! The little that a product of any kind cannot do without, and that briefs do not say.

use super::super::knowledge::{GoalKey, Product};
use super::super::product::Named;
use crate::document::{ProjectType, RequirementPriority, Verify};

/// Whether `statement` is one of a requirement that no brief names.
pub(in super::super) fn is_derived(statement: &str, named: &Named) -> bool {
    [KEPT, READABLE, REPEATABLE, ALLOWED].iter().any(|derived| {
        named
            .fill(derived.statement)
            .eq_ignore_ascii_case(statement)
    })
}

/// What a product of this kind cannot do without.
pub(super) fn of(kind: &Product) -> &'static [Derived] {
    match (kind.project_type, kind.headless, kind.id.as_str()) {
        (ProjectType::Software, true, _) => &[REPEATABLE],
        (ProjectType::Software, false, "site") => &[READABLE],
        (ProjectType::Software, false, _) => &[KEPT, READABLE],
        _ => &[ALLOWED],
    }
}

/// A requirement that the brief does not name.
#[derive(Debug)]
pub(super) struct Derived {
    pub(super) statement: &'static str,
    pub(super) why: &'static str,
    pub(super) goal: GoalKey,
    pub(super) priority: RequirementPriority,
    /// Given, when, then, and who can tell.
    pub(super) accept: (&'static str, &'static str, &'static str, Verify),
    /// Known wishes that say it already.
    pub(super) unless: &'static [&'static str],
}

const KEPT: Derived = Derived {
    statement: "Whatever a user did is kept: a crash, a restart or an update of the {product} costs at most the action in progress",
    why: "The brief does not say it, and without it nobody would use it a second time.",
    goal: GoalKey::Trust,
    priority: RequirementPriority::P1,
    accept: (
        "ten finished actions",
        "the program is killed during the eleventh and started again",
        "all ten are there and the eleventh is there wholly or not at all",
        Verify::AutoTest,
    ),
    unless: &["backup"],
};

const READABLE: Derived = Derived {
    statement: "Every main task can be done with a keyboard alone, and every text has a contrast of at least 4.5 to 1",
    why: "The brief does not say it; it costs little from the beginning and much later.",
    goal: GoalKey::Reach,
    priority: RequirementPriority::P2,
    accept: (
        "every screen",
        "an automatic checker for WCAG 2.2 level AA runs",
        "it reports no violation",
        Verify::AutoTest,
    ),
    unless: &["accessibility"],
};

const REPEATABLE: Derived = Derived {
    statement: "The same input to the {product} gives the same result, and a call that fails leaves nothing half done",
    why: "The brief does not say it; other programs cannot be built on anything less.",
    goal: GoalKey::Trust,
    priority: RequirementPriority::P1,
    accept: (
        "the same input",
        "it is given twice, and once with a failure in between",
        "both results are equal and nothing is left behind by the failure",
        Verify::AutoTest,
    ),
    unless: &[],
};

const ALLOWED: Derived = Derived {
    statement: "Everything that is used may be used: pictures, names, quotations and data have a licence or their owner's consent",
    why: "The brief does not say it; it is dear to find out afterwards.",
    goal: GoalKey::Trust,
    priority: RequirementPriority::P1,
    accept: (
        "the list of everything used",
        "each line is checked",
        "it names a licence or a consent",
        Verify::Review,
    ),
    unless: &[],
};
