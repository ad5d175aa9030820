//! The pods of a user: `pods/<id>/pod.json`.
//!
//! A pod is published by renaming its directory from `.new-<id>`, and taken away
//! by renaming it to `.gone-<id>`. Whoever makes one has the directory `pods`
//! locked, so that a name is taken once, and nothing half made that is found
//! under that lock has an owner; whoever changes or removes one, or puts a
//! container into it, has its directory locked. Readers take no lock.

use super::lock::{self, Lock};
use super::written::{self, Damaged, Durable, Records, read_json, write_json};
use crate::dirs::{Dirs, create_private};
use crate::error::{BestEffort, Context, Error, Kind, Result};
use crate::types::id::{ContainerId, check_name};
use crate::types::pod::PodRecord;
use std::path::{Path, PathBuf};

const UNBORN: &str = ".new-";
const GONE: &str = ".gone-";
/// Of `pod.json`.
pub(crate) const POD_VERSION: u32 = 1;

#[derive(Clone, Debug)]
pub(crate) struct Pods {
    directory: PathBuf,
}

/// The right to make pods, until it is dropped.
pub(crate) struct Making {
    _lock: Lock,
}

impl Pods {
    pub(crate) fn new(dirs: &Dirs) -> Self {
        Self { directory: dirs.pods() }
    }

    pub(crate) fn path(&self, id: &ContainerId) -> PathBuf {
        self.directory.join(id.as_str())
    }

    /// Waits until nobody else makes one.
    pub(crate) fn begin(&self) -> Result<Making> {
        create_private(&self.directory)?;
        Ok(Making { _lock: lock::directory(&self.directory)? })
    }

    /// Writes a pod down before it is to be seen. What is not published will be
    /// given to [`Pods::left_over`].
    ///
    /// # Errors
    /// `Conflict` where another has its name.
    pub(crate) fn prepare(&self, record: &PodRecord, _making: &Making) -> Result<()> {
        if let Some(other) = self.all()?.whole.into_iter().find(|other| other.name == record.name) {
            return Err(Error::conflict(format!(
                "the pod name {:?} is already in use by pod {}",
                other.name,
                other.id.short()
            ))
            .hint("remove that pod, or use --replace"));
        }
        let directory = self.unborn(&record.id);
        create_private(&directory)?;
        write_json(&directory.join("pod.json"), record, Durable::No)
    }

    /// Writes it down anew, before it is to be seen.
    pub(crate) fn amend(&self, record: &PodRecord, _making: &Making) -> Result<()> {
        write_json(&self.unborn(&record.id).join("pod.json"), record, Durable::No)
    }

    /// Lets everybody see it.
    pub(crate) fn publish(&self, id: &ContainerId, _making: &Making) -> Result<()> {
        std::fs::rename(self.unborn(id), self.path(id)).context(|| format!("publish pod {}", id.short()))
    }

    /// Puts what was written of a new one on the disk.
    pub(crate) fn sync(&self, id: &ContainerId) -> Result<()> {
        written::sync(&self.path(id).join("pod.json"))
    }

    /// Takes back one that was not published.
    pub(crate) fn abandon(&self, id: &ContainerId, _making: &Making) {
        std::fs::remove_dir_all(self.unborn(id)).or_ignore();
    }

    fn unborn(&self, id: &ContainerId) -> PathBuf {
        self.directory.join(format!("{UNBORN}{id}"))
    }

    /// Whether commands that were killed may have left something.
    pub(crate) fn has_left_over(&self) -> Result<bool> {
        Ok(self.entries()?.iter().any(|name| name.starts_with('.')))
    }

    /// The pods that killed commands have left half made; what is left of
    /// removed ones is deleted.
    pub(crate) fn left_over(&self, _making: &Making) -> Result<Vec<PodRecord>> {
        let mut found = Vec::new();
        for name in self.entries()?.into_iter().filter(|name| name.starts_with('.')) {
            let path = self.directory.join(&name);
            match read_json::<PodRecord>(&path.join("pod.json")) {
                Ok(Some(record)) if name.starts_with(UNBORN) => found.push(record),
                _ => std::fs::remove_dir_all(&path).or_ignore(),
            }
        }
        Ok(found)
    }

