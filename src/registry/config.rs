//! Which server a name leads to: containers-registries.conf(5), its `.d`
//! directories and its aliases of short names.

use crate::error::{Context, Error, Result};
use crate::types::reference::{DEFAULT_DOMAIN, Reference, has_domain};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Bytes of a configuration file.
const FILE_MAX: u64 = 1 << 20;
/// Registries in which a short name is looked for.
const SEARCHED_MAX: usize = 20;

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct RegistriesConf {
    /// Where to look for names without a registry, instead of docker.io.
    unqualified_search_registries: Option<Vec<String>>,
    registry: Vec<Rule>,
    /// Names without a registry to full ones.
    aliases: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Rule {
    /// `host[:port][/path]`, or `*.domain`; the location where empty.
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    /// Asked before the location, in this order.
    mirror: Vec<Mirror>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Mirror {
    location: String,
    insecure: bool,
    /// `all`, `digest-only` or `tag-only`.
    #[serde(rename = "pull-from-mirror")]
    used_for: String,
}

/// Where the configuration is.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConfFiles {
    /// The first that exists counts.
    pub(crate) main: Vec<PathBuf>,
    /// Directories of `*.conf`, each over the ones before.
    pub(crate) drop_ins: Vec<PathBuf>,
    /// Aliases that a person chose: over all others.
    pub(crate) aliases: Option<PathBuf>,
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
    /// `host[:port]/path`
    pub(crate) fn repository(&self) -> String {
        format!("{}/{}", self.registry, self.path)
    }

    /// `host[:port]` to connect to: docker.io's registry has another name.
    pub(crate) fn host(&self) -> &str {
        if self.registry == DEFAULT_DOMAIN { "registry-1.docker.io" } else { &self.registry }
    }
}

impl RegistriesConf {
    /// All files together; defaults where there is none.
    pub(crate) fn load(files: &ConfFiles) -> Result<Self> {
        let mut conf = Self::default();
        for path in &files.main {
            if let Some(main) = read(path)? {
                conf = main;
                break;
            }
        }
        for directory in &files.drop_ins {
            let Ok(entries) = std::fs::read_dir(directory) else { continue };
            let paths = entries.flatten().map(|entry| entry.path());
            let mut paths: Vec<PathBuf> =
                paths.filter(|path| path.extension().is_some_and(|extension| extension == "conf")).collect();
            paths.sort();
            for path in paths {
                if let Some(more) = read(&path)? {
                    conf.merge(more);
                }
            }
        }
        if let Some(chosen) = files.aliases.as_deref().map(read).transpose()?.flatten() {
            conf.merge(chosen);
        }
        Ok(conf)
    }

    fn merge(&mut self, more: Self) {
        if more.unqualified_search_registries.is_some() {
            self.unqualified_search_registries = more.unqualified_search_registries;
        }
        self.registry.retain(|old| !more.registry.iter().any(|new| new.covers() == old.covers()));
        self.registry.extend(more.registry);
        self.aliases.extend(more.aliases);
    }

    /// The full names that a name as a user wrote it may stand for, in the
    /// order in which they are tried.
    ///
    /// # Errors
    /// `Invalid` where it is no name.
    pub(crate) fn candidates(&self, name: &str) -> Result<Vec<Reference>> {
        let reference = Reference::parse(name)?;
        if has_domain(name) {
            return Ok(vec![reference]);
        }
        let end = name.find(['@', ':']).unwrap_or(name.len());
        let (repository, rest) = name.split_at(end);
        // An empty alias takes one away that another file has.
        if let Some(alias) = self.aliases.get(repository).filter(|alias| !alias.is_empty()) {
            let full = Reference::parse(&format!("{alias}{rest}"));
            return full.map(|full| vec![full]).context(|| format!("the alias {alias:?} of {repository}"));
        }
        let search = self.unqualified_search_registries.iter().flatten().take(SEARCHED_MAX);
        let found = search
            .map(|registry| Reference::parse(&format!("{registry}/{name}")))
            .collect::<Result<Vec<_>>>()?;
        Ok(if found.is_empty() { vec![reference] } else { found })
    }

    /// The registries in which a name without one is looked for.
    pub(crate) fn searched(&self) -> Vec<String> {
        let search = self.unqualified_search_registries.iter().flatten().take(SEARCHED_MAX);
        let found: Vec<String> = search.cloned().collect();
        if found.is_empty() { vec![DEFAULT_DOMAIN.to_owned()] } else { found }
    }

    /// The server of a whole registry; its path is what all of the registry's
    /// repositories are below there.
    ///
    /// # Errors
    /// `Invalid` where the registry is blocked, or no `host[:port]`.
    pub(crate) fn registry(&self, domain: &str) -> Result<Endpoint> {
        let domain = Reference::parse(&format!("{domain}/x"))
            .ok()
            .filter(|parsed| has_domain(&format!("{domain}/x")) && !parsed.domain.is_empty())
            .ok_or_else(|| {
                Error::invalid(format!("{domain:?} is not a registry")).hint("write it as host[:port]")
            })?
            .domain;
        let own = Endpoint { insecure: is_loopback(&domain), registry: domain, path: String::new() };
        let rules = self.registry.iter().filter_map(|rule| Some((rule.matched(&own.registry)?, rule)));
        let Some((_, rule)) = rules.max_by_key(|(matched, _)| matched.weight) else { return Ok(own) };
        rule.refuse_if_blocked(&own.registry)?;
        if rule.location.is_empty() || rule.prefix.is_empty() {
            return Ok(Endpoint { insecure: rule.insecure || own.insecure, ..own });
        }
        let moved = moved(&rule.location, "/x", rule.insecure)?;
        let path = moved.path.rsplit_once('/').map_or("", |(above, _)| above).to_owned();
        Ok(Endpoint { path, ..moved })
    }

    fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| Error::invalid(error.to_string().trim_end().to_owned()))
    }

    /// The server that has the repository itself.
    ///
    /// # Errors
    /// `Invalid` where the repository is blocked.
    pub(crate) fn endpoint(&self, reference: &Reference) -> Result<Endpoint> {
        let mut all = self.endpoints(reference)?;
        Ok(all.swap_remove(all.len() - 1))
    }

    /// The mirrors that may have what is asked for, then the registry itself.
    ///
    /// # Errors
    /// `Invalid` where the repository is blocked.
    pub(crate) fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>> {
        let repository = reference.repository();
        let own = Endpoint {
            registry: reference.domain.clone(),
            path: reference.path.clone(),
            insecure: is_loopback(&reference.domain),
        };
        let rules = self.registry.iter().filter_map(|rule| Some((rule.matched(&repository)?, rule)));
        let Some((matched, rule)) = rules.max_by_key(|(matched, _)| matched.weight) else {
            return Ok(vec![own]);
        };
        rule.refuse_if_blocked(&repository)?;
        let rest = &repository[matched.length..];
        let mut all = Vec::new();
        for mirror in &rule.mirror {
            let by_digest = reference.digest.is_some();
            let fits = match mirror.used_for.as_str() {
                "digest-only" => by_digest,
                "tag-only" => !by_digest,
                _ => by_digest || !rule.mirror_by_digest_only,
            };
            if fits {
                all.push(moved(&mirror.location, rest, mirror.insecure)?);
            }
        }
        all.push(if rule.location.is_empty() || rule.prefix.is_empty() {
            Endpoint { insecure: rule.insecure || own.insecure, ..own }
        } else {
            moved(&rule.location, rest, rule.insecure)?
        });
        Ok(all)
    }
}

