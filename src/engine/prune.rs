//! `container prune`, `image prune`, `system prune`: what nothing uses.

use super::Engine;
use super::logs::moment;
use super::remove::RemoveOptions;
use super::rmi::{self, PrunedImages};
use crate::error::{BestEffort, Error, Kind, Result};
use crate::image::store::{Entry, ImageStore};
use crate::state::events;
use crate::storage::usage::allocated;
use crate::types::event::{Event, EventKind};
use crate::types::filter::{self, LabelFilter};
use crate::types::id::ContainerId;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;

/// Which of the unused things: docker's `--filter` of the prune commands.
#[derive(Clone, Debug, Default)]
pub(crate) struct PruneFilters {
    until: Option<Timestamp>,
    labels: Vec<LabelFilter>,
    /// Of images: `false` takes those with names as well.
    dangling: Option<bool>,
}

/// What is pruned: each has its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pruned {
    Containers,
    Images,
    System,
}

impl PruneFilters {
    /// # Errors
    /// `Invalid` for a key that is none of this command's, and for bad values.
    pub(crate) fn parse(texts: &[String], what: Pruned, now: Timestamp) -> Result<Self> {
        let mut filters = Self::default();
        for (key, value) in filter::split_all(texts)? {
            match key.as_str() {
                "label" => filters.labels.push(LabelFilter::new(value, true)),
                "label!" => filters.labels.push(LabelFilter::new(value, false)),
                "until" if filters.until.is_some() => {
                    return Err(Error::invalid("more than one until filter specified"));
                }
                "until" => filters.until = Some(moment::parse(value, now, TimeZone::system)?),
                "dangling" if what == Pruned::Images => {
                    filters.dangling = Some(filter::boolean("dangling", value)?);
                }
                _ => {
                    let dangling = if what == Pruned::Images { ", dangling" } else { "" };
                    return Err(filter::unknown(&key, &format!("until, label, label!{dangling}")));
                }
            }
        }
        Ok(filters)
    }

    pub(crate) fn has_until(&self) -> bool {
        self.until.is_some()
    }

    fn admits(&self, created: Option<Timestamp>, labels: &BTreeMap<String, String>) -> bool {
        self.until.is_none_or(|until| created.is_none_or(|created| created <= until))
            && self.labels.iter().all(|label| label.holds(labels))
    }
}

/// What `container prune` did.
#[derive(Debug, Default)]
pub(crate) struct PrunedContainers {
    pub(crate) ids: Vec<ContainerId>,
    /// On the disk.
    pub(crate) bytes: u64,
    pub(crate) failures: Vec<Error>,
    /// What cannot be read, and is left alone.
    pub(crate) unread: Vec<Error>,
}

impl Engine {
    /// Removes the containers that are not up. Their volumes stay.
    pub(crate) fn prune_containers(&self, filters: &PruneFilters) -> Result<PrunedContainers> {
        let mut pruned = PrunedContainers::default();
        let mut containers = self.containers(false, &mut pruned.unread)?;
        containers.sort_unstable_by_key(|one| one.record.created);
        for container in containers {
            let record = &container.record;
            if container.is_up() || !filters.admits(Some(record.created), &record.config.labels) {
                continue;
            }
            self.enter()?;
            let bytes = self.container_bytes(&record.id).unwrap_or(0);
            match self.remove(&record.id, &RemoveOptions::default()) {
                Ok(()) => {
                    pruned.ids.push(record.id.clone());
                    pruned.bytes += bytes;
                }
                // Gone, or started, in the meantime.
                Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Conflict) => {}
                Err(error) => {
                    pruned.failures.push(error.context(format!("container {}", record.id.short())));
                }
            }
        }
        self.tell_pruned(EventKind::Container, pruned.bytes);
        Ok(pruned)
    }

    /// Removes images that no container uses: those without a name, or `all`.
    pub(crate) fn prune_images(
        &self,
        all: bool,
        filters: &PruneFilters,
        notes: &mut Vec<Error>,
    ) -> Result<PrunedImages> {
        self.enter()?;
        let named_too = filters.dangling.map_or(all, |dangling| !dangling);
        let wanted = |store: &ImageStore, entry: &Entry| {
            if entry.name_text().is_some() && !named_too {
                return false;
            }
            if filters.until.is_none() && filters.labels.is_empty() {
                return true;
            }
            // What cannot be read has no date and no labels that would protect it.
            store
                .read(entry, None)
                .is_ok_and(|image| filters.admits(image.config.created(), &image.config.config.labels))
        };
        let pruned = rmi::prune(&self.dirs, &wanted, &|| self.images_in_use(), notes)?;
        self.tell_pruned(EventKind::Image, pruned.bytes);
        Ok(pruned)
    }

    /// The bytes on the disk of what a container has written: its files, its
    /// overlays, its log.
    pub(crate) fn container_bytes(&self, id: &ContainerId) -> Result<u64> {
        let dir = self.dirs.container(id);
        let mut bytes = 0;
        for part in ["upper", "overlays"] {
            bytes += allocated(&dir.join(part))?;
        }
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(b"log.") {
                bytes += allocated(&entry.path())?;
            }
        }
        Ok(bytes)
    }

    /// Docker's event of a prune.
    pub(crate) fn tell_pruned(&self, kind: EventKind, bytes: u64) {
        let event = Event::now(kind, "prune", "").with("reclaimed", bytes.to_string());
        events::append(&self.dirs, &event).or_ignore();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(texts: &[&str], what: Pruned) -> Result<PruneFilters> {
        let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
        PruneFilters::parse(&texts, what, "2026-01-10T00:00:00Z".parse().expect("a time"))
    }

    #[test]
    fn what_is_young_or_labelled_otherwise_stays() {
        let created: Timestamp = "2026-01-09T00:00:00Z".parse().expect("a time");
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        for (texts, admitted) in [
            (&[][..], true),
            (&["until=1h"], true),
            (&["until=2026-01-09T00:00:00Z"], true),
            (&["until=25h"], false),
            (&["until=2026-01-08"], false),
            (&["label=a"], true),
            (&["label=a=2"], false),
            (&["label!=a"], false),
            (&["label!=b"], true),
            (&["label=a", "until=25h"], false),
        ] {
            let filters = filters(texts, Pruned::Containers).expect("valid");
            assert_eq!(filters.admits(Some(created), &labels), admitted, "{texts:?}");
        }
    }

    #[test]
    fn each_command_has_its_keys() {
        let error = |texts: &[&str], what| filters(texts, what).expect_err("wrong").to_string();
        assert_eq!(error(&["status=exited"], Pruned::Containers), "invalid filter 'status'");
        assert_eq!(error(&["dangling=true"], Pruned::System), "invalid filter 'dangling'");
        assert_eq!(error(&["dangling=x"], Pruned::Images), "invalid filter 'dangling=x'");
        assert_eq!(error(&["until=1h", "until=2h"], Pruned::System), "more than one until filter specified");
        assert!(error(&["until=soon"], Pruned::System).contains("invalid time"));
        assert!(error(&["label"], Pruned::System).contains("bad format of filter"));
        assert!(filters(&["dangling=false"], Pruned::Images).is_ok());
    }
}
