//! `--ulimit NAME=SOFT[:HARD]`.

use super::container::Ulimit;
use crate::error::{Error, Result};

/// The names of limits, as in prlimit(1): getrlimit(2) without `RLIMIT_`.
pub(crate) const NAMES: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// No limit.
pub(crate) const UNLIMITED: u64 = u64::MAX;

impl Ulimit {
    /// `nofile=1024:2048`, `nofile=1024` (both), `core=-1` or `core=unlimited`.
    ///
    /// # Errors
    /// `Invalid` for an unknown name, what is not a number, or a soft limit above the hard one.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let form = "write it as NAME=SOFT[:HARD], for example nofile=1024:2048";
        let invalid = |what: String| Error::invalid(format!("invalid ulimit {text:?}: {what}")).hint(form);
        let (name, values) = text.split_once('=').ok_or_else(|| invalid("no value".into()))?;
        let lower = name.to_ascii_lowercase();
        let name = lower.strip_prefix("rlimit_").unwrap_or(&lower).to_owned();
        if !NAMES.contains(&name.as_str()) {
            return Err(
                invalid(format!("no limit is called {name:?}")).hint(format!("one of {}", NAMES.join(" ")))
            );
        }
        let value = |value: &str| match value {
            "-1" | "unlimited" => Ok(UNLIMITED),
            _ if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                value.parse().map_err(|_| invalid(format!("{value:?} is not a number below 2^64")))
            }
            _ => Err(invalid(format!("{value:?} is neither a number nor unlimited"))),
        };
        let (soft, hard) = match values.split_once(':') {
            Some((soft, hard)) => (value(soft)?, value(hard)?),
            None => (value(values)?, value(values)?),
        };
        if soft > hard {
            return Err(invalid("the soft limit is above the hard one".into()));
        }
        Ok(Self { name, soft, hard })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_or_refused() {
        for (text, name, soft, hard) in [
            ("nofile=1024:2048", "nofile", 1024, 2048),
            ("nofile=1024", "nofile", 1024, 1024),
            ("RLIMIT_NPROC=1:-1", "nproc", 1, UNLIMITED),
            ("core=0", "core", 0, 0),
            ("Core=unlimited", "core", UNLIMITED, UNLIMITED),
            ("stack=8388608:unlimited", "stack", 8_388_608, UNLIMITED),
        ] {
            let expected = Ulimit { name: name.into(), soft, hard };
            assert_eq!(Ulimit::parse(text).unwrap(), expected, "{text}");
        }
        for bad in [
            "",
            "nofile",
            "nofile=",
            "nofile=a",
            "nofile=1:",
            "nofile=:1",
            "nofile=2:1",
            "nofile=-1:5",
            "nofile=1:2:3",
            "nofile=-2",
            "nofile= 1",
            "nofile=+1",
            "nofile=18446744073709551616",
            "files=1",
            "=1",
            "nofile =1",
        ] {
            assert!(Ulimit::parse(bad).is_err(), "{bad:?}");
        }
    }
}
