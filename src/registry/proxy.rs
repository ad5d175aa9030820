//! Which proxy leads to a server, and to which none does.
//!
//! The variables are read as Go reads them, and so docker and podman: source,
//! golang.org/x/net/http/httpproxy. `ALL_PROXY` is curl's, where the scheme has
//! no proxy of its own.

use super::config::is_loopback;
use super::http::Origin;
use crate::error::{Error, Result, Trouble};
use std::net::IpAddr;
use ureq::Proxy;

/// How a server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Direct,
    /// Through the proxy for this scheme.
    Http,
    Https,
}

impl Route {
    /// How many there are.
    pub(super) const COUNT: usize = 3;

    /// The way to `origin`: direct where the environment names no proxy, to this
    /// machine, and to what `NO_PROXY` has.
    ///
    /// # Errors
    /// Those of [`Route::proxy`].
    pub(super) fn to(origin: &Origin) -> Result<Self> {
        if is_loopback(&origin.host) {
            return Ok(Self::Direct);
        }
        let route = if origin.https { Self::Https } else { Self::Http };
        let excepted =
            || first(&["NO_PROXY", "no_proxy"], &variable).is_some_and(|(_, text)| excepts(&text, origin));
        Ok(if route.proxy()?.is_none() || excepted() { Self::Direct } else { route })
    }

    /// The proxy on this way.
    ///
    /// # Errors
    /// `Invalid` where the environment names one that cannot be: to go on without
    /// it would go where the user does not want to.
    pub(super) fn proxy(self) -> Result<Option<Proxy>> {
        let names: &[&'static str] = match self {
            Self::Direct => return Ok(None),
            Self::Http => &["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"],
            Self::Https => &["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"],
        };
        let Some((name, value)) = first(names, &variable) else { return Ok(None) };
        Proxy::new(&value).map(Some).map_err(|_| {
            // The value is not shown: it may have a password.
            Error::invalid(format!("{name} is not the address of a proxy"))
                .hint("write it as http://HOST:PORT or socks5://HOST:PORT")
                .see_doctor(Trouble::Registries)
        })
    }
}

/// Host and port of the proxy that the environment names, for `doctor`.
///
/// # Errors
/// Where it names one that cannot be.
pub(crate) fn proxy_address() -> Result<Option<(String, u16)>> {
    let proxy = match Route::Https.proxy()? {
        None => Route::Http.proxy()?,
        some => some,
    };
    Ok(proxy.as_ref().map(address_of))
}

/// Host and port.
pub(super) fn address_of(proxy: &Proxy) -> (String, u16) {
    (proxy.host().trim_matches(['[', ']']).to_owned(), proxy.port())
}

fn variable(name: &str) -> Option<String> {
    // What is no text is no address, and is told as such.
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// The first of the variables that has anything in it.
fn first<'a>(names: &[&'a str], get: &dyn Fn(&str) -> Option<String>) -> Option<(&'a str, String)> {
    names.iter().find_map(|name| Some((*name, get(name).filter(|value| !value.is_empty())?)))
}

/// Whether a list of `NO_PROXY` has the server: `*`, an address or a block of
/// them, a domain with what is below it, `.domain` or `*.domain` for what is below
/// it alone; each but a block may have a port.
fn excepts(list: &str, origin: &Origin) -> bool {
    let address = origin.host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    list.split(',').map(|word| word.trim().to_ascii_lowercase()).filter(|word| !word.is_empty()).any(|word| {
        if word == "*" {
            return true;
        }
        if let Some((block, length)) = word.split_once('/') {
            let block = block.parse::<IpAddr>().ok().zip(length.parse::<u32>().ok());
            return block
                .zip(address)
                .is_some_and(|((block, length), address)| in_block(address, block, length));
        }
        let (name, port) = split_port(&word);
        if port.is_some_and(|port| port != origin.port) {
            return false;
        }
        match (name.trim_matches(['[', ']']).parse::<IpAddr>(), address) {
            (Ok(excepted), Some(address)) => excepted == address,
            (Ok(_), None) | (Err(_), Some(_)) => false,
            (Err(_), None) => {
                let name = name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(name);
                let below =
                    |domain: &str| origin.host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
                match name.strip_prefix('.') {
                    Some(domain) => below(domain),
                    None => origin.host == name || below(name),
                }
            }
        }
    })
}

/// `host:port`, `[v6]:port`, or a name or an address alone.
fn split_port(word: &str) -> (&str, Option<u16>) {
    let is_v6 = word.parse::<std::net::Ipv6Addr>().is_ok();
    match word.rsplit_once(':').filter(|_| !is_v6) {
        Some((name, port)) => port.parse().map_or((word, None), |port| (name, Some(port))),
        None => (word, None),
    }
}

/// Whether the first `length` bits are those of the block.
fn in_block(address: IpAddr, block: IpAddr, length: u32) -> bool {
    match (address, block) {
        (IpAddr::V4(address), IpAddr::V4(block)) if length <= 32 => {
            let shift = 32 - length;
            address.to_bits().checked_shr(shift) == block.to_bits().checked_shr(shift)
        }
        (IpAddr::V6(address), IpAddr::V6(block)) if length <= 128 => {
            let shift = 128 - length;
            address.to_bits().checked_shr(shift) == block.to_bits().checked_shr(shift)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_gos() {
        let origin = |host: &str, port| Origin { https: true, host: host.into(), port };
        let has = |list: &str, host: &str| excepts(list, &origin(host, 5102));
        for (list, host) in [
            ("*", "quay.io"),
            ("test", "reg.test"),
            ("reg.test", "reg.test"),
            ("REG.test:5102", "reg.test"),
            ("foo, reg.test", "reg.test"),
            (".test", "reg.test"),
            ("*.test", "reg.test"),
            ("10.0.0.0/8", "10.1.2.3"),
            ("0.0.0.0/0", "10.1.2.3"),
            ("10.1.2.3", "10.1.2.3"),
            ("10.1.2.3:5102", "10.1.2.3"),
            ("fd00::/8", "[fd00::1]"),
            ("fd00::1", "[fd00::1]"),
            ("[fd00::1]:5102", "[fd00::1]"),
        ] {
            assert!(has(list, host), "{list} and {host}");
        }
        for (list, host) in [
            ("", "reg.test"),
            ("test", "regtest"),
            (".reg.test", "reg.test"),
            ("*.reg.test", "reg.test"),
            ("reg.test:443", "reg.test"),
            ("g.test", "reg.test"),
            ("10.0.0.0/8", "11.1.2.3"),
            ("10.0.0.0/33", "10.0.0.0"),
            ("10.0.0.0/8", "fd00::1"),
            ("3", "10.1.2.3"),
            ("2.3", "10.1.2.3"),
        ] {
            assert!(!has(list, host), "{list} and {host}");
        }
    }

    #[test]
    fn the_first_variable_that_is_set_counts() {
        let get = |name: &str| match name {
            "HTTPS_PROXY" => Some(String::new()),
            "all_proxy" => Some("a".to_owned()),
            _ => None,
        };
        assert_eq!(
            first(&["HTTPS_PROXY", "https_proxy", "all_proxy"], &get),
            Some(("all_proxy", "a".into()))
        );
        assert_eq!(first(&["HTTPS_PROXY"], &get), None);
    }
}
