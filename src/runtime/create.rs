//! The parent's side: clone into the namespaces, write the id maps, shake hands.

use super::init;
use super::plan::{Cgroup, Fresh, Namespaces, Plan, UserNamespace};
use crate::channel::Channel;
use crate::error::{BestEffort, Context, Error, Kind, Result, Trouble};
use crate::sys::errno;
use crate::sys::process::{self, Cloned};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What the monitor says to init.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ToInit {
    /// The id maps are written.
    Mapped,
    /// The network is there and the monitor listens: exec.
    Exec,
}

/// What init says to the monitor. End of file after `Ready` means: exec worked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromInit {
    Ready,
    Failed { kind: FailureKind, message: String, hints: Vec<String> },
}

impl FromInit {
    pub(super) fn failed(error: &Error) -> Self {
        Self::Failed { kind: error.kind().into(), message: error.to_string(), hints: error.hints().to_vec() }
    }
}

/// [`Kind`] as it travels.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum FailureKind {
    Invalid,
    NotExecutable,
    NoCommand,
    Failed,
}

impl From<Kind> for FailureKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Usage | Kind::Invalid => Self::Invalid,
            Kind::NotExecutable => Self::NotExecutable,
            Kind::NoCommand => Self::NoCommand,
            Kind::NotFound | Kind::Conflict | Kind::Failed => Self::Failed,
        }
    }
}

impl From<FailureKind> for Kind {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Invalid => Self::Invalid,
            FailureKind::NotExecutable => Self::NotExecutable,
            FailureKind::NoCommand => Self::NoCommand,
            FailureKind::Failed => Self::Failed,
        }
    }
}

/// A cloned init that waits for the next word. Dropped, it is killed.
pub(crate) struct Starting {
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
    channel: Channel<ToInit, FromInit>,
    terminal: bool,
    running: bool,
}

/// Clones init and writes its id maps; it then sets up its root file system on
/// its own while the caller starts the network.
pub(crate) fn create(plan: Plan) -> Result<Starting> {
    let (channel, there) = Channel::<ToInit, FromInit>::pair()?;
    let terminal = plan.process.terminal;
    let flags = clone_flags(&plan.namespaces);
    let maps = match &plan.namespaces.user {
        UserNamespace::Nested { uid, gid } => Some((uid.proc_text(), gid.proc_text())),
        UserNamespace::Same => None,
    };
    let (pid, pidfd) = if plan.namespaces.join.is_empty() {
        clone_here(plan, flags, there)?
    } else {
        clone_in_joined_namespaces(plan, flags, there)?
    };
    let mut starting = Starting { pid, pidfd, channel, terminal, running: false };
    if let Some((uid, gid)) = maps {
        write_map(pid, "uid_map", &uid)?;
        write_map(pid, "gid_map", &gid)?;
    }
    starting.channel.send(&ToInit::Mapped)?;
    Ok(starting)
}

impl Starting {
    /// Waits until init has set everything up; the terminal's master where
    /// there is one.
    ///
    /// # Errors
    /// What init met, with its kind.
    pub(crate) fn wait_until_ready(&mut self) -> Result<Option<OwnedFd>> {
        // The terminal comes first, as an fd with one byte; a byte that comes
        // without an fd is the start of a message that says what failed.
        let mut terminal = None;
        if self.terminal {
            terminal = receive_terminal(self.channel.as_fd())?;
        }
        match self.channel.receive()? {
            Some(FromInit::Ready) => Ok(terminal),
            Some(failed @ FromInit::Failed { .. }) => Err(error_of(failed)),
            None => Err(Error::failed("the container's first process ended before it was set up")),
        }
    }

    /// Lets init exec and waits until it has.
    ///
    /// # Errors
    /// `NoCommand`, `NotExecutable` and what else exec met.
    pub(crate) fn exec(mut self) -> Result<(u32, OwnedFd)> {
        self.channel.send(&ToInit::Exec)?;
        match self.channel.receive()? {
            None => {
                self.running = true;
                let pidfd = self.pidfd.try_clone().context(|| "keep the container's pidfd")?;
                Ok((self.pid, pidfd))
            }
            Some(failed @ FromInit::Failed { .. }) => Err(error_of(failed)),
            Some(FromInit::Ready) => Err(Error::failed("init spoke out of turn")),
        }
    }
}

impl Drop for Starting {
    /// A container that did not come to run is ended and reaped.
    fn drop(&mut self) {
        if self.running {
            return;
        }
        rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL).or_ignore();
        rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED).or_ignore();
    }
}

fn error_of(report: FromInit) -> Error {
    match report {
        FromInit::Failed { kind, message, hints } => Error::new(kind.into(), message).with_hints(hints),
        FromInit::Ready => Error::failed("init spoke out of turn"),
    }
}

