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
//! The same holds from the start on where little room is left: a file of a layer is copied
//! up before the first write to it then, which fails as on the kernel's overlay.
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
/// Bytes: with less room than this, files are looked at before they are written to.
const LITTLE: u64 = 64 << 20;
/// How much is written from one look at the room that is left to the next.
const STEP: u64 = 8 << 20;
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
    /// Bytes written since the last look at what is left.
    written: AtomicU64,
    removed: AtomicU64,
    refused: Mutex<HashMap<u64, Errno>>,
}

impl Room {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            narrow_until: AtomicU64::new(0),
            written: AtomicU64::new(STEP),
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

    /// Whether there was none, longer ago than counts; told once.
    fn is_over(&self) -> bool {
        let until = self.narrow_until.load(Ordering::Relaxed);
        let over = until != 0 && self.now() >= until;
        over && self.narrow_until.compare_exchange(until, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn is_little(&self) {
        self.narrow_until.store(self.now() + WHILE, Ordering::Relaxed);
    }

    /// So much is about to be written; true when it is time to look at what is left.
    fn is_asked_for(&self, bytes: u64) -> bool {
        let written = self.written.fetch_add(bytes, Ordering::Relaxed);
        if written + bytes >= STEP {
            self.written.store(0, Ordering::Relaxed);
        }
        written + bytes >= STEP
    }

    /// What the kernel had gathered of the file could not be written.
    fn was_refused(&self, node: u64, errno: Errno) {
        self.is_little();
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
    /// Whether there was no room of late, or there is little.
    pub(super) fn has_little_room(&self) -> bool {
        if self.room.is_over() {
            self.look_for_room();
        }
        self.room.is_narrow()
    }

    /// Looks at what is left. Much of it ends nothing: a quota may be used up.
    pub(super) fn look_for_room(&self) {
        if self.free_space().is_ok_and(|space| space.bytes_left() < LITTLE) {
            self.room.is_little();
        }
    }

    /// Writes what the kernel has gathered of a file; what fails is told to who writes
    /// to it next.
    pub(super) fn write_gathered(
        &self,
        node: u64,
        bytes: usize,
        write: impl Fn() -> Answer<usize>,
    ) -> Answer<usize> {
        if self.room.is_asked_for(bytes as u64) {
            self.look_for_room();
        }
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
        let doing = Doing::of(thread);
        if doing == Some(Doing::Read) {
            return Ok(());
        }
        if let Some(errno) = self.room.refused().remove(&node) {
            return Err(errno);
        }
        let end = match doing {
            Some(Doing::Write { end }) => {
                let inode = self.inode(node)?;
                self.room.wait_for(|| self.copy_up(&inode))?;
                Some(end)
            }
            _ => None,
        };
        let attr = self.attributes_of(node)?;
        // More than the blocks that the file has; without any, at least one.
        let has = attr.blocks * 512;
        let needs = end.map_or(0, |end| end.unwrap_or(attr.size + 1).saturating_sub(has));
        let needs = if has == 0 { needs.max(1) } else { needs };
        if needs == 0 {
            return Ok(());
        }
        let look = || if self.free_space()?.bytes_left() < needs { Err(Errno::NOSPC) } else { Ok(()) };
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

/// What a thread does with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Read,
    /// Up to this byte; `None` where it appends: at least one behind the last.
    Write {
        end: Option<u64>,
    },
}

impl Doing {
    /// By the system call that it is in: proc_pid_syscall(5). `None` where that is not
    /// shown, or is another one.
    fn of(thread: u32) -> Option<Self> {
        if thread == 0 {
            return None;
        }
        let text = std::fs::read_to_string(format!("/proc/{thread}/syscall")).ok()?;
        let mut words = text.split_ascii_whitespace();
        let call: libc::c_long = words.next()?.parse().ok()?;
        if READS.contains(&call) {
            return Some(Self::Read);
        }
        let mut argument = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
        let (file, _, count, offset) = (argument()?, argument()?, argument()?, argument()?);
        let (position, appends) = position(thread, file)?;
        let (from, count) = match call {
            libc::SYS_write => (position, count),
            libc::SYS_pwrite64 => (offset, count),
            // How much these write stands in the thread's memory.
            libc::SYS_writev => (position, 1),
            libc::SYS_pwritev | libc::SYS_pwritev2 => (offset, 1),
            _ => return None,
        };
        Some(Self::Write { end: (!appends).then(|| from.saturating_add(count)) })
    }
}

/// Where an open file of a thread is, and whether it appends: proc_pid_fdinfo(5).
fn position(thread: u32, file: u64) -> Option<(u64, bool)> {
    let text = std::fs::read_to_string(format!("/proc/{thread}/fdinfo/{file}")).ok()?;
    let of = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let flags = i32::from_str_radix(of("flags:")?, 8).ok()?;
    Some((of("pos:")?.parse().ok()?, flags & libc::O_APPEND != 0))
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
        assert_eq!(Doing::of(me), Some(Doing::Read));
        assert_eq!(Doing::of(0), None);
    }

    #[test]
    fn where_a_file_is_and_whether_it_appends() {
        use std::io::Write;
        use std::os::fd::AsRawFd;
        let me = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        let temp = tempfile::tempdir().expect("temporary directory");
        for appends in [false, true] {
            let path = temp.path().join("file");
            let open = std::fs::OpenOptions::new().append(appends).write(true).create(true).open(&path);
            let mut file = open.expect("open");
            file.write_all(b"12345").expect("write");
            let at = if appends { 10 } else { 5 };
            assert_eq!(position(me, file.as_raw_fd() as u64), Some((at, appends)));
        }
    }

    #[test]
    fn what_was_refused_counts_for_its_time_and_is_over_once() {
        let room = Room::new();
        assert!(!room.is_over());
        room.was_refused(7, Errno::DQUOT);
        assert!(room.is_narrow() && !room.is_over());
        room.narrow_until.store(1, Ordering::Relaxed);
        assert!(!room.is_narrow());
        assert!(room.is_over() && !room.is_over());
    }

    #[test]
    fn what_is_left_is_looked_at_now_and_then() {
        let room = Room::new();
        assert!(room.is_asked_for(1), "at first");
        assert!(!room.is_asked_for(STEP - 1));
        assert!(room.is_asked_for(1));
    }
}
