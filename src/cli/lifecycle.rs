//! `start`, `wait`, `rename`, `attach`.

use super::selection::{Target, Wanted};
use super::ui;
use crate::engine::Engine;
use crate::engine::attach::{AttachEnd, AttachOptions, DetachKeys};
use crate::engine::registry_access::client_settings;
use crate::error::{Error, Result};
use crate::types::boolean;
use crate::types::id::ContainerId;
use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct StartArgs {
    /// All that do not run
    #[arg(long)]
    all: bool,
    /// Those for which KEY=VALUE holds: the filters of ps
    #[arg(long, short = 'f', value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// The one that was made last
    #[arg(long, short = 'l')]
    latest: bool,
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
    #[arg(value_name = "CONTAINER")]
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
    let wanted = Wanted {
        names: &args.containers,
        all: args.all,
        latest: args.latest,
        filters: &args.filter,
        ..Wanted::default()
    };
    let mut targets = wanted.targets(&engine, "start", &|container| !container.is_up())?;
    if !args.attach && !args.interactive {
        return each_target(targets, |id| start_one(&engine, id, None).map(drop));
    }
    let (Some(target), true) = (targets.pop(), targets.is_empty()) else {
        return Err(Error::invalid("you cannot start and attach multiple containers at once"));
    };
    let id = target.id?;
    let options = AttachOptions {
        stdin: args.interactive,
        tty: engine.store.record(&id)?.config.tty,
        sig_proxy: sig_proxy(args.sig_proxy.as_deref())?,
        detach_keys: detach_keys(args.detach_keys.as_deref())?,
        stdout: true,
        stderr: true,
    };
    match start_one(&engine, &id, Some(&options))? {
        Some(end) => attached_exit(&engine, &id, end),
        None => Ok(0),
    }
}

/// Starts a container that there is. As in docker the code is 1 whatever fails: 126
/// and 127 are `run`'s.
pub(super) fn start_one(
    engine: &Engine,
    id: &ContainerId,
    options: Option<&AttachOptions>,
) -> Result<Option<AttachEnd>> {
    let started = engine.start(id, options, &mut |text| ui::warning(text));
    started.map_err(|error| error.with_exit_code(1))
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

/// Gives a container another name.
///
/// # Errors
/// `Conflict` where the name is taken.
pub(crate) fn rename(args: RenameArgs) -> Result<u8> {
    let engine = Engine::open()?;
    // Docker's names begin with a slash, where it shows them and takes them.
    let name = args.name.strip_prefix('/').unwrap_or(&args.name);
    engine.rename(&engine.resolve(&args.container)?, name)?;
    Ok(0)
}

/// [`each_of`] things by their names.
pub(super) fn each(names: &[String], mut action: impl FnMut(&str) -> Result<()>) -> Result<u8> {
    each_of(names, |name| action(name))
}

/// Does the same to each. What fails is shown at once and does not keep the
/// others from their turn; the exit code tells of it.
pub(super) fn each_of<T>(
    things: impl IntoIterator<Item = T>,
    mut action: impl FnMut(T) -> Result<()>,
) -> Result<u8> {
    let mut code = 0;
    for thing in things {
        match action(thing) {
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

/// As [`each`], and prints each container as it was named.
pub(crate) fn each_target(
    targets: Vec<Target>,
    mut action: impl FnMut(&ContainerId) -> Result<()>,
) -> Result<u8> {
    let mut targets = targets.into_iter();
    each_of(&mut targets, |target| {
        action(&target.id?)?;
        ui::line(&target.word)
    })
}

/// The exit code of a command to whose container it was attached.
pub(crate) fn attached_exit(engine: &Engine, id: &ContainerId, end: AttachEnd) -> Result<u8> {
    let exit = match end {
        AttachEnd::Detached => return Ok(0),
        AttachEnd::ReaderGone => return Ok(super::BROKEN_PIPE),
        AttachEnd::Forced => {
            return Err(Error::failed("got 3 SIGTERM/SIGINTs, forcefully exiting")
                .hint("the container goes on: `coracle stop` or `coracle kill` ends it"));
        }
        AttachEnd::Exited(exit) => exit,
        AttachEnd::Dropped => {
            return Err(Error::failed("output was not read here for too long: some of it is missing")
                .hint("it goes on without this command: see `coracle logs`, or attach again"));
        }
        // What the disk says is all that is left to know.
        AttachEnd::MonitorGone => {
            let is_up = engine.container(id, false).is_ok_and(|container| container.is_up());
            let lost = || Error::failed("the connection was lost: output may be missing");
            if is_up {
                return Err(lost().hint("the container goes on: see `coracle logs`, or attach again"));
            }
            let exit = engine.wait(id).map_err(|error| error.context("the connection was lost"))?;
            if exit.code == 0 {
                return Err(lost().hint("the container has ended with code 0: see `coracle logs`"));
            }
            ui::warning("the connection was lost: output may be missing");
            exit
        }
    };
    if let Some(reason) = &exit.error {
        ui::warning(reason);
    }
    Ok(exit.code)
}

/// The value of `--detach-keys`, else what docker's own settings say.
pub(crate) fn detach_keys(text: Option<&str>) -> Result<DetachKeys> {
    if let Some(text) = text {
        return DetachKeys::parse(text);
    }
    // Docker's settings; those that cannot be read say nothing.
    match client_settings().ok().flatten().and_then(|settings| settings.text("detachKeys")) {
        Some((path, keys)) => DetachKeys::parse(keys)
            .map_err(|error| error.context(format!("detachKeys of {}", path.display()))),
        None => Ok(DetachKeys::default()),
    }
}

fn sig_proxy(text: Option<&str>) -> Result<bool> {
    text.map_or(Ok(true), |text| boolean::parse("--sig-proxy", text))
}
