//! What a log-out ends, and systemd's manager of this user.

use super::check::{Check, Mend};
use crate::cgroup::{Manager, NoManager};
use crate::dirs::Dirs;
use crate::engine::logout::lingers;
use crate::sys::errno::Reader;
use crate::userns::subid::login_name;
use std::path::Path;

/// Where systemd runs: sd_booted(3).
const BOOTED: &str = "/run/systemd/system";

pub(super) fn checks(
    read: Reader<'_>,
    dirs: &Dirs,
    uid: u32,
    found: &Result<Manager, NoManager>,
) -> Vec<Check> {
    let systemd = Path::new(BOOTED).is_dir();
    vec![manager(systemd, found), linger(systemd, uid), boot(read), store_name(dirs)]
}

/// By doing: a question that it answers.
fn manager(systemd: bool, found: &Result<Manager, NoManager>) -> Check {
    const NAME: &str = "user manager";
    const COST: &str = "no control groups from it: limits work only where a group is yours already";
    match found {
        Ok(manager) => match manager.state() {
            Ok(state) if state == "stopping" => {
                Check::limited(NAME, "systemd's manager of this user is about to end", COST)
                    .user("log in again")
            }
            Ok(state) => {
                let place = manager.socket.display();
                Check::good(NAME, format!("systemd's manager of this user is {state}, at {place}"))
            }
            Err(error) => Check::limited(NAME, error.to_string(), COST)
                .user("systemctl --user daemon-reexec, or log in again"),
        },
        Err(NoManager::Root) => Check::good(NAME, "root's control groups are made without one"),
        Err(NoManager::Off) => Check::good(NAME, "not asked: CORACLE_CGROUPS=no"),
        Err(NoManager::Silent | NoManager::Version) if !systemd => {
            Check::good(NAME, "no systemd on this host: none is needed")
        }
        Err(NoManager::Version) => Check::good(NAME, "not asked: control groups are not of version 2 alone"),
        Err(NoManager::Silent) => Check::limited(NAME, "systemd's manager of this user does not run", COST)
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

/// Of a process its start is known; without it running containers cannot be told from lost ones.
fn boot(read: Reader<'_>) -> Check {
    const NAME: &str = "/proc";
    if read("/proc/self/stat").is_some() && read("/proc/uptime").is_some() {
        Check::good(NAME, "mounted")
    } else if read("/proc/self/stat").is_some() {
        Check::limited(
            NAME,
            "mounted with subset=pid: it has no more than processes",
            "networks of bridges cannot be made, and settings of the kernel are not seen",
        )
        .admin("mount -t proc proc /proc, or start the outer sandbox with a whole /proc")
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
        for check in [manager(false, &Err(NoManager::Silent)), linger(false, 4_000_000_000)] {
            assert!(check.is_ok(), "{check:?}");
        }
        for check in [manager(true, &Err(NoManager::Silent)), linger(true, 4_000_000_000)] {
            assert!(!check.is_ok() && check.remedy.is_some(), "{check:?}");
        }
        assert!(manager(true, &Err(NoManager::Root)).is_ok());
        assert!(!boot(&|_| None).is_ok());
    }
}