    /// Waits until nobody else changes the pod; its record as it is then.
    ///
    /// # Errors
    /// `NotFound` where it was removed meanwhile.
    pub(crate) fn lock(&self, id: &ContainerId) -> Result<(Lock, PodRecord)> {
        let lock = self.lock_damaged(id)?;
        // Renamed away by who had it before.
        let record = read(&self.path(id), id)?.ok_or_else(|| removed(id))?;
        Ok((lock, record))
    }

    /// As [`Pods::lock`], whatever its record is.
    pub(crate) fn lock_damaged(&self, id: &ContainerId) -> Result<Lock> {
        match lock::directory(&self.path(id)) {
            Err(error) if error.errno() == Some(libc::ENOENT) => Err(removed(id)),
            result => result,
        }
    }

    /// As [`Pods::lock`]; `None` where someone else has it.
    pub(crate) fn try_lock(&self, id: &ContainerId) -> Result<Option<Lock>> {
        match lock::try_directory(&self.path(id)) {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
            result => result,
        }
    }

    /// Writes the record anew. The caller has the pod locked.
    pub(crate) fn save(&self, record: &PodRecord) -> Result<()> {
        write_json(&self.path(&record.id).join("pod.json"), record, Durable::Yes)
    }

    /// Takes a pod, which nothing is in any more, away. The caller has it locked.
    pub(crate) fn remove(&self, id: &ContainerId) -> Result<()> {
        let gone = self.directory.join(format!("{GONE}{id}"));
        std::fs::rename(self.path(id), &gone).context(|| format!("remove pod {}", id.short()))?;
        // Another may be at it already, who took it for left over.
        std::fs::remove_dir_all(&gone).or_ignore();
        Ok(())
    }

    /// The record of a pod.
    ///
    /// # Errors
    /// `NotFound` where there is none; `Invalid` where it is damaged.
    pub(crate) fn record(&self, id: &ContainerId) -> Result<PodRecord> {
        read(&self.path(id), id)?.ok_or_else(|| Error::not_found(format!("no such pod: {}", id.short())))
    }

    /// All pods, the oldest first.
    pub(crate) fn all(&self) -> Result<Records<PodRecord>> {
        let mut all = Records::new();
        for id in self.entries()?.into_iter().filter_map(|name| ContainerId::parse(&name).ok()) {
            all.add(id.as_str(), read(&self.path(&id), &id));
        }
        all.whole.sort_by(|one, other| (one.created, &one.id).cmp(&(other.created, &other.id)));
        Ok(all)
    }

    /// The pod with this name, id, or beginning of an id that only one has.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` where several ids begin so; `Invalid` for a damaged one,
    /// which is known by its id alone.
    pub(crate) fn find(&self, word: &str) -> Result<PodRecord> {
        let not_found = || {
            Error::not_found(format!("no pod with name or ID {word} found: no such pod"))
                .hint("`coracle pod ps` lists the pods there are")
        };
        if check_name("pod", word).is_err() {
            return Err(not_found());
        }
        let Records { whole: all, damaged } = self.all()?;
        if let Some(pod) = all.iter().find(|pod| pod.name == word || pod.id.as_str() == word) {
            return Ok(pod.clone());
        }
        let damaged = damaged.into_iter().filter(|pod| pod.key.starts_with(word));
        let mut found =
            all.into_iter().filter(|pod| pod.id.as_str().starts_with(word)).map(Ok).chain(damaged.map(Err));
        match (found.next(), found.next()) {
            (Some(pod), None) => pod.map_err(|damaged| damaged.error),
            (None, _) => Err(not_found()),
            (Some(first), Some(second)) => {
                let id = |pod: Result<PodRecord, Damaged>| {
                    pod.map_or_else(|damaged| damaged.key, |pod| pod.id.short().to_owned())
                };
                Err(Error::conflict(format!("more than one pod has an ID that begins with {word}"))
                    .hint(format!("{} and {} begin so: give more digits", id(first), id(second))))
            }
        }
    }

    fn entries(&self) -> Result<Vec<String>> {
        match std::fs::read_dir(&self.directory) {
            Ok(entries) => {
                Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error).context(|| format!("list {}", self.directory.display())),
        }
    }
}

