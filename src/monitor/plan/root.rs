//! The root file system: layers and an upper directory, or a directory of the host.

use super::Context as PlanContext;
use super::compose::{compose, has_mounts_below, own_below};
use crate::error::{BestEffort, Context, Result};
use crate::monitor::overlay::{ImageRoot, Mounted};
use crate::runtime::mounts;
use crate::storage::fuse::LowerOwners;
use crate::storage::layers::LayerStore;
use crate::storage::overlay::Overlay;
use crate::storage::usage::remove_tree;
use crate::storage::whiteout::make_opaque;
use crate::types::container::RecordedRoot;
use crate::types::driver::{Driver, DriverChoice};
use crate::types::idmap::IdMap;
use crate::userns::{ContainerMaps, Extent};
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The mounted root file system.
pub(crate) struct Root {
    mount: OwnedFd,
    driver: Driver,
}

impl Root {
    /// Mounts it. `maps` may give files other owners in the container than in
    /// the outer namespace.
    pub(crate) fn open(context: &PlanContext<'_>, maps: Option<&ContainerMaps>) -> Result<Self> {
        let Mounted { mount, driver, .. } = match &context.record.root {
            RecordedRoot::Image { layers, .. } => {
                let store = LayerStore::open(&context.dirs.layers())?;
                let shift = maps.filter(|maps| shifts_owners(context, maps));
                let directory = context.dirs.container(&context.record.id);
                if let Some(maps) = shift {
                    own(&directory.join("upper"), maps);
                }
                context.overlays.image(&ImageRoot {
                    store: &store,
                    layers,
                    upper: &directory.join("upper"),
                    work: &directory.join("work"),
                    volatile: context.record.config.auto_remove,
                    read_only: context.record.config.read_only,
                    shift,
                })?
            }
            RecordedRoot::Directory { path, overlay } => {
                let directory = open_directory(path)?;
                if *overlay {
                    throw_away(context, &Source { path, directory: &directory, name: "root", maps })?
                } else {
                    let mount = mounts::clone_fd(directory.as_fd(), true)
                        .context(|| format!("use {} as the root", path.display()))?;
                    Mounted { mount, driver: Driver::default(), because: None }
                }
            }
            RecordedRoot::Nothing => {
                let step = || "mount an empty root";
                let mount = mounts::tmpfs(0, 0o755, 0).context(step)?;
                // It is ours, whom the container's map may lack.
                if let Some(maps) = maps {
                    let uid = maps.uid.to_outside(0).map(Uid::from_raw);
                    let gid = maps.gid.to_outside(0).map(Gid::from_raw);
                    rustix::fs::chownat(&mount, c"", uid, gid, AtFlags::EMPTY_PATH).context(step)?;
                }
                Mounted { mount, driver: Driver::default(), because: None }
            }
        };
        Ok(Self { mount, driver })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }

    pub(crate) fn driver(&self) -> Driver {
        self.driver
    }

    pub(crate) fn into_mount(self) -> OwnedFd {
        self.mount
    }
}

/// Whether files of the image have other owners in the container's namespace
/// than in the outer one. With one id all files belong to it anyway.
pub(super) fn shifts_owners(context: &PlanContext<'_>, maps: &ContainerMaps) -> bool {
    let single = context.outer.uid_map.count() == 1;
    !single && (!maps.uid.is_identity() || !maps.gid.is_identity())
}

/// The upper directory becomes the root directory: it must be root's.
pub(super) fn own(upper: &Path, maps: &ContainerMaps) {
    let uid = maps.uid.to_outside(0).map(Uid::from_raw);
    let gid = maps.gid.to_outside(0).map(Gid::from_raw);
    rustix::fs::chownat(CWD, upper, uid, gid, AtFlags::SYMLINK_NOFOLLOW).or_ignore();
}

/// A directory of the host that is not to be changed.
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) directory: &'a OwnedFd,
    /// Of the directory for what is written over it, in the container's own.
    pub(super) name: &'a str,
    pub(super) maps: Option<&'a ContainerMaps>,
}

