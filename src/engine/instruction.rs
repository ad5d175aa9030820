//! Instructions of a Dockerfile that change an image's config, as `--change`
//! of `import` and `commit` take them.

use crate::error::{Error, Result};
use crate::image::config::{Execution, Healthcheck};
use crate::types::{port, signal};

/// Applies the instructions in their order. As in a Dockerfile, an entry point
/// without a command of its own takes the old command away.
///
/// # Errors
/// `Invalid` for other instructions and for arguments that do not fit.
pub(crate) fn apply_changes(run: &mut Execution, changes: &[String]) -> Result<()> {
    let is = |change: &String, name: &str| {
        change.trim_start().get(..name.len()).is_some_and(|word| word.eq_ignore_ascii_case(name))
    };
    let keeps_command = changes.iter().any(|change| is(change, "CMD"));
    for change in changes {
        if is(change, "ENTRYPOINT") && !keeps_command {
            run.cmd = None;
        }
        apply_change(run, change)?;
    }
    Ok(())
}

/// Applies one instruction.
///
/// # Errors
/// `Invalid` for other instructions and for arguments that do not fit.
fn apply_change(run: &mut Execution, change: &str) -> Result<()> {
    let invalid = |why: &str| {
        Error::invalid(format!("invalid change {change:?}: {why}")).hint(
            "changes are CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR",
        )
    };
    if change.contains('\0') {
        return Err(invalid("it has a NUL byte"));
    }
    // Docker takes `CMD=x` for `CMD x`.
    let (instruction, rest) =
        change.trim().split_once([' ', '\t', '=']).ok_or_else(|| invalid("there is no argument"))?;
    let rest = rest.trim();
    if rest.is_empty() {
        return Err(invalid("there is no argument"));
    }
    let words = || words(rest).ok_or_else(|| invalid("a quote is open"));
    match instruction.to_ascii_uppercase().as_str() {
        "CMD" => run.cmd = Some(command(run, rest)),
        "ENTRYPOINT" => run.entrypoint = Some(command(run, rest)),
        "USER" => rest.clone_into(&mut run.user),
        "WORKDIR" => {
            let base = if rest.starts_with('/') { "" } else { run.working_dir.trim_end_matches('/') };
            run.working_dir = if rest.starts_with('/') { rest.to_owned() } else { format!("{base}/{rest}") };
        }
        "STOPSIGNAL" => {
            signal::parse(rest)?;
            run.stop_signal = Some(rest.to_owned());
        }
        "ENV" => {
            for (key, value) in pairs(rest, words()?).ok_or_else(|| invalid("it is not KEY=VALUE"))? {
                run.env.retain(|entry| entry.split_once('=').is_none_or(|(old, _)| old != key));
                run.env.push(format!("{key}={value}"));
            }
        }
        "LABEL" => run.labels.extend(pairs(rest, words()?).ok_or_else(|| invalid("it is not KEY=VALUE"))?),
        "EXPOSE" => {
            for word in words()? {
                let ports =
                    port::each_exposed(&word).ok_or_else(|| invalid("a port is NUMBER[/tcp|udp|sctp]"))?;
                port::add_exposed(&mut run.exposed_ports, ports);
            }
        }
        "VOLUME" => {
            let volumes = serde_json::from_str::<Vec<String>>(rest).ok().map_or_else(words, Ok)?;
            for volume in volumes {
                insert(&mut run.volumes, volume);
            }
        }
        "HEALTHCHECK" => run.healthcheck = Some(healthcheck(run, rest).map_err(|why| invalid(&why))?),
        "ONBUILD" => run.on_build.push(rest.to_owned()),
        _ => return Err(invalid("the instruction is not known")),
    }
    Ok(())
}

fn insert(set: &mut Vec<String>, word: String) {
    if !set.contains(&word) {
        set.push(word);
    }
}

/// A JSON list is the words; anything else is a line for the shell.
fn command(run: &Execution, text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|_| {
        let shell = run.shell.clone().unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
        shell.into_iter().chain([text.to_owned()]).collect()
    })
}

/// `NONE`, or `[--interval=D] [--timeout=D] [--start-period=D]
/// [--start-interval=D] [--retries=N] CMD command`.
fn healthcheck(run: &Execution, text: &str) -> std::result::Result<Healthcheck, String> {
    let mut check = run.healthcheck.clone().unwrap_or_default();
    let mut rest = text;
    while rest.starts_with("--") {
        let (option, after) =
            rest.split_once([' ', '\t']).ok_or_else(|| "there is no CMD or NONE".to_owned())?;
        rest = after.trim_start();
        let (name, value) =
            option.split_once('=').ok_or_else(|| format!("{option} is not --OPTION=VALUE"))?;
        let time = || nanoseconds(value).ok_or_else(|| format!("{value:?} of {name} is not a time like 30s"));
        match name {
            "--interval" => check.interval = time()?,
            "--timeout" => check.timeout = time()?,
            "--start-period" => check.start_period = time()?,
            "--start-interval" => check.start_interval = time()?,
            "--retries" => {
                let number = value.parse::<u32>().ok().filter(|number| *number > 0);
                check.retries = number.ok_or_else(|| "--retries is not a number above 0".to_owned())?.into();
            }
            _ => return Err(format!("unknown option {name}")),
        }
    }
    let (kind, command) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
    let command = command.trim();
    match kind.to_ascii_uppercase().as_str() {
        "NONE" if command.is_empty() && rest == text => {
            return Ok(Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() });
        }
        "CMD" if !command.is_empty() => {}
        _ => return Err("it is NONE, or [OPTIONS] CMD command".into()),
    }
    check.test = match serde_json::from_str::<Vec<String>>(command) {
        Ok(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
        Err(_) => vec!["CMD-SHELL".into(), command.to_owned()],
    };
    Ok(check)
}

