//! `volume export`, `volume import`: what is in a volume as a tar archive.

use super::Engine;
use super::save::write_file;
use crate::error::{Context, Error, Result};
use crate::image::compression;
use crate::storage::descent::OPEN_DIR;
use crate::storage::graft::Rules;
use crate::storage::live::Clash;
use crate::storage::pack::{Form, pack};
use crate::storage::tar_in;
use crate::storage::unpack::Ownership;
use crate::storage::volume::VolumeStore;
use crate::types::volume_options::VolumeKind;
use rustix::fs::Mode;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

impl Engine {
    /// As [`Engine::export_volume`], to a file, which appears whole or not at all.
    pub(crate) fn export_volume_to(&self, name: &str, path: &Path) -> Result<()> {
        self.volume(name)?;
        write_file(path, |mut out| self.export_volume(name, &mut out))
    }

    /// Writes what is in the volume, with the owners that containers see.
    ///
    /// # Errors
    /// `NotFound` where there is none of that name.
    pub(crate) fn export_volume(&self, name: &str, out: &mut dyn Write) -> Result<()> {
        let directory = self.volume_files(name)?;
        let squashed = self.ownership()? == Ownership::Squash;
        let owner = |uid, gid| if squashed { (0, 0) } else { (uid, gid) };
        pack(directory.as_fd(), Form::Plain, &owner, out).map(drop)
    }

    /// Puts what is in an archive, compressed or not, into the volume, over what
    /// is there.
    ///
    /// # Errors
    /// `Invalid` for what is no archive.
    pub(crate) fn import_volume(&self, name: &str, input: &mut dyn Read) -> Result<()> {
        let directory = self.volume_files(name)?;
        let squashed = self.ownership()? == Ownership::Squash;
        let owner = |uid, gid| (!squashed).then_some((uid, gid));
        let rules = Rules { owner: &owner, clash: Clash::Replace, capabilities: true };
        let (_, mut unpacked) = compression::decoder(input)?;
        tar_in::extract(directory.as_fd(), b"/", &mut unpacked, &rules)?;
        // It has the user's data now: no image is copied over it.
        let store = VolumeStore::open(&self.dirs.volumes())?;
        store.keep_empty(&store.get(name)?)
    }

    fn volume_files(&self, name: &str) -> Result<OwnedFd> {
        let volume = self.volume(name)?;
        let path = match VolumeKind::parse(&volume.options)? {
            VolumeKind::Directory => VolumeStore::open(&self.dirs.volumes())?.data_path(name),
            VolumeKind::Bind(path) => path,
            VolumeKind::Tmpfs(_) => {
                return Err(Error::conflict(format!(
                    "the volume {name} is a tmpfs: it has no files of its own"
                ))
                .hint("copy them out of a running container: coracle cp"));
            }
        };
        // Its files may belong to any of the user's ids.
        self.enter()?;
        rustix::fs::open(&path, OPEN_DIR, Mode::empty()).context(|| format!("open the volume {name}"))
    }
}
