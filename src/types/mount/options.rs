//! The comma-separated words that `-v`, `--mount` and `--tmpfs` share.

use super::{MountOptions, Propagation};
use crate::error::{Error, Result};

/// What words have been met, so that a second one that contradicts is an error.
#[derive(Debug, Default)]
pub(super) struct OptionWords {
    pub(super) options: MountOptions,
    /// `nocopy` or `copy` was given, which only volumes have.
    pub(super) copy: Option<bool>,
    /// `O`.
    pub(super) overlay: bool,
    access: Option<bool>,
    propagation: bool,
    recursion: Option<bool>,
}

impl OptionWords {
    /// Takes `word` in; `false` where it is none of the shared ones.
    ///
    /// # Errors
    /// `Invalid` where it contradicts an earlier one.
    pub(super) fn add(&mut self, word: &str) -> Result<bool> {
        if let Some(propagation) = Propagation::parse(word) {
            if self.propagation && self.options.propagation != propagation {
                return Err(Error::invalid(format!(
                    "{word} contradicts {}",
                    self.options.propagation.as_str()
                )));
            }
            self.propagation = true;
            self.options.propagation = propagation;
            return Ok(true);
        }
        match word {
            "ro" | "rw" => {
                set(&mut self.access, word == "ro", word)?;
                self.options.read_only = word == "ro";
            }
            "suid" | "nosuid" => set(&mut self.options.nosuid, word == "nosuid", word)?,
            "dev" | "nodev" => set(&mut self.options.nodev, word == "nodev", word)?,
            "exec" | "noexec" => set(&mut self.options.noexec, word == "noexec", word)?,
            "bind" | "rbind" => {
                set(&mut self.recursion, word == "bind", word)?;
                self.options.non_recursive = word == "bind";
            }
            "copy" | "nocopy" => {
                set(&mut self.copy, word == "copy", word)?;
                self.options.no_copy = word == "nocopy";
            }
            "U" => self.options.chown = true,
            "O" => self.overlay = true,
            // Labels of SELinux, which coracle does not set, and caches of
            // docker's virtual machines: all are true of every mount here.
            "z" | "Z" | "consistent" | "cached" | "delegated" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn set(place: &mut Option<bool>, value: bool, word: &str) -> Result<()> {
    if place.is_some_and(|before| before != value) {
        return Err(Error::invalid(format!("{word} contradicts an option before it")));
    }
    *place = Some(value);
    Ok(())
}

/// Permission bits in octal: `1777`, `0700`.
///
/// # Errors
/// `Invalid` for anything else and beyond 07777.
pub(super) fn parse_mode(key: &str, value: &str) -> Result<u32> {
    let digits = !value.is_empty() && value.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let mode = if digits { u32::from_str_radix(value, 8).ok() } else { None };
    mode.filter(|mode| *mode <= 0o7777).ok_or_else(|| {
        Error::invalid(format!("invalid value {value:?} of {key}: not an octal mode such as 1777"))
    })
}
