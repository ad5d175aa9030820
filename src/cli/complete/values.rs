//! What a flag's value or a command's argument can be.

use super::Answer;
use crate::engine::Engine;
use crate::engine::completion::Which;
use crate::types::signal;
use clap::Arg;

/// Words that are known beforehand, by flag.
const FIXED: &[(&str, &[&str])] = &[
    ("condition", &["exited", "stopped", "running", "created", "paused", "healthy", "unhealthy", "removing"]),
    ("detach-keys", &["ctrl-p,ctrl-q"]),
    ("driver", &["local"]),
    ("exit-policy", &["continue", "stop"]),
    ("format", &["json", "table"]),
    ("health-on-failure", &["none", "kill", "restart", "stop"]),
    ("ipc", &["shareable", "private", "none", "host", "container:"]),
    ("log-driver", &["json-file", "k8s-file", "local", "none", "passthrough"]),
    ("log-level", &["debug", "info", "warn", "error", "fatal"]),
    ("log-opt", &["max-size=", "max-file=", "tag=", "labels=", "env="]),
    ("mount", &["type=bind,", "type=volume,", "type=tmpfs,", "type=image,"]),
    ("pid", &["private", "host", "container:"]),
    (
        "platform",
        &[
            "linux/amd64",
            "linux/arm64",
            "linux/arm/v7",
            "linux/386",
            "linux/ppc64le",
            "linux/riscv64",
            "linux/s390x",
        ],
    ),
    ("pull", &["always", "missing", "never", "newer"]),
    ("restart", &["no", "on-failure", "always", "unless-stopped"]),
    ("share", &["ipc", "net", "pid", "uts", "none", "+pid"]),
    ("security-opt", &["no-new-privileges", "seccomp=", "mask=", "unmask="]),
    ("tail", &["all"]),
    ("type", &["container", "image", "volume"]),
    ("userns", &["host", "keep-id", "nomap", "auto", "container:"]),
    ("uts", &["private", "host", "container:"]),
];

/// Of `--network`, beside names.
const NETWORK_MODES: &[&str] = &["none", "host", "slirp4netns", "pasta", "builtin", "container:", "ns:"];

/// Keys of `--filter`, by command.
const FILTERS: &[(&str, &[&str])] = &[
    ("events", &["container=", "event=", "image=", "label=", "pod=", "type=", "volume="]),
    ("images", &["before=", "dangling=", "label=", "reference=", "since="]),
    ("prune", &["label=", "label!=", "until="]),
    (
        "ps",
        &[
            "ancestor=",
            "before=",
            "exited=",
            "health=",
            "id=",
            "label=",
            "name=",
            "network=",
            "pod=",
            "since=",
            "status=",
            "until=",
            "volume=",
        ],
    ),
    ("ls", &["dangling=", "driver=", "label=", "name="]),
];

const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];

/// Looks names up when they are asked for.
pub(super) struct Values<'a> {
    /// Arguments that are there already.
    given: &'a [String],
}

impl<'a> Values<'a> {
    pub(super) fn new(given: &'a [String]) -> Self {
        Self { given }
    }

    /// The value of a flag of the command `verb`.
    pub(super) fn of_flag(verb: &str, arg: &Arg, current: &str) -> Answer {
        let long = arg.get_long().unwrap_or_default();
        if current.starts_with("container:") {
            return containers(Which::Running).after("container:");
        }
        let known = match long {
            "filter" => Some(filter(verb, current)),
            "signal" | "stop-signal" => Some(Answer::words(signal::names())),
            "cap-add" | "cap-drop" => Some(Answer::words(
                ["ALL"].into_iter().chain(crate::runtime::capabilities::names().iter().copied()),
            )),
            "network" => Some(networks().and(Answer::words(NETWORK_MODES.iter().copied()))),
            "volumes-from" => Some(containers(Which::All)),
            // A path begins with `/` or `.`, a volume with a letter.
            "volume" if current.starts_with(['/', '.', '~']) => Some(Answer::files()),
            "volume" => Some(volumes().and(Answer::files())),
            "name" | "time" | "user" | "workdir" | "hostname" | "env" | "label" => Some(Answer::default()),
            _ => FIXED
                .iter()
                .find(|(name, _)| *name == long)
                .map(|(_, words)| Answer::words(words.iter().copied())),
        };
        let called = arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
        known.unwrap_or_else(|| Self::called(verb, called, current))
    }

