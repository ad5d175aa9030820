//! `system check`: whether the store is what it says it is, and its repair.
//!
//! Blobs are hashed. Unpacked layers are compared with their archives: once by
//! unpacking these again, from then on by the digest of their files that was
//! recorded. Nothing is locked meanwhile; what seems to be missing is looked
//! for again at the end, so that a removal is not taken for damage.

use super::Engine;
use super::images::{LocalImage, ensure_layers};
use super::orphans::{self, Needed, Orphans};
use super::pull::{PullOptions, pull};
use super::remove::RemoveOptions;
use super::rmi;
use crate::error::{Context, Error, Result, Trouble};
use crate::image::archive::copy;
use crate::image::blob::Blobs;
use crate::image::compression::decoder;
use crate::image::manifest::Descriptor;
use crate::image::names;
use crate::image::reach::reach;
use crate::image::rebuild::Known;
use crate::image::store::{Entry, ImageStore};
use crate::state::events::Log;
use crate::storage::layers::LayerStore;
use crate::storage::unpack::Ownership;
use crate::types::container::RecordedRoot;
use crate::types::digest::{Digest, Hashed};
use crate::types::event::EventKind;
use crate::types::id::ContainerId;
use crate::types::progress::Report;
use crate::types::reference::Reference;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CheckOptions {
    /// Sizes alone, no contents.
    pub(crate) quick: bool,
    pub(crate) repair: bool,
    /// Removes what cannot be repaired.
    pub(crate) force: bool,
}

/// Something that is not as it should be.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) error: String,
    /// Names of the images, or of the containers, that it concerns.
    pub(crate) concerns: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FaultKind {
    /// An entry whose documents cannot be read, at this digest.
    Image(Digest),
    Blob(Digest),
    /// Chain id.
    Layer(Digest),
    Container(ContainerId),
    /// One of the layout's own.
    File(&'static str),
}

impl std::fmt::Display for FaultKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Image(digest) => write!(f, "image {digest}"),
            Self::Blob(digest) => write!(f, "blob {digest}"),
            Self::Layer(chain_id) => write!(f, "layer {}", chain_id.hex()),
            Self::Container(id) => write!(f, "container {}", id.short()),
            Self::File(name) => write!(f, "file images/{name}"),
        }
    }
}

/// What a check found and did.
#[derive(Debug, Default)]
pub(crate) struct CheckReport {
    pub(crate) images: usize,
    pub(crate) blobs: usize,
    pub(crate) layers: usize,
    /// Bytes that were hashed or compared.
    pub(crate) bytes: u64,
    /// As found; with repair those that are left are in `left`.
    pub(crate) faults: Vec<Fault>,
    pub(crate) left: Vec<Fault>,
    /// What the repair did, a line each.
    pub(crate) done: Vec<String>,
    pub(crate) orphans: Orphans,
}

impl Engine {
    /// Checks the store, and repairs it where that is asked for.
    ///
    /// # Errors
    /// Where the store cannot be read at all.
    pub(crate) fn check(&self, options: CheckOptions, tell: &mut dyn FnMut(&str)) -> Result<CheckReport> {
        let mut report = CheckReport::default();
        if !ImageStore::exists(&self.dirs.images()) {
            return Ok(report);
        }
        self.enter()?;
        let files = ImageStore::at(&self.dirs.images()).damaged_files();
        let store = ImageStore::open(&self.dirs.images())?;
        if !files.is_empty() && !options.repair {
            report.faults = files.into_iter().map(of_file).collect();
            report.left.clone_from(&report.faults);
            // Without them nothing else can be said.
            return Ok(report);
        }
        if !files.is_empty() {
            report.done = self.rebuild(&store)?;
        }
        let layers = LayerStore::open(&self.dirs.layers())?;
        if !options.quick && self.ownership()? == Ownership::Squash {
            refuse_foreign(&layers)?;
        }
        let check = Check { engine: self, store: &store, layers: &layers, quick: options.quick };
        report.faults = check.run(&mut report)?;
        report.left.clone_from(&report.faults);
        if options.repair && !report.faults.is_empty() {
            check.repair(options, &mut report, tell)?;
            let again = Check { quick: false, ..check };
            report.left = again.run(&mut CheckReport::default())?;
        }
        report.faults.splice(0..0, files.into_iter().map(of_file));
        report.orphans = self.orphans(&store, &layers, options.repair)?;
        Ok(report)
    }

