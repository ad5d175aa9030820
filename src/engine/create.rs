//! `create`: from a request to a record on disk.

use super::events::note_volume;
use super::pull::{self, PullOptions};
use super::{Engine, id_file, images, merge, names, remove};
use crate::error::{BestEffort, Context, Error, Kind, Result};
use crate::state::events;
use crate::state::store::RECORD_VERSION;
use crate::storage::unpack::Ownership;
use crate::storage::volume::{Hold, VolumeStore};
use crate::types::cgroup::CgroupnsMode;
use crate::types::container::{
    ContainerConfig, ContainerRecord, CreateRequest, PullPolicy, RecordedRoot, RootSource,
};
use crate::types::id::ContainerId;
use crate::types::mount::{MountSource, MountSpec};
use crate::types::namespace::{IpcMode, NamespaceMode, NetworkMode, UsernsMode};
use crate::types::port::{self, HostPort, Publish, check_duplicates};
use crate::types::progress::Report;
use crate::types::reference::Reference;
use crate::types::systemd;
use jiff::Timestamp;

/// How often an image is pulled that others remove at once.
const PULLS: usize = 3;

impl Engine {
    /// Records a container. Nothing runs yet. `tell` hears of a pull's progress.
    pub(crate) fn create(
        &self,
        request: &CreateRequest,
        tell: &mut dyn FnMut(Report),
    ) -> Result<ContainerId> {
        let mut config = request.config.clone();
        check_sources(&config.mounts)?;
        let path = request.cidfile.as_deref();
        let make = || self.create_in_pod(request, &mut config, tell);
        id_file::with("container id file", path, make, ContainerId::as_str)
    }

    fn create_in_pod(
        &self,
        request: &CreateRequest,
        config: &mut ContainerConfig,
        tell: &mut dyn FnMut(Report),
    ) -> Result<ContainerId> {
        let Some(choice) = &request.pod else { return self.create_record(request, config, tell) };
        let pod = self.join_pod(choice, config, tell)?;
        self.create_record(request, config, tell).inspect_err(|_| self.leave_pod(&pod))
    }

    fn create_record(
        &self,
        request: &CreateRequest,
        config: &mut ContainerConfig,
        tell: &mut dyn FnMut(Report),
    ) -> Result<ContainerId> {
        // Until the record is on disk, nobody may remove the image it names.
        let mut pin = images::pin(&self.dirs)?;
        let root = match &request.source {
            RootSource::Image(name) => {
                let image = self.image(request, name, &mut pin, tell)?;
                merge::merge(config, &image.config)?;
                // A clone has that of the other, whose image it gets by its id.
                if config.image.is_empty() {
                    config.image.clone_from(name);
                }
                RecordedRoot::Image {
                    reference: image.name(),
                    id: image.id,
                    manifest: image.manifest,
                    layers: image.layers,
                }
            }
            RootSource::Directory { path, overlay } => {
                let path = std::fs::canonicalize(path).context(|| format!("--rootfs {}", path.display()))?;
                if !path.is_dir() {
                    return Err(Error::invalid(format!("--rootfs {}: not a directory", path.display())));
                }
                merge::merge_environment(config, &[])?;
                RecordedRoot::Directory { path, overlay: *overlay }
            }
            RootSource::Nothing => RecordedRoot::Nothing,
        };
        merge::check_health(config)?;
        let is_silent = config.entrypoint.as_ref().is_none_or(Vec::is_empty) && config.cmd.is_empty();
        if is_silent && !config.infra {
            return Err(Error::invalid("no command: neither the image nor the command line names one")
                .hint("add one: coracle run IMAGE COMMAND"));
        }
        if config.runs_systemd() {
            config.stop_signal.get_or_insert_with(|| systemd::STOP_SIGNAL.to_owned());
        }
        self.find_images(request, config, &mut pin, tell)?;
        self.find_secrets(config)?;
        self.take_volumes_from(config)?;
        self.resolve_shared_namespaces(config)?;
        settle_ports(config, tell)?;
        self.check_networks(config)?;
        let id = new_id()?;
        let mut record = ContainerRecord {
            version: RECORD_VERSION,
            id,
            name: request.name.clone().unwrap_or_default(),
            created: Timestamp::now(),
            root,
            config: config.clone(),
            anonymous_volumes: Vec::new(),
        };
        self.lease_static(&record.id, config)?;
        let hold = self.make_volumes(&mut record)?;
        // Who removes the pod from now on finds it; that of an infra container is just being made.
        let pod = config.pod.as_ref().filter(|_| !config.infra).map(|pod| self.pod_store().lock(&pod.id));
        let _pod = pod.transpose().inspect_err(|_| self.drop_volumes(&record))?;
        let published = self.publish(request, &mut record);
        drop(hold);
        published.inspect_err(|_| self.drop_volumes(&record))?;
        events::append(&self.dirs, &events::of_container(&record, "create")).or_ignore();
        Ok(record.id)
    }

