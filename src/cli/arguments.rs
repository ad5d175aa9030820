//! Words of a command line in docker's manner, made into words for clap.
//!
//! Docker's flags (Go's pflag) differ in three ways: booleans take a value
//! (`--rm=false`, `-d=0`), a flag takes the next word as its value whatever it
//! looks like (`--tail -1`), and with `run` the flags end at the first word
//! that is none (`run busybox --rm` gives `--rm` to the container).

use crate::error::{Error, Kind, Result};
use crate::types::boolean;
use clap::{Arg, ArgAction, Command};
use std::iter::Peekable;

/// Where flags end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flags {
    /// Anywhere before `--`.
    Anywhere,
    /// At the first word that is not a flag: the rest is another program's.
    First,
}

/// The words that clap is to parse for `words`, which follow the command's name.
///
/// # Errors
/// `Invalid` where a boolean's value is none and where a value is missing.
/// Unknown flags are left to clap, which knows what is like them.
pub(crate) fn normalise(command: &Command, words: Vec<String>, flags: Flags) -> Result<Vec<String>> {
    let mut normal = Normal { command, booleans: Vec::new(), words: Vec::new() };
    let mut positional = Vec::new();
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        if word == "--" {
            positional.extend(words.by_ref());
        } else if let Some(long) = word.strip_prefix("--") {
            if !normal.is_idle(long, &mut words) {
                normal.long(long, &mut words)?;
            }
        } else if let Some(cluster) = word.strip_prefix('-').filter(|cluster| !cluster.is_empty()) {
            normal.cluster(cluster, &mut words)?;
        } else {
            positional.push(word);
            if flags == Flags::First {
                positional.extend(words.by_ref());
            }
        }
    }
    let mut result = normal.words;
    result.extend(normal.booleans.into_iter().filter(|(_, on)| *on).map(|(name, _)| format!("--{name}")));
    result.push("--".into());
    result.extend(positional);
    Ok(result)
}

struct Normal<'a> {
    command: &'a Command,
    /// The last value of each boolean that was met.
    booleans: Vec<(String, bool)>,
    words: Vec<String>,
}

/// Flags of docker's `run` that are refused, but for these values: they say what is
/// the case anyway. `None` is a boolean, which is false.
const IDLE: [(&str, Option<&[&str]>); 6] = [
    ("isolation", Some(&["", "default"])),
    ("kernel-memory", Some(&["", "0"])),
    ("memory-swappiness", Some(&["-1"])),
    ("oom-kill-disable", None),
    ("runtime", Some(&["", "coracle"])),
    ("volume-driver", Some(&["", "local"])),
];

