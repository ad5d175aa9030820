//! `pull`, `load`, `save`, `import`.

use super::command::{Entry, command};
use super::ui;
use crate::engine::Engine;
use crate::engine::import::{ImportOptions, import as import_image};
use crate::engine::load::{LoadSource, load as load_images};
use crate::engine::pull::{PullOptions, pull as pull_image};
use crate::engine::save::{SaveFormat, SaveTarget, save as save_images};
use crate::error::{Context, Error, Result};
use crate::registry::auth::Credentials;
use crate::types::boolean;
use crate::types::platform::Platform;
use crate::types::reference::Reference;
use clap::Args;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

pub(crate) const PULL: Entry = command!(
    "pull",
    &[],
    "Get images from a registry",
    "[OPTIONS] NAME[:TAG|@DIGEST] [NAME...]",
    PullArgs,
    pull
);

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
pub(crate) struct PullArgs {
    /// Say nothing but the name
    #[arg(long, short = 'q')]
    quiet: bool,
    /// For this platform instead of the machine's
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Check the registry's certificate; false allows plain http as well
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    tls_verify: Option<String>,
    /// User and password for the registry
    #[arg(long, value_name = "USER:PASSWORD")]
    creds: Option<String>,
    /// File with credentials
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Names
    #[arg(value_name = "NAME[:TAG|@DIGEST]", required = true)]
    names: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct LoadArgs {
    /// File or OCI layout directory instead of stdin
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
    /// docker-archive, oci-archive or oci-dir
    #[arg(long, value_name = "FORMAT", default_value = "docker-archive")]
    format: String,
    /// File or directory instead of stdout
    #[arg(long, short = 'o', value_name = "PATH")]
    output: Option<PathBuf>,
    /// Say nothing
    #[arg(long, short = 'q')]
    quiet: bool,
    /// Accepted: several images are always allowed
    #[arg(long, short = 'm', hide = true)]
    multi_image_archive: bool,
    /// Names or ids
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// Apply an instruction: CMD, ENTRYPOINT, ENV, USER, WORKDIR, LABEL, EXPOSE, VOLUME, STOPSIGNAL, ONBUILD
    #[arg(long, short = 'c', value_name = "INSTRUCTION")]
    change: Vec<String>,
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

/// Pulls images.
///
/// # Errors
/// The first failure; the images before it are here.
pub(crate) fn pull(args: PullArgs) -> Result<u8> {
    let options = PullOptions {
        platform: platform(args.platform.as_deref())?,
        tls_verify: args
            .tls_verify
            .as_deref()
            .map(|value| boolean::parse("--tls-verify", value))
            .transpose()?,
        credentials: args.creds.as_deref().map(credentials).transpose()?,
        auth_file: args.authfile.clone(),
    };
    let engine = Engine::open()?;
    let ownership = ownership(&engine)?;
    for name in &args.names {
        let mut tell = |line: &str| {
            if !args.quiet {
                ui::note(line);
            }
        };
        let image = pull_image(&engine.dirs, name, &options, ownership, &mut tell)?;
        ui::line(&image.name())?;
    }
    Ok(0)
}

/// Loads the images of an archive.
///
/// # Errors
/// `Invalid` where stdin is a terminal or the archive is none.
pub(crate) fn load(args: LoadArgs) -> Result<u8> {
    if args.input.is_none() && std::io::stdin().is_terminal() {
        return Err(Error::invalid("stdin is a terminal").hint("name a file with -i, or use a pipe"));
    }
    let platform = platform(args.platform.as_deref())?;
    let engine = Engine::open()?;
    let ownership = ownership(&engine)?;
    let mut stdin = std::io::stdin().lock();
    let source = match args.input.as_deref() {
        Some(path) if path != Path::new("-") => LoadSource::Path(path),
        _ => LoadSource::Stream(&mut stdin),
    };
    for loaded in load_images(&engine.dirs, source, platform.as_ref(), ownership)? {
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
    let format = SaveFormat::parse(&args.format)?;
    let engine = Engine::open()?;
    match &args.output {
        Some(path) => save_images(&engine.dirs, &args.images, format, SaveTarget::Path(path))?,
        None if std::io::stdout().is_terminal() => {
            return Err(
                Error::invalid("an archive is not for a terminal").hint("name a file with -o, or use a pipe")
            );
        }
        None => {
            let mut stdout = std::io::BufWriter::with_capacity(256 << 10, std::io::stdout().lock());
            save_images(&engine.dirs, &args.images, format, SaveTarget::Stream(&mut stdout))?;
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
        reference: args.name.as_deref().map(Reference::parse).transpose()?,
        changes: args.change,
        message: args.message,
        platform: platform(args.platform.as_deref())?,
    };
    if args.file == "-" && std::io::stdin().is_terminal() {
        return Err(Error::invalid("stdin is a terminal").hint("name a file, or use a pipe"));
    }
    let engine = Engine::open()?;
    // Opened first: what the user can read now may not be readable in the namespace.
    let mut stream: Box<dyn std::io::Read> = if args.file == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(&args.file).context(|| format!("open {}", args.file))?)
    };
    let ownership = ownership(&engine)?;
    let image = import_image(&engine.dirs, &mut *stream, &options, ownership)?;
    ui::line(&image.id.to_string())?;
    Ok(0)
}

/// Enters the user's namespace, and says what is limited there.
fn ownership(engine: &Engine) -> Result<crate::storage::unpack::Ownership> {
    let ownership = engine.ownership()?;
    if let Some(limits) = engine.limits() {
        ui::warning(&limits);
    }
    Ok(ownership)
}

fn platform(text: Option<&str>) -> Result<Option<Platform>> {
    text.map(Platform::parse).transpose()
}

fn credentials(text: &str) -> Result<Credentials> {
    // The text is not shown: it has a password.
    let (user, password) = text
        .split_once(':')
        .filter(|(user, _)| !user.is_empty())
        .ok_or_else(|| Error::invalid("--creds is not USER:PASSWORD"))?;
    Ok(Credentials { user: user.to_owned(), password: password.to_owned() })
}
