//! The grammar of `-p`, docker's: `[[IP:][HOST]:]CONTAINER[/PROTOCOL]`, each
//! port a number or a range, or `published=…,target=…,protocol=…`.

use super::{HostPort, Port, Protocol, Publish, Unpublish};
use crate::error::{Error, Result};
use std::net::IpAddr;

type Range = (u16, u16);

impl Protocol {
    fn parse(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Err(Error::invalid("sctp ports cannot be published").hint("tcp and udp can")),
            _ => Err(Error::invalid(format!("invalid proto: {text}")).hint("it is tcp or udp")),
        }
    }
}

impl Publish {
    /// A value of `-p`; a range gives one for each port of the container's.
    ///
    /// # Errors
    /// `Invalid`, in docker's words.
    pub(crate) fn parse(text: &str) -> Result<Vec<Self>> {
        let long = if text.contains('=') { Some(standard_notation(text)?) } else { None };
        parse(long.as_deref().unwrap_or(text)).map_err(|error| error.context(format!("-p {text}")))
    }
}

fn parse(text: &str) -> Result<Vec<Publish>> {
    let (ports, protocol) = split_protocol(text)?;
    let (address, host, container) = split(ports);
    if container.is_empty() {
        return Err(Error::invalid(format!("no port specified: {text}<empty>")));
    }
    let (first, last) =
        range(container).ok_or_else(|| Error::invalid(format!("invalid containerPort: {container}")))?;
    let hosts = match host {
        // Docker: 0 is any, as with bind(2).
        "" | "0" => None,
        host => Some(range(host).ok_or_else(|| Error::invalid(format!("invalid hostPort: {host}")))?),
    };
    let address = parse_address(address)?;
    let make = |host: HostPort, number: u16| Publish {
        address,
        host,
        port: Port { number, protocol },
        by_exposure: false,
    };
    match hosts {
        None => Ok((first..=last).map(|number| make(HostPort::Any, number)).collect()),
        Some((low, high)) if high - low == last - first => Ok((low..=high)
            .zip(first..=last)
            .map(|(host, number)| make(HostPort::Fixed(host), number))
            .collect()),
        Some((low, high)) if first == last => Ok(vec![make(HostPort::OneOf(low, high), first)]),
        Some(_) => Err(Error::invalid(format!(
            "invalid ranges specified for container and host Ports: {container} and {host}"
        ))),
    }
}

impl Unpublish {
    /// `[IP:]HOST[:CONTAINER][/PROTOCOL]`.
    ///
    /// # Errors
    /// `Invalid` where it is not that.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let invalid = || {
            Error::invalid(format!("invalid port {text:?}"))
                .hint("write it as HOST[:CONTAINER][/PROTOCOL], for example 8080:80/tcp")
        };
        let (ports, protocol) = split_protocol(text).map_err(|_| invalid())?;
        let (address, host, port) = match split(ports) {
            // `127.0.0.1:8080`: an address and the host's port, not two ports.
            ("", address, host) if address.parse::<IpAddr>().is_ok() => (address, host, ""),
            ("", "", host) => ("", host, ""),
            all => all,
        };
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(invalid);
        Ok(Self {
            address: parse_address(address).map_err(|_| invalid())?,
            host: number(host)?,
            port: if port.is_empty() { None } else { Some(number(port)?) },
            protocol,
        })
    }
}

impl Port {
    /// `80`, `53/udp`.
    ///
    /// # Errors
    /// `Usage` where it is no port.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let invalid = || {
            Error::usage(format!("invalid port {text:?}"))
                .hint("write PORT or PORT/PROTOCOL, for example 53/udp")
        };
        let number = number.parse().ok().filter(|number| *number > 0).ok_or_else(invalid)?;
        Ok(Self { number, protocol: Protocol::parse(protocol).map_err(|_| invalid())? })
    }
}

