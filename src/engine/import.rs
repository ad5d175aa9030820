//! The tar of a file system to an image of one layer.

use super::events::note_image;
use super::images::{LocalImage, ensure_layers};
use super::load::give_names;
use crate::dirs::Dirs;
use crate::error::{Context, Error, Result};
use crate::image::archive::{copy, publish};
use crate::image::blob::Tee;
use crate::image::compression::{Compression, decoder};
use crate::image::config::{Execution, History, ImageConfig, RootFs};
use crate::image::manifest::{Descriptor, Manifest, OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD};
use crate::image::store::ImageStore;
use crate::storage::unpack::Ownership;
use crate::types::digest::Digest;
use crate::types::platform::Platform;
use crate::types::reference::Reference;
use crate::types::signal;
use sha2::{Digest as _, Sha256};
use std::io::{Read, Write};

#[derive(Clone, Debug, Default)]
pub(crate) struct ImportOptions {
    /// The new image's name; none where `None`.
    pub(crate) reference: Option<Reference>,
    /// `--change`: instructions of a Dockerfile.
    pub(crate) changes: Vec<String>,
    /// `-m`
    pub(crate) message: Option<String>,
    pub(crate) platform: Option<Platform>,
}

/// Makes an image of a tar stream, which may be compressed.
pub(crate) fn import(
    dirs: &Dirs,
    stream: &mut dyn Read,
    options: &ImportOptions,
    ownership: Ownership,
) -> Result<LocalImage> {
    let mut execution = Execution::default();
    for change in &options.changes {
        apply_change(&mut execution, change)?;
    }
    let store = ImageStore::open(&dirs.images())?;
    let ingest = store.ingest()?;
    let mut writer = ingest.writer(u64::MAX)?;
    let mut tee = Tee { inner: stream, writer: &mut writer };
    let mut hasher = Hasher(Sha256::new());
    let (compression, mut tar) = decoder(&mut tee)?;
    copy(&mut tar, &mut hasher).context(|| "read the archive")?;
    drop(tar);
    copy(&mut tee, &mut std::io::sink()).context(|| "read the archive")?;
    let spooled = writer.finish();
    if spooled.size == 0 {
        return Err(Error::invalid("the archive is empty"));
    }
    let media_type = match compression {
        Compression::None => OCI_LAYER,
        Compression::Gzip => OCI_LAYER_GZIP,
        Compression::Zstd => OCI_LAYER_ZSTD,
    };
    let layer = Descriptor::new(media_type, spooled.digest.clone(), spooled.size);
    ingest.publish(&spooled)?;
    let config = config(options, execution, Digest::finish(hasher.0));
    let bytes = serde_json::to_vec(&config).context(|| "write the image config")?;
    let descriptor = Descriptor::new(OCI_CONFIG, ingest.put(&bytes)?, bytes.len() as u64);
    let names = options.reference.clone().into_iter().collect();
    let loaded = publish(&ingest, Manifest::oci(descriptor, vec![layer]), config, names)?;
    let image = LocalImage::new(loaded.image.clone(), options.reference.clone());
    let unpacked = give_names(&store, vec![loaded], || ensure_layers(dirs, &image, ownership));
    if unpacked.is_err() {
        // Not a tar: the blobs are nobody's.
        for digest in [&spooled.digest, &image.id, &image.manifest] {
            store.blobs().remove(digest)?;
        }
    }
    unpacked?;
    note_image(dirs, "import", &image.id.to_string(), options.reference.as_ref().map(Reference::familiar));
    Ok(image)
}

fn config(options: &ImportOptions, config: Execution, diff_id: Digest) -> ImageConfig {
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let now = jiff::Timestamp::now().to_string();
    ImageConfig {
        created: Some(now.clone()),
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        comment: options.message.clone(),
        config,
        rootfs: RootFs { kind: "layers".into(), diff_ids: vec![diff_id] },
        history: vec![History {
            created: Some(now),
            created_by: Some("coracle import".into()),
            comment: options.message.clone(),
            ..History::default()
        }],
        ..ImageConfig::default()
    }
}

