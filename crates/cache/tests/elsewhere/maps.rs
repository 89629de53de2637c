//! Caches in key-value stores, with their layers in a registry.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache::{
    Backend, BackendCredentials, BackendSettings, CacheMode, Export, HTTP_HEADER, MapSettings,
    MapStore, REDIS_PASSWORD, RedisScheme, RedisServer,
};
use oci::Repository;
use registry::{Client, ClientCertificate, Settings};
use testing::{Answer, FakeRegistry, FakeServer};

use crate::world::{Machine, graph_with, request};

const SECRET: &str = "not-so-secret";

fn settings(registry: &FakeRegistry, store: MapStore, credential: &str) -> MapSettings {
    MapSettings {
        store,
        name: "team".into(),
        ttl: Duration::from_secs(3600),
        repository: Repository::new(registry.host(), "layers"),
        insecure: false,
        credentials: BackendCredentials::new([(credential.to_owned(), SECRET.to_owned())]),
    }
}

async fn write(machine: &Machine, backend: &dyn Backend, name: &str) {
    let solved = machine.build_graph(graph_with(name), Vec::new()).await;
    let export = Export::new(&solved.steps, std::slice::from_ref(&solved.output), CacheMode::Max);
    let request = request(cache::Form::ImageManifest);
    cache::write(&export, &machine.transfer, backend, &request).await.unwrap();
}

