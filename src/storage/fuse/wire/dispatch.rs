//! From a request to one operation and back: no logic of its own.

use super::abi::{
    GETATTR_FH, MAX_WRITE, SETXATTR_ACL_KILL_SGID, WRITE_CACHE, WRITE_IN, WRITE_KILL_SUIDGID, fattr, opcode,
};
use super::conduit::Wanted;
use super::filesystem::{
    Answer, Attr, Changes, Entry, FileSystem, New, Rename, SetTime, SetXattr, Sink, Writer,
};
use super::reply::Reply;
use super::request::{Fields, Header};
use rustix::io::Errno;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The reply is to be sent.
    Answered,
    /// The kernel waits for no answer.
    Silent,
    /// What the kernel has cached of a file decides: see [`super::flusher`].
    Seek { offset: u64, whence: u32 },
}

/// Runs the operation; the answer is in `reply`.
pub(super) fn dispatch(
    fs: &dyn FileSystem,
    header: &Header,
    mut fields: Fields<'_>,
    reply: &mut Reply,
) -> Answer<Outcome> {
    let fields = &mut fields;
    match header.opcode {
        opcode::LOOKUP => lookup(fs, header, fields, reply)?,
        opcode::FORGET => {
            fs.forget(header.node, fields.u64()?);
            return Ok(Outcome::Silent);
        }
        opcode::BATCH_FORGET => {
            let count = fields.u32()?;
            fields.skip(4)?;
            for _ in 0..count {
                fs.forget(fields.u64()?, fields.u64()?);
            }
            return Ok(Outcome::Silent);
        }
        opcode::GETATTR => {
            // struct fuse_getattr_in: with a file that is open, before a write to it.
            if fs.is_narrow() && fields.u32()? & GETATTR_FH != 0 {
                fs.may_write(header.node, header.client)?;
            }
            reply.attr_out(&fs.attributes(header.node)?);
        }
        opcode::STATX => {
            let (attr, btime) = fs.birth(header.node)?;
            reply.statx(&attr, btime);
        }
        opcode::SETATTR => {
            let changes = changes(fields)?;
            reply.attr_out(&fs.change(header.caller, header.node, &changes)?);
        }
        opcode::READLINK => {
            let mut text = Vec::new();
            fs.read_link(header.node, &mut text)?;
            reply.bytes(&text);
        }
        opcode::SYMLINK | opcode::MKNOD | opcode::MKDIR | opcode::TMPFILE | opcode::LINK => {
            reply.entry(&make(fs, header, fields)?);
            if header.opcode == opcode::TMPFILE {
                // struct fuse_open_out, without a handle.
                reply.u64(0);
                reply.u32(super::abi::FOPEN_KEEP_CACHE);
                reply.u32(0);
            }
        }
        opcode::UNLINK => fs.unlink(header.node, fields.name()?)?,
        opcode::RMDIR => fs.remove_directory(header.node, fields.name()?)?,
        opcode::RENAME | opcode::RENAME2 => rename(fs, header, fields)?,
        opcode::READ | opcode::READDIR | opcode::READDIRPLUS => read(fs, header, fields, reply)?,
        opcode::WRITE => write(fs, header, fields, reply)?,
        opcode::STATFS => reply.space(&fs.space()?),
        opcode::RELEASE | opcode::RELEASEDIR | opcode::DESTROY => {}
        opcode::FSYNC | opcode::FSYNCDIR => {
            fields.skip(8)?;
            fs.sync(header.node, fields.u32()? & 1 != 0)?;
        }
        opcode::SYNCFS => fs.sync_all()?,
        opcode::SETXATTR | opcode::GETXATTR | opcode::LISTXATTR | opcode::REMOVEXATTR => {
            xattr(fs, header, fields, reply)?;
        }
        opcode::FALLOCATE => {
            fields.skip(8)?;
            let (offset, length) = (fields.u64()?, fields.u64()?);
            fs.allocate(header.caller, header.node, fields.u32()?, (offset, length))?;
        }
        opcode::LSEEK => {
            fields.skip(8)?;
            return Ok(Outcome::Seek { offset: fields.u64()?, whence: fields.u32()? });
        }
        opcode::COPY_FILE_RANGE => {
            fields.skip(8)?;
            let (from, node) = (fields.u64()?, fields.u64()?);
            fields.skip(8)?;
            let (to, length) = (fields.u64()?, fields.u64()?);
            let copied =
                fs.copy_range(header.caller, (header.node, from), (node, to), length.min(1 << 30))?;
            reply.u32(copied as u32);
            reply.u32(0);
        }
        opcode::IOCTL => control(fs, header, fields, reply)?,
        // Answered once, ENOSYS says that there is nothing to be asked: files
        // are not opened (OPEN, OPENDIR, CREATE, FLUSH, ACCESS), locks are the
        // kernel's own (GETLK, SETLK, SETLKW), nothing lasts (INTERRUPT).
        _ => return Err(Errno::NOSYS),
    }
    Ok(Outcome::Answered)
}

