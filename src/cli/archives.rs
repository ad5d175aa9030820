//! `load`, `save`, `import`.

use super::command::{Entry, command};
use super::pull::{ownership, platform};
use super::ui;
use crate::engine::Engine;
use crate::engine::import::{ImportOptions, import as import_image};
use crate::engine::load::{LoadSource, LoadedImage, Wanted, load as load_images, load_place};
use crate::engine::save::{SaveFormat, SaveOptions, SaveTarget, save as save_images};
use crate::error::{Context, Error, Result};
use crate::image::archive_write::Layers;
use crate::types::platform::Platform;
use crate::types::reference::Reference;
use crate::types::transport::Place;
use clap::Args;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

pub(crate) const SAVE: Entry =
    command!("save", &[], "Save images to an archive", "[OPTIONS] IMAGE [IMAGE...]", SaveArgs, save);

pub(crate) const LOAD: Entry =
    command!("load", &[], "Load the images of an archive", "[OPTIONS]", LoadArgs, load);

pub(crate) const IMPORT: Entry = command!(
    "import",
    &[],
    "Make an image of a file system's tar",
    "[OPTIONS] FILE|- [NAME[:TAG]]",
    ImportArgs,
    import
);

#[derive(Args, Debug)]
pub(crate) struct LoadArgs {
    /// File or directory instead of stdin; or a place: oci-archive:FILE:NAME
    #[arg(long, short = 'i', value_name = "PATH")]
    input: Option<PathBuf>,
    /// Of an index, this platform instead of the machine's
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Print nothing but the names
    #[arg(long, short = 'q')]
    quiet: bool,
}

#[derive(Args, Debug)]
pub(crate) struct SaveArgs {
    /// Give layers without compression gzip; with docker-dir alone
    #[arg(long)]
    compress: bool,
    /// docker-archive, oci-archive, oci-dir or docker-dir
    #[arg(long, value_name = "FORMAT", default_value = "docker-archive")]
    format: String,
    /// File or directory instead of stdout
    #[arg(long, short = 'o', value_name = "PATH")]
    output: Option<PathBuf>,
    /// The images must be for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Say nothing
    #[arg(long, short = 'q')]
    quiet: bool,
    /// Unpack the layers of an OCI form; docker-archive has them so in any case
    #[arg(long, conflicts_with = "compress")]
    uncompressed: bool,
    /// Accepted: several images are always allowed
    #[arg(long, short = 'm', hide = true)]
    multi_image_archive: bool,
    /// Names, or ids (without a name in the archive); a name without a tag is all its tags
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// Apply an instruction: CMD, ENTRYPOINT, ENV, USER, WORKDIR, LABEL, EXPOSE, VOLUME, STOPSIGNAL, ONBUILD
    #[arg(long, short = 'c', value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Architecture of the image instead of the machine's
    #[arg(long, value_name = "ARCH", conflicts_with = "platform")]
    arch: Option<String>,
    /// Operating system of the image
    #[arg(long, value_name = "OS", conflicts_with = "platform")]
    os: Option<String>,
    /// Variant of the architecture
    #[arg(long, value_name = "VARIANT", conflicts_with = "platform")]
    variant: Option<String>,
    /// A comment for the history
    #[arg(long, short = 'm', value_name = "TEXT")]
    message: Option<String>,
    /// The image's platform instead of the machine's
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Accepted: there is no progress to hide
    #[arg(long, short = 'q', hide = true)]
    quiet: bool,
    /// Tar of a file system; - for stdin
    #[arg(value_name = "FILE|-", required = true)]
    file: String,
    /// Name of the image
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,
}

/// Loads the images of an archive.
///
/// # Errors
/// `Invalid` where stdin is a terminal or the archive is none.
pub(crate) fn load(args: LoadArgs) -> Result<u8> {
    if args.input.is_none() && std::io::stdin().is_terminal() {
        return Err(Error::invalid("stdin is a terminal").hint("name a file with -i, or use a pipe"));
    }
    if let Some(address) = args.input.as_deref().and_then(Path::to_str).filter(|path| is_address(path)) {
        return Err(Error::invalid(format!("load -i {address}: archives are not fetched"))
            .hint(format!("fetch it first: curl -L {address} | coracle load")));
    }
    let platform = platform(args.platform.as_deref())?;
    let engine = Engine::open()?;
    let ownership = ownership(&engine)?;
    if let Some(Place::Local(place)) = args.input.as_deref().and_then(place_of) {
        let image = load_place(&engine.dirs, &place, platform.as_ref(), ownership)?;
        return tell_loaded(&[LoadedImage { names: image.reference.clone().into_iter().collect(), image }]);
    }
    let wanted = Wanted { platform: platform.as_ref(), ..Wanted::default() };
    let mut stdin = std::io::stdin().lock();
    let source = match args.input.as_deref() {
        Some(path) if path != Path::new("-") => LoadSource::Path(path),
        _ => LoadSource::Stream(&mut stdin),
    };
    tell_loaded(&load_images(&engine.dirs, source, wanted, ownership)?)
}

