//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::{Args as ClapArgs, Parser, Subcommand};
use velo_engine::{Position, QuestionId, RunId, StreamMode};

/// An AI software agency that cannot lose work: every step is committed to Postgres.
///
/// Without DATABASE_URL a private Postgres server is started, with its data under .velo/. Without
/// GEMINI_API_KEY the offline model writes: rules, no network, no cost.
#[derive(Debug, Parser)]
#[command(name = "velo", version, after_long_help = AFTER)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) house: HouseArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER: &str = "\
Environment:
  GEMINI_API_KEY             asks Gemini instead of the offline model (or GOOGLE_API_KEY)
  GEMINI_BASE_URL            another server that speaks Gemini's API
  GOOGLE_GENAI_USE_VERTEXAI  true: Vertex AI, with GOOGLE_CLOUD_PROJECT and GOOGLE_CLOUD_LOCATION
  VELO_MODEL_PRO, VELO_MODEL_FLASH
                             which models to ask
  VELO_MODEL_ATTEMPTS        requests for one call, if the model cannot answer (5)
  VELO_PG_BIN                folder of the Postgres server's programs
  VELO_LOG                   what to log to standard error, such as info or velo_worker=debug
  NO_COLOR                   no colours

Exit codes:
  0  done
  1  an error that nobody foresaw
  2  the command line or the brief cannot be used
  3  the run is paused and needs attention: mend the cause, then velo run --resume;
     of doctor and migrate --check: the database needs attention
  4  the database, the files or the model's configuration cannot be used
  130  interrupted; velo run --resume goes on";

const HOUSE: &str = "Where things are";

/// Where things are.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct HouseArgs {
    /// Folder of the private Postgres server and of the artifacts
    #[arg(
        long,
        global = true,
        help_heading = HOUSE,
        env = "VELO_DATA",
        default_value = ".velo",
        value_name = "FOLDER"
    )]
    pub(crate) data: PathBuf,
    /// Postgres server to use instead of a private one
    #[arg(
        long,
        global = true,
        help_heading = HOUSE,
        env = "DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) database_url: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Have a brief turned into a PRD and a plan of tasks
    Run(RunArgs),
    /// Run everything on this machine: database, API and a worker
    Dev(DevArgs),
    /// Run a worker: it takes runs from the database, and over from dead workers
    Worker(WorkerArgs),
    /// Run the REST and WebSocket API
    Api(ApiArgs),
    /// Look at runs, and steer them
    Runs(RunsArgs),
    /// Draw a graph, or list those that can be drawn
    Graph(GraphArgs),
    /// Look at schedules, and steer them
    Schedules(SchedulesArgs),
    /// Look at failures that have paused runs, try their runs again, or give them up
    Failures(FailuresArgs),
    /// Cancel, terminate or resume many runs at once
    Bulk(BulkArgs),
    /// Limit what the fleet does at once and how fast, and pause parts of it
    Limits(LimitsArgs),
    /// Look at queues, and pause them
    Queues(QueuesArgs),
    /// Say how long runs that have ended are kept, and see what is about to be deleted
    Retention(RetentionArgs),
    /// List the workers, and drain them
    Workers(WorkersArgs),
    /// Show how all runs and workers stand, again and again; once when it is no terminal
    Top(TopArgs),
    /// Create or upgrade the tables
    Migrate(MigrateArgs),
    /// Look whether this build can go on with the live runs; exits with 3 when it cannot
    Check(ListArgs),
    /// Look whether the database is safe to run on; exits with 3 when it is not
    Doctor(ListArgs),
    /// Run a local server that speaks Gemini's API and answers with the offline model
    FakeGemini(FakeGeminiArgs),
}

