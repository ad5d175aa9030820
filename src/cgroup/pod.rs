//! The group that the containers of a pod lie in: with systemd a transient slice,
//! elsewhere a directory. It has the pod's limits, and holds no process itself.
//!
//! Each container's start makes it where it is missing, since a user manager that
//! ends takes it along; it goes with the pod's last container, and with systemd
//! when the pod is stopped or removed ([`end`]). Monitors lie outside: what a pod
//! may use is its containers'.

use super::bus::Bus;
use super::limits::Setting;
use super::message::Body;
use super::properties::{Property, Value, properties};
use super::scope::{Unit, slice};
use super::{Group, delegate};
use crate::error::{BestEffort, Result};
use crate::types::limits::Limits;
use rustix::fs::{Access, AtFlags, CWD};
use std::path::{Path, PathBuf};

/// Before a pod's short id in the name of its group: as podman's.
const PREFIX: &str = "coracle_pod_";

/// What the group of a pod is to be.
pub(crate) struct PodGroup<'a> {
    pub(crate) short_id: &'a str,
    /// For whoever reads `systemctl --user status`.
    pub(crate) description: String,
    pub(crate) limits: &'a Limits,
    /// `--cgroup-parent`
    pub(crate) parent: Option<&'a str>,
    /// The group of one of its containers that runs: without systemd another
    /// session would make the pod's elsewhere.
    pub(crate) sibling: Option<PathBuf>,
}

/// The slice of a pod; a dash in its name is a level.
fn slice_name(short_id: &str, parent: Option<&str>) -> Result<String> {
    let parent = slice(parent)?;
    let stem = parent.strip_suffix(".slice").unwrap_or(&parent);
    let before = if stem == "-" { String::new() } else { format!("{stem}-") };
    Ok(format!("{before}{PREFIX}{short_id}.slice"))
}

/// The unit of a pod's slice.
pub(super) fn unit(pod: &PodGroup<'_>) -> Result<Unit> {
    let mut list = vec![
        Property::new("Description", Value::Text(pod.description.clone())),
        Property::new("CollectMode", Value::Text("inactive-or-failed".into())),
    ];
    list.extend(properties(pod.limits));
    Ok(Unit { name: slice_name(pod.short_id, pod.parent)?, properties: list })
}

/// Lets go of a pod's slice when nothing runs in it any more. Where there is no
/// user manager, or no such slice, there is nothing to do.
pub(crate) fn end(uid: u32, short_id: &str, parent: Option<&str>) {
    let Some(manager) = delegate::manager(uid) else { return };
    let stop = || -> Result<()> {
        let mut body = Body::default();
        body.string(&slice_name(short_id, parent)?);
        body.string("replace");
        let mut bus = Bus::connect(&manager.socket)?;
        let serial = bus.call("StopUnit", "ss", body);
        bus.send()?;
        let job = bus.answer(serial)?;
        bus.job_done(&job)
    };
    stop().or_ignore();
}

/// The directory of a pod below `place`, with its limits, where no systemd manages.
pub(super) fn directory(pod: &PodGroup<'_>, place: PathBuf, settings: &[Setting]) -> Result<PathBuf> {
    let writable =
        |path: &PathBuf| rustix::fs::accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok();
    let beside = pod.sibling.as_deref().and_then(Path::parent).filter(|path| is_pod(path));
    if let Some(beside) = beside.map(Path::to_owned).filter(writable) {
        return Ok(beside);
    }
    let place = match pod.parent {
        Some(parent) => delegate::below(&place, parent)?,
        None => place,
    };
    let path = delegate::below(&place, &format!("{PREFIX}{}", pod.short_id))?;
    Group::open(&path)?.apply_files(settings).inspect_err(|_| remove(&path))?;
    Ok(path)
}

/// Removes the group of the pod that a container's group lay in, where that was
/// the last.
pub(super) fn remove_around(group: &Path) {
    if let Some(path) = group.parent().filter(|path| is_pod(path)) {
        remove(path);
    }
}

fn remove(path: &Path) {
    rustix::fs::rmdir(path).or_ignore();
}

fn is_pod(path: &Path) -> bool {
    path.extension().is_none()
        && path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_lies_in_its_parent() {
        let name = |parent| slice_name("0123", parent).expect("valid");
        assert_eq!(name(None), "app-coracle_pod_0123.slice");
        assert_eq!(name(Some("a-b.slice")), "a-b-coracle_pod_0123.slice");
        assert_eq!(name(Some("-.slice")), "coracle_pod_0123.slice");
        assert!(slice_name("0123", Some("a/b")).is_err());
    }

    #[test]
    fn only_a_directory_of_ours_is_a_pod_s() {
        assert!(is_pod(Path::new("/x/coracle_pod_01")));
        assert!(!is_pod(Path::new("/x/app-coracle_pod_01.slice")) && !is_pod(Path::new("/x")));
    }
}
