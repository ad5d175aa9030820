//! Sources of mounts on the host: opened once, checked, made detached mounts.

use super::Context as PlanContext;
use super::image;
use super::root::{Root, Source, throw_away};
use crate::error::{BestEffort, Context, Error, Kind, Result};
use crate::runtime::mounts;
use crate::runtime::plan::MountKind;
use crate::runtime::users::ResolvedUser;
use crate::storage::copy::{copy_attributes, copy_tree};
use crate::storage::volume::{Volume, VolumeStore};
use crate::sys::mount::{MountAttr, NOATIME, NODEV, NODIRATIME, NOEXEC, NOSUID, RDONLY, mount_setattr};
use crate::types::idmap::IdMap;
use crate::types::mount::{MountOptions, MountSource, MountSpec, Propagation, TmpfsMore};
use crate::types::volume_options::{TmpfsOptions, VolumeKind};
use crate::userns::ContainerMaps;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// The mount for what the user or the image asked for, ready to be attached.
pub(super) fn kind(
    context: &PlanContext<'_>,
    root: &Root,
    spec: &MountSpec,
    user: &ResolvedUser,
    maps: Option<&ContainerMaps>,
) -> Result<MountKind> {
    let source = match &spec.source {
        MountSource::Tmpfs { size, mode, more } if *more == TmpfsMore::default() => {
            let mode = mode.map_or_else(|| tmpfs_mode(root, &spec.target), Ok)?;
            return Ok(MountKind::Tmpfs { size: size.unwrap_or(0), mode });
        }
        MountSource::Tmpfs { size, mode, more } => {
            let mount = asked_tmpfs((*size, *mode, more), &spec.target, root, maps)
                .map_err(|error| error.context(format!("the tmpfs {}", spec.target)))?;
            return Ok(MountKind::Bind { mount, directory: true });
        }
        MountSource::Bind { path, create } => open_bind(path, *create)?,
        MountSource::Volume { name } => {
            let volume = VolumeStore::open(&context.dirs.volumes())?.get_or_create(name, false)?;
            match VolumeKind::parse(&volume.options)? {
                VolumeKind::Directory => open_volume(context, root, spec, &volume)?,
                VolumeKind::Bind(path) => {
                    open_bind(&path, false).map_err(|error| error.context(format!("the volume {name}")))?
                }
                VolumeKind::Tmpfs(options) => {
                    let mount = match shared_tmpfs(context, name) {
                        Some(mount) => mount,
                        None => tmpfs(&options, maps)
                            .map_err(|error| error.context(format!("the volume {name}")))?,
                    };
                    return Ok(MountKind::Bind { mount, directory: true });
                }
            }
        }
        MountSource::Anonymous => {
            return Err(Error::failed(format!("the volume for {} was not made", spec.target)));
        }
        MountSource::Overlay { path } => {
            let directory = open_bind(path, false)?;
            if !path.is_dir() {
                return Err(Error::invalid(format!(
                    "O is for directories, and {} is a file",
                    path.display()
                ))
                .hint("mount it read-only (:ro), or the directory that it lies in"));
            }
            let name = format!("{:x}", crc(spec.target.as_bytes()));
            let source = Source { path, directory: &directory, name: &name, maps };
            let mount = throw_away(context, &source)?.mount;
            return Ok(MountKind::Bind { mount, directory: true });
        }
        MountSource::Image { layers, .. } => {
            let name = format!("{:x}", crc(spec.target.as_bytes()));
            let subpath = spec.options.subpath.as_deref();
            let lower =
                image::Lower { layers, name: &name, maps, read_only: spec.options.read_only, subpath };
            return image::mount(context, &lower)
                .map_err(|error| error.context(format!("mount {}", spec.target)));
        }
    };
    let source = inside(source, spec.options.subpath.as_deref())?;
    if spec.options.chown {
        chown(&source, user, maps)
            .map_err(|error| error.context(format!("U: own the source of {}", spec.target)))?;
    }
    detach(&source, &spec.options, &spec.target)
}

