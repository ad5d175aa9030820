//! Which namespaces a container has of its own: the values of `--network`,
//! `--pid`, `--ipc`, `--uts`, `--userns`.

use super::uplink::{PastaOptions, SlirpOptions};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// `--pid`, `--uts`: `private` (default), `host`, `container:ID`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NamespaceMode {
    #[default]
    Private,
    Host,
    /// Name, id or prefix as given; the engine replaces it with the full id.
    Container(String),
}

/// `--ipc`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum IpcMode {
    /// Own namespace and `/dev/shm`; others may join it.
    #[default]
    Shareable,
    /// Own namespace and `/dev/shm`; `container:` on it is refused.
    Private,
    /// Own namespace, no `/dev/shm`.
    None,
    Host,
    Container(String),
}

/// `--userns`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum UsernsMode {
    /// A nested namespace that sees the ids of the user's outer one.
    #[default]
    Private,
    /// No nested namespace: the user's outer one.
    Host,
    /// The user's own ids inside as outside, or as the ids given.
    KeepId {
        uid: Option<u32>,
        gid: Option<u32>,
    },
    /// The user's own id is not mapped at all.
    NoMap,
    /// A range of ids that no other running container uses.
    Auto {
        size: Option<u32>,
    },
    Container(String),
}

/// `--network`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NetworkMode {
    /// Own namespace; outbound through a user-mode helper where one is installed.
    #[default]
    Default,
    /// The same, and an error where slirp4netns is not installed.
    Slirp {
        options: Vec<String>,
    },
    /// The same through pasta, with words of its own.
    Pasta {
        options: Vec<String>,
    },
    /// The same through the stack of our own.
    Builtin {
        options: Vec<String>,
    },
    /// Own namespace, on the networks of the container's config.
    Bridge,
    /// Own namespace with loopback alone.
    None,
    Host,
    Container(String),
    /// The namespace behind this path.
    Path(String),
}

impl NamespaceMode {
    /// The value of `flag` (`--pid`, `--uts`), which is named in errors.
    ///
    /// # Errors
    /// `Invalid` for anything but `private`, `host` and `container:NAME`.
    pub(crate) fn parse(flag: &str, text: &str) -> Result<Self> {
        match split_mode(text) {
            ("" | "private", None) => Ok(Self::Private),
            ("host", None) => Ok(Self::Host),
            ("container", Some(name)) if !name.is_empty() => Ok(Self::Container(name.to_owned())),
            ("container", _) => Err(no_container_named(flag, text)),
            _ => Err(unknown(flag, text, "private, host, container:NAME")),
        }
    }
}

impl IpcMode {
    /// The value of `--ipc`.
    ///
    /// # Errors
    /// `Invalid` for a mode that is not one of this type's.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match split_mode(text) {
            ("" | "shareable", None) => Ok(Self::Shareable),
            ("private", None) => Ok(Self::Private),
            ("none", None) => Ok(Self::None),
            ("host", None) => Ok(Self::Host),
            ("container", Some(name)) if !name.is_empty() => Ok(Self::Container(name.to_owned())),
            ("container", _) => Err(no_container_named("--ipc", text)),
            _ => Err(unknown("--ipc", text, "shareable, private, none, host, container:NAME")),
        }
    }
}

impl UsernsMode {
    /// The value of `--userns`, in podman's spelling.
    ///
    /// # Errors
    /// `Invalid` for an unknown mode or option, and for an id that is no id.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match split_mode(text) {
            ("" | "private", None) => Ok(Self::Private),
            ("host", None) => Ok(Self::Host),
            ("nomap", None) => Ok(Self::NoMap),
            ("keep-id", options) => Self::parse_keep_id(options.unwrap_or_default()),
            ("auto", options) => Self::parse_auto(options.unwrap_or_default()),
            ("container", Some(name)) if !name.is_empty() => Ok(Self::Container(name.to_owned())),
            ("container", _) => Err(no_container_named("--userns", text)),
            _ => Err(unknown("--userns", text, "private, host, keep-id, nomap, auto, container:NAME")),
        }
    }

    fn parse_keep_id(options: &str) -> Result<Self> {
        let (mut uid, mut gid) = (None, None);
        for (key, value) in split_options("--userns=keep-id", options)? {
            match key {
                "uid" => uid = Some(parse_id("--userns=keep-id:uid", value)?),
                "gid" => gid = Some(parse_id("--userns=keep-id:gid", value)?),
                _ => return Err(unknown("--userns=keep-id", key, "uid, gid")),
            }
        }
        Ok(Self::KeepId { uid, gid })
    }

    fn parse_auto(options: &str) -> Result<Self> {
        let mut size = None;
        for (key, value) in split_options("--userns=auto", options)? {
            match key {
                "size" => {
                    let number = parse_id("--userns=auto:size", value)?;
                    if number == 0 {
                        return Err(Error::invalid(
                            "--userns=auto:size=0: a namespace needs at least one id",
                        ));
                    }
                    size = Some(number);
                }
                _ => return Err(unknown("--userns=auto", key, "size")),
            }
        }
        Ok(Self::Auto { size })
    }
}