impl Command {
    /// What is worth logging when nothing else is asked for.
    pub(crate) fn log_level(&self) -> &'static str {
        match self {
            Self::Run(_) => "off",
            // The database's notices say what was there already at each start.
            Self::Dev(_) | Self::Worker(_) | Self::Api(_) => "info,sqlx=warn",
            Self::Migrate(_)
            | Self::Check(_)
            | Self::Doctor(_)
            | Self::FakeGemini(_)
            | Self::Runs(_)
            | Self::Graph(_)
            | Self::Schedules(_)
            | Self::Failures(_)
            | Self::Bulk(_)
            | Self::Limits(_)
            | Self::Queues(_)
            | Self::Retention(_)
            | Self::Top(_)
            | Self::Workers(_) => "warn",
        }
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RunArgs {
    /// What is to be built, in your own words
    #[arg(conflicts_with_all = ["file", "resume"])]
    pub(crate) brief: Option<String>,
    /// Read the brief from a file; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    pub(crate) file: Option<PathBuf>,
    /// Name of the project, instead of the brief's first words
    #[arg(long, conflicts_with = "resume")]
    pub(crate) name: Option<String>,
    /// Go on with a run, by the id of the run or its project; without an id, with the newest that has not ended
    #[arg(long, value_name = "ID", num_args = 0..=1, default_missing_value = "")]
    pub(crate) resume: Option<String>,
    /// Begin a new project, also when an unfinished one has the same brief
    #[arg(long, conflicts_with = "resume")]
    pub(crate) new: bool,
    /// Folder for the documents; velo-out/NAME otherwise
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
    /// Print one JSON object at the end, for machines, also when the run is paused or interrupted:
    /// project_id, run_id, status, tasks, artifacts, tokens, cost_usd, model, offline, and error if there is one
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DevArgs {
    #[command(flatten)]
    pub(crate) api: ApiArgs,
    #[command(flatten)]
    pub(crate) worker: WorkerArgs,
    /// Remove the private database and all artifacts first, after asking
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Do not ask
    #[arg(long, requires = "fresh")]
    pub(crate) yes: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct WorkerArgs {
    /// Most runs at once
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) concurrency: u16,
    /// How long steps that are under way may take to finish once the worker is asked to stop
    #[arg(long, default_value_t = 20, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(0..=3600))]
    pub(crate) grace: u16,
    /// Serve metrics in Prometheus' format on this address, under /metrics
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics: Option<SocketAddr>,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct ApiArgs {
    /// Address of the API
    #[arg(long, default_value = "127.0.0.1:7878", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// Allow an address that other machines can reach. There is no sign-in: whoever reaches it may do everything
    #[arg(long)]
    pub(crate) expose: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct FakeGeminiArgs {
    /// Address of the server
    #[arg(long, default_value = "127.0.0.1:7879", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RunsArgs {
    #[command(subcommand)]
    pub(crate) command: RunsCommand,
    /// Print JSON, for machines
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// List runs, newest first: those that have not ended, unless told otherwise
    List {
        /// Only runs of this status; may be given more than once
        #[arg(long, value_enum)]
        status: Vec<Status>,
        /// All runs, also those that have ended
        #[arg(long, conflicts_with = "status")]
        all: bool,
        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=1000))]
        limit: i64,
        /// Only runs older than this one
        #[arg(long, value_name = "ID")]
        before: Option<RunId>,
    },
    /// Show a run: how it stands, and why
    Show {
        /// The run
        id: RunId,
    },
    /// Draw a run: its graph, with how each node stands
    Draw {
        /// The run
        id: RunId,
        #[command(flatten)]
        draw: DrawArgs,
    },
    /// Say what a run is doing, or why it is doing nothing
    Why {
        /// The run
        id: RunId,
    },
    /// Show what a run has done, step by step
    History {
        /// The run
        id: RunId,
        /// Only steps after this one
        #[arg(long, default_value_t = -1, value_name = "STEP")]
        after: i32,
        /// At most so many
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(i64).range(1..=1000))]
        limit: i64,
    },
    /// Show what becomes of a run, as it does, until it ends; one item a line
    Stream {
        /// The run
        id: RunId,
        /// What to show; may be given more than once
        #[arg(long, value_enum, default_values_t = [Mode::Updates])]
        mode: Vec<Mode>,
        /// Only what comes after this place: the position of an item, or the number of a step
        #[arg(
            long,
            value_name = "POSITION",
            default_value = "-1",
            hide_default_value = true,
            allow_hyphen_values = true
        )]
        from: Position,
        /// Also what becomes of the runs that it waits for
        #[arg(long)]
        subgraphs: bool,
        /// End also when the run is paused or waits for somebody
        #[arg(long)]
        until_stuck: bool,
    },
    /// Print the state of a run as JSON
    State {
        /// The run
        id: RunId,
        /// The step after which; zero is the start, and the newest one counts otherwise
        step: Option<i32>,
    },
    /// Show what differs in the state between two steps of a run
    Diff {
        /// The run
        id: RunId,
        /// The one step; zero is the start
        before: i32,
        /// The other step
        after: i32,
    },
    /// Edit the state of a run of the agency that waits or is paused
    Update {
        /// The run
        id: RunId,
        /// What is written, as a JSON object of fields
        fields: String,
        /// Put the values in place of what is there, also where a field merges what is written to it
        #[arg(long)]
        overwrite: bool,
        /// Edit as if this node had returned it: what follows the node comes next
        #[arg(long, value_name = "NODE")]
        as_node: Option<String>,
        /// Only if this is the run's newest step
        #[arg(long, value_name = "STEP")]
        after: Option<i32>,
    },
    /// Copy a run with all of its history; a copy goes on when somebody answers or resumes it
    Copy {
        /// The run
        id: RunId,
        /// The thread of the copy
        #[arg(long)]
        thread: Option<String>,
    },
    /// Copy all runs of a thread into one that has none
    CopyThread {
        /// The thread
        from: String,
        /// The new one
        to: String,
    },
    /// Begin a new run at a step of an old one; what came after is done again
    Fork {
        /// The run
        id: RunId,
        /// The step after which the new run begins; zero is the start
        step: i32,
        /// The thread of the new run
        #[arg(long)]
        thread: Option<String>,
    },
    /// Write all that is stored of a run as JSON
    Export {
        /// The run
        id: RunId,
        /// The file; standard output otherwise
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Bring an exported run into this database, under a new id; one that has not ended is paused
    Import {
        /// The file
        file: PathBuf,
    },
    /// Delete a run that has ended, with all that is stored of it
    Delete {
        /// The run
        id: RunId,
    },
    /// Delete runs that have ended, but the newest of each thread; runs that have not ended are never touched
    Prune {
        /// Only those that ended longer ago, such as 36h or 30d
        #[arg(long, value_name = "TIME", value_parser = age)]
        older_than: Duration,
        /// How many ended runs of each thread stay
        #[arg(long, default_value_t = 1)]
        keep: u32,
    },
    /// End a run before its end
    Cancel {
        /// The run
        id: RunId,
    },
    /// Pause a run: one that is at work at its next step boundary, one that waits at once
    Pause {
        /// The run
        id: RunId,
        /// Why, for those who look at the run later
        #[arg(default_value = "by an operator")]
        reason: String,
    },
    /// Have a paused run go on; a run that waits for its next attempt goes on now
    Resume {
        /// The run
        id: RunId,
        /// How many steps it may take in all from now on, if it was paused because it had taken them all
        #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
        step_limit: Option<u64>,
    },
    /// Try a failed task again now, with all attempts before it; other runs are left as they are
    Retry {
        /// The run
        id: RunId,
    },
    /// Count a failed task of a paused run as finished, without anything written, and have the run go on
    Skip {
        /// The run
        id: RunId,
        /// Which task of the step, from zero, as the run's error names it
        #[arg(long, default_value_t = 0)]
        task: i32,
    },
    /// End a run before its end, and keep the reason
    Terminate {
        /// The run
        id: RunId,
        /// Why, for those who look at the run later
        reason: String,
    },
    /// List open questions, of one run or of all
    Questions {
        /// The run
        id: Option<RunId>,
        /// Only those of the runs of this thread
        #[arg(long)]
        thread: Option<String>,
        /// Only those of the runs of the graph of this name
        #[arg(long)]
        graph: Option<String>,
        /// Only those after this one, by its id
        #[arg(long)]
        after: Option<QuestionId>,
        /// Most of them
        #[arg(long, default_value_t = 100)]
        limit: i64,
    },
    /// Answer a question
    Answer {
        /// The run
        id: RunId,
        /// The question's name
        name: String,
        /// The answer, as JSON; text that is no JSON is taken as text
        answer: String,
        /// Which task asks, if several of the run ask the same
        #[arg(long)]
        task: Option<i32>,
    },
    /// Answer several questions of a run, all or none
    AnswerAll {
        /// The run
        id: RunId,
        /// The answers as a JSON object, by the names of the questions or their ids
        answers: String,
    },
    /// Send a message to a run
    Signal {
        /// The run
        id: RunId,
        /// The message's name
        name: String,
        /// What it says, as JSON; text that is no JSON is taken as text
        #[arg(default_value = "null")]
        payload: String,
        /// Makes a message that is sent again the same one
        #[arg(long)]
        key: Option<String>,
    },
}

