//! The tree of commands: docker's names, and which function runs each.

use super::arguments::{self, Flags};
use super::command::{Entry, Kind, command, run_in, with_help};
use super::{
    changes, exec, exit, generate, images, inspect, lifecycle, logs, mounts, pause, preparation, ps,
    registry, run as run_command, stats, system, top, ui, volume,
};
use crate::error::{Error, Result};
use clap::{Arg, ArgAction, Command};

/// What follows `coracle`, in the order of the help.
pub(crate) static ENTRIES: &[Entry] = &[
    RUN,
    CREATE,
    START,
    STOP,
    RESTART,
    KILL,
    RM,
    PS,
    LOGS,
    ATTACH,
    pause::PAUSE,
    pause::UNPAUSE,
    pause::UPDATE,
    stats::STATS,
    EXEC,
    TOP,
    WAIT,
    RENAME,
    changes::DIFF,
    changes::COMMIT,
    changes::EXPORT,
    mounts::MOUNT,
    mounts::UNMOUNT,
    preparation::INIT,
    registry::PULL,
    images::IMAGES,
    images::RMI,
    images::TAG,
    images::UNTAG,
    images::HISTORY,
    registry::SAVE,
    registry::LOAD,
    registry::IMPORT,
    images::IMAGE_GROUP,
    Entry { name: "volume", aliases: &[], about: "Manage volumes", kind: Kind::Group(VOLUME) },
    command!(
        "inspect",
        &[],
        "Show everything about containers or images",
        "[OPTIONS] NAME|ID [NAME|ID...]",
        inspect::InspectArgs,
        inspect::any
    ),
    command!(
        "info",
        &[],
        "Show what this host and coracle can do",
        "[OPTIONS]",
        system::InfoArgs,
        system::info
    ),
    command!(
        "doctor",
        &[],
        "Say what this host allows, and what would mend the rest",
        "[OPTIONS]",
        system::DoctorArgs,
        system::doctor
    ),
    command!(
        "unshare",
        &[],
        "Run a command in the user namespace of your containers",
        "[COMMAND] [ARG...]",
        system::UnshareArgs,
        system::unshare
    )
    .flags_first(),
    command!("version", &[], "Show the version", "[OPTIONS]", system::VersionArgs, system::version),
    Entry { name: "container", aliases: &[], about: "Manage containers", kind: Kind::Group(CONTAINER) },
    command!(
        "completion",
        &[],
        "Write the completion script of a shell",
        "bash|zsh|fish|elvish|powershell",
        generate::CompletionArgs,
        generate::completion
    ),
    command!("generate-man", &[], "Write the manual pages", "DIR", generate::ManArgs, generate::generate_man)
        .hidden(),
];

static VOLUME: &[Entry] = &[
    command!("create", &[], "Make a volume", "[OPTIONS] [VOLUME]", volume::CreateArgs, volume::create),
    command!("ls", &["list"], "List volumes", "[OPTIONS]", volume::ListArgs, volume::list),
    command!(
        "inspect",
        &[],
        "Show everything about volumes",
        "[OPTIONS] VOLUME [VOLUME...]",
        volume::InspectArgs,
        volume::inspect
    ),
    command!(
        "rm",
        &["remove"],
        "Remove volumes",
        "[OPTIONS] VOLUME [VOLUME...]",
        volume::RemoveArgs,
        volume::remove
    ),
    command!(
        "prune",
        &[],
        "Remove volumes that no container uses",
        "[OPTIONS]",
        volume::PruneArgs,
        volume::prune
    ),
    command!(
        "exists",
        &[],
        "Tell by the exit code if a volume exists",
        "VOLUME",
        volume::ExistsArgs,
        volume::exists
    ),
];

