//! A cache in GitHub's cache service, simulated by a server that follows the protocol's description
//! (tonistiigi/go-actions-cache `api.md`, and its client for the second version): the real one
//! answers only inside a workflow.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use cache::{
    BackendCredentials, BackendSettings, CacheMode, Export, GITHUB_TOKEN, GithubSettings,
    GithubVersion,
};
use serde_json::{Value, json};
use testing::{Answer, Asked, FakeRegistry, FakeServer};
use transfer::Transfer;

use crate::world::{Machine, request};

#[derive(Default)]
struct Service {
    /// Keys and contents, in the order in which they were reserved.
    entries: Vec<(String, Bytes)>,
    /// Blocks of Azure, by entry and id.
    blocks: BTreeMap<(usize, String), Bytes>,
}

impl Service {
    fn reserve(&mut self, key: &str) -> Option<usize> {
        if self.entries.iter().any(|(known, _)| known == key) {
            return None;
        }
        self.entries.push((key.to_owned(), Bytes::new()));
        Some(self.entries.len() - 1)
    }

    fn find(&self, prefix: &str) -> Option<(usize, &str)> {
        let found = self.entries.iter().enumerate().rev();
        let mut found =
            found.filter(|(_, (key, bytes))| key.starts_with(prefix) && !bytes.is_empty());
        found.next().map(|(number, (key, _))| (number, key.as_str()))
    }

    fn append(&mut self, number: usize, bytes: &Bytes) {
        let there = &mut self.entries[number].1;
        *there = [there.as_ref(), bytes].concat().into();
    }

    fn answer(&mut self, asked: &Asked, host: &str) -> Answer {
        let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
        let body = || serde_json::from_slice::<Value>(&asked.body).unwrap_or_default();
        let key = || body()["key"].as_str().unwrap_or_default().to_owned();
        let said = |value: Value| Answer::text(value.to_string());
        let last = path.rsplit('/').next().unwrap_or_default();
        if let Some(number) = path.strip_prefix("/storage/") {
            assert!(
                !asked.headers.contains_key("authorization"),
                "the token is not for the storage"
            );
            let number: usize = number.parse().unwrap();
            if asked.method == "GET" {
                return Answer::text(self.entries[number].1.clone());
            }
            match query.split_once("blockid=") {
                Some((_, id)) => drop(self.blocks.insert((number, id.into()), asked.body.clone())),
                None => {
                    let all = std::mem::take(&mut self.blocks);
                    let (own, others) = all.into_iter().partition(|((of, _), _)| *of == number);
                    self.blocks = others;
                    let own: BTreeMap<(usize, String), Bytes> = own;
                    own.values().for_each(|block| self.append(number, block));
                }
            }
            return Answer::of(201);
        }
        if !asked.headers["authorization"].starts_with("Bearer e30.") {
            return Answer::of(401);
        }
        match (asked.method.as_str(), last) {
            ("GET", "cache") => {
                let prefix = query.split('&').find_map(|pair| pair.strip_prefix("keys=")).unwrap();
                let prefix = prefix.replace("%3A", ":").replace("%23", "#");
                match self.find(&prefix) {
                    Some((number, key)) => {
                        said(json!({"cacheKey": key, "scope": "refs/heads/main",
                        "archiveLocation": format!("{host}/storage/{number}?sig=hush")}))
                    }
                    None => Answer::of(204),
                }
            }
            ("POST", "caches") => match self.reserve(&key()) {
                Some(number) => said(json!({"cacheId": number + 1})),
                None => Answer {
                    status: 409,
                    ..said(json!({"typeKey": "ArtifactCacheItemAlreadyExistsException"}))
                },
            },
            ("PATCH", number) => {
                self.append(number.parse::<usize>().unwrap() - 1, &asked.body);
                Answer::of(204)
            }
            ("POST", "GetCacheEntryDownloadURL") => match self.find(&key()) {
                Some((number, key)) => said(json!({"ok": true, "matched_key": key,
                    "signed_download_url": format!("{host}/storage/{number}?sig=hush")})),
                None => said(json!({"ok": false})),
            },
            ("POST", "CreateCacheEntry") => match self.reserve(&key()) {
                Some(number) => said(json!({"ok": true,
                    "signed_upload_url": format!("{host}/storage/{number}?sig=hush")})),
                None => Answer { status: 409, ..said(json!({"code": "already_exists"})) },
            },
            ("POST", "FinalizeCacheEntryUpload") => said(json!({"ok": true, "entry_id": "1"})),
            ("POST", _) => Answer::of(204),
            _ => Answer::of(404),
        }
    }
}

