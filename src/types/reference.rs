//! Image references: `nginx` to `docker.io/library/nginx:latest`.
//!
//! Source: the grammar of the distribution project's `reference` package, and
//! docker's rule for names without a registry.

use super::digest::Digest;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The registry of names that have none.
pub(crate) const DEFAULT_DOMAIN: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
/// The namespace of docker.io's own images.
const OFFICIAL: &str = "library/";
/// Bytes of domain and path together: the grammar's `NameTotalLengthMax`.
const NAME_MAX: usize = 255;
/// Bytes of a tag.
const TAG_MAX: usize = 128;

/// A full image reference. It has a tag or a digest or both; with a digest the
/// tag says nothing about the content.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Reference {
    /// `host[:port]`, never empty.
    pub(crate) domain: String,
    /// Lower-case components between slashes, never empty.
    pub(crate) path: String,
    pub(crate) tag: Option<String>,
    pub(crate) digest: Option<Digest>,
}

impl Reference {
    /// Reads a name as a user writes it. Without tag and digest it gets the tag
    /// `latest`; without a registry it is docker.io's.
    ///
    /// # Errors
    /// `Invalid`, naming the part that breaks the grammar.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let invalid = |why: &str| {
            Error::invalid(format!("invalid image name {:?}: {why}", shorten(text)))
                .hint("write it as [registry/]name[:tag][@sha256:digest]")
        };
        // Longer than any valid one, so that no later step sees a huge text.
        if text.len() > NAME_MAX + TAG_MAX + 80 {
            return Err(invalid("it is too long"));
        }
        let (rest, digest) =
            match text.split_once('@') {
                Some((rest, digest)) => (
                    rest,
                    Some(Digest::parse(digest).map_err(|_| {
                        invalid("the digest is neither sha256:<64 hex digits> nor sha512:<128>")
                    })?),
                ),
                None => (text, None),
            };
        let (name, tag) = split_tag(rest);
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid(
                "a tag is up to 128 letters, digits, '_', '.', '-', and does not begin with '.' or '-'",
            ));
        }
        let (domain, path) = split_domain(name);
        if path.is_empty() {
            return Err(invalid("there is no name"));
        }
        if !is_domain(&domain) {
            return Err(invalid("the registry is not host[:port]"));
        }
        if !path.split('/').all(is_component) {
            return Err(invalid(
                "a name is lower-case letters and digits, separated by '.', '_', '__' or dashes",
            ));
        }
        if name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(invalid("64 hex digits are an image id, not a name"));
        }
        if domain.len() + 1 + path.len() > NAME_MAX {
            return Err(invalid("registry and name are longer than 255 bytes"));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_TAG.to_owned()),
        };
        Ok(Self { domain, path, tag, digest })
    }

    /// Reads a name that something here is to get.
    ///
    /// # Errors
    /// As [`Self::parse`]; `Invalid` for a digest, and for what would be taken for one.
    pub(crate) fn to_give(text: &str) -> Result<Self> {
        let name = Self::parse(text)?;
        if name.digest.is_some() {
            return Err(Error::invalid(format!("a digest cannot be given as a name: {text}")));
        }
        if name.familiar_repository() == "sha256" {
            return Err(Error::invalid(format!(
                "{text}: refusing to create an ambiguous tag using digest algorithm as name"
            )));
        }
        Ok(name)
    }

    /// Registry and path, without tag and digest.
    pub(crate) fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The repository as docker shows it: `nginx`, `user/app`, `quay.io/a/b`.
    /// What would be read as another registry's stays whole:
    /// `docker.io/quay.io/a`.
    pub(crate) fn familiar_repository(&self) -> String {
        if self.domain != DEFAULT_DOMAIN || has_domain(&self.path) {
            return self.repository();
        }
        match self.path.strip_prefix(OFFICIAL) {
            Some(official) if !official.contains('/') => official.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The short form that docker shows: `nginx:latest`.
    pub(crate) fn familiar(&self) -> String {
        format!("{}{}", self.familiar_repository(), self.suffix())
    }

    /// What names the manifest in a registry's URL: the digest, else the tag.
    pub(crate) fn manifest_name(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }

    /// The same repository by digest alone, as docker records what it pulled.
    pub(crate) fn at(&self, digest: &Digest) -> Self {
        Self { tag: None, digest: Some(digest.clone()), ..self.clone() }
    }

    /// As it names an image that is here: beside a digest, a tag names nothing.
    pub(crate) fn without_moot_tag(mut self) -> Self {
        if self.digest.is_some() {
            self.tag = None;
        }
        self
    }

    fn suffix(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
        tag + &digest
    }
}

/// Whether the user named a registry, so that no other may be tried.
pub(crate) fn has_domain(text: &str) -> bool {
    text.split_once('/').is_some_and(|(first, _)| looks_like_domain(first))
}

/// Whether the text names a repository alone, with neither a tag nor a digest.
pub(crate) fn is_name_only(text: &str) -> bool {
    !text.contains('@') && split_tag(text).1.is_none()
}

/// The part of a bad name that an error may show.
fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

/// A colon after the last slash begins the tag; one before it is a port's.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    }
}

