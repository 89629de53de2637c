//! A warm cache on a machine without state.

use cache::{CacheMode, Form, WriteRequest};
use layer::Place;
use oci::Digest;
use testing::FakeRegistry;

use crate::world::{Machine, reference, request};

#[tokio::test]
async fn a_cold_machine_runs_nothing_and_writes_the_same_cache() {
    let registry = FakeRegistry::start();
    let to = reference(&registry, "app:cache");
    let first = Machine::new(&registry);
    let cold = first.build(Vec::new()).await;
    assert_eq!(first.ran(), ["copy", "finish", "install", "make"]);
    let written = first.push(&cold, &to, CacheMode::Max, &request(Form::ImageManifest)).await;
    assert_eq!(written.notes, [""; 0]);

    let second = Machine::new(&registry);
    let imported = second.import(&to).await.unwrap();
    assert_eq!(imported.manifest, written.descriptor.digest);
    assert_eq!(imported.records.len(), written.records);
    registry.forget_requests();
    let known = Some(imported.clone().into());
    let warm = second.build(vec![imported]).await;
    assert_eq!(second.ran(), [""; 0]);
    assert_eq!(warm.output.id(), cold.output.id());
    let again = WriteRequest { known, ..request(Form::ImageManifest) };
    let again = second.push(&warm, &to, CacheMode::Max, &again).await;
    assert_eq!(again.descriptor, written.descriptor);
    // No layer was downloaded, and nothing was uploaded.
    assert_eq!(registry.requests(), [""; 0]);

    // The second machine's own records give the same result.
    let local = second.build(Vec::new()).await;
    assert_eq!(second.ran(), [""; 0]);
    let local = second.push(&local, &to, CacheMode::Max, &request(Form::ImageManifest)).await;
    assert_eq!(local.descriptor, written.descriptor);
}

#[tokio::test]
async fn the_same_build_writes_the_same_bytes() {
    let registry = FakeRegistry::start();
    let to = reference(&registry, "app:cache");
    let mut digests = Vec::new();
    for _ in 0..3 {
        let machine = Machine::new(&registry);
        let solved = machine.build(Vec::new()).await;
        let written =
            machine.push(&solved, &to, CacheMode::Max, &request(Form::ImageManifest)).await;
        digests.push(written.descriptor.digest);
    }
    assert_eq!(digests, [digests[0]; 3]);
}

#[tokio::test]
async fn a_smaller_cache_has_all_records_and_the_layers_of_the_result() {
    let registry = FakeRegistry::start();
    let machine = Machine::new(&registry);
    let solved = machine.build(Vec::new()).await;
    let (min, max) = (reference(&registry, "min:cache"), reference(&registry, "max:cache"));
    let written = machine.push(&solved, &min, CacheMode::Min, &request(Form::ImageManifest)).await;
    let all = machine.push(&solved, &max, CacheMode::Max, &request(Form::ImageManifest)).await;
    assert_eq!(written.records, all.records);
    let layers = |name: &str| {
        let (_, bytes) = registry.manifest(name, "cache").unwrap();
        let manifest: oci::Manifest = serde_json::from_slice(&bytes).unwrap();
        manifest.layers.len()
    };
    // base, install, copy, finish; and make.
    assert_eq!((layers("min"), layers("max")), (4, 5));
    let other = Machine::new(&registry);
    other.build(vec![other.import(&min).await.unwrap()]).await;
    assert_eq!(other.ran(), [""; 0]);
}

#[tokio::test]
async fn layers_are_where_the_cache_is() {
    let registry = FakeRegistry::start();
    let to = reference(&registry, "app:cache");
    let machine = Machine::new(&registry);
    let cold = machine.build(Vec::new()).await;
    machine.push(&cold, &to, CacheMode::Max, &request(Form::ImageManifest)).await;
    let other = Machine::new(&registry);
    let warm = other.build(vec![other.import(&to).await.unwrap()]).await;
    let here = Place::Registry { repository: to.repository().clone(), insecure: false };
    for (layer, made) in warm.output.layers().iter().zip(cold.output.layers()) {
        assert_eq!((layer.diff_id, &layer.created), (made.diff_id, &made.created));
        assert_eq!(layer.places, std::slice::from_ref(&here));
        let digest = layer.blob.as_ref().unwrap().digest;
        assert!(registry.has_blob("app", digest));
    }
}

#[tokio::test]
async fn a_layer_that_the_registry_lost_is_made_again() {
    let registry = FakeRegistry::start();
    let to = reference(&registry, "app:cache");
    let machine = Machine::new(&registry);
    let cold = machine.build(Vec::new()).await;
    machine.push(&cold, &to, CacheMode::Max, &request(Form::ImageManifest)).await;
    let lost = cold.output.below().unwrap().top().unwrap().blob.clone().unwrap();
    registry.remove_blob(lost.digest);
    // The record of the last step is removed from the cache, so the step needs the layer.
    let (_, bytes) = registry.manifest("app", "cache").unwrap();
    let manifest: oci::Manifest = serde_json::from_slice(&bytes).unwrap();
    let config = registry.blob(manifest.config.digest).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    let finish = cold.steps.last().unwrap().digests[0].to_string();
    for record in config["records"].as_array_mut().unwrap() {
        if record["digest"] == finish.as_str() {
            record.as_object_mut().unwrap().remove("layers");
        }
    }
    let config = serde_json::to_vec(&config).unwrap();
    let manifest = oci::Manifest {
        config: oci::Descriptor::of(&manifest.config.media_type, &config),
        ..manifest
    };
    registry.put_blob("app", config);
    let kind = manifest.media_type.clone().unwrap();
    registry.put_manifest("app", Some("cache"), &kind, serde_json::to_vec(&manifest).unwrap());

    let other = Machine::new(&registry);
    let again = other.build(vec![other.import(&to).await.unwrap()]).await;
    assert_eq!(other.ran(), ["copy", "finish"]);
    assert_eq!(again.output.id(), cold.output.id());
    assert_ne!(Some(Digest::of("")), again.output.id());
}
