use std::path::{Path, PathBuf};

use oci::media_type;
use registry::{Error, Expect, HostsConfig, Proxies};
use testing::{FakeRegistry, Fault, TlsFiles};

use super::*;

fn tls_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

fn tls_registry(asks_for_client: bool) -> FakeRegistry {
    FakeRegistry::start_tls(&TlsFiles {
        certificate: tls_file("server.crt"),
        key: tls_file("server.key"),
        client_ca: asks_for_client.then(|| tls_file("ca.crt")),
    })
}

fn client_at(hosts: HostsConfig) -> Client {
    Client::new(Settings { hosts, ..settings() }).unwrap()
}

#[tokio::test]
async fn mirrors_come_first_and_may_fail() {
    let (origin, mirror) = (FakeRegistry::start(), FakeRegistry::start());
    let gone = {
        let gone = FakeRegistry::start();
        gone.host()
    };
    let bytes = some_bytes(100_000);
    let blob = layer(&bytes);
    for registry in [&origin, &mirror] {
        registry.put_manifest("a", Some("v1"), media_type::OCI_INDEX, "{}");
    }
    origin.put_blob("a", bytes.clone());
    let mut hosts = HostsConfig::default();
    hosts.host_mut(&origin.host()).mirrors = vec![format!("http://{gone}"), mirror.host()];
    let client = client_at(hosts);
    let from = repository(&origin, "a");
    client.resolve(&reference(&origin, "a:v1")).await.unwrap();
    assert_eq!(origin.requests().len(), 0);
    assert_eq!(mirror.requests(), [format!("HEAD /v2/a/manifests/v1?ns={}", origin.host())]);
    assert_eq!(client.stats().requests, 2);
    // The mirror lacks this blob, and the dead mirror is not asked again.
    assert!(pull(&client, &from, &blob).await.unwrap() == bytes);
    assert_eq!(client.stats().requests, 4);
    // Pushes bypass the mirror.
    mirror.forget_requests();
    let new = some_bytes(10);
    client.push_blob(&from, &layer(&new), &new, &[], Expect::Unknown).await.unwrap();
    let name = reference(&origin, "a:v2");
    client.put_manifest(&name, media_type::OCI_INDEX, new).await.unwrap();
    assert_eq!(mirror.requests().len(), 0);
}

/// After any fault of a mirror, the next place is used.
#[tokio::test]
async fn a_wrong_mirror_is_left() {
    for fault in [Fault::Garbled, Fault::Short, Fault::Cut, Fault::Reset, Fault::status(500, None)]
    {
        let (origin, mirror) = (FakeRegistry::start(), FakeRegistry::start());
        let bytes = some_bytes(100_000);
        let blob = layer(&bytes);
        for registry in [&origin, &mirror] {
            registry.put_manifest("a", Some("v1"), media_type::OCI_INDEX, "{}");
            registry.put_blob("a", bytes.clone());
        }
        let mut hosts = HostsConfig::default();
        // Without a scheme, a broken connection would be retried with TLS.
        hosts.host_mut(&origin.host()).mirrors = vec![format!("http://{}", mirror.host())];
        let from = repository(&origin, "a");
        let name = reference(&origin, "a:v1");

        mirror.fail_after(0, fault.clone());
        client_at(hosts.clone()).manifest(&name).await.unwrap();
        mirror.fail_after(0, fault.clone());
        let whole = client_at(hosts.clone()).blob_bytes(&from, &blob, 1 << 20).await;
        assert!(whole.unwrap() == bytes, "{fault:?}");
        mirror.fail_after(0, fault.clone());
        let client = client_at(hosts.clone());
        let streamed = match pull(&client, &from, &blob).await {
            Err(error) if fault == Fault::Garbled => {
                let text = error.to_string();
                assert!(text.contains(&mirror.host()) && text.contains("other bytes"), "{text}");
                pull(&client, &from, &blob).await
            }
            done => done,
        };
        assert!(streamed.unwrap() == bytes, "{fault:?}");
        assert_eq!(origin.requests().len(), 3, "{fault:?}: {:?}", origin.requests());
    }
}

