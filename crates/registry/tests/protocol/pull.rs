use oci::{Digest, media_type};
use registry::Error;
use testing::FakeRegistry;

use super::*;

const INDEX: &[u8] = br#"{"schemaVersion":2,"manifests":[]}"#;

#[tokio::test]
async fn a_tag_is_resolved_by_one_request() {
    let registry = FakeRegistry::start();
    let digest = registry.put_manifest("a/b", Some("v1"), media_type::OCI_INDEX, INDEX);
    let client = client();
    let found = client.resolve(&reference(&registry, "a/b:v1")).await.unwrap();
    assert_eq!((found.digest, found.size), (digest, INDEX.len() as u64));
    assert_eq!(found.media_type, media_type::OCI_INDEX);
    assert_eq!(registry.requests(), ["HEAD /v2/a/b/manifests/v1"]);
    let (descriptor, bytes) = client.manifest(&reference(&registry, "a/b:v1")).await.unwrap();
    assert_eq!((descriptor, &bytes[..]), (found, INDEX));
    let stats = client.stats();
    assert_eq!((stats.requests, stats.bytes_down, stats.bytes_up), (2, INDEX.len() as u64, 0));
}

#[tokio::test]
async fn a_head_that_says_too_little_is_asked_as_get() {
    for fault in [FakeRegistry::hide_digests, FakeRegistry::refuse_head] {
        let registry = FakeRegistry::start();
        let digest = registry.put_manifest("a", Some("v1"), media_type::OCI_INDEX, INDEX);
        registry.untyped_manifests();
        fault(&registry);
        let found = client().resolve(&reference(&registry, "a:v1")).await.unwrap();
        assert_eq!((found.digest, found.media_type.as_str()), (digest, media_type::OCI_INDEX));
        assert_eq!(registry.requests().len(), 2);
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let registry = FakeRegistry::start();
    let client = client();
    for error in [
        client.resolve(&reference(&registry, "a:no")).await.unwrap_err(),
        client.manifest(&reference(&registry, "a:no")).await.unwrap_err(),
        pull(&client, &repository(&registry, "a"), &layer(b"no")).await.unwrap_err(),
    ] {
        assert!(error.is_not_found(), "{error}");
    }
    assert_eq!(registry.requests().len(), 3);
}

#[tokio::test]
async fn lies_are_found_out() {
    let registry = FakeRegistry::start();
    let digest = registry.put_manifest("a", Some("v1"), media_type::OCI_INDEX, INDEX);
    let bytes = some_bytes(100_000);
    registry.put_blob("a", bytes.clone());
    registry.lie_about_digest();
    let client = client();
    let repository = repository(&registry, "a");
    for name in ["a:v1".to_owned(), format!("a@{digest}")] {
        let error = client.manifest(&reference(&registry, &name)).await.unwrap_err();
        assert!(matches!(error, Error::Corrupt { expected, .. } if expected == digest), "{error}");
    }
    let error = pull(&client, &repository, &layer(&bytes)).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    let error = client.blob_bytes(&repository, &layer(&bytes), 1 << 20).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn the_last_bytes_of_a_wrong_blob_are_held_back() {
    let registry = FakeRegistry::start();
    let bytes = some_bytes(1_000_000);
    registry.put_blob("a", bytes.clone());
    registry.lie_about_digest();
    let repository = repository(&registry, "a");
    let mut stream = client().blob(&repository, &layer(&bytes)).await.unwrap();
    let mut got = 0;
    while let Ok(Some(bytes)) = stream.try_next().await {
        got += bytes.len();
    }
    assert!(got < bytes.len());
}

#[tokio::test]
async fn documents_and_blobs_have_limits() {
    let registry = FakeRegistry::start();
    registry.put_manifest("a", Some("big"), media_type::OCI_INDEX, vec![b' '; (4 << 20) + 1]);
    let client = client();
    let error = client.manifest(&reference(&registry, "a:big")).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit, .. } if limit == 4 << 20), "{error}");
    let blob = layer(b"0123456789");
    registry.put_blob("a", &b"0123456789"[..]);
    let repository = repository(&registry, "a");
    let error = client.blob_bytes(&repository, &blob, 9).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 9, .. }), "{error}");
    for size in [9, 11] {
        let wrong = Descriptor { size, ..blob.clone() };
        let error = pull(&client, &repository, &wrong).await.unwrap_err();
        assert!(matches!(error, Error::Size { actual: 10, .. }), "{error}");
    }
    assert_eq!(&client.blob_bytes(&repository, &blob, 10).await.unwrap()[..], b"0123456789");
}

