//! What was asked for of a container: the request that a front end makes, and
//! the record that `create` keeps of it.

use super::cgroup::{CgroupnsMode, CgroupsMode};
use super::digest::Digest;
use super::health::HealthConfig;
use super::id::ContainerId;
use super::idmap::IdMap;
use super::limits::Limits;
use super::mount::{MountSource, MountSpec};
use super::namespace::{IpcMode, NamespaceMode, NetworkMode, UsernsMode};
use super::network::Attachment;
use super::personality::Personality;
use super::platform::Platform;
use super::pod::{PodChoice, PodRef};
use super::port::Publish;
use super::secret::SecretUse;
use super::status::RestartPolicy;
use super::systemd::SystemdMode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// What `run` and `create` ask of the engine.
#[derive(Clone, Debug, Default)]
pub(crate) struct CreateRequest {
    pub(crate) source: RootSource,
    /// A random readable name where `None`.
    pub(crate) name: Option<String>,
    pub(crate) pull: PullPolicy,
    pub(crate) platform: Option<Platform>,
    /// `--replace`: remove a container that has the name already.
    pub(crate) replace: bool,
    /// `--cidfile`: must not exist yet.
    pub(crate) cidfile: Option<PathBuf>,
    /// `--pod`
    pub(crate) pod: Option<PodChoice>,
    pub(crate) config: ContainerConfig,
}

/// Where the root file system comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RootSource {
    /// A reference, or an id or id prefix of a local image.
    Image(String),
    /// `--rootfs DIR[:O]`.
    Directory { path: PathBuf, overlay: bool },
    /// Of a pod's infra container.
    Nothing,
}

impl Default for RootSource {
    fn default() -> Self {
        Self::Image(String::new())
    }
}

/// `--pull`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PullPolicy {
    Always,
    #[default]
    Missing,
    Never,
    /// Pull where the registry has something newer; not an error where it cannot be reached.
    Newer,
}

/// What becomes of the volumes that an image names: `--image-volume`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ImageVolumes {
    #[default]
    Anonymous,
    Tmpfs,
    Ignored,
}

