//! The holder's own side.

// `AsyncFd::new` is deprecated for types that may change their fd; an `OwnedFd`
// does not.
#![allow(deprecated)]

use super::directory;
use super::follow::{Followed, Following, follow};
use super::messages::{FromHolder, HolderOrder, ToHolder, Wanted};
use crate::cgroup;
use crate::channel::{Channel, role_ended};
use crate::error::{BestEffort, Context, Error, Result};
use crate::monitor::control::{SOCKET, socket_path};
use crate::monitor::{role, wire};
use crate::network::bridge::{Bridges, DefaultRoute, Listening};
use crate::network::dns::server::{self as dns, Shared};
use crate::network::uplink::{self, Chosen, Netns, News, Uplink};
use crate::state::lock;
use crate::sys::socket;
use crate::types::network::{Endpoint, Network};
use crate::types::uplink::{Cidr, Preference, SlirpOptions, Wish};
use crate::userns;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

/// `argv[1]` of the role.
pub(crate) const ROLE: &str = "--netd";

/// Between two tries to end, while somebody looks for this holder.
const RETRY: Duration = Duration::from_millis(20);

/// Open files, at most.
const MOST_FILES: u64 = 1 << 16;

/// Podman's of a network that says nothing of it.
const USUAL_METRIC: u32 = 100;

/// Work for the thread that lives among the bridges.
pub(super) type Job = Box<dyn FnOnce(&mut Bridges) + Send>;

struct Holder {
    jobs: mpsc::UnboundedSender<Job>,
    names: Rc<Shared>,
    netns: OwnedFd,
    clients: Cell<usize>,
    next: Cell<u64>,
    left: Notify,
    /// The last that has gone: what it had is still there.
    last: RefCell<Option<Client>>,
    /// How many containers are on a network, or about to be.
    users: RefCell<BTreeMap<String, usize>>,
    /// Those who answer names on a network.
    servers: RefCell<BTreeMap<String, Vec<JoinHandle<()>>>>,
    /// `None` until the first network wants out; then why there is none.
    uplink: tokio::sync::Mutex<Option<Result<(), String>>>,
}

/// The role's entry.
pub(crate) fn main() -> ExitCode {
    role_ended(run())
}

fn run() -> Result<()> {
    let mut channel: Channel<FromHolder, HolderOrder> = Channel::new(role::socket()?);
    let Some(order) = channel.receive()? else { return Ok(()) };
    let netns = if order.netns {
        socket::receive_fd(channel.as_fd()).context(|| "receive the namespace of the bridges")?
    } else {
        None
    };
    let begun = begin(&order, netns);
    let (jobs, netns, listener) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            channel.send(&FromHolder::failed(&error)).or_ignore();
            return Err(error);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context(|| "start the holder of the bridges")?;
    let holder = Rc::new(Holder {
        jobs,
        names: Shared::new("/etc/resolv.conf"),
        netns,
        clients: Cell::new(0),
        next: Cell::new(0),
        left: Notify::new(),
        last: RefCell::default(),
        users: RefCell::default(),
        servers: RefCell::default(),
        uplink: tokio::sync::Mutex::new(None),
    });
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(serve(holder, &order, listener, channel.into_stream())))
}

type Begun = (mpsc::UnboundedSender<Job>, OwnedFd, UnixListener);

fn begin(order: &HolderOrder, netns: Option<OwnedFd>) -> Result<Begun> {
    userns::register_holder(&order.dirs.runtime)?;
    // Before the uplink is started, which belongs beside it. Where it cannot be
    // had, the networks serve all the same.
    cgroup::leave_scope_of_monitor("netd", "networks of coracle's containers").or_ignore();
    allow_files();
    let (jobs, mut todo) = mpsc::unbounded_channel::<Job>();
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().name("bridges".into());
    thread
        .spawn(move || {
            let mut bridges = match Bridges::enter(netns).and_then(|b| b.netns().map(|fd| (b, fd))) {
                // Whoever waits for this word is there until it has come.
                Ok((bridges, fd)) => {
                    drop(tell.send(Ok(fd)));
                    bridges
                }
                Err(error) => return drop(tell.send(Err(error))),
            };
            while let Some(job) = todo.blocking_recv() {
                job(&mut bridges);
            }
        })
        .context(|| "start the thread of the bridges")?;
    let netns = told.recv().map_err(|_| Error::failed("the thread of the bridges has ended"))??;
    let directory = directory(&order.dirs);
    let (_open, path) = socket_path(&directory)?;
    // Left by a holder that was killed; whoever started this one has the lock.
    std::fs::remove_file(&path).or_ignore();
    let listener = UnixListener::bind(&path).context(|| format!("listen in {}", directory.display()))?;
    Ok((jobs, netns, listener))
}

