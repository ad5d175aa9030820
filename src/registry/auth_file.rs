//! One file of credentials: `auth.json` or docker's `config.json`. Fields that
//! are not known here are kept. The file is 0600, and replaced by rename.

use super::credential_helper as helper;
use super::credentials::{Credentials, Secret};
use crate::error::{BestEffort, Context, Error, Result};
use crate::types::reference::DEFAULT_DOMAIN;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{FlockOperation, flock};
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Bytes of an auth file.
const FILE_MAX: u64 = 1 << 20;
/// Docker's own key for docker.io.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// A file as it was read.
#[derive(Debug)]
pub(crate) struct AuthFile {
    path: PathBuf,
    document: Map<String, Value>,
}

impl AuthFile {
    /// An empty one where there is none.
    ///
    /// # Errors
    /// `Invalid` where it is no JSON object.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let action = || format!("read {}", path.display());
        let mut text = Vec::new();
        match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            result => drop(result.context(action)?.take(FILE_MAX).read_to_end(&mut text).context(action)?),
        }
        let document = if text.iter().all(u8::is_ascii_whitespace) {
            Map::new()
        } else {
            serde_json::from_slice(&text).context(|| "credentials").context(action)?
        };
        Ok(Self { path: path.to_owned(), document })
    }

    /// Of the entry whose key covers most of `repository`; whole components.
    /// The helper of a registry goes before what the file holds.
    pub(crate) fn find(&self, repository: &str) -> Result<Option<Credentials>> {
        let registry = repository.split('/').next().unwrap_or_default();
        for key in keys_of(registry) {
            if let Some(helper) = self.helper(&key)
                && let Some(found) = helper::get(helper, &key)?
            {
                return Ok(Some(found));
            }
        }
        let covered = |key: &str| {
            let key = normalise_key(key);
            let rest = repository.strip_prefix(key.as_str())?;
            (!key.is_empty() && (rest.is_empty() || rest.starts_with('/'))).then_some(key.len())
        };
        let entries = self.entries().into_iter().flatten();
        let fit =
            entries.filter_map(|(key, entry)| Some((covered(key)?, credentials_of(entry).transpose()?)));
        match fit.max_by_key(|(length, _)| *length) {
            Some((_, found)) => found.map(Some).map_err(|error| {
                error.context(format!("the credentials for {registry} in {}", self.path.display()))
            }),
            None => Ok(None),
        }
    }

    /// The keys of all entries, the helpers' too.
    pub(crate) fn keys(&self) -> Vec<String> {
        let helpers = self.document.get("credHelpers").and_then(Value::as_object).into_iter().flatten();
        let mut keys: Vec<String> =
            self.entries().into_iter().flatten().chain(helpers).map(|(key, _)| normalise_key(key)).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// Keeps credentials: in the registry's helper where the file names one.
    pub(crate) fn store(path: &Path, key: &str, credentials: &Credentials) -> Result<()> {
        let (registry, parts) =
            key.split_once('/').map_or((key, None), |(registry, path)| (registry, Some(path)));
        change(path, |file| {
            // Helpers know registries, not parts of them.
            let helper = file.helper(registry).filter(|_| parts.is_none()).map(str::to_owned);
            let entry = match helper {
                Some(helper) => {
                    helper::store(&helper, &helper_key(registry), credentials)?;
                    json!({})
                }
                None => entry_of(credentials),
            };
            let written = if file.is_dockers() && key == DEFAULT_DOMAIN { HUB_KEY } else { key };
            file.forget(key);
            let auths = file.document.entry("auths").or_insert_with(|| json!({}));
            let auths = auths.as_object_mut().ok_or_else(|| Error::invalid("its auths are not an object"))?;
            auths.insert(written.to_owned(), entry);
            Ok(true)
        })
        .map(drop)
    }

    /// Forgets the credentials under `key`; whether there were any.
    pub(crate) fn remove(path: &Path, key: &str) -> Result<bool> {
        if !path.exists() {
            return Ok(false);
        }
        change(path, |file| {
            let mut known = file.forget(key);
            if !key.contains('/') {
                for key in keys_of(key) {
                    if let Some(helper) = file.helper(&key) {
                        known |= helper::erase(helper, &key)?;
                    }
                }
            }
            Ok(known)
        })
    }

    /// What docker's client gives to containers: the variables of `proxies.default`, in
    /// capitals. Those of single daemons are of no daemon here.
    pub(crate) fn proxies(&self) -> Vec<(&'static str, String)> {
        const KNOWN: [(&str, &str); 5] = [
            ("httpProxy", "HTTP_PROXY"),
            ("httpsProxy", "HTTPS_PROXY"),
            ("noProxy", "NO_PROXY"),
            ("ftpProxy", "FTP_PROXY"),
            ("allProxy", "ALL_PROXY"),
        ];
        let default = self.document.get("proxies").and_then(|proxies| proxies.get("default"));
        let value = |key| default?.get(key)?.as_str().filter(|value| !value.is_empty()).map(str::to_owned);
        KNOWN.into_iter().filter_map(|(key, variable)| Some((variable, value(key)?))).collect()
    }

    /// A setting of docker's client that is a text, where it is given, and the file that says so.
    pub(crate) fn text(&self, key: &str) -> Option<(&Path, &str)> {
        let text = self.document.get(key)?.as_str().filter(|text| !text.is_empty())?;
        Some((&self.path, text))
    }

    /// Whether the file is docker's own, which has another name for docker.io.
    fn is_dockers(&self) -> bool {
        self.path.file_name().is_some_and(|name| name == "config.json")
    }

    fn entries(&self) -> Option<&Map<String, Value>> {
        self.document.get("auths")?.as_object()
    }

    fn helper(&self, registry: &str) -> Option<&str> {
        let own = self.document.get("credHelpers").and_then(|helpers| helpers.get(registry));
        let helper = own.or_else(|| self.document.get("credsStore"))?.as_str()?;
        (!helper.is_empty()).then_some(helper)
    }

    fn forget(&mut self, key: &str) -> bool {
        let Some(auths) = self.document.get_mut("auths").and_then(Value::as_object_mut) else { return false };
        let before = auths.len();
        auths.retain(|known, _| normalise_key(known) != key);
        auths.len() != before
    }
}