impl Normal<'_> {
    /// Whether this flag is one of [`IDLE`]; its value is taken off then.
    fn is_idle(&self, text: &str, words: &mut Peekable<impl Iterator<Item = String>>) -> bool {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let is_known = |long: &str| self.command.get_arguments().any(|arg| has_long(arg, long));
        // What `run` and `create` alone have.
        if is_known(name) || !is_known("cidfile") || !is_known("workdir") {
            return false;
        }
        match (IDLE.iter().find(|(idle, _)| *idle == name), value) {
            (Some((_, Some(values))), Some(value)) => values.contains(&value),
            (Some((_, Some(values))), None) => {
                words.next_if(|word| values.contains(&word.as_str())).is_some()
            }
            (Some((_, None)), Some(value)) => boolean::parse(name, value).is_ok_and(|on| !on),
            (Some((_, None)) | None, _) => false,
        }
    }

    fn long(&mut self, text: &str, words: &mut impl Iterator<Item = String>) -> Result<()> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let Some(arg) = self.command.get_arguments().find(|arg| has_long(arg, name)) else {
            self.words.push(format!("--{text}"));
            return Ok(());
        };
        match kind(arg) {
            ArgKind::Boolean => self.boolean(arg, &format!("--{name}"), value),
            ArgKind::Action | ArgKind::OptionalValue => {
                self.words.push(format!("--{text}"));
                Ok(())
            }
            ArgKind::Value => {
                let value = value.map(str::to_owned).or_else(|| words.next());
                let value = value.ok_or_else(|| self.no_value(&format!("--{name}")))?;
                self.words.push(format!("--{name}={value}"));
                Ok(())
            }
        }
    }

    /// `-it`, `-d=false`, `-eKEY=VALUE`, `-e KEY=VALUE`
    fn cluster(&mut self, cluster: &str, words: &mut impl Iterator<Item = String>) -> Result<()> {
        let mut rest = cluster;
        while let Some(short) = rest.chars().next() {
            rest = &rest[short.len_utf8()..];
            let value = rest.strip_prefix('=');
            let Some(arg) = self.command.get_arguments().find(|arg| has_short(arg, short)) else {
                self.words.push(format!("-{short}"));
                return Ok(());
            };
            match kind(arg) {
                ArgKind::Boolean => {
                    self.boolean(arg, &format!("-{short}"), value)?;
                    if value.is_some() {
                        return Ok(());
                    }
                }
                ArgKind::Action => self.words.push(format!("-{short}")),
                ArgKind::OptionalValue => {
                    self.words.push(format!("-{short}{rest}"));
                    return Ok(());
                }
                ArgKind::Value => {
                    let attached = value.or((!rest.is_empty()).then_some(rest)).map(str::to_owned);
                    let long = arg.get_long().map_or_else(|| format!("-{short}"), |long| format!("--{long}"));
                    let value = attached.or_else(|| words.next());
                    let value = value.ok_or_else(|| self.no_value(&format!("-{short}")))?;
                    self.words.push(format!("{long}={value}"));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn no_value(&self, flag: &str) -> Error {
        let path = self.command.get_bin_name().unwrap_or("coracle");
        Error::usage(format!("flag needs an argument: {flag}")).hint(format!("see `{path} --help`"))
    }

    fn boolean(&mut self, arg: &Arg, written: &str, value: Option<&str>) -> Result<()> {
        let on = value
            .map_or(Ok(true), |value| boolean::parse(written, value))
            .map_err(|error| error.with_kind(Kind::Usage))?;
        let name = arg.get_long().unwrap_or_default().to_owned();
        if name.is_empty() {
            return Err(Error::failed(format!("the flag {written} has no long form")));
        }
        self.booleans.retain(|(other, _)| *other != name);
        self.booleans.push((name, on));
        Ok(())
    }
}

enum ArgKind {
    /// Absent or there.
    Boolean,
    /// `--help`: it does something at once.
    Action,
    /// `--flag[=VALUE]`
    OptionalValue,
    Value,
}

fn kind(arg: &Arg) -> ArgKind {
    match arg.get_action() {
        ArgAction::SetTrue | ArgAction::SetFalse => ArgKind::Boolean,
        action if !action.takes_values() => ArgKind::Action,
        _ if arg.is_require_equals_set() => ArgKind::OptionalValue,
        _ => ArgKind::Value,
    }
}

fn has_long(arg: &Arg, name: &str) -> bool {
    arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
}

fn has_short(arg: &Arg, short: char) -> bool {
    arg.get_short() == Some(short)
        || arg.get_all_short_aliases().is_some_and(|aliases| aliases.contains(&short))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Args;

    #[derive(Args)]
    struct Sample {
        #[arg(long)]
        rm: bool,
        #[arg(long, short = 'i')]
        interactive: bool,
        #[arg(long, short = 't')]
        tty: bool,
        #[arg(long, short = 'e')]
        env: Vec<String>,
        #[arg(long, alias = "net")]
        network: Option<String>,
        #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
        sig_proxy: Option<String>,
        words: Vec<String>,
    }

    fn normal(flags: Flags, words: &[&str]) -> String {
        let command = Sample::augment_args(Command::new("x"));
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        normalise(&command, words, flags).map_or_else(|error| error.to_string(), |words| words.join(" "))
    }

    #[test]
    fn flags_of_run_end_at_the_first_word() {
        assert_eq!(normal(Flags::First, &["--rm", "image", "--rm", "-x"]), "--rm -- image --rm -x");
        assert_eq!(normal(Flags::First, &["-e", "A=1", "image", "--", "-x"]), "--env=A=1 -- image -- -x");
        assert_eq!(normal(Flags::First, &["--", "image", "-x"]), "-- image -x");
        assert_eq!(normal(Flags::Anywhere, &["a", "--rm", "b"]), "--rm -- a b");
        assert_eq!(normal(Flags::Anywhere, &["a", "--", "--rm"]), "-- a --rm");
        assert_eq!(normal(Flags::Anywhere, &["-"]), "-- -");
    }

    #[test]
    fn booleans_take_values_and_the_last_one_counts() {
        assert_eq!(normal(Flags::First, &["-it", "x"]), "--interactive --tty -- x");
        assert_eq!(normal(Flags::First, &["--rm=true", "-i=false", "--rm=0", "x"]), "-- x");
        assert_eq!(normal(Flags::First, &["--rm=0", "--rm"]), "--rm --");
        assert_eq!(
            normal(Flags::First, &["--rm=maybe"]),
            "invalid value \"maybe\" of --rm: not true or false"
        );
        assert_eq!(normal(Flags::First, &["--sig-proxy=false"]), "--sig-proxy=false --");
        assert_eq!(normal(Flags::First, &["--sig-proxy", "x"]), "--sig-proxy -- x");
    }

    #[test]
    fn a_value_is_the_next_word_whatever_it_looks_like() {
        assert_eq!(normal(Flags::First, &["--net", "--rm", "x"]), "--net=--rm -- x");
        assert_eq!(normal(Flags::First, &["-ite", "A=1"]), "--env=A=1 --interactive --tty --");
        assert_eq!(normal(Flags::First, &["-eA=1", "-e=B=2", "-e", ""]), "--env=A=1 --env=B=2 --env= --");
        assert_eq!(normal(Flags::First, &["-e"]), "flag needs an argument: -e");
        assert_eq!(normal(Flags::First, &["x", "--net"]), "-- x --net");
        assert_eq!(normal(Flags::Anywhere, &["x", "--net"]), "flag needs an argument: --net");
    }

    #[test]
    fn values_that_say_what_is_so_anyway_are_taken_off() {
        #[derive(Args)]
        struct Run {
            #[arg(long)]
            cidfile: Option<String>,
            #[arg(long)]
            workdir: Option<String>,
            words: Vec<String>,
        }
        let normal = |words: &[&str]| {
            let command = Run::augment_args(Command::new("x"));
            let words = words.iter().map(|word| (*word).to_owned()).collect();
            normalise(&command, words, Flags::First).expect("valid").join(" ")
        };
        let idle = ["--runtime", "", "--isolation=default", "--memory-swappiness", "-1", "--volume-driver="];
        assert_eq!(
            normal(&[&idle[..], &["--oom-kill-disable=false", "x", "--runtime", ""]].concat()),
            "-- x --runtime "
        );
        assert_eq!(normal(&["--memory-swappiness=60", "x"]), "--memory-swappiness=60 -- x");
        assert_eq!(normal(&["--oom-kill-disable", "x"]), "--oom-kill-disable -- x");
        assert_eq!(normal(&["--runtime", "runc", "x"]), "--runtime -- runc x");
    }

    #[test]
    fn unknown_flags_are_left_to_clap() {
        assert_eq!(normal(Flags::First, &["--wat=1", "-q"]), "--wat=1 -q --");
        assert_eq!(normal(Flags::First, &["-iq"]), "-q --interactive --");
    }
}
