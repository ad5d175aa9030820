//! Further commands in the container: `exec`, and what the monitor itself runs
//! there.
//!
//! A command's own pipes or terminal are pumped to the one client that asked
//! for it. A slow client slows its command, as a shell's pipe does, and nothing
//! else. A client that goes away leaves the command running, its stdin at its
//! end and its output read into nothing. Each command is a child of the monitor,
//! which reaps it.

// `AsyncFd::new` is deprecated for types that may change their fd; an `OwnedFd`
// does not.
#![allow(deprecated)]

mod stream;
mod table;
mod tree;

pub(super) use table::Execs;

use super::control::{hung_up, say};
use super::life::Container;
use super::messages::{Reply, frame};
use super::overlay::Overlays;
use super::plan::{self, Target};
use super::pump::{self, Outputs, Pipes};
use super::run::exit_code;
use crate::error::{BestEffort, Context, Error, Result};
use crate::runtime::exec::{self, Report, Spawned};
use crate::state::events;
use crate::types::driver::DriverChoice;
use crate::types::exec::ExecRequest;
use crate::types::status::Exit;
use crate::types::uplink::Preference;
use jiff::Timestamp;
use rustix::process::Signal;
use std::future::Future;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;
use stream::{Collector, Session};
use table::Entry;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;

/// How long a dying first process may take to be dead.
const DYING: Duration = Duration::from_millis(200);

/// How a command of the monitor's own ended.
#[allow(dead_code)] // See `run_collected`.
pub(super) struct Collected {
    /// `None`: it took too long and was killed.
    pub(super) exit: Option<u8>,
    /// The beginning of what it wrote to stdout and stderr.
    pub(super) output: Vec<u8>,
}

/// A command that runs.
struct Running {
    id: String,
    pid: u32,
    pidfd: OwnedFd,
    pipes: Pipes,
    at: Timestamp,
}

/// Runs a command to its end and keeps at most `limit` bytes of its output.
/// One that takes longer than `timeout` is killed.
///
/// # Errors
/// `NoCommand` and `NotExecutable` as exec met them; `Conflict` where the
/// container is not running or is paused.
#[allow(dead_code)] // Health checks are run with it.
pub(super) async fn run_collected(
    container: &Rc<Container>,
    request: &ExecRequest,
    limit: usize,
    timeout: Option<Duration>,
) -> Result<Collected> {
    let deadline = tokio::time::sleep(timeout.unwrap_or(Duration::MAX / 4));
    tokio::pin!(deadline);
    let Running { id, pid, pidfd, mut pipes, at: _ } =
        start(container, request, Outputs::Together, &mut deadline).await?;
    let collector = Collector::new(limit);
    let output = pipes.terminal.take().or(pipes.stdout.take());
    let end = async {
        let mut killed = false;
        tokio::select! {
            () = until_dead(&pidfd) => {}
            () = &mut deadline, if timeout.is_some() => {
                killed = true;
                tree::kill_tree(pid, &pidfd);
                until_dead(&pidfd).await;
            }
        }
        let code = reap(container, &id, &pidfd, &request.args);
        collector.over();
        (!killed).then_some(code)
    };
    let (exit, ()) = tokio::join!(end, collector.collect(output));
    Ok(Collected { exit, output: collector.into_bytes() })
}

/// Serves a client's `exec` to its end.
pub(super) async fn serve(container: Rc<Container>, request: ExecRequest, mut stream: UnixStream) {
    let _counted = container.execs.count();
    let started = start(&container, &request, Outputs::Apart, hung_up(&stream)).await;
    let running = match started {
        Ok(running) => running,
        Err(error) => {
            say(&mut stream, &Reply::refused(&error)).await;
            return;
        }
    };
    let heard = say(&mut stream, &Reply::Done).await;
    let session = if request.detach || !heard { Session::alone() } else { Session::of(stream) };
    let Running { id, pid: _, pidfd, pipes, at } = running;
    let end = async {
        until_dead(&pidfd).await;
        let code = reap(&container, &id, &pidfd, &request.args);
        session.over();
        code
    };
    let code = session.carry(&container, pipes, &pidfd, end).await;
    let exit = Exit { code, started_at: at, finished_at: Timestamp::now(), oom_killed: false, error: None };
    if let Ok(body) = serde_json::to_vec(&exit) {
        session.tell(&container, frame::EXITED, &body).await;
    }
}

