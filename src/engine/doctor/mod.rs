//! `doctor`: what this host allows, found by doing wherever that can be done
//! without a trace; what it costs; and what mends it, for the user or in words
//! for an administrator.
//!
//! The probes that change the process (namespaces, mounts) run last or in
//! children, and nothing of them outlives the command.

mod apparmor;
mod check;
mod folders;
mod groups;
mod ids;
mod kernel;
mod limits;
mod mend;
mod namespaces;
mod network;
mod session;
mod storage;
mod trial;

pub(crate) use check::{Check, Remedy, Severity};
pub(crate) use mend::mend;

use crate::cgroup;
use crate::dirs::Dirs;
use crate::sys::errno::read_host;
use crate::userns;

/// Looks at everything. This very process is afterwards in the user's outer
/// namespace: do nothing else in it. It must have no threads.
pub(crate) fn examine(dirs: &Dirs) -> Vec<Check> {
    let mut checks = examine_outside(dirs);
    let entered = userns::enter(&dirs.runtime);
    checks.push(ids::user_namespace(&entered));
    if entered.is_ok() {
        checks.extend(namespaces::checks());
        checks.extend(network::checks_inside());
        checks.extend(storage::checks(dirs));
        crate::error::BestEffort::or_ignore(userns::unregister_holder(&dirs.runtime));
    }
    checks
}

/// What can be seen without entering a namespace; the process stays what it was.
pub(crate) fn examine_outside(dirs: &Dirs) -> Vec<Check> {
    let uid = rustix::process::getuid().as_raw();
    let read = &read_host;
    let mut checks = kernel::checks(read);
    checks.extend(limits::checks(read, uid));
    checks.extend(apparmor::checks(read));
    if uid != 0 {
        checks.extend(ids::checks(uid));
    }
    checks.extend(folders::checks(dirs, uid));
    let manager = cgroup::find_manager(uid);
    checks.extend(session::checks(read, dirs, uid, &manager));
    checks.extend(groups::checks(read, &manager));
    checks.extend(network::checks(read));
    checks
}

/// The worst of them.
pub(crate) fn worst(checks: &[Check]) -> Severity {
    checks.iter().map(|check| check.severity).max().unwrap_or(Severity::Ok)
}

/// For tests of what shows it.
#[cfg(test)]
pub(crate) fn sample(name: &'static str, found: &str) -> Check {
    Check::good(name, found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Trouble;
    use std::collections::BTreeSet;

    /// Lines to which no error points.
    const SILENT: [(&str, &str); 8] = [
        ("group", "the error says by itself what helps"),
        ("inotify", "`logs -f` looks at intervals without it; programs inside tell it themselves"),
        ("keyrings", "programs inside meet it"),
        ("SELinux", "programs inside meet it"),
        ("ping", "programs inside meet it"),
        ("client addresses", "the event log names the kernel's option"),
        ("reflink", "nothing fails without it"),
        ("socket paths", "other programs meet it: our own sockets are reached through their folder"),
    ];
    /// Lines that not every host has.
    const SOMETIMES: [&str; 4] = ["user namespace", "subuid files", "controllers", "own control group"];

    #[test]
    fn every_line_is_pointed_to_by_an_error_or_says_why_not() {
        let place = tempfile::tempdir().expect("a directory");
        let dirs = Dirs::beneath(place.path());
        let mut checks = examine_outside(&dirs);
        checks.extend(ids::checks(1));
        checks.extend(namespaces::checks());
        checks.extend(network::checks_inside());
        checks.extend(storage::checks(&dirs));
        let there: BTreeSet<&str> = checks.iter().map(|check| check.name).chain(SOMETIMES).collect();
        let told: BTreeSet<&str> =
            Trouble::ALL.iter().flat_map(|trouble| trouble.checks()).copied().collect();
        let silent: BTreeSet<&str> = SILENT.iter().map(|(name, _)| *name).collect();
        let known: BTreeSet<&str> = told.union(&silent).copied().collect();
        assert_eq!(there.difference(&known).collect::<Vec<_>>(), [&""; 0], "no error points there");
        assert_eq!(known.difference(&there).collect::<Vec<_>>(), [&""; 0], "doctor has no such line");
        assert_eq!(told.intersection(&silent).collect::<Vec<_>>(), [&""; 0]);
    }
}
