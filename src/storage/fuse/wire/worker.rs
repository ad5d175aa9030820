//! One thread: takes a request, answers it, takes the next.

use super::abi::{IN_HEADER, MAX_WRITE, WRITE_IN, opcode};
use super::conduit::Conduit;
use super::crew::Crew;
use super::dispatch::{Outcome, dispatch, wanted};
use super::ear::{Ear, more};
use super::filesystem::{Answer, FileSystem};
use super::flusher::{Flusher, Order};
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

/// What a thread answers with.
struct Voice {
    reply: Reply,
    conduit: Conduit,
}

impl Worker<'_> {
    /// Serves until the file system is unmounted.
    pub(super) fn run(self) {
        let mut buffer = vec![0; MAX_WRITE + IN_HEADER + WRITE_IN + 4096];
        let mut voice = Voice { reply: Reply::new(self.fs.lasts()), conduit: Conduit::default() };
        let mut ear = Ear::default();
        while self.crew.rest() {
            if !self.listen(&mut ear, &mut buffer, &mut voice) {
                // Unmounted: so it is for the others.
                self.crew.end();
            }
        }
    }

    /// Answers what is heard, until another listens; false at the end.
    fn listen(&self, ear: &mut Ear, buffer: &mut [u8], voice: &mut Voice) -> bool {
        loop {
            let heard = match ear.look(&self.device, buffer) {
                Err(Errno::AGAIN) if self.crew.may_rest() => return true,
                Err(Errno::AGAIN) => ear.wait(&self.device, buffer).map(|length| (length, true)),
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
            if waited && more(&self.device) {
                self.crew.call();
            }
            self.serve(&buffer[..length], voice);
            if !self.crew.done(self.number) {
                return true;
            }
        }
    }

    fn serve(&self, request: &[u8], Voice { reply, conduit }: &mut Voice) {
        let Some((header, fields)) = Header::split(request) else { return };
        reply.clear();
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
            Ok(Outcome::Silent) => return,
            Ok(Outcome::Seek { offset, whence }) => {
                let device = Arc::clone(&self.device);
                return self.flusher.send(Order {
                    device,
                    unique: header.unique,
                    node: header.node,
                    offset,
                    whence,
                });
            }
            Err(errno) => -errno.raw_os_error(),
        };
        answer(&self.device, reply, header.unique, error);
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
