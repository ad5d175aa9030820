//! Control groups, version 2: a group for each container, where this user may
//! make one. What the monitor does with them is optional by design: on a host
//! without a delegated group containers run all the same, and only a limit that
//! was asked for is an error.
//!
//! Where a user manager of systemd runs, the group is a transient scope
//! ([`scope`]). Elsewhere it lies below a group that the user may write to:
//! beside this process's own, or within it, which gives the freezer and the
//! counters but no limits, because a group with processes of its own passes no
//! controllers on: cgroups(7), "no internal processes".
//!
//! The limits hold for the group; the container's processes are in a group
//! within it, `container`, which is all that the container sees: what it writes
//! there takes nothing from its limits.

mod attainable;
mod bus;
mod delegate;
mod limits;
mod message;
pub(crate) mod pod;
mod properties;
mod scope;
mod stats;

pub(crate) use attainable::Attainable;
pub(crate) use delegate::{Delegation, Manager, NoManager, delegation, find_manager, manager, mount_point};
pub(crate) use limits::DROP_IN;
pub(crate) use scope::leave_scope_of_monitor;
pub(crate) use stats::{pressure, stats};

use crate::error::{BestEffort, Context, Result, Trouble};
use crate::types::cgroup::CgroupsMode;
use crate::types::limits::Limits;
use pod::PodGroup;
use rustix::fs::{Access, AtFlags, Mode, OFlags};
use scope::Placeholder;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Before a container's short id in the name of its group.
const PREFIX: &str = "coracle-";
/// Within a container's group: where its processes are.
const LEAF: &str = "container";

/// How long processes that were killed may take to be gone.
const END: Duration = Duration::from_secs(5);

/// What the group of a container is to be.
pub(crate) struct Request<'a> {
    pub(crate) short_id: &'a str,
    /// For whoever reads `systemctl --user status`.
    pub(crate) description: String,
    pub(crate) limits: &'a Limits,
    pub(crate) mode: CgroupsMode,
    /// `--cgroup-parent`
    pub(crate) parent: Option<&'a str>,
    /// The pod that it is in: its group is the parent then.
    pub(crate) pod: Option<PodGroup<'a>>,
    /// The user, as the host counts.
    pub(crate) uid: u32,
    pub(crate) stop_signal: i32,
    /// Microseconds.
    pub(crate) stop_timeout: u64,
    /// Whether the container has run before under this monitor.
    pub(crate) is_restart: bool,
    /// Whether the container may make groups in it.
    pub(crate) is_writable: bool,
    /// Whether the monitor gets a scope of its own.
    pub(crate) moves_monitor: bool,
}

impl Request<'_> {
    /// Whether it must have a group.
    pub(crate) fn is_needed(&self) -> bool {
        let pod = self.pod.as_ref();
        !self.limits.is_empty()
            || self.parent.is_some()
            || pod.is_some_and(|pod| !pod.limits.is_empty() || pod.parent.is_some())
    }

    /// The limits of the container and of its pod: each needs its controller.
    fn settings_of_all(&self) -> Vec<limits::Setting> {
        let pod = self.pod.as_ref().map(|pod| limits::settings(pod.limits)).unwrap_or_default();
        limits::settings(self.limits).into_iter().chain(pod).collect()
    }
}

/// A group on its way.
pub(crate) enum Begun {
    /// There is none to have.
    None,
    Made(Group),
    Scope(Box<scope::Starting>),
}

/// Begins to make the group of a container, with its limits: systemd works
/// while the caller goes on to [`Begun::finish`].
///
/// # Errors
/// `Invalid`, naming the controller, for a limit that cannot be kept.
pub(crate) fn begin(request: &Request<'_>) -> Result<Begun> {
    if request.mode == CgroupsMode::Disabled {
        return Ok(Begun::None);
    }
    if delegate::is_off() {
        if let Some(pod) = &request.pod {
            refuse(pod.limits)?;
        }
        return refuse(request.limits).map(|()| Begun::None);
    }
    if request.mode != CgroupsMode::Split
        && let Some(manager) = manager(request.uid)
    {
        return scope::begin(request, &manager.socket).map(|starting| Begun::Scope(Box::new(starting)));
    }
    Ok(Group::create(request)?.map_or(Begun::None, Begun::Made))
}