/// A container on networks takes three: the usual limit of 1024 is one of some
/// three hundred containers.
fn allow_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let current = Some(maximum.unwrap_or(MOST_FILES).min(MOST_FILES));
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).or_ignore();
}

async fn serve(
    holder: Rc<Holder>,
    order: &HolderOrder,
    listener: UnixListener,
    first: UnixStream,
) -> Result<()> {
    let step = || "listen for monitors";
    listener.set_nonblocking(true).context(step)?;
    let listener = AsyncFd::new(listener).context(step)?;
    let directory = directory(&order.dirs);
    holder.take(first)?;
    loop {
        tokio::select! {
            accepted = accept(&holder, &listener) => accepted?,
            () = holder.left.notified() => {
                while holder.clients.get() == 0 {
                    if let Some(lock) = lock::try_directory(&directory)? {
                        // Who has connected before the lock was taken is served.
                        if let Ok((stream, _)) = listener.get_ref().accept() {
                            holder.take(stream)?;
                            break;
                        }
                        std::fs::remove_file(directory.join(SOCKET)).or_ignore();
                        userns::unregister_holder(&order.dirs.runtime).or_ignore();
                        drop(lock);
                        return Ok(());
                    }
                    // Who has the lock is about to connect, and not to wait for us.
                    tokio::select! {
                        accepted = accept(&holder, &listener) => accepted?,
                        () = tokio::time::sleep(RETRY) => {}
                    }
                }
            }
        }
    }
}

/// Takes the next monitor that connects. May be dropped at any time.
async fn accept(holder: &Rc<Holder>, listener: &AsyncFd<UnixListener>) -> Result<()> {
    let mut ready = listener.readable().await.context(|| "listen for monitors")?;
    match listener.get_ref().accept() {
        Ok((stream, _)) => holder.take(stream)?,
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => ready.clear_ready(),
        // Out of fds: it is tried again.
        Err(_) => tokio::time::sleep(RETRY).await,
    }
    Ok(())
}

