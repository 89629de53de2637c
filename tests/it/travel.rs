//! Data beside a cache: layer indexes and cache mounts.

use std::path::Path;

use fixtures::docker_registry::LogLine;
use fixtures::{Access, DockerRegistry, FaultyProxy, Kiln, Run};

use crate::{context_of, kiln, registry, root_or_skip, text};

/// A machine without state between builds, and a registry with a log.
pub(crate) struct Job {
    pub(crate) kiln: Kiln,
    pub(crate) registry: DockerRegistry,
    /// Further options of `--cache-from` and `--cache-to`.
    mounts: &'static str,
    /// A proxy between them.
    pub(crate) proxy: Option<FaultyProxy>,
}

impl Job {
    pub(crate) fn new(test: &str) -> Option<Self> {
        Some(Self {
            registry: registry(test, Access::Open)?,
            kiln: kiln(),
            mounts: "",
            proxy: None,
        })
    }

    /// Builds on an empty root, with a cache in the registry. Returns the run and the requests.
    pub(crate) fn build(&self, context: &Path, more: &[&str]) -> (Run, Vec<LogLine>) {
        self.kiln.empty_root();
        let asked = self.registry.log().len();
        (self.kiln.run(self.arguments(context, more)), self.registry.log().split_off(asked))
    }

    /// The words of a build, with a cache in the registry.
    pub(crate) fn arguments(&self, context: &Path, more: &[&str]) -> Vec<String> {
        let host = self.proxy.as_ref().map_or(self.registry.host(), FaultyProxy::host);
        let cache = format!("type=registry,ref={host}/app:cache");
        let mut args = vec![
            "build".to_owned(),
            "--progress=plain".to_owned(),
            format!("--build-arg=REGISTRY={host}"),
            format!("--cache-from={cache}{}", self.mounts),
            format!("--cache-to={cache},mode=max{}", self.mounts),
            format!("--tag={host}/app:latest"),
            "--push".to_owned(),
            text(context),
        ];
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        args
    }
}

impl Job {
    /// The digest of the artifact beside the cache.
    fn artifact(&self) -> String {
        fixtures::digest(&self.manifest_beside())
    }

    fn manifest_beside(&self) -> Vec<u8> {
        let request = fixtures::http::Request {
            method: "GET",
            path: "/v2/app/manifests/cache.kiln",
            media_type: "application/vnd.oci.image.manifest.v1+json",
            ..Default::default()
        };
        self.registry.send(&request).unwrap().body
    }

    /// Digests of the entries beside the cache whose names begin with `kind`.
    pub(crate) fn blobs_beside(&self, kind: &str) -> Vec<String> {
        let manifest: serde_json::Value = serde_json::from_slice(&self.manifest_beside()).unwrap();
        let entries = manifest["layers"].as_array().unwrap().iter();
        let of_kind = entries.filter(|entry| {
            entry["annotations"]["vnd.kiln.name"].as_str().unwrap().starts_with(kind)
        });
        let found: Vec<_> =
            of_kind.map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect();
        assert!(!found.is_empty(), "nothing is there: {manifest}");
        found
    }
}

/// Bytes of fetched layers: blobs too large to be documents.
pub(crate) fn layer_bytes(asked: &[LogLine]) -> u64 {
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

    // Nothing beside the cache is requested if nothing of it is needed.
    let artifact = job.artifact();
    let (warm, asked) = job.build(context.path(), &[]);
    warm.expect_ok();
    assert_eq!((beside(&asked, &artifact), layer_bytes(&asked)), (0, 0), "{asked:#?}");
    assert!(asked.len() <= 12, "{asked:#?}");
}

