//! Which layers an image has, and which images lie on them.

use super::images::{layer_sizes, locate, same_image};
use crate::dirs::Dirs;
use crate::error::Result;
use crate::image::store::Entry;
use crate::storage::layers::LayerStore;
use crate::types::digest::Digest;
use std::collections::BTreeMap;

/// An image and layers below or above it.
#[derive(Clone, Debug)]
pub(crate) struct ImageTree {
    pub(crate) id: Digest,
    pub(crate) tags: Vec<String>,
    pub(crate) size: u64,
    pub(crate) layers: Vec<TreeLayer>,
}

/// One layer of a tree, after the one that it lies on.
#[derive(Clone, Debug)]
pub(crate) struct TreeLayer {
    /// Chain id.
    pub(crate) id: Digest,
    /// Bytes, unpacked.
    pub(crate) size: u64,
    /// The names of the images whose topmost layer it is.
    pub(crate) top_of: Vec<String>,
    pub(crate) depth: usize,
}

/// What is known of a layer of any image.
#[derive(Default)]
struct Known {
    size: u64,
    top_of: Vec<String>,
    /// The layers that lie on it.
    above: Vec<Digest>,
}

/// The layers of the image, the lowest first, all at one depth; with
/// `upwards` the layers that others put on its topmost one.
///
/// # Errors
/// `NotFound`.
pub(crate) fn tree(dirs: &Dirs, name: &str, upwards: bool) -> Result<ImageTree> {
    let (store, entries, at) = locate(dirs, name)?;
    let image = store.read(&entries[at], None)?;
    let layers = LayerStore::open(&dirs.layers())?;
    let mut known: BTreeMap<Digest, Known> = BTreeMap::new();
    for entry in &entries {
        // What cannot be read lies on nothing that is known.
        let Ok(other) = store.read(entry, None) else { continue };
        let chain = other.config.chain_ids();
        for (id, size) in chain.iter().zip(layer_sizes(&layers, &other)) {
            known.entry(id.clone()).or_default().size = size;
        }
        for pair in chain.windows(2) {
            let above = &mut known.entry(pair[0].clone()).or_default().above;
            if !above.contains(&pair[1]) {
                above.push(pair[1].clone());
            }
        }
        if let (Some(top), Some(name)) = (chain.last(), entry.name()) {
            known.entry(top.clone()).or_default().top_of.push(name.familiar());
        }
    }
    let tags = same_image(&entries, name)?;
    let tags = tags.iter().filter_map(|at| Entry::name(&entries[*at])).map(|name| name.familiar()).collect();
    let chain = image.config.chain_ids();
    let mut shown = Vec::new();
    let mut add = |id: &Digest, depth| {
        let layer = known.get(id);
        let size = layer.map_or(0, |layer| layer.size);
        let top_of = layer.map(|layer| layer.top_of.clone()).unwrap_or_default();
        shown.push(TreeLayer { id: id.clone(), size, top_of, depth });
        layer.map(|layer| layer.above.clone()).unwrap_or_default()
    };
    if upwards {
        // Depth first, with a stack of our own: chains are up to 500 long.
        let mut stack: Vec<(Digest, usize)> = chain.last().cloned().map(|id| (id, 0)).into_iter().collect();
        while let Some((id, depth)) = stack.pop() {
            stack.extend(add(&id, depth).into_iter().rev().map(|above| (above, depth + 1)));
        }
    } else {
        for id in &chain {
            add(id, 0);
        }
    }
    let size = layer_sizes(&layers, &image).iter().sum();
    Ok(ImageTree { id: image.id, tags, size, layers: shown })
}
