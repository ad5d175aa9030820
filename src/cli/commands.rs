//! The tree of commands: docker's names, and which function runs each.

use super::command::{Entry, Kind, command, run_in, with_help};
use super::global::GlobalArgs;
use super::{
    archives, artifact, changes, check, complete, control, df, doctor, events, exec, exit, generate, global,
    healthcheck, help, images, inspect, lifecycle, login, logs, manifest, mounts, network, overlay, pause,
    pod, port, preparation, prune, ps, pull, push, reference, run as run_command, search, secret, serve,
    stats, system, top, ui, volume, volume_archive, wait,
};
use crate::error::Result;
use clap::{Arg, ArgAction, Args, Command};

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
    PORT,
    CP,
    changes::DIFF,
    changes::COMMIT,
    changes::EXPORT,
    mounts::MOUNT,
    mounts::UNMOUNT,
    preparation::INIT,
    pull::PULL,
    push::PUSH,
    search::SEARCH,
    login::LOGIN,
    login::LOGOUT,
    images::IMAGES,
    images::RMI,
    images::TAG,
    images::UNTAG,
    images::HISTORY,
    archives::SAVE,
    archives::LOAD,
    archives::IMPORT,
    images::IMAGE_GROUP,
    Entry {
        name: "artifact",
        aliases: &[],
        about: "Manage artifacts",
        kind: Kind::Group(artifact::ARTIFACT),
    },
    Entry {
        name: "manifest",
        aliases: &[],
        about: "Manage lists of images",
        kind: Kind::Group(manifest::MANIFEST),
    },
    Entry { name: "network", aliases: &[], about: "Manage networks", kind: Kind::Group(NETWORK) },
    Entry { name: "pod", aliases: &[], about: "Manage pods", kind: Kind::Group(pod::POD) },
    Entry { name: "registry", aliases: &[], about: "Be a registry", kind: Kind::Group(serve::REGISTRY) },
    Entry { name: "secret", aliases: &[], about: "Manage secrets", kind: Kind::Group(secret::SECRET) },
    Entry { name: "volume", aliases: &[], about: "Manage volumes", kind: Kind::Group(VOLUME) },
    command!(
        "inspect",
        &[],
        "Show everything about containers or images",
        "[OPTIONS] NAME|ID [NAME|ID...]",
        inspect::InspectArgs,
        inspect::any
    ),
    EVENTS,
    INFO,
    command!(
        "doctor",
        &[],
        "Say what this host allows, and what would mend the rest",
        "[OPTIONS]",
        doctor::DoctorArgs,
        doctor::doctor
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
    Entry {
        name: "healthcheck",
        aliases: &[],
        about: "Check containers' health",
        kind: Kind::Group(HEALTHCHECK),
    },
    Entry { name: "container", aliases: &[], about: "Manage containers", kind: Kind::Group(CONTAINER) },
    Entry { name: "system", aliases: &[], about: "Manage everything together", kind: Kind::Group(SYSTEM) },
    command!(
        "completion",
        &[],
        "Write the completion script of a shell",
        "bash|zsh|fish",
        generate::CompletionArgs,
        generate::completion
    ),
    command!(
        "generate-docs",
        &[],
        "Bring docs/commands.toml and COMMANDS.md up to date",
        "DIR",
        reference::ReferenceArgs,
        reference::generate
    )
    .hidden(),
    command!(
        "overlay",
        &[],
        "Serve a FUSE overlay",
        "-o OPTIONS MOUNTPOINT",
        overlay::OverlayArgs,
        overlay::run
    )
    .hidden(),
    command!("generate-man", &[], "Write the manual pages", "DIR", generate::ManArgs, generate::generate_man)
        .hidden(),
];

static NETWORK: &[Entry] = &[
    command!(
        "connect",
        &[],
        "Connect a container to a network",
        "[OPTIONS] NETWORK CONTAINER",
        network::ConnectArgs,
        network::connect
    ),
    command!("create", &[], "Make a network", "[OPTIONS] NETWORK", network::CreateArgs, network::create),
    command!(
        "disconnect",
        &[],
        "Disconnect a container from a network",
        "[OPTIONS] NETWORK CONTAINER",
        network::DisconnectArgs,
        network::disconnect
    ),
    command!(
        "exists",
        &[],
        "Tell by the exit code if a network exists",
        "NETWORK",
        network::ExistsArgs,
        network::exists
    ),
    command!(
        "inspect",
        &[],
        "Show everything about networks",
        "[OPTIONS] NETWORK [NETWORK...]",
        network::InspectArgs,
        network::inspect
    ),
    command!("ls", &["list"], "List networks", "[OPTIONS]", network::ListArgs, network::list),
    command!(
        "prune",
        &[],
        "Remove the networks that no container is on",
        "[OPTIONS]",
        network::PruneArgs,
        network::prune
    ),
    command!(
        "reload",
        &[],
        "Make the interfaces of running containers anew",
        "[OPTIONS] [CONTAINER...]",
        network::ReloadArgs,
        network::reload
    ),
    command!(
        "rm",
        &["remove"],
        "Remove networks",
        "[OPTIONS] NETWORK [NETWORK...]",
        network::RemoveArgs,
        network::remove
    ),
    command!(
        "update",
        &[],
        "Change whom a network asks for names",
        "[OPTIONS] NETWORK",
        network::UpdateArgs,
        network::update
    ),
];

