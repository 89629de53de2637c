//! Whom to believe over TLS.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::{Error, HostConfig, Result};

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
    fn load(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        if let Some(file) = &self.file {
            add_file(&mut roots, file)?;
        }
        if let Some(dir) = &self.dir {
            let entries = std::fs::read_dir(dir).map_err(|error| Error::file(dir, error))?;
            for path in entries.flatten().map(|entry| entry.path()) {
                // Such folders also hold read-me files and dead links.
                let _ = add_file(&mut roots, &path);
            }
        }
        if self.file.is_none() && self.dir.is_none() {
            let _ = BUNDLES.iter().find(|path| add_file(&mut roots, Path::new(path)).is_ok());
            if roots.is_empty() {
                roots.add_parsable_certificates(
                    webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned(),
                );
            }
        }
        Ok(roots)
    }
}

/// Adds the certificates of a file, except those that this TLS library cannot read: bundles hold
/// a few of those.
fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<()> {
    let added = roots.add_parsable_certificates(read_certificates(path)?).0;
    match added {
        0 => Err(Error::file(path, "it has no certificate")),
        _ => Ok(()),
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| Error::file(path, error))
}

/// Makes TLS settings. The roots are read once, when the first host needs them: a build that
/// talks to nobody over TLS does not pay for them.
pub(crate) struct Tls {
    trust: TrustRoots,
    roots: OnceLock<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl Tls {
    pub(crate) fn new(trust: TrustRoots) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Self { trust, roots: OnceLock::new(), provider }
    }

    /// For connections without TLS: nobody is believed.
    pub(crate) fn nobody(&self) -> Result<ClientConfig> {
        self.config(RootCertStore::empty(), &HostConfig::default())
    }

    /// For a host. Reads files.
    pub(crate) fn for_host(&self, host: &HostConfig, insecure: bool) -> Result<ClientConfig> {
        let mut roots = match self.roots.get() {
            _ if insecure => RootCertStore::empty(),
            Some(roots) => roots.clone(),
            None => {
                let loaded = self.trust.load()?;
                self.roots.get_or_init(|| loaded).clone()
            }
        };
        for path in &host.ca {
            add_file(&mut roots, path)?;
        }
        let mut config = self.config(roots, host)?;
        if insecure {
            let anyone = Arc::new(Anyone(self.provider.clone()));
            config.dangerous().set_certificate_verifier(anyone);
        }
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

/// Believes any certificate: for hosts that the caller calls insecure.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
