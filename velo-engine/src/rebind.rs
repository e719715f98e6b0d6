//! Sealing the payloads of a copied run as its own.

use sqlx::PgConnection;

use crate::codec::SealError;
use crate::engine::EngineError;
use crate::events::run_stream;
use crate::run_id::RunId;
use crate::store;
use crate::store::reencrypt::{LANES, Lane, Place};
use crate::vault::Vault;

/// Payloads that are read at once.
const PAGE: i64 = 100;
/// Payloads do not begin like this, so that none is taken for sealed already.
const NONE: &[u8] = b"\xff";

/// Why a copy was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RebindError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Sealed(#[from] SealError),
}

impl RebindError {
    pub(crate) fn on(doing: &'static str) -> impl FnOnce(Self) -> EngineError {
        move |error| match error {
            Self::Database(source) => EngineError::Database { doing, source },
            Self::Sealed(source) => EngineError::Sealed { doing, source },
        }
    }
}

/// A run whose rows were copied to another one in this transaction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Copy {
    pub(crate) from: RunId,
    pub(crate) to: RunId,
    /// How much further on the original counts its steps.
    pub(crate) later: i32,
}

impl Vault {
    /// Opens the payloads of a copy as those of its original, and seals them as its own.
    pub(crate) async fn rebind(
        &self,
        conn: &mut PgConnection,
        copy: Copy,
    ) -> Result<(), RebindError> {
        for lane in LANES.iter().filter(|lane| is_of_runs(lane)) {
            let mut place = before(lane, copy.to);
            loop {
                let page = store::reencrypt::read(&mut *conn, *lane, &place, NONE, PAGE).await?;
                let Some(last) = page.last().map(|found| found.place.clone()) else {
                    break;
                };
                let is_all = last.run != copy.to.as_i64();
                let own = page
                    .into_iter()
                    .filter(|found| found.place.run == copy.to.as_i64());
                for found in own {
                    let (old, new) = (
                        found.home(lane, copy.from, copy.later),
                        found.home(lane, copy.to, 0),
                    );
                    let moved = self.moved(old, new, found.payload.clone())?;
                    let put =
                        store::reencrypt::write(conn, *lane, &found.place, &moved, &found.payload);
                    // Nobody else sees the copy yet.
                    if !put.await? {
                        return Err(sqlx::Error::RowNotFound.into());
                    }
                }
                if is_all {
                    break;
                }
                place = last;
            }
        }
        Ok(())
    }
}

fn is_of_runs(lane: &Lane) -> bool {
    !matches!(
        lane.what,
        "schedule control" | "schedule state" | "blob" | "item"
    )
}

/// Before the first payload of the run.
fn before(lane: &Lane, run: RunId) -> Place {
    Place {
        run: match lane.what {
            // Of it there is one place in the lane, and not one for each number.
            "error" => run.as_i64() - 1,
            _ => run.as_i64(),
        },
        name: match lane.what {
            "event" => run_stream(run),
            _ => String::new(),
        },
        ..Place::START
    }
}
