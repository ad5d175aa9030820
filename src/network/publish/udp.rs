//! Datagrams. Each client of a published port has a socket inside, with the
//! client's address, for as long as the two speak with each other. Neither is
//! sent more than it has room for: see `brake`.

use super::backlog::Backlog;
use super::brake::{Brake, Lane};
use super::inside::{Inside, Way, bind_as, socket};
use super::poll::{Poll, Token};
use super::routes::Routes;
use super::server::Listener;
use crate::error::BestEffort;
use crate::network::netlink::Diagnosis;
use crate::sys::inet::{BATCH, Batch};
use rustix::io::Errno;
use rustix::net::SocketType;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// A client that the container has never answered is forgotten after so long,
/// another after the second: what the kernel's connection tracking does.
const UNANSWERED: Duration = Duration::from_secs(30);
const ANSWERED: Duration = Duration::from_secs(180);
/// How often that is looked at.
pub(super) const TICK: Duration = Duration::from_secs(10);
/// Where there are so many clients, those without an answer go after a second.
const MANY: usize = 8192;
/// Batches of one socket before others have their turn.
const TURN: usize = 8;
/// How long receivers without room are left alone before they are looked at
/// again: at first, and where that was not enough several times.
const FIRST_NAP: Duration = Duration::from_micros(100);
const LONGEST_NAP: Duration = Duration::from_millis(1);

/// A client as it is known: the socket that it speaks to, its address, ours.
type Key = (u32, SocketAddr, IpAddr);

#[derive(Debug)]
struct Flow {
    key: Key,
    socket: OwnedFd,
    /// Of the container's namespace, with the route to this client.
    shown: Option<IpAddr>,
    used: Instant,
    answered: bool,
    /// What the container has no room for, and what the client has none for.
    inward: Backlog,
    outward: Backlog,
}

impl Flow {
    /// To the container.
    fn lane_in(&mut self, number: u32) -> Lane<'_> {
        Lane { number, socket: self.socket.as_fd(), to: None, backlog: &mut self.inward }
    }

    /// To the client.
    fn lane_out<'a>(&'a mut self, number: u32, listener: &'a Listener) -> Lane<'a> {
        let to = Some((self.key.1, self.key.2));
        Lane { number, socket: listener.socket.as_fd(), to, backlog: &mut self.outward }
    }
}

/// All clients of UDP.
#[derive(Debug)]
pub(super) struct Flows {
    batch: Batch,
    clients: Vec<Option<Flow>>,
    free: Vec<u32>,
    known: HashMap<Key, u32>,
    /// How many have a route to this address.
    routes: HashMap<IpAddr, usize>,
    looked: Instant,
    /// To containers, and to clients.
    inward: Brake,
    outward: Brake,
    /// Bytes that wait, in both directions.
    waiting_bytes: usize,
    nap: Duration,
    /// The end of the nap.
    next: Instant,
    /// Whose sockets inside are not read before the nap is over.
    paused: Vec<u32>,
}

/// When a socket of the host is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    AtOnce,
    AfterNap,
}

/// What flows need of the server.
pub(super) struct Ground<'a> {
    pub(super) inside: &'a mut Inside,
    pub(super) routes: &'a mut Routes,
    pub(super) poll: &'a Poll,
    pub(super) listeners: &'a BTreeMap<u32, Listener>,
}

impl Flows {
    /// For the network namespace that this process is in. `host` tells about the
    /// sockets of clients on this machine.
    pub(super) fn new(host: Option<Diagnosis>) -> Self {
        Self {
            batch: Batch::new(),
            clients: Vec::new(),
            free: Vec::new(),
            known: HashMap::new(),
            routes: HashMap::new(),
            looked: Instant::now(),
            inward: Brake::new(Diagnosis::open().ok()),
            outward: Brake::new(host),
            waiting_bytes: 0,
            nap: FIRST_NAP,
            next: Instant::now(),
            paused: Vec::new(),
        }
    }

    /// When it is to be called again at the latest; `None` where nobody waits.
    pub(super) fn patience(&self) -> Option<Duration> {
        if self.is_waiting() || !self.paused.is_empty() {
            return Some(self.nap_left());
        }
        (!self.known.is_empty()).then_some(TICK)
    }

