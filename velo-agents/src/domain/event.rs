//! What a project tells those who watch it: the messages of the WebSocket, as events of the
//! project's stream.

use serde::Serialize;
use serde_json::Value;

use super::activity::ActivityStatus;
use super::project::ProjectStatus;
use super::{ProjectId, TaskId};

/// One message to those who watch a project. Append it to the engine's events in the transaction
/// that makes it true; the API adds the sequence number and the time.
///
/// ```
/// use velo_agents::domain::{ProjectEvent, ProjectId, project::ProjectStatus};
///
/// let project_id = ProjectId::new();
/// let event = ProjectEvent::ProjectCreated {
///     project_id,
///     project_name: "My Project".to_owned(),
///     status: ProjectStatus::Planning,
/// };
/// assert_eq!(event.kind(), "project_created");
/// assert_eq!(event.body()["project_name"], "My Project");
/// assert_eq!(ProjectEvent::stream(project_id), format!("project/{project_id}"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ProjectEvent {
    /// An agent began, goes on with, or ended something.
    AgentActivity {
        /// The project.
        project_id: ProjectId,
        /// The agent, such as `Oracle`.
        agent_name: String,
        /// What it does, such as `Generating PRD`.
        action: String,
        /// How far it is.
        status: ActivityStatus,
    },
    /// A task was planned.
    TaskCreated {
        /// The project.
        project_id: ProjectId,
        /// The task.
        task_id: TaskId,
        /// What is to be done, in one line.
        title: String,
        /// The agent that is to do it, once there is one.
        assigned_agent: Option<String>,
    },
    /// A project was made; always the first of its stream.
    ProjectCreated {
        /// The project.
        project_id: ProjectId,
        /// Its name.
        project_name: String,
        /// How far it is: `planning`.
        status: ProjectStatus,
    },
    /// A project's status changed.
    ProjectStatus {
        /// The project.
        project_id: ProjectId,
        /// How far it is, in the words of those who watch: `ready` when planning is done, else
        /// the name of a [`ProjectStatus`](super::project::ProjectStatus).
        status: String,
        /// One sentence about it.
        message: String,
    },
}

impl ProjectEvent {
    /// The name of the stream that a project's events are in.
    #[must_use]
    pub fn stream(project: ProjectId) -> String {
        format!("project/{project}")
    }

    /// The event's kind, which is the message's `type`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::AgentActivity { .. } => "agent_activity",
            Self::TaskCreated { .. } => "task_created",
            Self::ProjectCreated { .. } => "project_created",
            Self::ProjectStatus { .. } => "project_status",
        }
    }

    /// The event's body: the message's other fields.
    #[must_use]
    pub fn body(&self) -> Value {
        serde_json::to_value(self).expect("ids, names and texts are always JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_those_of_the_documented_messages() {
        let project_id = ProjectId::new();
        let fields = |event: &ProjectEvent| {
            let body = event.body();
            body.as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<Vec<_>>()
        };
        let activity = ProjectEvent::AgentActivity {
            project_id,
            agent_name: "Oracle".to_owned(),
            action: "Generating PRD".to_owned(),
            status: ActivityStatus::InProgress,
        };
        assert_eq!(
            fields(&activity),
            ["project_id", "agent_name", "action", "status"]
        );
        assert_eq!(activity.body()["status"], "in_progress");
        let task = ProjectEvent::TaskCreated {
            project_id,
            task_id: TaskId::new(),
            title: "Implement authentication".to_owned(),
            assigned_agent: Some("Neuron".to_owned()),
        };
        assert_eq!(
            fields(&task),
            ["project_id", "task_id", "title", "assigned_agent"]
        );
        let status = ProjectEvent::ProjectStatus {
            project_id,
            status: "ready".to_owned(),
            message: "Planning phase completed with 15 tasks".to_owned(),
        };
        assert_eq!(fields(&status), ["project_id", "status", "message"]);
    }
}