static VOLUME: &[Entry] = &[
    command!(
        "export",
        &[],
        "Write what is in a volume as a tar archive",
        "[OPTIONS] VOLUME",
        volume_archive::ExportArgs,
        volume_archive::export
    ),
    command!(
        "import",
        &[],
        "Put what is in a tar archive into a volume",
        "VOLUME FILE|-",
        volume_archive::ImportArgs,
        volume_archive::import
    ),
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
        "Remove anonymous volumes that no container uses, or with -a all",
        "[OPTIONS]",
        prune::VolumeArgs,
        prune::volumes
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

static HEALTHCHECK: &[Entry] = &[command!(
    "run",
    &[],
    "Check a container's health now",
    "[OPTIONS] CONTAINER",
    healthcheck::RunArgs,
    healthcheck::run
)];

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
        control::RmArgs,
        control::rm
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
    PORT.same_as("port"),
    command!("prune", &[], "Remove stopped containers", "[OPTIONS]", prune::ContainerArgs, prune::containers),
    CP.same_as("cp"),
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
    control::StopArgs,
    control::stop
);

const RESTART: Entry = command!(
    "restart",
    &[],
    "Stop containers and start them again",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    control::RestartArgs,
    control::restart
);

const KILL: Entry = command!(
    "kill",
    &[],
    "Send a signal to running containers",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    control::KillArgs,
    control::kill
);

const RM: Entry = command!(
    "rm",
    &[],
    "Remove containers",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    control::RmArgs,
    control::rm
);

const PS: Entry = command!("ps", &[], "List containers", "[OPTIONS]", ps::PsArgs, ps::run);

const LOGS: Entry = command!(
    "logs",
    &[],
    "Show what containers have printed",
    "[OPTIONS] CONTAINER [CONTAINER...]",
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

pub(crate) const EVENTS: Entry = command!(
    "events",
    &[],
    "Show what happens to containers, images and volumes",
    "[OPTIONS]",
    events::EventsArgs,
    events::run
);

const WAIT: Entry = command!(
    "wait",
    &[],
    "Wait until containers have ended, and print their exit codes",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    wait::WaitArgs,
    wait::wait
);

const RENAME: Entry = command!(
    "rename",
    &[],
    "Give a container another name",
    "CONTAINER NAME",
    lifecycle::RenameArgs,
    lifecycle::rename
);

const PORT: Entry = command!(
    "port",
    &[],
    "List the published ports of a container, add some or remove some",
    "[OPTIONS] CONTAINER [PRIVATE_PORT[/PROTO]] | add CONTAINER PORT... | rm CONTAINER PORT...",
    port::PortArgs,
    port::port
);

const INFO: Entry = command!(
    "info",
    &[],
    "Show what this host and coracle can do",
    "[OPTIONS]",
    system::InfoArgs,
    system::info
);

static SYSTEM: &[Entry] = &[
    command!(
        "check",
        &[],
        "Check images and layers for damage, and repair it",
        "[OPTIONS]",
        check::CheckArgs,
        check::check
    ),
    command!("df", &[], "Show what takes space on the disk", "[OPTIONS]", df::DfArgs, df::run),
    INFO.same_as("info"),
    command!(
        "prune",
        &[],
        "Remove everything that nothing uses",
        "[OPTIONS]",
        prune::SystemArgs,
        prune::system
    ),
];

const CP: Entry = command!(
    "cp",
    &[],
    "Copy files between a container and the host, or another container",
    "[OPTIONS] [CONTAINER:]SRC_PATH|- [CONTAINER:]DEST_PATH|-",
    super::copy::CopyArgs,
    super::copy::run
);

/// Runs what the words after `coracle` ask for; the exit code.
///
/// # Errors
/// As the command that is named; `Invalid` where none is.
pub(crate) fn run(words: Vec<String>) -> Result<u8> {
    if words.first().is_some_and(|word| word == "__complete") {
        return complete::run(&words[1..]);
    }
    let words = global::take(words)?;
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

/// Clap's description of everything: for help, completions and manual pages.
pub(crate) fn describe() -> Command {
    let version =
        Arg::new("version").long("version").short('v').action(ArgAction::Version).help("Print the version");
    let command = GlobalArgs::augment_args(Command::new("coracle"))
        .bin_name("coracle")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Runs OCI containers for one ordinary user, without root and without a daemon")
        .override_usage("coracle [OPTIONS] COMMAND")
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .subcommand_value_name("COMMAND")
        .arg(version)
        .subcommands(ENTRIES.iter().map(|entry| entry.describe(&format!("coracle {}", entry.name))))
        .help_template(help::overview(ENTRIES))
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
}
