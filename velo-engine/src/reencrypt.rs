//! Sealing anew what was sealed with an older key, or not at all.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::codec::SealError;
use crate::engine::{Engine, EngineError};
use crate::failpoint;
use crate::run_id::RunId;
use crate::store;
use crate::store::reencrypt::{Found, LANES, Lane, Payload, Place};
use crate::vault::Vault;

/// Most payloads that one call of [`Engine::reencrypt`] looks at.
pub const REENCRYPT_MAX: i64 = 1_000;
/// Payloads of one transaction.
const PAGE: i64 = 100;
/// Large values of one transaction.
const LARGE_PAGE: i64 = 10;

const DOING: &str = "re-encrypt payloads";

/// How far a pass over all payloads has come. As text it can be kept, and gone on from by another process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReencryptPosition {
    lane: usize,
    place: Place,
}

impl fmt::Display for ReencryptPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_string(self).expect("numbers and a text have a JSON form");
        f.write_str(&json)
    }
}

impl FromStr for ReencryptPosition {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(text)
    }
}

/// What a call of [`Engine::reencrypt`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reencrypted {
    /// Payloads that are sealed with the current key now, and were not before.
    pub sealed: u64,
    /// Payloads that could not be opened, and stay as they are.
    pub unreadable: u64,
    /// Payloads that somebody else wrote at that moment. Another pass finds them.
    pub changed: u64,
    /// Where to go on; none at the end of the pass.
    pub next: Option<ReencryptPosition>,
}

impl Engine {
    /// Seals payloads with the current key that are sealed with an older one, or not at all: at most `limit`
    /// and [`REENCRYPT_MAX`] from a position on, or from the beginning. Runs may be at work meanwhile.
    ///
    /// Processes that have not been given the new key yet write with the old one, behind the position as well.
    /// So an old key can be taken away once a whole pass has sealed, changed and failed to read nothing. What
    /// nodes have [said](crate::Context::say) is left alone, since it is gone within an hour.
    ///
    /// ```no_run
    /// # use velo_engine::{Engine, EngineError};
    /// # async fn rotate(engine: &Engine) -> Result<(), EngineError> {
    /// let mut position = None;
    /// loop {
    ///     let done = engine.reencrypt(position, 500).await?;
    ///     println!("{} sealed, {} unreadable", done.sealed, done.unreadable);
    ///     match done.next {
    ///         Some(next) => position = Some(next),
    ///         None => break,
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`EngineError::Sealed`] when the engine has no codec, or the database's.
    ///
    /// # Cancel safety
    /// Pages of a hundred are sealed or not: call it again with the position that is known.
    pub async fn reencrypt(
        &self,
        from: Option<ReencryptPosition>,
        limit: i64,
    ) -> Result<Reencrypted, EngineError> {
        let sealed = self.vault().beginning();
        let sealed = sealed.map_err(EngineError::sealed(DOING))?;
        let mut left = limit.clamp(1, REENCRYPT_MAX);
        let mut position = from.unwrap_or(ReencryptPosition {
            lane: 0,
            place: Place::START,
        });
        let mut done = Reencrypted::default();
        while let Some(lane) = LANES.get(position.lane) {
            if left == 0 {
                done.next = Some(position);
                return Ok(done);
            }
            let page = left.min(if lane.what == "blob" {
                LARGE_PAGE
            } else {
                PAGE
            });
            let last = self
                .reencrypt_page(*lane, &position.place, &sealed, page, &mut done)
                .await
                .map_err(EngineError::on(DOING))?;
            match last {
                Some((place, looked_at)) => {
                    position.place = place;
                    left -= looked_at;
                }
                None => {
                    position.lane += 1;
                    position.place = Place::START;
                }
            }
        }
        Ok(done)
    }

    /// Returns the last place that was looked at and how many there were, or `None` at the end of the lane.
    async fn reencrypt_page(
        &self,
        lane: Lane,
        after: &Place,
        sealed: &[u8],
        limit: i64,
        done: &mut Reencrypted,
    ) -> Result<Option<(Place, i64)>, sqlx::Error> {
        let mut tx = store::begin(self.pool()).await?;
        let page = store::reencrypt::read(&mut *tx, lane, after, sealed, limit).await?;
        let Some(last) = page.last().map(|found| found.place.clone()) else {
            return Ok(None);
        };
        let looked_at = i64::try_from(page.len()).unwrap_or(limit);
        let mut written = Reencrypted::default();
        for found in page {
            match self.vault().renewed(&lane, &found) {
                Ok(Some(new)) => {
                    let put =
                        store::reencrypt::write(&mut tx, lane, &found.place, &new, &found.payload);
                    match put.await? {
                        true => written.sealed += 1,
                        false => written.changed += 1,
                    }
                }
                Ok(None) => (),
                Err(error) => {
                    written.unreadable += 1;
                    tracing::warn!(run.id = found.place.run, column = lane.what, %error, "could not re-encrypt a payload");
                }
            }
        }
        failpoint::hit("reencrypt.before_commit");
        tx.commit().await?;
        done.sealed += written.sealed;
        done.changed += written.changed;
        done.unreadable += written.unreadable;
        Ok(Some((last, looked_at)))
    }
}

impl Vault {
    /// The payload sealed with the current key; `None` when it is that already.
    fn renewed(&self, lane: &Lane, found: &Found) -> Result<Option<Payload>, SealError> {
        let run = RunId::from_i64(found.place.run);
        let home = found.home(lane, run, 0);
        self.renew(home, &found.payload)
    }
}
