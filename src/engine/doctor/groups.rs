//! Control groups of the second version: where this user may make one, and
//! which controllers it would have.

use super::check::Check;
use crate::cgroup::{DROP_IN, Manager, NoManager, delegation};
use crate::sys::errno::Reader;
use std::path::Path;

/// A command that makes the file which passes the controllers on.
fn drop_in() -> String {
    let (path, text) = DROP_IN;
    let directory = Path::new(path).parent().unwrap_or(Path::new("/")).display();
    format!(
        "sudo mkdir -p {directory} && printf '{}' | sudo tee {path} && sudo systemctl daemon-reload, then log in again",
        text.replace('\n', "\\n")
    )
}

pub(super) fn checks(read: Reader<'_>, found: &Result<Manager, NoManager>) -> Vec<Check> {
    let hierarchy = hierarchy(read);
    if !hierarchy.is_ok() {
        return vec![hierarchy];
    }
    let manager = found.as_ref().ok();
    vec![hierarchy, controllers(read, manager), own_group(manager)]
}

fn hierarchy(read: Reader<'_>) -> Check {
    const NAME: &str = "cgroups";
    if read("/sys/fs/cgroup/cgroup.controllers").is_some() {
        Check::good(NAME, "version 2")
    } else {
        Check::limited(NAME, "not the unified hierarchy (version 2)", "no resource limits")
            .admin("add systemd.unified_cgroup_hierarchy=1 to the kernel's command line and restart")
    }
}

/// Limits need a writable subtree of one's own: cgroups(7).
fn controllers(read: Reader<'_>, manager: Option<&Manager>) -> Check {
    const NAME: &str = "controllers";
    let path = match manager {
        // Whatever session this is, groups come from there.
        Some(manager) => manager.group.display().to_string(),
        None => {
            let own = read("/proc/self/cgroup").unwrap_or_default();
            let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
            // systemd delegates user@UID.service; the controllers there are what counts.
            let service = own.split_inclusive(".service").next().filter(|path| path.contains("/user@"));
            format!("/sys/fs/cgroup{}", service.unwrap_or(own))
        }
    };
    let passed = read(&format!("{path}/cgroup.controllers")).unwrap_or_default();
    let has = |name: &&str| passed.split_ascii_whitespace().any(|controller| controller == *name);
    let missing: Vec<&str> = ["cpu", "memory", "pids"].into_iter().filter(|name| !has(name)).collect();
    let rare: Vec<&str> = ["io", "cpuset"].into_iter().filter(|name| !has(name)).collect();
    if !missing.is_empty() {
        let flags = missing.iter().map(|name| match *name {
            "cpu" => "--cpus",
            "memory" => "--memory",
            _ => "--pids-limit",
        });
        let flags: Vec<&str> = flags.collect();
        Check::limited(
            NAME,
            format!("{path} has no {}", missing.join(", ")),
            format!("{} are errors", flags.join(", ")),
        )
        .admin(drop_in())
    } else if !rare.is_empty() {
        Check::note(
            NAME,
            format!("{path}: {}", passed.trim()),
            format!("limits of {} are errors", rare.join(" and ")),
        )
        .admin(drop_in())
    } else {
        Check::good(NAME, format!("{path}: {}", passed.trim()))
    }
}

/// By doing as far as it leaves no trace: the groups that may be written.
fn own_group(manager: Option<&Manager>) -> Check {
    const NAME: &str = "own control group";
    if manager.is_some() {
        return Check::good(NAME, "each container's is a scope of systemd's user manager");
    }
    let found = delegation();
    if found.is_empty() {
        Check::note(
            NAME,
            "this session's own group is not yours",
            "without systemd's user manager: no limits, and `pause` stops processes one by one",
        )
        .user("start coracle from a session of systemd's (ssh, a console), or: systemd-run --user --scope -p Delegate=yes SHELL")
    } else {
        Check::good(NAME, format!("yours, passing on: {}", found.controllers().join(" ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::doctor::{Remedy, Severity};

    #[test]
    fn delegation_is_read_where_systemd_delegates() {
        let host = |path: &str| {
            let text = match path {
                "/sys/fs/cgroup/cgroup.controllers" => "cpu io memory pids",
                "/proc/self/cgroup" => "0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope\n",
                "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/cgroup.controllers" => {
                    "memory pids\n"
                }
                _ => return None,
            };
            Some(text.to_owned())
        };
        assert!(hierarchy(&host).is_ok());
        let check = controllers(&host, None);
        assert_eq!(check.severity, Severity::Limited);
        assert!(check.found.ends_with("user@1000.service has no cpu"), "{check:?}");
        assert_eq!(check.cost.as_deref(), Some("--cpus are errors"));
        assert!(matches!(&check.remedy, Some(Remedy::Administrator(text)) if text.contains("delegate.conf")));
        assert!(!hierarchy(&|_| None).is_ok());
        assert_eq!(
            drop_in(),
            "sudo mkdir -p /etc/systemd/system/user@.service.d && \
             printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | \
             sudo tee /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl daemon-reload, then log in again"
        );
    }
}
