//! A further command in a running container: into its namespaces, then exec.
//!
//! A middle process enters the namespaces, because the monitor could not come
//! back from them, and clones the command as its sibling: so the monitor is the
//! parent and hears of the end. From before the first namespace until exec,
//! neither of the two can be traced or read by the container (CVE-2016-9962),
//! and they hold no fd of the host but the ends of the command's own pipes.

use super::capabilities::ContainerCaps;
use super::command::{
    Exec, confine, die_with_the_monitor, enter_working_directory, set_credentials, set_stdio,
    set_umask_and_personality,
};
use super::create::FromInit;
use super::init::MonitorChannel;
use super::plan::Process;
use super::rootfs::Rootfs;
use super::{console, users};
use crate::channel::Channel;
use crate::error::{BestEffort, Context, Error, Kind, Result, Trouble};
use crate::sys::process::{self, Cloned};
use crate::sys::socket;
use crate::types::idmap::IdMap;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, WaitId, WaitIdOptions};
use rustix::termios::Winsize;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// DEVPTS_SUPER_MAGIC of include/uapi/linux/magic.h.
const DEVPTS: i64 = 0x1cd1;

/// Bytes that a command may say of its failure.
const MAX_REPORT: usize = 64 << 10;

/// A command, and the container that it is for.
pub(crate) struct ExecPlan {
    /// A pidfd of the container's first process.
    pub(crate) init: OwnedFd,
    /// Which of its namespaces are not the caller's: `CLONE_NEW*`.
    pub(crate) namespaces: i32,
    /// The container's control group, to start in.
    pub(crate) cgroup: Option<OwnedFd>,
    /// Looked up in the container's files.
    pub(crate) user: String,
    pub(crate) group_add: Vec<String>,
    pub(crate) groups: Groups,
    /// Of the container's user namespace.
    pub(crate) uid_map: IdMap,
    pub(crate) gid_map: IdMap,
    pub(crate) capabilities: ContainerCaps,
    /// All of them, whoever the user is.
    pub(crate) privileged: bool,
    /// Rows and columns of a terminal.
    pub(crate) size: Option<(u16, u16)>,
    /// All that does not depend on the user.
    pub(crate) process: Process,
}

/// What becomes of the supplementary groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Groups {
    Set,
    /// `keep-groups`, or a map that forbids setgroups.
    Keep,
}

/// A command on its way to exec.
pub(crate) struct Spawned {
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
    /// On which it says what it met: see [`Report`].
    pub(crate) channel: OwnedFd,
}

/// Clones the command into the container.
///
/// # Errors
/// `Conflict` where the container has just ended; what else setns and clone met.
pub(crate) fn spawn(plan: ExecPlan) -> Result<Spawned> {
    let step = || "enter the container";
    let (here, there) = Channel::<(), FromInit>::pair()?;
    let there: MonitorChannel = Channel::new(std::os::unix::net::UnixStream::from(OwnedFd::from(there)));
    let (read, mut write) = std::io::pipe().context(step)?;
    let middle = match process::fork().context(step).see_doctor(Trouble::Processes)? {
        Cloned::Child => {
            let report = match enter_and_clone(plan, there, write.as_fd()) {
                Ok(pid) => format!("{pid}\n"),
                Err(error) if error.errno() == Some(libc::ESRCH) => "!gone\n".to_owned(),
                Err(error) => format!("!{error}\n"),
            };
            write.write_all(report.as_bytes()).or_ignore();
            process::exit_now(0)
        }
        Cloned::Parent { pidfd, .. } => pidfd,
    };
    drop(write);
    drop(there);
    // A line, not the end of the pipe: the command holds its other end until it execs.
    let mut report = String::new();
    BufReader::new(read).read_line(&mut report).context(step)?;
    rustix::process::waitid(WaitId::PidFd(middle.as_fd()), WaitIdOptions::EXITED).context(step)?;
    let report = report.trim_end();
    let pid: u32 = report.parse().map_err(|_| match report.strip_prefix('!') {
        Some("gone") => Error::conflict("the container has just ended"),
        Some(why) => Error::failed(why.to_owned()),
        None => Error::failed("the helper process died").context(step()),
    })?;
    // Our own child, not reaped: the number cannot belong to anybody else.
    let raw = Pid::from_raw(pid as i32).ok_or_else(|| Error::failed("no process id").context(step()))?;
    let pidfd = rustix::process::pidfd_open(raw, PidfdFlags::empty()).context(step)?;
    Ok(Spawned { pid, pidfd, channel: here.into() })
}

