//! A database, a fake Gemini and a folder of their own for each start, and what is to be found there
//! at the end.

use std::sync::Arc;

use serde_json::Value;
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::process::Command;
use velo_agents::fake_gemini::{DEFAULT_KEY, FakeGemini, FromModel};
use velo_agents::model::offline::OfflineModel;
use velo_engine::test_kit;

const BRIEF: &str = "A habit tracker with streaks and reminders";

pub(crate) struct House {
    pub(crate) fake: FakeGemini,
    folder: TempDir,
    url: String,
    pub(crate) pool: PgPool,
}

/// All that a run leaves, without what differs from run to run.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcomes {
    state: Value,
    project: (String, Option<String>),
    tasks: Vec<Value>,
    artifacts: Vec<(String, i32, i64)>,
    versions: i64,
    usage: Vec<(String, i64, i64)>,
    activities: Vec<(String, String, String)>,
    told: Vec<(String, i64)>,
    steps: Vec<i32>,
    queued: i64,
}

impl House {
    pub(crate) async fn new() -> Self {
        let fake = FakeGemini::builder()
            .fallback(FromModel(Arc::new(OfflineModel)))
            .start()
            .await
            .unwrap();
        let url = test_kit::database_url().await;
        let pool = PgPool::connect(&url).await.unwrap();
        Self {
            fake,
            folder: tempfile::tempdir().unwrap(),
            url,
            pool,
        }
    }

    /// The same command each time: it goes on where it was.
    pub(crate) fn velo(&self) -> Command {
        self.command(&["run", BRIEF, "--json"])
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut velo = Command::new(env!("CARGO_BIN_EXE_velo"));
        velo.args(args)
            .env("DATABASE_URL", &self.url)
            .env("GEMINI_BASE_URL", self.fake.base_url())
            .env("GEMINI_API_KEY", DEFAULT_KEY)
            .env_remove("VELO_FAILPOINT")
            .current_dir(self.folder.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true);
        velo
    }

    pub(crate) async fn outcomes(&self) -> Outcomes {
        Outcomes {
            state: self.state().await,
            project: self.one("select status, status_message from velo.projects").await,
            tasks: sqlx::query_scalar(
                "select to_jsonb(t) - 'id' - 'project_id' - 'created_at' - 'updated_at' from velo.tasks t order by position",
            )
            .fetch_all(&self.pool)
            .await
            .unwrap(),
            artifacts: self.all("select file_name, version, bytes from velo.artifacts order by 1").await,
            versions: self.count("select count(*) from velo.artifact_versions").await,
            usage: self
                .all("select action_type, input_tokens, output_tokens from velo.usage_logs order by 1")
                .await,
            activities: self
                .all("select agent_name, action, status from velo.agent_activities order by \"timestamp\"")
                .await,
            // An agent that begins again says so again; everything else is told once.
            told: self
                .all(
                    "select kind || coalesce(' ' || (body ->> 'status'), ''), count(*) from velo.event \
                     where coalesce(body ->> 'status', '') <> 'started' group by 1 order by 1",
                )
                .await,
            steps: sqlx::query_scalar("select seq from velo.step order by 1")
                .fetch_all(&self.pool)
                .await
                .unwrap(),
            queued: self.count("select count(*) from velo.queue").await,
        }
    }

    /// The newest state: what the model answered, the PRD, the plan.
    async fn state(&self) -> Value {
        let engine = velo_engine::Engine::connect(self.pool.clone());
        let run: velo_engine::RunId = sqlx::query_scalar("select id from velo.run")
            .fetch_one(&self.pool)
            .await
            .unwrap();
        let state: velo_agents::planning::Planning = engine.state(run).await.unwrap();
        let texts = |replies: &[velo_agents::planning::Reply]| {
            let texts = replies.iter().map(|reply| reply.reply.text.clone());
            texts.collect::<Vec<_>>()
        };
        serde_json::json!({
            "prd_replies": texts(&state.prd_replies),
            "plan_replies": texts(&state.plan_replies),
            "prd": state.prd,
            "plan": state.plan,
            "stored": state.stored,
        })
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    async fn one<T>(&self, sql: &'static str) -> T
    where
        T: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
    {
        sqlx::query_as(sql).fetch_one(&self.pool).await.unwrap()
    }

    async fn all<T>(&self, sql: &'static str) -> Vec<T>
    where
        T: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
    {
        sqlx::query_as(sql).fetch_all(&self.pool).await.unwrap()
    }
}
