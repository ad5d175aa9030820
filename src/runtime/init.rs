//! The child's side: from clone to exec, in the one order that works.
//!
//! This runs in a copy of the monitor's memory with one thread. It must end in
//! `execve` or `exit_now`: it never returns into the monitor's code, and no
//! destructor of the monitor's values runs.

use super::command::{
    Exec, confine, die_with_the_monitor, enter_working_directory, set_credentials, set_stdio,
    set_umask_and_personality,
};
use super::create::{FromInit, ToInit};
use super::mounts::{self, Made};
use super::plan::{Fresh, Origin, Plan, Role, UserNamespace};
use super::rootfs::{Rootfs, TargetKind};
use super::{console, reaper};
use crate::channel::Channel;
use crate::error::{BestEffort, Context, Error, Result, Trouble};
use crate::sys::{mount, process};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::process::DumpableBehavior;
use std::os::fd::{AsFd, OwnedFd};

/// This end of the conversation with the monitor.
pub(crate) type MonitorChannel = Channel<FromInit, ToInit>;

/// Runs the container's first process. Never returns.
pub(crate) fn run(plan: Plan, mut monitor: MonitorChannel) -> ! {
    let error = match set_up(&plan, &mut monitor) {
        Ok(exec) => exec.run(),
        Err(error) => error,
    };
    // Where the monitor is gone there is nobody to tell.
    monitor.send(&FromInit::failed(&error)).or_ignore();
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
    if plan.origin == Origin::Image {
        rootfs.make_own_files();
    }
    let made = make_mounts(plan, &rootfs).map_err(|error| refusal(error, &plan.origin))?;
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
    // While still root: docker makes a missing working directory, and one that
    // only root may enter is still entered.
    let working_directory = open_working_directory(&rootfs, &plan.process.cwd);
    set_stdio(&plan.process.stdio, terminal)?;
    set_umask_and_personality(&plan.process)?;
    set_credentials(&plan.process)?;
    enter_working_directory(&working_directory?, &plan.process.cwd)?;
    // The kernel cleared both with the change of ids: prctl(2).
    die_with_the_monitor()?;
    let exec = match plan.process.role {
        Role::Infra => None,
        Role::Command | Role::Reaper => Some(Exec::prepare(&plan.process)?),
    };
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
    if plan.process.role == Role::Reaper {
        reaper::split(confine)?;
    } else {
        confine()?;
    }
    match exec {
        Some(exec) => Ok(exec),
        None => reaper::stay(),
    }
}

fn expect(monitor: &mut MonitorChannel, wanted: &ToInit) -> Result<()> {
    match monitor.receive()? {
        Some(message) if message == *wanted => Ok(()),
        // The monitor is gone, or has changed its mind.
        _ => process::exit_now(125),
    }
}

/// Uid 0 of a nested or joined namespace, where it has one: so that what set-up
/// makes belongs to root. The single-id map may have only the container's user.
fn become_root_of_the_namespace(plan: &Plan) {
    let namespaces = &plan.namespaces;
    let (uid, gid) = match &namespaces.user {
        UserNamespace::Nested { uid, gid } => (uid.to_outside(0).is_some(), gid.to_outside(0).is_some()),
        // Its map is not ours to know: the kernel refuses what it lacks. Who stayed
        // what the map lacks (`nomap` lacks the user) could make no file.
        UserNamespace::Same => {
            let joined = namespaces.join.iter().any(|join| join.kind == libc::CLONE_NEWUSER);
            (joined, joined)
        }
    };
    if gid {
        process::set_gid(0).or_ignore();
    }
    if uid {
        process::set_uid(0).or_ignore();
    }
    // A change of ids made this process undumpable, and its /proc root's.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).or_ignore();
}

fn loopback_up() -> Result<()> {
    crate::sys::namespace::bring_interface_up(c"lo")
        .context(|| "bring the loopback interface up")
        .see_doctor(Trouble::Loopback)
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

/// What helps where a directory of somebody else's was to be the root.
fn refusal(error: Error, origin: &Origin) -> Error {
    match (origin, error.errno()) {
        (Origin::Directory(path), Some(libc::EACCES | libc::EPERM | libc::EROFS)) => error.hint(format!(
            "what you may not write can be seen through an overlay that is thrown away: --rootfs {}:O",
            path.display()
        )),
        _ => error,
    }
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