impl NetworkMode {
    /// The value of `--network`.
    ///
    /// # Errors
    /// `Invalid` for an unknown network and for a path that is not absolute.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match split_mode(text) {
            ("" | "default" | "private", None) => Ok(Self::Default),
            ("slirp4netns", options) => {
                let options = words(options);
                SlirpOptions::parse("slirp4netns", &options)?;
                Ok(Self::Slirp { options })
            }
            ("pasta", options) => {
                let options = words(options);
                PastaOptions::parse(&options)?;
                Ok(Self::Pasta { options })
            }
            ("builtin", options) => {
                let options = words(options);
                SlirpOptions::parse("builtin", &options)?;
                Ok(Self::Builtin { options })
            }
            ("none", None) => Ok(Self::None),
            ("host", None) => Ok(Self::Host),
            ("container", Some(name)) if !name.is_empty() => Ok(Self::Container(name.to_owned())),
            ("container", _) => Err(no_container_named("--network", text)),
            ("ns", Some(path)) if path.starts_with('/') => Ok(Self::Path(path.to_owned())),
            ("ns", _) => {
                Err(Error::invalid(format!("--network {text}: the path of a namespace must be absolute"))
                    .hint("for example --network ns:/run/user/1000/netns/web"))
            }
            _ => Err(unknown(
                "--network",
                text,
                "default, slirp4netns, pasta, builtin, none, host, container:NAME, ns:PATH",
            )),
        }
    }
}

impl NetworkMode {
    /// Whether the container has a network namespace that may be joined to more.
    pub(crate) fn has_own_interfaces(&self) -> bool {
        match self {
            Self::Default | Self::Slirp { .. } | Self::Pasta { .. } | Self::Builtin { .. } | Self::Bridge => {
                true
            }
            Self::None | Self::Host | Self::Container(_) | Self::Path(_) => false,
        }
    }

    /// Whether ports that are published come to nothing: the host's network is
    /// there for all anyway, and none cannot be reached.
    pub(crate) fn discards_ports(&self) -> bool {
        matches!(self, Self::Host | Self::None)
    }

    /// Whether a container on this network may publish ports.
    ///
    /// # Errors
    /// `Invalid`, in docker's words, where it has no network of its own.
    pub(crate) fn check_ports(&self, published: bool) -> Result<()> {
        let (kind, hint) = match self {
            _ if !published => return Ok(()),
            Self::Container(_) => {
                ("the container type network mode", "publish them at the container whose network it is")
            }
            Self::Path(_) => {
                ("the network namespace of somebody else", "whoever made it decides who reaches it")
            }
            // A network of its own; or a mode that discards them, of which a warning tells.
            _ => return Ok(()),
        };
        Err(Error::invalid(format!("conflicting options: port publishing and {kind}")).hint(hint))
    }
}

/// `option,option`; empty pieces are passed over.
fn words(options: Option<&str>) -> Vec<String> {
    let options = options.unwrap_or_default().split(',').filter(|option| !option.is_empty());
    options.map(str::to_owned).collect()
}

/// `mode[:rest]`
fn split_mode(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((mode, rest)) => (mode, Some(rest)),
        None => (text, None),
    }
}

/// `key=value,key=value`; empty pieces are passed over.
fn split_options<'a>(flag: &str, text: &'a str) -> Result<Vec<(&'a str, &'a str)>> {
    let pieces = text.split(',').filter(|piece| !piece.is_empty());
    pieces
        .map(|piece| {
            piece.split_once('=').ok_or_else(|| Error::invalid(format!("{flag}: {piece:?} is not KEY=VALUE")))
        })
        .collect()
}

