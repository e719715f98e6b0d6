//! Pure: in which order what was found of a run is told.
//!
//! What belongs to a step comes before it, and steps in their order. Events and what nodes say have places
//! of their own; between those and the steps the clock decides, which makes the order a good one for
//! people, and is never what an item's being told once depends on.

use chrono::{DateTime, Utc};

use super::position::Mark;
use crate::store::stream::{
    Found, FoundChild, FoundEvent, FoundFailure, FoundOutcome, FoundPiece, FoundStep, FoundWait,
};

/// One row, at its place in the order.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    Child(FoundChild),
    Failure(FoundFailure),
    Wait(FoundWait),
    /// With the time of its step, or of the look when that is not committed.
    Outcome(FoundOutcome, DateTime<Utc>),
    Step(FoundStep),
    Event(FoundEvent),
    Piece(FoundPiece),
}

/// Where a row comes from: each source has an order of its own that is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Pieces,
    Events,
    Steps,
}

impl Entry {
    fn at(&self) -> DateTime<Utc> {
        match self {
            Self::Child(child) => child.at,
            Self::Failure(failure) => failure.at,
            Self::Wait(wait) => wait.at,
            Self::Outcome(_, at) => *at,
            Self::Step(step) => step.at,
            Self::Event(event) => event.at,
            Self::Piece(piece) => piece.at,
        }
    }

    /// The step that it belongs to, and its place in that; only of what belongs to steps.
    fn place(&self) -> (i32, u8) {
        match self {
            Self::Child(child) => (child.seq, 0),
            Self::Failure(failure) => (failure.seq, 0),
            Self::Wait(wait) => (wait.seq, 0),
            Self::Outcome(outcome, _) => (outcome.seq, 1),
            Self::Step(step) => (step.seq, 2),
            Self::Event(_) | Self::Piece(_) => (i32::MAX, 3),
        }
    }

    fn is(&self, mark: &Mark) -> bool {
        match (self, mark) {
            (Self::Step(step), Mark::Step(seq)) => step.seq == *seq,
            (Self::Outcome(outcome, _), Mark::Outcome(task)) => outcome.task == *task,
            (Self::Wait(wait), Mark::Wait(task, name)) => wait.task == *task && wait.name == *name,
            _ => false,
        }
    }
}

/// Puts what was found in order, and says whether that is all there was. What was cut off hides what
/// comes after it, also of other kinds: that is left for the next look.
///
/// `begun` is the row of which some items were told already.
pub(super) fn arrange(found: Found, begun: Option<&Mark>) -> (Vec<Entry>, bool) {
    let more = found.more;
    let cut = |is_cut: bool, last: Option<i32>| is_cut.then_some(last).flatten();
    let children_cut = cut(more.children, found.children.iter().map(|it| it.seq).max());
    // Up to where the parts of steps are complete.
    let whole_below = [
        children_cut,
        cut(more.outcomes, found.outcomes.iter().map(|it| it.seq).max()),
        cut(more.failures, found.failures.iter().map(|it| it.seq).max()),
        cut(more.waits, found.waits.iter().map(|it| it.seq).max()),
    ];
    let whole_below = whole_below.into_iter().flatten().min();

    let step_at = |seq: i32| {
        let step = found.steps.iter().find(|step| step.seq == seq);
        step.map_or(found.now, |step| step.at)
    };
    let outcomes = found
        .outcomes
        .iter()
        .map(|outcome| Entry::Outcome(outcome.clone(), step_at(outcome.seq)));
    let mut bound: Vec<Entry> = outcomes.collect();
    bound.extend(found.children.into_iter().map(Entry::Child));
    bound.extend(found.failures.into_iter().map(Entry::Failure));
    bound.extend(found.waits.into_iter().map(Entry::Wait));
    bound.extend(found.steps.into_iter().map(Entry::Step));
    bound.retain(|entry| match (entry, whole_below) {
        (_, None) => true,
        (Entry::Step(step), Some(below)) => step.seq < below,
        // Children of the task may be among those that were cut off.
        (Entry::Outcome(outcome, _), Some(_))
            if children_cut.is_some_and(|cut| outcome.seq >= cut) =>
        {
            false
        }
        (entry, Some(below)) => entry.place().0 <= below,
    });
    bound.sort_by_key(|entry| {
        let (seq, rank) = entry.place();
        let at = (rank == 0).then(|| entry.at());
        (seq, rank, at)
    });
    if let Some(place) = begun.and_then(|mark| bound.iter().position(|entry| entry.is(mark))) {
        let entry = bound.remove(place);
        bound.insert(0, entry);
    }
    let steps_cut = more.steps || whole_below.is_some();
    let merged = merge(
        found.pieces.into_iter().map(Entry::Piece),
        found.events.into_iter().map(Entry::Event),
        bound.into_iter(),
    );
    let kept = [
        (Source::Pieces, more.pieces),
        (Source::Events, more.events),
        (Source::Steps, steps_cut),
    ];
    let kept = kept
        .into_iter()
        .filter(|(_, is_cut)| *is_cut)
        .map(|(source, _)| {
            let last = merged.iter().rposition(|(from, _)| *from == source);
            last.map_or(0, |last| last + 1)
        });
    let kept = kept.min();
    let is_all = kept.is_none();
    let entries = merged.into_iter().map(|(_, entry)| entry);
    let entries = entries.take(kept.unwrap_or(usize::MAX)).collect();
    (entries, is_all)
}

