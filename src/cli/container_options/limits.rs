//! `--ulimit`: limits by name, or this process's own.

use crate::error::Result;
use crate::types::container::Ulimit;
use rustix::process::{Resource, getrlimit};

/// setrlimit(2)'s resources.
const RESOURCES: &[(&str, Resource)] = &[
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// All `--ulimit`s: `NAME=SOFT[:HARD]`, or `host` for the limits of this process.
///
/// # Errors
/// `Invalid` for unknown names, and where the soft limit is above the hard one.
pub(super) fn parse_ulimits(texts: &[String]) -> Result<Vec<Ulimit>> {
    let mut limits: Vec<Ulimit> = Vec::new();
    for text in texts {
        let more = if text == "host" { host_limits() } else { vec![Ulimit::parse(text)?] };
        for limit in more {
            limits.retain(|other| other.name != limit.name);
            limits.push(limit);
        }
    }
    Ok(limits)
}

fn host_limits() -> Vec<Ulimit> {
    let limit = |(name, resource): &(&str, Resource)| {
        let limit = getrlimit(*resource);
        let value = |bound: Option<u64>| bound.unwrap_or(u64::MAX);
        Ulimit { name: (*name).to_owned(), soft: value(limit.current), hard: value(limit.maximum) }
    };
    RESOURCES.iter().map(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_limit_of_a_name_counts() {
        let texts = ["nofile=10:20", "CORE=-1", "nofile=30"].map(String::from);
        let limits = parse_ulimits(&texts).expect("valid");
        assert_eq!(limits.len(), 2);
        assert_eq!((limits[0].name.as_str(), limits[0].soft), ("core", u64::MAX));
        assert_eq!((limits[1].soft, limits[1].hard), (30, 30));
        assert!(parse_ulimits(&["host".into(), "wat=1".into()]).is_err());
    }

    #[test]
    fn the_hosts_limits_are_all_of_them() {
        let limits = parse_ulimits(&["host".into()]).expect("valid");
        let names: Vec<&str> = limits.iter().map(|limit| limit.name.as_str()).collect();
        assert_eq!(names, crate::types::ulimit::NAMES);
    }
}
