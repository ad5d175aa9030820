//! `coracle __complete`: what could stand where the cursor is. The scripts that
//! `coracle completion` writes ask it at each press of a key, so it reads little,
//! writes nothing and never complains.

mod values;

use super::command::{Entry, Kind, Verb};
use super::{commands, ui};
use crate::cli::arguments::Flags;
use crate::error::{Error, Result};
use clap::{Arg, ArgAction, Command};
use values::Values;

/// A word that could stand there, and what it is; no words for what is plain.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    word: String,
    about: String,
}

/// What could stand there.
#[derive(Debug, Default)]
struct Answer {
    candidates: Vec<Candidate>,
    /// Files could, too: the shell knows them better.
    files: bool,
}

impl Answer {
    fn words<S: Into<String>>(words: impl IntoIterator<Item = S>) -> Self {
        let plain = |word: S| Candidate { word: word.into(), about: String::new() };
        Self { candidates: words.into_iter().map(plain).collect(), files: false }
    }

    fn files() -> Self {
        Self { candidates: Vec::new(), files: true }
    }

    fn and(mut self, other: Self) -> Self {
        self.candidates.extend(other.candidates);
        self.files |= other.files;
        self
    }

    /// Only what begins so.
    fn starting(mut self, start: &str) -> Self {
        self.candidates.retain(|candidate| candidate.word.starts_with(start));
        self
    }

    /// Each word with this before it.
    fn after(mut self, before: &str) -> Self {
        for candidate in &mut self.candidates {
            candidate.word = format!("{before}{}", candidate.word);
        }
        self
    }
}

/// `__complete words WORD...`, the last of them begun; or `__complete line TEXT`,
/// what stands before the cursor, for shells that break words at `:` and `=`.
/// A line `word<tab>about` for each candidate, and `:files` for the shell's own.
///
/// # Errors
/// Where stdout cannot be written.
pub(crate) fn run(arguments: &[String]) -> Result<u8> {
    let (words, broken) = match arguments {
        [kind, line, ..] if kind == "line" => (split(line), true),
        [_, words @ ..] => (words.to_vec(), false),
        [] => (Vec::new(), false),
    };
    let Some((current, before)) = words.split_last() else { return Ok(0) };
    // bash replaces what follows the last break alone.
    let kept = if broken { current.rfind([':', '=']).map_or(0, |at| at + 1) } else { 0 };
    let answer = answer(before, current).starting(current);
    let mut text = String::new();
    for Candidate { word, about } in &answer.candidates {
        if word.contains(char::is_control) {
            continue;
        }
        let word = word.get(kept..).unwrap_or_default();
        text.push_str(&if about.is_empty() { format!("{word}\n") } else { format!("{word}\t{about}\n") });
    }
    if answer.files {
        text.push_str(":files\n");
    }
    ui::write(text.as_bytes())?;
    Ok(0)
}

/// The words of a line after the program's name; the last is what is begun,
/// perhaps nothing. Quotes and backslashes as a shell has them, roughly.
fn split(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let Some(word) = words.last_mut() else { break };
        match (c, quote) {
            ('\\', None | Some('"')) => word.extend(chars.next()),
            (c, Some(open)) if c == open => quote = None,
            ('\'' | '"', None) => quote = Some(c),
            (' ' | '\t', None) if word.is_empty() => {}
            (' ' | '\t', None) => words.push(String::new()),
            (c, _) => word.push(c),
        }
    }
    words.remove(0);
    words
}

/// What could stand at `current`, after the words `before`.
fn answer(before: &[String], current: &str) -> Answer {
    let root = commands::describe();
    let mut at = 0;
    while let Some(word) = before.get(at).filter(|word| word.starts_with('-')) {
        at += 1;
        if let Some(arg) = awaits_value(&root, word) {
            if at == before.len() {
                return Values::of_flag("", arg, current);
            }
            at += 1;
        }
    }
    let mut entries: &[Entry] = commands::ENTRIES;
    let mut path: Vec<&str> = Vec::new();
    while let Some(word) = before.get(at) {
        let entry = entries.iter().find(|entry| entry.is_called(word));
        at += 1;
        match entry.map(|entry| (entry, &entry.kind)) {
            // `coracle help run`
            None if word == "help" && path.is_empty() => {}
            None => return Answer::default(),
            Some((entry, Kind::Group(below))) => {
                path.push(entry.name);
                entries = below;
            }
            Some((entry, Kind::Command(verb))) => {
                return of_verb(entry, verb, &before[at..], current);
            }
        }
    }
    if current.starts_with('-') {
        return if path.is_empty() { flags(&root, current) } else { Answer::words(["--help"]) };
    }
    let shown = entries.iter().filter(|entry| !matches!(&entry.kind, Kind::Command(verb) if verb.hidden));
    let candidate = |entry: &Entry| Candidate { word: entry.name.to_owned(), about: entry.about.to_owned() };
    Answer { candidates: shown.map(candidate).collect(), files: false }
}

