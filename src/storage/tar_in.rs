//! A tar stream into a directory of a running container: `cp -`. Unlike
//! [`super::unpack`], which fills a private directory with a layer: here all is
//! looked up anew beneath the container's root for each entry, as the container
//! may change it meanwhile; whiteouts are plain names; devices are passed over.

use super::graft::{END_OF_ARCHIVE, Rules};
use super::live::{self, Attributes, Clash, Made};
use super::tar_header::{malformed, show};
use super::tar_stream::{Entry, Kind, TarStream};
use crate::error::{BestEffort, Context, Error, Kind as Fault, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, SeekFrom};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Times of so many directories are set at the end; of those beyond, none.
const MAX_DIRECTORIES: usize = 100_000;

/// Unpacks the stream below the directory `base` of `root`. Links in the way of
/// an entry are followed as the container would follow them. Returns the bytes
/// of the archive, without padding at its end.
///
/// # Errors
/// `Invalid` for what is no archive; else as [`super::graft::directory`].
pub(crate) fn extract(
    root: BorrowedFd<'_>,
    base: &[u8],
    source: &mut dyn Read,
    rules: &Rules<'_>,
) -> Result<u64> {
    let mut tree = Tree { root, base, rules, latest: None, directories: Vec::new(), bytes: END_OF_ARCHIVE };
    let mut stream = TarStream::unhashed(source);
    let mut first = true;
    loop {
        let entry = stream.next_entry().map_err(|error| {
            let no_archive = "source must be a (compressed) tar archive when copying from stdin";
            if first && error.kind() == Fault::Invalid {
                return Error::invalid(no_archive).hint(error.to_string());
            }
            error
        })?;
        let Some(entry) = entry else { break };
        first = false;
        tree.place(&entry, &mut stream)
            .map_err(|error| error.context(format!("copy {}", show(&entry.path))))?;
    }
    // Or whoever writes it gets a broken pipe; what is behind the end is not ours.
    stream.finish().or_ignore();
    tree.set_times();
    Ok(tree.bytes)
}

struct Tree<'a> {
    root: BorrowedFd<'a>,
    /// Of the directory that is filled, in the container.
    base: &'a [u8],
    rules: &'a Rules<'a>,
    /// The directory of the latest entry: most entries share it with the one before.
    latest: Option<(Vec<u8>, OwnedFd)>,
    /// Directories whose time is changed by what comes after them.
    directories: Vec<Directory>,
    bytes: u64,
}

struct Directory {
    path: Vec<u8>,
    id: (u64, u64),
    mtime: (i64, u32),
}