fn read(path: &Path) -> Result<Option<RegistriesConf>> {
    let action = || format!("read {}", path.display());
    let text = match std::fs::metadata(path) {
        Ok(meta) if meta.len() > FILE_MAX => {
            return Err(Error::invalid(format!("{} is too large", path.display())));
        }
        Ok(_) => std::fs::read_to_string(path).context(action)?,
        Err(_) => return Ok(None),
    };
    RegistriesConf::parse(&text).map(Some).context(action)
}

/// What is left of a repository's name, at another location.
fn moved(location: &str, rest: &str, insecure: bool) -> Result<Endpoint> {
    let action = || format!("location {location:?} in registries.conf");
    let name = format!("{location}{rest}");
    // Parsed again: what a file says becomes part of a URL.
    let parsed = Reference::parse(&name).context(action)?;
    if !has_domain(&name) {
        return Err(Error::invalid("it names no registry")).context(action);
    }
    let insecure = insecure || is_loopback(&parsed.domain);
    Ok(Endpoint { registry: parsed.domain, path: parsed.path, insecure })
}

/// How a rule covers a repository's name.
#[derive(Clone, Copy)]
struct Matched {
    /// The rule with the largest one counts.
    weight: usize,
    /// Bytes that a location replaces.
    length: usize,
}

impl Rule {
    fn refuse_if_blocked(&self, name: &str) -> Result<()> {
        if !self.blocked {
            return Ok(());
        }
        Err(Error::invalid(format!("{name} is blocked by registries.conf"))
            .hint("take `blocked` out of its entry there, if it is to be used"))
    }

    fn covers(&self) -> &str {
        if self.prefix.is_empty() { &self.location } else { &self.prefix }
    }

