//! Config and manifest.

use export::{Format, Image};
use layer::Compression;
use oci::{Annotations, media_type};
use serde_json::Value;
use transfer::LayerFormat;

use crate::{GZIP, OutputFixture};

#[tokio::test]
async fn equal_images_are_equal_bytes() {
    let (one, other) = (OutputFixture::new(), OutputFixture::new());
    let first = one.image().manifest(&one.transfer, GZIP, Annotations::new(), None).await.unwrap();
    let second =
        other.image().manifest(&other.transfer, GZIP, Annotations::new(), None).await.unwrap();
    assert_eq!((&first.manifest, &first.config), (&second.manifest, &second.config));
    assert_eq!(first.descriptor.digest, oci::Digest::of(&first.manifest));
    assert_eq!(first.id(), oci::Digest::of(&first.config));
}

#[tokio::test]
async fn a_config_has_its_keys_in_order_and_its_times_from_the_layers() {
    let world = OutputFixture::new();
    let mut image = world.image();
    image.config.other.insert("moby.buildkit.x".into(), "kept".into());
    let documents = image.manifest(&world.transfer, GZIP, Annotations::new(), None).await.unwrap();
    let config: Value = serde_json::from_slice(&documents.config).unwrap();
    let keys: Vec<&String> = config.as_object().unwrap().keys().collect();
    assert!(keys.is_sorted() && keys.len() > 5, "{keys:?}");
    assert_eq!(config["created"], "2026-01-02T03:04:05Z");
    assert_eq!(config["history"][1]["created"], "2026-01-02T03:04:05Z");
    assert_eq!(config["rootfs"]["diff_ids"][1], image.layers[1].diff_id.to_string().as_str());
    assert_eq!(config["moby.buildkit.x"], "kept");
}

#[tokio::test]
async fn no_time_is_after_the_epoch_but_those_of_the_base() {
    let world = OutputFixture::new();
    let image = Image { epoch: Some(0), base_history: 1, ..world.image() };
    let documents = image.manifest(&world.transfer, GZIP, Annotations::new(), None).await.unwrap();
    let config: Value = serde_json::from_slice(&documents.config).unwrap();
    let times: Vec<&str> = config["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["created"].as_str().unwrap())
        .collect();
    let epoch = "1970-01-01T00:00:00Z";
    assert_eq!(times, ["2026-01-02T03:04:05Z", epoch, epoch]);
}

#[tokio::test]
async fn media_types_are_of_one_family() {
    let world = OutputFixture::new();
    let image = world.image();
    let docker = Format { oci_mediatypes: false, ..GZIP };
    let documents =
        image.manifest(&world.transfer, docker, Annotations::new(), None).await.unwrap();
    assert_eq!(documents.descriptor.media_type, media_type::DOCKER_MANIFEST);
    assert_eq!(documents.config_descriptor.media_type, media_type::DOCKER_CONFIG);
    assert!(documents.layers.iter().all(|layer| layer.media_type.contains("docker")));
    // A base can have zstd layers, for which containerd has a media type in Docker's documents.
    let zstd = LayerFormat { compression: Compression::Zstd(None), force: true };
    let docker = Format { layers: zstd, oci_mediatypes: false };
    let documents =
        image.manifest(&world.transfer, docker, Annotations::new(), None).await.unwrap();
    let is_named = |layer: &oci::Descriptor| layer.media_type == media_type::DOCKER_LAYER_ZSTD;
    assert!(documents.layers.iter().all(is_named));
    let accepted = Format { layers: zstd, oci_mediatypes: true };
    let documents =
        image.manifest(&world.transfer, accepted, Annotations::new(), None).await.unwrap();
    assert!(documents.layers.iter().all(|layer| layer.media_type == media_type::OCI_LAYER_ZSTD));
}
