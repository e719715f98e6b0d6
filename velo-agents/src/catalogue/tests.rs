use std::collections::HashSet;

use super::*;

const SIZES: [(Division, usize); 9] = [
    (Division::Engineering, 7),
    (Division::Design, 6),
    (Division::Marketing, 8),
    (Division::Product, 3),
    (Division::ProjectManagement, 5),
    (Division::Testing, 7),
    (Division::Support, 6),
    (Division::SpatialComputing, 6),
    (Division::Specialized, 3),
];

const NAMES: [&str; 51] = [
    "Neuron",
    "Pixel",
    "Atlas",
    "Nova",
    "Blitz",
    "Sage",
    "Forge",
    "Aurora",
    "Canvas",
    "Echo",
    "Compass",
    "Spark",
    "Ember",
    "Phoenix",
    "Quill",
    "Chirp",
    "Pulse",
    "Nexus",
    "Prism",
    "Rocket",
    "Rhythm",
    "Horizon",
    "Synthesis",
    "Sprint",
    "Oracle",
    "Maestro",
    "Shepherd",
    "Clockwork",
    "Prism Lab",
    "Sherlock",
    "Verdict",
    "Flow",
    "Postman",
    "Benchmark",
    "Forge Tester",
    "Gatekeeper",
    "Beacon",
    "Shield",
    "Ledger",
    "Insight",
    "Summit",
    "Sentinel",
    "Vision",
    "Immerse",
    "Gesture",
    "Hologram",
    "Titanium",
    "Terminal",
    "Conductor",
    "Prism Analytics",
    "Index",
];

fn staff() -> &'static Catalogue {
    Catalogue::built_in()
}

#[test]
fn fifty_one_agents_work_in_nine_divisions_in_the_agreed_order() {
    let names: Vec<_> = staff()
        .agents()
        .iter()
        .map(|agent| agent.name.as_str())
        .collect();
    assert_eq!(names, NAMES);
    assert_eq!(
        SIZES.map(|(division, _)| (division, staff().division(division).count())),
        SIZES
    );
}

#[test]
fn ids_are_unique_and_well_formed() {
    let mut seen = HashSet::new();
    for agent in staff().agents() {
        let id = agent.id.as_str();
        assert!(seen.insert(id), "{id} twice");
        assert!(
            id.chars().all(|c| c.is_ascii_lowercase() || c == '_'),
            "{id}"
        );
        assert_eq!(id, agent.name.to_lowercase().replace(' ', "_"));
    }
}

#[test]
fn every_colleague_exists_and_nobody_reviews_their_own_work() {
    for agent in staff().agents() {
        assert!(
            !agent.handoff_to.is_empty() && !agent.reviewers.is_empty(),
            "{}",
            agent.id
        );
        for other in agent.handoff_to.iter().chain(&agent.reviewers) {
            assert!(
                staff().agent(other.as_str()).is_some(),
                "{} names {other}",
                agent.id
            );
            assert_ne!(other, &agent.id, "{} names itself", agent.id);
        }
    }
}

#[test]
fn each_division_has_one_lead_of_its_own() {
    for division in Division::ALL {
        assert_eq!(staff().lead(division).division, division);
    }
    assert_eq!(staff().lead(Division::Testing).id.as_str(), "verdict");
    assert_eq!(
        staff().lead(Division::ProjectManagement).id.as_str(),
        "oracle"
    );
}

#[test]
fn a_catalogue_with_a_foreign_lead_or_a_missing_division_is_refused() {
    let foreign = BUILT_IN.replacen("lead = \"neuron\"", "lead = \"aurora\"", 1);
    assert!(matches!(
        Catalogue::parse(&foreign),
        Err(CatalogueError::Lead { .. })
    ));
    let cut = &BUILT_IN[..BUILT_IN.find("[[division]]\nid = \"specialized\"").unwrap()];
    assert!(matches!(
        Catalogue::parse(cut),
        Err(CatalogueError::Division(Division::Specialized))
    ));
}

#[test]
fn every_agent_has_exactly_the_tools_that_its_work_needs() {
    use Tool::*;
    for agent in staff().agents() {
        let mut granted = HashSet::from([ArtifactRead, ArtifactWrite, MemorySearch]);
        if matches!(
            agent.division,
            Division::Engineering | Division::Testing | Division::SpatialComputing
        ) {
            granted.extend([WorkspaceRead, WorkspaceWrite, WorkspaceRun]);
        }
        if agent.division == Division::Testing {
            granted.insert(TestRun);
        }
        match agent.id.as_str() {
            "forge" | "sentinel" => granted.extend([InfraRender]),
            "conductor" => granted.extend([TaskAssign, RunSignal]),
            "ledger" | "prism_lab" | "insight" | "prism_analytics" => granted.extend([UsageRead]),
            _ => {}
        }
        let tools: HashSet<_> = agent.tools.iter().copied().collect();
        assert_eq!(tools, granted, "{}", agent.id);
        assert_eq!(
            tools.len(),
            agent.tools.len(),
            "{} has a tool twice",
            agent.id
        );
    }
}

#[test]
fn every_agent_can_say_what_it_does() {
    for agent in staff().agents() {
        assert!(
            !agent.role.is_empty() && agent.description.len() > 60,
            "{}",
            agent.id
        );
        assert!(agent.skills.len() >= 4, "{}", agent.id);
        assert!(
            agent
                .skills
                .iter()
                .all(|s| s.weight > 0.0 && s.weight <= 1.0),
            "{}",
            agent.id
        );
        assert!(
            !agent.consumes.is_empty() && !agent.produces.is_empty(),
            "{}",
            agent.id
        );
        assert!((0.0..=1.0).contains(&agent.temperature), "{}", agent.id);
    }
}

#[test]
fn every_kind_of_task_has_someone_at_home_in_it() {
    for kind in TaskKind::ALL {
        assert!(
            staff()
                .agents()
                .iter()
                .any(|agent| agent.kinds.contains(&kind)),
            "{kind}"
        );
    }
}

#[test]
fn an_agent_that_knows_nothing_of_a_task_is_not_chosen_because_it_was_suggested() {
    let chirp = AgentId::new("chirp");
    let found = staff().best_agent(&["sql", "indexing"], TaskKind::Schema, Some(&chirp));
    assert_eq!(found.agent.as_str(), "sage");
    assert!(!found.by_default && found.score > 0.7, "{found:?}");
}

#[test]
fn a_suggestion_settles_a_close_race() {
    let skills = ["user-flows", "states"];
    let found = |suggested| {
        staff()
            .best_agent(&skills, TaskKind::Design, suggested)
            .agent
    };
    let compass = AgentId::new("compass");
    assert_eq!(
        found(None).as_str(),
        "echo",
        "first of equals in catalogue order"
    );
    assert_eq!(found(Some(&compass)), compass);
}

#[test]
fn work_that_suits_nobody_goes_to_the_lead_of_the_division() {
    let found = staff().best_agent(&["basket-weaving"], TaskKind::Schema, None);
    assert!(found.by_default);
    assert_eq!(found.agent.as_str(), "neuron");
    assert!(found.score < 0.35);
}

#[test]
fn the_score_is_the_sum_of_its_parts() {
    let sage = AgentId::new("sage");
    let found = staff().best_agent(&["sql"], TaskKind::Schema, Some(&sage));
    let parts = found.parts;
    assert_eq!(
        found.score,
        parts.skills + parts.kind + parts.division + parts.suggested
    );
    assert!((found.score - 0.9).abs() < 1e-9);
}
