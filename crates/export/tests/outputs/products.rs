//! Indexes: several platforms, attestations, annotations, and clamped times.

use export::{
    Annotation, AnnotationLevel, ArchiveKind, Attestation, Document, Documents, EpochChoice,
    FilesRequest, FolderTarget, Product, Writing, write_archive, write_folder, write_tar,
};
use layer::{Entry, EntryKind, Time};
use oci::{Digest, Index, media_type};
use serde_json::{Value, json};

use crate::{Kept, OutputFixture, names, product, product_for, request, untar, writing};

async fn documents(world: &OutputFixture, product: &Product, writing: &Writing<'_>) -> Documents {
    product.documents(&world.transfer, writing).await.unwrap()
}

fn value(document: &Document) -> Value {
    assert_eq!(document.descriptor.digest, Digest::of(&document.bytes));
    serde_json::from_slice(&document.bytes).unwrap()
}

fn attested(world: &OutputFixture) -> Product {
    let mut product = product(world.image());
    product.images[0].attestations = vec![Attestation {
        predicate_type: "https://slsa.dev/provenance/v1".into(),
        predicate: json!({ "buildDefinition": { "z": 1, "a": 2 } }),
        file_name: "provenance.json".into(),
        inline_only: false,
    }];
    product
}

fn annotation(level: AnnotationLevel, platform: Option<&str>) -> Annotation {
    let platform = platform.map(|platform| platform.parse().unwrap());
    Annotation { level, platform, key: format!("k.{level:?}"), value: "v".into() }
}

#[tokio::test]
async fn platforms_are_listed_in_their_order_with_what_is_annotated() {
    let world = OutputFixture::new();
    let product = product_for(&["linux/amd64", "linux/arm/v7"], world.image());
    let annotations = [
        annotation(AnnotationLevel::Manifest, Some("linux/arm")),
        annotation(AnnotationLevel::ManifestDescriptor, None),
        annotation(AnnotationLevel::Index, None),
        annotation(AnnotationLevel::IndexDescriptor, None),
    ];
    let writing = Writing { annotations: &annotations, ..writing(&[]) };
    let documents = documents(&world, &product, &writing).await;
    let index = value(&documents.root);
    assert_eq!(index["mediaType"], media_type::OCI_INDEX);
    assert_eq!(index["annotations"], json!({ "k.Index": "v" }));
    let listed = index["manifests"].as_array().unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0]["platform"], json!({ "architecture": "amd64", "os": "linux" }));
    assert_eq!(
        listed[1]["platform"],
        json!({ "architecture": "arm", "os": "linux", "variant": "v7" })
    );
    assert_eq!(listed[1]["annotations"], json!({ "k.ManifestDescriptor": "v" }));
    assert_eq!(value(&documents.manifests[0])["annotations"], Value::Null);
    assert_eq!(value(&documents.manifests[1])["annotations"], json!({ "k.Manifest": "v" }));
    assert_eq!(documents.root.descriptor.annotations["k.IndexDescriptor"], "v");
    // An index has no config of its own, so an image's ID is its digest.
    assert_eq!(documents.config(), None);
    assert!(documents.blobs.len() == 1, "the same config is one blob");
}

#[tokio::test]
async fn statements_stand_beside_the_image_that_they_speak_of() {
    let world = OutputFixture::new();
    let (product, names) = (attested(&world), names(&["shop:1", "localhost:5000/shop:2"]));
    let documents = documents(&world, &product, &writing(&names)).await;
    let index: Index = serde_json::from_slice(&documents.root.bytes).unwrap();
    let [image, statement] = index.manifests.as_slice() else { panic!("{index:?}") };
    assert_eq!(statement.platform.as_ref().unwrap().to_string(), "unknown/unknown");
    assert_eq!(statement.annotations["vnd.docker.reference.type"], "attestation-manifest");
    assert_eq!(statement.annotations["vnd.docker.reference.digest"], image.digest.to_string());

    let manifest = value(&documents.manifests[1]);
    assert_eq!(manifest["artifactType"], "application/vnd.docker.attestation.manifest.v1+json");
    assert_eq!(manifest["subject"]["digest"], image.digest.to_string());
    assert_eq!(
        manifest["config"],
        json!({
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": Digest::of("{}").to_string(), "size": 2, "data": "e30=",
        })
    );
    let layer = &manifest["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.in-toto+json");
    let kind = "https://slsa.dev/provenance/v1";
    assert_eq!(layer["annotations"], json!({ "in-toto.io/predicate-type": kind }));
    let is_layer =
        |blob: &&Document| blob.descriptor.digest.to_string() == layer["digest"].as_str().unwrap();
    let statement = documents.blobs.iter().find(is_layer).unwrap();
    let sha256 = image.digest.hex();
    let subject = |name: &str| json!({ "name": name, "digest": { "sha256": sha256 } });
    assert_eq!(
        value(statement),
        json!({
            "_type": "https://in-toto.io/Statement/v1",
            "predicateType": kind,
            "subject": [
                subject("pkg:docker/shop@1?platform=linux%2Famd64"),
                subject("pkg:docker/localhost:5000/shop@2?platform=linux%2Famd64"),
            ],
            "predicate": { "buildDefinition": { "z": 1, "a": 2 } },
        })
    );
    assert!(statement.bytes.ends_with(b"{\"z\":1,\"a\":2}}}"), "keys keep their order");
}

