//! Ending a command with all that it has started.

use super::kill;
use crate::error::BestEffort;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

/// Processes that are looked for; a fork bomb is ended by the container's own end.
const MAX_PROCESSES: usize = 4096;
/// How often is looked for those that were forked meanwhile.
const ROUNDS: usize = 16;

/// Kills the process and its descendants. All are stopped first, so that none
/// forks away from under this hand. One whose parent has ended before belongs
/// to the container's init, and stays: nothing tells whose it was.
pub(super) fn kill_tree(pid: u32, pidfd: &OwnedFd) {
    pidfd_send_signal(pidfd, Signal::STOP).or_ignore();
    let mut stopped: BTreeMap<u32, OwnedFd> = BTreeMap::new();
    for _ in 0..ROUNDS {
        let parents: Vec<u32> = std::iter::once(pid).chain(stopped.keys().copied()).collect();
        let before = stopped.len();
        for parent in parents {
            for child in children(parent) {
                if stopped.len() < MAX_PROCESSES && !stopped.contains_key(&child) {
                    if let Some(pidfd) = open_child(parent, child) {
                        pidfd_send_signal(&pidfd, Signal::STOP).or_ignore();
                        stopped.insert(child, pidfd);
                    }
                }
            }
        }
        if stopped.len() == before {
            break;
        }
    }
    for descendant in stopped.values() {
        kill(descendant);
    }
    kill(pidfd);
}

/// The pidfd first, then the look at whose child it is: a pid may be another's by now.
fn open_child(parent: u32, child: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(child).ok()?)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    children(parent).contains(&child).then_some(pidfd)
}

fn children(parent: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{parent}/task")) else { return Vec::new() };
    let texts = threads
        .take(MAX_PROCESSES)
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok());
    let parse =
        |text: String| -> Vec<u32> { text.split_whitespace().filter_map(|word| word.parse().ok()).collect() };
    texts.flat_map(parse).collect()
}
