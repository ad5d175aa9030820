//! `coracle pod`.

mod create;
mod list;
mod look;
mod verbs;

use super::command::{Entry, command};
use super::lifecycle::each_of;
use super::selection::{Choice, read_id};
use super::ui;
use super::usage::nothing_named;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::state::written::Damaged;
use crate::types::id::ContainerId;
use crate::types::pod::PodRecord;
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
        verbs::Which,
        verbs::pause
    ),
    command!("prune", &[], "Remove the pods that have ended", "[OPTIONS]", verbs::PruneArgs, verbs::prune),
    command!("ps", &["ls", "list"], "List pods", "[OPTIONS]", list::ListArgs, list::list),
    command!(
        "restart",
        &[],
        "Stop pods and start them again",
        "[OPTIONS] POD [POD...]",
        verbs::Which,
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
    command!("unpause", &[], "Let paused pods go on", "[OPTIONS] POD [POD...]", verbs::Which, verbs::unpause),
];

/// Which pods a command is for.
#[derive(Debug, Default)]
struct Wanted<'a> {
    names: &'a [String],
    all: bool,
    latest: bool,
    id_files: &'a [PathBuf],
    /// What does not exist is no error.
    ignore: bool,
    /// What is left of damaged ones, too.
    remains: bool,
    /// The exit code where something does not exist, if it is not that of all errors.
    missing_code: Option<u8>,
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
        let choice = Choice {
            named: !self.names.is_empty() || !self.id_files.is_empty(),
            all: self.all,
            latest: self.latest,
            filtered: false,
        };
        choice.check(&format!("pod {command}"), "pods")?;
        if self.all {
            engine.sweep_pods()?;
            let all = engine.pod_store().all()?;
            let remains = |damaged: Damaged| match ContainerId::parse(&damaged.key) {
                Ok(id) if self.remains => Ok(PodRecord::unknown(id)),
                _ => Err(damaged.error),
            };
            let damaged: Vec<_> = all.damaged.into_iter().map(remains).collect();
            return Ok(all.whole.into_iter().map(Ok).chain(damaged).collect());
        }
        if self.latest {
            return Ok(vec![engine.newest_pod()]);
        }
        let words = self
            .id_files
            .iter()
            .map(|path| read_id("pod id file", path))
            .chain(self.names.iter().cloned().map(Ok));
        let find = if self.remains { Engine::find_pod_or_remains } else { Engine::find_pod };
        let found = words.map(|word| word.and_then(|word| find(engine, &word)));
        let known = |found: &Result<PodRecord>| {
            !(self.ignore && found.as_ref().is_err_and(|error| error.kind() == Kind::NotFound))
        };
        let coded = |error: Error| match self.missing_code {
            Some(code) if error.kind() == Kind::NotFound => error.with_exit_code(code),
            _ => error,
        };
        Ok(found.filter(known).map(|pod| pod.map_err(coded)).collect())
    }
}

/// The pod that is named, or the newest.
fn one(engine: &Engine, name: Option<&String>, latest: bool, command: &str) -> Result<PodRecord> {
    match (name, latest) {
        (_, true) => engine.newest_pod(),
        (Some(name), false) => engine.find_pod(name),
        (None, false) => Err(nothing_named(&format!("pod {command}"))),
    }
}
