//! Whom to believe over TLS.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::certificate::is_authority;
use crate::hosts::HostConfig;
use crate::{Error, Result};

/// The certificates that are trusted for hosts that have none of their own. Both unset, the
/// system's bundle is used, and Mozilla's list where there is none.
#[derive(Clone, Debug, Default)]
pub struct TrustRoots {
    /// A PEM bundle that replaces the system's (`SSL_CERT_FILE`).
    pub file: Option<PathBuf>,
    /// A folder of PEM files that replaces the system's (`SSL_CERT_DIR`).
    pub dir: Option<PathBuf>,
}

/// Bundles of Debian, Fedora, openSUSE, old RHEL, new RHEL, Alpine.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

impl TrustRoots {
    fn load(&self) -> Result<Roots> {
        let mut roots = Roots::none();
        if let Some(file) = &self.file {
            roots.add_file(file)?;
        }
        if let Some(dir) = &self.dir {
            let entries = std::fs::read_dir(dir).map_err(|error| Error::file(dir, error))?;
            for path in entries.flatten().map(|entry| entry.path()) {
                // Such folders also hold read-me files and dead links.
                let _ = roots.add_file(&path);
            }
        }
        if self.file.is_none() && self.dir.is_none() {
            let _ = BUNDLES.iter().find(|path| roots.add_file(Path::new(path)).is_ok());
            if roots.authorities.is_empty() {
                let mozillas = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned();
                roots.authorities.add_parsable_certificates(mozillas);
            }
        }
        Ok(roots)
    }
}

/// Certificates that are trusted.
#[derive(Clone, Debug)]
struct Roots {
    authorities: RootCertStore,
    /// The same certificates as the caller has them, to know one again that a server shows.
    given: Vec<CertificateDer<'static>>,
}

impl Roots {
    fn none() -> Self {
        Self { authorities: RootCertStore::empty(), given: Vec::new() }
    }

    /// Adds the certificates of a file, except those that this TLS library cannot read: bundles
    /// hold a few of those.
    fn add_file(&mut self, path: &Path) -> Result<()> {
        let certificates = read_certificates(path)?;
        self.given.extend(certificates.iter().cloned());
        match self.authorities.add_parsable_certificates(certificates).0 {
            0 => Err(Error::file(path, "it has no certificate")),
            _ => Ok(()),
        }
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| Error::file(path, error))
}

/// Makes TLS settings. The root certificates are read when the first host needs them, because a
/// build without TLS connections should not pay for them.
pub(crate) struct Tls {
    trust: TrustRoots,
    roots: OnceLock<Roots>,
    provider: Arc<CryptoProvider>,
}

impl Tls {
    pub(crate) fn new(trust: TrustRoots) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Self { trust, roots: OnceLock::new(), provider }
    }

    /// For connections without TLS: no certificate is trusted.
    pub(crate) fn nobody(&self) -> Result<ClientConfig> {
        self.config(RootCertStore::empty(), &HostConfig::default())
    }

    /// For a host. Reads files.
    pub(crate) fn for_host(&self, host: &HostConfig, insecure: bool) -> Result<ClientConfig> {
        let mut roots = match self.roots.get() {
            _ if insecure => Roots::none(),
            Some(roots) => roots.clone(),
            None => {
                let loaded = self.trust.load()?;
                self.roots.get_or_init(|| loaded).clone()
            }
        };
        for path in &host.ca {
            roots.add_file(path)?;
        }
        let trust = if insecure {
            HostTrust::Anyone
        } else {
            HostTrust::roots(roots, self.provider.clone())?
        };
        let verifier = HostVerifier { trust, provider: self.provider.clone() };
        let mut config = self.config(RootCertStore::empty(), host)?;
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
        Ok(config)
    }

    fn config(&self, roots: RootCertStore, host: &HostConfig) -> Result<ClientConfig> {
        let refused = |reason: rustls::Error| Error::Setting {
            setting: "TLS".into(),
            reason: reason.to_string(),
        };
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(refused)?
            .with_root_certificates(roots);
        let Some(client) = host.client_certificates.first() else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = read_certificates(&client.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&client.key)
            .map_err(|error| Error::file(&client.key, error))?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| Error::file(&client.certificate, error))
    }
}

/// A host's certificates that are believed.
#[derive(Debug)]
enum HostTrust {
    /// Certificates that chain to a root, and one that is itself a root: that of a registry which was made
    /// with `openssl req -x509` is an authority by its extensions, and servers are not to show such. OpenSSL and Go
    /// take it too if it is trusted as it is.
    Roots { chained: Arc<WebPkiServerVerifier>, given: Vec<CertificateDer<'static>> },
    /// Any, for hosts that the caller calls insecure.
    Anyone,
}

impl HostTrust {
    fn roots(roots: Roots, provider: Arc<CryptoProvider>) -> Result<Self> {
        let Roots { authorities, given } = roots;
        let chained =
            WebPkiServerVerifier::builder_with_provider(Arc::new(authorities), provider).build();
        let chained = chained
            .map_err(|error| Error::Setting { setting: "TLS".into(), reason: error.to_string() })?;
        Ok(Self::Roots { chained, given })
    }
}

/// Verifies the certificate of a host.
#[derive(Debug)]
struct HostVerifier {
    trust: HostTrust,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for HostVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let HostTrust::Roots { chained, given } = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        let verified =
            chained.verify_server_cert(end_entity, intermediates, server_name, ocsp, now);
        match verified {
            // Dates are looked at before this is found (webpki, `verify_cert`), names after it.
            Err(error) if is_authority(&error) && given.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
