//! `coracle registry serve`.

use super::command::{Entry, command};
use super::ui;
use crate::engine::Engine;
use crate::engine::serve::{Listen, ServeOptions, Server};
use crate::error::{Error, Result};
use clap::Args;
use std::path::PathBuf;

pub(crate) static REGISTRY: &[Entry] = &[command!(
    "serve",
    &[],
    "Give the local images to others: a registry on loopback or a Unix socket",
    "[OPTIONS]",
    ServeArgs,
    serve
)];

#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// Users who may come in: lines as `htpasswd -B` writes them
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
    /// IP:PORT, :PORT or unix:PATH
    #[arg(long, short = 'l', value_name = "ADDRESS", default_value = "127.0.0.1:5000")]
    listen: String,
    /// Certificate chain, as PEM
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Key of the certificate, as PEM
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Let images be pushed as well
    #[arg(long)]
    writable: bool,
}

/// Serves until it is ended.
///
/// # Errors
/// Where the address is taken, and for files that cannot be used.
pub(crate) fn serve(args: ServeArgs) -> Result<u8> {
    if args.tls_cert.is_some() != args.tls_key.is_some() {
        return Err(Error::usage("--tls-cert and --tls-key go together"));
    }
    let options = ServeOptions {
        listen: Listen::parse(&args.listen)?,
        writable: args.writable,
        tls: args.tls_cert.zip(args.tls_key),
        htpasswd: args.htpasswd,
    };
    let server = Server::bind(&Engine::open()?.dirs, &options)?;
    if let Some(warning) = server.warning() {
        ui::warning(&warning);
    }
    ui::line(&format!("Serving the local images at {}", server.address()?))?;
    server.run()?;
    Ok(0)
}
