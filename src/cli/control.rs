//! `stop`, `restart`, `kill`, `rm`.

use super::lifecycle::{each_target, start_one};
use super::selection::{Target, Wanted};
use super::ui;
use crate::engine::Engine;
use crate::engine::list::Container;
use crate::engine::remove::RemoveOptions;
use crate::engine::stop::StopOptions;
use crate::error::{Error, Kind, Result};
use crate::types::id::ContainerId;
use crate::types::signal;
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(crate) struct StopArgs {
    /// All that run
    #[arg(long, short = 'a')]
    all: bool,
    /// Those whose id is in this file
    #[arg(long, value_name = "FILE")]
    cidfile: Vec<PathBuf>,
    /// Those that run and for which KEY=VALUE holds: the filters of ps
    #[arg(long, short = 'f', value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Say nothing about those that do not exist
    #[arg(long, short = 'i')]
    ignore: bool,
    /// The one that was made last
    #[arg(long, short = 'l')]
    latest: bool,
    /// Send this signal instead of the container's stop signal
    #[arg(long, short = 's', value_name = "SIGNAL")]
    signal: Option<String>,
    /// Kill it when it has not ended after so many seconds; -1 for never
    #[arg(long, short = 't', alias = "timeout", value_name = "SECONDS")]
    time: Option<i64>,
    /// Names or ids
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct RestartArgs {
    /// All, the stopped ones too
    #[arg(long, short = 'a')]
    all: bool,
    /// All that run
    #[arg(long)]
    running: bool,
    /// Those whose id is in this file
    #[arg(long, value_name = "FILE")]
    cidfile: Vec<PathBuf>,
    /// Those for which KEY=VALUE holds: the filters of ps
    #[arg(long, short = 'f', value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// The one that was made last
    #[arg(long, short = 'l')]
    latest: bool,
    /// Send this signal instead of the container's stop signal
    #[arg(long, short = 's', value_name = "SIGNAL")]
    signal: Option<String>,
    /// Kill it when it has not ended after so many seconds; -1 for never
    #[arg(long, short = 't', alias = "timeout", value_name = "SECONDS")]
    time: Option<i64>,
    /// Names or ids
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct KillArgs {
    /// All that run
    #[arg(long, short = 'a')]
    all: bool,
    /// Those whose id is in this file
    #[arg(long, value_name = "FILE")]
    cidfile: Vec<PathBuf>,
    /// The one that was made last
    #[arg(long, short = 'l')]
    latest: bool,
    /// The signal to send
    #[arg(long, short = 's', value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
    /// Names or ids
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct RmArgs {
    /// All
    #[arg(long, short = 'a')]
    all: bool,
    /// Those whose id is in this file
    #[arg(long, value_name = "FILE")]
    cidfile: Vec<PathBuf>,
    /// Refused: what depends on a container is not removed with it
    #[arg(long, hide = true)]
    depend: bool,
    /// Those for which KEY=VALUE holds: the filters of ps
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Kill it first if it runs; say nothing if it does not exist
    #[arg(long, short = 'f')]
    force: bool,
    /// Say nothing about those that do not exist
    #[arg(long, short = 'i')]
    ignore: bool,
    /// The one that was made last
    #[arg(long, short = 'l')]
    latest: bool,
    /// Stop it within so many seconds before it is killed by -f
    #[arg(long, short = 't', value_name = "SECONDS")]
    time: Option<i64>,
    /// Remove its anonymous volumes as well
    #[arg(long, short = 'v')]
    volumes: bool,
    /// Names or ids
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Stops containers.
///
/// # Errors
/// `Invalid` for an unknown signal.
pub(crate) fn stop(args: StopArgs) -> Result<u8> {
    let signal = args.signal.as_deref().map(signal::parse).transpose()?;
    let engine = Engine::open()?;
    let wanted = Wanted {
        names: &args.containers,
        all: args.all,
        latest: args.latest,
        cidfiles: &args.cidfile,
        filters: &args.filter,
        ignore: args.ignore,
    };
    let options = StopOptions { time: args.time, signal, keep: false };
    let targets = wanted.targets(&engine, "stop", &Container::is_up)?;
    engine.begin_stops(&ids(&targets), &options);
    each_target(targets, |id| stop_one(&engine, id, &options))
}

/// Of those that there are.
fn ids(targets: &[Target]) -> Vec<&ContainerId> {
    targets.iter().filter_map(|target| target.id.as_ref().ok()).collect()
}

/// Stops one container, and tells where it had to be killed.
fn stop_one(engine: &Engine, id: &ContainerId, options: &StopOptions) -> Result<()> {
    if let Some(remark) = engine.stop(id, options)? {
        ui::warning(&remark);
    }
    Ok(())
}

/// Stops containers and starts them again.
///
/// # Errors
/// `Invalid` for an unknown signal.
pub(crate) fn restart(args: RestartArgs) -> Result<u8> {
    let signal = args.signal.as_deref().map(signal::parse).transpose()?;
    let engine = Engine::open()?;
    let wanted = Wanted {
        names: &args.containers,
        all: args.all || args.running,
        latest: args.latest,
        cidfiles: &args.cidfile,
        filters: &args.filter,
        ignore: false,
    };
    let eligible = |container: &Container| !args.running || container.is_up();
    let options = StopOptions::to_restart(args.time, signal);
    let targets = wanted.targets(&engine, "restart", &eligible)?;
    engine.begin_stops(&ids(&targets), &options);
    each_target(targets, |id| {
        stop_one(&engine, id, &options)?;
        start_one(&engine, id, None)?;
        engine.note(id, "restart");
        Ok(())
    })
}

/// Sends a signal to containers.
///
/// # Errors
/// `Invalid` for an unknown signal.
pub(crate) fn kill(args: KillArgs) -> Result<u8> {
    let signal = signal::parse(&args.signal)?;
    let engine = Engine::open()?;
    let wanted = Wanted {
        names: &args.containers,
        all: args.all,
        latest: args.latest,
        cidfiles: &args.cidfile,
        ..Wanted::default()
    };
    each_target(wanted.targets(&engine, "kill", &Container::is_up)?, |id| engine.kill(id, signal))
}

/// Removes containers.
///
/// # Errors
/// What the engine says.
pub(crate) fn rm(args: RmArgs) -> Result<u8> {
    if args.depend {
        return Err(Error::invalid("--depend: containers that share something of another are not tracked")
            .hint("name those that depend on it as well"));
    }
    let engine = Engine::open()?;
    let options = RemoveOptions { force: args.force, volumes: args.volumes, time: args.time };
    let wanted = Wanted {
        names: &args.containers,
        all: args.all,
        latest: args.latest,
        cidfiles: &args.cidfile,
        filters: &args.filter,
        ignore: args.ignore || args.force,
    };
    // Those go with their pods.
    let eligible = |container: &Container| !container.record.config.infra;
    let targets = wanted.targets(&engine, "rm", &eligible)?;
    engine.begin_removals(&ids(&targets), &options);
    each_target(targets, |id| match engine.remove(id, &options) {
        // Removed by another in the meantime.
        Err(error) if wanted.ignore && error.kind() == Kind::NotFound => Ok(()),
        result => result,
    })
}
