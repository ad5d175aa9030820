//! `--filter KEY=VALUE` as docker reads it, and its words about wrong ones.

use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// How many filters one command takes.
const MAX_FILTERS: usize = 1000;

/// Key (in lower case) and value of each; `label!=x` has the key `label!`.
///
/// # Errors
/// `Invalid` where there is no `=`, and beyond a thousand filters.
pub(crate) fn split_all(texts: &[String]) -> Result<Vec<(String, &str)>> {
    if texts.len() > MAX_FILTERS {
        return Err(Error::invalid(format!("more than {MAX_FILTERS} filters")));
    }
    texts.iter().map(|text| split(text)).collect()
}

/// As [`split_all`], of one.
pub(crate) fn split(text: &str) -> Result<(String, &str)> {
    let (key, value) = text.split_once('=').ok_or_else(|| {
        Error::invalid(format!("invalid filter '{text}': bad format of filter (expected name=value)"))
            .hint("write it as KEY=VALUE, for example label=web")
    })?;
    Ok((key.trim().to_ascii_lowercase(), value.trim()))
}

/// No such filter; `known` is for the hint.
pub(crate) fn unknown(key: &str, known: &str) -> Error {
    Error::invalid(format!("invalid filter '{key}'")).hint(format!("the filters are {known}"))
}

/// A value that the key cannot have.
pub(crate) fn bad_value(key: &str, value: &str) -> Error {
    Error::invalid(format!("invalid filter '{key}={value}'"))
}

/// The value of a filter that is true or false.
///
/// # Errors
/// `Invalid` for anything else.
pub(crate) fn boolean(key: &str, value: &str) -> Result<bool> {
    match value {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(bad_value(key, value).hint("it is true or false")),
    }
}

/// `label=KEY[=VALUE]`, and `label!=…` for what must not have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LabelFilter {
    key: String,
    /// Any where `None`.
    value: Option<String>,
    present: bool,
}

impl LabelFilter {
    pub(crate) fn new(text: &str, present: bool) -> Self {
        match text.split_once('=') {
            Some((key, value)) => Self { key: key.to_owned(), value: Some(value.to_owned()), present },
            None => Self { key: text.to_owned(), value: None, present },
        }
    }

    pub(crate) fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let found = labels.get(&self.key).is_some_and(|is| self.value.as_ref().is_none_or(|v| v == is));
        found == self.present
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_keys_and_values() {
        let of = |text: &str| split(text).map(|(key, value)| format!("{key}|{value}"));
        assert_eq!(of("label=a=b").expect("good"), "label|a=b");
        assert_eq!(of("label!=a").expect("good"), "label!|a");
        assert_eq!(of(" Name = x ").expect("good"), "name|x");
        assert_eq!(
            of("name").expect_err("bad").to_string(),
            "invalid filter 'name': bad format of filter (expected name=value)"
        );
        assert_eq!(unknown("wat", "a").to_string(), "invalid filter 'wat'");
        assert_eq!(boolean("dangling", "x").expect_err("bad").to_string(), "invalid filter 'dangling=x'");
        assert!(split_all(&vec!["a=b".to_owned(); MAX_FILTERS + 1]).is_err());
    }

    #[test]
    fn labels_may_be_asked_to_be_absent() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())]);
        for (text, present, holds) in [
            ("a", true, true),
            ("a=1", true, true),
            ("a=2", true, false),
            ("c", true, false),
            ("b=", true, true),
            ("a", false, false),
            ("a=2", false, true),
            ("c", false, true),
        ] {
            assert_eq!(LabelFilter::new(text, present).holds(&labels), holds, "{text} {present}");
        }
    }
}
