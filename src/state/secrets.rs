//! Secrets: `$XDG_DATA_HOME/coracle/secrets/<id>.json` says what is known of
//! one, `<id>.data` is its value. Both are 0600 in a directory of mode 0700, as
//! podman's file driver keeps them: who reads the user's files reads them.
//!
//! A secret is there when its `.json` is: the value is written before it and
//! goes after it. Who changes names holds a lock on the directory.

use super::lock;
use super::written::{Damaged, Durable, Records, read_file, read_json, write_file, write_json};
use crate::dirs::{Dirs, create_private};
use crate::error::{BestEffort, Context, Error, Kind, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What is known of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Secret {
    /// Of this format: 1.
    pub(crate) version: u32,
    /// 25 hexadecimal digits, as podman's.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    pub(crate) updated: Timestamp,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
}

/// The secrets of one user.
pub(crate) struct Secrets {
    directory: PathBuf,
}

impl Secrets {
    pub(crate) fn new(dirs: &Dirs) -> Self {
        Self { directory: dirs.data.join("secrets") }
    }

    /// Keeps a value under a name. With `replace`, one that has the name takes
    /// the new value and keeps its id, so that containers go on to find it.
    ///
    /// # Errors
    /// `Conflict` where the name is taken.
    pub(crate) fn create(
        &self,
        name: &str,
        value: &[u8],
        labels: BTreeMap<String, String>,
        replace: bool,
    ) -> Result<Secret> {
        create_private(&self.directory)?;
        let _names = lock::directory(&self.directory)?;
        let now = Timestamp::now();
        let secret = match self.all()?.whole.into_iter().find(|secret| secret.name == name) {
            Some(old) if replace => Secret { updated: now, labels, ..old },
            Some(_) => {
                return Err(Error::conflict(format!("{name}: secret name in use"))
                    .hint("remove it first, or use --replace"));
            }
            None => Secret {
                version: 1,
                id: new_id()?,
                name: name.to_owned(),
                created: now,
                updated: now,
                labels,
            },
        };
        write_file(&self.value_path(&secret.id), value, Durable::Yes)?;
        write_json(&self.directory.join(format!("{}.json", secret.id)), &secret, Durable::Yes)?;
        Ok(secret)
    }

    /// All of them, by name.
    pub(crate) fn all(&self) -> Result<Records<Secret>> {
        let mut all = Records::new();
        let entries = match std::fs::read_dir(&self.directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(all),
            result => result.context(|| format!("list {}", self.directory.display()))?,
        };
        for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
            if let Some(id) = name.strip_suffix(".json") {
                all.add(id, self.read(id));
            }
        }
        all.whole.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    fn read(&self, id: &str) -> Result<Option<Secret>> {
        match read_json::<Secret>(&self.directory.join(format!("{id}.json"))) {
            Ok(Some(secret)) if secret.version > 1 => {
                Err(Error::failed(format!("the secret {} was written by a later release", secret.name))
                    .hint("use that one"))
            }
            Err(error) if error.kind() == Kind::Invalid => Err(error
                .context(format!("secret {id}"))
                .hint(format!("remove it, and make it anew: `coracle secret rm {id}`"))),
            result => result,
        }
    }

    /// The secret with this name, id or unique beginning of an id.
    ///
    /// # Errors
    /// `NotFound`, in podman's words; `Conflict` where several ids begin so; `Invalid`
    /// for a damaged one, which is known by its id alone.
    pub(crate) fn find(&self, word: &str) -> Result<Secret> {
        let Records { whole: all, damaged } = self.all()?;
        if let Some(secret) = all.iter().find(|secret| secret.name == word || secret.id == word) {
            return Ok(secret.clone());
        }
        let begins = |id: &str| !word.is_empty() && id.starts_with(word);
        let damaged = damaged.into_iter().filter(|secret| begins(&secret.key));
        let mut found =
            all.into_iter().filter(|secret| begins(&secret.id)).map(Ok).chain(damaged.map(Err::<Secret, _>));
        match (found.next(), found.next()) {
            (Some(secret), None) => secret.map_err(|damaged: Damaged| damaged.error),
            (Some(_), Some(_)) => {
                Err(Error::conflict(format!("{word} is the beginning of several secrets' ids")))
            }
            (None, _) => Err(Error::not_found(format!("no secret with name or id {word:?}: no such secret"))
                .hint("`coracle secret ls` lists the secrets there are")),
        }
    }

    /// Removes a damaged secret, of which `word` is the id, or the beginning of it that
    /// only one has. Gives the id; `None` where there is none.
    pub(crate) fn remove_damaged(&self, word: &str) -> Result<Option<String>> {
        let _names = lock::directory(&self.directory)?;
        let mut found = self.all()?.damaged.into_iter().filter(|secret| {
            secret.error.kind() == Kind::Invalid && !word.is_empty() && secret.key.starts_with(word)
        });
        let (Some(secret), None) = (found.next(), found.next()) else { return Ok(None) };
        self.remove_files(&secret.key, &secret.key)?;
        Ok(Some(secret.key))
    }

    /// The value of a secret.
    pub(crate) fn value(&self, secret: &Secret) -> Result<Vec<u8>> {
        read_file(&self.value_path(&secret.id))?
            .ok_or_else(|| Error::failed(format!("the value of the secret {} is gone", secret.name)))
    }

    /// Removes a secret.
    pub(crate) fn remove(&self, secret: &Secret) -> Result<()> {
        self.remove_files(&secret.id, &secret.name)
    }

    fn remove_files(&self, id: &str, called: &str) -> Result<()> {
        let path = self.directory.join(format!("{id}.json"));
        std::fs::remove_file(&path).context(|| format!("remove the secret {called}"))?;
        std::fs::remove_file(self.value_path(id)).or_ignore();
        Ok(())
    }

    fn value_path(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.data"))
    }
}

fn new_id() -> Result<String> {
    let mut random = [0; 13];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .context(|| "get random bytes for an id")?;
    let mut id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    id.truncate(25);
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn secrets_are_kept_found_replaced_and_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let secrets = Secrets::new(&Dirs::beneath(folder.path()));
        assert!(secrets.all().expect("none").whole.is_empty());
        let made = secrets.create("db", b"one", BTreeMap::new(), false).expect("made");
        assert_eq!(made.id.len(), 25);
        assert_eq!(secrets.value(&secrets.find("db").expect("by name")).expect("value"), b"one");
        assert_eq!(secrets.find(&made.id[..6]).expect("by id").name, "db");
        let taken = secrets.create("db", b"two", BTreeMap::new(), false).expect_err("taken");
        assert_eq!(taken.kind(), Kind::Conflict);
        let replaced = secrets.create("db", b"two", BTreeMap::new(), true).expect("replaced");
        assert_eq!((replaced.id, secrets.value(&made).expect("value")), (made.id.clone(), b"two".to_vec()));
        secrets.remove(&made).expect("removed");
        assert_eq!(secrets.find("db").expect_err("gone").kind(), Kind::NotFound);
        let left = std::fs::read_dir(folder.path().join("data/secrets")).expect("list").count();
        assert_eq!(left, 0, "no value stays");
    }

    #[test]
    fn a_damaged_secret_is_no_other_s_matter() {
        let folder = tempfile::tempdir().expect("a folder");
        let secrets = Secrets::new(&Dirs::beneath(folder.path()));
        let good = secrets.create("good", b"one", BTreeMap::new(), false).expect("made");
        let bad = secrets.create("bad", b"two", BTreeMap::new(), false).expect("made");
        std::fs::write(secrets.directory.join(format!("{}.json", bad.id)), "").expect("emptied");
        assert_eq!(secrets.find("good").expect("there"), good);
        let all = secrets.all().expect("listed");
        assert_eq!((all.whole.len(), all.damaged[0].key.as_str()), (1, bad.id.as_str()));
        let error = secrets.find(&bad.id[..20]).expect_err("damaged");
        assert!(error.kind() == Kind::Invalid && error.hints()[0].contains("secret rm"), "{error}");
        secrets.create("bad", b"new", BTreeMap::new(), false).expect("its name is free");
        assert_eq!(secrets.remove_damaged(&good.id).expect("whole"), None);
        assert_eq!(secrets.remove_damaged("").expect("none"), None);
        assert_eq!(secrets.remove_damaged(&bad.id[..20]).expect("removed"), Some(bad.id));
        assert!(secrets.all().expect("listed").damaged.is_empty());
    }
}
