//! The nodes of planning, but for the last.

use std::sync::Arc;

use async_trait::async_trait;
use velo_engine::{
    Again, Context, Next, Node, NodeError, NodeErrorKind, NodeResult, Overwrite, UpdateRoute,
};

use super::ask::{Errand, status_of_project};
use super::{BREAK_DOWN, CHECK_PLAN, DRAFT_PRD, Planning, Reply, STORE};
use crate::agency::NewBrief;
use crate::catalogue::Catalogue;
use crate::document::{PrdDraft, TaskPlanDraft};
use crate::domain::project::ProjectStatus;
use crate::model::ChatModel;
use crate::model::structured::{Progress, Structured};
use crate::prompt;

const WRITING_PRD: &str = "Writing the PRD";
const MENDING_PRD: &str = "Mending the PRD";
const PLANNING_TASKS: &str = "Breaking the PRD down into tasks";
const MENDING_PLAN: &str = "Mending the task plan";

/// Looks at the brief once more, since runs are started by others too, and says that planning has begun.
pub(super) async fn intake(cx: Context<Planning>) -> NodeResult<Planning> {
    NewBrief::new(cx.state().brief.as_str())
        .checked_name()
        .permanent()?;
    let mut tx = cx.tx().await?;
    let message = "Oracle is about to write the PRD";
    status_of_project(&mut tx, &cx, ProjectStatus::Planning, "planning", message).await?;
    drop(tx);
    Ok(Next::none())
}

/// Oracle asks for the PRD, or for a better one.
pub(super) struct DraftPrd {
    pub(super) model: Arc<dyn ChatModel>,
}

#[async_trait]
impl Node<Planning> for DraftPrd {
    async fn run(&self, cx: Context<Planning>) -> NodeResult<Planning> {
        let mut asked = prd_request(cx.state());
        let last = replay(&mut asked, &cx.state().prd_replies);
        if !matches!(last, None | Some(Progress::Ask)) {
            return Ok(Next::none());
        }
        let turn = cx.state().prd_replies.len();
        let action = if turn == 0 { WRITING_PRD } else { MENDING_PRD };
        let errand = Errand::new(&cx, "oracle", action, turn);
        let reply = errand.ask(self.model.as_ref(), asked.request()).await?;
        errand.done().await?;
        Ok(Planning::update().prd_replies(vec![reply]).into())
    }
}

/// Holds the PRD against its rules: ids, acceptance, quotes of the brief.
pub(super) async fn check_prd(cx: Context<Planning>) -> NodeResult<Planning> {
    let mut asked = prd_request(cx.state());
    match replay(&mut asked, &cx.state().prd_replies) {
        Some(Progress::Done(prd)) => Ok(Planning::update().prd(Some(prd)).goto(BREAK_DOWN)),
        Some(Progress::Failed(error)) if !cx.is_resumed() => {
            Err(NodeError::of(NodeErrorKind::Permanent, &error))
        }
        Some(Progress::Failed(_)) => {
            let afresh = Planning::update().prd_replies(Overwrite(Vec::new()));
            Ok(afresh.goto(DRAFT_PRD))
        }
        Some(Progress::Ask) | None => Ok(Next::goto(DRAFT_PRD)),
    }
}

/// Neuron asks for the plan, or for a better one.
pub(super) struct BreakDown {
    pub(super) model: Arc<dyn ChatModel>,
}

#[async_trait]
impl Node<Planning> for BreakDown {
    async fn run(&self, cx: Context<Planning>) -> NodeResult<Planning> {
        let mut asked = plan_request(cx.state())?;
        let last = replay(&mut asked, &cx.state().plan_replies);
        if !matches!(last, None | Some(Progress::Ask)) {
            return Ok(Next::none());
        }
        let turn = cx.state().plan_replies.len();
        let action = if turn == 0 {
            PLANNING_TASKS
        } else {
            MENDING_PLAN
        };
        let errand = Errand::new(&cx, "neuron", action, turn);
        let reply = errand.ask(self.model.as_ref(), asked.request()).await?;
        errand.done().await?;
        Ok(Planning::update().plan_replies(vec![reply]).into())
    }
}

/// Holds the plan against its rules: no circles, every requirement served, known agents.
pub(super) async fn check_plan(cx: Context<Planning>) -> NodeResult<Planning> {
    let mut asked = plan_request(cx.state())?;
    match replay(&mut asked, &cx.state().plan_replies) {
        Some(Progress::Done(plan)) => Ok(Planning::update().plan(Some(plan)).goto(STORE)),
        Some(Progress::Failed(error)) if !cx.is_resumed() => {
            Err(NodeError::of(NodeErrorKind::Permanent, &error))
        }
        Some(Progress::Failed(_)) => {
            let afresh = Planning::update().plan_replies(Overwrite(Vec::new()));
            Ok(afresh.goto(BREAK_DOWN))
        }
        Some(Progress::Ask) | None => Ok(Next::goto(BREAK_DOWN)),
    }
}

fn prd_request(state: &Planning) -> Structured<PrdDraft> {
    let brief = state.brief.clone();
    let request = prompt::draft_prd(&brief, &[]).request;
    Structured::new(request, move |prd: &PrdDraft| prd.check(&brief))
        .with_repair(prompt::oracle_repair())
}

fn plan_request(state: &Planning) -> Result<Structured<TaskPlanDraft>, NodeError> {
    let prd = state.prd.clone().ok_or_else(|| {
        NodeError::permanent(format!(
            "node {} was reached without a PRD",
            CHECK_PLAN.name()
        ))
    })?;
    let request = prompt::break_down(&prd, Catalogue::built_in(), &[]).request;
    let asked = Structured::new(request, move |plan: &TaskPlanDraft| plan.check(&prd));
    Ok(asked.with_repair(prompt::neuron_repair()))
}

/// Shows the replies so far: the same ones always lead to the same next request. `None` when there
/// are none yet.
fn replay<T: serde::de::DeserializeOwned + schemars::JsonSchema>(
    asked: &mut Structured<T>,
    replies: &[Reply],
) -> Option<Progress<T>> {
    let mut last = None;
    for reply in replies {
        last = Some(asked.take(&reply.reply));
    }
    last
}