/// A throw-away overlay over a directory of the host. Its upper directory lies
/// in the container's own directory.
///
/// FUSE shows any directory, with what is mounted below, and files of owners
/// that this namespace does not know as root's. The kernel's overlay refuses a
/// lower directory that holds the upper one, or mounts: there the view is
/// composed in a tmpfs.
pub(super) fn throw_away(context: &PlanContext<'_>, source: &Source<'_>) -> Result<Mounted> {
    let Source { path, directory, name, maps } = *source;
    let own = context.dirs.container(&context.record.id);
    let stat = rustix::fs::fstat(directory).context(|| format!("look at {}", path.display()))?;
    let foreign = context.outer.extent != Extent::Privileged && stat.st_uid == FOREIGN;
    let on_fuse = || -> Result<Mounted> {
        let (upper, work) = fresh(&own, name, stat.st_mode)?;
        let lowers = [path.to_owned()];
        let overlay = Overlay { lowers: &lowers, upper: &upper, work: &work, volatile: true };
        let owners = if foreign { squashed(maps) } else { LowerOwners::default() };
        let because =
            Some(if foreign { "files of the host's root" } else { "the kernel refuses" }.to_owned());
        for hidden in own_below(path) {
            let hidden = upper.join(hidden);
            crate::dirs::create_private(&hidden)?;
            make_opaque(open_readable(&hidden)?.as_fd())?;
            chmod(&hidden, 0o755)?;
        }
        let mount = context.overlays.fuse(&overlay, owners)?;
        Ok(Mounted { mount, driver: Driver::Fuse, because })
    };
    let by_kernel = || -> Result<Mounted> {
        let mount = if !is_inside(&own, path) && !has_mounts_below(path)? {
            let (upper, work) = fresh(&own, name, stat.st_mode)?;
            let lowers = [path.to_owned()];
            crate::storage::overlay::mount(&Overlay {
                lowers: &lowers,
                upper: &upper,
                work: &work,
                volatile: true,
            })?
        } else {
            composed(&own, path)?
        };
        Ok(Mounted { mount, driver: Driver::Overlay, because: None })
    };
    match context.overlays.choice() {
        DriverChoice::Fuse => on_fuse(),
        DriverChoice::Overlay => by_kernel(),
        DriverChoice::Auto if foreign => on_fuse().or_else(|_| by_kernel()),
        DriverChoice::Auto => by_kernel().or_else(|error| on_fuse().map_err(|_| error)),
    }
}

/// What the kernel shows for ids that this namespace has no number for; the
/// default of /proc/sys/kernel/overflowuid, which nobody changes.
const FOREIGN: u32 = 65_534;

/// Files of unknown owners are root's; others are as they are.
fn squashed(maps: Option<&ContainerMaps>) -> LowerOwners {
    let root = |map: Option<&IdMap>| map.and_then(|map| map.to_outside(0)).unwrap_or(0);
    let squash = (root(maps.map(|maps| &maps.uid)), root(maps.map(|maps| &maps.gid)));
    LowerOwners { squash: Some(squash), ..LowerOwners::default() }
}

/// Empty directories for what is written: what an earlier run has left there is
/// thrown away.
pub(super) fn fresh(own: &Path, name: &str, mode: u32) -> Result<(PathBuf, PathBuf)> {
    let overlays = own.join("overlays");
    crate::dirs::create_private(&overlays)?;
    let base = overlays.join(name);
    if base.exists() {
        let parent = open_readable(&overlays)?;
        remove_tree(parent.as_fd(), &CString::new(name).unwrap_or_default())?;
    }
    for part in ["upper", "work"] {
        crate::dirs::create_private(&base.join(part))?;
    }
    let upper = base.join("upper");
    chmod(&upper, mode & 0o7777)?;
    Ok((upper, base.join("work")))
}

fn chmod(path: &Path, mode: u32) -> Result<()> {
    rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(mode), AtFlags::empty())
        .context(|| format!("set the mode of {}", path.display()))
}

fn open_readable(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, crate::storage::descent::OPEN_DIR, Mode::empty())
        .context(|| format!("open {}", path.display()))
}

fn composed(own: &Path, path: &Path) -> Result<OwnedFd> {
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
