//! The root file system: layers and an upper directory, or a directory of the host.

use super::Context as PlanContext;
use super::compose::{compose, has_mounts_below};
use crate::error::{BestEffort, Context, Error, Result};
use crate::runtime::mounts;
use crate::storage::layers::LayerStore;
use crate::storage::overlay::{self, Overlay};
use crate::types::container::RecordedRoot;
use crate::types::digest::Digest;
use crate::userns::ContainerMaps;
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The mounted root file system.
pub(crate) struct Root {
    mount: OwnedFd,
}

impl Root {
    /// Mounts it. With `maps` that give files other owners in the container
    /// than in the outer namespace, the layers are copies with those owners.
    pub(crate) fn open(context: &PlanContext<'_>, maps: Option<&ContainerMaps>) -> Result<Self> {
        let mount = match &context.record.root {
            RecordedRoot::Image { layers, .. } => {
                let store = LayerStore::open(&context.dirs.layers())?;
                let shift = maps.filter(|maps| shifts_owners(context, maps));
                if let Some(maps) = shift {
                    chown_upper(context, maps);
                }
                let path = |layer: &Digest| match shift {
                    Some(maps) => store.mapped(layer, &maps.uid, &maps.gid),
                    None => Ok(store.path(layer)),
                };
                mount_layers(context, &layers.iter().rev().map(path).collect::<Result<Vec<_>>>()?)?
            }
            RecordedRoot::Directory { path, overlay } => {
                let directory = open_directory(path)?;
                if *overlay {
                    throw_away(context, path, &directory, "root")?
                } else {
                    mounts::clone_fd(directory.as_fd(), true)
                        .context(|| format!("use {} as the root", path.display()))?
                }
            }
        };
        Ok(Self { mount })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }

    pub(crate) fn into_mount(self) -> OwnedFd {
        self.mount
    }
}

/// Whether files of the image have other owners in the container's namespace
/// than in the outer one. With one id all files belong to it anyway.
fn shifts_owners(context: &PlanContext<'_>, maps: &ContainerMaps) -> bool {
    let single = context.outer.uid_map.count() == 1;
    !single && (!maps.uid.is_identity() || !maps.gid.is_identity())
}

/// The upper directory becomes the root directory: it must be root's.
fn chown_upper(context: &PlanContext<'_>, maps: &ContainerMaps) {
    let upper = context.dirs.container(&context.record.id).join("upper");
    let uid = maps.uid.to_outside(0).map(Uid::from_raw);
    let gid = maps.gid.to_outside(0).map(Gid::from_raw);
    rustix::fs::chownat(CWD, &upper, uid, gid, AtFlags::SYMLINK_NOFOLLOW).or_ignore();
}

fn mount_layers(context: &PlanContext<'_>, lowers: &[PathBuf]) -> Result<OwnedFd> {
    let directory = context.dirs.container(&context.record.id);
    let overlay = Overlay {
        lowers,
        upper: &directory.join("upper"),
        work: &directory.join("work"),
        volatile: context.record.config.auto_remove,
    };
    if let Some(missing) = lowers.iter().find(|lower| !lower.is_dir()) {
        return Err(Error::not_found(format!("a layer of the image is gone: {}", missing.display()))
            .hint("pull or load the image again"));
    }
    overlay::mount(&overlay)
}

/// A throw-away overlay over a directory of the host. Its upper directory lies
/// in the container's own directory; where that is inside the lower one (which
/// overlayfs refuses), or where other things are mounted below that, the view
/// is composed in a tmpfs.
pub(super) fn throw_away(
    context: &PlanContext<'_>,
    path: &Path,
    directory: &OwnedFd,
    name: &str,
) -> Result<OwnedFd> {
    let own = context.dirs.container(&context.record.id);
    let mode = rustix::fs::fstat(directory).context(|| format!("look at {}", path.display()))?.st_mode;
    if !is_inside(&own, path) && !has_mounts_below(path)? {
        let base = own.join("overlays").join(name);
        for part in ["upper", "work"] {
            crate::dirs::create_private(&base.join(part))?;
        }
        let upper = base.join("upper");
        rustix::fs::chmodat(CWD, &upper, Mode::from_raw_mode(mode & 0o7777), AtFlags::empty())
            .context(|| format!("set the mode of {}", upper.display()))?;
        let lowers = [path.to_owned()];
        return overlay::mount(&Overlay {
            lowers: &lowers,
            upper: &upper,
            work: &base.join("work"),
            volatile: true,
        });
    }
    let tmpfs = mounts::tmpfs(0, 0o700, 0).context(|| "mount a tmpfs for the throw-away layer")?;
    // Mounted over the work directory: overlayfs takes paths, and this process'
    // mount namespace is nobody else's.
    let point = open_directory(&own.join("work"))?;
    mounts::attach(tmpfs.as_fd(), point.as_fd()).context(|| "mount a tmpfs for the throw-away layer")?;
    let base = own.join("work");
    let mount = compose(path, &base)
        .and_then(|view| mounts::clone_tree_below(&view).context(|| "mount the throw-away layer"));
    // In any case, or the directory could not be removed.
    rustix::mount::unmount(&base, rustix::mount::UnmountFlags::DETACH)
        .context(|| "let go of the throw-away layer's path")?;
    mount
}

pub(super) fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).context(|| format!("open the directory {}", path.display()))
}

fn is_inside(inner: &Path, outer: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    real(inner).starts_with(real(outer))
}
