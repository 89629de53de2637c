//! The forms of a cache.

use base64::Engine as _;
use cache::{BackendSettings, CacheMode, Error, Export, Form, LayoutSettings};
use layer::Chain;
use oci::media_type;
use solve::{InputFacts, StepFacts};
use testing::FakeRegistry;

use crate::world::{Machine, in_registry, reference, request};

#[tokio::test]
async fn every_form_says_the_same() {
    let registry = FakeRegistry::start();
    let machine = Machine::new(&registry);
    let solved = machine.build(Vec::new()).await;
    for (form, kind, layer) in [
        (Form::ImageManifest, media_type::OCI_MANIFEST, media_type::OCI_LAYER_GZIP),
        (Form::OciIndex, media_type::OCI_INDEX, media_type::OCI_LAYER_GZIP),
        (
            Form::DockerList,
            media_type::DOCKER_MANIFEST_LIST,
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ),
    ] {
        let to = reference(&registry, "app:cache");
        let written = machine.push(&solved, &to, CacheMode::Max, &request(form)).await;
        let (media_type, bytes) = registry.manifest("app", "cache").unwrap();
        assert_eq!((media_type.as_str(), written.descriptor.media_type.as_str()), (kind, kind));
        assert!(String::from_utf8_lossy(&bytes).contains(layer), "{form:?}");
        let other = Machine::new(&registry);
        let imported = other.import(&to).await.unwrap();
        assert_eq!(imported.records.len(), written.records);
        other.build(vec![imported]).await;
        assert_eq!(other.ran(), [""; 0], "{form:?}");
    }
}

#[tokio::test]
async fn a_folder_holds_caches_side_by_side() {
    let registry = FakeRegistry::start();
    let machine = Machine::new(&registry);
    let solved = machine.build(Vec::new()).await;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("cache");
    let place = |tag: &str, digest| {
        BackendSettings::Layout(LayoutSettings { folder: folder.clone(), tag: tag.into(), digest })
    };
    let read = async |tag: &str, digest| machine.open(&place(tag, digest)).import().await;
    let mut digests = Vec::new();
    for (tag, mode) in [("max", CacheMode::Max), ("min", CacheMode::Min), ("max", CacheMode::Max)] {
        let export = Export::new(&solved.steps, std::slice::from_ref(&solved.output), mode);
        let request = request(Form::ImageManifest);
        let written =
            cache::write(&export, &machine.transfer, &*machine.open(&place(tag, None)), &request)
                .await;
        digests.push(written.unwrap().descriptor.digest);
    }
    assert_eq!(digests[0], digests[2]);
    for (tag, digest) in [("max", digests[0]), ("min", digests[1])] {
        assert_eq!(read(tag, None).await.unwrap().manifest, digest);
        assert_eq!(read("none", Some(digest)).await.unwrap().manifest, digest);
    }
    assert!(read("none", None).await.unwrap_err().is_absent());
    // After tidying, the folder has only the content that its tags name.
    let stray = folder.join("blobs/sha256").join(oci::Digest::of("stray").hex());
    std::fs::write(&stray, "stray").unwrap();
    machine.open(&place("max", None)).tidy().await.unwrap();
    assert!(!stray.exists());
    let other = Machine::new(&registry);
    other.build(vec![read("min", None).await.unwrap()]).await;
    assert_eq!(other.ran(), [""; 0]);

    let blob = folder.join("blobs/sha256").join(digests[0].hex());
    let bytes = std::fs::read(&blob).unwrap();
    std::fs::write(&blob, [&bytes[..], b" "].concat()).unwrap();
    let error = read("max", None).await.unwrap_err().to_string();
    assert!(error.contains("does not have the digest"), "{error}");
}

