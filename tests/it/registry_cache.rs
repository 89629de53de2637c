//! The main use of kiln: build, push, and a warm cache on a machine without state.

use std::path::Path;

use fixtures::docker_registry::{LogLine, PASSWORD, USER};
use fixtures::{Access, DockerRegistry, Kiln, Run};

use crate::{context_of, copy_of, kiln, registry, root_or_skip, stat, text};

const STEPS: u64 = 12;

struct Job {
    kiln: Kiln,
    registry: DockerRegistry,
    place: tempfile::TempDir,
}

impl Job {
    /// The shop, a kiln that is logged in, and a registry with a password.
    fn new(test: &str) -> Option<Self> {
        let registry = registry(test, Access::Password)?;
        let (kiln, place) = (kiln(), tempfile::tempdir().unwrap());
        kiln.login(registry.host(), USER, PASSWORD);
        copy_of("examples/shop", &place.path().join("shop"));
        Some(Self { kiln, registry, place })
    }

    fn metadata(&self) -> std::path::PathBuf {
        self.place.path().join("metadata.json")
    }

    fn context(&self) -> std::path::PathBuf {
        self.place.path().join("shop")
    }

    /// Builds on an empty root and pushes. Returns the run and the requests to the registry.
    fn build(&self) -> (Run, Vec<LogLine>) {
        self.kiln.empty_root();
        let asked = self.registry.log().len();
        let host = self.registry.host();
        let cache = format!("type=registry,ref={host}/shop:cache");
        let run = self.kiln.run([
            "build".to_owned(),
            "--progress=plain".to_owned(),
            format!("--build-arg=REGISTRY={host}"),
            format!("--cache-from={cache}"),
            format!("--cache-to={cache},mode=max"),
            format!("--tag={host}/shop:latest"),
            format!("--tag={host}/shop:1.0"),
            "--push".to_owned(),
            format!("--metadata-file={}", text(&self.metadata())),
            text(&self.context()),
        ]);
        (run, self.registry.log().split_off(asked))
    }

    fn digest(&self) -> String {
        let metadata = std::fs::read(self.metadata()).unwrap();
        let metadata: serde_json::Value = serde_json::from_slice(&metadata).unwrap();
        metadata["containerimage.digest"].as_str().unwrap().to_owned()
    }

    fn steps(&self) -> (u64, u64) {
        (stat(&self.metadata(), "ran"), stat(&self.metadata(), "cached"))
    }
}

fn append(file: &Path, line: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    std::fs::write(file, text + line).unwrap();
}

#[test]
fn a_cold_machine_is_warm() {
    let Some(job) = Job::new("registry_cache") else { return };
    let (cold, _) = job.build();
    cold.expect_ok();
    assert_eq!(job.steps(), (STEPS, 0));
    let digest = job.digest();

    let (warm, asked) = job.build();
    let warm = warm.expect_ok();
    assert_eq!(job.steps(), (0, STEPS), "{}", warm.stderr);
    // The base image has a line, but is not a step.
    assert!(warm.count("CACHED") as u64 >= STEPS, "{}", warm.stderr);
    assert_eq!(job.digest(), digest, "the same inputs make the same image");
    // Only manifests and configs are fetched: the smallest non-empty layer is the base's.
    let largest = asked.iter().filter(|line| line.method == "GET").map(|line| line.bytes).max();
    assert!(largest.unwrap_or(0) < 64 << 10, "a layer was downloaded: {asked:#?}");
    assert!(asked.iter().all(|line| line.method != "PATCH"), "a layer was uploaded: {asked:#?}");

    append(&job.context().join("catalogue/garden.csv"), "lamp,Garden lamp,1999,21\n");
    let (changed, _) = job.build();
    let changed = changed.expect_ok();
    // Both stages that read the catalogue run from that step on, and the last stage.
    assert_eq!(job.steps(), (6, 6), "{}", changed.stderr);
    assert_ne!(job.digest(), digest);

    // The password is not printed.
    for run in [&warm, &changed] {
        assert!(!run.stderr.contains(PASSWORD) && !run.stdout.contains(PASSWORD));
    }
}

