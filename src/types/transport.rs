//! Where an image is, as skopeo and podman write it: `oci-archive:FILE[:NAME]`.
//!
//! Source: containers-transports(5).

use crate::error::{Error, Result};
use std::path::PathBuf;

/// A place of images that is no registry and not the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalPlace {
    pub(crate) transport: LocalTransport,
    pub(crate) path: PathBuf,
    /// What follows the path: a name, or `@` and a place in the archive.
    pub(crate) image: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LocalTransport {
    /// `oci:`, a directory.
    Oci,
    OciArchive,
    DockerArchive,
    /// `dir:`, a directory.
    Directory,
}

/// What a user's word for an image says about where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A name, from wherever names come.
    Name(String),
    /// `docker://`: from its registry.
    Registry(String),
    Local(LocalPlace),
}

impl Place {
    /// # Errors
    /// `Invalid` for a transport that there is none of here, and for one
    /// without a path.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let Some((prefix, rest)) = text.split_once(':') else { return Ok(Self::Name(text.to_owned())) };
        let transport = match prefix {
            "oci" => LocalTransport::Oci,
            "oci-archive" => LocalTransport::OciArchive,
            "docker-archive" => LocalTransport::DockerArchive,
            "dir" => LocalTransport::Directory,
            "docker" => {
                return match rest.strip_prefix("//") {
                    Some(name) if !name.is_empty() => Ok(Self::Registry(name.to_owned())),
                    Some(_) => Err(Error::invalid("docker:// without a name")),
                    // An image of docker.io that is called docker.
                    None => Ok(Self::Name(text.to_owned())),
                };
            }
            _ => return Self::refuse(prefix, rest).map_or_else(|| Ok(Self::Name(text.to_owned())), Err),
        };
        let (path, image) = match (transport, rest.split_once(':')) {
            (LocalTransport::Directory, _) | (_, None) => (rest, None),
            (_, Some((path, image))) => (path, Some(image).filter(|image| !image.is_empty())),
        };
        if path.is_empty() {
            return Err(Error::invalid(format!("{prefix}: without a path")));
        }
        Ok(Self::Local(LocalPlace { transport, path: path.into(), image: image.map(str::to_owned) }))
    }

    /// Why what begins with `prefix` cannot be had; `None` where it is a name.
    fn refuse(prefix: &str, rest: &str) -> Option<Error> {
        let hint = match prefix {
            "docker-daemon" => "give it over: docker save NAME | coracle load",
            "containers-storage" => "that is podman's store; give it over: podman save NAME | coracle load",
            "http" | "https" if rest.starts_with("//") => "leave the scheme out: a registry is host[:port]",
            "ostree" | "sif" | "tarball" => {
                "transports are docker://, oci:, oci-archive:, docker-archive: and dir:"
            }
            _ => return None,
        };
        Some(Error::invalid(format!("images cannot be had from {prefix}:")).hint(hint))
    }
}

impl LocalTransport {
    /// Whether it is a directory; else it is a file.
    pub(crate) fn is_directory(self) -> bool {
        matches!(self, Self::Oci | Self::Directory)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Oci => "oci",
            Self::OciArchive => "oci-archive",
            Self::DockerArchive => "docker-archive",
            Self::Directory => "dir",
        }
    }
}

impl std::fmt::Display for LocalPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.transport.name(), self.path.display())?;
        self.image.iter().try_for_each(|image| write!(f, ":{image}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_are_told_from_names() {
        let local = |text: &str| match Place::parse(text) {
            Ok(Place::Local(place)) => {
                assert_eq!(place.to_string(), text);
                (place.transport, place.path.display().to_string(), place.image.unwrap_or_default())
            }
            other => panic!("{text}: {other:?}"),
        };
        let is = |transport, path: &str, image: &str| (transport, path.to_owned(), image.to_owned());
        assert_eq!(local("oci:/a/b:c:d"), is(LocalTransport::Oci, "/a/b", "c:d"));
        assert_eq!(local("oci:b"), is(LocalTransport::Oci, "b", ""));
        assert_eq!(local("oci-archive:x.tar:@1"), is(LocalTransport::OciArchive, "x.tar", "@1"));
        assert_eq!(
            local("docker-archive:x:a.b:5000/c:1"),
            is(LocalTransport::DockerArchive, "x", "a.b:5000/c:1")
        );
        assert_eq!(local("dir:/a:b"), is(LocalTransport::Directory, "/a:b", ""));
        for name in ["nginx", "nginx:1", "docker:27", "localhost:5000/oci:1", "http:1", "sha256:00"] {
            assert_eq!(Place::parse(name).expect("name"), Place::Name(name.into()));
        }
        assert_eq!(Place::parse("docker://a/b:1").expect("registry"), Place::Registry("a/b:1".into()));
        for bad in
            ["docker://", "oci:", "dir:", "oci::x", "docker-daemon:x", "containers-storage:x", "https://x/y"]
        {
            let error = Place::parse(bad).expect_err(bad);
            assert!(bad.ends_with([':', '/']) || bad == "oci::x" || !error.hints().is_empty(), "{bad}");
        }
    }
}
