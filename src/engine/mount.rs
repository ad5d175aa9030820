//! `mount` and `unmount` of containers and images, in the mount namespace of
//! the caller (`coracle unshare`). The kernel keeps count and forgets all with
//! that namespace: a thing mounted twice is mounted twice at the same place.

use super::trees::{init_of, no_files};
use super::{Engine, images};
use crate::dirs::create_private;
use crate::error::{BestEffort, Context, Error, Result};
use crate::runtime::mounts;
use crate::state::{events, lock};
use crate::storage::layers::LayerStore;
use crate::sys::mount::{MountAttr, RDONLY, mount_setattr};
use crate::types::container::RecordedRoot;
use crate::types::digest::Digest;
use crate::types::event::{Event, EventKind};
use crate::types::id::ContainerId;
use rustix::fs::{Mode, OFlags};
use rustix::mount::UnmountFlags;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// How much of it is unmounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unmount {
    /// As often as it was mounted, it must be unmounted.
    Once,
    /// Altogether, even while it is in use.
    Whole,
}

impl Engine {
    /// Mounts the root of a container where this process and its kin see it.
    /// The place.
    ///
    /// # Errors
    /// `Invalid` outside of `unshare`: see [`Engine::stay`].
    pub(crate) fn mount_container(&self, id: &ContainerId) -> Result<PathBuf> {
        self.stay()?;
        let place = self.place(id.as_str());
        let _lock = lock::container(&self.dirs.container(id))?;
        let snapshot = self.snapshot_locked(id)?;
        if mounted_times(&place)? > 0 {
            again(&place)?;
        } else {
            let tree = match (init_of(&snapshot), &snapshot.record.root) {
                // Its own mount: a second overlay of the same directories would
                // not agree with it.
                (Some(init), _) => mounts::clone_root_of(init)?,
                (None, RecordedRoot::Image { .. }) => {
                    self.overlays()?.image(&self.trees(&snapshot)?.root())?.mount
                }
                (None, RecordedRoot::Directory { path, overlay: false }) => {
                    mounts::clone_tree_below(path).context(|| format!("mount {}", path.display()))?
                }
                (None, RecordedRoot::Directory { overlay: true, .. }) => {
                    return Err(Error::conflict(format!("container {} does not run", snapshot.record.name))
                        .hint("what it wrote over a directory of the host (`--rootfs DIR:O`) is gone with its run"));
                }
                (None, RecordedRoot::Nothing) => return Err(no_files(&snapshot.record)),
            };
            put(&tree, &place)?;
        }
        events::append(&self.dirs, &events::of_container(&snapshot.record, "mount")).or_ignore();
        Ok(place)
    }

    /// Undoes a mount of [`Engine::mount_container`].
    ///
    /// # Errors
    /// `Conflict` where it is not mounted here, or in use.
    pub(crate) fn unmount_container(&self, id: &ContainerId, how: Unmount) -> Result<()> {
        self.stay()?;
        let record = self.store.record(id)?;
        take_off(&self.place(id.as_str()), how, &format!("container {}", record.name))?;
        events::append(&self.dirs, &events::of_container(&record, "unmount")).or_ignore();
        Ok(())
    }

    /// The place, where the container is mounted here.
    pub(crate) fn mounted_at(&self, name: &str) -> Result<Option<PathBuf>> {
        let place = self.place(name);
        Ok((mounted_times(&place)? > 0).then_some(place))
    }

    /// Mounts an image's files, read-only; its id and the place.
    ///
    /// # Errors
    /// As [`Engine::mount_container`].
    pub(crate) fn mount_image(&self, name: &str) -> Result<(Digest, PathBuf)> {
        self.stay()?;
        let _pin = images::pin(&self.dirs)?;
        let image = images::find(&self.dirs, name, None)?.ok_or_else(|| images::no_such_image(name))?;
        images::ensure_layers(&self.dirs, &image, self.ownership()?)?;
        let place = self.place(&image_mount(&image.id));
        if mounted_times(&place)? > 0 {
            again(&place)?;
        } else {
            let store = LayerStore::open(&self.dirs.layers())?;
            let lowers: Vec<PathBuf> = image.layers.iter().rev().map(|layer| store.path(layer)).collect();
            let tree = match lowers.as_slice() {
                [only] => {
                    let tree = mounts::clone_tree_at(only).context(|| format!("mount {}", only.display()))?;
                    let attr = MountAttr { set: RDONLY, ..MountAttr::default() };
                    mount_setattr(tree.as_fd(), c"", attr, false).context(|| "mount the image read-only")?;
                    tree
                }
                several => self.overlays()?.view(several, &self.empty_directory()?)?,
            };
            put(&tree, &place)?;
        }
        let event = Event::now(EventKind::Image, "mount", image.id.to_string()).with("name", image.name());
        events::append(&self.dirs, &event).or_ignore();
        Ok((image.id, place))
    }

