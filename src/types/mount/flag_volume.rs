//! `-v [SOURCE:]TARGET[:OPTIONS]`.

use super::options::OptionWords;
use super::{MountSource, MountSpec, clean_target, host_path};
use crate::error::{Error, Result};
use crate::types::id::check_name;
use std::path::Path;

/// One `-v`. A source with a `/` or `.` at its start is a path of the host
/// (relative ones from `working_dir`), any other a volume's name; a target
/// alone is an anonymous volume.
///
/// # Errors
/// `Invalid`, naming the flag's whole value, for anything that cannot be meant.
pub(crate) fn parse_volume(text: &str, working_dir: &Path) -> Result<MountSpec> {
    parse(text, working_dir).map_err(|error| error.context(format!("invalid volume {text:?}")))
}

fn parse(text: &str, working_dir: &Path) -> Result<MountSpec> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, words) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, words] => (Some(*source), *target, *words),
        _ => {
            return Err(Error::invalid("too many colons")
                .hint("a path with a colon in it can be mounted with --mount type=bind,source=…,target=…"));
        }
    };
    if let (Some(source), "") = (source, words) {
        refuse_options_as_target(source, target)?;
    }
    let words = parse_words(words)?;
    let target = clean_target(target)?;
    let source = match source {
        None => MountSource::Anonymous,
        Some("") => return Err(Error::invalid("the source is empty")),
        Some(path) if path.starts_with(['/', '.']) => {
            let path = host_path(path, working_dir)?;
            if words.overlay {
                MountSource::Overlay { path }
            } else {
                MountSource::Bind { path, create: true }
            }
        }
        Some(name) => {
            check_name("volume", name)
                .map_err(|error| error.hint("a path of the host begins with / or ./".to_owned()))?;
            MountSource::Volume { name: name.to_owned() }
        }
    };
    let is_volume = matches!(source, MountSource::Volume { .. } | MountSource::Anonymous);
    if is_volume && words.overlay {
        return Err(Error::invalid("O works for directories of the host, not for volumes"));
    }
    if !is_volume && words.copy.is_some() {
        return Err(Error::invalid("copy and nocopy are options of volumes"));
    }
    Ok(MountSpec { source, target, options: words.options })
}

/// `-v /data:ro` would make an anonymous volume that is not what was meant.
fn refuse_options_as_target(source: &str, target: &str) -> Result<()> {
    if !target.starts_with('/') && parse_words(target).is_ok() {
        return Err(Error::invalid(format!("{target} is an option, and a target is missing"))
            .hint(format!("write {source}:{source}:{target} for the same path on both sides")));
    }
    Ok(())
}

fn parse_words(words: &str) -> Result<OptionWords> {
    let mut parsed = OptionWords::default();
    for word in words.split(',').filter(|word| !word.is_empty()) {
        if !parsed.add(word)? {
            return Err(Error::invalid(format!("unknown option {word:?}")));
        }
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::super::Propagation;
    use super::*;

    fn volume(text: &str) -> Result<MountSpec> {
        parse_volume(text, Path::new("/here"))
    }

    #[test]
    fn sources_are_paths_names_or_nothing() {
        let bind = |path: &str| MountSource::Bind { path: path.into(), create: true };
        for (text, source, target) in [
            ("/a:/b", bind("/a"), "/b"),
            ("./a:/b", bind("/here/a"), "/b"),
            (".:/b", bind("/here"), "/b"),
            ("../a:/b", bind("/here/../a"), "/b"),
            ("/a/link/../c:/b", bind("/a/link/../c"), "/b"),
            ("data:/b/../c", MountSource::Volume { name: "data".into() }, "/c"),
            ("/b", MountSource::Anonymous, "/b"),
            ("/lower:/b:O", MountSource::Overlay { path: "/lower".into() }, "/b"),
        ] {
            let spec = volume(text).expect(text);
            assert_eq!((spec.source, spec.target.as_str()), (source, target), "{text}");
        }
    }

    #[test]
    fn options_are_understood() {
        let spec = volume("/a:/b:ro,Z,U,rslave,noexec,suid,bind").expect("valid");
        assert!(spec.options.read_only && spec.options.chown && spec.options.non_recursive);
        assert_eq!(spec.options.propagation, Propagation::RSlave);
        assert_eq!(
            (spec.options.noexec, spec.options.nosuid, spec.options.nodev),
            (Some(true), Some(false), None)
        );
        assert!(volume("data:/b:nocopy").expect("valid").options.no_copy);
        assert_eq!(volume("/a:/b:").expect("valid"), volume("/a:/b").expect("valid"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for bad in [
            "",
            ":",
            ":/b",
            "/a:",
            "/a:b",
            "/a:/",
            "/a:/b:xx",
            "/a:/b:ro:rw",
            "/a:/b:ro,rw",
            "/a:/b:shared,slave",
            "/a:ro",
            "data:ro,z",
            "a/b:/c",
            "~/x:/c",
            "-x:/c",
            "data:/b:O",
            "/a:/b:nocopy",
            "/a:/b:exec,noexec",
            "a\0b:/c",
            "b",
        ] {
            let error = volume(bad).expect_err(bad);
            assert!(error.to_string().starts_with("invalid volume"), "{error}");
        }
        let hints = |text| volume(text).expect_err("bad").hints().join("\n");
        assert!(hints("/a:ro").contains("/a:/a:ro"));
        assert!(hints("/a:b:/c:ro").contains("--mount"));
        assert!(hints("~/x:/c").contains("./"));
    }
}