/// Applies one instruction, as `import --change` and `commit --change` take it.
///
/// # Errors
/// `Invalid` for other instructions and for arguments that do not fit.
pub(crate) fn apply_change(run: &mut Execution, change: &str) -> Result<()> {
    let invalid = |why: &str| {
        Error::invalid(format!("invalid change {change:?}: {why}")).hint(
            "changes are CMD, ENTRYPOINT, ENV, USER, WORKDIR, LABEL, EXPOSE, VOLUME, STOPSIGNAL and ONBUILD",
        )
    };
    if change.contains('\0') {
        return Err(invalid("it has a NUL byte"));
    }
    // Docker takes `CMD=x` for `CMD x`.
    let (instruction, rest) =
        change.trim().split_once([' ', '\t', '=']).ok_or_else(|| invalid("there is no argument"))?;
    let rest = rest.trim();
    if rest.is_empty() {
        return Err(invalid("there is no argument"));
    }
    let words = || words(rest).ok_or_else(|| invalid("a quote is open"));
    match instruction.to_ascii_uppercase().as_str() {
        "CMD" => run.cmd = Some(command(rest)),
        "ENTRYPOINT" => run.entrypoint = Some(command(rest)),
        "USER" => rest.clone_into(&mut run.user),
        "WORKDIR" => {
            let base = if rest.starts_with('/') { "" } else { run.working_dir.trim_end_matches('/') };
            run.working_dir = if rest.starts_with('/') { rest.to_owned() } else { format!("{base}/{rest}") };
        }
        "STOPSIGNAL" => {
            signal::parse(rest)?;
            run.stop_signal = Some(rest.to_owned());
        }
        "ENV" => {
            for (key, value) in pairs(rest, words()?).ok_or_else(|| invalid("it is not KEY=VALUE"))? {
                run.env.retain(|entry| entry.split_once('=').is_none_or(|(old, _)| old != key));
                run.env.push(format!("{key}={value}"));
            }
        }
        "LABEL" => run.labels.extend(pairs(rest, words()?).ok_or_else(|| invalid("it is not KEY=VALUE"))?),
        "EXPOSE" => {
            for word in words()? {
                let port = exposed(&word).ok_or_else(|| invalid("a port is NUMBER[/tcp|udp|sctp]"))?;
                insert(&mut run.exposed_ports, port);
            }
        }
        "VOLUME" => {
            let volumes = serde_json::from_str::<Vec<String>>(rest).ok().map_or_else(words, Ok)?;
            for volume in volumes {
                insert(&mut run.volumes, volume);
            }
        }
        "ONBUILD" => run.on_build.push(rest.to_owned()),
        _ => return Err(invalid("the instruction is not known")),
    }
    Ok(())
}

fn insert(set: &mut Vec<String>, word: String) {
    if !set.contains(&word) {
        set.push(word);
    }
}

/// A JSON list is the words; anything else is a line for the shell.
fn command(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|_| vec!["/bin/sh".into(), "-c".into(), text.to_owned()])
}

fn exposed(word: &str) -> Option<String> {
    let (port, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let (first, last) = port.split_once('-').unwrap_or((port, port));
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let ordered = number(first)? <= number(last)?;
    let protocol = protocol.to_ascii_lowercase();
    (ordered && matches!(protocol.as_str(), "tcp" | "udp" | "sctp")).then(|| format!("{port}/{protocol}"))
}

/// `K=V K="v w"`, or the old form `KEY the rest`.
fn pairs(rest: &str, words: Vec<String>) -> Option<Vec<(String, String)>> {
    if !words.first()?.contains('=') {
        let (key, value) = rest.split_once([' ', '\t'])?;
        return Some(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: String| {
        let (key, value) = word.split_once('=')?;
        (!key.is_empty()).then(|| (key.to_owned(), value.to_owned()))
    };
    words.into_iter().map(pair).collect()
}

/// Words with quotes and backslashes as in a Dockerfile; nothing is expanded.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().push(chars.next()?),
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

struct Hasher(Sha256);

impl Write for Hasher {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.0.update(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(changes: &[&str]) -> Result<Execution> {
        let mut run = Execution::default();
        changes.iter().try_for_each(|change| apply_change(&mut run, change)).map(|()| run)
    }

    #[test]
    fn changes_are_instructions() {
        let run = applied(&[
            "CMD [\"a\", \"b c\"]",
            "entrypoint echo hi",
            "ENV A=1 B=\"2 3\" C=it\\'s",
            "ENV A 4 5",
            "USER 1000:1000",
            "WORKDIR /srv",
            "WORKDIR app",
            "LABEL x.y=z 'k'='v w'",
            "EXPOSE 80 53/udp 8000-8010",
            "VOLUME [\"/data\"]",
            "VOLUME /a /b",
            "STOPSIGNAL SIGINT",
        ])
        .expect("valid");
        assert_eq!(run.cmd.expect("cmd"), ["a", "b c"]);
        assert_eq!(run.entrypoint.expect("entrypoint"), ["/bin/sh", "-c", "echo hi"]);
        assert_eq!(run.env, ["B=2 3", "C=it's", "A=4 5"]);
        assert_eq!(run.working_dir, "/srv/app");
        assert_eq!(run.labels["k"], "v w");
        assert_eq!(run.exposed_ports, ["80/tcp", "53/udp", "8000-8010/tcp"]);
        assert_eq!(run.volumes, ["/data", "/a", "/b"]);
    }

    #[test]
    fn bad_changes_are_refused() {
        for bad in [
            "",
            "CMD",
            "CMD ",
            "RUN x",
            "ENV",
            "ENV =x",
            "ENV A",
            "ENV A=1 B",
            "ENV A=\"x",
            "EXPOSE 0",
            "EXPOSE x/tcp",
            "EXPOSE 80/icmp",
            "EXPOSE 9-1",
            "STOPSIGNAL SIGNOPE",
            "USER a\0b",
        ] {
            assert!(applied(&[bad]).is_err(), "{bad:?}");
        }
    }
}