/// What was asked for, as flags say it. `None` and empty mean "the image's" in
/// a request; in a record the image's values have been merged in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerConfig {
    /// As asked for: a name, a digest or an id. Only in a record; empty in older ones.
    pub(crate) image: String,
    /// `--entrypoint`; `Some(vec![])` clears the image's.
    pub(crate) entrypoint: Option<Vec<String>>,
    /// The words after the image.
    pub(crate) cmd: Vec<String>,
    /// `KEY=VALUE`; later ones win. (`-e KEY` and `--env-file` are resolved by the front end.)
    pub(crate) env: Vec<String>,
    /// What the image's variables go before: `--env-host`, `--http-proxy`. Part of `env` in a record.
    #[serde(skip)]
    pub(crate) env_below: Vec<String>,
    /// `KEY=VALUE` with the image's variables in the value: `--env-merge`. Part of `env` in a record.
    #[serde(skip)]
    pub(crate) env_merge: Vec<String>,
    /// `--unsetenv`, `--unsetenv-all`
    pub(crate) unset_env: Vec<String>,
    pub(crate) unset_env_all: bool,
    /// Among `mounts` in a record.
    #[serde(skip)]
    pub(crate) image_volumes: ImageVolumes,
    pub(crate) workdir: Option<String>,
    /// `name|uid[:group|gid]`, as written.
    pub(crate) user: Option<String>,
    /// Names, numbers, or `keep-groups`.
    pub(crate) group_add: Vec<String>,
    /// Leave out what `/etc/passwd` and `/etc/group` lack of the user.
    pub(crate) no_passwd: bool,
    /// The line for `/etc/passwd`, with `$USERNAME`, `$UID`, `$GID`, `$NAME`, `$HOME`.
    pub(crate) passwd_entry: Option<String>,
    /// As `passwd_entry`, for `/etc/group`.
    pub(crate) group_entry: Option<String>,
    /// Users of the host, by name or number, who are to stand in `/etc/passwd`.
    pub(crate) host_users: Vec<String>,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    pub(crate) tty: bool,
    /// `-i`: stdin stays open.
    pub(crate) interactive: bool,
    /// `-a`: which streams `start -a` and `run` attach; empty means the default.
    pub(crate) attach: Vec<String>,
    /// `run -d`: no stream is attached.
    pub(crate) detached: bool,
    /// `--cidfile`
    pub(crate) id_file: Option<PathBuf>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) mounts: Vec<MountSpec>,
    /// `NAME[:ro|rw]`
    pub(crate) volumes_from: Vec<String>,
    pub(crate) read_only: bool,
    /// `--read-only-tmpfs`, default true: writable tmpfs on /tmp, /run, /var/tmp of a read-only container.
    pub(crate) read_only_tmpfs: Option<bool>,
    /// Bytes; 64 MiB where `None`.
    pub(crate) shm_size: Option<u64>,
    pub(crate) ulimits: Vec<Ulimit>,
    pub(crate) cap_add: Vec<String>,
    pub(crate) cap_drop: Vec<String>,
    pub(crate) privileged: bool,
    pub(crate) no_new_privileges: bool,
    pub(crate) seccomp: SeccompChoice,
    /// `--security-opt mask=PATHS`, `unmask=ALL|PATHS`
    pub(crate) mask: Vec<String>,
    pub(crate) unmask: Vec<String>,
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) devices: Vec<DeviceSpec>,
    /// `--init`
    pub(crate) init: bool,
    /// `--systemd`
    pub(crate) systemd: SystemdMode,
    /// Name or number, as written (`SIGTERM`, `TERM`, `15`).
    pub(crate) stop_signal: Option<String>,
    /// Seconds; 10 where `None`; negative means without end.
    pub(crate) stop_timeout: Option<i64>,
    pub(crate) restart: RestartPolicy,
    pub(crate) auto_remove: bool,
    /// `(name, address)`
    pub(crate) add_hosts: Vec<(String, String)>,
    pub(crate) no_hosts: bool,
    /// The image's /etc/hostname stays.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) no_hostname: bool,
    pub(crate) dns: Vec<String>,
    pub(crate) dns_search: Vec<String>,
    pub(crate) dns_options: Vec<String>,
    pub(crate) pid: NamespaceMode,
    pub(crate) uts: NamespaceMode,
    pub(crate) ipc: IpcMode,
    pub(crate) userns: UsernsMode,
    /// `--uidmap`, `--gidmap`: `inside` is the container's id, `outside` an id
    /// of the user's outer namespace (0 is the user, 1 the first subordinate id).
    pub(crate) uid_map: IdMap,
    pub(crate) gid_map: IdMap,
    pub(crate) network: NetworkMode,
    /// With [`NetworkMode::Bridge`].
    pub(crate) networks: Vec<Attachment>,
    /// `--link`: a container, and how it is called here.
    pub(crate) links: Vec<(String, String)>,
    /// Where ports are published that are given no address; all of them where `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host_binding: Option<IpAddr>,
    pub(crate) log: LogConfig,
    /// `--timeout`: seconds until the container is killed; 0 means never.
    pub(crate) timeout: u64,
    /// `--tz`: a zone name, or `local`.
    pub(crate) tz: Option<String>,
    /// Octal in the flag.
    pub(crate) umask: Option<u32>,
    pub(crate) oom_score_adj: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) personality: Option<Personality>,
    pub(crate) expose: Vec<String>,
    /// `-p`; in a record also those of `-P`.
    pub(crate) publish: Vec<Publish>,
    pub(crate) publish_all: bool,
    /// `--secret`
    pub(crate) secrets: Vec<SecretUse>,
    /// `--memory`, `--cpus`, …
    pub(crate) limits: Limits,
    /// `--cgroups`, `--cgroupns`, `--cgroup-parent`
    pub(crate) cgroups: CgroupsMode,
    pub(crate) cgroupns: CgroupnsMode,
    pub(crate) cgroup_parent: Option<String>,
    /// `--health-*`, over the image's `HEALTHCHECK`.
    pub(crate) health: Option<HealthConfig>,
    /// The pod that it is in.
    pub(crate) pod: Option<PodRef>,
    /// It holds what its pod shares, and runs nothing.
    pub(crate) infra: bool,
    /// `--pidfile`, `--conmon-pidfile`
    pub(crate) pid_files: PidFiles,
}

/// `--security-opt seccomp=…`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SeccompChoice {
    #[default]
    Default,
    Unconfined,
    /// A profile in docker's JSON form; the text, not the path, is kept.
    Profile(String),
}