fn split_domain(name: &str) -> (String, String) {
    let (domain, path) = match name.split_once('/') {
        Some((first, rest)) if looks_like_domain(first) => (first, rest),
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
    if domain == DEFAULT_DOMAIN && !path.is_empty() && !path.contains('/') {
        (domain.to_owned(), format!("{OFFICIAL}{path}"))
    } else {
        (domain.to_owned(), path.to_owned())
    }
}

/// Docker's rule: a dot, a colon, an upper-case letter, or `localhost`.
fn looks_like_domain(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_domain(domain: &str) -> bool {
    if let Some(rest) = domain.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        let port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return address.parse::<std::net::Ipv6Addr>().is_ok() && port;
    }
    let (host, port) = domain.split_once(':').map_or((domain, None), |(host, port)| (host, Some(port)));
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

/// Runs of `[a-z0-9]` with one `.`, one or two `_`, or dashes between them.
fn is_component(component: &str) -> bool {
    let mut bytes = component.bytes().peekable();
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if !bytes.next().is_some_and(alphanumeric) {
        return false;
    }
    while let Some(byte) = bytes.next() {
        match byte {
            byte if alphanumeric(byte) => continue,
            b'_' => drop(bytes.next_if_eq(&b'_')),
            b'-' => while bytes.next_if_eq(&b'-').is_some() {},
            b'.' => {}
            _ => return false,
        }
        if !bytes.peek().is_some_and(|next| alphanumeric(*next)) {
            return false;
        }
    }
    true
}

pub(crate) fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= TAG_MAX
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

impl TryFrom<String> for Reference {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.domain, self.path, self.suffix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[test]
    fn names_are_completed_as_docker_does() {
        for (written, full, familiar) in [
            ("nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("nginx:1.25", "docker.io/library/nginx:1.25", "nginx:1.25"),
            ("user/app", "docker.io/user/app:latest", "user/app:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            ("localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest"),
            ("host:5000/x:t", "host:5000/x:t", "host:5000/x:t"),
            ("Host/x", "Host/x:latest", "Host/x:latest"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
            ("docker.io/quay.io/a", "docker.io/quay.io/a:latest", "docker.io/quay.io/a:latest"),
            (
                "quay.io/a/b__c/d--e.f:V_1.2-x",
                "quay.io/a/b__c/d--e.f:V_1.2-x",
                "quay.io/a/b__c/d--e.f:V_1.2-x",
            ),
        ] {
            let reference = Reference::parse(written).expect(written);
            assert_eq!(reference.to_string(), full, "{written}");
            assert_eq!(reference.familiar(), familiar, "{written}");
            assert_eq!(Reference::parse(full).expect(full), reference, "{written}");
        }
    }

    #[test]
    fn a_digest_takes_the_place_of_the_tag() {
        let reference = Reference::parse(&format!("nginx@sha256:{HEX}")).expect("valid");
        assert_eq!(reference.to_string(), format!("docker.io/library/nginx@sha256:{HEX}"));
        assert_eq!(reference.tag, None);
        let both = Reference::parse(&format!("nginx:1@sha256:{HEX}")).expect("valid");
        assert_eq!(both.tag.as_deref(), Some("1"));
        assert_eq!(both.manifest_name(), format!("sha256:{HEX}"));
    }

    #[test]
    fn what_breaks_the_grammar_is_refused() {
        let long_tag = format!("x:{}", "t".repeat(129));
        let long_name = format!("h.io/{}", "a".repeat(260));
        let huge = "a/".repeat(100_000);
        for bad in [
            "",
            "/",
            ":",
            "@",
            ":tag",
            "x:",
            "x@",
            "Nginx",
            "a//b",
            "a/",
            "/a",
            "a_",
            "_a",
            "a..b",
            "a___b",
            "a.-b",
            "a b",
            "é",
            "x:-t",
            "x:.t",
            "x:a/b:",
            "x@sha256:abc",
            "x@md5:abc",
            "-h.io/x",
            "h-.io/x",
            "h..io/x",
            "h.io:/x",
            "h.io:99999/x",
            "h.io:x/x",
            "[::1/x",
            "[zz]/x",
            "../etc",
            "a/../b",
            "x\0",
            "http://h.io/x",
            HEX,
            &long_tag,
            &long_name,
            &huge,
        ] {
            assert!(Reference::parse(bad).is_err(), "{:?}", shorten(bad));
        }
    }

    #[test]
    fn only_a_named_registry_counts_as_one() {
        assert!(has_domain("quay.io/x") && has_domain("localhost/x") && has_domain("h:1/x"));
        assert!(!has_domain("x") && !has_domain("a/x") && !has_domain("x:1.2"));
    }

    /// Whatever is taken can become part of a URL and of a file's name, and is
    /// read again as it is written.
    #[test]
    fn mutated_references_are_read_as_they_are_written() {
        use crate::types::mutation::Fuzz;
        let good = ["nginx", "a/b__c:V1.x", "localhost:5000/x", "[::1]:80/a-b/c", "Host/x:t"];
        let digest = format!("quay.io/a/b:1@sha256:{HEX}");
        let fuzz = Fuzz {
            name: "references",
            good: good.iter().chain([&digest.as_str()]).map(|text| text.as_bytes().to_vec()).collect(),
            words: &[
                b"/",
                b":",
                b"@",
                b"..",
                b"//",
                b"sha256:",
                b"library/",
                b"docker.io/",
                b"index.docker.io/",
                b"localhost/",
                b"[::1]",
                b":65535",
                b":latest",
                b"\0",
                b"%2f",
                b"\xc3\xa9",
                b"__",
                b"--",
                b"A",
            ],
            short: 20_000,
        };
        fuzz.run(|bytes, _| {
            let Ok(text) = std::str::from_utf8(bytes) else { return false };
            let (named, parsed) = (has_domain(text), Reference::parse(text));
            let Ok(reference) = parsed else { return false };
            let written = reference.to_string();
            assert_eq!(Reference::parse(&written).as_ref().ok(), Some(&reference), "{written}");
            assert_eq!(Reference::parse(&reference.familiar()).as_ref().ok(), Some(&reference), "{written}");
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@[]".contains(c);
            assert!(written.len() <= 255 + 129 + 72 && written.chars().all(plain), "{written}");
            assert!(!written.contains("//") && !written.split('/').any(|part| part == ".." || part == "."));
            assert!(named || reference.domain == DEFAULT_DOMAIN, "{text} names no registry: {written}");
            assert!(reference.tag.is_some() || reference.digest.is_some());
            true
        });
    }
}
