//! The first process: who it is, what it may, what it runs.

use super::Context as PlanContext;
use super::accounts;
use super::environment::environment;
use super::root::Root;
use crate::error::Result;
use crate::runtime::capabilities::ContainerCaps;
use crate::runtime::plan::{Process, Role, SeccompProgram, Stdio};
use crate::runtime::seccomp::{self, Profile};
use crate::runtime::seccomp_default;
use crate::runtime::users::{self, ResolvedUser};
use crate::types::container::{ContainerConfig, SeccompChoice};
use crate::types::id::ContainerId;
use crate::types::idmap::IdMap;
use crate::types::namespace::UsernsMode;
use crate::userns::ContainerMaps;

/// The user that was asked for; with `keep-id` and no word on it, the caller.
pub(super) fn resolve_user(context: &PlanContext<'_>, root: &Root) -> Result<ResolvedUser> {
    let config = &context.record.config;
    let (wanted, groups) = (wanted_user(context), added_groups(config));
    users::resolve(root.fd(), &wanted, &groups).or_else(|error| match accounts::by_number(config, &wanted) {
        Some(user) => users::resolve(root.fd(), &user, &groups),
        None => Err(error),
    })
}

/// As `--user` writes it; empty for root. In a pod that was made with `keep-id`, as
/// with `keep-id` of its own.
pub(super) fn wanted_user(context: &PlanContext<'_>) -> String {
    let asked = context.record.config.user.clone().unwrap_or_default();
    match kept_ids(context) {
        Some((uid, gid)) if asked.is_empty() => format!("{uid}:{gid}"),
        _ => asked,
    }
}

/// With `keep-id`: the caller's ids in the container.
pub(super) fn kept_ids(context: &PlanContext<'_>) -> Option<(u32, u32)> {
    let config = &context.record.config;
    let of_pod = match &config.userns {
        UsernsMode::Container(holder) if config.pod.is_some() => {
            let holder = ContainerId::parse(holder).and_then(|id| context.store.record(&id));
            holder.ok().map(|holder| holder.config.userns)
        }
        _ => None,
    };
    match of_pod.as_ref().unwrap_or(&config.userns) {
        UsernsMode::KeepId { uid, gid } => Some((
            uid.or(context.outer.uid_map.to_outside(0)).unwrap_or(0),
            gid.or(context.outer.gid_map.to_outside(0)).unwrap_or(0),
        )),
        _ => None,
    }
}

/// `--group-add` without `keep-groups`.
pub(super) fn added_groups(config: &ContainerConfig) -> Vec<String> {
    config.group_add.iter().filter(|group| *group != "keep-groups").cloned().collect()
}

pub(super) fn process(
    context: &PlanContext<'_>,
    user: &ResolvedUser,
    maps: Option<&ContainerMaps>,
    caps: ContainerCaps,
    hostname: Option<&str>,
    stdio: Stdio,
    warnings: &mut Vec<String>,
) -> Result<Process> {
    let config = &context.record.config;
    let mut args = config.entrypoint.clone().unwrap_or_default();
    args.extend(config.cmd.iter().cloned());
    Ok(Process {
        args,
        env: environment(context, hostname, user.home.as_deref())?,
        cwd: config.workdir.clone().filter(|dir| !dir.is_empty()).unwrap_or_else(|| "/".into()),
        uid: user.uid,
        gid: user.gid,
        groups: groups(context, user, maps, warnings),
        umask: config.umask.unwrap_or(0o022),
        capabilities: caps.for_user(user.uid),
        rlimits: config.ulimits.clone(),
        pid_max: pid_max(),
        no_new_privileges: config.no_new_privileges,
        oom_score_adj: oom_score(config.oom_score_adj, warnings),
        personality: config.personality,
        seccomp: filter(config, caps)?,
        terminal: config.tty,
        role: match () {
            () if config.infra => Role::Infra,
            () if config.init => Role::Reaper,
            () => Role::Command,
        },
        stdio,
    })
}

/// `--oom-score-adj`; this user's own, with podman's warning, where what is asked for
/// is less than the kernel allows.
pub(super) fn oom_score(asked: Option<i32>, warnings: &mut Vec<String>) -> Option<i32> {
    const OWN: &str = "/proc/self/oom_score_adj";
    let asked = asked?;
    let own = std::fs::read_to_string(OWN).ok().and_then(|text| text.trim().parse::<i32>().ok());
    let Some(own) = own.filter(|own| asked < *own) else { return Some(asked) };
    // How low it may go is not to be read, and can be lower than it is: proc_pid_oom_score_adj(5).
    if std::fs::write(OWN, asked.to_string()).is_ok() && std::fs::write(OWN, own.to_string()).is_ok() {
        return Some(asked);
    }
    warnings
        .push(format!("Requested oom_score_adj={asked} is lower than the current one, changing to {own}"));
    Some(own)
}

/// The system's kernel.pid_max.
pub(super) fn pid_max() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/kernel/pid_max").ok().and_then(|text| text.trim().parse().ok())
}

/// With `keep-groups` the caller's stay as they are. A namespace with a single
/// id map forbids setgroups: user_namespaces(7).
fn groups(
    context: &PlanContext<'_>,
    user: &ResolvedUser,
    maps: Option<&ContainerMaps>,
    warnings: &mut Vec<String>,
) -> Option<Vec<u32>> {
    if context.record.config.group_add.iter().any(|group| group == "keep-groups") {
        return None;
    }
    let denied = std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "deny");
    if denied {
        // Root lacks nothing without those that the image gives it, and that there is a
        // single id has been said.
        let matters = user.uid != 0 || !context.record.config.group_add.is_empty();
        if matters && user.groups.iter().any(|group| *group != user.gid) {
            warnings.push(format!("supplementary groups {:?} cannot be set with a single id", user.groups));
        }
        return None;
    }
    let (mapped, left_out) = split_by_map(&user.groups, maps.map(|maps| &maps.gid));
    if !left_out.is_empty() {
        warnings.push(format!(
            "supplementary groups {left_out:?} are not mapped in the container and are left out"
        ));
    }
    Some(mapped)
}

/// What the map has and what it lacks: setgroups(2) refuses the whole list for
/// one gid without a map, as a small --gidmap leaves the image's groups.
fn split_by_map(groups: &[u32], map: Option<&IdMap>) -> (Vec<u32>, Vec<u32>) {
    groups.iter().partition(|gid| map.is_none_or(|map| map.to_outside(**gid).is_some()))
}

pub(super) fn filter(config: &ContainerConfig, caps: ContainerCaps) -> Result<Option<SeccompProgram>> {
    let compiled = |profile: &Profile| -> Result<Option<SeccompProgram>> {
        let filter = seccomp::compile(profile, caps.bounding, seccomp::Host::running()?)?;
        Ok(Some(SeccompProgram { filter, flags: profile.flags }))
    };
    match &config.seccomp {
        SeccompChoice::Unconfined => Ok(None),
        SeccompChoice::Default if config.privileged => Ok(None),
        SeccompChoice::Default => compiled(&seccomp_default::profile()),
        SeccompChoice::Profile(text) => compiled(&Profile::parse(text)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_without_a_map_are_left_out() {
        let map = IdMap::parse_proc("0 0 1\n");
        assert_eq!(split_by_map(&[0, 10], Some(&map)), (vec![0], vec![10]));
        assert_eq!(split_by_map(&[0, 10], None), (vec![0, 10], vec![]));
    }
}