static CONTAINER: &[Entry] = &[
    RUN.same_as("run"),
    CREATE.same_as("create"),
    START.same_as("start"),
    STOP.same_as("stop"),
    RESTART.same_as("restart"),
    KILL.same_as("kill"),
    command!(
        "rm",
        &["remove"],
        "Remove containers",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        lifecycle::RmArgs,
        lifecycle::rm
    )
    .same_as("rm"),
    command!("ls", &["list", "ps"], "List containers", "[OPTIONS]", ps::PsArgs, ps::run).same_as("ps"),
    LOGS.same_as("logs"),
    ATTACH.same_as("attach"),
    pause::PAUSE.same_as("pause"),
    pause::UNPAUSE.same_as("unpause"),
    pause::UPDATE.same_as("update"),
    stats::STATS.same_as("stats"),
    EXEC.same_as("exec"),
    TOP.same_as("top"),
    WAIT.same_as("wait"),
    RENAME.same_as("rename"),
    changes::CONTAINER_DIFF.same_as("diff"),
    changes::COMMIT.same_as("commit"),
    changes::EXPORT.same_as("export"),
    mounts::MOUNT.same_as("mount"),
    mounts::UNMOUNT.same_as("unmount"),
    preparation::CLONE,
    preparation::INIT.same_as("init"),
    preparation::CLEANUP,
    preparation::EXISTS,
    command!(
        "inspect",
        &[],
        "Show everything about containers",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        inspect::KindInspectArgs,
        inspect::containers
    ),
];

const RUN: Entry = command!(
    "run",
    &[],
    "Create a container and run it",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    run_command::RunArgs,
    run_command::run
)
.flags_first();

const CREATE: Entry = command!(
    "create",
    &[],
    "Create a container without starting it",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    run_command::CreateArgs,
    run_command::create
)
.flags_first();

const START: Entry = command!(
    "start",
    &[],
    "Start stopped containers",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    lifecycle::StartArgs,
    lifecycle::start
);

const STOP: Entry = command!(
    "stop",
    &[],
    "Stop running containers",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    lifecycle::StopArgs,
    lifecycle::stop
);

const RESTART: Entry = command!(
    "restart",
    &[],
    "Stop containers and start them again",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    lifecycle::RestartArgs,
    lifecycle::restart
);

const KILL: Entry = command!(
    "kill",
    &[],
    "Send a signal to running containers",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    lifecycle::KillArgs,
    lifecycle::kill
);

const RM: Entry = command!(
    "rm",
    &[],
    "Remove containers",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    lifecycle::RmArgs,
    lifecycle::rm
);

const PS: Entry = command!("ps", &[], "List containers", "[OPTIONS]", ps::PsArgs, ps::run);

const LOGS: Entry = command!(
    "logs",
    &[],
    "Show what a container has printed",
    "[OPTIONS] CONTAINER",
    logs::LogsArgs,
    logs::show
);

const ATTACH: Entry = command!(
    "attach",
    &[],
    "Attach stdin and output to a running container",
    "[OPTIONS] CONTAINER",
    lifecycle::AttachArgs,
    lifecycle::attach
);

const EXEC: Entry = command!(
    "exec",
    &[],
    "Run a command in a running container",
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    exec::ExecArgs,
    exec::exec
)
.flags_first();

const TOP: Entry = command!(
    "top",
    &[],
    "Show the processes of a container",
    "[OPTIONS] CONTAINER [PS OPTIONS]",
    top::TopArgs,
    top::top
)
.flags_first();

const WAIT: Entry = command!(
    "wait",
    &[],
    "Wait until containers have ended, and print their exit codes",
    "CONTAINER [CONTAINER...]",
    lifecycle::WaitArgs,
    lifecycle::wait
);

const RENAME: Entry = command!(
    "rename",
    &[],
    "Give a container another name",
    "CONTAINER NAME",
    lifecycle::RenameArgs,
    lifecycle::rename
);

