//! The store of unpacked layers: `<dir>/<chain id, 64 hex digits>/`, immutable
//! once it is there, because it is published by a rename. In it
//! - `root/`: the layer in overlayfs's format, the lower directory of a mount;
//! - `size`: the bytes of its files in decimal, so that listing images is quick;
//! - `tree`: the digest of those files, once `system check` has compared them;
//! - `squashed`: there if the owners of its files were not kept.
//!
//! `<chain id>-<12 hex digits>/` is a copy with shifted owners (see `mapped`).
//! All calls run in the user's outer user namespace, as its root. No lock: who
//! removes a layer makes sure that no image and no container uses it.

use super::staging::{Staging, discard, sweep};
use super::tree_digest::tree_digest;
use super::unpack::{Ownership, unpack};
use super::usage::{allocated, disk_usage};
use crate::dirs::create_private;
use crate::error::{Context, Error, Result};
use crate::sys::fault;
use crate::types::digest::Digest;
use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};
use std::ffi::CStr;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// The unpacked layers of one user.
#[derive(Clone, Debug)]
pub(crate) struct LayerStore {
    pub(super) dir: PathBuf,
}

impl LayerStore {
    /// Opens the store at `dir`, which is made (0700) where it is missing.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        create_private(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// The lower directory of the layer; it exists if [`Self::contains`] says so.
    pub(crate) fn path(&self, chain_id: &Digest) -> PathBuf {
        self.dir.join(chain_id.hex()).join("root")
    }

    /// Whether the layer is there. One stat(2): this is on the start path.
    pub(crate) fn contains(&self, chain_id: &Digest) -> bool {
        rustix::fs::stat(self.path(chain_id)).is_ok()
    }

    /// Whether the layer was unpacked without its owners.
    pub(crate) fn is_squashed(&self, chain_id: &Digest) -> bool {
        rustix::fs::stat(self.dir.join(chain_id.hex()).join("squashed")).is_ok()
    }

    /// Unpacks an uncompressed layer archive, which is read to its end in any case
    /// but an error. It is on the disk when this returns.
    ///
    /// # Errors
    /// `Invalid` for a malformed archive and for one that is not `diff_id`;
    /// nothing is left of it.
    pub(crate) fn unpack(
        &self,
        chain_id: &Digest,
        diff_id: &Digest,
        tar: &mut dyn Read,
        ownership: Ownership,
    ) -> Result<()> {
        if self.contains(chain_id) {
            return check(diff_id, &hash(tar)?);
        }
        let staging = Staging::create(&self.dir)?;
        let unpacked = unpack(staging.make(c"root")?, tar, ownership)?;
        check(diff_id, &unpacked.digest)?;
        write_note(staging.directory(), c"size", &unpacked.bytes.to_string())?;
        if ownership == Ownership::Squash {
            write_note(staging.directory(), c"squashed", "")?;
        }
        staging.publish(chain_id.hex())
    }

    /// Removes the layer and its mapped copies. No error where it is gone.
    pub(crate) fn remove(&self, chain_id: &Digest) -> Result<()> {
        let copies = format!("{}-", chain_id.hex());
        for name in self.names()? {
            if name.starts_with(&copies) {
                discard(&self.dir, &name)?;
            }
        }
        discard(&self.dir, chain_id.hex())
    }

    /// The chain ids of all layers, in order.
    pub(crate) fn list(&self) -> Result<Vec<Digest>> {
        let mut layers: Vec<Digest> =
            self.names()?.iter().filter_map(|name| Digest::from_hex(name).ok()).collect();
        layers.sort();
        Ok(layers)
    }

    /// Bytes in the files of the layer, hard links once.
    ///
    /// # Errors
    /// `NotFound` where there is no such layer.
    pub(crate) fn size(&self, chain_id: &Digest) -> Result<u64> {
        let note = self.dir.join(chain_id.hex()).join("size");
        if let Some(size) = std::fs::read_to_string(note).ok().and_then(|text| text.trim().parse().ok()) {
            return Ok(size);
        }
        let flags = super::descent::OPEN_DIR;
        let root = rustix::fs::open(self.path(chain_id), flags, Mode::empty())
            .context(|| format!("open the layer {}", chain_id.short()))?;
        disk_usage(root.as_fd()).map(|(bytes, _)| bytes)
    }