/// The terminal's master; `None` where a message waits instead.
fn receive_terminal(socket: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    let mut first = [0; 4];
    let peeked = rustix::net::recv(socket, &mut first[..], rustix::net::RecvFlags::PEEK)
        .context(|| "wait for the container's terminal")?;
    // One zero byte carries the fd; a message begins with its length, which is
    // never zero in its first byte alone with nothing behind it.
    if peeked.0 == 1 && first[0] == 0 {
        return crate::sys::socket::receive_fd(socket).context(|| "receive the container's terminal");
    }
    Ok(None)
}

fn clone_flags(namespaces: &Namespaces) -> u64 {
    let fresh = [
        (namespaces.pid, libc::CLONE_NEWPID),
        (namespaces.net, libc::CLONE_NEWNET),
        (namespaces.ipc, libc::CLONE_NEWIPC),
        (namespaces.uts, libc::CLONE_NEWUTS),
        (namespaces.cgroup, libc::CLONE_NEWCGROUP),
    ];
    let mut flags = libc::CLONE_NEWNS as u64;
    for (namespace, flag) in fresh {
        if namespace == Fresh::Yes {
            flags |= flag as u64;
        }
    }
    if matches!(namespaces.user, UserNamespace::Nested { .. }) {
        flags |= libc::CLONE_NEWUSER as u64;
    }
    flags
}

fn clone_here(plan: Plan, flags: u64, there: init::MonitorChannel) -> Result<(u32, OwnedFd)> {
    match clone3(&plan, flags).context(|| "make the container's namespaces") {
        Ok(Cloned::Child) => init::run(plan, there),
        Ok(Cloned::Parent { pid, pidfd }) => Ok((pid, pidfd)),
        Err(error) => Err(clone_hint(error)),
    }
}

/// Into the control group, where there is one and the kernel lets us.
fn clone3(plan: &Plan, flags: u64) -> std::io::Result<Cloned> {
    let Some(Cgroup { fd, required }) = &plan.cgroup else { return process::clone3(flags) };
    match process::clone3_into(flags, Some(fd.as_fd())) {
        Err(_) if !required => process::clone3(flags),
        result => result,
    }
}

fn clone_hint(error: Error) -> Error {
    match error.errno() {
        Some(libc::ENOSPC) => error.hint(
            "a limit on namespaces is reached: see the files in /proc/sys/user, for example `sysctl user.max_net_namespaces`",
        )
        .see_doctor(Trouble::Namespaces),
        Some(libc::EPERM) => error.see_doctor(Trouble::Namespaces),
        Some(errno) => match errno::explain("clone3", errno, &errno::read_host) {
            Some(why) => error.context(why.cause).hint(why.fix).see_doctor(Trouble::Processes),
            None => error,
        },
        None => error,
    }
}

/// A middle process enters the other container's namespaces, because the
/// monitor could not come back from them, and clones init as its sibling.
fn clone_in_joined_namespaces(plan: Plan, flags: u64, there: init::MonitorChannel) -> Result<(u32, OwnedFd)> {
    let step = || "join the other container's namespaces";
    let (read, mut write) = std::io::pipe().context(step)?;
    let (middle, middle_fd) = match process::fork().context(step).see_doctor(Trouble::Processes)? {
        Cloned::Child => {
            drop(read);
            let report = match join_and_clone(plan, flags, there) {
                Ok(pid) => format!("{pid}\n"),
                Err(error) => format!("!{error}\n"),
            };
            write.write_all(report.as_bytes()).or_ignore();
            process::exit_now(0)
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(write);
    drop(there);
    // A line, not the end of the pipe: init holds its other end until it execs.
    let mut report = String::new();
    BufReader::new(read).read_line(&mut report).context(step)?;
    let report = report.trim_end();
    rustix::process::waitid(WaitId::PidFd(middle_fd.as_fd()), WaitIdOptions::EXITED)
        .context(|| format!("wait for process {middle}"))?;
    let pid: u32 = report.parse().map_err(|_| {
        Error::failed(report.strip_prefix('!').unwrap_or("the helper process died").to_owned())
            .context(step())
    })?;
    // Our own child, not reaped: the number cannot belong to anybody else.
    let raw = Pid::from_raw(pid as i32).ok_or_else(|| Error::failed("no process id").context(step()))?;
    let pidfd = rustix::process::pidfd_open(raw, PidfdFlags::empty()).context(step)?;
    Ok((pid, pidfd))
}

fn join_and_clone(plan: Plan, flags: u64, there: init::MonitorChannel) -> Result<u32> {
    for join in &plan.namespaces.join {
        nix::sched::setns(&join.fd, nix::sched::CloneFlags::from_bits_retain(join.kind))
            .context(|| format!("enter the namespace of type {:#x}", join.kind))?;
    }
    match clone3(&plan, flags | libc::CLONE_PARENT as u64).context(|| "make the container's namespaces")? {
        Cloned::Child => init::run(plan, there),
        Cloned::Parent { pid, .. } => Ok(pid),
    }
}

fn write_map(pid: u32, file: &str, text: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    std::fs::write(&path, text).context(|| format!("write {:?} to {path}", text.trim_end()))
}