/// Go's durations, in whole units: `1m30s`, `500ms`.
fn nanoseconds(text: &str) -> Option<i64> {
    let mut total: i64 = 0;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let scale = match &rest[..unit] {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        rest = &rest[unit..];
        total = total.checked_add(number.checked_mul(scale)?)?;
    }
    Some(total)
}

/// `K=V K="v w"`, or the old form `KEY the rest`.
fn pairs(rest: &str, words: Vec<String>) -> Option<Vec<(String, String)>> {
    if !words.first()?.contains('=') {
        let (key, value) = rest.split_once([' ', '\t'])?;
        return Some(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: String| {
        let (key, value) = word.split_once('=')?;
        (!key.is_empty()).then(|| (key.to_owned(), value.to_owned()))
    };
    words.into_iter().map(pair).collect()
}

/// Words with quotes and backslashes as in a Dockerfile; nothing is expanded.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().push(chars.next()?),
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(changes: &[&str]) -> Result<Execution> {
        let mut run = Execution::default();
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        apply_changes(&mut run, &changes).map(|()| run)
    }

    #[test]
    fn changes_are_instructions() {
        let run = applied(&[
            "CMD [\"a\", \"b c\"]",
            "entrypoint echo hi",
            "ENV A=1 B=\"2 3\" C=it\\'s",
            "ENV A 4 5",
            "USER 1000:1000",
            "WORKDIR /srv",
            "WORKDIR app",
            "LABEL x.y=z 'k'='v w'",
            "EXPOSE 80 53/udp 8000-8002",
            "VOLUME [\"/data\"]",
            "VOLUME /a /b",
            "STOPSIGNAL SIGINT",
        ])
        .expect("valid");
        assert_eq!(run.cmd.expect("cmd"), ["a", "b c"]);
        assert_eq!(run.entrypoint.expect("entrypoint"), ["/bin/sh", "-c", "echo hi"]);
        assert_eq!(run.env, ["B=2 3", "C=it's", "A=4 5"]);
        assert_eq!(run.working_dir, "/srv/app");
        assert_eq!(run.labels["k"], "v w");
        assert_eq!(run.exposed_ports, ["80/tcp", "53/udp", "8000/tcp", "8001/tcp", "8002/tcp"]);
        assert_eq!(run.volumes, ["/data", "/a", "/b"]);
    }

    #[test]
    fn an_entry_point_takes_the_old_command_away() {
        let mut run = Execution { cmd: Some(vec!["old".into()]), ..Execution::default() };
        apply_changes(&mut run, &["ENTRYPOINT [\"e\"]".into()]).expect("valid");
        assert_eq!((run.entrypoint, run.cmd), (Some(vec!["e".into()]), None));
        let run = applied(&["CMD c", "ENTRYPOINT e"]).expect("valid");
        assert_eq!(run.cmd.expect("kept").last().map(String::as_str), Some("c"));
    }

    #[test]
    fn health_checks_are_dockers() {
        let check = |text: &str| applied(&[text]).expect(text).healthcheck.expect("a check");
        let all = check(
            "HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=5s --start-interval=1s --retries=3 CMD [\"a\", \"b c\"]",
        );
        assert_eq!(all.test, ["CMD", "a", "b c"]);
        assert_eq!((all.interval, all.timeout, all.retries), (90_000_000_000, 500_000_000, 3));
        assert_eq!(check("healthcheck cmd curl x || exit 1").test, ["CMD-SHELL", "curl x || exit 1"]);
        assert_eq!(check("HEALTHCHECK NONE").test, ["NONE"]);
    }

    #[test]
    fn bad_changes_are_refused() {
        for bad in [
            "",
            "CMD",
            "CMD ",
            "RUN x",
            "ENV",
            "ENV =x",
            "ENV A",
            "ENV A=1 B",
            "ENV A=\"x",
            "EXPOSE 0",
            "EXPOSE x/tcp",
            "EXPOSE 80/icmp",
            "EXPOSE 9-1",
            "STOPSIGNAL SIGNOPE",
            "USER a\0b",
            "HEALTHCHECK",
            "HEALTHCHECK CMD",
            "HEALTHCHECK --interval=5 CMD x",
            "HEALTHCHECK --retries=0 CMD x",
            "HEALTHCHECK --wat=1 CMD x",
            "HEALTHCHECK NONE x",
            "HEALTHCHECK --interval=5s",
        ] {
            assert!(applied(&[bad]).is_err(), "{bad:?}");
        }
    }
}