impl Holder {
    /// Serves a monitor from now on.
    fn take(self: &Rc<Self>, stream: UnixStream) -> Result<()> {
        stream.set_nonblocking(true).context(|| "prepare a monitor's connection")?;
        self.clients.set(self.clients.get() + 1);
        if let Some(left) = self.last.take() {
            let holder = Rc::clone(self);
            // It runs first: what the newcomer wants is done after it.
            tokio::task::spawn_local(async move { holder.detach(&left.id, left.endpoints).await });
        }
        let key = self.next.get();
        self.next.set(key + 1);
        let holder = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let mut client = Client { key, id: String::new(), endpoints: Vec::new(), following: None };
            holder.converse(stream, &mut client).await.or_ignore();
            client.following = None;
            holder.names.names.borrow_mut().remove(key);
            if holder.clients.get() == 1 {
                // The namespace of the bridges ends with this process, and all in
                // it, unless somebody comes before.
                holder.last.replace(Some(client));
            } else {
                holder.detach(&client.id, client.endpoints).await;
            }
            holder.clients.set(holder.clients.get() - 1);
            holder.left.notify_one();
        });
        Ok(())
    }

    async fn converse(&self, stream: UnixStream, client: &mut Client) -> Result<()> {
        let mut stream = tokio::net::UnixStream::from_std(stream).context(|| "listen to a monitor")?;
        wire::say(&mut stream, &FromHolder::Welcome).await?;
        socket::send_fd(stream.as_fd(), self.netns.as_fd())
            .context(|| "send the namespace of the bridges")?;
        while let Some(order) = wire::hear(&mut stream).await? {
            let (wanted, how) = match order {
                ToHolder::Set(wanted) => (wanted, How::Differences),
                ToHolder::Renew(wanted) => (wanted, How::Anew),
                ToHolder::Leave => {
                    self.names.names.borrow_mut().remove(client.key);
                    return wire::say(&mut stream, &FromHolder::Done { warnings: Vec::new() }).await;
                }
            };
            let netns = wire::hear_fd(&stream).await?;
            let own = netns.try_clone().context(|| "keep the container's network namespace")?;
            let reply = match self.set(client, *wanted, netns, how).await {
                Ok(warnings) => FromHolder::Done { warnings },
                Err(error) => FromHolder::failed(&error),
            };
            wire::say(&mut stream, &reply).await?;
            // No start waits for that.
            self.follow(client, own).await;
        }
        Ok(())
    }

    /// From here on, and as its interfaces are now: a container that comes from
    /// another holder may have changed them. Without it all is as it was made.
    async fn follow(&self, client: &mut Client, netns: OwnedFd) {
        client.following = None;
        let (id, endpoints) = (client.id.clone(), client.endpoints.clone());
        let watched = self
            .work(move |bridges| {
                let changed = bridges.watch_links(&netns)?;
                for endpoint in &endpoints {
                    bridges.follow(&id, &netns, endpoint).or_ignore();
                }
                Ok(Followed { id, netns, endpoints, changed })
            })
            .await;
        client.following = watched.ok().map(|followed| follow(self.jobs.clone(), followed));
    }

    async fn set(
        &self,
        client: &mut Client,
        wanted: Wanted,
        netns: OwnedFd,
        how: How,
    ) -> Result<Vec<String>> {
        client.id.clone_from(&wanted.member.id);
        let new = wanted.member.endpoints.clone();
        let old = std::mem::replace(&mut client.endpoints, new.clone());
        // From here on no other client's end takes their bridges away.
        for network in differences(&new, &old) {
            *self.users.borrow_mut().entry(network.network.clone()).or_default() += 1;
        }
        // What goes may be what led out; else a route of the container's own stays.
        let leads =
            if differences(&old, &new).is_empty() { DefaultRoute::Here } else { DefaultRoute::HereNow };
        if how == How::Anew {
            self.unplug(&client.id, old.clone()).await;
        }
        let attached = self.attach(client, wanted, netns, leads).await;
        if attached.is_ok() || how == How::Anew {
            self.detach(&client.id, differences(&old, &new)).await;
        } else {
            // Its monitor goes on with what was before, and so do we.
            client.endpoints.clone_from(&old);
            self.detach(&client.id, differences(&new, &old)).await;
        }
        attached
    }

    /// Puts a container on all that it wants; what is to be told of it.
    async fn attach(
        &self,
        client: &Client,
        wanted: Wanted,
        netns: OwnedFd,
        here: DefaultRoute,
    ) -> Result<Vec<String>> {
        let Wanted { member, networks, leads_out, uplink } = wanted;
        for network in &networks {
            self.lay(network).await?;
        }
        let mut warnings = Vec::new();
        if leads_out && networks.iter().any(|network| !network.internal) {
            warnings.extend(self.want_uplink(uplink).await.err());
        }
        let (id, endpoints) = (client.id.clone(), member.endpoints.clone());
        let way_out = if leads_out { way_out(&networks, &endpoints) } else { None };
        self.work(move |bridges| {
            let mut result = Ok(());
            for (at, endpoint) in endpoints.iter().enumerate() {
                let leads = match way_out {
                    Some(out) if out == at => here,
                    Some(_) => DefaultRoute::Elsewhere,
                    None => DefaultRoute::Kept,
                };
                // Where one fails, the others may be kept.
                result = result.and(bridges.attach(&id, &netns, endpoint, leads));
            }
            result
        })
        .await?;
        // Names come last and go first: no name without its address.
        self.names.names.borrow_mut().set(client.key, member);
        Ok(warnings)
    }

    /// Takes a container off networks, and away the bridges of those that nobody
    /// is on any more.
    async fn detach(&self, id: &str, gone: Vec<Endpoint>) {
        if gone.is_empty() {
            return;
        }
        let mut empty = Vec::new();
        for endpoint in &gone {
            let mut users = self.users.borrow_mut();
            let left = users.get_mut(&endpoint.network).map_or(0, |count| {
                *count -= 1;
                *count
            });
            if left == 0 {
                users.remove(&endpoint.network);
                let servers = self.servers.borrow_mut().remove(&endpoint.network);
                servers.into_iter().flatten().for_each(|task| task.abort());
                empty.push(endpoint.network.clone());
            }
        }
        let id = id.to_owned();
        self.work(move |bridges| {
            for endpoint in &gone {
                bridges.detach(&id, endpoint).or_ignore();
            }
            for network in &empty {
                bridges.lift(network).or_ignore();
            }
            Ok(())
        })
        .await
        .or_ignore();
    }

    /// Takes a container's interfaces away, for others in their place.
    async fn unplug(&self, id: &str, endpoints: Vec<Endpoint>) {
        let id = id.to_owned();
        self.work(move |bridges| {
            for endpoint in &endpoints {
                bridges.detach(&id, endpoint).or_ignore();
            }
            Ok(())
        })
        .await
        .or_ignore();
    }

    async fn lay(&self, network: &Network) -> Result<()> {
        let wanted = network.clone();
        let listening = self.work(move |bridges| bridges.lay(&wanted)).await?;
        self.names.names.borrow_mut().set_network(network);
        let Some(Listening { datagrams, connections }) = listening else { return Ok(()) };
        let mut tasks = Vec::new();
        for socket in datagrams {
            let served = dns::datagrams(Rc::clone(&self.names), network.name.clone(), socket);
            tasks.push(tokio::task::spawn_local(served));
        }
        for listener in connections {
            let served = dns::connections(Rc::clone(&self.names), network.name.clone(), listener);
            tasks.push(tokio::task::spawn_local(served));
        }
        self.servers.borrow_mut().insert(network.name.clone(), tasks);
        Ok(())
    }

    /// Starts the uplink once; why there is none.
    async fn want_uplink(&self, preference: Preference) -> Result<(), String> {
        let mut state = self.uplink.lock().await;
        if let Some(known) = &*state {
            return known.clone();
        }
        let result = self.start_uplink(preference).await;
        let result = result.map_err(|error| format!("the networks have no way out: {}", error.in_a_line()));
        *state = Some(result.clone());
        result
    }

    async fn start_uplink(&self, preference: Preference) -> Result<()> {
        let chosen = chosen(preference)?;
        let netns = self.netns.try_clone().context(|| "keep the namespace of the bridges")?;
        let mut uplink = Uplink::start(chosen, Netns::from(netns))?;
        uplink.ready().await?;
        self.work(|bridges| bridges.connect_uplink(uplink::INTERFACE)).await?;
        let jobs = self.jobs.clone();
        tokio::task::spawn_local(async move {
            loop {
                if let News::Restarted = uplink.news().await {
                    let job: Job = Box::new(|bridges| bridges.connect_uplink(uplink::INTERFACE).or_ignore());
                    if jobs.send(job).is_err() {
                        return;
                    }
                }
            }
        });
        Ok(())
    }

    async fn work<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Bridges) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let gone = || Error::failed("the thread of the bridges has ended");
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move |bridges| {
            // Whoever has asked may be gone.
            tell.send(act(bridges)).unwrap_or(());
        });
        self.jobs.send(job).map_err(|_| gone())?;
        told.await.map_err(|_| gone())?
    }
}