/// Changes the file under a lock, where `edit` says that there is a change.
fn change(path: &Path, edit: impl FnOnce(&mut AuthFile) -> Result<bool>) -> Result<bool> {
    // Where it is a link its target is changed, not the link.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let action = || format!("write {}", path.display());
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !directory.exists() {
        crate::dirs::create_private(directory)?;
    }
    let lock = File::open(directory).context(action)?;
    flock(&lock, FlockOperation::LockExclusive).context(action)?;
    let mut file = AuthFile::read(&path)?;
    let changed = edit(&mut file).map_err(|error| error.context(action()))?;
    if changed {
        let mut text = serde_json::to_vec_pretty(&file.document).context(action)?;
        text.push(b'\n');
        replace(&path, &text).context(action)?;
    }
    Ok(changed)
}

fn replace(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.new", std::process::id()));
    let write = || {
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text)?;
        file.sync_data()?;
        std::fs::rename(&temporary, path)
    };
    let result = write();
    if result.is_err() {
        std::fs::remove_file(&temporary).or_ignore();
    }
    result
}

fn entry_of(credentials: &Credentials) -> Value {
    let auth = |password: &str| STANDARD.encode(format!("{}:{password}", credentials.user));
    match &credentials.secret {
        Secret::Password(password) => json!({ "auth": auth(password) }),
        Secret::IdentityToken(token) => json!({ "auth": auth(""), "identitytoken": token }),
    }
}

/// `None` for an entry that only says that a helper knows.
fn credentials_of(entry: &Value) -> Result<Option<Credentials>> {
    let field = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let broken = || Error::invalid("they are not base64 of user:password");
    let (user, password) = match field("auth") {
        Some(auth) => {
            let decoded = STANDARD.decode(auth.trim()).map_err(|_| broken())?;
            let decoded = String::from_utf8(decoded).map_err(|_| broken())?;
            let (user, password) = decoded.split_once(':').ok_or_else(broken)?;
            (user.to_owned(), password.trim_end_matches('\0').to_owned())
        }
        None => match (field("username"), field("password")) {
            (Some(user), Some(password)) => (user.to_owned(), password.to_owned()),
            _ if field("identitytoken").is_some() => (String::new(), String::new()),
            _ => return Ok(None),
        },
    };
    let secret = match field("identitytoken") {
        Some(token) => Secret::IdentityToken(token.to_owned()),
        None => Secret::Password(password),
    };
    Ok(Some(Credentials { user, secret }))
}