impl Tree<'_> {
    fn place(&mut self, entry: &Entry, stream: &mut TarStream<'_>) -> Result<()> {
        self.bytes = self.bytes.saturating_add(512);
        // Docker: the directory itself stays as it is.
        if entry.path.is_empty() {
            return if entry.kind == Kind::Directory {
                Ok(())
            } else {
                Err(malformed("the root is no directory"))
            };
        }
        let (above, name) = split(&entry.path);
        let name = CString::new(name).map_err(|_| malformed("a NUL byte in a name"))?;
        let parent = self.parent(above)?;
        let result = self.put(parent.as_fd(), &name, entry, stream);
        self.latest = Some((above.to_vec(), parent));
        result
    }

    fn put(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        entry: &Entry,
        stream: &mut TarStream<'_>,
    ) -> Result<()> {
        let clash = self.rules.clash;
        let attributes = self.attributes(entry);
        match entry.kind {
            Kind::File => {
                let data = entry.size.div_ceil(512).saturating_mul(512);
                self.bytes = self.bytes.saturating_add(data);
                match live::file(parent, name, clash)? {
                    Made::New(file) => {
                        content(file.as_fd(), entry, stream)?;
                        attributes.apply(file.as_fd())
                    }
                    Made::Mounted(file) => content(file.as_fd(), entry, stream),
                }
            }
            Kind::Directory => {
                let (directory, _) = live::directory(parent, name, clash)?;
                attributes.apply(directory.as_fd())?;
                let stat = rustix::fs::fstat(&directory).context(|| "look at the directory")?;
                if self.directories.len() < MAX_DIRECTORIES {
                    let (path, mtime) = (entry.path.clone(), entry.mtime);
                    self.directories.push(Directory { path, id: (stat.st_dev, stat.st_ino), mtime });
                }
                Ok(())
            }
            Kind::HardLink => self.hard_link(parent, name, &entry.link),
            Kind::Symlink => {
                live::fresh(parent, name, clash, || {
                    rustix::fs::symlinkat(entry.link.as_slice(), parent, name)
                })?;
                attributes.apply_unopened(parent, name, FileType::Symlink)
            }
            Kind::Fifo => {
                live::fresh(parent, name, clash, || {
                    rustix::fs::mknodat(parent, name, FileType::Fifo, Mode::RUSR, 0)
                })?;
                attributes.apply_unopened(parent, name, FileType::Fifo)
            }
            // Nobody can make them here; docker skips them in a user namespace too.
            Kind::Device => Ok(()),
        }
    }

    fn attributes<'e>(&self, entry: &'e Entry) -> Attributes<'e> {
        let owner = (self.rules.owner)(entry.uid, entry.gid);
        Attributes { mode: entry.mode, owner, mtime: entry.mtime, xattrs: &entry.xattrs }
    }

    /// A second name for a file of the container that the archive, as a rule,
    /// has brought there before.
    fn hard_link(&mut self, parent: BorrowedFd<'_>, name: &CStr, link: &[u8]) -> Result<()> {
        let step = || format!("follow the hard link to {}", show(link));
        let (above, target) = split(link);
        if target.is_empty() {
            return Err(malformed("a hard link to the root"));
        }
        let above = self.open(above).context(step)?;
        let there = rustix::fs::statat(&above, target, AtFlags::SYMLINK_NOFOLLOW).context(step)?;
        match FileType::from_raw_mode(there.st_mode) {
            FileType::RegularFile | FileType::Symlink | FileType::Fifo => {}
            _ => return Err(malformed(format!("a hard link to {}, which is not a file", show(link)))),
        }
        let same = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino) == (there.st_dev, there.st_ino);
        if rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(same) {
            return Ok(());
        }
        live::fresh(parent, name, self.rules.clash, || {
            rustix::fs::linkat(&above, target, parent, name, AtFlags::empty())
        })
    }

    /// The directory of an entry, made where it is missing.
    fn parent(&mut self, above: &[u8]) -> Result<OwnedFd> {
        match self.latest.take() {
            Some((path, directory)) if path == above => return Ok(directory),
            _ => {}
        }
        match self.open(above) {
            Err(Errno::NOENT) => {}
            result => return result.context(|| "open its directory"),
        }
        let owner = (self.rules.owner)(0, 0);
        let made = Attributes { mode: 0o755, owner, mtime: now(), xattrs: &[] };
        let mut end = 0;
        let mut directory = self.open(b"").context(|| "open the directory to copy to")?;
        while end < above.len() {
            let start = if end == 0 { 0 } else { end + 1 };
            end = above[start..].iter().position(|byte| *byte == b'/').map_or(above.len(), |at| start + at);
            directory = match self.open(&above[..end]) {
                Err(Errno::NOENT) => {
                    let name =
                        CString::new(&above[start..end]).map_err(|_| malformed("a NUL byte in a name"))?;
                    let (new, is_new) = live::directory(directory.as_fd(), &name, Clash::Refuse)?;
                    if is_new {
                        made.apply(new.as_fd())?;
                    }
                    new
                }
                result => result.context(|| "open its directory")?,
            };
        }
        Ok(directory)
    }

    /// A directory below the base, as the container sees it.
    fn open(&self, below: &[u8]) -> Result<OwnedFd, Errno> {
        let path = [self.base, b"/", below].concat();
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        for _ in 0..64 {
            match rustix::fs::openat2(self.root, path.as_slice(), flags, Mode::empty(), resolve) {
                // A rename elsewhere made the kernel give up.
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result,
            }
        }
        Err(Errno::AGAIN)
    }

    /// The times of directories, which their files have changed. Only of those
    /// that are still where the archive has them.
    fn set_times(&mut self) {
        for Directory { path, id, mtime } in std::mem::take(&mut self.directories).into_iter().rev() {
            let Ok(directory) = self.open(&path) else { continue };
            if !rustix::fs::fstat(&directory).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == id) {
                continue;
            }
            live::set_times(directory.as_fd(), mtime).or_ignore();
        }
    }
}

fn now() -> (i64, u32) {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    (now.tv_sec, u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// The directory and the last component.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

/// The data of the current entry into `file`, holes left out.
fn content(file: BorrowedFd<'_>, entry: &Entry, stream: &mut TarStream<'_>) -> Result<()> {
    let Some(chunks) = &entry.chunks else { return piece(file, stream, u64::MAX) };
    for (offset, length) in chunks {
        rustix::fs::seek(file, SeekFrom::Start(*offset)).context(|| "seek in it")?;
        piece(file, stream, *length)?;
    }
    rustix::fs::ftruncate(file, entry.size).context(|| "set its length")
}

fn piece(file: BorrowedFd<'_>, stream: &mut TarStream<'_>, mut most: u64) -> Result<()> {
    while let Some(mut piece) = stream.data(most)? {
        most -= piece.len() as u64;
        while !piece.is_empty() {
            match rustix::io::write(file, piece) {
                Ok(0) => return Err(Error::failed("write it: nothing was written")),
                Ok(count) => piece = &piece[count..],
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).context(|| "write it"),
            }
        }
    }
    Ok(())
}
