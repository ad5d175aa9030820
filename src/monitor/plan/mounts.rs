//! The list of mounts of a container, in the order in which they are made.

use super::Context as PlanContext;
use super::binds;
use super::files::{self, FILES};
use super::joined::Joined;
use super::root::Root;
use super::secrets;
use crate::error::{BestEffort, Context, Error, Result};
use crate::runtime::devices;
use crate::runtime::plan::{Device, Mount, MountKind};
use crate::runtime::users::ResolvedUser;
use crate::runtime::{mounts, rootfs};
use crate::sys::mount::{NODEV, NOEXEC, NOSUID, RDONLY};
use crate::types::container::{ContainerConfig, DeviceSpec};
use crate::types::mount::{MountOptions, MountSource, MountSpec};
use crate::types::namespace::{IpcMode, NamespaceMode};
use crate::types::status::ProcessId;
use crate::types::systemd;
use crate::userns::ContainerMaps;
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, OwnedFd};

/// Bytes: docker's default for `/dev/shm`.
const SHM_SIZE: u64 = 64 << 20;

/// The file systems that every container has, then what was asked for, then
/// the files of names; a mount that the user asked for takes the place of ours.
pub(super) fn list(
    context: &PlanContext<'_>,
    root: &Root,
    joined: &Joined,
    user: &ResolvedUser,
    maps: Option<&ContainerMaps>,
) -> Result<Vec<Mount>> {
    let config = &context.record.config;
    let mut list = system_mounts(config, joined)?;
    let (hidden, seen): (Vec<_>, Vec<_>) =
        name_files(context)?.into_iter().partition(|file| is_below_tmpfs(&file.target, config));
    list.extend(seen);
    if let Some(zone) = &config.tz {
        list.push(time_zone(zone)?);
    }
    for (target, mode) in own_tmpfs(config) {
        let kind = MountKind::Tmpfs { size: 0, mode };
        list.push(Mount { target: target.into(), kind, attributes: NOSUID | NODEV });
    }
    let mut asked: Vec<&MountSpec> = config.own_mounts().iter().collect();
    // A mount below another comes after it; equals keep their order.
    asked.sort_by_key(|spec| spec.target.matches('/').count());
    for spec in &asked {
        list.retain(|mount| rootfs::clean(&mount.target) != rootfs::clean(&spec.target));
    }
    for spec in asked {
        check_target(&spec.target)?;
        let kind = binds::kind(context, root, spec, user, maps)?;
        let mut attributes = attributes(&spec.options);
        if matches!(spec.source, MountSource::Tmpfs { .. }) {
            attributes |= tmpfs_defaults(&spec.options);
        }
        list.push(Mount { target: spec.target.clone(), kind, attributes });
    }
    // A tmpfs above them is empty, and would hide them.
    let free = |file: &Mount| config.own_mounts().iter().all(|spec| !same(&spec.target, &file.target));
    list.extend(hidden.into_iter().filter(free));
    list.extend(secrets::mount(context)?);
    Ok(list)
}

/// Where --read-only has a tmpfs.
const WRITABLE: [(&str, u32); 3] = [("/run", 0o755), ("/tmp", 0o1777), ("/var/tmp", 0o1777)];

/// Where there is a tmpfs that nobody asked for by name, and its mode: --read-only, --systemd.
fn own_tmpfs(config: &ContainerConfig) -> impl Iterator<Item = (&'static str, u32)> {
    let of_root = config.read_only && config.read_only_tmpfs != Some(false);
    let writable = if of_root { &WRITABLE[..] } else { &[] };
    let systemd = if config.runs_systemd() { &systemd::TMPFS[..] } else { &[] };
    let more = systemd.iter().filter(|place| !writable.contains(place));
    writable.iter().chain(more).copied()
}

