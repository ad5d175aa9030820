//! `--secret NAME[,type=mount|env,target=…,uid=…,gid=…,mode=…]`.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Bytes of a secret: podman's.
pub(crate) const MAX_SECRET: usize = 512_000;

/// How a container is given a secret. The value is never here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SecretUse {
    /// Of the secret when the container was created; empty in a request.
    #[serde(default)]
    pub(crate) id: String,
    /// As the user named it.
    pub(crate) name: String,
    pub(crate) target: SecretTarget,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SecretTarget {
    File {
        /// Absolute; `/run/secrets/NAME` where nothing else was asked for.
        path: String,
        /// Ids of the container.
        uid: u32,
        gid: u32,
        mode: u32,
    },
    /// The name of a variable.
    Variable(String),
}

impl SecretUse {
    /// # Errors
    /// `Invalid`, naming the option.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let invalid = |why: String| {
            Error::invalid(format!("invalid --secret {text:?}: {why}"))
                .hint("write NAME[,type=mount|env,target=PATH|VARIABLE,uid=ID,gid=ID,mode=OCTAL]")
        };
        let (mut name, mut kind, mut target) = (None, "mount", None);
        let (mut uid, mut gid, mut mode) = (None, None, None);
        for (at, word) in text.split(',').enumerate() {
            let Some((key, value)) = word.split_once('=') else {
                if at > 0 {
                    return Err(invalid(format!("{word:?} is not KEY=VALUE")));
                }
                name = Some(word);
                continue;
            };
            let id = || value.parse::<u32>().map_err(|_| invalid(format!("{value:?} is no id")));
            match key {
                "source" | "src" | "id" => name = Some(value),
                "type" if matches!(value, "mount" | "env") => kind = value,
                "target" | "dst" | "destination" if !value.is_empty() => target = Some(value),
                "uid" => uid = Some(id()?),
                "gid" => gid = Some(id()?),
                "mode" => {
                    let bits = u32::from_str_radix(value, 8).ok().filter(|bits| *bits <= 0o7777);
                    mode = Some(bits.ok_or_else(|| invalid(format!("{value:?} is no mode in octal")))?);
                }
                _ => return Err(invalid(format!("unknown option {word:?}"))),
            }
        }
        let name = name.filter(|name| !name.is_empty()).ok_or_else(|| invalid("no name".into()))?;
        let target = if kind == "env" {
            if uid.is_some() || gid.is_some() || mode.is_some() {
                return Err(invalid("uid, gid and mode are for type=mount".into()));
            }
            let variable = target.unwrap_or(name);
            if variable.contains(['\0', '=']) {
                return Err(invalid(format!("{variable:?} cannot name a variable")));
            }
            SecretTarget::Variable(variable.to_owned())
        } else {
            let path = match target {
                Some(path) if path.starts_with('/') => path.to_owned(),
                Some(path) => format!("/run/secrets/{path}"),
                None => format!("/run/secrets/{name}"),
            };
            if path.split('/').any(|part| part == "..") || path.ends_with('/') {
                return Err(invalid(format!("{path:?} is no path of a file")));
            }
            SecretTarget::File {
                path,
                uid: uid.unwrap_or(0),
                gid: gid.unwrap_or(0),
                mode: mode.unwrap_or(0o444),
            }
        };
        Ok(Self { id: String::new(), name: name.to_owned(), target })
    }
}

/// # Errors
/// `Invalid` for a name that podman does not allow.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let mut letters = name.bytes();
    let first = letters.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = letters.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if first && rest && name.len() <= 253 {
        return Ok(());
    }
    Err(Error::invalid(format!("secret name {name:?} can not include '=', '/', ',', or the NULL character, begins with a letter or digit, and has at most 253"))
        .hint("a name is letters, digits, '_', '.' and '-'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, uid: u32, gid: u32, mode: u32) -> SecretTarget {
        SecretTarget::File { path: path.into(), uid, gid, mode }
    }

    #[test]
    fn uses_are_read() {
        for (text, name, target) in [
            ("db", "db", file("/run/secrets/db", 0, 0, 0o444)),
            ("source=db,target=pw,mode=0400,uid=5,gid=6", "db", file("/run/secrets/pw", 5, 6, 0o400)),
            ("db,target=/etc/pw", "db", file("/etc/pw", 0, 0, 0o444)),
            ("db,type=env", "db", SecretTarget::Variable("db".into())),
            ("db,type=env,target=PW", "db", SecretTarget::Variable("PW".into())),
        ] {
            let parsed = SecretUse::parse(text).expect(text);
            assert_eq!((parsed.name.as_str(), parsed.target), (name, target), "{text}");
        }
        for bad in [
            "",
            "target=x",
            "db,mode=9",
            "db,mode=77777",
            "db,type=tape",
            "db,uid=x",
            "db,x",
            "db,target=../x",
            "db,type=env,mode=1",
        ] {
            assert!(SecretUse::parse(bad).is_err(), "{bad}");
        }
        assert!(check_name("a_b.c-1").is_ok());
        for bad in ["", "-a", "a/b", "a=b", "a b", &"x".repeat(254)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
