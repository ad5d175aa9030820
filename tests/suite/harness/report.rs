//! What `guest report` saw from inside a container.

use super::process::Output;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "all that the guest reports; tests look at what they need")]
pub(crate) struct Report {
    pub(crate) pid: i32,
    pub(crate) ppid: i32,
    pub(crate) umask: u32,
    pub(crate) hostname: String,
    pub(crate) cwd: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    status: Vec<String>,
    mounts: Vec<String>,
    limits: Vec<String>,
    pub(crate) cgroup: Vec<String>,
    pub(crate) uid_map: Vec<String>,
    pub(crate) gid_map: Vec<String>,
    pub(crate) oom_score_adj: Vec<String>,
    pub(crate) namespaces: BTreeMap<String, String>,
    pub(crate) fds: BTreeMap<String, String>,
}

/// One line of mountinfo: proc_pid_mountinfo(5).
#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) options: Vec<String>,
    pub(crate) kind: String,
    pub(crate) super_options: Vec<String>,
}

impl Report {
    #[track_caller]
    pub(crate) fn parse(output: &Output) -> Self {
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("not a report, {error}: {output}"))
    }

    /// A field of /proc/self/status, its parts joined by single spaces.
    #[track_caller]
    pub(crate) fn status(&self, name: &str) -> String {
        let line = self.status.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name} in status")).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The real, effective, saved and file system ids, which must be one.
    #[track_caller]
    pub(crate) fn uid(&self) -> u32 {
        one(&self.status("Uid"))
    }

    #[track_caller]
    pub(crate) fn gid(&self) -> u32 {
        one(&self.status("Gid"))
    }

    /// Supplementary groups, sorted.
    pub(crate) fn groups(&self) -> Vec<u32> {
        let mut groups: Vec<u32> =
            self.status("Groups").split_whitespace().map(|g| g.parse().unwrap()).collect();
        groups.sort_unstable();
        groups
    }

    /// `CapEff` and its like, as a set of bits.
    #[track_caller]
    pub(crate) fn capabilities(&self, set: &str) -> u64 {
        u64::from_str_radix(&self.status(set), 16).unwrap()
    }

    pub(crate) fn env(&self, name: &str) -> Option<&str> {
        let mut values = self.env.iter().filter_map(|entry| entry.strip_prefix(name)?.strip_prefix('='));
        let value = values.next();
        assert!(values.next().is_none(), "{name} is there twice: {:?}", self.env);
        value
    }

    /// The topmost mount at `path`.
    pub(crate) fn mount(&self, path: &str) -> Option<Mount> {
        self.mounts.iter().rev().find_map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let dash = words.iter().position(|word| *word == "-")?;
            let list = |text: &str| text.split(',').map(str::to_owned).collect();
            (words[4] == path).then(|| Mount {
                options: list(words[5]),
                kind: words[dash + 1].to_owned(),
                super_options: list(words[dash + 3]),
            })
        })
    }

    /// Soft and hard limit of a line of /proc/self/limits.
    #[track_caller]
    pub(crate) fn limit(&self, name: &str) -> (String, String) {
        let line = self.limits.iter().find_map(|line| line.strip_prefix(name));
        let mut words = line.unwrap_or_else(|| panic!("no limit {name}")).split_whitespace();
        (words.next().unwrap().to_owned(), words.next().unwrap().to_owned())
    }
}

#[track_caller]
fn one(ids: &str) -> u32 {
    let ids: Vec<u32> = ids.split(' ').map(|id| id.parse().unwrap()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "ids differ: {ids:?}");
    ids[0]
}
