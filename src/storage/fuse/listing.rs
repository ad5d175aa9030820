//! Directory listings: the union of what the layers have.
//!
//! An entry's position is a hash of its name, and a listing is in the order of
//! positions. So a position means the same however often the listing is built
//! anew and whatever is made or removed in between: telldir(3) and removal while
//! listing work, and nothing has to be remembered for a reader.

use super::handles::Counted;
use super::inode::{Inode, Layer, UPPER};
use super::merged::{DIRECTORY, Merged};
use super::wire::{Answer, Entry, Sink};
use super::xattr;
use crate::storage::whiteout::is_whiteout;
use rustix::fs::{AtFlags, FileType, Mode, RawDir, SeekFrom, statat};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

/// A directory's entries without `.` and `..`.
pub(super) struct Listing {
    items: Vec<Item>,
    /// All names, each with its NUL byte.
    names: Vec<u8>,
}

struct Item {
    position: u64,
    ino: u64,
    start: u32,
    length: u16,
    layer: Layer,
    kind: u8,
    /// Removed since.
    gone: AtomicBool,
}

/// Positions of `.` and `..`, and the last before those of names.
const DOT: u64 = 1;
const DOT_DOT: u64 = 2;
/// Positions have to be positive as `off_t`, with room above.
const POSITIONS: u64 = (1 << 62) - 1;
/// Bytes of entries that are read at a time.
const ENTRIES: usize = 16 << 10;
/// Milliseconds: see [`Merged::is_curious`].
const CURIOSITY: u64 = 100;

impl Listing {
    fn name(&self, item: &Item) -> &CStr {
        let start = item.start as usize;
        let bytes = self.names.get(start..=start + usize::from(item.length)).unwrap_or(b"\0");
        CStr::from_bytes_with_nul(bytes).unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The entry is not there any more.
    pub(super) fn remove(&self, name: &CStr) {
        let position = position(name.to_bytes());
        let first = self.items.partition_point(|item| item.position < position);
        for item in self.items[first..].iter().take_while(|item| item.position < position + 16) {
            if self.name(item) == name {
                item.gone.store(true, Ordering::Relaxed);
            }
        }
    }

    /// In the order of positions, no two of which are the same.
    fn sort(&mut self) {
        self.items.sort_by_key(|item| item.position);
        let mut last = DOT_DOT;
        for item in &mut self.items {
            item.position = item.position.max(last + 1);
            last = item.position;
        }
    }
}

/// Milliseconds since some time in the past, to the timer's tick.
fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// FNV-1a, spread over the bits that are used.
fn position(name: &[u8]) -> u64 {
    let hash = name.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 29)) & POSITIONS).max(DOT_DOT + 1)
}

impl Merged {
    /// Gives the entries behind `offset` to `sink`.
    pub(super) fn list_entries(&self, node: u64, offset: u64, sink: &mut dyn Sink) -> Answer<()> {
        let inode = self.directory(node)?;
        if self.live && offset == 0 {
            inode.handles().listing = None;
        }
        for (name, at) in [(&b"."[..], DOT), (b"..", DOT_DOT)] {
            if offset < at {
                if !sink.fits(name) {
                    return Ok(());
                }
                let ino = if at == DOT { inode.ino } else { parent_of(&inode).ino };
                sink.add(name, ino, kind_number(FileType::Directory), at, None);
            }
        }
        let listing = self.listing(&inode)?;
        let first = listing.items.partition_point(|item| item.position <= offset);
        let mut given = false;
        let wanted = sink.wants_attributes();
        let curious = wanted && self.is_curious();
        let directory = kind_number(FileType::Directory);
        for item in &listing.items[first..] {
            if item.gone.load(Ordering::Relaxed) {
                continue;
            }
            let name = listing.name(item);
            if !sink.fits(name.to_bytes()) {
                return Ok(());
            }
            let mut entry = None;
            if curious || wanted && item.kind == directory {
                match self.entry_from(&inode, name, item.layer) {
                    Ok(found) => entry = Some(found),
                    Err(Errno::NOENT) => continue,
                    // It is there, and that is all that is known.
                    Err(_) => {}
                }
            }
            let ino = entry.as_ref().map_or(item.ino, |entry| entry.attr.ino);
            sink.add(name.to_bytes(), ino, item.kind, item.position, entry.as_ref());
            given = true;
        }
        if !given && offset >= DOT_DOT {
            // Read to its end; the kernel keeps what it was given.
            inode.handles().listing = None;
        }
        Ok(())
    }

