//! Making files in somebody's name.
//!
//! The kernel of the upper file system decides about owner, group (of a set-gid
//! directory), mode and inherited ACLs. So a thread takes on the caller's ids for
//! file systems and its umask while it makes a file; changing them back is
//! left to the next request that needs others.

use super::wire::{Answer, Caller};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use rustix::fs::Mode;
use rustix::io::Errno;
use std::cell::Cell;

/// What a thread is at the moment.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Guise {
    uid: u32,
    gid: u32,
    umask: u32,
}

thread_local! {
    static GUISE: Cell<Option<Guise>> = const { Cell::new(None) };
}

/// Becomes the caller for what this thread makes next.
///
/// # Errors
/// EPERM where the ids have no place in this user namespace.
pub(super) fn assume(caller: Caller, umask: u32) -> Answer<()> {
    become_guise(Guise { uid: caller.uid, gid: caller.gid, umask: umask & 0o777 })
}

/// Becomes the server itself again, without a umask.
pub(super) fn resume() -> Answer<()> {
    become_guise(Guise { uid: 0, gid: 0, umask: 0 })
}

fn become_guise(wanted: Guise) -> Answer<()> {
    let now = match GUISE.get() {
        Some(now) => now,
        None => prepare()?,
    };
    if now == wanted {
        return Ok(());
    }
    GUISE.set(None);
    if now.umask != wanted.umask {
        rustix::process::umask(Mode::from_raw_mode(wanted.umask));
    }
    // The group first, as long as the thread may. The second call of each tells
    // what came of the first: setfsuid(2), "BUGS".
    if now.gid != wanted.gid {
        setfsgid(Gid::from_raw(wanted.gid));
        if setfsgid(Gid::from_raw(wanted.gid)).as_raw() != wanted.gid {
            return Err(Errno::PERM);
        }
    }
    if now.uid != wanted.uid {
        setfsuid(Uid::from_raw(wanted.uid));
        if setfsuid(Uid::from_raw(wanted.uid)).as_raw() != wanted.uid {
            return Err(Errno::PERM);
        }
    }
    GUISE.set(Some(wanted));
    Ok(())
}

/// A umask of this thread's own, and capabilities that stay when its ids for
/// file systems change.
fn prepare() -> Answer<Guise> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).map_err(|errno| raw(errno as i32))?;
    let bits = rustix::thread::capabilities_secure_bits()?;
    let wanted = bits | rustix::thread::CapabilitiesSecureBits::NO_SETUID_FIXUP;
    if bits != wanted {
        // Refused without CAP_SETPCAP, where there are no other ids to become.
        if let Err(errno) = rustix::thread::set_capabilities_secure_bits(wanted) {
            if errno != Errno::PERM {
                return Err(errno);
            }
        }
    }
    let uid = setfsuid(Uid::from_raw(u32::MAX)).as_raw();
    let gid = setfsgid(Gid::from_raw(u32::MAX)).as_raw();
    let umask = rustix::process::umask(Mode::empty()).bits();
    rustix::process::umask(Mode::from_raw_mode(umask));
    Ok(Guise { uid, gid, umask })
}

fn raw(errno: i32) -> Errno {
    Errno::from_raw_os_error(errno)
}
