//! Processor time, as Linux counts it. Elsewhere, and for a server on another machine, there is none.

use std::fs;

/// What the kernel counts processor time in, the same on every Linux: 1/100 s.
const TICK_MICROSECONDS: u64 = 10_000;

/// Processor time so far, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cpu {
    /// Of the Postgres server and all of its processes.
    pub(crate) server: u64,
    /// Of this process.
    pub(crate) client: u64,
    /// Of the whole machine.
    pub(crate) machine: u64,
}

impl Cpu {
    /// Reads the clocks; `None` where there is no such server or no `/proc`.
    pub(crate) fn now(postmaster: Option<i32>) -> Option<Self> {
        let own = Process::read(&std::process::id().to_string())?;
        let server = postmaster.and_then(family)?;
        Some(Self {
            server,
            client: own.own * TICK_MICROSECONDS,
            machine: machine()?,
        })
    }
}

/// The parent of a process: the postmaster of a backend.
pub(crate) fn parent(pid: i32) -> Option<i32> {
    let process = Process::read(&pid.to_string())?;
    let name = fs::read_to_string(format!("/proc/{}/comm", process.parent)).ok()?;
    // A server on another machine may have a process of the same number here.
    name.trim()
        .starts_with("postgres")
        .then_some(process.parent)
}

/// Readings of a family before one is taken in which nobody died meanwhile.
const READINGS_MAX: u32 = 10;

/// A process and its children, those that have ended included.
fn family(root: i32) -> Option<u64> {
    let mut head = Process::read(&root.to_string())?;
    for _ in 0..READINGS_MAX {
        let children = fs::read_dir("/proc").ok()?.filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            name.parse::<i32>().ok()?;
            let process = Process::read(&name)?;
            (process.parent == root).then_some(process.own)
        });
        let of_children: u64 = children.sum();
        let again = Process::read(&root.to_string())?;
        // One that died in between was counted neither as living nor as dead, or twice.
        let nobody_died = again.of_dead_children == head.of_dead_children;
        head = again;
        if nobody_died {
            return Some((head.own + head.of_dead_children + of_children) * TICK_MICROSECONDS);
        }
    }
    None
}

#[derive(Debug)]
struct Process {
    parent: i32,
    own: u64,
    of_dead_children: u64,
}

impl Process {
    fn read(pid: &str) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may itself contain some.
        let (_, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let ticks = |place: usize| fields.get(place)?.parse::<u64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own: ticks(11)? + ticks(12)?,
            of_dead_children: ticks(13)? + ticks(14)?,
        })
    }
}

/// All that was not idling or waiting for a disk.
fn machine() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<u64> = stat
        .lines()
        .next()?
        .split_ascii_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    let [user, nice, system, _idle, _wait, irq, softirq, ..] = fields[..] else {
        return None;
    };
    Some((user + nice + system + irq + softirq) * TICK_MICROSECONDS)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_busy_process_uses_time_that_the_machine_also_counts() {
        let own = i32::try_from(std::process::id()).unwrap();
        let before = Cpu::now(Some(own)).unwrap();
        let mut sum = 0_u64;
        while Cpu::now(Some(own)).unwrap().client == before.client {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let after = Cpu::now(Some(own)).unwrap();
        assert!(after.client > before.client && after.machine > before.machine);
        assert_eq!(
            after.server / TICK_MICROSECONDS * TICK_MICROSECONDS,
            after.server
        );
    }
}
