use std::fs;
use std::path::Path;

use layer::tar::TarWriter;
use layer::{Entry, EntryKind, Time};
use oci::{Descriptor, Reference, media_type};
use store::{OpenOptions, Privileges};
use testing::FakeRegistry;

use super::*;
use crate::request::{
    Context, DockerfileSource, FilesOptions, FolderOutput, Layers, NoCache, Output, Policy,
};

/// A tar with one file.
fn archive(path: &str, content: &str) -> Vec<u8> {
    let entry = Entry {
        path: path.as_bytes().into(),
        kind: EntryKind::File { size: content.len() as u64 },
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        xattrs: Vec::new(),
    };
    let mut writer = TarWriter::new(Vec::new());
    writer.append(&entry, &mut content.as_bytes()).unwrap();
    writer.finish().unwrap()
}

/// Puts an image with one layer into a registry.
fn put_image(registry: &FakeRegistry, name: &str, layer: &[u8]) {
    let layer_blob = Descriptor::of(media_type::OCI_LAYER, layer);
    let platform = oci::Platform::host();
    let config = serde_json::json!({
        "os": platform.os, "architecture": platform.architecture,
        "rootfs": { "type": "layers", "diff_ids": [layer_blob.digest] },
    });
    let config = config.to_string();
    let config_blob = Descriptor::of(media_type::OCI_CONFIG, config.as_bytes());
    registry.put_blob(name, layer.to_vec());
    registry.put_blob(name, config);
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": config_blob, "layers": [layer_blob],
    });
    registry.put_manifest(name, Some("latest"), media_type::OCI_MANIFEST, manifest.to_string());
}

fn session(root: &Path) -> Session {
    Session::new(Host {
        store: Store::open(root, OpenOptions::new(Privileges::None)).unwrap(),
        client: registry::Client::new(registry::Settings::default()).unwrap(),
        runtime: Err(Unavailable::new("no step of this test needs one")),
        engine: String::new(),
        verify_indexes: false,
    })
}

/// A request for the files of `dockerfile`'s result.
fn request(context: &Path, dockerfile: String, folder: &Path) -> Request {
    Request {
        context: Context::Folder(context.to_owned()),
        dockerfile: DockerfileSource::Text(dockerfile.into()),
        target: None,
        build_args: Vec::new(),
        labels: Vec::new(),
        platforms: Vec::new(),
        named_contexts: Default::default(),
        tags: Vec::<Reference>::new(),
        outputs: vec![Output::Local(FolderOutput {
            folder: folder.to_owned(),
            delete: false,
            files: FilesOptions::default(),
        })],
        cache_from: Vec::new(),
        cache_to: Vec::new(),
        no_cache: NoCache::default(),
        pull: false,
        secrets: Default::default(),
        ssh: Default::default(),
        client: None,
        client_policy: None,
        known_hosts: None,
        network: graph::Network::Default,
        extra_hosts: Vec::new(),
        ulimits: Vec::new(),
        shm_size: 0,
        cgroup_parent: String::new(),
        allow_network_host: false,
        allow_security_insecure: false,
        source_date_epoch: None,
        explain: false,
        require_cached: Vec::new(),
        normalize_modes: false,
        lazy: transfer::Lazy::Auto,
        verify_indexes: false,
        attestations: Default::default(),
        push_check: false,
        vcs: Default::default(),
        layers: Layers::default(),
        policy: Policy::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_of_a_session_run_at_the_same_time() {
    let registry = FakeRegistry::start();
    put_image(&registry, "base", &archive("of-base", "base"));
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("context")).unwrap();
    for name in ["a", "b"] {
        fs::write(path("context").join(name), name).unwrap();
    }
    let session = session(&path("root"));
    let build = async |name: &str| {
        let text = format!("FROM {}/base\nCOPY {name} /own\n", registry.host());
        let request = request(&path("context"), text, &path(name));
        crate::build(&session, &request, &Events::none()).await
    };
    let (first, second) = tokio::join!(build("a"), build("b"));
    for (name, outcome) in [("a", first), ("b", second)] {
        assert_eq!(outcome.unwrap().ran, 1, "{name}");
        assert_eq!(fs::read_to_string(path(name).join("of-base")).unwrap(), "base");
        assert_eq!(fs::read_to_string(path(name).join("own")).unwrap(), name);
    }
}
