//! The control socket: attach, stop, kill, wait.
//!
//! It lies in a directory of mode 0700, so that whoever connects is the user.
//! There is no abstract socket (CVE-2020-15257).

use super::exec;
use super::life::Container;
use super::messages::{Reply, Request};
use super::pause;
use super::{health, networks, note, wire};
use crate::error::{BestEffort, Context, Error, Result};
use crate::types::signal;
use crate::types::status::Exit;
use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use std::cell::{Cell, RefCell};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};

/// How long the answers to those who wait may take to be read.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Seconds between the stop signal and the kill: docker's default.
pub(super) const STOP_TIMEOUT: i64 = 10;

/// The socket's name in the container's runtime directory.
pub(crate) const SOCKET: &str = "control";

/// A path to a socket in `directory` that fits into 108 bytes whatever the
/// directory's length: through an open fd. The fd must live while it is used.
pub(crate) fn socket_path(directory: &Path) -> Result<(OwnedFd, PathBuf)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(directory, flags, Mode::empty())
        .context(|| format!("open {}", directory.display()))?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", fd.as_raw_fd()));
    Ok((fd, path))
}

/// What is asked of the container from outside, and what it answers.
pub(super) struct Control {
    listener: UnixListener,
    /// The socket's file: device and inode.
    file: Option<(u64, u64)>,
    running: RefCell<Option<OwnedFd>>,
    stopping: Cell<bool>,
    /// By `stop`, not by a signal.
    stop_asked: Cell<bool>,
    /// It is stopped to be started again.
    kept: Cell<bool>,
    /// By a signal to the monitor.
    told_to_end: Cell<bool>,
    /// Another run follows whatever the policy says.
    restart_asked: Cell<bool>,
    stop: Notify,
    restarts: Cell<u32>,
    /// The present run was sent SIGKILL.
    killed: watch::Sender<bool>,
    /// Whether a run is on; how the last one has ended; the end of all runs.
    run: watch::Sender<bool>,
    last: watch::Sender<Option<Exit>>,
    end: watch::Sender<Option<Exit>>,
    waiting: Cell<usize>,
    answered: Notify,
}

pub(super) fn listen(directory: &Path) -> Result<Control> {
    let step = || format!("listen in {}", directory.display());
    let (_directory, path) = socket_path(directory)?;
    // Left by a monitor that was killed.
    std::fs::remove_file(directory.join(SOCKET)).or_ignore();
    let listener = UnixListener::bind(path).context(step)?;
    Ok(Control {
        listener,
        file: file_of(directory),
        running: RefCell::default(),
        stopping: Cell::new(false),
        stop_asked: Cell::new(false),
        kept: Cell::new(false),
        told_to_end: Cell::new(false),
        restart_asked: Cell::new(false),
        stop: Notify::new(),
        restarts: Cell::new(0),
        killed: watch::Sender::new(false),
        run: watch::Sender::new(false),
        last: watch::Sender::new(None),
        end: watch::Sender::new(None),
        waiting: Cell::new(0),
        answered: Notify::new(),
    })
}

