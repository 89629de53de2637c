//! Hostile caches, and documents that are not caches.

use oci::{Descriptor, Digest, Manifest, media_type};
use testing::FakeRegistry;

use crate::world::{Machine, reference};

fn manifest(config: Descriptor) -> Vec<u8> {
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.into()),
        artifact_type: None,
        config,
        layers: Vec::new(),
        subject: None,
        annotations: oci::Annotations::new(),
    };
    serde_json::to_vec(&manifest).unwrap()
}

/// The error for a cache with the config `bytes`, which its manifest describes by `descriptor`.
async fn refused(registry: &FakeRegistry, descriptor: Descriptor, bytes: &[u8]) -> String {
    registry.put_blob("app", bytes.to_vec());
    let manifest = manifest(descriptor);
    registry.put_manifest("app", Some("cache"), media_type::OCI_MANIFEST, manifest);
    let machine = Machine::new(registry);
    registry.forget_requests();
    let imported = machine.import(&reference(registry, "app:cache")).await;
    graph::chain_text(&imported.map(drop).unwrap_err())
}

fn config(bytes: &[u8]) -> Descriptor {
    Descriptor::of(media_type::BUILDKIT_CACHE_CONFIG, bytes)
}

#[tokio::test]
async fn a_config_that_is_too_large_is_not_even_asked_for() {
    let registry = FakeRegistry::start();
    let descriptor = Descriptor::new(
        media_type::BUILDKIT_CACHE_CONFIG,
        Digest::of("300 MB of records"),
        300 << 20,
    );
    refused(&registry, descriptor, b"").await;
    assert!(!registry.requests().iter().any(|line| line.contains("/blobs/")));
}

#[tokio::test]
async fn sizes_and_digests_are_checked() {
    let registry = FakeRegistry::start();
    let bytes = vec![b' '; 20 << 20];
    let forged = Descriptor::new(media_type::BUILDKIT_CACHE_CONFIG, Digest::of(&bytes), 10);
    refused(&registry, forged, &bytes).await;
    let short = Descriptor::new(media_type::BUILDKIT_CACHE_CONFIG, Digest::of("{}"), 3);
    refused(&registry, short, b"{}").await;
    registry.lie_about_digest();
    refused(&registry, config(b"{}"), b"{}").await;
}

#[tokio::test]
async fn what_is_no_cache_is_refused() {
    let registry = FakeRegistry::start();
    let deep = "[".repeat(100_000);
    for bytes in [
        &b""[..],
        b"null",
        b"\xff\xfe",
        deep.as_bytes(),
        br#"{"records": 7}"#,
        br#"{"records": [{"digest": "sha256:zz"}]}"#,
        br#"{"layers": [{"blob": "sha512:00", "parent": 99999999999999999999}]}"#,
    ] {
        let error = refused(&registry, config(bytes), bytes).await;
        assert!(error.starts_with("damaged build cache"), "{error:.300}");
    }
    let machine = Machine::new(&registry);
    for bytes in [&b"{}"[..], b"[]", b"null", br#"{"manifests": [{}]}"#] {
        registry.put_manifest("app", Some("other"), media_type::OCI_MANIFEST, bytes.to_vec());
        assert!(machine.import(&reference(&registry, "app:other")).await.is_err());
    }
    let absent = machine.import(&reference(&registry, "app:none")).await.unwrap_err();
    assert!(matches!(absent, cache::Error::Registry(ref error) if error.is_not_found()));
}