/// Under which names a helper may know a registry, its most usual one first.
fn keys_of(registry: &str) -> Vec<String> {
    let usual = helper_key(registry);
    if usual == registry { vec![usual] } else { vec![usual, registry.to_owned()] }
}

fn helper_key(registry: &str) -> String {
    if registry == DEFAULT_DOMAIN { HUB_KEY.to_owned() } else { registry.to_owned() }
}

/// Docker writes `https://index.docker.io/v1/`; others `https://host`.
fn normalise_key(key: &str) -> String {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    match key {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_DOMAIN.to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("auth.json");
        std::fs::write(&path, text).expect("write");
        (dir, path)
    }

    #[test]
    fn the_longest_key_wins_and_no_other_registry_matches() {
        let auth = |text: &str| STANDARD.encode(text);
        let (_dir, path) = file(&format!(
            r#"{{"auths": {{"https://index.docker.io/v1/": {{"auth": "{}"}}, "quay.io": {{"auth": "{}"}},
                "quay.io/team": {{"auth": "{}"}}, "bad.io": {{"auth": "%%%"}}, "empty.io": {{}},
                "token.io": {{"auth": "{}", "identitytoken": "idt"}}, "plain.io": {{"username": "a", "password": "b"}}}}}}"#,
            auth("hub:1"),
            auth("q:2"),
            auth("t:3:4"),
            auth("tok:"),
        ));
        let file = AuthFile::read(&path).expect("read");
        let user = |repository: &str| {
            let found = file.find(repository)?;
            Ok::<_, Error>(found.map(|c| match c.secret {
                Secret::Password(password) => c.user + "/" + &password,
                Secret::IdentityToken(token) => c.user + "=" + &token,
            }))
        };
        assert_eq!(user("docker.io/library/x").expect("ok").as_deref(), Some("hub/1"));
        assert_eq!(user("quay.io/teamx/y").expect("ok").as_deref(), Some("q/2"));
        assert_eq!(user("quay.io/team/y").expect("ok").as_deref(), Some("t/3:4"));
        assert_eq!(user("token.io/y").expect("ok").as_deref(), Some("tok=idt"));
        assert_eq!(user("plain.io/y").expect("ok").as_deref(), Some("a/b"));
        for other in ["quay.io.evil.net/team", "quay.io:444/team", "evil.io/x", "empty.io/x"] {
            assert_eq!(user(other).expect("ok"), None, "{other}");
        }
        assert!(user("bad.io/x").is_err());
        for broken in ["[", "[]", "\"x\""] {
            let (_dir, path) = self::file(broken);
            assert!(AuthFile::read(&path).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_login_is_kept_by_the_owner_alone_and_leaves_the_rest() {
        let (dir, path) = file(r#"{"psFormat": "x", "auths": {"other.io": {"auth": "eDp5", "note": 1}}}"#);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
        let credentials = Credentials::password("me", "secret");
        AuthFile::store(&path, "quay.io/team", &credentials).expect("store");
        assert_eq!(std::fs::metadata(&path).expect("stat").permissions().mode() & 0o777, 0o600);
        let document: Value = serde_json::from_slice(&std::fs::read(&path).expect("read")).expect("json");
        assert_eq!(document["psFormat"], "x");
        assert_eq!(document["auths"]["other.io"]["note"], 1);
        assert_eq!(
            AuthFile::read(&path).expect("read").find("quay.io/team/x").expect("find"),
            Some(credentials)
        );
        assert!(AuthFile::remove(&path, "quay.io/team").expect("remove"));
        assert!(!AuthFile::remove(&path, "quay.io/team").expect("remove"), "once");
        assert_eq!(AuthFile::read(&path).expect("read").keys(), ["other.io"]);
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 1, "nothing else is left");
        let fresh = dir.path().join("a/b/auth.json");
        AuthFile::store(&fresh, "quay.io", &Credentials::password("me", "x")).expect("store");
        assert!(!AuthFile::remove(&dir.path().join("none.json"), "quay.io").expect("nothing to do"));
    }

    #[test]
    fn dockers_file_has_dockers_key_for_the_hub() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("config.json");
        AuthFile::store(&path, "docker.io", &Credentials::password("me", "x")).expect("store");
        assert!(std::fs::read_to_string(&path).expect("read").contains(HUB_KEY));
        assert!(AuthFile::remove(&path, "docker.io").expect("remove"));
    }
}
