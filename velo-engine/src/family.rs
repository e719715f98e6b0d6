//! Telling the relatives of a run that it has ended: its parent goes on, its children end with it.
//!
//! The end is noted by the transaction that ends the run. What follows is done in transactions that touch
//! one run each and may be done twice, by whoever comes first: the worker that ended the run, or any
//! worker's next look at what was left.

use sqlx::PgPool;

use crate::run_id::RunId;
use crate::store;
use crate::store::steer::Ending;

/// Most ends that one call tells of; the rest is left for the next look.
const TOLD_MAX: usize = 1_000;
/// Most children that are cancelled between two looks at which are left.
const PAGE: i64 = 100;
/// Most such looks for one run.
const PAGES_MAX: usize = 100;

/// Tells the relatives of the run, and those of what ends with it; returns of how many ends.
pub(crate) async fn tell(pool: &PgPool, run: RunId) -> Result<usize, sqlx::Error> {
    let mut left = vec![run];
    let mut ends = 0;
    while let Some(run) = left.pop() {
        let Some(waiter) = store::child::ending(pool, run).await? else {
            continue;
        };
        if let Some(waiter) = waiter {
            store::child::poke(pool, waiter).await?;
        }
        if !cancel_children(pool, run, &mut left).await? {
            break;
        }
        store::child::told(pool, run).await?;
        ends += 1;
        if ends >= TOLD_MAX {
            break;
        }
    }
    if ends > 0 {
        store::run::hint(pool).await?;
    }
    Ok(ends)
}

/// Adds the cancelled ones to `left`; `false` when there were too many for once.
async fn cancel_children(
    pool: &PgPool,
    run: RunId,
    left: &mut Vec<RunId>,
) -> Result<bool, sqlx::Error> {
    for _ in 0..PAGES_MAX {
        let children = store::child::to_cancel(pool, run, PAGE).await?;
        let is_last = i64::try_from(children.len()).is_ok_and(|found| found < PAGE);
        for child in children {
            store::steer::end_now(pool, child, Ending::CANCELLED).await?;
            // What does not fit has its own row, and is found by the next look.
            if left.len() < TOLD_MAX {
                left.push(child);
            }
        }
        if is_last {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Tells of ends whose own workers have not, since they died or were cut off; returns of how many.
pub(crate) async fn tell_left(pool: &PgPool) -> Result<usize, sqlx::Error> {
    let mut ends = 0;
    for run in store::child::endings(pool, PAGE).await? {
        ends += tell(pool, run).await?;
    }
    Ok(ends)
}
