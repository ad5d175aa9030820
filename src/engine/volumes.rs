//! Volumes: create, list, inspect, remove, prune.

use super::Engine;
use super::events::note_volume;
use super::list::Pattern;
use super::logs::moment;
use super::remove::RemoveOptions;
use crate::error::{BestEffort, Error, Kind, Result};
use crate::storage::volume::{Volume, VolumeStore};
use crate::types::event::EventKind;
use crate::types::filter::{self, LabelFilter};
use crate::types::volume_options::VolumeKind;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What `volume create` asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct VolumeRequest {
    /// An anonymous volume where `None`.
    pub(crate) name: Option<String>,
    /// `local` where `None`.
    pub(crate) driver: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    /// `--opt`: of the driver.
    pub(crate) options: BTreeMap<String, String>,
}

/// Which volumes: docker's `--filter`, and podman's `opt`, `scope` and `until`.
/// All kinds must hold, and of one kind any (of labels: all).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct VolumeFilters {
    /// Of names.
    names: Vec<Pattern>,
    drivers: Vec<String>,
    labels: Vec<LabelFilter>,
    /// Keys of options, and values or any.
    options: Vec<LabelFilter>,
    scopes: Vec<String>,
    /// Made no later than then.
    until: Option<Timestamp>,
    /// Whether it must be used by no container.
    dangling: Option<bool>,
}

impl VolumeFilters {
    /// # Errors
    /// `Invalid` for an unknown filter.
    pub(crate) fn parse(filters: &[String]) -> Result<Self> {
        let mut parsed = Self::default();
        for (key, value) in filter::split_all(filters)? {
            match key.as_str() {
                "name" => parsed.names.push(Pattern::parse(value)?),
                "driver" => parsed.drivers.push(value.to_owned()),
                "label" => parsed.labels.push(LabelFilter::new(value, true)),
                "label!" => parsed.labels.push(LabelFilter::new(value, false)),
                "opt" => parsed.options.push(LabelFilter::new(value, true)),
                "scope" => parsed.scopes.push(value.to_owned()),
                "until" => parsed.until = Some(moment::parse(value, Timestamp::now(), TimeZone::system)?),
                "dangling" => parsed.dangling = Some(filter::boolean("dangling", value)?),
                _ => {
                    let known = "name, driver, label, label!, dangling, opt, scope and until";
                    return Err(filter::unknown(&key, known));
                }
            }
        }
        Ok(parsed)
    }

    /// Those of `volume prune`, and whether `all=true` is among them.
    ///
    /// # Errors
    /// `Invalid` for others: docker's are `label`, `label!` and `all`.
    pub(crate) fn for_prune(filters: &[String]) -> Result<(bool, Self)> {
        let (mut all, mut parsed) = (false, Self::default());
        for (key, value) in filter::split_all(filters)? {
            match key.as_str() {
                "label" => parsed.labels.push(LabelFilter::new(value, true)),
                "label!" => parsed.labels.push(LabelFilter::new(value, false)),
                "all" => all = filter::boolean("all", value)?,
                _ => return Err(filter::unknown(&key, "label, label! and all")),
            }
        }
        Ok((all, parsed))
    }

    fn admits(&self, volume: &Volume, is_used: bool) -> bool {
        (self.names.is_empty() || self.names.iter().any(|name| name.matches(&volume.name)))
            && (self.drivers.is_empty() || self.drivers.contains(&volume.driver))
            && self.labels.iter().all(|label| label.holds(&volume.labels))
            && self.options.iter().all(|option| option.holds(&volume.options))
            && (self.scopes.is_empty() || self.scopes.iter().any(|scope| scope == "local"))
            && self.until.is_none_or(|until| volume.created <= until)
            && self.dangling.is_none_or(|dangling| dangling != is_used)
    }
}

/// What `volume prune` did.
#[derive(Debug, Default)]
pub(crate) struct PrunedVolumes {
    pub(crate) names: Vec<String>,
    /// On the disk.
    pub(crate) bytes: u64,
    /// Volumes that could not be removed.
    pub(crate) failures: Vec<Error>,
}

impl Engine {
    /// Makes a volume. As in docker, it is no error where there is one of that
    /// name: that one is given.
    ///
    /// # Errors
    /// `Invalid` for a bad name and for drivers and options that are not there.
    pub(crate) fn create_volume(&self, request: VolumeRequest) -> Result<Volume> {
        if let Some(driver) = request.driver.filter(|driver| driver != "local") {
            return Err(
                Error::invalid(format!("there is no volume driver {driver:?}")).hint("the only one is local")
            );
        }
        VolumeKind::parse(&request.options)?;
        let store = self.volume_store()?;
        let anonymous = request.name.is_none();
        let name = request.name.map_or_else(VolumeStore::anonymous_name, Ok)?;
        match store.create(&name, request.labels, request.options, anonymous) {
            Err(error) if error.kind() == Kind::Conflict => store.get(&name),
            result => result.inspect(|_| note_volume(&self.dirs, "create", &name)),
        }
    }