    /// Volumes of a container that did not come to be.
    fn drop_volumes(&self, record: &ContainerRecord) {
        if let Ok(store) = VolumeStore::open(&self.dirs.volumes()) {
            for name in &record.anonymous_volumes {
                store.remove(name, &|_| Ok(Vec::new())).or_ignore();
            }
        }
    }

    /// The image, pulled where the policy says so, with its layers unpacked.
    fn image(
        &self,
        request: &CreateRequest,
        name: &str,
        pin: &mut Option<std::fs::File>,
        tell: &mut dyn FnMut(Report),
    ) -> Result<images::LocalImage> {
        let platform = request.platform.as_ref();
        let local =
            if request.pull == PullPolicy::Always { None } else { images::find(&self.dirs, name, platform)? };
        let image = match (local, request.pull) {
            (Some(image), PullPolicy::Missing | PullPolicy::Never) => {
                images::warn_of_platform(&image.config, platform, tell);
                image
            }
            (None, PullPolicy::Never) => {
                return Err(Error::not_found(format!("no such image: {name}"))
                    .hint("--pull=never was given: pull or load it first"));
            }
            (local, policy) => {
                let ownership = self.ownership()?;
                let options =
                    PullOptions { platform: request.platform.clone(), registry: self.registry.clone() };
                if local.is_none() && policy != PullPolicy::Always {
                    let full =
                        Reference::parse(name).map_or_else(|_| name.to_owned(), |name| name.familiar());
                    tell(Report::Line(format!("Unable to find image '{full}' locally")));
                }
                // A pull locks the store by itself.
                drop(pin.take());
                match (self.pulled(name, &options, ownership, pin, tell), local) {
                    (Err(error), Some(local)) if policy == PullPolicy::Newer => {
                        tell(Report::Warning(format!("using the local image: {error}")));
                        local
                    }
                    (result, _) => result?,
                }
            }
        };
        let layers = crate::storage::layers::LayerStore::open(&self.dirs.layers())?;
        if !image.layers.iter().all(|layer| layers.contains(layer)) {
            images::ensure_layers(&self.dirs, &image, self.ownership()?)?;
        }
        Ok(image)
    }

    /// Pulls an image that stays here as long as the pin.
    fn pulled(
        &self,
        name: &str,
        options: &PullOptions,
        ownership: Ownership,
        pin: &mut Option<std::fs::File>,
        tell: &mut dyn FnMut(Report),
    ) -> Result<images::LocalImage> {
        for _ in 0..PULLS {
            let image = pull::pull(&self.dirs, name, options, ownership, tell)?;
            *pin = images::pin(&self.dirs)?;
            // Who removes images may have come before the pin.
            let there = images::find(&self.dirs, &image.manifest.to_string(), None)?;
            if there.is_some_and(|there| there.id == image.id) {
                return Ok(image);
            }
            drop(pin.take());
        }
        Err(Error::failed(format!("image {name} was removed each time that it was pulled")).hint("try again"))
    }

