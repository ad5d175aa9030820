//! Which commands live in the container beside its first process.

use crate::error::{BestEffort, Context, Result};
use crate::runtime::plan::SeccompProgram;
use rustix::process::Signal;
use std::cell::{Cell, OnceCell, RefCell};
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::sync::Notify;

/// How long the commands may take to die once they are killed.
const DYING: Duration = Duration::from_secs(2);

/// How long a client may take no byte of what is left for it, after the
/// container's end.
const PATIENCE: Duration = Duration::from_secs(10);

/// One command.
pub(super) struct Entry {
    /// 64 hexadecimal digits, as docker's.
    pub(super) id: String,
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
}

/// The commands of one container.
#[derive(Default)]
pub(in crate::monitor) struct Execs {
    entries: RefCell<Vec<Entry>>,
    /// Clients that are served.
    clients: Cell<usize>,
    /// A command has ended, or a client has taken something.
    moved: Notify,
    /// The container's filter, once a command has needed it.
    pub(super) filter: OnceCell<Option<SeccompProgram>>,
}

/// A client that is being served, as long as this lives.
pub(super) struct Counted<'a>(&'a Execs);

impl Execs {
    pub(super) fn add(&self, entry: Entry) {
        self.entries.borrow_mut().push(entry);
    }

    pub(super) fn remove(&self, id: &str) {
        self.entries.borrow_mut().retain(|entry| entry.id != id);
        self.moved.notify_waiters();
    }

    pub(super) fn count(&self) -> Counted<'_> {
        self.clients.set(self.clients.get() + 1);
        Counted(self)
    }

    /// A client has taken some of its output.
    pub(super) fn progress(&self) {
        self.moved.notify_waiters();
    }

    /// The ids of those that live, the oldest first.
    pub(in crate::monitor) fn ids(&self) -> Vec<String> {
        self.entries.borrow().iter().map(|entry| entry.id.clone()).collect()
    }

    /// Their process numbers.
    pub(in crate::monitor) fn pids(&self) -> Vec<u32> {
        self.entries.borrow().iter().map(|entry| entry.pid).collect()
    }

    /// The container has ended, and so do its commands: with a pid namespace of
    /// its own they have died already.
    pub(in crate::monitor) async fn end_all(&self) {
        for entry in &*self.entries.borrow() {
            rustix::process::pidfd_send_signal(&entry.pidfd, Signal::KILL).or_ignore();
        }
        let all = async {
            loop {
                let moved = self.moved.notified();
                if self.entries.borrow().is_empty() {
                    return;
                }
                moved.await;
            }
        };
        tokio::time::timeout(DYING, all).await.unwrap_or(());
    }

    /// Returns when every client has all that was left for it, or has taken
    /// nothing for a while.
    pub(in crate::monitor) async fn drained(&self) {
        loop {
            let moved = self.moved.notified();
            if self.clients.get() == 0 || tokio::time::timeout(PATIENCE, moved).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.clients.set(self.0.clients.get() - 1);
        self.0.moved.notify_waiters();
    }
}

pub(super) fn new_id() -> Result<String> {
    let mut random = [0u8; 32];
    let flags = rustix::rand::GetRandomFlags::empty();
    rustix::rand::getrandom(&mut random, flags).context(|| "draw an id")?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
