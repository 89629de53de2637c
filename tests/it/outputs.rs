//! Outputs beyond one image for one platform: indexes, attestations, annotations, and reproducible
//! bytes.

use std::path::Path;

use fixtures::http::Request;
use fixtures::image::{Layout, Tree};
use fixtures::{Access, DockerRegistry, Kiln};
use serde_json::{Value, json};

use crate::{context_of, kiln, program, registry, root_or_skip, stat, text};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const PLATFORMS: &str = "linux/amd64,linux/arm64";

/// A stage that all platforms share, and a file for each.
const DOCKERFILE: &str = "FROM --platform=$BUILDPLATFORM scratch AS build\nCOPY a.txt /built\n\
    FROM scratch\nARG TARGETARCH\nCOPY --from=build /built /built\nCOPY a.txt /$TARGETARCH.txt\n";

/// A document in a registry.
fn get(registry: &DockerRegistry, repository: &str, what: &str, media_type: &str) -> Value {
    let kind = if media_type.is_empty() { "blobs" } else { "manifests" };
    let path = format!("/v2/{repository}/{kind}/{what}");
    let request = Request { method: "GET", path: &path, media_type, ..Request::default() };
    let response = registry.send(&request).unwrap();
    assert_eq!(response.status, 200, "{path}");
    serde_json::from_slice(&response.body).unwrap()
}

fn metadata(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn platforms(index: &Value) -> Vec<String> {
    let platform = |manifest: &Value| {
        let platform = &manifest["platform"];
        format!(
            "{}/{}",
            platform["os"].as_str().unwrap(),
            platform["architecture"].as_str().unwrap()
        )
    };
    index["manifests"].as_array().unwrap().iter().map(platform).collect()
}

/// Builds a context into an OCI layout and returns its root document and the layout.
fn layout(kiln: &Kiln, context: &Path, flags: &[&str]) -> (Value, Layout) {
    let folder = kiln.home().join("layout");
    drop(std::fs::remove_dir_all(&folder));
    let output = format!("type=oci,tar=false,dest={}", text(&folder));
    let output = flags
        .iter()
        .find_map(|flag| flag.strip_prefix("more:"))
        .map_or_else(|| output.clone(), |more| format!("{output},{more}"));
    let context = text(context);
    let flags = flags.iter().copied().filter(|flag| !flag.starts_with("more:"));
    let args = ["build", "-q", "-o", &output].into_iter().chain(flags).chain([context.as_str()]);
    kiln.run(args).expect_ok();
    let layout = Layout::from_folder(&folder).unwrap();
    let root = layout.index().unwrap()["manifests"][0].clone();
    (layout.json(&root).unwrap(), layout)
}

#[test]
fn platforms_are_pushed_kept_cached_and_built_upon_as_one_index() {
    let Some(registry) = registry("several platforms", Access::Open) else { return };
    let kiln = kiln();
    let context = context_of(&[("Dockerfile", DOCKERFILE), ("a.txt", "alpha\n")]);
    let (app, cache) =
        (format!("{}/app:1", registry.host()), format!("{}/app:cache", registry.host()));
    let (cache_to, cache_from) =
        (format!("type=registry,ref={cache},mode=max"), format!("type=registry,ref={cache}"));
    let (said, id) = (kiln.home().join("said.json"), kiln.home().join("id"));
    let context_path = text(context.path());
    let build = |more: &[&str]| {
        let (said, id) = (text(&said), text(&id));
        let args = ["build", "--platform", PLATFORMS, "-t", &app, "--push"];
        let files = ["--metadata-file", said.as_str(), "--iidfile", id.as_str()];
        let args = args.iter().chain(&files).chain(more).copied();
        kiln.run(args.chain([context_path.as_str()])).expect_ok();
    };
    build(&["--cache-to", &cache_to]);
    // The shared stage, the copy from it that is the same for both, and one step for each platform.
    assert_eq!(stat(&said, "ran"), 4);
    let index = get(&registry, "app", "1", INDEX);
    assert_eq!(platforms(&index), ["linux/amd64", "linux/arm64"]);
    let digest = metadata(&said)["containerimage.digest"].clone();
    assert_eq!(metadata(&said)["containerimage.descriptor"]["mediaType"], INDEX);
    assert_eq!(metadata(&said)["containerimage.config.digest"], Value::Null);
    assert_eq!(json!(std::fs::read_to_string(&id).unwrap()), digest);
    for manifest in index["manifests"].as_array().unwrap() {
        let manifest = get(&registry, "app", manifest["digest"].as_str().unwrap(), MANIFEST);
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);
    }

    // Pushing another name of it pushes all of it.
    let other = format!("{}/other:2", registry.host());
    kiln.run(["tag", &app, &other]).expect_ok();
    let pushed = kiln.run(["push", &other]).expect_ok();
    assert!(pushed.stdout.contains(digest.as_str().unwrap()), "{}", pushed.stdout);
    assert_eq!(get(&registry, "other", "2", INDEX), index);

    // A build for a platform is based on the image for it, from the store and from the registry.
    for machine in [&kiln, &crate::kiln()] {
        let upon = context_of(&[("Dockerfile", &format!("FROM {app}\n"))]);
        let out = machine.home().join("out");
        let args =
            ["build", "-q", "--platform", "linux/arm64", "-o", &text(&out), &text(upon.path())];
        machine.run(args).expect_ok();
        assert!(out.join("arm64.txt").exists() && !out.join("amd64.txt").exists());
    }

    // An empty root finds the steps of all platforms in the cache.
    kiln.empty_root();
    build(&["--cache-from", &cache_from]);
    assert_eq!(stat(&said, "ran"), 0);
    assert_eq!(metadata(&said)["containerimage.digest"], digest);
}

