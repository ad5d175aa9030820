//! Environment variables: `-e`, `--env-file`, and the likes of `--label-file`.

use crate::error::{Error, Result};

/// Bytes of a file of variables or labels; a larger one is refused.
pub(crate) const MAX_FILE: u64 = 1 << 20;

/// Variables of one container; each new one is compared with those before it.
const MAX_VARIABLES: usize = 10_000;

/// The variables that flags ask for. Later ones win, as they do in `execve`'s
/// list once duplicates are gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    /// `KEY=VALUE`, each key once.
    pub(crate) set: Vec<String>,
    /// Keys that the image may have set and that are to go.
    pub(crate) unset: Vec<String>,
}

impl Environment {
    /// One `-e`: `KEY=VALUE`; `KEY` with the host's value (not set there: not
    /// set in the container either, even if the image sets it); `PREFIX*`, all
    /// of the host's variables with that prefix.
    ///
    /// # Errors
    /// `Invalid` where there is no name.
    pub(crate) fn add_flag(&mut self, text: &str, host: &[(String, String)]) -> Result<()> {
        match text.split_once('=') {
            Some(("", _)) => Err(no_name(text)),
            Some((key, value)) => {
                self.set(key, value);
                Ok(())
            }
            None if text.is_empty() => Err(no_name(text)),
            None => {
                match text.strip_suffix('*') {
                    Some(prefix) => self.add_matching(prefix, host),
                    None => match lookup(host, text) {
                        Some(value) => self.set(text, value),
                        None => self.unset(text),
                    },
                }
                Ok(())
            }
        }
    }

    /// The text of an `--env-file`, by docker's rules: a line is `KEY=VALUE` or
    /// `KEY` (the host's value, nothing where the host has none); lines that
    /// begin with `#` and empty ones are passed over; quotes are ordinary
    /// characters. Podman's `PREFIX*` is as in [`Self::add_flag`].
    ///
    /// # Errors
    /// `Invalid`, with file and line, where a line has no name or one with blanks in it.
    pub(crate) fn add_file(&mut self, text: &str, file: &str, host: &[(String, String)]) -> Result<()> {
        for (number, line) in lines(text) {
            let at = |problem: String| Error::invalid(problem).context(format!("{file}:{number}"));
            let (key, value) = match line.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (line, lookup(host, line.trim_end())),
            };
            // Podman's: all of the host's with that prefix.
            if let (Some(prefix), false) = (line.trim_end().strip_suffix('*'), line.contains('=')) {
                self.add_matching(prefix, host);
                continue;
            }
            let key = if line.contains('=') { key } else { key.trim_end() };
            if key.is_empty() {
                return Err(at(format!("no variable name in {line:?}")));
            }
            if key.contains(char::is_whitespace) {
                return Err(at(format!("the variable name {key:?} has blanks in it")));
            }
            if line.contains('\0') {
                return Err(at("a NUL byte".into()));
            }
            if self.set.len() >= MAX_VARIABLES {
                return Err(at(format!("more than {MAX_VARIABLES} variables")));
            }
            if let Some(value) = value {
                self.set(key, value);
            }
        }
        Ok(())
    }

    fn add_matching(&mut self, prefix: &str, host: &[(String, String)]) {
        for (key, value) in host.iter().filter(|(key, _)| key.starts_with(prefix)) {
            self.set(key, value);
        }
    }

    fn set(&mut self, key: &str, value: &str) {
        self.unset.retain(|other| other != key);
        set(&mut self.set, format!("{key}={value}"));
    }

    fn unset(&mut self, key: &str) {
        self.set.retain(|entry| key_of(entry) != key);
        if !self.unset.iter().any(|other| other == key) {
            self.unset.push(key.to_owned());
        }
    }
}

/// Sets `KEY=VALUE` in a list of such: at its end, in the place of the one with this name.
pub(crate) fn set(list: &mut Vec<String>, entry: String) {
    list.retain(|other| key_of(other) != key_of(&entry));
    list.push(entry);
}

/// The name in `KEY=VALUE`.
pub(crate) fn key_of(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(key, _)| key)
}

/// One `--label`: `KEY=VALUE`, or `KEY` with an empty value.
///
/// # Errors
/// `Invalid` where there is no name.
pub(crate) fn parse_label(text: &str) -> Result<(String, String)> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.trim().is_empty() {
        return Err(Error::invalid(format!("invalid label {text:?}: no name")));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// The text of a `--label-file`.
///
/// # Errors
/// As [`parse_label`], with file and line.
pub(crate) fn parse_label_file(text: &str, file: &str) -> Result<Vec<(String, String)>> {
    lines(text)
        .map(|(number, line)| parse_label(line).map_err(|e| e.context(format!("{file}:{number}"))))
        .collect()
}

/// Lines with their numbers from 1; without blanks before them, a byte order
/// mark, empty ones and comments.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim_start()));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

fn lookup<'a>(host: &'a [(String, String)], key: &str) -> Option<&'a str> {
    host.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

fn no_name(text: &str) -> Error {
    Error::invalid(format!("invalid environment variable {text:?}: no name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Vec<(String, String)> {
        [("HOME", "/home/x"), ("LC_ALL", "C"), ("LC_TIME", "de")].map(|(k, v)| (k.into(), v.into())).to_vec()
    }

    #[test]
    fn flags_set_take_over_and_unset() {
        let mut env = Environment::default();
        for text in ["A=1", "B=x=y", "HOME", "LC_*", "A=2", "EMPTY=", "GONE"] {
            env.add_flag(text, &host()).expect(text);
        }
        assert_eq!(env.set, ["B=x=y", "HOME=/home/x", "LC_ALL=C", "LC_TIME=de", "A=2", "EMPTY="]);
        assert_eq!(env.unset, ["GONE"]);
        env.add_flag("GONE=back", &host()).expect("valid");
        assert!(env.unset.is_empty());
        for bad in ["", "=", "=x"] {
            assert!(env.add_flag(bad, &host()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn files_follow_dockers_rules() {
        let text = "\u{feff}# comment\n\n  A=1\nB=\"quoted\" # kept\nHOME\nNOT_SET\nC= spaced \r\nD=\n";
        let mut env = Environment::default();
        env.add_file(text, "f", &host()).expect("valid");
        assert_eq!(env.set, ["A=1", "B=\"quoted\" # kept", "HOME=/home/x", "C= spaced ", "D="]);
        let mut env = Environment::default();
        env.add_file("LC_* \nX=*\nNONE_*\n", "f", &host()).expect("podman's");
        assert_eq!(env.set, ["LC_ALL=C", "LC_TIME=de", "X=*"]);
        for (bad, line) in [("A=1\n=x", 2), ("A B=1", 1), ("\n\nNO NAME", 3), ("A =1", 1), ("A=\0", 1)] {
            let error = Environment::default().add_file(bad, "my.env", &host()).expect_err(bad);
            assert!(error.to_string().starts_with(&format!("my.env:{line}: ")), "{error}");
        }
    }

    #[test]
    fn labels_may_have_no_value() {
        assert_eq!(parse_label("a=b=c").expect("valid"), ("a".into(), "b=c".into()));
        assert_eq!(parse_label("a").expect("valid"), ("a".into(), String::new()));
        assert!(parse_label("=x").is_err());
        let file = parse_label_file("# c\na=1\n\nb\n", "f").expect("valid");
        assert_eq!(file, [("a".into(), "1".into()), ("b".into(), String::new())]);
        assert!(parse_label_file("a=1\n=2", "f").expect_err("bad").to_string().starts_with("f:2: "));
    }
}