/// Whether a tmpfs is mounted above it, by --tmpfs, --read-only or --systemd.
fn is_below_tmpfs(target: &str, config: &ContainerConfig) -> bool {
    let asked = config.own_mounts().iter().filter(|spec| matches!(spec.source, MountSource::Tmpfs { .. }));
    let mut above = own_tmpfs(config).map(|(target, _)| target).chain(asked.map(|spec| spec.target.as_str()));
    let target = rootfs::clean(target);
    let is_below =
        |above: &str| target.strip_prefix(&rootfs::clean(above)).is_some_and(|rest| rest.starts_with('/'));
    above.any(is_below)
}

fn same(one: &str, other: &str) -> bool {
    rootfs::clean(one) == rootfs::clean(other)
}

/// Files of `/proc` that others' tools (lxcfs) show a container's own version of.
const PROC_FILES: [&str; 8] =
    ["cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo", "stat", "swaps", "uptime"];

/// Set-up writes to `/proc`: a container that could put something else there
/// would get what is meant for the kernel (CVE-2019-16884, CVE-2019-19921).
fn check_target(target: &str) -> Result<()> {
    let clean = rootfs::clean(target);
    let allowed = match clean.strip_prefix("/proc") {
        Some("") => false,
        Some(rest) => !rest.starts_with('/') || PROC_FILES.iter().any(|file| rest[1..] == **file),
        None => true,
    };
    if allowed {
        return Ok(());
    }
    Err(Error::invalid(format!("cannot mount on {target}: it is inside /proc")).hint(
        "the container's /proc is the kernel's own; mount it elsewhere, and let the program look there",
    ))
}

fn system_mounts(config: &ContainerConfig, joined: &Joined) -> Result<Vec<Mount>> {
    let mount = |target: &str, kind, attributes| Mount { target: target.into(), kind, attributes };
    let sys_read_only = if config.privileged { 0 } else { RDONLY };
    let group_read_only = if config.writes_to_its_group() { 0 } else { RDONLY };
    let mut list = Vec::new();
    // A procfs belongs to a pid namespace, and only its owner may mount one.
    if config.pid == NamespaceMode::Host {
        let kind = MountKind::Bind { mount: host_tree("/proc")?, directory: true };
        list.push(mount("/proc", kind, NOSUID | NODEV | NOEXEC));
    } else {
        list.push(mount("/proc", MountKind::Proc, NOSUID | NODEV | NOEXEC));
    }
    list.push(mount("/dev", MountKind::Dev { shm: config.ipc != IpcMode::None }, NOSUID));
    list.push(mount("/dev/pts", MountKind::Devpts, NOSUID | NOEXEC));
    list.push(mount("/sys", MountKind::Sysfs, NOSUID | NODEV | NOEXEC | sys_read_only));
    list.push(mount("/sys/fs/cgroup", MountKind::Cgroup, NOSUID | NODEV | NOEXEC | group_read_only));
    let ipc = NOSUID | NODEV | NOEXEC;
    match &config.ipc {
        IpcMode::Host => {
            for target in ["/dev/mqueue", "/dev/shm"] {
                if std::path::Path::new(target).is_dir() {
                    let kind = MountKind::Bind { mount: host_tree(target)?, directory: true };
                    list.push(mount(target, kind, 0));
                }
            }
        }
        IpcMode::Container(_) => {
            list.push(mount("/dev/mqueue", MountKind::Mqueue, ipc));
            if let Some(process) = joined.ipc {
                let kind = MountKind::Bind { mount: shm_of(process)?, directory: true };
                list.push(mount("/dev/shm", kind, ipc));
            }
        }
        IpcMode::None => list.push(mount("/dev/mqueue", MountKind::Mqueue, ipc)),
        IpcMode::Shareable | IpcMode::Private => {
            list.push(mount("/dev/mqueue", MountKind::Mqueue, ipc));
            let size = config.shm_size.unwrap_or(SHM_SIZE);
            list.push(mount("/dev/shm", MountKind::Tmpfs { size, mode: 0o1777 }, ipc));
        }
    }
    Ok(list)
}

fn host_tree(path: &str) -> Result<OwnedFd> {
    mounts::clone_tree(path).context(|| format!("share the host's {path}"))
}

