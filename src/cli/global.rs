//! The flags before the command's name: what docker and podman have there, with
//! what has a meaning without a daemon honoured and the rest refused.

use super::arguments::{self, Flags};
use super::{ui, usage};
use crate::dirs;
use crate::engine::driver;
use crate::error::{Context, Error, Kind, Result};
use crate::types::driver::DriverChoice;
use clap::{Arg, ArgAction, Args, Command, FromArgMatches};
use std::path::PathBuf;

#[derive(Args, Debug, Default)]
pub(crate) struct GlobalArgs {
    /// Look for config.json with credentials in this directory
    #[arg(long, value_name = "DIR")]
    config: Option<PathBuf>,
    /// Say more: --log-level debug
    #[arg(long, short = 'D')]
    debug: bool,
    /// Say less: debug, info, warn, error or fatal (from error on, no warnings)
    #[arg(long, short = 'l', value_name = "LEVEL")]
    log_level: Option<String>,
    /// Write nothing to stdout
    #[arg(long)]
    noout: bool,
    /// Write to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Keep images, volumes and containers below this directory
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Keep what running containers need below this directory
    #[arg(long, value_name = "DIR")]
    runroot: Option<PathBuf>,
    /// What shows containers their files: overlay (the kernel's), fuse, or auto
    #[arg(long, value_name = "DRIVER")]
    storage_driver: Option<String>,
}

/// A flag of docker or podman that has no meaning here.
struct Refused {
    long: &'static str,
    short: Option<char>,
    takes: Takes,
    why: &'static str,
}

enum Takes {
    /// A boolean: false is what is the case anyway.
    Nothing,
    /// A value, which may be one of these, as they say what is the case anyway.
    Value(&'static [&'static str]),
}

const fn refused(long: &'static str, takes: Takes, why: &'static str) -> Refused {
    Refused { long, short: None, takes, why }
}

const NO_DAEMON: &str = "there is no daemon to connect to: every command works by itself";
const OWN_RUNTIME: &str = "coracle starts containers itself, without another runtime or monitor";

const REFUSED: &[Refused] = &[
    Refused { short: Some('H'), ..refused("host", Takes::Value(&[]), NO_DAEMON) },
    Refused { short: Some('c'), ..refused("context", Takes::Value(&["default"]), NO_DAEMON) },
    refused("connection", Takes::Value(&[]), NO_DAEMON),
    refused("identity", Takes::Value(&[]), NO_DAEMON),
    Refused { short: Some('r'), ..refused("remote", Takes::Nothing, NO_DAEMON) },
    refused("ssh", Takes::Value(&[]), NO_DAEMON),
    refused("tls", Takes::Nothing, NO_DAEMON),
    refused("tlscacert", Takes::Value(&[]), NO_DAEMON),
    refused("tlscert", Takes::Value(&[]), NO_DAEMON),
    refused("tlskey", Takes::Value(&[]), NO_DAEMON),
    refused("tlsverify", Takes::Nothing, NO_DAEMON),
    refused("url", Takes::Value(&[]), NO_DAEMON),
    refused("conmon", Takes::Value(&[]), OWN_RUNTIME),
    refused("runtime", Takes::Value(&["coracle"]), OWN_RUNTIME),
    refused("runtime-flag", Takes::Value(&[]), OWN_RUNTIME),
    refused(
        "cgroup-manager",
        Takes::Value(&[]),
        "it is not a choice: coracle uses the control group that the host delegates to you",
    ),
    refused("events-backend", Takes::Value(&["file"]), "events are kept in a file"),
    refused("hooks-dir", Takes::Value(&[]), "hooks of an OCI runtime are not run"),
    refused("module", Takes::Value(&[]), "containers.conf is not read"),
    refused("namespace", Takes::Value(&[]), "use --root and --runroot for separate sets of containers"),
    refused("network-cmd-path", Takes::Value(&[]), "slirp4netns is looked for on the PATH"),
    refused("network-config-dir", Takes::Value(&[]), "there are no networks to configure yet"),
    refused("storage-opt", Takes::Value(&[]), "the storage drivers have no options"),
    refused("syslog", Takes::Nothing, "messages go to stderr alone"),
    refused("tmpdir", Takes::Value(&[]), "use --runroot"),
    refused("volumepath", Takes::Value(&[]), "volumes are kept below --root"),
];

