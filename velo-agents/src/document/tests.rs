use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use velo_engine::RunId;

use super::*;
use crate::catalogue::{Catalogue, TaskKind};
use crate::domain::ProjectId;
use crate::model::schema;

const BRIEF: &str = "A bakery's web shop\nwith pick-up times and vouchers";

/// A small PRD of [`BRIEF`] in which nothing is wrong.
pub(crate) fn prd() -> PrdDraft {
    serde_json::from_value(json!({
        "title": "Bakery shop",
        "language": "en",
        "project_type": "software",
        "problem": "Customers queue at noon.",
        "summary": "A web shop of a bakery.",
        "goals": [{"id": "G1", "statement": "Nobody queues"}],
        "personas": [{"id": "U1", "name": "Customer", "description": "Buys bread.", "needs": ["bread"]}],
        "requirements": [
            requirement("R-001", "P0", Some("pick-up   TIMES")),
            requirement("R-002", "P1", None),
            requirement("R-003", "P2", Some("shop with pick-up")),
        ],
        "out_of_scope": ["delivery"],
        "assumptions": [],
        "open_questions": [{"id": "Q1", "question": "Which hours?", "why": "It matters.", "default_answer": "8 to 18", "blocking": false}],
        "risks": [{"id": "K1", "text": "Rain", "likelihood": "low", "impact": "high", "mitigation": "Roof"}],
        "success_criteria": [{"metric": "orders", "target": "10 a day", "how_measured": "count"}],
    }))
    .expect("a PRD")
}

fn requirement(id: &str, priority: &str, quote: Option<&str>) -> Value {
    json!({
        "id": id, "source_quote": quote, "derived": quote.is_none(), "rationale": "Asked for.",
        "statement": format!("It holds {id}"), "kind": "functional", "priority": priority,
        "goal_ids": ["G1"], "persona_ids": ["U1"],
        "acceptance": [{"id": format!("{id}.A1"), "given": "a shop", "when": "one looks", "then": "it is there", "verify": "manual"}],
    })
}

/// A small plan for [`prd`] in which nothing is wrong.
fn plan() -> TaskPlanDraft {
    let task = |at: usize, kind: &str, needs: &[&str], skills: &[&str]| {
        json!({
            "key": format!("T-{at:03}"), "title": format!("Make part {at}"), "epic": "E1",
            "requirement_ids": ["R-001", "R-002"], "kind": kind, "description": "All of it.",
            "acceptance": [{"id": format!("T-{at:03}.A1"), "text": "It is there", "verify": "review"}],
            "depends_on": needs, "required_skills": skills, "priority": "high", "complexity": "M",
            "outputs": ["code_bundle"],
        })
    };
    serde_json::from_value(json!({
        "epics": [{"id": "E1", "title": "Shop", "requirement_ids": ["R-001"]}],
        "tasks": [
            task(1, "backend", &["T-002"], &["backend-code"]),
            task(2, "schema", &[], &["data-modelling"]),
            task(3, "frontend", &["T-001"], &["typescript"]),
            task(4, "test", &["T-003", "T-001"], &["test-plans"]),
            task(5, "docs", &[], &["user-docs"]),
        ],
    }))
    .expect("a plan")
}

fn envelope(offline: bool) -> Envelope {
    Envelope {
        project_id: ProjectId::named(uuid::Uuid::nil(), "shop"),
        run_id: RunId::from_i64(7),
        produced_by: ProducedBy::new("oracle", "some-model", offline, crate::prompt::repair()),
        created_at: DateTime::<Utc>::UNIX_EPOCH,
    }
}

