//! `ps`: which containers, and in what order.

mod filter;
mod image;
mod pattern;

pub(crate) use filter::Filters;
pub(super) use image::asked_for;
pub(crate) use pattern::{IdPattern, Pattern};

use super::Engine;
use super::spread::in_parts;
use crate::error::{Context, Error, Kind, Result};
use crate::state::store::{Snapshot, Store};
use crate::storage::layers::LayerStore;
use crate::storage::usage::own_usage;
use crate::types::container::{ContainerConfig, ContainerRecord, RecordedRoot};
use crate::types::driver::Driver;
use crate::types::health::HealthState;
use crate::types::id::ContainerId;
use crate::types::namespace::NetworkMode;
use crate::types::network::Endpoint;
use crate::types::port::Binding;
use crate::types::status::{Exit, Status};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One container as the disk and the kernel say it is now.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub(crate) record: ContainerRecord,
    pub(crate) status: Status,
    pub(crate) restart_count: u32,
    /// When the present or the last run began.
    pub(crate) last_started: Option<Timestamp>,
    /// When the last run ended that has, also while the next one is on.
    pub(crate) last_ended: Option<Timestamp>,
    /// Why one that never ran could not be started.
    pub(crate) not_started: Option<Exit>,
    /// What shows its files.
    pub(crate) driver: Driver,
    /// Published now.
    pub(crate) ports: Vec<Binding>,
    /// Where it is on networks now.
    pub(crate) endpoints: Vec<Endpoint>,
    /// Bytes: of the writable layer, and of it and the image together.
    pub(crate) size: Option<(u64, u64)>,
    /// Ids of the commands of `exec` that run; only for `inspect`.
    pub(crate) exec_ids: Vec<String>,
    /// Where it has a health check.
    pub(crate) health: Option<HealthState>,
    /// The control group of a running one; only for `inspect`.
    pub(crate) cgroup: Option<PathBuf>,
    /// The name of its image stands for another one now, or for none; only for lists.
    pub(crate) image_moved: bool,
}

impl Container {
    fn new(store: &Store, snapshot: Snapshot, size: Option<(u64, u64)>) -> Self {
        let health = store.health(&snapshot.record);
        Self {
            record: snapshot.record,
            status: snapshot.status,
            restart_count: snapshot.restart_count,
            last_started: snapshot.last_started,
            last_ended: snapshot.last_ended,
            not_started: snapshot.not_started,
            driver: snapshot.driver,
            ports: snapshot.ports,
            endpoints: snapshot.endpoints,
            size,
            exec_ids: Vec::new(),
            health,
            cgroup: None,
            image_moved: false,
        }
    }

    /// What `inspect` tells of the pressure on it.
    pub(crate) fn pressure(&self) -> Vec<(&'static str, &'static str, [f64; 3], u64)> {
        self.cgroup.as_deref().map(crate::cgroup::pressure).unwrap_or_default()
    }

    /// Docker's word for the state.
    pub(crate) fn state(&self) -> &'static str {
        match &self.status {
            Status::Created => "created",
            Status::Running { paused: true, .. } => "paused",
            Status::Running { .. } => "running",
            Status::Restarting { .. } => "restarting",
            Status::Exited(_) => "exited",
        }
    }

    /// Docker's word for its health: `none` where nothing is checked.
    pub(crate) fn health(&self) -> &'static str {
        self.health.as_ref().map_or("none", |health| health.status.name())
    }

    /// Whether `ps` shows it without `-a`.
    pub(crate) fn is_up(&self) -> bool {
        match &self.status {
            Status::Running { .. } | Status::Restarting { .. } => true,
            Status::Created | Status::Exited(_) => false,
        }
    }

    /// The image as its user named it, or its id where that name stands for another
    /// now; the directory of `--rootfs`. Cut as docker cuts it unless `whole`.
    pub(crate) fn image(&self, whole: bool) -> String {
        image::shown(self, whole)
    }

    /// The first process's words.
    pub(crate) fn command(&self) -> Vec<&str> {
        let config = &self.record.config;
        config.entrypoint.iter().flatten().chain(&config.cmd).map(String::as_str).collect()
    }
}