/// Whether the user manager is about to end, or has ended: the user has logged out.
pub(crate) fn manager_ends(uid: u32) -> bool {
    manager(uid).is_none_or(|manager| match manager.state() {
        Ok(state) => state == "stopping",
        // It may have ended while it was asked; a slow one has not.
        Err(_) => !manager.listens(),
    })
}

/// The error for limits where there is no group to keep them.
///
/// # Errors
/// `Invalid`, naming the controller, where there are any.
pub(crate) fn refuse(limits: &Limits) -> Result<()> {
    limits::settings(limits)
        .first()
        .map_or(Ok(()), |first| Err(limits::cannot(first, &Delegation::default())))
}

impl Begun {
    /// Waits until the group is there.
    ///
    /// # Errors
    /// As [`begin`].
    pub(crate) fn finish(self, request: &Request<'_>) -> Result<Option<Group>> {
        match self {
            Self::None => Ok(None),
            Self::Made(group) => Ok(Some(group)),
            Self::Scope(starting) => starting.finish(request).map(Some),
        }
    }
}

/// An open control group.
pub(crate) struct Group {
    /// The one with the limits.
    path: PathBuf,
    directory: OwnedFd,
    /// The one with the processes, where it is another.
    leaf: Option<OwnedFd>,
    keeper: Keeper,
}

/// Who removes a group that is empty.
enum Keeper {
    /// It was opened, not made.
    Other,
    /// Made here.
    Own,
    /// Until the first process of the container is in it, a placeholder keeps it.
    Systemd(Option<Placeholder>),
}

