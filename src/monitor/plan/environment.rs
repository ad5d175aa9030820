//! The environment of the first process.

use super::Context as PlanContext;
use super::secrets;
use crate::error::Result;
use crate::types::env::key_of;
use crate::types::exec::ExecRequest;

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The image's and the user's variables (later ones win), with what every
/// container has: `PATH`, `HOSTNAME`, `HOME`, `container`, and `TERM` on a terminal.
pub(super) fn environment(
    context: &PlanContext<'_>,
    hostname: Option<&str>,
    home: Option<&str>,
) -> Result<Vec<String>> {
    let config = &context.record.config;
    let mut env = base(hostname, config.tty);
    env.push(format!("HOME={}", home.unwrap_or("/")));
    if config.runs_systemd() {
        env.push(format!("container_uuid={}", uuid(context.record.id.as_str())));
    }
    Ok(merge(merge(env, &config.env), &secrets::environment(context)?))
}

/// The same for a further command. It finds its `HOME` in the container itself,
/// where none is given here.
pub(super) fn of_exec(
    context: &PlanContext<'_>,
    hostname: Option<&str>,
    request: &ExecRequest,
) -> Result<Vec<String>> {
    let env = merge(base(hostname, request.tty), &context.record.config.env);
    let env = merge(env, &secrets::environment(context)?);
    let mut env = merge(env, &request.env);
    env.retain(|entry| !request.unset_env.iter().any(|unset| unset == key_of(entry)));
    Ok(env)
}

/// The first half of an id, as systemd takes its machine id from it.
fn uuid(id: &str) -> String {
    [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &id[part]).join("-")
}

fn base(hostname: Option<&str>, tty: bool) -> Vec<String> {
    let mut env: Vec<String> = vec![DEFAULT_PATH.into()];
    if tty {
        env.push("TERM=xterm".into());
    }
    env.push("container=coracle".into());
    if let Some(hostname) = hostname {
        env.push(format!("HOSTNAME={hostname}"));
    }
    env
}

/// `base` with `more` over it: a variable keeps its place and takes the new value.
fn merge(mut base: Vec<String>, more: &[String]) -> Vec<String> {
    for entry in more {
        let Some((key, _)) = entry.split_once('=') else { continue };
        if key.is_empty() {
            continue;
        }
        let same = |old: &String| old.split_once('=').is_some_and(|(name, _)| name == key);
        match base.iter().position(same) {
            Some(at) => base[at].clone_from(entry),
            None => base.push(entry.clone()),
        }
    }
    base
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_of_the_first_digits() {
        let id = "0123456789abcdef0123456789abcdef".repeat(2);
        assert_eq!(uuid(&id), "01234567-89ab-cdef-0123-456789abcdef");
    }

    /// CVE-2026-57231: an entry without `=` never means the host's variable.
    #[test]
    fn entries_without_a_value_are_dropped() {
        let more = ["A=1", "PATH", "*", "=x", "", "A=2", "B="].map(str::to_owned);
        assert_eq!(merge(vec!["A=0".into()], &more), ["A=2", "B="]);
    }
}
