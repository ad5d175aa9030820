//! What clap says about a wrong command line, in docker's words and as an
//! [`Error`], so that it is shown as every other.

use super::reference;
use crate::error::Error;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Flags of docker's for which there is nothing here, and why.
const REFUSED: [(&str, &str); 6] = [
    ("--memory-swappiness", NO_V2),
    ("--kernel-memory", NO_V2),
    ("--oom-kill-disable", NO_V2),
    ("--cpu-rt-period", NO_V2),
    ("--cpu-rt-runtime", NO_V2),
    ("--device-cgroup-rule", NO_DEVICES),
];
const NO_V2: &str = "control groups of version 2 have no such limit";
const NO_DEVICES: &str = "who may use a device is decided by its owner and mode: see --device";

/// Flags of one command for which there is nothing here: why, and what helps.
const REFUSED_BY: [(&str, &[&str], &str, &str); 4] = [
    (
        POD_CREATE,
        &["--infra-image", "--infra-command", "--infra-conmon-pidfile"],
        "what holds a pod's namespaces is coracle's own and needs no image and no command",
        "leave it out",
    ),
    (
        POD_CREATE,
        &["--subuidname", "--subgidname"],
        "every container lies in your own subordinate ids",
        "leave it out",
    ),
    (POD_CREATE, &["--pid", "--uts"], "the namespaces of a pod are its own", "see --share"),
    (POD_CREATE, &["--share-parent"], "containers always lie in the pod's control group", "leave it out"),
];
const POD_CREATE: &str = "coracle pod create";

/// Verbs that docker wants exactly two words for.
const TWO: [&str; 3] = ["cp", "rename", "tag"];

/// For a command whose words, or flags instead of them, choose nothing; `command`
/// as it is typed after `coracle`.
pub(super) fn nothing_named(command: &str) -> Error {
    Error::invalid(format!("'coracle {command}' requires at least 1 argument"))
        .hint(format!("see `coracle {command} --help`"))
}

/// The error for a command line that clap refused; `path` is `coracle run`.
pub(crate) fn explain(path: &str, error: &clap::Error) -> Error {
    let context = |kind| error.get(kind).map(text_of);
    let argument = context(ContextKind::InvalidArg).unwrap_or_default();
    let flag = argument.split([' ', '=']).next().unwrap_or_default();
    let refused = REFUSED.iter().find(|(refused, _)| *refused == flag);
    if let (ErrorKind::UnknownArgument, Some((_, reason))) = (error.kind(), refused) {
        return Error::usage(format!("{flag}: {reason}"))
            .hint(format!("leave it out, or see the other limits: `{path} --help`"));
    }
    let refused = REFUSED_BY.iter().find(|(by, flags, ..)| *by == path && flags.contains(&flag));
    if let (ErrorKind::UnknownArgument, Some((_, _, reason, help))) = (error.kind(), refused) {
        return Error::usage(format!("{flag}: {reason}")).hint(*help);
    }
    let verb = path.split_once(' ').map_or("", |(_, verb)| verb);
    if let (ErrorKind::UnknownArgument, Some(reason)) = (error.kind(), reference::why_not(verb, flag)) {
        return Error::usage(format!("unsupported flag {flag}: {reason}"))
            .hint(format!("leave it out, or see `{path} --help`"));
    }
    let message = match error.kind() {
        ErrorKind::UnknownArgument if argument.starts_with("--") => format!("unknown flag: {flag}"),
        ErrorKind::UnknownArgument if argument.starts_with('-') => format!("unknown shorthand flag: {flag}"),
        ErrorKind::UnknownArgument | ErrorKind::TooManyValues => {
            format!("'{path}' takes no argument {argument:?}")
        }
        ErrorKind::MissingRequiredArgument | ErrorKind::WrongNumberOfValues
            if TWO.contains(&path.rsplit(' ').next().unwrap_or_default()) =>
        {
            format!("'{path}' requires 2 arguments")
        }
        ErrorKind::MissingRequiredArgument => {
            let missing = argument.matches('<').count().max(1);
            let plural = if missing == 1 { "" } else { "s" };
            format!("'{path}' requires at least {missing} argument{plural}")
        }
        ErrorKind::InvalidValue
            if context(ContextKind::InvalidValue).is_none_or(|value| value.is_empty()) =>
        {
            format!("flag needs an argument: {flag}")
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let value = context(ContextKind::InvalidValue).unwrap_or_default();
            let cause =
                std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("invalid value {value:?} of {flag}{cause}")
        }
        ErrorKind::ArgumentConflict => {
            let other = context(ContextKind::PriorArg).unwrap_or_default();
            format!(
                "{flag} cannot be used together with {}",
                other.split([' ', '=']).next().unwrap_or_default()
            )
        }
        ErrorKind::InvalidSubcommand => {
            let name = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            format!("unknown command: {path} {name}")
        }
        _ => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    };
    let mut result = match error.kind() {
        // Docker's code for it is 1.
        ErrorKind::MissingRequiredArgument | ErrorKind::WrongNumberOfValues | ErrorKind::TooManyValues => {
            Error::invalid(message)
        }
        _ => Error::usage(message),
    };
    let flag_meant = context(ContextKind::SuggestedArg)
        .map(|flag| flag.split([' ', '=']).next().unwrap_or_default().to_owned());
    let verb_meant = || {
        let typed = context(ContextKind::InvalidSubcommand)?;
        let offered = context(ContextKind::SuggestedSubcommand)?;
        nearest(&typed, offered.split(' ')).map(str::to_owned)
    };
    if let Some(meant) = flag_meant.or_else(verb_meant) {
        result = result.hint(format!("did you mean {meant}?"));
    }
    result.hint(format!("see `{path} --help`"))
}

