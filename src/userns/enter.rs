//! Into the user's outer namespace: joined where it lives, made where it does
//! not. In place, without re-execution: so the caller must have no threads.

use super::diagnose::{Step, refused};
use super::holders;
use super::newidmap::{Refusal, Writers};
use crate::dirs::create_private;
use crate::error::{Context, Error, Result};
use crate::sys::errno::read_host;
use crate::sys::namespace;
use crate::types::idmap::IdMap;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::mount::MountPropagationFlags;
use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// The namespace that this process is now in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outer {
    /// `inside` is the id in the outer namespace, `outside` its parent's.
    pub(crate) uid_map: IdMap,
    pub(crate) gid_map: IdMap,
    pub(crate) extent: Extent,
    /// Whether this process made it (and so is the one to speak of its limits).
    pub(crate) created: bool,
}

/// What the outer namespace reaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Extent {
    /// The user's own id and the subordinate ids.
    Ranges,
    /// The user's own id alone; why, and what helps, in one line.
    Single { reason: String },
    /// The person at the keyboard is root: every id, onto itself.
    Privileged,
    /// This process was root of a user namespace already; it stays in that.
    Inherited,
}

/// Enters the user's outer namespace, with a mount namespace of its own there:
/// a copy of the caller's, into which the host's mounts still arrive and out of
/// which none goes. Afterwards uid and gid are 0; supplementary groups stay.
///
/// A process that made the namespace is registered as its holder: call
/// [`holders::unregister_holder`] before it ends.
///
/// # Errors
/// `Failed` with cause and remedy where the kernel refuses.
pub(crate) fn enter(runtime: &Path) -> Result<Outer> {
    let caller = Caller::look()?;
    if caller.inherits() {
        own_mounts()?;
        return finish(Extent::Inherited, false);
    }
    if join_any(runtime)? {
        own_mounts()?;
        return finish(caller.extent_joined(), false);
    }
    create_private(runtime)?;
    let _lock = lock(runtime)?;
    // Another command may have made it while this one waited for the lock.
    if join_any(runtime)? {
        own_mounts()?;
        return finish(caller.extent_joined(), false);
    }
    let extent = create(&caller)?;
    own_mounts()?;
    holders::register_holder(runtime)?;
    finish(extent, true)
}

/// The namespace that this process is in already, as root with power over its
/// mounts: it goes nowhere, so that what it mounts stays where it is.
///
/// # Errors
/// `Invalid` where it is an ordinary process.
pub(crate) fn stay() -> Result<Outer> {
    let caller = Caller::look()?;
    if caller.uid != 0 || !caller.administers {
        return Err(Error::invalid("an ordinary user has no place to mount this"));
    }
    finish(Extent::Inherited, false)
}

/// What decides the way in.
struct Caller {
    uid: u32,
    gid: u32,
    /// CAP_SETUID, CAP_SETGID and CAP_SETFCAP: may write any map of its ids.
    maps_anything: bool,
    administers: bool,
    initial: bool,
    /// `/proc/self/status` of root as it was outside: inside a new namespace
    /// the kernel shows every capability.
    status: Option<String>,
}

impl Caller {
    fn look() -> Result<Self> {
        let initial = namespace::in_initial_user_namespace()
            .map_err(|error| refused(Step::Unshare, error, &read_host))?;
        let uid = rustix::process::geteuid().as_raw();
        let capabilities = if uid == 0 {
            rustix::thread::capabilities(None).context(|| "read capabilities")?.effective
        } else {
            CapabilitySet::empty()
        };
        let mapping = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::SETFCAP;
        Ok(Self {
            uid,
            gid: rustix::process::getegid().as_raw(),
            maps_anything: capabilities.contains(mapping),
            administers: capabilities.contains(CapabilitySet::SYS_ADMIN),
            initial,
            status: if uid == 0 { read_host("/proc/self/status") } else { None },
        })
    }

    /// The error for a map that the kernel refused.
    fn map_refused(&self, error: std::io::Error) -> Error {
        let read = |path: &str| match (&self.status, path) {
            (Some(status), "/proc/self/status") => Some(status.clone()),
            _ => read_host(path),
        };
        refused(Step::WriteMap, error, &read)
    }

    /// Root of a user namespace other than the host's, with all its powers.
    fn inherits(&self) -> bool {
        self.uid == 0 && !self.initial && self.maps_anything && self.administers
    }

    /// Corrected by `finish` where the map turns out to have one id.
    fn extent_joined(&self) -> Extent {
        if self.uid == 0 && self.maps_anything { Extent::Privileged } else { Extent::Ranges }
    }
}

