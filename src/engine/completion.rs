//! Names for a shell's completion: read alone, nothing is settled or written,
//! and what cannot be read is left out.

use super::Engine;
use crate::image::store::ImageStore;
use crate::types::id::ContainerId;
use crate::types::network::DEFAULT;
use std::path::Path;

/// Which containers a command can do something with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    All,
    Running,
    Paused,
    Stopped,
}

/// Names of one kind that are read, at most.
const MAX_NAMES: usize = 5000;

impl Engine {
    /// Names of containers.
    pub(crate) fn names_of_containers(&self, which: Which) -> Vec<String> {
        let mut names = file_names(&self.dirs.names());
        if which != Which::All {
            names.retain(|name| self.is(name, which));
        }
        names
    }

    fn is(&self, name: &str, which: Which) -> bool {
        let text = std::fs::read_to_string(self.dirs.names().join(name)).unwrap_or_default();
        let Ok(id) = ContainerId::parse(text.trim()) else { return false };
        let live = self.store.live(&id).ok().flatten();
        match which {
            Which::All => true,
            Which::Running => live.is_some_and(|state| !state.paused),
            Which::Paused => live.is_some_and(|state| state.paused),
            Which::Stopped => live.is_none(),
        }
    }

    /// Names of images, as short as docker writes them.
    pub(crate) fn names_of_images(&self) -> Vec<String> {
        let entries = ImageStore::at(&self.dirs.images()).entries().unwrap_or_default();
        let mut names: Vec<String> =
            entries.iter().take(MAX_NAMES).filter_map(|entry| Some(entry.name()?.familiar())).collect();
        names.sort();
        names.dedup();
        names
    }

    pub(crate) fn names_of_volumes(&self) -> Vec<String> {
        file_names(&self.dirs.volumes())
    }

    pub(crate) fn names_of_pods(&self) -> Vec<String> {
        let all = self.pod_store().all().map(|all| all.whole).unwrap_or_default();
        all.into_iter().map(|pod| pod.name).take(MAX_NAMES).collect()
    }

    /// The default one may not be made yet.
    pub(crate) fn names_of_networks(&self) -> Vec<String> {
        let networks = crate::state::networks::Networks::new(&self.dirs);
        let all = networks.all().map(|all| all.whole).unwrap_or_default();
        let made = all.into_iter().map(|network| network.name).filter(|name| name != DEFAULT);
        std::iter::once(DEFAULT.to_owned()).chain(made).take(MAX_NAMES).collect()
    }
}

/// What a directory holds, without hidden names.
fn file_names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().take(MAX_NAMES);
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}
