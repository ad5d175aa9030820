//! What the kernel has cached of a file, and is to let go of, on a thread of its own:
//! it may wait for requests that the other threads serve.
//!
//! SEEK_DATA and SEEK_HOLE: where a file's data are is known to this server only
//! once the kernel has written them back, and it does not do so before it asks. So
//! the server tells it to let go of what it has cached of the file
//! (NOTIFY_INVAL_INODE), which writes it back first.
//!
//! What had been gathered and could not be written: the kernel goes on believing in the
//! size that the file would have, and the next to append to it would leave a hole. It
//! asks for a size only where it meets a file anew. So it is told to forget the names
//! (NOTIFY_INVAL_ENTRY), and lets go of the file once nobody has it open.

use super::abi::{NOTIFY_INVAL_ENTRY, NOTIFY_INVAL_INODE};
use super::filesystem::FileSystem;
use super::reply::Reply;
use super::worker::answer;
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel as queue};

/// What is to be done.
pub(super) enum Order {
    /// A seek to be answered.
    Seek(Seek),
    /// Attributes and names of this node are to be asked for anew.
    Doubt(Arc<OwnedFd>, u64),
}

pub(super) struct Seek {
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
        if let Err(refused) = self.0.send(order)
            && let Order::Seek(seek) = refused.0
        {
            answer(&seek.device, &mut Reply::new(true), seek.unique, -libc::EIO);
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
        let order = match order {
            Order::Seek(order) => order,
            // Below the first byte: no pages, the attributes alone.
            Order::Doubt(device, node) => {
                let_go(&device, &mut reply, node, -1);
                for (parent, name) in fs.names(node) {
                    forget_name(&device, &mut reply, parent, &name);
                }
                continue;
            }
        };
        // From the first byte to the last.
        let_go(&order.device, &mut reply, order.node, 0);
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

/// `struct fuse_notify_inval_entry_out`: the directory, the name's length, no flags; then
/// the name with its NUL byte.
fn forget_name(device: &OwnedFd, reply: &mut Reply, parent: u64, name: &CStr) {
    reply.clear();
    reply.u64(parent);
    for value in [name.count_bytes() as u32, 0] {
        reply.u32(value);
    }
    reply.bytes(name.to_bytes_with_nul());
    answer(device, reply, 0, NOTIFY_INVAL_ENTRY);
}

/// `struct fuse_notify_inval_inode_out`: the node, and from where on. ENOENT: the
/// kernel has nothing of it.
fn let_go(device: &OwnedFd, reply: &mut Reply, node: u64, offset: i64) {
    reply.clear();
    for value in [node, offset as u64, 0] {
        reply.u64(value);
    }
    answer(device, reply, 0, NOTIFY_INVAL_INODE);
}
