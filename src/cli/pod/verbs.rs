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

/// For which pods it is.
#[derive(Args, Debug)]
pub(crate) struct Which {
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
pub(crate) struct IdFiles {
    /// Those whose id is in this file
    #[arg(long, value_name = "FILE")]
    pod_id_file: Vec<PathBuf>,
}

impl Which {
    fn wanted(&self) -> Wanted<'_> {
        Wanted { names: &self.pods, all: self.all, latest: self.latest, ..Wanted::default() }
    }

    fn or_in<'a>(&'a self, files: &'a IdFiles) -> Wanted<'a> {
        Wanted { id_files: &files.pod_id_file, ..self.wanted() }
    }
}

#[derive(Args, Debug)]
pub(crate) struct StartArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    files: IdFiles,
}

#[derive(Args, Debug)]
pub(crate) struct StopArgs {
    #[command(flatten)]
    which: Which,
    /// Say nothing about those that do not exist
    #[arg(long, short = 'i')]
    ignore: bool,
    #[command(flatten)]
    files: IdFiles,
    /// Kill each container that has not ended after so many seconds; -1 for never
    #[arg(long, short = 't', alias = "timeout", value_name = "SECONDS", allow_negative_numbers = true)]
    time: Option<i64>,
}

#[derive(Args, Debug)]
pub(crate) struct KillArgs {
    #[command(flatten)]
    which: Which,
    /// The signal to send
    #[arg(long, short = 's', value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
}

#[derive(Args, Debug)]
pub(crate) struct RmArgs {
    #[command(flatten)]
    which: Which,
    /// Kill what runs in them first; say nothing about those that do not exist
    #[arg(long, short = 'f')]
    force: bool,
    /// Say nothing about those that do not exist
    #[arg(long, short = 'i')]
    ignore: bool,
    #[command(flatten)]
    files: IdFiles,
    /// Stop each container within so many seconds before it is killed by -f
    #[arg(long, short = 't', alias = "timeout", value_name = "SECONDS", allow_negative_numbers = true)]
    time: Option<i64>,
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
    args.which
        .or_in(&args.files)
        .each(&engine, "start", |pod| engine.start_pod(pod, &mut |text| ui::warning(text)))
}

/// Stops pods.
///
/// # Errors
/// Where no pod is chosen.
pub(crate) fn stop(args: StopArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let wanted = Wanted { ignore: args.ignore, ..args.which.or_in(&args.files) };
    wanted.each(&engine, "stop", |pod| engine.stop_pod(pod, args.time, &mut |text| ui::warning(text)))
}

/// Stops pods and starts them again.
///
/// # Errors
/// Where no pod is chosen.
pub(crate) fn restart(which: Which) -> Result<u8> {
    let engine = Engine::open()?;
    which.wanted().each(&engine, "restart", |pod| engine.restart_pod(pod, &mut |text| ui::warning(text)))
}

/// Sends a signal to what runs in pods.
///
/// # Errors
/// `Invalid` for an unknown signal.
pub(crate) fn kill(args: KillArgs) -> Result<u8> {
    let signal = signal::parse(&args.signal)?;
    let engine = Engine::open()?;
    args.which.wanted().each(&engine, "kill", |pod| engine.kill_pod(pod, signal))
}

/// Stops processes where they are.
///
/// # Errors
/// Where no pod is chosen.
pub(crate) fn pause(which: Which) -> Result<u8> {
    let engine = Engine::open()?;
    which.wanted().each(&engine, "pause", |pod| engine.pause_pod(pod))
}

/// Lets them go on.
///
/// # Errors
/// Where no pod is chosen.
pub(crate) fn unpause(which: Which) -> Result<u8> {
    let engine = Engine::open()?;
    which.wanted().each(&engine, "unpause", |pod| engine.unpause_pod(pod))
}

/// Removes pods.
///
/// # Errors
/// Where no pod is chosen.
pub(crate) fn rm(args: RmArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let wanted =
        Wanted { ignore: args.ignore || args.force, remains: args.force, ..args.which.or_in(&args.files) };
    let options = RemoveOptions { force: args.force, volumes: true, time: args.time };
    // Podman's code of this verb alone.
    let wanted = Wanted { missing_code: Some(1), ..wanted };
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
    ui::warnings(&pruned.unread);
    pruned.ids.iter().try_for_each(|id| ui::line(id.as_str()))?;
    Ok(exit::after(&pruned.failures))
}
