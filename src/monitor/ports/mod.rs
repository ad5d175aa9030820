//! A container's published ports, as its monitor sees them: the sockets of the
//! host, which the monitor binds and holds, and the process that serves them.
//!
//! Since the monitor has the sockets too, clients that come while the server is
//! started anew wait in the kernel and are served. Sockets and server go with
//! the run: a port is free again before anybody hears of the container's end.

mod filter;
mod helper;

pub(crate) use helper::{ROLE, main};

use super::life::Container;
use super::note;
use crate::error::{BestEffort, Error, Result};
use crate::network::publish::ToServer;
use crate::network::publish::bind::{self, Bound, Refusal};
use crate::network::uplink::Netns;
use crate::state::store::Store;
use crate::types::container::ContainerRecord;
use crate::types::port::{Binding, HostPort, Publish, Unpublish, check_duplicates};
use helper::Helper;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The first pause before a server that has died is started again, doubled for
/// each death that follows soon.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// A server that has lived so long was a good one.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// The ports of one container.
#[derive(Default)]
pub(crate) struct Ports {
    /// As the record has them, and as they were changed since.
    wanted: RefCell<Vec<Publish>>,
    /// In the order of `wanted`, while the container runs.
    open: RefCell<Vec<Vec<Open>>>,
    helper: RefCell<Option<Rc<Helper>>>,
    /// What the server is to enter.
    place: RefCell<Option<Place>>,
    next: Cell<u32>,
    changed: Rc<Notify>,
    watch: RefCell<Option<JoinHandle<()>>>,
}

struct Open {
    /// By which the server knows it.
    number: u32,
    bound: Bound,
}

struct Place {
    netns: Netns,
    loopback_only: bool,
}

impl Ports {
    pub(super) fn of(record: &ContainerRecord) -> Self {
        // As docker does; a warning has said so.
        let none = record.config.network.discards_ports();
        let wanted = if none { Vec::new() } else { record.config.publish.clone() };
        Self { wanted: RefCell::new(wanted), ..Self::default() }
    }

    /// The sockets of the host, as they are now.
    pub(super) fn bindings(&self) -> Vec<Binding> {
        self.open.borrow().iter().flatten().map(|open| open.bound.binding).collect()
    }

    /// The server, which is not to be reaped by others.
    pub(super) fn pid(&self) -> Option<u32> {
        self.helper.borrow().as_ref().map(|helper| helper.pid())
    }

    /// Takes the ports of the host and starts the server beside what follows.
    ///
    /// # Errors
    /// `Conflict` where a port is taken, with the container that has it.
    pub(super) fn bind(&self, container: &Container) -> Result<()> {
        let wanted = self.wanted.borrow().clone();
        if wanted.is_empty() {
            return Ok(());
        }
        let store = &container.store;
        let id = &container.record.id;
        let chosen = wanted.iter().any(|publish| !matches!(publish.host, HostPort::Fixed(_)));
        let mut before = if chosen { store.last_ports(id)? } else { Vec::new() };
        let mut all = Vec::new();
        for publish in &wanted {
            let host = publish.had(&before);
            // Two that may be anywhere do not get the same port.
            before.retain(|binding| binding.port != publish.port || Some(binding.address.port()) != host);
            all.push(self.open(publish, host, container)?);
        }
        *self.open.borrow_mut() = all;
        if chosen {
            store.save_ports(id, &self.bindings()).or_ignore();
        }
        *self.helper.borrow_mut() = Some(Rc::new(Helper::start()?));
        Ok(())
    }

    fn open(&self, publish: &Publish, host: Option<u16>, container: &Container) -> Result<Vec<Open>> {
        let address = publish.address.or(container.record.config.host_binding);
        let publish = &Publish { address, ..*publish };
        let bound = bind::bind(publish, host).map_err(|refusal| match refusal {
            Refusal::Taken(address) => taken(&container.store, publish, address),
            Refusal::Other(error) => error.context(format!("publish {publish}")),
        })?;
        let numbered = bound.into_iter().map(|bound| {
            let number = self.next.get();
            self.next.set(number.wrapping_add(1));
            Open { number, bound }
        });
        Ok(numbered.collect())
    }

    /// Gives the server what it is to serve, from here on until [`Ports::close`].
    pub(super) fn serve(&self, container: &Rc<Container>, netns: Netns, loopback_only: bool) -> Result<()> {
        *self.place.borrow_mut() = Some(Place { netns, loopback_only });
        if let Some(helper) = self.helper.borrow().as_ref() {
            self.hand_over(helper)?;
        }
        let watch = tokio::task::spawn_local(watch(Rc::clone(container)));
        *self.watch.borrow_mut() = Some(watch);
        Ok(())
    }

    fn hand_over(&self, helper: &Helper) -> Result<()> {
        let place = self.place.borrow();
        let Some(Place { netns, loopback_only }) = place.as_ref() else { return Ok(()) };
        helper.say(&ToServer::Enter { loopback_only: *loopback_only }, Some(netns.as_fd()))?;
        self.open.borrow().iter().flatten().try_for_each(|open| give(helper, open))
    }

    /// Ends the server and lets go of the ports.
    pub(super) fn close(&self) {
        if let Some(watch) = self.watch.borrow_mut().take() {
            watch.abort();
        }
        if let Some(helper) = self.helper.borrow_mut().take() {
            helper.end();
        }
        self.open.borrow_mut().clear();
        self.place.borrow_mut().take();
    }