impl Group {
    /// Makes the group below one that is the user's. `None` where the user may
    /// make none.
    fn create(request: &Request<'_>) -> Result<Option<Self>> {
        let settings = limits::settings(request.limits);
        let of_all = request.settings_of_all();
        let mut delegation = delegation();
        let needed = || of_all.iter().map(|setting| setting.controller);
        if request.mode == CgroupsMode::Split || delegation.for_controllers(needed()).is_none() {
            delegation.make_room();
        }
        let Some(place) = delegation.for_controllers(needed()) else {
            return match of_all.first() {
                None => Ok(None),
                Some(first) => Err(limits::cannot(first, &delegation)),
            };
        };
        let try_it = || -> Result<(PathBuf, std::io::Result<()>)> {
            let place = match (request.parent, &request.pod) {
                (_, Some(pod)) => pod::directory(pod, place.clone(), &limits::settings(pod.limits))?,
                (Some(parent), None) => delegate::below(&place, parent)?,
                (None, None) => place.clone(),
            };
            let path = place.join(format!("{PREFIX}{}", request.short_id));
            let made = std::fs::create_dir(&path);
            Ok((path, made))
        };
        let (mut path, mut made) = try_it()?;
        // The pod's last container took its group along just now.
        if made.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            (path, made) = try_it()?;
        }
        match made {
            Ok(()) => {}
            // Left by a monitor that was killed, as it was: what is in it may run on,
            // and where it is frozen the new first process would never begin.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Self::open(&path)?.remove();
                (path, made) = try_it()?;
                if made.is_err() {
                    Self::open(&path)?.thaw();
                }
            }
            // Not worth more than a limit: a container needs no group.
            Err(_) if of_all.is_empty() => return Ok(None),
            Err(error) => {
                return Err(error)
                    .context(|| format!("make the control group {}", path.display()))
                    .see_doctor(Trouble::ControlGroups);
            }
        }
        let mut group = Self::open(&path)?;
        group.keeper = Keeper::Own;
        group.apply_files(&settings).inspect_err(|_| group.remove())?;
        // Else there is nothing that the container could take off, now or after an update.
        if !settings.is_empty() || request.is_writable {
            group.make_leaf().inspect_err(|_| group.remove())?;
        }
        Ok(Some(group))
    }

    /// The group of a scope that systemd has just made, with its placeholder in it.
    fn in_scope(path: PathBuf, placeholder: Placeholder, request: &Request<'_>) -> Result<Self> {
        let mut group = Self::open(&path)?;
        let controllers = group.read("cgroup.controllers").unwrap_or_default();
        let settings = limits::settings(request.limits);
        let of_all = request.settings_of_all();
        let missing = |setting: &&limits::Setting| {
            !controllers.split_ascii_whitespace().any(|own| own == setting.controller)
        };
        if let Some(missing) = of_all.iter().find(missing) {
            return Err(limits::not_delegated(missing, &controllers));
        }
        std::fs::create_dir(path.join(LEAF))
            .context(|| format!("make a control group in {}", path.display()))?;
        placeholder.enter(&path.join(LEAF))?;
        group.keeper = Keeper::Systemd(Some(placeholder));
        group.make_leaf()?;
        let own: Vec<_> = settings.into_iter().filter(|setting| !setting.is_property).collect();
        group.apply_files(&own)?;
        Ok(group)
    }

    /// The group within, with every controller that there is.
    fn make_leaf(&mut self) -> Result<()> {
        let path = self.path.join(LEAF);
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(error).context(|| format!("make the control group {}", path.display()));
            }
            _ => {}
        }
        for controller in self.read("cgroup.controllers")?.split_ascii_whitespace() {
            // One by one: the container goes without the one that fails.
            self.write("cgroup.subtree_control", &format!("+{controller}")).or_ignore();
        }
        self.leaf = Some(open_directory(&path)?);
        Ok(())
    }

    /// Opens a group that is there.
    ///
    /// # Errors
    /// Where it is not.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let directory = open_directory(path)?;
        let leaf = open_directory(&path.join(LEAF)).ok();
        Ok(Self { path: path.to_owned(), directory, leaf, keeper: Keeper::Other })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the container's processes are: for `CLONE_INTO_CGROUP`.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.leaf.as_ref().unwrap_or(&self.directory).as_fd()
    }

    /// Where a further process may be: with the others, unless the container
    /// passes controllers on to groups that it has made (as systemd does in one);
    /// then none may be above these (cgroups(7), "no internal processes"), and it
    /// is beside the first one.
    ///
    /// # Errors
    /// Where the fd cannot be kept.
    pub(crate) fn for_further(&self, init: u32) -> std::io::Result<OwnedFd> {
        let passes_on =
            read_in(self.fd(), "cgroup.subtree_control").is_ok_and(|text| !text.trim().is_empty());
        let beside = || delegate::group_of(init).filter(|path| path.starts_with(&self.path));
        match passes_on.then(beside).flatten().map(|path| open_directory(&path)) {
            Some(Ok(fd)) => Ok(fd),
            _ => self.fd().try_clone_to_owned(),
        }
    }

    /// The first process of the container has been born: nobody else need keep
    /// the group. Whether it was born here.
    pub(crate) fn is_taken_by(&mut self, init: u32) -> bool {
        let inside = delegate::group_of(init).is_some_and(|path| path.starts_with(&self.path));
        if let Keeper::Systemd(placeholder) = &mut self.keeper {
            *placeholder = None;
        }
        inside
    }

    /// Sets limits, also of a running container.
    ///
    /// # Errors
    /// `Invalid` for one whose controller is not here or that the kernel refuses.
    pub(crate) fn apply(&self, asked: &Limits, uid: u32) -> Result<()> {
        let mut settings = limits::settings(asked);
        if let (Some(unit), Some(manager)) = (self.unit(), manager(uid)) {
            let controllers = self.read("cgroup.controllers").unwrap_or_default();
            let has = |name: &str| controllers.split_ascii_whitespace().any(|own| own == name);
            if let Some(missing) = settings.iter().find(|setting| !has(setting.controller)) {
                return Err(limits::not_delegated(missing, &controllers));
            }
            let properties = properties::properties(asked);
            if !properties.is_empty() {
                scope::set_properties(&manager.socket, unit, &properties)?;
            }
            settings.retain(|setting| !setting.is_property);
        }
        self.apply_files(&settings)
    }

    /// Whether systemd keeps it.
    pub(crate) fn is_scope(&self) -> bool {
        self.unit().is_some()
    }

    fn unit(&self) -> Option<&str> {
        self.path.file_name()?.to_str().filter(|_| self.path.extension().is_some_and(|kind| kind == "scope"))
    }

    fn apply_files(&self, settings: &[limits::Setting]) -> Result<()> {
        // Of systemd's scope the files are systemd's; what it has no property
        // for is written within.
        let directory = if self.unit().is_some() { self.fd() } else { self.directory.as_fd() };
        for setting in settings {
            let exists =
                rustix::fs::accessat(directory, setting.file.as_str(), Access::EXISTS, AtFlags::empty());
            if exists.is_err() {
                return Err(limits::cannot(setting, &delegation()));
            }
            write_in(directory, &setting.file, &setting.value)
                .map_err(|error| error.context(setting.flag))?;
        }
        Ok(())
    }

    pub(crate) fn read(&self, file: &str) -> Result<String> {
        read_in(self.directory.as_fd(), file)
    }

    fn write(&self, file: &str, value: &str) -> Result<()> {
        write_in(self.directory.as_fd(), file, value)
    }

    /// Stops all processes of the group, or lets them go on. [`Self::is_frozen`]
    /// tells when it is done.
    pub(crate) fn set_frozen(&self, frozen: bool) -> Result<()> {
        write_in(self.fd(), "cgroup.freeze", if frozen { "1" } else { "0" })
    }

    /// Wherever it was frozen: in the group, or in the one within.
    fn thaw(&self) {
        for directory in [Some(&self.directory), self.leaf.as_ref()].into_iter().flatten() {
            write_in(directory.as_fd(), "cgroup.freeze", "0").or_ignore();
        }
    }

    pub(crate) fn is_frozen(&self) -> Result<bool> {
        Ok(value_of(&read_in(self.fd(), "cgroup.events")?, "frozen") == Some(1))
    }

    /// How often the kernel has killed a process for want of memory; `None`
    /// without the controller, and where systemd has removed the empty group.
    pub(crate) fn oom_kills(&self) -> Option<u64> {
        self.read("memory.events").ok().and_then(|text| value_of(&text, "oom_kill"))
    }

    /// Has something urgent to read (POLLPRI) whenever one of those counters has
    /// changed, and at first: cgroups(7), "memory.events" of the kernel's document.
    pub(crate) fn memory_events(&self) -> Option<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.directory, "memory.events", flags, Mode::empty()).ok()
    }

    /// Kills what is in it, and removes it.
    pub(crate) fn remove(&self) {
        let began = std::time::Instant::now();
        // Since Linux 5.14.
        write_in(self.fd(), "cgroup.kill", "1").or_ignore();
        // What the container itself has made within.
        let within = if self.leaf.is_some() { self.path.join(LEAF) } else { self.path.clone() };
        while !remove_tree(&within, 0) && began.elapsed() < END {
            std::thread::sleep(Duration::from_millis(1));
        }
        // An empty scope is systemd's to remove.
        if self.leaf.is_some() && self.unit().is_none() {
            rustix::fs::rmdir(&self.path).or_ignore();
        }
        pod::remove_around(&self.path);
    }
}

