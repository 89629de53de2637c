//! Caches in object stores. Azure and Google are simulated by a server that answers as their
//! documentation describes and records its requests, because tests cannot reach the real ones.

use std::time::Duration;

use cache::{BackendCredentials, BackendSettings, BucketSettings, CacheMode, Export, Service};
use testing::{Answer, FakeRegistry, FakeServer};
use transfer::Transfer;

use crate::world::{Machine, request};

const SECRET: &str = "bm90LXNvLXNlY3JldA==";

fn settings(service: Service, credentials: &[(&str, &str)]) -> BucketSettings {
    let is_azure = matches!(service, Service::Azure { .. });
    let credentials =
        credentials.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let prefixes = if is_azure { ["blobs", "manifests"] } else { ["blobs/", "manifests/"] };
    BucketSettings {
        service,
        bucket: "bucket".into(),
        prefix: "team/".into(),
        blobs_prefix: prefixes[0].into(),
        manifests_prefix: prefixes[1].into(),
        names: vec!["main".into(), "branch".into()],
        touch_refresh: Duration::from_secs(24 * 3600),
        parallelism: 4,
        attempts: 1,
        credentials: BackendCredentials::new(credentials),
    }
}

fn s3(url: &str) -> BucketSettings {
    let keys = [("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", SECRET)];
    let endpoint = Some(url.to_owned());
    settings(Service::S3 { region: "r".into(), endpoint, path_style: true }, &keys)
}

fn azure(url: &str) -> BucketSettings {
    let service = Service::Azure { account_url: url.to_owned(), account: "account".into() };
    settings(service, &[("AZURE_STORAGE_ACCOUNT_KEY", SECRET)])
}

fn google(url: &str) -> BucketSettings {
    let key = r#"{"client_email":"","private_key":"","private_key_id":"","disable_oauth":true}"#;
    let endpoint = Some(url.to_owned());
    settings(Service::Google { endpoint }, &[("GOOGLE_SERVICE_ACCOUNT_KEY", key)])
}

/// Builds on one machine, and again on another that has only the cache.
async fn there_and_back(server: &FakeServer, settings: BucketSettings) {
    let registry = FakeRegistry::start();
    let machine = Machine::new(&registry);
    let solved = machine.build(Vec::new()).await;
    let settings = BackendSettings::Bucket(settings);
    let place = settings.open(machine.transfer.client()).unwrap();
    assert!(place.import().await.unwrap_err().is_absent());
    let export = Export::new(&solved.steps, std::slice::from_ref(&solved.output), CacheMode::Max);
    let request = request(cache::Form::ImageManifest);
    cache::write(&export, &machine.transfer, &*place, &request).await.unwrap();

    // The names that BuildKit looks for.
    let plain = |line: String| line.replace("%2F", "/").replace("%3A", ":");
    let lines: Vec<String> = server.lines().into_iter().map(plain).collect();
    for layer in solved.output.layers() {
        let name = format!("team/blobs/{}", layer.blob.unwrap().digest);
        let is_it = |line: &&String| line.starts_with("PUT ") && line.contains(&name);
        assert_eq!(lines.iter().filter(is_it).count(), 1, "{name}: {lines:#?}");
    }
    for name in ["main", "branch"] {
        let name = format!("/bucket/team/manifests/{name}");
        let is_it = |line: &&String| line.starts_with("PUT ") && line.contains(&name);
        assert_eq!(lines.iter().filter(is_it).count(), 1, "{name}: {lines:#?}");
    }

    let other = Machine::new(&registry);
    let place = settings.open(other.transfer.client()).unwrap();
    let imported = place.import().await.unwrap();
    let warm = other.build(vec![imported]).await;
    assert_eq!(other.ran(), [""; 0]);
    assert_eq!(warm.output.id(), solved.output.id());

    // Only a transfer that knows the remote gets a layer from it.
    let layer = warm.output.top().unwrap().clone();
    let error = other.transfer.fetch_blob(&layer, None).await.unwrap_err();
    assert!(error.to_string().contains("this build was not told of it"), "{error}");
    let told = Transfer::with_remotes(
        other.transfer.store().clone(),
        other.transfer.client().clone(),
        graph::Events::none(),
        place.remote().into_iter().collect(),
    );
    let blob = told.fetch_blob(&layer, None).await.unwrap();
    assert!(told.store().has_blob(&blob.digest).unwrap());
}

#[tokio::test]
async fn s3_keeps_a_cache() {
    let server = FakeServer::of_objects();
    there_and_back(&server, s3(&server.url())).await;
    let authorization = server.asked()[0].headers["authorization"].clone();
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=key/"), "{authorization}");
    // An object older than `touch_refresh` is touched by a copy onto itself.
    let machine = Machine::new(&FakeRegistry::start());
    let solved = machine.build(Vec::new()).await;
    let settings = BucketSettings { touch_refresh: Duration::ZERO, ..s3(&server.url()) };
    let place = BackendSettings::Bucket(settings).open(machine.transfer.client()).unwrap();
    let export = Export::new(&solved.steps, std::slice::from_ref(&solved.output), CacheMode::Min);
    let request = request(cache::Form::ImageManifest);
    cache::write(&export, &machine.transfer, &*place, &request).await.unwrap();
    let asked = server.asked();
    let touched = asked.iter().filter_map(|asked| asked.headers.get("x-amz-copy-source"));
    let touched: Vec<&String> = touched.collect();
    assert_eq!(touched.len(), 4, "{touched:?}");
    assert!(touched[0].starts_with("bucket/team/blobs/sha256:"), "{touched:?}");
}

