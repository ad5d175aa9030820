//! `pull`.

use super::command::{Entry, command};
use super::container_options::values::parse_pull;
use super::progress;
use super::registry_options::{RegistryArgs, TrustArgs};
use super::ui;
use crate::engine::Engine;
use crate::engine::pull::{PullOptions, all_tags, by_policy};
use crate::error::{Context, Error, Result};
use crate::types::platform::Platform;
use clap::Args;

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
    /// All tags of the repositories
    #[arg(long, short = 'a')]
    all_tags: bool,
    /// Print nothing but the full names
    #[arg(long, short = 'q')]
    quiet: bool,
    /// When to ask the registry: always, missing, newer or never
    #[arg(long, value_name = "POLICY", default_value = "always")]
    policy: String,
    /// For this platform instead of the machine's
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// For this architecture instead of the machine's
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
    /// For this operating system instead of linux
    #[arg(long, value_name = "OS")]
    os: Option<String>,
    /// For this variant of the architecture
    #[arg(long, value_name = "VARIANT")]
    variant: Option<String>,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    trust: TrustArgs,
    /// Names, or places: docker://NAME, oci:DIR, oci-archive:FILE, docker-archive:FILE (each with :NAME or without), dir:DIR
    #[arg(value_name = "NAME[:TAG|@DIGEST]", required = true)]
    names: Vec<String>,
}

/// Pulls images.
///
/// # Errors
/// The first failure; the images before it are here.
pub(crate) fn pull(args: PullArgs) -> Result<u8> {
    args.trust.tell()?;
    let options = PullOptions { platform: args.platform()?, registry: args.registry.options()? };
    let policy = parse_pull(&args.policy).map_err(|_| {
        Error::invalid(format!("--policy: unsupported pull policy {:?}", args.policy))
            .hint("it is always, missing, newer or never")
    })?;
    let engine = Engine::open()?;
    let ownership = ownership(&engine)?;
    for name in &args.names {
        let name = name.strip_prefix("docker://").unwrap_or(name);
        let names =
            if args.all_tags { all_tags(&engine.dirs, name, &options)? } else { vec![name.to_owned()] };
        for name in &names {
            let mut tell = progress::on_stdout(args.quiet);
            let image = by_policy(&engine.dirs, name, policy, &options, ownership, &mut tell)?;
            drop(tell);
            ui::line(&image.name())?;
        }
    }
    Ok(0)
}

impl PullArgs {
    fn platform(&self) -> Result<Option<Platform>> {
        PlatformWords {
            platform: self.platform.as_deref(),
            arch: self.arch.as_deref(),
            os: self.os.as_deref(),
            variant: self.variant.as_deref(),
        }
        .choose()
    }
}

/// The flags that say for which platform an image is to be.
pub(super) struct PlatformWords<'a> {
    pub(super) platform: Option<&'a str>,
    pub(super) arch: Option<&'a str>,
    pub(super) os: Option<&'a str>,
    pub(super) variant: Option<&'a str>,
}

impl PlatformWords<'_> {
    /// Without any of them it is docker's `DOCKER_DEFAULT_PLATFORM`.
    ///
    /// # Errors
    /// `Invalid` where one says what another says too.
    pub(super) fn choose(&self) -> Result<Option<Platform>> {
        if self.arch.is_none() && self.os.is_none() && self.variant.is_none() {
            return match self.platform {
                Some(text) => Platform::parse(text).map(Some),
                None => default_platform(),
            };
        }
        if self.platform.is_some() {
            return Err(Error::invalid(
                "--platform option can not be specified with --arch or --os, nor with --variant",
            ));
        }
        let host = Platform::host();
        let words = [self.os.unwrap_or("linux"), self.arch.unwrap_or(&host.architecture)];
        Platform::parse(&words.into_iter().chain(self.variant).collect::<Vec<_>>().join("/")).map(Some)
    }
}

/// Enters the user's namespace, and says what is limited there.
pub(super) fn ownership(engine: &Engine) -> Result<crate::storage::unpack::Ownership> {
    let ownership = engine.ownership()?;
    if let Some(limits) = engine.limits() {
        ui::warning(&limits);
    }
    Ok(ownership)
}

fn default_platform() -> Result<Option<Platform>> {
    const NAME: &str = "DOCKER_DEFAULT_PLATFORM";
    let set = std::env::var_os(NAME).filter(|value| !value.is_empty());
    set.map(|value| Platform::parse(&value.to_string_lossy())).transpose().context(|| NAME)
}

pub(super) fn platform(text: Option<&str>) -> Result<Option<Platform>> {
    text.map(Platform::parse).transpose()
}
