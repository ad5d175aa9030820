//! One run of the container: plan, clone, connect, exec, wait.

// `AsyncFd::new` is deprecated for types that may change their fd; an `OwnedFd`
// or `BorrowedFd` does not.
#![allow(deprecated)]

use super::Front;
use super::life::Container;
use super::log_file::Stream;
use super::messages::{FromMonitor, StartOrder};
use super::netd::Wanted;
use super::overlay::{self, Overlays, Server};
use super::plan::{self, Planned};
use super::pump::{self, Pipes};
use super::{group, health, networks, note, pid_files, resolv_conf, terminate};
use crate::error::{BestEffort, Context, Error, Result};
use crate::network::uplink::{Chosen, Netns, Uplink};
use crate::runtime::create::{self, Starting};
use crate::state::store::{LiveState, this_process};
use crate::sys::process::start_ticks;
use crate::types::namespace::NamespaceMode;
use crate::types::status::{Exit, ProcessId};
use jiff::Timestamp;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal as ChildSignals, SignalKind, signal};

/// How long output may still come after the first process has ended, where
/// others hold the pipes: a container without a pid namespace of its own.
const DRAIN: Duration = Duration::from_secs(2);

/// A container that has run for so long will run for longer: its monitor gives
/// back the memory that the start took.
const SETTLE: Duration = Duration::from_secs(1);

/// The exit code of a container that has lost its files: it was killed.
const KILLED: u8 = 137;

/// A container whose command runs.
pub(super) struct Started {
    pub(super) process: ProcessId,
    pidfd: OwnedFd,
    at: Timestamp,
    output: tokio::task::JoinHandle<()>,
    uplink: Option<Uplink>,
    resolv_conf: Option<tokio::task::JoinHandle<()>>,
    memory: Option<tokio::task::JoinHandle<()>>,
    servers: Vec<Server>,
}

/// Starts the container. When it returns, the command has been exec'd.
pub(super) async fn start(
    container: &Rc<Container>,
    order: &StartOrder,
    front: &mut Option<Front>,
) -> Result<Started> {
    let overlays = Overlays::new(order.driver);
    match start_on(container, order, front, &overlays).await {
        Ok(started) => Ok(Started { servers: overlays.into_servers(), ..started }),
        Err(error) => {
            container.ports.close();
            container.networks.leave();
            Err(overlays.blame(error))
        }
    }
}

async fn start_on(
    container: &Rc<Container>,
    order: &StartOrder,
    front: &mut Option<Front>,
    overlays: &Overlays,
) -> Result<Started> {
    let config = &container.record.config;
    // First of all: a port that is taken is found out before anything is made.
    container.ports.bind(container)?;
    let (stdio, pipes) = pump::make(config)?;
    // Its name and its networks may be others by now.
    let present = (container.control.restarts() > 0).then(|| container.present_record());
    let record = present.as_ref().unwrap_or(&container.record);
    let context = plan::Context {
        dirs: &container.dirs,
        store: &container.store,
        record,
        outer: &container.outer,
        overlays,
        uplink: order.uplink,
    };
    let limits = container.attainable(&container.limits());
    let pod = group::pod_of(container)?;
    // systemd works while the plan is made.
    let group = group::begin(container, &limits, pod.as_ref())?;
    let Planned { mut plan, uplink, networks, uid_map, driver, mut warnings } = plan::make(&context, stdio)?;
    let group = group.finish(&mut plan, &mut warnings)?;
    let mut starting = create::create(plan)?;
    let group = group::taken_by(group, starting.pid, &mut warnings);
    let cgroup = group.as_ref().map(|group| group.path().to_owned());
    container.set_group(group);
    let addresses = uplink.as_ref().map(|chosen| chosen.addresses().clone());
    let mut uplink = match connect(container, uplink, networks, starting.pid) {
        Ok((uplink, told)) => {
            warnings.extend(told);
            uplink
        }
        // An init that has died has no namespaces: what it met is the reason.
        Err(error) => {
            starting.wait_until_ready()?;
            return Err(error);
        }
    };
    for warning in warnings {
        if let Some(front) = front {
            front.send(&FromMonitor::Warning(warning)).or_ignore();
        }
    }
    // Init mounts meanwhile.
    let connected = match &mut uplink {
        Some(uplink) => uplink.ready().await,
        None => Ok(()),
    };
    // What init met comes first: without it the helper has nothing to connect.
    let terminal = starting.wait_until_ready()?;
    connected?;
    if let (Some(terminal), Some((rows, columns))) = (&terminal, order.size) {
        pump::resize(terminal.as_fd(), rows, columns).or_ignore();
    }
    let at = Timestamp::now();
    let process = process_id(&starting)?;
    // Before exec: whoever sees what the command does, sees it running.
    let state = LiveState {
        version: 1,
        id: container.record.id.clone(),
        monitor: this_process()?,
        init: Some(process),
        since: at,
        restart_count: container.control.restarts(),
        last: container.control.last_run().or_else(|| order.last.clone()),
        paused: false,
        cgroup,
        uid_map,
        driver,
        ports: container.ports.bindings(),
        endpoints: container.networks.endpoints(),
    };
    container.publish(state)?;
    // After it: who finds this mark without a living monitor takes the run for lost.
    container.mark.replace(Some(container.store.mark_started(&container.record.id, at)?));
    pid_files::write(&container.record.config.pid_files, process.pid)?;
    let (_, pidfd) = starting.exec()?;
    let keep = pidfd.try_clone().context(|| "keep the container's pidfd")?;
    container.control.set_running(Some(keep));
    note::started(container, order);
    health::begin(container, at);
    networks::watch(container);
    let output = tokio::task::spawn_local(pump::pump(Rc::clone(container), Pipes { terminal, ..pipes }));
    let resolv_conf = resolv_conf::follow(container, addresses);
    let memory = group::watch_memory(container);
    Ok(Started { process, pidfd, at, output, uplink, resolv_conf, memory, servers: Vec::new() })
}