fn lookup(fs: &dyn FileSystem, header: &Header, fields: &mut Fields<'_>, reply: &mut Reply) -> Answer<()> {
    let entry = match fs.lookup(header.node, fields.name()?) {
        // Remembered by the kernel: nobody else can make it.
        Err(Errno::NOENT) => Entry::default(),
        result => result?,
    };
    reply.entry(&entry);
    Ok(())
}

/// `struct fuse_setattr_in`.
fn changes(fields: &mut Fields<'_>) -> Answer<Changes> {
    let valid = fields.u32()?;
    fields.skip(4 + 8)?;
    let size = fields.u64()?;
    fields.skip(8)?;
    let (atime, mtime) = (fields.u64()? as i64, fields.u64()? as i64);
    fields.skip(8)?;
    let (atime_nsec, mtime_nsec) = (fields.u32()?, fields.u32()?);
    fields.skip(4)?;
    let mode = fields.u32()?;
    fields.skip(4)?;
    let (uid, gid) = (fields.u32()?, fields.u32()?);
    let has = |bit: u32| valid & bit != 0;
    // Nobody's id: chown(2) takes it for "as it is", and it is not asked for then.
    if has(fattr::UID) && uid == u32::MAX || has(fattr::GID) && gid == u32::MAX {
        return Err(Errno::INVAL);
    }
    let time = |set: u32, now: u32, at| match (has(set), has(now)) {
        (true, true) => Some(SetTime::Now),
        (true, false) => Some(SetTime::At(at)),
        (false, _) => None,
    };
    Ok(Changes {
        mode: has(fattr::MODE).then_some(mode),
        uid: has(fattr::UID).then_some(uid),
        gid: has(fattr::GID).then_some(gid),
        size: has(fattr::SIZE).then_some(size),
        atime: time(fattr::ATIME, fattr::ATIME_NOW, (atime, atime_nsec)),
        mtime: time(fattr::MTIME, fattr::MTIME_NOW, (mtime, mtime_nsec)),
        // chown(2) of nobody to nobody clears set-uid too, and is a request that
        // names nothing but the change time.
        kill_privileges: has(fattr::KILL_SUIDGID) || valid & fattr::ANY == 0,
    })
}

fn make(fs: &dyn FileSystem, header: &Header, fields: &mut Fields<'_>) -> Answer<Entry> {
    let (caller, parent) = (header.caller, header.node);
    match header.opcode {
        opcode::MKNOD => {
            let (mode, rdev, umask) = (fields.u32()?, fields.u32()?, fields.u32()?);
            fields.skip(4)?;
            fs.make(caller, parent, fields.name()?, New::Node { mode, rdev, umask })
        }
        opcode::MKDIR => {
            let (mode, umask) = (fields.u32()?, fields.u32()?);
            fs.make(caller, parent, fields.name()?, New::Directory { mode, umask })
        }
        opcode::SYMLINK => {
            let name = fields.name()?;
            fs.make(caller, parent, name, New::Symlink { target: fields.text()? })
        }
        opcode::LINK => {
            let node = fields.u64()?;
            fs.link(node, parent, fields.name()?)
        }
        _ => {
            // struct fuse_create_in
            fields.skip(4)?;
            let (mode, umask) = (fields.u32()?, fields.u32()?);
            fs.temporary(caller, parent, mode, umask)
        }
    }
}

fn rename(fs: &dyn FileSystem, header: &Header, fields: &mut Fields<'_>) -> Answer<()> {
    let target = fields.u64()?;
    let mut flags = 0;
    if header.opcode == opcode::RENAME2 {
        flags = fields.u32()?;
        fields.skip(4)?;
    }
    let (from, to) = (fields.name()?, fields.name()?);
    let how = match flags {
        0 => Rename::Replace,
        libc::RENAME_NOREPLACE => Rename::NoReplace,
        libc::RENAME_EXCHANGE => Rename::Exchange,
        _ => return Err(Errno::INVAL),
    };
    fs.rename((header.node, from), (target, to), how)
}

/// `struct fuse_read_in`.
pub(super) fn wanted(fields: &mut Fields<'_>) -> Answer<Wanted> {
    fields.skip(8)?;
    let (offset, size) = (fields.u64()?, fields.u32()? as usize);
    Ok(Wanted { offset, size: size.min(MAX_WRITE) })
}

