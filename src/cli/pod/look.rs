//! `pod inspect`, `exists`, `logs`, `top`, `stats`.

use super::one;
use crate::cli::logs::{self, LogsArgs as ContainerLogs};
use crate::cli::selection::Target;
use crate::cli::stats::{self, StatsArgs as ContainerStats};
use crate::cli::{inspect as documents, top};
use crate::engine::Engine;
use crate::engine::pods::document::with_go_names;
use crate::engine::top::{Columns, Table};
use crate::error::{Error, Kind, Result};
use clap::Args;

/// Podman's columns.
const COLUMNS: &str = "{{.Pod}}\t{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";

#[derive(Args, Debug)]
pub(crate) struct ExistsArgs {
    #[arg(value_name = "POD", required = true)]
    pod: String,
}

#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// Print with a Go template or `json`
    #[arg(long, short = 'f', value_name = "FORMAT")]
    format: Option<String>,
    /// The one that was made last
    #[arg(long, short = 'l', conflicts_with = "pods")]
    latest: bool,
    #[arg(value_name = "POD", required_unless_present = "latest")]
    pods: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct LogsArgs {
    /// Show each container in a colour of its own
    #[arg(long)]
    color: bool,
    /// Of this container of the pod alone
    #[arg(long, short = 'c', value_name = "CONTAINER")]
    container: Option<String>,
    /// Go on until the containers have ended
    #[arg(long, short = 'f')]
    follow: bool,
    /// Of the pod that was made last
    #[arg(long, short = 'l')]
    latest: bool,
    /// Put the name of the container before each line
    #[arg(long, short = 'n')]
    names: bool,
    /// Show lines from this time on: a duration before now (10m), a date, or seconds since the epoch
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Show so many lines from the end, or `all`
    #[arg(long, value_name = "LINES", default_value = "all", allow_hyphen_values = true)]
    tail: String,
    /// Show the time of each line
    #[arg(long, short = 't')]
    timestamps: bool,
    /// Show lines up to this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[arg(value_name = "POD")]
    pod: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    /// Of the pod that was made last, instead of a named one
    #[arg(long, short = 'l')]
    latest: bool,
    /// The pod, and the columns or the options of ps
    #[arg(value_name = "POD [PS OPTIONS]")]
    words: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct StatsArgs {
    /// Of all pods, those that do not run too
    #[arg(long, short = 'a')]
    all: bool,
    /// Print with a Go template, `table TEMPLATE` or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Of the pod that was made last
    #[arg(long, short = 'l')]
    latest: bool,
    /// Print below what was there, instead of over it
    #[arg(long)]
    no_reset: bool,
    /// Print once
    #[arg(long)]
    no_stream: bool,
    #[arg(value_name = "POD")]
    pods: Vec<String>,
}

/// 0 where there is such a pod, else 1.
///
/// # Errors
/// Where it cannot be looked for.
pub(crate) fn exists(args: ExistsArgs) -> Result<u8> {
    match Engine::open()?.find_pod(&args.pod) {
        Ok(_) => Ok(0),
        Err(error) if error.kind() == Kind::NotFound => Ok(1),
        Err(error) => Err(error),
    }
}

/// Shows everything about pods: what was found is printed, what was not is an error.
///
/// # Errors
/// `Invalid` for a wrong template.
pub(crate) fn inspect(args: InspectArgs) -> Result<u8> {
    let names = if args.latest { vec![Engine::open()?.newest_pod()?.id.to_string()] } else { args.pods };
    let is_json = matches!(args.format.as_deref(), None | Some("" | "json"));
    documents::each(&names, args.format.as_deref(), |engine, name| {
        let document = engine.pod_document(name)?;
        Ok(if is_json { document } else { with_go_names(document) })
    })
}

/// Shows what the containers of a pod have printed.
///
/// # Errors
/// `NotFound` where there is no such pod, or no such container in it.
pub(crate) fn logs(args: LogsArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let pod = engine.pod(one(&engine, args.pod.as_ref(), args.latest, "logs")?)?;
    let only = args.container.as_deref().map(|word| engine.resolve(word)).transpose()?;
    let rest = pod.containers.into_iter().filter(|container| !container.record.config.infra);
    let targets: Vec<Target> = rest
        .filter(|container| only.as_ref().is_none_or(|only| container.record.id == *only))
        .map(|container| Target { word: container.record.name, id: Ok(container.record.id) })
        .collect();
    if let (Some(word), true) = (&args.container, targets.is_empty()) {
        return Err(Error::not_found(format!("no container {word} in pod {}", pod.record.name)));
    }
    let flags = ContainerLogs {
        follow: args.follow,
        tail: args.tail,
        since: args.since,
        until: args.until,
        timestamps: args.timestamps,
        names: args.names,
        color: args.color,
        ..ContainerLogs::default()
    };
    logs::show_of(&engine, targets, &flags)
}

/// Shows the processes of a pod's containers.
///
/// # Errors
/// `Conflict` where nothing of it runs.
pub(crate) fn top(args: TopArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let (name, columns) = match args.words.split_first() {
        Some((name, columns)) if !args.latest => (Some(name), columns),
        _ => (None, args.words.as_slice()),
    };
    let pod = engine.pod(one(&engine, name, args.latest, "top")?)?;
    let columns = Columns::parse(columns);
    let mut whole = Table::default();
    for container in pod.containers.iter().filter(|one| one.is_up()) {
        match engine.top(&container.record.id, &columns) {
            Ok(table) => {
                whole.titles = table.titles;
                // With a shared pid namespace some are seen from each.
                whole.rows.extend(table.rows);
            }
            // Ended while we looked.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Conflict) => {}
            Err(error) => return Err(error.context(format!("container {}", container.record.name))),
        }
    }
    if whole.titles.is_empty() {
        return Err(Error::conflict(format!("pod {} is not running", pod.record.name))
            .hint(format!("start it with `coracle pod start {}`", pod.record.name)));
    }
    top::print(&whole)
}

/// Shows what the containers of pods use.
///
/// # Errors
/// `NotFound` for an unknown pod, `Invalid` for a wrong template.
pub(crate) fn stats(args: StatsArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let flags = ContainerStats {
        format: args.format.clone(),
        interval: 1,
        no_reset: args.no_reset,
        no_stream: args.no_stream,
        ..ContainerStats::default()
    };
    stats::show(&engine, &flags, COLUMNS, &|engine| {
        let pods = if args.latest {
            vec![engine.pod(engine.newest_pod()?)?]
        } else if args.pods.is_empty() {
            engine.pods(&mut Vec::new())?
        } else {
            args.pods.iter().map(|name| engine.pod(engine.find_pod(name)?)).collect::<Result<_>>()?
        };
        let named = args.all || args.latest || !args.pods.is_empty();
        let containers = pods.iter().flat_map(|pod| pod.containers.iter().map(move |one| (pod, one)));
        let shown = containers.filter(|(_, one)| named || one.is_up());
        Ok(shown
            .map(|(pod, one)| {
                let id = one.record.id.clone();
                (id.clone(), (id, pod.record.id.short().to_owned()))
            })
            .unzip::<_, _, Vec<_>, std::collections::BTreeMap<_, _>>())
    })
}