#[test]
fn a_damaged_index_costs_the_download_of_its_layer() {
    let Some(job) = Job::new("damaged_index") else { return };
    let context = context_of(&[("Dockerfile", COPIES), ("a.txt", "one")]);
    job.build(context.path(), &[]).0.expect_ok();
    for digest in job.blobs_beside("indexes/") {
        std::fs::write(job.registry.blob_file(&digest), "no index").unwrap();
    }
    std::fs::write(context.path().join("a.txt"), "two").unwrap();
    let (run, asked) = job.build(context.path(), &[]);
    let run = run.expect_ok();
    assert!(layer_bytes(&asked) > 0, "{asked:#?}");
    assert!(!run.stderr.contains("WARN"), "{}", run.stderr);

    // The index was written again.
    std::fs::write(context.path().join("a.txt"), "three").unwrap();
    let (run, asked) = job.build(context.path(), &[]);
    run.expect_ok();
    assert_eq!(layer_bytes(&asked), 0, "{asked:#?}");
}

const LARGE: &str = "ARG REGISTRY=docker.io\nFROM ${REGISTRY}/library/busybox:latest AS build\nCOPY large /out/\n\
    FROM ${REGISTRY}/library/busybox:latest\nCOPY a.txt /\nCOPY --from=build /out/program /srv/\n";

/// Incompressible bytes.
pub(crate) fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..size).map(|_| next()).collect()
}

#[test]
fn one_file_of_a_large_layer_is_read_without_the_rest() {
    for compression in ["gzip", "zstd"] {
        let Some(mut job) = Job::new("one_file_of_a_large_layer") else { return };
        job.mounts = if compression == "zstd" { ",compression=zstd" } else { "" };
        let context = context_of(&[("Dockerfile", LARGE), ("a.txt", "one")]);
        let large = context.path().join("large");
        std::fs::create_dir(&large).unwrap();
        for (name, bytes) in
            [("data", &noise(20 << 20)[..]), ("program", b"#!/bin/sh\n"), ("zeros", &[0; 1 << 20])]
        {
            std::fs::write(large.join(name), bytes).unwrap();
        }
        job.build(context.path(), &[]).0.expect_ok();

        std::fs::write(context.path().join("a.txt"), "two").unwrap();
        let out = context.path().join("out");
        let local = format!("--output=type=local,dest={}", text(&out));
        let (changed, asked) = job.build(context.path(), &[&local]);
        let changed = changed.expect_ok();
        let read = layer_bytes(&asked);
        // The base is fetched whole, for the exported folder.
        assert!(read < 8 << 20, "{compression}: {read} {asked:#?}\n{}", changed.stderr);
        assert_eq!(std::fs::read(out.join("srv/program")).unwrap(), b"#!/bin/sh\n");

        // All files are needed, so the layer is fetched in one piece.
        let all = LARGE.replace("/out/program", "/out");
        std::fs::write(context.path().join("Dockerfile"), all).unwrap();
        let (_, asked) = job.build(context.path(), &[]);
        assert!(layer_bytes(&asked) > 20 << 20, "{compression}: {asked:#?}");
    }
}

const MOUNT: &str = "ARG REGISTRY=docker.io\nFROM ${REGISTRY}/library/busybox:latest\nCOPY a.txt .\n\
    RUN --mount=type=cache,id=log,target=/log cat a.txt >>/log/lines; mkdir -p /log/kept; touch /log/kept/$(cat a.txt); \
    echo \"lines: $(cat /log/lines | tr '\\n' ' ')\"; echo \"kept: $(ls /log/kept | tr '\\n' ' ')\"\n";

/// Requests for the artifact beside the cache: by its tag, or by its digest.
fn beside(asked: &[LogLine], artifact: &str) -> usize {
    let is_for_it =
        |line: &&LogLine| line.path.contains("cache.kiln") || line.path.contains(artifact);
    asked.iter().filter(is_for_it).count()
}

