//! Help for people: commands in groups, the many flags of `run` under headings,
//! as wide as the terminal.

use super::command::{Entry, Kind};
use clap::{Arg, Command};
use std::io::IsTerminal;

/// What a new user needs first, in the order of need.
const COMMON: [&str; 12] =
    ["run", "exec", "ps", "logs", "stop", "start", "rm", "pull", "images", "rmi", "build", "inspect"];

/// Columns of a help that no terminal shows, and the most that one can be read with.
const WIDTH: usize = 100;
const MAX_WIDTH: usize = 140;

/// A heading, and the flags below it: by name, or `memory*` for all that begin so.
type Heading = (&'static str, &'static [&'static str]);

/// What has no heading of its own comes first, under `Options`.
const HEADINGS: &[Heading] = &[
    (
        "Process",
        &[
            "entrypoint",
            "env*",
            "group-add",
            "hostuser",
            "init*",
            "oom-score-adj",
            "passwd*",
            "pid",
            "restart",
            "stop-*",
            "timeout",
            "tz",
            "umask",
            "unsetenv*",
            "user",
            "workdir",
            "no-healthcheck",
            "sdnotify",
        ],
    ),
    (
        "Files",
        &[
            "device",
            "device-cgroup-rule",
            "gpus",
            "image-volume",
            "mount",
            "read-only*",
            "rootfs",
            "secret",
            "shm-size*",
            "storage-opt",
            "tmpfs",
            "volume*",
            "chrootdirs",
        ],
    ),
    (
        "Network",
        &[
            "add-host",
            "dns*",
            "domainname",
            "expose",
            "hostname",
            "ip*",
            "link*",
            "mac-address",
            "net*",
            "no-hosts",
            "publish*",
            "uts",
        ],
    ),
    (
        "Limits",
        &[
            "blkio-*",
            "cgroup*",
            "cpu*",
            "device-read-*",
            "device-write-*",
            "kernel-memory",
            "memory*",
            "oom-kill-disable",
            "pids-limit",
            "ulimit",
        ],
    ),
    (
        "Security and namespaces",
        &[
            "cap-*",
            "decryption-key",
            "gidmap",
            "ipc",
            "privileged",
            "security-opt",
            "seccomp-policy",
            "subgidname",
            "subuidname",
            "sysctl",
            "uidmap",
            "userns*",
        ],
    ),
    ("Health checks", &["health-*"]),
    (
        "Image",
        &[
            "arch",
            "authfile",
            "creds",
            "disable-content-trust",
            "os",
            "override-*",
            "platform",
            "pull",
            "quiet",
            "tls-verify",
            "variant",
        ],
    ),
    ("Logs and labels", &["annotation", "label*", "log-*"]),
];

/// As many columns as the terminal has, within reason.
pub(crate) fn width() -> usize {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return WIDTH;
    }
    let columns = rustix::termios::tcgetwinsize(&stdout).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { WIDTH } else { columns.clamp(40, MAX_WIDTH) }
}

/// The template of the help of `coracle` itself: its commands in groups.
pub(crate) fn overview(entries: &[Entry]) -> String {
    let listed: Vec<&Entry> = entries.iter().filter(|entry| !is_hidden(entry)).collect();
    let common: Vec<&Entry> =
        COMMON.iter().filter_map(|name| listed.iter().find(|entry| entry.name == *name).copied()).collect();
    let is_common = |entry: &Entry| COMMON.contains(&entry.name);
    let mut management: Vec<&Entry> = Vec::new();
    let mut others: Vec<&Entry> = Vec::new();
    for entry in listed.iter().filter(|entry| !is_common(entry)) {
        match entry.kind {
            Kind::Group(_) => management.push(entry),
            Kind::Command(_) => others.push(entry),
        }
    }
    management.sort_by_key(|entry| entry.name);
    others.sort_by_key(|entry| entry.name);
    let longest = listed.iter().map(|entry| entry.name.len()).max().unwrap_or(0);
    let mut text = "{about}\n\n{usage-heading} {usage}\n".to_owned();
    for (heading, entries) in
        [("Common Commands", common), ("Management Commands", management), ("Commands", others)]
    {
        text.push_str(&format!("\n{heading}:\n"));
        for entry in entries {
            text.push_str(&format!("  {:longest$}  {}\n", entry.name, entry.about));
        }
    }
    text.push_str("\nGlobal Options:\n{options}{after-help}\n");
    text
}

fn is_hidden(entry: &Entry) -> bool {
    matches!(&entry.kind, Kind::Command(verb) if verb.hidden)
}

/// The command with its flags under headings, where it has very many: for
/// help alone, as it takes time.
pub(crate) fn arranged(command: Command) -> Command {
    let width = width();
    let command = command.term_width(width);
    if command.get_opts().filter(|arg| !arg.is_hide_set()).count() < 40 {
        return command;
    }
    let flags = |belongs: &dyn Fn(&str) -> bool| -> Vec<Arg> {
        let shown = command.get_arguments().filter(|arg| !arg.is_hide_set() && !arg.is_positional());
        let mut flags: Vec<Arg> = shown.filter(|arg| arg.get_long().is_some_and(belongs)).cloned().collect();
        flags.sort_by(|one, two| one.get_long().cmp(&two.get_long()));
        flags
    };
    let mut text = "{about}\n\n{usage-heading} {usage}\n".to_owned();
    let mut section = |heading: &str, flags: Vec<Arg>| {
        if !flags.is_empty() {
            let part = Command::new("part").disable_help_flag(true).term_width(width);
            let part = part.next_line_help(false).help_template("{options}").args(flags);
            // What stands in braces is the template's own.
            let rendered = part.clone().render_help().to_string().replace('{', "(").replace('}', ")");
            text.push_str(&format!("\n{heading}:\n{}\n", rendered.trim_end()));
        }
    };
    section("Options", flags(&|name| heading_of(name).is_none()));
    for (heading, _) in HEADINGS {
        section(heading, flags(&|name| heading_of(name) == Some(heading)));
    }
    text.push_str("{after-help}\n");
    command.help_template(text)
}

fn heading_of(name: &str) -> Option<&'static str> {
    let covers = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    // `user` is no `userns`: what is named in full goes before what begins so.
    let named = HEADINGS.iter().find(|(_, flags)| flags.contains(&name));
    named
        .or_else(|| HEADINGS.iter().find(|(_, flags)| flags.iter().any(|pattern| covers(pattern))))
        .map(|(heading, _)| *heading)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands;

    fn help_of(name: &str) -> String {
        let entry = commands::ENTRIES.iter().find(|entry| entry.name == name).expect(name);
        arranged(entry.describe(&format!("coracle {name}"))).render_help().to_string()
    }

    #[test]
    fn every_flag_of_run_is_under_one_heading() {
        let help = help_of("run");
        let entry = commands::ENTRIES.iter().find(|entry| entry.name == "run").expect("run");
        let command = entry.describe("coracle run");
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set() && !arg.is_positional()) {
            let long = arg.get_long().expect("long");
            let shown = help.split("\nExamples:").next().unwrap_or_default();
            let lines = shown.lines().filter(|line| {
                line.starts_with("  ")
                    && line.split([' ', ',', '[', '=']).take(12).any(|word| word == format!("--{long}"))
            });
            assert_eq!(lines.count(), 1, "--{long}: {help}");
        }
        let at = |text: &str| help.find(text).unwrap_or_else(|| panic!("{text}: {help}"));
        assert!(at("\nOptions:\n") < at("\nProcess:\n") && at("\nProcess:\n") < at("\nNetwork:\n"));
        assert!(at("--detach") < at("\nProcess:\n") && at("\nExamples:\n") > at("\nNetwork:\n"));
    }

    #[test]
    fn the_overview_lists_every_command_once() {
        let help = commands::describe().render_help().to_string();
        for entry in commands::ENTRIES {
            let lines = help.lines().filter(|line| line.split_whitespace().next() == Some(entry.name));
            let at_indent = lines.filter(|line| line.starts_with("  ")).count();
            assert_eq!(at_indent, usize::from(!is_hidden(entry)), "{}: {help}", entry.name);
        }
        for heading in ["Common Commands:", "Management Commands:", "\nCommands:", "Global Options:"] {
            assert!(help.contains(heading), "{heading}: {help}");
        }
    }

    #[test]
    fn headings_take_flags_by_name_before_beginnings() {
        assert_eq!(heading_of("user"), Some("Process"));
        assert_eq!(heading_of("userns"), Some("Security and namespaces"));
        assert_eq!(heading_of("network"), Some("Network"));
        assert_eq!(heading_of("pids-limit"), Some("Limits"));
        assert_eq!(heading_of("device"), Some("Files"));
        assert_eq!(heading_of("detach"), None);
    }
}
