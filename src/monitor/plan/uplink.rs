//! Which way out of its network namespace a container gets.

use crate::error::Result;
use crate::network::uplink::Chosen;
use crate::types::namespace::NetworkMode;
use crate::types::uplink::{PastaOptions, Preference, SlirpOptions, Wish};

/// The way out for `network`; `None` where there is none, with a warning where
/// one was to be expected.
///
/// # Errors
/// Where what was asked for by name cannot be had.
pub(super) fn choose(
    network: &NetworkMode,
    preference: Preference,
    warnings: &mut Vec<String>,
) -> Result<Option<Chosen>> {
    let wish = match network {
        NetworkMode::Default => Wish::Any,
        NetworkMode::Slirp { options } => Wish::Slirp(SlirpOptions::parse("slirp4netns", options)?),
        NetworkMode::Pasta { options } => Wish::Pasta(PastaOptions::parse(options)?),
        NetworkMode::Builtin { options } => Wish::Builtin(SlirpOptions::parse("builtin", options)?),
        NetworkMode::Bridge
        | NetworkMode::None
        | NetworkMode::Host
        | NetworkMode::Container(_)
        | NetworkMode::Path(_) => {
            return Ok(None);
        }
    };
    match Chosen::of(&wish, preference) {
        Ok(chosen) => Ok(Some(chosen)),
        Err(error) if wish == Wish::Any && preference == Preference::Auto => {
            warnings.push(format!("the container has no network but loopback: {}", error.in_a_line()));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