/// Runs what the words after `coracle` ask for; the exit code.
///
/// # Errors
/// As the command that is named; `Invalid` where none is.
pub(crate) fn run(words: Vec<String>) -> Result<u8> {
    let words = global_flags(words)?;
    exit::remember(&words);
    match words.first().map(String::as_str) {
        Some("--version" | "-v") => {
            ui::line(&format!("coracle version {}", env!("CARGO_PKG_VERSION")))?;
            Ok(0)
        }
        // `coracle help run` is `coracle run --help`.
        Some("help") => {
            let named: Vec<String> = words.into_iter().skip(1).chain(["--help".to_owned()]).collect();
            run_in(ENTRIES, "coracle", named, describe)
        }
        _ => run_in(ENTRIES, "coracle", words, describe),
    }
}

/// Takes the flags before the command's name into account, and off.
fn global_flags(words: Vec<String>) -> Result<Vec<String>> {
    if !words
        .first()
        .is_some_and(|word| word.starts_with("--log-level") || word == "-l" || word.starts_with("-l="))
    {
        return Ok(words);
    }
    let root = Command::new("coracle").arg(log_level());
    let mut normal = arguments::normalise(&root, words, Flags::First)?.into_iter();
    for word in normal.by_ref().take_while(|word| word != "--") {
        match word.strip_prefix("--log-level=") {
            Some("debug" | "info" | "warn") => {}
            Some("error" | "fatal") => ui::silence_warnings(),
            Some(other) => {
                return Err(Error::usage(format!("invalid value {other:?} of --log-level"))
                    .hint("it is one of debug, info, warn, error and fatal"));
            }
            None => return Err(Error::usage(format!("unknown flag: {word}")).hint("see `coracle --help`")),
        }
    }
    Ok(normal.collect())
}

fn log_level() -> Arg {
    Arg::new("log-level")
        .long("log-level")
        .short('l')
        .value_name("LEVEL")
        .help("Say less: debug, info, warn, error or fatal (from error on, no warnings)")
}

/// Clap's description of everything: for help, completions and manual pages.
pub(crate) fn describe() -> Command {
    let version =
        Arg::new("version").long("version").short('v').action(ArgAction::Version).help("Print the version");
    let command = Command::new("coracle")
        .bin_name("coracle")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Runs OCI containers for one ordinary user, without root and without a daemon")
        .override_usage("coracle [OPTIONS] COMMAND")
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .subcommand_value_name("COMMAND")
        .arg(log_level())
        .arg(version)
        .subcommands(ENTRIES.iter().map(|entry| entry.describe(&format!("coracle {}", entry.name))))
        .after_help("Run `coracle COMMAND --help` for more about a command.");
    with_help(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_whole_tree_is_consistent() {
        describe().debug_assert();
    }

    #[test]
    fn unknown_commands_and_flags_are_named() {
        let error = |text| run(words(text)).expect_err(text);
        assert_eq!(error("pss").to_string(), "unknown command: coracle pss");
        assert!(error("pss").hints()[0].contains("did you mean ps"), "{:?}", error("pss").hints());
        assert_eq!(error("container wat").to_string(), "unknown command: coracle container wat");
        assert_eq!(error("--wat ps").to_string(), "unknown flag: --wat");
        assert_eq!(error("run --wat busybox").to_string(), "unknown flag: --wat");
        assert_eq!(
            error("run --wat busybox").hints().last().map(String::as_str),
            Some("see `coracle run --help`")
        );
        assert_eq!(error("stop").to_string(), "'coracle stop' requires at least 1 argument");
        assert_eq!(error("--log-level loud ps").to_string(), "invalid value \"loud\" of --log-level");
    }

    #[test]
    fn flags_before_the_command_are_taken_off() {
        assert_eq!(global_flags(words("--log-level warn ps -a")).expect("valid"), words("ps -a"));
        assert_eq!(
            global_flags(words("-l=info ps --log-level x")).expect("valid"),
            words("ps --log-level x")
        );
        assert_eq!(global_flags(words("ps -l")).expect("valid"), words("ps -l"));
    }
}
