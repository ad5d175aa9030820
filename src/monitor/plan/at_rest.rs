//! A container's files while it does not run, for `cp`: its root file system
//! with volumes and binds where it would have them, mounted in this process' own
//! mount namespace, with which all of it goes.

use super::Context as PlanContext;
use super::binds;
use super::joined::Joined;
use super::mounts::{attributes, name_files};
use super::namespaces;
use super::root::{Root, open_directory};
use crate::error::{Context, Kind, Result};
use crate::runtime::mounts::{self, Made};
use crate::runtime::plan::Mount;
use crate::runtime::rootfs::Rootfs;
use crate::runtime::users::ResolvedUser;
use crate::storage::volume::VolumeStore;
use crate::sys::mount::{MountAttr, RDONLY, mount_setattr};
use crate::types::cgroup::CgroupnsMode;
use crate::types::container::{ContainerConfig, ContainerRecord};
use crate::types::id::ContainerId;
use crate::types::mount::{MountOptions, MountSource, MountSpec};
use crate::types::namespace::{IpcMode, NamespaceMode, NetworkMode, UsernsMode};
use crate::types::volume_options::VolumeKind;
use crate::userns::ContainerMaps;
use rustix::fs::Mode;
use std::os::fd::{AsFd, OwnedFd};

/// The root directory of a container at rest.
pub(crate) struct AtRest {
    pub(crate) root: OwnedFd,
    /// `None` where its ids are those of the outer namespace.
    pub(crate) maps: Option<ContainerMaps>,
}

/// Mounts it. The caller is a process that is gone soon, and holds the
/// container's lock, so that nobody starts it meanwhile.
///
/// # Errors
/// Those of a start, but that a source which is gone is not missed.
pub(crate) fn mount(context: &PlanContext<'_>) -> Result<AtRest> {
    let config = &context.record.config;
    let maps = maps(context)?;
    // A volatile overlay can be mounted once: the start would fail.
    let mut record = context.record.clone();
    record.config.auto_remove = false;
    let root = Root::open(&PlanContext { record: &record, ..*context }, maps.as_ref())?;
    // All sources before anything is attached: that hides the container's directory.
    let mut mounts = asked(context, &root, maps.as_ref())?;
    mounts.extend(
        name_files(context)?
            .into_iter()
            .filter(|file| config.own_mounts().iter().all(|spec| spec.target != file.target)),
    );
    let point = open_directory(&context.dirs.container(&context.record.id))?;
    let rootfs = Rootfs::new(root.into_mount());
    mounts::attach(rootfs.as_fd(), point.as_fd()).context(|| "mount the container's root")?;
    // As at a start: what is made is for all users of the container.
    let umask = rustix::process::umask(Mode::from_raw_mode(0o022));
    let made = mounts.iter().try_for_each(|mount| mounts::make(&rootfs, mount, &mut Made::default()));
    rustix::process::umask(umask);
    made?;
    if config.read_only {
        let attr = MountAttr { set: RDONLY, ..MountAttr::default() };
        mount_setattr(rootfs.as_fd(), c"", attr, false).context(|| "make the root read-only")?;
    }
    Ok(AtRest { root: rootfs.into_fd(), maps })
}

/// Copies what the image has into those of the container's volumes that are empty.
/// The caller holds the container's lock.
///
/// # Errors
/// Those of a start.
pub(crate) fn fill_volumes(context: &PlanContext<'_>) -> Result<()> {
    let store = VolumeStore::open(&context.dirs.volumes())?;
    let mut record = context.record.clone();
    record.config.auto_remove = false;
    let context = &PlanContext { record: &record, ..*context };
    let maps = maps(context)?;
    let root = Root::open(context, maps.as_ref())?;
    for spec in record.config.own_mounts() {
        if let MountSource::Volume { name } = &spec.source {
            let volume = store.get(name)?;
            if VolumeKind::parse(&volume.options)? == VolumeKind::Directory {
                binds::fill_volume(context, &root, spec, &volume)?;
            }
        }
    }
    Ok(())
}

/// What was asked for and has a place on disk: a tmpfs has none.
fn asked(context: &PlanContext<'_>, root: &Root, maps: Option<&ContainerMaps>) -> Result<Vec<Mount>> {
    // Only for the option `U`, which is left to the start.
    let nobody = ResolvedUser { uid: 0, gid: 0, groups: Vec::new(), home: None, name: None };
    let on_disk = |spec: &&MountSpec| !matches!(spec.source, MountSource::Tmpfs { .. });
    let mut specs: Vec<&MountSpec> = context.record.config.own_mounts().iter().filter(on_disk).collect();
    specs.sort_by_key(|spec| spec.target.matches('/').count());
    let mut mounts = Vec::new();
    for spec in specs {
        let spec =
            MountSpec { options: MountOptions { chown: false, ..spec.options.clone() }, ..spec.clone() };
        match binds::kind(context, root, &spec, &nobody, maps) {
            Ok(kind) => {
                mounts.push(Mount { attributes: attributes(&spec.options), target: spec.target, kind });
            }
            // A start says so; what else the container has can be had without it.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Invalid) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(mounts)
}

fn maps(context: &PlanContext<'_>) -> Result<Option<ContainerMaps>> {
    match owner_of_user_namespace(context)? {
        Some(owner) => {
            namespaces::maps(&PlanContext { record: &owner, ..*context }, &Joined::default(), None)
        }
        None => Ok(None),
    }
}

/// Whose user namespace the container is in when it runs, as [`Joined::find`]
/// decides: itself, or one that it shares a namespace with. `None` where that one
/// is gone.
fn owner_of_user_namespace(context: &PlanContext<'_>) -> Result<Option<ContainerRecord>> {
    /// Of containers that share with each other; none can share with itself.
    const LONGEST: usize = 32;
    let mut owner = context.record.clone();
    for _ in 0..LONGEST {
        let Some(next) = shares_user_namespace_with(&owner.config) else { return Ok(Some(owner)) };
        let id = ContainerId::parse(next).or_else(|_| context.store.resolve(next));
        match id.and_then(|id| context.store.record(&id)) {
            Ok(record) => owner = record,
            Err(error) if error.kind() == Kind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn shares_user_namespace_with(config: &ContainerConfig) -> Option<&str> {
    match (&config.userns, &config.pid, &config.network, &config.ipc, &config.uts) {
        (UsernsMode::Container(id), ..)
        | (UsernsMode::Private, NamespaceMode::Container(id), ..)
        | (UsernsMode::Private, _, NetworkMode::Container(id), ..)
        | (UsernsMode::Private, _, _, IpcMode::Container(id), _)
        | (UsernsMode::Private, .., NamespaceMode::Container(id)) => Some(id),
        (UsernsMode::Private, ..) => match &config.cgroupns {
            CgroupnsMode::Container(id) => Some(id),
            CgroupnsMode::Private | CgroupnsMode::Host => None,
        },
        _ => None,
    }
}
