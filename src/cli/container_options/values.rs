//! Flags whose value is small and of its own kind.

use crate::error::{Error, Result};
use crate::types::boolean;
use crate::types::container::{LogConfig, LogDriver, PullPolicy};
use crate::types::log_tag;
use crate::types::port::each_exposed;
use crate::types::size::{parse_bytes, parse_decimal_bytes};
use crate::types::status::RestartPolicy;
use std::net::IpAddr;

/// `--restart no|on-failure[:TIMES]|always|unless-stopped`
pub(crate) fn parse_restart(text: &str) -> Result<RestartPolicy> {
    let (policy, times) = match text.split_once(':') {
        Some((policy, times)) => (policy, Some(times)),
        None => (text, None),
    };
    let parse_times = |times: &str| -> Result<u32> {
        let digits = !times.is_empty() && times.bytes().all(|byte| byte.is_ascii_digit());
        let number = if digits { times.parse().ok() } else { None };
        number.ok_or_else(|| Error::invalid(format!("--restart {text}: {times:?} is not a number of times")))
    };
    match (policy, times) {
        ("no" | "", None) => Ok(RestartPolicy::No),
        ("always", None) => Ok(RestartPolicy::Always),
        ("unless-stopped", None) => Ok(RestartPolicy::UnlessStopped),
        // 0 is docker's word for "without end".
        ("on-failure", times) => Ok(RestartPolicy::OnFailure {
            max_retries: times.map(parse_times).transpose()?.filter(|times| *times > 0),
        }),
        ("no" | "always" | "unless-stopped", Some(_)) => {
            Err(Error::invalid(format!("--restart {text}: only on-failure takes a number of times")))
        }
        _ => Err(one_of("--restart", text, "no, on-failure[:TIMES], always or unless-stopped")),
    }
}

/// `--pull always|missing|never|newer`
pub(crate) fn parse_pull(text: &str) -> Result<PullPolicy> {
    match text {
        "always" => Ok(PullPolicy::Always),
        "missing" | "ifmissing" => Ok(PullPolicy::Missing),
        "never" => Ok(PullPolicy::Never),
        "newer" | "ifnewer" => Ok(PullPolicy::Newer),
        _ => Err(one_of("--pull", text, "always, missing, never or newer")),
    }
}

/// `--log-driver` and all `--log-opt`s.
pub(super) fn parse_log(driver: Option<&str>, options: &[String]) -> Result<LogConfig> {
    let driver = match driver {
        None | Some("json-file" | "") => LogDriver::JsonFile,
        Some("k8s-file") => LogDriver::K8sFile,
        Some("local") => LogDriver::Local,
        Some("none") => LogDriver::None,
        Some("passthrough") => LogDriver::Passthrough,
        Some(other) => {
            return Err(one_of("--log-driver", other, "json-file, k8s-file, local, none or passthrough"));
        }
    };
    let mut log = LogConfig { driver, ..LogConfig::default() };
    for option in options {
        let invalid = |why: &str| Error::invalid(format!("--log-opt {option}: {why}"));
        let (key, value) = option.split_once('=').ok_or_else(|| invalid("no value"))?;
        // As written, for those who ask.
        let mut kept = value.to_owned();
        match key {
            _ if matches!(driver, LogDriver::None | LogDriver::Passthrough) => {
                return Err(invalid("this log driver keeps no log"));
            }
            "max-size" if value == "-1" => log.max_size = Some(u64::MAX),
            "max-size" => {
                let size = parse_decimal_bytes(value).map_err(|error| error.context("--log-opt max-size"))?;
                log.max_size = Some(if size > 0 { size } else { return Err(invalid("the size is 0")) });
            }
            "max-file" => {
                let files = value.parse().ok().filter(|files| (1..=1000).contains(files));
                log.max_file = Some(files.ok_or_else(|| invalid("not a number from 1 to 1000"))?);
            }
            "tag" | "labels" | "env" if driver != LogDriver::JsonFile => {
                return Err(invalid("the lines of this log driver have no place for it")
                    .hint("with --log-driver json-file, `coracle logs --details` shows it"));
            }
            "tag" => log_tag::check(value)?,
            "labels" | "env" => {}
            "labels-regex" | "env-regex" => {
                return Err(invalid("labels and variables are not matched by patterns here")
                    .hint("name them: --log-opt labels=A,B, --log-opt env=A,B"));
            }
            "compress" => kept = boolean::parse("--log-opt compress", value)?.to_string(),
            "mode" if matches!(value, "blocking" | "non-blocking") => {}
            "mode" => return Err(invalid("it is blocking or non-blocking")),
            "max-buffer-size" => {
                parse_bytes(value).map_err(|error| error.context("--log-opt max-buffer-size"))?;
            }
            _ => {
                return Err(invalid("unknown option").hint(
                    "known are max-size, max-file, tag, labels, env, compress, mode and max-buffer-size",
                ));
            }
        }
        log.options.insert(key.to_owned(), kept);
    }
    if log.options.contains_key("max-buffer-size") && !is_given(&log, "mode", "non-blocking") {
        return Err(Error::invalid("--log-opt max-buffer-size is only supported with mode=non-blocking"));
    }
    Ok(log)
}

