//! An order in which tasks can be done.

use std::collections::HashMap;

use super::TaskDraft;

/// The place of each task, from zero, such that every task comes behind those that it depends on
/// and otherwise as early as it was written; or the keys of a circle. Dependencies on tasks that
/// do not exist are not looked at.
pub(super) fn positions(tasks: &[TaskDraft]) -> Result<Vec<u32>, Vec<String>> {
    let by_key: HashMap<&str, usize> = tasks
        .iter()
        .enumerate()
        .map(|(at, task)| (task.key.as_str(), at))
        .collect();
    let needs: Vec<Vec<usize>> = tasks
        .iter()
        .map(|task| {
            let keys = task.depends_on.iter();
            keys.filter_map(|key| by_key.get(key.as_str()).copied())
                .collect()
        })
        .collect();
    let mut places: Vec<Option<u32>> = vec![None; tasks.len()];
    for place in 0..tasks.len() {
        let is_ready = |at: &usize| {
            places[*at].is_none() && needs[*at].iter().all(|need| places[*need].is_some())
        };
        match (0..tasks.len()).find(is_ready) {
            Some(next) => places[next] = u32::try_from(place).ok(),
            None => return Err(circle(tasks, &needs, &places)),
        }
    }
    Ok(places.into_iter().flatten().collect())
}

/// Every task without a place needs another one without, so following them leads in a circle.
fn circle(tasks: &[TaskDraft], needs: &[Vec<usize>], places: &[Option<u32>]) -> Vec<String> {
    let mut path: Vec<usize> = Vec::new();
    let mut next = (0..tasks.len()).find(|at| places[*at].is_none());
    while let Some(at) = next {
        if let Some(start) = path.iter().position(|seen| *seen == at) {
            let around = path[start..].iter().chain([&at]);
            return around.map(|at| tasks[*at].key.clone()).collect();
        }
        path.push(at);
        next = needs[at]
            .iter()
            .copied()
            .find(|need| places[*need].is_none());
    }
    Vec::new()
}

/// The circle in words.
pub(super) fn told(circle: &[String]) -> String {
    let circle: Vec<String> = circle.iter().map(|key| format!("`{key}`")).collect();
    format!(
        "depend on each other in a circle: {}; drop one of these dependencies",
        circle.join(" needs ")
    )
}
