//! `containers/<id>/started`: that the command of a container has been let run, and
//! by whom. Its monitor holds a lock on the file while it lives, so that who has
//! another runtime directory, or is another machine with the same home, does not take
//! the run for lost.
//!
//! The lock belongs to the open file (F_OFD_SETLK, fcntl(2)): it goes with the monitor,
//! however that ends, and network file systems carry it to other machines.

use super::{ROOM_FOR_EXIT, is_alive, this_process};
use crate::error::{Context, Error, Result};
use crate::state::written::read_file;
use crate::types::status::ProcessId;
use jiff::Timestamp;
use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// The lock of a monitor: it goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    _file: File,
}

/// Who has let it run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Keeper {
    /// uname(2)'s name of the machine.
    pub(super) host: String,
    pub(super) monitor: ProcessId,
    /// Where its socket and its state are.
    pub(super) runtime: PathBuf,
    /// Whether there is a lock: some file systems have none.
    locked: bool,
}

/// What the file says.
#[derive(Default)]
pub(super) struct Mark {
    /// `None` where it cannot be read: half written, at a power cut.
    pub(super) at: Option<Timestamp>,
    /// None of a run of an earlier release.
    keeper: Option<Keeper>,
    is_locked: bool,
}

fn path(directory: &Path) -> PathBuf {
    directory.join("started")
}

/// Writes it. The blocks of [`ROOM_FOR_EXIT`] bytes are for the end, on a full disk.
pub(super) fn write(directory: &Path, at: Timestamp, runtime: &Path) -> Result<Held> {
    let path = path(directory);
    let step = || format!("write {}", path.display());
    // Of one that there is already the lock is taken before its text is another one.
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(&path).context(step)?;
    // Shared: the one of the run before is this monitor's, too.
    let locked = fcntl(&file, FcntlArg::F_OFD_SETLK(&whole(libc::F_RDLCK))).is_ok();
    let keeper = Keeper { host: host(), monitor: this_process()?, runtime: runtime.to_owned(), locked };
    let keeper = serde_json::to_string(&keeper).context(step)?;
    file.set_len(0).context(step)?;
    file.write_all(format!("{:ROOM_FOR_EXIT$}", format!("{at}\n{keeper}\n")).as_bytes()).context(step)?;
    Ok(Held { _file: file })
}

impl Mark {
    /// `None` where the command never ran.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>> {
        let path = path(directory);
        let step = || format!("read {}", path.display());
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open(&path, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            file => file.context(step)?,
        };
        // First: what is written meanwhile is locked.
        let mut lock = whole(libc::F_WRLCK);
        let asked = fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut lock));
        let is_locked = asked.is_ok() && lock.l_type != libc::F_UNLCK as libc::c_short;
        let text = String::from_utf8(read_file(&path).ok().flatten().unwrap_or_default()).unwrap_or_default();
        let mut lines = text.lines();
        let at = lines.next().and_then(|line| line.trim().parse().ok());
        let keeper = lines.next().and_then(|line| serde_json::from_str(line).ok());
        Ok(Some(Self { at, keeper, is_locked }))
    }

    /// Whether its monitor may live.
    pub(super) fn is_held(&self) -> bool {
        let unlocked =
            |keeper: &Keeper| !keeper.locked && (keeper.host != host() || is_alive(keeper.monitor));
        self.is_locked || self.keeper.as_ref().is_some_and(unlocked)
    }

    /// Who that is, where it is known.
    pub(super) fn keeper(&self) -> Option<&Keeper> {
        self.keeper.as_ref()
    }
}

impl Keeper {
    /// Why who uses `runtime` cannot do anything with the container, whose place is
    /// there if `has_place`.
    pub(super) fn refusal(&self, name: &str, runtime: &Path, has_place: bool, directory: &Path) -> Error {
        let pid = self.monitor.pid;
        if self.host != host() {
            let error = Error::conflict(format!("container {name} runs on another machine, {}", self.host));
            return error.hint(if self.locked {
                "stop it there, or wait for its end".to_owned()
            } else {
                let mark = path(directory);
                format!("stop it there; where it is known that it does not run: rm {}", mark.display())
            });
        }
        // By its number there is another process here, or none.
        if has_place && !is_alive(self.monitor) {
            return Error::conflict(format!(
                "container {name} runs, but its processes are not visible from this pid namespace"
            ))
            .hint("use coracle outside of the sandbox or container that this command runs in");
        }
        if self.runtime == runtime {
            return Error::conflict(format!(
                "container {name} still runs, but its place below {} is gone: nothing can reach it",
                runtime.display()
            ))
            .hint(format!("end it by its monitor: kill {pid}"));
        }
        let of_session = self.runtime.parent().filter(|_| self.runtime.ends_with("coracle"));
        let hint = match of_session {
            Some(parent) => format!("use that one: XDG_RUNTIME_DIR={}", parent.display()),
            None => format!("use that one: --runroot {}", self.runtime.display()),
        };
        Error::conflict(format!(
            "container {name} was started with another runtime directory, {}, and runs there",
            self.runtime.display()
        ))
        .hint(hint)
    }
}

fn whole(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        // fcntl(2): of an open file's lock it must be 0.
        l_pid: 0,
    }
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(directory: &Path) -> Mark {
        Mark::read(directory).expect("read").expect("there")
    }

    #[test]
    fn it_is_held_as_long_as_its_monitor_lives() {
        let place = tempfile::tempdir().expect("a directory");
        assert!(Mark::read(place.path()).expect("read").is_none());
        let at = Timestamp::UNIX_EPOCH;
        let first = write(place.path(), at, Path::new("/run/one/coracle")).expect("written");
        let second = write(place.path(), at, Path::new("/run/two/coracle")).expect("written");
        drop(first);
        let held = mark(place.path());
        let keeper = held.keeper().filter(|_| held.is_held()).expect("held and known");
        assert_eq!((held.at, keeper.runtime.as_path()), (Some(at), Path::new("/run/two/coracle")));
        let said = keeper.refusal("x", Path::new("/run/one/coracle"), false, place.path());
        assert_eq!(said.hints(), ["use that one: XDG_RUNTIME_DIR=/run/two"]);
        let unseen = ProcessId { start_ticks: keeper.monitor.start_ticks + 1, ..keeper.monitor };
        let keeper = Keeper { monitor: unseen, ..keeper.clone() };
        let said = keeper.refusal("x", Path::new("/run/two/coracle"), true, place.path()).to_string();
        assert!(said.ends_with("not visible from this pid namespace"), "{said}");
        drop(second);
        assert!(!mark(place.path()).is_held());
    }

    #[test]
    fn that_of_an_earlier_release_is_nobody_s() {
        let place = tempfile::tempdir().expect("a directory");
        std::fs::write(place.path().join("started"), format!("{:1024}", "1970-01-01T00:00:00Z"))
            .expect("written");
        let mark = mark(place.path());
        assert!(mark.at == Some(Timestamp::UNIX_EPOCH) && !mark.is_held());
    }

    #[test]
    fn without_locks_the_process_itself_is_looked_at() {
        let monitor = this_process().expect("this process");
        let keeper = |host: String, monitor| Mark {
            at: None,
            keeper: Some(Keeper { host, monitor, runtime: PathBuf::new(), locked: false }),
            is_locked: false,
        };
        assert!(keeper(host(), monitor).is_held());
        let gone = ProcessId { start_ticks: monitor.start_ticks + 1, ..monitor };
        assert!(!keeper(host(), gone).is_held());
        assert!(keeper("another".into(), gone).is_held(), "nobody can know");
    }
}
