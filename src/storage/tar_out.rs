//! A file or a tree of a container, or of the host, as a tar stream: docker's
//! layout, in which all names begin with the name of what was asked for.
//! Memory is bounded: what is read goes out.

use super::descent::{Visit, walk};
use super::graft::{MAX_DEPTH, is_pseudo, look, open_directory, open_file, too_deep};
use super::live::{mtime, xattrs_of};
use super::tar_write::{Content, EntryHeader, TarWriter};
use crate::error::{Context, Error, Result};
use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes read at once.
const PIECE: usize = 1 << 20;
/// Files with several names that are remembered; those beyond are written anew.
const MAX_LINKED: usize = 1 << 20;

/// The owner that the archive names, by the one that is seen here.
pub(crate) type Owner<'a> = &'a dyn Fn(u32, u32) -> (u32, u32);

/// Writes the directory `source` with all that is in it, under `name`: `/` for
/// a root, `.` for the contents alone.
pub(crate) fn directory<W: Write>(
    source: OwnedFd,
    name: &[u8],
    tar: &mut TarWriter<W>,
    owner: Owner<'_>,
) -> Result<()> {
    let stat = rustix::fs::fstat(&source).context(|| "look at the directory")?;
    let mut path = name.to_vec();
    if !path.ends_with(b"/") {
        path.push(b'/');
    }
    let devices = vec![stat.st_dev];
    let mut out = Out { tar, owner, path, devices, linked: HashMap::new(), buffer: Vec::new() };
    out.entry(&stat, Content::Directory, name, &xattrs_of(&source, true)?)?;
    walk(source, &mut out)
}

/// Writes the one file `name` of `parent`, which is no directory, as `as_name`.
///
/// # Errors
/// `Failed` for a socket, which an archive cannot hold.
pub(crate) fn file<W: Write>(
    (parent, name): (BorrowedFd<'_>, &CStr),
    as_name: &[u8],
    tar: &mut TarWriter<W>,
    owner: Owner<'_>,
) -> Result<()> {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).context(|| "look at it")?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Socket {
        return Err(Error::failed("a socket cannot be copied"));
    }
    let (path, devices) = (Vec::new(), Vec::new());
    let mut out = Out { tar, owner, path, devices, linked: HashMap::new(), buffer: Vec::new() };
    out.one((parent, name), &stat, as_name)
}

struct Out<'a, W: Write> {
    tar: &'a mut TarWriter<W>,
    owner: Owner<'a>,
    /// Name of the directory that is being walked, with a `/` at its end.
    path: Vec<u8>,
    /// The devices of the directories from the top to this one.
    devices: Vec<u64>,
    /// Device and inode of files with several names, and the first of these.
    linked: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl<W: Write> Visit for Out<'_, W> {
    fn enter(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>> {
        let Some((source, stat)) = open_directory(parent, name).map_err(|error| self.at(name, error))? else {
            return Ok(None);
        };
        if self.devices.len() > MAX_DEPTH {
            return Err(too_deep());
        }
        let path = [&self.path, name.to_bytes(), b"/"].concat();
        let xattrs = xattrs_of(&source, true).map_err(|error| self.at(name, error))?;
        self.entry(&stat, Content::Directory, &path, &xattrs)?;
        if self.devices.last() != Some(&stat.st_dev) && is_pseudo(source.as_fd()) {
            return Ok(None);
        }
        self.devices.push(stat.st_dev);
        self.path = path;
        Ok(Some(source))
    }

    fn file(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
        let Some(stat) = look(parent, name).map_err(|error| self.at(name, error))? else { return Ok(()) };
        let path = [&self.path, name.to_bytes()].concat();
        match FileType::from_raw_mode(stat.st_mode) {
            // No archive holds sockets; what became a directory is left out.
            FileType::Socket | FileType::Directory => Ok(()),
            _ => self.one((parent, name), &stat, &path).map_err(|error| self.at(name, error)),
        }
    }

    fn leave(&mut self, _: BorrowedFd<'_>, name: &CStr, _: OwnedFd) -> Result<()> {
        let length = self.path.len().saturating_sub(name.to_bytes().len() + 1);
        self.path.truncate(length);
        self.devices.pop();
        Ok(())
    }
}

impl<W: Write> Out<'_, W> {
    fn at(&self, name: &CStr, error: Error) -> Error {
        error.context(format!("copy {}{}", String::from_utf8_lossy(&self.path), name.to_string_lossy()))
    }

    fn entry(
        &mut self,
        stat: &Stat,
        content: Content<'_>,
        path: &[u8],
        xattrs: &[(CString, Vec<u8>)],
    ) -> Result<()> {
        let (uid, gid) = (self.owner)(stat.st_uid, stat.st_gid);
        let mode = stat.st_mode & 0o7777;
        self.tar.entry(&EntryHeader { path, content, mode, uid, gid, mtime: mtime(stat), xattrs })
    }

    fn one(&mut self, (parent, name): (BorrowedFd<'_>, &CStr), stat: &Stat, path: &[u8]) -> Result<()> {
        let id = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&id).cloned() {
                return self.entry(stat, Content::HardLink(&first), path, &[]);
            }
        }
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.regular(parent, name, path)?,
            FileType::Symlink => {
                let text = rustix::fs::readlinkat(parent, name, Vec::new()).context(|| "read the link")?;
                self.entry(stat, Content::Symlink(text.to_bytes()), path, &[])?;
            }
            FileType::Fifo => self.entry(stat, Content::Fifo, path, &[])?,
            FileType::CharacterDevice => {
                self.entry(stat, Content::CharacterDevice { major, minor }, path, &[])?;
            }
            FileType::BlockDevice => self.entry(stat, Content::BlockDevice { major, minor }, path, &[])?,
            _ => return Ok(()),
        }
        if stat.st_nlink > 1 && self.linked.len() < MAX_LINKED {
            self.linked.insert(id, path.to_vec());
        }
        Ok(())
    }

    /// As long as it was when it was opened: a file that grows is cut, one that
    /// shrinks filled with zeros.
    fn regular(&mut self, parent: BorrowedFd<'_>, name: &CStr, path: &[u8]) -> Result<()> {
        let (file, stat) = open_file(parent, name)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let xattrs = xattrs_of(&file, true)?;
        self.entry(&stat, Content::File { size }, path, &xattrs)?;
        let most = usize::try_from(size).unwrap_or(usize::MAX).min(PIECE);
        if self.buffer.len() < most {
            self.buffer.resize(most, 0);
        }
        while self.tar.owed() > 0 {
            let most = usize::try_from(self.tar.owed()).unwrap_or(usize::MAX).min(self.buffer.len());
            match rustix::io::read(&file, &mut self.buffer[..most]) {
                Ok(0) => break,
                Err(Errno::INTR) => {}
                result => {
                    let count = result.context(|| "read its data")?;
                    self.tar.data(&self.buffer[..count])?;
                }
            }
        }
        self.tar.fill()
    }
}
