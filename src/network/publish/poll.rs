//! What the server waits for: epoll(7), and what each event belongs to.

use crate::error::{Context, Result};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Whose fd it is; the numbers are places in the server's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Control,
    Listener(u32),
    /// Either end of a connection.
    Link(u32),
    /// The socket of a client of UDP.
    Flow(u32),
}

impl Token {
    fn data(self) -> EventData {
        let (kind, number) = match self {
            Self::Control => (0, 0),
            Self::Listener(number) => (1, number),
            Self::Link(number) => (2, number),
            Self::Flow(number) => (3, number),
        };
        EventData::new_u64(kind << 32 | u64::from(number))
    }

    pub(super) fn of(event: &Event) -> Self {
        let data = event.data.u64();
        let number = data as u32;
        match data >> 32 {
            0 => Self::Control,
            1 => Self::Listener(number),
            2 => Self::Link(number),
            _ => Self::Flow(number),
        }
    }
}

#[derive(Debug)]
pub(super) struct Poll(OwnedFd);

impl Poll {
    pub(super) fn new() -> Result<Self> {
        epoll::create(CreateFlags::CLOEXEC).map(Self).context(|| "make an epoll instance")
    }

    /// Is told of as long as there is something to read.
    pub(super) fn add_input(&self, fd: impl AsFd, token: Token) -> Result<(), Errno> {
        epoll::add(&self.0, fd, token.data(), EventFlags::IN)
    }

    /// Is told of once for each change, both ways: who is told goes on until
    /// the kernel says EAGAIN.
    pub(super) fn add_both(&self, fd: impl AsFd, token: Token) -> Result<(), Errno> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.0, fd, token.data(), flags)
    }

    pub(super) fn remove(&self, fd: impl AsFd) -> Result<(), Errno> {
        epoll::delete(&self.0, fd)
    }

    /// Fills `events`; waits without end where there is no `patience`.
    pub(super) fn wait(&self, events: &mut Vec<Event>, patience: Option<Duration>) -> Result<()> {
        events.clear();
        let timeout = patience.map(|patience| Timespec {
            tv_sec: patience.as_secs() as i64,
            tv_nsec: patience.subsec_nanos().into(),
        });
        match epoll::wait(&self.0, rustix::buffer::spare_capacity(events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error).context(|| "wait for events"),
        }
    }
}