/// The middle process.
fn enter_and_clone(plan: ExecPlan, there: MonitorChannel, report: BorrowedFd<'_>) -> Result<u32> {
    let stdio = &plan.process.stdio;
    let kept = [&stdio.stdin, &stdio.stdout, &stdio.stderr].into_iter().flatten().chain(&plan.cgroup);
    let mut keep: Vec<BorrowedFd<'_>> = kept.map(AsFd::as_fd).collect();
    keep.extend([plan.init.as_fd(), there.as_fd(), report]);
    if let Some(score) = plan.process.oom_score_adj {
        // While /proc is the host's: the container cannot stand in its way.
        std::fs::write("/proc/self/oom_score_adj", score.to_string())
            .context(|| format!("set oom_score_adj to {score}"))?;
    }
    process::close_all_but(&keep).context(|| "close the monitor's files")?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context(|| "protect the set-up's memory")?;
    enter_group(&plan)?;
    nix::sched::setns(&plan.init, nix::sched::CloneFlags::from_bits_retain(plan.namespaces))
        .context(|| "enter the container's namespaces")?;
    match process::clone3(libc::CLONE_PARENT as u64).context(|| "start a process in the container")? {
        Cloned::Child => run(plan, there),
        Cloned::Parent { pid, .. } => Ok(pid),
    }
}

/// Into the container's control group, where the command is then born: not by
/// `CLONE_INTO_CGROUP`, because from within the container's cgroup namespace
/// the monitor's group cannot be left (cgroups(7), "nsdelegate").
fn enter_group(plan: &ExecPlan) -> Result<()> {
    let Some(cgroup) = &plan.cgroup else { return Ok(()) };
    let step = || "enter the container's control group";
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(cgroup, "cgroup.procs", flags, Mode::empty()).context(step)?;
    rustix::io::write(&file, b"0").context(step).map(drop)
}

/// Runs the command. Never returns.
fn run(mut plan: ExecPlan, mut monitor: MonitorChannel) -> ! {
    let error = match set_up(&mut plan, &monitor) {
        Ok(exec) => match confine(&plan.process) {
            Ok(()) => exec.run(),
            Err(error) => error,
        },
        Err(error) => error,
    };
    // Where the monitor is gone there is nobody to tell.
    monitor.send(&FromInit::failed(&error)).or_ignore();
    process::exit_now(i32::from(error.kind().exit_code()))
}

/// From clone to exec; the steps that init takes too are `runtime::command`'s.
fn set_up(plan: &mut ExecPlan, monitor: &MonitorChannel) -> Result<Exec> {
    die_with_the_monitor()?;
    rustix::process::setsid().context(|| "start a session")?;
    // The root of the mount namespace, wherever init may have gone (chroot).
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty()).context(|| "open the container's root")?;
    // Docker's code for a user that is not there: 126.
    become_whom(plan, root.as_fd()).map_err(|error| error.with_kind(Kind::NotExecutable))?;
    let rootfs = Rootfs::new(root);
    let working_directory = open_working_directory(&rootfs, &plan.process.cwd)?;
    let terminal = open_terminal(plan, &rootfs, monitor)?;
    set_stdio(&plan.process.stdio, terminal)?;
    set_umask_and_personality(&plan.process)?;
    set_credentials(&plan.process)?;
    enter_working_directory(&working_directory, &plan.process.cwd)?;
    // The kernel cleared it with the change of ids: prctl(2).
    die_with_the_monitor()?;
    let exec = Exec::prepare(&plan.process)?;
    process::close_on_exec_from(3).context(|| "close inherited files")?;
    process::reset_signals();
    // It may have died before this process was tied to it.
    let mut byte = [0];
    let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
    match rustix::net::recv(monitor.as_fd(), &mut byte[..], flags) {
        Err(Errno::AGAIN) => Ok(exec),
        _ => process::exit_now(125),
    }
}

