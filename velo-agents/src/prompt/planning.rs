//! The requests of planning: a brief to a PRD, a PRD to a task plan.

use std::fmt::Write as _;

use crate::catalogue::Catalogue;
use crate::document::{PrdDraft, TaskPlanDraft};
use crate::model::{ChatRequest, Role, Tier, Turn, schema};

use super::{Prompt, block, neuron_break_down, oracle_draft_prd};

/// Most bytes of a brief that are shown to a model. The rest is cut off, and the prompt says so.
pub const MAX_BRIEF_BYTES: usize = 128 * 1024;
/// Most remarks that are passed on; older ones are left out.
const MAX_REMARKS: usize = 20;
/// Most bytes of one remark that are passed on.
const MAX_REMARK_BYTES: usize = 8 * 1024;
/// Room for a PRD, thinking included.
const PRD_TOKENS: u32 = 24_576;
/// Room for a plan of the most tasks allowed, thinking included.
const PLAN_TOKENS: u32 = 32_768;

/// A request, and the prompt that it was made with.
#[derive(Debug, Clone)]
pub struct Prompted {
    /// What is to be sent.
    pub request: ChatRequest,
    /// The prompt whose [`sha256`](Prompt::sha256) is to be recorded.
    pub prompt: &'static Prompt,
}

/// Has Oracle write a PRD of `brief`. `remarks` are what a person or a reviewer said about an
/// earlier draft and the answers to its questions, oldest first.
#[must_use]
pub fn draft_prd(brief: &str, remarks: &[String]) -> Prompted {
    prompted(
        oracle_draft_prd(),
        "oracle",
        &[
            ("brief", &marked("brief", brief, MAX_BRIEF_BYTES)),
            ("remarks", &block::wrap("remarks", &listed(remarks))),
        ],
        schema::root::<PrdDraft>(),
        PRD_TOKENS,
    )
}

/// Has Neuron break a PRD down into tasks for the agents of `staff`. `remarks` as for
/// [`draft_prd`].
#[must_use]
pub fn break_down(prd: &PrdDraft, staff: &Catalogue, remarks: &[String]) -> Prompted {
    let prd = serde_json::to_string_pretty(prd).expect("a PRD is made of texts and lists");
    prompted(
        neuron_break_down(),
        "neuron",
        &[
            ("prd", &block::wrap("prd", &prd)),
            ("staff", &roster(staff)),
            ("remarks", &block::wrap("remarks", &listed(remarks))),
        ],
        schema::root::<TaskPlanDraft>(),
        PLAN_TOKENS,
    )
}

fn prompted(
    prompt: &'static Prompt,
    agent: &str,
    values: &[(&str, &str)],
    schema: serde_json::Value,
    max_output_tokens: u32,
) -> Prompted {
    const FILLED: &str =
        "the prompts and their values are a part of the program, and a test fills in each";
    let spec = Catalogue::built_in().agent(agent);
    let request = ChatRequest {
        agent: agent.to_owned(),
        purpose: prompt.purpose().unwrap_or_default().to_owned(),
        tier: spec.map_or(Tier::Pro, |spec| spec.tier),
        system: prompt.system(&[]).expect(FILLED).unwrap_or_default(),
        turns: vec![Turn {
            role: Role::User,
            text: prompt.user(values).expect(FILLED),
        }],
        schema: Some(schema),
        temperature: spec.map(|spec| spec.temperature),
        max_output_tokens,
    };
    Prompted { request, prompt }
}

fn roster(staff: &Catalogue) -> String {
    let mut roster = String::new();
    for agent in staff.agents() {
        let skills: Vec<&str> = agent.skills.iter().map(|skill| skill.id.as_str()).collect();
        let kinds: Vec<&str> = agent.kinds.iter().map(|kind| kind.name()).collect();
        let _ = writeln!(
            roster,
            "- {} ({}): kinds {}; skills {}; writes {}",
            agent.id,
            agent.role,
            kinds.join(", "),
            skills.join(", "),
            agent.produces.join(", ")
        );
    }
    roster.trim_end().to_owned()
}

fn listed(remarks: &[String]) -> String {
    let from = remarks.len().saturating_sub(MAX_REMARKS);
    let lines: Vec<String> = remarks[from..]
        .iter()
        .map(|remark| {
            let end = remark.floor_char_boundary(MAX_REMARK_BYTES);
            format!("- {}", remark[..end].trim())
        })
        .collect();
    lines.join("\n")
}

/// The note stands outside the block: it is not what the person wrote.
fn marked(name: &str, text: &str, most: usize) -> String {
    let end = text.floor_char_boundary(most);
    let note = if end < text.len() {
        "\n(It is longer than this; the rest is not shown.)"
    } else {
        ""
    };
    block::wrap(name, &text[..end]) + note
}