#[tokio::test]
async fn statements_for_readers_that_know_no_artifacts_look_like_images() {
    let world = OutputFixture::new();
    let product = attested(&world);
    let writing = Writing { oci_artifact: false, ..writing(&[]) };
    let documents = documents(&world, &product, &writing).await;
    let manifest = value(&documents.manifests[1]);
    assert_eq!((&manifest["artifactType"], &manifest["subject"]), (&Value::Null, &Value::Null));
    assert_eq!(manifest["config"]["mediaType"], media_type::OCI_CONFIG);
    let digest = manifest["config"]["digest"].as_str().unwrap();
    let is_config = |blob: &&Document| blob.descriptor.digest.to_string() == digest;
    let config = value(documents.blobs.iter().find(is_config).unwrap());
    assert_eq!(config["architecture"], "unknown");
    assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
}

#[tokio::test]
async fn what_is_for_images_alone_makes_no_index_of_an_archive() {
    let world = OutputFixture::new();
    let mut product = attested(&world);
    product.images[0].attestations[0].inline_only = true;
    let inline = documents(&world, &product, &writing(&[])).await;
    assert_eq!(inline.manifests.len(), 2);
    let outside = Writing { inline: false, ..writing(&[]) };
    let plain = documents(&world, &product, &outside).await;
    assert!(plain.manifests.is_empty() && plain.config().is_some());
}

#[tokio::test]
async fn docker_gets_one_image_and_no_index_of_platforms() {
    let world = OutputFixture::new();
    let several = product_for(&["linux/amd64", "linux/arm64"], world.image());
    let request = request(&several, &[], ArchiveKind::Docker);
    let error = write_archive(&world.transfer, &request, Kept::default()).await.unwrap_err();
    assert!(error.to_string().contains("manifest lists"), "{error}");
    let docker =
        Writing { format: export::Format { oci_mediatypes: false, ..crate::GZIP }, ..writing(&[]) };
    let error = attested(&world).documents(&world.transfer, &docker).await.unwrap_err();
    assert!(error.to_string().contains("oci-mediatypes=false"), "{error}");
    let list = documents(&world, &several, &docker).await;
    assert_eq!(list.root.descriptor.media_type, media_type::DOCKER_MANIFEST_LIST);
}

#[tokio::test]
async fn an_archive_has_every_document_of_an_index() {
    let world = OutputFixture::new();
    let (product, names) = (attested(&world), names(&["shop:1"]));
    let out = Kept::default();
    let request = request(&product, &names, ArchiveKind::Oci);
    let documents = write_archive(&world.transfer, &request, out.clone()).await.unwrap();
    let files = untar(&out.0.lock().unwrap());
    let has = |digest: &Digest| {
        let path = format!("blobs/sha256/{}", digest.hex());
        files.iter().any(|(name, bytes)| *name == path && Digest::of(bytes) == *digest)
    };
    let small = documents.manifests.iter().chain(&documents.blobs).chain([&documents.root]);
    assert!(small.map(|document| &document.descriptor.digest).all(has));
    assert!(documents.images[0].descriptors.iter().map(|layer| &layer.digest).all(has));
    let index = files.iter().find(|(name, _)| name == "index.json").unwrap();
    let index: Value = serde_json::from_slice(&index.1).unwrap();
    assert_eq!(index["manifests"][0]["digest"], documents.root.descriptor.digest.to_string());
}

/// An image with a file from 2001.
fn dated(world: &OutputFixture) -> export::Image {
    let mut image = world.image();
    let format = layer::Compression::Gzip(None);
    let mut writer = world.transfer.store().layer_writer(format).unwrap();
    for (path, seconds) in [("old", 10), ("young", 1_000_000_000)] {
        let entry = Entry {
            path: path.as_bytes().into(),
            kind: EntryKind::File { size: 4 },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Time { seconds, nanos: 5 },
            xattrs: Vec::new(),
        };
        writer.append(&entry, Some(&mut &b"text"[..])).unwrap();
    }
    image.layers.push(writer.finish().unwrap());
    image
}