/// The user, its groups, capabilities and home.
fn become_whom(plan: &mut ExecPlan, root: BorrowedFd<'_>) -> Result<()> {
    let user = users::resolve(root, &plan.user, &plan.group_add)?;
    let unmapped = |what: &str, id: u32| {
        Err(Error::invalid(format!("{what} {id} has no id on the host that it could be"))
            .hint("the container's user namespace does not map it: see `--userns` and `--uidmap`")
            .see_doctor(Trouble::Ids))
    };
    if plan.uid_map.to_outside(user.uid).is_none() {
        return unmapped("user", user.uid);
    }
    if plan.gid_map.to_outside(user.gid).is_none() {
        return unmapped("group", user.gid);
    }
    let process = &mut plan.process;
    (process.uid, process.gid) = (user.uid, user.gid);
    process.groups = match plan.groups {
        Groups::Keep => None,
        Groups::Set => {
            let mapped = |gid: &u32| plan.gid_map.to_outside(*gid).is_some();
            Some(user.groups.into_iter().filter(mapped).collect())
        }
    };
    process.capabilities = plan.capabilities.for_user(user.uid);
    if plan.privileged {
        let all = plan.capabilities.bounding;
        process.capabilities.permitted = all;
        if user.uid != 0 {
            process.capabilities.ambient = all;
        }
    }
    if !process.env.iter().any(|entry| entry.starts_with("HOME=")) {
        process.env.push(format!("HOME={}", user.home.as_deref().unwrap_or("/")));
    }
    Ok(())
}

/// Docker and podman answer 127 where it is not there.
fn open_working_directory(rootfs: &Rootfs, path: &str) -> Result<OwnedFd> {
    let step = || format!("enter the working directory {path}");
    match rootfs.open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC) {
        Err(errno @ (Errno::NOENT | Errno::NOTDIR)) => {
            Err(errno).context(step).map_err(|error| error.with_kind(Kind::NoCommand))
        }
        result => result.context(step).map_err(|error| error.with_kind(Kind::NotExecutable)),
    }
}

/// A terminal of the container's own devpts; its master goes to the monitor.
fn open_terminal(plan: &ExecPlan, rootfs: &Rootfs, monitor: &MonitorChannel) -> Result<Option<OwnedFd>> {
    if !plan.process.terminal {
        return Ok(None);
    }
    let step = || "open /dev/pts in the container";
    let devpts =
        rootfs.open("/dev/pts", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC).context(step)?;
    if rustix::fs::fstatfs(&devpts).context(step)?.f_type as i64 != DEVPTS {
        return Err(Error::invalid("a terminal needs a devpts at /dev/pts of the container"));
    }
    let terminal = console::open(devpts.as_fd())?;
    console::adopt(terminal.slave.as_fd(), None)?;
    rustix::fs::fchown(&terminal.slave, Some(rustix::fs::Uid::from_raw(plan.process.uid)), None).or_ignore();
    if let Some((rows, columns)) = plan.size {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&terminal.slave, size).or_ignore();
    }
    socket::send_fd(monitor.as_fd(), terminal.master.as_fd())
        .context(|| "hand the terminal to the monitor")?;
    Ok(Some(terminal.slave))
}

/// What a command says before exec: its terminal, and why it failed. The end
/// of the channel without a word of failure means that exec worked.
#[derive(Default)]
pub(crate) struct Report {
    bytes: Vec<u8>,
    terminal: Option<OwnedFd>,
}

impl Report {
    /// Takes what is there; `false` at the end.
    ///
    /// # Errors
    /// `WouldBlock`, for a channel that does not block.
    pub(crate) fn take(&mut self, channel: BorrowedFd<'_>) -> std::io::Result<bool> {
        let mut buffer = [0; 4096];
        let (count, fd) = socket::receive_with_fd(channel, &mut buffer)?;
        let mut received = &buffer[..count];
        if fd.is_some() {
            // It comes with one byte of no meaning, never together with others.
            received = received.get(1..).unwrap_or_default();
            self.terminal = fd;
        }
        if self.bytes.len() + received.len() > MAX_REPORT {
            return Ok(false);
        }
        self.bytes.extend_from_slice(received);
        Ok(count > 0)
    }

    /// The terminal's master, where one was asked for.
    ///
    /// # Errors
    /// What the command met on its way, with its kind.
    pub(crate) fn finish(self) -> Result<Option<OwnedFd>> {
        if self.bytes.is_empty() {
            return Ok(self.terminal);
        }
        match self.bytes.get(4..).and_then(|body| serde_json::from_slice(body).ok()) {
            Some(FromInit::Failed { kind, message, hints }) => {
                Err(Error::new(kind.into(), message).with_hints(hints))
            }
            Some(FromInit::Ready) | None => Err(Error::failed("the command died before it could run")),
        }
    }
}