    /// Whether who lists directories also looks at the files in them. If not,
    /// looking at all of them here would be most of the work of listing; if so,
    /// it saves a request for each. They are taken to go on as they did in the
    /// last tenth of a second. (Directories are looked at in any case: find(1)
    /// does.)
    fn is_curious(&self) -> bool {
        // Numbers in listings are told from others by the device only there.
        let several = self.devices.read().unwrap_or_else(PoisonError::into_inner).len() > 1;
        several || now().saturating_sub(self.looked_at.load(Ordering::Relaxed)) < CURIOSITY
    }

    /// A file was asked for by its name.
    pub(super) fn look_at_file(&self) {
        self.looked_at.store(now(), Ordering::Relaxed);
    }

    fn entry_from(&self, parent: &Arc<Inode>, name: &CStr, layer: Layer) -> Answer<Entry> {
        let found = self.find_from(parent, name, layer)?.ok_or(Errno::NOENT)?;
        self.entry(parent, name, found)
    }

    fn listing(&self, inode: &Arc<Inode>) -> Answer<Arc<Listing>> {
        if let Some(listing) = &inode.handles().listing {
            return Ok(Arc::clone(listing));
        }
        let listing = Arc::new(self.build(inode)?);
        inode.handles().listing = Some(Arc::clone(&listing));
        self.limit.holds(inode);
        Ok(listing)
    }

    /// Whether nothing is to be seen in the directory.
    pub(super) fn is_empty_directory(&self, inode: &Arc<Inode>) -> Answer<bool> {
        Ok(self.build(inode)?.is_empty())
    }

    fn build(&self, inode: &Arc<Inode>) -> Answer<Listing> {
        let parts = self.parts(inode)?;
        let several = parts.all().count() > 1;
        let mut seen: HashSet<Vec<u8>> = HashSet::new();
        let mut listing = Listing { items: Vec::new(), names: Vec::new() };
        for (layer, dir) in parts.each() {
            let copies = layer == UPPER && (several || xattr::is_impure(dir.as_fd()));
            let marked = self.may_be_marked && xattr::has_marked(dir.as_fd());
            self.each_entry(dir, |name, kind, ino| {
                if several && !seen.insert(name.to_bytes().to_vec()) {
                    return Ok(());
                }
                if let Some((kind, ino)) = kind_and_number(dir.as_fd(), name, (kind, ino), marked)? {
                    let ino =
                        if copies { self.shown_number(inode, dir.as_fd(), name, kind, ino) } else { ino };
                    listing.add(name, layer, kind, ino);
                }
                Ok(())
            })?;
        }
        listing.sort();
        Ok(listing)
    }

    /// Calls with what one layer has in a directory, but for `.` and `..`.
    fn each_entry(
        &self,
        dir: &Counted,
        mut call: impl FnMut(&CStr, FileType, u64) -> Answer<()>,
    ) -> Answer<()> {
        // As it is open: to open it once more would cost as much as to read it. Two
        // who read at the same time need a position each.
        let alone = dir.own_position();
        let own = if alone.is_some() && rustix::fs::seek(dir, SeekFrom::Start(0)).is_ok() {
            None
        } else {
            match self.retry(|| rustix::fs::openat(dir, c".", DIRECTORY, Mode::empty())) {
                // Somebody else's, which may be passed through only (O_PATH).
                Err(Errno::ACCESS) if self.owners.squash.is_some() => return Ok(()),
                own => Some(own?),
            }
        };
        let mut buffer = [MaybeUninit::uninit(); ENTRIES];
        let mut entries = RawDir::new(own.as_ref().map_or(dir.as_fd(), AsFd::as_fd), &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                // It was removed.
                Err(Errno::NOENT) => break,
                entry => entry?,
            };
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                call(entry.file_name(), entry.file_type(), entry.ino())?;
            }
        }
        Ok(())
    }

    /// The number that stat(2) shows for a file of the upper directory.
    fn shown_number(
        &self,
        parent: &Arc<Inode>,
        dir: BorrowedFd<'_>,
        name: &CStr,
        kind: FileType,
        ino: u64,
    ) -> u64 {
        if let Some(known) = self.table.find(ino) {
            return known.ino;
        }
        if let Some(origin) = xattr::origin_at(dir.as_fd(), name) {
            return origin;
        }
        if kind == FileType::Directory {
            if let Ok(Some(found)) = self.find(parent, name) {
                return found.number(self);
            }
        }
        ino
    }
}