    /// Makes the layout's own files anew; what was done, a line each.
    fn rebuild(&self, store: &ImageStore) -> Result<Vec<String>> {
        let mut known = Known::default();
        // The event log first: what containers say is newer, or the same.
        let mut log = Log::open(&self.dirs)?;
        log.read(&mut |event| {
            let name = event.attributes.get("name").and_then(|name| Reference::parse(name).ok());
            if let (EventKind::Image, Ok(id), Some(name)) = (event.kind, Digest::parse(&event.id), name) {
                match event.action.as_str() {
                    "load" | "import" | "tag" => known.names.push((id, name)),
                    "untag" => known.names.retain(|(_, other)| *other != name),
                    _ => {}
                }
            }
            Ok(())
        })?;
        let mut records = self.store.records(&mut Vec::new())?;
        records.sort_by_key(|record| record.created);
        for record in records {
            known.used.extend(record.images().map(|(image, _)| image.clone()));
            if let RecordedRoot::Image { reference, id, .. } = record.root
                && let Ok(name) = Reference::parse(&reference)
            {
                known.names.push((id, name));
            }
        }
        let rebuilt = store.rebuild(&known)?;
        let mut done = vec![format!(
            "made the list of images anew: {} images, {} of them with a name",
            rebuilt.images, rebuilt.named
        )];
        if rebuilt.named < rebuilt.images {
            done.push("images without a name get one by `coracle tag`, or by the next pull".to_owned());
        }
        Ok(done)
    }

    fn orphans(&self, store: &ImageStore, layers: &LayerStore, remove: bool) -> Result<Orphans> {
        store.update(|entries| {
            // What a damaged image needs is not known.
            let Ok(needed) = Needed::by(store, entries, &self.images_in_use()?) else {
                return Ok(Orphans::default());
            };
            let found = orphans::find(store, layers, &needed)?;
            if remove {
                layers.sweep()?;
                orphans::remove(store, layers, &found)?;
            }
            Ok(found)
        })
    }
}

/// Files of ids that are gone cannot be read, and are not damaged for that.
fn refuse_foreign(layers: &LayerStore) -> Result<()> {
    match layers.list()?.iter().find(|layer| !layers.is_squashed(layer)) {
        None => Ok(()),
        Some(layer) => Err(Error::failed(format!(
            "the layer {} was unpacked with subordinate ids, and there is a single id now",
            layer.short()
        ))
        .hint("--quick looks at all but the files of layers")
        .see_doctor(Trouble::Ids)),
    }
}

/// One layer and what it is unpacked from.
struct Source {
    diff_id: Digest,
    blob: Descriptor,
    names: BTreeSet<String>,
}

#[derive(Clone, Copy)]
struct Check<'a> {
    engine: &'a Engine,
    store: &'a ImageStore,
    layers: &'a LayerStore,
    quick: bool,
}

