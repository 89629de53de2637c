//! Archives and folders.

use export::{ArchiveKind, write_archive, write_layout};
use oci::{Digest, Index};
use serde_json::Value;

use crate::{Kept, OutputFixture, names, product, request, untar};

#[tokio::test]
async fn an_archive_for_docker_is_an_oci_layout_with_a_manifest_beside_it() {
    let world = OutputFixture::new();
    let image = product(world.image());
    let names = names(&[
        "shop:1",
        "localhost:5000/shop@sha256:0000000000000000000000000000000000000000000000000000000000000000",
    ]);
    let out = Kept::default();
    let request = request(&image, &names, ArchiveKind::Docker);
    let documents = write_archive(&world.transfer, &request, out.clone()).await.unwrap();
    let files = untar(&out.0.lock().unwrap());
    let paths: Vec<&str> = files.iter().map(|(path, _)| path.trim_end_matches('/')).collect();
    assert_eq!(paths[..2], ["blobs", "blobs/sha256"]);
    assert_eq!(paths[6..], ["index.json", "manifest.json", "oci-layout"]);
    let file = |path: &str| {
        let found = files.iter().find(|(name, _)| name == path);
        &found.unwrap_or_else(|| panic!("no {path}")).1
    };
    for blob in &paths[2..6] {
        let name = blob.rsplit('/').next().unwrap();
        assert_eq!(Digest::of(file(blob)).hex(), name);
    }
    let manifest: Value = serde_json::from_slice(file("manifest.json")).unwrap();
    let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    assert_eq!(manifest[0]["Config"], path(&documents.images[0].config.digest).as_str());
    // Only a name with a tag is listed.
    assert_eq!(manifest[0]["RepoTags"], serde_json::json!(["shop:1"]));
    for (layer, descriptor) in
        manifest[0]["Layers"].as_array().unwrap().iter().zip(&documents.images[0].descriptors)
    {
        assert_eq!(*layer, path(&descriptor.digest).as_str());
    }
    let index: Index = serde_json::from_slice(file("index.json")).unwrap();
    assert_eq!(index.manifests.len(), 2);
    assert!(index.manifests.iter().all(|entry| entry.digest == documents.root.descriptor.digest));
    assert_eq!(
        index.manifests[0].annotations["io.containerd.image.name"],
        "docker.io/library/shop:1"
    );
}

#[tokio::test]
async fn the_same_image_is_the_same_archive() {
    let mut archives = Vec::new();
    for _ in 0..2 {
        let world = OutputFixture::new();
        let (image, names) = (product(world.image()), names(&["shop:1"]));
        let out = Kept::default();
        let request = request(&image, &names, ArchiveKind::Oci);
        write_archive(&world.transfer, &request, out.clone()).await.unwrap();
        archives.push(out.0.lock().unwrap().clone());
    }
    assert!(archives[0] == archives[1]);
    assert!(!untar(&archives[0]).iter().any(|(path, _)| path == "manifest.json"));
}

#[tokio::test]
async fn a_layer_that_an_image_has_twice_is_in_the_archive_once() {
    let world = OutputFixture::new();
    let mut image = world.image();
    image.layers.push(image.layers[0].clone());
    let image = product(image);
    let out = Kept::default();
    let request = request(&image, &[], ArchiveKind::Oci);
    let documents = write_archive(&world.transfer, &request, out.clone()).await.unwrap();
    assert_eq!(documents.images[0].descriptors.len(), 3);
    let blob = format!("blobs/sha256/{}", documents.images[0].descriptors[0].digest.hex());
    let files = untar(&out.0.lock().unwrap());
    assert_eq!(files.iter().filter(|(path, _)| *path == blob).count(), 1);
}

#[tokio::test]
async fn a_folder_keeps_images_with_other_tags() {
    let world = OutputFixture::new();
    let folder = world.folder.path().join("layout");
    let image = world.image();
    let other = export::Image { layers: vec![image.layers[0].clone()], ..image.clone() };
    let mut written = Vec::new();
    let (image, other) = (product(image), product(other));
    for (image, tags) in [(&image, ["shop:1", "shop:2"]), (&other, ["shop:2", "shop:3"])] {
        let names = names(&tags);
        let request = request(image, &names, ArchiveKind::Oci);
        written.push(write_layout(&world.transfer, &request, &folder).await.unwrap());
    }
    let index = std::fs::read(folder.join("index.json")).unwrap();
    let index: Index = serde_json::from_slice(&index).unwrap();
    let [first, second] = [&written[0], &written[1]].map(|image| image.root.descriptor.digest);
    let listed: Vec<(&str, Digest)> = index
        .manifests
        .iter()
        .map(|entry| (entry.annotations[transfer::REF_NAME].as_str(), entry.digest))
        .collect();
    assert_eq!(listed, [("1", first), ("2", second), ("3", second)]);
    for image in &written {
        for blob in blobs(image) {
            let bytes = std::fs::read(folder.join("blobs/sha256").join(blob.digest.hex())).unwrap();
            assert_eq!(Digest::of(bytes), blob.digest);
        }
    }
}

fn blobs(documents: &export::Documents) -> impl Iterator<Item = &oci::Descriptor> {
    let image = &documents.images[0];
    image.descriptors.iter().chain([&image.manifest, &image.config])
}
