//! The table's file: TOML, a section a verb, a line a flag.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Yes,
    /// Never, and why.
    No(String),
    /// Not yet: what has to come before.
    Later(String),
}

/// `docker podman: later: networks`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) docker: bool,
    pub(super) podman: bool,
    /// `None` where nobody has said it.
    pub(super) state: Option<State>,
}

#[derive(Clone, Debug)]
pub(super) struct Verb {
    pub(super) row: Row,
    /// The verb whose flags these are.
    pub(super) same_as: Option<String>,
    /// By `-s --long` or `--long`.
    pub(super) flags: BTreeMap<String, Row>,
}

/// The whole file.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// Why a flag is not here, whatever its verb.
    pub(super) reasons: BTreeMap<String, State>,
    /// By name; that of the program itself is empty.
    pub(super) verbs: BTreeMap<String, Verb>,
}

const HEAD: &str = "\
# Every verb and flag of docker and podman: who has it, and its state here.
# `coracle generate-docs docs` says `yes` of what the program has, and makes
# COMMANDS.md. Write reasons for the others by hand: `no: WHY` or `later: AFTER WHAT`.
# [reasons] holds for a flag of any verb that gives none of its own.
";

impl State {
    fn parse(text: &str) -> Result<Self> {
        let reason = |text: &str| {
            let plain = !text.trim().is_empty() && !text.contains(['\"', '\\', '|']);
            let wrong = || Error::invalid(format!("{text:?} is no reason"));
            if plain { Ok(text.trim().to_owned()) } else { Err(wrong()) }
        };
        match text.trim().split_once(':') {
            None if text.trim() == "yes" => Ok(Self::Yes),
            Some(("no", why)) => reason(why).map(Self::No),
            Some(("later", why)) => reason(why).map(Self::Later),
            _ => Err(Error::invalid(format!("{text:?} is not yes, no: WHY or later: WHAT"))),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yes => f.write_str("yes"),
            Self::No(why) => write!(f, "no: {why}"),
            Self::Later(why) => write!(f, "later: {why}"),
        }
    }
}

impl Row {
    fn parse(text: &str) -> Result<Self> {
        let (who, state) = match text.split_once(':') {
            Some((who, state)) => (who, Some(State::parse(state)?)),
            None => (text, None),
        };
        let mut row = Self { state, ..Self::default() };
        for word in who.split_whitespace() {
            match word {
                "docker" => row.docker = true,
                "podman" => row.podman = true,
                "coracle" => {}
                _ => return Err(Error::invalid(format!("{word:?} is not docker, podman or coracle"))),
            }
        }
        Ok(row)
    }

    /// What is here is `yes`; what is not keeps its reason.
    pub(super) fn set(&mut self, here: bool) {
        if here {
            self.state = Some(State::Yes);
        } else if self.state == Some(State::Yes) {
            self.state = None;
        }
    }

    pub(super) fn who(&self) -> &'static str {
        match (self.docker, self.podman) {
            (true, true) => "docker podman",
            (true, false) => "docker",
            (false, true) => "podman",
            (false, false) => "coracle",
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            None => f.write_str(self.who()),
            Some(state) => write!(f, "{}: {state}", self.who()),
        }
    }
}

impl Table {
    /// # Errors
    /// `Invalid`, naming the entry.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let sections: BTreeMap<String, BTreeMap<String, String>> = toml::from_str(text)
            .map_err(|error| Error::invalid(format!("commands.toml: {}", error.to_string().trim_end())))?;
        let mut table = Self::default();
        for (name, entries) in sections {
            let named = |key: &str| format!("commands.toml: {name}: {key}");
            if name == "reasons" {
                for (flag, text) in entries {
                    let state = State::parse(&text).map_err(|error| error.context(named(&flag)))?;
                    table.reasons.insert(flag, state);
                }
                continue;
            }
            let mut verb = Verb { row: Row::default(), same_as: None, flags: BTreeMap::new() };
            for (key, text) in &entries {
                match key.as_str() {
                    "verb" => verb.row = Row::parse(text).map_err(|error| error.context(named(key)))?,
                    "same_as" => verb.same_as = Some(text.clone()),
                    flag if flag.starts_with('-') => {
                        let row = Row::parse(text).map_err(|error| error.context(named(key)))?;
                        verb.flags.insert(key.clone(), row);
                    }
                    _ => return Err(Error::invalid(named(key)).hint("it is verb, same_as or a flag")),
                }
            }
            table.verbs.insert(if name == "coracle" { String::new() } else { name }, verb);
        }
        Ok(table)
    }

    /// The state of a flag: its own, or what is said of all that are called so.
    pub(super) fn state_of<'a>(&'a self, flag: &str, row: &'a Row) -> Option<&'a State> {
        let long = flag.rsplit(' ').next().unwrap_or(flag);
        row.state.as_ref().or_else(|| self.reasons.get(long))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}\n[reasons]")?;
        for (flag, state) in &self.reasons {
            writeln!(f, "\"{flag}\" = \"{state}\"")?;
        }
        for (name, verb) in &self.verbs {
            let name = if name.is_empty() { "coracle" } else { name };
            writeln!(f, "\n[\"{name}\"]\nverb = \"{}\"", verb.row)?;
            if let Some(other) = &verb.same_as {
                writeln!(f, "same_as = \"{other}\"")?;
            }
            for (flag, row) in by_long(&verb.flags) {
                writeln!(f, "\"{flag}\" = \"{row}\"")?;
            }
        }
        Ok(())
    }
}

/// In the order of their long names.
pub(super) fn by_long(flags: &BTreeMap<String, Row>) -> Vec<(&String, &Row)> {
    let mut flags: Vec<(&String, &Row)> = flags.iter().collect();
    flags.sort_by_key(|(flag, _)| flag.rsplit(' ').next().unwrap_or(flag).to_owned());
    flags
}
