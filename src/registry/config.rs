//! Which server a name leads to: containers-registries.conf(5) as far as pulls
//! need it (`unqualified-search-registries`; of `[[registry]]` `prefix`,
//! `location`, `insecure`, `blocked`).

use crate::error::{Context, Error, Result};
use crate::types::reference::{DEFAULT_DOMAIN, Reference};
use serde::Deserialize;
use std::net::IpAddr;
use std::path::PathBuf;

/// Bytes of a configuration file.
const FILE_MAX: u64 = 1 << 20;

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct RegistriesConf {
    /// Where to look for names without a registry, instead of docker.io.
    pub(crate) unqualified_search_registries: Vec<String>,
    registry: Vec<Rule>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Rule {
    /// `host[:port][/path]`, or `*.domain`; the location where empty.
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
}

/// The server of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `host[:port]` as names and credentials have it.
    pub(crate) registry: String,
    /// The repository's path there.
    pub(crate) path: String,
    /// Unverified TLS and plain http are allowed.
    pub(crate) insecure: bool,
}

impl Endpoint {
    /// `host[:port]` to connect to: docker.io's registry has another name.
    pub(crate) fn host(&self) -> &str {
        if self.registry == DEFAULT_DOMAIN { "registry-1.docker.io" } else { &self.registry }
    }
}

impl RegistriesConf {
    /// The first of `files` that exists; defaults where none does.
    pub(crate) fn load(files: &[PathBuf]) -> Result<Self> {
        for path in files {
            let text = match std::fs::metadata(path) {
                Ok(meta) if meta.len() > FILE_MAX => {
                    return Err(Error::invalid(format!("{} is too large", path.display())));
                }
                Ok(_) => std::fs::read_to_string(path).context(|| format!("read {}", path.display()))?,
                Err(_) => continue,
            };
            return Self::parse(&text).context(|| format!("read {}", path.display()));
        }
        Ok(Self::default())
    }

    fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| Error::invalid(error.to_string().trim_end().to_owned()))
    }

    /// # Errors
    /// `Invalid` where the repository is blocked.
    pub(crate) fn endpoint(&self, reference: &Reference) -> Result<Endpoint> {
        let repository = reference.repository();
        let rule = self.registry.iter().filter_map(|rule| Some((rule.matched(&repository)?, rule)));
        let mut endpoint = Endpoint {
            registry: reference.domain.clone(),
            path: reference.path.clone(),
            insecure: is_loopback(&reference.domain),
        };
        let Some((matched, rule)) = rule.max_by_key(|(length, _)| *length) else { return Ok(endpoint) };
        if rule.blocked {
            return Err(Error::invalid(format!("{repository} is blocked by registries.conf")));
        }
        if !rule.location.is_empty() && !rule.prefix.is_empty() && !rule.prefix.starts_with("*.") {
            let moved = format!("{}{}", rule.location, &repository[matched..]);
            let (registry, path) = moved
                .split_once('/')
                .ok_or_else(|| Error::invalid(format!("location {:?} in registries.conf", rule.location)))?;
            // Parsed again: what a file says becomes part of a URL.
            let parsed = Reference::parse(&format!("{registry}/{path}"))
                .context(|| format!("location {:?} in registries.conf", rule.location))?;
            endpoint.registry = parsed.domain;
            endpoint.path = parsed.path;
        }
        endpoint.insecure = rule.insecure || is_loopback(&endpoint.registry);
        Ok(endpoint)
    }
}

impl Rule {
    /// How many bytes of `repository` the rule's prefix covers; whole
    /// components only, so that `quay.io/a` does not cover `quay.io/ab`.
    fn matched(&self, repository: &str) -> Option<usize> {
        let prefix = if self.prefix.is_empty() { &self.location } else { &self.prefix };
        if prefix.is_empty() {
            return None;
        }
        if let Some(domain) = prefix.strip_prefix('*') {
            let host = repository.split('/').next().unwrap_or_default();
            let name = host.split(':').next().unwrap_or_default();
            return (domain.starts_with('.') && name.ends_with(domain)).then_some(domain.len());
        }
        let rest = repository.strip_prefix(prefix.as_str())?;
        (rest.is_empty() || rest.starts_with('/')).then_some(prefix.len())
    }
}

/// `localhost`, 127.0.0.0/8 and `[::1]`, as docker has them: nobody else can
/// listen in.
pub(crate) fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(conf: &RegistriesConf, name: &str) -> Result<Endpoint> {
        conf.endpoint(&Reference::parse(name).expect("valid"))
    }

    #[test]
    fn the_longest_matching_rule_decides() {
        let conf = RegistriesConf::parse(
            r#"
            unqualified-search-registries = ["docker.io", "quay.io"]
            short-name-mode = "enforcing"
            [[registry]]
            location = "plain.example:5000"
            insecure = true
            [[registry]]
            prefix = "docker.io/library"
            location = "mirror.example/hub"
            [[registry]]
            prefix = "*.bad.example"
            blocked = true
            [[registry.mirror]]
            location = "unused"
            "#,
        )
        .expect("valid");
        assert_eq!(conf.unqualified_search_registries, ["docker.io", "quay.io"]);
        assert!(endpoint(&conf, "plain.example:5000/x").expect("ok").insecure);
        assert!(!endpoint(&conf, "plain.example:5001/x").expect("ok").insecure);
        let moved = endpoint(&conf, "nginx").expect("ok");
        assert_eq!((moved.registry.as_str(), moved.path.as_str()), ("mirror.example", "hub/nginx"));
        let hub = endpoint(&conf, "library2/nginx").expect("ok");
        assert_eq!((hub.host(), hub.path.as_str()), ("registry-1.docker.io", "library2/nginx"));
        assert!(endpoint(&conf, "a.bad.example/x").is_err());
        assert!(endpoint(&conf, "notbad.example/x").is_ok());
    }

    #[test]
    fn bad_files_are_errors() {
        for bad in ["[[registry]", "registry = 1", "unqualified-search-registries = \"x\""] {
            assert!(RegistriesConf::parse(bad).is_err(), "{bad}");
        }
        let conf = RegistriesConf::parse("[[registry]]\nprefix='a.b'\nlocation='x/../y z'").expect("valid");
        assert!(endpoint(&conf, "a.b/c").is_err());
    }

    #[test]
    fn only_loopback_is_trusted_without_tls() {
        for yes in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in
            ["localhost.evil.example", "128.0.0.1", "127.0.0.1.evil.example", "[::2]", "example.org", ""]
        {
            assert!(!is_loopback(no), "{no}");
        }
    }
}