    fn publish(&self, request: &CreateRequest, record: &mut ContainerRecord) -> Result<()> {
        if let Some(name) = &request.name {
            self.check_no_pod(name)?;
            let taken = self.store.create(record);
            return match taken {
                Err(error) if error.kind() == Kind::Conflict && request.replace => {
                    let old = self.store.resolve(&record.name)?;
                    let force = remove::RemoveOptions { force: true, volumes: false, time: None };
                    self.remove(&old, &force)?;
                    self.store.create(record)
                }
                result => result,
            };
        }
        names::with_random(|name| {
            record.name = name;
            self.check_no_pod(&record.name)?;
            self.store.create(record)
        })
    }

    /// The mounts of other containers, where nothing else is asked for at their targets.
    fn take_volumes_from(&self, config: &mut ContainerConfig) -> Result<()> {
        for word in config.volumes_from.clone() {
            let (name, mode) = word.split_once(':').unwrap_or((&word, ""));
            let id = self.store.resolve(name).map_err(|error| error.context("--volumes-from"))?;
            for mut mount in self.store.record(&id)?.config.mounts {
                let shareable = matches!(mount.source, MountSource::Volume { .. } | MountSource::Bind { .. });
                let free = config
                    .mounts
                    .iter()
                    .all(|own| own.target != mount.target || own.source == MountSource::Anonymous);
                if shareable && free {
                    config.mounts.retain(|own| own.target != mount.target);
                    mount.options.read_only |= mode.split(',').any(|word| word == "ro");
                    config.mounts.push(mount);
                }
            }
        }
        Ok(())
    }

    /// Makes the volumes that are missing. What it gives keeps them from being
    /// removed until the record is on disk.
    fn make_volumes(&self, record: &mut ContainerRecord) -> Result<Option<Hold>> {
        let needed =
            |mount: &MountSpec| matches!(mount.source, MountSource::Anonymous | MountSource::Volume { .. });
        if !record.config.mounts.iter().any(needed) {
            return Ok(None);
        }
        let store = VolumeStore::open(&self.dirs.volumes())?;
        let hold = store.hold()?;
        for mount in &mut record.config.mounts {
            match &mount.source {
                MountSource::Anonymous => {
                    let name = VolumeStore::anonymous_name()?;
                    let asked = (mount.options.volume_labels.clone(), mount.options.volume_options.clone());
                    store.get_or_create_with(&name, true, asked)?;
                    note_volume(&self.dirs, "create", &name);
                    record.anonymous_volumes.push(name.clone());
                    mount.source = MountSource::Volume { name };
                }
                MountSource::Volume { name } => {
                    let made = !store.data_path(name).exists();
                    let asked = (mount.options.volume_labels.clone(), mount.options.volume_options.clone());
                    store.get_or_create_with(name, false, asked)?;
                    if made {
                        note_volume(&self.dirs, "create", name);
                    }
                }
                MountSource::Bind { .. }
                | MountSource::Tmpfs { .. }
                | MountSource::Overlay { .. }
                | MountSource::Image { .. } => {}
            }
        }
        Ok(Some(hold))
    }

    /// The images that are mounted, as they are now: pulled and unpacked as the
    /// container's own.
    fn find_images(
        &self,
        request: &CreateRequest,
        config: &mut ContainerConfig,
        pin: &mut Option<std::fs::File>,
        tell: &mut dyn FnMut(Report),
    ) -> Result<()> {
        for mount in &mut config.mounts {
            let MountSource::Image { reference, id, layers } = &mut mount.source else { continue };
            // That of a container that is cloned is the one which that has.
            let name = id.as_ref().map_or_else(|| reference.clone(), ToString::to_string);
            let image = self
                .image(request, &name, pin, tell)
                .map_err(|error| error.context(format!("mount {}", mount.target)))?;
            (*id, *layers) = (Some(image.id), image.layers);
        }
        Ok(())
    }

