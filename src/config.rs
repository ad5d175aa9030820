//! The user's settings: `$XDG_CONFIG_HOME/coracle/config.toml`.
//!
//! Read by the commands that a setting is for, when they need it: one open(2),
//! which mostly finds nothing.

use crate::error::{Context, Error, Result};
use crate::types::driver::DriverChoice;
use crate::types::limits::Undelegated;
use crate::types::uplink::Preference;
use rustix::fs::{Mode, OFlags};
use serde::Deserialize;
use std::io::Read;
use std::path::Path;
use toml::Spanned;

/// Bytes: longer is no file of settings.
const MAX: u64 = 64 << 10;

/// What can be set, with what holds where it is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Config {
    /// `storage.driver`
    pub(crate) driver: DriverChoice,
    /// `network.uplink`
    pub(crate) uplink: Preference,
    /// `limits.undelegated`
    pub(crate) undelegated: Undelegated,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    storage: Storage,
    #[serde(default)]
    network: Network,
    #[serde(default)]
    limits: Limits,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Storage {
    driver: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Network {
    uplink: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    undelegated: Option<Spanned<String>>,
}

/// Reads `config.toml` in `directory`; no file sets nothing.
///
/// # Errors
/// `Invalid` with file and line for what is no TOML, no setting or no value of it.
pub(crate) fn read(directory: &Path) -> Result<Config> {
    let path = directory.join("config.toml");
    let step = || format!("read {}", path.display());
    let hint = "correct it, or remove it: without it the defaults hold";
    // Without waiting for who writes to a FIFO.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(&path, flags, Mode::empty()) {
        Ok(file) => std::fs::File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(Config::default()),
        Err(errno) => return Err(errno).context(step),
    };
    if !file.metadata().context(step)?.is_file() {
        return Err(Error::invalid(format!("{}: not a regular file", path.display())).hint(hint));
    }
    let mut bytes = Vec::new();
    file.take(MAX + 1).read_to_end(&mut bytes).context(step)?;
    if bytes.len() as u64 > MAX {
        return Err(Error::invalid(format!("{}: longer than {MAX} bytes", path.display())).hint(hint));
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| error.utf8_error())
        .context(step)
        .map_err(|error| error.hint(hint))?;
    parse(&text).map_err(|(line, error)| error.context(format!("{}, line {line}", path.display())))
}

/// The settings, or the line of what is wrong, counted from 1.
fn parse(text: &str) -> Result<Config, (usize, Error)> {
    let line = |at: usize| text.get(..at).unwrap_or(text).split('\n').count();
    let document: Document = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let hint = "the settings are storage.driver = \"auto\", \"overlay\" or \"fuse\", \
            network.uplink = \"auto\", \"slirp4netns\", \"pasta\" or \"builtin\", \
            and limits.undelegated = \"refuse\" or \"warn\"";
        (line(at), Error::invalid(error.message().replace('\n', ", ")).hint(hint))
    })?;
    let mut config = Config::default();
    if let Some(word) = document.storage.driver {
        config.driver =
            DriverChoice::parse(word.get_ref()).map_err(|error| (line(word.span().start), error))?;
    }
    if let Some(word) = document.network.uplink {
        config.uplink =
            Preference::parse(word.get_ref()).map_err(|error| (line(word.span().start), error))?;
    }
    if let Some(word) = document.limits.undelegated {
        config.undelegated =
            Undelegated::parse(word.get_ref()).map_err(|error| (line(word.span().start), error))?;
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings() {
        for (text, driver) in [
            ("", DriverChoice::Auto),
            ("# nothing\n", DriverChoice::Auto),
            ("[storage]\n", DriverChoice::Auto),
            ("[storage]\ndriver = \"fuse\"\n", DriverChoice::Fuse),
            ("storage.driver = 'overlay'", DriverChoice::Overlay),
            ("storage = { driver = \"auto\" }", DriverChoice::Auto),
        ] {
            assert_eq!(parse(text).expect(text).driver, driver);
        }
    }

    #[test]
    fn the_way_out() {
        for (text, uplink) in [
            ("", Preference::Auto),
            ("[network]\nuplink = \"pasta\"\n", Preference::Pasta),
            ("network.uplink = 'slirp4netns'", Preference::Slirp),
        ] {
            assert_eq!(parse(text).expect(text).uplink, uplink);
        }
    }

    #[test]
    fn limits_that_cannot_be_kept() {
        for (text, undelegated) in [
            ("", Undelegated::Refuse),
            ("[limits]\nundelegated = \"warn\"\n", Undelegated::Warn),
            ("limits.undelegated = 'refuse'", Undelegated::Refuse),
        ] {
            assert_eq!(parse(text).expect(text).undelegated, undelegated);
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line, said) in [
            ("\n[storage]\n\ndriver = \"vfs\"\n", 4, "storage driver \"vfs\""),
            ("[storage]\ndriver = 7\n", 2, "invalid type"),
            ("[storage]\ndrivr = \"fuse\"\n", 2, "unknown field"),
            ("[network]\nx = 1\n", 2, "unknown field"),
            ("[networks]\nx = 1\n", 1, "unknown field"),
            ("[limits]\nundelegated = \"ignore\"\n", 2, "limits.undelegated \"ignore\""),
            ("[network]\n\nuplink = \"vpnkit\"\n", 3, "uplink \"vpnkit\""),
            ("a = \n", 1, ""),
            ("[storage]\ndriver = \"fuse\"\ndriver = \"fuse\"\n", 3, "duplicate key"),
        ] {
            let (at, error) = parse(text).expect_err(text);
            assert_eq!(at, line, "{text}: {error}");
            assert!(error.to_string().contains(said), "{text}: {error}");
            assert!(!error.hints().is_empty(), "{text}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_sets_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(read(directory.path()).expect("nothing"), Config::default());
        std::fs::write(directory.path().join("config.toml"), "x").expect("written");
        let error = read(directory.path()).expect_err("no TOML").to_string();
        assert!(error.contains("config.toml, line 1"), "{error}");
        std::fs::write(directory.path().join("config.toml"), "#".repeat(70_000)).expect("written");
        assert!(read(directory.path()).is_err());
    }

    #[test]
    fn what_is_no_text_is_refused_at_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("config.toml");
        let refused = |said: &str| {
            let error = read(directory.path()).expect_err(said);
            assert!(error.to_string().contains("config.toml") && error.to_string().contains(said), "{error}");
            assert!(!error.hints().is_empty(), "{error}");
        };
        std::fs::write(&path, [b'#', 0xff]).expect("written");
        refused("UTF-8");
        std::fs::remove_file(&path).expect("removed");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("made");
        refused("not a regular file");
        std::fs::remove_file(&path).expect("removed");
        std::fs::create_dir(&path).expect("made");
        refused("not a regular file");
    }
}
