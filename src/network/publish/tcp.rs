//! A connection: from the client to us, and from us, in the client's name, to
//! the container.

use super::inside::{self, Inside, Way};
use super::poll::{Poll, Token};
use super::relay::{Broken, Pool, Progress, Relay};
use rustix::io::Errno;
use rustix::net::SocketType;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// A client and the container.
#[derive(Debug)]
pub(super) struct Link {
    client: OwnedFd,
    address: SocketAddr,
    port: u16,
    inside: OwnedFd,
    state: State,
    up: Relay,
    down: Relay,
    /// It is in the list of those that have more to do.
    pub(super) queued: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// By the way of that number.
    Connecting(usize),
    Open,
}

/// What becomes of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Waits,
    Goes,
    Over,
}

/// What links share.
pub(super) struct Ground<'a> {
    pub(super) inside: &'a mut Inside,
    pub(super) poll: &'a Poll,
    pub(super) pool: &'a mut Pool,
}

impl Link {
    /// Begins to connect a client that was taken. `None` where the container
    /// cannot be reached: the client is told by a reset.
    pub(super) fn open(
        client: OwnedFd,
        address: SocketAddr,
        port: u16,
        token: Token,
        ground: &mut Ground<'_>,
    ) -> Option<Self> {
        let found = connect_from(address, port, 0, ground.inside);
        let Some((inside, number)) = found else {
            reset(&client);
            return None;
        };
        let added = ground.poll.add_both(&inside, token).and_then(|()| ground.poll.add_both(&client, token));
        if added.is_err() {
            reset(&client);
            return None;
        }
        let state = State::Connecting(number);
        Some(Self {
            client,
            address,
            port,
            inside,
            state,
            up: Relay::default(),
            down: Relay::default(),
            queued: false,
        })
    }

    /// Goes on as far as it can.
    pub(super) fn go(&mut self, token: Token, ground: &mut Ground<'_>) -> Next {
        if let State::Connecting(number) = self.state {
            match connected(&self.inside) {
                Ok(true) => self.state = State::Open,
                Ok(false) => return Next::Waits,
                Err(error) => return self.try_next(error, number, token, ground),
            }
        }
        // The answer first: what the container has said before it closed its
        // end is passed on before that is met.
        let down = self.down.go(&self.inside, &self.client, ground.pool);
        let up = self.up.go(&self.client, &self.inside, ground.pool);
        match (down, up) {
            // The container takes no more; what it has said still counts.
            (Ok(down), Err(Broken::Target)) => {
                self.up.give_up(ground.pool);
                next(down, Progress::Closed)
            }
            (Ok(down), Ok(up)) => next(down, up),
            (Err(_), _) | (_, Err(Broken::Source)) => self.abort(),
        }
    }

    fn try_next(&mut self, error: Errno, number: usize, token: Token, ground: &mut Ground<'_>) -> Next {
        if error != Errno::CONNREFUSED {
            ground.inside.forget();
        }
        let Some((inside, number)) = connect_from(self.address, self.port, number + 1, ground.inside) else {
            return self.abort();
        };
        if ground.poll.add_both(&inside, token).is_err() {
            return self.abort();
        }
        self.inside = inside;
        self.state = State::Connecting(number);
        Next::Waits
    }

    /// Either end that still listens hears of it as a reset.
    fn abort(&self) -> Next {
        reset(&self.client);
        reset(&self.inside);
        Next::Over
    }
}

fn next(down: Progress, up: Progress) -> Next {
    match (down, up) {
        (Progress::Closed, Progress::Closed) => Next::Over,
        (Progress::Goes, _) | (_, Progress::Goes) => Next::Goes,
        (Progress::Waits, _) | (_, Progress::Waits) => Next::Waits,
    }
}

/// Begins to connect by the first way that can be tried, from that number on.
fn connect_from(
    client: SocketAddr,
    port: u16,
    first: usize,
    inside: &mut Inside,
) -> Option<(OwnedFd, usize)> {
    let ways = inside.ways(client);
    let tries = ways.into_iter().enumerate().skip(first).filter_map(|(number, way)| Some((number, way?)));
    for (number, way) in tries {
        if let Ok(socket) = connect(way, port) {
            return Some((socket, number));
        }
        inside.forget();
    }
    None
}

fn connect(way: Way, port: u16) -> std::io::Result<OwnedFd> {
    let target = SocketAddr::new(way.own, port);
    let start = |source: Option<SocketAddr>| -> std::io::Result<Option<OwnedFd>> {
        let socket = inside::socket(way.own, SocketType::STREAM)?;
        rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
        if let Some(source) = source {
            inside::bind_as(&socket, source)?;
        }
        match rustix::net::connect(&socket, &target) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(Some(socket)),
            // A connection from there is being forgotten still, or goes to the
            // same port by another of the host's.
            Err(Errno::ADDRNOTAVAIL) => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    if let Some(socket) = start(way.source)? {
        return Ok(socket);
    }
    let other_port = way.source.map(|source| SocketAddr::new(source.ip(), 0));
    start(other_port)?.ok_or_else(|| Errno::ADDRNOTAVAIL.into())
}

/// Whether a socket that was told to connect has done so.
fn connected(socket: &OwnedFd) -> Result<bool, Errno> {
    rustix::net::sockopt::socket_error(socket)??;
    match rustix::net::getpeername(socket) {
        Ok(_) => Ok(true),
        Err(Errno::NOTCONN) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Closing it from now on says that the connection has failed: socket(7), SO_LINGER.
pub(super) fn reset(socket: &OwnedFd) {
    use crate::error::BestEffort;
    rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO)).or_ignore();
}
