//! `diff`: what a container or the last layer of an image changed.

use super::trees::FileOwners;
use super::{Engine, images};
use crate::error::{Context, Kind, Result};
use crate::storage::changes::{Change, Owners, changes};
use crate::storage::descent::OPEN_DIR;
use crate::storage::layers::LayerStore;
use crate::types::id::ContainerId;
use rustix::fs::Mode;
use std::os::fd::AsFd;
use std::path::PathBuf;

impl Engine {
    /// The changes of a container, or of the image of that name.
    pub(crate) fn diff(&self, word: &str) -> Result<Vec<Change>> {
        match self.resolve(word) {
            Ok(id) => self.diff_container(&id),
            Err(error) if error.kind() == Kind::NotFound => {
                if images::find(&self.dirs, word, None).is_ok_and(|image| image.is_some()) {
                    self.diff_image(word)
                } else {
                    Err(error)
                }
            }
            Err(error) => Err(error),
        }
    }

    /// What a container changed of its image.
    pub(crate) fn diff_container(&self, id: &ContainerId) -> Result<Vec<Change>> {
        let trees = self.trees(&self.snapshot(id)?)?;
        let upper = rustix::fs::open(&trees.upper, OPEN_DIR, Mode::empty())
            .context(|| format!("open {}", trees.upper.display()))?;
        let below = self.below(&trees.lowers)?;
        let shifted = |uid, gid| trees.owners.outside(uid, gid);
        let owners = match &trees.owners {
            FileOwners::Same => Owners::Same,
            FileOwners::Lost => Owners::Lost,
            FileOwners::Mapped(_) => Owners::Shifted(&shifted),
        };
        changes(upper.as_fd(), below.as_fd(), owners)
    }

    /// What the last layer of an image changed of those below.
    pub(crate) fn diff_image(&self, word: &str) -> Result<Vec<Change>> {
        let _pin = images::pin(&self.dirs)?;
        let image = images::find(&self.dirs, word, None)?.ok_or_else(|| images::no_such_image(word))?;
        self.enter()?;
        let store = LayerStore::open(&self.dirs.layers())?;
        let mut paths: Vec<PathBuf> = image.layers.iter().map(|layer| store.path(layer)).collect();
        let Some(top) = paths.pop() else { return Ok(Vec::new()) };
        paths.reverse();
        let upper =
            rustix::fs::open(&top, OPEN_DIR, Mode::empty()).context(|| format!("open {}", top.display()))?;
        changes(upper.as_fd(), self.below(&paths)?.as_fd(), Owners::Same)
    }
}
