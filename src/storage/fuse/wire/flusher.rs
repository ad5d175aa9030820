//! SEEK_DATA and SEEK_HOLE, on a thread of their own.
//!
//! Where a file's data are is known to this server only once the kernel has
//! written them back, and it does not do so before it asks. So the server
//! tells it to let go of what it has cached of the file (NOTIFY_INVAL_INODE),
//! which writes it back first, by requests that the other threads serve.

use super::abi::NOTIFY_INVAL_INODE;
use super::filesystem::FileSystem;
use super::reply::Reply;
use super::worker::answer;
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel as queue};

/// A seek to be answered.
pub(super) struct Order {
    /// The end of the connection on which it came, and must be answered.
    pub(super) device: Arc<OwnedFd>,
    pub(super) unique: u64,
    pub(super) node: u64,
    pub(super) offset: u64,
    pub(super) whence: u32,
}

/// Where workers leave orders.
#[derive(Clone)]
pub(super) struct Flusher(Sender<Order>);

impl Flusher {
    pub(super) fn send(&self, order: Order) {
        if let Err(refused) = self.0.send(order) {
            let order = refused.0;
            answer(&order.device, &mut Reply::new(true), order.unique, -libc::EIO);
        }
    }
}

pub(super) fn channel() -> (Flusher, Receiver<Order>) {
    let (sender, receiver) = queue();
    (Flusher(sender), receiver)
}

/// Serves until the last worker has gone.
pub(super) fn run(orders: Receiver<Order>, fs: &dyn FileSystem) {
    let mut reply = Reply::new(true);
    for order in orders {
        // struct fuse_notify_inval_inode_out: the node, from the first byte to
        // the last. ENOENT: the kernel has nothing of it.
        reply.clear();
        for value in [order.node, 0, 0] {
            reply.u64(value);
        }
        answer(&order.device, &mut reply, 0, NOTIFY_INVAL_INODE);
        reply.clear();
        let seek = || fs.seek(order.node, order.offset, order.whence);
        let error = match catch_unwind(AssertUnwindSafe(seek)).unwrap_or(Err(Errno::IO)) {
            Ok(offset) => {
                reply.u64(offset);
                0
            }
            Err(errno) => -errno.raw_os_error(),
        };
        answer(&order.device, &mut reply, order.unique, error);
    }
}
