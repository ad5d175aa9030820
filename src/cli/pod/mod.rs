//! `coracle pod`.

mod create;
mod list;
mod look;
mod verbs;

use super::command::{Entry, command};
use super::lifecycle::each_of;
use super::ui;
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use crate::types::pod::PodRecord;
use std::io::Read;
use std::path::PathBuf;

pub(crate) static POD: &[Entry] = &[
    command!("create", &[], "Make a pod", "[OPTIONS] [NAME]", create::CreateArgs, create::create),
    command!("exists", &[], "Tell by the exit code if a pod exists", "POD", look::ExistsArgs, look::exists),
    command!(
        "inspect",
        &[],
        "Show everything about pods",
        "[OPTIONS] POD [POD...]",
        look::InspectArgs,
        look::inspect
    ),
    command!(
        "kill",
        &[],
        "Send a signal to the containers of pods",
        "[OPTIONS] POD [POD...]",
        verbs::KillArgs,
        verbs::kill
    ),
    command!(
        "logs",
        &[],
        "Show what the containers of a pod have printed",
        "[OPTIONS] POD",
        look::LogsArgs,
        look::logs
    ),
    command!(
        "pause",
        &[],
        "Stop all processes of pods where they are",
        "[OPTIONS] POD [POD...]",
        verbs::PauseArgs,
        verbs::pause
    ),
    command!("prune", &[], "Remove the pods that have ended", "[OPTIONS]", verbs::PruneArgs, verbs::prune),
    command!("ps", &["ls", "list"], "List pods", "[OPTIONS]", list::ListArgs, list::list),
    command!(
        "restart",
        &[],
        "Stop pods and start them again",
        "[OPTIONS] POD [POD...]",
        verbs::RestartArgs,
        verbs::restart
    ),
    command!(
        "rm",
        &[],
        "Remove pods with their containers",
        "[OPTIONS] POD [POD...]",
        verbs::RmArgs,
        verbs::rm
    ),
    command!(
        "start",
        &[],
        "Start the containers of pods",
        "[OPTIONS] POD [POD...]",
        verbs::StartArgs,
        verbs::start
    ),
    command!(
        "stats",
        &[],
        "Show what the containers of pods use",
        "[OPTIONS] [POD...]",
        look::StatsArgs,
        look::stats
    ),
    command!(
        "stop",
        &[],
        "Stop the containers of pods, the last that was started first",
        "[OPTIONS] POD [POD...]",
        verbs::StopArgs,
        verbs::stop
    ),
    command!(
        "top",
        &[],
        "Show the processes of a pod",
        "[OPTIONS] POD [PS OPTIONS]",
        look::TopArgs,
        look::top
    )
    .flags_first(),
    command!(
        "unpause",
        &[],
        "Let paused pods go on",
        "[OPTIONS] POD [POD...]",
        verbs::PauseArgs,
        verbs::unpause
    ),
];

/// Bytes of a file with an id.
const MAX_ID_FILE: u64 = 4096;

/// Which pods a command is for.
#[derive(Debug, Default)]
struct Wanted<'a> {
    names: &'a [String],
    all: bool,
    latest: bool,
    id_files: &'a [PathBuf],
    /// What does not exist is no error.
    ignore: bool,
}

impl Wanted<'_> {
    /// Does the same to each, and prints its id. What fails is shown, and does not
    /// keep the others from their turn.
    fn each(
        &self,
        engine: &Engine,
        command: &str,
        mut action: impl FnMut(&PodRecord) -> Result<Vec<Error>>,
    ) -> Result<u8> {
        let mut code = 0;
        let whole = each_of(self.pods(engine, command)?, |pod: Result<PodRecord>| {
            let pod = pod?;
            let failures = action(&pod)?;
            if failures.is_empty() {
                return ui::line(pod.id.as_str());
            }
            code = super::exit::after(&failures);
            Ok(())
        })?;
        Ok(whole.max(code))
    }

    fn pods(&self, engine: &Engine, command: &str) -> Result<Vec<Result<PodRecord>>> {
        let named = !self.names.is_empty() || !self.id_files.is_empty();
        match (self.all, self.latest) {
            (true, true) => return Err(Error::usage("--all and --latest cannot be used together")),
            (true, _) | (_, true) if named => {
                let flag = if self.all { "--all" } else { "--latest" };
                return Err(Error::usage(format!("{flag} and pods by name cannot be used together"))
                    .hint(format!("leave out {flag} or the names")));
            }
            (true, _) => {
                engine.sweep_pods()?;
                return Ok(engine.pod_store().all()?.into_iter().map(Ok).collect());
            }
            (_, true) => return Ok(vec![engine.newest_pod()]),
            _ if !named => {
                return Err(Error::invalid(format!("'coracle pod {command}' requires at least 1 argument"))
                    .hint(format!("see `coracle pod {command} --help`")));
            }
            _ => {}
        }
        let words = self.id_files.iter().map(read_id).chain(self.names.iter().cloned().map(Ok));
        let found = words.map(|word| word.and_then(|word| engine.find_pod(&word)));
        let known = |found: &Result<PodRecord>| {
            !(self.ignore && found.as_ref().is_err_and(|error| error.kind() == Kind::NotFound))
        };
        Ok(found.filter(known).collect())
    }
}

/// The id in a file that `--pod-id-file` of `pod create` wrote.
fn read_id(path: &PathBuf) -> Result<String> {
    let step = || format!("read the pod id file {}", path.display());
    let mut text = String::new();
    let file = std::fs::File::open(path).context(step)?;
    file.take(MAX_ID_FILE).read_to_string(&mut text).context(step)?;
    match text.lines().next().map(str::trim) {
        Some(word) if !word.is_empty() => Ok(word.to_owned()),
        _ => Err(Error::invalid(format!("the pod id file {} is empty", path.display()))),
    }
}

/// The pod that is named, or the newest.
fn one(engine: &Engine, name: Option<&String>, latest: bool, command: &str) -> Result<PodRecord> {
    match (name, latest) {
        (_, true) => engine.newest_pod(),
        (Some(name), false) => engine.find_pod(name),
        (None, false) => Err(Error::invalid(format!("'coracle pod {command}' requires at least 1 argument"))
            .hint(format!("see `coracle pod {command} --help`"))),
    }
}
