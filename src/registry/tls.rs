//! TLS to registries. ureq speaks http; what it connects through is ours, for one
//! rule that its own connector cannot have: a server's certificate that is itself
//! among those which the user trusts is good, although it is an authority's too.
//! That is what `openssl req -x509` makes, docker's manual has one made so, and
//! docker and podman take it.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    StreamOwned,
};
use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

/// What a client shows of itself: its certificate with those above it, and its key.
pub(super) type ClientIdentity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Whose certificates are taken.
pub(super) enum Trusted {
    /// Those that these vouch for, and these themselves.
    By(Vec<CertificateDer<'static>>),
    /// Anybody's: for what the user declared insecure.
    Anyone,
}

/// Puts TLS around connections to https addresses.
pub(super) struct Tls {
    config: Arc<ClientConfig>,
}

impl Tls {
    /// # Errors
    /// Where none of the certificates can be used, or the client's does not go
    /// with its key.
    pub(super) fn new(trusted: Trusted, client: Option<&ClientIdentity>) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Arc::new(Verifier::new(trusted, &provider)?);
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match client {
            Some((certificates, key)) => {
                config.with_client_auth_cert(certificates.clone(), key.clone_key())?
            }
            None => config.with_no_client_auth(),
        };
        Ok(Self { config: Arc::new(config) })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl<In: Transport> Connector<In> for Tls {
    type Out = Either<In, Secured>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(plain) = chained else { return Ok(None) };
        if plain.is_tls() || !details.needs_tls() {
            return Ok(Some(Either::A(plain)));
        }
        let host = details.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| ureq::Error::Tls("the registry's name cannot be in a certificate"))?;
        let mut session = ClientConnection::new(Arc::clone(&self.config), name)?;
        let mut socket = TransportAdapter::new(plain.boxed(), details.current_time.clone());
        socket.set_timeout(details.timeout);
        session.complete_io(&mut socket)?;
        let buffers =
            LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(Secured { stream: StreamOwned::new(session, socket), buffers })))
    }
}

/// A connection with TLS around it.
pub(super) struct Secured {
    stream: StreamOwned<ClientConnection, TransportAdapter>,
    buffers: LazyBuffers,
}

impl fmt::Debug for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secured")
    }
}

impl Transport for Secured {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        Ok(self.stream.write_all(&self.buffers.output()[..amount])?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let count = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct Verifier {
    /// `None` where anybody is taken: then nothing is verified.
    trusted: Option<Listed>,
    schemes: Vec<SignatureScheme>,
}

#[derive(Debug)]
struct Listed {
    by_authorities: Arc<WebPkiServerVerifier>,
    authorities: Vec<CertificateDer<'static>>,
}

impl Verifier {
    fn new(trusted: Trusted, provider: &Arc<CryptoProvider>) -> Result<Self, rustls::Error> {
        let schemes = provider.signature_verification_algorithms.supported_schemes();
        let Trusted::By(authorities) = trusted else { return Ok(Self { trusted: None, schemes }) };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities.iter().cloned());
        let by_authorities =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(Self { trusted: Some(Listed { by_authorities, authorities }), schemes })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(Listed { by_authorities, authorities }) = &self.trusted else {
            return Ok(ServerCertVerified::assertion());
        };
        match by_authorities.verify_server_cert(server, between, name, ocsp, now) {
            // webpki looks at the dates before it looks at what the certificate is for.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(why)))
                if is_an_authority_s(&why) && authorities.iter().any(|own| own == server) =>
            {
                rustls::client::verify_server_name(&ParsedCertificate::try_from(server)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        server: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match &self.trusted {
            Some(listed) => listed.by_authorities.verify_tls12_signature(message, server, signature),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        server: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match &self.trusted {
            Some(listed) => listed.by_authorities.verify_tls13_signature(message, server, signature),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

/// The one thing about a certificate that is passed over. rustls gives webpki's
/// error as it is, and its name is all that can be seen of it from here.
fn is_an_authority_s(why: &rustls::OtherError) -> bool {
    format!("{why:?}").contains("CaUsedAsEndEntity")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject;
    use std::time::Duration;

    /// As `openssl req -x509` makes it, from 2026-11-29 to 2036-11-26, for
    /// registry.example and 127.0.0.1: an authority's and a server's in one.
    const SELF_SIGNED: &[u8] = b"-----BEGIN CERTIFICATE-----
MIIBrjCCAVSgAwIBAgIUcxDX5bZQ0A0BwZ2vtEDo68ktFbQwCgYIKoZIzj0EAwIw
GzEZMBcGA1UEAwwQcmVnaXN0cnkuZXhhbXBsZTAeFw0yNjExMjkxNjIzNTRaFw0z
NjExMjYxNjIzNTRaMBsxGTAXBgNVBAMMEHJlZ2lzdHJ5LmV4YW1wbGUwWTATBgcq
hkjOPQIBBggqhkjOPQMBBwNCAARkj9tdBLsTkwwAEqyXJNsjxdKejFWGsakK2ERE
f7JcNmEwwUYsiYO6nbKtPh7WMn+Cq4k93ofeUfGdxDkZJ2F1o3YwdDAdBgNVHQ4E
FgQUc0qy6LxdTyrFxghv3XfUp4sLjO4wHwYDVR0jBBgwFoAUc0qy6LxdTyrFxghv
3XfUp4sLjO4wDwYDVR0TAQH/BAUwAwEB/zAhBgNVHREEGjAYghByZWdpc3RyeS5l
eGFtcGxlhwR/AAABMAoGCCqGSM49BAMCA0gAMEUCIQCzMt68kB0AuDI/MVKjZOTz
xAE4pTwxpKVKnoJ8vcLdGgIgCuDhP+G5IXbW0L6lEDOJSgLZlkuPB2noE782ZrhQ
H1U=
-----END CERTIFICATE-----\n";

    #[test]
    fn a_server_s_own_certificate_is_trusted_where_it_is_listed() {
        let certificate = CertificateDer::from_pem_slice(SELF_SIGNED).expect("PEM");
        let verifier = |listed: bool| {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let trusted = Trusted::By(vec![certificate.clone()]);
            let mut verifier = Verifier::new(trusted, &provider).expect("an authority");
            if let Some(trusted) = verifier.trusted.as_mut().filter(|_| !listed) {
                trusted.authorities.clear();
            }
            verifier
        };
        let is_good = |verifier: &Verifier, name: &'static str, seconds: u64| {
            let name = ServerName::try_from(name).expect("a name");
            let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            verifier.verify_server_cert(&certificate, &[], &name, &[], now).is_ok()
        };
        let (listed, unlisted) = (verifier(true), verifier(false));
        let within = 1_800_000_000;
        assert!(is_good(&listed, "registry.example", within) && is_good(&listed, "127.0.0.1", within));
        assert!(!is_good(&unlisted, "registry.example", within));
        assert!(!is_good(&listed, "other.example", within), "another name");
        assert!(!is_good(&listed, "registry.example", 1_700_000_000), "not yet");
        assert!(!is_good(&listed, "registry.example", 2_200_000_000), "no more");
    }
}
