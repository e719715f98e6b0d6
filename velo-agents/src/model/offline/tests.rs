use std::collections::HashSet;

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use velo_engine::RunId;

use super::*;
use crate::catalogue::Catalogue;
use crate::document::{Envelope, Prd, ProducedBy, ProjectType, TaskPlan, TaskPlanDraft};
use crate::domain::ProjectId;
use crate::model::structured::{self, Structured};
use crate::prompt::{self, Prompted};

const HABITS: &str = "A habit tracker with streaks and reminders";

async fn answer(request: &ChatRequest) -> ChatReply {
    OfflineModel
        .complete(request, &mut |_| {})
        .await
        .expect("the offline model answers")
}

fn envelope(agent: &str, reply: &ChatReply, asked: &Prompted) -> Envelope {
    Envelope {
        project_id: ProjectId::named(uuid::Uuid::nil(), "p"),
        run_id: RunId::from_i64(1),
        produced_by: ProducedBy::new(agent, &reply.model, true, asked.prompt),
        created_at: DateTime::<Utc>::UNIX_EPOCH,
    }
}

/// From a brief to its plan, on the way that a workflow takes; every reply is right at once.
fn planned(brief: &str, remarks: &[String]) -> (Prd, TaskPlan) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(async {
        let asked = prompt::draft_prd(brief, remarks);
        let checked = brief.to_owned();
        let mut draft = Structured::new(asked.request.clone(), move |draft: &PrdDraft| {
            draft.check(&checked)
        });
        let reply = answer(draft.request()).await;
        let draft = done(draft.take(&reply), brief);
        let prd = Prd::new(draft, brief, envelope("oracle", &reply, &asked));
        let prd = prd.expect("checked already");

        let asked = prompt::break_down(&prd.draft, Catalogue::built_in(), &[]);
        let checked = prd.draft.clone();
        let mut draft = Structured::new(asked.request.clone(), move |draft: &TaskPlanDraft| {
            draft.check(&checked)
        });
        let reply = answer(draft.request()).await;
        let draft = done(draft.take(&reply), brief);
        let envelope = envelope("neuron", &reply, &asked);
        let plan = TaskPlan::new(draft, &prd.draft, Catalogue::built_in(), envelope);
        (prd, plan.expect("checked already"))
    })
}

fn done<T: std::fmt::Debug>(progress: structured::Progress<T>, brief: &str) -> T {
    match progress {
        structured::Progress::Done(draft) => draft,
        other => panic!("{brief:?} led to {other:?}"),
    }
}

#[test]
fn dump() {
    let briefs = std::fs::read_to_string("/tmp/agency-briefs.txt").expect("briefs");
    for (at, brief) in briefs.split("\n====\n").enumerate() {
        let (prd, plan) = planned(brief, &[]);
        std::fs::write(format!("/tmp/agency-out-{at}-prd.md"), prd.to_markdown()).expect("w");
        std::fs::write(format!("/tmp/agency-out-{at}-plan.md"), plan.to_markdown()).expect("w");
    }
}
