//! `--tmpfs TARGET[:OPTIONS]`.

use super::options::{OptionWords, parse_mode};
use super::{MountOptions, MountSource, MountSpec, TmpfsMore, clean_target};
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
    let mut words_of_its_own = TmpfsWords::default();
    words_of_its_own.more.written = Some(words.to_owned());
    for word in words.split(',').filter(|word| !word.is_empty()) {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (word, None),
        };
        let known = words_of_its_own.add(key, value)?
            || value.is_none() && !applies_only_to_others(word) && parsed.add(word)?;
        if !known {
            return Err(Error::invalid(format!("unknown option {word:?}")));
        }
    }
    let options = with_defaults(parsed.options);
    Ok(MountSpec { source: words_of_its_own.source(), target: clean_target(target)?, options })
}

/// The options that a tmpfs alone has, of either flag.
#[derive(Debug, Default)]
pub(super) struct TmpfsWords {
    size: Option<u64>,
    mode: Option<u32>,
    more: TmpfsMore,
}

impl TmpfsWords {
    /// Takes an option in; `false` where it is none of these.
    ///
    /// # Errors
    /// `Invalid` for a value that cannot be meant.
    pub(super) fn add(&mut self, key: &str, value: Option<&str>) -> Result<bool> {
        let more = &mut self.more;
        match (key, value) {
            ("size", Some(value)) => match value.strip_suffix('%') {
                Some(number) => {
                    (self.size, more.percent) = (None, Some(parse_number(key, number)?));
                }
                None => (self.size, more.percent) = (Some(parse_bytes(value)?), None),
            },
            ("mode", Some(value)) => self.mode = Some(parse_mode(key, value)?),
            ("uid", Some(value)) => more.uid = Some(parse_number(key, value)?),
            ("gid", Some(value)) => more.gid = Some(parse_number(key, value)?),
            ("nr_inodes", Some(value)) => more.inodes = Some(parse_bytes(value)?),
            ("atime" | "noatime", None) => more.noatime = key == "noatime",
            ("diratime" | "nodiratime", None) => more.nodiratime = key == "nodiratime",
            // Docker's tmpfs is empty whatever the image has there, and so is this one
            // unless it is asked for.
            ("tmpcopyup" | "notmpcopyup", None) => more.copy_up = key == "tmpcopyup",
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(super) fn source(self) -> MountSource {
        MountSource::Tmpfs { size: self.size, mode: self.mode, more: self.more }
    }
}

fn parse_number(key: &str, value: &str) -> Result<u32> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { value.parse().ok() } else { None };
    number.ok_or_else(|| Error::invalid(format!("invalid value {value:?} of {key}: not a number")))
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
        let more = TmpfsMore { written: Some(String::new()), ..TmpfsMore::default() };
        assert_eq!(spec.source, MountSource::Tmpfs { size: None, mode: None, more });
        let options = &spec.options;
        assert_eq!((options.nosuid, options.nodev, options.noexec), (Some(true), Some(true), Some(true)));
        assert!(!options.read_only);
    }

    #[test]
    fn options_override_it() {
        let spec = parse_tmpfs("/run/x/:size=64m,mode=0700,exec,ro,notmpcopyup").expect("valid");
        let written = Some("size=64m,mode=0700,exec,ro,notmpcopyup".to_owned());
        let more = TmpfsMore { written, ..TmpfsMore::default() };
        assert_eq!(spec.source, MountSource::Tmpfs { size: Some(64 << 20), mode: Some(0o700), more });
        assert_eq!(spec.target, "/run/x");
        assert_eq!(spec.options.noexec, Some(false));
        assert!(spec.options.read_only);
        for bad in [
            "",
            "run",
            "/",
            "/x:size=",
            "/x:size=%",
            "/x:uid=root",
            "/x:gid=-1",
            "/x:nr_inodes=x",
            "/x:noatime=1",
            "/x:mode=9",
            "/x:mode=17777",
            "/x:wat",
            "/x:O",
            "/x:a=b",
        ] {
            assert!(parse_tmpfs(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_kernel_s_options_are_known() {
        let written = "size=10%,uid=1000,gid=5,nr_inodes=2k,noatime,nodiratime,tmpcopyup";
        let spec = parse_tmpfs(&format!("/x:{written}"));
        let more = TmpfsMore {
            percent: Some(10),
            uid: Some(1000),
            gid: Some(5),
            inodes: Some(2048),
            noatime: true,
            nodiratime: true,
            copy_up: true,
            written: Some(written.to_owned()),
        };
        assert_eq!(spec.expect("valid").source, MountSource::Tmpfs { size: None, mode: None, more });
    }
}
