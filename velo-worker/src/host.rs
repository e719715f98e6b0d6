//! Where process ids mean the same, and whether a process lives there.

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// Names this boot of this machine and this namespace of process ids; elsewhere than on Linux,
/// nothing that another process shares.
pub(crate) fn id() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let namespace = std::fs::read_link("/proc/self/ns/pid");
    match (boot, namespace) {
        (Ok(boot), Ok(namespace)) => format!("{}/{}", boot.trim(), namespace.display()),
        _ => format!("unknown/{}", uuid::Uuid::new_v4()),
    }
}

/// Whether a process of this host is certainly dead.
pub(crate) fn is_dead(pid: i32) -> bool {
    let Some(process) = Pid::from_raw(pid) else {
        return false;
    };
    test_kill_process(process) == Err(Errno::SRCH) || is_zombie(pid)
}

/// A process that has ended and whose parent has not asked how.
fn is_zombie(pid: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The name, in parentheses, may itself contain some.
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_an_ended_one_is_dead() {
        assert!(!is_dead(std::process::id().cast_signed()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id().cast_signed();
        child.wait().unwrap();
        assert!(is_dead(pid));
    }

    #[test]
    fn two_looks_at_this_host_agree() {
        assert_eq!(id(), id());
    }
}
