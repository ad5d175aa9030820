//! `start`: a monitor for the container, and its first word.

use super::Engine;
use super::attach::{self, AttachEnd, AttachOptions};
use crate::channel::Channel;
use crate::error::{Context, Error, Kind, Result, Trouble};
use crate::monitor::executable::read_only_executable;
use crate::monitor::messages::{FromMonitor, StartOrder};
use crate::monitor::{FRONT_FD, ROLE};
use crate::state::lock;
use crate::sys::process::{self, Cloned};
use crate::types::container::{ContainerConfig, LogDriver};
use crate::types::id::ContainerId;
use crate::types::limits::Undelegated;
use crate::types::namespace::NetworkMode;
use crate::types::status::Status;
use crate::types::uplink::Preference;
use rustix::fs::{Mode, OFlags};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// The channel's end in the front process.
type MonitorChannel = Channel<StartOrder, FromMonitor>;

impl Engine {
    /// Starts a container; attached, it returns when that ends.
    ///
    /// # Errors
    /// `NoCommand`, `NotExecutable`, and what else the container's set-up met.
    pub(crate) fn start(
        &self,
        id: &ContainerId,
        attach: Option<&AttachOptions>,
        warn: &mut dyn FnMut(&str),
    ) -> Result<Option<AttachEnd>> {
        let outer = self.enter()?.clone();
        if let Some(limits) = self.limits() {
            warn(&limits);
        }
        if attach.is_none()
            && let Some(warning) = self.log_out_warning(outer.uid_map.to_outside(0).unwrap_or(0))
        {
            warn(&warning);
        }
        let lock = lock::container(&self.dirs.container(id))?;
        let snapshot = self.snapshot_locked(id)?;
        if matches!(snapshot.status, Status::Running { .. } | Status::Restarting { .. }) {
            // Docker: starting what runs is no error; attaching to it is another verb.
            return match attach {
                None => Ok(None),
                Some(options) => {
                    let stream = self.attach_stream(id, options.stdin)?;
                    attach::attach(stream, options).map(Some)
                }
            };
        }
        let config = &snapshot.record.config;
        if let Some(pod) = config.pod.as_ref().filter(|_| !config.infra) {
            self.start_infra(&pod.id, warn)?;
        }
        let passthrough = config.log.driver == LogDriver::Passthrough;
        let order = StartOrder {
            dirs: self.dirs.clone(),
            id: id.clone(),
            outer,
            attached: attach.is_some(),
            stdin: attach.is_some_and(|options| options.stdin),
            driver: self.driver_choice()?,
            uplink: self.uplink_preference(config)?,
            undelegated: self.undelegated(config)?,
            size: attach.filter(|_| config.tty).and_then(|_| terminal_size()),
            last: match &snapshot.status {
                Status::Exited(exit) => Some(exit.clone()),
                Status::Created | Status::Running { .. } | Status::Restarting { .. } => None,
            },
        };
        let mut channel = spawn_monitor(passthrough)?;
        channel.send(&order)?;
        wait_for_start(&mut channel, warn)?;
        drop(lock);
        match attach {
            Some(options) => attach::attach(channel.into_stream(), options).map(Some),
            None => Ok(None),
        }
    }
}

impl Engine {
    /// Reads the settings that a start of it will need, so that what is wrong with them is
    /// said before anything is made.
    pub(crate) fn check_settings(&self, config: &ContainerConfig) -> Result<()> {
        self.driver_choice()?;
        self.undelegated(config)?;
        self.uplink_preference(config).map(drop)
    }

    /// Not read for a container without limits and without a pod.
    fn undelegated(&self, config: &ContainerConfig) -> Result<Undelegated> {
        // Those of a pod stand in its record.
        if config.limits.is_empty() && config.pod.is_none() {
            Ok(Undelegated::default())
        } else {
            Ok(self.settings()?.undelegated)
        }
    }

    /// The settings are read only where they count: not for a way out by name.
    fn uplink_preference(&self, config: &ContainerConfig) -> Result<Preference> {
        match config.network {
            NetworkMode::Default | NetworkMode::Bridge => Ok(self.settings()?.uplink),
            _ => Ok(Preference::Auto),
        }
    }
}

fn wait_for_start(channel: &mut MonitorChannel, warn: &mut dyn FnMut(&str)) -> Result<()> {
    loop {
        match channel.receive()? {
            Some(FromMonitor::Started { .. }) => return Ok(()),
            Some(FromMonitor::Warning(text)) => warn(&text),
            Some(FromMonitor::Failed { exit_code, message, hints }) => {
                let kind = match exit_code {
                    126 => Kind::NotExecutable,
                    127 => Kind::NoCommand,
                    _ => Kind::Failed,
                };
                return Err(Error::new(kind, message).with_hints(hints));
            }
            None => {
                return Err(Error::failed("the container's monitor died before the container ran")
                    .hint("was it killed? `dmesg` tells if memory ran out"));
            }
        }
    }
}

/// Rows and columns of the terminal that this process writes to.
pub(crate) fn terminal_size() -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdin())
        .or_else(|_| rustix::termios::tcgetwinsize(rustix::stdio::stdout()))
        .ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Executes coracle again as a monitor, with the other end of a socket as fd 3
/// and no other fd of ours. With `passthrough` it keeps our stdio for the
/// container.
fn spawn_monitor(passthrough: bool) -> Result<MonitorChannel> {
    let step = || "start the container's monitor";
    let (here, there) = UnixStream::pair().context(step)?;
    let executable = read_only_executable().map_err(|error| error.context(step()))?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).context(step)?;
    let args = ["coracle", ROLE].map(|word| CString::new(word).unwrap_or_default());
    let env = monitor_environment();
    match process::fork().context(step).see_doctor(Trouble::Processes)? {
        Cloned::Child => {
            let ready = prepare_stdio(&there, &null, passthrough);
            if ready.is_ok() {
                process::fexecve(executable.as_fd(), &args, &env);
            }
            process::exit_now(127)
        }
        Cloned::Parent { .. } => Ok(Channel::new(here)),
    }
}

fn prepare_stdio(socket: &UnixStream, null: &OwnedFd, passthrough: bool) -> Result<()> {
    let step = || "prepare the monitor's files";
    if !passthrough {
        rustix::stdio::dup2_stdin(null).context(step)?;
        rustix::stdio::dup2_stdout(null).context(step)?;
        rustix::stdio::dup2_stderr(null).context(step)?;
    }
    // The socket may have any number, also that one, where dup2 would leave
    // close-on-exec set: it is duplicated out of the way first.
    let high = rustix::io::fcntl_dupfd_cloexec(socket, FRONT_FD + 1).context(step)?;
    process::close_on_exec_from(3).context(step)?;
    process::place_fd(high.as_fd(), FRONT_FD).context(step)
}

/// What the monitor and its helpers need, and nothing of the user's secrets or
/// preloads (CVE-2025-23266).
fn monitor_environment() -> Vec<CString> {
    let pass = |key: &str| {
        let value = std::env::var(key).ok()?;
        CString::new(format!("{key}={value}")).ok()
    };
    let mut env: Vec<CString> = ["PATH", "TZ", "TMPDIR"].iter().filter_map(|key| pass(key)).collect();
    env.extend(
        std::env::vars_os()
            .filter_map(|(key, _)| key.into_string().ok())
            .filter(|key| key.starts_with("CORACLE_"))
            .filter_map(|key| pass(&key)),
    );
    env
}
