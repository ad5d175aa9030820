//! `push`.

use super::command::{Entry, command};
use super::progress;
use super::registry_options::{RegistryArgs, TrustArgs};
use super::ui;
use crate::engine::Engine;
use crate::engine::push::{Compress, Conversion, Form, PushOptions, Pushed, push as push_image, tags_of};
use crate::error::{Context, Error, Result};
use crate::types::platform::Platform;
use clap::Args;
use std::path::{Path, PathBuf};

pub(crate) const PUSH: Entry = command!(
    "push",
    &[],
    "Put an image into a registry",
    "[OPTIONS] IMAGE[:TAG] [DESTINATION]",
    PushArgs,
    push
);

#[derive(Args, Debug)]
pub(crate) struct PushArgs {
    /// All names of the repository that are here
    #[arg(long, short = 'a')]
    all_tags: bool,
    /// Of an image index, this platform's image alone
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    #[command(flatten)]
    form: FormArgs,
    /// Write the digest of what was pushed to a file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    /// Print nothing but the name
    #[arg(long, short = 'q')]
    quiet: bool,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    trust: TrustArgs,
    /// Name or id
    #[arg(value_name = "IMAGE", required = true)]
    image: String,
    /// Where to, if not as the image is called: REGISTRY/NAME:TAG, with docker:// or without
    #[arg(value_name = "DESTINATION")]
    destination: Option<String>,
}

/// In which form manifests and layers go up.
#[derive(Args, Debug)]
pub(super) struct FormArgs {
    /// Manifests as oci or v2s2 (docker's schema 2) instead of what they are
    #[arg(long, short = 'f', value_name = "FORMAT")]
    format: Option<String>,
    /// Layers as gzip or zstd instead of what they are
    #[arg(long, value_name = "FORMAT")]
    compression_format: Option<String>,
    /// Compress all layers anew: 1 to 9 for gzip, to 20 for zstd
    #[arg(long, value_name = "LEVEL")]
    compression_level: Option<String>,
    /// Compress also the layers that have the format already
    #[arg(long)]
    force_compression: bool,
}

/// Pushes an image.
///
/// # Errors
/// `NotFound` where it is not here; what the registry says.
pub(crate) fn push(args: PushArgs) -> Result<u8> {
    args.trust.tell()?;
    let options = PushOptions {
        registry: args.registry.options()?,
        conversion: args.form.conversion()?,
        platform: args.platform.as_deref().map(Platform::parse).transpose()?,
    };
    let engine = Engine::open()?;
    let images = match (args.all_tags, &args.destination, &args.digestfile) {
        (true, None, None) => tags_of(&engine.dirs, &args.image)?,
        (true, Some(_), _) => {
            return Err(Error::invalid("--all-tags pushes names as they are: it takes no destination"));
        }
        (true, None, Some(_)) => {
            return Err(Error::invalid("--digestfile is for one image: it does not go with --all-tags"));
        }
        (false, ..) => vec![args.image.clone()],
    };
    for image in &images {
        let mut tell = progress::on_stdout(args.quiet);
        let pushed = push_image(&engine.dirs, image, args.destination.as_deref(), &options, &mut tell)?;
        drop(tell);
        write_digest(&pushed, args.digestfile.as_deref())?;
        tell_pushed(&pushed, args.quiet)?;
    }
    Ok(0)
}

/// `--digestfile`
pub(super) fn write_digest(pushed: &Pushed, file: Option<&Path>) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    std::fs::write(file, pushed.digest.to_string()).context(|| format!("write {}", file.display()))
}

/// What stands on stdout after a push.
pub(super) fn tell_pushed(pushed: &Pushed, quiet: bool) -> Result<()> {
    if quiet {
        return ui::line(&pushed.reference.to_string());
    }
    let name = pushed.reference.manifest_name();
    ui::line(&format!("{name}: digest: {} size: {}", pushed.digest, pushed.size))
}

impl FormArgs {
    /// # Errors
    /// `Invalid` for other formats and levels.
    pub(super) fn conversion(&self) -> Result<Conversion> {
        let form = match self.format.as_deref() {
            None => None,
            Some("oci") => Some(Form::Oci),
            Some("v2s2" | "docker") => Some(Form::Docker),
            Some("v2s1") => {
                return Err(Error::invalid("schema 1 is obsolete: registries no longer take it")
                    .hint("formats are oci and v2s2"));
            }
            Some(other) => {
                return Err(Error::invalid(format!("unknown manifest format {other:?}"))
                    .hint("formats are oci and v2s2"));
            }
        };
        let compress = match self.compression_format.as_deref() {
            None => None,
            Some("gzip") => Some(Compress::Gzip),
            Some("zstd") => Some(Compress::Zstd),
            Some(other) => {
                return Err(Error::invalid(format!("unknown compression format {other:?}"))
                    .hint("formats are gzip and zstd"));
            }
        };
        let level = self.compression_level.as_deref().map(|level| {
            level
                .parse()
                .map_err(|_| Error::invalid(format!("invalid value {level:?} of --compression-level")))
        });
        let conversion =
            Conversion { form, compress, level: level.transpose()?, force: self.force_compression };
        conversion.check()?;
        Ok(conversion)
    }
}