/// Reads the maps back: the kernel's word, whoever wrote them.
fn finish(extent: Extent, created: bool) -> Result<Outer> {
    let (uid_map, gid_map) = own_maps()?;
    let extent = match extent {
        Extent::Ranges if uid_map.count() == 1 => Extent::Single {
            reason: "only your own id is mapped in the user namespace of the running containers".into(),
        },
        extent => extent,
    };
    Ok(Outer { uid_map, gid_map, extent, created })
}

fn own_maps() -> Result<(IdMap, IdMap)> {
    let read = |path: &str| {
        std::fs::read_to_string(path)
            .map(|text| IdMap::parse_proc(&text))
            .map_err(|error| refused(Step::WriteMap, error, &read_host).context(format!("read {path}")))
    };
    Ok((read("/proc/self/uid_map")?, read("/proc/self/gid_map")?))
}

fn lock(runtime: &Path) -> Result<OwnedFd> {
    let path = runtime.join("outer.lock");
    let action = || format!("lock {}", path.display());
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).context(action)?;
    while let Err(error) = rustix::fs::flock(&fd, FlockOperation::LockExclusive) {
        if error != rustix::io::Errno::INTR {
            return Err(error).context(action);
        }
    }
    Ok(fd)
}

fn join_any(runtime: &Path) -> Result<bool> {
    holders::find_living(runtime, join_one)
}

/// `false` where the process is gone, or its namespace is not to be joined from
/// here (it was made by an ancestor's sibling, as inside another tool's).
fn join_one(process: &OwnedFd) -> Result<bool> {
    match namespace::join_user_namespace(process.as_fd()) {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::ESRCH | libc::EPERM | libc::EACCES) => Ok(false),
            _ => Err(error).context(|| "join the user namespace of the running containers"),
        },
    }
}

/// A mount namespace of this user namespace, deaf to nothing and mute to all.
fn own_mounts() -> Result<()> {
    let explained = |error| refused(Step::Mount, error, &read_host);
    namespace::unshare_mount_namespace().map_err(explained)?;
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", slave).map_err(|error| explained(error.into()))
}

/// Makes the namespace and has its maps written.
fn create(caller: &Caller) -> Result<Extent> {
    // Forked before the namespace is entered: the writers must stay outside.
    let writers = if caller.maps_anything {
        let (uid_map, gid_map) = own_maps()?;
        Ok(Writers::privileged(&uid_map, &gid_map)?)
    } else {
        Writers::helpers(caller.uid, caller.gid)?
    };
    namespace::unshare_user_namespace().map_err(|error| refused(Step::Unshare, error, &read_host))?;
    let refusal = match writers {
        Ok(writers) => match writers.write()? {
            Ok(()) if caller.maps_anything => return Ok(Extent::Privileged),
            Ok(()) => return Ok(Extent::Ranges),
            Err(refusal) => refusal,
        },
        Err(reason) => Refusal { uid_map_written: false, gid_map_written: false, reason, errno: None },
    };
    if let Some(errno) = refusal.errno {
        return Err(caller.map_refused(std::io::Error::from_raw_os_error(errno)));
    }
    map_own_id(caller, &refusal)?;
    Ok(Extent::Single { reason: refusal.reason })
}

/// The single-id map, which needs nobody's help: user_namespaces(7).
fn map_own_id(caller: &Caller, refusal: &Refusal) -> Result<()> {
    if !refusal.gid_map_written {
        write_proc(caller, "setgroups", "deny")?;
        write_proc(caller, "gid_map", &IdMap::single(0, caller.gid).proc_text())?;
    }
    if !refusal.uid_map_written {
        write_proc(caller, "uid_map", &IdMap::single(0, caller.uid).proc_text())?;
    }
    if !refusal.uid_map_written && !refusal.gid_map_written {
        return Ok(());
    }
    // One helper did its work and the other did not. A written map stays, so
    // the even, single-id namespace is one deeper.
    namespace::unshare_user_namespace().map_err(|error| refused(Step::Unshare, error, &read_host))?;
    write_proc(caller, "setgroups", "deny")?;
    write_proc(caller, "gid_map", &IdMap::single(0, 0).proc_text())?;
    write_proc(caller, "uid_map", &IdMap::single(0, 0).proc_text())
}

fn write_proc(caller: &Caller, file: &str, text: &str) -> Result<()> {
    let path = format!("/proc/self/{file}");
    std::fs::write(&path, text).map_err(|error| caller.map_refused(error).context(format!("write {path}")))
}
