//! A directory as a tar stream: a container's own layer with OCI whiteouts, or
//! a whole root file system. The same files give the same bytes. Entries go
//! through; in memory is one directory's names and the names of hard links.

use super::changes::{Below, is_opaque, is_own};
use super::descent::OPEN_DIR;
use super::sorted::{SortedWalk, Step};
use super::tar_write::{Content, EntryHeader, TarWriter};
use super::whiteout::is_whiteout;
use crate::error::{Context, Error, Result};
use crate::sys::xattr;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, openat, statat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Inodes with several names that are remembered; of more, each name becomes a
/// file of its own.
const MOST_LINKED: usize = 1 << 20;
/// Bytes read from a file at once.
const PIECE: usize = 128 << 10;

/// The id in the image of an owner and group on the disk.
pub(crate) type OwnerMap<'a> = &'a dyn Fn(u32, u32) -> (u32, u32);

/// What is packed.
#[derive(Clone, Copy)]
pub(crate) enum Form<'a> {
    /// An upper directory over this lower tree: changes alone, without the
    /// places of coracle's own mounts.
    Layer { lower: BorrowedFd<'a> },
    /// Everything, without the places of coracle's own mounts that the image
    /// (this lower tree) lacks: a layer that stands alone.
    Whole { lower: BorrowedFd<'a> },
    /// Everything there is, for any reader of tar.
    Plain,
}

/// Writes the tree below `root` to `out`, with the end of an archive. Sockets
/// are left out, as tar has none.
///
/// # Errors
/// `Conflict` where a layer would have a file whose name reads as a whiteout.
pub(crate) fn pack<W: Write>(root: BorrowedFd<'_>, form: Form<'_>, owner: OwnerMap<'_>, out: W) -> Result<W> {
    let lower = match form {
        Form::Layer { lower } | Form::Whole { lower } => Some(Below::new(lower)?),
        Form::Plain => None,
    };
    let marks = matches!(form, Form::Layer { .. });
    let mut pack = Pack {
        tar: TarWriter::new(out),
        owner,
        lower,
        marks,
        waiting: Vec::new(),
        linked: HashMap::new(),
        buffer: vec![0; PIECE],
    };
    let root = openat(root, c".", OPEN_DIR, Mode::empty()).context(|| "open the directory to pack")?;
    let mut walk = SortedWalk::new(root)?;
    while let Some(step) = walk.next()? {
        match step {
            Step::Entry(name) => {
                if let Some(dir) = pack.entry(&walk, &name).map_err(|error| named(error, &walk, &name))? {
                    walk.descend(&name, dir)?;
                }
            }
            Step::Leave => {
                pack.waiting.pop();
                if let Some(lower) = &mut pack.lower {
                    lower.pop()?;
                }
            }
        }
    }
    pack.tar.finish()
}

fn named(error: Error, walk: &SortedWalk, name: &CStr) -> Error {
    error.context(format!("pack /{}", String::from_utf8_lossy(&walk.path_of(name))))
}

struct Pack<'a, W: Write> {
    tar: TarWriter<W>,
    owner: OwnerMap<'a>,
    lower: Option<Below>,
    /// Whiteouts and opaque directories are written.
    marks: bool,
    /// Directories that are written once something in them is.
    waiting: Vec<Option<Waiting>>,
    /// Device and inode of files with several names, and the first of these.
    linked: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

/// A directory that may turn out to be only the place of a mount.
struct Waiting {
    path: Vec<u8>,
    stat: Stat,
    xattrs: Vec<(CString, Vec<u8>)>,
}

impl<W: Write> Pack<'_, W> {
    /// Writes one entry; gives the directory to go down into.
    fn entry(&mut self, walk: &SortedWalk, name: &CStr) -> Result<Option<OwnedFd>> {
        let path = walk.path_of(name);
        let stat = match statat(walk.directory(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error).context(|| "look at it"),
        };
        let below = match &self.lower {
            Some(lower) => lower.stat(name).context(|| "look below it")?.is_some(),
            None => false,
        };
        if is_whiteout(walk.directory(), name.to_bytes(), &stat) {
            if below && self.marks {
                self.marker(&path, name)?;
            }
            return Ok(None);
        }
        if self.lower.is_some() && name.to_bytes().starts_with(b".wh.") {
            return Err(Error::conflict(
                "in an image, a name that begins with .wh. would delete another file",
            )
            .hint("rename or remove it in the container first"));
        }
        let own = self.lower.is_some() && is_own(walk.directory(), name, &path, &stat, below);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.directory(walk, name, own, &stat),
            FileType::RegularFile | FileType::Symlink if own => Ok(None),
            FileType::RegularFile => self.file(walk, name, &path).map(|()| None),
            FileType::Socket => Ok(None),
            _ => self.special(walk, name, &path, &stat).map(|()| None),
        }
    }

    fn directory(
        &mut self,
        walk: &SortedWalk,
        name: &CStr,
        own: bool,
        stat: &Stat,
    ) -> Result<Option<OwnedFd>> {
        let dir = match openat(walk.directory(), name, OPEN_DIR, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(error).context(|| "open it"),
        };
        let path = walk.path_of(name);
        let waiting = Waiting { path: path.clone(), stat: *stat, xattrs: attributes(&dir)? };
        self.waiting.push(Some(waiting));
        if !own {
            self.flush()?;
        }
        if let Some(lower) = &mut self.lower {
            lower.push(name)?;
            if self.marks && is_opaque(&dir).context(|| "read its attributes")? {
                self.flush()?;
                self.plain_file(&[&path[..], b"/.wh..wh..opq"].concat())?;
            }
        }
        Ok(Some(dir))
    }

    /// Writes the directories on the way to here that wait.
    fn flush(&mut self) -> Result<()> {
        for at in 0..self.waiting.len() {
            if let Some(Waiting { path, stat, xattrs }) = self.waiting[at].take() {
                self.put(&path, Content::Directory, &stat, &xattrs)?;
            }
        }
        Ok(())
    }

    /// A whiteout of what is called `name`.
    fn marker(&mut self, path: &[u8], name: &CStr) -> Result<()> {
        let parent = &path[..path.len() - name.to_bytes().len()];
        self.flush()?;
        self.plain_file(&[parent, b".wh.", name.to_bytes()].concat())
    }

    fn plain_file(&mut self, path: &[u8]) -> Result<()> {
        let content = Content::File { size: 0 };
        self.tar.entry(&EntryHeader { path, content, mode: 0, uid: 0, gid: 0, mtime: (0, 0), xattrs: &[] })
    }

    fn file(&mut self, walk: &SortedWalk, name: &CStr, path: &[u8]) -> Result<()> {
        // Without blocking, should it have become a fifo by now.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match openat(walk.directory(), name, flags, Mode::empty()) {
            Ok(file) => file,
            // Gone, or a link or a socket by now: as if it had never been there.
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error).context(|| "open it"),
        };
        let stat = rustix::fs::fstat(&file).context(|| "look at it")?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        self.flush()?;
        if self.link(path, &stat)? {
            return Ok(());
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let xattrs = attributes(&file)?;
        self.put(path, Content::File { size }, &stat, &xattrs)?;
        while self.tar.owed() > 0 {
            let most = usize::try_from(self.tar.owed()).unwrap_or(usize::MAX).min(self.buffer.len());
            match rustix::io::read(&file, &mut self.buffer[..most]) {
                // It became shorter while it was read.
                Ok(0) => self.tar.fill()?,
                Ok(count) => self.tar.data(&self.buffer[..count])?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).context(|| "read it"),
            }
        }
        Ok(())
    }

    fn special(&mut self, walk: &SortedWalk, name: &CStr, path: &[u8], stat: &Stat) -> Result<()> {
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        let text;
        let content = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                text = match rustix::fs::readlinkat(walk.directory(), name, Vec::new()) {
                    Ok(text) => text,
                    Err(Errno::NOENT | Errno::INVAL) => return Ok(()),
                    Err(error) => return Err(error).context(|| "read it"),
                };
                Content::Symlink(text.to_bytes())
            }
            FileType::Fifo => Content::Fifo,
            FileType::CharacterDevice => Content::CharacterDevice { major, minor },
            FileType::BlockDevice => Content::BlockDevice { major, minor },
            _ => return Ok(()),
        };
        self.flush()?;
        if self.link(path, stat)? {
            return Ok(());
        }
        self.put(path, content, stat, &[])
    }

    /// Writes a hard link where another name of the file was written before.
    fn link(&mut self, path: &[u8], stat: &Stat) -> Result<bool> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        let inode = (stat.st_dev, stat.st_ino);
        let Some(first) = self.linked.get(&inode).cloned() else {
            if self.linked.len() < MOST_LINKED {
                self.linked.insert(inode, path.to_vec());
            }
            return Ok(false);
        };
        self.put(path, Content::HardLink(&first), stat, &[]).map(|()| true)
    }

    fn put(
        &mut self,
        path: &[u8],
        content: Content<'_>,
        stat: &Stat,
        xattrs: &[(CString, Vec<u8>)],
    ) -> Result<()> {
        let (uid, gid) = (self.owner)(stat.st_uid, stat.st_gid);
        let mtime = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
        self.tar.entry(&EntryHeader { path, content, mode: stat.st_mode & 0o7777, uid, gid, mtime, xattrs })
    }
}

