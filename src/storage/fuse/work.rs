//! The work directory: where copies are made ready, and what is kept there.
//!
//! `work/work` belongs to the kernel's overlay. Ours are `work/links` (see
//! [`super::links`]), `work/fresh` (files on their way to the upper directory,
//! emptied at each start), and in it `whiteout`, of which every whiteout is a
//! hard link as long as the file system takes links.

use super::wire::Answer;
use crate::error::{BestEffort, Context, Result};
use crate::storage::usage::remove_tree;
use crate::storage::whiteout::{announce_marked, are_devices, is_device, make_whiteout, note_marked};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, linkat, renameat_with, statat, unlinkat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub(super) struct Work {
    fresh: OwnedFd,
    links: OwnedFd,
    has_links: AtomicBool,
    plain: bool,
    /// Whiteouts are files with a mark, which their directories have to announce.
    marked: bool,
    next: AtomicU64,
}

const WHITEOUT: &CStr = c"whiteout";

impl Work {
    /// Prepares `work`, and tries on `upper` what the format needs.
    ///
    /// # Errors
    /// `Failed`, with a hint, for a file system without user attributes.
    pub(super) fn new(upper: BorrowedFd<'_>, work: OwnedFd) -> Result<Self> {
        let open = |name: &CStr| {
            match rustix::fs::mkdirat(&work, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            rustix::fs::openat(&work, name, super::merged::DIRECTORY, Mode::empty())
        };
        let step = || "prepare the overlay's work directory";
        // What a server that was killed left behind is nobody's.
        match remove_tree(work.as_fd(), c"fresh") {
            Err(error) if error.errno() != Some(libc::ENOENT) => return Err(error.context(step())),
            _ => {}
        }
        // The kernel's overlay refuses a directory that was mounted `volatile`
        // and not unmounted; here nothing speaks against it.
        remove_tree(work.as_fd(), c"work").or_ignore();
        let fresh = open(c"fresh").context(step)?;
        let links = open(c"links").context(step)?;
        let mut entries = rustix::fs::Dir::read_from(&links).context(step)?;
        let has_links = entries.any(|entry| entry.is_ok_and(|entry| entry.ino() != 0 && !is_dot(&entry)));
        super::xattr::probe(fresh.as_fd())?;
        rustix::fs::fstat(upper).context(step)?;
        let set_gid = rustix::fs::fstat(&fresh).context(step)?.st_mode & libc::S_ISGID != 0;
        let plain = !set_gid && !super::xattr::has_default_acl_on_disk(fresh.as_fd());
        let marked = !are_devices(fresh.as_fd()) && makes_marked(fresh.as_fd());
        if marked {
            note_marked(upper);
        }
        Ok(Self {
            fresh,
            links,
            has_links: AtomicBool::new(has_links),
            plain,
            marked,
            next: AtomicU64::new(0),
        })
    }

    /// Where a file is made before it is moved to its place.
    pub(super) fn fresh(&self) -> BorrowedFd<'_> {
        self.fresh.as_fd()
    }

    /// Whether what is made in [`Self::fresh`] inherits neither group nor ACL from it.
    pub(super) fn is_plain(&self) -> bool {
        self.plain
    }

    /// A name in [`Self::fresh`] that nobody has.
    pub(super) fn name(&self) -> CString {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        CString::new(format!("{number:x}")).unwrap_or_default()
    }

    pub(super) fn links(&self) -> BorrowedFd<'_> {
        self.links.as_fd()
    }

    pub(super) fn has_links(&self) -> bool {
        self.has_links.load(Ordering::Relaxed)
    }

    /// Gives a finished copy a name by which the other names of its original
    /// find it.
    pub(super) fn keep(&self, fresh: &CStr, key: &CStr) -> Answer<()> {
        self.has_links.store(true, Ordering::Relaxed);
        linkat(&self.fresh, fresh, &self.links, key, AtFlags::empty())
    }

    /// Keeps a number by this name: as the size of an empty file.
    pub(super) fn keep_count(&self, key: &CStr, count: u64) -> Answer<()> {
        self.has_links.store(true, Ordering::Relaxed);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.links, key, flags, Mode::RUSR | Mode::WUSR)?;
        rustix::fs::ftruncate(file, count)
    }

    /// Puts another link of a finished copy in the place of what is there.
    pub(super) fn replace_by_link(&self, fresh: &CStr, dir: BorrowedFd<'_>, name: &CStr) -> Answer<()> {
        let link = self.name();
        linkat(&self.fresh, fresh, &self.fresh, &*link, AtFlags::empty())?;
        renameat_with(&self.fresh, &*link, dir, name, RenameFlags::empty())
            .inspect_err(|_| self.discard(&link))
    }

    /// Before a whiteout comes into `dir`.
    pub(super) fn announce(&self, dir: BorrowedFd<'_>) -> Answer<()> {
        if !self.marked {
            return Ok(());
        }
        super::caller::resume()?;
        announce_marked(dir)
    }

    /// Makes `name` in `dir`, where nothing is, a whiteout.
    pub(super) fn hide(&self, dir: BorrowedFd<'_>, name: &CStr) -> Answer<()> {
        self.announce(dir)?;
        match linkat(&self.fresh, WHITEOUT, dir, name, AtFlags::empty()) {
            // There is none yet, it has all the links that it can have, or the
            // file system takes none.
            Err(Errno::NOENT | Errno::MLINK) => {}
            Err(Errno::XDEV | Errno::PERM | Errno::OPNOTSUPP) => {
                super::caller::resume()?;
                return make_whiteout(dir, name);
            }
            result => return result,
        }
        super::caller::resume()?;
        let fresh = self.name();
        make_whiteout(self.fresh(), &fresh)?;
        renameat_with(&self.fresh, &*fresh, &self.fresh, WHITEOUT, RenameFlags::empty())?;
        match linkat(&self.fresh, WHITEOUT, dir, name, AtFlags::empty()) {
            // Another thread made one at the same moment, and used it up.
            Err(Errno::NOENT | Errno::MLINK) => make_whiteout(dir, name),
            result => result,
        }
    }

    /// Puts a whiteout in the place of the file `name`, in one step.
    pub(super) fn replace_by_whiteout(&self, dir: BorrowedFd<'_>, name: &CStr) -> Answer<()> {
        let fresh = self.name();
        self.hide(self.fresh(), &fresh)?;
        self.announce(dir)?;
        renameat_with(&self.fresh, &*fresh, dir, name, RenameFlags::empty())
            .inspect_err(|_| self.discard(&fresh))
    }

    /// Removes what is left of a file that was not moved to its place.
    pub(super) fn discard(&self, fresh: &CStr) {
        // What cannot be removed is swept at the next start.
        if unlinkat(&self.fresh, fresh, AtFlags::empty()) == Err(Errno::ISDIR) {
            remove_tree(self.fresh(), fresh).or_ignore();
        }
    }
}

/// Makes the first whiteout, to see what it is. Where it can be neither, whoever removes
/// a file is told.
fn makes_marked(fresh: BorrowedFd<'_>) -> bool {
    make_whiteout(fresh, WHITEOUT).is_ok()
        && statat(fresh, WHITEOUT, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| !is_device(&stat))
}

fn is_dot(entry: &rustix::fs::DirEntry) -> bool {
    matches!(entry.file_name().to_bytes(), b"." | b"..")
}
