//! One thread: takes a request, answers it, takes the next.
//!
//! All but one of them listen wherever the kernel lets them run; one is the
//! companion (see [`super::companion`]).

use super::abi::{IN_HEADER, MAX_WRITE, WRITE_IN, opcode};
use super::companion::{Farewell, LITTLE, Stay, Streak, waited_for_processor};
use super::conduit::Conduit;
use super::crew::Crew;
use super::dispatch::{Outcome, dispatch, wanted};
use super::ear::{Ear, more};
use super::filesystem::{Answer, FileSystem};
use super::flusher::{Flusher, Order, Seek};
use super::reply::Reply;
use super::request::{Fields, Header};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// One of the threads that serve.
pub(super) struct Worker<'a> {
    pub(super) number: usize,
    /// Its end of the connection.
    pub(super) device: Arc<OwnedFd>,
    pub(super) fs: &'a dyn FileSystem,
    pub(super) crew: &'a Crew,
    pub(super) flusher: Flusher,
}

/// Nanoseconds without a processor during one request, or the wait for it.
const STARVED: u64 = 1_000_000;

/// What a thread listens and answers with.
struct Voice {
    ear: Ear,
    buffer: Vec<u8>,
    reply: Reply,
    conduit: Conduit,
}

impl Voice {
    fn new(fs: &dyn FileSystem) -> Self {
        Self {
            ear: Ear::default(),
            buffer: vec![0; MAX_WRITE + IN_HEADER + WRITE_IN + 4096],
            reply: Reply::new(fs.lasts()),
            conduit: Conduit::default(),
        }
    }
}

/// What matters of a request after it was answered.
struct Asked {
    client: u32,
    little: bool,
}

/// How the companion leaves.
enum Parting {
    /// It has called another in its place.
    Left(Farewell),
    /// Another listens already.
    Replaced,
    /// The file system is unmounted.
    End,
}

