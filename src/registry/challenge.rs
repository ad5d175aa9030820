//! What a registry asks for with status 401.
//!
//! Source: RFC 9110 "WWW-Authenticate"; distribution `spec/auth/token.md`.

use std::collections::BTreeMap;

/// What a registry asks for with status 401.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// Reads the challenges of one WWW-Authenticate header; a bearer token is
/// preferred. `None` where there is none that is known.
pub(crate) fn parse_challenge(header: &str) -> Option<Challenge> {
    let mut basic = false;
    let mut rest = header.trim();
    while !rest.is_empty() {
        let end = rest.find([' ', '\t']).unwrap_or(rest.len());
        let scheme = &rest[..end];
        let (parameters, after) = parse_parameters(&rest[end..])?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Challenge::Bearer {
                realm: parameters.get("realm")?.clone(),
                service: parameters.get("service").cloned(),
                scope: parameters.get("scope").cloned(),
            });
        }
        basic |= scheme.eq_ignore_ascii_case("basic");
        rest = after.trim_start();
    }
    basic.then_some(Challenge::Basic)
}

/// `key=value, key="quoted"` until the next scheme. `None` where it is broken.
fn parse_parameters(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut parameters = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let word =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))).unwrap_or(rest.len());
        let (key, after) = rest.split_at(word);
        let Some(value) = after.trim_start().strip_prefix('=') else { return Some((parameters, rest)) };
        if key.is_empty() {
            return None;
        }
        let value = value.trim_start();
        let (value, after) = if let Some(quoted) = value.strip_prefix('"') {
            unquote(quoted)?
        } else {
            let end = value.find([',', ' ', '\t']).unwrap_or(value.len());
            (value[..end].to_owned(), &value[end..])
        };
        parameters.entry(key.to_ascii_lowercase()).or_insert(value);
        rest = after;
    }
}

/// The text up to the closing quote, and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.into(),
                service: service.map(Into::into),
                scope: scope.map(Into::into),
            })
        };
        for (header, expected) in [
            ("Basic realm=\"x\"", Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                r#"Bearer realm="https://a/t",service="s",scope="repository:a:pull,push""#,
                bearer("https://a/t", Some("s"), Some("repository:a:pull,push")),
            ),
            (r#"Basic realm="x", Bearer realm="https://a/t""#, bearer("https://a/t", None, None)),
            (r#"bearer realm=https://a/t , service="a\"b""#, bearer("https://a/t", Some("a\"b"), None)),
            ("Bearer service=\"x\"", None),
            ("Bearer realm=\"x", None),
            ("Negotiate", None),
            ("", None),
            ("=,=", None),
        ] {
            assert_eq!(parse_challenge(header), expected, "{header}");
        }
    }

    /// Whatever a registry sends is read or refused, and nothing is made up.
    #[test]
    fn mutated_challenges_are_read_or_refused() {
        use crate::types::mutation::Fuzz;
        let good: [&str; 5] = [
            "Basic realm=\"x\"",
            "Bearer realm=\"https://a/t\",service=\"s\",scope=\"repository:a:pull,push\"",
            "Basic realm=\"x\", Bearer realm=\"https://a/t\"",
            "bearer realm=https://a/t , service=\"a\\\"b\"",
            "Negotiate a, Basic",
        ];
        let fuzz = Fuzz {
            name: "challenges",
            good: good.iter().map(|text| text.as_bytes().to_vec()).collect(),
            words: &[
                b"Bearer",
                b"bearer ",
                b"Basic",
                b" ",
                b"\t",
                b",",
                b"=",
                b"\"",
                b"\\",
                b"realm",
                b"realm=",
                b"service=\"s\"",
                b"scope=",
                b"\"repository:a:pull\"",
                b"https://a/t",
                b"\xc3\xa9",
                b"\0",
                b"x-._",
                b"==",
                b"\"\"",
                b"Negotiate abc==",
            ],
            short: 20_000,
        };
        fuzz.run(|bytes, _| {
            let Ok(header) = std::str::from_utf8(bytes) else { return false };
            let Some(challenge) = parse_challenge(header) else { return false };
            let lower = header.to_ascii_lowercase();
            match challenge {
                Challenge::Basic => assert!(lower.contains("basic"), "{header}"),
                Challenge::Bearer { realm, service, scope } => {
                    assert!(lower.contains("bearer") && lower.contains("realm"), "{header}");
                    // Only backslashes are lost between the header and a value.
                    let bare = header.replace('\\', "");
                    for value in [Some(realm), service, scope].into_iter().flatten() {
                        assert!(bare.contains(&value.replace('\\', "")), "{header}: {value}");
                    }
                }
            }
            true
        });
    }
}
