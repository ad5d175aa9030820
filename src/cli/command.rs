//! One command of the tree: its name, its flags, and what runs it.
//!
//! The tree is a table of functions. A start builds clap's description of the
//! one command that was named, not of all: with some thirty commands that is
//! the difference between microseconds and a millisecond of each start.

use super::arguments::{self, Flags};
use super::{examples, help, ui, usage};
use crate::error::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};

/// A command or a group of commands.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    /// Other names of the same, which help does not list.
    pub(crate) aliases: &'static [&'static str],
    /// One line for lists and the beginning of the help.
    pub(crate) about: &'static str,
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    Command(Verb),
    Group(&'static [Entry]),
}

/// What a command takes and does.
#[derive(Clone, Copy)]
pub(crate) struct Verb {
    /// What follows the name: `[OPTIONS] IMAGE`.
    pub(crate) usage: &'static str,
    pub(crate) flags: Flags,
    pub(crate) hidden: bool,
    /// Adds the flags to clap's description.
    pub(crate) augment: fn(Command) -> Command,
    /// Runs it; the exit code.
    pub(crate) run: fn(&ArgMatches) -> Result<u8>,
    /// A verb of a group that a command outside does as well: its page.
    pub(crate) same_as: Option<&'static str>,
}

/// An [`Entry`] for a clap `Args` type and a function that takes it:
/// `command!("ps", &["ls"], "List containers", "[OPTIONS]", PsArgs, ps::run)`.
macro_rules! command {
    ($name:literal, $aliases:expr, $about:literal, $usage:literal, $args:ty, $run:path) => {
        $crate::cli::command::Entry {
            name: $name,
            aliases: $aliases,
            about: $about,
            kind: $crate::cli::command::Kind::Command($crate::cli::command::Verb {
                usage: $usage,
                flags: $crate::cli::arguments::Flags::Anywhere,
                hidden: false,
                augment: <$args as clap::Args>::augment_args,
                run: |matches| {
                    $run(
                        <$args as clap::FromArgMatches>::from_arg_matches(matches)
                            .map_err(|error| $crate::cli::usage::explain("coracle", &error))?,
                    )
                },
                same_as: None,
            }),
        }
    };
}
pub(crate) use command;

impl Entry {
    /// Flags end at the first word that is none.
    pub(crate) const fn flags_first(mut self) -> Self {
        if let Kind::Command(verb) = &mut self.kind {
            verb.flags = Flags::First;
        }
        self
    }

    /// Works, but is not listed.
    pub(crate) const fn hidden(mut self) -> Self {
        if let Kind::Command(verb) = &mut self.kind {
            verb.hidden = true;
        }
        self
    }

    /// The command outside of its group that does the same.
    pub(crate) const fn same_as(mut self, name: &'static str) -> Self {
        if let Kind::Command(verb) = &mut self.kind {
            verb.same_as = Some(name);
        }
        self
    }

    pub(crate) fn is_called(&self, word: &str) -> bool {
        self.name == word || self.aliases.contains(&word)
    }

    /// Clap's description of this entry and all below it. `path` is what is
    /// typed to reach it: `coracle container ls`.
    pub(crate) fn describe(&self, path: &str) -> Command {
        let command =
            Command::new(self.name).bin_name(path.to_owned()).visible_aliases(self.aliases.iter().copied());
        match &self.kind {
            Kind::Command(verb) => {
                // The doc comments of `Args` types are for readers of the code.
                let command = (verb.augment)(command)
                    .about(self.about)
                    .long_about(None::<&str>)
                    .override_usage(format!("{path} {}", verb.usage))
                    .args_override_self(true)
                    .hide(verb.hidden);
                with_help(match examples::text(path) {
                    Some(text) => command.after_help(format!("Examples:\n{text}")),
                    None => command,
                })
            }
            Kind::Group(entries) => {
                let each = entries.iter().map(|entry| entry.describe(&format!("{path} {}", entry.name)));
                with_help(
                    command
                        .about(self.about)
                        .override_usage(format!("{path} COMMAND"))
                        .disable_help_subcommand(true)
                        .subcommand_value_name("COMMAND")
                        .subcommands(each)
                        .after_help(format!("Run `{path} COMMAND --help` for more about a command.")),
                )
            }
        }
    }

    /// Runs the command that `words`, which follow this entry's name, ask for.
    ///
    /// # Errors
    /// `Invalid` where they are wrong, and whatever the command fails with.
    pub(crate) fn run(&self, path: &str, words: Vec<String>) -> Result<u8> {
        match &self.kind {
            Kind::Command(verb) => {
                let mut command = self.describe(path);
                if words.iter().any(|word| word == "--help" || word == "-h") {
                    command = help::arranged(command);
                }
                let words = arguments::normalise(&command, words, verb.flags)?;
                match matches(command, path, words)? {
                    Some(matches) => (verb.run)(&matches),
                    None => Ok(0),
                }
            }
            Kind::Group(entries) => run_in(entries, path, words, || self.describe(path)),
        }
    }
}

/// Runs the entry among `entries` that the first word names; `describe` is
/// asked for clap's words about a first word that names none.
pub(crate) fn run_in(
    entries: &[Entry],
    path: &str,
    mut words: Vec<String>,
    describe: impl FnOnce() -> Command,
) -> Result<u8> {
    let named = words.first().and_then(|word| entries.iter().find(|entry| entry.is_called(word)));
    match named {
        Some(entry) => {
            words.remove(0);
            entry.run(&format!("{path} {}", entry.name), words)
        }
        None if words.is_empty() => {
            ui::write(describe().term_width(help::width()).render_help().to_string().as_bytes())?;
            Ok(0)
        }
        None => matches(describe().term_width(help::width()), path, words).map(|_| 0),
    }
}

/// What clap makes of `words`; `None` where it was help that they asked for,
/// which has been shown.
fn matches(command: Command, path: &str, words: Vec<String>) -> Result<Option<ArgMatches>> {
    let words = std::iter::once(path.to_owned()).chain(words);
    match command.try_get_matches_from(words) {
        Ok(matches) => Ok(Some(matches)),
        Err(error) if !error.use_stderr() => {
            ui::write(error.to_string().as_bytes())?;
            Ok(None)
        }
        Err(error) => Err(usage::explain(path, &error)),
    }
}

/// `--help`, and `-h` where that is free (`run -h` is the host name).
pub(crate) fn with_help(command: Command) -> Command {
    let help = Arg::new("help").long("help").action(ArgAction::Help).help("Print this help");
    let taken = command.get_arguments().any(|arg| arg.get_short() == Some('h'));
    let help = if taken { help } else { help.short('h') };
    command.disable_help_flag(true).arg(help)
}