/// A name for a directory, from a path; equal only for equal targets of one container.
fn crc(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

fn open_bind(path: &Path, create: bool) -> Result<OwnedFd> {
    let open = || rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let step = || format!("mount {}", path.display());
    match open() {
        Err(Errno::NOENT) if create => {
            std::fs::create_dir_all(path).context(|| format!("make the directory {}", path.display()))?;
            open().context(step)
        }
        Err(Errno::NOENT) => Err(Error::new(Kind::Invalid, "no such file or directory")
            .context(step())
            .hint("the source of a bind mount must exist; make it first")),
        result => result.context(step),
    }
}

/// A tmpfs with more than size and mode; what the image has there is copied into
/// it as it is copied into a volume.
fn asked_tmpfs(
    (size, mode, other): (Option<u64>, Option<u32>, &TmpfsMore),
    target: &str,
    root: &Root,
    maps: Option<&ContainerMaps>,
) -> Result<OwnedFd> {
    let percent = other.percent.map(|percent| format!("{percent}%"));
    let given = [
        ("size", size.map(|size| size.to_string()).or(percent)),
        ("mode", Some(format!("{:o}", mode.map_or_else(|| tmpfs_mode(root, target), Ok)?))),
        ("uid", Some(outer_id("uid", other.uid, maps.map(|maps| &maps.uid))?)),
        ("gid", Some(outer_id("gid", other.gid, maps.map(|maps| &maps.gid))?)),
        ("nr_inodes", other.inodes.map(|inodes| inodes.to_string())),
    ];
    let mount = mount_tmpfs(&given, &[(other.noatime, NOATIME), (other.nodiratime, NODIRATIME)])?;
    if !other.copy_up {
        return Ok(mount);
    }
    let Some(source) = directory_of_image(root, target)? else { return Ok(mount) };
    let same = |uid, gid| (uid, gid);
    copy_tree(source.as_fd(), mount.as_fd(), &same)?;
    if mode.is_none() && other.uid.is_none() && other.gid.is_none() {
        // All of it is the image's, as it is of a volume. The mount's own fd is O_PATH.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::openat(&mount, ".", flags, Mode::empty()).context(|| "open the tmpfs")?;
        copy_attributes(source.as_fd(), top.as_fd(), &same)?;
    }
    Ok(mount)
}

/// An id of the container's, root's where none is given, as the outer namespace has it.
fn outer_id(key: &str, id: Option<u32>, map: Option<&IdMap>) -> Result<String> {
    let inside = id.unwrap_or(0);
    match map.map_or(Some(inside), |map| map.to_outside(inside)) {
        Some(outer) => Ok(outer.to_string()),
        None if id.is_none() => Ok(0.to_string()),
        None => Err(Error::invalid(format!("{key}={inside} is no id of the container's user namespace"))
            .hint("see --userns and --uidmap")),
    }
}

/// The tmpfs volume of another container that runs: all that have it at one time
/// share it, as with docker. What one has read-only stays so, and is not shared.
fn shared_tmpfs(context: &PlanContext<'_>, name: &str) -> Option<OwnedFd> {
    let is_it = |mount: &&MountSpec| {
        matches!(&mount.source, MountSource::Volume { name: other } if other == name)
            && mount.options.subpath.is_none()
            && !mount.options.read_only
    };
    for id in context.store.ids().ok()?.into_iter().filter(|id| *id != context.record.id) {
        let Ok(record) = context.store.record(&id) else { continue };
        let Some(spec) = record.config.own_mounts().iter().find(is_it) else { continue };
        let Some(init) = context.store.live(&id).ok().flatten().and_then(|live| live.init) else { continue };
        // It may be ending, or have put something else there.
        if let Ok(mount) = mounts::clone_one_in_namespaces_of(init, &spec.target)
            && rustix::fs::fstatfs(&mount).is_ok_and(|found| found.f_type == TMPFS_MAGIC)
        {
            return Some(mount);
        }
    }
    None
}

/// linux/magic.h
const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;

/// A tmpfs volume that no container has at the moment.
fn tmpfs(options: &TmpfsOptions, maps: Option<&ContainerMaps>) -> Result<OwnedFd> {
    let given = [
        ("size", options.size.map(|size| size.to_string())),
        ("mode", options.mode.map(|mode| format!("{mode:o}"))),
        ("uid", Some(outer_id("uid", options.uid, maps.map(|maps| &maps.uid))?)),
        ("gid", Some(outer_id("gid", options.gid, maps.map(|maps| &maps.gid))?)),
        ("source", options.source.clone()),
    ];
    let flags = [
        (options.read_only, RDONLY),
        (options.nodev, NODEV),
        (options.noexec, NOEXEC),
        (options.nosuid, NOSUID),
    ];
    mount_tmpfs(&given, &flags)
}

/// With the options that are given, and the flags that are on.
fn mount_tmpfs(given: &[(&str, Option<String>)], flags: &[(bool, u64)]) -> Result<OwnedFd> {
    let pairs: Vec<(&str, &str)> =
        given.iter().filter_map(|(key, value)| Some((*key, value.as_deref()?))).collect();
    let attributes = flags.iter().filter(|(on, _)| *on).fold(0, |all, (_, flag)| all | flag);
    mounts::file_system("tmpfs", &pairs, attributes).context(|| "mount a tmpfs")
}

/// As runc has it, where none is given: that of the directory that it hides.
fn tmpfs_mode(root: &Root, target: &str) -> Result<u32> {
    let Some(directory) = directory_of_image(root, target)? else { return Ok(0o1777) };
    let stat = rustix::fs::fstat(&directory).context(|| format!("look at {target} in the image"))?;
    Ok(stat.st_mode & 0o7777)
}

/// What the image has where something is to be mounted; `None` where it is no directory.
fn directory_of_image(root: &Root, target: &str) -> Result<Option<OwnedFd>> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
    match crate::runtime::rootfs::openat2(root.fd(), target, flags, Mode::empty(), resolve) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno).context(|| format!("open {target} in the image")),
    }
}