fn of_verb(entry: &Entry, verb: &Verb, before: &[String], current: &str) -> Answer {
    let command = entry.describe(entry.name);
    let name = verb.same_as.unwrap_or(entry.name);
    let mut positional: Vec<String> = Vec::new();
    let mut flags_ended = false;
    let mut pending: Option<&Arg> = None;
    for word in before {
        if pending.take().is_some() {
            continue;
        }
        if !flags_ended && word == "--" {
            flags_ended = true;
        } else if !flags_ended && word.len() > 1 && word.starts_with('-') {
            pending = awaits_value(&command, word);
        } else {
            positional.push(word.clone());
            flags_ended |= verb.flags == Flags::First;
        }
    }
    let values = Values::new(&positional);
    if let Some(arg) = pending {
        return Values::of_flag(name, arg, current);
    }
    if !flags_ended && current.starts_with('-') {
        let Some((flag, value)) = current.split_once('=') else { return flags(&command, current) };
        let Some(arg) = find(&command, flag) else { return Answer::default() };
        return Values::of_flag(name, arg, value).after(&format!("{flag}="));
    }
    values.of_position(name, verb.usage, current)
}

/// The flag of `word` where its value is the next word.
fn awaits_value<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    if word.contains('=') {
        return None;
    }
    if word.starts_with("--") {
        return find(command, word).filter(|arg| takes_value(arg));
    }
    // `-itv`: the first that takes a value takes what follows it here.
    for (at, short) in word.char_indices().skip(1) {
        let arg = command.get_arguments().find(|arg| arg.get_short() == Some(short))?;
        if takes_value(arg) {
            return (at + short.len_utf8() == word.len()).then_some(arg);
        }
    }
    None
}

fn find<'a>(command: &'a Command, flag: &str) -> Option<&'a Arg> {
    let long = flag.strip_prefix("--")?;
    let called = |arg: &&Arg| {
        arg.get_long() == Some(long) || arg.get_all_aliases().is_some_and(|all| all.contains(&long))
    };
    command.get_arguments().find(called)
}

fn takes_value(arg: &Arg) -> bool {
    !matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::SetFalse)
        && arg.get_action().takes_values()
        && !arg.is_require_equals_set()
}

/// Long flags; short ones where only a `-` is there.
fn flags(command: &Command, current: &str) -> Answer {
    let mut candidates = Vec::new();
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
        let about = arg.get_help().map(ToString::to_string).unwrap_or_default();
        if let Some(long) = arg.get_long() {
            candidates.push(Candidate { word: format!("--{long}"), about: about.clone() });
        }
        if let (Some(short), "-") = (arg.get_short(), current) {
            candidates.push(Candidate { word: format!("-{short}"), about });
        }
    }
    candidates.sort_by(|one, two| one.word.cmp(&two.word));
    Answer { candidates, files: false }
}

const BASH: &str = include_str!("complete/coracle.bash");
const ZSH: &str = include_str!("complete/coracle.zsh");
const FISH: &str = include_str!("complete/coracle.fish");

/// The script of a shell.
///
/// # Errors
/// `Invalid` for a shell that there is none for.
pub(crate) fn script(shell: &str) -> Result<&'static str> {
    match shell {
        "bash" => Ok(BASH),
        "zsh" => Ok(ZSH),
        "fish" => Ok(FISH),
        _ => Err(Error::usage(format!("unknown shell {shell:?}")).hint("it is bash, zsh or fish")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        let words = split(line);
        let (current, before) = words.split_last().expect("a word");
        answer(before, current).starting(current).candidates.into_iter().map(|found| found.word).collect()
    }

    #[test]
    fn lines_are_split_as_shells_do() {
        assert_eq!(split("docker run -it "), ["run", "-it", ""]);
        assert_eq!(split("coracle ps --filter 'name=a b' x"), ["ps", "--filter", "name=a b", "x"]);
        assert_eq!(split("c a\\ b \"x"), ["a b", "x"]);
        assert_eq!(split("coracle"), Vec::<String>::new());
    }

    #[test]
    fn commands_and_flags_are_found() {
        assert_eq!(words("coracle resta"), ["restart"]);
        assert_eq!(words("docker --log-level info volume cre"), ["create"]);
        assert_eq!(words("coracle help unsh"), ["unshare"]);
        assert_eq!(words("coracle run --cap-"), ["--cap-add", "--cap-drop"]);
        assert_eq!(words("coracle container ls --no-"), ["--no-trunc"]);
        assert!(words("coracle ").contains(&"run".to_owned()));
        assert!(!words("coracle ").iter().any(|word| word.starts_with("generate")));
        assert!(words("coracle run -").contains(&"-d".to_owned()));
        assert!(words("coracle nosuch x").is_empty());
        assert!(words("coracle run image --c").is_empty(), "flags after the image are the container's");
    }

    #[test]
    fn values_of_flags_are_found() {
        assert_eq!(words("coracle run --network no"), ["none"]);
        assert_eq!(words("coracle run --network=ho"), ["--network=host"]);
        assert_eq!(words("coracle run --restart unl"), ["unless-stopped"]);
        assert_eq!(words("coracle run --rm --cap-drop SYS_PT"), ["SYS_PTRACE"]);
        assert_eq!(words("coracle kill -s US"), ["USR1", "USR2"]);
        assert_eq!(words("coracle ps --filter anc"), ["ancestor="]);
        assert_eq!(words("coracle ps -af status=ex"), ["status=exited"]);
        assert_eq!(words("coracle completion z"), ["zsh"]);
        assert_eq!(words("coracle --log-level de"), ["debug"]);
        let files = |line: &str| {
            let words = split(line);
            let (current, before) = words.split_last().expect("a word");
            answer(before, current).files
        };
        for line in [
            "coracle run --env-file ",
            "coracle load -i ",
            "coracle --root ",
            "coracle run -v /",
            "c import ",
        ] {
            assert!(files(line), "{line}");
        }
        assert!(!files("coracle run --name ") && !files("coracle ps "));
    }
}