    /// The volumes that a filter admits, by name. What cannot be read is told as a note.
    pub(crate) fn volumes(&self, filters: &VolumeFilters, notes: &mut Vec<Error>) -> Result<Vec<Volume>> {
        let users =
            if filters.dangling.is_some() { self.store.volume_users(notes)? } else { BTreeMap::new() };
        let mut volumes = self.volume_store()?.list(notes)?;
        volumes.retain(|volume| filters.admits(volume, users.contains_key(&volume.name)));
        Ok(volumes)
    }

    /// The volume of that name.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    pub(crate) fn volume(&self, name: &str) -> Result<Volume> {
        self.volume_store()?.get(name)
    }

    /// Docker's document of a volume.
    pub(crate) fn volume_document(&self, volume: &Volume) -> Result<Value> {
        Ok(json!({
            "CreatedAt": volume.created.to_string(),
            "Driver": volume.driver,
            "Labels": volume.labels,
            "Mountpoint": self.volume_store()?.data_path(&volume.name),
            "Name": volume.name,
            "Options": volume.options,
            "Scope": "local",
            "Anonymous": volume.anonymous,
        }))
    }

    /// Removes a volume and its data.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` where a container uses it.
    pub(crate) fn remove_volume(&self, name: &str) -> Result<()> {
        let store = self.volume_store()?;
        // One whose record is damaged can be removed as well.
        if let Err(error) = store.get(name)
            && error.kind() == Kind::NotFound
            && !self.dirs.volumes().join(name).exists()
        {
            return Err(error);
        }
        // Its files may belong to any of the user's ids.
        self.enter()?;
        store.remove(name, &|name| self.store.users_of_volume(name))?;
        note_volume(&self.dirs, "destroy", name);
        Ok(())
    }

    /// Stops the containers that use a volume within `time` seconds, and removes them.
    ///
    /// # Errors
    /// Where one of them cannot be removed, as what holds a pod's namespaces.
    pub(crate) fn remove_users_of_volume(&self, name: &str, time: i64) -> Result<()> {
        let options = RemoveOptions { force: true, volumes: false, time: Some(time) };
        for user in self.store.users_of_volume(name)? {
            let removed = self.store.resolve(&user).and_then(|id| self.remove(&id, &options));
            match removed {
                Err(error) if error.kind() == Kind::NotFound => {}
                result => result.map_err(|error| error.context(format!("volume {name}")))?,
            }
        }
        Ok(())
    }

    /// Removes the volumes that no container uses: the anonymous ones, or `all`.
    pub(crate) fn prune_volumes(&self, all: bool, filters: &VolumeFilters) -> Result<PrunedVolumes> {
        let mut pruned = PrunedVolumes::default();
        let users = self.store.volume_users(&mut pruned.failures)?;
        let store = self.volume_store()?;
        // A container that cannot be read may have any of them: data is not guessed away.
        let all_known = pruned.failures.is_empty();
        for volume in store.list(&mut Vec::new())?.into_iter().filter(|_| all_known) {
            let is_used = users.contains_key(&volume.name);
            if is_used || !(all || volume.anonymous) || !filters.admits(&volume, is_used) {
                continue;
            }
            self.enter()?;
            let bytes = self.volume_bytes(&volume.name).unwrap_or(0);
            match self.remove_volume(&volume.name) {
                Ok(()) => {
                    pruned.names.push(volume.name);
                    pruned.bytes += bytes;
                }
                // Removed, or used by a new container, in the meantime.
                Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Conflict) => {}
                Err(error) => pruned.failures.push(error),
            }
        }
        store.sweep().or_note(&mut pruned.failures, || "remove what is left of killed commands");
        self.tell_pruned(EventKind::Volume, pruned.bytes);
        Ok(pruned)
    }

    fn volume_store(&self) -> Result<VolumeStore> {
        VolumeStore::open(&self.dirs.volumes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(filters: &[&str], is_used: bool) -> bool {
        let volume = Volume {
            version: 1,
            name: "postgres-data".into(),
            created: Timestamp::UNIX_EPOCH,
            labels: BTreeMap::from([("a".into(), "1".into()), ("b".into(), String::new())]),
            driver: "local".into(),
            options: BTreeMap::new(),
            anonymous: false,
        };
        let filters: Vec<String> = filters.iter().map(|&filter| filter.to_owned()).collect();
        VolumeFilters::parse(&filters).expect("good filters").admits(&volume, is_used)
    }

    #[test]
    fn filters_are_dockers() {
        for filters in [
            &[][..],
            &["name=gres"],
            &["name=x", "name=data"],
            &["driver=local"],
            &["label=a"],
            &["label=a=1", "label=b"],
            &["label!=c"],
            &["label!=a=2"],
            &["name=^postgres"],
            &["scope=local"],
            &["until=2026-01-01"],
            &["dangling=true"],
        ] {
            assert!(admitted(filters, false), "{filters:?}");
        }
        for filters in [
            &["name=x"][..],
            &["driver=nfs"],
            &["label=a", "label=c"],
            &["label!=a"],
            &["label=a=2"],
            &["dangling=0"],
            &["scope=global"],
            &["opt=type"],
            &["until=1960-01-01"],
        ] {
            assert!(!admitted(filters, false), "{filters:?}");
        }
        assert!(!admitted(&["dangling=1"], true));
        for bad in ["name", "color=red", "dangling=maybe"] {
            assert!(VolumeFilters::parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
