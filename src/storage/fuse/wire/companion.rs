//! Answering on the processor of whoever asks.
//!
//! Where one program asks one thing after the other, question and answer cross
//! from one processor to another and back, and each crossing has to interrupt a
//! processor that sleeps: on a virtual machine that takes longer than the answer.
//! On one processor it takes two switches. The kernel does not do that by itself:
//! it wakes a thread where a processor is idle. But a processor on which nothing
//! runs but threads of the policy SCHED_IDLE is as good as idle to it (sched(7);
//! `sched_idle_cpu` in kernel/sched/fair.c, since Linux 5.4). So there is one
//! thread of that policy, the companion, which is held on the processor where the
//! client runs, and listens in the place of the others as long as one client
//! asks, and asks for little things.
//!
//! Such a thread gets next to nothing on a processor that has other work, and no
//! ordinary user may take the policy back. So it leaves at the first sign of that,
//! the watch looks after it, and it stays away for longer each time.

use crate::sys::proc_stat::Stat;
use rustix::io::Errno;
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

/// So many requests of one client, each after the answer to the one before.
const STREAK: u32 = 32;
/// Bytes that are read or written in one request: with more of them it serves
/// better to answer on another processor while the client goes on.
pub(super) const LITTLE: usize = 64 << 10;
/// So many requests for much, or of clients elsewhere, may come in between; two are
/// forgotten for each so many requests.
const TROUBLE: u32 = 16;
const FORGETS: u32 = 16;
/// Milliseconds that it stays away after a stay that was of no use, and at first
/// after one in which it got no processor; then twice as long each time, up to
/// some doublings, until a stay of so many requests went well.
const PAUSE: u64 = 5;
const PENANCE: u64 = 50;
const LONGEST_PENANCE: u32 = 7;
const LONG_STAY: u32 = 2000;

/// Requests of one client, as a listener counts them.
#[derive(Default)]
pub(super) struct Streak {
    client: u32,
    length: u32,
}

impl Streak {
    /// Counts a request; true when it is time for the companion. `alone`: no
    /// other waited beside it.
    pub(super) fn note(&mut self, client: u32, little: bool, alone: bool) -> bool {
        if !little || !alone {
            self.length = 0;
        } else if client == self.client {
            self.length += 1;
        } else if client != 0 {
            *self = Self { client, length: 1 };
        }
        // What the kernel itself writes is mostly what the client has just closed.
        self.length >= STREAK && client != 0
    }
}

/// What the companion, the listeners and the watch share.
pub(super) struct Companion {
    /// The processors that this process may use; none if it makes no sense here.
    allowed: Option<CpuSet>,
    call: Mutex<Call>,
    called: Condvar,
    /// Its thread has the policy.
    ready: AtomicBool,
    /// From when it is called until it leaves.
    present: AtomicBool,
    /// Another listens too, as it got no processor.
    relieved: AtomicBool,
    /// The thread of the watch.
    watch: AtomicI32,
    /// Its own thread.
    own: AtomicI32,
    start: Instant,
    /// Milliseconds after `start` before which it is not called.
    away: AtomicU64,
    /// How often it has starved of late.
    penance: AtomicU32,
}

#[derive(Default)]
struct Call {
    stay: Option<Stay>,
    over: bool,
}

impl Companion {
    pub(super) fn new() -> Self {
        Self {
            allowed: sched_getaffinity(None).ok().filter(|allowed| allowed.count() > 1),
            call: Mutex::default(),
            called: Condvar::new(),
            ready: AtomicBool::new(false),
            present: AtomicBool::new(false),
            relieved: AtomicBool::new(false),
            watch: AtomicI32::new(0),
            own: AtomicI32::new(0),
            start: Instant::now(),
            away: AtomicU64::new(0),
            penance: AtomicU32::new(0),
        }
    }

    /// Whether there is any use for it: with one processor there is not.
    pub(super) fn is_of_use(&self) -> bool {
        self.allowed.is_some()
    }