fn is_given(log: &LogConfig, key: &str, value: &str) -> bool {
    log.options.get(key).is_some_and(|given| given == value)
}

/// What docker's options ask for and is not done here, to be said.
pub(super) fn log_notes(log: &LogConfig) -> Vec<&'static str> {
    let mut notes = Vec::new();
    if is_given(log, "compress", "true") {
        notes.push("--log-opt compress: the files of a log are not compressed here");
    }
    if is_given(log, "mode", "non-blocking") {
        notes.push("--log-opt mode=non-blocking: output goes straight to a file here, and none is dropped");
    }
    notes
}

/// `--add-host NAME:IP`, docker's `NAME=IP` as well, podman's `NAME;NAME:IP`; IPv6
/// with or without brackets. Each name with its address.
pub(super) fn parse_add_host(text: &str) -> Result<Vec<(String, String)>> {
    let invalid = |why: &str| {
        Error::invalid(format!("invalid --add-host {text:?}: {why}")).hint("write it as NAME:ADDRESS")
    };
    let at = text.find(['=', ':']).ok_or_else(|| invalid("no address"))?;
    let (names, address) = (&text[..at], &text[at + 1..]);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if names.split(';').any(|name| name.is_empty() || !name.bytes().all(plain)) {
        return Err(invalid("no host name"));
    }
    let address = if address == "host-gateway" {
        address.to_owned()
    } else {
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        bare.parse::<IpAddr>().map_err(|_| invalid("not an IP address"))?.to_string()
    };
    Ok(names.split(';').map(|name| (name.to_owned(), address.clone())).collect())
}

/// `--dns IP`, or podman's `none`: the image's own resolv.conf stays.
pub(super) fn parse_dns(text: &str) -> Result<String> {
    if text == "none" {
        return Ok(text.to_owned());
    }
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Err(Error::invalid(format!("invalid --dns {text:?}: not an IP address"))),
    }
}

/// A word for resolv.conf: nothing that could start another line or word.
pub(super) fn parse_resolver_word(flag: &str, text: &str) -> Result<String> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if plain { Ok(text.to_owned()) } else { Err(Error::invalid(format!("invalid {flag} {text:?}"))) }
}

/// `--hostname`, `--domainname`: what sethostname(2) takes, and no blanks.
pub(super) fn parse_hostname(flag: &str, text: &str) -> Result<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if !text.is_empty() && text.len() <= 64 && text.bytes().all(plain) && !text.starts_with(['-', '.']) {
        Ok(text.to_owned())
    } else {
        Err(Error::invalid(format!("invalid {flag} {text:?}"))
            .hint("at most 64 letters, digits, '-' and '.', with a letter or digit first"))
    }
}

/// `--entrypoint`: a JSON array of words, or one word; empty for none.
pub(super) fn parse_entrypoint(text: &str) -> Result<Vec<String>> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    if text.starts_with('[') {
        return serde_json::from_str(text).map_err(|_| {
            Error::invalid(format!("invalid --entrypoint {text:?}: not a JSON array of strings"))
        });
    }
    Ok(vec![text.to_owned()])
}

/// `--attach stdin|stdout|stderr`
pub(super) fn parse_stream(text: &str) -> Result<String> {
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "stdin" | "stdout" | "stderr" => Ok(lower),
        _ => Err(one_of("--attach", text, "stdin, stdout or stderr")),
    }
}

/// `--umask`, in octal.
pub(super) fn parse_umask(text: &str) -> Result<u32> {
    let octal = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let mask = if octal { u32::from_str_radix(text, 8).ok() } else { None };
    mask.filter(|mask| *mask <= 0o777).ok_or_else(|| {
        Error::invalid(format!("invalid --umask {text:?}")).hint("write it in octal, for example 022")
    })
}