    /// Undoes a mount of [`Engine::mount_image`]; the image's id.
    ///
    /// # Errors
    /// `Conflict` where it is not mounted here, or in use.
    pub(crate) fn unmount_image(&self, name: &str, how: Unmount) -> Result<Digest> {
        self.stay()?;
        let image = images::find(&self.dirs, name, None)?.ok_or_else(|| images::no_such_image(name))?;
        take_off(&self.place(&image_mount(&image.id)), how, &format!("image {name}"))?;
        let event = Event::now(EventKind::Image, "unmount", image.id.to_string()).with("name", image.name());
        events::append(&self.dirs, &event).or_ignore();
        Ok(image.id)
    }

    fn place(&self, name: &str) -> PathBuf {
        self.dirs.runtime.join("mounts").join(name)
    }
}

/// What [`Engine::mounted_at`] knows an image's mount by.
pub(crate) fn image_mount(id: &Digest) -> String {
    format!("image-{}", id.hex())
}

fn open(place: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(place, flags, Mode::empty()).context(|| format!("open {}", place.display()))
}

fn put(tree: &OwnedFd, place: &Path) -> Result<()> {
    create_private(place)?;
    mounts::attach(tree.as_fd(), open(place)?.as_fd()).context(|| format!("mount on {}", place.display()))
}

fn again(place: &Path) -> Result<()> {
    let tree = mounts::clone_tree_at(place).context(|| format!("mount on {}", place.display()))?;
    put(&tree, place)
}

fn take_off(place: &Path, how: Unmount, what: &str) -> Result<()> {
    let times = mounted_times(place)?;
    if times == 0 {
        return Err(Error::conflict(format!("{what} is not mounted"))
            .hint("a mount is seen in the `coracle unshare` session that made it"));
    }
    let (rounds, flags) = match how {
        Unmount::Once => (1, UnmountFlags::NOFOLLOW),
        Unmount::Whole => (times, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH),
    };
    for _ in 0..rounds {
        rustix::mount::unmount(place, flags).context(|| format!("unmount {what}")).map_err(|error| {
            match error.errno() {
                Some(libc::EBUSY) => error.hint("a process is in there: leave it, or use --force"),
                _ => error,
            }
        })?;
    }
    // The empty directory stays: another session may have the same mounted there,
    // and to remove it would take that away.
    Ok(())
}

/// How often something is mounted there: proc_pid_mountinfo(5).
fn mounted_times(place: &Path) -> Result<usize> {
    let text = std::fs::read("/proc/self/mountinfo").context(|| "read the list of mounts")?;
    let real = std::fs::canonicalize(place).unwrap_or_else(|_| place.to_owned());
    let wanted = real.as_os_str().as_encoded_bytes();
    let at =
        |line: &[u8]| line.split(|byte| *byte == b' ').nth(4).is_some_and(|field| unescape(field) == wanted);
    Ok(text.split(|byte| *byte == b'\n').filter(|line| at(line)).count())
}

/// `\040` is a space, and so on.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|digits| digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match (first, octal) {
            (b'\\', Some(digits)) => {
                plain.push(digits.iter().fold(0_u8, |value, digit| (value << 3) | (digit - b'0')));
                rest = &after[3..];
            }
            _ => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_as_they_are_written() {
        for (written, plain) in [("/a", "/a"), (r"/a\040b\134", r"/a b\"), (r"/\04", r"/\04")] {
            assert_eq!(unescape(written.as_bytes()), plain.as_bytes());
        }
        assert!(mounted_times(Path::new("/proc")).expect("read") > 0);
        assert_eq!(mounted_times(Path::new("/proc/self")).expect("read"), 0);
    }
}
