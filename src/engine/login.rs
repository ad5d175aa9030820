//! To be known to a registry, and to be forgotten.

use super::registry_access::{RegistryOptions, Settings, login_file};
use crate::dirs::Dirs;
use crate::error::{Error, Result};
use crate::registry::auth_file::AuthFile;
use crate::registry::client::Access;
use crate::registry::credentials::{Credentials, Wallet, login_key};
use crate::types::reference::Reference;
use std::path::{Path, PathBuf};

/// What a logout did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LoggedOut {
    Removed,
    NotLoggedIn,
    /// Another tool's file has the login.
    Elsewhere(PathBuf),
}

/// Asks the registry whether it takes the credentials, and keeps them.
///
/// # Errors
/// `Invalid` where `registry` cannot be one, `Failed` where it does not take them.
pub(crate) fn login(
    dirs: &Dirs,
    registry: &str,
    credentials: &Credentials,
    options: &RegistryOptions,
) -> Result<()> {
    verify(dirs, registry, credentials, options)?;
    AuthFile::store(&file(dirs, options.auth_file.as_deref()), &login_key(registry)?, credentials)
}

/// Asks the registry whether it takes the credentials.
///
/// # Errors
/// As [`login`].
pub(crate) fn verify(
    dirs: &Dirs,
    registry: &str,
    credentials: &Credentials,
    options: &RegistryOptions,
) -> Result<()> {
    let key = login_key(registry)?;
    let settings = Settings::load(dirs)?;
    // A registry by itself has no repository; none is asked for either.
    let name = if key.contains('/') { key.clone() } else { format!("{key}/x") };
    let endpoint = settings.conf.endpoint(&Reference::parse(&name)?)?;
    let options = RegistryOptions { credentials: Some(credentials.clone()), ..options.clone() };
    settings.client(endpoint, Access::Presence, &options)?.ping()
}

/// The user who is logged in to `registry`.
///
/// # Errors
/// `NotFound` where nobody is.
pub(crate) fn logged_in(dirs: &Dirs, registry: &str, auth_file: Option<&Path>) -> Result<String> {
    stored(dirs, registry, auth_file)?
        .map(|credentials| credentials.user)
        .ok_or_else(|| Error::not_found(format!("not logged in to {registry}")))
}

/// What is stored for `registry`.
pub(crate) fn stored(dirs: &Dirs, registry: &str, auth_file: Option<&Path>) -> Result<Option<Credentials>> {
    let key = login_key(registry)?;
    let files = match auth_file {
        Some(file) => vec![file.to_owned()],
        None => Settings::load(dirs)?.auth_files().to_vec(),
    };
    Wallet { given: None, files }.find_stored(&key)
}

/// Forgets the login of one registry.
pub(crate) fn logout(dirs: &Dirs, registry: &str, auth_file: Option<&Path>) -> Result<LoggedOut> {
    let key = login_key(registry)?;
    let own = file(dirs, auth_file);
    if AuthFile::remove(&own, &key)? {
        return Ok(LoggedOut::Removed);
    }
    if auth_file.is_none() {
        for other in Settings::load(dirs)?.auth_files().iter().filter(|other| **other != own) {
            if AuthFile::read(other)?.keys().contains(&key) {
                return Ok(LoggedOut::Elsewhere(other.clone()));
            }
        }
    }
    Ok(LoggedOut::NotLoggedIn)
}

/// Forgets all logins that this program keeps; which they were.
pub(crate) fn logout_all(dirs: &Dirs, auth_file: Option<&Path>) -> Result<Vec<String>> {
    let own = file(dirs, auth_file);
    let keys = AuthFile::read(&own)?.keys();
    for key in &keys {
        AuthFile::remove(&own, key)?;
    }
    Ok(keys)
}

fn file(dirs: &Dirs, auth_file: Option<&Path>) -> PathBuf {
    auth_file.map_or_else(|| login_file(dirs), Path::to_owned)
}
