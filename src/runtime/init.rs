//! The child's side: from clone to exec, in the one order that works.
//!
//! This runs in a copy of the monitor's memory with one thread. It must end in
//! `execve` or `exit_now`: it never returns into the monitor's code, and no
//! destructor of the monitor's values runs.

use super::capabilities::{self, CapSet, ProcessCaps};
use super::create::{FromInit, ToInit};
use super::mounts::{self, Made};
use super::plan::{Fresh, Plan, Process, UserNamespace};
use super::rootfs::{Rootfs, TargetKind};
use super::{console, reaper, rlimits, seccomp};
use crate::channel::Channel;
use crate::error::{BestEffort, Context, Error, Kind, Result};
use crate::sys::{mount, process};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::process::{DumpableBehavior, Signal};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

/// This end of the conversation with the monitor.
pub(crate) type MonitorChannel = Channel<FromInit, ToInit>;

/// Runs the container's first process. Never returns.
pub(crate) fn run(plan: Plan, mut monitor: MonitorChannel) -> ! {
    let error = match set_up(&plan, &mut monitor) {
        Ok(exec) => exec.run(),
        Err(error) => error,
    };
    let report = FromInit::Failed {
        kind: error.kind().into(),
        message: error.to_string(),
        hints: error.hints().to_vec(),
    };
    // Where the monitor is gone there is nobody to tell.
    monitor.send(&report).or_ignore();
    process::exit_now(i32::from(error.kind().exit_code()))
}

/// Every step from clone to exec. A reader who wants to know what a container
/// is reads this function.
fn set_up(plan: &Plan, monitor: &mut MonitorChannel) -> Result<Exec> {
    die_with_the_monitor()?;
    expect(monitor, &ToInit::Mapped)?;
    // A path of the host, so before the ids change: with `nomap` no id of the
    // namespace may enter the user's directories.
    let mount_point = open_mount_point(plan)?;
    become_root_of_the_namespace(plan);
    rustix::process::setsid().context(|| "start a session")?;
    set_names(plan)?;
    if plan.namespaces.net == Fresh::Yes {
        loopback_up()?;
    }

    let rootfs = attach_rootfs(plan, mount_point)?;
    let made = make_mounts(plan, &rootfs)?;
    // Before the masks: they lie over /proc/sys, and NO_XDEV would refuse it.
    mounts::write_sysctls(made.proc.as_ref(), &plan.sysctls)?;
    let terminal = open_terminal(plan, &rootfs, &made, monitor)?;
    hide_paths(plan, &rootfs)?;
    pivot(&rootfs)?;
    if plan.read_only {
        make_root_read_only(&rootfs)?;
    }

    // Before the credentials: writing it needs to be root of the namespace.
    set_oom_score(plan.process.oom_score_adj, made.proc.as_ref())?;
    rlimits::apply(&plan.process.rlimits, plan.process.pid_max)?;
    // While still root: docker makes a missing working directory, and one that
    // only root may enter is still entered.
    let working_directory = open_working_directory(&rootfs, &plan.process.cwd);
    set_stdio(plan, terminal)?;
    rustix::process::umask(Mode::from_raw_mode(plan.process.umask));
    set_credentials(&plan.process)?;
    enter_working_directory(&working_directory?, &plan.process.cwd)?;
    // The kernel cleared both with the change of ids: prctl(2).
    die_with_the_monitor()?;
    let exec = Exec::prepare(&plan.process)?;
    process::close_on_exec_from(3).context(|| "close inherited files")?;
    process::reset_signals();

    // From here on this process may be no stronger than the container it is in:
    // a neighbour there (a shared pid namespace), or the command (where this
    // stays as its reaper), must not read the monitor's memory or take an fd
    // (CVE-2016-9962). Exec makes the command's own memory dumpable again.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context(|| "protect the set-up's memory")?;
    monitor.send(&FromInit::Ready)?;
    expect(monitor, &ToInit::Exec)?;
    let confine = || confine(&plan.process);
    if plan.process.reaper {
        reaper::split(confine)?;
    } else {
        confine()?;
    }
    Ok(exec)
}