impl Check<'_> {
    /// All faults there are.
    fn run(&self, report: &mut CheckReport) -> Result<Vec<Fault>> {
        let entries = self.store.entries()?;
        report.images = entries.len();
        let mut faults = Vec::new();
        let mut blobs: BTreeMap<Digest, (u64, BTreeSet<String>)> = BTreeMap::new();
        let mut sources: BTreeMap<Digest, Source> = BTreeMap::new();
        for entry in &entries {
            let name = name_of(entry);
            match self.look_into(entry, &name, &mut blobs, &mut sources) {
                Ok(()) => {}
                Err(_) if !self.is_there(entry)? => {}
                Err(error) => faults.push(Fault {
                    kind: FaultKind::Image(entry.0.digest.clone()),
                    error: error.to_string(),
                    concerns: vec![name],
                }),
            }
        }
        for entry in &self.store.artifacts()? {
            let name = name_of(entry);
            match self.store.artifact(entry) {
                Ok(artifact) => {
                    for blob in std::iter::once(&entry.0).chain(artifact.own_blobs()) {
                        let known = blobs.entry(blob.digest.clone());
                        known.or_insert_with(|| (blob.size, BTreeSet::new())).1.insert(name.clone());
                    }
                }
                Err(error) => faults.push(Fault {
                    kind: FaultKind::Image(entry.0.digest.clone()),
                    error: error.to_string(),
                    concerns: vec![name],
                }),
            }
        }
        report.blobs = blobs.len();
        let mut bad = BTreeSet::new();
        for (digest, (size, names)) in blobs {
            report.bytes += if self.quick { 0 } else { size };
            if let Err(error) = check_blob(self.store.blobs(), &digest, size, self.quick) {
                bad.insert(digest.clone());
                let concerns = names.into_iter().collect();
                faults.push(Fault { kind: FaultKind::Blob(digest), error: error.to_string(), concerns });
            }
        }
        for chain_id in self.layers.list()? {
            report.layers += 1;
            let source = sources.get(&chain_id).filter(|source| !bad.contains(&source.blob.digest));
            if let Err(error) = self.layer(&chain_id, source) {
                let names = sources.get(&chain_id).map(|source| source.names.clone()).unwrap_or_default();
                let concerns = names.into_iter().collect();
                faults.push(Fault { kind: FaultKind::Layer(chain_id), error: error.to_string(), concerns });
            }
        }
        faults.extend(self.containers()?);
        // An image may have been removed since.
        let mut now = self.store.entries()?;
        now.extend(self.store.artifacts()?);
        let gone: BTreeSet<String> =
            entries.iter().filter(|entry| !now.contains(entry)).map(name_of).collect();
        faults.retain(|fault| {
            fault.concerns.is_empty() || fault.concerns.iter().any(|name| !gone.contains(name))
        });
        Ok(faults)
    }

    fn look_into(
        &self,
        entry: &Entry,
        name: &str,
        blobs: &mut BTreeMap<Digest, (u64, BTreeSet<String>)>,
        sources: &mut BTreeMap<Digest, Source>,
    ) -> Result<()> {
        let reach = reach(self.store, entry)?;
        for blob in reach.all() {
            let known = blobs.entry(blob.digest.clone()).or_insert_with(|| (blob.size, BTreeSet::new()));
            known.1.insert(name.to_owned());
        }
        for manifest in &reach.manifests {
            // A config that cannot be read is found among the blobs.
            let Ok(config) = self.store.config_of(manifest) else { continue };
            let ids = config.chain_ids().into_iter().zip(&config.rootfs.diff_ids);
            for ((chain_id, diff_id), blob) in ids.zip(&manifest.layers) {
                let source = sources.entry(chain_id).or_insert_with(|| Source {
                    diff_id: diff_id.clone(),
                    blob: blob.clone(),
                    names: BTreeSet::new(),
                });
                source.names.insert(name.to_owned());
            }
        }
        Ok(())
    }

    fn is_there(&self, entry: &Entry) -> Result<bool> {
        Ok(self.store.entries()?.contains(entry))
    }

    /// Compares one layer with its archive.
    fn layer(&self, chain_id: &Digest, source: Option<&Source>) -> Result<()> {
        if !self.layers.contains(chain_id) {
            return Err(Error::failed("its files are gone"));
        }
        if self.quick {
            return Ok(());
        }
        if let Some(recorded) = self.layers.recorded_digest(chain_id) {
            return if self.layers.digest(chain_id)? == recorded { Ok(()) } else { Err(changed()) };
        }
        // Without its archive there is nothing to compare it with.
        let Some(Source { diff_id, blob, .. }) = source else { return Ok(()) };
        let (_, mut tar) = decoder(self.store.blobs().open(&blob.digest)?)?;
        if self.layers.compare(chain_id, diff_id, &mut *tar)? { Ok(()) } else { Err(changed()) }
    }

    /// Containers whose layers are gone.
    fn containers(&self) -> Result<Vec<Fault>> {
        let mut faults = Vec::new();
        for id in self.engine.store.ids()? {
            let Ok(record) = self.engine.store.record(&id) else { continue };
            let lost =
                record.images().flat_map(|(_, layers)| layers).find(|layer| !self.layers.contains(layer));
            if let Some(lost) = lost.cloned() {
                faults.push(Fault {
                    kind: FaultKind::Container(id),
                    error: format!("its layer {} is gone", lost.hex()),
                    concerns: vec![record.name],
                });
            }
        }
        Ok(faults)
    }

    fn repair(
        &self,
        options: CheckOptions,
        report: &mut CheckReport,
        tell: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let running = self.running_layers()?;
        let mut names: BTreeSet<String> = BTreeSet::new();
        for fault in &report.faults {
            match &fault.kind {
                FaultKind::Blob(digest) => {
                    self.store.blobs().remove(digest)?;
                    report.done.push(format!("removed {}", fault.kind));
                }
                FaultKind::Layer(chain_id) => match running.get(chain_id) {
                    Some(container) => {
                        tell(&format!("container {container} runs on {}: stop it first", fault.kind));
                        continue;
                    }
                    None => {
                        self.layers.remove(chain_id)?;
                        report.done.push(format!("removed {}", fault.kind));
                    }
                },
                FaultKind::Image(digest) => self.store.blobs().remove(digest)?,
                FaultKind::Container(_) | FaultKind::File(_) => continue,
            }
            names.extend(fault.concerns.iter().cloned());
        }
        for name in &names {
            match self.restore(name, tell) {
                Ok(()) => report.done.push(format!("restored image {name}")),
                Err(error) if options.force => {
                    tell(&format!("{name} cannot be restored and is removed: {error}"));
                    self.give_up(name)?;
                    report.done.push(format!("removed image {name}"));
                }
                Err(error) => tell(&format!("{name} cannot be restored: {}", error.in_a_line())),
            }
        }
        if options.force {
            for fault in self.containers()? {
                let FaultKind::Container(id) = &fault.kind else { continue };
                self.engine.remove(id, &RemoveOptions::default())?;
                report.done.push(format!("removed {}", fault.kind));
            }
        }
        Ok(())
    }

    /// The layers under containers that are up, and the names of these.
    fn running_layers(&self) -> Result<BTreeMap<Digest, String>> {
        let mut notes = Vec::new();
        let mut running = BTreeMap::new();
        for container in self.engine.containers(false, &mut notes)? {
            if container.is_up() {
                let layers = container.record.images().flat_map(|(_, layers)| layers);
                running.extend(layers.map(|layer| (layer.clone(), container.record.name.clone())));
            }
        }
        Ok(running)
    }

    /// Gets what is missing of an image from where it came, and unpacks it.
    fn restore(&self, name: &str, tell: &mut dyn FnMut(&str)) -> Result<()> {
        let ownership = self.engine.ownership()?;
        let dirs = &self.engine.dirs;
        let entry = self.store.entries()?.into_iter().find(|entry| name_of(entry) == name);
        let Some(entry) = entry else {
            return if self.store.artifacts()?.iter().any(|entry| name_of(entry) == name) {
                Err(Error::invalid("it is an artifact that was pushed here")
                    .hint("push it again, or remove it: --repair --force"))
            } else {
                Ok(())
            };
        };
        let whole = |image: &crate::image::store::StoredImage| {
            image.manifest.layers.iter().all(|layer| self.store.blobs().contains(layer))
        };
        if let Some(image) = self.store.read(&entry, None).ok().filter(whole) {
            return ensure_layers(dirs, &LocalImage::new(image, entry.name()), ownership);
        }
        let Some(reference) = entry.name() else {
            return Err(Error::invalid("it has no name, so nobody knows where it came from")
                .hint("load it again, or remove it: --repair --force"));
        };
        // By its digest: the name may mean another image by now.
        let exact = reference.at(&entry.source_digest());
        let known = self.store.entries()?.iter().any(|other| other.name().as_ref() == Some(&exact));
        let mut tell_lines = |report| {
            if let Report::Line(text) | Report::Warning(text) = report {
                tell(&text);
            }
        };
        pull(dirs, &exact.to_string(), &PullOptions::default(), ownership, &mut tell_lines)
            .map_err(|error| error.hint("load it again from its archive, or remove it: --repair --force"))?;
        if known {
            return Ok(());
        }
        self.store.update(|entries| {
            let pulled = entries.iter().find(|other| other.name().as_ref() == Some(&exact)).cloned();
            entries.retain(|other| other.name().as_ref() != Some(&exact));
            match pulled {
                // Its layers were compressed on the way there: the same image in that form.
                Some(other) if other.manifest_digest() != entry.manifest_digest() => {
                    entries.retain(|other| other.name_text() != entry.name_text());
                    names::assign(entries, other, Some(&reference));
                }
                // It was under its own name only.
                _ if !entries.iter().any(|other| other.name_text() == entry.name_text()) => {
                    names::assign(entries, entry.clone(), Some(&reference));
                }
                _ => {}
            }
            Ok(())
        })
    }

    /// Takes an image that cannot be restored from the index, and the layers of
    /// which nothing else is known.
    fn give_up(&self, name: &str) -> Result<()> {
        self.store.update_with_artifacts(|images, artifacts| {
            for entries in [images, artifacts] {
                entries.retain(|entry| name_of(entry) != name);
            }
            Ok(())
        })?;
        let mut notes = Vec::new();
        rmi::prune(&self.engine.dirs, &|_, _| false, &|| self.engine.images_in_use(), &mut notes).map(drop)
    }
}

fn of_file((name, error): (&'static str, Error)) -> Fault {
    Fault { kind: FaultKind::File(name), error: error.to_string(), concerns: Vec::new() }
}

fn changed() -> Error {
    Error::failed("its files are not what was unpacked")
}

fn name_of(entry: &Entry) -> String {
    entry.name().map_or_else(|| entry.0.digest.to_string(), |name| name.familiar())
}

/// # Errors
/// Where the blob is missing or is not the one of this digest.
fn check_blob(blobs: &Blobs, digest: &Digest, size: u64, quick: bool) -> Result<()> {
    let mut file = match std::fs::File::open(blobs.path(digest)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::failed("it is missing"));
        }
        result => result.context(|| "open it")?,
    };
    let has = file.metadata().context(|| "look at it")?.len();
    if has != size {
        return Err(Error::failed(format!("it has {has} bytes instead of {size}")));
    }
    if quick {
        return Ok(());
    }
    let mut content = Hashed::with(std::io::sink(), digest.algorithm());
    copy(&mut file, &mut content).context(|| "read it")?;
    if content.finish().1 == *digest { Ok(()) } else { Err(Error::failed("its content is damaged")) }
}