#[tokio::test]
async fn an_image_can_hold_the_records_of_its_layers() {
    let registry = FakeRegistry::start();
    let machine = Machine::new(&registry);
    let solved = machine.build(Vec::new()).await;
    // BuildKit's form: the records of a cache, whose layers are those of the image.
    let to = reference(&registry, "app:cache");
    machine.push(&solved, &to, CacheMode::Min, &request(Form::ImageManifest)).await;
    let layers = solved.output.layers();
    let (_, bytes) = registry.manifest("app", "cache").unwrap();
    let manifest: oci::Manifest = serde_json::from_slice(&bytes).unwrap();
    let config = registry.blob(manifest.config.digest).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    let mut records = config["records"].clone();
    for record in records.as_array_mut().unwrap() {
        for result in record["layers"].as_array_mut().into_iter().flatten() {
            let layer = usize::try_from(result["layer"].as_u64().unwrap()).unwrap();
            let blob = &config["layers"][layer]["blob"];
            let at = layers.iter().position(|layer| {
                *blob == layer.blob.as_ref().unwrap().digest.to_string().as_str()
            });
            result["layer"] = at.unwrap().into();
        }
    }
    let text =
        base64::engine::general_purpose::STANDARD.encode(serde_json::to_vec(&records).unwrap());
    let image_config = |cache: Option<&str>| {
        let mut config = serde_json::json!({
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {
                "type": "layers",
                "diff_ids": layers.iter().map(|layer| layer.diff_id).collect::<Vec<_>>(),
            },
            "history": layers.iter().map(|layer| serde_json::json!({ "created": layer.created })).collect::<Vec<_>>(),
        });
        if let Some(cache) = cache {
            config["moby.buildkit.cache.v0"] = cache.into();
        }
        serde_json::to_vec(&config).unwrap()
    };
    let put = |tag: &str, cache: Option<&str>| {
        let config = image_config(cache);
        let manifest = oci::Manifest {
            config: oci::Descriptor::of(media_type::OCI_CONFIG, &config),
            layers: layers.iter().map(|layer| layer.blob.clone().unwrap()).collect(),
            ..manifest.clone()
        };
        registry.put_blob("app", config);
        let bytes = serde_json::to_vec(&manifest).unwrap();
        registry.put_manifest("app", Some(tag), media_type::OCI_MANIFEST, bytes);
    };
    put("latest", Some(&text));
    let other = Machine::new(&registry);
    let imported = other.import(&reference(&registry, "app:latest")).await.unwrap();
    let warm = other.build(vec![imported]).await;
    assert_eq!(other.ran(), [""; 0]);
    assert_eq!(warm.output.id(), solved.output.id());

    put("plain", None);
    let error = other.import(&reference(&registry, "app:plain")).await.unwrap_err();
    assert!(matches!(error, Error::NoCache { .. }), "{error}");
    put("damaged", Some("%%%"));
    let error = other.import(&reference(&registry, "app:damaged")).await.unwrap_err();
    assert!(matches!(error, Error::Damaged(_)), "{error}");
}

#[tokio::test]
async fn a_cache_that_buildkit_cannot_read_says_so() {
    let registry = FakeRegistry::start();
    let machine = Machine::new(&registry);
    let steps: Vec<StepFacts<Chain>> = (0..12000_u32)
        .map(|number| StepFacts {
            id: graph::StepId(number),
            digests: vec![oci::Digest::of(number.to_be_bytes())],
            inputs: number
                .checked_sub(1)
                .map(|below| InputFacts {
                    step: graph::StepId(below),
                    selector: None,
                    content: None,
                    contents: Vec::new(),
                })
                .into_iter()
                .collect(),
            output: None,
            renewed: Vec::new(),
            ran: true,
            cached: None,
        })
        .collect();
    let export = Export::new(&steps, &[], CacheMode::Max);
    let to = reference(&registry, "app:cache");
    let request = request(Form::ImageManifest);
    let written =
        cache::write(&export, &machine.transfer, &*machine.open(&in_registry(&to)), &request)
            .await
            .unwrap();
    assert_eq!(written.records, 12000);
    assert!(written.notes[0].contains("BuildKit reads at most 1048576"));
    assert_eq!(machine.import(&to).await.unwrap().records.len(), 12000);
}
