//! `diff`, `commit`, `export`.

use super::command::{Entry, command};
use super::ui;
use crate::engine::Engine;
use crate::engine::commit::{CommitOptions, ImageFormat};
use crate::error::{Context, Error, Result};
use crate::storage::changes::{Change, Kind};
use crate::types::boolean;
use crate::types::id::ContainerId;
use crate::types::reference::Reference;
use clap::Args;
use serde_json::json;
use std::io::IsTerminal;
use std::path::PathBuf;

pub(crate) const DIFF: Entry = command!(
    "diff",
    &[],
    "Show what a container changed of its image's files",
    "[OPTIONS] CONTAINER|IMAGE",
    DiffArgs,
    diff
);

pub(crate) const CONTAINER_DIFF: Entry = command!(
    "diff",
    &[],
    "Show what a container changed of its image's files",
    "[OPTIONS] CONTAINER",
    DiffArgs,
    diff_container
);

pub(crate) const IMAGE_DIFF: Entry = command!(
    "diff",
    &[],
    "Show what the last layer of an image changed",
    "[OPTIONS] IMAGE",
    ImageDiffArgs,
    diff_image
);

pub(crate) const COMMIT: Entry = command!(
    "commit",
    &[],
    "Make an image of a container",
    "[OPTIONS] CONTAINER [IMAGE[:TAG]]",
    CommitArgs,
    commit
);

pub(crate) const EXPORT: Entry = command!(
    "export",
    &[],
    "Write a container's files as a tar archive",
    "[OPTIONS] CONTAINER",
    ExportArgs,
    export
);

#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    /// As JSON with `json`
    #[arg(long, value_name = "json")]
    format: Option<String>,
    /// The container that was made last
    #[arg(long, short = 'l')]
    latest: bool,
    /// Name or id
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ImageDiffArgs {
    /// As JSON with `json`
    #[arg(long, value_name = "json")]
    format: Option<String>,
    /// Name or id
    #[arg(value_name = "IMAGE", required = true)]
    image: String,
}

#[derive(Args, Debug)]
pub(crate) struct CommitArgs {
    /// Who made it: `Ann Example <ann@example.org>`
    #[arg(long, short = 'a', value_name = "TEXT")]
    author: Option<String>,
    /// Apply an instruction: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR
    #[arg(long, short = 'c', value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Media types of the manifest: oci or docker
    #[arg(long, short = 'f', value_name = "FORMAT", default_value = "oci")]
    format: String,
    /// Write the image's id to this file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// The container's volumes become the image's
    #[arg(long)]
    include_volumes: bool,
    /// A comment for the history
    #[arg(long, short = 'm', value_name = "TEXT")]
    message: Option<String>,
    /// Stop the container's processes meanwhile (the default)
    #[arg(long, short = 'p', num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pause: Option<String>,
    /// Let the container's processes run meanwhile
    #[arg(long)]
    no_pause: bool,
    /// Accepted: nothing is said but the id
    #[arg(long, short = 'q')]
    quiet: bool,
    /// One layer instead of the image's and one more
    #[arg(long, short = 's')]
    squash: bool,
    /// Name or id
    #[arg(value_name = "CONTAINER", required = true)]
    container: String,
    /// Name of the image
    #[arg(value_name = "IMAGE[:TAG]")]
    image: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// File instead of stdout
    #[arg(long, short = 'o', value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name or id
    #[arg(value_name = "CONTAINER", required = true)]
    container: String,
}

/// Shows the changes of a container or an image.
pub(crate) fn diff(args: DiffArgs) -> Result<u8> {
    let engine = Engine::open()?;
    match one_of(&engine, &args, "diff")? {
        Named::Latest(id) => show(&engine.diff_container(&id)?, args.format.as_deref()),
        Named::Word(word) => show(&engine.diff(word)?, args.format.as_deref()),
    }
}

