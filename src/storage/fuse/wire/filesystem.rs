//! What a file system has to be able to do, free of the protocol's shapes.

use super::request::Caller;
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::sync::Arc;

/// What an operation gives, or the errno that the caller gets.
pub(crate) type Answer<T> = Result<T, Errno>;

/// Seconds and nanoseconds since 1970.
pub(crate) type Time = (i64, u32);

/// When a file was made, where that is known.
pub(crate) type Btime = Option<Time>;

/// What stat(2) says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attr {
    pub(crate) ino: u64,
    pub(crate) size: u64,
    /// Of 512 bytes.
    pub(crate) blocks: u64,
    pub(crate) atime: Time,
    pub(crate) mtime: Time,
    pub(crate) ctime: Time,
    /// Type and permissions.
    pub(crate) mode: u32,
    pub(crate) nlink: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// As the kernel packs a device number into 32 bits (`new_encode_dev`).
    pub(crate) rdev: u32,
    pub(crate) blksize: u32,
}

/// A name's file. The kernel holds one reference more on the node for each that
/// it is given, and says with `forget` how many it lets go of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// 0 for a name that is not there.
    pub(crate) node: u64,
    pub(crate) attr: Attr,
}

/// What chmod(2), chown(2), truncate(2) and utimensat(2) change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) size: Option<u64>,
    pub(crate) atime: Option<SetTime>,
    pub(crate) mtime: Option<SetTime>,
    /// Whoever truncates has no right to keep set-uid bits and capabilities.
    pub(crate) kill_privileges: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetTime {
    Now,
    At(Time),
}

/// What is made by a name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum New<'a> {
    /// A file, fifo, socket or device: type and permissions, `rdev`.
    Node {
        mode: u32,
        rdev: u32,
        umask: u32,
    },
    Directory {
        mode: u32,
        umask: u32,
    },
    Symlink {
        target: &'a CStr,
    },
}

/// How a name is renamed: renameat2(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rename {
    Replace,
    NoReplace,
    Exchange,
}

/// How an attribute is set: setxattr(2).
#[derive(Clone, Copy, Debug)]
pub(crate) struct SetXattr {
    /// XATTR_CREATE, XATTR_REPLACE.
    pub(crate) flags: u32,
    /// An ACL set by somebody who may not keep the set-gid bit.
    pub(crate) kill_sgid: bool,
}

/// What statfs(2) says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Space {
    pub(crate) blocks: u64,
    pub(crate) free: u64,
    pub(crate) available: u64,
    pub(crate) files: u64,
    pub(crate) files_free: u64,
    pub(crate) block_size: u32,
    pub(crate) fragment_size: u32,
    pub(crate) name_length: u32,
}

impl Space {
    /// Bytes that who is not privileged may still write.
    pub(crate) fn bytes_left(&self) -> u64 {
        self.available.saturating_mul(self.fragment_size.max(1).into())
    }
}

/// Who writes: it decides what a write takes away from the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writer {
    /// The kernel, which passes on what it has gathered or what was mapped. What
    /// there was to be taken away it took when that was written.
    Cache,
    /// Who may keep set-uid and set-gid bits.
    Privileged,
    /// Anybody else.
    Other(Caller),
}

/// Takes the entries of a directory until it is full.
pub(crate) trait Sink {
    /// Whether entries come with their attributes (READDIRPLUS).
    fn wants_attributes(&self) -> bool;

    /// Whether a name of this length still fits.
    fn fits(&self, name: &[u8]) -> bool;

    /// Takes an entry that fits. `next` is where a later listing goes on.
    fn add(&mut self, name: &[u8], ino: u64, kind: u8, next: u64, entry: Option<&Entry>);
}

