//! Stand-in for the FUSE overlay, until it is there: fuse-overlayfs(1).

use crate::error::{Context, Error, Result};
use crate::sys::process;
use crate::types::idmap::IdMap;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The directories of an overlay: O_PATH, the topmost lower one first.
pub(crate) struct Layers {
    pub(crate) lowers: Vec<OwnedFd>,
    pub(crate) upper: Option<OwnedFd>,
    pub(crate) work: Option<OwnedFd>,
}

#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Options {
    pub(crate) volatile: bool,
    pub(crate) owners: LowerOwners,
}

/// How owners of lower layers are shown, and given to copies of their files.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct LowerOwners {
    pub(crate) uid: Option<IdMap>,
    pub(crate) gid: Option<IdMap>,
    pub(crate) squash: Option<(u32, u32)>,
}

pub(crate) fn open_device() -> Result<OwnedFd> {
    rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .context(|| "open /dev/fuse")
        .map_err(|error| error.hint("chmod 0666 /dev/fuse, modprobe fuse"))
}

pub(crate) fn mount(device: BorrowedFd<'_>) -> Result<OwnedFd> {
    let step = || "mount the FUSE overlay";
    let context = rustix::mount::fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC).context(step)?;
    let set = |key: &str, value: &str| rustix::mount::fsconfig_set_string(context.as_fd(), key, value);
    let configure = || {
        set("source", "coracle")?;
        set("subtype", "coracle")?;
        set("fd", &device.as_raw_fd().to_string())?;
        set("rootmode", "40000")?;
        set("user_id", "0")?;
        set("group_id", "0")?;
        rustix::mount::fsconfig_set_flag(context.as_fd(), "allow_other")?;
        rustix::mount::fsconfig_set_flag(context.as_fd(), "default_permissions")?;
        rustix::mount::fsconfig_create(context.as_fd())
    };
    configure().context(step)?;
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .context(step)
}

pub(crate) fn serve(device: OwnedFd, layers: Layers, options: Options) -> Result<()> {
    let path = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let names: Vec<String> = layers.lowers.iter().map(path).collect();
    let mut text = format!("lowerdir={}", names.join(":"));
    if let (Some(upper), Some(work)) = (&layers.upper, &layers.work) {
        text += &format!(",upperdir={},workdir={}", path(upper), path(work));
    }
    let ranges = |map: &IdMap| {
        let one = |r: &crate::types::idmap::IdRange| format!("{}:{}:{}", r.inside, r.outside, r.length);
        map.0.iter().map(one).collect::<Vec<_>>().join(":")
    };
    if let (Some(uid), Some(gid)) = (&options.owners.uid, &options.owners.gid) {
        text += &format!(",uidmapping={},gidmapping={}", ranges(uid), ranges(gid));
    }
    if let Some((uid, gid)) = options.owners.squash {
        text += &format!(",squash_to_uid={uid},squash_to_gid={gid}");
    }
    if options.volatile {
        text += ",volatile";
    }
    let all = layers.lowers.iter().chain(&layers.upper).chain(&layers.work).chain([&device]);
    for fd in all {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).context(|| "keep")?;
    }
    let device_name = format!("/dev/fd/{}", device.as_raw_fd());
    let words = ["fuse-overlayfs", "-f", "-o", &text, &device_name];
    let words = words.map(|word| CString::new(word).unwrap_or_default());
    let error = process::execve(&c"/usr/bin/fuse-overlayfs".to_owned(), &words, &[]);
    Err(Error::failed(format!("fuse-overlayfs: {error}")))
}
