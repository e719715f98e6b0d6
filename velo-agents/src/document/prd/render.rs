//! A PRD as people read it.

use std::fmt::Write as _;

use super::super::markdown::{head, inline, row, verbatim};
use super::{Prd, PrdDraft, Requirement};

pub(super) fn markdown(prd: &Prd) -> String {
    let draft = &prd.draft;
    let mut page = head(
        &format!("{}: product requirements", inline(&draft.title)),
        "velo.prd/1",
        &prd.envelope,
    );
    let _ = write!(
        page,
        "\n{}\n\n## The problem\n\n{}\n",
        inline(&draft.summary),
        inline(&draft.problem)
    );
    goals_and_people(&mut page, draft);
    requirements(&mut page, draft);
    list(&mut page, "Out of scope", draft.out_of_scope.iter());
    list(&mut page, "Assumptions", draft.assumptions.iter());
    questions_and_risks(&mut page, draft);
    let _ = write!(
        page,
        "\n## The brief, as it was given\n\n{}\n",
        verbatim(&prd.original_brief)
    );
    page
}

fn goals_and_people(page: &mut String, draft: &PrdDraft) {
    page.push_str("\n## Goals\n\n");
    for goal in &draft.goals {
        let _ = write!(
            page,
            "- **{}** {}",
            inline(&goal.id),
            inline(&goal.statement)
        );
        match (&goal.metric, &goal.target) {
            (Some(metric), Some(target)) => {
                let _ = write!(page, " ({}: {})", inline(metric), inline(target));
            }
            (Some(only), None) | (None, Some(only)) => {
                let _ = write!(page, " ({})", inline(only));
            }
            (None, None) => {}
        }
        page.push('\n');
    }
    page.push_str("\n## For whom\n\n");
    for persona in &draft.personas {
        let _ = writeln!(
            page,
            "- **{}** ({}): {}",
            inline(&persona.name),
            inline(&persona.id),
            inline(&persona.description)
        );
        for need in &persona.needs {
            let _ = writeln!(page, "  - {}", inline(need));
        }
    }
}

fn requirements(page: &mut String, draft: &PrdDraft) {
    page.push_str("\n## Requirements\n\n");
    page.push_str(&row([
        "Id",
        "Priority",
        "Requirement",
        "Kind",
        "Goals",
        "Source",
    ]));
    page.push_str(&row(["---", "---", "---", "---", "---", "---"]));
    for requirement in &draft.requirements {
        page.push_str(&row([
            &inline(&requirement.id),
            requirement.priority.name(),
            &inline(&requirement.statement),
            requirement.kind.name(),
            &inline(&requirement.goal_ids.join(", ")),
            &source(requirement),
        ]));
    }
    page.push_str("\n## Acceptance\n");
    for requirement in &draft.requirements {
        let _ = write!(
            page,
            "\n### {}: {}\n\n{}\n\n",
            inline(&requirement.id),
            inline(&requirement.statement),
            inline(&requirement.rationale)
        );
        for acceptance in &requirement.acceptance {
            let _ = writeln!(
                page,
                "- **{}** Given {}, when {}, then {}. *({})*",
                inline(&acceptance.id),
                inline(acceptance.given.trim_end_matches('.')),
                inline(acceptance.when.trim_end_matches('.')),
                inline(acceptance.then.trim_end_matches('.')),
                acceptance.verify.label()
            );
        }
    }
}

fn source(requirement: &Requirement) -> String {
    match &requirement.source_quote {
        Some(quote) => format!("“{}”", inline(quote)),
        None => "derived".to_owned(),
    }
}

fn questions_and_risks(page: &mut String, draft: &PrdDraft) {
    if !draft.open_questions.is_empty() {
        page.push_str("\n## Open questions\n\n");
    }
    for open in &draft.open_questions {
        let _ = writeln!(
            page,
            "- **{}** {} {} Until told otherwise: {}{}",
            inline(&open.id),
            inline(&open.question),
            inline(&open.why),
            inline(&open.default_answer),
            if open.blocking { " **(blocking)**" } else { "" }
        );
    }
    if !draft.risks.is_empty() {
        page.push_str("\n## Risks\n\n");
        page.push_str(&row(["Id", "Risk", "Likelihood", "Impact", "What is done"]));
        page.push_str(&row(["---", "---", "---", "---", "---"]));
    }
    for risk in &draft.risks {
        page.push_str(&row([
            &inline(&risk.id),
            &inline(&risk.text),
            risk.likelihood.name(),
            risk.impact.name(),
            &inline(&risk.mitigation),
        ]));
    }
    if !draft.success_criteria.is_empty() {
        page.push_str("\n## Success\n\n");
        page.push_str(&row(["Measure", "Target", "How it is measured"]));
        page.push_str(&row(["---", "---", "---"]));
    }
    for criterion in &draft.success_criteria {
        page.push_str(&row([
            &inline(&criterion.metric),
            &inline(&criterion.target),
            &inline(&criterion.how_measured),
        ]));
    }
}

fn list<'t>(page: &mut String, title: &str, items: impl ExactSizeIterator<Item = &'t String>) {
    if items.len() > 0 {
        let _ = write!(page, "\n## {title}\n\n");
    }
    for item in items {
        let _ = writeln!(page, "- {}", inline(item));
    }
}
