//! Images made on the spot, whole or hostile, as docker archives for `load`.

use super::needs;
use super::sandbox::Sandbox;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// An image in the making: layers of tar entries and a config.
pub(crate) struct ImageBuilder {
    layers: Vec<Layer>,
    config: Value,
    architecture: &'static str,
}

/// One layer. Entry names and link targets are written as they are given, so
/// that they may be hostile.
pub(crate) struct Layer(tar::Builder<Vec<u8>>);

impl Layer {
    pub(crate) fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// The bytes of an archive as they are, whatever they are.
    pub(crate) fn raw(bytes: &[u8]) -> Self {
        Self(tar::Builder::new(bytes.to_vec()))
    }

    pub(crate) fn dir(self, name: &str) -> Self {
        self.entry(name, tar::EntryType::Directory, 0o755, "", b"")
    }

    pub(crate) fn file(self, name: &str, contents: &[u8]) -> Self {
        self.entry(name, tar::EntryType::Regular, 0o644, "", contents)
    }

    pub(crate) fn program(self, name: &str, contents: &[u8]) -> Self {
        self.entry(name, tar::EntryType::Regular, 0o755, "", contents)
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(name, tar::EntryType::Symlink, 0o777, target, b"")
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(name, tar::EntryType::Link, 0o644, target, b"")
    }

    pub(crate) fn fifo(self, name: &str) -> Self {
        self.entry(name, tar::EntryType::Fifo, 0o666, "", b"")
    }

    /// A file of another owner.
    pub(crate) fn owned(mut self, name: &str, uid: u64, gid: u64) -> Self {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_mode(0o644);
        header.set_uid(uid);
        header.set_gid(gid);
        header.set_size(0);
        header.set_cksum();
        self.0.append(&header, &b""[..]).unwrap();
        self
    }

    pub(crate) fn entry(
        mut self,
        name: &str,
        kind: tar::EntryType,
        mode: u32,
        target: &str,
        contents: &[u8],
    ) -> Self {
        let mut header = tar::Header::new_ustar();
        let raw = header.as_old_mut();
        raw.name[..name.len()].copy_from_slice(name.as_bytes());
        raw.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(contents.len() as u64);
        header.set_cksum();
        self.0.append(&header, contents).unwrap();
        self
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

impl ImageBuilder {
    pub(crate) fn new() -> Self {
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = json!({ "Env": ["PATH=/bin:/usr/bin:/sbin:/usr/sbin"] });
        Self { layers: Vec::new(), config, architecture }
    }

    /// With the guest at /bin/guest and the static busybox, with a shell, at /bin/sh.
    pub(crate) fn with_programs() -> Self {
        Self::new().layer(Self::programs())
    }

    /// The layer of [`Self::with_programs`]; needs the images guest and busybox.
    pub(crate) fn programs() -> Layer {
        let read = |name: &str, file: &str| {
            std::fs::read(needs::image_dir(name).unwrap().join("rootfs/bin").join(file)).unwrap()
        };
        let mut layer = Layer::new()
            .dir("bin")
            .dir("etc")
            .dir("tmp")
            .program("bin/guest", &read("guest", "guest"))
            .program("bin/busybox", &read("busybox", "busybox"));
        for applet in
            ["sh", "cat", "ls", "id", "true", "false", "echo", "sleep", "stat", "touch", "mkdir", "readlink"]
        {
            layer = layer.symlink(&format!("bin/{applet}"), "busybox");
        }
        layer
    }

    pub(crate) fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// A field of the config: `User`, `WorkingDir`, `Env`, …
    pub(crate) fn config(mut self, field: &str, value: Value) -> Self {
        self.config[field] = value;
        self
    }

    /// What it says it was built for, as Go calls it, instead of this machine.
    pub(crate) fn architecture(self, architecture: &'static str) -> Self {
        Self { architecture, ..self }
    }

    /// The docker archive (`docker save`'s format) of this image.
    pub(crate) fn archive(self, name: &str) -> Vec<u8> {
        let layers: Vec<Vec<u8>> = self.layers.into_iter().map(Layer::into_bytes).collect();
        let diff_ids: Vec<String> = layers.iter().map(|l| format!("sha256:{}", hex(l))).collect();
        let config = json!({
            "created": "2023-11-14T22:13:20Z",
            "architecture": self.architecture,
            "os": "linux",
            "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = serde_json::to_vec(&config).unwrap();
        let config_name = format!("{}.json", hex(&config));
        let files: Vec<String> = layers.iter().map(|l| format!("{}.tar", hex(l))).collect();
        let manifest = json!([{ "Config": config_name, "RepoTags": [name], "Layers": files }]);
        let mut archive = Layer::new().file(&config_name, &config);
        for (file, layer) in files.iter().zip(&layers) {
            archive = archive.file(file, layer);
        }
        archive.file("manifest.json", &serde_json::to_vec(&manifest).unwrap()).into_bytes()
    }

    /// Loads it into the sandbox as `name`.
    #[track_caller]
    pub(crate) fn load(self, sandbox: &Sandbox, name: &str) {
        let archive = sandbox.file("image.tar", self.archive(name));
        sandbox.load(&archive);
    }
}

/// The SHA-256 of `bytes`, as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
