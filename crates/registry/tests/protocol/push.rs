use std::io;

use oci::{Digest, media_type};
use registry::{BlobSource, Error, Expect, Pushed};
use testing::FakeRegistry;

use super::*;

#[tokio::test]
async fn a_new_blob_costs_two_requests_or_three() {
    let registry = FakeRegistry::start();
    let (client, repository) = (client(), repository(&registry, "a/b"));
    let bytes = some_bytes(500_000);
    for (expect, bytes, methods) in [
        (Expect::New, bytes.slice(1..), &["POST", "PUT"][..]),
        (Expect::Unknown, bytes.slice(2..), &["HEAD", "POST", "PUT"][..]),
    ] {
        registry.forget_requests();
        let blob = layer(&bytes);
        let pushed = client.push_blob(&repository, &blob, &bytes, &[], expect).await.unwrap();
        assert_eq!(pushed, Pushed::Uploaded(blob.size));
        assert_eq!(registry.blob(blob.digest), Some(bytes.clone()));
        let requests = registry.requests();
        let asked: Vec<_> = requests.iter().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(asked, methods);
        let again = client.push_blob(&repository, &blob, &bytes, &[], expect).await.unwrap();
        assert_eq!(again, Pushed::Existed);
        assert_eq!(registry.requests().len(), methods.len(), "what was pushed is known");
    }
    assert_eq!(client.stats().bytes_up, 999_997);
}

#[tokio::test]
async fn asking_for_leave_to_push_costs_the_first_blob_nothing() {
    let registry = FakeRegistry::start();
    let (client, repository) = (client(), repository(&registry, "a/b"));
    let bytes = some_bytes(1000);
    let methods = || -> Vec<String> {
        let requests = registry.requests();
        requests.iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    };
    client.may_push(&repository).await.unwrap();
    client.may_push(&repository).await.unwrap();
    assert_eq!(methods(), ["POST"]);
    let blob = layer(&bytes);
    client.push_blob(&repository, &blob, &bytes, &[], Expect::New).await.unwrap();
    assert_eq!(methods(), ["POST", "PUT"]);
    assert_eq!(registry.blob(blob.digest), Some(bytes.clone()));
    let other = layer(&bytes.slice(1..));
    client.push_blob(&repository, &other, &bytes.slice(1..), &[], Expect::New).await.unwrap();
    client.give_up_uploads().await;
    assert_eq!(methods(), ["POST", "PUT", "POST", "PUT"]);

    // An upload that is not used is cancelled.
    let unused = self::repository(&registry, "c");
    client.may_push(&unused).await.unwrap();
    registry.forget_requests();
    client.give_up_uploads().await;
    client.give_up_uploads().await;
    assert_eq!(methods(), ["DELETE"]);
}

#[tokio::test]
async fn what_is_there_is_not_sent_and_asked_for_once() {
    let registry = FakeRegistry::start();
    let (client, repository) = (client(), repository(&registry, "a"));
    let blob = layer(b"there");
    registry.put_blob("a", &b"there"[..]);
    assert_eq!(client.exists(&repository, Digest::of("no")).await.unwrap(), None);
    assert_eq!(client.exists(&repository, Digest::of("no")).await.unwrap(), None);
    let source = Bytes::from_static(b"there");
    for _ in 0..2 {
        let pushed = client.push_blob(&repository, &blob, &source, &[], Expect::Unknown).await;
        assert_eq!(pushed.unwrap(), Pushed::Existed);
        assert_eq!(client.exists(&repository, blob.digest).await.unwrap(), Some(5));
    }
    assert_eq!(registry.requests().len(), 2);
    // A blob that was pulled from the repository exists there.
    let other = layer(b"pulled");
    registry.put_blob("a", &b"pulled"[..]);
    pull(&client, &repository, &other).await.unwrap();
    let source = Bytes::from_static(b"pulled");
    client.push_blob(&repository, &other, &source, &[], Expect::Unknown).await.unwrap();
    assert_eq!(registry.requests().len(), 3);
}

#[tokio::test]
async fn a_blob_is_mounted_by_one_request() {
    let registry = FakeRegistry::start();
    let client = client();
    let blob = layer(b"base");
    registry.put_blob("base", &b"base"[..]);
    let from = [
        Repository::new("elsewhere.io", "base"),
        repository(&registry, "app"),
        repository(&registry, "base"),
    ];
    let source = Bytes::from_static(b"base");
    let to = repository(&registry, "app");
    let pushed = client.push_blob(&to, &blob, &source, &from, Expect::Unknown).await.unwrap();
    assert_eq!(pushed, Pushed::Mounted);
    assert!(registry.has_blob("app", blob.digest));
    let expected = format!("POST /v2/app/blobs/uploads/?mount={}&from=base", blob.digest);
    assert_eq!(registry.requests(), [expected]);
}

#[tokio::test]
async fn a_refused_mount_becomes_an_upload() {
    let registry = FakeRegistry::start();
    let client = client();
    let from = [repository(&registry, "base")];
    let to = repository(&registry, "app");
    let source = Bytes::from_static(b"base");
    registry.put_blob("base", source.clone());
    registry.refuse_mounts();
    let pushed = client.push_blob(&to, &layer(b"base"), &source, &from, Expect::New).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded(4));
    assert_eq!(
        registry.requests().len(),
        2,
        "the mount's upload is used: {:?}",
        registry.requests()
    );
    // A mount that fails altogether also leads to an upload.
    let other = Bytes::from_static(b"other");
    registry.forget_requests();
    registry.fail_next(1, 404, &[]);
    let pushed =
        client.push_blob(&to, &layer(&other), &other, &from, Expect::Unknown).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded(5));
    assert_eq!(registry.requests().len(), 4);
}

