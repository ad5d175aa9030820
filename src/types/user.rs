//! `--user` and an image's USER: `name|uid[:group|gid]`.

use crate::error::{Error, Result};

/// A user and a group as written; `None` where that part is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UserSpec {
    pub(crate) user: Option<Principal>,
    pub(crate) group: Option<Principal>,
}

/// A user or a group, by number or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Principal {
    Id(u32),
    Name(String),
}

/// The highest uid and gid: more would be negative, or -1 ("do not change") or
/// wrap to 0, in some programs (CVE-2024-40635).
pub(crate) const MAX_ID: u32 = i32::MAX as u32;

/// Bytes; useradd(8) has 32.
const MAX_NAME: usize = 256;

impl UserSpec {
    /// `web`, `1000`, `web:staff`, `1000:50`, `:50`, or nothing (root).
    ///
    /// # Errors
    /// `Invalid` for more than two parts, or a part that [`Principal::parse`] refuses.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (user, group) = match text.split_once(':') {
            Some((_, rest)) if rest.contains(':') => {
                return Err(Error::invalid(format!("invalid user {text:?}")).hint("write it as USER[:GROUP]"));
            }
            Some(("", "")) => {
                return Err(Error::invalid(format!("invalid user {text:?}")).hint("write it as USER[:GROUP]"));
            }
            Some((user, group)) => (user, group),
            None => (text, ""),
        };
        let part = |part: &str| if part.is_empty() { Ok(None) } else { Principal::parse(part).map(Some) };
        Ok(Self { user: part(user)?, group: part(group)? })
    }
}

impl Principal {
    /// What looks like a number is one, and never looked up as a name: an image
    /// could have a user called `4294967296` with uid 0 (CVE-2026-46680).
    ///
    /// # Errors
    /// `Invalid` for a number outside 0 to 2147483647, or what cannot be a name in passwd(5).
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            let id = text.parse().ok().filter(|id| *id <= MAX_ID && digits.len() == text.len());
            return id
                .map(Self::Id)
                .ok_or_else(|| Error::invalid(format!("user or group id {text} is not in 0 to {MAX_ID}")));
        }
        let bad = |c: char| c.is_control() || c.is_whitespace() || c == ':' || c == ',' || c == '/';
        if text.is_empty() || text.len() > MAX_NAME || text.contains(bad) {
            return Err(Error::invalid(format!("{:?} is not the name of a user or group", shortened(text))));
        }
        Ok(Self::Name(text.to_owned()))
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let id = |id| Some(Principal::Id(id));
        let name = |name: &str| Some(Principal::Name(name.to_owned()));
        for (text, user, group) in [
            ("", None, None),
            ("root", name("root"), None),
            ("0", id(0), None),
            ("1", id(1), None),
            ("1:1", id(1), id(1)),
            ("0001", id(1), None),
            ("2147483647:2147483647", id(2_147_483_647), id(2_147_483_647)),
            (":50", None, id(50)),
            (":staff", None, name("staff")),
            ("web:50", name("web"), id(50)),
            ("1000:", id(1000), None),
            ("1x", name("1x"), None),
            ("-", name("-"), None),
            ("www-data", name("www-data"), None),
            ("DOMAIN\\user", name("DOMAIN\\user"), None),
        ] {
            assert_eq!(UserSpec::parse(text).unwrap(), UserSpec { user, group }, "{text:?}");
        }
    }

    /// CVE-2024-40635, CVE-2026-46680, CVE-2026-30892.
    #[test]
    fn numbers_out_of_range_and_other_nonsense_are_refused() {
        for bad in [
            ":",
            "2147483648",
            "4294967295",
            "4294967296",
            "18446744073709551616",
            "99999999999999999999999999",
            "-1",
            "+1",
            "-0",
            "1:-1",
            "0:4294967296",
            "1:2:3",
            "::",
            " 0",
            "0 ",
            "a b",
            "a\nb",
            "a/b",
            "a\0",
            "a,b",
        ] {
            assert!(UserSpec::parse(bad).is_err(), "{bad:?}");
        }
        assert!(UserSpec::parse(&"x".repeat(257)).is_err());
    }
}
