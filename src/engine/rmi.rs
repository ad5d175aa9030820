//! Removes images, their names, and what only they used.

use super::events::note_image;
use super::images::{no_such_image, same_image};
use super::orphans::{self, Needed};
use crate::dirs::Dirs;
use crate::error::{BestEffort, Error, Result};
use crate::image::names::{self, Found};
use crate::image::reach::{Reach, reach};
use crate::image::store::{Entry, ImageStore};
use crate::storage::layers::LayerStore;
use crate::types::digest::Digest;
use crate::types::reference::Reference;
use crate::types::status::Status;
use std::collections::{BTreeMap, BTreeSet};

/// What containers use: asked for under the store's lock, so that a container
/// whose record was written under a [`super::images::pin`] is always seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct InUse {
    /// Image ids, and the names of the containers.
    pub(crate) images: BTreeMap<Digest, Vec<String>>,
    /// The same of the containers that run.
    pub(crate) running: BTreeMap<Digest, Vec<String>>,
    /// Chain ids.
    pub(crate) layers: BTreeSet<Digest>,
}

/// One line of what docker's `rmi` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Removed {
    Untagged(Reference),
    Deleted(Digest),
}

impl std::fmt::Display for Removed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Untagged(name) => write!(f, "Untagged: {}", name.familiar()),
            Self::Deleted(digest) => write!(f, "Deleted: {digest}"),
        }
    }
}

/// Removes a name, and with the last one the image; or an image by its id.
///
/// # Errors
/// `NotFound`; `Conflict` where a container uses the image or an id has several
/// names, unless `force`, and for the id of an image that a running container
/// uses. With `force` layers that a container uses stay.
pub(crate) fn remove(
    dirs: &Dirs,
    name: &str,
    force: bool,
    in_use: &dyn Fn() -> Result<InUse>,
    notes: &mut Vec<Error>,
) -> Result<Vec<Removed>> {
    if !ImageStore::exists(&dirs.images()) {
        return Err(no_such_image(name));
    }
    let store = ImageStore::open(&dirs.images())?;
    let layers = LayerStore::open(&dirs.layers())?;
    // What killed pulls left behind goes on the way.
    layers.sweep()?;
    store.update_then(
        |entries| {
            let used = in_use()?;
            let plan = plan(entries, name, force, &used)?;
            Ok((apply(entries, &plan), used))
        },
        |entries, (mut done, used)| {
            let gone: Vec<&Entry> = done.gone.iter().collect();
            let mut sweep = Sweep { store: &store, layers: &layers, used: &used, freed: None };
            let deleted = sweep.run(entries, &gone, notes);
            note(dirs, &done, &deleted);
            done.lines.extend(deleted.into_iter().map(Removed::Deleted));
            Ok(done.lines)
        },
    )
}

/// What a prune of images did.
#[derive(Debug, Default)]
pub(crate) struct PrunedImages {
    pub(crate) lines: Vec<Removed>,
    /// On the disk: of layers and blobs.
    pub(crate) bytes: u64,
}

