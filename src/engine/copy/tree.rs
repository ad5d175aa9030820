//! Where `cp` looks paths up: the host, or the root of a container that runs or
//! does not. A container's paths are resolved by the kernel beneath its root
//! (`RESOLVE_IN_ROOT`), also while it swaps links (CVE-2018-15664); no process
//! enters its namespaces, and none of its code or files is used for that
//! (CVE-2019-14271).

use super::super::Engine;
use super::super::trees::write_back;
use crate::error::{BestEffort, Context, Error, Result};
use crate::monitor::plan::at_rest;
use crate::state::lock::{self, Lock};
use crate::state::store::is_alive;
use crate::types::container::ContainerRecord;
use crate::types::id::ContainerId;
use crate::types::idmap::IdMap;
use crate::types::namespace::UsernsMode;
use crate::types::status::{ProcessId, Status};
use crate::userns::ContainerMaps;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, StatVfsMountFlags, StatxFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// A tree of files with its own root.
pub(super) enum Tree {
    Host,
    Container(Box<Inside>),
}

/// A container's files.
pub(super) struct Inside {
    root: OwnedFd,
    pub(super) record: ContainerRecord,
    /// `None` where its ids are those of the outer namespace.
    maps: Option<ContainerMaps>,
    /// The outer namespace has one id: all files belong to it.
    single: bool,
    /// While it does not run, nobody starts it.
    lock: Option<Lock>,
}

impl Drop for Inside {
    /// Before the lock goes: whoever starts it then finds all that was copied in.
    fn drop(&mut self) {
        if self.lock.is_some() {
            write_back(self.root.as_fd()).or_ignore();
        }
    }
}

impl Tree {
    /// Opens a path, links followed as this tree's own processes would.
    pub(super) fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        match self {
            Self::Host => rustix::fs::openat(CWD, path, flags, Mode::empty()),
            Self::Container(inside) => inside.open(path, flags),
        }
    }

    /// The container, where it is one's.
    pub(super) fn inside(&self) -> Option<&Inside> {
        match self {
            Self::Host => None,
            Self::Container(inside) => Some(inside),
        }
    }
}

impl Inside {
    fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..64 {
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
                // A rename elsewhere made the kernel give up.
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result,
            }
        }
        Err(Errno::AGAIN)
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// What is written through `directory` must not be read-only for the
    /// container: docker's words.
    pub(super) fn check_writable(&self, directory: BorrowedFd<'_>) -> Result<()> {
        let step = || "look at the file system";
        let flags = rustix::fs::fstatvfs(directory).context(step)?.f_flag;
        if !flags.contains(StatVfsMountFlags::RDONLY) {
            return Ok(());
        }
        let mount = |fd| rustix::fs::statx(fd, c"", rustix::fs::AtFlags::EMPTY_PATH, StatxFlags::MNT_ID);
        let of_root = mount(self.root.as_fd()).context(step)?.stx_mnt_id;
        let what = if mount(directory).context(step)?.stx_mnt_id == of_root {
            "container rootfs"
        } else {
            "mounted volume"
        };
        Err(Error::conflict(format!("{what} is marked read-only")))
    }

    /// The owner of files copied in: root of the container; with `keep-id`,
    /// whose point it is, the user. `None` where there is only one.
    pub(super) fn root_owner(&self) -> Option<(u32, u32)> {
        if self.single {
            return None;
        }
        if matches!(self.record.config.userns, UsernsMode::KeepId { .. }) {
            return Some((0, 0));
        }
        Some((self.outer_uid(0).unwrap_or(0), self.outer_gid(0).unwrap_or(0)))
    }

    /// What the container's ids are outside of it; root's where they are nothing.
    pub(super) fn outer_owner(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        let root = self.root_owner()?;
        Some((self.outer_uid(uid).unwrap_or(root.0), self.outer_gid(gid).unwrap_or(root.1)))
    }

    /// These ids outside, where there are several.
    pub(super) fn known_owner(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        (!self.single).then_some((uid, gid))
    }

    /// The owner with these ids outside, if it has a place in the container;
    /// else its root.
    pub(super) fn kept_owner(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        let root = self.root_owner()?;
        let known = |map: Option<&IdMap>, id: u32| map.is_none_or(|map| map.to_inside(id).is_some());
        let uid = if known(self.uid_map(), uid) { uid } else { root.0 };
        let gid = if known(self.gid_map(), gid) { gid } else { root.1 };
        Some((uid, gid))
    }

    /// What the container says of an owner that is this outside.
    pub(super) fn inner_owner(&self, uid: u32, gid: u32) -> (u32, u32) {
        let inside = |map: Option<&IdMap>, id: u32| match map {
            None => id,
            // Linux shows this for ids that are not mapped: overflowuid.
            Some(map) => map.to_inside(id).unwrap_or(65_534),
        };
        (inside(self.uid_map(), uid), inside(self.gid_map(), gid))
    }

    fn uid_map(&self) -> Option<&IdMap> {
        self.maps.as_ref().map(|maps| &maps.uid)
    }

    fn gid_map(&self) -> Option<&IdMap> {
        self.maps.as_ref().map(|maps| &maps.gid)
    }

    fn outer_uid(&self, id: u32) -> Option<u32> {
        self.uid_map().map_or(Some(id), |map| map.to_outside(id))
    }

    fn outer_gid(&self, id: u32) -> Option<u32> {
        self.gid_map().map_or(Some(id), |map| map.to_outside(id))
    }
}

