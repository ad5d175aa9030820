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
