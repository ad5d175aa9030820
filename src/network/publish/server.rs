//! The process that takes connections: one thread, one epoll(7) loop. Nobody
//! waits for a client that stalls.

use super::inside::Inside;
use super::poll::{Poll, Token};
use super::relay::Pool;
use super::routes::Routes;
use super::tcp::{self, Ground, Link, reset};
use super::udp::{self, Flows, Next};
use super::{FromServer, ToServer};
use crate::channel::Channel;
use crate::error::{BestEffort, Context, Error, Result};
use crate::network::netlink::Diagnosis;
use crate::network::power;
use crate::sys::namespace::bring_interface_up;
use crate::sys::process::raise_file_limit;
use crate::sys::socket::receive_fd;
use crate::types::port::{Port, Protocol};
use rustix::event::epoll::Event;
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::thread::{CapabilitySet, LinkNameSpaceType, move_into_link_name_space};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Events that are taken at once.
const EVENTS: usize = 256;
/// Connections of one socket that are taken before others have their turn.
const ACCEPTS: usize = 64;
/// How long no connection is taken where fds have run out.
const OUT_OF_FDS: Duration = Duration::from_millis(50);

/// The server's end of the monitor's socket.
pub(crate) type Monitor = Channel<FromServer, ToServer>;

/// A socket of the host, and where it leads.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: OwnedFd,
    /// In the container.
    pub(super) port: Port,
}

impl Listener {
    /// The port of the host; 0 where the socket does not tell.
    pub(super) fn host_port(&self) -> u16 {
        let name = rustix::net::getsockname(&self.socket).ok();
        name.and_then(|name| SocketAddr::try_from(name).ok()).map_or(0, |name| name.port())
    }
}

/// Serves until the monitor closes its end. `confine` takes from this process
/// what serving does not need.
///
/// # Errors
/// Where the container's network cannot be entered; nothing is served then.
pub(crate) fn serve(mut monitor: Monitor, confine: impl FnOnce() -> Result<()>) -> Result<()> {
    // As many connections as the user may have files.
    raise_file_limit();
    let Some(ToServer::Enter { loopback_only }) = monitor.receive()? else {
        return Ok(());
    };
    let namespace = next_fd(&monitor)?;
    // Of the network that clients are in: it stays there.
    let host = Diagnosis::open().ok();
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .context(|| "enter the container's network namespace")?;
    drop(namespace);
    // The container's first process does it too, perhaps after us: without it
    // no route can be local.
    bring_interface_up(c"lo").context(|| "bring the container's loopback device up")?;
    let mut routes = Routes::open()?;
    let mut warnings = Vec::new();
    let inside = Inside::prepare(loopback_only, &mut routes, &mut warnings);
    for warning in warnings {
        say(&warning);
    }
    // Clients' addresses and routes to them, and their ports below 1024.
    power::keep(CapabilitySet::NET_ADMIN | CapabilitySet::NET_BIND_SERVICE)?;
    let server = Server {
        poll: Poll::new()?,
        monitor,
        inside,
        routes,
        flows: Flows::new(host),
        pool: Pool::new(),
        listeners: BTreeMap::new(),
        links: Vec::new(),
        free: Vec::new(),
        ended: Vec::new(),
        queue: Vec::new(),
        paused: Vec::new(),
        resting: false,
    };
    // A kernel without filters is no reason to serve nobody; it is told.
    if let Err(error) = confine() {
        say(&format!("the server of published ports runs without a seccomp filter: {error}"));
    }
    server.run()
}

/// The monitor reads it, and never keeps us waiting: see its end.
fn say(warning: &str) {
    rustix::io::write(rustix::stdio::stderr(), format!("{warning}\n").as_bytes()).or_ignore();
}

fn next_fd(monitor: &Monitor) -> Result<OwnedFd> {
    let step = || "receive an fd from the monitor";
    let fd = receive_fd(monitor.as_fd()).context(step)?;
    fd.ok_or_else(|| Error::failed("the socket was closed").context(step()))
}

struct Server {
    poll: Poll,
    monitor: Monitor,
    inside: Inside,
    routes: Routes,
    flows: Flows,
    pool: Pool,
    listeners: BTreeMap<u32, Listener>,
    links: Vec<Option<Link>>,
    /// Places in `links`.
    free: Vec<u32>,
    /// Places that have become free in this round: what the kernel still says
    /// of them is of those that were there.
    ended: Vec<u32>,
    /// Those that have had their turn and have more to do.
    queue: Vec<u32>,
    /// Sockets of datagrams that are not read before the nap is over.
    paused: Vec<u32>,
    /// Fds have run out: no connection is taken for a moment.
    resting: bool,
}

impl Server {
    fn run(mut self) -> Result<()> {
        self.poll.add_input(&self.monitor, Token::Control).context(|| "wait for the monitor")?;
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        loop {
            let patience = self.patience();
            self.poll.wait(&mut events, patience)?;
            if self.resting {
                self.wake_listeners();
            }
            for event in &events {
                match Token::of(event) {
                    Token::Control => {
                        if !self.hear()? {
                            return Ok(());
                        }
                    }
                    Token::Listener(number) => self.take(number),
                    Token::Link(number) => self.advance(number),
                    Token::Flow(number) => {
                        let (flows, ground) = self.datagrams();
                        flows.answer(number, &ground);
                    }
                }
            }
            for number in std::mem::take(&mut self.queue) {
                if let Some(Some(link)) = self.links.get_mut(number as usize) {
                    link.queued = false;
                    self.advance(number);
                }
            }
            self.free.append(&mut self.ended);
            if !self.paused.is_empty() && self.flows.nap_left().is_zero() {
                self.resume();
            }
            let (flows, mut ground) = self.datagrams();
            flows.tick(&mut ground);
        }
    }