/// Takes the flags before the command's name into account, and off.
///
/// # Errors
/// `Invalid` for unknown flags, wrong values, and those that cannot be honoured.
pub(crate) fn take(words: Vec<String>) -> Result<Vec<String>> {
    let simple = |word: &String| {
        !word.starts_with('-') || matches!(word.as_str(), "-h" | "--help" | "-v" | "--version")
    };
    if words.first().is_none_or(simple) {
        return Ok(words);
    }
    let command = refused_flags(described(Command::new("coracle").bin_name("coracle")));
    let mut normal = arguments::normalise(&command, words, Flags::First)?.into_iter();
    let flags: Vec<String> = normal.by_ref().take_while(|word| word != "--").collect();
    let rest: Vec<String> = normal.collect();
    let words = std::iter::once("coracle".to_owned()).chain(flags);
    let matches = command.try_get_matches_from(words).map_err(|error| usage::explain("coracle", &error))?;
    for action in ["help", "version"] {
        if matches.get_flag(action) {
            return Ok(vec![format!("--{action}")]);
        }
    }
    refuse(&matches)?;
    let args = GlobalArgs::from_arg_matches(&matches).map_err(|error| usage::explain("coracle", &error))?;
    args.apply()?;
    Ok(rest)
}

/// With help and version as plain switches, which [`take`] looks at.
fn described(command: Command) -> Command {
    let switch =
        |name: &'static str, short| Arg::new(name).long(name).short(short).action(ArgAction::SetTrue);
    GlobalArgs::augment_args(command)
        .args_override_self(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .arg(switch("help", 'h'))
        .arg(switch("version", 'v'))
}

fn refused_flags(mut command: Command) -> Command {
    for flag in REFUSED {
        let action = match flag.takes {
            Takes::Nothing => ArgAction::SetTrue,
            Takes::Value(_) => ArgAction::Append,
        };
        let mut arg = Arg::new(flag.long).long(flag.long).action(action).hide(true);
        if let Some(short) = flag.short {
            arg = arg.short(short);
        }
        command = command.arg(arg);
    }
    command
}

fn refuse(matches: &clap::ArgMatches) -> Result<()> {
    for flag in REFUSED {
        let wrong = match flag.takes {
            Takes::Nothing => matches.get_flag(flag.long),
            Takes::Value(fitting) => matches
                .get_many::<String>(flag.long)
                .is_some_and(|mut values| values.any(|value| !fitting.contains(&value.as_str()))),
        };
        if wrong {
            return Err(Error::usage(format!("--{}: {}", flag.long, flag.why)).hint("leave it out"));
        }
    }
    Ok(())
}

impl GlobalArgs {
    fn apply(self) -> Result<()> {
        match self.log_level.as_deref() {
            None | Some("trace" | "debug" | "info" | "warn" | "warning") => {}
            Some("error" | "fatal" | "panic") => ui::silence_warnings(),
            Some(other) => {
                return Err(Error::usage(format!("invalid value {other:?} of --log-level"))
                    .hint("it is one of debug, info, warn, error and fatal"));
            }
        }
        if let Some(word) = &self.storage_driver {
            let wrong = |error: Error| error.context("--storage-driver").with_kind(Kind::Usage);
            driver::choose(DriverChoice::parse(word).map_err(wrong)?);
        }
        match (self.noout, &self.out) {
            (true, _) => ui::redirect_stdout("/dev/null".as_ref())?,
            (false, Some(path)) => ui::redirect_stdout(path)?,
            (false, None) => {}
        }
        let absolute = |path: Option<PathBuf>| {
            path.map(|path| std::path::absolute(&path).context(|| format!("find {}", path.display())))
                .transpose()
        };
        dirs::relocate(dirs::Relocation {
            root: absolute(self.root)?,
            runroot: absolute(self.runroot)?,
            docker_config: absolute(self.config)?,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn flags_before_the_command_are_taken_off() {
        for (given, left) in [
            ("ps -l", "ps -l"),
            ("--log-level warn ps -a", "ps -a"),
            ("-l=info ps --log-level x", "ps --log-level x"),
            ("-D --context default ps", "ps"),
            ("--tls=false --remote=0 --storage-driver overlay2 ps", "ps"),
            ("-D --version", "--version"),
            ("--debug -h run", "--help"),
            ("--help run", "--help run"),
            ("--log-level info", ""),
        ] {
            assert_eq!(take(words(given)).expect(given), words(left), "{given}");
        }
    }

    #[test]
    fn what_has_no_meaning_is_refused_with_its_reason() {
        for (given, message) in [
            ("-H tcp://h:1 ps", "--host: there is no daemon"),
            ("--host=ssh://h ps", "--host: there is no daemon"),
            ("-c other ps", "--context: there is no daemon"),
            ("--tlsverify ps", "--tlsverify: there is no daemon"),
            ("--storage-driver vfs ps", "--storage-driver: storage driver \"vfs\": it would copy"),
            ("--log-level loud ps", "invalid value \"loud\" of --log-level"),
            ("--wat ps", "unknown flag: --wat"),
            ("--root", "flag needs an argument: --root"),
        ] {
            let error = take(words(given)).expect_err(given);
            assert!(error.to_string().starts_with(message), "{given}: {error}");
        }
    }
}