/// The `/dev/shm` of a container whose IPC namespace is shared.
fn shm_of(process: ProcessId) -> Result<OwnedFd> {
    mounts::clone_in_namespaces_of(process, "/dev/shm")
        .map_err(|error| error.context("share the other container's /dev/shm"))
}

pub(super) fn name_files(context: &PlanContext<'_>) -> Result<Vec<Mount>> {
    let mut list = Vec::new();
    for (name, target) in FILES {
        let path = files::place(context, name);
        if path.exists() {
            let mount = mounts::clone_tree_at(&path).context(|| format!("mount {}", path.display()))?;
            let kind = MountKind::Bind { mount, directory: false };
            list.push(Mount { target: target.into(), kind, attributes: NOSUID | NODEV });
        }
    }
    Ok(list)
}

/// `--tz`: the host's zone file over the container's `/etc/localtime`.
fn time_zone(zone: &str) -> Result<Mount> {
    let plain = zone.split('/').all(|part| !part.is_empty() && part != ".." && part != ".");
    let path =
        if zone == "local" { "/etc/localtime".to_owned() } else { format!("/usr/share/zoneinfo/{zone}") };
    let known = plain && std::fs::metadata(&path).is_ok_and(|meta| meta.is_file());
    if !known {
        return Err(Error::invalid(format!("unknown time zone {zone:?}")).hint(
            "the names are the files below /usr/share/zoneinfo of the host (package tzdata), or `local`",
        ));
    }
    let mount = mounts::clone_tree(&path).context(|| format!("mount {path}"))?;
    let kind = MountKind::Bind { mount, directory: false };
    Ok(Mount { target: "/etc/localtime".into(), kind, attributes: RDONLY | NOSUID | NODEV })
}

pub(super) fn attributes(options: &MountOptions) -> u64 {
    let on = |flag: Option<bool>, bit: u64| if flag == Some(true) { bit } else { 0 };
    let read_only = if options.read_only { RDONLY } else { 0 };
    read_only | on(options.nosuid, NOSUID) | on(options.nodev, NODEV) | on(options.noexec, NOEXEC)
}

/// Docker's `--tmpfs`: nosuid, nodev, noexec unless the opposite was asked for.
fn tmpfs_defaults(options: &MountOptions) -> u64 {
    let off = |flag: Option<bool>, bit: u64| if flag == Some(false) { 0 } else { bit };
    off(options.nosuid, NOSUID) | off(options.nodev, NODEV) | off(options.noexec, NOEXEC)
}

/// The default nodes, the ones asked for, and with `--privileged` all of the host's.
pub(super) fn devices(config: &ContainerConfig) -> Result<Vec<Device>> {
    let mut list = Vec::new();
    for device in devices::DEVICES {
        let path = format!("/dev/{}", device.name);
        let node = open_node(&path)?;
        devices::verify(node.as_fd(), device)?;
        list.push(Device { mount: detach(&node, &path)?, path });
    }
    if config.privileged {
        all_devices(&mut list);
    }
    for DeviceSpec { host, container, .. } in config.own_devices() {
        let path = host.display().to_string();
        let node = open_node(&path)?;
        if host.is_dir() {
            let before = list.len();
            devices_below(&node, &path, container, &mut list)?;
            if list.len() == before {
                return Err(Error::invalid(format!("there is no device below {path}"))
                    .hint("use -v to mount a directory with other files"));
            }
            continue;
        }
        check_is_device(&node, &path)?;
        list.push(Device { mount: detach(&node, &path)?, path: container.clone() });
    }
    Ok(list)
}

/// Below these the container has a file system of its own.
const NOT_OURS: [&str; 3] = ["/dev/pts", "/dev/mqueue", "/dev/shm"];

/// Whether the container has something of its own there, whatever the host has.
fn is_own(path: &str) -> bool {
    let Some(name) = path.strip_prefix("/dev/") else { return false };
    name == "console" || devices::LINKS.iter().any(|(link, _)| *link == name)
}

