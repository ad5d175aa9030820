//! Archives to images.

use super::events::note_image;
use super::images::{LocalImage, ensure_layers};
use crate::dirs::Dirs;
use crate::error::{Context, Result};
use crate::image::archive::{Archive, Loaded};
use crate::image::names;
use crate::image::store::ImageStore;
use crate::storage::unpack::Ownership;
use crate::types::platform::Platform;
use crate::types::reference::Reference;
use std::io::Read;
use std::path::Path;

/// Where an archive comes from.
pub(crate) enum LoadSource<'a> {
    /// A docker-archive or oci-archive, or an OCI layout directory.
    Path(&'a Path),
    Stream(&'a mut dyn Read),
}

/// An image that was loaded, and its names.
#[derive(Clone, Debug)]
pub(crate) struct LoadedImage {
    pub(crate) image: LocalImage,
    pub(crate) names: Vec<Reference>,
}

/// Loads all images of an archive: all of them or none.
///
/// # Errors
/// `Invalid` for what is no image archive, or one whose parts do not fit.
pub(crate) fn load(
    dirs: &Dirs,
    source: LoadSource<'_>,
    platform: Option<&Platform>,
    ownership: Ownership,
) -> Result<Vec<LoadedImage>> {
    let store = ImageStore::open(&dirs.images())?;
    let ingest = store.ingest()?;
    let loaded = match source {
        LoadSource::Stream(stream) => Archive::spool(stream, &ingest)?,
        LoadSource::Path(path) if path.is_dir() => Archive::Directory(path.to_owned()),
        LoadSource::Path(path) => {
            let file = std::fs::File::open(path).context(|| format!("open {}", path.display()))?;
            Archive::spool(file, &ingest).context(|| path.display().to_string())?
        }
    }
    .load(&store, &ingest, platform)?;
    let images = loaded.iter().map(|loaded| {
        let image = LocalImage::new(loaded.image.clone(), loaded.names.first().cloned());
        LoadedImage { image, names: loaded.names.clone() }
    });
    let images: Vec<LoadedImage> = images.collect();
    // Before they have names: a layer that cannot be unpacked is no image.
    give_names(&store, loaded, || {
        images.iter().try_for_each(|loaded| ensure_layers(dirs, &loaded.image, ownership))
    })?;
    for image in &images {
        note_image(dirs, "load", &image.image.id.to_string(), Some(image.image.name()));
    }
    Ok(images)
}

/// Names the images in one step, after `check`.
pub(super) fn give_names(
    store: &ImageStore,
    loaded: Vec<Loaded>,
    check: impl FnOnce() -> Result<()>,
) -> Result<()> {
    check()?;
    store.update(|entries| {
        for Loaded { entry, names, .. } in loaded {
            if names.is_empty() {
                names::assign(entries, entry, None);
                continue;
            }
            for name in &names {
                names::assign(entries, entry.clone(), Some(name));
            }
        }
        Ok(())
    })
}