#[tokio::test]
async fn an_empty_blob_is_a_blob() {
    let registry = FakeRegistry::start();
    registry.put_blob("a", Bytes::new());
    let (client, repository) = (client(), repository(&registry, "a"));
    assert!(pull(&client, &repository, &layer(b"")).await.unwrap().is_empty());
    let wrong = Descriptor::new(media_type::OCI_LAYER, Digest::of("x"), 0);
    assert!(pull(&client, &repository, &wrong).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn passing_faults_are_waited_out() {
    let registry = FakeRegistry::start();
    registry.put_manifest("a", Some("v1"), media_type::OCI_INDEX, INDEX);
    let client = client();
    let reference = reference(&registry, "a:v1");
    for (status, headers) in [
        (503, &[][..]),
        (429, &[("Retry-After", "3600")][..]),
        (429, &[("Retry-After", "Fri, 01 Jan 2100 00:00:00 GMT")][..]),
        (500, &[][..]),
        (408, &[][..]),
    ] {
        registry.fail_next(2, status, headers);
        registry.forget_requests();
        client.resolve(&reference).await.unwrap();
        assert_eq!(registry.requests().len(), 3, "{status}");
    }
    registry.fail_next(9, 503, &[]);
    registry.forget_requests();
    let error = client.manifest(&reference).await.unwrap_err();
    assert!(
        matches!(&error, Error::Refused { status: 503, message, .. } if message == "FAKE: told to fail")
    );
    assert_eq!(registry.requests().len(), 4);
}

#[tokio::test]
async fn other_faults_are_not() {
    let registry = FakeRegistry::start();
    for (status, word) in [(403, "forbids"), (418, "418"), (404, "has no")] {
        registry.fail_next(1, status, &[]);
        registry.forget_requests();
        let error = client().manifest(&reference(&registry, "a:v1")).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(word) && text.contains("FAKE: told to fail"), "{text}");
        assert_eq!(registry.requests().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_broke() {
    for ignores_ranges in [false, true] {
        let registry = FakeRegistry::start();
        let bytes = some_bytes(300_000);
        registry.put_blob("a", bytes.clone());
        // More interruptions than attempts, each after some progress.
        let cuts = match ignores_ranges {
            true => [100_000, 110_000, 120_000, 130_000, 140_000, 150_000],
            false => [100_000, 0, 10_000, 1, 50_000, 7],
        };
        cuts.into_iter().for_each(|cut| registry.cut_blob_after(cut));
        if ignores_ranges {
            registry.ignore_ranges();
        }
        let pulled = pull(&client(), &repository(&registry, "a"), &layer(&bytes)).await.unwrap();
        assert!(pulled == bytes);
        let ranges: Vec<_> = registry.seen().into_iter().map(|seen| seen.range).collect();
        assert_eq!(ranges[0], None);
        assert!(ranges[1].is_some() && ranges.len() >= 3, "{ranges:?}");
        if !ignores_ranges {
            assert_eq!(ranges.last().unwrap().as_deref(), Some("bytes=160008-"));
        }
    }
}

#[tokio::test]
async fn a_download_that_always_breaks_ends() {
    let registry = FakeRegistry::start();
    let bytes = some_bytes(1000);
    registry.put_blob("a", bytes.clone());
    for _ in 0..20 {
        registry.cut_blob_after(0);
    }
    pull(&client(), &repository(&registry, "a"), &layer(&bytes)).await.unwrap_err();
    assert_eq!(registry.requests().len(), 4);
}

#[tokio::test]
async fn storage_elsewhere_is_not_told_who_asks() {
    let (registry, storage) = (FakeRegistry::start(), FakeRegistry::start());
    let bytes = some_bytes(200_000);
    registry.put_blob("a", bytes.clone());
    storage.put_blob("any", bytes.clone());
    storage.cut_blob_after(70_000);
    registry.require_basic("me", "pw");
    registry.redirect_blobs(format!("http://{}", storage.host()));
    let client = super::auth::client_of(&registry, "me", "pw");
    let pulled = pull(&client, &repository(&registry, "a"), &layer(&bytes)).await.unwrap();
    assert!(pulled == bytes);
    let seen = storage.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|seen| seen.authorization.is_none()));
    assert_eq!(seen[1].range.as_deref(), Some("bytes=70000-"));
}

#[tokio::test]
async fn nobody_listens() {
    let host = {
        let registry = FakeRegistry::start();
        registry.host()
    };
    let client = client();
    let error = client.resolve(&format!("{host}/a").parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Reach { .. }), "{error}");
    assert_eq!(client.stats().requests, 1, "a refused connection is not tried again");
}

#[tokio::test]
async fn downloads_run_side_by_side() {
    let registry = FakeRegistry::start();
    let (client, repository) = (client(), repository(&registry, "a"));
    let blobs: Vec<Bytes> = (1..20).map(|n| some_bytes(n * 10_000)).collect();
    for blob in &blobs {
        registry.put_blob("a", blob.clone());
    }
    let descriptors: Vec<_> = blobs.iter().map(|blob| layer(blob)).collect();
    let pulls = descriptors.iter().map(|descriptor| pull(&client, &repository, descriptor));
    let pulled = futures_util::future::try_join_all(pulls).await.unwrap();
    assert!(pulled == blobs);
}

/// A silent host is retried less often than one that responds.
#[tokio::test]
async fn a_host_that_says_nothing_is_asked_twice() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let mut settings = settings();
    settings.timeouts.idle = std::time::Duration::from_millis(50);
    settings.retry.attempts = 5;
    let client = registry::Client::new(settings).unwrap().with_insecure(&host);
    let reference = format!("{host}/a:v1").parse().unwrap();
    let asked = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            held.push(connection);
        }
        held.len()
    });
    let error = client.resolve(&reference).await.unwrap_err();
    assert!(matches!(error, Error::Silent { .. }), "{error}");
    assert_eq!(client.stats().requests, 2);
    asked.abort();
}