/// Removes every image that `wanted` accepts and no container uses.
pub(crate) fn prune(
    dirs: &Dirs,
    wanted: &dyn Fn(&ImageStore, &Entry) -> bool,
    in_use: &dyn Fn() -> Result<InUse>,
    notes: &mut Vec<Error>,
) -> Result<PrunedImages> {
    if !ImageStore::exists(&dirs.images()) {
        return Ok(PrunedImages::default());
    }
    let store = ImageStore::open(&dirs.images())?;
    let layers = LayerStore::open(&dirs.layers())?;
    // What killed pulls left behind goes on the way.
    layers.sweep()?;
    store.update_then(
        |entries| {
            let used = in_use()?;
            let unused = |entry: &Entry| !entry.image_id().is_some_and(|id| used.images.contains_key(&id));
            let plan = entries
                .iter()
                .map(|entry| unused(entry) && wanted(&store, entry))
                .map(|remove| if remove { Step::Remove } else { Step::Keep })
                .collect::<Vec<_>>();
            Ok((apply(entries, &plan), used))
        },
        |entries, (mut done, used)| {
            let gone: Vec<&Entry> = done.gone.iter().collect();
            let mut bytes = 0;
            let mut sweep = Sweep { store: &store, layers: &layers, used: &used, freed: Some(&mut bytes) };
            let deleted = sweep.run(entries, &gone, notes);
            note(dirs, &done, &deleted);
            done.lines.extend(deleted.into_iter().map(Removed::Deleted));
            Ok(PrunedImages { lines: done.lines, bytes })
        },
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Keep,
    Remove,
    /// Takes the name; the image stays because a container uses it.
    Unname,
}

/// What happens to each entry.
fn plan(entries: &[Entry], name: &str, force: bool, used: &InUse) -> Result<Vec<Step>> {
    let all = same_image(entries, name)?;
    let containers = entries[all[0]].image_id().and_then(|id| used.images.get(&id)).filter(|c| !c.is_empty());
    let conflict = |containers: &[String]| {
        let several = if containers.len() == 1 { "container" } else { "containers" };
        Error::conflict(format!("image {name} is used by {several} {}", containers.join(", ")))
            .hint("remove the containers first, or use -f to take the name alone")
    };
    let mut steps = vec![Step::Keep; entries.len()];
    match names::find(entries, name)? {
        Found::Name(at, _) if all.len() > 1 => steps[at] = Step::Remove,
        Found::Name(at, _) => match containers {
            Some(containers) if !force => return Err(conflict(containers)),
            Some(_) => steps[at] = Step::Unname,
            None => steps[at] = Step::Remove,
        },
        Found::Image(of_image) => {
            let names: Vec<Reference> = of_image.iter().filter_map(|at| entries[*at].name()).collect();
            let repositories: BTreeSet<String> = names.iter().map(Reference::repository).collect();
            let tags = names.iter().filter(|name| name.digest.is_none()).count();
            if let (Some(containers), false) = (containers, force) {
                return Err(conflict(containers));
            }
            let running = entries[all[0]].image_id().and_then(|id| used.running.get(&id));
            if let Some(running) = running {
                return Err(Error::conflict(format!(
                    "image {name} cannot be removed by force: a running container uses it: {}",
                    running.join(", ")
                ))
                .hint("stop the container first"));
            }
            // Docker's rule: one tag, and what was pulled by digest from where it is of.
            if (tags > 1 || repositories.len() > 1) && !force {
                let names: Vec<String> = names.iter().map(Reference::familiar).collect();
                return Err(Error::conflict(format!(
                    "image {name} has several names (must be forced): {}",
                    names.join(", ")
                ))
                .hint("remove them by name, or all with -f"));
            }
            for at in of_image {
                steps[at] = Step::Remove;
            }
        }
        Found::Nothing => return Err(no_such_image(name)),
    }
    Ok(steps)
}

/// What came of a plan.
struct Done {
    lines: Vec<Removed>,
    gone: Vec<Entry>,
    /// The image ids and the names that they lost.
    untagged: Vec<(Option<Digest>, Reference)>,
}

/// Notes in the event log what became of names and images.
fn note(dirs: &Dirs, done: &Done, deleted: &[Digest]) {
    for (id, name) in &done.untagged {
        let id = id.as_ref().map(ToString::to_string).unwrap_or_default();
        note_image(dirs, "untag", &id, Some(name.familiar()));
    }
    // Layers are among what was deleted.
    let images: BTreeSet<Digest> = done.gone.iter().filter_map(Entry::image_id).collect();
    for id in deleted.iter().filter(|id| images.contains(id)) {
        note_image(dirs, "delete", &id.to_string(), Some(id.to_string()));
    }
}

fn apply(entries: &mut Vec<Entry>, plan: &[Step]) -> Done {
    let mut done = Done { lines: Vec::new(), gone: Vec::new(), untagged: Vec::new() };
    let old = std::mem::take(entries);
    for (mut entry, step) in old.into_iter().zip(plan) {
        if *step == Step::Keep {
            entries.push(entry);
            continue;
        }
        if let Some(name) = entry.name() {
            done.untagged.push((entry.image_id(), name.clone()));
            if name.digest.is_none() && entry.source_digest() != entry.manifest_digest() {
                let by_digest = name.at(&entry.source_digest());
                done.lines.extend([Removed::Untagged(name), Removed::Untagged(by_digest)]);
            } else {
                done.lines.push(Removed::Untagged(name));
            }
        }
        if *step == Step::Unname {
            entry.set_name(None);
            entries.push(entry);
        } else {
            done.gone.push(entry);
        }
    }
    done
}

/// Deletes what images have that went.
struct Sweep<'a> {
    store: &'a ImageStore,
    layers: &'a LayerStore,
    used: &'a InUse,
    /// Counts the bytes on the disk, which takes a walk over each layer.
    freed: Option<&'a mut u64>,
}