/// `--network` as a word.
pub(crate) fn network_name(mode: &NetworkMode) -> String {
    match mode {
        NetworkMode::Default => "default".into(),
        NetworkMode::Slirp { options } if options.is_empty() => "slirp4netns".into(),
        NetworkMode::Slirp { options } => format!("slirp4netns:{}", options.join(",")),
        NetworkMode::Pasta { options } if options.is_empty() => "pasta".into(),
        NetworkMode::Pasta { options } => format!("pasta:{}", options.join(",")),
        NetworkMode::Builtin { options } if options.is_empty() => "builtin".into(),
        NetworkMode::Builtin { options } => format!("builtin:{}", options.join(",")),
        NetworkMode::Bridge => "bridge".into(),
        NetworkMode::None => "none".into(),
        NetworkMode::Host => "host".into(),
        NetworkMode::Container(id) => format!("container:{id}"),
        NetworkMode::Path(path) => format!("ns:{path}"),
    }
}

/// The networks that a container is on, or `--network` as a word.
pub(crate) fn network_names(config: &ContainerConfig) -> Vec<String> {
    let own = (config.network != NetworkMode::Bridge).then(|| network_name(&config.network));
    own.into_iter().chain(config.networks.iter().map(|one| one.network.clone())).collect()
}

/// Which containers are wanted.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// Those that are not up as well.
    pub(crate) all: bool,
    /// The newest so many, whatever their state.
    pub(crate) last: Option<usize>,
    pub(crate) filters: Filters,
}

/// The containers that are wanted, newest first.
///
/// # Errors
/// `NotFound` where a filter compares with a container that does not exist.
pub(crate) fn select(mut containers: Vec<Container>, selection: &Selection) -> Result<Vec<Container>> {
    // The id decides between containers of the same moment, so that two calls agree.
    containers.sort_unstable_by(|one, two| {
        let (one, two) = (&one.record, &two.record);
        two.created.cmp(&one.created).then_with(|| two.id.cmp(&one.id))
    });
    let bounds = selection.filters.bounds(&containers)?;
    let all = selection.all || selection.last.is_some() || selection.filters.name_states();
    let wanted =
        |container: &Container| (all || container.is_up()) && selection.filters.accept(container, &bounds);
    let mut chosen: Vec<Container> = containers.into_iter().filter(wanted).collect();
    chosen.truncate(selection.last.unwrap_or(usize::MAX));
    Ok(chosen)
}

impl Engine {
    /// All containers, in no order. One that cannot be read is told as a note
    /// and left out, so that it does not hide the others.
    pub(crate) fn containers(&self, size: bool, notes: &mut Vec<Error>) -> Result<Vec<Container>> {
        let mut containers = Vec::new();
        let perhaps_living = self.store.perhaps_living()?;
        let (ids, left_over) = self.store.listing()?;
        if left_over {
            self.sweep().unwrap_or_else(|error| notes.push(error));
        }
        let (quiet, others): (Vec<_>, Vec<_>) =
            ids.into_iter().partition(|id| !size && !perhaps_living.contains(id.short()));
        let quiet = at_rest(&self.store, quiet);
        for (id, known) in quiet.into_iter().chain(others.into_iter().map(|id| (id, None))) {
            let container = match known {
                Some(Ok(Some(container))) => Ok(container),
                Some(Err(error)) => Err(error),
                Some(Ok(None)) | None => self.container(&id, size),
            };
            match container {
                Ok(container) => containers.push(container),
                // Removed while we looked.
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => notes.push(error.context(format!("container {}", id.short()))),
            }
        }
        share_ports(&mut containers);
        Ok(containers)
    }

    /// One container; its size takes a walk over its files.
    ///
    /// # Errors
    /// `NotFound` where there is none of that id.
    pub(crate) fn container(&self, id: &ContainerId, size: bool) -> Result<Container> {
        let snapshot = self.snapshot(id)?;
        let size = if size { Some(self.size(&snapshot.record)?) } else { None };
        Ok(Container::new(&self.store, snapshot, size))
    }

    /// Bytes of the writable layer, and of it and the image together.
    fn size(&self, record: &ContainerRecord) -> Result<(u64, u64)> {
        // Files of the container's other ids can be looked at from there alone.
        self.enter()?;
        let upper = self.dirs.container(&record.id).join("upper");
        let own = match std::fs::File::open(&upper) {
            Ok(upper) => own_usage(std::os::fd::AsFd::as_fd(&upper))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error).context(|| format!("open {}", upper.display())),
        };
        let RecordedRoot::Image { layers, .. } = &record.root else { return Ok((own, own)) };
        let store = LayerStore::open(&self.dirs.layers())?;
        let image: u64 = layers.iter().map(|layer| store.size(layer)).sum::<Result<u64>>()?;
        Ok((own, own + image))
    }
}

