//! One container's life, in its own process: the only place where the
//! mechanisms are combined for a run.
//!
//! The monitor is coracle itself, executed again inside the user's outer
//! namespace. It owns the container's stdio, log, control socket, network
//! helper and restart policy, and writes the exit record. It has one thread; a
//! tokio runtime drives its fds. Init dies with it, and after a SIGKILL of
//! either there is one directory to clean and nothing to unmount.

pub(crate) mod clients;
pub(crate) mod control;
mod exec;
pub(crate) mod executable;
mod group;
mod health;
pub(crate) mod life;
pub(crate) mod log_file;
pub(crate) mod log_reader;
pub(crate) mod messages;
pub(crate) mod netd;
mod networks;
mod note;
pub(crate) mod overlay;
pub(crate) mod pause;
mod pid_files;
pub(crate) mod plan;
mod pod;
pub(crate) mod ports;
pub(crate) mod pump;
pub(crate) mod remove;
mod resolv_conf;
mod role;
pub(crate) mod run;
mod terminate;
mod wire;

use crate::channel::Channel;
use crate::error::{Context, Error, Result};
use messages::{FromMonitor, StartOrder};
use rustix::fs::Mode;
use std::process::ExitCode;

/// `argv[1]` of the role.
pub(crate) const ROLE: &str = "--monitor";

/// The fd on which the starting process speaks to its monitor.
pub(crate) const FRONT_FD: i32 = role::SOCKET_FD;

/// The process that started this one.
pub(crate) type Front = Channel<FromMonitor, StartOrder>;

/// The role's entry.
pub(crate) fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever started it has heard of it; there is no terminal to print on.
        Err(_) => ExitCode::from(125),
    }
}

fn serve() -> Result<()> {
    let mut front: Front = Channel::new(role::socket()?);
    let order = front.receive()?.ok_or_else(|| Error::failed("no order came"))?;
    leave_the_terminal()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context(|| "start the monitor's event loop")?;
    tokio::task::LocalSet::new().block_on(&runtime, life::live(order, front))
}

/// A session of its own: no signal of the terminal, no hang-up reaches it. Its
/// orphans (of a container without a pid namespace) come to it.
fn leave_the_terminal() -> Result<()> {
    rustix::process::setsid().context(|| "start a session")?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).context(|| "become a subreaper")?;
    // What is made for the container is for all its users. This user's own folders are
    // made closed (`create_private`).
    rustix::process::umask(Mode::from_raw_mode(0o022));
    // Or the directory of whoever started it could not be unmounted.
    rustix::process::chdir("/").context(|| "change to /")
}