/// Starts the way out of the container's network namespace, and gives that to
/// whoever serves its ports; or joins it to networks. What is to be told of it.
fn connect(
    container: &Rc<Container>,
    uplink: Option<Chosen>,
    networks: Option<Wanted>,
    init: u32,
) -> Result<(Option<Uplink>, Vec<String>)> {
    let netns = Netns::of(init)?;
    let for_ports = netns.try_clone()?;
    let loopback_only = uplink.is_none() && networks.is_none();
    let warnings = container.networks.enter(&container.dirs, netns.try_clone()?, networks)?;
    let uplink = uplink.map(|chosen| Uplink::start(chosen, netns)).transpose()?;
    container.ports.serve(container, for_ports, loopback_only)?;
    Ok((uplink, warnings))
}

fn process_id(starting: &Starting) -> Result<ProcessId> {
    let start_ticks = start_ticks(starting.pid)
        .ok_or_else(|| Error::failed("the container's first process has died before it ran"))?;
    Ok(ProcessId { pid: starting.pid, start_ticks })
}

/// Waits for the end of a run and for the last of its output.
pub(super) async fn wait(container: &Rc<Container>, started: Started) -> Exit {
    let Started { process, pidfd, at, output, uplink, resolv_conf, memory, servers } = started;
    // Without a pid namespace the orphans of the container come to this process.
    let orphans = if container.record.config.pid == NamespaceMode::Host {
        signal(SignalKind::child()).ok()
    } else {
        None
    };
    let timeout = container.record.config.timeout;
    let run = Run { container, pid: process.pid, pidfd: &pidfd, timeout, servers: &servers };
    let mut status = wait_for_exit(&run, uplink, orphans).await;
    container.count_oom_kills();
    for task in [resolv_conf, memory].into_iter().flatten() {
        task.abort();
    }
    let why = terminate::why_ended(container, status);
    let oom_killed = container.end_group(status);
    container.control.set_running(None);
    container.ports.close();
    let holder = container.networks.pid();
    container.networks.leave();
    health::end(container);
    container.execs.end_all().await;
    if container.record.config.pid == NamespaceMode::Host {
        end_orphans(&servers, holder);
    }
    let fault = overlay::end(&servers).await.map(|fault| fault.context("the container has lost its files"));
    if let Some(fault) = &fault {
        // What it did without its files says nothing.
        status = KILLED;
        container.hub.wait_until_ready().await;
        container.hub.output(Stream::Stderr, format!("coracle: {fault}\n").as_bytes());
    }
    if tokio::time::timeout(DRAIN, output).await.is_err() {
        // Someone outside still holds a pipe's end: it is not waited for.
    }
    container.hub.flush_log();
    Exit {
        code: status,
        started_at: at,
        finished_at: Timestamp::now(),
        oom_killed,
        error: fault.map(|fault| fault.to_string()).or(why),
    }
}