#[tokio::test]
async fn no_file_of_a_new_layer_is_younger_than_the_epoch() {
    let world = OutputFixture::new();
    let image = export::Image { epoch: Some(100), base_layers: 1, ..dated(&world) };
    let writing = Writing { rewrite_timestamp: true, ..writing(&[]) };
    let product = product(image.clone());
    let documents = documents(&world, &product, &writing).await;
    let layers = &documents.images[0].layers;
    assert_eq!(layers[0], image.layers[0], "the base stays");
    assert_eq!(layers[1].diff_id, image.layers[1].diff_id, "nothing to clamp");
    assert_ne!(layers[2].diff_id, image.layers[2].diff_id);
    let index = world.transfer.store().index(&layers[2].diff_id).unwrap();
    let times: Vec<Time> = index.entries().iter().map(|entry| entry.mtime).collect();
    assert_eq!(times, [Time { seconds: 10, nanos: 5 }, Time { seconds: 100, nanos: 0 }]);
    let manifest = value(&documents.root);
    let layers = manifest["layers"].as_array().unwrap().iter();
    let annotated: Vec<&Value> =
        layers.map(|layer| &layer["annotations"]["buildkit/rewritten-timestamp"]).collect();
    assert_eq!(annotated, [&Value::Null, &json!("100"), &json!("100")]);
    let again = product.documents(&world.transfer, &writing).await.unwrap();
    assert_eq!(again.root, documents.root);
    // Another epoch for this output, and none.
    let later = Writing { epoch: EpochChoice::At(2_000_000_000), ..writing };
    let later = product.documents(&world.transfer, &later).await.unwrap();
    assert_eq!(later.images[0].layers, image.layers);
    let none = Writing { epoch: EpochChoice::None, ..writing };
    let none = product.documents(&world.transfer, &none).await.unwrap();
    assert_eq!(none.images[0].layers, image.layers);
}

fn files<'a>(product: &'a Product, split: Option<bool>) -> FilesRequest<'a> {
    FilesRequest {
        product,
        platform_split: split,
        attestation_prefix: "x-",
        epoch: EpochChoice::At(100),
        task: None,
    }
}

#[tokio::test]
async fn files_of_platforms_have_folders_of_their_own() {
    let world = OutputFixture::new();
    let several = product_for(&["linux/amd64", "linux/arm/v7"], world.image());
    let out = Kept::default();
    write_tar(&world.transfer, &files(&several, None), out.clone()).await.unwrap();
    let paths: Vec<String> =
        untar(&out.0.lock().unwrap()).into_iter().map(|(path, _)| path).collect();
    assert_eq!(
        paths,
        [
            "linux_amd64/",
            "linux_amd64/a",
            "linux_amd64/c",
            "linux_arm_v7/",
            "linux_arm_v7/a",
            "linux_arm_v7/c"
        ]
    );
    let folder = world.folder.path().join("out");
    let target = FolderTarget { folder: &folder, delete: false };
    write_folder(&world.transfer, &files(&several, None), &target).await.unwrap();
    assert_eq!(std::fs::read(folder.join("linux_arm_v7/a")).unwrap(), b"first");
    let error = write_folder(&world.transfer, &files(&several, Some(false)), &target).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("cannot overwrite a from linux/amd64 with linux/arm/v7"), "{error}");
    assert!(folder.read_dir().unwrap().count() == 2, "nothing of the refused one is left");
}

#[tokio::test]
async fn names_of_one_file_stay_that_in_an_archive() {
    let world = OutputFixture::new();
    let mut image = world.image();
    let mut writer = world.transfer.store().layer_writer(layer::Compression::None).unwrap();
    let kinds = [
        ("one", EntryKind::File { size: 4 }),
        ("two", EntryKind::HardLink { target: b"one".as_slice().into() }),
    ];
    for (path, kind) in kinds {
        let entry = Entry {
            path: path.as_bytes().into(),
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: Vec::new(),
        };
        let mut content = &b"text"[..];
        let content = (path == "one").then_some(&mut content as &mut dyn std::io::Read);
        writer.append(&entry, content).unwrap();
    }
    image.layers = vec![writer.finish().unwrap()];
    let several = product_for(&["linux/amd64", "linux/arm/v7"], image);
    let out = Kept::default();
    write_tar(&world.transfer, &files(&several, None), out.clone()).await.unwrap();
    let archive = out.0.lock().unwrap();
    let links: Vec<&str> = archive
        .chunks(512)
        .filter(|header| header.starts_with(b"linux_") && header[156] == b'1')
        .map(|header| std::str::from_utf8(&header[157..257]).unwrap().trim_end_matches('\0'))
        .collect();
    assert_eq!(links, ["linux_amd64/one", "linux_arm_v7/one"]);
}

#[tokio::test]
async fn statements_about_files_are_files_beside_them() {
    let world = OutputFixture::new();
    let product = attested(&world);
    let folder = world.folder.path().join("out");
    let target = FolderTarget { folder: &folder, delete: false };
    write_folder(&world.transfer, &files(&product, None), &target).await.unwrap();
    let path = folder.join("x-provenance.json");
    let statement: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(statement["subject"][0]["name"], "a");
    assert_eq!(statement["subject"][0]["digest"]["sha256"], Digest::of("first").hex());
    use std::os::unix::fs::MetadataExt as _;
    let metadata = path.metadata().unwrap();
    assert_eq!((metadata.mode() & 0o777, metadata.mtime()), (0o600, 100));
    assert_eq!(folder.join("a").metadata().unwrap().mtime(), 100);
}