/// Which file the socket of `directory` is.
fn file_of(directory: &Path) -> Option<(u64, u64)> {
    rustix::fs::stat(directory.join(SOCKET)).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

impl Control {
    /// Whether `directory` still has this socket, and not that of a later run.
    pub(super) fn is_in(&self, directory: &Path) -> bool {
        file_of(directory).is_none_or(|file| self.file.is_none_or(|own| own == file))
    }

    pub(super) fn set_running(&self, pidfd: Option<OwnedFd>) {
        self.killed.send_replace(false);
        self.run.send_replace(pidfd.is_some());
        *self.running.borrow_mut() = pidfd;
    }

    /// A pidfd of the container's first process, while one runs.
    pub(super) fn first_process(&self) -> Result<Option<OwnedFd>> {
        let running = self.running.borrow();
        running.as_ref().map(OwnedFd::try_clone).transpose().context(|| "keep the container's pidfd")
    }

    fn is_running(&self) -> bool {
        self.running.borrow().is_some()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    pub(super) fn is_stop_asked(&self) -> bool {
        self.stop_asked.get()
    }

    /// Whether it stays, as it will be started again.
    pub(super) fn is_kept(&self) -> bool {
        self.kept.get()
    }

    /// The monitor itself is to end: no restart follows.
    pub(super) fn tell_to_end(&self) {
        self.told_to_end.set(true);
        self.forbid_restart();
    }

    pub(super) fn is_told_to_end(&self) -> bool {
        self.told_to_end.get()
    }

    pub(super) fn restarts(&self) -> u32 {
        self.restarts.get()
    }

    pub(super) fn set_restarts(&self, restarts: u32) {
        self.restarts.set(restarts);
    }

    /// Waits so long; `true` at once when a stop was asked for.
    pub(super) async fn stopped_within(&self, pause: Duration) -> bool {
        let stop = self.stop.notified();
        if self.stopping.get() {
            return true;
        }
        tokio::time::timeout(pause, stop).await.is_ok()
    }

    /// Sends a signal to the container's first process.
    ///
    /// # Errors
    /// `Conflict` where none runs; `Invalid` for a number that is no signal.
    pub(super) fn signal(&self, number: i32) -> Result<()> {
        let running = self.running.borrow();
        let pidfd = running.as_ref().ok_or_else(|| Error::conflict("the container is not running"))?;
        if number == libc::SIGKILL {
            self.killed.send_replace(true);
        }
        let signal = Signal::from_named_raw(number);
        let sent = match signal {
            Some(signal) => rustix::process::pidfd_send_signal(pidfd, signal).map_err(std::io::Error::from),
            None => crate::sys::process::pidfd_send_signal(pidfd, number),
        };
        sent.context(|| format!("send signal {number}"))
    }

    /// Another run follows the present one, unless a stop is asked for.
    pub(super) fn ask_for_restart(&self) {
        self.restart_asked.set(true);
    }

    pub(super) fn take_restart(&self) -> bool {
        self.restart_asked.take() && !self.stopping.get()
    }

    /// Waits so long; `false` at once when the present run ends.
    pub(super) async fn runs_for(&self, pause: Duration) -> bool {
        tokio::time::timeout(pause, self.run_over()).await.is_err()
    }

    /// No restart follows the present run.
    pub(super) fn forbid_restart(&self) {
        self.stopping.set(true);
        self.stop.notify_waiters();
    }

    /// The end of a run that another one follows: who waits for that is told.
    pub(super) fn finish_run(&self, exit: Exit) {
        self.last.send_replace(Some(exit));
    }

    /// How the run before this one has ended, where that was this monitor's too.
    pub(super) fn last_run(&self) -> Option<Exit> {
        self.last.borrow().clone()
    }

    /// The end of all runs: whoever waits is told.
    pub(super) fn finish(&self, exit: Exit) {
        self.end.send_replace(Some(exit));
    }

    /// Returns when those who waited have their answers.
    pub(super) async fn drained(&self) {
        let all = async {
            while self.waiting.get() > 0 {
                self.answered.notified().await;
            }
        };
        tokio::time::timeout(LAST_ANSWERS, all).await.unwrap_or(());
    }

    async fn ended(&self) -> Exit {
        first(self.end.subscribe()).await
    }

    /// The end of the next run that ends from now on.
    async fn run_ended(&self) -> Exit {
        // The ends that it has seen already do not count.
        let mut last = self.last.subscribe();
        let next = async {
            if last.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            first(last).await
        };
        tokio::select! {
            exit = next => exit,
            exit = self.ended() => exit,
        }
    }

    /// Returns when the present run was sent SIGKILL.
    pub(super) async fn killed(&self) {
        let mut killed = self.killed.subscribe();
        if killed.wait_for(|killed| *killed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    async fn run_over(&self) {
        let mut run = self.run.subscribe();
        while *run.borrow_and_update() {
            if run.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Returns the exit that `ends` has, or will have.
async fn first(mut ends: watch::Receiver<Option<Exit>>) -> Exit {
    loop {
        if let Some(exit) = ends.borrow_and_update().clone() {
            return exit;
        }
        if ends.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Takes connections until the monitor ends.
pub(super) async fn serve(container: Rc<Container>) {
    loop {
        match container.control.listener.accept().await {
            Ok((stream, _)) => {
                tokio::task::spawn_local(answer(Rc::clone(&container), stream));
            }
            // Out of fds: the others go on, this one tries again.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn answer(container: Rc<Container>, mut stream: UnixStream) {
    let Ok(Some(request)) = wire::hear::<Request>(&mut stream).await else { return };
    let control = &container.control;
    let reply = match request {
        Request::Attach { .. } => {
            if say(&mut stream, &Reply::Done).await {
                container.hub.add_beside(stream, &container);
            }
            return;
        }
        Request::Kill { signal } => {
            // Docker: a container that was ended by hand stays down.
            let ends = signal == libc::SIGKILL || signal == stop_signal(&container);
            if ends {
                control.forbid_restart();
            }
            match control.signal(signal) {
                Ok(()) => {
                    note::signalled(&container, signal);
                    // Docker: what is paused must go on to take its end.
                    if ends {
                        pause::unpause_if_paused(&container);
                    }
                    Reply::Done
                }
                // Between two runs: there will be no other.
                Err(_) if ends && !control.is_running() => Reply::Done,
                Err(error) => Reply::Failed(error.to_string()),
            }
        }
        Request::Stop { signal, timeout, keep } => {
            container.control.kept.set(keep);
            return stop(&container, &mut stream, signal, timeout).await;
        }
        Request::Wait => return tell(control, &mut stream, control.ended()).await,
        Request::WaitForRun => return tell(control, &mut stream, control.run_ended()).await,
        Request::Exec(request) => return exec::serve(container, *request, stream).await,
        Request::Pause => done(pause::pause(&container).await),
        Request::Unpause => done(pause::unpause(&container)),
        Request::Update { limits, restart } => done(container.update(*limits, restart)),
        Request::Publish { add, remove } => match container.ports.change(&container, &add, &remove) {
            Ok(published) => Reply::Published(published),
            Err(error) => Reply::refused(&error),
        },
        Request::Networks(attachments, how) => done(networks::change(&container, &attachments, how)),
        Request::CheckHealth => match health::check(&container).await {
            Ok(health::Verdict { passed, status }) => Reply::Health { passed, status },
            Err(error) => Reply::Failed(error.to_string()),
        },
        Request::Sessions => Reply::Sessions(container.execs.ids()),
    };
    say(&mut stream, &reply).await;
}

fn done(result: Result<()>) -> Reply {
    match result {
        Ok(()) => Reply::Done,
        Err(error) => Reply::refused(&error),
    }
}

pub(super) fn stop_signal(container: &Container) -> i32 {
    let text = container.record.config.stop_signal.as_deref();
    text.and_then(|text| signal::parse(text).ok()).unwrap_or(libc::SIGTERM)
}

async fn stop(container: &Rc<Container>, stream: &mut UnixStream, signal: i32, timeout: i64) {
    let control = &container.control;
    control.stop_asked.set(true);
    control.forbid_restart();
    end_with(container, signal, timeout).await;
    tell(control, stream, control.ended()).await;
}

/// Ends the present run as `stop` would by the container's own settings.
pub(super) async fn end_run(container: Rc<Container>) {
    let timeout = container.record.config.stop_timeout.unwrap_or(STOP_TIMEOUT);
    end_with(&container, stop_signal(&container), timeout).await;
}

async fn end_with(container: &Rc<Container>, signal: i32, timeout: i64) {
    let control = &container.control;
    if control.signal(signal).is_ok() {
        note::signalled(container, signal);
    }
    pause::unpause_if_paused(container);
    let over = control.run_over();
    match u64::try_from(timeout) {
        Ok(seconds) => {
            if tokio::time::timeout(Duration::from_secs(seconds), over).await.is_err() {
                control.signal(libc::SIGKILL).or_ignore();
                note::signalled(container, libc::SIGKILL);
            }
        }
        Err(_) => over.await,
    }
}

/// Waits for an end, and tells the client of it.
async fn tell(control: &Control, stream: &mut UnixStream, end: impl Future<Output = Exit>) {
    control.waiting.set(control.waiting.get() + 1);
    let exit = tokio::select! {
        exit = end => Some(exit),
        // A client that goes away is not waited for.
        () = hung_up(stream) => None,
    };
    if let Some(exit) = exit {
        say(stream, &Reply::Exited(exit)).await;
    }
    control.waiting.set(control.waiting.get() - 1);
    control.answered.notify_waiters();
}

/// Returns when the client has closed its end. It has nothing more to say; a
/// readiness that is left over from its request is not the end.
pub(super) async fn hung_up(stream: &UnixStream) {
    let mut byte = [0];
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut byte) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
    }
}

/// Whether the client has it.
pub(super) async fn say(stream: &mut UnixStream, reply: &Reply) -> bool {
    wire::say(stream, reply).await.is_ok()
}
