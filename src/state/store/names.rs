//! `names/<name>`: the id of the container that is called so. It is a link to the file
//! `name` in the container's directory, so that one which a power cut left empty still
//! says whose it is.

use super::{Store, UNBORN, lock};
use crate::error::{BestEffort, Context, Error, Result};
use crate::state::written::{Durable, read_file, write_file};
use crate::types::container::ContainerRecord;
use crate::types::id::ContainerId;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

impl Store {
    /// Links the name to the container; the kernel lets only one win. `source` is
    /// a file with the id.
    pub(super) fn take_name(&self, name: &str, id: &ContainerId, source: &Path) -> Result<()> {
        let link = self.dirs.names().join(name);
        let step = || format!("take the name {name:?}");
        match std::fs::hard_link(source, &link) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            result => return result.context(step),
        }
        // Taken, or left over. Only one at a time looks, or two could both find
        // the same name left over and the second remove the first's.
        let _names = lock::directory(&self.dirs.names())?;
        if let Some(owner) = self.id_of_name(name)?.filter(|owner| self.is_there(owner)) {
            if owner == *id {
                return Ok(());
            }
            return Err(Error::conflict(format!(
                "the container name {name:?} is already in use by container {}",
                owner.short()
            ))
            .hint("remove or rename that container, or use --replace"));
        }
        std::fs::remove_file(&link).or_ignore();
        match std::fs::hard_link(source, &link) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(Error::conflict(format!("the container name {name:?} was just taken by another command")))
            }
            result => result.context(step),
        }
    }

    /// Whether the container is published or just being made by someone alive.
    /// In this order: it is published by a rename of the one to the other.
    fn is_there(&self, id: &ContainerId) -> bool {
        let unborn = self.dirs.containers().join(format!("{UNBORN}{id}"));
        matches!(lock::try_directory(&unborn), Ok(None)) || self.dirs.container(id).exists()
    }

    /// Whose name it is; `None` where it is nobody's.
    pub(super) fn id_of_name(&self, name: &str) -> Result<Option<ContainerId>> {
        let path = self.dirs.names().join(name);
        match read_file(&path) {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => match id_in(&bytes) {
                Some(id) => Ok(Some(id)),
                None => self.owner_of_damaged(name, &path),
            },
            Err(_) => self.owner_of_damaged(name, &path),
        }
    }

    /// The container whose directory has the same file, or whose record has the name: a
    /// copy of the store has no links.
    fn owner_of_damaged(&self, name: &str, path: &Path) -> Result<Option<ContainerId>> {
        let ids = self.ids()?;
        let file = inode(path);
        let linked = |id: &&ContainerId| file.is_some() && inode(&self.file_of_name(id)) == file;
        if let Some(id) = ids.iter().find(linked) {
            return Ok(Some(id.clone()));
        }
        Ok(ids.into_iter().find(|id| self.record(id).is_ok_and(|record| record.name == name)))
    }

    fn file_of_name(&self, id: &ContainerId) -> PathBuf {
        self.dirs.container(id).join("name")
    }

    /// Lets go of all names of a container whose record cannot be read.
    pub(crate) fn drop_all_names(&self, id: &ContainerId) {
        let Ok(_names) = lock::directory(&self.dirs.names()) else { return };
        let file = inode(&self.file_of_name(id));
        for entry in std::fs::read_dir(self.dirs.names()).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_its = |bytes: &[u8]| id_in(bytes).as_ref() == Some(id);
            let named = read_file(&path).ok().flatten().is_some_and(|bytes| is_its(&bytes));
            if named || (file.is_some() && inode(&path) == file) {
                std::fs::remove_file(&path).or_ignore();
            }
        }
    }

    /// Changes the name of a container, atomically for everyone who asks.
    pub(crate) fn rename(&self, record: &mut ContainerRecord, name: &str) -> Result<()> {
        let file = self.file_of_name(&record.id);
        if read_file(&file).ok().flatten().and_then(|bytes| id_in(&bytes)).as_ref() != Some(&record.id) {
            // Left empty by a power cut: the new name is not to be so, too.
            write_file(&file, record.id.as_str().as_bytes(), Durable::Yes)?;
        }
        self.take_name(name, &record.id, &file)?;
        let old = std::mem::replace(&mut record.name, name.to_owned());
        self.save(record).inspect_err(|_| {
            if old != name {
                self.drop_name(name, &record.id);
            }
        })?;
        if old != name {
            self.drop_name(&old, &record.id);
        }
        Ok(())
    }

    /// Lets go of a name, if it is this container's, or damaged and nobody's.
    pub(crate) fn drop_name(&self, name: &str, id: &ContainerId) {
        let Ok(_names) = lock::directory(&self.dirs.names()) else { return };
        let path = self.dirs.names().join(name);
        // First: what comes to be after this is whole.
        let was_there = path.exists();
        if let Ok(owner) = self.id_of_name(name) {
            if owner.map_or(was_there, |owner| owner == *id) {
                std::fs::remove_file(&path).or_ignore();
            }
        }
    }
}

fn id_in(bytes: &[u8]) -> Option<ContainerId> {
    ContainerId::parse(std::str::from_utf8(bytes).ok()?.trim()).ok()
}

/// Which file it is.
fn inode(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}
