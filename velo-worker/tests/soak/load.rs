//! What the workers run: a graph with everything in it, and tables that count what it does.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use velo_engine::StepKey;
use velo_engine::prelude::*;
use velo_worker::Worker;

/// Short, so that a death costs little.
pub(crate) const LEASE: Duration = Duration::from_secs(2);
/// Sends of one run.
const BRANCHES: u32 = 6;
/// Rows that one whole run leaves in `effect`, its child's among them, and how many in `call` have different keys.
pub(crate) const EFFECTS: i64 = 1 + BRANCHES as i64 + 3 + 1;
pub(crate) const CALLS: i64 = 1 + BRANCHES as i64;

#[derive(State, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mixed {
    #[state(append)]
    pub(crate) packed: Vec<u32>,
    pub(crate) word: String,
    pub(crate) is_approved: bool,
    pub(crate) child: i64,
}

#[derive(State, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Small {
    /// The run on whose account it works.
    parent: Option<RunId>,
    turns: i64,
}

const OPEN: NodeKey<Mixed> = NodeKey::new("open");
const PACK: NodeKey<Mixed, u32> = NodeKey::new("pack");
const SHIP: NodeKey<Mixed> = NodeKey::new("ship");
const TALK: NodeKey<Mixed> = NodeKey::new("talk");
const CLOSE: NodeKey<Mixed> = NodeKey::new("close");
const TURN: NodeKey<Small> = NodeKey::new("turn");

pub(crate) async fn prepare(engine: &Engine) {
    for table in [
        "create table effect (run_id bigint not null, node text not null)",
        // A third party that remembers the keys of its calls.
        "create table call (run_id bigint not null, key text not null)",
    ] {
        sqlx::query(table).execute(engine.pool()).await.unwrap();
    }
}

/// Writes once, with the step.
async fn effect<S: State, I: Send + Sync + 'static>(
    cx: &Context<S, I>,
    run: RunId,
    node: &str,
) -> Result<(), NodeError> {
    let mut tx = cx.tx().await?;
    sqlx::query("insert into effect values ($1, $2)")
        .bind(run)
        .bind(node)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

/// Calls a third party, which hears it at once.
async fn call<I: Send + Sync + 'static>(cx: &Context<Mixed, I>) -> Result<(), NodeError> {
    let outside = cx.resource::<PgPool>()?;
    let run = cx.run();
    cx.step("call", async move |key: StepKey| {
        sqlx::query("insert into call values ($1, $2)")
            .bind(run)
            .bind(key.to_string())
            .execute(&*outside)
            .await?;
        Ok::<_, sqlx::Error>(())
    })
    .await
}

async fn open(cx: Context<Mixed>) -> NodeResult<Mixed> {
    call(&cx).await?;
    effect(&cx, cx.run(), "open").await?;
    Ok(Next::send_all(PACK, 0..BRANCHES))
}

async fn pack(cx: Context<Mixed, u32>) -> NodeResult<Mixed> {
    call(&cx).await?;
    effect(&cx, cx.run(), "pack").await?;
    Ok(Mixed::update().packed(vec![*cx.input()]).into())
}

async fn ship(cx: Context<Mixed>) -> NodeResult<Mixed> {
    let small = Small {
        parent: Some(cx.run()),
        turns: 0,
    };
    let end = cx.child("small", &small_graph(), small).await?;
    Ok(Mixed::update().child(end.turns).into())
}

async fn talk(cx: Context<Mixed>) -> NodeResult<Mixed> {
    cx.sleep("rest", Duration::from_millis(20)).await?;
    let word: String = cx.signal("word").await?;
    let is_approved: bool = cx.ask("approve", &word).await?;
    Ok(Mixed::update().word(word).is_approved(is_approved).into())
}

async fn close(cx: Context<Mixed>) -> NodeResult<Mixed> {
    effect(&cx, cx.run(), "close").await?;
    Ok(Next::end())
}

async fn turn(cx: Context<Small>) -> NodeResult<Small> {
    let turns = cx.state().turns + 1;
    let parent = cx.state().parent.unwrap_or_else(|| cx.run());
    effect(&cx, parent, "turn").await?;
    let update = Small::update().turns(turns);
    Ok(if turns < 3 {
        update.goto(TURN)
    } else {
        update.end()
    })
}

/// A database that is away fails attempts: it must not use them up.
fn patient() -> RetryPolicy {
    RetryPolicy {
        max_attempts: 1_000,
        first_delay: Duration::from_millis(20),
        factor: 1.5,
        max_delay: Duration::from_millis(300),
    }
}

fn small_graph() -> Graph<Small> {
    Graph::builder("small", 1)
        .node(TURN, turn)
        .default_retry(patient())
        .start(TURN)
        .may_go(TURN, TURN)
        .compile()
        .unwrap()
}

pub(crate) fn graph() -> Graph<Mixed> {
    Graph::builder("mixed", 1)
        .node(OPEN, open)
        .node(PACK, pack)
        .node(SHIP, ship)
        .node(TALK, talk)
        .node(CLOSE, close)
        .default_retry(patient())
        .start(OPEN)
        .may_go(OPEN, PACK)
        .edge(PACK, SHIP)
        .edge(SHIP, TALK)
        .edge(TALK, CLOSE)
        .compile()
        .unwrap()
}

/// What a worker process does, until it is asked to stop.
pub(crate) async fn work(url: &str) {
    let pool = PgPoolOptions::new()
        .max_connections(10)
        .connect_lazy(url)
        .unwrap();
    let outside = PgPoolOptions::new()
        .max_connections(4)
        .connect_lazy(url)
        .unwrap();
    let mut asked =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    loop {
        let worker = Worker::builder(Engine::connect(pool.clone()))
            .serve(graph())
            .serve(small_graph())
            .resource(outside.clone())
            .lease(LEASE)
            .concurrency(16);
        let ended = worker
            .run(async {
                asked.recv().await;
            })
            .await;
        match ended {
            Ok(_) => return,
            // The database was away when it began.
            Err(error) => println!("soak: a worker begins again: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