    /// What is left of the nap of receivers without room, and of busy sockets.
    pub(super) fn nap_left(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    /// Whether there is a receiver without room.
    fn is_waiting(&self) -> bool {
        self.inward.is_waiting() || self.outward.is_waiting()
    }

    fn lie_down(&mut self, nap: Duration) {
        (self.nap, self.next) = (nap, Instant::now() + nap);
    }

    /// Passes on what has come to a socket of the host. Whether that may be read
    /// again at once, or after the nap.
    pub(super) fn take(&mut self, number: u32, ground: &mut Ground<'_>) -> Next {
        let listeners = ground.listeners;
        let Some(listener) = listeners.get(&number) else { return Next::AtOnce };
        let mut is_busy = false;
        for _ in 0..TURN {
            let Ok(count) = self.batch.receive(listener.socket.as_fd()) else { break };
            let keys: Vec<Option<Key>> =
                (0..count).map(|at| Some((number, self.batch.peer(at)?, self.batch.local(at)?))).collect();
            let mut start = 0;
            while start < count {
                let same = keys[start..].iter().take_while(|key| **key == keys[start]).count();
                if let Some(key) = keys[start] {
                    self.pass(key, start..start + same, listener, ground);
                }
                start += same;
            }
            is_busy = self.inward.is_busy(count);
            if count < BATCH {
                break;
            }
        }
        if self.is_waiting() {
            Next::AfterNap
        } else if is_busy {
            self.lie_down(FIRST_NAP);
            Next::AfterNap
        } else {
            Next::AtOnce
        }
    }

    /// Passes on what the container has said to a client.
    pub(super) fn answer(&mut self, number: u32, ground: &Ground<'_>) {
        let rested = !self.is_waiting() && self.paused.is_empty();
        let Some(Some(flow)) = self.clients.get_mut(number as usize) else { return };
        let Some(listener) = ground.listeners.get(&flow.key.0) else { return };
        let mut is_busy = false;
        for _ in 0..TURN {
            let count = match self.batch.receive(flow.socket.as_fd()) {
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                // Nobody listens inside: the client learns it by silence.
                Err(_) => continue,
            };
            flow.answered = true;
            flow.used = Instant::now();
            let bytes = &mut self.waiting_bytes;
            self.outward.pass(&mut flow.lane_out(number, listener), 0..count, &mut self.batch, bytes);
            is_busy = self.outward.is_busy(count);
            if count < BATCH {
                break;
            }
        }
        // Others' answers do not wait for this client.
        if (is_busy || !flow.outward.is_empty()) && ground.poll.remove(&flow.socket).is_ok() {
            self.paused.push(number);
            if rested {
                self.lie_down(FIRST_NAP);
            }
        }
    }

    fn pass(&mut self, key: Key, which: Range<usize>, listener: &Listener, ground: &mut Ground<'_>) {
        let (number, sent) = match self.known.get(&key) {
            Some(number) => (*number, 0),
            None => match self.open(key, which.start, listener, ground) {
                Some(number) => (number, 1),
                None => return,
            },
        };
        let rested = !self.is_waiting();
        let Some(Some(flow)) = self.clients.get_mut(number as usize) else { return };
        flow.used = Instant::now();
        let (which, bytes) = (which.start + sent..which.end, &mut self.waiting_bytes);
        self.inward.pass(&mut flow.lane_in(number), which, &mut self.batch, bytes);
        if rested && self.is_waiting() {
            self.lie_down(FIRST_NAP);
        }
    }

    /// Sends what waits, as far as there is room for it now.
    fn go_on(&mut self, ground: &Ground<'_>) {
        let now = Instant::now();
        let (batch, bytes) = (&mut self.batch, &mut self.waiting_bytes);
        let mut moved = false;
        for number in self.inward.due() {
            let Some(Some(flow)) = self.clients.get_mut(number as usize) else { continue };
            moved |= self.inward.go_on(&mut flow.lane_in(number), now, batch, bytes);
        }
        for number in self.outward.due() {
            let Some(Some(flow)) = self.clients.get_mut(number as usize) else { continue };
            let Some(listener) = ground.listeners.get(&flow.key.0) else { continue };
            moved |= self.outward.go_on(&mut flow.lane_out(number, listener), now, batch, bytes);
        }
        self.lie_down(if moved { FIRST_NAP } else { (self.nap * 2).min(LONGEST_NAP) });
    }

    /// A socket for a new client: by its own family, and where nobody listens
    /// there, by the other. Its first datagram is sent, since that is how it is
    /// found out: inside one machine the refusal is there when the call returns.
    fn open(&mut self, key: Key, first: usize, listener: &Listener, ground: &mut Ground<'_>) -> Option<u32> {
        let port = listener.port.number;
        if self.known.len() >= MANY {
            self.forget(Duration::from_secs(1), ANSWERED, ground);
            if self.known.len() >= MANY {
                return None;
            }
        }
        let ways: Vec<Way> = ground.inside.datagram_ways(key.1).into_iter().flatten().collect();
        for (index, way) in ways.iter().enumerate() {
            let Ok(socket) = connect(*way, port) else {
                ground.inside.forget();
                continue;
            };
            let shown = way.source.map(|source| source.ip());
            // Before it is sent: the answer may be as quick.
            if !self.keep_route(shown, way.own, ground) {
                continue;
            }
            let sent = self.batch.send(socket.as_fd(), first..first + 1, None);
            let refused = sent.is_err() || is_refused(&socket);
            if refused && index + 1 < ways.len() {
                self.release_route(shown, ground);
                continue;
            }
            let to = SocketAddr::new(way.own, port);
            let from = rustix::net::getsockname(&socket).ok().and_then(|name| name.try_into().ok());
            let inward = Backlog::new(from.unwrap_or(key.1), to);
            let outward = Backlog::new(SocketAddr::new(key.2, listener.host_port()), key.1);
            let used = Instant::now();
            return self.insert(Flow { key, socket, shown, used, answered: false, inward, outward }, ground);
        }
        None
    }

    fn insert(&mut self, flow: Flow, ground: &mut Ground<'_>) -> Option<u32> {
        let number = self.free.pop().unwrap_or(self.clients.len() as u32);
        if ground.poll.add_input(&flow.socket, Token::Flow(number)).is_err() {
            self.release_route(flow.shown, ground);
            self.free.push(number);
            return None;
        }
        self.known.insert(flow.key, number);
        if number as usize == self.clients.len() {
            self.clients.push(Some(flow));
        } else {
            self.clients[number as usize] = Some(flow);
        }
        Some(number)
    }

    /// Sends what waits; forgets clients that are silent.
    pub(super) fn tick(&mut self, ground: &mut Ground<'_>) {
        if self.nap_left().is_zero() {
            for number in std::mem::take(&mut self.paused) {
                if let Some(Some(flow)) = self.clients.get(number as usize) {
                    ground.poll.add_input(&flow.socket, Token::Flow(number)).or_ignore();
                }
            }
            if self.is_waiting() {
                self.go_on(ground);
            }
        }
        if self.looked.elapsed() >= TICK {
            self.looked = Instant::now();
            self.forget(UNANSWERED, ANSWERED, ground);
        }
    }

    /// Forgets the clients of a socket that is not served any more.
    pub(super) fn close(&mut self, listener: u32, ground: &mut Ground<'_>) {
        self.remove(|flow| flow.key.0 == listener, ground);
    }

    fn forget(&mut self, unanswered: Duration, answered: Duration, ground: &mut Ground<'_>) {
        let now = Instant::now();
        self.remove(
            |flow| now.duration_since(flow.used) > if flow.answered { answered } else { unanswered },
            ground,
        );
    }

    fn remove(&mut self, gone: impl Fn(&Flow) -> bool, ground: &mut Ground<'_>) {
        for number in 0..self.clients.len() {
            if let Some(flow) = self.clients[number].take_if(|flow| gone(flow)) {
                self.known.remove(&flow.key);
                for list in [&mut self.inward.waiting, &mut self.outward.waiting, &mut self.paused] {
                    list.retain(|waiting| *waiting != number as u32);
                }
                self.waiting_bytes -= flow.inward.bytes() + flow.outward.bytes();
                self.release_route(flow.shown, ground);
                self.free.push(number as u32);
            }
        }
    }

    fn keep_route(&mut self, shown: Option<IpAddr>, own: IpAddr, ground: &mut Ground<'_>) -> bool {
        let Some(address) = shown else { return true };
        let count = self.routes.entry(address).or_insert(0);
        if *count == 0 && ground.routes.add_client(address, own).is_err() {
            self.routes.remove(&address);
            return false;
        }
        *count += 1;
        true
    }

    fn release_route(&mut self, shown: Option<IpAddr>, ground: &mut Ground<'_>) {
        let Some(address) = shown else { return };
        if let Some(count) = self.routes.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.routes.remove(&address);
                ground.routes.remove_client(address);
            }
        }
    }
}

fn connect(way: Way, port: u16) -> std::io::Result<OwnedFd> {
    let socket = socket(way.own, SocketType::DGRAM)?;
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 8 << 20).or_ignore();
    if let Some(source) = way.source {
        bind_as(&socket, source)?;
    }
    rustix::net::connect(&socket, &SocketAddr::new(way.own, port))?;
    Ok(socket)
}

fn is_refused(socket: &OwnedFd) -> bool {
    matches!(rustix::net::sockopt::socket_error(socket), Ok(Err(Errno::CONNREFUSED)))
}