impl Drop for Group {
    /// One that nobody is in is of no use: a start that failed leaves none.
    fn drop(&mut self) {
        match &mut self.keeper {
            Keeper::Other => {}
            Keeper::Own => {
                if self.leaf.is_some() {
                    rustix::fs::rmdir(self.path.join(LEAF)).or_ignore();
                }
                rustix::fs::rmdir(&self.path).or_ignore();
                pod::remove_around(&self.path);
            }
            Keeper::Systemd(placeholder) => {
                *placeholder = None;
                rustix::fs::rmdir(self.path.join(LEAF)).or_ignore();
            }
        }
    }
}

/// Groups below each other that are worth walking through.
const DEEPEST: usize = 16;

/// Removes a group and those in it; `false` where one is not empty yet.
fn remove_tree(path: &Path, depth: usize) -> bool {
    match rustix::fs::rmdir(path) {
        Err(rustix::io::Errno::BUSY) if depth < DEEPEST => {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                remove_tree(&entry.path(), depth + 1);
            }
            !matches!(rustix::fs::rmdir(path), Err(rustix::io::Errno::BUSY))
        }
        Err(rustix::io::Errno::BUSY) => false,
        _ => true,
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .context(|| format!("open the control group {}", path.display()))
}

fn read_in(directory: BorrowedFd<'_>, file: &str) -> Result<String> {
    let step = || format!("read {file} of the control group");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(directory, file, flags, Mode::empty()).context(step)?;
    let mut text = String::new();
    std::fs::File::from(fd).take(1 << 20).read_to_string(&mut text).context(step)?;
    Ok(text)
}

fn write_in(directory: BorrowedFd<'_>, file: &str, value: &str) -> Result<()> {
    let step = || format!("write {value:?} to {file} of the control group");
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(directory, file, flags, Mode::empty()).context(step)?;
    std::fs::File::from(fd).write_all(value.as_bytes()).context(step)
}

/// The number after `key` in lines of `key number`.
fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_whole_key() {
        let text = "populated 1\nfrozen 0\nfrozen_time 7\n";
        assert_eq!(value_of(text, "frozen"), Some(0));
        assert_eq!(value_of(text, "populated"), Some(1));
        assert_eq!(value_of(text, "froze"), None);
    }
}
