//! Copying and merging of indexes.

use fixtures::base_image::RawImage;
use fixtures::http::{Request, Response};
use fixtures::{Access, DockerRegistry, Kiln};
use serde_json::{Value, json};

use crate::{kiln, registry};

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

struct Bench {
    registry: DockerRegistry,
    kiln: Kiln,
}

impl Bench {
    fn new() -> Option<Self> {
        Some(Self { registry: registry("imagetools", Access::Open)?, kiln: kiln() })
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.registry.host())
    }

    /// Pushes the base with an architecture, with media types of Docker or OCI. Returns its entry
    /// for an index.
    fn image(&self, tag: &str, architecture: &str, is_dockers: bool) -> Value {
        let base = fixtures::base_image::busybox().unwrap();
        let mut config: Value = serde_json::from_slice(&base.config).unwrap();
        config["architecture"] = json!(architecture);
        let config = config.to_string().into_bytes();
        let (media_type, config_type, layer_type) = match is_dockers {
            true => (
                DOCKER_MANIFEST,
                "application/vnd.docker.container.image.v1+json",
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
            ),
            false => (
                OCI_MANIFEST,
                "application/vnd.oci.image.config.v1+json",
                "application/vnd.oci.image.layer.v1.tar+gzip",
            ),
        };
        let of = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": fixtures::digest(bytes), "size": bytes.len()});
        let layers: Vec<Value> = base.layers.iter().map(|layer| of(layer_type, layer)).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type,
            "config": of(config_type, &config), "layers": layers,
        });
        let manifest = manifest.to_string().into_bytes();
        let mut entry = of(media_type, &manifest);
        entry["platform"] = json!({"architecture": architecture, "os": "linux"});
        self.registry.put("src", tag, &RawImage { config, manifest, media_type, ..base }).unwrap();
        entry
    }

    fn put_index(&self, tag: &str, media_type: &str, text: &str) {
        let path = format!("/v2/src/manifests/{tag}");
        let body = text.as_bytes();
        let request =
            Request { method: "PUT", path: &path, media_type, body, ..Request::default() };
        let put = self.registry.send(&request).unwrap();
        assert_eq!(put.status, 201, "{}", String::from_utf8_lossy(&put.body));
    }

    fn get(&self, repository: &str, tag: &str) -> Response {
        let path = format!("/v2/{repository}/manifests/{tag}");
        let media_type = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST].join(", ");
        let media_type = media_type.as_str();
        let request = Request { method: "GET", path: &path, media_type, ..Request::default() };
        self.registry.send(&request).unwrap()
    }

    /// True if a repository has everything that a document references.
    fn is_whole(&self, repository: &str, document: &[u8]) -> bool {
        let document: Value = serde_json::from_slice(document).unwrap();
        if let Some(manifests) = document["manifests"].as_array() {
            return manifests.iter().all(|entry| {
                let found = self.get(repository, entry["digest"].as_str().unwrap());
                found.status == 200 && self.is_whole(repository, &found.body)
            });
        }
        let layers = document["layers"].as_array().unwrap().iter();
        layers.chain([&document["config"]]).all(|blob| {
            let path = format!("/v2/{repository}/blobs/{}", blob["digest"].as_str().unwrap());
            let request = Request { method: "HEAD", path: &path, ..Request::default() };
            self.registry.send(&request).unwrap().status == 200
        })
    }

    fn create(&self, words: &[&str]) -> String {
        let line = [&["docker", "buildx", "imagetools", "create"], words].concat();
        self.kiln.run(line).expect_ok().stdout
    }
}

