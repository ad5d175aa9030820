//! Where this user may make control groups.

use crate::error::{BestEffort, Context, Error, Result, Trouble};
use rustix::fs::{Access, AtFlags, CWD};
use std::path::{Path, PathBuf};

/// CGROUP2_SUPER_MAGIC of include/uapi/linux/magic.h.
const CGROUP2: i64 = 0x6367_7270;
/// Where the one hierarchy of the second version is.
const USUAL: &str = "/sys/fs/cgroup";
/// Below this process's own group: what has to make room for the containers.
const SUPERVISOR: &str = "supervisor";

/// The groups below which a container's may lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delegation {
    /// Writable groups, the best first, each with the controllers that it
    /// passes on.
    places: Vec<(PathBuf, Vec<String>)>,
    /// Whether the host has the second version at all.
    pub(crate) has_v2: bool,
    /// This process's own group.
    own: Option<PathBuf>,
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

    /// Lets this process's own group pass controllers on, where it is the
    /// user's: all that runs in it moves into one below, because a group with
    /// processes passes none on. So it is in another container, which is given
    /// one group and starts in it, and with `--cgroups=split` in a service.
    pub(super) fn make_room(&mut self) {
        let Some(own) = self.own.clone().filter(|own| self.places.iter().any(|(path, _)| path == own)) else {
            return;
        };
        let controllers = std::fs::read_to_string(own.join("cgroup.controllers")).unwrap_or_default();
        if controllers.trim().is_empty() {
            return;
        }
        let inner = own.join(SUPERVISOR);
        if std::fs::create_dir(&inner).is_err() && !inner.is_dir() {
            return;
        }
        // Twice: a process may have been born meanwhile.
        for _ in 0..2 {
            let pids = std::fs::read_to_string(own.join("cgroup.procs")).unwrap_or_default();
            for pid in pids.lines() {
                std::fs::write(inner.join("cgroup.procs"), pid).or_ignore();
            }
        }
        for controller in controllers.split_ascii_whitespace() {
            std::fs::write(own.join("cgroup.subtree_control"), format!("+{controller}")).or_ignore();
        }
        let passed = std::fs::read_to_string(own.join("cgroup.subtree_control")).unwrap_or_default();
        let passed = passed.split_whitespace().map(str::to_owned).collect();
        self.places.retain(|(path, _)| *path != own);
        self.places.insert(0, (own, passed));
    }

    /// The controllers that a group of the user's could be given: those that some
    /// place passes on, and those of this process's own group, which could.
    pub(super) fn attainable(&self) -> Vec<String> {
        let mut all = self.controllers();
        let own = self.own.as_ref().filter(|own| self.places.iter().any(|(path, _)| path == *own));
        let text = own.and_then(|own| std::fs::read_to_string(own.join("cgroup.controllers")).ok());
        all.extend(text.unwrap_or_default().split_whitespace().map(str::to_owned));
        all
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

/// A user manager of systemd, which makes groups for those who ask.
pub(crate) struct Manager {
    /// Where it listens.
    pub(crate) socket: PathBuf,
    /// Its own group, with the controllers that are delegated to it.
    pub(crate) group: PathBuf,
}

/// Why no user manager is asked for groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoManager {
    /// Root's groups are made without one.
    Root,
    /// The user does without groups.
    Off,
    /// The host's groups are not of the second version alone.
    Version,
    /// Nobody listens where it would.
    Silent,
}

impl Manager {
    /// What it is doing: `running`, `degraded`, `stopping`, …
    ///
    /// # Errors
    /// Where it does not answer.
    pub(crate) fn state(&self) -> Result<String> {
        super::scope::manager_state(&self.socket)
    }

    /// The controllers that are delegated to it.
    pub(super) fn controllers(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.group.join("cgroup.controllers")).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// Whether it is there.
    pub(super) fn listens(&self) -> bool {
        super::bus::Bus::connect(&self.socket).is_ok()
    }
}

/// The user manager of the user `uid`. Whatever asks it for something, or says
/// whether there is one, finds it here.
///
/// # Errors
/// Why there is none to ask.
pub(crate) fn find_manager(uid: u32) -> Result<Manager, NoManager> {
    if uid == 0 {
        return Err(NoManager::Root);
    }
    if is_off() {
        return Err(NoManager::Off);
    }
    if !is_v2(Path::new(USUAL)) {
        return Err(NoManager::Version);
    }
    let group = PathBuf::from(format!("{USUAL}/user.slice/user-{uid}.slice/user@{uid}.service"));
    let socket = super::bus::socket(uid).filter(|_| group.is_dir()).ok_or(NoManager::Silent)?;
    Ok(Manager { socket, group })
}

/// As [`find_manager`], for whom it does not matter why there is none.
pub(crate) fn manager(uid: u32) -> Option<Manager> {
    find_manager(uid).ok()
}

/// Whether the user does without groups.
pub(super) fn is_off() -> bool {
    std::env::var_os("CORACLE_CGROUPS").is_some_and(|value| value == "no")
}

/// The group that a process is in.
pub(super) fn group_of(pid: u32) -> Option<PathBuf> {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    Some(mount_point()?.join(own_group(&groups)?.trim_start_matches('/')))
}

/// A group of the user's own choice below `place`: `--cgroup-parent` where no
/// systemd manages.
///
/// # Errors
/// `Invalid` for a path that leads out of it.
pub(super) fn below(place: &Path, parent: &str) -> Result<PathBuf> {
    let names: Vec<&str> = parent.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    if names.is_empty() || names.contains(&"..") || parent.contains('\0') {
        return Err(Error::invalid(format!(
            "--cgroup-parent {parent:?} is no path below your control group"
        )));
    }
    let controllers = std::fs::read_to_string(place.join("cgroup.subtree_control")).unwrap_or_default();
    let mut path = place.to_owned();
    for name in names {
        path.push(name);
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(error)
                    .context(|| format!("make the control group {}", path.display()))
                    .see_doctor(Trouble::ControlGroups);
            }
            _ => {}
        }
        for controller in controllers.split_ascii_whitespace() {
            std::fs::write(path.join("cgroup.subtree_control"), format!("+{controller}")).or_ignore();
        }
    }
    Ok(path)
}

/// Looks at this process's own group. It costs one small file where there is
/// no control group of the second version. `CORACLE_CGROUPS=no` in the
/// environment does without.
pub(crate) fn delegation() -> Delegation {
    if is_off() {
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
    Delegation { places, has_v2: true, own: Some(own) }
}

/// The path of the second version in proc_pid_cgroup(5): `0::/user.slice/…`.
fn own_group(text: &str) -> Option<&str> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    // Outside of the namespace's root: not ours to see.
    (!path.contains("/..")).then_some(path)
}

fn is_v2(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type == CGROUP2)
}

/// Where the second version is mounted.
pub(crate) fn mount_point() -> Option<PathBuf> {
    let usual = [USUAL, "/sys/fs/cgroup/unified"].map(Path::new);
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
        let delegation = Delegation {
            places: vec![place("/a", &["memory", "pids"]), place("/b", &[])],
            has_v2: true,
            own: None,
        };
        let find = |needed: &[&str]| delegation.for_controllers(needed.iter().copied());
        assert_eq!(find(&[]), Some("/a".into()));
        assert_eq!(find(&["memory"]), Some("/a".into()));
        assert_eq!(find(&["cpu"]), None);
        assert_eq!(delegation.controllers(), ["memory", "pids"]);
    }
}
