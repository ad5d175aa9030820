//! A guard over a helper that would outlive us: `coracle --uplink-guard`.
//!
//! The guard dies with its parent, and is above a process that dies with it and
//! is the first of a pid namespace, in which the helper runs: so the kernel ends
//! the helper, whichever of them is killed.

use crate::channel::last_words;
use crate::error::{BestEffort, Context, Error, Result, Trouble};
use crate::sys::process::{self, Cloned};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::ExitCode;

/// `argv[1]` of the role.
pub(crate) const ROLE: &str = "--uplink-guard";

/// This program, through the read-only mount by which its starter was executed.
pub(super) const OURSELVES: &str = "/proc/self/exe";

/// The arguments of a guard over `program`.
pub(super) fn arguments(program: &Path, arguments: Vec<String>) -> Vec<String> {
    let own = [ROLE.to_owned(), std::process::id().to_string(), program.display().to_string()];
    own.into_iter().chain(arguments).collect()
}

/// The role's entry: exits as the helper did.
pub(crate) fn main() -> ExitCode {
    match guard(std::env::args_os().skip(2)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            last_words(&error);
            ExitCode::from(125)
        }
    }
}

fn guard(mut words: impl Iterator<Item = OsString>) -> Result<u8> {
    let usage = || Error::failed("this role is coracle's own");
    let parent = words.next().and_then(|word| word.to_str()?.parse().ok()).ok_or_else(usage)?;
    let words: Vec<CString> = words.filter_map(|word| CString::new(word.into_vec()).ok()).collect();
    let program = words.first().ok_or_else(usage)?.clone();
    die_with(Some(parent))?;
    let first = process::clone3(libc::CLONE_NEWPID as u64).context(|| "make a pid namespace")?;
    let Cloned::Parent { pidfd, .. } = first else {
        // The first process of the namespace, whose parent has no number in it.
        let code = die_with(None).and_then(|()| serve(&program, &words)).unwrap_or(125);
        process::exit_now(code.into());
    };
    exit_code(&pidfd)
}

fn serve(program: &CString, words: &[CString]) -> Result<u8> {
    match process::fork().context(|| "start the helper").see_doctor(Trouble::Processes)? {
        Cloned::Child => {
            // pasta takes an ignored SIGPIPE, which Rust's start leaves, for a failure.
            process::reset_signals();
            let error = process::execve(program, words, &[]);
            let text = format!("{}: {error}\n", program.to_string_lossy());
            rustix::io::write(rustix::stdio::stderr(), text.as_bytes()).or_ignore();
            process::exit_now(127)
        }
        Cloned::Parent { pidfd, .. } => {
            // The pipes that the helper holds are not to live as long as we.
            process::close_all_but(&[pidfd.as_fd()]).context(|| "close the helper's files")?;
            exit_code(&pidfd)
        }
    }
}

/// Whoever dies first takes the caller along.
fn die_with(parent: Option<i32>) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context(|| "tie to the parent")?;
    let now = rustix::process::getppid().map(Pid::as_raw_nonzero).map_or(0, std::num::NonZero::get);
    // It may have died before.
    if parent.is_some_and(|parent| parent != now) {
        Err(Error::failed("its parent has died"))
    } else {
        Ok(())
    }
}

/// As a shell would put it.
fn exit_code(pidfd: &OwnedFd) -> Result<u8> {
    let status = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)
        .context(|| "wait for the helper")?;
    Ok(match status.map(|status| (status.exit_status(), status.terminating_signal())) {
        Some((Some(code), _)) => code as u8,
        Some((None, Some(signal))) => 128u8.wrapping_add(signal as u8),
        _ => 125,
    })
}
