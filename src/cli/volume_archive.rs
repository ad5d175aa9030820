//! `coracle volume export` and `import`.

use super::ui;
use crate::engine::Engine;
use crate::error::{Context, Error, Result};
use clap::Args;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// Write to a file instead of stdout
    #[arg(long, short = 'o', value_name = "FILE")]
    output: Option<PathBuf>,
    /// Its name
    #[arg(value_name = "VOLUME", required = true)]
    volume: String,
}

#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// Its name
    #[arg(value_name = "VOLUME", required = true)]
    volume: String,
    /// The archive, compressed or not; - for stdin
    #[arg(value_name = "FILE|-", required = true)]
    file: String,
}

/// Writes what is in a volume as a tar archive.
///
/// # Errors
/// `NotFound` for an unknown volume.
pub(crate) fn export(args: ExportArgs) -> Result<u8> {
    let engine = Engine::open()?;
    match args.output {
        Some(path) => engine.export_volume_to(&args.volume, &path)?,
        None if std::io::stdout().is_terminal() => {
            return Err(
                Error::invalid("cannot export to a terminal").hint("name a file with -o, or redirect stdout")
            );
        }
        None => {
            let mut out = std::io::BufWriter::with_capacity(1 << 16, ui::Stdout);
            engine.export_volume(&args.volume, &mut out)?;
            out.flush().context(|| "write to stdout")?;
        }
    }
    Ok(0)
}

/// Puts what is in a tar archive into a volume.
///
/// # Errors
/// `NotFound` for an unknown volume, `Invalid` for what is no archive.
pub(crate) fn import(args: ImportArgs) -> Result<u8> {
    let engine = Engine::open()?;
    if args.file == "-" {
        if std::io::stdin().is_terminal() {
            return Err(Error::invalid("the archive is to come from stdin, which is a terminal")
                .hint("pipe it in, or name a file"));
        }
        engine.import_volume(&args.volume, &mut std::io::stdin().lock())?;
    } else {
        let mut file =
            std::fs::File::open(&args.file).context(|| format!("open the archive {}", args.file))?;
        engine.import_volume(&args.volume, &mut file)?;
    }
    Ok(0)
}
