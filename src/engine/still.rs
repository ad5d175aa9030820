//! A running container held still while its files are read: each of its
//! processes is stopped, and goes on when the value is dropped.

use super::Engine;
use super::trees::init_of;
use crate::error::{BestEffort, Context, Error, Result};
use crate::state::store::{Snapshot, is_alive};
use crate::sys::process::pidfd_send_signal;
use crate::types::status::{ProcessId, Status};
use rustix::process::{Pid, PidfdFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

/// How often new processes are looked for; a container that forks faster than
/// it can be stopped is read as it runs.
const ROUNDS: u32 = 64;

/// The processes that were stopped.
pub(super) struct Still(Vec<OwnedFd>);

impl Still {
    /// Stops the container; `None` where it does not run, or is paused already.
    pub(super) fn hold(engine: &Engine, snapshot: &Snapshot) -> Result<Option<Self>> {
        let Some(init) = init_of(snapshot) else { return Ok(None) };
        if matches!(snapshot.status, Status::Running { paused: true, .. }) {
            return Ok(None);
        }
        // Its processes can be looked into from the outer namespace alone.
        engine.enter()?;
        let mut still = Self(Vec::new());
        let mut seen = BTreeSet::new();
        for _ in 0..ROUNDS {
            let before = seen.len();
            for pid in processes_of(init)? {
                if seen.insert(pid) {
                    still.stop(pid)?;
                }
            }
            if seen.len() == before {
                break;
            }
        }
        if is_alive(init) {
            return Ok(Some(still));
        }
        Err(Error::conflict(format!("container {} has just ended", snapshot.record.name)))
    }

    fn stop(&mut self, pid: u32) -> Result<()> {
        let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
        // What is gone needs no stop; what the container stopped by itself stays so.
        let Ok(pidfd) = rustix::process::pidfd_open(number, PidfdFlags::empty()) else { return Ok(()) };
        let Some(process) = look(pid).filter(|process| !process.stopped) else { return Ok(()) };
        debug_assert_eq!(process.pid, pid, "the number is the pidfd's");
        match pidfd_send_signal(&pidfd, libc::SIGSTOP) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            result => {
                result.context(|| format!("stop process {pid} of the container"))?;
                self.0.push(pidfd);
                Ok(())
            }
        }
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        // Children first: a shell that goes on finds its children as they were.
        for pidfd in self.0.iter().rev() {
            pidfd_send_signal(pidfd, libc::SIGCONT).or_ignore();
        }
    }
}

/// One process of the host, as far as it matters here.
struct Process {
    pid: u32,
    parent: u32,
    stopped: bool,
}

/// `None` where it is gone: proc_pid_stat(5).
fn look(pid: u32) -> Option<Process> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything but ends at the last parenthesis.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (state != "Z" && state != "X").then(|| Process { pid, parent, stopped: state == "T" || state == "t" })
}

/// The processes of a container: those of its pid namespace, where it has one
/// of its own, and everything that descends from them.
fn processes_of(init: ProcessId) -> Result<Vec<u32>> {
    let space = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let theirs = space(init.pid).filter(|theirs| space(std::process::id()).as_ref() != Some(theirs));
    let mut parents = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").context(|| "list the processes")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if let Some(process) = look(pid) {
            parents.insert(process.pid, process.parent);
        }
    }
    let mut inside: BTreeSet<u32> = parents
        .keys()
        .copied()
        .filter(|pid| *pid == init.pid || theirs.is_some() && space(*pid) == theirs)
        .collect();
    loop {
        let more: Vec<u32> = parents
            .iter()
            .filter(|(pid, parent)| inside.contains(parent) && !inside.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            // The first process first: it starts no others then.
            let mut all: Vec<u32> = vec![init.pid];
            all.extend(inside.into_iter().filter(|pid| *pid != init.pid));
            return Ok(all);
        }
        inside.extend(more);
    }
}
