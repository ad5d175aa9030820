//! A TCP/IP stack of our own, for hosts without slirp4netns and pasta:
//! `coracle --uplink`.
//!
//! A process of its own, the child of whoever has the namespace, with no
//! capability. It has one end of a device in the container's network namespace,
//! ends the container's connections there, and makes its own from the host. What
//! comes from the device is an enemy's: a container may be root with raw
//! sockets. It may break its own connections, and nothing else.

mod datagrams;
mod device;
mod icmp;
mod outside;
mod policy;
mod resolvers;
mod ring;
mod stack;
mod table;
mod tcp;
#[cfg(test)]
mod tests;
mod tun;
mod wire;

use super::helper::{Call, Helper, Paths, check_tap};
use super::{Addresses, NamesOf, guard};
use crate::channel::role_ended;
use crate::error::{Context, Error, Result};
use crate::network::power;
use crate::sys::process;
use crate::types::uplink::{HostLoopback, SlirpOptions};
use device::Device;
use policy::Policy;
use resolvers::Resolvers;
use rustix::process::Signal;
use rustix::thread::CapabilitySet;
use stack::Stack;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::ExitCode;

/// `argv[1]` of the role.
pub(crate) const ROLE: &str = "--uplink";

/// Connections and senders of datagrams at once, at most.
const MAX_FLOWS: usize = 4096;
/// Files that are not sockets of flows.
const OTHER_FILES: u64 = 32;

/// Whether it can serve here.
///
/// # Errors
/// Why not, and what helps.
pub(super) fn available() -> Result<()> {
    check_tap()
}

pub(super) fn addresses(options: &SlirpOptions) -> Addresses {
    let policy = Policy::new(options.clone());
    let host = match options.host_loopback {
        HostLoopback::Reachable => Some(policy.gateway().into()),
        HostLoopback::Hidden => super::host_address(),
    };
    Addresses {
        guests: vec![policy.guest().0.into()],
        dns: vec![policy.resolver().into()],
        host,
        names: NamesOf::World,
    }
}

pub(super) fn start(options: &SlirpOptions, netns: BorrowedFd<'_>) -> Result<Helper> {
    let order = serde_json::to_string(options).context(|| "write the order")?;
    let arguments =
        |paths: &Paths| vec![ROLE.to_owned(), paths.netns.clone(), paths.ready_fd.to_string(), order.clone()];
    Helper::start(&Call {
        name: "builtin",
        program: Path::new(guard::OURSELVES),
        arguments: &arguments,
        netns,
    })
}

/// The role's entry.
pub(crate) fn main() -> ExitCode {
    role_ended(serve())
}

fn serve() -> Result<()> {
    let usage = || Error::failed("this role is coracle's own");
    let words: Vec<String> = std::env::args().skip(2).collect();
    let [netns, ready, order] = &words[..] else { return Err(usage()) };
    let ready = ready.parse().ok().ok_or_else(usage)?;
    let ready = process::inherited_fd(ready).context(|| "find who waits")?;
    let options: SlirpOptions = serde_json::from_str(order).context(|| "read the order")?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context(|| "tie to the parent")?;
    let policy = Policy::new(options);
    let mtu = policy.options().mtu;
    let tun = tun::open(netns, &policy)?;
    let limit = flows();
    // The namespace is connected: nothing is needed any more but sockets.
    power::keep(CapabilitySet::empty())?;
    let stack = Stack::new(Device::new(tun, mtu), policy, Resolvers::of("/etc/resolv.conf"), limit)?;
    rustix::io::write(&ready, b"1").context(|| "say that it is ready")?;
    drop(ready);
    stack.serve(rustix::stdio::stdin().as_fd())
}

/// How many flows the limit of files allows, once that is as high as it goes.
fn flows() -> usize {
    let files = crate::sys::process::raise_file_limit();
    let files = files.map_or(MAX_FLOWS, |files| files.saturating_sub(OTHER_FILES).max(16) as usize);
    files.min(MAX_FLOWS)
}
