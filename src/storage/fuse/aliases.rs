//! The names of files that have several in a lower layer.
//!
//! Before such a file is copied up, all its names must be known, so that the
//! upper directory gets them all: what else reads it (the kernel's overlay,
//! `commit`) sees the same file then. Nothing on disk leads from a file to its
//! names, so the layer is looked through, once. A directory of the host that
//! lives (see [`super::LowerOwners::squash`]) is not; there [`super::links`]
//! leads from the other names to the copy.

use super::inode::{Inode, Layer, UPPER};
use super::merged::{DIRECTORY, Merged};
use super::wire::{Answer, ROOT};
use rustix::fs::{AtFlags, Dir, FileType, Mode, statat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, PoisonError};

/// Names below a layer, as lists of components, by the file's number.
pub(super) type Aliases = HashMap<u64, Vec<Vec<CString>>>;

/// Directories deeper than this are not looked into.
const DEEPEST: usize = 512;

impl Merged {
    /// Makes all names known that a lower file has in the merged tree.
    pub(super) fn learn_names(&self, inode: &Arc<Inode>) -> Answer<()> {
        let (stat, layer) = {
            let state = inode.state();
            if inode.is_dir() || state.upper || state.names.is_empty() || self.owners.squash.is_some() {
                return Ok(());
            }
            (self.stat_of(inode, &state)?, state.layer())
        };
        if stat.st_nlink < 2 {
            return Ok(());
        }
        for path in self.aliases_in(layer)?.get(&stat.st_ino).into_iter().flatten() {
            self.learn(layer, stat.st_ino, path)?;
        }
        Ok(())
    }

    /// Looks a name up that leads to this file in this layer, unless something
    /// hides it.
    fn learn(&self, layer: Layer, ino: u64, path: &[CString]) -> Answer<()> {
        let Some((name, above)) = path.split_last() else { return Ok(()) };
        let mut parent = Arc::clone(&self.root);
        let mut held = Vec::with_capacity(above.len());
        for component in above {
            let Some(found) = self.find(&parent, component)? else { break };
            if FileType::from_raw_mode(found.stat.st_mode) != FileType::Directory {
                break;
            }
            parent = self.refer(&parent, component, found)?;
            held.push(Arc::clone(&parent));
        }
        if held.len() == above.len() {
            if let Some(found) = self.find(&parent, name)? {
                if !found.upper && *found.lowers == [layer] && found.stat.st_ino == ino {
                    let inode = self.refer(&parent, name, found)?;
                    self.let_go(inode.node, 1);
                }
            }
        }
        for inode in held.iter().filter(|inode| inode.node != ROOT) {
            self.let_go(inode.node, 1);
        }
        Ok(())
    }

    fn aliases_in(&self, layer: Layer) -> Answer<Arc<Aliases>> {
        let mut known = self.aliases.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(aliases) = known.get(&layer) {
            return Ok(Arc::clone(aliases));
        }
        let parts = self.parts(&self.root)?;
        let mut aliases = Aliases::new();
        debug_assert_ne!(layer, UPPER);
        if let Some(root) = parts.get(layer) {
            collect(root, &mut Vec::new(), &mut aliases)?;
        }
        let aliases = Arc::new(aliases);
        known.insert(layer, Arc::clone(&aliases));
        Ok(aliases)
    }
}

fn collect(dir: BorrowedFd<'_>, path: &mut Vec<CString>, aliases: &mut Aliases) -> Answer<()> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        path.push(name.to_owned());
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            match rustix::fs::openat(dir, name, DIRECTORY, Mode::empty()) {
                Ok(inner) if path.len() < DEEPEST => collect(inner.as_fd(), path, aliases)?,
                Ok(_) | Err(Errno::ACCESS) => {}
                Err(errno) => return Err(errno),
            }
        } else if stat.st_nlink > 1 {
            aliases.entry(stat.st_ino).or_default().push(path.clone());
        }
        path.pop();
    }
    Ok(())
}