/// Signatures, pins and attached artifacts refer to the digest of an index.
#[test]
fn a_lone_index_is_copied_byte_for_byte() {
    let Some(bench) = Bench::new() else { return };
    let dockers = [bench.image("d-amd", "amd64", true), bench.image("d-arm", "arm64", true)];
    let ocis = [bench.image("o-amd", "amd64", false), bench.image("o-arm", "arm64", false)];
    let text = |value: Value| value.to_string();
    let list = json!({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": dockers});
    let plain = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": ocis});
    let mut noted = plain.clone();
    noted["annotations"] = json!({"org.opencontainers.image.title": "x"});
    let mut artifact = noted.clone();
    artifact["artifactType"] = json!("application/x.y");
    let mut unknown = plain.clone();
    unknown["x-unknown"] = json!([1, {"a": null}]);
    let mut indexes = vec![
        ("list", DOCKER_LIST, format!("{}\n", list.to_string().replace(',', ",\n   "))),
        ("plain", OCI_INDEX, text(plain.clone())),
        ("noted", OCI_INDEX, text(noted)),
        ("artifact", OCI_INDEX, text(artifact)),
        ("unknown", OCI_INDEX, text(unknown)),
        ("untyped", OCI_INDEX, text(json!({"schemaVersion": 2, "manifests": ocis}))),
    ];
    let inner = indexes[1].2.clone().into_bytes();
    bench.put_index("plain", OCI_INDEX, &indexes[1].2);
    let inner = json!({
        "mediaType": OCI_INDEX, "digest": fixtures::digest(&inner), "size": inner.len(),
    });
    let nested = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [inner]});
    indexes.push(("nested", OCI_INDEX, text(nested)));
    for (tag, media_type, text) in &indexes {
        bench.put_index(tag, media_type, text);
        let source = bench.name(&format!("src:{tag}"));
        for (repository, flags) in [
            ("src", &[][..]),
            ("promoted", &[]),
            ("other", &["--prefer-index=false"]),
            ("both", &["--platform=linux/amd64,linux/arm64"]),
        ] {
            if *tag == "nested" && repository == "both" {
                // The entries of an index of indexes have no platform to select.
                continue;
            }
            let target = bench.name(&format!("{repository}:new-{tag}"));
            let words = [flags, &["-t", &target, &source]].concat();
            let said = bench.create(&words);
            assert!(said.contains(&fixtures::digest(text.as_bytes())), "{tag}: {said}");
            let found = bench.get(repository, &format!("new-{tag}"));
            assert_eq!(String::from_utf8_lossy(&found.body), *text, "{repository} {tag}");
            assert_eq!(found.header("content-type"), Some(*media_type), "{tag}");
            assert!(bench.is_whole(repository, &found.body), "{repository} {tag}");
        }
        let dry = bench.create(&["--dry-run", &source]);
        assert_eq!(dry, format!("{text}\n"));
    }
    // A changed index is written anew.
    let noted = bench.name("src:changed");
    let source = bench.name("src:plain");
    bench.create(&["-t", &noted, "--annotation", "index:a=b", &source]);
    bench.create(&["-t", &bench.name("src:less"), "-p", "linux/arm64", &source]);
    let less: Value = serde_json::from_slice(&bench.get("src", "less").body).unwrap();
    assert_eq!(less["manifests"].as_array().unwrap().len(), 1);
}

#[test]
fn lists_of_dockers_images_are_dockers() {
    let Some(bench) = Bench::new() else { return };
    let amd = bench.image("amd", "amd64", true);
    let arm = bench.image("arm", "arm64", true);
    bench.image("oci", "s390x", false);
    let (one, two) = (bench.name("src:amd"), bench.name("src:arm"));
    let kind = |tag: &str| bench.get("src", tag).header("content-type").unwrap().to_owned();
    for (tag, words, expected) in [
        ("two", &[one.as_str(), &two][..], DOCKER_LIST),
        ("one", &[&one], DOCKER_LIST),
        ("lone", &["--prefer-index=false", &one], DOCKER_MANIFEST),
        ("mixed", &[&one, &bench.name("src:oci")], OCI_INDEX),
        ("noted", &["--annotation=index:a=b", &one, &two], OCI_INDEX),
    ] {
        let name = bench.name(&format!("src:{tag}"));
        bench.create(&[&["-t", &name], words].concat());
        assert_eq!(kind(tag), expected, "{tag}");
    }
    let two_entries = [amd.clone(), arm.clone()];
    let made: Value = serde_json::from_slice(&bench.get("src", "two").body).unwrap();
    assert_eq!(made["manifests"], json!(two_entries));
    assert_eq!(made["mediaType"], DOCKER_LIST);
    assert_eq!(bench.get("src", "lone").body, bench.get("src", "amd").body);

    // `docker manifest push` writes the same content in its own form.
    let list = bench.name("src:pushed");
    bench.kiln.run(["docker", "manifest", "create", &list, &one, &two]).expect_ok();
    let pushed = bench.kiln.run(["docker", "manifest", "push", &list]).expect_ok().stdout;
    let entry = |image: &Value| {
        format!(
            "      {{\n         \"mediaType\": {},\n         \"size\": {},\n         \
             \"digest\": {},\n         \"platform\": {{\n            \"architecture\": {},\n            \
             \"os\": \"linux\"\n         }}\n      }}",
            image["mediaType"], image["size"], image["digest"], image["platform"]["architecture"]
        )
    };
    let expected = format!(
        "{{\n   \"schemaVersion\": 2,\n   \"mediaType\": \"{DOCKER_LIST}\",\n   \
         \"manifests\": [\n{},\n{}\n   ]\n}}",
        entry(&amd),
        entry(&arm)
    );
    let found = bench.get("src", "pushed");
    assert_eq!(String::from_utf8_lossy(&found.body), expected);
    assert_eq!(pushed.trim_end(), fixtures::digest(expected.as_bytes()));
    assert_eq!(kind("pushed"), DOCKER_LIST);
}