/// The container ends when its monitor does, even by SIGKILL.
fn die_with_the_monitor() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context(|| "tie to the monitor")
}

fn expect(monitor: &mut MonitorChannel, wanted: &ToInit) -> Result<()> {
    match monitor.receive()? {
        Some(message) if message == *wanted => Ok(()),
        // The monitor is gone, or has changed its mind.
        _ => process::exit_now(125),
    }
}

/// Uid 0 of a nested namespace, where it has one: so that what set-up makes
/// belongs to root. The single-id map may have only the container's user.
fn become_root_of_the_namespace(plan: &Plan) {
    if let UserNamespace::Nested { uid, gid } = &plan.namespaces.user {
        if gid.to_outside(0).is_some() {
            process::set_gid(0).or_ignore();
        }
        if uid.to_outside(0).is_some() {
            process::set_uid(0).or_ignore();
        }
    }
    // A change of ids made this process undumpable, and its /proc root's.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).or_ignore();
}

fn loopback_up() -> Result<()> {
    crate::sys::namespace::bring_interface_up(c"lo").context(|| "bring the loopback interface up")
}

fn set_names(plan: &Plan) -> Result<()> {
    if plan.namespaces.uts == Fresh::No {
        return Ok(());
    }
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes()).context(|| format!("set the host name {name}"))?;
    }
    if let Some(name) = &plan.domainname {
        rustix::system::setdomainname(name.as_bytes()).context(|| format!("set the domain name {name}"))?;
    }
    Ok(())
}

fn open_mount_point(plan: &Plan) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(plan.mount_point.as_str(), flags, Mode::empty())
        .context(|| format!("open {}", plan.mount_point))
}

fn attach_rootfs(plan: &Plan, point: OwnedFd) -> Result<Rootfs> {
    let step = || "mount the root file system";
    mounts::attach(plan.rootfs.as_fd(), point.as_fd()).context(step)?;
    Ok(Rootfs::new(plan.rootfs.try_clone().context(step)?))
}

fn make_mounts(plan: &Plan, rootfs: &Rootfs) -> Result<Made> {
    let mut made = Made::default();
    for mount in &plan.mounts {
        mounts::make(rootfs, mount, &mut made)?;
    }
    for device in &plan.devices {
        let point = rootfs.mount_point(&device.path, TargetKind::File)?;
        mounts::attach(device.mount.as_fd(), point.as_fd())
            .context(|| format!("put the device {} into the container", device.path))?;
    }
    Ok(made)
}

fn open_terminal(
    plan: &Plan,
    rootfs: &Rootfs,
    made: &Made,
    monitor: &MonitorChannel,
) -> Result<Option<OwnedFd>> {
    if !plan.process.terminal {
        return Ok(None);
    }
    let devpts = made.devpts.as_ref().ok_or_else(|| Error::invalid("a terminal needs /dev/pts"))?;
    let terminal = console::open(devpts.as_fd())?;
    let point = rootfs.mount_point("/dev/console", TargetKind::File)?;
    console::adopt(terminal.slave.as_fd(), Some(point.as_fd()))?;
    rustix::fs::fchown(&terminal.slave, Some(rustix::fs::Uid::from_raw(plan.process.uid)), None).or_ignore();
    crate::sys::socket::send_fd(monitor.as_fd(), terminal.master.as_fd())
        .context(|| "hand the terminal to the monitor")?;
    Ok(Some(terminal.slave))
}

fn hide_paths(plan: &Plan, rootfs: &Rootfs) -> Result<()> {
    for path in &plan.read_only_paths {
        mounts::make_read_only(rootfs, path)?;
    }
    if plan.masked_paths.is_empty() {
        return Ok(());
    }
    // The cover is the host's device, checked and opened by the monitor: not
    // whatever the image has at /dev/null (CVE-2025-31133).
    let null = plan
        .devices
        .iter()
        .find(|device| device.path == "/dev/null")
        .ok_or_else(|| Error::failed("no /dev/null to hide paths with"))?;
    for path in &plan.masked_paths {
        mounts::mask(rootfs, path, null.mount.as_fd())?;
    }
    Ok(())
}