struct Run<'a> {
    container: &'a Container,
    pid: u32,
    pidfd: &'a OwnedFd,
    /// Seconds; 0: for ever.
    timeout: u64,
    servers: &'a [Server],
}

async fn wait_for_exit(run: &Run<'_>, mut uplink: Option<Uplink>, mut orphans: Option<ChildSignals>) -> u8 {
    let Run { pidfd, timeout, .. } = *run;
    let ended = async {
        match AsyncFd::new(pidfd.as_fd()) {
            Ok(fd) => fd.readable().await.map(drop).or_ignore(),
            Err(error) => Err::<(), _>(error).or_ignore(),
        }
    };
    tokio::pin!(ended);
    let deadline =
        tokio::time::sleep(if timeout == 0 { Duration::MAX / 4 } else { Duration::from_secs(timeout) });
    tokio::pin!(deadline);
    let settling = tokio::time::sleep(SETTLE);
    tokio::pin!(settling);
    // What it has asked of a server that answers no more keeps it from ending.
    let stuck = async {
        run.container.control.killed().await;
        overlay::end_stuck(run.servers).await;
    };
    tokio::pin!(stuck);
    let (mut expired, mut settled, mut faulty, mut rid_of_stuck) =
        (false, false, false, run.servers.is_empty());
    loop {
        let helper = uplink.as_ref().and_then(Uplink::pid);
        let child = async {
            match &mut orphans {
                Some(signals) => signals.recv().await,
                None => std::future::pending().await,
            }
        };
        let name = uplink.as_ref().map_or("", Uplink::name);
        let news = async {
            match &mut uplink {
                Some(uplink) => uplink.news().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = &mut ended => break,
            () = &mut settling, if !settled => {
                settled = true;
                crate::sys::memory::settle();
            }
            () = &mut deadline, if timeout != 0 && !expired => {
                expired = true;
                run.container.control.signal(libc::SIGKILL).or_ignore();
            }
            // Its files are gone, and what waits for them gets an error.
            () = overlay::any_fails(run.servers), if !faulty => {
                faulty = true;
                rustix::process::pidfd_send_signal(pidfd, Signal::KILL).or_ignore();
            }
            () = &mut stuck, if !rid_of_stuck => rid_of_stuck = true,
            news = news => note::uplink(run.container, name, &news),
            _ = child => {
                let own = [Some(run.pid), helper].into_iter().flatten();
                let own = own.chain(run.servers.iter().map(Server::pid));
                let own = own.chain(run.container.execs.pids()).chain(run.container.ports.pid());
                let own = own.chain(run.container.networks.pid());
                reap_orphans(&own.collect::<Vec<_>>());
            }
        }
    }
    let code = exit_code(pidfd);
    // Podman's code for a container whose time was up.
    if expired { 255 } else { code }
}

/// Docker's: the code, or 128 and the signal.
pub(super) fn exit_code(pidfd: &OwnedFd) -> u8 {
    match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => code as u8,
            (None, Some(signal)) => 128u8.wrapping_add(signal as u8),
            (None, None) => 255,
        },
        _ => 255,
    }
}

fn children() -> Vec<Pid> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{}/children", std::process::id()));
    text.unwrap_or_default().split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

/// Reaps those that have ended, but for `others`, who have their own waiters.
fn reap_orphans(others: &[u32]) {
    let awaited = |pid: &Pid| others.contains(&pid.as_raw_nonzero().get().cast_unsigned());
    for pid in children().into_iter().filter(|pid| !awaited(pid)) {
        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG).or_ignore();
    }
}

/// Ends what a container without a pid namespace has left: the kernel gave it
/// to this process, the subreaper.
fn end_orphans(servers: &[Server], holder: Option<u32>) {
    let spared: Vec<u32> = servers.iter().map(Server::pid).chain(holder).collect();
    let is_server = |pid: &Pid| spared.contains(&pid.as_raw_nonzero().get().cast_unsigned());
    for _ in 0..64 {
        let pids: Vec<Pid> = children().into_iter().filter(|pid| !is_server(pid)).collect();
        if pids.is_empty() {
            return;
        }
        for pid in pids {
            rustix::process::kill_process(pid, Signal::KILL).or_ignore();
            rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).or_ignore();
        }
    }
}
