//! When files were changed last, where the kernel gathers what is written.
//!
//! It keeps that time itself then, and tells it only where it is not what it was told
//! before. What it has gathered it passes on later, and our write of that moves the
//! time on the disk: it would be found after the next start. So it is set back,
//! once after a run of such writes, by the thread that made them. The file system is
//! not asked for it in between, or its next time would be a finer one than the
//! kernel's (multigrain timestamps).
//!
//! Before Linux 6.12 the kernel's own threads cannot tell it to servers of ordinary
//! users: their owner is root, who has no place in the user namespace. What they have
//! passed on has changed at a time that nobody knows here. It is set back only where
//! that is not long ago: a time too late makes `make` work in vain, one too early
//! makes it leave out what has changed.

use super::handles::Data;
use super::wire::Answer;
use crate::error::BestEffort;
use rustix::fs::{Stat, Timespec, Timestamps, UTIME_OMIT};
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The files whose time is not what the kernel knows, and what it knows. Who changes
/// a file's time, or moves it, does so alone. Sharded, so that files seldom meet.
pub(super) struct Times {
    shards: [Mutex<Vec<Owed>>; 256],
    /// The kernel tells all of them.
    all_told: AtomicBool,
}

/// Where it does not, so old may be what is set back.
const RECENT: Duration = Duration::from_millis(100);

struct Owed {
    node: u64,
    known: Timestamps,
}

thread_local! {
    /// What this thread has written to and not set back yet.
    static WRITTEN: RefCell<Option<(u64, Arc<Data>)>> = const { RefCell::new(None) };
}

/// One file's time, locked.
pub(super) struct Time<'a> {
    node: u64,
    all_told: bool,
    owed: MutexGuard<'a, Vec<Owed>>,
}

impl Times {
    pub(super) fn new() -> Self {
        Self { shards: [const { Mutex::new(Vec::new()) }; 256], all_told: AtomicBool::new(false) }
    }

    pub(super) fn agreed(&self, all_told: bool) {
        self.all_told.store(all_told, Ordering::Relaxed);
    }

    pub(super) fn lock(&self, node: u64) -> Time<'_> {
        let shard = &self.shards[node as usize % self.shards.len()];
        let all_told = self.all_told.load(Ordering::Relaxed);
        Time { node, all_told, owed: shard.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Sets back what the calling thread has written to: it does something else now.
    pub(super) fn settle(&self) {
        let Some((node, data)) = WRITTEN.take() else { return };
        let mut time = self.lock(node);
        if let Some(owed) = time.take() {
            // Without it the time is that of the write, some milliseconds later.
            rustix::fs::futimens(&data.fd, &owed.known).or_ignore();
        }
    }

    /// The same, but for what is written to next.
    pub(super) fn settle_but(&self, node: u64) {
        if WRITTEN.with_borrow(|written| written.as_ref().is_some_and(|(other, _)| *other != node)) {
            self.settle();
        }
    }
}

impl Time<'_> {
    fn take(&mut self) -> Option<Owed> {
        let place = self.owed.iter().position(|owed| owed.node == self.node)?;
        Some(self.owed.swap_remove(place))
    }

    /// What is written next moves the time.
    ///
    /// # Errors
    /// As fstat(2).
    pub(super) fn owe(&mut self, data: &Arc<Data>) -> Answer<()> {
        if !self.owed.iter().any(|owed| owed.node == self.node) {
            let known = match data.modified.get() {
                Some(known) => known,
                None => modified(&rustix::fs::fstat(&data.fd)?),
            };
            data.modified.set(Some(known.clone()));
            if !self.all_told && !is_recent(&known) {
                return Ok(());
            }
            self.owed.push(Owed { node: self.node, known });
        }
        WRITTEN.set(Some((self.node, Arc::clone(data))));
        Ok(())
    }

    /// It is another one now, which the kernel hears of or has made.
    pub(super) fn forget(&mut self, data: &Data) {
        self.take();
        data.modified.set(None);
    }

    /// The kernel knows it as it is on the disk.
    pub(super) fn is_known(&mut self, data: Option<&Arc<Data>>, stat: &Stat) {
        self.take();
        if let Some(data) = data {
            data.modified.set(Some(modified(stat)));
        }
    }
}

fn is_recent(known: &Timestamps) -> bool {
    let time = known.last_modification;
    let known = u64::try_from(time.tv_sec)
        .map_or(UNIX_EPOCH, |seconds| UNIX_EPOCH + Duration::new(seconds, time.tv_nsec as u32));
    SystemTime::now().duration_since(known).is_ok_and(|age| age < RECENT)
}

/// The time of the last change as it is, for futimens(2); that of the last access
/// stays.
pub(super) fn modified(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
    }
}
