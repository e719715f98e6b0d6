//! What the person sees while the agency works: finished steps as lines, the one under way as a line
//! that changes. Without a terminal the changing line is left out.

use std::sync::Mutex;
use std::time::Duration;

use chrono::{DateTime, Utc};
use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use velo_agents::domain::usage::UsageTotal;
use velo_agents::model::Tier;

use super::begin::Begun;
use super::line::Now;
use crate::house::House;
use crate::paint::{self, Tone};

/// What the changing line has beside its text: the sign of life and the time.
const AROUND: usize = 10;

pub(super) struct Progress {
    bar: ProgressBar,
    now: Mutex<Now>,
}

impl Progress {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{spinner:.cyan} {wide_msg} {elapsed:.dim}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_millis(100));
        Self {
            bar,
            now: Mutex::default(),
        }
    }

    /// A line that stays.
    pub(super) fn say(&self, line: &str) {
        if self.bar.is_hidden() {
            eprintln!("{line}");
        } else {
            self.bar.println(line);
        }
    }

    pub(super) fn begin(&self, begun: &Begun, house: &House) {
        let name = paint::err(&begun.project.name, Tone::Strong);
        self.say(&format!("project {name} ({})", begun.project.id));
        if begun.is_continued {
            self.say(&format!(
                "going on with run {} after {} committed steps; --new would begin another",
                begun.run, begun.steps
            ));
        } else {
            self.say(&format!("run {}", begun.run));
        }
        if begun.is_elsewhere {
            self.say(
                "another process has it: this one watches, and takes over if that one is gone",
            );
        }
        if house.model.is_offline() {
            let label = paint::err("offline model", Tone::Attention);
            self.say(&format!(
                "{label}: documents are written by rules, without a language model; set GEMINI_API_KEY to ask Gemini"
            ));
        } else {
            self.say(&format!("model {}", house.model.name(Tier::Pro)));
        }
    }

    /// Somebody began something.
    pub(super) fn started(&self, who: &str, what: &str, at: DateTime<Utc>) {
        self.with(|now| now.begin(format!("{who} · {what}"), at));
    }

    /// A model was asked.
    pub(super) fn asked(&self, model: &str) {
        self.with(|now| model.clone_into(&mut now.model));
    }

    /// A piece of text arrived.
    pub(super) fn wrote(&self, text: &str) {
        self.with(|now| now.write(text));
    }

    /// What was written is void.
    pub(super) fn restarted(&self) {
        self.with(Now::restart);
    }

    /// Tokens and money so far.
    pub(super) fn used(&self, used: UsageTotal) {
        self.with(|now| now.used = used);
    }

    /// A step came to its end.
    pub(super) fn finished(&self, who: &str, what: &str, at: DateTime<Utc>) {
        let what = format!("{who} · {what}");
        let (used, took) = self.with(|now| {
            let took = now.took(&what, at);
            now.end(&what);
            (now.used, took)
        });
        let mut cost = format!("{} so far", spent(used));
        if let Some(took) = took {
            cost = format!("{:.1} s, {cost}", took.as_secs_f64());
        }
        let tick = paint::err("✓", Tone::Good);
        self.say(&format!(
            "{tick} {what}   {}",
            paint::err(&cost, Tone::Quiet)
        ));
    }

    /// Something went wrong and may be tried again.
    pub(super) fn failed(&self, what: &str) {
        self.say(&format!("{} {what}", paint::err("!", Tone::Attention)));
    }

    /// Removes the changing line.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn with<T>(&self, act: impl FnOnce(&mut Now) -> T) -> T {
        let mut now = self
            .now
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let result = act(&mut now);
        if !self.bar.is_hidden() {
            let (_, width) = Term::stderr().size();
            let room = usize::from(width).saturating_sub(AROUND);
            self.bar.set_message(now.line(room));
        }
        result
    }
}

/// Tokens and money, in few words.
pub(super) fn spent(used: UsageTotal) -> String {
    format!("{} tokens, ${:.4}", used.tokens_used, used.cost_usd)
}
