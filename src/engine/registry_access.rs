//! How the user's files and flags lead to a registry: which one, as whom, and
//! what of it is trusted.

use crate::dirs::Dirs;
use crate::error::Result;
use crate::registry::auth_file::AuthFile;
use crate::registry::certificates::Identity;
use crate::registry::client::{Access, Client, ClientOptions};
use crate::registry::config::{ConfFiles, Endpoint, RegistriesConf};
use crate::registry::credentials::{Credentials, Wallet};
use crate::registry::failure::Retries;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What the flags of a command say about registries.
#[derive(Clone, Debug, Default)]
pub(crate) struct RegistryOptions {
    /// `--tls-verify`; what registries.conf and loopback say where `None`.
    pub(crate) tls_verify: Option<bool>,
    /// `--creds`; those of the auth files where `None`.
    pub(crate) credentials: Option<Credentials>,
    /// `--authfile`
    pub(crate) auth_file: Option<PathBuf>,
    /// `--cert-dir`; the registry's directory in `certs.d` where `None`.
    pub(crate) cert_dir: Option<PathBuf>,
    /// `--retry` and `--retry-delay`
    pub(crate) retries: Retries,
}

/// The user's files.
pub(crate) struct Settings {
    pub(crate) conf: RegistriesConf,
    places: Places,
}

/// Where they are, in the order in which they are asked.
struct Places {
    registries: ConfFiles,
    auth: Vec<PathBuf>,
    /// Directories with one of each registry's name.
    certificates: Vec<PathBuf>,
}

impl Settings {
    pub(crate) fn load(dirs: &Dirs) -> Result<Self> {
        let places = Places::of(dirs);
        Ok(Self { conf: RegistriesConf::load(&places.registries)?, places })
    }

    /// The files of credentials, in the order in which they are asked.
    pub(crate) fn auth_files(&self) -> &[PathBuf] {
        &self.places.auth
    }

    /// A client of the repository at `endpoint`.
    pub(crate) fn client(
        &self,
        mut endpoint: Endpoint,
        access: Access,
        options: &RegistryOptions,
    ) -> Result<Client> {
        if let Some(verify) = options.tls_verify {
            endpoint.insecure = !verify;
        }
        let identity = match &options.cert_dir {
            Some(directory) => Identity::from_directory(directory)?,
            None => Identity::of(endpoint.host(), &self.places.certificates)?,
        };
        let files = match &options.auth_file {
            Some(file) => vec![file.clone()],
            None => self.places.auth.clone(),
        };
        let wallet = Wallet { given: options.credentials.clone(), files };
        Ok(Client::new(ClientOptions { endpoint, wallet, identity, retries: options.retries, access }))
    }
}

/// Where a login is kept, without `--authfile`: as podman does, in a file that
/// is gone with the session. `--config` names docker's directory.
pub(crate) fn login_file(dirs: &Dirs) -> PathBuf {
    if let Some(directory) = crate::dirs::relocation().docker_config {
        return directory.join("config.json");
    }
    Places::of(dirs).auth.swap_remove(0)
}

/// Docker's `config.json`, in which its client has settings too; read by the first who
/// asks. `None` where nobody says where it would be.
///
/// # Errors
/// `Invalid` where it is no JSON object.
pub(crate) fn client_settings() -> Result<Option<&'static AuthFile>> {
    static SETTINGS: OnceLock<AuthFile> = OnceLock::new();
    if SETTINGS.get().is_none()
        && let Some(directory) = docker_directory()
    {
        let settings = AuthFile::read(&directory.join("config.json"))?;
        return Ok(Some(SETTINGS.get_or_init(|| settings)));
    }
    Ok(SETTINGS.get())
}

/// `--config`, `DOCKER_CONFIG`, or `~/.docker`.
fn docker_directory() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    crate::dirs::relocation()
        .docker_config
        .or_else(|| variable("DOCKER_CONFIG"))
        .or_else(|| Some(variable("HOME")?.join(".docker")))
}

impl Places {
    fn of(dirs: &Dirs) -> Self {
        let variable =
            |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let config_home = dirs.config.parent().map(PathBuf::from);
        // Where there is no such directory, ours is private and the one above is not.
        let runtime = variable("XDG_RUNTIME_DIR").unwrap_or_else(|| dirs.runtime.clone());
        let containers = config_home.as_ref().map(|dir| dir.join("containers"));
        let docker = docker_directory();
        let registries = match variable("CONTAINERS_REGISTRIES_CONF") {
            Some(only) => ConfFiles { main: vec![only], ..ConfFiles::default() },
            None => conf_files(containers.as_deref(), dirs),
        };
        let auth = match variable("REGISTRY_AUTH_FILE") {
            Some(only) => vec![only],
            None => [
                Some(runtime.join("containers/auth.json")),
                containers.as_ref().map(|dir| dir.join("auth.json")),
                docker.as_ref().map(|dir| dir.join("config.json")),
            ]
            .into_iter()
            .flatten()
            .collect(),
        };
        let own = [containers, docker].into_iter().flatten().map(|dir| dir.join("certs.d"));
        let system = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from);
        Self { registries, auth, certificates: own.chain(system).collect() }
    }
}

/// A user with a `registries.conf` of their own has their own `.d` alone; for
/// others the system's comes first: containers-registries.conf.d(5).
fn conf_files(own: Option<&Path>, dirs: &Dirs) -> ConfFiles {
    let system = Path::new("/etc/containers");
    let has_own = own.is_some_and(|own| own.join("registries.conf").exists());
    let main = [own, Some(system)].into_iter().flatten().map(|dir| dir.join("registries.conf"));
    let drop_ins = [Some(system).filter(|_| !has_own), own].into_iter().flatten();
    let cache = dirs.cache.parent();
    ConfFiles {
        main: main.collect(),
        drop_ins: drop_ins.map(|dir| dir.join("registries.conf.d")).collect(),
        aliases: cache.map(|cache| cache.join("containers/short-name-aliases.conf")),
    }
}
