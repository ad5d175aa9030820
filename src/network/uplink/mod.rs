//! The way out of a network namespace, through a program in user space that
//! needs no right on the host's network.
//!
//! Whoever has the namespace (the monitor that of its container, the holder
//! that of the bridges) decides with [`Chosen::of`], which starts nothing and
//! knows the addresses already, and then calls [`Uplink::start`]. The program
//! is a child of the caller: it ends with the [`Uplink`], and when the caller
//! dies. The interface that it makes ends with it, so that a restart finds the
//! namespace as the first start did, and gives the same addresses.

pub(crate) mod builtin;
pub(crate) mod guard;
mod helper;
mod pasta;
mod slirp;

use crate::error::{Context, Error, Result};
use crate::types::uplink::{PastaOptions, Preference, SlirpOptions, Wish};
use helper::Helper;
use pasta::Pasta;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The name of the interface, in the namespace.
pub(crate) const INTERFACE: &str = "tap0";

/// The first pause before a helper that has died is started again, doubled for
/// each death that follows soon.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// A helper that has served so long was a good one.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// A network namespace that stays, whatever becomes of its processes.
#[derive(Debug)]
pub(crate) struct Netns(OwnedFd);

impl Netns {
    /// That of a process, which must be the caller's to look at.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/ns/net");
        let file = std::fs::File::open(&path).context(|| format!("open {path}"))?;
        Ok(Self(file.into()))
    }

    pub(crate) fn try_clone(&self) -> Result<Self> {
        self.0.try_clone().context(|| "keep a network namespace").map(Self)
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Netns {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

/// What an uplink gives to its namespace. Known before it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// The namespace's own, as far as they are decided before it is there.
    pub(crate) guests: Vec<IpAddr>,
    /// Resolvers that ask what the host's ask, those on its loopback included.
    pub(crate) dns: Vec<IpAddr>,
    /// Where the host itself is reached.
    pub(crate) host: Option<IpAddr>,
    pub(crate) names: NamesOf,
}

/// Which names the first resolvers know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum NamesOf {
    /// Those that the host's know.
    #[default]
    World,
    /// Of containers, and they ask others for the rest.
    Networks,
    /// Of containers; the rest is to be asked of those after them.
    InternalNetworks,
}

/// An uplink that has been decided and can be started.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    serves: Serves,
    addresses: Addresses,
}

#[derive(Clone, Debug)]
enum Serves {
    Slirp { program: PathBuf, options: SlirpOptions },
    Pasta { pasta: Pasta, options: PastaOptions },
    Builtin { options: SlirpOptions },
}

impl Chosen {
    /// What serves `wish` on this host; no process is started. `preference`
    /// counts where any way out will do.
    ///
    /// # Errors
    /// Why nothing can, and what helps.
    pub(crate) fn of(wish: &Wish, preference: Preference) -> Result<Self> {
        match wish {
            Wish::Any => {
                // The last in the order needs least: what it lacks, all lack.
                let mut last = Error::not_found("there is no way out of a network namespace");
                for wish in preference.order() {
                    match Self::of(&wish, preference) {
                        Ok(chosen) => return Ok(chosen),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
            Wish::Slirp(options) => {
                let serves = Serves::Slirp { program: slirp::available()?, options: options.clone() };
                Ok(Self { serves, addresses: slirp::addresses(options) })
            }
            Wish::Pasta(options) => {
                let pasta = Pasta::find()?;
                let addresses = pasta.addresses(options);
                Ok(Self { serves: Serves::Pasta { pasta, options: options.clone() }, addresses })
            }
            Wish::Builtin(options) => {
                builtin::available()?;
                let serves = Serves::Builtin { options: options.clone() };
                Ok(Self { serves, addresses: builtin::addresses(options) })
            }
        }
    }

    pub(crate) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// What the namespace that it serves starts with, where the user does not say
    /// otherwise: keys as sysctl(8) writes them, and values.
    pub(crate) fn sysctls(&self) -> &'static [(&'static str, &'static str)] {
        match &self.serves {
            Serves::Pasta { options, .. } if !options.has("--mtu") => &pasta::SYSCTLS,
            Serves::Pasta { .. } | Serves::Slirp { .. } | Serves::Builtin { .. } => &[],
        }
    }

    /// What `--network` calls it.
    pub(crate) fn name(&self) -> &'static str {
        match self.serves {
            Serves::Slirp { .. } => "slirp4netns",
            Serves::Pasta { .. } => "pasta",
            Serves::Builtin { .. } => "builtin",
        }
    }

    /// What is run, for `doctor`.
    pub(crate) fn program(&self) -> String {
        match &self.serves {
            Serves::Slirp { program, .. } => program.display().to_string(),
            Serves::Pasta { pasta, .. } => pasta.program().display().to_string(),
            Serves::Builtin { .. } => "coracle itself".into(),
        }
    }

    fn start(&self, netns: BorrowedFd<'_>) -> Result<Helper> {
        match &self.serves {
            Serves::Slirp { program, options } => slirp::start(program, options, netns),
            Serves::Pasta { pasta, options } => pasta.start(options, netns),
            Serves::Builtin { options } => builtin::start(options, netns),
        }
    }
}

/// An uplink that serves a namespace. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Uplink {
    chosen: Chosen,
    netns: Netns,
    state: State,
    started: Instant,
    pause: Duration,
}