/// The operations. Nodes are numbers that the file system gave in an [`Entry`];
/// the root is [`ROOT`]. Files are not opened: a node is read and written as it is.
pub(crate) trait FileSystem: Send + Sync {
    /// Whether nobody else changes what is told: the kernel may keep it.
    fn lasts(&self) -> bool;
    /// Whether the kernel may gather writes, or each is to be told at once.
    fn gathers_writes(&self) -> bool;
    /// Before all others. `all_times`: the kernel tells each time that it has kept of a
    /// file, and not only those that are told in a process's name.
    fn agreed(&self, all_times: bool);
    /// Whether there was no room of late for what the kernel had gathered: attributes of
    /// files do not hold then, so that it asks before each write.
    fn is_narrow(&self) -> bool;
    /// Asked before a write that the kernel is to gather, while it is so.
    fn may_write(&self, node: u64, thread: u32) -> Answer<()>;
    /// The names of a file that the kernel may know, each with its directory's node.
    fn names(&self, node: u64) -> Vec<(u64, CString)>;
    fn lookup(&self, parent: u64, name: &CStr) -> Answer<Entry>;
    fn forget(&self, node: u64, count: u64);
    fn attributes(&self, node: u64) -> Answer<Attr>;
    fn birth(&self, node: u64) -> Answer<(Attr, Btime)>;
    fn change(&self, caller: Caller, node: u64, changes: &Changes) -> Answer<Attr>;
    fn read_link(&self, node: u64, text: &mut Vec<u8>) -> Answer<()>;
    fn make(&self, caller: Caller, parent: u64, name: &CStr, new: New<'_>) -> Answer<Entry>;
    fn temporary(&self, caller: Caller, parent: u64, mode: u32, umask: u32) -> Answer<Entry>;
    fn link(&self, node: u64, parent: u64, name: &CStr) -> Answer<Entry>;
    fn unlink(&self, parent: u64, name: &CStr) -> Answer<()>;
    fn remove_directory(&self, parent: u64, name: &CStr) -> Answer<()>;
    fn rename(&self, from: (u64, &CStr), to: (u64, &CStr), how: Rename) -> Answer<()>;
    /// Fills `buffer` from `offset` as far as the file goes.
    fn read(&self, node: u64, offset: u64, buffer: &mut [u8]) -> Answer<usize>;
    /// The file that [`Self::read`] reads from.
    fn source(&self, node: u64) -> Answer<Arc<dyn AsFd + Send + Sync>>;
    fn write(&self, node: u64, offset: u64, data: &[u8], writer: Writer) -> Answer<usize>;
    /// The calling thread does something else than to write what the kernel has
    /// gathered, or nothing for a while.
    fn settle(&self);
    fn list(&self, node: u64, offset: u64, sink: &mut dyn Sink) -> Answer<()>;
    fn sync(&self, node: u64, data_only: bool) -> Answer<()>;
    fn sync_all(&self) -> Answer<()>;
    fn space(&self) -> Answer<Space>;
    fn get_xattr(&self, node: u64, name: &CStr) -> Answer<Vec<u8>>;
    /// The names, each with its NUL byte.
    fn list_xattrs(&self, node: u64) -> Answer<Vec<u8>>;
    fn set_xattr(&self, node: u64, name: &CStr, value: &[u8], how: SetXattr) -> Answer<()>;
    fn remove_xattr(&self, node: u64, name: &CStr) -> Answer<()>;
    /// fallocate(2) from an offset, of a length.
    fn allocate(&self, caller: Caller, node: u64, mode: u32, range: (u64, u64)) -> Answer<()>;
    /// SEEK_DATA or SEEK_HOLE.
    fn seek(&self, node: u64, offset: u64, whence: u32) -> Answer<u64>;
    fn copy_range(&self, caller: Caller, from: (u64, u64), to: (u64, u64), length: u64) -> Answer<usize>;
    /// An ioctl(2) whose argument is a plain value: what is to be given back.
    fn control(&self, node: u64, command: u32, input: &[u8]) -> Answer<Vec<u8>>;
}

/// The node of the root directory.
pub(crate) const ROOT: u64 = 1;
