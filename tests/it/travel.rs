//! What travels beside a cache: layer indexes.

use std::path::Path;

use fixtures::docker_registry::LogLine;
use fixtures::{Access, DockerRegistry, Kiln, Run};

use crate::{context_of, kiln, registry, text};

/// A machine that keeps nothing between builds, and a registry that counts.
struct Job {
    kiln: Kiln,
    registry: DockerRegistry,
}

impl Job {
    fn new(test: &str) -> Option<Self> {
        Some(Self { registry: registry(test, Access::Open)?, kiln: kiln() })
    }

    /// Builds on an empty root, with a cache in the registry; the run, and what was asked.
    fn build(&self, context: &Path, more: &[&str]) -> (Run, Vec<LogLine>) {
        self.kiln.empty_root();
        let asked = self.registry.log().len();
        let host = self.registry.host();
        let cache = format!("type=registry,ref={host}/app:cache");
        let mut args = vec![
            "build".to_owned(),
            "--progress=plain".to_owned(),
            format!("--build-arg=REGISTRY={host}"),
            format!("--cache-from={cache}"),
            format!("--cache-to={cache},mode=max"),
            format!("--tag={host}/app:latest"),
            "--push".to_owned(),
            text(context),
        ];
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        (self.kiln.run(args), self.registry.log().split_off(asked))
    }
}

/// Bytes of blobs that were fetched and are no document: layers.
fn layer_bytes(asked: &[LogLine]) -> u64 {
    let is_blob = |line: &&LogLine| line.method == "GET" && line.path.contains("/blobs/");
    asked.iter().filter(is_blob).map(|line| line.bytes).filter(|bytes| *bytes > 64 << 10).sum()
}

const COPIES: &str = "ARG REGISTRY=docker.io\nFROM ${REGISTRY}/library/busybox:latest\nWORKDIR /srv/app\nCOPY a.txt bin/\n";

#[test]
fn a_changed_file_on_a_cold_machine_downloads_no_base() {
    let Some(job) = Job::new("travelling_indexes") else { return };
    let context = context_of(&[("Dockerfile", COPIES), ("a.txt", "one")]);
    let (first, asked) = job.build(context.path(), &[]);
    first.expect_ok();
    assert!(layer_bytes(&asked) > 0, "the first build has to look into the base: {asked:#?}");

    std::fs::write(context.path().join("a.txt"), "two").unwrap();
    let (changed, asked) = job.build(context.path(), &[]);
    let changed = changed.expect_ok();
    assert_eq!(layer_bytes(&asked), 0, "{asked:#?}\n{}", changed.stderr);

    // Nothing beside the cache is asked for where nothing is needed of it.
    let (warm, asked) = job.build(context.path(), &[]);
    warm.expect_ok();
    let beside = asked.iter().filter(|line| line.path.contains("cache.kiln")).count();
    assert_eq!((beside, layer_bytes(&asked)), (0, 0), "{asked:#?}");
    assert!(asked.len() <= 12, "{asked:#?}");
}

#[test]
fn a_damaged_index_costs_the_download_of_its_layer() {
    let Some(job) = Job::new("damaged_index") else { return };
    let context = context_of(&[("Dockerfile", COPIES), ("a.txt", "one")]);
    job.build(context.path(), &[]).0.expect_ok();
    let request = fixtures::http::Request {
        method: "GET",
        path: "/v2/app/manifests/cache.kiln",
        media_type: "application/vnd.oci.image.manifest.v1+json",
        ..Default::default()
    };
    let manifest = job.registry.send(&request).unwrap().body;
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    for entry in manifest["layers"].as_array().unwrap() {
        let file = job.registry.blob_file(entry["digest"].as_str().unwrap());
        std::fs::write(file, "no index").unwrap();
    }
    std::fs::write(context.path().join("a.txt"), "two").unwrap();
    let (run, asked) = job.build(context.path(), &[]);
    let run = run.expect_ok();
    assert!(layer_bytes(&asked) > 0, "{asked:#?}");
    assert!(!run.stderr.contains("WARN"), "{}", run.stderr);

    // It was written again.
    std::fs::write(context.path().join("a.txt"), "three").unwrap();
    let (run, asked) = job.build(context.path(), &[]);
    run.expect_ok();
    assert_eq!(layer_bytes(&asked), 0, "{asked:#?}");
}
