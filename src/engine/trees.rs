//! A container's files as seen from outside of it: its own layer, the layers
//! below, and all of them together.

use super::Engine;
use crate::dirs::create_private;
use crate::error::{Context, Error, Result};
use crate::monitor::overlay::ImageRoot;
use crate::runtime::mounts;
use crate::state::lock::{self, Lock};
use crate::state::store::Snapshot;
use crate::storage::layers::LayerStore;
use crate::storage::mapped::shifted;
use crate::types::container::{ContainerRecord, RecordedRoot};
use crate::types::digest::Digest;
use crate::types::idmap::{IdMap, IdRange};
use crate::types::namespace::UsernsMode;
use crate::types::status::{ProcessId, Status};
use crate::userns::{self, ContainerMaps, MapRequest};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Ids of a `--userns=auto` namespace whose size was left open: as `userns::maps` has it.
const AUTO_SIZE: u32 = 1024;

/// Where the files of a container with an image are.
pub(super) struct Trees {
    pub(super) upper: PathBuf,
    work: PathBuf,
    pub(super) store: LayerStore,
    /// Chain ids from the lowest layer to the topmost.
    pub(super) layers: Vec<Digest>,
    /// Their directories, from the topmost layer to the lowest; owners in them
    /// are the image's own ids.
    pub(super) lowers: Vec<PathBuf>,
    /// Owners in the upper directory.
    pub(super) owners: FileOwners,
}

impl Trees {
    /// The root file system that they are together.
    pub(super) fn root(&self) -> ImageRoot<'_> {
        let shift = match &self.owners {
            FileOwners::Mapped(maps) => Some(maps),
            FileOwners::Same | FileOwners::Lost => None,
        };
        let Self { upper, work, store, layers, .. } = self;
        ImageRoot { store, layers, upper, work, volatile: false, read_only: false, shift }
    }
}

/// How owners on the disk become the container's.
#[derive(Clone, Debug)]
pub(super) enum FileOwners {
    Same,
    /// With a single id, files have no owner but that: they are root's.
    Lost,
    Mapped(ContainerMaps),
}

impl FileOwners {
    /// The owner in the container; root's where it has no such id.
    pub(super) fn inside(&self, uid: u32, gid: u32) -> (u32, u32) {
        match self {
            Self::Same => (uid, gid),
            Self::Lost => (0, 0),
            Self::Mapped(maps) => {
                (maps.uid.to_inside(uid).unwrap_or(0), maps.gid.to_inside(gid).unwrap_or(0))
            }
        }
    }

    /// The owner on the disk of what the image has as this one's.
    pub(super) fn outside(&self, uid: u32, gid: u32) -> (u32, u32) {
        match self {
            Self::Same | Self::Lost => (uid, gid),
            Self::Mapped(maps) => (shifted(&maps.uid, uid), shifted(&maps.gid, gid)),
        }
    }
}

/// The first process, where the container runs.
pub(super) fn init_of(snapshot: &Snapshot) -> Option<ProcessId> {
    match &snapshot.status {
        Status::Running { init, .. } => Some(*init),
        Status::Created | Status::Restarting { .. } | Status::Exited(_) => None,
    }
}

/// All files of a container, as one tree.
pub(super) struct Whole {
    root: OwnedFd,
    /// While it does not run, nobody starts it.
    _lock: Option<Lock>,
}

impl AsFd for Whole {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

/// Has what a running container wrote put into its upper directory: the kernel
/// holds written pages of a FUSE overlay back for a while.
fn settle(init: ProcessId) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = match rustix::fs::open(format!("/proc/{}/root", init.pid), flags, Mode::empty()) {
        Ok(root) => root,
        // It has just ended, and with it its mount.
        Err(Errno::NOENT | Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error).context(|| "open its root directory"),
    };
    write_back(root.as_fd())
}

/// Has the kernel write what it holds back of a FUSE overlay.
pub(super) fn write_back(root: BorrowedFd<'_>) -> Result<()> {
    /// linux/magic.h
    const FUSE_SUPER_MAGIC: rustix::fs::FsWord = 0x6573_5546;
    let step = || "write back the container's files";
    if rustix::fs::fstatfs(root).context(step)?.f_type != FUSE_SUPER_MAGIC {
        return Ok(());
    }
    // syncfs(2) takes no O_PATH.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(root, ".", flags, Mode::empty()).context(step)?;
    rustix::fs::syncfs(&root).context(step)
}

/// The error for what is done with files, where there are none.
pub(super) fn no_files(record: &ContainerRecord) -> Error {
    Error::invalid(format!("container {} has no files: it holds what its pod shares", record.name))
        .hint("name another container of the pod: `coracle pod inspect` lists them")
}