fn read(fs: &dyn FileSystem, header: &Header, fields: &mut Fields<'_>, reply: &mut Reply) -> Answer<()> {
    let Wanted { offset, size } = wanted(fields)?;
    if header.opcode == opcode::READ {
        let count = fs.read(header.node, offset, reply.data(size))?;
        reply.truncate(count.min(size));
        return Ok(());
    }
    let plus = header.opcode == opcode::READDIRPLUS;
    fs.list(header.node, offset, &mut Listed { reply, size, plus })
}

/// `struct fuse_write_in`, and the data.
fn write(fs: &dyn FileSystem, header: &Header, fields: &mut Fields<'_>, reply: &mut Reply) -> Answer<()> {
    let mut head = Fields(fields.take(WRITE_IN)?);
    head.skip(8)?;
    let (offset, size, flags) = (head.u64()?, head.u32()?, head.u32()?);
    let data = fields.take(size as usize)?;
    let writer = match (flags & WRITE_KILL_SUIDGID != 0, flags & WRITE_CACHE != 0) {
        (true, _) => Writer::Other(header.caller),
        (false, true) => Writer::Cache,
        (false, false) => Writer::Privileged,
    };
    let written = fs.write(header.node, offset, data, writer)?;
    reply.u32(written as u32);
    reply.u32(0);
    Ok(())
}

fn xattr(fs: &dyn FileSystem, header: &Header, fields: &mut Fields<'_>, reply: &mut Reply) -> Answer<()> {
    match header.opcode {
        opcode::SETXATTR => {
            let (size, flags, more) = (fields.u32()?, fields.u32()?, fields.u32()?);
            fields.skip(4)?;
            let name = fields.text()?;
            let value = fields.take(size as usize)?;
            let how = SetXattr { flags, kill_sgid: more & SETXATTR_ACL_KILL_SGID != 0 };
            fs.set_xattr(header.node, name, value, how)
        }
        opcode::REMOVEXATTR => fs.remove_xattr(header.node, fields.text()?),
        _ => {
            let size = fields.u32()? as usize;
            fields.skip(4)?;
            let value = if header.opcode == opcode::GETXATTR {
                fs.get_xattr(header.node, fields.text()?)?
            } else {
                fs.list_xattrs(header.node)?
            };
            if size == 0 {
                reply.u32(value.len() as u32);
                reply.u32(0);
            } else if value.len() > size {
                return Err(Errno::RANGE);
            } else {
                reply.bytes(&value);
            }
            Ok(())
        }
    }
}

/// `struct fuse_ioctl_in`; what the command is given follows it.
fn control(fs: &dyn FileSystem, header: &Header, fields: &mut Fields<'_>, reply: &mut Reply) -> Answer<()> {
    fields.skip(8 + 4)?;
    let command = fields.u32()?;
    fields.skip(8)?;
    let (given, room) = (fields.u32()? as usize, fields.u32()? as usize);
    let output = fs.control(header.node, command, fields.take(given)?)?;
    if output.len() > room {
        return Err(Errno::NOTTY);
    }
    for value in [0; 4] {
        reply.u32(value);
    }
    reply.bytes(&output);
    Ok(())
}

/// READDIR's and READDIRPLUS' answer.
struct Listed<'a> {
    reply: &'a mut Reply,
    size: usize,
    plus: bool,
}

impl Listed<'_> {
    /// Bytes of an entry, padded to eight: `FUSE_DIRENT_SIZE`.
    fn length(&self, name: &[u8]) -> usize {
        const DIRENT: usize = 24;
        const ENTRY: usize = 128;
        let entry = if self.plus { ENTRY } else { 0 };
        entry + (DIRENT + name.len()).next_multiple_of(8)
    }
}

impl Sink for Listed<'_> {
    fn wants_attributes(&self) -> bool {
        self.plus
    }

    fn fits(&self, name: &[u8]) -> bool {
        self.reply.len() + self.length(name) <= self.size
    }

    fn add(&mut self, name: &[u8], ino: u64, kind: u8, next: u64, entry: Option<&Entry>) {
        let end = self.reply.len() + self.length(name);
        if self.plus {
            let unknown = Entry { node: 0, attr: Attr::default() };
            self.reply.entry(entry.unwrap_or(&unknown));
        }
        self.reply.u64(ino);
        self.reply.u64(next);
        self.reply.u32(name.len() as u32);
        self.reply.u32(kind.into());
        self.reply.bytes(name);
        self.reply.zeros(end - self.reply.len());
    }
}
