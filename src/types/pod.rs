//! Pods: containers that share namespaces, a control group and a life.

use super::container::SeccompChoice;
use super::id::ContainerId;
use super::limits::Limits;
use super::status::RestartPolicy;
use crate::error::{Error, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// What the containers of a pod may have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Share {
    Ipc,
    Net,
    Pid,
    Uts,
}

/// Podman's, where nothing is said.
const DEFAULT: [Share; 3] = [Share::Ipc, Share::Net, Share::Uts];

impl Share {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ipc => "ipc",
            Self::Net => "net",
            Self::Pid => "pid",
            Self::Uts => "uts",
        }
    }

    /// The value of `--share`; with a `+` before it, on top of podman's default.
    ///
    /// # Errors
    /// `Invalid` for what cannot be shared.
    pub(crate) fn parse_all(text: Option<&str>) -> Result<BTreeSet<Self>> {
        let Some(text) = text else { return Ok(DEFAULT.into()) };
        let (mut all, text) = match text.strip_prefix('+') {
            Some(more) => (DEFAULT.into(), more),
            None => (BTreeSet::new(), text),
        };
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                "none" if text == "none" => return Ok(all),
                "ipc" => all.insert(Self::Ipc),
                "net" => all.insert(Self::Net),
                "pid" => all.insert(Self::Pid),
                "uts" => all.insert(Self::Uts),
                "cgroup" => {
                    return Err(Error::invalid(
                        "--share cgroup: each container sees the limits and counters of its own control group",
                    )
                    .hint("leave it out: the pod's limits hold for all of its containers together anyway"));
                }
                _ => {
                    return Err(Error::invalid(format!(
                        "invalid kernel namespace to share: {word}. Options are: ipc, net, pid, uts or none"
                    )));
                }
            };
        }
        Ok(all)
    }
}

/// What becomes of a pod when the last of its containers has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ExitPolicy {
    /// What holds its namespaces stays.
    #[default]
    Continue,
    /// It ends too.
    Stop,
}

impl ExitPolicy {
    /// # Errors
    /// `Invalid` for another word.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text {
            "continue" => Ok(Self::Continue),
            "stop" => Ok(Self::Stop),
            _ => Err(Error::invalid(format!("running pod create option: invalid pod exit policy: {text:?}"))
                .hint("continue or stop")),
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Continue => "continue",
            Self::Stop => "stop",
        }
    }
}

/// What `pod create` records: `pods/<id>/pod.json`. Which containers are in it
/// stands in their records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PodRecord {
    /// Of this format: 1.
    pub(crate) version: u32,
    pub(crate) id: ContainerId,
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    pub(crate) labels: BTreeMap<String, String>,
    /// Empty where nothing holds it.
    pub(crate) shares: BTreeSet<Share>,
    /// The container that holds what is shared; `None` with `--infra=false`.
    pub(crate) infra: Option<ContainerId>,
    pub(crate) exit_policy: ExitPolicy,
    /// Of all its containers together.
    pub(crate) limits: Limits,
    pub(crate) cgroup_parent: Option<String>,
    /// For its containers.
    #[serde(default)]
    pub(crate) defaults: PodDefaults,
    /// The words that made it, for `inspect`.
    pub(crate) command: Vec<String>,
    /// A removal has begun, and is to be ended by whoever finds it.
    #[serde(default)]
    pub(crate) removing: bool,
}

/// What the containers of a pod have where their own flags say nothing: of
/// `--restart` and `--security-opt`. Their infra container runs nothing and needs
/// none of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PodDefaults {
    pub(crate) restart: RestartPolicy,
    pub(crate) no_new_privileges: bool,
    pub(crate) seccomp: SeccompChoice,
    pub(crate) mask: Vec<String>,
    pub(crate) unmask: Vec<String>,
}

impl PodRecord {
    pub(crate) fn reference(&self) -> PodRef {
        PodRef { id: self.id.clone(), name: self.name.clone() }
    }

    /// One of which nothing but the id is known: its record is damaged.
    pub(crate) fn unknown(id: ContainerId) -> Self {
        Self {
            version: 1,
            name: id.short().to_owned(),
            id,
            created: Timestamp::UNIX_EPOCH,
            labels: BTreeMap::new(),
            shares: BTreeSet::new(),
            infra: None,
            exit_policy: ExitPolicy::Continue,
            limits: Limits::default(),
            cgroup_parent: None,
            defaults: PodDefaults::default(),
            command: Vec::new(),
            removing: false,
        }
    }

    /// A pod for tests: it shares nothing and has nothing in it.
    #[cfg(test)]
    pub(crate) fn sample(name: &str, digit: u8) -> Self {
        Self { name: name.to_owned(), ..Self::unknown(ContainerId::from_bytes([digit; 32])) }
    }

    /// What a member that asks for nothing else joins.
    pub(crate) fn shares(&self, share: Share) -> bool {
        self.infra.is_some() && self.shares.contains(&share)
    }
}

/// In which pod a container is. A pod keeps its name for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PodRef {
    pub(crate) id: ContainerId,
    pub(crate) name: String,
}

/// The pod of a new container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodChoice {
    pub(crate) which: WhichPod,
    /// Namespaces that a flag of the container chooses.
    pub(crate) own: BTreeSet<Share>,
    /// For a pod that is to be made: the words that ask for it.
    pub(crate) command: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WhichPod {
    /// `--pod NAME`
    Named(String),
    /// `--pod new:NAME`; a random name where that is empty.
    New(String),
    /// `--pod-id-file`
    InFile(PathBuf),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared() {
        let words = |text: Option<&str>| -> Result<Vec<&'static str>> {
            Share::parse_all(text).map(|all| all.into_iter().map(Share::word).collect())
        };
        assert_eq!(words(None).expect("the default"), ["ipc", "net", "uts"]);
        assert_eq!(words(Some("+pid")).expect("more"), ["ipc", "net", "pid", "uts"]);
        assert_eq!(words(Some("net,pid")).expect("two"), ["net", "pid"]);
        assert!(words(Some("none")).expect("none").is_empty() && words(Some("")).expect("none").is_empty());
        for bad in ["user", "net,none", "cgroup", "Net", "net ipc"] {
            assert!(words(Some(bad)).is_err(), "{bad}");
        }
        assert_eq!(ExitPolicy::parse("stop").expect("valid").word(), "stop");
        assert!(ExitPolicy::parse("").is_err());
    }
}