/// The verb that a slip of the fingers made `typed` of: at most two letters
/// differ, and more are right than wrong. Clap offers whatever looks alike, of
/// which a verb that does something else is worse than none.
fn nearest<'a>(typed: &str, verbs: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = verbs
        .map(|verb| (edits(typed, verb), verb))
        .filter(|(edits, verb)| *edits <= 2 && *edits * 2 <= typed.chars().count().max(verb.chars().count()));
    near.min_by_key(|(edits, _)| *edits).map(|(_, verb)| verb)
}

/// How many letters are to be put in, taken out, changed, or exchanged with
/// their neighbour to make one word of the other.
fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().take(64).collect(), to.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let mut least = (rows[i][j] + usize::from(a != b)).min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

fn text_of(value: &ContextValue) -> String {
    match value {
        ContextValue::Strings(texts) => texts.join(" "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Arg, Command};

    fn explained(words: &[&str]) -> String {
        let command = Command::new("x")
            .arg(Arg::new("name").long("name").required(false))
            .arg(Arg::new("number").long("number").value_parser(clap::value_parser!(u8)))
            .arg(Arg::new("target").required(true));
        let words = std::iter::once("x").chain(words.iter().copied());
        let error = explain("coracle x", &command.try_get_matches_from(words).expect_err("wrong"));
        format!("{error} / {}", error.hints().join(" / "))
    }

    #[test]
    fn only_near_verbs_are_offered() {
        let verbs = ["start", "search", "ps", "pause", "unpause", "rm", "rmi", "restart"];
        for (typed, meant) in [
            ("strat", Some("start")),
            ("serch", Some("search")),
            ("pss", Some("ps")),
            ("psuae", Some("pause")),
            ("rmii", Some("rmi")),
            ("stars", Some("start")),
            ("sea", None),
            ("startle", Some("start")),
            ("xx", None),
            ("stop-all", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, verbs.into_iter()), meant, "{typed}");
        }
        assert_eq!(nearest("search", ["start"].into_iter()), None);
        assert_eq!((edits("ab", "ba"), edits("kitten", "sitting"), edits("", "abc")), (1, 3, 3));
    }

    #[test]
    fn messages_are_dockers() {
        let see = "see `coracle x --help`";
        assert_eq!(explained(&["--foo", "a"]), format!("unknown flag: --foo / {see}"));
        assert_eq!(
            explained(&["--nam=1", "a"]),
            format!("unknown flag: --nam / did you mean --name? / {see}")
        );
        let text = explained(&["--memory-swappiness", "a"]);
        assert!(text.starts_with("--memory-swappiness: control groups of version 2"), "{text}");
        assert_eq!(explained(&["-z", "a"]), format!("unknown shorthand flag: -z / {see}"));
        assert_eq!(explained(&["--name"]), format!("flag needs an argument: --name / {see}"));
        assert_eq!(explained(&[]), format!("'coracle x' requires at least 1 argument / {see}"));
        assert_eq!(explained(&["a", "b"]), format!("'coracle x' takes no argument \"b\" / {see}"));
        assert!(
            explained(&["--number", "x", "a"]).starts_with("invalid value \"x\" of --number: invalid digit")
        );
    }
}
