//! Archives to images.

use super::events::note_image;
use super::images::{LocalImage, ensure_layers};
use crate::dirs::Dirs;
use crate::error::{Context, Error, Result};
pub(crate) use crate::image::archive::Wanted;
use crate::image::archive::{Archive, Loaded, Which};
use crate::image::names;
use crate::image::store::ImageStore;
use crate::storage::unpack::Ownership;
use crate::types::platform::Platform;
use crate::types::reference::Reference;
use crate::types::transport::{LocalPlace, LocalTransport};
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
    wanted: Wanted<'_>,
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
    .load(&store, &ingest, wanted)?;
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

/// The image of a place such as `oci-archive:FILE:NAME`.
///
/// # Errors
/// `Invalid` where the place has another form than its transport says, and
/// where it has several images and none is named; `NotFound`.
pub(crate) fn load_place(
    dirs: &Dirs,
    place: &LocalPlace,
    platform: Option<&Platform>,
    ownership: Ownership,
) -> Result<LocalImage> {
    let load_it = || {
        check_form(place)?;
        let images = match place.image.as_deref() {
            None => Which::One,
            Some(text) => match text.strip_prefix('@').and_then(|at| at.parse().ok()) {
                Some(at) => Which::At(at),
                None => Which::Named(text),
            },
        };
        let loaded = load(dirs, LoadSource::Path(&place.path), Wanted { platform, images }, ownership)?;
        let first = loaded.into_iter().next();
        first.map(|loaded| loaded.image).ok_or_else(|| Error::invalid("there is no image"))
    };
    load_it().context(|| place.to_string())
}

/// A directory is not taken for a file, and one kind of layout not for another:
/// who names a transport means it.
fn check_form(place: &LocalPlace) -> Result<()> {
    let path = &place.path;
    let meta = std::fs::metadata(path).context(|| format!("look at {}", path.display()))?;
    if meta.is_dir() != place.transport.is_directory() {
        let is = if meta.is_dir() { "a directory" } else { "no directory" };
        return Err(Error::invalid(format!("{} is {is}", path.display()))
            .hint("oci: and dir: are directories, oci-archive: and docker-archive: are files"));
    }
    let marker = match place.transport {
        LocalTransport::Oci => "oci-layout",
        LocalTransport::Directory => "manifest.json",
        LocalTransport::OciArchive | LocalTransport::DockerArchive => return Ok(()),
    };
    if path.join(marker).exists() {
        return Ok(());
    }
    Err(Error::invalid(format!("{} has no {marker}", path.display())))
}

/// Names the images in one step, after `check`.
pub(super) fn give_names(
    store: &ImageStore,
    loaded: Vec<Loaded>,
    check: impl FnOnce() -> Result<()>,
) -> Result<()> {
    check()?;
    store.update(|entries| {
        for Loaded { mut entry, names, .. } in loaded {
            if names.is_empty() {
                names::assign(entries, entry, None);
                continue;
            }
            entry.set_tagged(jiff::Timestamp::now());
            for name in &names {
                names::assign(entries, entry.clone(), Some(name));
            }
        }
        Ok(())
    })
}