/// `--tz`: the name of a file below /usr/share/zoneinfo, or `local`.
pub(super) fn parse_tz(text: &str) -> Result<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'_' | b'/');
    if !text.is_empty() && text.len() <= 100 && text.bytes().all(plain) && !text.starts_with('/') {
        Ok(text.to_owned())
    } else {
        Err(Error::invalid(format!("invalid --tz {text:?}"))
            .hint("a zone is named like Europe/Vienna, or local"))
    }
}

/// A whole number of a flag, within bounds.
pub(super) fn parse_number(flag: &str, text: &str, bounds: std::ops::RangeInclusive<i64>) -> Result<i64> {
    text.parse().ok().filter(|number| bounds.contains(number)).ok_or_else(|| {
        let error = Error::invalid(format!("invalid {flag} {text:?}"));
        if *bounds.end() == i64::MAX {
            error.hint(format!("a whole number, {} or more", bounds.start()))
        } else {
            error.hint(format!("a whole number from {} to {}", bounds.start(), bounds.end()))
        }
    })
}

/// `--expose PORT[-PORT][/PROTOCOL]`: each port, with its protocol.
pub(super) fn parse_expose(text: &str) -> Result<Vec<String>> {
    each_exposed(text).ok_or_else(|| {
        Error::invalid(format!("invalid --expose {text:?}")).hint("for example 80, 53/udp or 8000-8010")
    })
}

/// `--volumes-from CONTAINER[:ro|rw]`
pub(super) fn parse_volumes_from(text: &str) -> Result<String> {
    let (name, options) = text.split_once(':').unwrap_or((text, ""));
    let known = options.split(',').all(|word| matches!(word, "" | "ro" | "rw" | "z" | "Z"));
    if name.is_empty() || !known {
        return Err(
            Error::invalid(format!("invalid --volumes-from {text:?}")).hint("write it as CONTAINER[:ro]")
        );
    }
    let access = if options.split(',').any(|word| word == "ro") { "ro" } else { "rw" };
    Ok(format!("{name}:{access}"))
}

/// `KEY=VALUE` of `--sysctl` and `--annotation`.
pub(super) fn parse_pair(flag: &str, text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err(Error::invalid(format!("invalid {flag} {text:?}")).hint("write it as KEY=VALUE")),
    }
}

