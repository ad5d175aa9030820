//! The flags of all commands that speak with a registry.

use super::ui;
use crate::engine::registry_access::RegistryOptions;
use crate::error::{Error, Kind, Result};
use crate::registry::credentials::Credentials;
use crate::registry::failure::Retries;
use crate::types::boolean;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Docker's flag of the time when it checked signatures of its own.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct TrustArgs {
    /// Accepted for docker's sake, which has retired what it was about
    #[arg(
        long,
        hide = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    disable_content_trust: Option<String>,
}

impl TrustArgs {
    /// Docker's line about it.
    ///
    /// # Errors
    /// `Usage` for what is neither true nor false.
    pub(crate) fn tell(&self) -> Result<()> {
        let Some(text) = &self.disable_content_trust else { return Ok(()) };
        boolean::parse("--disable-content-trust", text).map_err(|error| error.with_kind(Kind::Usage))?;
        ui::note(
            "Flag --disable-content-trust has been deprecated, support for docker content trust was removed",
        );
        Ok(())
    }
}

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct RegistryArgs {
    /// Check the registry's certificate; false allows plain http as well
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    tls_verify: Option<String>,
    /// User and password for the registry
    #[arg(long, value_name = "USER:PASSWORD")]
    creds: Option<String>,
    /// File with credentials
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Directory of certificates for the registry: *.crt, and a client's *.cert with *.key
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,
    /// How often to try again what may succeed then (3)
    #[arg(long, value_name = "N")]
    retry: Option<String>,
    /// Time between two tries, for example 2s; a growing one unless given
    #[arg(long, value_name = "TIME")]
    retry_delay: Option<String>,
}

impl RegistryArgs {
    pub(crate) fn options(&self) -> Result<RegistryOptions> {
        let mut retries = Retries::default();
        if let Some(count) = &self.retry {
            retries.count = count.parse().map_err(|_| {
                Error::invalid(format!("invalid value {count:?} of --retry"))
                    .hint("it is a number, 0 for none")
            })?;
        }
        retries.delay = self.retry_delay.as_deref().map(delay).transpose()?;
        if let Some(path) = self.authfile.as_deref().filter(|path| !path.exists()) {
            return Err(Error::invalid(format!("--authfile {}: no such file", path.display()))
                .hint("`coracle login --authfile FILE` makes one"));
        }
        Ok(RegistryOptions {
            tls_verify: tls_verify(self.tls_verify.as_deref())?,
            credentials: self.creds.as_deref().map(credentials).transpose()?,
            auth_file: self.authfile.clone(),
            cert_dir: self.cert_dir.clone(),
            retries,
        })
    }
}

pub(crate) fn tls_verify(text: Option<&str>) -> Result<Option<bool>> {
    text.map(|value| boolean::parse("--tls-verify", value)).transpose()
}

fn delay(text: &str) -> Result<Duration> {
    let invalid = || {
        Error::invalid(format!("invalid value {text:?} of --retry-delay"))
            .hint("write it as 500ms, 2s or 1m30s")
    };
    let delay = crate::engine::logs::moment::parse_duration(text).ok_or_else(invalid)?;
    delay.try_into().map_err(|_| invalid())
}

fn credentials(text: &str) -> Result<Credentials> {
    // The text is not shown: it has a password.
    let (user, password) = text
        .split_once(':')
        .filter(|(user, _)| !user.is_empty())
        .ok_or_else(|| Error::invalid("--creds is not USER:PASSWORD"))?;
    Ok(Credentials::password(user, password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_flags_name_is_there() {
        let with =
            |authfile: &str| RegistryArgs { authfile: Some(authfile.into()), ..RegistryArgs::default() };
        let error = with("/does/not/exist").options().expect_err("none").to_string();
        assert_eq!(error, "--authfile /does/not/exist: no such file");
        assert!(with("/dev/null").options().is_ok());
    }
}
