//! A registry that has lost layers of a cache, or does not deliver them: each build succeeds, with
//! the files of a clean build.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, anyhow, bail};
use fixtures::image::{Layout, Tree, decompress};
use fixtures::tar::{self, Kind};
use fixtures::{Access, DockerRegistry, Kiln, Lie, LyingProxy, Run};
use serde_json::Value;
use tempfile::TempDir;

use crate::{context_of, kiln, registry, root_or_skip, text};

/// Layers: `lowest`, `middle`, the copy from `tools`, `main`, `top`.
const DOCKERFILE: &str = "ARG REGISTRY=docker.io
FROM $REGISTRY/library/busybox AS tools
COPY tool.txt /tool.txt
RUN cat /tool.txt > /tool-made
FROM $REGISTRY/library/busybox AS app
RUN echo lowest > /lowest
COPY middle.txt /middle
FROM app
COPY --from=tools /tool-made /tool
COPY main.txt /main
RUN cat /lowest /middle /main > /top
";

/// Number of concurrent builds: most of them wait for a registry.
const AT_ONCE: usize = 6;

/// Layers to be lost, each with a file that only it has.
const LAYERS: [(&str, &str); 5] = [
    ("lowest", "/lowest"),
    ("middle", "/middle"),
    ("top", "/top"),
    ("source of a COPY", "/tool-made"),
    ("base", "/bin/busybox"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Lie(Lie),
    Deleted,
}

const FAULTS: [Fault; 8] = [
    Fault::Lie(Lie::Status(404)),
    Fault::Lie(Lie::Status(403)),
    Fault::Lie(Lie::Status(500)),
    Fault::Lie(Lie::Reset),
    Fault::Lie(Lie::Cut),
    Fault::Lie(Lie::WrongBytes),
    Fault::Lie(Lie::Silence),
    Fault::Deleted,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    PushHere,
    PushElsewhere,
    Folder,
    CacheOnly,
    ExportToSameReference,
}

const TARGETS: [Target; 5] = [
    Target::PushHere,
    Target::PushElsewhere,
    Target::Folder,
    Target::CacheOnly,
    Target::ExportToSameReference,
];

#[derive(Clone, Copy, Debug)]
struct Case {
    layer: (&'static str, &'static str),
    fault: Fault,
    target: Target,
    is_changed: bool,
}

/// Every fault of every layer, and the deleted base with every target and change. With `all`, all
/// faults with every target and change.
fn cases(all: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    for (row, layer) in LAYERS.into_iter().enumerate() {
        for (column, fault) in FAULTS.into_iter().enumerate() {
            for (at, target) in TARGETS.into_iter().enumerate() {
                for is_changed in [false, true] {
                    let is_turn = (row + column) % TARGETS.len() == at
                        && (row / 2 + column) % 2 == usize::from(is_changed);
                    // No step makes a base again, so its loss is handled in a way of its own.
                    let is_lost_base = row == 4 && fault == Fault::Deleted;
                    if all || is_turn || is_lost_base {
                        cases.push(Case { layer, fault, target, is_changed });
                    }
                }
            }
        }
    }
    cases
}

#[test]
fn the_short_matrix_has_everything_once() {
    let cases = cases(false);
    let without_lost_bases = LAYERS.len() * FAULTS.len() - 1;
    assert_eq!(cases.len(), without_lost_bases + 2 * TARGETS.len());
    for target in TARGETS {
        for is_changed in [false, true] {
            let has = |case: &Case| case.target == target && case.is_changed == is_changed;
            assert!(cases.iter().any(has), "{target:?} {is_changed}");
        }
    }
    assert_eq!(self::cases(true).len(), 400);
}

/// A project whose cache is in `shop` of a registry, and a proxy in front of the registry.
struct Shop {
    registry: DockerRegistry,
    proxy: LyingProxy,
    context: TempDir,
    changed: TempDir,
    /// Digests of blobs, by a file in each.
    blobs: BTreeMap<String, String>,
}

impl Shop {
    fn open(test: &str) -> Option<Self> {
        if !root_or_skip(test) {
            return None;
        }
        let registry = registry(test, Access::Open)?;
        let context = |middle: &str| {
            context_of(&[
                ("Dockerfile", DOCKERFILE),
                ("tool.txt", "a tool\n"),
                ("middle.txt", middle),
                ("main.txt", "main\n"),
            ])
        };
        let proxy = LyingProxy::start(registry.host());
        let (context, changed) = (context("middle\n"), context("other\n"));
        let mut shop = Self { registry, proxy, context, changed, blobs: BTreeMap::new() };
        let cache = format!("--cache-to=type=registry,ref={}/shop:cache,mode=max", shop.host());
        let image = format!("--tag={}/shop:image", shop.host());
        let args = [cache, image, "--push".into()];
        build(&kiln(), &shop, shop.context.path(), &args, None).expect_ok();
        for layer in shop.cached("shop") {
            let path = format!("/v2/shop/blobs/{layer}");
            let archive = decompress(&shop.get(&path).body).unwrap();
            for entry in tar::read(&archive).unwrap() {
                shop.blobs.insert(entry.absolute(), layer.clone());
            }
        }
        Some(shop)
    }

    fn host(&self) -> &str {
        self.proxy.host()
    }

    /// Sends a request to the registry, not through the proxy.
    fn get(&self, path: &str) -> fixtures::http::Response {
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let request =
            fixtures::http::Request { method: "GET", path, media_type, ..Default::default() };
        self.registry.send(&request).unwrap()
    }

    /// The layers in a cache's manifest.
    fn cached(&self, repository: &str) -> Vec<String> {
        let manifest = self.get(&format!("/v2/{repository}/manifests/cache")).body;
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let layers = manifest["layers"].as_array().unwrap().iter();
        layers.map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
    }

    /// Copies the cache's repository, with one layer lost.
    fn spoil(&self, repository: &str, file: &str, fault: Fault) {
        self.registry.copy_repository("shop", repository).unwrap();
        let blob = &self.blobs[file];
        match fault {
            Fault::Lie(lie) => self.proxy.lie(repository, blob, lie),
            Fault::Deleted => self.registry.forget_blob(repository, blob).unwrap(),
        }
    }

    fn run(&self, case: &Case, repository: &str) -> Result<(), String> {
        self.spoil(repository, case.layer.1, case.fault);
        let (kiln, host) = (kiln(), self.host());
        let place = tempfile::tempdir().unwrap();
        let files = place.path().join("files");
        let folder = format!("--output=type=local,dest={}", text(&files));
        let elsewhere = format!("{repository}-elsewhere");
        let cache = format!("type=registry,ref={host}/{repository}:cache");
        let mut args = match case.target {
            Target::PushHere => vec![format!("--tag={host}/{repository}:image"), "--push".into()],
            Target::PushElsewhere => {
                vec![format!("--tag={host}/{elsewhere}:image"), "--push".into()]
            }
            Target::Folder => vec![folder],
            Target::CacheOnly => vec!["--output=type=cacheonly".into()],
            Target::ExportToSameReference => {
                vec![folder, format!("--cache-to={cache},mode=max")]
            }
        };
        args.push(format!("--cache-from={cache}"));
        let (context, middle) = match case.is_changed {
            true => (&self.changed, "other\n"),
            false => (&self.context, "middle\n"),
        };
        let timeout = (case.fault == Fault::Lie(Lie::Silence)).then_some("3");
        let run = build(&kiln, self, context.path(), &args, timeout);
        let said = |problem: String| format!("{problem}\n{}", run.stderr);
        if !run.ok() {
            return Err(said(format!("exit code {:?}", run.code)));
        }
        if warnings(&run) > 1 {
            return Err(said("more than one warning for one cache".into()));
        }
        let expected = expected(middle);
        let found = match case.target {
            Target::PushHere => files_of_image(&self.registry, repository, &expected),
            Target::PushElsewhere => files_of_image(&self.registry, &elsewhere, &expected),
            Target::Folder | Target::ExportToSameReference => files_of_folder(&files, &expected),
            Target::CacheOnly => return Ok(()),
        };
        if found.as_ref().ok() != Some(&expected) {
            return Err(said(format!("{found:?} instead of {expected:?}")));
        }
        // The written cache references no lost layer.
        let is_written = run.stderr.contains("exporting cache to registry")
            && (case.is_changed || case.layer.0 != "source of a COPY");
        if case.target == Target::ExportToSameReference && is_written {
            for blob in self.cached(repository) {
                let status = self.get(&format!("/v2/{repository}/blobs/{blob}")).status;
                if status != 200 {
                    return Err(said(format!("the cache names {blob}, which is gone")));
                }
            }
        }
        Ok(())
    }
}

fn build(kiln: &Kiln, shop: &Shop, context: &Path, args: &[String], timeout: Option<&str>) -> Run {
    let registry = format!("--build-arg=REGISTRY={}", shop.host());
    let mut command = kiln.command(["build", "--progress=plain", &registry, &text(context)]);
    // Roots fill for root, and come whole for other users.
    command.arg("--lazy=always");
    command.args(args);
    command.envs(timeout.map(|seconds| ("KILN_REGISTRY_TIMEOUT", seconds)));
    fixtures::kiln::finish(command, b"")
}

/// The number of warnings about an unusable cache.
fn warnings(run: &Run) -> usize {
    run.stderr.lines().filter(|line| line.contains("WARN: records of")).count()
}

/// The files of a clean build.
fn expected(middle: &str) -> BTreeMap<String, String> {
    let files = [
        ("/lowest", "lowest\n".to_owned()),
        ("/middle", middle.to_owned()),
        ("/tool", "a tool\n".to_owned()),
        ("/main", "main\n".to_owned()),
        ("/top", format!("lowest\n{middle}main\n")),
    ];
    files.into_iter().map(|(path, text)| (path.to_owned(), text)).collect()
}

/// These files in an image, all of whose blobs are pulled and checked.
fn files_of_image(
    registry: &DockerRegistry,
    repository: &str,
    wanted: &BTreeMap<String, String>,
) -> anyhow::Result<BTreeMap<String, String>> {
    let image = Layout::from_registry(registry.host(), repository, "image")?.image()?;
    let tree = Tree::of(&image.layers)?;
    if !tree.entries.contains_key("/bin/busybox") {
        bail!("there is no base");
    }
    let text =
        |path: &String| match &tree.entries.get(path).with_context(|| format!("no {path}"))?.kind {
            Kind::File(data) => Ok((path.clone(), String::from_utf8_lossy(data).into_owned())),
            other => Err(anyhow!("{path} is {other:?}")),
        };
    wanted.keys().map(text).collect()
}

fn files_of_folder(
    folder: &Path,
    wanted: &BTreeMap<String, String>,
) -> anyhow::Result<BTreeMap<String, String>> {
    if !folder.join("bin/busybox").exists() {
        bail!("there is no base");
    }
    let text = |path: &String| {
        let read = std::fs::read_to_string(folder.join(path.trim_start_matches('/')));
        read.map(|text| (path.clone(), text)).with_context(|| path.clone())
    };
    wanted.keys().map(text).collect()
}

#[test]
fn builds_end_well_whatever_a_cache_has_lost() {
    let Some(shop) = Shop::open("lost_layers") else { return };
    let started = Instant::now();
    // All 400 take minutes.
    let cases = cases(std::env::var_os("KILN_TEST_FULL").is_some());
    let (next, failed) = (AtomicUsize::new(0), std::sync::Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(at) else { return };
                    if let Err(problem) = shop.run(case, &format!("case{at}")) {
                        failed.lock().unwrap().push(format!("{case:?}: {problem}"));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), cases.len(), failed.join("\n\n"));
    fixtures::note(&format!("lost layers: {} builds in {:.1?}", cases.len(), started.elapsed()));
}

#[test]
fn a_build_fails_only_where_the_base_cannot_be_had() {
    let Some(shop) = Shop::open("lost_base") else { return };
    let base = shop.blobs["/bin/busybox"].clone();
    let lie = Lie::Status(404);
    shop.proxy.lie("library/busybox", &base, lie);
    let folder = tempfile::tempdir().unwrap();
    let output = format!("--output=type=local,dest={}", text(folder.path()));
    let from = |name: &str| format!("--cache-from=type=registry,ref={}/{name}:cache", shop.host());
    // The cache has the layer.
    let args = [output.clone(), from("shop")];
    build(&kiln(), &shop, shop.context.path(), &args, None).expect_ok();
    shop.spoil("both", "/bin/busybox", Fault::Lie(lie));
    let run = build(&kiln(), &shop, shop.context.path(), &[output, from("both")], None);
    assert!(run.refused() && run.stderr.contains("library/busybox"), "{}", run.stderr);
    // No step needs its bytes.
    let args = ["--output=type=cacheonly".to_owned(), from("both")];
    build(&kiln(), &shop, shop.context.path(), &args, None).expect_ok();
}

/// Several lost layers, and steps that depend on them: one warning, and no unnecessary step.
#[test]
fn only_the_steps_run_whose_layers_are_lost() {
    let Some(shop) = Shop::open("lost_steps") else { return };
    let folder = tempfile::tempdir().unwrap();
    let output = format!("--output=type=local,dest={}", text(folder.path()));
    let cache = format!("--cache-from=type=registry,ref={}/few:cache", shop.host());
    shop.registry.copy_repository("shop", "few").unwrap();
    for file in ["/top", "/main"] {
        shop.registry.forget_blob("few", &shop.blobs[file]).unwrap();
    }
    let metadata = folder.path().join("metadata.json");
    let args = [output, cache, format!("--metadata-file={}", text(&metadata))];
    let run = build(&kiln(), &shop, shop.context.path(), &args, None).expect_ok();
    // The COPY makes the same layer as before; the RUN does not, because it writes the time.
    assert_eq!(crate::stat(&metadata, "ran"), 2, "{}", run.stderr);
    assert_eq!(warnings(&run), 1, "{}", run.stderr);
}

/// A registry that removed all layers of the steps: one build repairs the cache, for the image and
/// for later readers of the cache.
#[test]
fn a_cache_that_lost_all_its_layers_is_mended_by_a_build() {
    let Some(shop) = Shop::open("lost_all") else { return };
    for (repository, keeps_base) in [("all", true), ("base-too", false)] {
        shop.registry.copy_repository("shop", repository).unwrap();
        let lost = shop.cached("shop").into_iter();
        for blob in lost.filter(|blob| !keeps_base || *blob != shop.blobs["/bin/busybox"]) {
            shop.registry.forget_blob(repository, &blob).unwrap();
        }
        let cache = format!("type=registry,ref={}/{repository}:cache", shop.host());
        let args = [
            format!("--cache-from={cache}"),
            format!("--cache-to={cache},mode=max"),
            format!("--tag={}/{repository}:image", shop.host()),
            "--push".to_owned(),
        ];
        let context = shop.changed.path();
        let run = build(&kiln(), &shop, context, &args, None).expect_ok();
        assert_eq!(warnings(&run), 1, "{repository}: {}", run.stderr);
        let expected = expected("other\n");
        let pushed = files_of_image(&shop.registry, repository, &expected);
        assert_eq!(pushed.as_ref().unwrap(), &expected, "{repository}");

        let folder = tempfile::tempdir().unwrap();
        let (files, metadata) = (folder.path().join("files"), folder.path().join("metadata.json"));
        let args = [
            format!("--cache-from={cache}"),
            format!("--output=type=local,dest={}", text(&files)),
            format!("--metadata-file={}", text(&metadata)),
        ];
        let run = build(&kiln(), &shop, context, &args, None).expect_ok();
        let ran = crate::stat(&metadata, "ran");
        assert_eq!((warnings(&run), ran), (0, 0), "{repository}: {}", run.stderr);
        assert_eq!(files_of_folder(&files, &expected).unwrap(), expected, "{repository}");
    }
}

/// A push checks all blobs that the registry has concurrently, and sends nothing.
#[test]
fn a_push_of_what_is_there_asks_and_one_that_lost_a_layer_gets_it_again() {
    let Some(shop) = Shop::open("push_again") else { return };
    let (kiln, image) = (kiln(), format!("--tag={}/again:image", shop.host()));
    let args = [image, "--push".to_owned()];
    build(&kiln, &shop, shop.context.path(), &args, None).expect_ok();
    let before = shop.proxy.asked("again").len();
    let run = build(&kiln, &shop, shop.context.path(), &args, None).expect_ok();
    assert!(run.stderr.contains("is there already"), "{}", run.stderr);
    let asked = shop.proxy.asked("again").split_off(before);
    let blobs: BTreeSet<&String> =
        asked.iter().filter(|line| line.starts_with("HEAD /v2/again/blobs/")).collect();
    // Six layers and the config, and before them the manifest.
    assert_eq!((blobs.len(), asked.len()), (7, 8), "{asked:#?}");
    let manifest = shop.get("/v2/again/manifests/image").body;
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let config = &manifest["config"];
    for lost in manifest["layers"].as_array().unwrap().iter().chain([config]) {
        shop.registry.forget_blob("again", lost["digest"].as_str().unwrap()).unwrap();
        build(&kiln, &shop, shop.context.path(), &args, None).expect_ok();
        let expected = expected("middle\n");
        assert_eq!(files_of_image(&shop.registry, "again", &expected).unwrap(), expected);
    }
}

/// A base of one registry in an image of another is downloaded and uploaded once.
#[test]
fn a_base_that_is_run_on_and_pushed_is_downloaded_once() {
    let Some(shop) = Shop::open("base_once") else { return };
    let Some(other) = registry("base_once", Access::Open) else { return };
    let args = [format!("--tag={}/app:image", other.host()), "--push".to_owned()];
    build(&kiln(), &shop, shop.context.path(), &args, None).expect_ok();
    let base = format!("GET /v2/library/busybox/blobs/{}", shop.blobs["/bin/busybox"]);
    let asked = shop.proxy.asked("library/busybox");
    // Once for the first build of the shop's cache, and once now.
    assert_eq!(asked.iter().filter(|line| **line == base).count(), 2, "{asked:#?}");
    let expected = expected("middle\n");
    assert_eq!(files_of_image(&other, "app", &expected).unwrap(), expected);
}