/// What of a run is shown, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// The whole state after each step; of runs of the agency
    Values,
    /// What each task wrote
    Updates,
    /// What models say
    Messages,
    /// What nodes emit and show
    Custom,
    /// Tasks, as they are planned, end and fail
    Tasks,
    /// Steps, as they are committed
    Checkpoints,
    /// Tasks and steps
    Debug,
}

impl Mode {
    pub(crate) fn all(self) -> Vec<StreamMode> {
        match self {
            Self::Values => vec![StreamMode::Values],
            Self::Updates => vec![StreamMode::Updates],
            Self::Messages => vec![StreamMode::Messages],
            Self::Custom => vec![StreamMode::Custom],
            Self::Tasks => vec![StreamMode::Tasks],
            Self::Checkpoints => vec![StreamMode::Checkpoints],
            Self::Debug => vec![StreamMode::Tasks, StreamMode::Checkpoints],
        }
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TopArgs {
    /// Between two looks
    #[arg(long, default_value_t = 2, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub(crate) every: u16,
    /// Look once, also on a terminal
    #[arg(long)]
    pub(crate) once: bool,
    /// Print JSON, for machines; once
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct GraphArgs {
    /// Name and version of the graph, such as planning@1; without it, the graphs that can be drawn are listed
    pub(crate) code: Option<String>,
    #[command(flatten)]
    pub(crate) draw: DrawArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DrawArgs {
    /// What to draw it as
    #[arg(long = "as", value_enum, default_value_t = Picture::Mermaid)]
    pub(crate) picture: Picture,
    /// The file; standard output otherwise
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Picture {
    /// A Mermaid flowchart
    Mermaid,
    /// An SVG document
    Svg,
    /// Where the nodes and lines are, as JSON
    Json,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct MigrateArgs {
    /// Print the statements that would be run, and run none
    #[arg(long, conflicts_with = "check")]
    pub(crate) print: bool,
    /// Only say whether all migrations are applied; exits with 3 when one is missing
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct SchedulesArgs {
    #[command(subcommand)]
    pub(crate) command: SchedulesCommand,
    /// Print JSON, for machines
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SchedulesCommand {
    /// List schedules, by name
    List {
        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=1000))]
        limit: i64,
        /// Only names after this one
        #[arg(
            long,
            value_name = "NAME",
            default_value = "",
            hide_default_value = true
        )]
        after: String,
    },
    /// Show a schedule, and what became of its latest times
    Show {
        /// The schedule
        name: String,
        /// At most so many times
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=1000))]
        limit: i64,
    },
    /// Tell the next times of a schedule
    Next {
        /// The schedule
        name: String,
        /// How many
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
    },
    /// Have a schedule start nothing until it is resumed
    Pause {
        /// The schedule
        name: String,
        /// Why, for those who look at it
        #[arg(long)]
        note: Option<String>,
    },
    /// Have a paused schedule go on from now
    Resume {
        /// The schedule
        name: String,
    },
    /// Fire a schedule now, also when it is paused
    Trigger {
        /// The schedule
        name: String,
    },
    /// Fire the times of a window that is past, each once
    Backfill {
        /// The schedule
        name: String,
        /// From when, such as 2026-03-01T00:00:00Z
        #[arg(long, value_name = "TIME")]
        from: DateTime<Utc>,
        /// Until when, included
        #[arg(long, value_name = "TIME")]
        to: DateTime<Utc>,
        /// What becomes of a time while the run of one before it has not ended
        #[arg(long, value_enum, default_value_t = Overlap::BufferAll)]
        overlap: Overlap,
    },
    /// Delete a schedule; its runs go on
    Delete {
        /// The schedule
        name: String,
    },
}