/// With a server that simulates Azure Blob Storage (Put Blob, Get Blob, Get Blob Properties).
#[tokio::test]
async fn azure_keeps_a_cache_played() {
    let server = FakeServer::of_objects();
    there_and_back(&server, azure(&server.url())).await;
    let asked = server.asked();
    let is_put = |asked: &&testing::Asked| asked.method == "PUT";
    let puts: Vec<_> = asked.iter().filter(is_put).collect();
    // The container did not exist.
    assert_eq!(puts[0].target, "/bucket?restype=container");
    let of_containers = asked.iter().filter(|asked| asked.target == puts[0].target).count();
    assert_eq!(of_containers, 2, "it is asked for once, and made once");
    assert_eq!(puts[1].headers["x-ms-blob-type"], "BlockBlob");
    for put in puts {
        assert!(put.headers["authorization"].starts_with("SharedKey account:"));
    }
}

#[tokio::test]
async fn azures_container_is_made_only_where_it_is_missing_played() {
    for (there, made, expected) in [(403, 201, ""), (404, 409, ""), (404, 403, "no container")] {
        let server = FakeServer::start(move |asked| {
            let is_container = asked.target.contains("restype=container");
            Answer::of(match (is_container, asked.method.as_str()) {
                (true, "GET") => there,
                (true, _) => made,
                (false, "GET" | "HEAD") => 404,
                (false, _) => 201,
            })
        });
        let registry = FakeRegistry::start();
        let machine = Machine::new(&registry);
        let solved = machine.build(Vec::new()).await;
        let settings = BackendSettings::Bucket(azure(&server.url()));
        let place = settings.open(machine.transfer.client()).unwrap();
        let export =
            Export::new(&solved.steps, std::slice::from_ref(&solved.output), CacheMode::Max);
        let request = request(cache::Form::ImageManifest);
        let written = cache::write(&export, &machine.transfer, &*place, &request).await;
        let text = written.err().map(|error| graph::chain_text(&error)).unwrap_or_default();
        // A server that does not store anything is noticed too, but only after the container.
        assert_eq!(text.contains("no container"), !expected.is_empty(), "{there} {made}: {text}");
    }
}

/// With a server that simulates Google Cloud Storage (its XML interface).
#[tokio::test]
async fn google_keeps_a_cache_played() {
    let server = FakeServer::of_objects();
    there_and_back(&server, google(&server.url())).await;
}

#[tokio::test]
async fn what_a_server_says_hides_what_opens_it() {
    let machine = Machine::new(&FakeRegistry::start());
    let client = machine.transfer.client();
    for make in [s3, azure] {
        // A server that repeats the whole request, including the secret.
        let server = FakeServer::start(|asked| Answer {
            status: 403,
            body: format!("no: {asked:?} {SECRET}").into(),
            ..Answer::default()
        });
        let place = BackendSettings::Bucket(make(&server.url())).open(client).unwrap();
        let error = graph::chain_text(&place.import().await.unwrap_err());
        assert!(error.contains("403") && !error.contains(SECRET), "{error}");
    }
}

#[tokio::test]
async fn a_layer_of_another_size_is_not_believed() {
    let registry = FakeRegistry::start();
    let machine = Machine::new(&registry);
    let solved = machine.build(Vec::new()).await;
    let server = FakeServer::start(|_| Answer {
        headers: vec![
            ("etag".into(), "\"1\"".into()),
            ("last-modified".into(), "Tue, 24 Nov 2026 01:00:00 GMT".into()),
        ],
        ..Answer::text("short")
    });
    let settings = BackendSettings::Bucket(s3(&server.url()));
    let place = settings.open(machine.transfer.client()).unwrap();
    let remote = place.remote().unwrap();
    let blob = solved.output.top().unwrap().blob.clone().unwrap();
    let error = remote.open(&blob).await.err().unwrap().to_string();
    assert!(error.contains("has 5 bytes, not"), "{error}");
    assert!(!remote.has(&blob).await.unwrap());
}

#[test]
fn names_that_buildkit_would_not_find_are_refused() {
    let machine = Machine::new(&FakeRegistry::start());
    for (prefix, names) in [("/a", "x"), ("a//", "x"), ("a/", "x//y")] {
        let settings = BucketSettings {
            prefix: prefix.into(),
            names: vec![names.into()],
            ..s3("http://localhost:1")
        };
        let place = BackendSettings::Bucket(settings).open(machine.transfer.client());
        let error = place.unwrap_err().to_string();
        assert!(error.contains("object name"), "{error}");
    }
}
