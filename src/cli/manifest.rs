//! `coracle manifest …`: lists of images for several platforms.

use super::command::{Entry, command};
use super::progress;
use super::pull::ownership;
use super::push;
use super::registry_options::RegistryArgs;
use super::ui;
use crate::engine::Engine;
use crate::engine::list_inspect::{self, Detail};
use crate::engine::lists::{self, Existing, Said};
use crate::engine::push::{PushOptions, push as push_image};
use crate::engine::rmi;
use crate::error::{Context, Error, Kind, Result};
use clap::Args;
use std::collections::BTreeMap;
use std::path::PathBuf;

pub(crate) static MANIFEST: &[Entry] = &[
    command!(
        "create",
        &[],
        "Make a list, of images if any are named",
        "[OPTIONS] LIST [IMAGE...]",
        CreateArgs,
        create
    ),
    command!("add", &[], "Add images to a list", "[OPTIONS] LIST IMAGE [IMAGE...]", AddArgs, add),
    command!(
        "annotate",
        &[],
        "Say more about an image in a list",
        "[OPTIONS] LIST IMAGE|DIGEST",
        AnnotateArgs,
        annotate
    ),
    command!(
        "inspect",
        &[],
        "Show a list that is here, or what a registry has",
        "[OPTIONS] NAME[:TAG|@DIGEST]",
        InspectArgs,
        inspect
    ),
    command!("exists", &[], "Tell by the exit code whether a list is here", "LIST", NameArgs, exists),
    command!(
        "push",
        &[],
        "Put a list and its images into a registry",
        "[OPTIONS] LIST [DESTINATION]",
        PushArgs,
        push
    ),
    command!("remove", &[], "Take an image out of a list", "LIST IMAGE|DIGEST", RemoveArgs, remove),
    command!("rm", &[], "Remove lists", "[OPTIONS] LIST [LIST...]", RmArgs, rm),
];

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Add to the list where there is one of this name
    #[arg(long, short = 'a')]
    amend: bool,
    /// Annotate the list
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    /// Name of the list
    #[arg(value_name = "LIST", required = true)]
    list: String,
    /// Names or ids
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    said: SaidArgs,
    /// Name of the list, or its id
    #[arg(value_name = "LIST", required = true)]
    list: String,
    /// Names or ids; what is not here is pulled
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct AnnotateArgs {
    #[command(flatten)]
    said: SaidArgs,
    /// Annotate the list itself
    #[arg(long, conflicts_with_all = ["image", "arch", "os", "variant"])]
    index: bool,
    /// Name of the list, or its id
    #[arg(value_name = "LIST", required = true)]
    list: String,
    /// Name, id or digest
    #[arg(value_name = "IMAGE|DIGEST", required_unless_present = "index")]
    image: Option<String>,
}

/// What is said of an image over what it says itself.
#[derive(Args, Debug)]
pub(crate) struct SaidArgs {
    /// Annotate the image
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    /// Its architecture
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
    /// Its operating system
    #[arg(long, value_name = "OS")]
    os: Option<String>,
    /// Variant of the architecture
    #[arg(long, value_name = "VARIANT")]
    variant: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// Show each manifest with its descriptor
    #[arg(long, short = 'v')]
    verbose: bool,
    /// Do not check the registry's certificate, and allow plain http
    #[arg(long, conflicts_with = "tls_verify")]
    insecure: bool,
    #[command(flatten)]
    registry: RegistryArgs,
    /// Name of a list, or of what is in a registry
    #[arg(value_name = "NAME[:TAG|@DIGEST]", required = true)]
    name: String,
}

#[derive(Args, Debug)]
pub(crate) struct NameArgs {
    /// Name of the list, or its id
    #[arg(value_name = "LIST", required = true)]
    list: String,
}