/// The new root takes the place of the old one, which is then let go of with
/// everything below it: pivot_root(2), "pivot_root(".", ".")".
fn pivot(rootfs: &Rootfs) -> Result<()> {
    let step = || "change the root directory";
    rustix::process::fchdir(rootfs).context(step)?;
    rustix::process::pivot_root(".", ".").context(step)?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).context(step)?;
    rustix::process::chdir("/").context(step)
}

fn make_root_read_only(rootfs: &Rootfs) -> Result<()> {
    let attr = mount::MountAttr { set: mount::RDONLY, ..mount::MountAttr::default() };
    mount::mount_setattr(rootfs.as_fd(), c"", attr, false).context(|| "make the root file system read-only")
}

fn set_oom_score(score: Option<i32>, proc: Option<&OwnedFd>) -> Result<()> {
    let Some(score) = score else { return Ok(()) };
    let step = || format!("set oom_score_adj to {score}");
    let proc = proc.ok_or_else(|| Error::invalid("what is at /proc is no procfs").context(step()))?;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(proc, "self/oom_score_adj", flags, Mode::empty()).context(step)?;
    match rustix::io::write(&file, score.to_string().as_bytes()) {
        Err(Errno::ACCESS | Errno::PERM) => Err(Error::failed("the host does not allow it").context(step()))
            .map_err(|error| error.hint("an ordinary user may only raise it above its own value")),
        result => result.map(drop).context(step),
    }
}

fn open_working_directory(rootfs: &Rootfs, path: &str) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let step = || format!("enter the working directory {path}");
    match rootfs.open(path, flags) {
        Ok(fd) => Ok(fd),
        Err(Errno::NOENT) => {
            rootfs.create_directory(path).map_err(|error| error.context(step()))?;
            rootfs.open(path, flags).context(step)
        }
        Err(errno) => Err(errno).context(step),
    }
}

/// The directory must lie inside: CVE-2024-21626 came in through a working
/// directory outside the root, for which getcwd(2) has no absolute answer.
fn enter_working_directory(directory: &OwnedFd, path: &str) -> Result<()> {
    let step = || format!("enter the working directory {path}");
    rustix::process::fchdir(directory).context(step)?;
    let cwd = rustix::process::getcwd(Vec::new()).context(step)?;
    if cwd.as_bytes().first() == Some(&b'/') {
        Ok(())
    } else {
        Err(Error::invalid("it is outside the container").context(step()))
    }
}

fn set_stdio(plan: &Plan, terminal: Option<OwnedFd>) -> Result<()> {
    let step = || "set up stdin, stdout and stderr";
    let stdio = &plan.process.stdio;
    // The terminal stands for all three; without one, what is missing is /dev/null.
    let only_terminal = terminal.is_some();
    let rest = match terminal {
        Some(terminal) => terminal,
        None => rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).context(step)?,
    };
    let pick = |fd: &'static str, given: &Option<OwnedFd>| -> Result<OwnedFd> {
        let source = given.as_ref().filter(|_| !only_terminal).unwrap_or(&rest);
        source.try_clone().context(|| format!("set up {fd}"))
    };
    rustix::stdio::dup2_stdin(pick("stdin", &stdio.stdin)?).context(step)?;
    rustix::stdio::dup2_stdout(pick("stdout", &stdio.stdout)?).context(step)?;
    rustix::stdio::dup2_stderr(pick("stderr", &stdio.stderr)?).context(step)
}

/// Groups, then ids, then what capabilities are left: each step needs the
/// capability that a later one takes away.
fn set_credentials(process: &Process) -> Result<()> {
    capabilities::limit_bounding(process.capabilities.bounding)?;
    if let Some(groups) = &process.groups {
        process::set_groups(groups).context(|| format!("set the supplementary groups {groups:?}"))?;
    }
    process::set_gid(process.gid).context(|| format!("become group {}", process.gid))?;
    rustix::thread::set_keep_capabilities(true).context(|| "keep capabilities")?;
    process::set_uid(process.uid).context(|| format!("become user {}", process.uid))?;
    // Loading a filter takes CAP_SYS_ADMIN or no_new_privs: seccomp(2). The
    // former is given up right after that, in `confine`.
    let until_confined = process.capabilities.permitted.with(CapSet::SYS_ADMIN);
    capabilities::set_final(ProcessCaps {
        permitted: until_confined,
        ambient: CapSet::EMPTY,
        ..process.capabilities
    })
}

