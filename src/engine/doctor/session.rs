//! What a log-out ends, and systemd's manager of this user.

use super::check::{Check, Mend, words};
use crate::dirs::Dirs;
use crate::engine::logout::lingers;
use crate::sys::errno::Reader;
use crate::userns::subid::login_name;
use std::os::unix::net::UnixStream;
use std::path::Path;

pub(super) fn checks(read: Reader<'_>, dirs: &Dirs, uid: u32) -> Vec<Check> {
    let systemd = Path::new("/run/systemd/system").is_dir();
    vec![bus(systemd, uid), manager(systemd, uid), linger(systemd, uid), boot(read), store_name(dirs)]
}

/// By doing: a connection, which the bus takes before it asks who speaks.
fn bus(systemd: bool, uid: u32) -> Check {
    const NAME: &str = "user bus";
    let path = format!("/run/user/{uid}/bus");
    match UnixStream::connect(&path) {
        Ok(_) => Check::good(NAME, path),
        Err(_) if !systemd => Check::good(NAME, "no systemd on this host: none is needed"),
        Err(error) => Check::limited(
            NAME,
            format!("{path}: {}", words(error)),
            "systemd cannot be asked for a control group: limits work only where one is yours already",
        )
        .admin("sudo apt install dbus-user-session, then log in again"),
    }
}

fn manager(systemd: bool, uid: u32) -> Check {
    const NAME: &str = "user manager";
    let path = format!("/run/user/{uid}/systemd/private");
    match UnixStream::connect(&path) {
        Ok(_) => Check::good(NAME, "systemd's manager of this user runs"),
        Err(_) if !systemd => Check::good(NAME, "no systemd on this host"),
        Err(error) => Check::limited(
            NAME,
            format!("systemd's manager of this user does not answer ({path}: {})", words(error)),
            "no control groups from it, and no units of yours at boot",
        )
        .user("log in through PAM (ssh, a console), or: loginctl enable-linger")
        .mended_by(Mend::Linger),
    }
}

fn linger(systemd: bool, uid: u32) -> Check {
    const NAME: &str = "linger";
    if !systemd {
        return Check::good(NAME, "no systemd on this host: a log-out ends nothing");
    }
    let name = login_name(uid).unwrap_or_else(|| uid.to_string());
    if uid == 0 || lingers(&name) {
        Check::good(NAME, "containers outlive your sessions")
    } else {
        Check::note(
            NAME,
            format!("not set for {name}"),
            "your last log-out ends systemd's manager of yours, the runtime folder and the containers in its groups",
        )
        .user("loginctl enable-linger")
        .mended_by(Mend::Linger)
    }
}

/// Records of running containers hold boot's clock; without it they cannot be told from lost ones.
fn boot(read: Reader<'_>) -> Check {
    const NAME: &str = "/proc";
    if read("/proc/self/stat").is_some() && read("/proc/uptime").is_some() {
        Check::good(NAME, "mounted")
    } else {
        Check::broken(NAME, "not mounted, or hidden").admin("mount -t proc proc /proc")
    }
}

/// A Unix socket's path has at most 108 bytes: unix(7).
fn store_name(dirs: &Dirs) -> Check {
    const NAME: &str = "socket paths";
    let length = dirs.runtime.as_os_str().len();
    if length > 200 {
        Check::limited(
            NAME,
            format!("the runtime folder's path has {length} bytes"),
            "other tools cannot reach sockets there",
        )
        .user("set XDG_RUNTIME_DIR to a shorter path")
    } else {
        Check::good(NAME, format!("{length} bytes to the runtime folder"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_systemd_nothing_is_amiss() {
        for check in [bus(false, 4_000_000_000), manager(false, 4_000_000_000), linger(false, 4_000_000_000)]
        {
            assert!(check.is_ok(), "{check:?}");
        }
        for check in [bus(true, 4_000_000_000), manager(true, 4_000_000_000), linger(true, 4_000_000_000)] {
            assert!(!check.is_ok() && check.remedy.is_some(), "{check:?}");
        }
        assert!(!boot(&|_| None).is_ok());
    }
}