    /// An argument of the command, by what its usage calls it:
    /// `[OPTIONS] IMAGE [COMMAND] [ARG...]`.
    pub(super) fn of_position(&self, verb: &str, usage: &str, current: &str) -> Answer {
        let mut names: Vec<&str> = usage.split_whitespace().filter(|word| *word != "[OPTIONS]").collect();
        // `CONTAINER [CONTAINER...]` goes on for ever.
        let more = names.last().is_some_and(|last| last.contains("..."));
        let last = names.pop();
        let name = names.get(self.given.len()).copied().or_else(|| {
            let is_last = self.given.len() == names.len();
            last.filter(|_| more || is_last)
        });
        let Some(name) = name else { return Answer::default() };
        let name = name.trim_matches(['[', ']', '.']);
        let mut answer = Self::called(verb, name, current);
        if name != "COMMAND" && name != "ARG" {
            answer.candidates.retain(|candidate| !self.given.contains(&candidate.word));
        }
        answer
    }

    /// By the name that usages and flags give to what is to be typed.
    fn called(verb: &str, name: &str, current: &str) -> Answer {
        if name == "SHELL" || (name.contains('|') && name.chars().all(|c| c.is_ascii_lowercase() || c == '|'))
        {
            return Answer::words(["bash", "zsh", "fish"]);
        }
        if name.starts_with("CONTAINER:")
            || name.contains("PATH|-")
            || name == "SRC_PATH"
            || name == "DEST_PATH"
        {
            return if current.contains('/') { Answer::files() } else { copies().and(Answer::files()) };
        }
        let first = name.split(['|', '[', ':']).next().unwrap_or_default();
        match first {
            "CONTAINER" => containers(which(verb)),
            "IMAGE" => images(),
            "VOLUME" => volumes(),
            "POD" => pods(),
            // That of `create` is a new name.
            "NETWORK" if verb != "create" => networks(),
            // `inspect NAME|ID` is of any kind; `load NAME` and others are new names.
            "NAME" if verb == "inspect" => containers(Which::All).and(images()).and(volumes()),
            "NAME" if matches!(verb, "pull" | "tag" | "untag") => images(),
            "FILE" | "PATH" | "DIR" | "ARG" => Answer::files(),
            "COMMAND" if verb == "unshare" => Answer::files(),
            "BOOL" => Answer::words(["true", "false"]),
            _ => Answer::default(),
        }
    }
}

/// The containers that a command can do something with.
fn which(verb: &str) -> Which {
    match verb {
        "attach" | "exec" | "kill" | "pause" | "stop" | "top" => Which::Running,
        "start" | "init" => Which::Stopped,
        "unpause" => Which::Paused,
        _ => Which::All,
    }
}

fn containers(which: Which) -> Answer {
    Answer::words(Engine::open().map(|engine| engine.names_of_containers(which)).unwrap_or_default())
}

/// `web:`, as `cp` has it.
fn copies() -> Answer {
    let mut answer = containers(Which::All);
    for candidate in &mut answer.candidates {
        candidate.word.push(':');
    }
    answer
}

fn images() -> Answer {
    Answer::words(Engine::open().map(|engine| engine.names_of_images()).unwrap_or_default())
}

fn volumes() -> Answer {
    Answer::words(Engine::open().map(|engine| engine.names_of_volumes()).unwrap_or_default())
}

fn pods() -> Answer {
    Answer::words(Engine::open().map(|engine| engine.names_of_pods()).unwrap_or_default())
}

fn networks() -> Answer {
    Answer::words(Engine::open().map(|engine| engine.names_of_networks()).unwrap_or_default())
}

fn filter(verb: &str, current: &str) -> Answer {
    let value = |key: &str| match (key, verb) {
        ("status", _) => Answer::words(STATES),
        ("health", _) => Answer::words(["starting", "healthy", "unhealthy", "none"]),
        ("dangling", _) => Answer::words(["true", "false"]),
        ("ancestor" | "image", _) | ("before" | "since", "images") => images(),
        ("before" | "since" | "name" | "container", "ps" | "events") => containers(Which::All),
        ("pod", "ps" | "events") => pods(),
        ("volume", _) | ("name", "ls") => volumes(),
        _ => Answer::default(),
    };
    match current.split_once('=') {
        Some((key, _)) => value(key).after(&format!("{key}=")),
        None => {
            let keys = FILTERS.iter().find(|(name, _)| *name == verb);
            Answer::words(keys.map_or(&[][..], |(_, keys)| keys).iter().copied())
        }
    }
}