    /// Bytes on the disk of the layer and its mapped copies.
    pub(crate) fn allocated(&self, chain_id: &Digest) -> Result<u64> {
        let mut bytes = 0;
        for name in self.names()?.into_iter().filter(|name| name.starts_with(chain_id.hex())) {
            bytes += allocated(&self.dir.join(&name))?;
        }
        Ok(bytes)
    }

    /// The bytes on the disk of each directory of the store, with the chain id
    /// of the layer that it is or is a copy of; `None` for a left-over.
    pub(crate) fn allocations(&self) -> Result<Vec<(Option<Digest>, u64)>> {
        let chain_id = |name: &str| {
            let (id, copy) = name.split_at_checked(64)?;
            Digest::from_hex(id).ok().filter(|_| copy.is_empty() || copy.starts_with('-'))
        };
        let mut all = Vec::new();
        for name in self.names()?.into_iter().filter(|name| name != ".lock") {
            all.push((chain_id(&name), allocated(&self.dir.join(&name))?));
        }
        Ok(all)
    }

    /// What the files of the layer are, as one digest.
    ///
    /// # Errors
    /// Where something in it cannot be read.
    pub(crate) fn digest(&self, chain_id: &Digest) -> Result<Digest> {
        let root = rustix::fs::open(self.path(chain_id), super::descent::OPEN_DIR, Mode::empty())
            .context(|| format!("open the layer {}", chain_id.short()))?;
        tree_digest(root.as_fd())
    }

    /// What [`Self::digest`] was when the layer was last compared with its archive.
    pub(crate) fn recorded_digest(&self, chain_id: &Digest) -> Option<Digest> {
        let text = std::fs::read_to_string(self.dir.join(chain_id.hex()).join("tree")).ok()?;
        Digest::parse(text.trim()).ok()
    }

    /// Unpacks the layer's archive once more, out of sight, and says whether its
    /// files are the same; if so, their digest is recorded.
    pub(crate) fn compare(&self, chain_id: &Digest, diff_id: &Digest, tar: &mut dyn Read) -> Result<bool> {
        let ownership = if self.is_squashed(chain_id) { Ownership::Squash } else { Ownership::Keep };
        let staging = Staging::create(&self.dir)?;
        let unpacked = unpack(staging.make(c"root")?, tar, ownership)?;
        check(diff_id, &unpacked.digest)?;
        let fresh = rustix::fs::openat(staging.directory(), c"root", super::descent::OPEN_DIR, Mode::empty())
            .context(|| "open the layer")?;
        let wanted = tree_digest(fresh.as_fd())?;
        if self.digest(chain_id)? != wanted {
            return Ok(false);
        }
        let layer = self.dir.join(chain_id.hex());
        let layer = rustix::fs::open(&layer, super::descent::OPEN_DIR, Mode::empty())
            .context(|| format!("open {}", layer.display()))?;
        match write_note(layer.as_fd(), c"tree", &wanted.to_string()) {
            // Another check was first.
            Err(error) if error.errno() == Some(libc::EEXIST) => Ok(true),
            result => result.map(|()| true),
        }
    }

    /// Removes what killed processes left behind.
    pub(crate) fn sweep(&self) -> Result<()> {
        sweep(&self.dir)
    }

    fn names(&self) -> Result<Vec<String>> {
        let action = || format!("list {}", self.dir.display());
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.dir).context(action)? {
            names.extend(entry.context(action)?.file_name().into_string().ok());
        }
        Ok(names)
    }
}

fn check(diff_id: &Digest, found: &Digest) -> Result<()> {
    if diff_id == found {
        return Ok(());
    }
    Err(Error::invalid(format!("the content of the layer is {found}, but the image says {diff_id}"))
        .hint("the image or its transfer is damaged: pull it again, or tell who made it"))
}

/// The digest of all that is left of a stream.
fn hash(stream: &mut dyn Read) -> Result<Digest> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(Digest::finish(hasher)),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context(|| "read the layer"),
        }
    }
}

/// A small new file beside `root`.
pub(super) fn write_note(dir: BorrowedFd<'_>, name: &CStr, text: &str) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fault::point().context(|| format!("make the file {}", name.to_string_lossy()))?;
    let file = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)
        .context(|| format!("make the file {}", name.to_string_lossy()))?;
    std::fs::File::from(file)
        .write_all(text.as_bytes())
        .context(|| format!("write the file {}", name.to_string_lossy()))
}
