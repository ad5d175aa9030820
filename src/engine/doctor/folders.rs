//! The user's folders: there, theirs, private, writable, with room.

use super::check::{Check, Mend, Severity};
use crate::dirs::{Dirs, create_private, fallback_runtime_dir};
use crate::engine::owners::other_group;
use crate::error::{Context, Error, Result};
use rustix::fs::{FlockOperation, Mode, OFlags, StatVfsMountFlags};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Below these a pull is likely to fail half-way.
const LEAST_BYTES: u64 = 1 << 30;
const LEAST_INODES: u64 = 20_000;

pub(super) fn checks(dirs: &Dirs, uid: u32) -> Vec<Check> {
    let mut checks = Vec::new();
    let needed =
        [("data folder", &dirs.data), ("state folder", &dirs.state), ("runtime folder", &dirs.runtime)];
    for (name, path) in needed {
        checks.push(folder(name, path, uid, Severity::Broken));
    }
    checks.push(folder("cache folder", &dirs.cache, uid, Severity::Limited));
    checks.push(group());
    checks.push(runtime(dirs, uid));
    checks.push(room(&dirs.data));
    checks.push(programs(&dirs.data));
    checks.push(locks(&dirs.state));
    checks
}

/// By doing: a file is made and removed.
fn folder(name: &'static str, path: &Path, uid: u32, severity: Severity) -> Check {
    let result = create_private(path).and_then(|()| writable(path));
    if let Err(error) = result {
        let variable = match name {
            "data folder" => "XDG_DATA_HOME",
            "state folder" => "XDG_STATE_HOME",
            "cache folder" => "XDG_CACHE_HOME",
            _ => "XDG_RUNTIME_DIR",
        };
        let cost =
            if severity == Severity::Broken { "no container runs" } else { "builds and pulls keep nothing" };
        return Check::failed(name, severity, &error, cost)
            .user(format!("make it yours and writable, or set {variable} to a folder that is"));
    }
    match std::fs::metadata(path) {
        Ok(meta) if meta.uid() != uid => Check::note(
            name,
            format!("{} belongs to uid {}", path.display(), meta.uid()),
            "they can read and change it",
        )
        .user(format!("set it to a folder of your own, or: chown {uid} {}", path.display())),
        Ok(meta) if meta.mode() & 0o077 != 0 => Check::limited(
            name,
            format!("{} is open to others (mode {:o})", path.display(), meta.mode() & 0o7777),
            "others can read what containers keep",
        )
        .user(format!("chmod 700 {}", path.display()))
        .mended_by(Mend::Private(path.to_owned())),
        _ => Check::good(name, path.display().to_string()),
    }
}

/// Files of a group that the user namespace lacks are nobody's there.
fn group() -> Check {
    const NAME: &str = "group";
    match other_group() {
        Some(hint) => {
            let (found, step) = hint.split_once(": ").unwrap_or((&hint, "newgrp"));
            Check::failed(NAME, Severity::Broken, &Error::failed(found), "containers do not start").user(step)
        }
        None => Check::good(NAME, "the one that the store belongs to"),
    }
}

fn writable(path: &Path) -> Result<()> {
    let probe = path.join(format!(".doctor-{}", std::process::id()));
    std::fs::write(&probe, "x").context(|| format!("write to {}", path.display()))?;
    std::fs::remove_file(&probe).context(|| format!("remove {}", probe.display()))
}

fn runtime(dirs: &Dirs, uid: u32) -> Check {
    const NAME: &str = "XDG_RUNTIME_DIR";
    if dirs.runtime == fallback_runtime_dir(uid) {
        if Path::new("/run/user").join(uid.to_string()).is_dir() {
            return Check::note(
                NAME,
                format!("{} is used as long as containers run there", dirs.runtime.display()),
                "they were started without a session; all others share it with them",
            );
        }
        return Check::limited(
            NAME,
            format!("not set, or no directory: {} is used", dirs.runtime.display()),
            "it outlives your sessions, and systemd's user manager may not be found",
        )
        .user("log in through PAM (ssh, a console; `su` alone does not), or: loginctl enable-linger")
        .mended_by(Mend::Linger);
    }
    Check::good(NAME, dirs.runtime.parent().unwrap_or(&dirs.runtime).display().to_string())
}

fn room(data: &Path) -> Check {
    const NAME: &str = "room";
    let stat = match rustix::fs::statvfs(data).context(|| format!("look at {}", data.display())) {
        Ok(stat) => stat,
        Err(error) => {
            return Check::failed(NAME, Severity::Limited, &error, "it is not known whether images fit");
        }
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    // File systems without a table of inodes say 0 of 0.
    let inodes = (stat.f_files > 0).then_some(stat.f_favail);
    let found = format!(
        "{} MiB free{}",
        free >> 20,
        inodes.map(|inodes| format!(", {inodes} files")).unwrap_or_default()
    );
    if stat.f_blocks == 0 {
        // ramfs, which takes all memory there is.
        return Check::good(NAME, "the file system counts none");
    }
    if free < LEAST_BYTES || inodes.is_some_and(|inodes| inodes < LEAST_INODES) {
        Check::limited(NAME, found, "pulls and builds may run out of it")
            .user("coracle system df, then: coracle system prune")
    } else {
        Check::good(NAME, found)
    }
}

/// The root file system of a container is its own mount; volumes are the host's.
fn programs(data: &Path) -> Check {
    const NAME: &str = "noexec";
    match rustix::fs::statvfs(data) {
        Ok(stat) if stat.f_flag.contains(StatVfsMountFlags::NOEXEC) => Check::limited(
            NAME,
            format!("{} is mounted noexec", data.display()),
            "programs in volumes and in bind mounts from there cannot be run inside containers",
        )
        .user("set XDG_DATA_HOME to a folder on a file system without noexec"),
        Ok(_) => Check::good(NAME, "not set on the data folder"),
        Err(error) => Check::note(NAME, format!("{error}"), "it is not known"),
    }
}

/// By doing: flock(2), which NFS servers can refuse.
fn locks(state: &Path) -> Check {
    const NAME: &str = "file locks";
    let lock = || -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let file =
            rustix::fs::open(state, flags, Mode::empty()).context(|| format!("open {}", state.display()))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            // Somebody else holds it: so it can be held.
            Ok(()) | Err(rustix::io::Errno::WOULDBLOCK) => Ok(()),
            Err(error) => Err::<(), _>(error).context(|| format!("lock {}", state.display())),
        }
    };
    match lock() {
        Ok(()) => Check::good(NAME, "work on the state folder"),
        Err(error) => {
            let error: Error = error;
            Check::failed(NAME, Severity::Broken, &error, "two commands could change one container at once")
                .user("set XDG_STATE_HOME to a folder on a local disk")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_folder_that_is_open_to_others_can_be_mended() {
        let place = tempfile::tempdir().expect("a directory");
        let uid = rustix::process::getuid().as_raw();
        std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
        let check = folder("data folder", place.path(), uid, Severity::Broken);
        assert_eq!(check.severity, Severity::Limited);
        assert_eq!(check.mend, Some(Mend::Private(place.path().to_owned())));
        std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o700)).expect("chmod");
        assert!(folder("data folder", place.path(), uid, Severity::Broken).is_ok());
        assert_eq!(std::fs::read_dir(place.path()).expect("list").count(), 0);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let check = folder("state folder", Path::new("/proc/none/state"), 0, Severity::Broken);
        assert_eq!(check.severity, Severity::Broken);
        assert!(check.found.contains("/proc/none"), "{check:?}");
        assert!(check.remedy.is_some());
    }
}
