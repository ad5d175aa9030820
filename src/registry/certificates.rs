//! Certificates for one registry: its own authorities, and what it is to know us by.
//!
//! Source: containers-certs.d(5), docker's "Verify repository client with
//! certificates": in a directory of the registry's name `*.crt` are authorities,
//! `NAME.cert` with `NAME.key` is a client's certificate.

use super::tls::ClientIdentity;
use crate::error::{Context, Error, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of a file of certificates.
const FILE_MAX: u64 = 1 << 20;

/// What is added to this system's authorities for one registry.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    pub(super) authorities: Vec<CertificateDer<'static>>,
    pub(super) client: Option<ClientIdentity>,
}

impl Identity {
    /// From `directory`, which the user named: it must be there.
    pub(crate) fn from_directory(directory: &Path) -> Result<Self> {
        let mut identity = Self::default();
        let action = || format!("read certificates from {}", directory.display());
        let entries = std::fs::read_dir(directory).context(action)?;
        let mut paths = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<std::io::Result<Vec<_>>>()
            .context(action)?;
        // The first client's certificate is used: the same one each time.
        paths.sort();
        for path in &paths {
            identity.add(path)?;
        }
        Ok(identity)
    }

    /// From the first of `directories` that has a directory for `registry`.
    pub(crate) fn of(registry: &str, directories: &[PathBuf]) -> Result<Self> {
        let own = directories.iter().map(|directory| directory.join(registry));
        match own.into_iter().find(|directory| directory.is_dir()) {
            Some(directory) => Self::from_directory(&directory),
            None => Ok(Self::default()),
        }
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        match path.extension().and_then(std::ffi::OsStr::to_str) {
            Some("crt") => self.authorities.extend(certificates(path)?),
            Some("cert") if self.client.is_none() => {
                let key = path.with_extension("key");
                if !key.exists() {
                    return Err(Error::invalid(format!(
                        "the client's certificate {} has no key beside it",
                        path.display()
                    ))
                    .hint(format!("put the key into {}; an authority's file ends in .crt", key.display())));
                }
                self.client = Some((certificates(path)?, private_key(&key)?));
            }
            Some("key") if !path.with_extension("cert").exists() => {
                return Err(Error::invalid(format!(
                    "the key {} has no certificate beside it",
                    path.display()
                ))
                .hint(format!("put the certificate into {}", path.with_extension("cert").display())));
            }
            _ => {}
        }
        Ok(())
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let text = read(path)?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|_| not_pem(path))?;
    if found.is_empty() { Err(not_pem(path)) } else { Ok(found) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| not_pem(path))
}

fn not_pem(path: &Path) -> Error {
    Error::invalid(format!("{} has nothing to use in PEM form", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let action = || format!("read {}", path.display());
    let mut text = Vec::new();
    std::fs::File::open(path).context(action)?.take(FILE_MAX).read_to_end(&mut text).context(action)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_of_one_registry_and_whole() {
        let dir = tempfile::tempdir().expect("tempdir");
        let none = Identity::of("r.example:5000", &[dir.path().into()]).expect("nothing is no error");
        assert!(none.authorities.is_empty() && none.client.is_none());
        let own = dir.path().join("r.example:5000");
        std::fs::create_dir(&own).expect("mkdir");
        std::fs::write(own.join("notes.txt"), "hello").expect("write");
        assert!(Identity::of("r.example:5000", &[dir.path().into()]).is_ok());
        std::fs::write(own.join("a.crt"), "no pem").expect("write");
        assert!(Identity::of("r.example:5000", &[dir.path().into()]).is_err());
        assert!(Identity::of("r.example", &[dir.path().into()]).is_ok(), "another registry");
        std::fs::remove_file(own.join("a.crt")).expect("remove");
        std::fs::write(own.join("client.cert"), "x").expect("write");
        let error = Identity::of("r.example:5000", &[dir.path().into()]).expect_err("no key");
        assert!(error.hints()[0].contains("client.key"), "{error}");
        assert!(Identity::from_directory(&dir.path().join("missing")).is_err());
    }
}