fn found(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_good_draft_has_no_findings() {
    assert_eq!(found(&prd().check(BRIEF)), [""; 0]);
    assert_eq!(found(&plan().check(&prd())), [""; 0]);
}

#[test]
fn both_drafts_can_be_asked_for() {
    for schema in [schema::of::<PrdDraft>(), schema::of::<TaskPlanDraft>()] {
        let schema = schema.expect("Gemini accepts the type");
        assert!(!schema.to_string().contains("oneOf"), "{schema}");
    }
}

#[test]
fn all_that_is_wrong_with_a_prd_is_said_at_once() {
    let mut draft = prd();
    draft.title = "x".repeat(81);
    draft.summary = "word ".repeat(121);
    draft.goals.push(Goal {
        id: "G2".into(),
        statement: "Unserved".into(),
        metric: None,
        target: None,
    });
    draft.personas[0].id = "customer".into();
    draft.requirements[0].source_quote = Some("delivery by drone".into());
    draft.requirements[0].priority = RequirementPriority::P1;
    draft.requirements[1].id = "R-001".into();
    draft.requirements[1].derived = false;
    draft.requirements[2].acceptance.clear();
    draft.requirements[2].goal_ids.push("G9".into());
    draft.requirements[2].statement = "nul \0".into();
    let findings = found(&draft.check(BRIEF));
    for wanted in [
        "/title: has 81 characters",
        "/summary: has 121 words",
        "/goals/1: no requirement serves `G2`",
        "/personas/0/id: is `customer`; write it as U1",
        "/requirements: none has priority P0",
        "/requirements/0/source_quote: `delivery by drone` is not in the brief",
        "/requirements/0/persona_ids/0: `U1` is not a persona",
        "/requirements/1/id: `R-001` is used twice",
        "/requirements/1/acceptance/0/id: is `R-002.A1`; write it as R-001.A1",
        "/requirements/1/source_quote: is missing",
        "/requirements/2/acceptance: is empty",
        "/requirements/2/goal_ids/1: `G9` is not a goal",
        "/requirements/2/statement: has control characters",
    ] {
        assert!(
            findings.iter().any(|finding| finding.starts_with(wanted)),
            "{wanted}\n{findings:#?}"
        );
    }
}

#[test]
fn a_quote_is_found_whatever_its_case_and_spaces_and_only_in_the_brief() {
    let mut draft = prd();
    let mut quote = |quote: &str, brief: &str| {
        draft.requirements.truncate(1);
        draft.requirements[0].source_quote = Some(quote.into());
        draft.check(brief).is_empty()
    };
    assert!(quote("SHOP\twith\n PICK-UP", BRIEF));
    assert!(quote("ΟΔΟΣ", "ὉΔΌΣ οδοσ και"));
    assert!(!quote("vouchers for dogs", BRIEF));
    assert!(!quote("  ", BRIEF));
}

#[test]
fn all_that_is_wrong_with_a_plan_is_said_at_once() {
    let mut draft = plan();
    draft.tasks[1].depends_on = vec!["T-004".into(), "T-099".into()];
    draft.tasks[2].title = "x".repeat(121);
    draft.tasks[3].requirement_ids = vec!["R-009".into()];
    draft.tasks[4].acceptance.clear();
    draft.tasks[4].epic = Some("E7".into());
    for task in &mut draft.tasks {
        task.requirement_ids.retain(|id| id != "R-002");
    }
    let findings = found(&draft.check(&prd()));
    for wanted in [
        "/tasks/1/depends_on/1: `T-099` is not a task of this plan",
        "/tasks/2/title: has 121 characters",
        "/tasks/3/requirement_ids/0: `R-009` is not a requirement",
        "/tasks/4/acceptance: is empty",
        "/tasks/4/epic: `E7` is not an epic",
        "/tasks: depend on each other in a circle: `T-001` needs `T-002` needs `T-004` needs `T-003` needs `T-001`",
        "/tasks: no task serves `R-002` (P1)",
    ] {
        assert!(
            findings.iter().any(|finding| finding.starts_with(wanted)),
            "{wanted}\n{findings:#?}"
        );
    }
    assert!(
        !findings.iter().any(|finding| finding.contains("R-003")),
        "what can wait needs no task: {findings:#?}"
    );
}

#[test]
fn too_few_tasks_too_many_and_doubles_are_refused() {
    let mut draft = plan();
    draft.tasks.pop();
    assert!(found(&draft.check(&prd())).contains(&"/tasks: has 4 tasks; write 5 to 60".to_owned()));
    let mut draft = plan();
    draft.tasks[1].key = "T-001".into();
    let findings = found(&draft.check(&prd()));
    let doubled = "/tasks/1/key: `T-001` is used twice; keys are unique".to_owned();
    assert!(findings.contains(&doubled), "{findings:#?}");
    let mut draft = plan();
    draft.tasks = vec![draft.tasks[4].clone(); 61];
    assert!(
        found(&draft.check(&prd())).contains(&"/tasks: has 61 tasks; write 5 to 60".to_owned())
    );
}

#[test]
fn a_plan_stands_in_an_order_in_which_it_can_be_done() {
    let plan = TaskPlan::new(plan(), &prd(), Catalogue::built_in(), envelope(false));
    let plan = plan.expect("a good draft");
    let keys: Vec<&str> = plan
        .tasks
        .iter()
        .map(|task| task.task.key.as_str())
        .collect();
    assert_eq!(keys, ["T-002", "T-001", "T-003", "T-004", "T-005"]);
    let agents: Vec<&str> = plan
        .tasks
        .iter()
        .map(|task| task.assignment.agent.as_str())
        .collect();
    assert_eq!(agents, ["sage", "atlas", "pixel", "verdict", "beacon"]);
    assert!(plan.estimate().usd_max > 0.0);

    let project = ProjectId::new();
    let rows = plan.new_tasks(project);
    assert_eq!(rows, plan.new_tasks(project), "the same rows every time");
    assert_eq!(rows[1].position, 1);
    assert_eq!(rows[1].assigned_agent.as_deref(), Some("Atlas"));
    assert_eq!(rows[1].depends_on, ["T-002"]);
}

#[test]
fn a_suggestion_counts_for_whoever_has_the_craft() {
    let mut task = plan().tasks.remove(2);
    let staff = Catalogue::built_in();
    task.required_skills = vec!["typescript".into(), "css-animation".into()];
    assert_eq!(assign(&task, staff).agent.as_str(), "pixel");
    task.suggested_agent = Some("ember".into());
    let suggested = assign(&task, staff);
    assert_eq!(suggested.agent.as_str(), "ember");
    assert!(suggested.reason.contains("was suggested"));

    task.kind = TaskKind::Schema;
    task.required_skills = vec!["sql".into()];
    let passed_over = assign(&task, staff);
    assert_eq!(passed_over.agent.as_str(), "sage");
    assert!(
        passed_over
            .reason
            .ends_with("Ember was suggested and suits less")
    );

    task.suggested_agent = Some("nobody".into());
    assert!(
        assign(&task, staff)
            .reason
            .ends_with("the suggested agent does not exist")
    );
}

#[test]
fn a_document_is_read_back_as_it_was_written_and_no_other_shape_is() {
    let document = Prd::new(prd(), BRIEF, envelope(false)).expect("a good draft");
    let value = serde_json::to_value(&document).expect("JSON");
    assert_eq!(value["schema"], "velo.prd/1");
    assert_eq!(value["run_id"], "7");
    assert_eq!(value["produced_by"]["model"], "some-model");
    assert_eq!(value["original_brief"], BRIEF);
    assert_eq!(
        serde_json::from_value::<Prd>(value.clone()).expect("the same shape"),
        document
    );
    let mut other = value;
    other["schema"] = "velo.prd/2".into();
    assert!(serde_json::from_value::<Prd>(other).is_err());

    let plan = TaskPlan::new(plan(), &prd(), Catalogue::built_in(), envelope(true));
    let plan = plan.expect("a good draft");
    let text = serde_json::to_string(&plan).expect("JSON");
    assert!(text.starts_with("{\"schema\":\"velo.task_plan/1\""));
    assert_eq!(
        serde_json::from_str::<TaskPlan>(&text).expect("the same shape"),
        plan
    );
}

#[test]
fn a_draft_with_findings_makes_no_document() {
    let rejected =
        Prd::new(prd(), "another brief", envelope(false)).expect_err("quotes are missing");
    assert_eq!(rejected.findings.len(), 2);
    assert!(rejected.to_string().ends_with("; and 1 more"), "{rejected}");
    let mut draft = plan();
    draft.tasks[1].depends_on = vec!["T-002".into()];
    assert!(TaskPlan::new(draft, &prd(), Catalogue::built_in(), envelope(false)).is_err());
}

#[test]
fn pages_say_that_no_model_wrote_them() {
    for (offline, expected) in [(true, true), (false, false)] {
        let document = Prd::new(prd(), BRIEF, envelope(offline)).expect("a good draft");
        let plan = TaskPlan::new(plan(), &prd(), Catalogue::built_in(), envelope(offline));
        for page in [document.to_markdown(), plan.expect("good").to_markdown()] {
            let top: Vec<&str> = page.lines().take(3).collect();
            let says =
                top.contains(&"**Offline model**: written by rules, without a language model");
            assert_eq!(says, expected, "{top:?}");
            assert!(page.contains("Model: some-model"), "{page}");
        }
    }
}

#[test]
fn pages_keep_their_shape_whatever_a_model_wrote() {
    let evil = "a | b\n\n# c `d` <img src=x> ``` \"]\n```";
    let mut draft = prd();
    draft.requirements[0].statement = evil.into();
    draft.out_of_scope = vec![evil.into()];
    let brief = format!("{BRIEF}\n````\n# not a heading");
    let page = Prd::new(draft, &brief, envelope(false))
        .expect("good")
        .to_markdown();
    let row = page
        .lines()
        .find(|line| line.starts_with("| R-001"))
        .expect("the row");
    assert_eq!(row.replace("\\|", "").matches('|').count(), 7, "{row}");
    assert!(!page.contains("<img"));
    assert!(page.ends_with("# not a heading\n`````\n"), "{page}");

    let mut draft = plan();
    draft.tasks[0].title = evil.into();
    let plan = TaskPlan::new(draft, &prd(), Catalogue::built_in(), envelope(false));
    let page = plan.expect("good").to_markdown();
    let fences = page.lines().filter(|line| line.starts_with("```")).count();
    assert_eq!(fences, 2, "{page}");
    let label = page
        .lines()
        .find(|line| line.contains("T001["))
        .expect("the node");
    assert_eq!(label.matches('"').count(), 2, "{label}");
    assert!(page.contains("  T002 --> T001\n"), "{page}");
}