impl Sweep<'_> {
    /// Deletes the blobs and layers of the entries that went, where nothing else
    /// needs them. An entry that stays and cannot be read keeps all blobs: what
    /// it needs is not known.
    fn run(&mut self, staying: &[Entry], gone: &[&Entry], notes: &mut Vec<Error>) -> Vec<Digest> {
        let needed = match Needed::by(self.store, staying, self.used) {
            Ok(needed) => needed,
            Err(error) => {
                if !gone.is_empty() {
                    notes.push(
                        Error::failed(format!("an image cannot be read, so no blobs were removed: {error}"))
                            .hint("`coracle system check` says which"),
                    );
                }
                return Vec::new();
            }
        };
        let mut deleted = Vec::new();
        // All are read before any is deleted: they may share their configs.
        let images: Vec<_> = gone.iter().map(|entry| (entry, reach(self.store, entry))).collect();
        let configs: Vec<Vec<_>> = images
            .iter()
            .map(|(_, reach)| {
                let manifests = reach.iter().flat_map(|reach| &reach.manifests);
                manifests.map(|manifest| (&manifest.config.digest, self.store.config_of(manifest))).collect()
            })
            .collect();
        for ((entry, reach), configs) in images.iter().zip(configs) {
            let mut own = vec![entry.0.digest.clone(), entry.manifest_digest()];
            own.extend(reach.iter().flat_map(Reach::all).map(|blob| blob.digest.clone()));
            for (id, config) in configs {
                if !needed.blobs.contains(id) && !deleted.contains(id) {
                    deleted.push(id.clone());
                }
                for chain_id in config.map(|config| config.chain_ids()).unwrap_or_default().iter().rev() {
                    if !needed.layers.contains(chain_id) && self.layers.contains(chain_id) {
                        self.remove_layer(chain_id).or_note(notes, || format!("remove layer {chain_id}"));
                        deleted.push(chain_id.clone());
                    }
                }
            }
            for blob in own.iter().filter(|blob| !needed.blobs.contains(blob)) {
                self.remove_blob(blob).or_note(notes, || "clean up");
            }
        }
        if self.freed.is_some() {
            self.orphans(&needed).or_note(notes, || "remove what nothing needs");
        }
        deleted
    }

    /// What killed processes left: a prune takes it along.
    fn orphans(&mut self, needed: &Needed) -> Result<()> {
        let orphans = orphans::find(self.store, self.layers, needed)?;
        orphans::remove(self.store, self.layers, &orphans)?;
        self.count(orphans.bytes);
        Ok(())
    }

    fn remove_layer(&mut self, chain_id: &Digest) -> Result<()> {
        let bytes = if self.freed.is_some() { self.layers.allocated(chain_id)? } else { 0 };
        self.layers.remove(chain_id)?;
        self.count(bytes);
        Ok(())
    }

    fn remove_blob(&mut self, blob: &Digest) -> Result<()> {
        let bytes = if self.freed.is_some() { self.store.blobs().allocated(blob) } else { 0 };
        self.store.blobs().remove(blob)?;
        self.count(bytes);
        Ok(())
    }

    fn count(&mut self, bytes: u64) {
        if let Some(freed) = &mut self.freed {
            **freed += bytes;
        }
    }
}

impl super::Engine {
    /// What all containers use, running or not. One whose record is damaged can only be
    /// removed, and uses nothing.
    pub(crate) fn images_in_use(&self) -> Result<InUse> {
        let mut used = InUse::default();
        for record in self.store.records(&mut Vec::new())? {
            let runs = match self.store.snapshot(&record.id) {
                Ok(snapshot) => matches!(snapshot.status, Status::Running { .. } | Status::Restarting { .. }),
                // Where nothing can reach it.
                Err(error) => error.kind() == crate::error::Kind::Conflict,
            };
            for (image, layers) in record.images() {
                if runs {
                    used.running.entry(image.clone()).or_default().push(record.name.clone());
                }
                let names = used.images.entry(image.clone()).or_default();
                // One image may be its root and be mounted, too.
                if names.last() != Some(&record.name) {
                    names.push(record.name.clone());
                }
                used.layers.extend(layers.iter().cloned());
            }
        }
        Ok(used)
    }
}