/// User attributes and file capabilities, without overlayfs's own.
fn attributes(file: &OwnedFd) -> Result<Vec<(CString, Vec<u8>)>> {
    let step = || "read its attributes";
    let mut names = match xattr::list(file.as_fd()) {
        Ok(names) => names,
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(Vec::new()),
        Err(error) => return Err(error).context(step),
    };
    names.sort_unstable();
    let mut found = Vec::new();
    for name in names {
        let bytes = name.to_bytes();
        let capability = bytes == b"security.capability";
        if !capability && (!bytes.starts_with(b"user.") || bytes.starts_with(b"user.overlay.")) {
            continue;
        }
        if let Some(value) = xattr::get(file.as_fd(), &name).context(step)? {
            let value = if capability { plain_capability(value) } else { value };
            found.push((name, value));
        }
    }
    Ok(found)
}

/// Revision 3 says in addition to whose root it is given (capabilities(7),
/// "Namespaced file capabilities"), which is an id of this host: an image has
/// revision 2.
fn plain_capability(mut value: Vec<u8>) -> Vec<u8> {
    if value.len() == 24 && value[3] == 3 {
        value[3] = 2;
        value.truncate(20);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::tar_stream::{Kind, TarStream};
    use crate::storage::whiteout::{make_opaque, make_whiteout};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn open(path: &Path) -> OwnedFd {
        rustix::fs::open(path, OPEN_DIR, Mode::empty()).expect("open")
    }

    fn entries(bytes: &[u8]) -> Vec<(Kind, String, String)> {
        let mut source = bytes;
        let mut stream = TarStream::new(&mut source);
        let mut all = Vec::new();
        while let Some(entry) = stream.next_entry().expect("entry") {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            all.push((entry.kind, text(&entry.path), text(&entry.link)));
        }
        stream.finish().expect("end");
        all
    }

    fn trees() -> tempfile::TempDir {
        let temp = tempfile::tempdir().expect("tempdir");
        for dir in ["lower/d", "lower/etc", "upper/d/e", "upper/etc", "upper/run", "upper/proc"] {
            fs::create_dir_all(temp.path().join(dir)).expect("mkdir");
        }
        for file in ["lower/d/old", "lower/gone", "upper/d/f", "upper/etc/hosts", "upper/run/.containerenv"] {
            fs::write(temp.path().join(file), "").expect("write");
        }
        let upper = temp.path().join("upper");
        fs::write(upper.join("new\nline"), "content").expect("write");
        fs::hard_link(upper.join("new\nline"), upper.join("second")).expect("link");
        fs::set_permissions(upper.join("d/f"), fs::Permissions::from_mode(0o4750)).expect("chmod");
        std::os::unix::fs::symlink("../../../etc/shadow", upper.join("s")).expect("symlink");
        std::os::unix::net::UnixListener::bind(upper.join("socket")).expect("socket");
        make_opaque(open(&upper.join("d")).as_fd()).expect("opaque");
        make_whiteout(open(&upper).as_fd(), c"gone").expect("whiteout");
        make_whiteout(open(&upper).as_fd(), c"nothing").expect("whiteout");
        temp
    }

    #[test]
    fn a_layer_has_changes_and_whiteouts_and_nothing_of_ours() {
        let temp = trees();
        let (upper, lower) = (open(&temp.path().join("upper")), open(&temp.path().join("lower")));
        let own = |_, _| (7, 8);
        let layer =
            || pack(upper.as_fd(), Form::Layer { lower: lower.as_fd() }, &own, Vec::new()).expect("packed");
        let bytes = layer();
        assert_eq!(bytes, layer(), "the same bytes");
        let entry = |kind, path: &str, link: &str| (kind, path.to_owned(), link.to_owned());
        assert_eq!(
            entries(&bytes),
            [
                entry(Kind::Directory, "d", ""),
                entry(Kind::File, "d/.wh..wh..opq", ""),
                entry(Kind::Directory, "d/e", ""),
                entry(Kind::File, "d/f", ""),
                entry(Kind::Directory, "etc", ""),
                entry(Kind::File, ".wh.gone", ""),
                entry(Kind::File, "new\nline", ""),
                entry(Kind::Symlink, "s", "../../../etc/shadow"),
                entry(Kind::HardLink, "second", "new\nline"),
            ]
        );
        let mut source = &bytes[..];
        let mut stream = TarStream::new(&mut source);
        let first = stream.next_entry().expect("entry").expect("d");
        assert_eq!((first.uid, first.gid), (7, 8));
    }

    /// A container must not delete files of the image through a name.
    #[test]
    fn names_that_read_as_whiteouts_are_refused_in_a_layer_alone() {
        let temp = tempfile::tempdir().expect("tempdir");
        fs::create_dir(temp.path().join("d")).expect("mkdir");
        let dir = open(temp.path());
        for name in [".wh.passwd", ".wh..wh..opq", "d/.wh."] {
            fs::write(temp.path().join(name), "").expect("write");
            let same = |uid, gid| (uid, gid);
            for form in [Form::Layer { lower: dir.as_fd() }, Form::Whole { lower: dir.as_fd() }] {
                let error = pack(dir.as_fd(), form, &same, Vec::new()).expect_err("refused");
                assert!(error.to_string().contains(".wh."), "{error}");
            }
            pack(dir.as_fd(), Form::Plain, &same, Vec::new()).expect("a plain archive may have it");
            fs::remove_file(temp.path().join(name)).expect("remove");
        }
    }

    #[test]
    fn capabilities_lose_the_host_s_id() {
        let three = [&[1, 0, 0, 3][..], &[9; 16], &[64, 13, 3, 0]].concat();
        assert_eq!(plain_capability(three), [&[1, 0, 0, 2][..], &[9; 16]].concat());
        let two = [&[1, 0, 0, 2][..], &[9; 16]].concat();
        assert_eq!(plain_capability(two.clone()), two);
    }
}
