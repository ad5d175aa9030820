//! A further command in the running container: what of the container binds it.

use super::Context as PlanContext;
use super::{environment, namespaces, process};
use crate::error::{Context, Result};
use crate::runtime::capabilities::{self, CapRequest, ContainerCaps, ProcessCaps};
use crate::runtime::exec::{ExecPlan, Groups};
use crate::runtime::plan::{Process, Role, SeccompProgram, Stdio};
use crate::types::exec::ExecRequest;
use crate::types::idmap::IdMap;
use std::cell::OnceCell;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The running container, as its commands need it.
pub(crate) struct Target<'a> {
    /// The first process, by its number and as a pidfd.
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
    /// The container's control group, to start in.
    pub(crate) cgroup: Option<OwnedFd>,
    /// The container's filter, compiled once.
    pub(crate) filter: &'a OnceCell<Option<SeccompProgram>>,
}

/// The namespaces that a container may have of its own.
const NAMESPACES: [(&str, i32); 7] = [
    ("user", libc::CLONE_NEWUSER),
    ("mnt", libc::CLONE_NEWNS),
    ("pid", libc::CLONE_NEWPID),
    ("net", libc::CLONE_NEWNET),
    ("ipc", libc::CLONE_NEWIPC),
    ("uts", libc::CLONE_NEWUTS),
    ("cgroup", libc::CLONE_NEWCGROUP),
];

/// A command with everything that binds the container itself: capabilities,
/// filter, limits, umask, `no_new_privs`, environment.
pub(crate) fn for_exec(
    context: &PlanContext<'_>,
    request: &ExecRequest,
    target: Target<'_>,
    stdio: Stdio,
) -> Result<ExecPlan> {
    let config = &context.record.config;
    let proc = Path::new("/proc").join(target.pid.to_string());
    let capabilities = ContainerCaps::compute(
        CapRequest { add: &config.cap_add, drop: &config.cap_drop, privileged: config.privileged },
        capabilities::available(),
    )?;
    let seccomp = match target.filter.get() {
        Some(filter) => filter.clone(),
        None => {
            let filter = process::filter(config, capabilities)?;
            target.filter.get_or_init(|| filter).clone()
        }
    };
    let hostname = namespaces::hostname(context.record);
    let not_empty = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let cwd =
        not_empty(&request.workdir).or_else(|| not_empty(&config.workdir)).unwrap_or_else(|| "/".into());
    Ok(ExecPlan {
        init: target.pidfd,
        namespaces: foreign_namespaces(&proc)?,
        cgroup: target.cgroup,
        user: not_empty(&request.user).unwrap_or_else(|| process::wanted_user(context)),
        group_add: process::added_groups(config),
        groups: groups(config.group_add.iter().any(|group| group == "keep-groups"), &proc),
        uid_map: map(&proc.join("uid_map"))?,
        gid_map: map(&proc.join("gid_map"))?,
        capabilities,
        privileged: request.privileged,
        size: request.size,
        process: Process {
            args: request.args.clone(),
            env: environment::of_exec(context, hostname.as_deref(), request)?,
            cwd,
            uid: 0,
            gid: 0,
            groups: None,
            umask: config.umask.unwrap_or(0o022),
            capabilities: ProcessCaps {
                bounding: capabilities.bounding,
                permitted: capabilities::CapSet::EMPTY,
                ambient: capabilities::CapSet::EMPTY,
            },
            rlimits: config.ulimits.clone(),
            pid_max: process::pid_max(),
            no_new_privileges: config.no_new_privileges,
            oom_score_adj: process::oom_score(config.oom_score_adj, &mut Vec::new()),
            personality: config.personality,
            seccomp,
            terminal: request.tty,
            role: Role::Command,
            stdio,
        },
    })
}

/// Those of the first process that are not this process's: setns(2) refuses to
/// enter a user namespace twice, and others that the container has no power over.
fn foreign_namespaces(proc: &Path) -> Result<i32> {
    let mut flags = 0;
    for (name, flag) in NAMESPACES {
        let look = |path: &Path| rustix::fs::stat(path).context(|| format!("look at {}", path.display()));
        let theirs = look(&proc.join("ns").join(name))?;
        let ours = look(&Path::new("/proc/self/ns").join(name))?;
        if (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino) {
            flags |= flag;
        }
    }
    Ok(flags)
}

fn groups(keep: bool, proc: &Path) -> Groups {
    let denied = || std::fs::read_to_string(proc.join("setgroups")).is_ok_and(|text| text.trim() == "deny");
    if keep || denied() { Groups::Keep } else { Groups::Set }
}

fn map(path: &Path) -> Result<IdMap> {
    let text = std::fs::read_to_string(path).context(|| format!("read {}", path.display()))?;
    Ok(IdMap::parse_proc(&text))
}