fn service() -> FakeServer {
    let service = Mutex::<Service>::default();
    FakeServer::start(move |asked| {
        let host = format!("http://{}", asked.headers["host"]);
        service.lock().unwrap().answer(asked, &host)
    })
}

fn settings(server: &FakeServer, version: GithubVersion) -> BackendSettings {
    let claims = json!({"ac": r#"[{"Scope":"refs/heads/main","Permission":3}]"#});
    let token = format!("e30.{}.signature", URL_SAFE_NO_PAD.encode(claims.to_string()));
    BackendSettings::Github(GithubSettings {
        url: format!("{}/x/", server.url()),
        version,
        scope: "team".into(),
        timeout: Duration::from_secs(20),
        credentials: BackendCredentials::new([(GITHUB_TOKEN.to_owned(), token)]),
    })
}

#[tokio::test]
async fn both_versions_of_github_keep_a_cache_played() {
    for version in [GithubVersion::One, GithubVersion::Two] {
        let (registry, server) = (FakeRegistry::start(), service());
        let machine = Machine::new(&registry);
        let client = machine.transfer.client();
        let place = settings(&server, version).open(client).unwrap();
        assert!(place.import().await.unwrap_err().is_absent());
        let solved = machine.build(Vec::new()).await;
        let export =
            Export::new(&solved.steps, std::slice::from_ref(&solved.output), CacheMode::Max);
        let request = request(cache::Form::ImageManifest);
        for _ in 0..2 {
            cache::write(&export, &machine.transfer, &*place, &request).await.unwrap();
        }
        let other = Machine::new(&registry);
        let imported = place.import().await.unwrap();
        let warm = other.build(vec![imported]).await;
        assert_eq!(other.ran(), [""; 0], "{version:?}");
        let told = Transfer::with_remotes(
            other.transfer.store().clone(),
            client.clone(),
            graph::Events::none(),
            place.remote().into_iter().collect(),
        );
        for layer in warm.output.layers() {
            told.fetch_blob(&layer, None).await.unwrap();
        }
        // The keys that BuildKit looks for.
        let all = server.asked();
        let texts: Vec<String> =
            all.iter().map(|asked| String::from_utf8_lossy(&asked.body).into_owned()).collect();
        let digest = warm.output.top().unwrap().blob.clone().unwrap().digest;
        let blob = format!("\"buildkit-blob-1-{digest}\"");
        // The first digits of sha256("refs/heads/main").
        let index =
            format!("\"index-team-1-{}#2\"", &oci::Digest::of("refs/heads/main").hex()[..8]);
        for key in [blob, index] {
            assert!(texts.iter().any(|text| text.contains(&key)), "{version:?} {key}");
        }
    }
}

#[tokio::test]
async fn what_github_says_hides_the_token() {
    let server =
        FakeServer::start(|asked| Answer { status: 403, ..Answer::text(format!("no: {asked:?}")) });
    let client = Machine::new(&FakeRegistry::start()).transfer.client().clone();
    let place = settings(&server, GithubVersion::Two).open(&client).unwrap();
    let error = place.import().await.unwrap_err().to_string();
    assert!(error.contains("403") && !error.contains("signature"), "{error}");
}
