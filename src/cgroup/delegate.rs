//! Where this user may make control groups.

use rustix::fs::{Access, AtFlags, CWD};
use std::path::{Path, PathBuf};

/// CGROUP2_SUPER_MAGIC of include/uapi/linux/magic.h.
const CGROUP2: i64 = 0x6367_7270;

/// The groups below which a container's may lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delegation {
    /// Writable groups, the best first, each with the controllers that it
    /// passes on.
    places: Vec<(PathBuf, Vec<String>)>,
    /// Whether the host has the second version at all.
    pub(crate) has_v2: bool,
}

impl Delegation {
    /// The first place that passes all these controllers on.
    pub(super) fn for_controllers<'a>(
        &self,
        needed: impl Iterator<Item = &'a str> + Clone,
    ) -> Option<PathBuf> {
        let has =
            |controllers: &[String]| needed.clone().all(|name| controllers.iter().any(|own| own == name));
        self.places.iter().find(|(_, controllers)| has(controllers)).map(|(path, _)| path.clone())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The controllers that some place passes on.
    pub(crate) fn controllers(&self) -> Vec<String> {
        let mut all: Vec<String> =
            self.places.iter().flat_map(|(_, controllers)| controllers.iter().cloned()).collect();
        all.sort();
        all.dedup();
        all
    }
}

/// Looks at this process's own group. It costs one small file where there is
/// no control group of the second version. `CORACLE_CGROUPS=no` in the
/// environment does without.
pub(crate) fn delegation() -> Delegation {
    if std::env::var_os("CORACLE_CGROUPS").is_some_and(|value| value == "no") {
        return Delegation::default();
    }
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(own) = own_group(&groups) else { return Delegation::default() };
    let Some(mount) = mount_point() else { return Delegation::default() };
    let own = mount.join(own.trim_start_matches('/'));
    let mut places = Vec::new();
    // To move a process between two groups takes the right to write to their
    // common ancestor's cgroup.procs: of a sibling that is the parent's.
    for place in own.parent().filter(|parent| parent.starts_with(&mount)).into_iter().chain([own.as_path()]) {
        if is_writable(place) && is_writable(&place.join("cgroup.procs")) {
            let text = std::fs::read_to_string(place.join("cgroup.subtree_control")).unwrap_or_default();
            places.push((place.to_owned(), text.split_whitespace().map(str::to_owned).collect()));
        }
    }
    Delegation { places, has_v2: true }
}

/// The path of the second version in proc_pid_cgroup(5): `0::/user.slice/…`.
fn own_group(text: &str) -> Option<&str> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    // Outside of the namespace's root: not ours to see.
    (!path.contains("/..")).then_some(path)
}

fn mount_point() -> Option<PathBuf> {
    let is_v2 = |path: &Path| rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type == CGROUP2);
    let usual = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
    if let Some(found) = usual.iter().find(|path| is_v2(path)) {
        return Some(found.to_path_buf());
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mount_in(&mounts).filter(|path| is_v2(path))
}

/// The mount point of the whole hierarchy in proc_pid_mountinfo(5).
fn mount_in(text: &str) -> Option<PathBuf> {
    text.lines().find_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let mut fields = front.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (back.starts_with("cgroup2 ") && root == "/" && !point.contains('\\')).then(|| PathBuf::from(point))
    })
}

fn is_writable(path: &Path) -> bool {
    rustix::fs::accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_versions_group_is_found() {
        assert_eq!(own_group("4:memory:/x\n0::/user.slice/a.scope\n"), Some("/user.slice/a.scope"));
        assert_eq!(own_group("4:memory:/x\n"), None);
        assert_eq!(own_group("0::/../other\n"), None);
    }

    #[test]
    fn a_mount_elsewhere_is_found() {
        let text = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n40 31 0:37 / /mnt/groups rw shared:1 - cgroup2 none rw\n";
        assert_eq!(mount_in(text), Some("/mnt/groups".into()));
        assert_eq!(mount_in("40 31 0:37 /part /mnt rw - cgroup2 none rw\n"), None);
    }

    #[test]
    fn a_place_must_pass_on_all_that_is_needed() {
        let place = |name: &str, controllers: &[&str]| {
            (PathBuf::from(name), controllers.iter().map(|word| (*word).to_owned()).collect())
        };
        let delegation =
            Delegation { places: vec![place("/a", &["memory", "pids"]), place("/b", &[])], has_v2: true };
        let find = |needed: &[&str]| delegation.for_controllers(needed.iter().copied());
        assert_eq!(find(&[]), Some("/a".into()));
        assert_eq!(find(&["memory"]), Some("/a".into()));
        assert_eq!(find(&["cpu"]), None);
        assert_eq!(delegation.controllers(), ["memory", "pids"]);
    }
}
