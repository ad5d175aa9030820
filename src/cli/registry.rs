//! `pull`.

use super::command::{Entry, command};
use super::ui;
use crate::engine::Engine;
use crate::engine::pull::{PullOptions, pull as pull_image};
use crate::error::{Error, Result};
use crate::registry::auth::Credentials;
use crate::types::boolean;
use crate::types::platform::Platform;
use clap::Args;
use std::path::PathBuf;

pub(crate) const PULL: Entry = command!(
    "pull",
    &[],
    "Get images from a registry",
    "[OPTIONS] NAME[:TAG|@DIGEST] [NAME...]",
    PullArgs,
    pull
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
    /// Names, or places: docker://NAME, oci:DIR[:NAME], oci-archive:FILE[:NAME], docker-archive:FILE[:NAME], dir:DIR
    #[arg(value_name = "NAME[:TAG|@DIGEST]", required = true)]
    names: Vec<String>,
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

/// Enters the user's namespace, and says what is limited there.
pub(super) fn ownership(engine: &Engine) -> Result<crate::storage::unpack::Ownership> {
    let ownership = engine.ownership()?;
    if let Some(limits) = engine.limits() {
        ui::warning(&limits);
    }
    Ok(ownership)
}

pub(super) fn platform(text: Option<&str>) -> Result<Option<Platform>> {
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
