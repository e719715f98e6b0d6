//! Asking a model, so that no answer is paid for twice and everyone sees who is at it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use chrono::Utc;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgConnection;
use velo_engine::{Again, Context, NodeError, NodeErrorKind, events};

use super::{Planning, Reply};
use crate::catalogue::{AgentSpec, Catalogue};
use crate::domain::activity::{self, ActivityStatus, NewActivity};
use crate::domain::project::{self, ProjectStatus};
use crate::domain::usage::{self, NewUsage};
use crate::domain::{ActivityId, ProjectEvent, StoreError};
use crate::model::{ChatModel, ChatRequest, ModelError, ModelErrorKind, Progress, Usage};

/// What a node that asks a model tells those who watch this process, as
/// [`Happening::Progress`](velo_engine::Happening::Progress).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "writing", rename_all = "snake_case")]
pub enum Writing {
    /// An agent asks a model.
    Asked {
        /// The agent's name.
        agent: String,
        /// What it is doing.
        action: String,
        /// The model.
        model: String,
    },
    /// A piece of the reply.
    Text {
        /// The piece.
        text: String,
    },
    /// All pieces so far are void.
    Restarted,
    /// The provider asked to wait.
    Waiting {
        /// For how long, in milliseconds.
        ms: u64,
    },
}

/// What an agent does in one step of the workflow.
pub(super) struct Errand<'a> {
    cx: &'a Context<Planning>,
    agent: &'static AgentSpec,
    action: &'static str,
    /// The same each time this step is taken again.
    activity: ActivityId,
    began: Instant,
    /// How often the provider has begun its reply anew.
    restarts: AtomicU32,
}

impl<'a> Errand<'a> {
    /// Agent `agent` begins to do `action`; `turn` tells several times of the same from each other.
    pub(super) fn new(
        cx: &'a Context<Planning>,
        agent: &str,
        action: &'static str,
        turn: usize,
    ) -> Self {
        let agent = Catalogue::built_in()
            .agent(agent)
            .expect("the workflow's agents are in the catalogue, as a test shows");
        let named = format!("{}/{}/{action}/{turn}", cx.run(), agent.id);
        Self {
            cx,
            agent,
            action,
            activity: ActivityId::named(cx.state().project.0, &named),
            began: Instant::now(),
            restarts: AtomicU32::new(0),
        }
    }

    /// Asks `model`, tells everyone, and keeps the reply: a later attempt reads it back.
    pub(super) async fn ask(
        &self,
        model: &dyn ChatModel,
        request: &ChatRequest,
    ) -> Result<Reply, NodeError> {
        self.announce(ActivityStatus::Started, None).await?;
        self.progress(&Writing::Asked {
            agent: self.agent.name.clone(),
            action: self.action.to_owned(),
            model: model.name(request.tier).to_owned(),
        });
        let mut spent_in_vain = Usage::default();
        let asked = self.cx.step("reply", |_| async {
            let mut watch = |seen: Progress<'_>| self.watch(seen);
            let completed = model.complete(request, &mut watch).await;
            let reply = completed.inspect_err(|error| spent_in_vain = error.usage())?;
            Ok::<_, ModelFailure>(Reply {
                reply,
                offline: model.is_offline(),
                at: Utc::now(),
            })
        });
        let reply = match asked.await {
            Ok(reply) => reply,
            Err(error) => {
                if spent_in_vain != Usage::default() {
                    let (name, offline) = (model.name(request.tier), model.is_offline());
                    let mut used = self.usage(request, name, offline, spent_in_vain);
                    // Told from other failed attempts, also those of other leases.
                    used.call_key += &format!("/{}/{}", self.cx.fence(), self.cx.attempt());
                    self.record(&used).await?;
                }
                self.announce(ActivityStatus::Failed, Some(&error)).await?;
                return Err(error);
            }
        };
        let used = self.usage(
            request,
            &reply.reply.model,
            reply.offline,
            reply.reply.usage,
        );
        self.record(&used).await?;
        Ok(reply)
    }

    /// Adds to the step's transaction that the errand is done.
    pub(super) async fn done(&self) -> Result<(), NodeError> {
        let mut tx = self.cx.tx().await?;
        self.tell(&mut tx, ActivityStatus::Completed, None).await?;
        Ok(())
    }

