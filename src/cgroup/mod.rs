//! Control groups, version 2: a group for each container, where this user may
//! make one. What the monitor does with them is optional by design: on a host
//! without a delegated group containers run all the same, and only a limit that
//! was asked for is an error.
//!
//! A group lies below one that the user may write to: beside this process's own
//! (as in a user manager of systemd, whose slices have controllers switched on),
//! or within it, which gives the freezer and the counters but no limits, because
//! a group with processes of its own passes no controllers on: cgroups(7), "no
//! internal processes".

mod delegate;
mod limits;
mod stats;

pub(crate) use delegate::{Delegation, delegation};
pub(crate) use stats::stats;

use crate::error::{BestEffort, Context, Result};
use crate::types::limits::Limits;
use rustix::fs::{Access, AtFlags, Mode, OFlags};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Before a container's short id in the name of its group.
const PREFIX: &str = "coracle-";

/// How long processes that were killed may take to be gone.
const END: Duration = Duration::from_secs(5);

/// An open control group.
#[derive(Debug)]
pub(crate) struct Group {
    path: PathBuf,
    directory: OwnedFd,
    /// Made here, to be removed when nobody is in it.
    own: bool,
}

impl Group {
    /// Makes the group of the container with this short id, with its limits.
    /// `None` where the user may make none.
    ///
    /// # Errors
    /// `Invalid`, naming the controller, for a limit that cannot be kept.
    pub(crate) fn create(short_id: &str, asked: &Limits) -> Result<Option<Self>> {
        let settings = limits::settings(asked);
        let Some(place) = delegation().for_controllers(settings.iter().map(|setting| setting.controller))
        else {
            return match settings.first() {
                None => Ok(None),
                Some(first) => Err(limits::cannot(first, &delegation())),
            };
        };
        let path = place.join(format!("{PREFIX}{short_id}"));
        match std::fs::create_dir(&path) {
            Ok(()) => {}
            // Left by a monitor that was killed.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            // Not worth more than a limit: a container needs no group.
            Err(_) if settings.is_empty() => return Ok(None),
            Err(error) => return Err(error).context(|| format!("make the control group {}", path.display())),
        }
        let mut group = Self::open(&path)?;
        group.own = true;
        group.apply(asked).inspect_err(|_| group.remove())?;
        Ok(Some(group))
    }

    pub(crate) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())
            .context(|| format!("open the control group {}", path.display()))?;
        Ok(Self { path: path.to_owned(), directory, own: false })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// For `CLONE_INTO_CGROUP`.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Sets limits, also of a running container.
    ///
    /// # Errors
    /// `Invalid` for one whose controller is not here or that the kernel refuses.
    pub(crate) fn apply(&self, asked: &Limits) -> Result<()> {
        for setting in limits::settings(asked) {
            let exists =
                rustix::fs::accessat(&self.directory, setting.file, Access::EXISTS, AtFlags::empty());
            if exists.is_err() {
                return Err(limits::cannot(&setting, &delegation()));
            }
            self.write(setting.file, &setting.value).map_err(|error| error.context(setting.flag))?;
        }
        Ok(())
    }

    pub(crate) fn read(&self, file: &str) -> Result<String> {
        let step = || format!("read {file} of the control group");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.directory, file, flags, Mode::empty()).context(step)?;
        let mut text = String::new();
        std::fs::File::from(fd).take(1 << 20).read_to_string(&mut text).context(step)?;
        Ok(text)
    }

    fn write(&self, file: &str, value: &str) -> Result<()> {
        let step = || format!("write {value:?} to {file} of the control group");
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.directory, file, flags, Mode::empty()).context(step)?;
        std::fs::File::from(fd).write_all(value.as_bytes()).context(step)
    }

    /// Stops all processes of the group, or lets them go on. [`Self::is_frozen`]
    /// tells when it is done.
    pub(crate) fn set_frozen(&self, frozen: bool) -> Result<()> {
        self.write("cgroup.freeze", if frozen { "1" } else { "0" })
    }

    pub(crate) fn is_frozen(&self) -> Result<bool> {
        Ok(value_of(&self.read("cgroup.events")?, "frozen") == Some(1))
    }

    /// How often the kernel has killed a process for want of memory; 0 without
    /// the controller.
    pub(crate) fn oom_kills(&self) -> u64 {
        self.read("memory.events").ok().and_then(|text| value_of(&text, "oom_kill")).unwrap_or(0)
    }

    pub(crate) fn is_populated(&self) -> bool {
        self.read("cgroup.events").is_ok_and(|text| value_of(&text, "populated") == Some(1))
    }

    /// Kills what is in it, and removes it.
    pub(crate) fn remove(&self) {
        let began = std::time::Instant::now();
        // Since Linux 5.14.
        self.write("cgroup.kill", "1").or_ignore();
        loop {
            match rustix::fs::rmdir(&self.path) {
                Err(rustix::io::Errno::BUSY) if began.elapsed() < END => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                _ => return,
            }
        }
    }
}

impl Drop for Group {
    /// One that nobody is in is of no use: a start that failed leaves none.
    fn drop(&mut self) {
        if self.own {
            rustix::fs::rmdir(&self.path).or_ignore();
        }
    }
}

/// The number after `key` in lines of `key number`.
fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_whole_key() {
        let text = "populated 1\nfrozen 0\nfrozen_time 7\n";
        assert_eq!(value_of(text, "frozen"), Some(0));
        assert_eq!(value_of(text, "populated"), Some(1));
        assert_eq!(value_of(text, "froze"), None);
    }
}
