//! The last node of planning: tasks, documents and the project's status, all in one transaction.

use async_trait::async_trait;
use sqlx::PgConnection;
use velo_engine::{Again, Context, Node, NodeError, NodeResult};

use super::ask::{append, status_of_project};
use super::{Planning, Reply, Stored};
use crate::blob::{Blob, BlobError, Blobs};
use crate::catalogue::{AgentSpec, Catalogue};
use crate::document::{Envelope, Prd, ProducedBy, TaskPlan};
use crate::domain::artifact::{self, NewVersion, Provenance};
use crate::domain::project::ProjectStatus;
use crate::domain::{ProjectEvent, StoreError, task};
use crate::prompt::{self, Prompt};

const JSON: &str = "application/json";
const MARKDOWN: &str = "text/markdown; charset=utf-8";

pub(super) struct Store {
    pub(super) blobs: Blobs,
}

#[async_trait]
impl Node<Planning> for Store {
    async fn run(&self, cx: Context<Planning>) -> NodeResult<Planning> {
        let (prd, plan) = documents(&cx)?;
        let files = [
            File::json("prd.json", "prd", &prd, &prd.envelope)?,
            File::markdown("prd.md", "prd", prd.to_markdown(), &prd.envelope),
            File::json("task-plan.json", "task_plan", &plan, &plan.envelope)?,
            File::markdown(
                "task-plan.md",
                "task_plan",
                plan.to_markdown(),
                &plan.envelope,
            ),
        ];
        // Contents before the rows that name them; a content that no row names does no harm.
        let mut versions = Vec::new();
        for file in files {
            let blob = self.put(&cx, file.content.clone()).await?;
            versions.push(file.version(&cx, blob));
        }
        let mut tx = cx.tx().await?;
        let tasks = add_tasks(&mut tx, &cx, &plan).await?;
        for version in &versions {
            artifact::save(&mut tx, cx.state().tenant, version).await?;
        }
        let stored = Stored {
            tasks: u32::try_from(tasks).unwrap_or(u32::MAX),
            artifacts: u32::try_from(versions.len()).unwrap_or(u32::MAX),
        };
        let message = format!("Planning phase completed with {tasks} tasks");
        status_of_project(&mut tx, &cx, ProjectStatus::InProgress, "ready", &message).await?;
        drop(tx);
        Ok(Planning::update().stored(Some(stored)).into())
    }
}

impl Store {
    async fn put(&self, cx: &Context<Planning>, content: Vec<u8>) -> Result<Blob, NodeError> {
        let put = self.blobs.put(cx.state().tenant, content).await;
        match put.as_ref().map_err(BlobError::is_transient) {
            Err(false) => put.permanent(),
            _ => Ok(put?),
        }
    }
}

/// Both documents, made of what the state holds alone: the same each time.
fn documents(cx: &Context<Planning>) -> Result<(Prd, TaskPlan), NodeError> {
    let state = cx.state();
    let missing =
        |what: &str| NodeError::permanent(format!("the run came to its end without a {what}"));
    let prd = state.prd.clone().ok_or_else(|| missing("PRD"))?;
    let plan = state.plan.clone().ok_or_else(|| missing("plan"))?;
    let prd_reply = state
        .prd_replies
        .last()
        .ok_or_else(|| missing("PRD's reply"))?;
    let plan_reply = state
        .plan_replies
        .last()
        .ok_or_else(|| missing("plan's reply"))?;

    let envelope = envelope(cx, "oracle", prompt::oracle_draft_prd(), prd_reply);
    let prd = Prd::new(prd, &state.brief, envelope).permanent()?;
    let envelope = self::envelope(cx, "neuron", prompt::neuron_break_down(), plan_reply);
    let plan = TaskPlan::new(plan, &prd.draft, Catalogue::built_in(), envelope).permanent()?;
    Ok((prd, plan))
}

fn envelope(cx: &Context<Planning>, agent: &str, prompt: &Prompt, reply: &Reply) -> Envelope {
    Envelope {
        project_id: cx.state().project,
        run_id: cx.run(),
        produced_by: ProducedBy::new(agent, reply.reply.model.as_str(), reply.offline, prompt),
        created_at: reply.at,
    }
}

async fn add_tasks(
    conn: &mut PgConnection,
    cx: &Context<Planning>,
    plan: &TaskPlan,
) -> Result<usize, StoreError> {
    let Planning {
        tenant, project, ..
    } = *cx.state();
    let tasks = task::add_all(conn, tenant, project, &plan.new_tasks(project)).await?;
    for task in &tasks {
        let event = ProjectEvent::TaskCreated {
            project_id: project,
            task_id: task.id,
            title: task.title.clone(),
            assigned_agent: task.assigned_agent.clone(),
        };
        append(conn, cx, &event).await?;
    }
    Ok(tasks.len())
}

/// A document as it is kept.
struct File {
    name: &'static str,
    kind: &'static str,
    media_type: &'static str,
    content: Vec<u8>,
    agent: &'static AgentSpec,
    provenance: Provenance,
}

impl File {
    fn json(
        name: &'static str,
        kind: &'static str,
        document: &impl serde::Serialize,
        envelope: &Envelope,
    ) -> Result<Self, NodeError> {
        let mut content = serde_json::to_vec_pretty(document).permanent()?;
        content.push(b'\n');
        Ok(Self::new(name, kind, JSON, content, envelope))
    }

    fn markdown(name: &'static str, kind: &'static str, text: String, envelope: &Envelope) -> Self {
        Self::new(name, kind, MARKDOWN, text.into_bytes(), envelope)
    }

    fn new(
        name: &'static str,
        kind: &'static str,
        media_type: &'static str,
        content: Vec<u8>,
        envelope: &Envelope,
    ) -> Self {
        let by = &envelope.produced_by;
        Self {
            name,
            kind,
            media_type,
            content,
            agent: Catalogue::built_in()
                .agent(by.agent.as_str())
                .expect("the workflow's agents are in the catalogue, as a test shows"),
            provenance: Provenance {
                model: by.model.clone(),
                offline: by.offline,
                prompt_sha256: by.prompt_hash.clone(),
                run_id: Some(envelope.run_id.to_string()),
            },
        }
    }

    fn version(self, cx: &Context<Planning>, blob: Blob) -> NewVersion {
        NewVersion {
            project: cx.state().project,
            task: None,
            agent_name: self.agent.name.clone(),
            agent_division: self.agent.division.name().to_owned(),
            file_name: self.name.to_owned(),
            file_type: self.kind.to_owned(),
            media_type: self.media_type.to_owned(),
            blob,
            created_by: None,
            produced_by: Some(self.provenance),
        }
    }
}