#[test]
fn both_tags_are_pushed_and_a_damaged_cache_is_a_warning() {
    let Some(job) = Job::new("damaged_cache") else { return };
    job.build().0.expect_ok();
    for tag in ["latest", "1.0"] {
        let path = format!("/v2/shop/manifests/{tag}");
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let request = fixtures::http::Request {
            method: "GET",
            path: &path,
            media_type,
            ..Default::default()
        };
        assert_eq!(job.registry.send(&request).unwrap().status, 200, "{tag}");
    }
    // An image that is not a cache.
    let image = fixtures::base_image::RawImage {
        layers: Vec::new(),
        config: b"{}".to_vec(),
        manifest: br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.buildkit.cacheconfig.v0","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#.to_vec(),
        media_type: "application/vnd.oci.image.manifest.v1+json",
        diff_ids: Vec::new(),
    };
    job.registry.put("shop", "cache", &image).unwrap();
    let (run, _) = job.build();
    run.expect_ok();
    assert_eq!(job.steps(), (STEPS, 0));
}

#[test]
fn a_cached_layer_that_is_gone_is_made_again() {
    let Some(job) = Job::new("lost_layer") else { return };
    job.build().0.expect_ok();
    let request = fixtures::http::Request {
        method: "GET",
        path: "/v2/shop/manifests/latest",
        media_type: "application/vnd.oci.image.manifest.v1+json",
        ..Default::default()
    };
    let manifest = job.registry.send(&request).unwrap().body;
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let last = manifest["layers"].as_array().unwrap().last().unwrap();
    std::fs::remove_file(job.registry.blob_file(last["digest"].as_str().unwrap())).unwrap();

    job.kiln.empty_root();
    let host = job.registry.host();
    let folder = job.place.path().join("files");
    let run = job.kiln.run([
        "build".to_owned(),
        "--progress=plain".to_owned(),
        format!("--build-arg=REGISTRY={host}"),
        format!("--cache-from=type=registry,ref={host}/shop:cache"),
        format!("--output=type=local,dest={}", text(&folder)),
        format!("--metadata-file={}", text(&job.metadata())),
        text(&job.context()),
    ]);
    let run = run.expect_ok();
    assert!(job.steps().0 > 0, "a step ran: {}", run.stderr);
    assert!(run.stderr.contains("WARN"), "it is said: {}", run.stderr);
    assert!(std::fs::read_dir(folder).unwrap().count() > 0);
}

/// A missing permission to push is reported during the first command, not after it.
#[test]
fn a_push_that_is_refused_ends_the_build_at_its_first_command() {
    if !root_or_skip("permission") {
        return;
    }
    let Some(open) = registry("permission", Access::Open) else { return };
    let Some(closed) = registry("permission", Access::Password) else { return };
    let kiln = kiln();
    let dockerfile = format!("FROM {}/library/busybox\nRUN sleep 1000\n", open.host());
    let context = context_of(&[("Dockerfile", &dockerfile)]);
    let (host, context) = (closed.host(), text(context.path()));
    let (tag, cache) = (format!("--tag={host}/app"), format!("type=registry,ref={host}/app:cache"));
    let (to, output) =
        (format!("--cache-to={cache}"), format!("type=image,name={host}/app,push=true"));
    for flags in [&["--push", &tag][..], &["--output", &output], &["-o", "type=cacheonly", &to]] {
        let run =
            kiln.run(["build", "--progress=plain"].iter().chain(flags).chain([&context.as_str()]));
        assert!(run.refused(), "{flags:?}: {}", run.stderr);
        for word in [
            "RUN sleep 1000",
            "CANCELED",
            &format!("push to `{host}/app`"),
            &format!("kiln login {host}"),
        ] {
            assert!(run.stderr.contains(word), "{flags:?}: no {word} in {}", run.stderr);
        }
    }
    // With `ignore-error`, there is no check in advance, and a cached build pushes at once.
    let quick = dockerfile.replace("sleep 1000", "true");
    std::fs::write(std::path::Path::new(&context).join("Dockerfile"), quick).unwrap();
    let to = format!("{to},ignore-error=true");
    kiln.run(["build", "-o", "type=cacheonly", &to, &context]).expect_ok();
    kiln.login(host, USER, PASSWORD);
    let asked = closed.log().len();
    kiln.run(["build", "--no-cache", "--push", &tag, &context]).expect_ok();
    let log = closed.log().split_off(asked);
    let begun = log.iter().filter(|line| line.method == "POST" && line.status == 202).count();
    let sent = log
        .iter()
        .filter(|line| line.method == "PUT" && line.status == 201 && line.path.contains("/blobs/"))
        .count();
    // A blob that is sent before the check's response begins its own upload.
    assert!(begun <= sent + 1, "the question is the beginning of an upload: {log:?}");
}
