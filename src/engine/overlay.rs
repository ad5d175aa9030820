//! The FUSE overlay by itself, for a process in a user namespace (`coracle
//! unshare`): what fuse-overlayfs does, by the same words.

use crate::error::{Context, Error, Result};
use crate::runtime::mounts;
use crate::storage::fuse::{self, Layers, Options};
use crate::types::idmap::{IdMap, IdRange};
use rustix::fs::{Mode, OFlags};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// What is mounted where.
#[derive(Debug, Default)]
pub(crate) struct OverlayMount {
    lowers: Vec<PathBuf>,
    upper: Option<PathBuf>,
    work: Option<PathBuf>,
    /// Shown as its device.
    source: Option<String>,
    options: Options,
}

impl OverlayMount {
    /// Takes the words of `-o`: `lowerdir=A:B,upperdir=U,workdir=W,volatile`.
    ///
    /// # Errors
    /// `Invalid` for a word that it does not know.
    pub(crate) fn take(&mut self, words: &str) -> Result<()> {
        for word in words.split(',').filter(|word| !word.is_empty()) {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let number = || {
                let wrong = |_| Error::invalid(format!("-o {word}: not an id"));
                value.parse::<u32>().map_err(wrong)
            };
            let squash = self.options.owners.squash.unwrap_or((0, 0));
            match key {
                "lowerdir" => self.lowers = value.split(':').map(PathBuf::from).collect(),
                "upperdir" => self.upper = Some(PathBuf::from(value)),
                "workdir" => self.work = Some(PathBuf::from(value)),
                "fsname" if !value.is_empty() => self.source = Some(value.to_owned()),
                "volatile" => self.options.volatile = true,
                "live" => self.options.live = true,
                "writeback" => self.options.write_through = number()? == 0,
                "squash_to_root" => self.options.owners.squash = Some((0, 0)),
                "squash_to_uid" => self.options.owners.squash = Some((number()?, squash.1)),
                "squash_to_gid" => self.options.owners.squash = Some((squash.0, number()?)),
                "uidmapping" => self.options.owners.uid = Some(id_map(value)?),
                "gidmapping" => self.options.owners.gid = Some(id_map(value)?),
                // What is the case in any case.
                "userxattr" | "allow_other" | "default_permissions" | "rw" | "suid" | "dev" | "exec" => {}
                _ => {
                    return Err(Error::invalid(format!("unknown option {word:?}"))
                        .hint("it takes lowerdir, upperdir, workdir, fsname, volatile, live, writeback, squash_to_root, squash_to_uid, squash_to_gid, uidmapping and gidmapping"));
                }
            }
        }
        Ok(())
    }

    /// Mounts it on `point`, in the mount namespace of the caller, tells by
    /// `ready`, and serves it until it is unmounted.
    ///
    /// # Errors
    /// `Invalid` without layers; `Failed` outside of a user namespace.
    pub(crate) fn serve(self, point: &Path, ready: impl FnOnce()) -> Result<()> {
        let upper = match (&self.upper, &self.work) {
            (Some(upper), Some(work)) => Some((upper.as_path(), work.as_path())),
            (None, None) => None,
            _ => return Err(Error::invalid("upperdir and workdir go together")),
        };
        if self.lowers.is_empty() {
            return Err(Error::invalid("no lowerdir is given"));
        }
        let layers = Layers::open(&self.lowers, upper)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let place = rustix::fs::open(point, flags, Mode::empty())
            .context(|| format!("open the mount point {}", point.display()))?;
        let device = fuse::open_device()?;
        let server = fuse::Server::new(layers, self.options)?;
        let mount = match &self.source {
            Some(source) => fuse::mount_as(device.as_fd(), source)?,
            None => fuse::mount(device.as_fd())?,
        };
        mounts::attach(mount.as_fd(), place.as_fd()).context(|| format!("mount on {}", point.display()))?;
        // Or they would be in use for as long as this serves.
        drop((mount, place));
        rustix::process::chdir("/").context(|| "change to /")?;
        ready();
        server.serve(device)
    }
}

/// fuse-overlayfs' `ID:SHOWN:COUNT[:ID:SHOWN:COUNT...]`.
fn id_map(text: &str) -> Result<IdMap> {
    let wrong = || Error::invalid(format!("id map {text:?}: not triples of numbers"));
    let numbers: Vec<u32> = text.split(':').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
    if !numbers.len().is_multiple_of(3) {
        return Err(wrong());
    }
    let range = |triple: &[u32]| IdRange { inside: triple[0], outside: triple[1], length: triple[2] };
    Ok(IdMap(numbers.chunks_exact(3).map(range).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_fuse_overlayfs_are_known() {
        let mut mount = OverlayMount::default();
        mount.take("lowerdir=/a:/b,upperdir=/u,workdir=/w").expect("known");
        assert_eq!(mount.options.owners, fuse::LowerOwners::default());
        mount.take("fsname=disk,volatile,live,squash_to_uid=5,uidmapping=0:1:1000:1000:0:1").expect("known");
        assert_eq!(mount.lowers, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!(mount.source.as_deref(), Some("disk"));
        assert_eq!(mount.options.owners.squash, Some((5, 0)));
        assert_eq!(mount.options.owners.uid.as_ref().map(|map| map.0.len()), Some(2));
        assert!(!mount.options.write_through);
        mount.take("writeback=0").expect("known");
        assert!(mount.options.write_through);
        for bad in ["plugins=x", "writeback", "squash_to_uid=x", "uidmapping=1:2", "fsname="] {
            assert!(mount.take(bad).is_err(), "{bad}");
        }
    }
}
