//! `--tmpfs TARGET[:OPTIONS]`.

use super::options::{OptionWords, parse_mode};
use super::{MountOptions, MountSource, MountSpec, clean_target};
use crate::error::{Error, Result};
use crate::types::size::parse_bytes;

/// One `--tmpfs`. As with docker it is `rw,noexec,nosuid,nodev` unless its
/// options say otherwise.
///
/// # Errors
/// `Invalid`, naming the flag's whole value.
pub(crate) fn parse_tmpfs(text: &str) -> Result<MountSpec> {
    parse(text).map_err(|error| error.context(format!("invalid tmpfs {text:?}")))
}

fn parse(text: &str) -> Result<MountSpec> {
    let (target, words) = text.split_once(':').unwrap_or((text, ""));
    let mut parsed = OptionWords::default();
    let (mut size, mut mode) = (None, None);
    for word in words.split(',').filter(|word| !word.is_empty()) {
        match word.split_once('=') {
            Some(("size", value)) => size = Some(parse_bytes(value)?),
            Some(("mode", value)) => mode = Some(parse_mode("mode", value)?),
            None if !applies_only_to_others(word) && parsed.add(word)? => {}
            // Docker's tmpfs is empty whatever the image has there, and so is this one.
            None if word == "notmpcopyup" => {}
            _ => return Err(Error::invalid(format!("unknown option {word:?}"))),
        }
    }
    let options = with_defaults(parsed.options);
    Ok(MountSpec { source: MountSource::Tmpfs { size, mode }, target: clean_target(target)?, options })
}

fn applies_only_to_others(word: &str) -> bool {
    matches!(word, "O" | "U" | "bind" | "rbind" | "copy" | "nocopy" | "consistent" | "cached" | "delegated")
}

/// Docker's defaults of every tmpfs.
pub(super) fn with_defaults(options: MountOptions) -> MountOptions {
    MountOptions {
        nosuid: options.nosuid.or(Some(true)),
        nodev: options.nodev.or(Some(true)),
        noexec: options.noexec.or(Some(true)),
        ..options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_dockers() {
        let spec = parse_tmpfs("/run").expect("valid");
        assert_eq!(spec.source, MountSource::Tmpfs { size: None, mode: None });
        let options = &spec.options;
        assert_eq!((options.nosuid, options.nodev, options.noexec), (Some(true), Some(true), Some(true)));
        assert!(!options.read_only);
    }

    #[test]
    fn options_override_it() {
        let spec = parse_tmpfs("/run/x/:size=64m,mode=0700,exec,ro,notmpcopyup").expect("valid");
        assert_eq!(spec.source, MountSource::Tmpfs { size: Some(64 << 20), mode: Some(0o700) });
        assert_eq!(spec.target, "/run/x");
        assert_eq!(spec.options.noexec, Some(false));
        assert!(spec.options.read_only);
        for bad in [
            "",
            "run",
            "/",
            "/x:size=",
            "/x:size=50%",
            "/x:mode=9",
            "/x:mode=17777",
            "/x:wat",
            "/x:O",
            "/x:a=b",
        ] {
            assert!(parse_tmpfs(bad).is_err(), "{bad:?}");
        }
    }
}
