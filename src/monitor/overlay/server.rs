//! The server of one FUSE overlay, in a process of its own: `coracle --overlay`.
//!
//! Whoever mounts starts it, hands it the device and the directories, and lets
//! go of them. It ends with its mount: when the last process that sees that is
//! gone, the kernel answers ENODEV. There is no parent-death signal, so that
//! after a kill of the monitor what the kernel still holds of the container's
//! writes is written; the mount goes with the container, which dies with its
//! monitor. Until the mount is there, the device is the starter's, and goes
//! with it.

use crate::channel::{Channel, role_ended};
use crate::error::{BestEffort, Context, Error, Result};
use crate::monitor::role::{self, Child};
use crate::storage::fuse::{self, Layers, Options};
use crate::sys::process;
use crate::sys::{namespace, socket};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::mount::MountPropagationFlags;
use rustix::process::{Signal, WaitId, WaitIdOptions};
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// `argv[1]` of the role.
pub(crate) const ROLE: &str = "--overlay";

/// How long the end of a server that has let go of its device may take.
const MOMENT: Duration = Duration::from_secs(1);

/// What a server is to serve. The fds follow, one a byte: the device, the lower
/// directories from the topmost on, the upper and the work directory.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    lowers: usize,
    /// Whether there is an upper directory, and whether it can be written to.
    upper: bool,
    work: bool,
    options: Options,
}

/// A running server. Dropped, it goes on until its mount is gone.
#[derive(Debug)]
pub(crate) struct Server {
    pid: u32,
    pidfd: OwnedFd,
    /// Its stderr.
    said: OwnedFd,
    /// How it ended, once that was asked.
    end: RefCell<Option<Result<(), String>>>,
    /// It was ended from here, as it did not answer.
    given_up: Cell<bool>,
}

/// Mounts an overlay; the detached mount, and who serves it.
pub(super) fn mount(layers: &Layers, options: Options) -> Result<(OwnedFd, Server)> {
    let device = fuse::open_device()?;
    let (channel, server) = spawn()?;
    // The server's own words say more; and it is reaped.
    let mount =
        hand_over(channel, device, layers, options).map_err(|error| server.fault(MOMENT).unwrap_or(error))?;
    Ok((mount, server))
}

/// Mounts the device while the server starts, and gives it away: where the
/// server has it alone, its end is the mount's.
fn hand_over(
    mut channel: Channel<Order, ()>,
    device: OwnedFd,
    layers: &Layers,
    options: Options,
) -> Result<OwnedFd> {
    let mount = fuse::mount(device.as_fd())?;
    channel.send(&Order {
        lowers: layers.lowers.len(),
        upper: layers.upper.is_some(),
        work: layers.work.is_some(),
        options,
    })?;
    let all = [&device].into_iter().chain(&layers.lowers).chain(&layers.upper).chain(&layers.work);
    for fd in all {
        socket::send_fd(channel.as_fd(), fd.as_fd()).context(|| "send the overlay's directories")?;
    }
    drop((channel, device));
    // It answers: so its directories can be served, and it has left this mount
    // namespace and does not see what is mounted here from now on.
    rustix::fs::fstat(&mount).context(|| "look at the FUSE overlay")?;
    Ok(mount)
}

/// Executes coracle again as a server; our end of its socket.
fn spawn() -> Result<(Channel<Order, ()>, Server)> {
    let Child { pid, pidfd, socket, said } = role::spawn(ROLE, "start the overlay's server", stand_apart)?;
    Ok((
        Channel::new(socket),
        Server { pid, pidfd, said, end: RefCell::default(), given_up: Cell::new(false) },
    ))
}

fn stand_apart() -> Result<()> {
    let step = || "leave the starter's session and mounts";
    // No signal of the terminal reaches it.
    rustix::process::setsid().context(step)?;
    // Its starter may mount what it serves in its own mount namespace, which
    // must end with the last process that uses it: not with this one.
    namespace::unshare_mount_namespace().context(step)?;
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", slave).context(step)?;
    rustix::process::chdir("/").context(step)
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends it, as it answers no more.
    pub(super) fn give_up(&self) {
        self.given_up.set(true);
        rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL).or_ignore();
    }

    /// Returns when it has ended. It may be dropped and called anew.
    pub(crate) async fn ended(&self) {
        if self.end.borrow().is_some() {
            return;
        }
        // Deprecated for types that may change their fd: a `BorrowedFd` does not.
        #[allow(deprecated)]
        match AsyncFd::new(self.pidfd.as_fd()) {
            Ok(fd) => fd.readable().await.map(drop).or_ignore(),
            Err(error) => Err::<(), _>(error).or_ignore(),
        }
    }

    /// Why it has ended before its mount was gone; `None` where it has not
    /// within that time.
    pub(crate) fn fault(&self, patience: Duration) -> Option<Error> {
        if self.end.borrow().is_none() {
            let timeout =
                Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
            let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
            if rustix::event::poll(&mut fds, Some(&timeout)).unwrap_or(0) == 0 {
                return None;
            }
            let how = self.how_it_ended();
            self.end.replace(Some(how));
        }
        let end = self.end.borrow();
        let how = end.as_ref()?.as_ref().err()?;
        Some(Error::failed(format!("the FUSE overlay's server {how}")))
    }

    /// Reaps it.
    fn how_it_ended(&self) -> Result<(), String> {
        let status = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
        let how = match status.map(|status| status.map(|s| (s.exit_status(), s.terminating_signal()))) {
            Ok(Some((Some(0), _))) => return Ok(()),
            Ok(Some((Some(code), _))) => format!("ended with exit code {code}"),
            Ok(Some((None, Some(_)))) if self.given_up.get() => {
                "did not answer the container, which could not end for that, and was killed".into()
            }
            Ok(Some((None, Some(signal)))) => format!("was killed by signal {signal}"),
            // Reaped by another: it had no parent's care to begin with.
            _ => return Ok(()),
        };
        Err(match self.last_words() {
            Some(words) => format!("{how}: {words}"),
            None => how,
        })
    }

    fn last_words(&self) -> Option<String> {
        let mut said = vec![0; 64 << 10];
        let length = rustix::io::read(&self.said, &mut said).ok()?;
        let said = String::from_utf8_lossy(&said[..length]).into_owned();
        said.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
    }
}

/// The role's entry.
pub(crate) fn main() -> ExitCode {
    role_ended(serve())
}

fn serve() -> Result<()> {
    let step = || "receive the overlay's directories";
    // It ends when its mount is gone, not before: what the kernel holds back of
    // the container's writes would be lost at each end of a session.
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
        process::ignore_signal(signal);
    }
    let mut channel: Channel<(), Order> = Channel::new(role::socket()?);
    // Its starter has met something else and gone: nothing is to be served.
    let Some(order) = channel.receive()? else { return Ok(()) };
    let socket: OwnedFd = channel.into();
    let next = || match socket::receive_fd(socket.as_fd()) {
        Ok(fd) => fd.ok_or_else(|| Error::failed("the socket was closed").context(step())),
        Err(error) => Err(error).context(step),
    };
    let device = next()?;
    let lowers = (0..order.lowers).map(|_| next()).collect::<Result<Vec<_>>>()?;
    let upper = order.upper.then(next).transpose()?;
    let work = order.work.then(next).transpose()?;
    drop(socket);
    let layers = Layers { lowers, upper, work };
    // The kernel is quicker at letting go of what a large tree has left, and the
    // container's end waits for this process's.
    let server = ManuallyDrop::new(fuse::Server::new(layers, order.options)?);
    server.serve(device)
}
