//! `coracle port`. Publishing comes with bridges: until then no container has
//! a published port, and that is what this says.

use super::selection::Wanted;
use super::ui;
use crate::engine::Engine;
use crate::error::{Error, Result};
use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct PortArgs {
    /// Of all containers
    #[arg(long, short = 'a')]
    all: bool,
    /// Of the container that was made last
    #[arg(long, short = 'l')]
    latest: bool,
    /// Name or id, and a port of the container's
    #[arg(value_name = "CONTAINER [PRIVATE_PORT[/PROTO]]", num_args = 0..=2)]
    words: Vec<String>,
}

/// Lists the published ports of containers.
///
/// # Errors
/// `NotFound` where a port is asked for that is not published; `Invalid` where
/// it is none.
pub(crate) fn port(args: PortArgs) -> Result<u8> {
    let (names, port) = match args.words.as_slice() {
        _ if args.all && args.latest => {
            return Err(Error::usage("--all and --latest cannot be used together"));
        }
        [] => (&[][..], None),
        [first, ..] if args.all => {
            return Err(Error::usage(format!("--all takes no container and no port: {first}")));
        }
        [port] if args.latest => (&[][..], Some(port)),
        [name] => (std::slice::from_ref(name), None),
        [_, _, ..] if args.latest => return Err(Error::usage("--latest takes no container")),
        [name, port, ..] => (std::slice::from_ref(name), Some(port)),
    };
    let port = port.map(|text| parse(text)).transpose()?;
    let wanted = Wanted { names, all: args.all, latest: args.latest, ..Wanted::default() };
    let mut code = 0;
    for target in wanted.targets(&Engine::open()?, "port", &|_| true)? {
        let found = target.id.and_then(|_| match &port {
            None => Ok(()),
            Some((number, protocol)) => Err(no_public_port(*number, protocol, &target.word)),
        });
        if let Err(error) = found {
            ui::error(&error);
            code = 1;
        }
    }
    Ok(code)
}

fn no_public_port(number: u16, protocol: &str, container: &str) -> Error {
    Error::not_found(format!("no public port '{number}/{protocol}' published for {container}"))
}

/// `80`, `80/tcp`.
fn parse(text: &str) -> Result<(u16, String)> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let invalid = || {
        Error::usage(format!("invalid port {text:?}")).hint("write PORT or PORT/PROTOCOL, for example 53/udp")
    };
    let number: u16 = number.parse().map_err(|_| invalid())?;
    match protocol.to_ascii_lowercase().as_str() {
        known @ ("tcp" | "udp" | "sctp") if number > 0 => Ok((number, known.to_owned())),
        _ => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_a_protocol() {
        assert_eq!(parse("80").expect("valid"), (80, "tcp".to_owned()));
        assert_eq!(parse("53/UDP").expect("valid"), (53, "udp".to_owned()));
        for bad in ["", "0", "x", "80/", "80/ip", "65536", "-1", "80-90"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
