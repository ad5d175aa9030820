//! `start`, `stop`, `restart`, `kill`, `rm`, `wait`, `rename`, `attach`.

use super::ui;
use crate::engine::Engine;
use crate::engine::attach::{AttachEnd, AttachOptions, DetachKeys};
use crate::engine::remove::RemoveOptions;
use crate::error::{Error, Kind, Result};
use crate::types::boolean;
use crate::types::id::ContainerId;
use crate::types::signal;
use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct StartArgs {
    /// Print its output here, and wait for its end
    #[arg(long, short = 'a')]
    attach: bool,
    /// Pass on stdin; implies -a
    #[arg(long, short = 'i')]
    interactive: bool,
    /// Leave the container running when these keys are typed
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Pass signals on to the container
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    sig_proxy: Option<String>,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct AttachArgs {
    /// Leave the container running when these keys are typed
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Do not pass on stdin
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on to the container
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    sig_proxy: Option<String>,
    /// The container that was created last, instead of a named one
    #[arg(long, short = 'l')]
    latest: bool,
    /// Name or id
    #[arg(value_name = "CONTAINER", required_unless_present = "latest", conflicts_with = "latest")]
    container: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct StopArgs {
    /// Send this signal instead of the container's stop signal
    #[arg(long, short = 's', value_name = "SIGNAL")]
    signal: Option<String>,
    /// Kill it when it has not ended after so many seconds; -1 for never
    #[arg(long, short = 't', alias = "timeout", value_name = "SECONDS")]
    time: Option<i64>,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// `restart` takes what `stop` takes.
pub(crate) type RestartArgs = StopArgs;

#[derive(Args, Debug)]
pub(crate) struct KillArgs {
    /// The signal to send
    #[arg(long, short = 's', value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct RmArgs {
    /// Kill it first if it runs; say nothing if it does not exist
    #[arg(long, short = 'f')]
    force: bool,
    /// Stop it within so many seconds before it is killed by -f
    #[arg(long, short = 't', value_name = "SECONDS")]
    time: Option<i64>,
    /// Remove its anonymous volumes as well
    #[arg(long, short = 'v')]
    volumes: bool,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct WaitArgs {
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct RenameArgs {
    /// Name or id
    #[arg(value_name = "CONTAINER", required = true)]
    container: String,
    /// The new name
    #[arg(value_name = "NAME", required = true)]
    name: String,
}

/// Starts containers; with `-a` one, whose exit code this is.
///
/// # Errors
/// What the engine says.
pub(crate) fn start(args: StartArgs) -> Result<u8> {
    let engine = Engine::open()?;
    if !args.attach && !args.interactive {
        return each(&args.containers, |name| {
            engine.start(&engine.resolve(name)?, None, &mut |text| ui::warning(text))?;
            ui::line(name)
        });
    }
    let [name] = args.containers.as_slice() else {
        return Err(Error::invalid("you cannot start and attach multiple containers at once"));
    };
    let id = engine.resolve(name)?;
    let options = AttachOptions {
        stdin: args.interactive,
        tty: engine.store.record(&id)?.config.tty,
        sig_proxy: sig_proxy(args.sig_proxy.as_deref())?,
        detach_keys: detach_keys(args.detach_keys.as_deref())?,
        stdout: true,
        stderr: true,
    };
    match engine.start(&id, Some(&options), &mut |text| ui::warning(text))? {
        Some(end) => attached_exit(&engine, &id, end),
        None => Ok(0),
    }
}

/// Attaches to a running container; its exit code.
///
/// # Errors
/// `Conflict` where it does not run.
pub(crate) fn attach(args: AttachArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let id = match &args.container {
        Some(name) => engine.resolve(name)?,
        None => engine.newest()?,
    };
    let config = engine.store.record(&id)?.config;
    let options = AttachOptions {
        stdin: config.interactive && !args.no_stdin,
        tty: config.tty,
        sig_proxy: sig_proxy(args.sig_proxy.as_deref())?,
        detach_keys: detach_keys(args.detach_keys.as_deref())?,
        stdout: true,
        stderr: true,
    };
    let end = engine.attach(&id, &options)?;
    attached_exit(&engine, &id, end)
}

/// Stops containers.
///
/// # Errors
/// `Invalid` for an unknown signal.
pub(crate) fn stop(args: StopArgs) -> Result<u8> {
    let signal = args.signal.as_deref().map(signal::parse).transpose()?;
    let engine = Engine::open()?;
    each(&args.containers, |name| {
        engine.stop(&engine.resolve(name)?, args.time, signal)?;
        ui::line(name)
    })
}

/// Stops containers and starts them again.
///
/// # Errors
/// `Invalid` for an unknown signal.
pub(crate) fn restart(args: RestartArgs) -> Result<u8> {
    let signal = args.signal.as_deref().map(signal::parse).transpose()?;
    let engine = Engine::open()?;
    each(&args.containers, |name| {
        let id = engine.resolve(name)?;
        engine.stop(&id, args.time, signal)?;
        engine.start(&id, None, &mut |text| ui::warning(text))?;
        ui::line(name)
    })
}

/// Sends a signal to containers.
///
/// # Errors
/// `Invalid` for an unknown signal.
pub(crate) fn kill(args: KillArgs) -> Result<u8> {
    let signal = signal::parse(&args.signal)?;
    let engine = Engine::open()?;
    each(&args.containers, |name| {
        engine.kill(&engine.resolve(name)?, signal)?;
        ui::line(name)
    })
}

/// Removes containers.
///
/// # Errors
/// What the engine says.
pub(crate) fn rm(args: RmArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let options = RemoveOptions { force: args.force, volumes: args.volumes, time: args.time };
    each(&args.containers, |name| match engine.resolve(name).and_then(|id| engine.remove(&id, &options)) {
        Err(error) if args.force && error.kind() == Kind::NotFound => Ok(()),
        result => result.and_then(|()| ui::line(name)),
    })
}

/// Waits for containers, and prints how each has ended.
///
/// # Errors
/// What the engine says.
pub(crate) fn wait(args: WaitArgs) -> Result<u8> {
    let engine = Engine::open()?;
    each(&args.containers, |name| {
        let exit = engine.wait(&engine.resolve(name)?)?;
        ui::line(&exit.code.to_string())
    })
}

/// Gives a container another name.
///
/// # Errors
/// `Conflict` where the name is taken.
pub(crate) fn rename(args: RenameArgs) -> Result<u8> {
    let engine = Engine::open()?;
    engine.rename(&engine.resolve(&args.container)?, &args.name)?;
    Ok(0)
}

/// Does the same to each container. What fails is shown at once and does not
/// keep the others from their turn; the exit code tells of it.
pub(super) fn each(names: &[String], mut action: impl FnMut(&str) -> Result<()>) -> Result<u8> {
    let mut code = 0;
    for name in names {
        match action(name) {
            Ok(()) => {}
            Err(error) if ui::stdout_closed() => return Err(error),
            Err(error) => {
                ui::error(&error);
                code = super::exit::code(&error);
            }
        }
    }
    Ok(code)
}

/// The exit code of a command to whose container it was attached.
pub(crate) fn attached_exit(engine: &Engine, id: &ContainerId, end: AttachEnd) -> Result<u8> {
    let exit = match end {
        AttachEnd::Detached => return Ok(0),
        AttachEnd::ReaderGone => return Ok(super::BROKEN_PIPE),
        AttachEnd::Exited(exit) => exit,
        // What the disk says is all that is left to know.
        AttachEnd::MonitorGone => {
            if engine.container(id, false).is_ok_and(|container| container.is_up()) {
                return Err(Error::failed("the connection was lost: output was not read here for too long")
                    .hint("the container goes on: see `coracle logs`, or attach again"));
            }
            engine.wait(id).map_err(|error| error.context("the connection was lost"))?
        }
    };
    if let Some(reason) = &exit.error {
        ui::warning(reason);
    }
    Ok(exit.code)
}

/// The value of `--detach-keys`.
pub(crate) fn detach_keys(text: Option<&str>) -> Result<DetachKeys> {
    text.map_or_else(|| Ok(DetachKeys::default()), DetachKeys::parse)
}

fn sig_proxy(text: Option<&str>) -> Result<bool> {
    text.map_or(Ok(true), |text| boolean::parse("--sig-proxy", text))
}
