//! One direction of a connection: what comes from one socket goes to another.
//!
//! Small pieces are copied through a buffer of this process. Where more comes
//! at once, the pages themselves go from socket to socket through a pipe:
//! splice(2). Pipes are lent, since a connection that is silent needs none.

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use rustix::pipe::{PipeFlags, SpliceFlags};
use std::os::fd::OwnedFd;

/// Bytes of the buffer.
const BUFFER: usize = 64 << 10;
/// A read of so much says that more will come.
const MUCH: usize = 32 << 10;
/// A splice of so little says that it has ended.
const LITTLE: usize = 8 << 10;
/// Bytes that a pipe is to hold; the most that a user may ask for by default.
const PIPE: usize = 1 << 20;
/// Pipes that wait to be lent again.
const IDLE_PIPES: usize = 16;
/// Bytes that a connection may move before others have their turn.
const TURN: usize = 2 << 20;

/// Buffers that the connections share.
#[derive(Debug)]
pub(super) struct Pool {
    buffer: Vec<u8>,
    pipes: Vec<Pipe>,
}

#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    size: usize,
}

impl Pool {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; BUFFER], pipes: Vec::new() }
    }

    fn lend(&mut self) -> Option<Pipe> {
        self.pipes.pop().or_else(|| {
            let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
            let size = rustix::pipe::fcntl_setpipe_size(&write, PIPE)
                .or_else(|_| rustix::pipe::fcntl_getpipe_size(&write))
                .unwrap_or(BUFFER);
            Some(Pipe { read, write, size })
        })
    }

    fn take_back(&mut self, pipe: Pipe) {
        if self.pipes.len() < IDLE_PIPES {
            self.pipes.push(pipe);
        }
    }
}

/// What has been read and not yet been written.
#[derive(Debug, Default)]
enum Carry {
    #[default]
    Nothing,
    /// From this place on.
    Bytes(Vec<u8>, usize),
    /// So many bytes are in the pipe.
    Pipe(Pipe, usize),
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Relay {
    carry: Carry,
    /// The source has said its last.
    ended: bool,
    /// And that was passed on, or nobody takes it any more.
    closed: bool,
    much: bool,
}

/// Where a direction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The kernel will tell when it can go on.
    Waits,
    /// It has had its turn.
    Goes,
    /// Nothing will come any more.
    Closed,
}

/// Which end a direction failed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    Source,
    Target,
}

impl Relay {
    /// Nobody takes what comes: it is not read any more.
    pub(super) fn give_up(&mut self, pool: &mut Pool) {
        if let Carry::Pipe(pipe, 0) = std::mem::take(&mut self.carry) {
            pool.take_back(pipe);
        }
        self.closed = true;
    }

    /// Moves what there is.
    pub(super) fn go(&mut self, from: &OwnedFd, to: &OwnedFd, pool: &mut Pool) -> Result<Progress, Broken> {
        if self.closed {
            return Ok(Progress::Closed);
        }
        let mut moved = 0;
        while moved < TURN {
            if !self.write(to, pool)? {
                return Ok(Progress::Waits);
            }
            if self.ended {
                self.give_up(pool);
                // The other end may be gone already, which is as good.
                return match rustix::net::shutdown(to, Shutdown::Write) {
                    Ok(()) | Err(Errno::NOTCONN) => Ok(Progress::Closed),
                    Err(_) => Err(Broken::Target),
                };
            }
            match self.read(from, to, pool)? {
                Some(0) => self.ended = true,
                Some(count) => moved += count,
                None => return Ok(Progress::Waits),
            }
        }
        Ok(Progress::Goes)
    }

    /// Whether all that was read has been written.
    fn write(&mut self, to: &OwnedFd, pool: &mut Pool) -> Result<bool, Broken> {
        loop {
            let result = match &mut self.carry {
                Carry::Nothing | Carry::Pipe(_, 0) => return Ok(true),
                Carry::Bytes(bytes, from) => {
                    rustix::net::send(to, &bytes[*from..], SendFlags::NOSIGNAL).map(|count| {
                        *from += count;
                        *from == bytes.len()
                    })
                }
                Carry::Pipe(pipe, filled) => {
                    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
                    rustix::pipe::splice(&pipe.read, None, to, None, *filled, flags).map(|count| {
                        *filled -= count;
                        false
                    })
                }
            };
            match result {
                Ok(true) => self.carry = Carry::Nothing,
                Ok(false) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(_) => {
                    self.give_up(pool);
                    return Err(Broken::Target);
                }
            }
        }
    }

    /// Bytes that were read, 0 for the end; `None` where there are none yet.
    /// Nothing is carried when this is called, but perhaps an empty pipe.
    fn read(&mut self, from: &OwnedFd, to: &OwnedFd, pool: &mut Pool) -> Result<Option<usize>, Broken> {
        let pipe = match std::mem::take(&mut self.carry) {
            Carry::Pipe(pipe, _) => Some(pipe),
            Carry::Nothing | Carry::Bytes(..) => None,
        };
        let result = if self.much
            && let Some(pipe) = pipe.or_else(|| pool.lend())
        {
            let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
            let result =
                retry_on_intr(|| rustix::pipe::splice(from, None, &pipe.write, None, pipe.size, flags));
            let filled = result.unwrap_or(0);
            self.much = filled > LITTLE;
            if filled > 0 {
                self.carry = Carry::Pipe(pipe, filled);
            } else {
                pool.take_back(pipe);
            }
            result
        } else {
            let result =
                retry_on_intr(|| rustix::net::recv(from, pool.buffer.as_mut_slice(), RecvFlags::empty()));
            let result = result.map(|(count, _)| count);
            if let Ok(count @ 1..) = result {
                self.much = count >= MUCH;
                self.copy(count, to, pool)?;
            }
            result
        };
        match result {
            Ok(count) => Ok(Some(count)),
            Err(Errno::AGAIN) => Ok(None),
            Err(_) => Err(Broken::Source),
        }
    }

    /// Writes so much of the buffer; what does not go now is carried.
    fn copy(&mut self, count: usize, to: &OwnedFd, pool: &Pool) -> Result<(), Broken> {
        let bytes = &pool.buffer[..count];
        let sent = match retry_on_intr(|| rustix::net::send(to, bytes, SendFlags::NOSIGNAL)) {
            Ok(sent) => sent,
            Err(Errno::AGAIN) => 0,
            Err(_) => return Err(Broken::Target),
        };
        if sent < count {
            self.carry = Carry::Bytes(bytes[sent..].to_vec(), 0);
        }
        Ok(())
    }
}
