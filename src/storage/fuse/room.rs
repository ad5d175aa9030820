//! Where the upper file system is full.
//!
//! The kernel gathers what is written without asking whether there is room for it:
//! write(2) would succeed for ever, and only fsync(2) and close(2) would tell. But
//! before each write it asks for the file's attributes where it has none that are
//! valid, and an error of that is one of the write. So when something that it has
//! gathered could not be written, it is told to ask (see [`super::wire`]), and is told
//! the error then; and for a while the attributes of files hold for no time at all,
//! so that a file without any room of its own is refused at its first write.
//!
//! What is overwritten in place needs no room: other files are not refused on suspicion.

use super::merged::Merged;
use super::wire::Answer;
use rustix::io::Errno;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long files are looked at after the last time that there was no room.
const WHILE: u64 = 10_000;
/// A file that was removed so long ago has given back its room.
const LATELY: u64 = 1_000;
/// The kernel lets go of a removed file a little after it was removed: how often, and
/// how long at first, that is waited for; twice as long each time.
const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(1);
/// Errors that are kept for who writes next.
const MOST: usize = 1024;

/// What is known about it. Times are milliseconds since `start`, 0 for never.
pub(super) struct Room {
    start: Instant,
    narrow_until: AtomicU64,
    removed: AtomicU64,
    refused: Mutex<HashMap<u64, Errno>>,
}

impl Room {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            narrow_until: AtomicU64::new(0),
            removed: AtomicU64::new(0),
            refused: Mutex::default(),
        }
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64 + 1
    }

    fn refused(&self) -> MutexGuard<'_, HashMap<u64, Errno>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there was none of late.
    pub(super) fn is_narrow(&self) -> bool {
        match self.narrow_until.load(Ordering::Relaxed) {
            0 => false,
            until => self.now() < until,
        }
    }

    /// What the kernel had gathered of the file could not be written.
    fn was_refused(&self, node: u64, errno: Errno) {
        self.narrow_until.store(self.now() + WHILE, Ordering::Relaxed);
        let mut refused = self.refused();
        if refused.len() < MOST {
            refused.insert(node, errno);
        }
    }

    /// A file has lost its last name.
    pub(super) fn was_removed(&self) {
        self.removed.store(self.now(), Ordering::Relaxed);
    }

    /// Calls again where there is no room, but that of a file that was just removed is
    /// about to come back. The caller holds no lock.
    pub(super) fn wait_for<T>(&self, call: impl Fn() -> Answer<T>) -> Answer<T> {
        let mut result = call();
        let removed = self.removed.load(Ordering::Relaxed);
        if !lacks_room(&result) || removed == 0 || self.now() > removed + LATELY {
            return result;
        }
        let mut wait = FIRST_WAIT;
        for _ in 0..TRIES {
            std::thread::sleep(wait);
            wait *= 2;
            result = call();
            if !lacks_room(&result) {
                return result;
            }
        }
        // In vain: only another removal makes it worth while again.
        self.removed.compare_exchange(removed, 0, Ordering::Relaxed, Ordering::Relaxed).ok();
        result
    }
}

fn lacks_room<T>(result: &Answer<T>) -> bool {
    matches!(result, Err(Errno::NOSPC | Errno::DQUOT))
}

impl Merged {
    /// Writes what the kernel has gathered of a file; what fails is told to who writes
    /// to it next.
    pub(super) fn write_gathered(&self, node: u64, write: impl Fn() -> Answer<usize>) -> Answer<usize> {
        let result = self.room.wait_for(write);
        if let Err(errno @ (Errno::NOSPC | Errno::DQUOT)) = result {
            self.room.was_refused(node, errno);
        }
        result
    }

    /// Whether a thread may write to the file, as far as is known.
    ///
    /// # Errors
    /// ENOSPC or EDQUOT.
    pub(super) fn ask_for_room(&self, node: u64, thread: u32) -> Answer<()> {
        if is_reading(thread) {
            return Ok(());
        }
        if let Some(errno) = self.room.refused().remove(&node) {
            return Err(errno);
        }
        if self.attributes_of(node)?.blocks > 0 {
            return Ok(());
        }
        let look = || if self.free_space()?.available == 0 { Err(Errno::NOSPC) } else { Ok(()) };
        self.room.wait_for(look)
    }
}

/// The kernel asks in the same way for a read beyond the end and for SEEK_END.
const READS: [libc::c_long; 6] = [
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_readv,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_lseek,
];

/// Whether the thread is in a system call that reads: proc_pid_syscall(5). Where that
/// is not shown, it is taken to write.
fn is_reading(thread: u32) -> bool {
    if thread == 0 {
        return false;
    }
    let text = std::fs::read_to_string(format!("/proc/{thread}/syscall")).unwrap_or_default();
    let number = text.split(' ').next().and_then(|word| word.parse().ok());
    number.is_some_and(|number: libc::c_long| READS.contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn room_is_waited_for_only_where_some_is_about_to_come() {
        let room = Room::new();
        let calls = Cell::new(0);
        let call = |good_from: u32| {
            calls.set(0);
            room.wait_for(|| {
                calls.set(calls.get() + 1);
                if calls.get() >= good_from { Ok(()) } else { Err(Errno::NOSPC) }
            })
        };
        assert_eq!((call(2), calls.get()), (Err(Errno::NOSPC), 1), "nothing was removed");
        room.was_removed();
        assert_eq!((call(3), calls.get()), (Ok(()), 3));
        assert_eq!((call(99), calls.get()), (Err(Errno::NOSPC), 1 + TRIES));
        assert_eq!((call(99), calls.get()), (Err(Errno::NOSPC), 1), "it was in vain before");
    }

    #[test]
    fn it_is_narrow_once_something_was_refused() {
        let room = Room::new();
        assert!(!room.is_narrow());
        room.was_refused(7, Errno::DQUOT);
        assert!(room.is_narrow());
        assert_eq!(room.refused().remove(&7), Some(Errno::DQUOT));
        assert_eq!(room.refused().remove(&7), None, "told once");
    }

    #[test]
    fn who_reads_is_seen() {
        let me = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        // At this moment: a read of that file.
        assert!(is_reading(me));
        assert!(!is_reading(0));
    }
}
