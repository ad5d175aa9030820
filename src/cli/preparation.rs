//! `container clone`, `init`, `cleanup`, `exists`.

use super::command::{Entry, command};
use super::container_options::ResourceOptions;
use super::lifecycle::each_of;
use super::mounts::containers;
use super::{progress, ui};
use crate::engine::Engine;
use crate::engine::clone::CloneOptions;
use crate::engine::remove::RemoveOptions;
use crate::engine::rmi;
use crate::error::{Error, Kind, Result};
use crate::types::container::RecordedRoot;
use crate::types::id::check_name;
use clap::Args;

pub(crate) const CLONE: Entry = command!(
    "clone",
    &[],
    "Make a container with the settings of another",
    "[OPTIONS] CONTAINER [NAME [IMAGE]]",
    CloneArgs,
    clone
);

pub(crate) const INIT: Entry = command!(
    "init",
    &[],
    "Make what the start of containers needs, and check that they can start",
    "[OPTIONS] [CONTAINER...]",
    InitArgs,
    init
);

pub(crate) const CLEANUP: Entry = command!(
    "cleanup",
    &[],
    "Clear what lost runs of containers left behind",
    "[OPTIONS] [CONTAINER...]",
    CleanupArgs,
    cleanup
);

pub(crate) const EXISTS: Entry = command!(
    "exists",
    &[],
    "Tell by the exit code whether there is such a container",
    "CONTAINER",
    ExistsArgs,
    exists
);

#[derive(Args, Debug)]
pub(crate) struct CloneArgs {
    /// Remove the original
    #[arg(long)]
    destroy: bool,
    /// With --destroy: even if it runs
    #[arg(long, short = 'f', requires = "destroy")]
    force: bool,
    /// Name of the new container: NAME-clone otherwise
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Start the new container
    #[arg(long)]
    run: bool,
    #[command(flatten)]
    resources: ResourceOptions,
    /// Name or id of the original
    #[arg(value_name = "CONTAINER", required = true)]
    container: String,
    /// Name of the new container
    #[arg(value_name = "NAME", conflicts_with = "name")]
    new_name: Option<String>,
    /// Another image than the original's
    #[arg(value_name = "IMAGE")]
    image: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// All containers
    #[arg(long, short = 'a')]
    all: bool,
    /// The container that was made last
    #[arg(long, short = 'l')]
    latest: bool,
    /// Names or ids
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct CleanupArgs {
    /// All containers that do not run
    #[arg(long, short = 'a')]
    all: bool,
    /// An exec session instead of the container
    #[arg(long, value_name = "SESSION")]
    exec: Option<String>,
    /// The container that was made last
    #[arg(long, short = 'l')]
    latest: bool,
    /// Remove the containers as well
    #[arg(long)]
    rm: bool,
    /// Remove their images as well
    #[arg(long)]
    rmi: bool,
    /// Names or ids
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ExistsArgs {
    /// Accepted: there are no containers but these
    #[arg(long)]
    external: bool,
    /// Name or id
    #[arg(value_name = "CONTAINER", required = true)]
    container: String,
}

/// Makes a container like another, and prints its id.
pub(crate) fn clone(args: CloneArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let name = args.name.or(args.new_name);
    if let Some(name) = &name {
        check_name("container", name)?;
    }
    let limits = args.resources.limits()?;
    let options = CloneOptions { name, image: args.image, destroy: args.destroy, force: args.force, limits };
    let id = engine.resolve(&args.container)?;
    let made = engine.clone_container(&id, &options, &mut progress::on_stderr(false))?;
    if args.run {
        engine.start(&made, None, &mut |text| ui::warning(text))?;
    }
    ui::line(made.as_str())?;
    Ok(0)
}

/// Prepares containers, and prints them as they were named.
pub(crate) fn init(args: InitArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let mut targets = containers(&engine, "container init", &args.containers, (args.all, args.latest))?;
    if args.all {
        targets.retain(|(_, id)| id.as_ref().is_ok_and(|id| !engine.is_up(id)));
    }
    each_of(targets, |(word, id)| {
        engine.init_container(&id?)?;
        ui::line(&word)
    })
}

/// Clears what lost runs left, and prints the containers as they were named.
pub(crate) fn cleanup(args: CleanupArgs) -> Result<u8> {
    if let Some(session) = &args.exec {
        return Err(Error::invalid(format!("--exec {session}: an exec session leaves nothing to clean up"))
            .hint("leave it out: the container's monitor clears each session when it ends"));
    }
    let engine = Engine::open()?;
    let mut targets = containers(&engine, "container cleanup", &args.containers, (args.all, args.latest))?;
    if args.all {
        targets.retain(|(_, id)| id.as_ref().is_ok_and(|id| !engine.is_up(id)));
    }
    each_of(targets, |(word, id)| {
        let id = id?;
        let record = engine.store.record(&id)?;
        engine.clean_up_container(&id)?;
        if args.rm || args.rmi {
            engine.remove(&id, &RemoveOptions::default())?;
        }
        if let (true, RecordedRoot::Image { id, .. }) = (args.rmi, &record.root) {
            let mut notes = Vec::new();
            engine.enter()?;
            rmi::remove(&engine.dirs, &id.to_string(), false, &|| engine.images_in_use(), &mut notes)?;
            for note in &notes {
                ui::warning(&note.to_string());
            }
        }
        ui::line(&word)
    })
}

/// Exit code 0 where there is such a container, 1 where not; prints nothing.
pub(crate) fn exists(args: ExistsArgs) -> Result<u8> {
    match Engine::open()?.resolve(&args.container) {
        Ok(_) => Ok(0),
        Err(error) if error.kind() == Kind::NotFound => Ok(1),
        Err(error) => Err(error),
    }
}
