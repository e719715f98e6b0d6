//! What an engine does with schedules, other than firing them.

use std::ops::RangeInclusive;

use chrono::{DateTime, Duration, Utc};

use super::error::ScheduleError;
use super::firing::{Counter, rule_of, spec_of};
use super::overlap::Overlap;
use super::plan::NextFire;
use super::setup::ScheduleSetup;
use super::spec::Spec;
use crate::engine::{Engine, PAGE_MAX};
use crate::graph::Graph;
use crate::state::State;
use crate::store;
use crate::store::schedule::{self as rows, Fire, FireCause, Locked, Schedule};

/// Most times that one call fills in.
pub const BACKFILL_MAX: usize = 1_000;
/// Most next times that one call tells.
pub const NEXT_MAX: usize = 1_000;

impl Engine {
    /// A schedule of this name that starts runs of `graph`, each with this `state`; await
    /// [`create`](ScheduleSetup::create) or [`replace`](ScheduleSetup::replace). See
    /// [`schedule`](crate::schedule) for an example.
    pub fn schedule<'a, S: State>(
        &'a self,
        graph: &'a Graph<S>,
        name: impl Into<String>,
        spec: Spec,
        state: S,
    ) -> ScheduleSetup<'a, S> {
        ScheduleSetup::new(self, graph, name.into(), spec, state)
    }

    /// Schedules with names after `after`, by name; at most `limit` and [`PAGE_MAX`].
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn schedules(&self, after: &str, limit: i64) -> Result<Vec<Schedule>, ScheduleError> {
        rows::list(self.pool(), after, limit.clamp(0, PAGE_MAX))
            .await
            .map_err(ScheduleError::on("list the schedules"))
    }

    /// How a schedule stands.
    ///
    /// # Errors
    /// [`ScheduleError::NoSchedule`], or the database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn get_schedule(&self, name: &str) -> Result<Schedule, ScheduleError> {
        let found = rows::get(self.pool(), name).await;
        found
            .map_err(ScheduleError::on("read the schedule"))?
            .ok_or_else(|| ScheduleError::NoSchedule(name.to_owned()))
    }

    /// What became of a schedule's latest times, latest first; at most `limit` and [`PAGE_MAX`].
    ///
    /// # Errors
    /// The database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn schedule_fires(&self, name: &str, limit: i64) -> Result<Vec<Fire>, ScheduleError> {
        rows::fires(self.pool(), name, limit.clamp(0, PAGE_MAX))
            .await
            .map_err(ScheduleError::on("read what the schedule has fired"))
    }

    /// The next times of a schedule; of one that is paused, those that come if it goes on now. At most
    /// `limit` and [`NEXT_MAX`].
    ///
    /// # Errors
    /// [`ScheduleError::NoSchedule`], [`ScheduleError::Unreadable`], or the database's.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn next_fires(
        &self,
        name: &str,
        limit: usize,
    ) -> Result<Vec<NextFire>, ScheduleError> {
        const DOING: &str = "read the schedule's next times";
        let (tx, locked) = self.locked(name, DOING).await?;
        // Given back at once: whoever finds it held passes it over.
        tx.rollback().await.map_err(ScheduleError::on(DOING))?;
        let spec = spec_of(&locked)?;
        let rule = rule_of(&locked, &spec);
        let next = locked
            .schedule
            .next_at
            .filter(|_| !locked.schedule.is_paused);
        let after = match (next, locked.schedule.is_paused) {
            (Some(next), _) => next - Duration::microseconds(1),
            (None, true) => locked.now,
            (None, false) => return Ok(Vec::new()),
        };
        Ok(rule.after(after).take(limit.min(NEXT_MAX)).collect())
    }

    /// Has a schedule start nothing until it is told to go on; `note` says why. Runs that it has started
    /// go on.
    ///
    /// # Errors
    /// [`ScheduleError::NoSchedule`], or the database's.
    ///
    /// # Cancel safety
    /// Call it again: a second time does no harm.
    pub async fn pause_schedule(
        &self,
        name: &str,
        note: Option<&str>,
    ) -> Result<(), ScheduleError> {
        let is_there = rows::pause(self.pool(), name, true, note)
            .await
            .map_err(ScheduleError::on("pause the schedule"))?;
        found(is_there, name)
    }

    /// Has a schedule go on from now. The times that came while it was paused do not fire:
    /// [fill them in](Self::backfill_schedule) if they are wanted. One that is not paused is left as it is.
    ///
    /// # Errors
    /// [`ScheduleError::NoSchedule`], [`ScheduleError::Unreadable`], or the database's.
    ///
    /// # Cancel safety
    /// Call it again: a second time does no harm.
    pub async fn unpause_schedule(&self, name: &str) -> Result<(), ScheduleError> {
        const DOING: &str = "let the schedule go on";
        let database = ScheduleError::on(DOING);
        let (mut tx, locked) = self.locked(name, DOING).await?;
        if !locked.schedule.is_paused {
            return tx.rollback().await.map_err(database);
        }
        let spec = spec_of(&locked)?;
        let next = rule_of(&locked, &spec).after(locked.now).next();
        rows::pause(&mut *tx, name, false, None)
            .await
            .map_err(database)?;
        rows::move_on(&mut *tx, name, next, None)
            .await
            .map_err(database)?;
        tx.commit().await.map_err(database)
    }

    /// Fires a schedule now, beside its times and also when it is paused. Its overlap policy holds: see
    /// what became of it.
    ///
    /// # Errors
    /// [`ScheduleError::NoSchedule`], [`ScheduleError::Sealed`], or the database's.
    ///
    /// # Cancel safety
    /// Dropped half-way, it may or may not have fired.
    pub async fn trigger_schedule(&self, name: &str) -> Result<Fire, ScheduleError> {
        const DOING: &str = "trigger the schedule";
        let database = ScheduleError::on(DOING);
        let (mut tx, mut locked) = self.locked(name, DOING).await?;
        locked.open(self.vault())?;
        let overlap = locked.schedule.overlap;
        // Not on a whole millisecond: no time of the schedule is taken away by it.
        let fire_at = match locked.now.timestamp_subsec_micros() % 1_000 {
            0 => locked.now + Duration::microseconds(1),
            _ => locked.now,
        };
        let fired = async {
            let mut counter = Counter::open(&mut tx, self.vault(), &locked).await?;
            let fire = counter.offer(fire_at, FireCause::Trigger, overlap).await?;
            counter.close(next_of(&locked), Some(fire_at)).await?;
            Ok(fire)
        };
        let fire = fired.await.map_err(database)?;
        tx.commit().await.map_err(database)?;
        Ok(fire)
    }

    /// Fires the times of a window that is past, each once: those that were started before, or wait, stay
    /// as they are, and those that were skipped or missed come after all. `overlap` says what becomes of
    /// those whose forerunners still run: [`Overlap::BufferAll`] runs one after the other, with
    /// [`Overlap::AllowAll`] all start at once. What lies after now is left to the schedule. Of one that is
    /// paused, those that wait do so until it goes on.
    ///
    /// Returns what became of each time, oldest first.
    ///
    /// # Errors
    /// [`ScheduleError::TooMany`] when there are more than [`BACKFILL_MAX`], and then nothing is fired;
    /// [`ScheduleError::NoSchedule`]; [`ScheduleError::Unreadable`]; or the database's.
    ///
    /// # Cancel safety
    /// All or nothing; call it again: what was started is not started again, as long as it is among the
    /// last 2000 times that the schedule remembers.
    pub async fn backfill_schedule(
        &self,
        name: &str,
        window: RangeInclusive<DateTime<Utc>>,
        overlap: Overlap,
    ) -> Result<Vec<Fire>, ScheduleError> {
        const DOING: &str = "fill in the schedule's times";
        let database = ScheduleError::on(DOING);
        let (mut tx, mut locked) = self.locked(name, DOING).await?;
        locked.open(self.vault())?;
        let spec = spec_of(&locked)?;
        let (from, to) = (*window.start(), (*window.end()).min(locked.now));
        let times = spec.within(from, to, BACKFILL_MAX + 1);
        if times.len() > BACKFILL_MAX {
            return Err(ScheduleError::TooMany {
                name: name.to_owned(),
                most: BACKFILL_MAX,
            });
        }
        let filled = async {
            let mut counter = Counter::open(&mut tx, self.vault(), &locked).await?;
            let mut fires = Vec::with_capacity(times.len());
            for time in times {
                fires.push(counter.offer(time, FireCause::Backfill, overlap).await?);
            }
            counter.close(next_of(&locked), None).await?;
            Ok(fires)
        };
        let fires = filled.await.map_err(database)?;
        tx.commit().await.map_err(database)?;
        Ok(fires)
    }

    /// Deletes a schedule with its record. Runs that it has started go on; what waits is dropped.
    ///
    /// # Errors
    /// [`ScheduleError::NoSchedule`], or the database's.
    ///
    /// # Cancel safety
    /// Call it again: then there is none.
    pub async fn delete_schedule(&self, name: &str) -> Result<(), ScheduleError> {
        let is_there = rows::delete(self.pool(), name)
            .await
            .map_err(ScheduleError::on("delete the schedule"))?;
        found(is_there, name)
    }

    /// A transaction that holds the schedule's row.
    async fn locked(
        &self,
        name: &str,
        doing: &'static str,
    ) -> Result<(sqlx::Transaction<'static, sqlx::Postgres>, Locked), ScheduleError> {
        let database = ScheduleError::on(doing);
        let mut tx = store::begin(self.pool()).await.map_err(database)?;
        let locked = rows::lock(&mut *tx, name).await.map_err(database)?;
        let locked = locked.ok_or_else(|| ScheduleError::NoSchedule(name.to_owned()))?;
        Ok((tx, locked))
    }
}

fn found(is_there: bool, name: &str) -> Result<(), ScheduleError> {
    if is_there {
        Ok(())
    } else {
        Err(ScheduleError::NoSchedule(name.to_owned()))
    }
}

/// Its next time, as it is.
fn next_of(locked: &Locked) -> Option<NextFire> {
    let schedule = &locked.schedule;
    let (fire_at, due_at) = schedule.next_at.zip(schedule.due_at)?;
    Some(NextFire { fire_at, due_at })
}