#[tokio::test]
async fn a_broken_upload_goes_on_where_it_broke() {
    let registry = FakeRegistry::start();
    let (client, repository) = (client(), repository(&registry, "a"));
    let bytes = some_bytes(3_000_000);
    for cut in [1_000_000, 500_000, 1_000_000, 100_000, 100_000] {
        registry.cut_upload_after(cut);
    }
    let blob = layer(&bytes);
    let pushed = client.push_blob(&repository, &blob, &bytes, &[], Expect::New).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded(blob.size));
    assert!(registry.blob(blob.digest).unwrap() == bytes);
    let requests = registry.requests();
    let posts = requests.iter().filter(|line| line.starts_with("POST")).count();
    assert_eq!(posts, 1, "{requests:?}");
}

#[tokio::test]
async fn an_upload_that_always_breaks_ends() {
    let registry = FakeRegistry::start();
    let bytes = some_bytes(2_000_000);
    for _ in 0..20 {
        registry.cut_upload_after(0);
    }
    let to = repository(&registry, "a");
    let error =
        client().push_blob(&to, &layer(&bytes), &bytes, &[], Expect::New).await.unwrap_err();
    assert!(matches!(error, Error::Reach { .. }), "{error}");
}

#[tokio::test]
async fn uploads_survive_an_unwell_registry() {
    let registry = FakeRegistry::start();
    registry.relative_locations();
    let bytes = some_bytes(100_000);
    let (client, to) = (client(), repository(&registry, "a"));
    registry.fail_next(2, 502, &[]);
    client.push_blob(&to, &layer(&bytes), &bytes, &[], Expect::New).await.unwrap();
    registry.forget_requests();
    let small = some_bytes(10);
    registry.fail_next(1, 503, &[("Retry-After", "1")]);
    client.push_bytes(&to, &layer(&small), small.clone()).await.unwrap();
    assert_eq!(registry.blob(layer(&small).digest), Some(small));
}

#[tokio::test]
async fn registries_with_small_bodies_get_pieces() {
    let registry = FakeRegistry::start();
    registry.refuse_whole_blobs();
    let bytes = some_bytes((16 << 20) + 5);
    let to = repository(&registry, "a");
    client().push_blob(&to, &layer(&bytes), &bytes, &[], Expect::New).await.unwrap();
    assert!(registry.blob(layer(&bytes).digest).unwrap() == bytes);
    let patches = registry.requests().iter().filter(|line| line.starts_with("PATCH")).count();
    assert_eq!(patches, 2);
}

#[tokio::test]
async fn wrong_bytes_are_not_taken() {
    let registry = FakeRegistry::start();
    let to = repository(&registry, "a");
    let source = Bytes::from_static(b"these");
    let error =
        client().push_blob(&to, &layer(b"those"), &source, &[], Expect::New).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("400") && text.contains("DIGEST_INVALID"), "{text}");
}

/// A source that fails when opened or ends too early.
struct Bad(bool);

impl BlobSource for Bad {
    type Reader = io::Cursor<Vec<u8>>;

    async fn open(&self, _: u64) -> io::Result<Self::Reader> {
        match self.0 {
            true => Err(io::Error::other("disk on fire")),
            false => Ok(io::Cursor::new(vec![0; 7])),
        }
    }
}

#[tokio::test]
async fn a_source_that_cannot_be_read_is_named() {
    let registry = FakeRegistry::start();
    let to = repository(&registry, "a");
    for (fails, word) in [(true, "disk on fire"), (false, "ends too early")] {
        let error = client()
            .push_blob(&to, &layer(&[0; 100]), &Bad(fails), &[], Expect::New)
            .await
            .unwrap_err();
        let Error::Source { source, .. } = error else { panic!("{error}") };
        assert!(source.to_string().contains(word), "{source}");
    }
}

#[tokio::test]
async fn manifests_are_put_under_their_names() {
    let registry = FakeRegistry::start();
    let client = client();
    let bytes = Bytes::from_static(br#"{"schemaVersion":2}"#);
    let digest = Digest::of(&bytes);
    registry.fail_next(1, 503, &[]);
    for (name, stored) in
        [("a:v1".to_owned(), "v1".to_owned()), (format!("b@{digest}"), digest.to_string())]
    {
        let reference = reference(&registry, &name);
        let put = client.put_manifest(&reference, media_type::OCI_MANIFEST, bytes.clone()).await;
        assert_eq!(put.unwrap(), digest);
        let held = registry.manifest(&name[..1], &stored).unwrap();
        assert_eq!(held, (media_type::OCI_MANIFEST.into(), bytes.clone()));
    }
    let late = reference(&registry, "a:late");
    for (overlooked, is_put) in [(3, true), (4, false)] {
        registry.overlook_blobs(overlooked);
        let put = client.put_manifest(&late, media_type::OCI_MANIFEST, bytes.clone()).await;
        assert_eq!(put.is_ok(), is_put, "{put:?}");
    }
    let wrong = reference(&registry, &format!("a:v2@{}", Digest::of("x")));
    let error = client.put_manifest(&wrong, media_type::OCI_MANIFEST, bytes).await.unwrap_err();
    assert!(matches!(error, Error::OtherManifest { .. }), "{error}");
    assert!(registry.manifest("a", "v2").is_none());
}