fn one_of(flag: &str, text: &str, choices: &str) -> Error {
    Error::invalid(format!("invalid {flag} {text:?}")).hint(format!("it is one of {choices}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_policies() {
        assert_eq!(parse_restart("no").expect("valid"), RestartPolicy::No);
        assert_eq!(
            parse_restart("on-failure").expect("valid"),
            RestartPolicy::OnFailure { max_retries: None }
        );
        assert_eq!(
            parse_restart("on-failure:0").expect("valid"),
            RestartPolicy::OnFailure { max_retries: None }
        );
        assert_eq!(
            parse_restart("on-failure:3").expect("valid"),
            RestartPolicy::OnFailure { max_retries: Some(3) }
        );
        assert_eq!(parse_restart("unless-stopped").expect("valid"), RestartPolicy::UnlessStopped);
        for bad in
            ["wat", "always:3", "no:1", "on-failure:", "on-failure:-1", "on-failure:+1", "on-failure:x", ":1"]
        {
            assert!(parse_restart(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn logs() {
        let options = ["max-size=10m", "max-file=3"].map(String::from);
        let log = parse_log(Some("k8s-file"), &options).expect("valid");
        assert_eq!((log.driver, log.max_size, log.max_file), (LogDriver::K8sFile, Some(10_000_000), Some(3)));
        assert_eq!(log.options["max-size"], "10m");
        let options = [
            "tag={{.Name}}",
            "labels=a,b",
            "env=C",
            "compress=true",
            "mode=non-blocking",
            "max-buffer-size=4m",
        ];
        let json = parse_log(None, &options.map(String::from)).expect("valid");
        assert_eq!((json.options["tag"].as_str(), json.options["labels"].as_str()), ("{{.Name}}", "a,b"));
        assert_eq!(log_notes(&json).len(), 2);
        assert_eq!(parse_log(Some("local"), &[]).expect("docker's").driver, LogDriver::Local);
        assert_eq!(parse_log(None, &["max-size=-1".into()]).expect("valid").max_size, Some(u64::MAX));
        assert!(log_notes(&parse_log(None, &["mode=blocking".into()]).expect("valid")).is_empty());
        for bad in [
            "",
            "env-regex=^A",
            "max-buffer-size=1m",
            "max-size",
            "max-size=0",
            "max-size=x",
            "max-file=0",
            "max-file=x",
            "path=/x",
            "mode=x",
            "compress=x",
            "tag={{.Nope}}",
        ] {
            assert!(parse_log(None, &[bad.into()]).is_err(), "{bad:?}");
        }
        for driver in ["none", "k8s-file", "local"] {
            assert!(parse_log(Some(driver), &["tag=x".into()]).is_err(), "{driver}");
        }
        assert!(parse_log(Some("journald"), &[]).expect_err("unknown").hints()[0].contains("json-file"));
    }

    #[test]
    fn hosts_and_resolvers() {
        let line = |(name, address): (String, String)| format!("{name} {address}");
        let host =
            |text| parse_add_host(text).map(|all| all.into_iter().map(line).collect::<Vec<_>>().join(", "));
        assert_eq!(host("a;b.c:1.2.3.4").expect("podman's"), "a 1.2.3.4, b.c 1.2.3.4");
        assert_eq!(host("a:1.2.3.4").expect("valid"), "a 1.2.3.4");
        assert_eq!(host("a=1.2.3.4").expect("valid"), "a 1.2.3.4");
        assert_eq!(host("a.b:::1").expect("valid"), "a.b ::1");
        assert_eq!(host("a:[::1]").expect("valid"), "a ::1");
        assert_eq!(host("a:host-gateway").expect("valid"), "a host-gateway");
        for bad in
            ["", "a", "a:", ":1.2.3.4", "a:1.2.3", "a b:1.2.3.4", "a;:1.2.3.4", "a\nb:1.2.3.4", "a:host"]
        {
            assert!(parse_add_host(bad).is_err(), "{bad:?}");
        }
        assert!(parse_dns("1.1.1.1").is_ok() && parse_dns("none").is_ok() && parse_dns("::1").is_ok());
        assert!(parse_dns("dns.example").is_err() && parse_dns("1.1.1.1\nnameserver 6.6.6.6").is_err());
        assert!(parse_resolver_word("--dns-option", "ndots:1").is_ok());
        assert!(parse_resolver_word("--dns-search", "a b").is_err());
        assert!(parse_hostname("--hostname", "web-1.example").is_ok());
        for bad in ["", "-x", "a b", "a\n", &"x".repeat(65)] {
            assert!(parse_hostname("--hostname", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn entrypoints_are_one_word_or_a_json_array() {
        assert!(parse_entrypoint("").expect("valid").is_empty());
        assert_eq!(parse_entrypoint("/bin/sh -c").expect("valid"), ["/bin/sh -c"]);
        assert_eq!(parse_entrypoint(r#"["a","b c"]"#).expect("valid"), ["a", "b c"]);
        assert!(parse_entrypoint("[a]").is_err() && parse_entrypoint("[1]").is_err());
    }

    #[test]
    fn numbers_and_words() {
        assert_eq!(parse_umask("0027").expect("valid"), 0o27);
        assert!(["", "8", "1777", "-1", "0o22"].iter().all(|bad| parse_umask(bad).is_err()));
        assert_eq!(parse_number("--stop-timeout", "-1", -1..=i64::MAX).expect("valid"), -1);
        assert!(parse_number("--timeout", "-1", 0..=i64::MAX).is_err());
        assert!(parse_number("--timeout", "", 0..=i64::MAX).is_err());
        assert_eq!(parse_expose("8000-8001/UDP").expect("valid"), ["8000/udp", "8001/udp"]);
        assert!(parse_expose("80/x").is_err());
        assert_eq!(parse_volumes_from("a").expect("valid"), "a:rw");
        assert_eq!(parse_volumes_from("a:ro,z").expect("valid"), "a:ro");
        assert!(["", ":ro", "a:x"].iter().all(|bad| parse_volumes_from(bad).is_err()));
        assert_eq!(parse_stream("STDIN").expect("valid"), "stdin");
        assert!(parse_stream("x").is_err());
        assert!(parse_tz("Europe/Vienna").is_ok() && parse_tz("local").is_ok());
        assert!(["", "/etc/passwd", "../x", "a b"].iter().all(|bad| parse_tz(bad).is_err()));
        assert_eq!(parse_pull("newer").expect("valid"), PullPolicy::Newer);
        assert!(parse_pull("sometimes").is_err());
        assert!(parse_pair("--sysctl", "a=b=c").is_ok() && parse_pair("--sysctl", "a").is_err());
    }
}
