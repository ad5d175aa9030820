//! Who is in the outer user namespace, so that others can join it there.
//!
//! A holder is a file whose name says everything, so registering is one open(2) and
//! leaving one unlink(2), without a lock. A file whose process is gone is harmless:
//! whoever meets it removes it. It holds the name of the process's pid namespace, as
//! the number means nothing in another, as in a sandbox with the user's home.

use crate::dirs::create_private;
use crate::error::{BestEffort, Context, Result};
use crate::sys::proc_stat::Stat;
use crate::types::status::ProcessId;
use rustix::process::{Pid, PidfdFlags};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

fn folder(runtime: &Path) -> PathBuf {
    runtime.join("outer")
}

fn file_name(process: ProcessId) -> String {
    format!("{}-{}", process.pid, process.start_ticks)
}

fn parse_name(name: &str) -> Option<ProcessId> {
    let (pid, start_ticks) = name.split_once('-')?;
    Some(ProcessId { pid: pid.parse().ok()?, start_ticks: start_ticks.parse().ok()? })
}

/// Says that this process is in the outer namespace and may be joined there.
/// Each monitor calls it at its start; `enter` does where it makes a namespace.
/// Calling it again changes nothing.
pub(crate) fn register_holder(runtime: &Path) -> Result<()> {
    let path = folder(runtime).join(file_name(this_process()?));
    let create = || std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    let step = || format!("write {}", path.display());
    let mut file = match create() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            create_private(&folder(runtime))?;
            create().context(step)?
        }
        file => file.context(step)?,
    };
    // On a full disk it is as one of an earlier release, which has nothing in it.
    file.write_all(pid_namespace().as_bytes()).or_ignore();
    Ok(())
}

/// As the kernel names it: `pid:[4026531836]`.
fn pid_namespace() -> String {
    let name = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Whether the numbers of processes are others where the file was written.
fn is_of_another_namespace(holder: &Path) -> bool {
    let told = std::fs::read_to_string(holder).unwrap_or_default();
    !told.is_empty() && !told.starts_with(&pid_namespace())
}

/// Takes the word back. For a process that never registered it does nothing.
pub(crate) fn unregister_holder(runtime: &Path) -> Result<()> {
    let path = folder(runtime).join(file_name(this_process()?));
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Takes the word of a process back that was killed.
pub(crate) fn forget_holder(runtime: &Path, process: ProcessId) -> Result<()> {
    let path = folder(runtime).join(file_name(process));
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Gives each holder alive to `attempt` until one is taken (`Ok(true)`).
/// Files of holders that are gone are removed on the way.
///
/// # Errors
/// What `attempt` returns as an error ends the search.
pub(crate) fn find_living(runtime: &Path, mut attempt: impl FnMut(&OwnedFd) -> Result<bool>) -> Result<bool> {
    let Ok(entries) = std::fs::read_dir(folder(runtime)) else { return Ok(false) };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(process) = name.to_str().and_then(parse_name) else { continue };
        match open_living(process) {
            Some(pidfd) => {
                if attempt(&pidfd)? {
                    return Ok(true);
                }
            }
            None if is_of_another_namespace(&entry.path()) => {}
            // Gone already is as good as removed.
            None => drop(std::fs::remove_file(entry.path())),
        }
    }
    Ok(false)
}

/// A pidfd of just this process; `None` where it is gone.
pub(crate) fn open_living(process: ProcessId) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(process.pid).ok()?)?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
    // After opening: what the pidfd refers to is now the process of that pid.
    (start_ticks(process.pid)? == process.start_ticks).then_some(pidfd)
}

/// This process as others can find it.
fn this_process() -> Result<ProcessId> {
    let pid = std::process::id();
    let start_ticks = start_ticks(pid)
        .ok_or_else(|| crate::error::Error::failed("/proc/self/stat is not what proc_pid_stat(5) says"))?;
    Ok(ProcessId { pid, start_ticks })
}

fn start_ticks(pid: u32) -> Option<u64> {
    Stat::of(pid)?.number(22)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_after_a_wicked_name() {
        let stat = "7 (a) b) R 1 7 7 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 2 3";
        let start_ticks = |stat: &str| Stat::parse(stat.as_bytes())?.number::<u64>(22);
        assert_eq!(start_ticks(stat), Some(12345));
        assert_eq!(start_ticks("7 (a"), None);
    }

    #[test]
    fn names_of_files() {
        let process = ProcessId { pid: 12, start_ticks: 345 };
        assert_eq!(parse_name(&file_name(process)), Some(process));
        for bad in ["", "12", "12-", "-1", "a-1", "1-b", ".swp"] {
            assert_eq!(parse_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_living_are_found_and_the_dead_removed() {
        let runtime = tempfile::tempdir().expect("a directory");
        let mut met = 0;
        let mut count = |_: &OwnedFd| {
            met += 1;
            Ok(true)
        };
        assert!(!find_living(runtime.path(), &mut count).expect("searched"));
        register_holder(runtime.path()).expect("registered");
        register_holder(runtime.path()).expect("registered again");
        let mut reused = this_process().expect("this process");
        reused.start_ticks += 1;
        let stale = folder(runtime.path()).join(file_name(reused));
        std::fs::write(&stale, "").expect("written");
        assert!(find_living(runtime.path(), &mut count).expect("searched"));
        unregister_holder(runtime.path()).expect("unregistered");
        unregister_holder(runtime.path()).expect("unregistered again");
        assert!(!find_living(runtime.path(), &mut count).expect("searched"));
        assert_eq!(met, 1);
        assert!(!stale.exists());
        std::fs::write(&stale, "pid:[1]").expect("written");
        assert!(!find_living(runtime.path(), |_: &OwnedFd| Ok(true)).expect("searched"));
        assert!(stale.exists(), "it may live where its number is its own");
    }
}