    /// Asks it to listen to this client, who runs on this processor; false if it does
    /// not: it is not there or stays away, or it cannot be seen where the client runs
    /// (proc(5), `hidepid`).
    pub(super) fn summon(&self, client: u32, processor: Option<usize>) -> bool {
        let Some(allowed) = &self.allowed else { return false };
        if self.is_away() || !self.ready.load(Ordering::Acquire) {
            return false;
        }
        let processor = processor.unwrap_or(CpuSet::MAX_CPU);
        if processor >= CpuSet::MAX_CPU || !allowed.is_set(processor) {
            self.stay_away(Farewell::Starved);
            return false;
        }
        if self.present.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.relieved.store(false, Ordering::Release);
        self.call.lock().unwrap_or_else(PoisonError::into_inner).stay =
            Some(Stay { client, processor, trouble: 0, served: 0 });
        self.called.notify_one();
        true
    }

    /// Whether a processor is free; else it stays away for a while.
    pub(super) fn has_room(&self) -> bool {
        let Some(allowed) = self.allowed.as_ref().filter(|_| !self.is_away()) else { return false };
        let room = ready_to_run().is_some_and(|threads| threads <= allowed.count());
        if !room {
            self.stay_away(Farewell::NoUse);
        }
        room
    }

    /// Waits for a client; none at the end.
    pub(super) fn rest(&self) -> Option<Stay> {
        self.own.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::Release);
        self.ready.store(true, Ordering::Release);
        let mut call = self.call.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match call.stay.take() {
                _ if call.over => return None,
                Some(stay) => return Some(stay),
                None => call = self.called.wait(call).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// It ends wherever a processor is free: where its last client was, others may run,
    /// and until it has ended the server has its layers open.
    pub(super) fn end(&self) {
        if let (Some(allowed), Some(own)) = (&self.allowed, Pid::from_raw(self.own.load(Ordering::Acquire))) {
            sched_setaffinity(Some(own), allowed).ok();
        }
        self.call.lock().unwrap_or_else(PoisonError::into_inner).over = true;
        self.called.notify_all();
    }

    #[cfg(test)]
    pub(super) fn be_called(&self) {
        self.present.store(true, Ordering::Release);
    }

    /// It listens no more.
    pub(super) fn leaves(&self, stay: &Stay, why: Farewell) {
        if why != Farewell::Starved && stay.served >= LONG_STAY {
            self.penance.store(0, Ordering::Relaxed);
        }
        self.stay_away(why);
        if let Some(allowed) = &self.allowed {
            self.hold_watch(allowed);
        }
        self.present.store(false, Ordering::Release);
    }

    fn stay_away(&self, why: Farewell) {
        let pause = match why {
            Farewell::Quiet => 0,
            Farewell::NoUse => PAUSE,
            Farewell::Starved => {
                let times = self.penance.load(Ordering::Relaxed);
                self.penance.store((times + 1).min(LONGEST_PENANCE), Ordering::Relaxed);
                PENANCE << times
            }
        };
        self.away.store(self.now() + pause, Ordering::Relaxed);
    }

    fn is_away(&self) -> bool {
        self.now() < self.away.load(Ordering::Relaxed)
    }

    /// Milliseconds since the start.
    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// Whether it listens.
    pub(super) fn is_present(&self) -> bool {
        self.present.load(Ordering::Acquire)
    }

    /// Another listens beside it from now on; true for the first one.
    pub(super) fn relieve(&self) -> bool {
        self.is_present() && !self.relieved.swap(true, Ordering::AcqRel)
    }

    /// Whether that is so, and it does not know yet.
    pub(super) fn is_relieved(&self) -> bool {
        self.is_present() && self.relieved.load(Ordering::Acquire)
    }

    /// Whether that was so since it was asked last.
    pub(super) fn was_relieved(&self) -> bool {
        self.relieved.load(Ordering::Acquire) && self.relieved.swap(false, Ordering::AcqRel)
    }

    /// The calling thread is the watch.
    pub(super) fn is_watched_by_me(&self) {
        self.watch.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::Release);
    }

    /// Moves the calling thread to the processor of the client, and the watch with
    /// it: a processor on which the watch has gone to sleep would look for work, and
    /// take the client from here.
    fn move_to(&self, processor: usize) -> Result<(), Errno> {
        let mut there = CpuSet::new();
        if processor >= CpuSet::MAX_CPU || !self.allowed.is_some_and(|allowed| allowed.is_set(processor)) {
            return Err(Errno::INVAL);
        }
        there.set(processor);
        sched_setaffinity(None, &there)?;
        self.hold_watch(&there);
        Ok(())
    }

    fn hold_watch(&self, processors: &CpuSet) {
        if let Some(watch) = Pid::from_raw(self.watch.load(Ordering::Acquire)) {
            sched_setaffinity(Some(watch), processors).ok();
        }
    }
}

