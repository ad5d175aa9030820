//! The image of a container as people see it: what they asked for, as long as
//! that is the image which the container has.

use super::Container;
use crate::engine::Engine;
use crate::error::Result;
use crate::image::names::{self, Found};
use crate::image::store::{Entry, ImageStore};
use crate::types::container::{ContainerRecord, RecordedRoot};
use crate::types::digest::Digest;
use crate::types::reference::Reference;
use std::collections::HashMap;

/// What `create` was given; of older records, the image's name in short.
pub(in crate::engine) fn asked_for(record: &ContainerRecord) -> String {
    match &record.root {
        RecordedRoot::Image { .. } if !record.config.image.is_empty() => record.config.image.clone(),
        RecordedRoot::Image { reference, .. } => match Reference::parse(reference) {
            Ok(parsed) => {
                let familiar = parsed.familiar();
                familiar.strip_suffix(":latest").map_or(familiar.clone(), str::to_owned)
            }
            Err(_) => reference.clone(),
        },
        RecordedRoot::Directory { path, overlay } => {
            format!("{}{}", path.display(), if *overlay { ":O" } else { "" })
        }
        RecordedRoot::Nothing => String::new(),
    }
}

/// Docker's column. With `whole`, ids are not cut and a digest stays with its name.
pub(super) fn shown(container: &Container, whole: bool) -> String {
    let RecordedRoot::Image { id, .. } = &container.record.root else { return asked_for(&container.record) };
    if container.image_moved {
        return if whole { id.to_string() } else { id.short().to_owned() };
    }
    let asked = asked_for(&container.record);
    if whole {
        return asked;
    }
    let hex = asked.strip_prefix("sha256:").unwrap_or(&asked);
    if hex.starts_with(id.short()) && id.hex().starts_with(hex) {
        return id.short().to_owned();
    }
    match Reference::parse(&asked) {
        // Only what was written: no tag that was left out.
        Ok(mut name) => {
            let tagged = asked
                .split('@')
                .next()
                .is_some_and(|name| name.rsplit('/').next().is_some_and(|last| last.contains(':')));
            name.digest = None;
            let tag = name.tag.take().filter(|_| tagged);
            let repository = name.familiar_repository();
            tag.map_or(repository.clone(), |tag| format!("{repository}:{tag}"))
        }
        Err(_) => asked,
    }
}

impl Engine {
    /// Marks the containers whose image is not what its name stands for any more: for
    /// who shows images, as it reads the list of all images.
    pub(crate) fn mark_moved(&self, containers: &mut [Container]) -> Result<()> {
        let is_image = |one: &Container| matches!(one.record.root, RecordedRoot::Image { .. });
        if !containers.iter().any(is_image) {
            return Ok(());
        }
        let store = ImageStore::at(&self.dirs.images());
        let entries = store.entries()?;
        // Many are of few images.
        let mut known: HashMap<(String, Digest), bool> = HashMap::new();
        for container in containers {
            let RecordedRoot::Image { id, manifest, .. } = &container.record.root else { continue };
            let asked = asked_for(&container.record);
            // Where it is not to be found out, what was asked for is the best that there is.
            let moved = known.entry((asked, manifest.clone())).or_insert_with_key(|(asked, _)| {
                stands_for(&store, &entries, asked, (id, manifest)) == Some(false)
            });
            container.image_moved = *moved;
        }
        Ok(())
    }
}

/// Whether a name stands for an image, whose id and manifest these are. `None` where
/// that cannot be told.
fn stands_for(store: &ImageStore, entries: &[Entry], name: &str, image: (&Digest, &Digest)) -> Option<bool> {
    let (id, manifest) = image;
    let found = match names::find(entries, name).ok()? {
        // What a digest names is the same for ever, whether it has a name here or not.
        Found::Nothing if Reference::parse(name).is_ok_and(|name| name.digest.is_some()) => return None,
        Found::Nothing => return Some(false),
        Found::Name(at, _) => vec![at],
        Found::Image(all) => all,
    };
    let mut found = found.into_iter().map(|at| &entries[at]);
    let is_it = |entry: &Entry| {
        if entry.manifest_digest() == *manifest {
            return Some(true);
        }
        match entry.image_id().filter(|_| !entry.is_list()) {
            Some(known) => Some(known == *id),
            // What a list stands for here is in its documents.
            None => store.read(entry, None).ok().map(|image| image.id == *id),
        }
    };
    found.try_fold(false, |so_far, entry| Some(so_far || is_it(entry)?))
}

#[cfg(test)]
mod tests {
    use super::super::samples::container;
    use super::*;
    use crate::types::status::Status;

    #[test]
    fn images_are_shown_as_docker_shows_them() {
        let mut one = container("x", 1, Status::Created);
        // A record of earlier, that has but the whole name.
        assert_eq!(shown(&one, false), "busybox");
        let id = Digest::of(b"image");
        for (asked, short) in [
            ("busybox", "busybox"),
            ("busybox:latest", "busybox:latest"),
            ("docker.io/library/busybox:1", "busybox:1"),
            ("localhost:5000/a", "localhost:5000/a"),
            (&format!("app:1@{}", Digest::of(b"manifest")), "app:1"),
            (&format!("app@{}", Digest::of(b"manifest")), "app"),
            (&id.to_string(), id.short()),
            (id.short(), id.short()),
            (&id.hex()[..4], &id.hex()[..4]),
        ] {
            one.record.config.image = asked.to_owned();
            assert_eq!(shown(&one, false), short, "{asked}");
            assert_eq!(shown(&one, true), asked);
        }
        one.image_moved = true;
        assert_eq!(shown(&one, false), id.short());
        assert_eq!(shown(&one, true), id.to_string());
        one.record.root = RecordedRoot::Directory { path: "/".into(), overlay: true };
        assert_eq!(shown(&one, false), "/:O");
    }
}