/// By time, where the order of each source comes first: a clock that was set back moves nothing.
fn merge(
    pieces: impl Iterator<Item = Entry>,
    events: impl Iterator<Item = Entry>,
    bound: impl Iterator<Item = Entry>,
) -> Vec<(Source, Entry)> {
    let mut merged: Vec<(DateTime<Utc>, Source, Entry)> = Vec::new();
    let mut add = |source: Source, entries: &mut dyn Iterator<Item = Entry>| {
        let mut latest = DateTime::<Utc>::MIN_UTC;
        for entry in entries {
            latest = latest.max(entry.at());
            merged.push((latest, source, entry));
        }
    };
    add(Source::Pieces, &mut { pieces });
    add(Source::Events, &mut { events });
    add(Source::Steps, &mut { bound });
    // Stable: of one time, what was said comes before what was emitted, and that before its step.
    merged.sort_by_key(|(at, ..)| *at);
    let merged = merged.into_iter();
    merged.map(|(_, source, entry)| (source, entry)).collect()
}

/// How many of the things that nodes said are not there any more, of those after the place `read`; with
/// `None` inside when nobody knows, since the database has crashed in between.
#[expect(
    clippy::option_option,
    reason = "nothing missed differs from an unknown number"
)]
pub(super) fn missed(read: i64, found: &Found) -> Option<Option<i64>> {
    let next = found
        .pieces
        .first()
        .map_or(found.pieces_to + 1, |piece| piece.id);
    if 0 < read && read < found.pieces_from {
        return Some(None);
    }
    let expected = (read + 1).max(found.pieces_from);
    (next > expected).then_some(Some(next - expected))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::engine::RunStatus;
    use crate::store::stream::More;

    fn time(millis: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(millis).unwrap()
    }

    fn found() -> Found {
        Found {
            status: RunStatus::Active,
            now: time(1_000),
            steps: Vec::new(),
            outcomes: Vec::new(),
            failures: Vec::new(),
            waits: Vec::new(),
            children: Vec::new(),
            events: Vec::new(),
            pieces: Vec::new(),
            more: More::default(),
            pieces_from: 0,
            pieces_to: 0,
        }
    }

    fn step(seq: i32, millis: i64) -> FoundStep {
        FoundStep {
            seq,
            at: time(millis),
            fence: 1,
            delta: Vec::new(),
            control: Vec::new(),
            snapshot: None,
        }
    }

    fn outcome(seq: i32, task: i32) -> FoundOutcome {
        let outcome = Vec::new();
        FoundOutcome { seq, task, outcome }
    }

    fn event(seq: i64, millis: i64) -> FoundEvent {
        FoundEvent {
            seq,
            kind: "told".to_owned(),
            body: Value::Null,
            at: time(millis),
        }
    }

    fn piece(id: i64) -> FoundPiece {
        FoundPiece {
            id,
            seq: 1,
            task: 0,
            attempt: 1,
            fence: 1,
            node: "node".to_owned(),
            kind: "text".to_owned(),
            name: "text".to_owned(),
            start: 0,
            body: "said".to_owned(),
            lost: 0,
            at: time(id),
        }
    }

    fn child(seq: i32, task: i32) -> FoundChild {
        FoundChild {
            seq,
            task,
            run: crate::RunId::from_i64(task.into()),
            node: "node".to_owned(),
            name: "child".to_owned(),
            graph: "below@1".to_owned(),
            is_awaited: true,
            at: time(5),
        }
    }

    fn told(found: Found, begun: Option<&Mark>) -> (Vec<String>, bool) {
        let (entries, is_all) = arrange(found, begun);
        let told = entries.iter().map(|entry| match entry {
            Entry::Step(step) => format!("step {}", step.seq),
            Entry::Outcome(outcome, _) => format!("outcome {}.{}", outcome.seq, outcome.task),
            Entry::Child(child) => format!("child {}.{}", child.seq, child.task),
            Entry::Event(event) => format!("event {}", event.seq),
            Entry::Piece(piece) => format!("piece {}", piece.id),
            Entry::Failure(_) | Entry::Wait(_) => "other".to_owned(),
        });
        (told.collect(), is_all)
    }

    #[test]
    fn what_belongs_to_a_step_comes_before_it_and_events_where_their_time_is() {
        let found = Found {
            steps: vec![step(1, 10), step(2, 20)],
            outcomes: vec![outcome(2, 0), outcome(2, 1), outcome(3, 0)],
            events: vec![event(1, 9), event(2, 19), event(3, 25)],
            ..found()
        };
        let expected = [
            "event 1",
            "step 1",
            "event 2",
            "outcome 2.0",
            "outcome 2.1",
            "step 2",
            "event 3",
            "outcome 3.0",
        ];
        assert_eq!(
            told(found, None),
            (expected.map(str::to_owned).to_vec(), true)
        );
    }

    #[test]
    fn what_was_cut_off_hides_what_comes_after_it_of_every_kind() {
        let cut_outcomes = Found {
            steps: vec![step(1, 10), step(2, 20)],
            outcomes: vec![outcome(2, 0), outcome(2, 1)],
            events: vec![event(1, 15), event(2, 30)],
            more: More {
                outcomes: true,
                ..More::default()
            },
            ..found()
        };
        let expected = ["step 1", "event 1", "outcome 2.0", "outcome 2.1"];
        assert_eq!(
            told(cut_outcomes, None),
            (expected.map(str::to_owned).to_vec(), false)
        );

        // An outcome whose children were not all read would come before theirs.
        let cut_children = Found {
            steps: vec![step(1, 10)],
            outcomes: vec![outcome(1, 0)],
            children: vec![child(1, 0)],
            more: More {
                children: true,
                ..More::default()
            },
            ..found()
        };
        assert_eq!(
            told(cut_children, None),
            (vec!["child 1.0".to_owned()], false)
        );

        let cut_events = Found {
            steps: vec![step(1, 10), step(2, 20)],
            events: vec![event(1, 15)],
            more: More {
                events: true,
                ..More::default()
            },
            ..found()
        };
        let expected = ["step 1", "event 1"];
        assert_eq!(
            told(cut_events, None),
            (expected.map(str::to_owned).to_vec(), false)
        );
    }

    #[test]
    fn a_row_that_was_begun_comes_first_and_a_clock_that_was_set_back_moves_nothing() {
        let found = Found {
            outcomes: vec![outcome(1, 0), outcome(1, 4)],
            events: vec![event(1, 40), event(2, 30)],
            ..found()
        };
        let expected = ["event 1", "event 2", "outcome 1.4", "outcome 1.0"];
        let begun = Mark::Outcome(4);
        assert_eq!(
            told(found, Some(&begun)),
            (expected.map(str::to_owned).to_vec(), true)
        );
    }

    #[test]
    fn what_nodes_said_is_missed_when_it_is_gone_and_not_when_it_was_never_there() {
        let kept = |from, to, pieces: Vec<FoundPiece>| Found {
            pieces_from: from,
            pieces_to: to,
            pieces,
            ..found()
        };
        assert_eq!(missed(0, &kept(0, 0, Vec::new())), None);
        assert_eq!(
            missed(0, &kept(100, 101, vec![piece(100), piece(101)])),
            None
        );
        assert_eq!(missed(0, &kept(100, 105, vec![piece(103)])), Some(Some(3)));
        assert_eq!(missed(102, &kept(100, 105, vec![piece(103)])), None);
        assert_eq!(missed(102, &kept(100, 105, Vec::new())), Some(Some(3)));
        assert_eq!(missed(105, &kept(100, 105, Vec::new())), None);
        // The database has crashed, and began anew.
        assert_eq!(missed(102, &kept(200, 201, vec![piece(200)])), Some(None));
        assert_eq!(missed(102, &kept(0, 0, Vec::new())), None);
    }
}
