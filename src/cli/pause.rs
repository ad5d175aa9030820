//! `pause`, `unpause`, `update`.

use super::command::{Entry, command};
use super::container_options::{ResourceOptions, parse_restart};
use super::lifecycle::each;
use super::ui;
use super::usage::nothing_named;
use crate::engine::Engine;
use crate::engine::list::{Filters, Selection, select};
use crate::engine::pause::Update;
use crate::engine::ports::PortChange;
use crate::error::{Error, Result};
use crate::types::port::{Publish, Unpublish};
use clap::Args;
use jiff::Timestamp;

pub(crate) const PAUSE: Entry = command!(
    "pause",
    &[],
    "Stop all processes of containers where they are",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    PauseArgs,
    pause
);

pub(crate) const UNPAUSE: Entry = command!(
    "unpause",
    &[],
    "Let paused containers go on",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    PauseArgs,
    unpause
);

pub(crate) const UPDATE: Entry = command!(
    "update",
    &[],
    "Change the limits, the restart policy and the published ports of containers",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    UpdateArgs,
    update
);

#[derive(Args, Debug)]
pub(crate) struct PauseArgs {
    /// All that it can be done to
    #[arg(long, short = 'a')]
    all: bool,
    /// Those whose id is in a file
    #[arg(long, value_name = "FILE")]
    cidfile: Vec<String>,
    /// Those for which KEY=VALUE holds, as of ps
    #[arg(long, short = 'f', value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// The one that was created last
    #[arg(long, short = 'l')]
    latest: bool,
    /// Names or ids
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    resources: ResourceOptions,
    /// The one that was created last
    #[arg(long, short = 'l')]
    latest: bool,
    /// Publish a port, as run -p does
    #[arg(long, value_name = "[[IP:]HOST:]CONTAINER[/PROTOCOL]")]
    publish_add: Vec<String>,
    /// Publish a port no more
    #[arg(long, value_name = "[IP:]HOST[:CONTAINER][/PROTOCOL]")]
    publish_rm: Vec<String>,
    /// Restart the command when it ends: no, on-failure, on-failure:TIMES, always, unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    /// Names or ids
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Stops processes where they are.
///
/// # Errors
/// What the engine says.
pub(crate) fn pause(args: PauseArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let names = args.names(&engine, "pause", "running")?;
    each(&names, |name| engine.pause(&engine.resolve(name)?).and_then(|()| ui::line(name)))
}

/// Lets them go on.
///
/// # Errors
/// What the engine says.
pub(crate) fn unpause(args: PauseArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let names = args.names(&engine, "unpause", "paused")?;
    each(&names, |name| engine.unpause(&engine.resolve(name)?).and_then(|()| ui::line(name)))
}

/// Changes limits and restart policies.
///
/// # Errors
/// What the engine says.
pub(crate) fn update(args: UpdateArgs) -> Result<u8> {
    let restart = args.restart.as_deref().map(parse_restart).transpose()?;
    let update = Update { limits: args.resources.limits()?, restart };
    let ports = PortChange {
        add: args.publish_add.iter().map(|text| Publish::parse(text)).collect::<Result<Vec<_>>>()?.concat(),
        remove: args.publish_rm.iter().map(|text| Unpublish::parse(text)).collect::<Result<_>>()?,
    };
    let changes_ports = !ports.add.is_empty() || !ports.remove.is_empty();
    let changes_more = !update.limits.is_empty() || update.restart.is_some();
    if !changes_ports && !changes_more {
        return Err(Error::invalid("you must provide one or more flags when using this command")
            .hint("for example: coracle update --memory 1g NAME"));
    }
    let engine = Engine::open()?;
    let names = match (args.latest, args.containers) {
        (true, _) => vec![engine.newest()?.to_string()],
        (false, names) if names.is_empty() => return Err(nothing_named("update")),
        (false, names) => names,
    };
    each(&names, |name| {
        let id = engine.resolve(name)?;
        if changes_ports {
            engine.change_ports(&id, &ports)?;
        }
        if changes_more {
            engine.update(&id, &update)?;
        }
        ui::line(name)
    })
}

impl PauseArgs {
    /// Those that are named, or those of `state` that are chosen otherwise.
    fn names(self, engine: &Engine, verb: &str, state: &str) -> Result<Vec<String>> {
        let chosen = self.all || !self.filter.is_empty();
        if chosen && (!self.containers.is_empty() || self.latest) {
            return Err(Error::invalid("--all and --filter go with no names and not with --latest"));
        }
        if self.latest {
            return Ok(vec![engine.newest()?.to_string()]);
        }
        let mut names = self.containers;
        for file in &self.cidfile {
            let text = super::container_options::read_text("--cidfile", file, 4096)?;
            names.push(text.lines().next().unwrap_or_default().trim().to_owned());
        }
        if chosen {
            let mut filters = self.filter;
            filters.push(format!("status={state}"));
            let filters = Filters::parse(&filters, Timestamp::now())?;
            let selection = Selection { all: true, last: None, filters };
            let found = select(engine.containers(false, &mut Vec::new())?, &selection)?;
            names.extend(found.into_iter().map(|container| container.record.id.to_string()));
        } else if names.is_empty() {
            return Err(nothing_named(verb));
        }
        Ok(names)
    }
}