#[tokio::test]
async fn certificates_are_checked() {
    let registry = tls_registry(false);
    registry.put_manifest("a", Some("v1"), media_type::OCI_INDEX, "{}");
    let name = reference(&registry, "a:v1");
    let mut hosts = HostsConfig::default();
    hosts.host_mut(&registry.host()).plain_http = Some(false);
    let unknown = client_at(hosts.clone());
    let error = unknown.resolve(&name).await.unwrap_err();
    assert!(matches!(error, Error::Untrusted { .. }), "{error}");
    assert_eq!(unknown.stats().requests, 1, "a wrong certificate stays wrong");
    unknown.for_host(&registry.host(), true).resolve(&name).await.unwrap();

    hosts.host_mut(&registry.host()).ca = vec![tls_file("ca.crt")];
    client_at(hosts.clone()).resolve(&name).await.unwrap();
    hosts.host_mut(&registry.host()).ca = vec![tls_file("none.crt")];
    let error = client_at(hosts).resolve(&name).await.unwrap_err();
    assert!(error.to_string().contains("none.crt"), "{error}");
}

/// The proxy forwards plain HTTP, but does not support CONNECT, which TLS needs.
#[tokio::test]
async fn insecure_hosts_are_tried_with_tls_first() {
    let proxy = FakeRegistry::start();
    proxy.put_manifest("a", Some("v1"), media_type::OCI_INDEX, "{}");
    let mut settings = settings();
    let (http, https) = (Some(proxy.host()), Some(proxy.host()));
    settings.proxies = Proxies { http, https, ..Proxies::default() };
    let client = Client::new(settings).unwrap();
    let name = "registry.test:5000/a:v1".parse().unwrap();
    client.resolve(&name).await.unwrap_err();
    proxy.forget_requests();
    let insecure = client.with_insecure("registry.test:5000");
    for _ in 0..2 {
        insecure.resolve(&name).await.unwrap();
    }
    let asked = proxy.requests();
    let tls = asked.iter().filter(|line| line.starts_with("CONNECT")).count();
    assert_eq!((tls, asked.len()), (1, 3), "{asked:?}");
}

#[tokio::test]
async fn dockers_certificates_are_used() {
    let registry = tls_registry(true);
    registry.put_manifest("a", Some("v1"), media_type::OCI_INDEX, "{}");
    let name = reference(&registry, "a:v1");
    let dir = tempfile::tempdir().unwrap();
    let host = dir.path().join(registry.host());
    std::fs::create_dir(&host).unwrap();
    std::fs::copy(tls_file("ca.crt"), host.join("ca.crt")).unwrap();
    let hosts = HostsConfig::default().with_certs_dir(dir.path());
    client_at(hosts.clone()).resolve(&name).await.unwrap_err();
    std::fs::copy(tls_file("client.cert"), host.join("client.cert")).unwrap();
    std::fs::copy(tls_file("client.key"), host.join("client.key")).unwrap();
    client_at(hosts).resolve(&name).await.unwrap();
}

#[tokio::test]
async fn certificates_of_the_caller_replace_the_systems() {
    let registry = tls_registry(false);
    let mut settings = settings();
    settings.hosts.host_mut(&registry.host()).plain_http = Some(false);
    settings.roots.file = Some(tls_file("ca.crt"));
    Client::new(settings).unwrap().ping(&registry.host()).await.unwrap();
}

#[tokio::test]
async fn a_proxy_is_used_where_it_should_be() {
    let proxy = FakeRegistry::start();
    proxy.put_manifest("a", Some("v1"), media_type::OCI_INDEX, "{}");
    let mut settings = settings();
    settings.hosts.host_mut("registry.test:5000").plain_http = Some(true);
    settings.proxies = Proxies { http: Some(proxy.host()), ..Proxies::default() };
    let client = Client::new(settings).unwrap();
    client.resolve(&"registry.test:5000/a:v1".parse().unwrap()).await.unwrap();
    assert_eq!(proxy.requests().len(), 1);
    let direct = FakeRegistry::start();
    client.ping(&direct.host()).await.unwrap();
    assert_eq!((proxy.requests().len(), direct.requests().len()), (1, 1));
}