    /// How long nothing needs to be done of ourselves.
    fn patience(&self) -> Option<Duration> {
        if !self.queue.is_empty() {
            return Some(Duration::ZERO);
        }
        let nap = (!self.paused.is_empty()).then(|| self.flows.nap_left());
        let rest = self.resting.then_some(OUT_OF_FDS);
        [nap, rest, self.flows.patience()].into_iter().flatten().min()
    }

    /// One word of the monitor's; `false` where it is gone.
    fn hear(&mut self) -> Result<bool> {
        match self.monitor.receive()? {
            None => return Ok(false),
            Some(ToServer::Enter { .. }) => {
                return Err(Error::failed("the monitor has given this server two namespaces"));
            }
            Some(ToServer::Open { number, port }) => {
                let socket = next_fd(&self.monitor)?;
                if port.protocol == Protocol::Udp {
                    self.watch_udp(port.number);
                }
                self.poll.add_input(&socket, Token::Listener(number)).context(|| "wait for clients")?;
                self.listeners.insert(number, Listener { socket, port });
            }
            Some(ToServer::Close { number }) => {
                let (flows, mut ground) = self.datagrams();
                flows.close(number, &mut ground);
                if let Some(listener) = self.listeners.remove(&number) {
                    // The monitor has the same socket open: dropping it is not enough.
                    self.poll.remove(&listener.socket).or_ignore();
                    let port = listener.port;
                    let last = self.listeners.values().all(|other| other.port != port);
                    if last && port.protocol == Protocol::Udp {
                        self.routes.forget_port(true, port.number);
                        self.routes.forget_port(false, port.number);
                    }
                }
                self.monitor.send(&FromServer::Closed { number })?;
            }
        }
        Ok(true)
    }

    fn datagrams(&mut self) -> (&mut Flows, udp::Ground<'_>) {
        let Self { inside, routes, poll, listeners, .. } = self;
        (&mut self.flows, udp::Ground { inside, routes, poll, listeners })
    }

    fn watch_udp(&mut self, port: u16) {
        for v4 in [true, false] {
            if let Err(error) = self.routes.watch_port(v4, port) {
                if self.inside.has(v4) {
                    say(&format!("UDP clients of port {port} are shown as the container itself: {error}"));
                    self.inside.show_no_datagrams(v4);
                }
            }
        }
    }

    fn take(&mut self, number: u32) {
        for _ in 0..ACCEPTS {
            let Some(listener) = self.listeners.get(&number) else { return };
            if listener.port.protocol == Protocol::Udp {
                let Self { inside, routes, poll, listeners, flows, .. } = &mut *self;
                let next = flows.take(number, &mut udp::Ground { inside, routes, poll, listeners });
                let Some(listener) = listeners.get(&number) else { return };
                if next == Next::AfterNap && poll.remove(&listener.socket).is_ok() {
                    self.paused.push(number);
                }
                return;
            }
            let port = listener.port.number;
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match rustix::net::acceptfrom_with(&listener.socket, flags) {
                Ok((client, address)) => match address.map(SocketAddr::try_from) {
                    Some(Ok(address)) => self.begin(client, address, port),
                    Some(Err(_)) | None => reset(&client),
                },
                Err(Errno::AGAIN) => return,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => return self.rest(),
                // A client that has gone again, and what accept(2) says of the network.
                Err(_) => {}
            }
        }
    }

    fn begin(&mut self, client: OwnedFd, address: SocketAddr, port: u16) {
        let number = self.free.pop().unwrap_or(self.links.len() as u32);
        let token = Token::Link(number);
        let mut ground = Ground { inside: &mut self.inside, poll: &self.poll, pool: &mut self.pool };
        let link = Link::open(client, address, port, token, &mut ground);
        let Some(link) = link else { return self.free.push(number) };
        let place = number as usize;
        if place == self.links.len() {
            self.links.push(Some(link));
        } else {
            self.links[place] = Some(link);
        }
        // Inside one machine it is connected already.
        self.advance(number);
    }

    fn advance(&mut self, number: u32) {
        let Some(Some(link)) = self.links.get_mut(number as usize) else { return };
        if link.queued {
            return;
        }
        let mut ground = Ground { inside: &mut self.inside, poll: &self.poll, pool: &mut self.pool };
        match link.go(Token::Link(number), &mut ground) {
            tcp::Next::Waits => {}
            tcp::Next::Goes => {
                link.queued = true;
                self.queue.push(number);
            }
            tcp::Next::Over => {
                self.links[number as usize] = None;
                self.ended.push(number);
            }
        }
    }

    /// Reads the sockets again that were paused.
    fn resume(&mut self) {
        for number in self.paused.drain(..) {
            if let Some(listener) = self.listeners.get(&number) {
                self.poll.add_input(&listener.socket, Token::Listener(number)).or_ignore();
            }
        }
    }

    /// Clients wait in the kernel until there are fds again.
    fn rest(&mut self) {
        self.resting = true;
        for listener in self.listeners.values() {
            self.poll.remove(&listener.socket).or_ignore();
        }
    }

    fn wake_listeners(&mut self) {
        self.resting = false;
        for (number, listener) in &self.listeners {
            self.poll.add_input(&listener.socket, Token::Listener(*number)).or_ignore();
        }
    }
}
