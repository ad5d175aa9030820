//! One thread: takes a request, answers it, takes the next.

use super::abi::{IN_HEADER, MAX_WRITE, WRITE_IN};
use super::dispatch::{Outcome, dispatch};
use super::filesystem::FileSystem;
use super::flusher::{Flusher, Order};
use super::reply::Reply;
use super::request::Header;
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Serves until the file system is unmounted.
pub(super) fn run(device: &Arc<OwnedFd>, fs: &dyn FileSystem, flusher: &Flusher) {
    let mut buffer = vec![0; MAX_WRITE + IN_HEADER + WRITE_IN + 4096];
    let mut reply = Reply::new();
    loop {
        let length = match rustix::io::read(device, &mut buffer) {
            Ok(length) => length,
            // ENOENT: the request was given up before it was taken.
            Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => continue,
            // ENODEV: unmounted.
            Err(_) => return,
        };
        let Some((header, fields)) = Header::split(&buffer[..length]) else { continue };
        reply.clear();
        // A fault of ours costs one request, not the container.
        let result = catch_unwind(AssertUnwindSafe(|| dispatch(fs, &header, fields, &mut reply)))
            .unwrap_or(Err(Errno::IO));
        let error = match result {
            Ok(Outcome::Answered) => 0,
            Ok(Outcome::Silent) => continue,
            Ok(Outcome::Seek { offset, whence }) => {
                let device = Arc::clone(device);
                flusher.send(Order { device, unique: header.unique, node: header.node, offset, whence });
                continue;
            }
            Err(errno) => -errno.raw_os_error(),
        };
        answer(device, &mut reply, header.unique, error);
    }
}

/// Sends an answer. Nobody may want it any more (ENOENT), which is no fault.
pub(super) fn answer(device: &OwnedFd, reply: &mut Reply, unique: u64, error: i32) {
    while let Err(errno) = rustix::io::write(device.as_fd(), reply.finish(unique, error)) {
        if errno != Errno::INTR {
            break;
        }
    }
}
