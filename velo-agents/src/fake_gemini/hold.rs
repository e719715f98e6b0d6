//! A place where requests wait for a test.

use std::sync::Arc;

use tokio::sync::watch;

/// Holds back requests until it is released; clones are the same place. Once released it stays open.
///
/// ```
/// use velo_agents::fake_gemini::{FakeGemini, Script};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let fake = FakeGemini::start().await?;
/// let (script, hold) = Script::answer("hello").held();
/// fake.next(script);
/// // Start whatever asks the model, then: hold.reached(1).await, kill it or look at it, and
/// hold.release();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Hold {
    stage: Arc<watch::Sender<Stage>>,
}

#[derive(Debug, Default)]
struct Stage {
    reached: usize,
    is_open: bool,
}

impl Hold {
    /// A closed one that no request has reached.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets through whoever waits and whoever comes later.
    pub fn release(&self) {
        self.stage.send_modify(|stage| stage.is_open = true);
    }

    /// Waits until `requests` have come here since the beginning, let through or not.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn reached(&self, requests: usize) {
        self.until(|stage| stage.reached >= requests).await;
    }

    /// Comes here and waits to be let through.
    pub(super) async fn pass(&self) {
        self.stage.send_modify(|stage| stage.reached += 1);
        self.until(|stage| stage.is_open).await;
    }

    async fn until(&self, is_met: impl Fn(&Stage) -> bool) {
        self.stage
            .subscribe()
            .wait_for(|stage| is_met(stage))
            .await
            .expect("the sender is borrowed from self");
    }
}