impl Engine {
    /// Enters the outer namespace, where the files can be read.
    ///
    /// # Errors
    /// `Invalid` for a container of a directory of the host.
    pub(super) fn trees(&self, snapshot: &Snapshot) -> Result<Trees> {
        let record = &snapshot.record;
        if record.root == RecordedRoot::Nothing {
            return Err(no_files(record));
        }
        let RecordedRoot::Image { layers, .. } = &record.root else {
            return Err(Error::invalid(format!(
                "container {} has no image: its root is a directory",
                record.name
            ))
            .hint("`coracle export` gives its files while it runs"));
        };
        self.enter()?;
        let owners = self.file_owners(snapshot)?;
        let store = LayerStore::open(&self.dirs.layers())?;
        let lowers: Vec<PathBuf> = layers.iter().rev().map(|layer| store.path(layer)).collect();
        if let Some(missing) = lowers.iter().find(|lower| !lower.is_dir()) {
            return Err(Error::not_found(format!("a layer of the image is gone: {}", missing.display()))
                .hint("pull or load the image again"));
        }
        if let Some(init) = init_of(snapshot) {
            settle(init).map_err(|error| error.context(format!("container {}", record.name)))?;
        }
        let directory = self.dirs.container(&record.id);
        let (upper, work) = (directory.join("upper"), directory.join("work"));
        Ok(Trees { upper, work, store, layers: layers.clone(), lowers, owners })
    }

    /// What lies below the container's own layer, as one tree.
    pub(super) fn below(&self, lowers: &[PathBuf]) -> Result<OwnedFd> {
        let empty = self.empty_directory()?;
        match lowers {
            [] => rustix::fs::open(&empty, crate::storage::descent::OPEN_DIR, Mode::empty())
                .context(|| format!("open {}", empty.display())),
            lowers => self.overlays()?.view(lowers, &empty),
        }
    }

    pub(super) fn empty_directory(&self) -> Result<PathBuf> {
        let empty = self.dirs.runtime.join("empty");
        create_private(&empty)?;
        Ok(empty)
    }

    /// All files of the container as it sees them, without what is mounted in
    /// it: of a running one, its own root.
    pub(super) fn whole(&self, snapshot: &Snapshot) -> Result<Whole> {
        self.enter()?;
        if let Some(init) = init_of(snapshot) {
            let root = mounts::clone_root_of(init).map_err(|error| {
                error.context(format!("open the root of container {}", snapshot.record.name))
            })?;
            return Ok(Whole { root, _lock: None });
        }
        // So that it is not started meanwhile, when two would serve its files.
        let lock = lock::container(&self.dirs.container(&snapshot.record.id))?;
        let snapshot = &self.snapshot_locked(&snapshot.record.id)?;
        if init_of(snapshot).is_some() {
            drop(lock);
            return self.whole(snapshot);
        }
        self.at_rest(snapshot).map(|root| Whole { root, _lock: Some(lock) })
    }

    fn at_rest(&self, snapshot: &Snapshot) -> Result<OwnedFd> {
        match &snapshot.record.root {
            RecordedRoot::Image { .. } => {
                self.overlays()?.read_only(&self.trees(snapshot)?.root(), &self.empty_directory()?)
            }
            RecordedRoot::Directory { path, overlay: false } => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::open(path, flags, Mode::empty()).context(|| format!("open {}", path.display()))
            }
            RecordedRoot::Directory { overlay: true, .. } => {
                Err(Error::conflict(format!("container {} does not run", snapshot.record.name)).hint(
                    "what it wrote over a directory of the host (`--rootfs DIR:O`) is gone with its run",
                ))
            }
            RecordedRoot::Nothing => Err(no_files(&snapshot.record)),
        }
    }

    /// How the owners of the container's files are to be read.
    pub(super) fn file_owners(&self, snapshot: &Snapshot) -> Result<FileOwners> {
        let outer = self.enter()?;
        let record = &snapshot.record;
        let config = &record.config;
        if outer.uid_map.count() == 1 {
            return Ok(FileOwners::Lost);
        }
        let plain = config.uid_map.0.is_empty() && config.gid_map.0.is_empty();
        let maps = match &config.userns {
            UsernsMode::Host | UsernsMode::Container(_) => None,
            UsernsMode::Private if plain => None,
            // Which ids it got is not recorded; its root directory has the first.
            UsernsMode::Auto { size } => Some(self.auto_maps(record, size.unwrap_or(AUTO_SIZE))?),
            mode => {
                let of_root = |map: &IdMap| map.to_outside(0).unwrap_or(0);
                let request = MapRequest {
                    mode,
                    uid_map: &config.uid_map,
                    gid_map: &config.gid_map,
                    user: (0, 0),
                    host_ids: (of_root(&outer.uid_map), of_root(&outer.gid_map)),
                    in_use: &[],
                };
                userns::container_maps(&request, outer)?
            }
        };
        let shifts = |maps: &ContainerMaps| !maps.uid.is_identity() || !maps.gid.is_identity();
        Ok(maps.filter(shifts).map_or(FileOwners::Same, FileOwners::Mapped))
    }

    fn auto_maps(&self, record: &ContainerRecord, length: u32) -> Result<ContainerMaps> {
        let upper = self.dirs.container(&record.id).join("upper");
        let meta = std::fs::symlink_metadata(&upper).context(|| format!("look at {}", upper.display()))?;
        let map = |outside| IdMap(vec![IdRange { inside: 0, outside, length }]);
        Ok(ContainerMaps { uid: map(meta.uid()), gid: map(meta.gid()) })
    }
}
