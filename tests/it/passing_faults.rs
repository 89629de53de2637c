//! A build succeeds if any of its requests to a registry fails once.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use fixtures::PassingFault as Fault;
use fixtures::tar;
use fixtures::{Access, DockerRegistry, FaultyProxy, Kiln, Run, http};
use serde_json::Value;

use crate::{context_of, kiln, registry, text};

const FAULTS: [Fault; 6] = [
    Fault::Status(429, None),
    Fault::Status(429, Some("0")),
    Fault::Status(503, None),
    Fault::Reset,
    Fault::Cut,
    Fault::Garbled,
];
/// Concurrent builds: they wait more than they work.
const WORKERS: usize = 4;
/// One request in this many fails, so that a build meets several faults. The first position differs
/// from build to build, until each request has failed once.
const STRIDE: usize = 8;

/// The state of the context since the cache was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Warm,
    Changed,
}

/// A user who builds on machines without state.
struct Worker<'a> {
    registry: &'a DockerRegistry,
    proxy: FaultyProxy,
    kiln: Kiln,
}

impl<'a> Worker<'a> {
    fn new(registry: &'a DockerRegistry) -> Self {
        Self { registry, proxy: FaultyProxy::start(registry.host()), kiln: kiln() }
    }

    /// Builds from the shared cache into its own repositories.
    fn build(&self, kind: Kind, name: &str, fault: Option<(usize, Fault)>) -> Built {
        let host = self.proxy.host();
        // The base's layer is fetched, because a COPY reads its files.
        let dockerfile = format!(
            "FROM {host}/library/busybox AS made\nCOPY a /made/a\n\
             COPY --from={host}/library/busybox /etc/passwd /made/passwd\n\
             FROM {host}/library/busybox\nCOPY --from=made /made /made\nCOPY b /b\n"
        );
        let a = if kind == Kind::Changed { "changed\n" } else { "a\n" };
        let context = context_of(&[("Dockerfile", &dockerfile), ("a", a), ("b", "b\n")]);
        let metadata = self.kiln.home().join("metadata");
        self.kiln.empty_root();
        let (at, fault) = fault.unwrap_or((usize::MAX, Fault::Reset));
        self.proxy.fail_each(at, STRIDE, fault);
        let run = self.kiln.run([
            "build",
            "--progress=plain",
            "--push",
            "--build-arg=SOURCE_DATE_EPOCH=0",
            &format!("--tag={host}/{name}/app:1"),
            &format!("--cache-from=type=registry,ref={host}/team/cache:c"),
            &format!("--cache-to=type=registry,ref={host}/{name}/cache:c,mode=max"),
            &format!("--metadata-file={}", text(&metadata)),
            &text(context.path()),
        ]);
        let digest = digest(&metadata);
        Built { run, digest, failed: self.proxy.failed(), requests: self.proxy.asked().len() }
    }

    /// The files of an image in the registry, layer by layer. None if the image is incomplete.
    fn files(&self, name: &str, digest: &str) -> Option<String> {
        let ask = |path: String| {
            let media_type = "application/vnd.oci.image.manifest.v1+json";
            let method = "GET";
            let request = http::Request { method, path: &path, media_type, ..Default::default() };
            let answer = self.registry.send(&request).unwrap();
            (answer.status == 200).then_some(answer.body)
        };
        let manifest = ask(format!("/v2/{name}/app/manifests/1"))?;
        if fixtures::digest(&manifest) != digest {
            return None;
        }
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let blob = |blob: &Value| {
            let digest = blob["digest"].as_str().unwrap();
            let bytes = ask(format!("/v2/{name}/app/blobs/{digest}"))?;
            (fixtures::digest(&bytes) == digest).then_some(bytes)
        };
        blob(&manifest["config"])?;
        let mut files = String::new();
        for layer in manifest["layers"].as_array().unwrap() {
            let bytes = blob(layer)?;
            let mut archive = Vec::new();
            let mut reader = flate2::read::MultiGzDecoder::new(bytes.as_slice());
            std::io::Read::read_to_end(&mut reader, &mut archive).ok()?;
            for tar::Entry { path, kind, mode, uid, gid, .. } in tar::read(&archive).ok()? {
                // Times differ between builds.
                let content = fixtures::digest(format!("{kind:?}").as_bytes());
                files.push_str(&format!("{path} {content} {mode:o} {uid} {gid}\n"));
            }
        }
        Some(files)
    }
}

struct Built {
    run: Run,
    digest: String,
    failed: usize,
    requests: usize,
}

fn digest(metadata: &Path) -> String {
    let value = std::fs::read(metadata).ok();
    let value: Value =
        value.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let _ = std::fs::remove_file(metadata);
    value["containerimage.digest"].as_str().unwrap_or_default().to_owned()
}

/// A build with failing requests, from the one after `count` others on.
struct Trial {
    kind: Kind,
    fault: Fault,
    count: usize,
}

#[test]
fn each_request_of_a_build_may_go_wrong_once() {
    let Some(registry) = registry("passing_faults", Access::Open) else { return };
    let started = Instant::now();
    let first = Worker::new(&registry);
    // The cache of all later builds.
    first.build(Kind::Warm, "team", None).run.expect_ok();
    let mut trials = Vec::new();
    let (mut expected, mut total) = (Vec::new(), 0);
    for kind in [Kind::Warm, Kind::Changed] {
        let built = first.build(kind, &format!("clean/{kind:?}").to_lowercase(), None);
        let Built { run, digest, requests, .. } = built;
        run.expect_ok();
        assert!(requests > 5, "{kind:?}: {:?}", first.proxy.asked());
        expected.push(first.files(&format!("clean/{kind:?}").to_lowercase(), &digest).unwrap());
        total += requests * FAULTS.len();
        let each = FAULTS.iter().flat_map(|fault| (0..STRIDE).map(move |count| (*fault, count)));
        trials.extend(each.map(|(fault, count)| Trial { kind, fault, count }));
    }
    let (next, met) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let worker = Worker::new(&registry);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(Trial { kind, fault, count }) = trials.get(number) else { break };
                    let name = format!("trial/{number}");
                    let built = worker.build(*kind, &name, Some((*count, *fault)));
                    met.fetch_add(built.failed, Ordering::Relaxed);
                    let files = worker.files(&name, &built.digest);
                    let same = files.as_ref() == expected.get(usize::from(*kind == Kind::Changed));
                    if !built.run.ok() || !same {
                        let asked = worker.proxy.asked();
                        let line = asked.get(*count).cloned().unwrap_or_default();
                        let stderr = &built.run.stderr;
                        let what = format!("{kind:?} {fault:?} {count} `{line}`, same {same}");
                        wrong.lock().unwrap().push(format!("{what}\n{stderr}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    let met = met.into_inner();
    fixtures::note(&format!(
        "passing faults: {} builds with {met} faults in {:.0} s",
        trials.len(),
        started.elapsed().as_secs_f64()
    ));
    assert!(
        wrong.is_empty(),
        "{} of {} went wrong:\n{}",
        wrong.len(),
        trials.len(),
        wrong[..wrong.len().min(4)].join("\n")
    );
    // Requests run concurrently, so their number may vary a little.
    assert!(met * 10 >= total * 9, "{met} faults for {total} requests");
}
