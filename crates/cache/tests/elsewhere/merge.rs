//! Concurrent builds that write to one cache without losses.

use std::collections::BTreeSet;

use cache::{BackendSettings, CacheMode, Export, Form, LayoutSettings, WriteRequest};
use futures_util::future::join_all;
use layer::Chain;
use oci::Digest;
use solve::Solved;
use testing::FakeRegistry;

use crate::world::{Machine, graph_with, in_registry, reference, request};

/// The digests of the records of a build alone.
fn digests(solved: &Solved<Chain, Chain>) -> BTreeSet<Digest> {
    solved.steps.iter().flat_map(|step| step.digests.clone()).collect()
}

/// The digests of the records of a config.
fn written(config: &[u8]) -> BTreeSet<Digest> {
    let config: serde_json::Value = serde_json::from_slice(config).unwrap();
    let records = config["records"].as_array().unwrap();
    records.iter().map(|record| record["digest"].as_str().unwrap().parse().unwrap()).collect()
}

fn written_to(registry: &FakeRegistry) -> BTreeSet<Digest> {
    let (_, bytes) = registry.manifest("app", "cache").unwrap();
    let manifest: oci::Manifest = serde_json::from_slice(&bytes).unwrap();
    written(&registry.blob(manifest.config.digest).unwrap())
}

/// Eight machines make different builds and write concurrently.
async fn eight_builds(
    registry: &FakeRegistry,
    settings: BackendSettings,
) -> Vec<Solved<Chain, Chain>> {
    let machines: Vec<Machine> = (0..8).map(|_| Machine::new(registry)).collect();
    let builds = machines.iter().enumerate().map(|(number, machine)| async move {
        machine.build_graph(graph_with(&format!("finish {number}")), Vec::new()).await
    });
    let solved = join_all(builds).await;
    let writes = machines.iter().zip(&solved).map(|(machine, solved)| {
        let (transfer, backend) = (machine.transfer.clone(), machine.open(&settings));
        let export =
            Export::new(&solved.steps, std::slice::from_ref(&solved.output), CacheMode::Max)
                .used_on(20_000);
        tokio::spawn(async move {
            let request = request(Form::ImageManifest);
            cache::write(&export, &transfer, &*backend, &request).await.unwrap();
        })
    });
    for written in join_all(writes).await {
        written.unwrap();
    }
    solved
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_record_of_builds_that_write_at_once_is_there() {
    let registry = FakeRegistry::start();
    let to = reference(&registry, "app:cache");
    let solved = eight_builds(&registry, in_registry(&to)).await;
    let there = written_to(&registry);
    for solved in &solved {
        assert!(digests(solved).is_subset(&there));
    }
    for number in 0..8 {
        let machine = Machine::new(&registry);
        let imported = machine.import(&to).await.unwrap();
        machine.build_graph(graph_with(&format!("finish {number}")), vec![imported]).await;
        assert_eq!(machine.ran(), [""; 0], "build {number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_folder_keeps_every_record_too() {
    let registry = FakeRegistry::start();
    let folder = tempfile::tempdir().unwrap();
    let place = BackendSettings::Layout(LayoutSettings {
        folder: folder.path().join("cache"),
        tag: "latest".into(),
        digest: None,
    });
    eight_builds(&registry, place.clone()).await;
    for number in 0..8 {
        let machine = Machine::new(&registry);
        let imported = machine.open(&place).import().await.unwrap();
        machine.build_graph(graph_with(&format!("finish {number}")), vec![imported]).await;
        assert_eq!(machine.ran(), [""; 0], "build {number}");
    }
}

#[tokio::test]
async fn what_others_wrote_stays_and_is_not_sent_again() {
    let registry = FakeRegistry::start();
    let to = reference(&registry, "app:cache");
    let first = Machine::new(&registry);
    let one = first.build_graph(graph_with("one"), Vec::new()).await;
    first.push(&one, &to, CacheMode::Max, &request(Form::ImageManifest)).await;

    let second = Machine::new(&registry);
    let imported = second.import(&to).await.unwrap();
    let two = second.build_graph(graph_with("two"), vec![imported.clone()]).await;
    assert_eq!(second.ran(), ["two"]);
    registry.forget_requests();
    let known = Some(imported.clone().into());
    let with_known = WriteRequest { known, ..request(Form::ImageManifest) };
    second.push(&two, &to, CacheMode::Max, &with_known).await;
    let uploads = registry.requests().iter().filter(|line| line.contains("POST")).count();
    // One layer and the config.
    assert_eq!(uploads, 2, "{:#?}", registry.requests());
    let both: BTreeSet<Digest> = digests(&one).union(&digests(&two)).copied().collect();
    assert!(both.is_subset(&written_to(&registry)));

    // A third build read the cache before the second one wrote.
    let third = Machine::new(&registry);
    let three = third.build_graph(graph_with("three"), vec![imported]).await;
    third.push(&three, &to, CacheMode::Max, &with_known).await;
    let there = written_to(&registry);
    assert!(both.is_subset(&there) && digests(&three).is_subset(&there));

    // A writer without new records sends nothing, even if the cache has records of others.
    let last = Machine::new(&registry);
    let imported = last.import(&to).await.unwrap();
    let again = last.build_graph(graph_with("one"), vec![imported.clone()]).await;
    assert_eq!(last.ran(), [""; 0]);
    registry.forget_requests();
    let known = Some(imported.into());
    let request = WriteRequest { known, ..request(Form::ImageManifest) };
    last.push(&again, &to, CacheMode::Max, &request).await;
    assert_eq!(registry.requests(), [""; 0]);
}

#[tokio::test]
async fn what_is_no_cache_is_replaced_and_said() {
    let registry = FakeRegistry::start();
    let to = reference(&registry, "app:cache");
    let machine = Machine::new(&registry);
    let solved = machine.build(Vec::new()).await;
    registry.put_manifest("app", Some("cache"), oci::media_type::OCI_MANIFEST, b"{}".to_vec());
    let written = machine.push(&solved, &to, CacheMode::Max, &request(Form::ImageManifest)).await;
    assert!(written.notes[0].contains("held no cache to add to"), "{:?}", written.notes);
    assert!(digests(&solved).is_subset(&written_to(&registry)));
}

#[tokio::test]
async fn a_registry_that_does_not_answer_loses_nothing() {
    let registry = FakeRegistry::start();
    let to = reference(&registry, "app:cache");
    let machine = Machine::new(&registry);
    let solved = machine.build(Vec::new()).await;
    machine.push(&solved, &to, CacheMode::Max, &request(Form::ImageManifest)).await;
    let before = registry.manifest("app", "cache").unwrap();
    let other = machine.build_graph(graph_with("other"), Vec::new()).await;
    registry.fail_next(2, 503, &[]);
    let export = Export::new(&other.steps, std::slice::from_ref(&other.output), CacheMode::Max);
    let request = request(Form::ImageManifest);
    let error =
        cache::write(&export, &machine.transfer, &*machine.open(&in_registry(&to)), &request).await;
    assert!(matches!(error, Err(cache::Error::Registry(_))), "{error:?}");
    assert_eq!(registry.manifest("app", "cache").unwrap(), before);
}
