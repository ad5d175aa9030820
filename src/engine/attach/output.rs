//! One of our outputs, written without ever being stuck in it: while it is
//! full, signals and input still pass.

use crate::error::{Context, Error, Result};
use rustix::fs::FileType;
use rustix::io::Errno;
use std::os::fd::BorrowedFd;

/// Bytes that a pipe takes without blocking when poll(2) says that it is
/// writable: PIPE_BUF of pipe(7), one page. Descriptors are not made
/// non-blocking: that would hold for everyone who shares them.
const WITHOUT_BLOCKING: usize = 4096;

/// An output of ours.
#[derive(Debug)]
pub(super) struct Output<'a> {
    fd: BorrowedFd<'a>,
    name: &'static str,
    state: State,
    /// Why output was lost, if it was.
    error: Option<Error>,
    /// Whoever read it has gone: EPIPE.
    is_abandoned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not written to yet.
    New,
    /// A regular file: always ready.
    File,
    /// A pipe, socket or terminal: wait until it is ready.
    Stream,
    /// Nobody reads it, it cannot be written, or it is not wanted.
    Closed,
}

impl<'a> Output<'a> {
    pub(super) fn new(fd: BorrowedFd<'a>, name: &'static str, wanted: bool) -> Self {
        Self {
            fd,
            name,
            state: if wanted { State::New } else { State::Closed },
            error: None,
            is_abandoned: false,
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'a> {
        self.fd
    }

    /// Writes some of `bytes`, where it is ready or does not need to be; gives
    /// how many were taken, 0 where poll(2) must say first that it is ready.
    pub(super) fn write(&mut self, bytes: &[u8], ready: bool) -> usize {
        if self.state == State::New {
            let is_file = rustix::fs::fstat(self.fd)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
            self.state = if is_file { State::File } else { State::Stream };
        }
        let part = match self.state {
            State::Closed => return bytes.len(),
            State::File => bytes,
            State::Stream if ready => &bytes[..bytes.len().min(WITHOUT_BLOCKING)],
            State::New | State::Stream => return 0,
        };
        match rustix::io::write(self.fd, part) {
            Ok(count) => count,
            Err(Errno::INTR | Errno::AGAIN) => 0,
            Err(errno) => {
                self.state = State::Closed;
                self.is_abandoned = errno == Errno::PIPE;
                // Nobody reads (EPIPE), or the terminal was hung up (EIO): not our failure.
                if errno != Errno::PIPE && errno != Errno::IO {
                    self.error = Err::<(), _>(errno).context(|| format!("write to {}", self.name)).err();
                }
                bytes.len()
            }
        }
    }

    /// Whether whoever read it has gone.
    pub(super) fn is_abandoned(&self) -> bool {
        self.is_abandoned
    }

    /// # Errors
    /// What made output get lost.
    pub(super) fn finish(self) -> Result<()> {
        self.error.map_or(Ok(()), Err)
    }
}