#[derive(Debug)]
enum State {
    /// Until it is ready, and then as long as it lives.
    Starting(Helper),
    Serving(Helper),
    /// It has died, and is started again then.
    Resting(tokio::time::Instant),
}

/// What becomes of an uplink.
#[derive(Debug)]
pub(crate) enum News {
    /// It has died, with these last words, or could not be started again. It
    /// will be, by the next call.
    Died(Error),
    /// It serves again, with the same addresses.
    Restarted,
}

impl Uplink {
    /// Starts it and returns at once: see [`Uplink::ready`]. Needs a tokio
    /// runtime in a process no other thread of which forks, which is root of a user namespace
    /// that owns the network namespace or is an ancestor of its owner.
    pub(crate) fn start(chosen: Chosen, netns: Netns) -> Result<Self> {
        let state = State::Starting(chosen.start(netns.as_fd())?);
        Ok(Self { chosen, netns, state, started: Instant::now(), pause: FIRST_PAUSE })
    }

    /// The child that is not to be reaped by others, where there is one.
    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.state {
            State::Starting(helper) | State::Serving(helper) => helper.pid(),
            State::Resting(_) => None,
        }
    }

    /// What `--network` calls it.
    pub(crate) fn name(&self) -> &'static str {
        self.chosen.name()
    }

    /// Returns when the interface is configured for the first time. It may be
    /// dropped and called anew.
    ///
    /// # Errors
    /// `Failed` with the helper's own words where it ended instead.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        let State::Starting(helper) = &mut self.state else { return Ok(()) };
        helper.ready().await?;
        self.serves();
        Ok(())
    }

    /// Returns when the uplink has died, and, called again, when it serves
    /// again: it is started anew, after a pause where deaths follow each other.
    /// To be called for as long as the uplink is wanted. It may be dropped and
    /// called anew.
    pub(crate) async fn news(&mut self) -> News {
        loop {
            match &mut self.state {
                State::Serving(helper) => {
                    let death = helper.death().await;
                    return self.rest(death);
                }
                State::Resting(until) => {
                    tokio::time::sleep_until(*until).await;
                    match self.chosen.start(self.netns.as_fd()) {
                        Ok(helper) => self.state = State::Starting(helper),
                        Err(error) => return self.rest(error),
                    }
                }
                State::Starting(helper) => {
                    if let Err(error) = helper.ready().await {
                        return self.rest(error);
                    }
                    self.serves();
                    return News::Restarted;
                }
            }
        }
    }

    fn serves(&mut self) {
        let resting = State::Resting(tokio::time::Instant::now());
        if let State::Starting(helper) = std::mem::replace(&mut self.state, resting) {
            self.state = State::Serving(helper);
        }
        self.started = Instant::now();
    }

    fn rest(&mut self, death: Error) -> News {
        if matches!(self.state, State::Serving(_)) && self.started.elapsed() >= GOOD_RUN {
            self.pause = FIRST_PAUSE;
        }
        self.state = State::Resting(tokio::time::Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(MAX_PAUSE);
        News::Died(death)
    }
}

/// The host's address as its neighbours see it: what `host.containers.internal`
/// can be where the host's loopback is hidden. Asks the kernel which address a
/// packet to the documentation network (RFC 5737) would leave from; none does.
pub(crate) fn host_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}
