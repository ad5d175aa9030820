//! `system df`: what is on the disk, whose it is, and what a prune gives back.
//!
//! All sizes are blocks on the disk, not lengths: a sparse file counts what it
//! takes, and what several images share counts once.

use super::Engine;
use super::list::Container;
use super::volumes::VolumeFilters;
use crate::error::{Context, Error, Result};
use crate::image::store::ImageStore;
use crate::storage::layers::LayerStore;
use crate::storage::usage::allocated;
use crate::types::digest::Digest;
use crate::types::reference::Reference;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Bytes of one kind of things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) total: usize,
    /// How many are in use.
    pub(crate) active: usize,
    pub(crate) size: u64,
    /// What is in use by nothing.
    pub(crate) reclaimable: u64,
}

/// One name of an image, or a nameless image.
#[derive(Clone, Debug)]
pub(crate) struct ImageSpace {
    pub(crate) id: Digest,
    pub(crate) reference: Option<Reference>,
    pub(crate) created: Option<Timestamp>,
    pub(crate) size: u64,
    /// Of `size`, what other images have as well.
    pub(crate) shared: u64,
    pub(crate) containers: usize,
}

/// One volume.
#[derive(Clone, Debug)]
pub(crate) struct VolumeSpace {
    pub(crate) name: String,
    /// Containers that use it.
    pub(crate) links: usize,
    pub(crate) size: u64,
}

/// The file system of one of our directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileSystem {
    pub(crate) directory: PathBuf,
    pub(crate) size: u64,
    /// For users that are not root.
    pub(crate) available: u64,
    pub(crate) used: u64,
}

/// What `system df` shows.
#[derive(Debug)]
pub(crate) struct DiskUse {
    pub(crate) images: Space,
    pub(crate) image_list: Vec<ImageSpace>,
    pub(crate) containers: Space,
    pub(crate) container_list: Vec<(Container, u64)>,
    pub(crate) volumes: Space,
    pub(crate) volume_list: Vec<VolumeSpace>,
    pub(crate) file_systems: Vec<FileSystem>,
}

impl Engine {
    /// Measures everything: it walks all files of all layers, containers and
    /// volumes.
    pub(crate) fn disk_use(&self, notes: &mut Vec<Error>) -> Result<DiskUse> {
        let file_systems = file_systems(&[&self.dirs.data, &self.dirs.state])?;
        self.enter()?;
        let mut containers = self.containers(false, notes)?;
        self.mark_moved(&mut containers).unwrap_or_else(|error| notes.push(error));
        containers.sort_unstable_by_key(|one| std::cmp::Reverse(one.record.created));
        let mut container_list = Vec::new();
        for container in containers {
            let bytes = self.container_bytes(&container.record.id)?;
            container_list.push((container, bytes));
        }
        let containers = space(container_list.iter().map(|(container, bytes)| (container.is_up(), *bytes)));
        let volume_list = self.volume_space(notes)?;
        let volumes = space(volume_list.iter().map(|volume| (volume.links > 0, volume.size)));
        let (images, image_list) = self.image_space(notes)?;
        Ok(DiskUse { images, image_list, containers, container_list, volumes, volume_list, file_systems })
    }

    fn volume_space(&self, notes: &mut Vec<Error>) -> Result<Vec<VolumeSpace>> {
        // Those that cannot be read were told with the containers.
        let users = self.store.volume_users(&mut Vec::new())?;
        let mut list = Vec::new();
        for volume in self.volumes(&VolumeFilters::default(), notes)? {
            let links = users.get(&volume.name).map_or(0, Vec::len);
            let size = self.volume_bytes(&volume.name)?;
            list.push(VolumeSpace { name: volume.name, links, size });
        }
        Ok(list)
    }

    /// The bytes on the disk of a volume's data.
    pub(crate) fn volume_bytes(&self, name: &str) -> Result<u64> {
        allocated(&self.dirs.volumes().join(name).join("_data"))
    }