    /// Names of other containers become their ids, which a rename does not change.
    fn resolve_shared_namespaces(&self, config: &mut ContainerConfig) -> Result<()> {
        let resolve = |word: &mut String| -> Result<ContainerRecord> {
            let id = self.store.resolve(word)?;
            id.as_str().clone_into(word);
            self.store.record(&id)
        };
        if let NamespaceMode::Container(word) = &mut config.pid {
            // Podman: whose processes are the host's shares those.
            if resolve(word)?.config.pid == NamespaceMode::Host {
                config.pid = NamespaceMode::Host;
            }
        }
        if let NamespaceMode::Container(word) = &mut config.uts {
            resolve(word)?;
        }
        if let CgroupnsMode::Container(word) = &mut config.cgroupns {
            if resolve(word)?.config.cgroupns == CgroupnsMode::Host {
                config.cgroupns = CgroupnsMode::Host;
            }
        }
        if let NetworkMode::Container(word) = &mut config.network {
            // Docker: whose address it has, that name it has, which the shared
            // /etc/hosts knows. The name of a pod is another matter.
            let owner = resolve(word)?;
            let named = &owner.config;
            let has_own_name = named.uts == NamespaceMode::Private && named.network != NetworkMode::Host;
            if config.uts == NamespaceMode::Private && config.pod.is_none() && has_own_name {
                let name = || named.hostname.clone().unwrap_or_else(|| owner.id.short().to_owned());
                config.hostname.get_or_insert_with(name);
            }
        }
        if let UsernsMode::Container(word) = &mut config.userns {
            resolve(word)?;
        }
        if let IpcMode::Container(word) = &mut config.ipc {
            let asked = word.clone();
            match resolve(word)?.config.ipc {
                IpcMode::Shareable | IpcMode::Container(_) => {}
                IpcMode::Host => config.ipc = IpcMode::Host,
                IpcMode::Private | IpcMode::None => {
                    return Err(Error::conflict(format!(
                        "container {asked}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
                    ))
                    .hint("make that one with --ipc=shareable"));
                }
            }
        }
        Ok(())
    }
}

/// One whose short form is no number: as a host name that would be taken for an address,
/// and not be looked up (gethostbyname(3)).
fn new_id() -> Result<ContainerId> {
    loop {
        let mut random = [0; 32];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .context(|| "get random bytes for the id")?;
        let id = ContainerId::from_bytes(random);
        if !id.is_numeric() {
            return Ok(id);
        }
    }
}

/// Docker's and podman's answer comes here, not at the start: so that nothing is
/// left of a container that cannot start. `-v` makes the directory that is missing.
fn check_sources(mounts: &[MountSpec]) -> Result<()> {
    for mount in mounts {
        let path = match &mount.source {
            MountSource::Bind { path, create: false } | MountSource::Overlay { path } => path,
            MountSource::Bind { create: true, .. }
            | MountSource::Volume { .. }
            | MountSource::Anonymous
            | MountSource::Tmpfs { .. }
            | MountSource::Image { .. } => continue,
        };
        // Who may not look may still be able to mount: the start tells.
        if std::fs::metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            return Err(Error::invalid(format!("bind source path does not exist: {}", path.display()))
                .context(format!("mount {}", mount.target))
                .hint("the source of a bind mount must exist; make it first"));
        }
    }
    Ok(())
}

/// What `-P` means, now that the image's ports are known; and what is published
/// is exposed, as with docker.
fn settle_ports(config: &mut ContainerConfig, tell: &mut dyn FnMut(Report)) -> Result<()> {
    if config.publish_all {
        for port in port::exposed(&config.expose) {
            if config.publish.iter().all(|publish| publish.port != port) {
                config.publish.push(Publish { address: None, host: HostPort::Any, port, by_exposure: true });
            }
        }
    }
    check_duplicates(&config.publish)?;
    let exposed = port::exposed(&config.expose);
    for publish in &config.publish {
        let word = publish.port.to_string();
        if !exposed.contains(&publish.port) && !config.expose.contains(&word) {
            config.expose.push(word);
        }
    }
    if config.network.discards_ports() && !config.publish.is_empty() {
        let mode = if config.network == NetworkMode::Host { "host" } else { "none" };
        let text = format!("Published ports are discarded when using {mode} network mode");
        tell(Report::Warning(text));
    }
    Ok(())
}
