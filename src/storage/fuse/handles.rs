//! Open files and directories, at most so many: what is asked for again is
//! opened again. The clock algorithm decides what is closed.

use super::inode::{Inode, Layer};
use super::listing::Listing;
use super::wire::Answer;
use rustix::fs::Timestamps;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// What is open of one file.
#[derive(Default)]
pub(super) struct Handles {
    /// A file's data.
    pub(super) data: Option<Arc<Data>>,
    /// A directory in its layers.
    pub(super) parts: Option<Arc<Parts>>,
    /// A directory's entries.
    pub(super) listing: Option<Arc<Listing>>,
}

/// What is open of a file, locked. Of most files nothing is, and then there is no
/// block of memory for it: it is made when it is first written to.
pub(super) struct Open<'a>(pub(super) MutexGuard<'a, Option<Box<Handles>>>);

static NOTHING: Handles = Handles { data: None, parts: None, listing: None };

impl Deref for Open<'_> {
    type Target = Handles;

    fn deref(&self) -> &Handles {
        self.0.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for Open<'_> {
    fn deref_mut(&mut self) -> &mut Handles {
        self.0.get_or_insert_default()
    }
}

impl Open<'_> {
    /// Leaves nothing.
    fn take(&mut self) -> Option<Box<Handles>> {
        self.0.take()
    }
}

/// A file that is open for reading, and for writing where that says so.
pub(super) struct Data {
    pub(super) fd: Counted,
    pub(super) writable: bool,
    pub(super) modified: Modified,
}

/// The time of the last change that the kernel knows, where that is known here. To ask
/// the file system for it makes its next time a finer one than the kernel's own.
#[derive(Default)]
pub(super) struct Modified(Mutex<Option<Timestamps>>);

impl Modified {
    pub(super) fn set(&self, times: Option<Timestamps>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = times;
    }

    pub(super) fn get(&self) -> Option<Timestamps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Data {
    pub(super) fn new(fd: Counted, writable: bool) -> Self {
        Self { fd, writable, modified: Modified::default() }
    }
}

impl AsFd for Data {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A directory, open in each layer that contributes to it.
pub(super) struct Parts {
    pub(super) upper: Option<Arc<Counted>>,
    /// Topmost first.
    pub(super) lowers: Arc<[(Layer, Counted)]>,
}

impl Parts {
    /// The upper part, then the lower ones.
    pub(super) fn all(&self) -> impl Iterator<Item = (Layer, BorrowedFd<'_>)> {
        self.each().map(|(layer, fd)| (layer, fd.as_fd()))
    }

    /// As [`Self::all`].
    pub(super) fn each(&self) -> impl Iterator<Item = (Layer, &Counted)> {
        let upper = self.upper.iter().map(|fd| (super::inode::UPPER, &**fd));
        upper.chain(self.lowers.iter().map(|(layer, fd)| (*layer, fd)))
    }

    pub(super) fn get(&self, layer: Layer) -> Option<BorrowedFd<'_>> {
        self.all().find(|(own, _)| *own == layer).map(|(_, fd)| fd)
    }
}

/// An fd that is counted while it is open.
pub(super) struct Counted {
    fd: OwnedFd,
    count: Arc<AtomicUsize>,
    /// For who reads a directory by it.
    position: Mutex<()>,
}

impl Counted {
    /// Has the file's position to itself; none while another has it.
    pub(super) fn own_position(&self) -> Option<MutexGuard<'_, ()>> {
        self.position.try_lock().ok()
    }
}

impl AsFd for Counted {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The counts and the clock.
pub(super) struct Limit {
    count: Arc<AtomicUsize>,
    /// Of files without a name: they stay open for as long as somebody has them open.
    held: Arc<AtomicUsize>,
    most: usize,
    clock: Mutex<VecDeque<Weak<Inode>>>,
}

/// Listings that are kept count as so many fds would.
const FEWEST: usize = 32;
const MOST: usize = 64 << 10;

impl Limit {
    /// Three quarters of what this process may open (RLIMIT_NOFILE, raised to
    /// its hard limit by the caller).
    pub(super) fn new() -> Self {
        let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let most = allowed.map_or(MOST, |allowed| (allowed as usize / 4 * 3).clamp(FEWEST, MOST));
        Self { count: Arc::default(), held: Arc::default(), most, clock: Mutex::default() }
    }

    pub(super) fn counted(&self, fd: OwnedFd) -> Counted {
        self.count.fetch_add(1, Ordering::Relaxed);
        Counted { fd, count: Arc::clone(&self.count), position: Mutex::new(()) }
    }

    /// As [`Self::counted`], for a file that has no name, or is about to lose it: by half of
    /// what may be open, or nothing could be done with files any more.
    ///
    /// # Errors
    /// ENFILE.
    pub(super) fn held(&self, fd: OwnedFd) -> Answer<Counted> {
        if self.held.fetch_add(1, Ordering::Relaxed) >= self.most / 2 {
            self.held.fetch_sub(1, Ordering::Relaxed);
            return Err(Errno::NFILE);
        }
        Ok(Counted { fd, count: Arc::clone(&self.held), position: Mutex::new(()) })
    }

    /// Tells that `inode` holds something from now on. May close what others hold;
    /// the caller must hold no lock of theirs.
    pub(super) fn holds(&self, inode: &Arc<Inode>) {
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        clock.push_back(Arc::downgrade(inode));
        // Forgotten files leave their places behind.
        if clock.len() > 2 * self.most + 1024 {
            clock.retain(|held| held.strong_count() > 0);
        }
        let mut turns = clock.len();
        let most = self.most.saturating_sub(self.held.load(Ordering::Relaxed));
        while self.count.load(Ordering::Relaxed) > most && turns > 0 {
            turns -= 1;
            let Some(held) = clock.pop_front() else { break };
            if let Some(other) = held.upgrade() {
                if other.used.swap(false, Ordering::Relaxed) && other.node != inode.node {
                    clock.push_back(held);
                } else {
                    close(&other);
                }
            }
        }
    }

    /// Closes what can be closed: the process may open no more (EMFILE, ENFILE).
    pub(super) fn shrink(&self) {
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        for held in std::mem::take(&mut *clock) {
            if let Some(inode) = held.upgrade() {
                close(&inode);
            }
        }
    }
}

fn close(inode: &Inode) {
    // The root's stay: everything is opened from them.
    if inode.node == super::wire::ROOT {
        return;
    }
    let mut handles = inode.handles();
    let closed = handles.take();
    drop(handles);
    drop(closed);
    inode.used.store(false, Ordering::Relaxed);
}