/// Docker's long form, for which it has this error.
fn standard_notation(text: &str) -> Result<String> {
    let wrong = || {
        Error::invalid(format!("invalid publish opts format (should be name=value but got '{text}')"))
            .hint("for example published=8080,target=80,protocol=tcp")
    };
    let (mut published, mut target, mut protocol) = ("", "", "tcp");
    for pair in text.split(',') {
        let (key, value) = pair.split_once('=').ok_or_else(wrong)?;
        match key.trim() {
            "published" => published = value,
            "target" => target = value,
            "protocol" => protocol = value,
            // Of swarm's, whose other value makes no sense for one host.
            "mode" if matches!(value, "host" | "ingress") => {}
            _ => return Err(wrong()),
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

fn split_protocol(text: &str) -> Result<(&str, Protocol)> {
    match text.rsplit_once('/') {
        Some((ports, protocol)) => Ok((ports, Protocol::parse(protocol)?)),
        None => Ok((text, Protocol::Tcp)),
    }
}

/// Address, port of the host, port of the container; from the right, since an
/// IPv6 address has colons too.
fn split(text: &str) -> (&str, &str, &str) {
    let Some((rest, container)) = text.rsplit_once(':') else { return ("", "", text) };
    if rest.ends_with(']') {
        return (rest, "", container);
    }
    match rest.rsplit_once(':') {
        Some((address, host)) => (address, host, container),
        None => ("", rest, container),
    }
}

fn parse_address(text: &str) -> Result<Option<IpAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().map(Some).map_err(|_| Error::invalid(format!("invalid IP address: {text}")))
}

fn range(text: &str) -> Option<Range> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten().filter(|port| *port > 0)
    };
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

/// The ports of a word of `EXPOSE`, as `--expose` and images have it.
pub(super) fn exposed(word: &str) -> Vec<Port> {
    let Ok((ports, protocol)) = split_protocol(word) else { return Vec::new() };
    let Some((first, last)) = range(ports) else { return Vec::new() };
    (first..=last).map(|number| Port { number, protocol }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        Publish::parse(text).expect("valid").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn docker_s_forms_are_taken() {
        for (text, wanted) in [
            ("80", &["80/tcp"][..]),
            ("80/udp", &["80/udp"]),
            ("8080:80", &["8080:80/tcp"]),
            ("8080:80/TCP", &["8080:80/tcp"]),
            (":80", &["80/tcp"]),
            ("0:80", &["80/tcp"]),
            ("127.0.0.1:0:80-81", &["127.0.0.1::80/tcp", "127.0.0.1::81/tcp"]),
            ("127.0.0.1:8080:80", &["127.0.0.1:8080:80/tcp"]),
            ("127.0.0.1::80", &["127.0.0.1::80/tcp"]),
            ("[::1]:8080:80", &["[::1]:8080:80/tcp"]),
            ("[::1]::80", &["[::1]::80/tcp"]),
            ("::1:8080:80", &["[::1]:8080:80/tcp"]),
            ("80-82", &["80/tcp", "81/tcp", "82/tcp"]),
            ("8000-8001:80-81/udp", &["8000:80/udp", "8001:81/udp"]),
            ("8000-8010:80", &["8000-8010:80/tcp"]),
            ("published=8080,target=80", &["8080:80/tcp"]),
            ("target=53,protocol=udp", &["53/udp"]),
        ] {
            assert_eq!(shown(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_no_port_is_refused_in_docker_s_words() {
        for (text, message) in [
            ("", "no port specified"),
            ("8080:", "no port specified"),
            ("x", "invalid containerPort: x"),
            ("0", "invalid containerPort: 0"),
            ("65536", "invalid containerPort: 65536"),
            ("+80", "invalid containerPort: +80"),
            ("90-80", "invalid containerPort: 90-80"),
            ("x:80", "invalid hostPort: x"),
            ("0-1:80", "invalid hostPort: 0-1"),
            ("1.2.3:80:80", "invalid IP address: 1.2.3"),
            ("host:80:80", "invalid IP address: host"),
            ("80-81:80-82", "invalid ranges specified for container and host Ports: 80-82 and 80-81"),
            ("80:80/icmp", "invalid proto: icmp"),
            ("80/", "invalid proto: "),
            ("80:80/sctp", "sctp"),
            ("target=80,x=1", "invalid publish opts format"),
            ("a=", "invalid publish opts format"),
        ] {
            let error = Publish::parse(text).expect_err(text);
            assert!(error.to_string().contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn a_whole_range_of_ports_is_no_overflow() {
        assert_eq!(Publish::parse("1-65535:1-65535").expect("valid").len(), 65535);
        assert_eq!(exposed("65535/tcp").len(), 1);
        assert!(exposed("80/sctp").is_empty() && exposed("x").is_empty());
    }

    #[test]
    fn what_is_removed_is_named_by_the_host_s_port() {
        let parse = |text: &str| Unpublish::parse(text).expect(text);
        let base = Unpublish { address: None, host: 8080, port: None, protocol: Protocol::Tcp };
        assert_eq!(parse("8080"), base);
        assert_eq!(parse("8080:80/udp"), Unpublish { port: Some(80), protocol: Protocol::Udp, ..base });
        let local = "127.0.0.1".parse().ok();
        assert_eq!(parse("127.0.0.1:8080"), Unpublish { address: local, ..base });
        assert_eq!(parse("127.0.0.1:8080:80"), Unpublish { address: local, port: Some(80), ..base });
        assert_eq!(parse("[::1]:8080:80"), Unpublish { address: "::1".parse().ok(), port: Some(80), ..base });
        for bad in ["", "x", "0", "8080:x", "8080/x", "1-2"] {
            assert!(Unpublish::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_have_a_protocol() {
        assert_eq!(Port::parse("80").expect("valid").to_string(), "80/tcp");
        assert_eq!(Port::parse("53/UDP").expect("valid").to_string(), "53/udp");
        for bad in ["", "0", "x", "80/", "80/ip", "65536", "-1", "80-90"] {
            assert!(Port::parse(bad).is_err(), "{bad:?}");
        }
    }
}