impl Listing {
    fn add(&mut self, name: &CStr, layer: Layer, kind: FileType, ino: u64) {
        let start = self.names.len() as u32;
        self.names.extend_from_slice(name.to_bytes_with_nul());
        self.items.push(Item {
            position: position(name.to_bytes()),
            ino,
            start,
            length: name.count_bytes() as u16,
            layer,
            kind: kind_number(kind),
            gone: AtomicBool::new(false),
        });
    }
}

fn parent_of(inode: &Arc<Inode>) -> Arc<Inode> {
    let state = inode.state();
    state.names.first().map_or_else(|| Arc::clone(inode), |name| Arc::clone(&name.parent))
}

/// `None` for what is hidden or gone. `marked`: files may be whiteouts.
fn kind_and_number(
    dir: BorrowedFd<'_>,
    name: &CStr,
    (kind, ino): (FileType, u64),
    marked: bool,
) -> Answer<Option<(FileType, u64)>> {
    let suspect = match kind {
        FileType::CharacterDevice | FileType::Unknown => true,
        FileType::RegularFile => marked,
        _ => false,
    };
    if !suspect {
        return Ok(Some((kind, ino)));
    }
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if is_whiteout(dir, name.to_bytes(), &stat) => Ok(None),
        Ok(stat) => Ok(Some((FileType::from_raw_mode(stat.st_mode), ino))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// `DT_*` of readdir(3): the type bits of the mode.
fn kind_number(kind: FileType) -> u8 {
    (kind.as_raw_mode() >> 12) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_stay_when_others_come_and_go() {
        let build = |names: &[&str]| {
            let mut listing = Listing { items: Vec::new(), names: Vec::new() };
            for name in names {
                let name = std::ffi::CString::new(*name).expect("name");
                listing.add(&name, UPPER, FileType::RegularFile, 1);
            }
            listing.sort();
            let items = listing.items.iter();
            items.map(|item| (listing.name(item).to_owned(), item.position)).collect::<Vec<_>>()
        };
        let all: Vec<String> = (0..1000).map(|number| format!("file{number}")).collect();
        let many = build(&all.iter().map(String::as_str).collect::<Vec<_>>());
        let few = build(&["file7", "file500", "file999"]);
        for (name, at) in &few {
            assert!(many.iter().any(|(other, place)| (other, place) == (name, at)), "{name:?}");
        }
        assert!(many.windows(2).all(|pair| pair[0].1 < pair[1].1));
        assert!(many.iter().all(|(_, at)| *at > DOT_DOT && *at < 1 << 62));
    }

    #[test]
    fn a_removed_name_is_found() {
        let mut listing = Listing { items: Vec::new(), names: Vec::new() };
        for name in [c"a", c"b", c"c"] {
            listing.add(name, UPPER, FileType::RegularFile, 1);
        }
        listing.sort();
        listing.remove(c"b");
        let left = listing.items.iter().filter(|item| !item.gone.load(Ordering::Relaxed));
        let mut left: Vec<&CStr> = left.map(|item| listing.name(item)).collect();
        left.sort_unstable();
        assert_eq!(left, [c"a", c"c"]);
    }
}