fn removed(id: &ContainerId) -> Error {
    Error::not_found(format!("pod {} was removed by another command", id.short()))
}

fn read(directory: &Path, id: &ContainerId) -> Result<Option<PodRecord>> {
    let path = directory.join("pod.json");
    let record = match read_json::<PodRecord>(&path) {
        Ok(None) if directory.is_dir() => Err(Error::invalid(format!("{} is gone", path.display()))),
        result => result,
    };
    match record {
        Ok(Some(record)) if record.version > POD_VERSION => {
            Err(Error::failed(format!("pod {} was written by a later release", record.name))
                .hint("use that one"))
        }
        Err(error) if error.kind() == Kind::Invalid => Err(error
            .context(format!("pod {}", id.short()))
            .hint(format!("`coracle pod rm -f {}` removes it with its containers", id.short()))),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_name_is_one_pod_s_and_what_is_not_published_is_left_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let pods = Pods::new(&Dirs::beneath(dir.path()));
        assert!(pods.all().expect("none").whole.is_empty());
        let (web, other) = (PodRecord::sample("web", 0x1a), PodRecord::sample("db", 0x1b));
        let making = pods.begin().expect("the right");
        pods.prepare(&web, &making).expect("prepared");
        assert_eq!(pods.find("web").expect_err("not yet").kind(), Kind::NotFound);
        pods.publish(&web.id, &making).expect("published");
        assert_eq!(
            pods.prepare(&PodRecord::sample("web", 3), &making).expect_err("taken").kind(),
            Kind::Conflict
        );
        pods.prepare(&other, &making).expect("prepared");
        assert!(pods.has_left_over().expect("looked"));
        assert_eq!(pods.left_over(&making).expect("found"), std::slice::from_ref(&other));
        pods.publish(&other.id, &making).expect("published");
        drop(making);
        assert_eq!(pods.find("1a1").expect("by its beginning").name, "web");
        assert_eq!(pods.find("1").expect_err("two").kind(), Kind::Conflict);
        for bad in ["../web", "", "2", "WEB"] {
            assert_eq!(pods.find(bad).expect_err(bad).kind(), Kind::NotFound);
        }
        let (lock, found) = pods.lock(&web.id).expect("locked");
        assert_eq!(found, web);
        assert!(pods.try_lock(&web.id).expect("looked").is_none());
        pods.remove(&web.id).expect("removed");
        drop(lock);
        assert_eq!(pods.lock(&web.id).expect_err("gone").kind(), Kind::NotFound);
    }

    #[test]
    fn a_later_release_s_pod_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let pods = Pods::new(&Dirs::beneath(dir.path()));
        let making = pods.begin().expect("the right");
        let later = PodRecord { version: 2, ..PodRecord::sample("web", 1) };
        pods.prepare(&later, &making).expect("prepared");
        pods.publish(&later.id, &making).expect("published");
        assert!(pods.record(&later.id).expect_err("later").to_string().contains("later release"));
    }

    #[test]
    fn a_damaged_pod_is_known_by_its_id_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let pods = Pods::new(&Dirs::beneath(dir.path()));
        let making = pods.begin().expect("the right");
        let (web, other) = (PodRecord::sample("web", 0x1a), PodRecord::sample("db", 0x2b));
        for pod in [&web, &other] {
            pods.prepare(pod, &making).expect("prepared");
            pods.publish(&pod.id, &making).expect("published");
        }
        std::fs::write(pods.path(&web.id).join("pod.json"), "").expect("emptied");
        assert_eq!(pods.find("db").expect("there"), other);
        assert_eq!(pods.find("web").expect_err("unknown").kind(), Kind::NotFound);
        let error = pods.find("1a1a").expect_err("damaged");
        assert!(error.kind() == Kind::Invalid && error.hints()[0].contains("pod rm -f"), "{error}");
        assert_eq!(pods.lock(&web.id).expect_err("damaged").kind(), Kind::Invalid);
        pods.prepare(&PodRecord::sample("web", 0x3c), &making).expect("its name is free");
        let lock = pods.lock_damaged(&web.id).expect("locked");
        pods.remove(&web.id).expect("removed");
        drop(lock);
        assert!(pods.all().expect("listed").damaged.is_empty());
    }
}