/// Starts the command; returns when exec has worked. Where `abandoned` comes
/// first (a client that has gone, a time that is over), the command is killed.
async fn start(
    container: &Rc<Container>,
    request: &ExecRequest,
    outputs: Outputs,
    abandoned: impl Future<Output = ()>,
) -> Result<Running> {
    let (pid, pidfd) = container.target()?;
    let init = pidfd.try_clone().context(|| "keep the container's pidfd")?;
    let id = table::new_id()?;
    let words = request.args.join(" ");
    note(container, &format!("exec_create: {words}"), &id, None);
    let (stdio, pipes) = pump::make_for_exec(request, outputs)?;
    let context = plan::Context {
        dirs: &container.dirs,
        store: &container.store,
        record: &container.record,
        outer: &container.outer,
        // It mounts nothing.
        overlays: &Overlays::new(DriverChoice::Auto),
        uplink: Preference::Auto,
    };
    let cgroup = container.with_group(|group| group.for_further(pid)).transpose();
    let cgroup = cgroup.context(|| "keep the control group")?;
    let target = Target { pid, pidfd, cgroup, filter: &container.execs.filter };
    let spawned = plan::for_exec(&context, request, target, stdio).and_then(exec::spawn);
    let Spawned { pid, pidfd, channel } = match spawned {
        Ok(spawned) => spawned,
        // A first process that is dying has no namespaces any more; that it
        // dies is then what there is to say.
        Err(error) => {
            let dead = tokio::time::timeout(DYING, until_dead(&init)).await.is_ok();
            return Err(if dead { not_running(container) } else { error });
        }
    };
    let keep = pidfd.try_clone().context(|| "keep the command's pidfd")?;
    container.execs.add(Entry { id: id.clone(), pid, pidfd: keep });
    match hear(&pidfd, channel, abandoned).await.and_then(Report::finish) {
        Ok(terminal) => {
            note(container, &format!("exec_start: {words}"), &id, None);
            Ok(Running { id, pid, pidfd, pipes: Pipes { terminal, ..pipes }, at: Timestamp::now() })
        }
        Err(error) => {
            kill(&pidfd);
            until_dead(&pidfd).await;
            exit_code(&pidfd);
            container.execs.remove(&id);
            Err(error)
        }
    }
}

/// What the command says before exec.
async fn hear(pidfd: &OwnedFd, channel: OwnedFd, abandoned: impl Future<Output = ()>) -> Result<Report> {
    let step = || "hear the command";
    rustix::io::ioctl_fionbio(&channel, true).context(step)?;
    let channel = AsyncFd::new(channel).context(step)?;
    let mut report = Report::default();
    tokio::pin!(abandoned);
    let mut is_abandoned = false;
    loop {
        let ready = tokio::select! {
            ready = channel.readable() => ready,
            () = &mut abandoned, if !is_abandoned => {
                // Its end of the channel goes with it.
                is_abandoned = true;
                kill(pidfd);
                continue;
            }
        };
        let mut ready = ready.context(step)?;
        match ready.try_io(|channel| report.take(channel.as_fd())) {
            Ok(Ok(true)) | Err(_) => {}
            Ok(Ok(false)) => return Ok(report),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(Err(error)) => return Err(error).context(step),
        }
    }
}

fn not_running(container: &Container) -> Error {
    Error::conflict(format!("container {} is not running", container.record.name))
}

async fn until_dead(pidfd: &OwnedFd) {
    if let Ok(fd) = AsyncFd::with_interest(pidfd.as_fd(), tokio::io::Interest::READABLE) {
        fd.readable().await.map(drop).or_ignore();
    }
}

fn kill(pidfd: &OwnedFd) {
    rustix::process::pidfd_send_signal(pidfd, Signal::KILL).or_ignore();
}

/// The end of a command, for the kernel and for everyone else.
fn reap(container: &Container, id: &str, pidfd: &OwnedFd, args: &[String]) -> u8 {
    let code = exit_code(pidfd);
    container.execs.remove(id);
    note(container, "exec_die", id, Some((code, args)));
    code
}

fn note(container: &Container, action: &str, id: &str, end: Option<(u8, &[String])>) {
    let mut event = events::of_container(&container.record, action).with("execID", id);
    if let Some((code, _)) = end {
        event = event.with("exitCode", code.to_string());
    }
    events::append(&container.dirs, &event).or_ignore();
}

impl Container {
    /// The first process of the present run, for a command beside it.
    ///
    /// # Errors
    /// `Conflict`, in docker's words, where there is none or it is paused.
    fn target(&self) -> Result<(u32, OwnedFd)> {
        let name = &self.record.name;
        let Some(pidfd) = self.control.first_process()? else {
            return Err(if self.control.is_stopping() {
                not_running(self)
            } else {
                let wait = "is restarting, wait until the container is running";
                Error::conflict(format!("container {name} {wait}"))
            });
        };
        let (init, paused) = self.init().ok_or_else(|| not_running(self))?;
        if paused {
            return Err(Error::conflict(format!(
                "container {name} is paused, unpause the container before exec"
            )));
        }
        Ok((init.pid, pidfd))
    }
}
