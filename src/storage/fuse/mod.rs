//! The overlay in user space: where the kernel's does not serve, and where
//! owners have to be shown as others.
//!
//! It writes the kernel's own format (whiteouts as device 0:0, `user.overlay.*`),
//! so that a container can have the one today and the other tomorrow. Lower
//! layers are never written to; the upper directory is nobody else's while this
//! runs, so that the kernel may keep what it was told for good.
//!
//! `wire` speaks with the kernel; [`merged::Merged`] is the tree, whose
//! operations have a file each; `inode`, `table` and `handles` are what it
//! remembers. A file keeps its node number when it is copied up, renamed or
//! unlinked.
//!
//! Kept in `work/`: see [`work`]. A server that is killed leaves an upper
//! directory that is whole: each change of it is one system call.

mod aliases;
mod attributes;
mod caller;
mod control;
mod copy_up;
mod create;
mod data;
mod few;
mod handles;
#[cfg(test)]
mod hostile;
mod inode;
mod links;
mod listing;
mod lookup;
mod merged;
mod owners;
mod remove;
mod rename;
mod room;
mod service;
mod table;
mod times;
mod wire;
mod work;
mod xattr;

pub(crate) use owners::LowerOwners;

use crate::error::{Context, Error, Result, Trouble};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const DEVICE: &str = "/dev/fuse";

/// What the table of mounts shows as the device of an overlay, and behind `fuse.`
/// as its type.
const NAME: &str = "coracle";

/// The directories of one overlay, held open (O_PATH is enough).
pub(crate) struct Layers {
    /// From the topmost to the lowest.
    pub(crate) lowers: Vec<OwnedFd>,
    /// `None` for a tree that cannot be written to.
    pub(crate) upper: Option<OwnedFd>,
    /// A directory of ours on the upper directory's file system.
    pub(crate) work: Option<OwnedFd>,
}

/// How it is served.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Options {
    /// No fsync ever reaches the disk: for a container that is thrown away.
    pub(crate) volatile: bool,
    /// The kernel passes each write(2) on at once instead of gathering them: for
    /// what is read and hardly written to. A small write takes twenty times as
    /// long then, but a file that was closed is not asked for again at each
    /// stat(2).
    pub(crate) write_through: bool,
    /// Others change the lower directories meanwhile: the host's own. What the kernel is
    /// told holds for a second then, and each write(2) is passed on at once, as it would
    /// believe in sizes and times of its own otherwise.
    #[serde(default)]
    pub(crate) live: bool,
    pub(crate) owners: LowerOwners,
}

/// Opens /dev/fuse, in the user namespace in which it is to be mounted.
///
/// # Errors
/// `Failed`, with a hint, where the host has none or does not let this user.
pub(crate) fn open_device() -> Result<OwnedFd> {
    let opened = rustix::fs::open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    opened.context(|| "open /dev/fuse").map_err(|error| {
        let hint = match error.errno() {
            Some(libc::EACCES | libc::EPERM) => {
                "users may not open /dev/fuse here: an administrator can allow it with `chmod 0666 /dev/fuse`"
            }
            _ => "the host has no FUSE: an administrator can load it with `modprobe fuse`",
        };
        error.hint(hint).see_doctor(Trouble::Fuse)
    })
}

/// Mounts `device`, detached. What is asked of the mount waits until it is served.
///
/// # Errors
/// `Failed` outside of a user namespace that the caller is root of.
pub(crate) fn mount(device: BorrowedFd<'_>) -> Result<OwnedFd> {
    mount_as(device, NAME)
}

/// As [`mount`]; `source` is what the table of mounts shows as its device.
///
/// # Errors
/// As there.
pub(crate) fn mount_as(device: BorrowedFd<'_>, source: &str) -> Result<OwnedFd> {
    let configure = || {
        let context = rustix::mount::fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let fs = context.as_fd();
        let set = |key: &str, value: &str| rustix::mount::fsconfig_set_string(fs, key, value);
        set("source", source)?;
        set("subtype", NAME)?;
        set("fd", &device.as_raw_fd().to_string())?;
        set("rootmode", "40000")?;
        set("user_id", "0")?;
        set("group_id", "0")?;
        for flag in ["default_permissions", "allow_other"] {
            rustix::mount::fsconfig_set_flag(fs, flag)?;
        }
        rustix::mount::fsconfig_create(fs)?;
        rustix::mount::fsmount(fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
    };
    configure().context(|| "mount the FUSE overlay").map_err(|error| {
        error
            .hint("FUSE in a user namespace needs Linux 4.18 or later, and the module `fuse`")
            .see_doctor(Trouble::Fuse)
    })
}

/// An overlay that is ready to be served: its layers were looked at.
pub(crate) struct Server {
    merged: merged::Merged,
}

impl Server {
    /// # Errors
    /// `Failed` for layers that cannot be used, with what to do about it.
    pub(crate) fn new(layers: Layers, options: Options) -> Result<Self> {
        crate::sys::process::raise_file_limit();
        Ok(Self { merged: merged::Merged::new(layers, options)? })
    }

    /// Serves a mounted device until the last mount of it is gone.
    ///
    /// # Errors
    /// `Failed` where the kernel does not agree on the protocol.
    pub(crate) fn serve(&self, device: OwnedFd) -> Result<()> {
        wire::serve(device, &self.merged)
    }
}

impl Layers {
    /// Opens them by their paths.
    ///
    /// # Errors
    /// `NotFound` for a layer that is gone.
    pub(crate) fn open(
        lowers: &[std::path::PathBuf],
        upper: Option<(&std::path::Path, &std::path::Path)>,
    ) -> Result<Self> {
        let open = |path: &std::path::Path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty())
                .map_err(|errno| match errno {
                    rustix::io::Errno::NOENT => {
                        Error::not_found(format!("there is no directory {}", path.display()))
                    }
                    errno => Error::failed(format!("open {}: {errno}", path.display())),
                })
                .map_err(|error| error.context("open the overlay's layers"))
        };
        Ok(Self {
            lowers: lowers.iter().map(|path| open(path)).collect::<Result<_>>()?,
            upper: upper.map(|(upper, _)| open(upper)).transpose()?,
            work: upper.map(|(_, work)| open(work)).transpose()?,
        })
    }
}
