//! Datagrams. Each client of a published port has a socket inside, with the
//! client's address, for as long as the two speak with each other.

use super::backlog::Backlog;
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
/// More than so many datagrams in so much time are not fetched one by one: each
/// time they get a nap to come in, and go on together.
const BUSY: usize = 32;
const WINDOW: Duration = Duration::from_millis(1);

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
    backlog: Backlog,
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
    /// Tells about receivers, where the kernel does.
    diagnosis: Option<Diagnosis>,
    /// Those with a backlog, and the bytes of all these.
    waiting: Vec<u32>,
    waiting_bytes: usize,
    nap: Duration,
    /// The end of the nap.
    next: Instant,
    /// Datagrams taken since then.
    taken: usize,
    window: Instant,
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
}

impl Flows {
    /// For the network namespace that this process is in.
    pub(super) fn new() -> Self {
        Self {
            batch: Batch::new(),
            clients: Vec::new(),
            free: Vec::new(),
            known: HashMap::new(),
            routes: HashMap::new(),
            looked: Instant::now(),
            diagnosis: Diagnosis::open().ok(),
            waiting: Vec::new(),
            waiting_bytes: 0,
            nap: FIRST_NAP,
            next: Instant::now(),
            taken: 0,
            window: Instant::now(),
        }
    }

    /// When it is to be called again at the latest; `None` where nobody waits.
    pub(super) fn patience(&self) -> Option<Duration> {
        if self.is_waiting() {
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
        !self.waiting.is_empty()
    }

    fn lie_down(&mut self, nap: Duration) {
        (self.nap, self.next) = (nap, Instant::now() + nap);
    }

    /// Passes on what has come to a socket of the host. Whether that may be read
    /// again at once, or after the nap.
    pub(super) fn take(&mut self, number: u32, socket: &OwnedFd, port: u16, ground: &mut Ground<'_>) -> Next {
        for _ in 0..TURN {
            let Ok(count) = self.batch.receive(socket.as_fd()) else { break };
            let keys: Vec<Option<Key>> =
                (0..count).map(|at| Some((number, self.batch.peer(at)?, self.batch.local(at)?))).collect();
            let mut start = 0;
            while start < count {
                let same = keys[start..].iter().take_while(|key| **key == keys[start]).count();
                if let Some(key) = keys[start] {
                    self.pass(key, start..start + same, port, ground);
                }
                start += same;
            }
            self.taken += count;
            if count < BATCH {
                break;
            }
        }
        if self.window.elapsed() > WINDOW {
            (self.window, self.taken) = (Instant::now(), 0);
        }
        if self.is_waiting() {
            Next::AfterNap
        } else if self.taken > BUSY {
            self.lie_down(FIRST_NAP);
            Next::AfterNap
        } else {
            Next::AtOnce
        }
    }

    /// Passes on what the container has said to a client.
    pub(super) fn answer(&mut self, number: u32, listeners: &BTreeMap<u32, Listener>) {
        for _ in 0..TURN {
            let Some(Some(flow)) = self.clients.get_mut(number as usize) else { return };
            let count = match self.batch.receive(flow.socket.as_fd()) {
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                // Nobody listens inside: the client learns it by silence.
                Err(_) => continue,
            };
            flow.answered = true;
            flow.used = Instant::now();
            let (listener, client, local) = flow.key;
            let Some(Listener { socket, .. }) = listeners.get(&listener) else { return };
            let mut start = 0;
            while start < count {
                match self.batch.send(socket.as_fd(), start..count, Some((client, local))) {
                    Ok(sent) => start += sent.max(1),
                    // One that cannot be sent is lost, as datagrams may be.
                    Err(_) => start += 1,
                }
            }
        }
    }

    fn pass(&mut self, key: Key, which: Range<usize>, port: u16, ground: &mut Ground<'_>) {
        let (number, sent) = match self.known.get(&key) {
            Some(number) => (*number, 0),
            None => match self.open(key, which.start, port, ground) {
                Some(number) => (number, 1),
                None => return,
            },
        };
        let Some(Some(flow)) = self.clients.get_mut(number as usize) else { return };
        flow.used = Instant::now();
        let mut rest = which.start + sent..which.end;
        let mut is_full = false;
        if flow.backlog.is_empty() {
            while !rest.is_empty() {
                let lengths = rest.clone().map(|at| self.batch.bytes(at).len());
                let count = flow.backlog.fitting(lengths, &mut self.diagnosis);
                if count == 0 {
                    is_full = true;
                    break;
                }
                send(&mut self.batch, &flow.socket, rest.start..rest.start + count);
                rest.start += count;
            }
        }
        for at in rest {
            flow.backlog.keep(self.batch.bytes(at), flow.used, &mut self.waiting_bytes);
        }
        if is_full {
            if self.waiting.is_empty() {
                self.lie_down(FIRST_NAP);
            }
            self.waiting.push(number);
        }
    }

    /// Sends what waits, as far as there is room for it now.
    fn go_on(&mut self) {
        let now = Instant::now();
        let mut moved = false;
        for number in std::mem::take(&mut self.waiting) {
            let Some(Some(flow)) = self.clients.get_mut(number as usize) else { continue };
            flow.backlog.forget_old(now, &mut self.waiting_bytes);
            while !flow.backlog.is_empty() {
                let count = flow.backlog.ready(&mut self.diagnosis);
                if count == 0 {
                    break;
                }
                self.batch.load(flow.backlog.waiting().take(count));
                send(&mut self.batch, &flow.socket, 0..count);
                flow.backlog.forget(count, &mut self.waiting_bytes);
                moved = true;
            }
            if !flow.backlog.is_empty() {
                self.waiting.push(number);
            }
        }
        self.lie_down(if moved { FIRST_NAP } else { (self.nap * 2).min(LONGEST_NAP) });
    }

    /// A socket for a new client: by its own family, and where nobody listens
    /// there, by the other. Its first datagram is sent, since that is how it is
    /// found out: inside one machine the refusal is there when the call returns.
    fn open(&mut self, key: Key, first: usize, port: u16, ground: &mut Ground<'_>) -> Option<u32> {
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
            let backlog = Backlog::new(from.unwrap_or(key.1), to);
            let used = Instant::now();
            return self.insert(Flow { key, socket, shown, used, answered: false, backlog }, ground);
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
        if self.is_waiting() && self.nap_left().is_zero() {
            self.go_on();
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
                self.waiting.retain(|waiting| *waiting != number as u32);
                self.waiting_bytes -= flow.backlog.bytes();
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

/// Sends all of `which`.
fn send(batch: &mut Batch, socket: &OwnedFd, which: Range<usize>) {
    let mut start = which.start;
    let mut refused = false;
    while start < which.end {
        match batch.send(socket.as_fd(), start..which.end, None) {
            Ok(sent) => start += sent.max(1),
            // Said of an earlier one: this one was not sent yet.
            Err(error) if error.raw_os_error() == Some(libc::ECONNREFUSED) && !refused => refused = true,
            Err(_) => start += 1,
        }
    }
}

fn is_refused(socket: &OwnedFd) -> bool {
    matches!(rustix::net::sockopt::socket_error(socket), Ok(Err(Errno::CONNREFUSED)))
}