    /// Says at once how the errand stands, and in the project's status why it failed.
    async fn announce(
        &self,
        status: ActivityStatus,
        error: Option<&NodeError>,
    ) -> Result<(), NodeError> {
        let mut tx = self.cx.begin().await?;
        self.tell(&mut tx, status, error).await?;
        if let Some(error) = error {
            let told = format!(
                "{} could not finish “{}”: {error}",
                self.agent.name, self.action
            );
            status_of_project(&mut tx, self.cx, ProjectStatus::Planning, "planning", &told).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    async fn tell(
        &self,
        conn: &mut PgConnection,
        status: ActivityStatus,
        error: Option<&NodeError>,
    ) -> Result<(), StoreError> {
        let Planning {
            tenant, project, ..
        } = *self.cx.state();
        let has_ended = status != ActivityStatus::Started;
        let millis = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        let new = NewActivity {
            id: self.activity,
            project,
            task: None,
            agent_name: self.agent.name.clone(),
            agent_division: self.agent.division.name().to_owned(),
            action: self.action.to_owned(),
            // A failed attempt is followed by another: the log's last word comes at the end.
            status: if status == ActivityStatus::Failed {
                ActivityStatus::InProgress
            } else {
                status
            },
            error_message: error.map(ToString::to_string),
            run_id: Some(self.cx.run().as_i64()),
            duration_ms: has_ended.then_some(millis),
        };
        activity::record(conn, tenant, &new).await?;
        let event = ProjectEvent::AgentActivity {
            project_id: project,
            agent_name: self.agent.name.clone(),
            action: self.action.to_owned(),
            status,
        };
        append(conn, self.cx, &event).await
    }

    /// A row of the usage log. Written at once and not with the step: the call is paid for, whatever
    /// becomes of the step.
    async fn record(&self, used: &NewUsage) -> Result<(), NodeError> {
        let mut tx = self.cx.begin().await?;
        usage::record(&mut tx, self.cx.state().tenant, used).await?;
        tx.commit().await?;
        Ok(())
    }

    fn usage(&self, request: &ChatRequest, model: &str, offline: bool, used: Usage) -> NewUsage {
        let state = self.cx.state();
        let tokens = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        NewUsage {
            call_key: format!("{}/{}", self.cx.run(), self.activity),
            project: Some(state.project),
            user: Some(state.user),
            agent_name: self.agent.name.clone(),
            action_type: request.purpose.clone(),
            input_tokens: tokens(used.input_tokens),
            output_tokens: tokens(used.output_tokens),
            cost_usd: used.cost_usd,
            model: model.to_owned(),
            offline,
            run_id: Some(self.cx.run().as_i64()),
        }
    }

    fn watch(&self, seen: Progress<'_>) {
        match seen {
            Progress::Text(text) => {
                let restarts = self.restarts.load(Ordering::Relaxed);
                self.cx.say(&format!("reply {}", restarts + 1), text);
                self.progress(&Writing::Text {
                    text: text.to_owned(),
                });
            }
            Progress::Restarted => {
                self.restarts.fetch_add(1, Ordering::Relaxed);
                self.progress(&Writing::Restarted);
            }
            Progress::Waiting(wait) => self.progress(&Writing::Waiting {
                ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            }),
        }
    }

    fn progress(&self, writing: &Writing) {
        self.cx.progress(json!(writing));
    }
}

/// Brings the project to `status`, and tells those who watch it in the words of the documented
/// message, whose status has more values than the row's.
pub(super) async fn status_of_project(
    conn: &mut PgConnection,
    cx: &Context<Planning>,
    status: ProjectStatus,
    told_status: &str,
    message: &str,
) -> Result<(), StoreError> {
    let Planning {
        tenant, project, ..
    } = *cx.state();
    project::move_to(conn, tenant, project, status, Some(message)).await?;
    let event = ProjectEvent::ProjectStatus {
        project_id: project,
        status: told_status.to_owned(),
        message: message.to_owned(),
    };
    append(conn, cx, &event).await
}

/// Appends an event to the project's stream.
pub(super) async fn append(
    conn: &mut PgConnection,
    cx: &Context<Planning>,
    event: &ProjectEvent,
) -> Result<(), StoreError> {
    let stream = ProjectEvent::stream(cx.state().project);
    events::append_for(conn, &stream, event.kind(), &event.body(), Some(cx.run()))
        .await
        .map(|_| ())
        .map_err(|source| StoreError::new("tell the project's watchers", source))
}

/// A model's error in the engine's words.
struct ModelFailure(ModelError);

impl From<ModelError> for ModelFailure {
    fn from(error: ModelError) -> Self {
        Self(error)
    }
}

impl From<ModelFailure> for NodeError {
    fn from(ModelFailure(error): ModelFailure) -> Self {
        let kind = error.kind.clone();
        let failed: Result<(), Self> = Err(Self::of(NodeErrorKind::Transient, &error));
        let failed = match kind {
            ModelErrorKind::RateLimited {
                retry_after: Some(wait),
            } => failed.retry_after(wait),
            kind if kind.is_transient() => failed,
            _ => failed.permanent(),
        };
        failed.expect_err("made of an error")
    }
}