#[test]
fn attestations_are_in_the_registry_and_say_what_they_may() {
    let Some(registry) = registry("attestations", Access::Open) else { return };
    let kiln = kiln();
    let base = format!("{}/library/busybox", registry.host());
    let dockerfile = format!("FROM {base}:latest\nARG TOKEN\nCOPY status /var/lib/dpkg/status\n");
    let status = "Package: bash\nStatus: install ok installed\nVersion: 5.2\nArchitecture: amd64\n";
    let context = context_of(&[("Dockerfile", &dockerfile), ("status", status)]);
    let app = format!("{}/app:1", registry.host());
    let statements = |flags: &[&str]| {
        let context = text(context.path());
        let args = ["build", "-q", "-t", &app, "--push", "--build-arg", "TOKEN=argument"];
        let secret = ["--secret", "id=key,env=KEY"];
        let args = args.iter().chain(&secret).chain(flags).copied().chain([context.as_str()]);
        let mut command = kiln.command(args);
        command.env("KEY", "hunter2");
        fixtures::kiln::finish(command, b"").expect_ok();
        let index = get(&registry, "app", "1", INDEX);
        assert_eq!(platforms(&index)[1], "unknown/unknown");
        let [image, attested] = index["manifests"].as_array().unwrap().as_slice() else {
            panic!("{index}")
        };
        let annotations = &attested["annotations"];
        assert_eq!(annotations["vnd.docker.reference.type"], "attestation-manifest");
        assert_eq!(annotations["vnd.docker.reference.digest"], image["digest"]);
        let manifest = get(&registry, "app", attested["digest"].as_str().unwrap(), MANIFEST);
        let layers = manifest["layers"].as_array().unwrap().iter();
        let statement = |layer: &Value| {
            let statement = get(&registry, "app", layer["digest"].as_str().unwrap(), "");
            assert_eq!(
                statement["predicateType"],
                layer["annotations"]["in-toto.io/predicate-type"]
            );
            let subject = statement["subject"][0]["digest"]["sha256"].as_str().unwrap();
            assert_eq!(image["digest"], format!("sha256:{subject}"));
            assert!(!statement.to_string().contains("hunter2"), "a secret was told");
            statement
        };
        layers.map(statement).collect::<Vec<_>>()
    };
    let said = statements(&["--provenance=mode=min", "--sbom=true"]);
    let purls: Vec<&str> = said[0]["predicate"]["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|package| package["externalRefs"][0]["referenceLocator"].as_str())
        .collect();
    assert!(purls.contains(&"pkg:deb/debian/bash@5.2?arch=amd64"), "{purls:?}");
    let build = &said[1]["predicate"]["buildDefinition"];
    assert!(!said[1].to_string().contains("argument"), "min mode tells no arguments");
    let material = build["resolvedDependencies"][0]["uri"].as_str().unwrap();
    assert!(material.contains("/library/busybox@latest?platform=linux%2F"), "{material}");

    let said =
        statements(&["--attest", "type=provenance,mode=max,version=v0.2,builder-id=https://ci/1"]);
    let predicate = &said[0]["predicate"];
    assert_eq!(said[0]["predicateType"], "https://slsa.dev/provenance/v0.2");
    assert_eq!(predicate["builder"]["id"], "https://ci/1");
    assert_eq!(predicate["invocation"]["parameters"]["args"]["build-arg:TOKEN"], "argument");
}

/// The context's repository is recorded as in buildx; its remote without the token.
#[test]
fn provenance_says_where_the_source_came_from() {
    let Some(git) = program("vcs", "git") else { return };
    let kiln = kiln();
    let place =
        context_of(&[("src/a.txt", "a"), ("deploy/Dockerfile", "FROM scratch\nCOPY a.txt /\n")]);
    let git = |words: &[&str]| {
        let mut command = std::process::Command::new(&git);
        command.args(["-c", "user.name=t", "-c", "user.email=t@example.com"]).args(words);
        let output = command.current_dir(place.path()).env("HOME", kiln.home()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let out = kiln.home().join("out");
    let output = format!("type=local,dest={}", text(&out));
    let (context, file) =
        (text(&place.path().join("src")), text(&place.path().join("deploy/Dockerfile")));
    let build = |flags: &[&str], variables: &[(&str, &str)]| {
        drop(std::fs::remove_dir_all(&out));
        let args = ["build", "-q", "--provenance=mode=min", "-f", &file, "-o", &output, &context];
        let mut command = kiln.command(args.iter().chain(flags));
        command.envs(variables.iter().copied());
        let run = fixtures::kiln::finish(command, b"").expect_ok();
        assert!(!run.stderr.contains("secret-token"), "{}", run.stderr);
        let statement = metadata(&out.join("provenance.json"));
        assert!(!statement.to_string().contains("secret-token"), "{statement}");
        let metadata = &statement["predicate"]["runDetails"]["metadata"];
        let v02 =
            &statement["predicate"]["metadata"]["https://mobyproject.org/buildkit@v1#metadata"];
        let both = [&metadata["buildkit_metadata"]["vcs"], &v02["vcs"]];
        both.into_iter().find(|vcs| !vcs.is_null()).cloned().unwrap_or_default()
    };
    assert_eq!(build(&[], &[]), Value::Null);
    git(&["init", "-q", "-b", "main"]);
    // Before the first commit there is no revision.
    let folders = json!({ "localdir:context": "src", "localdir:dockerfile": "deploy" });
    assert_eq!(build(&[], &[]), folders);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "one"]);
    git(&["remote", "add", "origin", "https://user:secret-token@h.example/a/b.git"]);
    let mut all = folders;
    all["revision"] = json!(git(&["rev-parse", "HEAD"]));
    all["source"] = json!("https://h.example/a/b.git");
    assert_eq!(build(&[], &[]), all);
    assert_eq!(build(&["--provenance=version=v0.2"], &[]), all);
    let library = format!("--build-context=lib={context}");
    assert_eq!(build(&[&library], &[])["localdir:lib"], "src");
    // A setting of the repository must not run a program.
    let trace = kiln.home().join("ran");
    git(&["config", "core.fsmonitor", &format!("touch {}", text(&trace))]);
    let dirty = build(&[], &[("BUILDX_GIT_CHECK_DIRTY", "true")]);
    assert_eq!(dirty["revision"], all["revision"]);
    std::fs::write(place.path().join("new"), "").unwrap();
    let dirty = build(&[], &[("BUILDX_GIT_CHECK_DIRTY", "true")]);
    assert_eq!(dirty["revision"], format!("{}-dirty", all["revision"].as_str().unwrap()));
    assert!(!trace.exists(), "git ran what the repository names");
    assert_eq!(build(&[], &[("BUILDX_GIT_INFO", "0")]), Value::Null);

    let (_, image) = layout(&kiln, &place.path().join("src"), &["-f", &file]);
    assert_eq!(image.image().unwrap().config["config"]["Labels"], Value::Null);
    let mut command = kiln.command([
        "build",
        "-q",
        "-f",
        &file,
        "-o",
        &format!("type=oci,tar=false,dest={}", text(&kiln.home().join("labels"))),
        &context,
    ]);
    command.env("BUILDX_GIT_LABELS", "1");
    fixtures::kiln::finish(command, b"").expect_ok();
    let image = Layout::from_folder(&kiln.home().join("labels")).unwrap().image().unwrap();
    let labels = json!({
        "com.docker.image.source.entrypoint": "deploy/Dockerfile",
        "org.opencontainers.image.revision": all["revision"],
        "org.opencontainers.image.source": all["source"],
    });
    assert_eq!(image.config["config"]["Labels"], labels);
}

#[test]
fn files_come_with_their_statements_and_a_folder_can_be_mirrored() {
    let kiln = kiln();
    let context = context_of(&[("Dockerfile", DOCKERFILE), ("a.txt", "alpha\n")]);
    let (out, context) = (kiln.home().join("out"), text(context.path()));
    std::fs::create_dir_all(out.join("linux_amd64/old")).unwrap();
    let output = format!("type=local,dest={},mode=delete", text(&out));
    let args =
        ["build", "-q", "--platform", PLATFORMS, "--provenance=true", "-o", &output, &context];
    kiln.run(args).expect_ok();
    let mut names: Vec<String> = std::fs::read_dir(out.join("linux_amd64"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["amd64.txt", "built", "provenance.json"]);
    let statement = metadata(&out.join("linux_arm64/provenance.json"));
    assert_eq!(statement["subject"][0]["name"], "arm64.txt");
    let output = format!("type=local,dest={},mode=delete", text(kiln.home()));
    let refused = kiln.run(["build", "-q", "-o", &output, &context]);
    assert!(
        refused.refused() && refused.stderr.contains("buildx.local.delete"),
        "{}",
        refused.stderr
    );
    let split = format!("type=local,dest={},platform-split=false", text(&out));
    let refused = kiln.run(["build", "--platform", PLATFORMS, "-o", &split, &context]);
    assert!(
        refused.refused() && refused.stderr.contains("cannot overwrite built"),
        "{}",
        refused.stderr
    );
}

#[test]
fn an_index_of_one_platform_and_what_an_archive_for_docker_cannot_hold() {
    let kiln = kiln();
    let context = context_of(&[("Dockerfile", DOCKERFILE), ("a.txt", "alpha\n")]);
    let (index, _) = layout(&kiln, context.path(), &["--build-arg", "BUILDKIT_MULTI_PLATFORM=1"]);
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    let (manifest, _) = layout(
        &kiln,
        context.path(),
        &["--annotation", "a=b", "more:annotation-manifest-descriptor.c=d"],
    );
    assert_eq!(manifest["annotations"], json!({ "a": "b" }));
    let context = text(context.path());
    let archive = format!("type=docker,dest={}", text(&kiln.home().join("a.tar")));
    for (flags, word) in [
        (["--platform", PLATFORMS, "-o", &archive], "manifest lists"),
        (["--annotation", "index:a=b", "-o", "type=image"], "single platform"),
        (["--annotation", "manifest[linux/s390x]:a=b", "-o", "type=image"], "linux/s390x"),
        (
            ["--provenance=true", "--sbom=true", "-o", "type=image,oci-mediatypes=false"],
            "oci-mediatypes",
        ),
    ] {
        let run = kiln.run(["build"].into_iter().chain(flags).chain([context.as_str()]));
        assert!(run.refused() && run.stderr.contains(word), "{flags:?}: {}", run.stderr);
    }
}

#[test]
fn two_builds_at_different_times_are_one_image() {
    let kiln = kiln();
    let dockerfile = "FROM scratch\nWORKDIR /made\nCOPY a.txt /\nCOPY <<EOF /b\ntext\nEOF\n";
    let build = |seconds: u64| {
        kiln.empty_root();
        let context = context_of(&[("Dockerfile", dockerfile), ("a.txt", "alpha\n")]);
        let file = std::fs::File::options().write(true).open(context.path().join("a.txt")).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000 + seconds);
        file.set_modified(time).unwrap();
        let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=1000000000", "more:rewrite-timestamp=true"];
        let (_, layout) = layout(&kiln, context.path(), &epoch);
        layout.image().unwrap()
    };
    let (first, second) = (build(0), build(100));
    assert_eq!(first.digest, second.digest);
    assert_eq!(first.config["created"], "2001-09-09T01:46:40Z");
    let times = first.layers.iter().flatten().map(|entry| entry.mtime);
    assert!(times.clone().count() >= 3 && times.clone().all(|time| time <= 1_000_000_000));
}

#[test]
fn a_command_for_another_processor_says_what_it_needs() {
    if !root_or_skip("a foreign command") {
        return;
    }
    if Path::new("/proc/sys/fs/binfmt_misc/qemu-s390x").exists() {
        fixtures::skip("a foreign command", "this machine has a handler for s390x");
        return;
    }
    let kiln = kiln();
    let dockerfile = "FROM scratch\nCOPY program /\nRUN [\"/program\"]\n";
    let context = context_of(&[("Dockerfile", dockerfile)]);
    // An executable for a processor of the other endianness, as far as the kernel reads it.
    let mut program = b"\x7fELF\x02\x02\x01".to_vec();
    program.resize(16, 0);
    program.extend_from_slice(&[0, 2, 0, 22, 0, 0, 0, 1]);
    program.resize(64, 0);
    let path = context.path().join("program");
    std::fs::write(&path, program).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let run = kiln.run(["build", "--platform", "linux/s390x", &text(context.path())]);
    assert!(run.refused(), "{}", run.stderr);
    for word in
        ["linux/s390x", "tonistiigi/binfmt", "qemu-user-static", "$BUILDPLATFORM", "Dockerfile:3"]
    {
        assert!(run.stderr.contains(word), "no `{word}` in\n{}", run.stderr);
    }
}

/// Changes of all kinds on top of each other.
const MANY: &str = "FROM scratch AS base\nCOPY old/ /old/\nCOPY a.txt /replaced\n\
    FROM busybox\nCOPY --from=base / /\nRUN rm -r /old/d && mkdir /old/d && echo new >/old/d/new #!COMMIT\n\
    COPY a.txt /old/d/ #!commit\nENV A=1\nRUN rm /replaced && mkdir /replaced && ln /old/d/a.txt /old/link && chmod 4711 /old/d/new\n\
    RUN rm /old/keep && rm /bin/wget && touch /last\n";

#[test]
fn steps_can_share_a_layer() {
    if !root_or_skip("steps_can_share_a_layer") {
        return;
    }
    let Some(registry) = registry("steps_can_share_a_layer", Access::Open) else { return };
    let base = format!("busybox=docker-image://{}/library/busybox", registry.host());
    let context =
        context_of(&[("Dockerfile", MANY), ("a.txt", "a\n"), ("old/d/x", "x"), ("old/keep", "k")]);
    let kiln = kiln();
    let built = |layers: &str| {
        let flags = ["--build-context", &base, "--layers", layers];
        let (_, layout) = layout(&kiln, context.path(), &flags);
        layout.image().unwrap()
    };
    let each = built("unmarked");
    let tree = |image: &fixtures::image::Image| Tree::of(&image.layers).unwrap();
    let expected = tree(&each);
    assert_eq!(each.layers.len(), 6);
    for (layers, count) in [("marked", 4), ("one", 2)] {
        if layers == "one" {
            let plain = MANY.replace(" #!COMMIT", "").replace(" #!commit", "");
            std::fs::write(context.path().join("Dockerfile"), plain).unwrap();
        }
        let image = built(layers);
        assert_eq!(image.layers.len(), count, "{layers}");
        let entries = image.config["history"].as_array().unwrap();
        let with_layer = entries.iter().filter(|entry| entry["empty_layer"] != true).count();
        assert_eq!((entries.len(), with_layer), (7, count), "{layers}");
        let found = tree(&image);
        assert_eq!(shown(&found), shown(&expected), "{layers}");
        assert_eq!(found.hard_links(), expected.hard_links(), "{layers}");
    }
    let run = kiln.run(["build", "--layers", "two", &text(context.path())]);
    assert!(run.refused() && run.stderr.contains("`two` is none of each"), "{}", run.stderr);
}

/// Paths with kind, mode and content. Times of folders are left out, since any step may change
/// them.
fn shown(tree: &Tree) -> Vec<String> {
    let entries = tree.entries.iter();
    let line = |(path, entry): (&String, &fixtures::tar::Entry)| {
        format!("{path} {:o} {}:{} {:?}", entry.mode, entry.uid, entry.gid, entry.kind)
    };
    entries.map(line).collect()
}