/// What podman's `load` would fetch.
fn is_address(text: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme)) && !Path::new(text).exists()
}

/// `-i oci-archive:FILE:NAME`, where there is no file of that name.
fn place_of(path: &Path) -> Option<Place> {
    if path.exists() { None } else { Place::parse(path.to_str()?).ok() }
}

/// Docker's words.
fn tell_loaded(loaded: &[LoadedImage]) -> Result<u8> {
    for loaded in loaded {
        if loaded.names.is_empty() {
            ui::line(&format!("Loaded image ID: {}", loaded.image.id))?;
        }
        for name in &loaded.names {
            ui::line(&format!("Loaded image: {}", name.familiar()))?;
        }
    }
    Ok(0)
}

/// Saves images to an archive.
///
/// # Errors
/// `NotFound`; `Invalid` where stdout is a terminal.
pub(crate) fn save(args: SaveArgs) -> Result<u8> {
    let options = SaveOptions {
        format: SaveFormat::parse(&args.format)?,
        layers: match (args.compress, args.uncompressed) {
            (true, _) => Layers::Compressed,
            (_, true) => Layers::Plain,
            _ => Layers::AsTheyAre,
        },
        platform: platform(args.platform.as_deref())?,
    };
    let engine = Engine::open()?;
    match args.output.as_deref().filter(|path| *path != Path::new("-")) {
        Some(path) => save_images(&engine.dirs, &args.images, &options, SaveTarget::Path(path))?,
        None if std::io::stdout().is_terminal() => {
            return Err(
                Error::invalid("an archive is not for a terminal").hint("name a file with -o, or use a pipe")
            );
        }
        None => {
            let mut stdout = std::io::BufWriter::with_capacity(256 << 10, std::io::stdout().lock());
            save_images(&engine.dirs, &args.images, &options, SaveTarget::Stream(&mut stdout))?;
        }
    }
    Ok(0)
}

/// Makes an image of a file system's tar.
///
/// # Errors
/// `Invalid` for a change or a file that cannot be used.
pub(crate) fn import(args: ImportArgs) -> Result<u8> {
    let options = ImportOptions {
        reference: args.name.as_deref().map(Reference::to_give).transpose()?,
        changes: args.change.clone(),
        message: args.message.clone(),
        platform: args.platform()?,
    };
    if args.file == "-" && std::io::stdin().is_terminal() {
        return Err(Error::invalid("stdin is a terminal").hint("name a file, or use a pipe"));
    }
    let engine = Engine::open()?;
    // Opened first: what the user can read now may not be readable in the namespace.
    let mut stream: Box<dyn std::io::Read> =
        if args.file == "-" { Box::new(std::io::stdin().lock()) } else { Box::new(open_tar(&args.file)?) };
    let ownership = ownership(&engine)?;
    let image = import_image(&engine.dirs, &mut *stream, &options, ownership)?;
    ui::line(&image.id.to_string())?;
    Ok(0)
}

fn open_tar(file: &str) -> Result<std::fs::File> {
    std::fs::File::open(file).context(|| format!("open {file}")).map_err(|error| {
        if !file.contains("://") {
            return error;
        }
        error.hint(format!("fetch it first: curl -L {file} | coracle import -"))
    })
}

impl ImportArgs {
    /// `--platform`, or what of it is given by itself.
    fn platform(&self) -> Result<Option<Platform>> {
        if self.arch.is_none() && self.os.is_none() && self.variant.is_none() {
            return platform(self.platform.as_deref());
        }
        let host = Platform::host();
        let os = self.os.clone().unwrap_or(host.os);
        let architecture = self.arch.clone().unwrap_or(host.architecture);
        let variant = self.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
        platform(Some(&format!("{os}/{architecture}{variant}")))
    }
}