/// All devices below a directory, as docker has it: /dev/dri, /dev/snd. Links are
/// passed over, and what the container has there already.
fn devices_below(directory: &OwnedFd, path: &str, container: &str, list: &mut Vec<Device>) -> Result<()> {
    /// Directories below each other.
    const DEEPEST: usize = 16;
    if container.matches('/').count() > DEEPEST || NOT_OURS.contains(&rootfs::clean(container).as_str()) {
        return Ok(());
    }
    let step = || format!("list {path}");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = rustix::fs::openat(directory, ".", flags, Mode::empty()).context(step)?;
    let mut names: Vec<String> = Vec::new();
    for entry in rustix::fs::Dir::read_from(&readable).context(step)? {
        let entry = entry.context(step)?;
        names.extend(
            entry.file_name().to_str().ok().filter(|name| *name != "." && *name != "..").map(str::to_owned),
        );
    }
    names.sort();
    for name in names {
        let (from, to) = (
            format!("{}/{name}", path.trim_end_matches('/')),
            format!("{}/{name}", container.trim_end_matches('/')),
        );
        let to = rootfs::clean(&to);
        if is_own(&to) || list.iter().any(|device| rootfs::clean(&device.path) == to) {
            continue;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // It may be gone by now, as devices come and go.
        let Ok(node) = rustix::fs::openat(directory, name.as_str(), flags, Mode::empty()) else { continue };
        if check_is_device(&node, &from).is_ok() {
            list.push(Device { mount: detach(&node, &from)?, path: to });
        } else if is_directory(&node) {
            // One that may not be read has nothing for the container either.
            devices_below(&node, &from, &to, list).or_ignore();
        }
    }
    Ok(())
}

fn is_directory(node: &OwnedFd) -> bool {
    use rustix::fs::FileType;
    rustix::fs::fstat(node).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn open_node(path: &str) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .context(|| format!("open the device {path}"))
}

/// # Errors
/// `Invalid` for a file or directory: a bind mount is what it is for.
fn check_is_device(node: &OwnedFd, path: &str) -> Result<()> {
    use rustix::fs::FileType;
    let stat = rustix::fs::fstat(node).context(|| format!("look at {path}"))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice | FileType::BlockDevice => Ok(()),
        _ => {
            Err(Error::invalid(format!("{path} is not a device")).hint("use -v to mount a file or directory"))
        }
    }
}

fn detach(node: &OwnedFd, path: &str) -> Result<OwnedFd> {
    mounts::clone_fd(node.as_fd(), false).context(|| format!("share the device {path}"))
}

/// What of the host's `/dev` can be shared, but for virtual terminals, as in podman,
/// and for what the container has of its own. What cannot be listed has nothing.
fn all_devices(list: &mut Vec<Device>) {
    let Ok(dev) = open_node("/dev") else { return };
    let own = list.len();
    devices_below(&dev, "/dev", "/dev", list).or_ignore();
    let mut at = 0;
    list.retain(|device| {
        at += 1;
        at <= own || !is_virtual_terminal(&device.path)
    });
}

fn is_virtual_terminal(path: &str) -> bool {
    let number = path.strip_prefix("/dev/tty");
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What is hidden in the container.
pub(crate) fn masked_paths(config: &ContainerConfig) -> Vec<String> {
    let mut paths = protected(config, &devices::MASKED);
    paths.extend(config.mask.iter().cloned());
    paths
}

/// What is read-only in it.
pub(crate) fn read_only_paths(config: &ContainerConfig) -> Vec<String> {
    protected(config, &devices::READ_ONLY)
}

fn protected(config: &ContainerConfig, defaults: &[&str]) -> Vec<String> {
    // The host's own /proc, shared: the same paths, which the mounts below may
    // not allow to be covered, but whose harm is the same.
    if config.privileged || config.unmask.iter().any(|path| path.eq_ignore_ascii_case("all")) {
        return Vec::new();
    }
    let unmasked = |path: &str| config.unmask.iter().any(|other| rootfs::clean(other) == path);
    defaults.iter().filter(|path| !unmasked(path)).map(|path| (*path).to_owned()).collect()
}
