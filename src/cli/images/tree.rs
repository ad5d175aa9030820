//! `coracle image tree`.

use crate::cli::command::{Entry, command};
use crate::cli::ui;
use crate::engine::Engine;
use crate::engine::image_tree::{self, TreeLayer};
use crate::error::Result;
use crate::types::size::decimal;
use clap::Args;

pub(crate) const TREE: Entry = command!(
    "tree",
    &[],
    "Show the layers of an image and the images that end at them",
    "[OPTIONS] IMAGE",
    TreeArgs,
    tree
);

#[derive(Args, Debug)]
pub(crate) struct TreeArgs {
    /// Show what is built upon the image instead
    #[arg(long)]
    whatrequires: bool,
    /// Name or id
    #[arg(value_name = "IMAGE", required = true)]
    image: String,
}

/// Podman's tree.
///
/// # Errors
/// `NotFound`.
pub(crate) fn tree(args: TreeArgs) -> Result<u8> {
    let tree = image_tree::tree(&Engine::open()?.dirs, &args.image, args.whatrequires)?;
    let mut text = format!(
        "Image ID: {}\nTags:     [{}]\nSize:     {}\n",
        tree.id.short(),
        tree.tags.join(" "),
        decimal(tree.size)
    );
    text.push_str(if tree.layers.is_empty() { "No Image Layers\n" } else { "Image Layers\n" });
    text.push_str(&draw(&tree.layers));
    ui::write(text.as_bytes())?;
    Ok(0)
}

/// The layers, each below the one that it lies on. A chain without branches is
/// a flat list, as podman draws it.
fn draw(layers: &[TreeLayer]) -> String {
    let mut text = String::new();
    for (at, layer) in layers.iter().enumerate() {
        let last = !layers[at + 1..]
            .iter()
            .take_while(|next| next.depth >= layer.depth)
            .any(|next| next.depth == layer.depth);
        for depth in 0..layer.depth {
            let more = layers[at + 1..]
                .iter()
                .take_while(|next| next.depth >= depth)
                .any(|next| next.depth == depth);
            text.push_str(if more { "│   " } else { "    " });
        }
        text.push_str(if last { "└── " } else { "├── " });
        let short = layer.id.short();
        text.push_str(&format!("ID: {short} Size: {}", decimal(layer.size)));
        if !layer.top_of.is_empty() {
            text.push_str(&format!(" Top Layer of: [{}]", layer.top_of.join(" ")));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::digest::Digest;

    #[test]
    fn branches_are_drawn() {
        let layer = |n: u8, depth, top: &[&str]| TreeLayer {
            id: Digest::of(&[n]),
            size: 1000,
            top_of: top.iter().map(|&name| name.to_owned()).collect(),
            depth,
        };
        let drawn =
            draw(&[layer(0, 0, &["a:1"]), layer(1, 1, &[]), layer(2, 1, &["b:1", "c:1"]), layer(3, 0, &[])]);
        let shape: Vec<String> =
            drawn.lines().map(|line| line.split("ID").next().unwrap_or_default().to_owned()).collect();
        assert_eq!(shape, ["├── ", "│   ├── ", "│   └── ", "└── "]);
        assert!(drawn.contains("Size: 1kB Top Layer of: [b:1 c:1]"), "{drawn}");
    }
}
