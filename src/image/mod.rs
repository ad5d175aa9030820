//! Images as OCI documents in an OCI image layout.
//!
//! `engine` calls this for everything that names, reads or writes an image. On
//! disk (`images/`): `oci-layout`, `index.json`, `blobs/sha256/`, as the
//! image-spec says, so that other tools read it as it is; and of our own
//! `.lock`, which is held while `index.json` changes, and `.ingest/`, where
//! blobs are before they have been verified, `.arriving/`, where they arrive,
//! `.remade/`, what they became on the way to a registry, `.listing`, what
//! `images` shows of each, and `artifacts.json`, what was pushed here and is no
//! image. Readers take no lock: files are replaced by rename,
//! and a blob never changes.

pub(crate) mod archive;
pub(crate) mod archive_write;
pub(crate) mod artifacts;
pub(crate) mod blob;
pub(crate) mod compression;
pub(crate) mod config;
pub(crate) mod listing;
pub(crate) mod manifest;
pub(crate) mod names;
pub(crate) mod partial;
pub(crate) mod reach;
pub(crate) mod rebuild;
mod remade;
pub(crate) mod store;
pub(crate) mod verified;