    /// Publishes more, and less, while the container runs; all of it or nothing.
    /// What is published from now on.
    ///
    /// # Errors
    /// `NotFound` where what is to go is not published; `Conflict` where a port
    /// is taken.
    pub(super) fn change(
        &self,
        container: &Container,
        add: &[Publish],
        remove: &[Unpublish],
    ) -> Result<Vec<Publish>> {
        if self.place.borrow().is_none() {
            return Err(Error::conflict("the container is just being restarted").hint("try again"));
        }
        let mut wanted = self.wanted.borrow().clone();
        let mut places: Vec<usize> = (0..wanted.len()).collect();
        let bindings = self.bindings();
        for what in remove {
            let place = what.find(&wanted, &bindings)?;
            wanted.remove(place);
            places.remove(place);
        }
        wanted.extend(add);
        check_duplicates(&wanted)?;
        // A port that is removed may be added again by the same request.
        let going: Vec<usize> = (0..self.wanted.borrow().len()).filter(|i| !places.contains(i)).collect();
        let mut kept = Vec::new();
        let mut gone = Vec::new();
        for (index, open) in std::mem::take(&mut *self.open.borrow_mut()).into_iter().enumerate() {
            if going.contains(&index) { gone.push((index, open)) } else { kept.push(open) }
        }
        let numbers: Vec<u32> =
            gone.iter().flat_map(|(_, open)| open.iter().map(|open| open.number)).collect();
        if let Some(helper) = self.helper.borrow().as_ref() {
            for number in numbers {
                helper.close(number).or_ignore();
            }
        }
        drop(gone);
        let old = self.wanted.replace(wanted.clone());
        let mut added = Vec::new();
        for publish in add {
            match self.open(publish, None, container) {
                Ok(open) => added.push(open),
                Err(error) => {
                    drop(added);
                    *self.open.borrow_mut() = kept;
                    self.restore(old, &going, container);
                    return Err(error);
                }
            }
        }
        if let Some(helper) = self.helper.borrow().as_ref() {
            // Where it has just died, the next gets everything.
            added.iter().flatten().try_for_each(|open| give(helper, open)).or_ignore();
        }
        kept.extend(added);
        *self.open.borrow_mut() = kept;
        self.start_if_needed()?;
        let bindings = self.bindings();
        container.store.save_ports(&container.record.id, &bindings).or_ignore();
        container.republish(|state| state.ports = bindings)?;
        Ok(wanted)
    }

    /// Publishes again what was taken back for something that could not be had.
    fn restore(&self, old: Vec<Publish>, going: &[usize], container: &Container) {
        for index in going {
            let opened = old.get(*index).and_then(|publish| self.open(publish, None, container).ok());
            let opened = opened.unwrap_or_default();
            if let Some(helper) = self.helper.borrow().as_ref() {
                opened.iter().try_for_each(|open| give(helper, open)).or_ignore();
            }
            let mut open = self.open.borrow_mut();
            let place = (*index).min(open.len());
            open.insert(place, opened);
        }
        *self.wanted.borrow_mut() = old;
    }

    fn start_if_needed(&self) -> Result<()> {
        if self.helper.borrow().is_some() || self.open.borrow().is_empty() {
            return Ok(());
        }
        let helper = Rc::new(Helper::start()?);
        self.hand_over(&helper)?;
        *self.helper.borrow_mut() = Some(helper);
        self.changed.notify_one();
        Ok(())
    }
}

fn give(helper: &Helper, open: &Open) -> Result<()> {
    let Open { number, bound: Bound { binding, socket } } = open;
    helper.say(&ToServer::Open { number: *number, port: binding.port }, Some(socket.as_fd()))
}

/// Starts the server anew whenever it dies.
async fn watch(container: Rc<Container>) {
    let ports = &container.ports;
    let mut pause = FIRST_PAUSE;
    loop {
        let helper = ports.helper.borrow().clone();
        let Some(helper) = helper else {
            ports.changed.notified().await;
            continue;
        };
        let began = Instant::now();
        let words = helper.live(&|warning| note::ports(&container, "warning", warning)).await;
        note::ports(&container, "died", &words);
        pause = if began.elapsed() >= GOOD_RUN { FIRST_PAUSE } else { pause };
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
            let started = Helper::start().and_then(|helper| ports.hand_over(&helper).map(|()| helper));
            match started {
                Ok(helper) => {
                    *ports.helper.borrow_mut() = Some(Rc::new(helper));
                    note::ports(&container, "restarted", "");
                    break;
                }
                Err(error) => note::ports(&container, "died", &error.to_string()),
            }
        }
    }
}

/// Docker's words, and who has the port.
fn taken(store: &Store, publish: &Publish, address: SocketAddr) -> Error {
    let error = Error::conflict(format!("Bind for {address} failed: port is already allocated"));
    match holder(store, publish, address) {
        Some(name) => error.hint(format!("container {name} publishes it: see `coracle port {name}`")),
        None => error.hint(format!(
            "another program listens there: `ss -ap '( sport = {} )'` may say which",
            address.port()
        )),
    }
}

fn holder(store: &Store, publish: &Publish, address: SocketAddr) -> Option<String> {
    let clashes = |binding: &Binding| {
        let (one, two) = (binding.address.ip(), address.ip());
        binding.port.protocol == publish.port.protocol
            && binding.address.port() == address.port()
            && one.is_ipv4() == two.is_ipv4()
            && (one == two || one.is_unspecified() || two.is_unspecified())
    };
    store.ids().ok()?.into_iter().find_map(|id| {
        let live = store.live(&id).ok()??;
        live.ports.iter().any(clashes).then(|| store.record(&id).ok().map(|record| record.name))?
    })
}