/// Two builds share a map, and a third machine finds the steps of both.
async fn there_and_back(registry: &FakeRegistry, settings: MapSettings) {
    let first = Machine::new(registry);
    let place = BackendSettings::Map(settings.clone()).open(first.transfer.client()).unwrap();
    assert!(place.import().await.unwrap_err().is_absent());
    write(&first, &*place, "finish one").await;
    let second = Machine::new(registry);
    let place = BackendSettings::Map(settings.clone()).open(second.transfer.client()).unwrap();
    write(&second, &*place, "finish two").await;

    let third = Machine::new(registry);
    for name in ["finish one", "finish two"] {
        let imported = place.import().await.unwrap();
        let warm = third.build_graph(graph_with(name), vec![imported]).await;
        assert_eq!(third.ran(), [""; 0], "{name}");
        let layer = warm.output.top().unwrap().clone();
        assert!(registry.has_blob("layers", layer.blob.as_ref().unwrap().digest));
        third.transfer.fetch_blob(&layer, None).await.unwrap();
    }
    // Entries that were unused for long are ignored, and removed by the next write.
    let short = BackendSettings::Map(MapSettings { ttl: Duration::ZERO, ..settings });
    let short = short.open(third.transfer.client()).unwrap();
    // Records have a resolution of seconds, so the next one must begin first.
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Ok(imported) = short.import().await {
        assert!(Instant::now() < deadline, "what is too old is still imported: {imported:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(short.import().await.unwrap_err().is_absent());
}

#[tokio::test]
async fn a_folder_keeps_a_map() {
    let registry = FakeRegistry::start();
    let folder = tempfile::tempdir().unwrap();
    let store = MapStore::Folder(folder.path().join("map"));
    there_and_back(&registry, settings(&registry, store, "none")).await;
    let files = std::fs::read_dir(folder.path().join("map/team")).unwrap();
    let names: Vec<String> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.len() > 8);
    for name in names {
        assert!(name.len() == 66 && (name.starts_with("l.") || name.starts_with("r.")), "{name}");
    }
}

/// A server that stores documents, for clients with the header.
fn kept() -> FakeServer {
    let documents = Mutex::<BTreeMap<String, Bytes>>::default();
    FakeServer::start(move |asked| {
        if asked.headers.get("authorization").map(String::as_str) != Some(SECRET) {
            return Answer { status: 401, ..Answer::text(format!("{asked:?}")) };
        }
        let mut documents = documents.lock().unwrap();
        match asked.method.as_str() {
            "PUT" => {
                documents.insert(asked.target.clone(), asked.body.clone());
                Answer::of(204)
            }
            _ => documents
                .get(&asked.target)
                .map_or(Answer::of(404), |body| Answer::text(body.clone())),
        }
    })
}

#[tokio::test]
async fn an_http_server_keeps_a_map() {
    let registry = FakeRegistry::start();
    let server = kept();
    let store = MapStore::Http { url: format!("{}/kv", server.url()) };
    let header = format!("{HTTP_HEADER}authorization");
    there_and_back(&registry, settings(&registry, store.clone(), &header)).await;
    // `kiln_cache_team_0`, in the encoding of Makisu's keys.
    let first = "/kv/a2lsbl9jYWNoZV90ZWFtXzA=";
    assert!(server.lines().contains(&format!("GET {first}")), "{:?}", server.lines());

    let client = Machine::new(&registry).transfer.client().clone();
    let wrong = settings(&registry, store, "another");
    let place = BackendSettings::Map(wrong).open(&client).unwrap();
    let error = place.import().await.unwrap_err().to_string();
    assert!(error.contains("401") && !error.contains(SECRET), "{error}");
}

/// Debian's `redis-server`, stopped when dropped.
struct Redis {
    child: Child,
    address: String,
}

impl Redis {
    fn start(scheme: RedisScheme) -> Option<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let port = port.to_string();
        let mut command = Command::new("redis-server");
        match scheme {
            RedisScheme::Tcp => command.args(["--port", &port]),
            RedisScheme::Tls => command
                .args(["--port", "0", "--tls-port", &port])
                .arg("--tls-cert-file")
                .arg(tls_file("server.crt"))
                .arg("--tls-key-file")
                .arg(tls_file("server.key"))
                .arg("--tls-ca-cert-file")
                .arg(tls_file("ca.crt")),
        };
        let child = command
            .args(["--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "no", "--requirepass", SECRET])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            fixtures::skip("maps", "no redis-server: `apt-get install redis-server`");
            return None;
        };
        let redis = Self { child, address: format!("127.0.0.1:{port}") };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&redis.address).is_err() {
            assert!(Instant::now() < deadline, "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(redis)
    }
}

/// A certificate or key of `crates/registry/tests/tls`.
fn tls_file(name: &str) -> PathBuf {
    fixtures::source_tree().join("crates/registry/tests/tls").join(name)
}

/// A server on this machine, with its third database.
fn server(scheme: RedisScheme, address: &str) -> MapStore {
    MapStore::Redis(RedisServer { scheme, address: address.into(), database: 3, user: None })
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test]
async fn redis_keeps_a_map() {
    let Some(redis) = Redis::start(RedisScheme::Tcp) else { return };
    let registry = FakeRegistry::start();
    let store = server(RedisScheme::Tcp, &redis.address);
    there_and_back(&registry, settings(&registry, store.clone(), REDIS_PASSWORD)).await;
    let client = Machine::new(&registry).transfer.client().clone();
    let no_password = settings(&registry, store.clone(), "none");
    let place = BackendSettings::Map(no_password).open(&client).unwrap();
    let error = place.import().await.unwrap_err().to_string();
    assert!(error.contains("NOAUTH"), "{error}");
    let mut wrong = settings(&registry, store.clone(), "none");
    wrong.credentials = BackendCredentials::new([(REDIS_PASSWORD.to_owned(), "hush".to_owned())]);
    let place = BackendSettings::Map(wrong).open(&client).unwrap();
    let error = place.import().await.unwrap_err().to_string();
    assert!(error.contains("WRONGPASS") && !error.contains("hush"), "{error}");
    drop(redis);
    let place = BackendSettings::Map(settings(&registry, store, REDIS_PASSWORD)).open(&client);
    let error = place.unwrap().import().await.unwrap_err().to_string();
    assert!(error.contains("refused") && !error.contains(SECRET), "{error}");
}

#[tokio::test]
async fn redis_keeps_a_map_over_tls() {
    let Some(redis) = Redis::start(RedisScheme::Tls) else { return };
    let registry = FakeRegistry::start();
    let settings = |scheme| settings(&registry, server(scheme, &redis.address), REDIS_PASSWORD);
    let mut trusting = Settings::default();
    let host = trusting.hosts.host_mut(&redis.address);
    host.ca = vec![tls_file("ca.crt")];
    host.client_certificates = vec![ClientCertificate {
        certificate: tls_file("client.cert"),
        key: tls_file("client.key"),
    }];
    let trusting = Client::new(trusting).unwrap();
    let place = BackendSettings::Map(settings(RedisScheme::Tls)).open(&trusting).unwrap();
    assert!(place.import().await.unwrap_err().is_absent());
    write(&Machine::new(&registry), &*place, "finish").await;
    place.import().await.unwrap();

    let untrusting = Client::new(Settings::default()).unwrap();
    let place = BackendSettings::Map(settings(RedisScheme::Tls)).open(&untrusting).unwrap();
    let error = place.import().await.unwrap_err().to_string();
    let file = format!("certs.d/{}/ca.crt", redis.address);
    assert!(error.contains(&file) && !error.contains(SECRET), "{error}");
    let place = BackendSettings::Map(settings(RedisScheme::Tcp)).open(&trusting).unwrap();
    assert!(!place.import().await.unwrap_err().is_absent());
}

#[tokio::test]
async fn a_redis_server_without_tls_is_refused_where_tls_is_asked_for() {
    let Some(redis) = Redis::start(RedisScheme::Tcp) else { return };
    let registry = FakeRegistry::start();
    let settings = settings(&registry, server(RedisScheme::Tls, &redis.address), REDIS_PASSWORD);
    let client = Client::new(Settings::default()).unwrap();
    let place = BackendSettings::Map(settings).open(&client).unwrap();
    let error = place.import().await.unwrap_err().to_string();
    assert!(error.contains("begin TLS") && !error.contains(SECRET), "{error}");
}