/// The last step before exec: nothing of what set-up was allowed to do is left.
fn confine(process: &Process) -> Result<()> {
    let install = || match &process.seccomp {
        Some(program) => seccomp::install(&program.filter, program.flags),
        None => Ok(()),
    };
    if process.no_new_privileges {
        // The filter needs no capability then, and may forbid capset(2).
        rustix::thread::set_no_new_privs(true).context(|| "set no_new_privs")?;
        capabilities::set_final(process.capabilities)?;
        return install();
    }
    install()?;
    capabilities::set_final(process.capabilities)
}

/// The command, with everything allocated that exec needs.
struct Exec {
    /// Where to look, in this order; the first that exists counts.
    candidates: Vec<CString>,
    args: Vec<CString>,
    env: Vec<CString>,
    /// As the user wrote it.
    name: String,
}

impl Exec {
    fn prepare(process: &Process) -> Result<Self> {
        let name = process.args.first().cloned().unwrap_or_default();
        if name.is_empty() {
            return Err(Error::invalid("no command: neither the image nor the command line names one"));
        }
        let c_string = |text: &String| {
            CString::new(text.as_bytes())
                .map_err(|_| Error::invalid(format!("{text:?} has a NUL byte in it")))
        };
        let candidates: Vec<String> = if name.contains('/') {
            vec![name.clone()]
        } else {
            search_path(&process.env).map(|dir| format!("{dir}/{name}")).collect()
        };
        Ok(Self {
            candidates: candidates.iter().map(c_string).collect::<Result<_>>()?,
            args: process.args.iter().map(c_string).collect::<Result<_>>()?,
            env: process.env.iter().map(c_string).collect::<Result<_>>()?,
            name,
        })
    }

    /// Tries each place; says why none would do.
    fn run(self) -> Error {
        let mut refused = None;
        for path in &self.candidates {
            let error = process::execve(path, &self.args, &self.env);
            match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => {}
                // A directory or a file without x further on the path may still
                // be followed by the right one: execvp(3).
                Some(libc::EACCES) => refused = Some((path, error)),
                _ => return Self::cannot_run(path, &error),
            }
        }
        match refused {
            Some((path, error)) => Self::cannot_run(path, &error),
            None => self.not_found(),
        }
    }

    fn cannot_run(path: &CString, error: &std::io::Error) -> Error {
        let cause =
            Err::<(), _>(std::io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EINVAL)));
        let path = path.to_string_lossy();
        let Err(mut failure) = cause.context(|| format!("run {path}")) else {
            return Error::failed("exec failed");
        };
        if error.raw_os_error() == Some(libc::ENOEXEC) {
            failure = failure.hint(
                "it is not a program for this machine: see its architecture with `file`, or a script without a #! line",
            );
        }
        failure.with_kind(Kind::NotExecutable)
    }

    fn not_found(&self) -> Error {
        let exists = self
            .candidates
            .iter()
            .any(|path| rustix::fs::statat(CWD, path.as_c_str(), rustix::fs::AtFlags::empty()).is_ok());
        if exists {
            return Error::new(Kind::NoCommand, format!("run {}: its interpreter is not in the container", self.name))
                .hint("the #! line of the script, or the dynamic loader of the program, names a file that the image lacks");
        }
        let place = if self.name.contains('/') { "in the container" } else { "in the container's $PATH" };
        Error::new(Kind::NoCommand, format!("run {}: no such file {place}", self.name))
    }
}

/// The directories of `PATH`, or the ones execvp(3) takes without it.
fn search_path(env: &[String]) -> impl Iterator<Item = &str> {
    env.iter()
        .rev()
        .find_map(|entry| entry.strip_prefix("PATH="))
        .unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .split(':')
        .map(|dir| if dir.is_empty() { "." } else { dir })
}
