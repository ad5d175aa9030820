//! `coracle port`: what is published, and `port add`, `port rm`, which change it.

use super::selection::Wanted;
use super::ui;
use crate::engine::Engine;
use crate::engine::ports::PortChange;
use crate::error::{Error, Result};
use crate::types::port::{Binding, Port, Publish, Unpublish};
use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct PortArgs {
    /// Of all containers
    #[arg(long, short = 'a')]
    all: bool,
    /// Of the container that was made last
    #[arg(long, short = 'l')]
    latest: bool,
    /// A container and perhaps one of its ports; or add or rm, a container, and ports
    #[arg(value_name = "CONTAINER [PRIVATE_PORT[/PROTO]]", num_args = 0..)]
    words: Vec<String>,
}

/// Lists the published ports of containers, or changes them: says where those are
/// that were added.
///
/// # Errors
/// `NotFound` where a port is asked for that is not published; `Invalid` where
/// it is none.
pub(crate) fn port(args: PortArgs) -> Result<u8> {
    match args.words.as_slice() {
        [verb, name, ports @ ..] if matches!(verb.as_str(), "add" | "rm") && !ports.is_empty() => {
            if args.all || args.latest {
                return Err(Error::usage(format!("port {verb} takes the name of one container")));
            }
            return change(verb, name, ports);
        }
        [_, _, third, ..] => {
            return Err(Error::usage(format!("unexpected argument: {third}"))
                .hint("coracle port CONTAINER [PORT]; coracle port add|rm CONTAINER PORT..."));
        }
        _ => {}
    }
    list(&args)
}

fn list(args: &PortArgs) -> Result<u8> {
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
    let port = port.map(|text| Port::parse(text)).transpose()?;
    let engine = Engine::open()?;
    let wanted = Wanted { names, all: args.all, latest: args.latest, ..Wanted::default() };
    let mut code = 0;
    for target in wanted.targets(&engine, "port", &|_| true)? {
        let shown = target.id.and_then(|id| {
            // Of all, the ports of a pod are those of one.
            let bindings =
                if args.all { engine.snapshot(&id)?.ports } else { engine.ports_that_reach(&id)? };
            let lines = match port {
                None => lines(&bindings),
                Some(port) => lines_of(&bindings, port, &target.word)?,
            };
            // Podman's form for several containers.
            let prefix = if args.all { format!("{} ", id.short()) } else { String::new() };
            lines.iter().try_for_each(|line| ui::line(&format!("{prefix}{line}")))
        });
        if let Err(error) = shown {
            ui::error(&error);
            code = 1;
        }
    }
    Ok(code)
}

/// `80/tcp -> 0.0.0.0:8080`
fn lines(bindings: &[Binding]) -> Vec<String> {
    let mut sorted = bindings.to_vec();
    sorted.sort_unstable();
    sorted.iter().map(|binding| format!("{} -> {}", binding.port, binding.address)).collect()
}

/// `0.0.0.0:8080`
fn lines_of(bindings: &[Binding], port: Port, container: &str) -> Result<Vec<String>> {
    let mut found: Vec<_> = bindings.iter().filter(|b| b.port == port).map(|b| b.address).collect();
    found.sort_unstable();
    if found.is_empty() {
        return Err(Error::not_found(format!("no public port '{port}' published for {container}")));
    }
    Ok(found.iter().map(ToString::to_string).collect())
}

fn change(verb: &str, name: &str, ports: &[String]) -> Result<u8> {
    let change = if verb == "add" {
        let add = ports.iter().map(|text| Publish::parse(text)).collect::<Result<Vec<_>>>()?.concat();
        PortChange { add, remove: Vec::new() }
    } else {
        let remove = ports.iter().map(|text| Unpublish::parse(text)).collect::<Result<Vec<_>>>()?;
        PortChange { add: Vec::new(), remove }
    };
    let engine = Engine::open()?;
    let id = engine.resolve(name)?;
    let before = engine.ports_that_reach(&id)?;
    engine.change_ports(&id, &change)?;
    let mut new = engine.ports_that_reach(&id)?;
    new.retain(|binding| !before.contains(binding));
    // What does not run has its ports from its next start on.
    let said = if new.is_empty() { vec![name.to_owned()] } else { lines(&new) };
    said.iter().try_for_each(|line| ui::line(line))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::port::Protocol;

    #[test]
    fn ports_are_shown_as_docker_shows_them() {
        let binding = |address: &str, number: u16, protocol| Binding {
            port: Port { number, protocol },
            address: address.parse().expect("an address"),
        };
        let bindings = [
            binding("0.0.0.0:53", 53, Protocol::Udp),
            binding("[::]:8080", 80, Protocol::Tcp),
            binding("0.0.0.0:8080", 80, Protocol::Tcp),
        ];
        assert_eq!(
            lines(&bindings),
            ["53/udp -> 0.0.0.0:53", "80/tcp -> 0.0.0.0:8080", "80/tcp -> [::]:8080"]
        );
        let of = |text: &str| lines_of(&bindings, Port::parse(text).expect("valid"), "web");
        assert_eq!(of("80").expect("published"), ["0.0.0.0:8080", "[::]:8080"]);
        let error = of("81").expect_err("not published");
        assert_eq!(error.to_string(), "no public port '81/tcp' published for web");
    }
}
