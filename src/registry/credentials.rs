//! Stored credentials: where they are looked for, and how a login keeps them.
//!
//! Source: containers-auth.json(5); docker's `config.json`; the protocol of
//! docker-credential-helpers.

use super::auth_file::AuthFile;
use crate::error::{Error, Result};
use std::fmt;
use std::path::PathBuf;

/// A user and what proves it. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) secret: Secret,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    Password(String),
    /// What a token server gives instead of a password: oauth.md, "refresh_token".
    IdentityToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl Credentials {
    pub(crate) fn password(user: &str, password: &str) -> Self {
        Self { user: user.to_owned(), secret: Secret::Password(password.to_owned()) }
    }
}

/// What the user has for registries. Nothing is read before a registry asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wallet {
    /// `--creds`: for the registry of the command.
    pub(crate) given: Option<Credentials>,
    /// In the order in which they are asked.
    pub(crate) files: Vec<PathBuf>,
}

impl Wallet {
    /// For a repository, `host[:port]/path`: what was given, else what is stored.
    pub(crate) fn find(&self, repository: &str) -> Result<Option<Credentials>> {
        match &self.given {
            Some(given) => Ok(Some(given.clone())),
            None => self.find_stored(repository),
        }
    }

    /// The first file's that has some for `repository`.
    ///
    /// # Errors
    /// `Invalid` where a file is broken, `Failed` where a helper is.
    pub(crate) fn find_stored(&self, repository: &str) -> Result<Option<Credentials>> {
        for path in &self.files {
            if let Some(found) = AuthFile::read(path)?.find(repository)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// What a login is for: a registry, or a namespace or repository in it.
///
/// # Errors
/// `Invalid` for what cannot be a key: a tag, a digest, other schemes.
pub(crate) fn login_key(text: &str) -> Result<String> {
    let invalid = || {
        Error::invalid(format!("{text:?} is not a registry"))
            .hint("write it as host[:port], or host[:port]/namespace for a part of it")
    };
    let plain = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let plain = plain.trim_end_matches('/');
    if matches!(plain, "index.docker.io/v1" | "index.docker.io" | "registry-1.docker.io") {
        return Ok("docker.io".to_owned());
    }
    let (host, path) = plain.split_once('/').map_or((plain, ""), |(host, path)| (host, path));
    // Parsed as a name is: what follows becomes part of a URL and of a file.
    let name = format!("{host}/{}", if path.is_empty() { "x" } else { path });
    let reference = crate::types::reference::Reference::parse(&name).map_err(|_| invalid())?;
    let tagged = reference.digest.is_some() || name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let same_host = reference.domain == host || host.is_empty();
    if tagged || !same_host || host.is_empty() {
        return Err(invalid());
    }
    Ok(plain.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_for_a_registry_or_a_part_of_one() {
        let key = |text: &str| login_key(text).ok();
        assert_eq!(key("quay.io").as_deref(), Some("quay.io"));
        assert_eq!(key("https://quay.io/").as_deref(), Some("quay.io"));
        assert_eq!(key("localhost:5000/team").as_deref(), Some("localhost:5000/team"));
        assert_eq!(key("https://index.docker.io/v1/").as_deref(), Some("docker.io"));
        assert_eq!(key("quay.io/team/app").as_deref(), Some("quay.io/team/app"));
        for bad in
            ["", "quay.io/team:tag", "team/app", "quay.io/../x", "a b", "ftp://x.y", "quay.io/UP", "/x"]
        {
            assert_eq!(key(bad), None, "{bad}");
        }
    }
}
