//! Self-signed certificates, and hosts that turn out to use TLS.

use std::path::{Path, PathBuf};

use oci::media_type;
use registry::{Error, HostsConfig};
use testing::{FakeRegistry, TlsFiles};

use super::*;

pub fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

/// A registry with a certificate of `tests/tls`.
pub fn registry(name: &str) -> FakeRegistry {
    let registry = FakeRegistry::start_tls(&TlsFiles {
        certificate: file(&format!("{name}.crt")),
        key: file(&format!("{name}.key")),
        client_ca: None,
    });
    registry.put_manifest("a", Some("v1"), media_type::OCI_INDEX, "{}");
    registry
}

async fn ask(registry: &FakeRegistry, settings: Settings) -> Result<(), Error> {
    let client = Client::new(settings).unwrap();
    client.resolve(&reference(registry, "a:v1")).await.map(drop)
}

fn trusting(registry: &FakeRegistry, name: &str) -> Settings {
    let mut settings = settings();
    settings.hosts.host_mut(&registry.host()).ca = vec![file(name)];
    settings
}

#[tokio::test]
async fn a_certificate_that_signed_itself_is_trusted_where_it_is_named() {
    let registry = registry("self-signed");
    ask(&registry, trusting(&registry, "self-signed.crt")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let host = folder.path().join(registry.host());
    std::fs::create_dir(&host).unwrap();
    std::fs::copy(file("self-signed.crt"), host.join("ca.crt")).unwrap();
    let hosts = HostsConfig::default().with_certs_dir(folder.path());
    ask(&registry, Settings { hosts, ..settings() }).await.unwrap();
    let mut by_bundle = settings();
    by_bundle.roots.file = Some(file("self-signed.crt"));
    ask(&registry, by_bundle).await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_signed_itself_is_checked_all_the_same() {
    for (shown, trusted, word) in [
        ("self-signed", "self-signed-other.crt", "certs.d"),
        ("self-signed", "ca.crt", "SSL_CERT_FILE"),
        ("self-signed-old", "self-signed-old.crt", "no longer valid"),
        ("self-signed-other", "self-signed-other.crt", "another name"),
    ] {
        let registry = registry(shown);
        let error = ask(&registry, trusting(&registry, trusted)).await.unwrap_err();
        assert!(matches!(&error, Error::Untrusted { .. }), "{shown}: {error}");
        let text = error.to_string();
        assert!(text.contains(word) && text.contains(&registry.host()), "{text}");
        assert_eq!(registry.requests().len(), 0);
    }
}

#[tokio::test]
async fn who_signed_is_not_known() {
    let registry = registry("server");
    let error = ask(&registry, trusting(&registry, "self-signed.crt")).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("certs.d") && text.contains("SSL_CERT_FILE"), "{text}");
}

/// Hosts of this machine are contacted by plain HTTP first, and by TLS if they require it.
#[tokio::test]
async fn a_loopback_registry_may_speak_tls() {
    let registry = registry("server");
    let mut by_bundle = settings();
    by_bundle.roots.file = Some(file("ca.crt"));
    ask(&registry, by_bundle).await.unwrap();
    let mut insecure = settings();
    insecure.hosts.host_mut(&registry.host()).insecure = true;
    ask(&registry, insecure).await.unwrap();
    let error = ask(&registry, settings()).await.unwrap_err();
    assert!(matches!(error, Error::Untrusted { .. }), "{error}");
    let plain = FakeRegistry::start();
    plain.put_manifest("a", Some("v1"), media_type::OCI_INDEX, "{}");
    let mut insecure = settings();
    insecure.hosts.host_mut(&plain.host()).insecure = true;
    ask(&plain, insecure).await.unwrap();
    assert_eq!(plain.requests().len(), 1);
}