    fn image_space(&self, notes: &mut Vec<Error>) -> Result<(Space, Vec<ImageSpace>)> {
        if !ImageStore::exists(&self.dirs.images()) {
            return Ok((Space::default(), Vec::new()));
        }
        let store = ImageStore::at(&self.dirs.images());
        let layers = LayerStore::open(&self.dirs.layers())?.allocations()?;
        let mut parts = Parts::default();
        for (digest, bytes) in layers.into_iter().chain(blob_allocations(&store)?) {
            parts.add(digest, bytes);
        }
        let used = self.images_in_use()?;
        let mut users: BTreeMap<Digest, BTreeSet<Digest>> = BTreeMap::new();
        let mut rows = Vec::new();
        for entry in store.entries()? {
            let name = entry.name_text().map_or_else(|| entry.0.digest.to_string(), str::to_owned);
            let image = match store.read(&entry, None).context(|| format!("image {name}")) {
                Ok(image) => image,
                // A list of artifacts, or of images that are elsewhere.
                Err(_) if entry.is_list() => continue,
                Err(error) => {
                    notes.push(error);
                    continue;
                }
            };
            let mut own = BTreeSet::from([entry.0.digest.clone(), image.manifest_digest.clone()]);
            own.extend(image.blobs().map(|blob| blob.digest.clone()));
            own.extend(image.config.chain_ids());
            for part in &own {
                users.entry(part.clone()).or_default().insert(image.id.clone());
            }
            rows.push((image.id.clone(), entry.name(), image.config.created(), own));
        }
        let ids: BTreeSet<&Digest> = rows.iter().map(|(id, ..)| id).collect();
        let active = ids.iter().filter(|id| used.images.contains_key(id)).count();
        let needed = |part: &Digest| {
            used.layers.contains(part)
                || users.get(part).is_some_and(|users| users.iter().any(|id| used.images.contains_key(id)))
        };
        let reclaimable = parts.left_over + parts.sum(|part| !needed(part));
        let whole =
            Space { total: ids.len(), active, size: parts.left_over + parts.sum(|_| true), reclaimable };
        let list = rows.iter().map(|(id, reference, created, own)| ImageSpace {
            id: id.clone(),
            reference: reference.clone(),
            created: *created,
            size: parts.sum(|part| own.contains(part)),
            shared: parts
                .sum(|part| own.contains(part) && users.get(part).is_some_and(|users| users.len() > 1)),
            containers: used.images.get(id).map_or(0, Vec::len),
        });
        let mut list: Vec<ImageSpace> = list.collect();
        list.sort_by(|a, b| (b.created, &a.reference).cmp(&(a.created, &b.reference)));
        Ok((whole, list))
    }
}

fn blob_allocations(store: &ImageStore) -> Result<Vec<(Option<Digest>, u64)>> {
    Ok(store.blobs().allocations()?.into_iter().map(|(digest, bytes)| (Some(digest), bytes)).collect())
}

/// Layers (by chain id) and blobs: what images are made of.
#[derive(Default)]
struct Parts {
    bytes: BTreeMap<Digest, u64>,
    /// Of killed commands.
    left_over: u64,
}

impl Parts {
    fn add(&mut self, digest: Option<Digest>, bytes: u64) {
        match digest {
            // The lowest layer's chain id is its diff id, which is also the name
            // of its blob where that is not compressed.
            Some(digest) => *self.bytes.entry(digest).or_default() += bytes,
            None => self.left_over += bytes,
        }
    }

    fn sum(&self, wanted: impl Fn(&Digest) -> bool) -> u64 {
        self.bytes.iter().filter(|(digest, _)| wanted(digest)).map(|(_, bytes)| bytes).sum()
    }
}

fn space(things: impl Iterator<Item = (bool, u64)>) -> Space {
    things.fold(Space::default(), |sum, (active, bytes)| Space {
        total: sum.total + 1,
        active: sum.active + usize::from(active),
        size: sum.size + bytes,
        reclaimable: sum.reclaimable + if active { 0 } else { bytes },
    })
}

/// Each file system once, as statvfs(3) tells it.
fn file_systems(directories: &[&Path]) -> Result<Vec<FileSystem>> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for directory in directories {
        // Before the first use the directory is not there: it will be made here.
        let existing = directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let step = || format!("look at the file system of {}", existing.display());
        let device = rustix::fs::stat(existing).context(step)?.st_dev;
        if seen.insert(device) {
            let stat = rustix::fs::statvfs(existing).context(step)?;
            let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
            found.push(FileSystem {
                directory: (*directory).to_owned(),
                size: bytes(stat.f_blocks),
                available: bytes(stat.f_bavail),
                used: bytes(stat.f_blocks.saturating_sub(stat.f_bfree)),
            });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_active_can_be_reclaimed() {
        let sum = space([(true, 10), (false, 5), (false, 1)].into_iter());
        assert_eq!(sum, Space { total: 3, active: 1, size: 16, reclaimable: 6 });
        assert_eq!(space([].into_iter()), Space::default());
    }

    #[test]
    fn file_systems_are_told_once() {
        let temp = tempfile::tempdir().expect("tempdir");
        let (one, two) = (temp.path().join("not/there/yet"), temp.path().to_owned());
        let found = file_systems(&[&one, &two]).expect("found");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].directory, one);
        assert!(found[0].size >= found[0].available && found[0].size > 0);
    }
}