/// What the image has at the target is copied into a volume that is empty, at the
/// container's first start, as docker does when it makes the container: later it
/// is the container that has emptied it.
pub(super) fn fill_volume(
    context: &PlanContext<'_>,
    root: &Root,
    spec: &MountSpec,
    volume: &Volume,
) -> Result<()> {
    let store = VolumeStore::open(&context.dirs.volumes())?;
    let is_unused = store.needs_seed(volume);
    let is_wanted = is_unused || store.is_empty(volume) && !context.store.has_run(&context.record.id);
    if !spec.options.no_copy
        && is_wanted
        && let Some(source) = directory_of_image(root, &spec.target)?
    {
        return store.seed(volume, source.as_fd());
    }
    Ok(())
}

fn open_volume(context: &PlanContext<'_>, root: &Root, spec: &MountSpec, volume: &Volume) -> Result<OwnedFd> {
    let store = VolumeStore::open(&context.dirs.volumes())?;
    let name = volume.name.as_str();
    fill_volume(context, root, spec, volume)?;
    if store.needs_seed(volume) {
        // It is in a container's hands now.
        store.keep_empty(volume)?;
    }
    let path = store.data_path(name);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(&path, flags, Mode::empty()).context(|| format!("open the volume {name}"))
}

/// A directory or file inside the source, which may be hostile: a container wrote it.
fn inside(source: OwnedFd, subpath: Option<&str>) -> Result<OwnedFd> {
    let Some(subpath) = subpath else { return Ok(source) };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    crate::runtime::rootfs::openat2(source.as_fd(), subpath, OFlags::PATH, Mode::empty(), resolve)
        .context(|| format!("open the subpath {subpath} of the volume"))
}

fn detach(source: &OwnedFd, options: &MountOptions, target: &str) -> Result<MountKind> {
    let step = || format!("mount {target}");
    let stat = rustix::fs::fstat(source).context(step)?;
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let mount = match mounts::clone_fd(source.as_fd(), !options.non_recursive) {
        // Mounts below that this namespace may not uncover: only all of them together.
        Err(Errno::INVAL) if options.non_recursive => Err(Errno::INVAL).context(step).map_err(|error| {
            error.hint("an ordinary user cannot bind without the mounts below: use rbind, the default")
        })?,
        result => result.context(step)?,
    };
    let (propagation, recursive) = match options.propagation {
        Propagation::RPrivate => (libc::MS_PRIVATE, true),
        Propagation::Private => (libc::MS_PRIVATE, false),
        Propagation::RSlave => (libc::MS_SLAVE, true),
        Propagation::Slave => (libc::MS_SLAVE, false),
        Propagation::RShared => (libc::MS_SHARED, true),
        Propagation::Shared => (libc::MS_SHARED, false),
    };
    let attr = MountAttr { propagation, ..MountAttr::default() };
    mount_setattr(mount.as_fd(), c"", attr, recursive).context(step)?;
    Ok(MountKind::Bind { mount, directory })
}

/// `U`: everything below belongs to the container's user from now on. Where the
/// source does already it was done before, and what has other owners below has got
/// them since: it keeps them, and a large tree is not walked at each start.
fn chown(source: &OwnedFd, user: &ResolvedUser, maps: Option<&ContainerMaps>) -> Result<()> {
    let outer = |map: Option<u32>, id: u32| map.unwrap_or(id);
    let uid = outer(maps.and_then(|maps| maps.uid.to_outside(user.uid)), user.uid);
    let gid = outer(maps.and_then(|maps| maps.gid.to_outside(user.gid)), user.gid);
    let stat = rustix::fs::fstat(source).context(|| "look at it")?;
    if (stat.st_uid, stat.st_gid) == (uid, gid) {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let root = rustix::fs::openat(source, ".", flags | OFlags::DIRECTORY, Mode::empty());
    let Ok(root) = root else {
        return rustix::fs::chownat(
            source,
            "",
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
            AtFlags::EMPTY_PATH,
        )
        .context(|| "change the owner");
    };
    chown_below(&root, Uid::from_raw(uid), Gid::from_raw(gid), 0)
}

/// Deeper than any real tree; a loop is not possible without links.
const MAX_DEPTH: u32 = 256;

fn chown_below(directory: &OwnedFd, uid: Uid, gid: Gid, depth: u32) -> Result<()> {
    let step = || "change the owner";
    if depth > MAX_DEPTH {
        return Err(Error::failed("the tree is deeper than 256 directories").context(step()));
    }
    for entry in rustix::fs::Dir::read_from(directory).context(step)? {
        let entry = entry.context(step)?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(directory, name, flags, Mode::empty()) {
            Ok(child) => chown_below(&child, uid, gid, depth + 1)?,
            Err(_) => {
                // A container that changes the tree meanwhile only changes what is found.
                rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                    .or_ignore();
            }
        }
    }
    // Last: it says that all below is done.
    rustix::fs::fchown(directory, Some(uid), Some(gid)).context(step)
}