#[derive(Args, Debug)]
pub(crate) struct PushArgs {
    /// With all its images: always so, as the list would name what is not there
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    form: push::FormArgs,
    /// Write the digest of what was pushed to a file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    /// Remove the list here once it is there
    #[arg(long, short = 'p', alias = "rm")]
    purge: bool,
    /// Print nothing but the name
    #[arg(long, short = 'q')]
    quiet: bool,
    #[command(flatten)]
    registry: RegistryArgs,
    /// Name of the list, or its id
    #[arg(value_name = "LIST", required = true)]
    list: String,
    /// Where to, if not as the list is called: REGISTRY/NAME:TAG, with docker:// or without
    #[arg(value_name = "DESTINATION")]
    destination: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct RemoveArgs {
    /// Name of the list, or its id
    #[arg(value_name = "LIST", required = true)]
    list: String,
    /// Name, id or digest
    #[arg(value_name = "IMAGE|DIGEST", required = true)]
    image: String,
}

#[derive(Args, Debug)]
pub(crate) struct RmArgs {
    /// Say nothing of a list that is not there
    #[arg(long, short = 'i')]
    ignore: bool,
    /// Names or ids of lists
    #[arg(value_name = "LIST", required = true)]
    lists: Vec<String>,
}

/// Makes a list and prints its digest.
pub(crate) fn create(args: CreateArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let ownership = ownership(&engine)?;
    let existing = if args.amend { Existing::Amend } else { Existing::Refuse };
    let annotations = annotations(&args.annotation)?;
    let digest = lists::create(&engine.dirs, &args.list, annotations, existing, &args.images, ownership)?;
    ui::line(&digest.to_string())?;
    Ok(0)
}

/// Adds images and prints the list's new digest.
pub(crate) fn add(args: AddArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let ownership = ownership(&engine)?;
    let said = args.said.parsed()?;
    let mut digest = None;
    for image in &args.images {
        digest = Some(lists::add(&engine.dirs, &args.list, image, &said, ownership)?);
    }
    digest.map_or(Ok(()), |digest| ui::line(&digest.to_string()))?;
    Ok(0)
}

/// Annotates and prints the list's new digest.
pub(crate) fn annotate(args: AnnotateArgs) -> Result<u8> {
    let dirs = Engine::open()?.dirs.clone();
    let digest = match &args.image {
        Some(image) if !args.index => lists::annotate(&dirs, &args.list, image, &args.said.parsed()?)?,
        _ => lists::annotate_list(&dirs, &args.list, annotations(&args.said.annotation)?)?,
    };
    ui::line(&digest.to_string())?;
    Ok(0)
}

/// Prints a list as it is written.
///
/// # Errors
/// `NotFound` where it is neither here nor there; what the registry says.
pub(crate) fn inspect(args: InspectArgs) -> Result<u8> {
    let mut options = args.registry.options()?;
    if args.insecure {
        options.tls_verify = Some(false);
    }
    let detail = if args.verbose { Detail::Each } else { Detail::Document };
    let document = list_inspect::inspect(&Engine::open()?.dirs, &args.name, &options, detail)?;
    ui::line(&serde_json::to_string_pretty(&document).context(|| "write the list")?)?;
    Ok(0)
}

/// Exit code 0 where the list is here, 1 where it is not.
pub(crate) fn exists(args: NameArgs) -> Result<u8> {
    Ok(u8::from(!lists::exists(&Engine::open()?.dirs, &args.list)?))
}

/// Pushes a list and all that it names.
///
/// # Errors
/// `NotFound` where there is no such list; what the registry says.
pub(crate) fn push(args: PushArgs) -> Result<u8> {
    let options = PushOptions {
        registry: args.registry.options()?,
        conversion: args.form.conversion()?,
        ..PushOptions::default()
    };
    let engine = Engine::open()?;
    let list = lists::name_of(&engine.dirs, &args.list)?;
    let mut tell = progress::on_stderr(args.quiet);
    let pushed = push_image(&engine.dirs, &list, args.destination.as_deref(), &options, &mut tell)?;
    drop(tell);
    push::write_digest(&pushed, args.digestfile.as_deref())?;
    if args.purge {
        engine.enter()?;
        rmi::remove(&engine.dirs, &list, false, &|| engine.images_in_use(), &mut Vec::new())?;
    }
    push::tell_pushed(&pushed, args.quiet)?;
    Ok(0)
}

/// Takes an image out of a list and prints the list's new digest.
pub(crate) fn remove(args: RemoveArgs) -> Result<u8> {
    let digest = lists::remove(&Engine::open()?.dirs, &args.list, &args.image)?;
    ui::line(&digest.to_string())?;
    Ok(0)
}

/// Removes lists; the images in them stay where they have names.
pub(crate) fn rm(args: RmArgs) -> Result<u8> {
    let engine = Engine::open()?;
    engine.enter()?;
    let mut notes = Vec::new();
    for list in &args.lists {
        let list = match lists::name_of(&engine.dirs, list) {
            Err(error) if error.kind() == Kind::NotFound && args.ignore => continue,
            list => list?,
        };
        for line in rmi::remove(&engine.dirs, &list, false, &|| engine.images_in_use(), &mut notes)? {
            ui::line(&line.to_string())?;
        }
    }
    for note in &notes {
        ui::warning(&note.to_string());
    }
    Ok(0)
}

impl SaidArgs {
    fn parsed(&self) -> Result<Said> {
        Ok(Said {
            os: self.os.clone(),
            architecture: self.arch.clone(),
            variant: self.variant.clone(),
            annotations: annotations(&self.annotation)?,
        })
    }
}

fn annotations(texts: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |text: &String| {
        text.split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .ok_or_else(|| Error::invalid(format!("annotation {text:?} is not KEY=VALUE")))
    };
    texts.iter().map(pair).collect()
}
