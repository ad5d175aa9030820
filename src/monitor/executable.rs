//! This program, as it executes itself in another role.

use crate::error::{Context, Error, Result};
use crate::runtime::mounts;
use crate::sys::mount::{MountAttr, RDONLY, mount_setattr};
use rustix::fs::{Mode, OFlags, StatVfsMountFlags};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

/// This program, through a mount that cannot be written to: a container that
/// gets hold of /proc/PID/exe of the monitor or of init cannot change the
/// user's binary (CVE-2019-5736).
pub(crate) fn read_only_executable() -> Result<OwnedFd> {
    let step = || "find this program";
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let running = rustix::fs::open("/proc/self/exe", flags, Mode::empty()).context(step)?;
    // The monitor's own is so already, and is mounted nowhere any more.
    if rustix::fs::fstatvfs(&running).context(step)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(running);
    }
    let own = rustix::fs::fstat(&running).context(step)?;
    let path = std::fs::read_link("/proc/self/exe").context(step)?;
    let replaced = || {
        Error::failed(format!("the program {} was replaced while it ran", path.display()))
            .hint("call it again")
    };
    let found = rustix::fs::stat(&path).map_err(|_| replaced())?;
    if (found.st_dev, found.st_ino) != (own.st_dev, own.st_ino) {
        return Err(replaced());
    }
    let mount = mounts::clone_tree_at(&path).context(|| format!("mount {} read-only", path.display()))?;
    let attr = MountAttr { set: RDONLY, ..MountAttr::default() };
    mount_setattr(mount.as_fd(), c"", attr, false)
        .context(|| format!("mount {} read-only", path.display()))?;
    Ok(mount)
}

/// What a role of this program gets of the environment: what is meant for it.
pub(super) fn own_environment() -> Vec<CString> {
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(key, _)| key.starts_with("CORACLE_") || key == "RUST_BACKTRACE" || key == "PATH")
        .filter_map(|(key, value)| CString::new(format!("{key}={value}")).ok())
        .collect()
}