impl Worker<'_> {
    /// Serves until the file system is unmounted.
    pub(super) fn run(self) {
        let mut voice = Voice::new(self.fs);
        while self.crew.rest() {
            let goes_on = self.listen(&mut voice);
            self.fs.settle();
            if !goes_on {
                // Unmounted: so it is for the others.
                self.crew.end();
            }
        }
    }

    /// The same as the companion.
    pub(super) fn run_as_companion(self) {
        if crate::sys::process::give_way().is_err() {
            return;
        }
        let mut voice = Voice::new(self.fs);
        while let Some(mut stay) = self.crew.companion.rest() {
            let waited = waited_for_processor();
            let parting = self.accompany(&mut stay, &mut voice);
            self.fs.settle();
            let why = match parting {
                Parting::End => return self.crew.end(),
                Parting::Left(why) => why,
                Parting::Replaced => {
                    // By a slow disk, or for want of a processor.
                    let since = waited_for_processor().zip(waited).map(|(now, then)| now - then);
                    let starved = since.is_none_or(|nanoseconds| nanoseconds > stay.usual_wait() + STARVED);
                    if starved { Farewell::Starved } else { Farewell::NoUse }
                }
            };
            self.crew.companion.leaves(&stay, why);
        }
    }

    /// Answers what is heard, until another listens; false at the end.
    fn listen(&self, voice: &mut Voice) -> bool {
        let mut streak = Streak::default();
        loop {
            let heard = match voice.ear.look(&self.device, &mut voice.buffer) {
                Err(Errno::AGAIN) if self.crew.may_rest() => return true,
                Err(Errno::AGAIN) => {
                    if !self.crew.meanwhile(self.number, || self.fs.settle()) {
                        return true;
                    }
                    voice.ear.wait(&self.device, &mut voice.buffer).map(|length| (length, true))
                }
                heard => heard,
            };
            let (length, waited) = match heard {
                Ok(heard) => heard,
                // ENOENT: the request was given up before it was taken. EAGAIN:
                // another thread that shares this end was alert.
                Err(Errno::INTR | Errno::NOENT | Errno::AGAIN) => continue,
                // ENODEV: unmounted.
                Err(_) => return false,
            };
            self.crew.busy(self.number);
            // One that came alone while this thread looked out is the only one.
            let alone = !(waited && more(&self.device));
            if !alone {
                self.crew.call();
            }
            let asked = self.serve(length, voice);
            if !self.crew.done(self.number) {
                return true;
            }
            // Two who look out for one client's requests never rest by themselves.
            if streak.note(asked.client, asked.little, alone)
                && (self.crew.may_rest() || self.crew.hands_over(self.number, asked.client))
            {
                return true;
            }
        }
    }

    /// Answers what one client asks, beside it.
    fn accompany(&self, stay: &mut Stay, voice: &mut Voice) -> Parting {
        let companion = &self.crew.companion;
        if stay.begin(companion).is_err() {
            self.crew.call_in_place();
            return Parting::Left(Farewell::Starved);
        }
        loop {
            let mut listens = true;
            let meanwhile = || {
                listens = self.crew.meanwhile(self.number, || {
                    stay.follow(companion);
                    self.fs.settle();
                });
                listens
            };
            let length = match voice.ear.wait_a_while(&self.device, &mut voice.buffer, meanwhile) {
                Ok(length) => length,
                Err(_) if !listens => return Parting::Replaced,
                Err(Errno::AGAIN) if self.crew.is_left_by_companion() => {
                    return Parting::Left(Farewell::Quiet);
                }
                Err(Errno::INTR | Errno::NOENT | Errno::AGAIN) => continue,
                Err(_) => return Parting::End,
            };
            self.crew.busy(self.number);
            let asked = self.serve(length, voice);
            let stays = stay.goes_on(companion, asked.client, asked.little);
            if !self.crew.done(self.number) {
                return Parting::Replaced;
            }
            if companion.was_relieved() && self.crew.may_rest() {
                return Parting::Replaced;
            }
            if !stays && self.crew.is_left_by_companion() {
                return Parting::Left(Farewell::NoUse);
            }
        }
    }

    /// Answers the request of this length in the buffer.
    fn serve(&self, length: usize, voice: &mut Voice) -> Asked {
        let Voice { reply, conduit, buffer, .. } = voice;
        let Some((header, fields)) = Header::split(&buffer[..length]) else {
            return Asked { client: 0, little: false };
        };
        reply.clear();
        reply.doubt(self.fs.is_narrow());
        if header.opcode != opcode::WRITE {
            self.fs.settle();
        }
        let little = length <= LITTLE
            && (header.opcode != opcode::READ
                || wanted(&mut Fields(fields.0)).is_ok_and(|wanted| wanted.size <= LITTLE));
        let asked = Asked { client: header.client, little };
        let respond = || {
            if header.opcode == opcode::READ && self.pass(&header, Fields(fields.0), conduit)? {
                return Ok(Outcome::Silent);
            }
            dispatch(self.fs, &header, fields, reply)
        };
        // A fault of ours costs one request, not the container.
        let result = catch_unwind(AssertUnwindSafe(respond)).unwrap_or(Err(Errno::IO));
        let error = match result {
            Ok(Outcome::Answered) => 0,
            Ok(Outcome::Silent) => return asked,
            Ok(Outcome::Seek { offset, whence }) => {
                let device = Arc::clone(&self.device);
                let (unique, node) = (header.unique, header.node);
                self.flusher.send(Order::Seek(Seek { device, unique, node, offset, whence }));
                return asked;
            }
            Err(errno) => -errno.raw_os_error(),
        };
        answer(&self.device, reply, header.unique, error);
        if header.opcode == opcode::WRITE && matches!(-error, libc::ENOSPC | libc::EDQUOT) {
            self.flusher.send(Order::Doubt(Arc::clone(&self.device), header.node));
        }
        asked
    }

    /// Answers a large read; false where it is none, or has to be copied.
    fn pass(&self, header: &Header, mut fields: Fields<'_>, conduit: &mut Conduit) -> Answer<bool> {
        let wanted = wanted(&mut fields)?;
        if !conduit.takes(wanted) {
            return Ok(false);
        }
        let source = self.fs.source(header.node)?;
        Ok(conduit.pass(self.device.as_fd(), header.unique, source.as_fd(), wanted))
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