/// The ports that a pod publishes reach each of its containers: they are shown as
/// each one's, as podman does.
fn share_ports(containers: &mut [Container]) {
    let published = |one: &&Container| one.record.config.infra && !one.ports.is_empty();
    let holders: BTreeMap<String, Vec<Binding>> = containers
        .iter()
        .filter(published)
        .map(|one| (one.record.id.as_str().to_owned(), one.ports.clone()))
        .collect();
    for container in containers.iter_mut().filter(|one| one.record.config.pod.is_some()) {
        if let NetworkMode::Container(holder) = &container.record.config.network
            && let Some(ports) = holders.get(holder)
        {
            container.ports.clone_from(ports);
        }
    }
}

/// What is known of a container: `None` where it has not been looked at,
/// `Some(Ok(None))` where the look was not enough.
type Known = Option<Result<Option<Container>>>;

/// Containers that had no monitor when the list began.
fn at_rest(store: &Store, ids: Vec<ContainerId>) -> Vec<(ContainerId, Known)> {
    let one = |id: ContainerId| {
        let known = at_rest_one(store, &id);
        (id, Some(known))
    };
    in_parts(ids, |part| part.into_iter().map(one).collect())
}

/// `None` where one may have started it since.
fn at_rest_one(store: &Store, id: &ContainerId) -> Result<Option<Container>> {
    let snapshot = store.at_rest(store.record(id)?)?;
    Ok((!snapshot.lost).then(|| Container::new(store, snapshot, None)))
}

#[cfg(test)]
pub(crate) mod samples {
    //! Containers for tests.
    use super::*;
    use crate::types::container::ContainerConfig;
    use crate::types::digest::Digest;
    use crate::types::id::ContainerId;
    use crate::types::status::{Exit, ProcessId};

    pub(crate) fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    /// A container made on that day of January 2026, from the image `busybox`.
    pub(crate) fn container(name: &str, day: u8, status: Status) -> Container {
        let record = ContainerRecord {
            version: 1,
            id: ContainerId::from_bytes([day; 32]),
            name: name.to_owned(),
            created: time(&format!("2026-01-{day:02}T12:00:00Z")),
            root: RecordedRoot::Image {
                reference: "docker.io/library/busybox:latest".into(),
                id: Digest::of(b"image"),
                manifest: Digest::of(b"manifest"),
                layers: Vec::new(),
            },
            config: ContainerConfig { cmd: vec!["sleep".into(), "100".into()], ..ContainerConfig::default() },
            anonymous_volumes: Vec::new(),
        };
        Container {
            record,
            status,
            restart_count: 0,
            last_started: None,
            last_ended: None,
            not_started: None,
            driver: Driver::default(),
            ports: Vec::new(),
            endpoints: Vec::new(),
            size: None,
            exec_ids: Vec::new(),
            health: None,
            cgroup: None,
            image_moved: false,
        }
    }

    pub(crate) fn running(since: &str) -> Status {
        let process = |pid| ProcessId { pid, start_ticks: 1 };
        Status::Running { init: process(42), monitor: process(41), since: time(since), paused: false }
    }

    pub(crate) fn exited(code: u8, at: &str) -> Status {
        Status::Exited(Exit {
            code,
            started_at: time(at),
            finished_at: time(at),
            oom_killed: false,
            error: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::samples::{container, exited, running};
    use super::*;

    fn names(selection: &Selection) -> Vec<String> {
        let containers = vec![
            container("old", 1, exited(1, "2026-01-02T00:00:00Z")),
            container("up", 3, running("2026-01-03T12:00:00Z")),
            container("new", 5, Status::Created),
        ];
        let chosen = select(containers, selection).expect("valid");
        chosen.into_iter().map(|container| container.record.name).collect()
    }

    #[test]
    fn running_ones_are_shown_unless_more_is_asked_for() {
        assert_eq!(names(&Selection::default()), ["up"]);
        assert_eq!(names(&Selection { all: true, ..Selection::default() }), ["new", "up", "old"]);
        assert_eq!(names(&Selection { last: Some(2), ..Selection::default() }), ["new", "up"]);
        let filters =
            Filters::parse(&["status=exited".into()], "2026-01-09T00:00:00Z".parse().expect("time"));
        assert_eq!(names(&Selection { filters: filters.expect("valid"), ..Selection::default() }), ["old"]);
    }
}
