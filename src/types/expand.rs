//! `$NAME` and its longer forms in a value, as a Dockerfile has them.

use crate::error::{Error, Result};

/// The text with `$NAME`, `${NAME}`, `${NAME:-WORD}` (without a value, WORD) and
/// `${NAME:+WORD}` (with one, WORD) replaced; what has no value is empty. A backslash
/// takes the meaning of the character behind it away.
///
/// # Errors
/// `Invalid` for a brace that does not end and for other forms.
pub(crate) fn expand(text: &str, value_of: &dyn Fn(&str) -> Option<String>) -> Result<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['$', '\\']) {
        out.push_str(&rest[..at]);
        let special = &rest[at..];
        let (value, length) = match special.strip_prefix('$') {
            None => escaped(special),
            Some(name) if name.starts_with('{') => braced(text, special, value_of)?,
            Some(name) => match name_in(name) {
                "" => ("$".to_owned(), 1),
                name => (value_of(name).unwrap_or_default(), 1 + name.len()),
            },
        };
        out.push_str(&value);
        rest = &special[length..];
    }
    out.push_str(rest);
    Ok(out)
}

/// The character behind a backslash, and how long both are.
fn escaped(text: &str) -> (String, usize) {
    let character = text[1..].chars().next();
    let value = character.map_or_else(|| "\\".to_owned(), String::from);
    (value, 1 + character.map_or(0, char::len_utf8))
}

/// The value of `${…}` at the start of `special`, and how long that is.
fn braced(text: &str, special: &str, value_of: &dyn Fn(&str) -> Option<String>) -> Result<(String, usize)> {
    let wrong =
        || Error::invalid(format!("{text:?}: ${{NAME}}, ${{NAME:-WORD}} or ${{NAME:+WORD}} is expected"));
    let inside = &special[2..];
    let end = end_of(inside).ok_or_else(wrong)?;
    let (inside, length) = (&inside[..end], 2 + end + 1);
    let name = name_in(inside);
    let value = value_of(name).filter(|value| !value.is_empty());
    let value = match &inside[name.len()..] {
        _ if name.is_empty() => return Err(wrong()),
        "" => value.unwrap_or_default(),
        other => match (other.strip_prefix(":-"), other.strip_prefix(":+")) {
            (Some(word), _) => value.map_or_else(|| expand(word, value_of), Ok)?,
            (_, Some(word)) if value.is_some() => expand(word, value_of)?,
            (_, Some(_)) => String::new(),
            (None, None) => return Err(wrong()),
        },
    };
    Ok((value, length))
}

/// Where the brace that is open ends.
fn end_of(inside: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, character) in inside.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The name at the start of the text; empty where there is none.
fn name_in(text: &str) -> &str {
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        return "";
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String> {
        let value_of = |name: &str| match name {
            "A" => Some("a".to_owned()),
            "B_1" => Some("b".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        expand(text, &value_of)
    }

    #[test]
    fn each_form() {
        for (text, expected) in [
            ("plain", "plain"),
            ("$A-${A}x${B_1}", "a-axb"),
            ("[$NONE${NONE}]", "[]"),
            ("${NONE:-x$A}${EMPTY:-y}${A:-z}", "xaya"),
            ("[${NONE:+x}${A:+y${B_1}}]", "[yb]"),
            ("\\$A \\\\ $ 5$ é$A", "$A \\ $ 5$ éa"),
            ("ends with \\", "ends with \\"),
            ("$1 ${NONE:-{}}", "$1 {}"),
        ] {
            assert_eq!(expanded(text).expect(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_none_of_them_is_refused() {
        for bad in ["${A", "${}", "${A:x}", "${A-x}", "${A:-${B_1}", "${1}"] {
            assert!(expanded(bad).is_err(), "{bad}");
        }
    }
}
