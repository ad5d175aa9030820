//! `--mount type=image`: the files of another image. What is written over them
//! (`rw`) lies in the container's own directory, and is thrown away at its next start.

use super::Context as PlanContext;
use super::root::{fresh, open_directory, own, shifts_owners};
use crate::error::{BestEffort, Context, Result};
use crate::monitor::overlay::ImageRoot;
use crate::runtime::plan::MountKind;
use crate::runtime::{mounts, rootfs};
use crate::storage::layers::LayerStore;
use crate::types::digest::Digest;
use crate::userns::ContainerMaps;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::mount::{UnmountFlags, unmount};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

pub(super) struct Lower<'a> {
    /// Chain ids, from the lowest to the topmost.
    pub(super) layers: &'a [Digest],
    /// Of the directory for what is written over it.
    pub(super) name: &'a str,
    pub(super) maps: Option<&'a ContainerMaps>,
    pub(super) read_only: bool,
    /// A directory or file in the image.
    pub(super) subpath: Option<&'a str>,
}

pub(super) fn mount(context: &PlanContext<'_>, lower: &Lower<'_>) -> Result<MountKind> {
    let directory = context.dirs.container(&context.record.id);
    let (upper, work) = fresh(&directory, lower.name, 0o755)?;
    let shift = lower.maps.filter(|maps| shifts_owners(context, maps));
    if let Some(maps) = shift {
        own(&upper, maps);
    }
    let tree = context.overlays.image(&ImageRoot {
        store: &LayerStore::open(&context.dirs.layers())?,
        layers: lower.layers,
        upper: &upper,
        work: &work,
        volatile: true,
        read_only: lower.read_only,
        shift,
    })?;
    match lower.subpath {
        None => Ok(MountKind::Bind { mount: tree.mount, directory: true }),
        Some(subpath) => inside(&tree.mount, subpath, &work),
    }
}

/// What lies at `subpath`. Of a mount that is attached nowhere a part can be had
/// only since Linux 6.15: it is attached to `point` for as long as that takes.
fn inside(mount: &OwnedFd, subpath: &str, point: &Path) -> Result<MountKind> {
    let step = || format!("open {subpath} in the image");
    let at = open_directory(point)?;
    mounts::attach(mount.as_fd(), at.as_fd()).context(step)?;
    let part = || -> Result<MountKind> {
        // The image is hostile: its links lead nowhere else.
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let part =
            rootfs::openat2(mount.as_fd(), subpath, OFlags::PATH, Mode::empty(), resolve).context(step)?;
        let stat = rustix::fs::fstat(&part).context(step)?;
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        Ok(MountKind::Bind { mount: mounts::clone_fd(part.as_fd(), false).context(step)?, directory })
    };
    let part = part();
    unmount(point, UnmountFlags::DETACH).or_ignore();
    part
}