/// Why the companion leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// Nothing is asked any more.
    Quiet,
    /// Several ask, or for much.
    NoUse,
    /// It gets no processor, or has one with others' work.
    Starved,
}

/// One stay of the companion with a client.
pub(super) struct Stay {
    client: u32,
    processor: usize,
    trouble: u32,
    served: u32,
}

impl Stay {
    /// Moves the calling thread to where the client is.
    ///
    /// # Errors
    /// As `sched_setaffinity(2)`.
    pub(super) fn begin(&self, companion: &Companion) -> Result<(), Errno> {
        companion.move_to(self.processor)
    }

    /// Nanoseconds that it waited for the processor in all where all went well: at
    /// each request until the client has gone to sleep.
    pub(super) fn usual_wait(&self) -> u64 {
        u64::from(self.served) * 40_000
    }

    /// Nothing is asked just now, which mostly means that the client was woken on
    /// another processor: then it goes there. It may have to wait for the client, and
    /// that for an answer: see [`processor_of`].
    pub(super) fn follow(&mut self, companion: &Companion) {
        if let Some(processor) = processor_of(self.client)
            && processor != self.processor
            && companion.move_to(processor).is_ok()
        {
            self.processor = processor;
        }
    }

    /// A request was answered; whether to stay.
    pub(super) fn goes_on(&mut self, companion: &Companion, client: u32, little: bool) -> bool {
        self.served = self.served.saturating_add(1);
        if self.served.is_multiple_of(FORGETS) {
            self.trouble = self.trouble.saturating_sub(2);
        }
        if !little {
            self.trouble += 1;
        } else if client != 0 && client != self.client {
            self.client = client;
            let before = self.processor;
            self.follow(companion);
            self.trouble += 2 * u32::from(self.processor != before);
        }
        self.trouble < TROUBLE
    }
}

/// The processor on which a thread ran last: field 39 of proc_pid_stat(5). While that
/// thread is in execve(2) this waits (`exec_update_lock` in kernel/fork.c, since
/// Linux 6.18 here too); and there it may close files of this file system, and wait
/// for its answers. So who asks for it must have somebody to answer in its place.
pub(super) fn processor_of(thread: u32) -> Option<usize> {
    Stat::of(thread)?.number(39)
}

/// How many threads of this machine run or are ready to: proc_loadavg(5).
fn ready_to_run() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_ascii_whitespace().nth(3)?.split_once('/')?.0.parse().ok()
}

/// Nanoseconds that the calling thread was ready and had no processor
/// (Documentation/scheduler/sched-stats.rst); none where that is not counted.
pub(super) fn waited_for_processor() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_streak_is_of_one_client_and_of_little_things() {
        let mut streak = Streak::default();
        for _ in 1..STREAK {
            assert!(!streak.note(7, true, true));
        }
        assert!(streak.note(7, true, true));
        assert!(!streak.note(8, true, true), "another client");
        for (little, alone) in [(false, true), (true, false)] {
            let mut streak = Streak { client: 7, length: STREAK };
            assert!(!streak.note(7, little, alone));
        }
        let mut nobody = Streak::default();
        assert!(!(0..2 * STREAK).any(|_| nobody.note(0, true, true)), "the kernel itself");
    }

    #[test]
    fn the_processor_of_a_thread() {
        let me = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        assert!(processor_of(me).is_some());
    }

    #[test]
    fn it_comes_once_and_stays_away_longer_each_time_it_starves() {
        let companion = Companion { allowed: sched_getaffinity(None).ok(), ..Companion::new() };
        let away = || companion.away.load(Ordering::Relaxed);
        let me = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        let summon = || companion.summon(me, processor_of(me));
        assert!(!summon(), "its thread is not there yet");
        companion.ready.store(true, Ordering::Release);
        assert!(summon());
        assert!(!summon(), "it is with somebody");
        let stay = companion.rest().expect("a client");
        assert_eq!(stay.client, me);
        companion.leaves(&stay, Farewell::Starved);
        let first = away();
        assert!(!summon(), "it is away");
        companion.leaves(&stay, Farewell::Starved);
        assert!(away() >= first + 50);
        let long = Stay { served: LONG_STAY, ..stay };
        companion.leaves(&long, Farewell::Quiet);
        assert!(summon(), "all is well again");
        companion.end();
        assert!(companion.rest().is_none());
    }
}
