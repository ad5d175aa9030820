//! `mount` and `unmount`, of containers and of images.

use super::command::{Entry, command};
use super::lifecycle::each_of;
use super::ui;
use crate::engine::Engine;
use crate::engine::mount::{Unmount, image_mount};
use crate::error::{Context, Error, Result};
use crate::types::id::ContainerId;
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;

pub(crate) const MOUNT: Entry = command!(
    "mount",
    &[],
    "Mount the files of containers (inside `coracle unshare`)",
    "[OPTIONS] [CONTAINER...]",
    MountArgs,
    mount
);

pub(crate) const UNMOUNT: Entry =
    command!("unmount", &["umount"], "Undo what mount did", "[OPTIONS] [CONTAINER...]", UnmountArgs, unmount);

pub(crate) const IMAGE_MOUNT: Entry = command!(
    "mount",
    &[],
    "Mount the files of images, read-only (inside `coracle unshare`)",
    "[OPTIONS] [IMAGE...]",
    ImageMountArgs,
    mount_images
);

pub(crate) const IMAGE_UNMOUNT: Entry = command!(
    "unmount",
    &["umount"],
    "Undo what mount did",
    "[OPTIONS] [IMAGE...]",
    ImageUnmountArgs,
    unmount_images
);

#[derive(Args, Debug)]
pub(crate) struct MountArgs {
    /// All containers
    #[arg(long, short = 'a')]
    all: bool,
    /// The list of what is mounted as JSON, with `json`
    #[arg(long, value_name = "json")]
    format: Option<String>,
    /// The container that was made last
    #[arg(long, short = 'l')]
    latest: bool,
    /// Whole ids in the list
    #[arg(long, alias = "notruncate")]
    no_trunc: bool,
    /// Names or ids; without any, what is mounted is listed
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct UnmountArgs {
    /// All that are mounted
    #[arg(long, short = 'a')]
    all: bool,
    /// Altogether, even where it was mounted several times or is in use
    #[arg(long, short = 'f')]
    force: bool,
    /// The container that was made last
    #[arg(long, short = 'l')]
    latest: bool,
    /// Names or ids
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ImageMountArgs {
    /// All images
    #[arg(long, short = 'a')]
    all: bool,
    /// The list of what is mounted as JSON, with `json`
    #[arg(long, value_name = "json")]
    format: Option<String>,
    /// Names or ids; without any, what is mounted is listed
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ImageUnmountArgs {
    /// All that are mounted
    #[arg(long, short = 'a')]
    all: bool,
    /// Altogether, even where it was mounted several times or is in use
    #[arg(long, short = 'f')]
    force: bool,
    /// Names or ids
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

/// Mounts containers and prints where; or lists what is mounted.
pub(crate) fn mount(args: MountArgs) -> Result<u8> {
    let engine = Engine::open()?;
    check_format(args.format.as_deref())?;
    here(&engine, "mount")?;
    if args.containers.is_empty() && !args.all && !args.latest {
        return list(&engine, &args);
    }
    let targets = containers(&engine, "mount", &args.containers, (args.all, args.latest))?;
    each_of(targets, |(_, id)| ui::line(&engine.mount_container(&id?)?.display().to_string()))
}

/// Unmounts containers, and prints them as they were named.
pub(crate) fn unmount(args: UnmountArgs) -> Result<u8> {
    let engine = Engine::open()?;
    here(&engine, "unmount")?;
    let mut targets = containers(&engine, "unmount", &args.containers, (args.all, args.latest))?;
    if args.all {
        let mounted = |id: &ContainerId| engine.mounted_at(id.as_str()).is_ok_and(|place| place.is_some());
        targets.retain(|(_, id)| id.as_ref().is_ok_and(mounted));
    }
    each_of(targets, |(word, id)| {
        engine.unmount_container(&id?, how(args.force))?;
        ui::line(&word)
    })
}

/// Mounts images and prints where; or lists what is mounted.
pub(crate) fn mount_images(args: ImageMountArgs) -> Result<u8> {
    let engine = Engine::open()?;
    check_format(args.format.as_deref())?;
    here(&engine, "image mount")?;
    let mut names = args.images.clone();
    if args.all {
        none_named("--all", &names)?;
        names = all_images(&engine)?;
    } else if names.is_empty() {
        return list_images(&engine, args.format.as_deref());
    }
    each_of(names, |name| ui::line(&engine.mount_image(&name)?.1.display().to_string()))
}

/// Unmounts images, and prints their ids.
pub(crate) fn unmount_images(args: ImageUnmountArgs) -> Result<u8> {
    let engine = Engine::open()?;
    here(&engine, "image unmount")?;
    let mut names = args.images.clone();
    if args.all {
        none_named("--all", &names)?;
        names = all_images(&engine)?;
        names.retain(|id| mounted_image(&engine, id).is_some());
    } else if names.is_empty() {
        return Err(Error::usage("'coracle image unmount' requires at least 1 argument")
            .hint("see `coracle image unmount --help`"));
    }
    each_of(names, |name| ui::line(&engine.unmount_image(&name, how(args.force))?.to_string()))
}

fn how(force: bool) -> Unmount {
    if force { Unmount::Whole } else { Unmount::Once }
}

fn check_format(format: Option<&str>) -> Result<()> {
    match format {
        None | Some("json") => Ok(()),
        Some(other) => Err(Error::usage(format!("invalid value {other:?} of --format")).hint("it is json")),
    }
}

/// Podman's words for who mounts where nobody would see it.
fn here(engine: &Engine, command: &str) -> Result<()> {
    engine.stay().map(drop).map_err(|_| {
        let error = Error::usage(format!(
            "cannot run command \"coracle {command}\" in rootless mode, must execute `coracle unshare` first"
        ));
        if command.ends_with("unmount") {
            return error;
        }
        error.hint(format!("for example: coracle unshare sh -c 'cd \"$(coracle {command} NAME)\" && ls'"))
    })
}

fn none_named(flag: &str, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    Err(Error::usage(format!("{flag} and names cannot be used together")))
}

/// The containers that a command is for, each with the word that it goes by.
pub(super) fn containers(
    engine: &Engine,
    command: &str,
    names: &[String],
    (all, latest): (bool, bool),
) -> Result<Vec<(String, Result<ContainerId>)>> {
    let by_id = |id: ContainerId| (id.to_string(), Ok(id));
    match (all, latest) {
        (true, true) => Err(Error::usage("--all and --latest cannot be used together")),
        (true, false) => {
            none_named("--all", names)?;
            Ok(engine.store.ids()?.into_iter().map(by_id).collect())
        }
        (false, true) => {
            none_named("--latest", names)?;
            Ok(vec![by_id(engine.latest()?)])
        }
        (false, false) if names.is_empty() => {
            Err(Error::usage(format!("'coracle {command}' requires at least 1 argument"))
                .hint(format!("see `coracle {command} --help`")))
        }
        (false, false) => Ok(names.iter().map(|name| (name.clone(), engine.resolve(name))).collect()),
    }
}

fn list(engine: &Engine, args: &MountArgs) -> Result<u8> {
    let mut documents = Vec::new();
    for id in engine.store.ids()? {
        let Some(place) = engine.mounted_at(id.as_str())? else { continue };
        if args.format.is_some() {
            let name = engine.store.record(&id)?.name;
            documents.push(json!({"id": id.as_str(), "Names": [name], "mountpoint": place}));
            continue;
        }
        let shown = if args.no_trunc { id.as_str() } else { id.short() };
        ui::line(&format!("{shown}  {}", place.display()))?;
    }
    print_list(args.format.as_deref(), documents)
}

fn list_images(engine: &Engine, format: Option<&str>) -> Result<u8> {
    let mut documents = Vec::new();
    let mut notes = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for image in crate::engine::images::list(&engine.dirs, &mut notes)? {
        let Some(place) = mounted_image(engine, &image.id.to_string()) else { continue };
        let name = image.reference.map_or_else(|| image.id.to_string(), |name| name.familiar());
        if !seen.insert(image.id.clone()) {
            continue;
        }
        if format.is_some() {
            documents.push(json!({"id": image.id.hex(), "Names": [image.digest], "Repositories": [name], "mountpoint": place}));
            continue;
        }
        ui::line(&format!("{name}  {}", place.display()))?;
    }
    print_list(format, documents)
}

fn print_list(format: Option<&str>, documents: Vec<Value>) -> Result<u8> {
    if format.is_some() {
        let text = serde_json::to_string_pretty(&Value::from(documents)).context(|| "write the list")?;
        ui::line(&text)?;
    }
    Ok(0)
}

fn mounted_image(engine: &Engine, id: &str) -> Option<PathBuf> {
    let id = crate::types::digest::Digest::parse(id).ok()?;
    engine.mounted_at(&image_mount(&id)).ok().flatten()
}

/// The ids of all images, each once.
fn all_images(engine: &Engine) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    let images = crate::engine::images::list(&engine.dirs, &mut notes)?;
    let mut ids: Vec<String> = images.into_iter().map(|image| image.id.to_string()).collect();
    ids.sort();
    ids.dedup();
    Ok(ids)
}