/// The first of those with the highest priority, and of these with the least metric.
fn way_out(networks: &[Network], endpoints: &[Endpoint]) -> Option<usize> {
    let metric = |network: &Network| if network.metric() == 0 { USUAL_METRIC } else { network.metric() };
    let able = (0..networks.len()).filter(|at| networks[*at].leads_by_default());
    able.rev()
        .max_by_key(|at| (endpoints.get(*at).map(|one| one.gw_priority), Reverse(metric(&networks[*at]))))
}

/// One that takes packets from any address, as pasta does not.
fn chosen(preference: Preference) -> Result<Chosen> {
    let options = SlirpOptions { cidr: Cidr::OF_NETWORKS, ..SlirpOptions::default() };
    let (slirp, builtin) = (Wish::Slirp(options.clone()), Wish::Builtin(options));
    match preference {
        Preference::Builtin => Chosen::of(&builtin, preference),
        Preference::Slirp => Chosen::of(&slirp, preference),
        Preference::Auto | Preference::Pasta => {
            Chosen::of(&slirp, preference).or_else(|_| Chosen::of(&builtin, preference))
        }
    }
}

/// How what is wanted comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// What is there already stays as it is; where anything fails, all does.
    Differences,
    /// Nothing stays; what fails is still wanted.
    Anew,
}

/// One monitor's container.
struct Client {
    key: u64,
    /// The container's.
    id: String,
    endpoints: Vec<Endpoint>,
    /// Its interfaces, which it may change.
    following: Option<Following>,
}

/// Those of `these` on whose networks none of `others` is.
fn differences(these: &[Endpoint], others: &[Endpoint]) -> Vec<Endpoint> {
    let is_there = |one: &&Endpoint| others.iter().any(|other| other.network_id == one.network_id);
    these.iter().filter(|one| !is_there(one)).cloned().collect()
}