#[test]
fn a_cache_mount_goes_on_on_a_cold_machine() {
    if !root_or_skip("travelling_mounts") {
        return;
    }
    let Some(mut job) = Job::new("travelling_mounts") else { return };
    job.mounts = ",mounts=true";
    let context = context_of(&[("Dockerfile", MOUNT), ("a.txt", "one\n")]);
    let mut lines = String::from("lines: ");
    for word in ["one", "two", "three", "four"] {
        std::fs::write(context.path().join("a.txt"), format!("{word}\n")).unwrap();
        let run = job.build(context.path(), &[]).0.expect_ok();
        lines.push_str(&format!("{word} "));
        assert!(run.stderr.contains(&lines), "{word}: {}", run.stderr);
        assert!(!run.stderr.contains("was not left"), "{}", run.stderr);
    }

    // No cache mount is transferred if no command runs.
    let artifact = job.artifact();
    let (warm, asked) = job.build(context.path(), &[]);
    warm.expect_ok();
    assert_eq!(beside(&asked, &artifact), 0, "{asked:#?}");

    // Without the option it begins empty, and its new content replaces the stored one.
    let host = job.registry.host();
    std::fs::write(context.path().join("a.txt"), "five\n").unwrap();
    job.kiln.empty_root();
    let cache = format!("type=registry,ref={host}/app:cache");
    let run = job.kiln.run([
        "build".to_owned(),
        "--progress=plain".to_owned(),
        format!("--build-arg=REGISTRY={host}"),
        format!("--cache-from={cache}"),
        format!("--cache-to={cache},mode=max,mounts=true,mounts-max-size=1b"),
        text(context.path()),
    ]);
    let run = run.expect_ok();
    assert!(run.stderr.contains("lines: five"), "{}", run.stderr);
    assert!(
        run.stderr.contains("cache mount `/log` was not left: it has 5 bytes"),
        "{}",
        run.stderr
    );
    std::fs::write(context.path().join("a.txt"), "six\n").unwrap();
    let run = job.build(context.path(), &[]).0.expect_ok();
    assert!(run.stderr.contains(&format!("{lines}six")), "{}", run.stderr);
}

#[test]
fn a_damaged_cache_mount_begins_empty() {
    if !root_or_skip("damaged_mount") {
        return;
    }
    let Some(mut job) = Job::new("damaged_mount") else { return };
    job.mounts = ",mounts=true";
    let context = context_of(&[("Dockerfile", MOUNT), ("a.txt", "one\n")]);
    job.build(context.path(), &[]).0.expect_ok();
    for digest in job.blobs_beside("mounts/") {
        std::fs::write(job.registry.blob_file(&digest), "no layer").unwrap();
    }
    std::fs::write(context.path().join("a.txt"), "two\n").unwrap();
    let run = job.build(context.path(), &[]).0.expect_ok();
    assert!(run.stderr.contains("lines: two"), "{}", run.stderr);
    assert!(run.stderr.contains("it begins empty"), "{}", run.stderr);
}

/// A few bytes in a registry must not fill a runner's disk.
#[test]
fn a_cache_mount_that_grows_beyond_measure_begins_empty() {
    if !root_or_skip("growing_mount") {
        return;
    }
    let Some(mut job) = Job::new("growing_mount") else { return };
    job.mounts = ",mounts=true";
    // 200 MiB that compress to a few hundred kilobytes.
    let dockerfile = "ARG REGISTRY=docker.io
FROM $REGISTRY/library/busybox
COPY a.txt /
RUN --mount=type=cache,target=/log echo \"begins with: $(ls /log)\" && \
    dd if=/dev/zero of=/log/zeros bs=1048576 count=200
";
    let context = context_of(&[("Dockerfile", dockerfile), ("a.txt", "one\n")]);
    job.build(context.path(), &[]).0.expect_ok();
    assert!(!job.blobs_beside("mounts/").is_empty());
    std::fs::write(context.path().join("a.txt"), "two\n").unwrap();
    let run = job.build(context.path(), &[]).0.expect_ok();
    assert!(run.stderr.contains("it begins empty"), "{}", run.stderr);
    assert!(run.stderr.contains("begins with: \n"), "{}", run.stderr);
}