    /// Whole components only, so that `quay.io/a` does not cover `quay.io/ab`.
    fn matched(&self, repository: &str) -> Option<Matched> {
        let prefix = self.covers();
        if prefix.is_empty() {
            return None;
        }
        if let Some(domain) = prefix.strip_prefix('*') {
            let host = repository.split('/').next().unwrap_or_default();
            let name = host.split(':').next().unwrap_or_default();
            let fits = domain.starts_with('.') && name.ends_with(domain) && name.len() > domain.len();
            return fits.then_some(Matched { weight: domain.len(), length: host.len() });
        }
        let rest = repository.strip_prefix(prefix)?;
        let length = prefix.len();
        (rest.is_empty() || rest.starts_with('/')).then_some(Matched { weight: length, length })
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
        let names = conf.candidates("x:1").expect("names");
        assert_eq!(
            names.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["docker.io/library/x:1", "quay.io/x:1"]
        );
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
    fn a_whole_registry_has_a_server() {
        let conf = RegistriesConf::parse(
            r#"
            unqualified-search-registries = ["a.test", "b.test"]
            [[registry]]
            prefix = "a.test"
            location = "127.0.0.1:5000/below/it"
            [[registry]]
            location = "bad.test"
            blocked = true
            [[registry]]
            prefix = "b.test/part"
            location = "elsewhere.test"
            "#,
        )
        .expect("valid");
        assert_eq!(conf.searched(), ["a.test", "b.test"]);
        assert_eq!(RegistriesConf::default().searched(), ["docker.io"]);
        let moved = conf.registry("a.test").expect("ok");
        assert_eq!((moved.repository().as_str(), moved.insecure), ("127.0.0.1:5000/below/it", true));
        let own = conf.registry("b.test").expect("a rule for a part is none for the whole");
        assert_eq!((own.registry.as_str(), own.path.as_str(), own.insecure), ("b.test", "", false));
        assert_eq!(conf.registry("index.docker.io").expect("ok").registry, "docker.io");
        for bad in ["bad.test", "", "nodot", "a b.test", "x.test/../y", "x.test:y"] {
            assert!(conf.registry(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mirrors_come_before_the_registry() {
        let conf = RegistriesConf::parse(
            r#"
            [[registry]]
            prefix = "*.example"
            location = "all.test/under"
            [[registry]]
            location = "docker.io"
            mirror-by-digest-only = true
            [[registry.mirror]]
            location = "127.0.0.1:5000/hub"
            [[registry.mirror]]
            location = "tags.test"
            pull-from-mirror = "tag-only"
            "#,
        )
        .expect("valid");
        let servers = |name: &str| {
            let all = conf.endpoints(&Reference::parse(name).expect("valid")).expect("endpoints");
            all.iter().map(Endpoint::repository).collect::<Vec<_>>()
        };
        assert_eq!(servers("nginx"), ["tags.test/library/nginx", "docker.io/library/nginx"]);
        let digest = format!("nginx@sha256:{}", "0".repeat(64));
        assert_eq!(servers(&digest), ["127.0.0.1:5000/hub/library/nginx", "docker.io/library/nginx"]);
        assert_eq!(servers("a.b.example:80/x"), ["all.test/under/x"]);
        assert_eq!(servers("example/x").len(), 2, "no host");
        assert_eq!(servers("other.test/x"), ["other.test/x"]);
    }

    #[test]
    fn later_files_go_over_earlier_ones() {
        let dir = tempfile::tempdir().expect("tempdir");
        let write = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).expect("write");
            dir.path().join(name)
        };
        let main = write(
            "main",
            "unqualified-search-registries = ['a.test']\n[aliases]\nbox = 'x.test/box'\ngone = 'x.test/gone'",
        );
        write("10.conf", "[aliases]\ngone = ''\n[[registry]]\nlocation = 'a.test'\nblocked = true");
        write("20.conf", "[[registry]]\nlocation = 'a.test'\ninsecure = true");
        write("30.toml", "nonsense that nobody reads");
        let chosen = write("chosen", "[aliases]\nmine = 'y.test/team/mine'");
        let files = ConfFiles {
            main: vec![dir.path().join("none"), main],
            drop_ins: vec![dir.path().into()],
            aliases: Some(chosen),
        };
        let conf = RegistriesConf::load(&files).expect("valid");
        assert!(endpoint(&conf, "a.test/x").expect("not blocked any more").insecure);
        let first = |name: &str| conf.candidates(name).expect("names")[0].to_string();
        assert_eq!(first("box:2"), "x.test/box:2");
        assert_eq!(first("gone"), "a.test/gone:latest");
        assert_eq!(first("mine"), "y.test/team/mine:latest");
        assert_eq!(first("z.test/box"), "z.test/box:latest", "no short name");
        write("40.conf", "[[registry");
        assert!(RegistriesConf::load(&files).is_err());
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
