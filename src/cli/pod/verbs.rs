//! `pod start`, `stop`, `restart`, `kill`, `pause`, `unpause`, `rm`, `prune`.

use super::Wanted;
use crate::cli::prune::confirmed;
use crate::cli::{exit, ui};
use crate::engine::Engine;
use crate::engine::remove::RemoveOptions;
use crate::error::{Kind, Result};
use crate::types::signal;
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(crate) struct StartArgs {
    /// All
    #[arg(long, short = 'a')]
    all: bool,
    /// The one that was made last
    #[arg(long, short = 'l')]
    latest: bool,
    /// Those whose id is in this file
    #[arg(long, value_name = "FILE")]
    pod_id_file: Vec<PathBuf>,
    #[arg(value_name = "POD")]
    pods: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct StopArgs {
    /// All
    #[arg(long, short = 'a')]
    all: bool,
    /// Say nothing about those that do not exist
    #[arg(long, short = 'i')]
    ignore: bool,
    /// The one that was made last
    #[arg(long, short = 'l')]
    latest: bool,
    /// Those whose id is in this file
    #[arg(long, value_name = "FILE")]
    pod_id_file: Vec<PathBuf>,
    /// Kill each container that has not ended after so many seconds; -1 for never
    #[arg(long, short = 't', alias = "timeout", value_name = "SECONDS", allow_negative_numbers = true)]
    time: Option<i64>,
    #[arg(value_name = "POD")]
    pods: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct RestartArgs {
    /// All
    #[arg(long, short = 'a')]
    all: bool,
    /// The one that was made last
    #[arg(long, short = 'l')]
    latest: bool,
    #[arg(value_name = "POD")]
    pods: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct KillArgs {
    /// All
    #[arg(long, short = 'a')]
    all: bool,
    /// The one that was made last
    #[arg(long, short = 'l')]
    latest: bool,
    /// The signal to send
    #[arg(long, short = 's', value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
    #[arg(value_name = "POD")]
    pods: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct PauseArgs {
    /// All
    #[arg(long, short = 'a')]
    all: bool,
    /// The one that was made last
    #[arg(long, short = 'l')]
    latest: bool,
    #[arg(value_name = "POD")]
    pods: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct RmArgs {
    /// All
    #[arg(long, short = 'a')]
    all: bool,
    /// Kill what runs in them first; say nothing about those that do not exist
    #[arg(long, short = 'f')]
    force: bool,
    /// Say nothing about those that do not exist
    #[arg(long, short = 'i')]
    ignore: bool,
    /// The one that was made last
    #[arg(long, short = 'l')]
    latest: bool,
    /// Those whose id is in this file
    #[arg(long, value_name = "FILE")]
    pod_id_file: Vec<PathBuf>,
    /// Stop each container within so many seconds before it is killed by -f
    #[arg(long, short = 't', alias = "timeout", value_name = "SECONDS", allow_negative_numbers = true)]
    time: Option<i64>,
    #[arg(value_name = "POD")]
    pods: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct PruneArgs {
    /// Do not ask
    #[arg(long, short = 'f')]
    force: bool,
}

/// Starts pods.
///
/// # Errors
/// Where no pod is chosen.
pub(crate) fn start(args: StartArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let wanted = Wanted {
        names: &args.pods,
        all: args.all,
        latest: args.latest,
        id_files: &args.pod_id_file,
        ..Wanted::default()
    };
    wanted.each(&engine, "start", |pod| engine.start_pod(pod, &mut |text| ui::warning(text)))
}

/// Stops pods.
///
/// # Errors
/// Where no pod is chosen.
pub(crate) fn stop(args: StopArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let wanted = Wanted {
        names: &args.pods,
        all: args.all,
        latest: args.latest,
        id_files: &args.pod_id_file,
        ignore: args.ignore,
    };
    wanted.each(&engine, "stop", |pod| engine.stop_pod(pod, args.time, &mut |text| ui::warning(text)))
}

/// Stops pods and starts them again.
///
/// # Errors
/// Where no pod is chosen.
pub(crate) fn restart(args: RestartArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let wanted = Wanted { names: &args.pods, all: args.all, latest: args.latest, ..Wanted::default() };
    wanted.each(&engine, "restart", |pod| engine.restart_pod(pod, &mut |text| ui::warning(text)))
}

/// Sends a signal to what runs in pods.
///
/// # Errors
/// `Invalid` for an unknown signal.
pub(crate) fn kill(args: KillArgs) -> Result<u8> {
    let signal = signal::parse(&args.signal)?;
    let engine = Engine::open()?;
    let wanted = Wanted { names: &args.pods, all: args.all, latest: args.latest, ..Wanted::default() };
    wanted.each(&engine, "kill", |pod| engine.kill_pod(pod, signal))
}

/// Stops processes where they are.
///
/// # Errors
/// Where no pod is chosen.
pub(crate) fn pause(args: PauseArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let wanted = Wanted { names: &args.pods, all: args.all, latest: args.latest, ..Wanted::default() };
    wanted.each(&engine, "pause", |pod| engine.pause_pod(pod))
}

/// Lets them go on.
///
/// # Errors
/// Where no pod is chosen.
pub(crate) fn unpause(args: PauseArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let wanted = Wanted { names: &args.pods, all: args.all, latest: args.latest, ..Wanted::default() };
    wanted.each(&engine, "unpause", |pod| engine.unpause_pod(pod))
}

/// Removes pods.
///
/// # Errors
/// Where no pod is chosen.
pub(crate) fn rm(args: RmArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let wanted = Wanted {
        names: &args.pods,
        all: args.all,
        latest: args.latest,
        id_files: &args.pod_id_file,
        ignore: args.ignore || args.force,
    };
    let options = RemoveOptions { force: args.force, volumes: true, time: args.time };
    wanted.each(&engine, "rm", |pod| match engine.remove_pod(pod, &options) {
        // Removed by another in the meantime.
        Err(error) if wanted.ignore && error.kind() == Kind::NotFound => Ok(Vec::new()),
        result => result.map(|()| Vec::new()),
    })
}

/// Removes pods whose containers have all ended.
///
/// # Errors
/// Where they cannot be listed.
pub(crate) fn prune(args: PruneArgs) -> Result<u8> {
    if !args.force && !confirmed("WARNING! This will remove all stopped/exited pods.")? {
        return Ok(0);
    }
    let pruned = Engine::open()?.prune_pods()?;
    pruned.ids.iter().try_for_each(|id| ui::line(id.as_str()))?;
    Ok(exit::after(&pruned.failures))
}