/// What becomes of a fire while a run has not ended, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Overlap {
    /// Skip it
    Skip,
    /// Keep one until the run has ended
    BufferOne,
    /// One after the other
    BufferAll,
    /// Cancel the run
    CancelOther,
    /// Terminate the run
    TerminateOther,
    /// All at once
    AllowAll,
}

impl From<Overlap> for velo_engine::schedule::Overlap {
    fn from(overlap: Overlap) -> Self {
        match overlap {
            Overlap::Skip => Self::Skip,
            Overlap::BufferOne => Self::BufferOne,
            Overlap::BufferAll => Self::BufferAll,
            Overlap::CancelOther => Self::CancelOther,
            Overlap::TerminateOther => Self::TerminateOther,
            Overlap::AllowAll => Self::AllowAll,
        }
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct LimitsArgs {
    #[command(subcommand)]
    pub(crate) command: LimitsCommand,
    /// Print JSON, for machines
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

const GATES: &str = "\
A NAME says what is meant, and one that ends in /* is for each of all that begin so:
  queue/NAME                runs that were started into a queue
  limit/NAME                nodes that ask for a limit
  node/GRAPH@VERSION/NODE   a node
  graph/GRAPH[@VERSION]     the runs of a graph; they can only be paused";

#[derive(Debug, Subcommand)]
#[command(after_help = GATES)]
pub(crate) enum LimitsCommand {
    /// List what is limited or paused
    List,
    /// Set what is allowed, in place of what was; without options everything
    #[command(after_help = GATES)]
    Set {
        /// What is limited
        #[arg(value_name = "NAME")]
        gate: velo_engine::Gate,
        /// How many at once, in the whole fleet
        #[arg(long)]
        max: Option<u32>,
        /// How many in a time, such as 60/m or 10/500ms
        #[arg(long, value_name = "COUNT/TIME")]
        rate: Option<crate::limits::EveryRate>,
        /// How many at once after a rest
        #[arg(long, requires = "rate", default_value_t = 1)]
        burst: u32,
        /// A queue's share of the workers beside other queues, 1 to 1000
        #[arg(long)]
        weight: Option<u16>,
    },
    /// Allow everything again
    Remove {
        /// What is limited
        #[arg(value_name = "NAME")]
        gate: velo_engine::Gate,
    },
    /// Let nothing through until it is resumed
    #[command(after_help = GATES)]
    Pause {
        /// What is paused
        #[arg(value_name = "NAME")]
        gate: velo_engine::Gate,
        /// Why, for those who look
        #[arg(long)]
        note: Option<String>,
    },
    /// Let through again what is allowed
    Resume {
        /// What is paused
        #[arg(value_name = "NAME")]
        gate: velo_engine::Gate,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct QueuesArgs {
    #[command(subcommand)]
    pub(crate) command: QueuesCommand,
    /// Print JSON, for machines
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QueuesCommand {
    /// List queues that are limited or paused
    List,
    /// Begin no run of a queue until it is resumed
    Pause {
        /// The queue
        name: String,
        /// Why, for those who look
        #[arg(long)]
        note: Option<String>,
    },
    /// Have a paused queue go on
    Resume {
        /// The queue
        name: String,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RetentionArgs {
    #[command(subcommand)]
    pub(crate) command: RetentionCommand,
    /// Print JSON, for machines
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

const KEPT: &str = "\
How runs end:
  completed  they came to their end (30d while nobody says anything)
  cancelled  somebody cancelled them (30d)
  failed     they ended early with a reason: terminated, dismissed, or cancelled while paused by a failure (90d)
  thread     the newest run of a thread, which keeps the thread's state (never deleted)";

#[derive(Debug, Subcommand)]
pub(crate) enum RetentionCommand {
    /// List what is said about how long runs are kept
    List,
    /// Keep runs of a graph for so long after their end, from now on; also those that have ended before
    #[command(after_help = KEPT)]
    Set {
        /// The graph's name, or * for all that nothing is said about
        graph: String,
        /// How the runs have ended
        #[arg(value_name = "ENDED")]
        outcome: velo_engine::Kept,
        /// How long, such as 36h or 30d; never for what is never deleted
        #[arg(value_name = "TIME")]
        keep: crate::retention::Keep,
    },
    /// Take back what was said
    #[command(after_help = KEPT)]
    Clear {
        /// The graph's name, or *
        graph: String,
        /// How the runs have ended
        #[arg(value_name = "ENDED")]
        outcome: velo_engine::Kept,
    },
    /// Show how many runs are about to be deleted; changes nothing
    Show,
}

/// Which runs, where many may be meant.
#[derive(Debug, Clone, Default, ClapArgs)]
pub(crate) struct FilterArgs {
    /// Only runs of this graph
    #[arg(long)]
    pub(crate) graph: Option<String>,
    /// Only runs of this version of their graph
    #[arg(long, value_name = "NUMBER")]
    pub(crate) graph_version: Option<i32>,
    /// Only runs that were paused because of this node
    #[arg(long)]
    pub(crate) node: Option<String>,
    /// Only runs that were paused by failures of this group
    #[arg(long)]
    pub(crate) fingerprint: Option<String>,
    /// Only runs of this queue
    #[arg(long)]
    pub(crate) queue: Option<String>,
    /// Only runs that were started at this time or later, such as 2026-03-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<DateTime<Utc>>,
    /// Only runs that were started before this time
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<DateTime<Utc>>,
}

impl FilterArgs {
    /// Whether all runs are meant.
    pub(crate) fn is_empty(&self) -> bool {
        let Self {
            graph,
            graph_version,
            node,
            fingerprint,
            queue,
            since,
            until,
        } = self;
        [graph, node, fingerprint, queue]
            .into_iter()
            .all(Option::is_none)
            && graph_version.is_none()
            && since.is_none()
            && until.is_none()
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct FailuresArgs {
    #[command(subcommand)]
    pub(crate) command: FailuresCommand,
    /// Print JSON, for machines
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FailuresCommand {
    /// List failures that have paused runs, those that are alike together
    List {
        #[command(flatten)]
        filter: FilterArgs,
        /// At most so many groups
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=1000))]
        limit: i64,
    },
    /// List the runs of failures, oldest first
    Show {
        #[command(flatten)]
        filter: FilterArgs,
        /// Only runs after this one
        #[arg(long, value_name = "ID")]
        after: Option<RunId>,
        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=1000))]
        limit: i64,
    },
    /// Try again what has failed, with all attempts before it
    Redrive(FailedRuns),
    /// Give up what has failed: its runs end, with the reason
    Dismiss {
        #[command(flatten)]
        which: FailedRuns,
        /// Why, for those who look at the runs later
        #[arg(long)]
        reason: Option<String>,
    },
}

/// Paused runs, by their ids or by a filter.
#[derive(Debug, ClapArgs)]
pub(crate) struct FailedRuns {
    /// The runs
    #[arg(value_name = "ID", conflicts_with_all = ["graph", "graph_version", "node", "fingerprint", "queue", "since", "until", "all"])]
    pub(crate) runs: Vec<RunId>,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// All of them
    #[arg(long)]
    pub(crate) all: bool,
    /// Wait until a filter's runs are done, and work on them if no worker does
    #[arg(long)]
    pub(crate) wait: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct BulkArgs {
    #[command(subcommand)]
    pub(crate) command: BulkCommand,
    /// Print JSON, for machines
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BulkCommand {
    /// End all runs of a filter before their end
    Cancel {
        #[command(flatten)]
        filter: FilterArgs,
        /// Only runs of this status
        #[arg(long, value_enum)]
        status: Option<Status>,
        /// All runs, where nothing else says which
        #[arg(long)]
        all: bool,
        /// Wait until it is done, and work on it if no worker does
        #[arg(long)]
        wait: bool,
    },
    /// End all runs of a filter before their end, and keep the reason
    Terminate {
        #[command(flatten)]
        filter: FilterArgs,
        /// Only runs of this status
        #[arg(long, value_enum)]
        status: Option<Status>,
        /// Why, for those who look at the runs later
        #[arg(long)]
        reason: String,
        /// All runs, where nothing else says which
        #[arg(long)]
        all: bool,
        /// Wait until it is done, and work on it if no worker does
        #[arg(long)]
        wait: bool,
    },
    /// Have all paused runs of a filter go on
    Resume {
        #[command(flatten)]
        filter: FilterArgs,
        /// All runs, where nothing else says which
        #[arg(long)]
        all: bool,
        /// Wait until it is done, and work on it if no worker does
        #[arg(long)]
        wait: bool,
    },
    /// List operations on many runs, newest first
    List {
        /// At most so many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=1000))]
        limit: i64,
    },
    /// Show how far an operation is
    Show {
        /// Its number
        id: i64,
    },
    /// End an operation half-way; what is done stays done
    Stop {
        /// Its number
        id: i64,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct WorkersArgs {
    /// Lists them otherwise
    #[command(subcommand)]
    pub(crate) command: Option<WorkersCommand>,
    /// Print JSON, for machines
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WorkersCommand {
    /// Have a worker stop, wherever it is: it gives its runs back at their next step boundaries, and ends
    Drain {
        /// The worker
        id: i32,
        /// How long to wait until it has stopped
        #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(0..=3600))]
        wait: u16,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ListArgs {
    /// Print JSON, for machines
    #[arg(long)]
    pub(crate) json: bool,
}

/// A run's status, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Status {
    Active,
    Waiting,
    Paused,
    Completed,
    Cancelled,
}

impl From<Status> for velo_engine::RunStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Active => Self::Active,
            Status::Waiting => Self::Waiting,
            Status::Paused => Self::Paused,
            Status::Completed => Self::Completed,
            Status::Cancelled => Self::Cancelled,
        }
    }
}

/// What `--resume` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resume {
    Newest,
    Run(RunId),
    Project(velo_agents::domain::ProjectId),
}

impl std::str::FromStr for Resume {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self::Newest);
        }
        if let Ok(run) = text.parse() {
            return Ok(Self::Run(run));
        }
        text.parse().map(Self::Project).map_err(|_| {
            format!("`{text}` is neither the id of a run (a number) nor of a project (a UUID)")
        })
    }
}

/// A time such as `90s`, `15m`, `36h` or `30d`.
pub(crate) fn age(typed: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
    let parsed = units.iter().find_map(|(unit, seconds)| {
        let number: u64 = typed.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*seconds)
    });
    parsed
        .map(Duration::from_secs)
        .ok_or_else(|| "take a number and one of s, m, h and d, such as 30d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }

    #[test]
    fn a_resume_names_a_run_a_project_or_the_newest() {
        assert_eq!("".parse(), Ok(Resume::Newest));
        assert_eq!("17".parse(), Ok(Resume::Run(RunId::from_i64(17))));
        let id = velo_agents::domain::ProjectId::new();
        assert_eq!(id.to_string().parse(), Ok(Resume::Project(id)));
        assert!("habit".parse::<Resume>().unwrap_err().contains("habit"));
    }
}
