//! INIT: what the kernel and this server agree on.

use super::abi::{MAJOR, MAX_PAGES, MAX_WRITE, MINOR, OLDEST_MINOR, init, opcode};
use super::filesystem::FileSystem;
use super::reply::Reply;
use super::request::Header;
use crate::error::{Context, Error, Result};
use std::os::fd::BorrowedFd;

/// What this server wants of what the kernel offers.
///
/// Files are neither opened nor created by a request of their own
/// (NO_OPEN_SUPPORT, NO_OPENDIR_SUPPORT): a node is all that it takes. Writes
/// are gathered by the kernel, which then also keeps size and times, unless the
/// file system wants to be told each. Locks are left to it. Direct writes are not
/// asynchronous (ASYNC_DIO): the kernel would not drop its cache behind them.
/// There are no handles (NO_EXPORT_SUPPORT, Linux 6.9), as on an overlay of the
/// kernel's: one would be a node's number, which means nothing once that is forgotten.
const WANTED: u64 = init::ASYNC_READ
    | init::BIG_WRITES
    | init::DONT_MASK
    | init::HAS_IOCTL_DIR
    | init::DO_READDIRPLUS
    | init::READDIRPLUS_AUTO
    | init::WRITEBACK_CACHE
    | init::NO_OPEN_SUPPORT
    | init::PARALLEL_DIROPS
    | init::POSIX_ACL
    | init::MAX_PAGES
    | init::CACHE_SYMLINKS
    | init::NO_OPENDIR_SUPPORT
    | init::EXPLICIT_INVAL_DATA
    | init::HANDLE_KILLPRIV_V2
    | init::SETXATTR_EXT
    | init::EXT
    | init::NO_EXPORT_SUPPORT
    | init::ALLOW_IDMAP;

/// What is asked for without an owner in the mount's user namespace, as by the kernel's
/// own threads, is dropped before Linux 6.12, and since then where mounts cannot be
/// idmapped: the times of files whose pages they write back, for one.
fn tells_all_times(flags: u64) -> bool {
    flags & init::ALLOW_IDMAP != 0
}

/// Requests that the kernel has under way without anybody waiting for them.
const BACKGROUND: u16 = 64;

/// Pages of a file that others may have changed are given up where its size or time is
/// another one.
fn wanted(fs: &dyn FileSystem) -> u64 {
    let gathers = if fs.gathers_writes() { 0 } else { init::WRITEBACK_CACHE };
    let (less, more) = if fs.lasts() { (0, 0) } else { (init::EXPLICIT_INVAL_DATA, init::AUTO_INVAL_DATA) };
    WANTED & !gathers & !less | more
}

/// Answers the first request.
pub(super) fn shake_hands(device: BorrowedFd<'_>, fs: &dyn FileSystem) -> Result<()> {
    let mut buffer = vec![0; MAX_WRITE + 4096];
    let length = loop {
        match rustix::io::read(device, &mut buffer) {
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            result => break result.context(|| "read the first request of /dev/fuse")?,
        }
    };
    let wrong = |what: &str| Error::failed(format!("the kernel's FUSE: {what}"));
    let (header, mut fields) = Header::split(&buffer[..length]).ok_or_else(|| wrong("no whole request"))?;
    let mut number = || fields.u32().map_err(|_| wrong("a short first request"));
    let (major, minor, readahead, low) = (number()?, number()?, number()?, number()?);
    let high = number().unwrap_or(0);
    if header.opcode != opcode::INIT || major != MAJOR || minor < OLDEST_MINOR {
        return Err(wrong(&format!("version {major}.{minor}"))
            .hint("the overlay needs Linux 5.4 or later; --storage-driver overlay uses the kernel's own"));
    }
    let flags = (u64::from(high) << 32 | u64::from(low)) & wanted(fs);
    fs.agreed(tells_all_times(flags));
    let mut reply = Reply::new(true);
    // struct fuse_init_out
    for value in [MAJOR, MINOR.min(minor), readahead, flags as u32] {
        reply.u32(value);
    }
    for value in [BACKGROUND, BACKGROUND / 4 * 3] {
        reply.u16(value);
    }
    // Bytes of a write, nanoseconds of a time stamp's step.
    for value in [MAX_WRITE as u32, 1] {
        reply.u32(value);
    }
    for value in [MAX_PAGES, 0] {
        reply.u16(value);
    }
    for value in [(flags >> 32) as u32, 0] {
        reply.u32(value);
    }
    for _ in 0..12 {
        reply.u16(0);
    }
    rustix::io::write(device, reply.finish(header.unique, 0)).context(|| "answer the first request")?;
    Ok(())
}
