//! `docker-credential-NAME` programs: get, store, erase.
//!
//! Source: docker-credential-helpers, "Development". The user's configuration
//! names the helper; it is looked for on the PATH and gets the user's environment.

use super::credentials::{Credentials, Secret};
use crate::error::{Context, Error, Result};
use serde_json::json;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

/// Bytes of a helper's answer.
const ANSWER_MAX: u64 = 64 << 10;
/// The user of an identity token.
const TOKEN_USER: &str = "<token>";

/// What the helper has for `server`; `None` where it knows nothing.
pub(super) fn get(helper: &str, server: &str) -> Result<Option<Credentials>> {
    let Some(answer) = ask(helper, "get", server)? else { return Ok(None) };
    let answer: serde_json::Value =
        serde_json::from_slice(&answer).context(|| format!("read what docker-credential-{helper} says"))?;
    let field =
        |name: &str| answer.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    let (user, secret) = (field("Username"), field("Secret"));
    Ok(match (user.as_str(), secret.is_empty()) {
        (_, true) => None,
        (TOKEN_USER, _) => Some(Credentials { user: String::new(), secret: Secret::IdentityToken(secret) }),
        _ => Some(Credentials { user, secret: Secret::Password(secret) }),
    })
}

pub(super) fn store(helper: &str, server: &str, credentials: &Credentials) -> Result<()> {
    let (user, secret) = match &credentials.secret {
        Secret::Password(password) => (credentials.user.as_str(), password),
        Secret::IdentityToken(token) => (TOKEN_USER, token),
    };
    let order = json!({ "ServerURL": server, "Username": user, "Secret": secret }).to_string();
    match ask(helper, "store", &order)? {
        Some(_) => Ok(()),
        None => Err(Error::failed(format!("docker-credential-{helper} did not store the credentials"))),
    }
}

/// Whether there was anything to erase.
pub(super) fn erase(helper: &str, server: &str) -> Result<bool> {
    ask(helper, "erase", server).map(|answer| answer.is_some())
}

/// `None` where the helper says that it knows no such server.
fn ask(helper: &str, verb: &str, input: &str) -> Result<Option<Vec<u8>>> {
    // It becomes part of a program's name.
    if !helper.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        return Err(Error::invalid(format!("{helper:?} is no credential helper's name")));
    }
    let program = format!("docker-credential-{helper}");
    let mut child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context(|| format!("run {program}"))
        .map_err(|error| error.hint("install it, or take credsStore and credHelpers out of the auth file"))?;
    let answer = speak(&mut child, input);
    let status = child.wait().context(|| format!("wait for {program}"))?;
    let answer = answer.context(|| format!("speak with {program}"))?;
    if status.success() {
        return Ok(Some(answer));
    }
    let said: String =
        String::from_utf8_lossy(&answer).trim().chars().filter(|c| !c.is_control()).take(200).collect();
    if verb != "store" && (said.contains("not found") || said.is_empty()) {
        return Ok(None);
    }
    Err(Error::failed(format!("{program} {verb}: {said}")))
}

fn speak(child: &mut Child, input: &str) -> std::io::Result<Vec<u8>> {
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input.as_bytes()) {
            // It ended without reading: its answer says why.
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    let mut answer = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(ANSWER_MAX).read_to_end(&mut answer)?;
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_is_a_name_and_not_a_path() {
        for bad in ["../x", "a b", "a;b", "/bin/sh"] {
            let error = get(bad, "quay.io").expect_err("refused");
            assert!(error.to_string().contains("helper"), "{error}");
        }
        assert!(get("no-such-helper-here", "quay.io").is_err());
    }
}