/// Shows the changes of a container.
pub(crate) fn diff_container(args: DiffArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let id = match one_of(&engine, &args, "container diff")? {
        Named::Latest(id) => id,
        Named::Word(word) => engine.resolve(word)?,
    };
    show(&engine.diff_container(&id)?, args.format.as_deref())
}

/// Shows what the last layer of an image changed.
pub(crate) fn diff_image(args: ImageDiffArgs) -> Result<u8> {
    show(&Engine::open()?.diff_image(&args.image)?, args.format.as_deref())
}

enum Named<'a> {
    Latest(ContainerId),
    Word(&'a str),
}

fn one_of<'a>(engine: &Engine, args: &'a DiffArgs, command: &str) -> Result<Named<'a>> {
    match (&args.name, args.latest) {
        (Some(word), false) => Ok(Named::Word(word)),
        (None, true) => engine.latest().map(Named::Latest),
        (Some(_), true) => Err(Error::usage("--latest and a name cannot be used together")),
        (None, false) => Err(Error::usage(format!("'coracle {command}' requires at least 1 argument"))
            .hint(format!("see `coracle {command} --help`"))),
    }
}

fn show(changes: &[Change], format: Option<&str>) -> Result<u8> {
    match format {
        None => {
            let mut text = Vec::new();
            for change in changes {
                text.extend_from_slice(&[change.kind.letter() as u8, b' ']);
                text.extend_from_slice(&change.path);
                text.push(b'\n');
            }
            ui::write(&text)?;
        }
        Some("json") => ui::line(&document(changes)?)?,
        Some(other) => {
            return Err(Error::usage(format!("invalid value {other:?} of --format")).hint("it is json"));
        }
    }
    Ok(0)
}

/// Podman's: a list for each kind that there is.
fn document(changes: &[Change]) -> Result<String> {
    let mut lists = serde_json::Map::new();
    for (kind, name) in [(Kind::Changed, "changed"), (Kind::Added, "added"), (Kind::Deleted, "deleted")] {
        let of_kind = changes.iter().filter(|change| change.kind == kind);
        let paths: Vec<_> = of_kind.map(|change| json!(String::from_utf8_lossy(&change.path))).collect();
        if !paths.is_empty() {
            lists.insert(name.to_owned(), paths.into());
        }
    }
    serde_json::to_string_pretty(&lists).context(|| "write the changes")
}

/// Makes an image of a container, and prints its id.
///
/// # Errors
/// What the engine says.
pub(crate) fn commit(args: CommitArgs) -> Result<u8> {
    let options = CommitOptions {
        reference: args.image.as_deref().map(Reference::to_give).transpose()?,
        author: args.author,
        message: args.message,
        changes: args.change,
        pause: !args.no_pause
            && args.pause.as_deref().map_or(Ok(true), |text| boolean::parse("--pause", text))?,
        squash: args.squash,
        format: ImageFormat::parse(&args.format)?,
        include_volumes: args.include_volumes,
    };
    let engine = Engine::open()?;
    let id = engine.resolve(&args.container)?;
    let image = engine.commit(&id, &options)?;
    if let Some(limits) = engine.limits() {
        ui::warning(&limits);
    }
    if let Some(path) = &args.iidfile {
        std::fs::write(path, image.id.to_string()).context(|| format!("write {}", path.display()))?;
    }
    ui::line(&image.id.to_string())?;
    Ok(0)
}

/// Writes a container's files as a tar archive.
///
/// # Errors
/// `Invalid` where stdout is a terminal.
pub(crate) fn export(args: ExportArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let id = engine.resolve(&args.container)?;
    match &args.output {
        Some(path) => engine.export_to(&id, path)?,
        None if std::io::stdout().is_terminal() => {
            return Err(
                Error::usage("an archive is not for a terminal").hint("name a file with -o, or use a pipe")
            );
        }
        None => {
            let mut stdout = std::io::BufWriter::with_capacity(256 << 10, ui::Stdout);
            engine.export(&id, &mut stdout)?;
        }
    }
    Ok(0)
}
