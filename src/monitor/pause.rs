//! `pause`: every process of the container stops where it is.
//!
//! With a control group the kernel freezes them all at once, and no process can
//! tell. Without one each is stopped by SIGSTOP, which its parent could see and
//! which another process of the container could undo: the next best.

use super::life::Container;
use crate::error::{BestEffort, Context, Error, Result};
use crate::state::events;
use crate::sys::proc_stat::Stat;
use crate::types::namespace::NamespaceMode;
use rustix::process::{Pid, PidfdFlags, Signal};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;
use std::time::Duration;

/// How long the kernel may take to freeze the last process.
const FREEZING: Duration = Duration::from_secs(10);
/// Between two looks at it.
const LOOK: Duration = Duration::from_micros(500);
/// How often new processes are looked for: a fork bomb wins.
const PASSES: usize = 1000;

/// # Errors
/// `Conflict` where it does not run or is paused already; `Failed` where its
/// processes cannot be stopped.
pub(super) async fn pause(container: &Rc<Container>) -> Result<()> {
    let name = &container.record.name;
    let (init, paused) =
        container.init().ok_or_else(|| Error::conflict(format!("container {name} is not running")))?;
    if paused {
        return Err(Error::conflict(format!("container {name} is already paused")));
    }
    match container.with_group(|group| group.set_frozen(true)) {
        Some(frozen) => {
            frozen?;
            if let Err(error) = until_frozen(container).await {
                container.with_group(|group| group.set_frozen(false)).unwrap_or(Ok(())).or_ignore();
                return Err(error);
            }
        }
        None => stop_all(container, init.pid)?,
    }
    container.republish(|state| state.paused = true)?;
    events::append(&container.dirs, &events::of_container(&container.present_record(), "pause")).or_ignore();
    Ok(())
}

/// # Errors
/// `Conflict` where it is not paused.
pub(super) fn unpause(container: &Rc<Container>) -> Result<()> {
    match container.init() {
        Some((init, true)) => thaw(container, init.pid),
        _ => Err(Error::conflict(format!("container {} is not paused", container.record.name))),
    }
}

/// For a signal that must be taken.
pub(super) fn unpause_if_paused(container: &Rc<Container>) {
    if let Some((init, true)) = container.init() {
        thaw(container, init.pid).or_ignore();
    }
}

fn thaw(container: &Rc<Container>, init: u32) -> Result<()> {
    match container.with_group(|group| group.set_frozen(false)) {
        Some(result) => result?,
        None => continue_all(container, init)?,
    }
    container.republish(|state| state.paused = false)?;
    events::append(&container.dirs, &events::of_container(&container.present_record(), "unpause"))
        .or_ignore();
    Ok(())
}

async fn until_frozen(container: &Rc<Container>) -> Result<()> {
    let frozen = async {
        loop {
            match container.with_group(crate::cgroup::Group::is_frozen) {
                Some(Ok(false)) => tokio::time::sleep(LOOK).await,
                Some(result) => return result.map(drop),
                None => return Err(Error::conflict("the container has just ended")),
            }
        }
    };
    tokio::time::timeout(FREEZING, frozen)
        .await
        .unwrap_or_else(|_| Err(Error::failed("the kernel does not freeze the container's processes")))
}

/// SIGSTOP to all, until there is none that runs.
fn stop_all(container: &Container, init: u32) -> Result<()> {
    if container.record.config.pid == NamespaceMode::Host {
        return Err(Error::failed("the container shares the host's processes and has no control group")
            .hint("its processes cannot be told from others: leave out --pid host, or use a host that delegates a control group"));
    }
    let mut before = Vec::new();
    for pass in 0..PASSES {
        let mut moving = false;
        for process in processes_of(init)? {
            match process.state {
                'T' | 't' if pass == 0 => before.push(process.pid),
                'T' | 't' | 'Z' | 'X' => {}
                _ => {
                    moving = true;
                    signal(process.pid, Signal::STOP);
                }
            }
        }
        if !moving {
            *container.stopped_before.borrow_mut() = before;
            return Ok(());
        }
    }
    continue_all(container, init).or_ignore();
    Err(Error::failed("the container makes processes faster than they can be stopped"))
}

/// Children first: a parent that goes on finds none of them stopped.
fn continue_all(container: &Container, init: u32) -> Result<()> {
    let before = std::mem::take(&mut *container.stopped_before.borrow_mut());
    let processes = processes_of(init)?;
    let parents: BTreeMap<u32, u32> = processes.iter().map(|process| (process.pid, process.parent)).collect();
    let depth = |pid: u32| {
        let up = std::iter::successors(Some(pid), |pid| parents.get(pid).copied());
        up.take(parents.len() + 1).count()
    };
    let mut order: Vec<u32> =
        processes.iter().map(|process| process.pid).filter(|pid| !before.contains(pid)).collect();
    order.sort_by_key(|pid| std::cmp::Reverse(depth(*pid)));
    for pid in order {
        signal(pid, Signal::CONT);
    }
    Ok(())
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid as i32)
        && let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty())
    {
        rustix::process::pidfd_send_signal(&pidfd, signal).or_ignore();
    }
}

struct Process {
    pid: u32,
    parent: u32,
    state: char,
}

/// All processes of the pid namespace whose first process is `init`.
fn processes_of(init: u32) -> Result<Vec<Process>> {
    let namespace = |pid: u32| std::fs::metadata(format!("/proc/{pid}/ns/pid")).map(|meta| meta.ino());
    let own = namespace(init).context(|| "find the container's pid namespace")?;
    let entries = std::fs::read_dir("/proc").context(|| "list processes")?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let process = |pid: u32| {
        let stat = Stat::of(pid)?;
        Some(Process { pid, parent: stat.number(4)?, state: stat.state()? })
    };
    Ok(pids.filter(|pid| namespace(*pid).is_ok_and(|inode| inode == own)).filter_map(process).collect())
}
