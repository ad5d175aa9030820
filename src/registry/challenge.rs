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

    /// Whatever a registry sends is read or refused, and takes no longer than
    /// it is long.
    #[test]
    fn any_header_is_read_or_refused() {
        const PIECES: &[&str] = &[
            "Bearer",
            "bearer ",
            "Basic",
            " ",
            "\t",
            ",",
            "=",
            "\"",
            "\\",
            "realm",
            "realm=",
            "service=\"s\"",
            "scope=",
            "\"repository:a:pull\"",
            "https://a/t",
            "é",
            "\u{0}",
            "x-._",
            "==",
            "\"\"",
            "Negotiate abc==",
        ];
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            let mut header = String::new();
            loop {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let pick = (seed >> 33) as usize;
                if pick.is_multiple_of(7) || header.len() > 200 {
                    break;
                }
                header.push_str(PIECES[pick % PIECES.len()]);
            }
            if let Some(Challenge::Bearer { realm, .. }) = parse_challenge(&header) {
                assert!(header.contains("realm") && realm.len() <= header.len(), "{header}");
            }
        }
    }
}
