//! The transport: requests from /dev/fuse, answers to it.
//!
//! Our own, because the crates for it lack O_TMPFILE, statx, and the threads'
//! own ends of the connection without a path to the device. It knows the
//! protocol and nothing of what is served: that is a [`FileSystem`].
//!
//! As many threads as there are processors take requests, each from its own
//! end of the connection, and answer one before they take the next. What can
//! last (a seek that has to see what the kernel has not written back yet) goes to
//! a thread of its own, so that there is always one to serve a write.

mod abi;
mod dispatch;
mod filesystem;
mod flusher;
mod handshake;
mod reply;
mod request;
mod worker;

pub(super) use filesystem::{
    Answer, Attr, Btime, Changes, Entry, FileSystem, New, ROOT, Rename, SetTime, SetXattr, Sink, Space,
};
pub(super) use request::Caller;

use crate::error::{Context, Error, Result};
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Threads for requests: more than this gain nothing.
const MOST_THREADS: usize = 8;

/// Serves `device`, which is mounted, until it is unmounted. The calling thread
/// is one of the servers.
///
/// # Errors
/// `Failed` where the kernel is too old or closes the connection at once.
pub(super) fn serve(device: OwnedFd, fs: &dyn FileSystem) -> Result<()> {
    handshake::shake_hands(device.as_fd())?;
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, MOST_THREADS);
    let device = Arc::new(device);
    let (flusher, orders) = flusher::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| flusher::run(orders, fs));
        for _ in 1..threads {
            // Without an end of its own a thread shares the first: slower, and
            // as good.
            let end = another_end(&device).map_or_else(|_| Arc::clone(&device), Arc::new);
            let flusher = flusher.clone();
            let work = move || worker::run(&end, fs, &flusher);
            std::thread::Builder::new().spawn_scoped(scope, work).context(|| "start a thread")?;
        }
        worker::run(&device, fs, &flusher);
        drop(flusher);
        Ok::<(), Error>(())
    })
}

fn another_end(device: &OwnedFd) -> Result<OwnedFd> {
    let fresh = rustix::fs::open(super::DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .context(|| "open /dev/fuse")?;
    crate::sys::fuse::join_connection(fresh.as_fd(), device.as_fd()).context(|| "join the connection")?;
    Ok(fresh)
}
