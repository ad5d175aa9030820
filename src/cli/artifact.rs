//! `coracle artifact …`: what was pushed to `registry serve` and is no image.

use super::command::{Entry, command};
use super::lifecycle::each;
use super::table::{self, Headings};
use super::template::Format;
use super::ui;
use super::usage::nothing_named;
use crate::engine::Engine;
use crate::engine::artifacts::{self, Artifact, Which};
use crate::error::{Error, Kind, Result};
use crate::types::reference::Reference;
use crate::types::size::decimal;
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(crate) static ARTIFACT: &[Entry] = &[
    command!("ls", &["list"], "List artifacts", "[OPTIONS]", ListArgs, list),
    command!("inspect", &[], "Show the manifest of an artifact", "[OPTIONS] ARTIFACT", InspectArgs, inspect),
    command!("rm", &["remove"], "Remove artifacts", "[OPTIONS] ARTIFACT [ARTIFACT...]", RemoveArgs, remove),
];

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Print with a Go template, `table TEMPLATE` or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print whole digests
    #[arg(long)]
    no_trunc: bool,
    /// Print no headings
    #[arg(long, short = 'n')]
    noheading: bool,
    /// Print digests alone
    #[arg(long, short = 'q')]
    quiet: bool,
}

#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// Print with a Go template or as `json`
    #[arg(long, short = 'f', value_name = "FORMAT")]
    format: Option<String>,
    /// Name or digest
    #[arg(value_name = "ARTIFACT", required = true)]
    artifact: String,
}

#[derive(Args, Debug)]
pub(crate) struct RemoveArgs {
    /// All artifacts
    #[arg(long, short = 'a')]
    all: bool,
    /// Say nothing about those that do not exist
    #[arg(long, short = 'i')]
    ignore: bool,
    /// Names or digests
    #[arg(value_name = "ARTIFACT")]
    artifacts: Vec<String>,
}

/// Lists artifacts.
///
/// # Errors
/// `Invalid` for a wrong template.
pub(crate) fn list(args: ListArgs) -> Result<u8> {
    let format = Format::of_list(args.format.as_deref())?;
    let all = artifacts::list(&Engine::open()?.dirs)?;
    let shown = |artifact: &Artifact| {
        if args.no_trunc { artifact.digest.to_string() } else { artifact.digest.short().to_owned() }
    };
    if args.quiet && format.is_none() {
        let digests: String = all.iter().map(|artifact| format!("{}\n", shown(artifact))).collect();
        ui::write(digests.as_bytes())?;
        return Ok(0);
    }
    let none = BTreeMap::new();
    let rows: Vec<_> = all.iter().map(|artifact| (row(artifact, shown(artifact)), &none)).collect();
    let headings = json!({
        "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "Type": "TYPE", "Size": "SIZE", "Subject": "SUBJECT",
    });
    let columns = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.Type}}\t{{.Size}}";
    let headings = Headings { texts: &headings, left_out: args.noheading };
    ui::write(table::render(&rows, format.as_ref(), columns, &headings)?.as_bytes())?;
    Ok(0)
}

fn row(artifact: &Artifact, digest: String) -> Value {
    const NONE: &str = "<none>";
    let reference = artifact.reference.as_ref();
    json!({
        "Repository": reference.map_or_else(|| NONE.to_owned(), Reference::familiar_repository),
        "Tag": reference.and_then(|name| name.tag.clone()).unwrap_or_else(|| NONE.to_owned()),
        "Digest": digest,
        "Type": if artifact.kind.is_empty() { "<damaged>" } else { &artifact.kind },
        "Size": decimal(artifact.size),
        "Subject": artifact.subject.as_ref().map(ToString::to_string).unwrap_or_default(),
    })
}

/// Shows the manifest of an artifact.
///
/// # Errors
/// `NotFound`, and `Invalid` for a wrong template.
pub(crate) fn inspect(args: InspectArgs) -> Result<u8> {
    let format = Format::of_document(args.format.as_deref())?;
    let document = artifacts::document(&Engine::open()?.dirs, &args.artifact)?;
    ui::write(super::inspect::render(&[document], format.as_ref())?.as_bytes())?;
    Ok(0)
}

/// Removes artifacts and prints their digests.
///
/// # Errors
/// `Invalid` where none is named.
pub(crate) fn remove(args: RemoveArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let in_use = || engine.images_in_use();
    let remove = |which: Which<'_>| {
        let digests = artifacts::remove(&engine.dirs, which, &in_use)?;
        digests.iter().try_for_each(|digest| ui::line(&digest.to_string()))
    };
    match (args.all, args.artifacts.is_empty()) {
        (true, false) => Err(Error::invalid("--all goes with no names")),
        (false, true) => Err(nothing_named("artifact rm")),
        (true, true) => remove(Which::All).map(|()| 0),
        (false, false) => each(&args.artifacts, |name| match remove(Which::Named(name)) {
            Err(error) if args.ignore && error.kind() == Kind::NotFound => Ok(()),
            result => result,
        }),
    }
}
