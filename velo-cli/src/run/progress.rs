//! What the person sees while the agency works: finished steps as lines, the one under way as a line
//! that changes. Without a terminal the changing line is left out.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use velo_agents::domain::usage::UsageTotal;
use velo_agents::model::Tier;

use super::begin::Begun;
use crate::house::House;
use crate::paint::{self, Tone};

/// The end of what is being written, in characters.
const TAIL: usize = 48;

pub(super) struct Progress {
    bar: ProgressBar,
    began: Instant,
    now: Mutex<Now>,
}

/// The step under way.
#[derive(Debug, Default)]
struct Now {
    what: String,
    written: String,
    characters: usize,
    used: UsageTotal,
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
            began: Instant::now(),
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
    pub(super) fn started(&self, who: &str, what: &str) {
        self.with(|now| {
            now.what = format!("{who} · {what}");
            now.written.clear();
            now.characters = 0;
        });
    }

    /// A piece of text arrived.
    pub(super) fn wrote(&self, text: &str) {
        self.with(|now| {
            now.characters += text.chars().count();
            now.written.extend(text.chars().filter(|c| !c.is_control()));
            let surplus = now.written.chars().count().saturating_sub(TAIL);
            if surplus > 0 {
                now.written = now.written.chars().skip(surplus).collect();
            }
        });
    }

    /// What was written is void.
    pub(super) fn restarted(&self) {
        self.with(|now| {
            now.written.clear();
            now.characters = 0;
        });
    }

    /// Tokens and money so far.
    pub(super) fn used(&self, used: UsageTotal) {
        self.with(|now| now.used = used);
    }

    /// A step came to its end.
    pub(super) fn finished(&self, who: &str, what: &str) {
        let used = self.with(|now| {
            now.what.clear();
            now.written.clear();
            now.characters = 0;
            now.used
        });
        let told = format!(
            "{} {who} · {what}   {}",
            paint::err("✓", Tone::Good),
            paint::err(
                &format!(
                    "{}, {:.1} s",
                    spent(used),
                    self.began.elapsed().as_secs_f64()
                ),
                Tone::Quiet
            )
        );
        self.say(&told);
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
        let mut line = now.what.clone();
        if now.characters > 0 {
            line = format!("{line} · {} characters · …{}", now.characters, now.written);
        }
        if now.used.calls > 0 {
            line = format!("{line} · {}", spent(now.used));
        }
        self.bar.set_message(line);
        result
    }
}

/// Tokens and money, in few words.
pub(super) fn spent(used: UsageTotal) -> String {
    format!("{} tokens, ${:.4}", used.tokens_used, used.cost_usd)
}
