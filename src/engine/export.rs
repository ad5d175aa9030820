//! `export`: a container's files as a tar archive.

use super::Engine;
use super::save::write_file;
use crate::error::{BestEffort, Result};
use crate::state::events;
use crate::storage::pack::{Form, pack};
use crate::types::id::ContainerId;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

impl Engine {
    /// As [`Engine::export`], to a file, which appears whole or not at all.
    pub(crate) fn export_to(&self, id: &ContainerId, path: &Path) -> Result<()> {
        write_file(path, |mut out| self.export(id, &mut out))
    }

    /// Writes all files of the container, running or not; what is mounted in it
    /// is empty directories.
    pub(crate) fn export(&self, id: &ContainerId, out: &mut dyn Write) -> Result<()> {
        let snapshot = self.snapshot(id)?;
        let root = self.whole(&snapshot)?;
        let owners = self.file_owners(&snapshot)?;
        pack(root.as_fd(), Form::Plain, &|uid, gid| owners.inside(uid, gid), out)?;
        events::append(&self.dirs, &events::of_container(&snapshot.record, "export")).or_ignore();
        Ok(())
    }
}