/// `--ulimit NAME=SOFT[:HARD]`; `u64::MAX` is unlimited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ulimit {
    /// Lower case without `RLIMIT_`: `nofile`.
    pub(crate) name: String,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// `--device HOST[:CONTAINER][:rwm]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceSpec {
    pub(crate) host: PathBuf,
    pub(crate) container: String,
    pub(crate) permissions: String,
}

/// `--log-driver`, `--log-opt`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LogConfig {
    pub(crate) driver: LogDriver,
    /// Bytes after which a file is rotated; the default limit where `None`; -1 (`u64::MAX`) is none.
    pub(crate) max_size: Option<u64>,
    /// How many files are kept, the current one included.
    pub(crate) max_file: Option<u32>,
    /// All of them, as given: `tag`, `labels`, `max-size`, and those that change nothing.
    pub(crate) options: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LogDriver {
    #[default]
    JsonFile,
    K8sFile,
    /// Docker's, whose files are for `logs` alone.
    Local,
    None,
    Passthrough,
}

/// Files of the host with process ids in them, while the container runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PidFiles {
    pub(crate) init: Option<PathBuf>,
    pub(crate) monitor: Option<PathBuf>,
}

impl ContainerConfig {
    /// Whether who made it meant to attach this stream: `stdin`, `stdout` or `stderr`.
    pub(crate) fn attaches(&self, stream: &str) -> bool {
        let named = self.attach.is_empty() || self.attach.iter().any(|other| other == stream);
        named && !self.detached && (stream != "stdin" || self.interactive)
    }

    /// Docker's `StdinOnce`: stdin ends with that of the first client.
    pub(crate) fn stdin_once(&self) -> bool {
        self.attaches("stdin")
    }

    /// What is mounted in it. An infra container keeps mounts for the others of its pod.
    pub(crate) fn own_mounts(&self) -> &[MountSpec] {
        if self.infra { &[] } else { &self.mounts }
    }

    /// As [`Self::own_mounts`].
    pub(crate) fn own_devices(&self) -> &[DeviceSpec] {
        if self.infra { &[] } else { &self.devices }
    }

    /// Whether it is made ready for systemd as its first process.
    pub(crate) fn runs_systemd(&self) -> bool {
        let program = self.entrypoint.iter().flatten().chain(&self.cmd).next().map_or("", String::as_str);
        let is_first = !self.infra && !self.init && self.pid == NamespaceMode::Private;
        (is_first || self.systemd == SystemdMode::Always) && self.systemd.holds_for(program)
    }

    /// Whether it may make groups in its control group: then that has no limits itself.
    pub(crate) fn writes_to_its_group(&self) -> bool {
        self.privileged || self.cgroupns == CgroupnsMode::Private && self.runs_systemd()
    }

    pub(crate) fn is_in_pod(&self, id: &ContainerId) -> bool {
        self.pod.as_ref().is_some_and(|pod| pod.id == *id)
    }
}

/// What `create` records: `containers/<id>/config.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    /// Of this format: 1.
    pub(crate) version: u32,
    pub(crate) id: ContainerId,
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    pub(crate) root: RecordedRoot,
    /// What was asked for, merged with the image's config: `entrypoint`, `cmd`,
    /// `env`, `user`, `workdir`, `labels`, `stop_signal`, anonymous volumes.
    pub(crate) config: ContainerConfig,
    /// Volumes made for this container alone.
    #[serde(default)]
    pub(crate) anonymous_volumes: Vec<String>,
}

impl ContainerRecord {
    /// The images that it needs, each with its layers: its own, and those that are mounted.
    pub(crate) fn images(&self) -> impl Iterator<Item = (&Digest, &[Digest])> {
        let root = match &self.root {
            RecordedRoot::Image { id, layers, .. } => Some((id, &layers[..])),
            RecordedRoot::Directory { .. } | RecordedRoot::Nothing => None,
        };
        let mounted = self.config.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Image { id, layers, .. } => Some((id.as_ref()?, &layers[..])),
            _ => None,
        });
        root.into_iter().chain(mounted)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RecordedRoot {
    Image {
        /// As the user named it, normalised.
        reference: String,
        /// The image id: digest of its config.
        id: Digest,
        manifest: Digest,
        /// Chain ids from the lowest layer to the topmost.
        layers: Vec<Digest>,
    },
    Directory {
        path: PathBuf,
        overlay: bool,
    },
    /// No files: an infra container's.
    Nothing,
}
