//! The transport: requests from /dev/fuse, answers to it.
//!
//! Our own, because the crates for it lack O_TMPFILE, statx, and the threads'
//! own ends of the connection without a path to the device. It knows the
//! protocol and nothing of what is served: that is a [`FileSystem`].
//!
//! One thread answers most requests, others are called when there are more or
//! when one lasts: see [`crew`]. A seek, which has to see what the kernel has not
//! written back yet, goes to a thread of its own, so that there is always one to
//! serve a write.

mod abi;
mod companion;
mod conduit;
mod crew;
mod dispatch;
mod ear;
mod filesystem;
mod flusher;
mod handshake;
mod reply;
mod request;
mod worker;

pub(super) use filesystem::{
    Answer, Attr, Btime, Changes, Entry, FileSystem, New, ROOT, Rename, SetTime, SetXattr, Sink, Space,
    Writer,
};
pub(super) use request::Caller;

use crate::error::{Context, Result};
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Threads for requests: the fewest are more than processors, as some wait for a
/// disk.
const FEWEST_THREADS: usize = 4;
const MOST_THREADS: usize = 16;

/// Serves `device`, which is mounted, until it is unmounted.
///
/// # Errors
/// `Failed` where the kernel is too old or closes the connection at once.
pub(super) fn serve(device: OwnedFd, fs: &dyn FileSystem) -> Result<()> {
    handshake::shake_hands(device.as_fd(), fs)?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = processors.clamp(FEWEST_THREADS, MOST_THREADS);
    let device = Arc::new(device);
    let crew = crew::Crew::new(threads);
    let (flusher, orders) = flusher::channel();
    std::thread::scope(|scope| {
        let spawn = |work: Box<dyn FnOnce() + Send>| {
            let started = std::thread::Builder::new().spawn_scoped(scope, work);
            started.map(drop).context(|| "start a thread of the overlay")
        };
        let start = || {
            spawn(Box::new(|| flusher::run(orders, fs)))?;
            spawn(Box::new(|| crew.watch(|| ear::more(&device))))?;
            let worker = |number| {
                // Without an end of its own a thread shares the first: slower,
                // and as good.
                let device = another_end(&device).map_or_else(|_| Arc::clone(&device), Arc::new);
                worker::Worker { number, device, fs, crew: &crew, flusher: flusher.clone() }
            };
            for number in 0..threads {
                let worker = worker(number);
                spawn(Box::new(|| worker.run()))?;
            }
            if crew.companion.is_of_use() {
                let worker = worker(threads);
                spawn(Box::new(|| worker.run_as_companion()))?;
            }
            drop(flusher);
            // What has brought it here is not needed to serve.
            crate::sys::memory::settle();
            Ok(())
        };
        start().inspect_err(|_| crew.end())
    })
}

fn another_end(device: &OwnedFd) -> Result<OwnedFd> {
    let fresh = rustix::fs::open(super::DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .context(|| "open /dev/fuse")?;
    crate::sys::fuse::join_connection(fresh.as_fd(), device.as_fd()).context(|| "join the connection")?;
    Ok(fresh)
}

/// What a request is answered, and without an answer to it nothing. Here a panic
/// is one.
#[cfg(test)]
pub(super) fn answer_to(fs: &dyn FileSystem, request: &[u8]) -> Option<Answer<Vec<u8>>> {
    let (header, fields) = request::Header::split(request)?;
    let mut reply = reply::Reply::new(fs.lasts());
    match dispatch::dispatch(fs, &header, fields, &mut reply) {
        Ok(dispatch::Outcome::Answered) => Some(Ok(reply.finish(header.unique, 0).to_vec())),
        Ok(dispatch::Outcome::Silent) => None,
        Ok(dispatch::Outcome::Seek { offset, whence }) => {
            Some(fs.seek(header.node, offset, whence).map(|_| Vec::new()))
        }
        Err(errno) => Some(Err(errno)),
    }
}
