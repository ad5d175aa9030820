//! The life of one container as a sequence: runs, the pauses between them, the end.

use super::clients::Hub;
use super::control::{self, Control};
use super::exec::Execs;
use super::health::Health;
use super::log_file::{LogWriter, attributes};
use super::messages::{FromMonitor, StartOrder};
use super::networks::Place;
use super::plan::leave_pod_s_hosts;
use super::ports::Ports;
use super::remove::Hidden;
use super::run::{self, Started};
use super::{Front, note, pid_files, pod, remove, terminate};
use crate::cgroup::{self, Attainable, Group};
use crate::dirs::{Dirs, create_private};
use crate::error::{BestEffort, Error, Kind, Result};
use crate::state::lock;
use crate::state::store::{Held, LiveState, Store, this_process};
use crate::types::cgroup::CgroupsMode;
use crate::types::container::{ContainerRecord, LogDriver};
use crate::types::driver::Driver;
use crate::types::limits::{Limits, Undelegated};
use crate::types::status::{Exit, ProcessId, RestartPolicy};
use crate::types::uplink::Preference;
use crate::userns::{self, Outer};
use jiff::Timestamp;
use std::cell::{Cell, OnceCell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

/// The first pause before a restart; it doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// A run of this length was a good one: the next pause is the first again.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// What all parts of one monitor share.
pub(super) struct Container {
    pub(super) dirs: Dirs,
    pub(super) store: Store,
    pub(super) record: ContainerRecord,
    pub(super) outer: Outer,
    pub(super) hub: Hub,
    pub(super) control: Control,
    pub(super) execs: Execs,
    pub(super) health: Health,
    pub(super) ports: Ports,
    pub(super) networks: Place,
    /// What serves where no way out is named.
    pub(super) uplink: Preference,
    /// As last written to `state.json`.
    live: RefCell<Option<LiveState>>,
    /// The control group of the present run.
    group: RefCell<Option<Group>>,
    /// Kills for want of memory that were counted while this run's group was there.
    oom_kills: Cell<u64>,
    /// As `update` has left them.
    limits: RefCell<Limits>,
    restart: Cell<RestartPolicy>,
    undelegated: Undelegated,
    /// What a pause without a control group found stopped already.
    pub(super) stopped_before: RefCell<Vec<u32>>,
    /// What watches the host's resolv.conf, once something does.
    pub(super) watch: OnceCell<OwnedFd>,
    /// That it has been started by this monitor, until its end is written down.
    pub(super) mark: RefCell<Option<Held>>,
}

impl Container {
    /// Publishes what everyone else is to know of the container from now on.
    pub(super) fn publish(&self, state: LiveState) -> Result<()> {
        self.store.save_live(&state)?;
        *self.live.borrow_mut() = Some(state);
        Ok(())
    }

    pub(super) fn restarts_by_itself(&self) -> bool {
        self.restart.get() != RestartPolicy::No
    }

    /// The user, as the host counts.
    pub(super) fn uid(&self) -> u32 {
        self.outer.uid_map.to_outside(0).unwrap_or(0)
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits.borrow().clone()
    }

    /// What of `asked` the container has: all, or it does not start, where the
    /// settings say nothing else.
    pub(super) fn attainable(&self, asked: &Limits) -> Attainable {
        let mode = self.record.config.cgroups;
        let asked = &Attainable::without_idle(asked, mode, self.uid());
        match self.undelegated {
            Undelegated::Warn if mode != CgroupsMode::Disabled => Attainable::of(asked, mode, self.uid()),
            Undelegated::Warn | Undelegated::Refuse => Attainable::all(asked),
        }
    }

    pub(super) fn set_group(&self, group: Option<Group>) {
        *self.group.borrow_mut() = group;
    }

    /// Calls `action` with the control group, where there is one.
    pub(super) fn with_group<T>(&self, action: impl FnOnce(&Group) -> T) -> Option<T> {
        self.group.borrow().as_ref().map(action)
    }

    /// Keeps what the kernel has counted, for when the group has gone.
    pub(super) fn count_oom_kills(&self) {
        if let Some(kills) = self.with_group(Group::oom_kills).flatten() {
            self.oom_kills.set(kills);
        }
    }

    /// Kills what the run has left in its control group; whether it was short of
    /// memory. `code` is its exit code.
    pub(super) fn end_group(&self, code: u8) -> bool {
        /// That of a process that was killed.
        const KILLED: u8 = 137;
        let counted = self.oom_kills.take();
        let group = self.group.borrow_mut().take();
        group.is_some_and(|group| {
            let short = match group.oom_kills() {
                Some(kills) => kills > 0,
                None if counted > 0 => true,
                // systemd was faster than this process: a limit, and a kill that
                // nobody asked for, tell the same.
                None if group.is_scope() => {
                    code == KILLED && self.limits().memory.is_some() && !self.control.is_stopping()
                }
                None => false,
            };
            group.remove();
            short
        })
    }

    /// Takes over what `update` has written to the record.
    ///
    /// # Errors
    /// Where the kernel refuses a limit.
    pub(super) fn update(&self, limits: Limits, restart: RestartPolicy) -> Result<()> {
        if *self.limits.borrow() != limits {
            let uid = self.uid();
            let attainable = self.attainable(&limits);
            // It goes on without what it has gone without, and is refused what is new.
            let is_known = attainable.lacks_the_same_as(&self.attainable(&self.limits.borrow()));
            let kept = if is_known { &attainable.limits } else { &limits };
            match self.with_group(|group| group.apply(kept, uid)) {
                Some(applied) => applied?,
                None => cgroup::refuse(kept)?,
            }
        }
        *self.limits.borrow_mut() = limits;
        self.restart.set(restart);
        Ok(())
    }

    /// The first process as last published, and whether the container is paused.
    pub(super) fn init(&self) -> Option<(ProcessId, bool)> {
        let live = self.live.borrow();
        live.as_ref().and_then(|live| live.init.map(|init| (init, live.paused)))
    }

    /// The record as it is now: a rename changes it while the container runs.
    pub(super) fn present_record(&self) -> ContainerRecord {
        self.store.record(&self.record.id).unwrap_or_else(|_| self.record.clone())
    }

    /// Publishes a change of it.
    pub(super) fn republish(&self, change: impl FnOnce(&mut LiveState)) -> Result<()> {
        let Some(mut state) = self.live.borrow().clone() else { return Ok(()) };
        change(&mut state);
        self.publish(state)
    }
}

/// Runs the container until it has ended for good.
pub(crate) async fn live(order: StartOrder, front: Front) -> Result<()> {
    let mut front = Some(front);
    let container = match open(&order) {
        Ok(container) => Rc::new(container),
        Err(error) => {
            userns::unregister_holder(&order.dirs.runtime).or_ignore();
            report(&mut front, &error);
            return Err(error);
        }
    };
    let result = sequence(&container, &order, &mut front).await;
    userns::unregister_holder(&container.dirs.runtime).or_ignore();
    result
}

fn open(order: &StartOrder) -> Result<Container> {
    let dirs = order.dirs.clone();
    let store = Store::new(dirs.clone());
    let record = store.record(&order.id)?;
    userns::register_holder(&dirs.runtime)?;
    create_private(&dirs.container_runtime(&order.id))?;
    let mut log = LogWriter::open(&dirs.container(&order.id), &record.config.log)?;
    if record.config.log.driver == LogDriver::JsonFile {
        log.describe(&attributes(&record)?);
    }
    let control = control::listen(&dirs.container_runtime(&order.id))?;
    Ok(Container {
        hub: Hub::new(log, dirs.container(&order.id)),
        control,
        execs: Execs::default(),
        health: Health::default(),
        ports: Ports::of(&record),
        networks: Place::default(),
        uplink: order.uplink,
        dirs,
        store,
        limits: RefCell::new(record.config.limits.clone()),
        restart: Cell::new(record.config.restart),
        undelegated: order.undelegated,
        record,
        outer: order.outer.clone(),
        live: RefCell::default(),
        group: RefCell::default(),
        oom_kills: Cell::default(),
        stopped_before: RefCell::default(),
        watch: OnceCell::new(),
        mark: RefCell::default(),
    })
}

async fn sequence(container: &Rc<Container>, order: &StartOrder, front: &mut Option<Front>) -> Result<()> {
    let first = match run::start(container, order, front).await {
        Ok(started) => started,
        Err(error) => {
            fail_first_start(container, order.last.as_ref(), &error);
            report(front, &error);
            return Err(error);
        }
    };
    if let Some(mut channel) = front.take() {
        // Where it has died meanwhile, the container goes on without it.
        channel.send(&FromMonitor::Started { init: first.process }).or_ignore();
        if order.attached {
            container.hub.add_foreground(channel.into_stream(), container);
        }
    }
    tokio::task::spawn_local(control::serve(Rc::clone(container)));
    // Where it cannot be taken, the signal ends monitor and container at once.
    terminate::follow(container).or_ignore();
    let (exit, restarts) = run_until_the_end(container, order, first).await;
    if container.control.is_stop_asked() {
        note::stopped(container);
    }
    let hidden = end(container, &exit, restarts);
    pod::ended(container);
    container.control.finish(exit.clone());
    container.hub.tell_exit(&exit).await;
    container.execs.drained().await;
    container.control.drained().await;
    remove_what_is_left(container, hidden);
    Ok(())
}

async fn run_until_the_end(container: &Rc<Container>, order: &StartOrder, first: Started) -> (Exit, u32) {
    let mut restarts = 0;
    let mut pause = FIRST_PAUSE;
    let mut started = first;
    loop {
        let began = std::time::Instant::now();
        let exit = run::wait(container, started).await;
        note::died(container, &exit);
        if began.elapsed() >= GOOD_RUN {
            pause = FIRST_PAUSE;
        }
        let asked = container.control.take_restart();
        if !asked && !wants_restart(container, &exit, restarts) {
            return (exit, restarts);
        }
        publish(container, None, &exit, restarts);
        container.control.finish_run(exit.clone());
        let wait = if asked { Duration::ZERO } else { pause };
        if container.control.stopped_within(wait).await {
            return (exit, restarts);
        }
        if !asked {
            pause = (pause * 2).min(MAX_PAUSE);
        }
        restarts += 1;
        container.control.set_restarts(restarts);
        started = match run::start(container, order, &mut None).await {
            Ok(started) => started,
            Err(error) => return (could_not_start(&error), restarts),
        };
    }
}

/// A restart that failed is the end.
fn could_not_start(error: &Error) -> Exit {
    let now = Timestamp::now();
    Exit {
        code: error.kind().exit_code(),
        started_at: now,
        finished_at: now,
        oom_killed: false,
        error: Some(error.to_string()),
    }
}

fn wants_restart(container: &Container, exit: &Exit, restarts: u32) -> bool {
    if container.control.is_stopping() {
        return false;
    }
    match container.restart.get() {
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure { max_retries } => {
            exit.code != 0 && max_retries.is_none_or(|max| max == 0 || restarts < max)
        }
    }
}

/// Says between two runs that there will be another.
fn publish(container: &Container, init: Option<crate::types::status::ProcessId>, last: &Exit, restarts: u32) {
    if let Ok(monitor) = this_process() {
        let state = LiveState {
            version: 1,
            id: container.record.id.clone(),
            monitor,
            init,
            since: last.started_at,
            restart_count: restarts,
            last: Some(last.clone()),
            paused: false,
            cgroup: None,
            uid_map: None,
            driver: Driver::default(),
            ports: Vec::new(),
            endpoints: Vec::new(),
        };
        container.publish(state).or_ignore();
    }
}

/// The end, as everyone else sees it: the exit record, then no living state. A
/// container that removes itself loses its name and its place in one rename
/// each, before its client hears of the end; its files go after that.
fn end(container: &Container, exit: &Exit, restarts: u32) -> Option<Hidden> {
    let record = &container.present_record();
    pid_files::remove(&record.config.pid_files);
    leave_pod_s_hosts(&container.dirs, &container.store, record).or_ignore();
    let mut hidden = None;
    if record.config.auto_remove && !container.control.is_kept() {
        hidden = remove::hide(&container.dirs, &container.store, record).ok();
        // They are listed by name: who hears of the end must not find them.
        remove::delete_volumes(&container.dirs, record).or_ignore();
    } else {
        container.store.save_exit(&record.id, exit, restarts).or_ignore();
    }
    container.mark.take();
    // The control socket stays until those who wait have their answer.
    std::fs::remove_file(container.dirs.container_runtime(&record.id).join("state.json")).or_ignore();
    hidden
}

fn remove_what_is_left(container: &Container, hidden: Option<Hidden>) {
    let record = &container.record;
    let directory = container.dirs.container_runtime(&record.id);
    // A client that took its time for the last words may have kept this process
    // from here for long: who starts the container meanwhile has the lock, and
    // who has started it has a socket of his own there.
    let lock = lock::try_container(&container.dirs.container(&record.id));
    if !matches!(lock, Ok(None)) && container.control.is_in(&directory) {
        std::fs::remove_dir_all(directory).or_ignore();
    }
    drop(lock);
    if let Some(hidden) = hidden {
        remove::delete(&container.dirs, record, remove::Volumes::Keep, hidden).or_ignore();
    }
}

/// Nothing half-done stays: the container is as it was before, after its `last` run
/// or as it was created, but for its exit code and the reason. As in docker, nothing
/// has died.
fn fail_first_start(container: &Container, last: Option<&Exit>, error: &Error) {
    /// Docker's for a start that failed for another reason than the command.
    const UNKNOWN: u8 = 128;
    let record = &container.record;
    let directory = container.dirs.container(&record.id);
    pid_files::remove(&record.config.pid_files);
    std::fs::remove_dir_all(container.dirs.container_runtime(&record.id)).or_ignore();
    std::fs::remove_file(directory.join("started")).or_ignore();
    container.mark.take();
    if record.config.auto_remove {
        remove::hide(&container.dirs, &container.store, record)
            .and_then(|hidden| remove::delete(&container.dirs, record, remove::Volumes::Remove, hidden))
            .or_ignore();
    } else {
        // `inspect` says what became of it.
        let code = match error.kind() {
            Kind::NoCommand | Kind::NotExecutable => error.kind().exit_code(),
            _ => UNKNOWN,
        };
        let failed = Exit { code, ..could_not_start(error) };
        let saved = match last {
            None => container.store.save_failed_start(&record.id, &failed),
            Some(last) => {
                let exit = Exit { code, error: failed.error, ..last.clone() };
                container.store.save_exit(&record.id, &exit, 0)
            }
        };
        saved.or_ignore();
    }
}

fn report(front: &mut Option<Front>, error: &Error) {
    if let Some(front) = front {
        let failed = FromMonitor::Failed {
            exit_code: error.kind().exit_code(),
            message: error.to_string(),
            hints: error.hints().to_vec(),
        };
        front.send(&failed).or_ignore();
    }
}