/// Digits alone: `u32::from_str` would take a `+`. The last number, 2³²-1, is
/// the kernel's "no id".
fn parse_id(flag: &str, text: &str) -> Result<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let id = if digits { text.parse::<u32>().ok().filter(|id| *id != u32::MAX) } else { None };
    id.ok_or_else(|| Error::invalid(format!("{flag}: {text:?} is not a number from 0 to 4294967294")))
}

fn unknown(flag: &str, text: &str, choices: &str) -> Error {
    Error::invalid(format!("{flag}: unknown value {text:?}")).hint(format!("one of: {choices}"))
}

fn no_container_named(flag: &str, text: &str) -> Error {
    Error::invalid(format!("{flag} {text}: no container named"))
        .hint(format!("name one: {flag} container:NAME"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_namespaces() {
        assert_eq!(NamespaceMode::parse("--pid", "host").unwrap(), NamespaceMode::Host);
        assert_eq!(NamespaceMode::parse("--pid", "private").unwrap(), NamespaceMode::Private);
        let joined = NamespaceMode::parse("--pid", "container:web").unwrap();
        assert_eq!(joined, NamespaceMode::Container("web".into()));
        for bad in ["Host", "host:", "container", "container:", "ns:/proc/1/ns/pid", " host"] {
            let error = NamespaceMode::parse("--pid", bad).unwrap_err();
            assert!(error.to_string().contains("--pid"), "{bad}: {error}");
        }
    }

    #[test]
    fn ipc() {
        assert_eq!(IpcMode::parse("").unwrap(), IpcMode::Shareable);
        assert_eq!(IpcMode::parse("none").unwrap(), IpcMode::None);
        assert_eq!(IpcMode::parse("private").unwrap(), IpcMode::Private);
        assert_eq!(IpcMode::parse("container:a:b").unwrap(), IpcMode::Container("a:b".into()));
        for bad in ["shared", "container:", "none:"] {
            assert!(IpcMode::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn userns() {
        let keep = |uid, gid| UsernsMode::KeepId { uid, gid };
        let good = [
            ("", UsernsMode::Private),
            ("host", UsernsMode::Host),
            ("nomap", UsernsMode::NoMap),
            ("keep-id", keep(None, None)),
            ("keep-id:", keep(None, None)),
            ("keep-id:uid=999", keep(Some(999), None)),
            ("keep-id:gid=7,uid=0", keep(Some(0), Some(7))),
            ("auto", UsernsMode::Auto { size: None }),
            ("auto:size=4096", UsernsMode::Auto { size: Some(4096) }),
        ];
        for (text, mode) in good {
            assert_eq!(UsernsMode::parse(text).unwrap(), mode, "{text}");
        }
        for bad in [
            "keepid",
            "keep-id:uid",
            "keep-id:uid=",
            "keep-id:uid=+1",
            "keep-id:uid=-1",
            "keep-id:uid=4294967295",
            "keep-id:uid=4294967296",
            "keep-id:name=x",
            "auto:size=0",
            "auto:size=1k",
            "host:1",
            "nomap:x",
            "container:",
        ] {
            assert!(UsernsMode::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn network() {
        let slirp = |options: &[&str]| NetworkMode::Slirp {
            options: options.iter().map(|option| (*option).to_owned()).collect(),
        };
        let good = [
            ("", NetworkMode::Default),
            ("default", NetworkMode::Default),
            ("slirp4netns", slirp(&[])),
            ("slirp4netns:mtu=1500,enable_ipv6=true", slirp(&["mtu=1500", "enable_ipv6=true"])),
            ("pasta:-T,80", NetworkMode::Pasta { options: vec!["-T".into(), "80".into()] }),
            ("none", NetworkMode::None),
            ("host", NetworkMode::Host),
            ("container:db", NetworkMode::Container("db".into())),
            ("ns:/run/netns/a", NetworkMode::Path("/run/netns/a".into())),
        ];
        for (text, mode) in good {
            assert_eq!(NetworkMode::parse(text).unwrap(), mode, "{text}");
        }
        for bad in [
            "bridge",
            "pasta:x",
            "web",
            "ns:a",
            "ns:",
            "none:x",
            "container:",
            "container",
            "slirp4netns:mtu=0",
        ] {
            assert!(NetworkMode::parse(bad).is_err(), "{bad}");
        }
    }
}