/// How long a monitor may take to tell that its container has ended: ten seconds.
const MOMENTS: u32 = 2000;
const MOMENT: Duration = Duration::from_millis(5);

impl Engine {
    /// The files of a container, whatever it does.
    pub(super) fn files_of(&self, id: &ContainerId) -> Result<Inside> {
        let outer = self.enter()?.clone();
        let single = outer.uid_map.count() == 1;
        let mut lock = None;
        // It may end, or be started, between the look at it and the lock.
        for _ in 0..MOMENTS {
            let snapshot = if lock.is_some() { self.snapshot_locked(id)? } else { self.snapshot(id)? };
            if let Status::Running { init, .. } = snapshot.status {
                if let Some((root, maps)) = running(init)? {
                    return Ok(Inside { root, record: snapshot.record, maps, single, lock: None });
                }
                // Its monitor is about to say so.
                std::thread::sleep(MOMENT);
                continue;
            }
            // Between two runs of a restart policy its monitor has no lock.
            if lock.is_none() {
                lock = Some(lock::container(&self.dirs.container(id))?);
                continue;
            }
            let overlays = self.overlays()?;
            let context = self.context_at_rest(&snapshot.record, &outer, &overlays);
            let at_rest::AtRest { root, maps } = at_rest::mount(&context)?;
            return Ok(Inside { root, record: snapshot.record, maps, single, lock });
        }
        Err(Error::conflict(format!("container {} is about to end", id.short())))
    }
}

/// The root directory and the id maps of a running container; `None` where its
/// first process has just ended.
fn running(init: ProcessId) -> Result<Option<(OwnedFd, Option<ContainerMaps>)>> {
    let process = format!("/proc/{}", init.pid);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(format!("{process}/root"), flags, Mode::empty());
    let maps = maps_of(&process);
    // After the looks: they were at this process, not at one that has its number now.
    if !is_alive(init) {
        return Ok(None);
    }
    let root = opened.context(|| "open the root directory of the container")?;
    Ok(Some((root, maps.context(|| "read the id maps of the container")?)))
}

fn maps_of(process: &str) -> std::io::Result<Option<ContainerMaps>> {
    let namespace = |process: &str| rustix::fs::stat(format!("{process}/ns/user"));
    let (own, its) = (namespace("/proc/self")?, namespace(process)?);
    if (own.st_dev, own.st_ino) == (its.st_dev, its.st_ino) {
        return Ok(None);
    }
    // The kernel tells the outer ids as the namespace of the reader has them.
    let read = |file: &str| std::fs::read_to_string(format!("{process}/{file}"));
    let (uid, gid) = (IdMap::parse_proc(&read("uid_map")?), IdMap::parse_proc(&read("gid_map")?));
    Ok(Some(ContainerMaps { uid, gid }))
}
