//! One file of the merged tree, as this server remembers it.

use super::few::Few;
use super::handles::{Counted, Handles, Open};
use super::links::Group;
use rustix::fs::FileType;
use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A layer: 0 is the upper directory, 1 the topmost of the lower ones.
pub(super) type Layer = u16;
pub(super) const UPPER: Layer = 0;

/// A file of the merged tree. It stays the same (number, identity) when it is
/// copied up or renamed.
///
/// Locks are taken from the leaves to the root: whoever holds a file's `state`
/// may take its parents', never the other way round. Two at once are taken in
/// the order of their node numbers, and `handles` after `state`.
pub(super) struct Inode {
    pub(super) node: u64,
    /// What stat(2) shows: the number of the file that it was copied from.
    pub(super) ino: u64,
    pub(super) kind: FileType,
    /// The identity of its copy in the upper directory; 0 where it has none.
    pub(super) copy: AtomicU64,
    /// References that the kernel holds.
    pub(super) lookups: AtomicU64,
    /// Used since the clock's hand went by: see [`super::handles`].
    pub(super) used: AtomicBool,
    /// Known to have no attribute that can be asked for.
    pub(super) plain: AtomicBool,
    /// A file that was set-uid or set-gid when it was looked at last.
    pub(super) set_id: AtomicBool,
    /// A directory: known to have no ACL that new files inherit.
    pub(super) no_default_acl: AtomicBool,
    state: RwLock<State>,
    handles: Mutex<Option<Box<Handles>>>,
}

/// What can change.
#[derive(Default)]
pub(super) struct State {
    /// Known names. A directory has one, or none once it is removed.
    pub(super) names: Few<Name>,
    /// Whether the upper directory has it. What is not there was never written to.
    pub(super) upper: bool,
    /// A directory: the lower layers that contribute to it, topmost first.
    /// A file: the one layer that has it, if the upper directory has not.
    pub(super) lowers: Few<Layer>,
    /// Names of a lower file with several that were removed: see [`super::links`].
    pub(super) gone: u32,
    /// What few files have, in a block of its own.
    pub(super) rare: Option<Box<Rare>>,
}

#[derive(Default)]
pub(super) struct Rare {
    held: Option<Arc<Counted>>,
    group: Option<Group>,
}

/// A name in a directory of the merged tree.
#[derive(Clone)]
#[expect(clippy::struct_field_names, reason = "it is what a name is called")]
pub(super) struct Name {
    pub(super) parent: Arc<Inode>,
    pub(super) name: Box<CStr>,
    /// Whether the layer that has the file has it by this name. Not so for the
    /// other names of a file that was copied up by one of them.
    pub(super) real: bool,
}

impl Name {
    pub(super) fn new(parent: &Arc<Inode>, name: &CStr) -> Self {
        Self { parent: Arc::clone(parent), name: CString::from(name).into_boxed_c_str(), real: true }
    }

    pub(super) fn is(&self, parent: &Inode, name: &CStr) -> bool {
        self.parent.node == parent.node && *self.name == *name
    }
}

impl Inode {
    pub(super) fn new(node: u64, ino: u64, kind: FileType, state: State) -> Self {
        Self {
            node,
            ino,
            kind,
            copy: AtomicU64::new(0),
            lookups: AtomicU64::new(0),
            used: AtomicBool::new(true),
            plain: AtomicBool::new(false),
            set_id: AtomicBool::new(false),
            no_default_acl: AtomicBool::new(false),
            state: RwLock::new(state),
            handles: Mutex::default(),
        }
    }

    pub(super) fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    // A panic of another thread was answered with EIO; what it left is whole,
    // because each change of a state is one assignment after the system call.
    pub(super) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn handles(&self) -> Open<'_> {
        self.used.store(true, Ordering::Relaxed);
        Open(self.handles.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// A file without a name: what it still is.
    pub(super) fn held(&self) -> Option<&Arc<Counted>> {
        self.rare.as_ref()?.held.as_ref()
    }

    pub(super) fn hold(&mut self, held: Counted) {
        self.rare.get_or_insert_default().held = Some(Arc::new(held));
    }

    /// It has a name (again).
    pub(super) fn let_go(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.held = None;
        }
    }

    /// The copy of a file with several names below: see [`super::links`].
    pub(super) fn group(&self) -> Option<&Group> {
        self.rare.as_ref()?.group.as_ref()
    }

    pub(super) fn group_mut(&mut self) -> Option<&mut Group> {
        self.rare.as_mut()?.group.as_mut()
    }

    pub(super) fn set_group(&mut self, group: Option<Group>) {
        if group.is_some() || self.rare.is_some() {
            self.rare.get_or_insert_default().group = group;
        }
    }

    /// A directory that consists of its part in the upper directory alone.
    pub(super) fn is_pure_upper(&self) -> bool {
        self.upper && self.lowers.is_empty()
    }

    /// The layer in which the file (for a directory: its topmost part) is.
    pub(super) fn layer(&self) -> Layer {
        if self.upper { UPPER } else { self.lowers.first().copied().unwrap_or(UPPER) }
    }

    pub(super) fn remember(&mut self, name: Name) {
        if !self.names.iter().any(|known| known.is(&name.parent, &name.name)) {
            self.names.push(name);
        }
    }

    pub(super) fn forget_name(&mut self, parent: &Inode, name: &CStr) {
        self.names.retain(|known| !known.is(parent, name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There is one for each file that the kernel knows: 100,000 after a find(1)
    /// over as many.
    #[test]
    fn a_file_takes_no_more_memory_than_it_did() {
        let counts = 2 * size_of::<usize>();
        assert!(size_of::<Inode>() + counts <= 152, "{} bytes", size_of::<Inode>() + counts);
    }
}
