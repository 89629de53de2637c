//! The binary under the names of other tools, as transcripts.

use std::path::Path;

use fixtures::docker_registry::{PASSWORD, USER};
use fixtures::{Access, Kiln, Run};
use serde_json::Value;
use tempfile::TempDir;

use crate::{context_of, kiln, registry, text};

/// A kiln that is started under another name. The folder contains the link with this name.
fn named(name: &str) -> (Kiln, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join(name);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kiln"), &link).unwrap();
    (Kiln::new(link), folder)
}

#[track_caller]
fn refuses(run: &Run, code: i32, words: &[&str]) {
    assert_eq!(run.code, Some(code), "{}{}", run.stdout, run.stderr);
    for word in words {
        assert!(run.stderr.contains(word), "no `{word}` in\n{}", run.stderr);
    }
}

fn app(host: &str) -> TempDir {
    let dockerfile = format!("FROM {host}/library/busybox\nARG A\nCOPY a.txt /\nLABEL a=$A\n");
    context_of(&[("Dockerfile", dockerfile.as_str()), ("a.txt", "alpha\n")])
}

#[test]
fn docker_in_a_job() {
    let Some(registry) = registry("docker_in_a_job", Access::Password) else { return };
    let ((docker, _folder), host) = (named("docker"), registry.host());
    let (latest, commit) = (format!("{host}/team/app:latest"), format!("{host}/team/app:c0ffee"));
    docker.run(["info"]).expect_ok();
    let login = docker.run(["login", "-u", USER, "-p", PASSWORD, host]).expect_ok();
    assert!(login.stdout.ends_with("Login Succeeded\n"), "{}", login.stdout);
    let context = app(host);
    let context = text(context.path());
    let line = ["build", "--cache-from", &latest, "-t", &latest, "-t", &commit, &context];
    let mut command = docker.command(line);
    command.env("DOCKER_HOST", "tcp://docker:2375").env("DOCKER_BUILDKIT", "1");
    // A missing cache is not an error.
    fixtures::kiln::finish(command, b"").expect_ok();
    for name in [&commit, &latest] {
        let pushed = docker.run(["push", name]).expect_ok();
        assert!(pushed.stdout.contains(": digest: sha256:"), "{}", pushed.stdout);
    }

    let listed =
        docker.run(["images", "--format", "{{.Repository}}:{{.Tag}}", "-f", "reference=*/team/*"]);
    assert_eq!(listed.expect_ok().stdout, format!("{commit}\n{latest}\n"));
    let digest = docker.run(["inspect", "--format={{index .RepoDigests 0}}", &latest]).expect_ok();
    assert!(digest.stdout.starts_with(&format!("{host}/team/app@sha256:")), "{}", digest.stdout);

    let line = ["inspect", "--type=image", "-f", "{{.Config.User}}{{.Config.Entrypoint}}", &latest];
    assert_eq!(docker.run(line).expect_ok().stdout, "[]\n");
    let labels = "{{range $key, $value := .Config.Labels}}{{$key}}={{$value}};{{end}}";
    assert_eq!(docker.run(["inspect", "-f", labels, &latest]).expect_ok().stdout, "a=;\n");
    // Younger images are kept.
    docker.run(["image", "prune", "-af", "--filter", "until=24h"]).expect_ok();
    assert!(!docker.run(["images", "-q", &latest]).expect_ok().stdout.is_empty());

    // An image of this job is a base of the next.
    let next = context_of(&[("Dockerfile", &format!("FROM {latest}\nLABEL b=c\n"))]);
    let built = docker.run(["build", "-q", "-t", "next", &text(next.path())]).expect_ok();
    assert!(built.stdout.starts_with("sha256:"), "{}", built.stdout);

    let archive = docker.home().join("a.tar");
    docker.run(["save", "-o", &text(&archive), &latest, "next"]).expect_ok();
    docker.run(["rmi", "-f", "next", &latest, &commit]).expect_ok();
    let loaded = docker.run(["load", "-i", &text(&archive)]).expect_ok();
    assert_eq!(loaded.stdout, format!("Loaded image: {latest}\nLoaded image: next:latest\n"));
    let again = docker.run(["inspect", "--format={{index .RepoDigests 0}}", &latest]).expect_ok();
    assert_eq!(again.stdout, digest.stdout, "other bytes than before");
    docker.run(["push", "-a", "-q", &format!("{host}/team/app")]).expect_ok();
    docker.run(["system", "prune", "-af"]).expect_ok();
    assert_eq!(docker.run(["images", "-q"]).expect_ok().stdout, "");
    docker.run(["logout", host]).expect_ok();
}

#[test]
fn docker_says_what_is_not_there() {
    let (docker, _folder) = named("docker");
    refuses(&docker.run(["run", "-d", "alpine"]), 1, &["nothing runs behind", "`kiln serve`"]);
    refuses(&docker.run(["exec", "x", "sh"]), 1, &["`docker exec` needs", "`kiln serve`"]);
    refuses(&docker.run(["compose", "up"]), 1, &["`docker buildx bake -f compose.yaml`"]);
    let line = ["run", "--privileged", "--rm", "tonistiigi/binfmt", "--install", "all"];
    refuses(&docker.run(line), 1, &["binfmt_misc", "`FROM --platform=$BUILDPLATFORM`"]);
    refuses(&docker.run(["pull", "-a", "x"]), 1, &["`--all-tags`"]);
    refuses(&docker.run(["build"]), 1, &["<PATH|URL|->"]);
    refuses(&docker.run(["frobnicate"]), 1, &["unknown command: docker frobnicate"]);
    refuses(&docker.run(["image", "frobnicate"]), 1, &["unknown command: docker image frobnicate"]);
    refuses(&docker.run(["build", "--frob", "."]), 125, &["unknown flag: --frob"]);
    refuses(&docker.run(["info", "--frob"]), 125, &["unknown flag: --frob"]);
    refuses(&docker.run(["buildx", "create", "--driver", "kubernetes"]), 1, &["not in pods"]);
    refuses(&docker.run(["version", "--format", "{{.Nope}}"]), 1, &["there is no `.Nope`"]);
    refuses(&docker.run(["save", "nothing", "-o", "x.tar"]), 1, &["No such image: nothing"]);
    refuses(&docker.run_with_input(["load"], b"no archive"), 1, &["archive"]);
    let alone = b"FROM scratch\nCOPY a.txt /\n";
    refuses(&docker.run_with_input(["build", "-"], alone), 1, &["`build -f - . < Dockerfile`"]);
}

#[test]
fn docker_answers_what_scripts_ask() {
    let (docker, _folder) = named("docker");
    let said = |line: &[&str]| docker.run(line).expect_ok().stdout;
    assert!(said(&["--version"]).starts_with("Docker version 2"));
    assert!(said(&["version", "--format", "{{.Server.Version}}"]).starts_with("28."));
    assert_eq!(said(&["info", "--format", "{{.OSType}} {{.Containers}}"]), "linux 0\n");
    assert!(said(&["buildx", "version"]).starts_with("github.com/docker/buildx v0."));
    let line = ["buildx", "create", "--driver", "docker-container", "--use", "--name", "mine"];
    assert_eq!(said(&line), "mine\n");
    said(&["buildx", "use", "mine"]);
    assert!(
        said(&["buildx", "inspect", "--bootstrap", "mine"]).contains("Status:           running")
    );
    assert_eq!(said(&["buildx", "ls", "--format", "{{.Name}}"]), "default\n");
    said(&["buildx", "du", "--builder", "mine", "--timeout=20s"]);
    said(&["buildx", "prune", "--builder=mine", "-af", "--filter", "until=24h"]);
    said(&["buildx", "rm", "mine", "--timeout", "20s"]);
    assert_eq!(said(&["context", "create", "tls", "--docker", "host=tcp://x:1"]), "tls\n");
    assert_eq!(said(&["context", "use", "tls"]), "tls\n");
    assert_eq!(said(&["context", "show"]), "default\n");
    assert_eq!(said(&["context", "ls", "--format", "{{.Name}}"]), "default\n");
    assert!(said(&["context", "ls"]).contains("default *"));
    assert_eq!(said(&["context", "inspect", "-f", "{{.Endpoints.docker.Host}}"]), "\n");
    for what in ["container", "volume", "network"] {
        said(&[what, "prune", "-f", "--filter", "until=24h"]);
    }
    said(&["image", "prune", "-af", "--filter", "until=24h", "--filter", "label!=keep"]);
    said(&["system", "prune", "-af", "--volumes", "--filter", "until=24h"]);
    assert_eq!(said(&["version", "-f", "{{.Server.APIVersion}}"]), "1.50\n");
    assert!(said(&["system", "df"]).starts_with("TYPE"));
    assert!(said(&["buildx", "create", "--help"]).contains("--driver-opt"));
    assert!(said(&["--help"]).contains("buildx inspect"));
}

#[test]
fn docker_without_buildkit_ends_as_it_did() {
    let Some(registry) = registry("docker_classic", Access::Open) else { return };
    let (docker, _folder) = named("docker");
    let context = app(registry.host());
    let mut command = docker.command(["build", "--force-rm", "-t", "app:1", &text(context.path())]);
    command.env("DOCKER_BUILDKIT", "0");
    let run = fixtures::kiln::finish(command, b"").expect_ok();
    assert!(run.stdout.starts_with("Successfully built "), "{}", run.stdout);
    assert!(run.stdout.ends_with("Successfully tagged app:1\n"), "{}", run.stdout);
}

#[test]
fn kaniko_in_a_pod() {
    let Some(registry) = registry("kaniko_in_a_pod", Access::Password) else { return };
    let ((executor, folder), host) = (named("executor"), registry.host());
    executor_login(&executor, host);
    let context = app(host);
    let file = |name: &str| folder.path().join(name);
    let destination = format!("{host}/team/app:1");
    let line = |more: &[&str]| {
        let mut line = vec![
            "--context".to_owned(),
            format!("dir://{}", context.path().display()),
            format!("--destination={destination}"),
            "--cache=true".into(),
            format!("--digest-file={}", text(&file("digest"))),
            format!("--image-name-with-digest-file={}", text(&file("name"))),
            format!("--image-name-tag-with-digest-file={}", text(&file("tag"))),
        ];
        line.extend(more.iter().map(|word| (*word).to_owned()));
        line
    };
    executor.run(line(&["--build-arg=A=1", "--snapshot-mode=redo"])).expect_ok();
    let read = |name: &str| std::fs::read_to_string(file(name)).unwrap();
    let digest = read("digest");
    assert!(digest.starts_with("sha256:") && !digest.ends_with('\n'), "{digest:?}");
    assert_eq!(read("name"), format!("{host}/team/app@{digest}\n"));
    assert_eq!(read("tag"), format!("{destination}@{digest}\n"));
    let manifest = registry.send(&fixtures::http::Request {
        method: "GET",
        path: "/v2/team/app/manifests/1",
        media_type: "application/vnd.oci.image.manifest.v1+json",
        ..Default::default()
    });
    assert_eq!(fixtures::digest(&manifest.unwrap().body), digest);

    // Another pod finds every step in the cache.
    executor.empty_root();
    let tar = text(&file("a.tar"));
    let more = ["--build-arg", "A=1", "--tar-path", &tar, "--oci-layout-path", &text(&file("l"))];
    let again = executor.run(line(&more)).expect_ok();
    assert!(again.count("CACHED") >= 1, "{}", again.stderr);
    assert!(again.stderr.contains("none ran"), "{}", again.stderr);
    let index: Value =
        serde_json::from_slice(&std::fs::read(file("l/index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"][0]["digest"], digest.as_str());
    assert!(Path::new(&tar).exists());

    executor.run(line(&["--single-snapshot", "--build-arg=A=1"])).expect_ok();
    refuses(&executor.run(["--frob"]), 1, &["unknown flag: --frob"]);
    refuses(&executor.run(["--context=/tmp"]), 1, &["`--destination` is missing"]);
    assert!(executor.run(["version"]).expect_ok().stdout.starts_with("Kaniko version"));
}

#[test]
fn warmed_images_are_the_executors_state() {
    let Some(registry) = registry("warmer", Access::Open) else { return };
    let ((warmer, _folder), host) = (named("warmer"), registry.host());
    let cache = warmer.home().join("cache");
    let base = format!("--image={host}/library/busybox");
    let mut command = warmer.command(["--cache-dir", &text(&cache), &base]);
    command.env_remove("KILN_ROOT");
    fixtures::kiln::finish(command, b"").expect_ok();
    let before = registry.log().len();
    let context = app(host);
    let (executor, _other) = named("executor");
    let mut command = executor.command([
        format!("--context={}", context.path().display()),
        format!("--destination={host}/app"),
        format!("--cache-dir={}", cache.display()),
    ]);
    command.env_remove("KILN_ROOT");
    fixtures::kiln::finish(command, b"").expect_ok();
    let log = registry.log();
    let fetched = |line: &&fixtures::docker_registry::LogLine| {
        line.method == "GET"
            && line.path.contains("/library/busybox/blobs/")
            && line.bytes > 100_000
    };
    assert_eq!(log[before..].iter().filter(fetched).count(), 0, "the base was fetched again");
    refuses(&warmer.run(["--dockerfile=x"]), 1, &["name the images with `--image`"]);
}

/// kaniko has no `login`: the file is written by hand, like the one that pods mount.
fn executor_login(executor: &Kiln, host: &str) {
    // `kiln:loopback-only`
    let login = "a2lsbjpsb29wYmFjay1vbmx5";
    let config = format!(r#"{{"auths": {{"{host}": {{"auth": "{login}"}}}}}}"#);
    std::fs::write(executor.home().join(".docker/config.json"), config).unwrap();
}

#[test]
fn bake_builds_targets_side_by_side() {
    let Some(registry) = registry("bake", Access::Open) else { return };
    let ((docker, _folder), host) = (named("docker"), registry.host());
    let base = format!("FROM {host}/library/busybox\nCOPY a.txt /shared\n");
    let app = "FROM base\nARG WHO\nLABEL who=$WHO\n";
    let file = format!(
        "variable \"TAG\" {{ default = \"dev\" }}\n\
         group \"default\" {{ targets = [\"app\", \"other\"] }}\n\
         target \"base\" {{ dockerfile = \"base.Dockerfile\" }}\n\
         target \"app\" {{\n  contexts = {{ base = \"target:base\" }}\n  args = {{ WHO = \"app\" }}\n  \
         tags = [\"{host}/app:${{TAG}}\"]\n}}\n\
         target \"other\" {{\n  inherits = [\"app\"]\n  args = {{ WHO = \"other\" }}\n  \
         tags = [\"{host}/other:${{TAG}}\"]\n}}\n"
    );
    let context = context_of(&[
        ("Dockerfile", app),
        ("base.Dockerfile", base.as_str()),
        ("a.txt", "alpha\n"),
        ("docker-bake.hcl", file.as_str()),
    ]);
    let bake = |line: &[&str]| {
        let mut words = vec!["buildx", "bake"];
        words.extend(line);
        let mut command = docker.command(words);
        command.current_dir(context.path()).env("TAG", "v1");
        fixtures::kiln::finish(command, b"")
    };
    let printed: Value =
        serde_json::from_str(&bake(&["--print", "--push"]).expect_ok().stdout).unwrap();
    assert_eq!(printed["target"]["app"]["tags"][0], format!("{host}/app:v1"));
    assert_eq!(printed["target"]["base"]["output"][0]["type"], "cacheonly");

    let metadata = docker.home().join("metadata.json");
    let metadata = text(&metadata);
    let run = bake(&["--push", "--metadata-file", &metadata, "--progress=plain"]).expect_ok();
    assert!(run.stderr.contains("[app "), "{}", run.stderr);
    let metadata: Value = serde_json::from_slice(&std::fs::read(metadata).unwrap()).unwrap();
    for name in ["app", "other"] {
        let manifest = registry.send(&fixtures::http::Request {
            method: "GET",
            path: &format!("/v2/{name}/manifests/v1"),
            media_type: "application/vnd.oci.image.manifest.v1+json",
            ..Default::default()
        });
        let digest = fixtures::digest(&manifest.unwrap().body);
        assert_eq!(metadata[name]["containerimage.digest"], digest.as_str(), "{name}");
    }
    let inspect = |name: &str| {
        let name = format!("{host}/{name}:v1");
        docker.run(["inspect", "--format={{.Config.Labels.who}}", &name]).expect_ok().stdout
    };
    assert_eq!((inspect("app").as_str(), inspect("other").as_str()), ("app\n", "other\n"));
    // Images made by one target for another have no name afterwards.
    let listed = docker.run(["images", "--format", "{{.Repository}}"]).expect_ok().stdout;
    assert!(!listed.contains("kiln.invalid"), "{listed}");

    let inline = "target \"inline\" { dockerfile-inline = \"FROM scratch\" }";
    std::fs::write(context.path().join("inline.hcl"), inline).unwrap();
    bake(&["-f", "docker-bake.hcl", "-f", "inline.hcl", "app", "inline", "--check"]).expect_ok();
    // kiln has the same command.
    let mut own = kiln().command(["bake", "--print", "app"]);
    own.current_dir(context.path()).env("TAG", "v2");
    let printed = fixtures::kiln::finish(own, b"").expect_ok().stdout;
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed["target"]["app"]["tags"][0], format!("{host}/app:v2"));
    refuses(&bake(&["nope"]), 1, &["no group or target `nope`"]);
    refuses(&bake(&["https://github.com/a/b.git"]), 1, &["clone the repository"]);
    refuses(&bake(&["--frob"]), 125, &["unknown flag: --frob"]);
}

/// Registry settings in a BuildKit configuration are used: a mirror, and its protocol.
#[test]
fn a_buildkitd_toml_names_mirrors() {
    let Some(registry) = registry("buildkitd_toml", Access::Open) else { return };
    let (docker, _folder) = named("docker");
    let context = context_of(&[
        ("Dockerfile", "FROM busybox\nCOPY a.txt /\n"),
        ("a.txt", "alpha\n"),
        (
            "b.toml",
            &format!("debug = true\n[registry.'docker.io']\nmirrors = ['{}']\n", registry.host()),
        ),
        ("wrong.toml", "[registry.'docker.io']\nmirror = ['a']\n"),
    ]);
    let here = context.path();
    let run = |line: &str| {
        let mut command = docker.command(line.split(' '));
        command.current_dir(here);
        fixtures::kiln::finish(command, b"")
    };
    let build = "buildx build --pull -o type=cacheonly .";
    refuses(&run("buildx create --buildkitd-config wrong.toml"), 1, &["wrong.toml", "mirror"]);
    refuses(&run("buildx create --config none.toml"), 1, &["none.toml"]);
    let created = run("buildx create --name b --use --buildkitd-config b.toml").expect_ok();
    assert_eq!(created.stdout, "b\n");
    assert!(created.stderr.contains("debug: for a daemon"), "{}", created.stderr);
    run(build).expect_ok();
    run("buildx stop b").expect_ok();
    run(build).expect_ok();
    let kept = docker.home().join(".docker/buildx/kiln-registries.json");
    assert!(kept.exists());
    run("buildx rm b").expect_ok();
    assert!(!kept.exists());
    // The daemon's default file, then its flag.
    let own = docker.home().join(".config/buildkit");
    std::fs::create_dir_all(&own).unwrap();
    std::fs::copy(here.join("b.toml"), own.join("buildkitd.toml")).unwrap();
    run(build).expect_ok();
    std::fs::remove_dir_all(&own).unwrap();
    let (buildctl, _folder) = named("buildctl-daemonless.sh");
    let mut command = buildctl.command(
        "build --frontend dockerfile.v0 --local context=. --local dockerfile=.".split(' '),
    );
    command.current_dir(here).env("BUILDKITD_FLAGS", "--config b.toml");
    fixtures::kiln::finish(command, b"").expect_ok();
    let asked = registry.log().len();
    assert!(asked > 0, "the mirror was not asked");
}

#[test]
fn buildctl_without_a_daemon() {
    let Some(registry) = registry("buildctl", Access::Open) else { return };
    let ((buildctl, folder), host) = (named("buildctl-daemonless.sh"), registry.host());
    let context = app(host);
    let local = format!("context={}", context.path().display());
    let dockerfile = format!("dockerfile={}", context.path().display());
    let output = format!("type=image,name={host}/app:1,push=true");
    let metadata = text(&folder.path().join("m.json"));
    let line = ["build", "--frontend", "dockerfile.v0", "--local", &local, "--local", &dockerfile];
    let line = [&line[..], &["--opt", "build-arg:A=1", "--output", &output]].concat();
    let line = [&line[..], &["--metadata-file", &metadata]].concat();
    let mut command = buildctl.command(line);
    command.env("BUILDKITD_FLAGS", "--oci-worker-no-process-sandbox");
    fixtures::kiln::finish(command, b"").expect_ok();
    let metadata: Value = serde_json::from_slice(&std::fs::read(metadata).unwrap()).unwrap();
    assert_eq!(metadata["image.name"], format!("{host}/app:1"));
    let line =
        ["build", "--frontend=dockerfile.v0", "--local", &local, "--output=type=docker,name=a"];
    let archive = buildctl.command(line).output().unwrap();
    assert!(archive.status.success() && archive.stdout.get(257..262) == Some(b"ustar"));
    assert!(buildctl.run(["debug", "workers"]).expect_ok().stdout.starts_with("ID"));
    buildctl.run(["du"]).expect_ok();
    buildctl.run(["prune"]).expect_ok();
    refuses(&buildctl.run(["build", "--frontend", "x.v0"]), 1, &["--frontend dockerfile.v0"]);
    refuses(&buildctl.run(["dial-stdio"]), 1, &["needs a daemon"]);
}

#[test]
fn makisu_builds_and_pushes() {
    let Some(registry) = registry("makisu", Access::Password) else { return };
    let ((makisu, folder), host) = (named("makisu"), registry.host());
    let context = app(host);
    let config = folder.path().join("registry.yaml");
    let basic = format!("{{username: {USER}, password: $REGISTRY_PASSWORD}}");
    let yaml = format!("\"{host}\":\n  \".*\":\n    security: {{basic: {basic}}}\n");
    std::fs::write(&config, yaml).unwrap();
    let (config, tar) = (text(&config), text(&folder.path().join("a.tar")));
    let replica = format!("{host}/team/copy:2");
    let run = |line: &[&str]| {
        let mut command = makisu.command(line);
        command.env("REGISTRY_PASSWORD", PASSWORD);
        fixtures::kiln::finish(command, b"")
    };
    let context = text(context.path());
    let line =
        ["build", "--modifyfs=true", "--commit=implicit", "-t", "team/app:1", "--push", host];
    let line = [&line[..], &["--replica", &replica, "--registry-config", &config]].concat();
    let line = [&line[..], &["--build-arg", "A=1", "--dest", &tar, &context]].concat();
    run(&line).expect_ok();
    let names = ["push", "-t", "team/again:1", "--push", host, "--registry-config", &config, &tar];
    run(&names).expect_ok();
    for (name, tag) in [("team/app", "1"), ("team/copy", "2"), ("team/again", "1")] {
        let found = registry.send(&fixtures::http::Request {
            method: "GET",
            path: &format!("/v2/{name}/manifests/{tag}"),
            media_type: "application/vnd.oci.image.manifest.v1+json",
            ..Default::default()
        });
        assert_eq!(found.unwrap().status, 200, "{name}");
    }
    let dockerfile = "FROM scratch\nCOPY a.txt /one #!COMMIT\nCOPY a.txt /two\nCOPY a.txt /three\n";
    let marked = crate::context_of(&[("Dockerfile", dockerfile), ("a.txt", "a")]);
    for (commit, layers) in [("explicit", 2), ("implicit", 3)] {
        let commit = format!("--commit={commit}");
        run(&["build", &commit, "-t", "a", "--dest", &tar, &text(marked.path())]).expect_ok();
        let archive = fixtures::tar::read(&std::fs::read(&tar).unwrap()).unwrap();
        let manifest = archive.iter().find(|entry| entry.absolute() == "/manifest.json").unwrap();
        let fixtures::tar::Kind::File(manifest) = &manifest.kind else { panic!("no file") };
        let manifest: serde_json::Value = serde_json::from_slice(manifest).unwrap();
        assert_eq!(manifest[0]["Layers"].as_array().unwrap().len(), layers, "{commit}");
    }
    refuses(&run(&["diff", "a"]), 1, &["it takes two images"]);
    assert!(run(&["version"]).expect_ok().stdout.starts_with("kiln "));
}

/// Debian's `redis-server` with a password, stopped when dropped.
struct Redis {
    child: std::process::Child,
    address: String,
}

impl Redis {
    fn start(test: &str) -> Option<Self> {
        let program = crate::program(test, "redis-server")?;
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = std::process::Command::new(program)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--requirepass", PASSWORD])
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let redis = Self { child, address: format!("127.0.0.1:{port}") };
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while std::net::TcpStream::connect(&redis.address).is_err() {
            assert!(std::time::Instant::now() < deadline, "redis-server does not answer");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Some(redis)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn makisu_shares_a_cache_in_redis() {
    let Some(redis) = Redis::start("makisu_redis") else { return };
    let Some(registry) = registry("makisu_redis", Access::Open) else { return };
    let context = app(registry.host());
    let folder = text(context.path());
    let cache = ["--redis-cache-addr", &redis.address, "--redis-cache-password", PASSWORD];
    let line = ["build", "-t", "team/app:1", "--push", registry.host(), "--log-fmt=console"];
    let line = [&line[..], &cache, &["--redis-cache-ttl=1h", &folder]].concat();
    // Each has its own state, which is empty.
    for cached in [false, true] {
        let (makisu, _folder) = named("makisu");
        let run = makisu.run(&line).expect_ok();
        assert_eq!(run.stderr.contains(" CACHED\n"), cached, "{}", run.stderr);
        assert!(!run.stderr.contains(PASSWORD), "the password is in the log");
    }
}

#[test]
fn makisu_shows_the_files_of_images() {
    let Some(registry) = registry("makisu_files", Access::Open) else { return };
    let ((makisu, folder), host) = (named("makisu"), registry.host());
    let context = app(host);
    let path = text(context.path());
    let build = |tag: &str, argument: &str| {
        let line = ["build", "-t", tag, "--push", host, "--build-arg", argument, &path];
        makisu.run(line).expect_ok();
    };
    build("team/app:1", "A=1");
    let one = std::fs::read_to_string(context.path().join("Dockerfile")).unwrap();
    let other =
        one + "RUN rm a.txt && echo beta > b.txt && chmod 700 /etc && echo >> /etc/passwd\n";
    std::fs::write(context.path().join("Dockerfile"), other).unwrap();
    build("team/app:2", "A=2");
    // A kiln without state gets both from the registry.
    let (elsewhere, _folder) = named("makisu");
    let names = [format!("{host}/team/app:1"), format!("{host}/team/app:2")];
    let shown = elsewhere.run(["diff", &names[0], &names[1]]).expect_ok().stdout;
    let labels = r#"~ config.config.Labels.a: "1" -> "2""#;
    for line in [labels, "- /a.txt", "+ /b.txt", "~ /etc: mode", "~ /etc/passwd: content"] {
        assert!(shown.lines().any(|shown| shown == line), "no `{line}` in\n{shown}");
    }
    assert!(!shown.contains("~ /bin"), "{shown}");
    assert_eq!(elsewhere.run(["diff", &names[0], &names[0]]).expect_ok().stdout, "");
    let files = folder.path().join("files");
    let pull = ["pull", "--registry", host, "--tag=2", "--extract", &text(&files), "team/app"];
    makisu.run(pull).expect_ok();
    assert_eq!(std::fs::read_to_string(files.join("b.txt")).unwrap(), "beta\n");
    assert!(!files.join("a.txt").exists() && files.join("bin/sh").exists());
}

#[test]
fn lists_of_images_are_made_in_registries() {
    let Some(registry) = registry("lists", Access::Open) else { return };
    let ((docker, folder), host) = (named("docker"), registry.host());
    let context = app(host);
    let (one, other) = (format!("{host}/team/one:1"), format!("{host}/team/other:1"));
    for (name, value) in [(&one, "A=1"), (&other, "A=2")] {
        let line = ["build", "--push", "--build-arg", value, "-t", name, &text(context.path())];
        docker.run(line).expect_ok();
    }
    let list = format!("{host}/team/list:1");
    docker.run(["manifest", "create", &list, &one]).expect_ok();
    refuses(&docker.run(["manifest", "create", &list, &other]), 1, &["`--amend`"]);
    docker.run(["manifest", "create", "--amend", &list, &other]).expect_ok();
    let line = ["manifest", "annotate", &list, &other, "--arch", "arm64", "--variant", "v8"];
    docker.run(line).expect_ok();
    let pushed = docker.run(["manifest", "push", "--purge", &list]).expect_ok();
    let shown = docker.run(["manifest", "inspect", &list]).expect_ok();
    let index: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2, "{index}");
    assert_eq!(index["manifests"][1]["platform"]["architecture"], "arm64");
    assert_eq!(index["manifests"][1]["platform"]["variant"], "v8");
    let shown = docker.run(["manifest", "inspect", "-v", &list]).expect_ok();
    let verbose: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(verbose[0]["Descriptor"], index["manifests"][0]);
    assert!(verbose[1]["OCIManifest"]["layers"].is_array() && verbose[1]["Raw"].is_string());
    let nothing = format!("{host}/team/list:nope");
    refuses(&docker.run(["manifest", "inspect", &nothing]), 1, &["no such manifest: "]);
    refuses(&docker.run(["manifest", "push", &list]), 1, &["docker manifest create"]);

    let tagged = format!("{host}/team/list:2");
    imagetools(&docker, host, &list);
    let line = ["buildx", "imagetools", "create", "-t", &tagged, &list];
    docker.run(line).expect_ok();
    let inspect = |name: &str| {
        let line = ["buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}", name];
        docker.run(line).expect_ok().stdout
    };
    assert_eq!((inspect(&list), inspect(&tagged)), (pushed.stdout.clone(), pushed.stdout));
    // Content that was pushed with the list can be pulled from the list's repository.
    docker.run(["rmi", "-f", &one]).expect_ok();
    docker.run(["pull", "-q", &list]).expect_ok();
    refuses(&docker.run(["manifest", "inspect", &format!("{host}/no/such:1")]), 1, &["no/such"]);

    // kaniko's archives are contexts.
    let tar = text(&folder.path().join("context.tar"));
    let made = std::process::Command::new("tar")
        .args(["-cf", &tar, "-C", &text(context.path()), "."])
        .status();
    assert!(made.unwrap().success());
    let line = ["kaniko", &format!("--context=tar://{tar}"), "--no-push"];
    let kiln = Kiln::new(env!("CARGO_BIN_EXE_kiln"));
    kiln.run(line).expect_ok();
    refuses(&kiln.run(["kaniko", "--context=tar:///nope.tar", "--no-push"]), 1, &["/nope.tar"]);
}

/// Tests `imagetools` with a list of images for amd64 and arm64.
fn imagetools(docker: &Kiln, host: &str, list: &str) {
    let run =
        |words: &[&str]| docker.run([&["buildx", "imagetools"], words].concat()).expect_ok().stdout;
    let made = format!("{host}/team/made:1");
    let file = text(&docker.home().join("made.json"));
    let note =
        ["--annotation", "index:a=b", "--annotation", "manifest-descriptor[linux/arm64]:c=d"];
    let line =
        ["create", "-t", &made, "--metadata-file", &file, "-p", "linux/amd64,linux/arm64/v8"];
    run(&[&line[..], &note, &[list]].concat());
    let index: Value = serde_json::from_str(&run(&["inspect", "--raw", &made])).unwrap();
    assert_eq!(index["annotations"]["a"], "b");
    assert_eq!(index["manifests"][1]["annotations"]["c"], "d");
    let written: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let digest = run(&["inspect", "--format", "{{println .Manifest.Digest}}", &made]);
    assert_eq!(written["containerimage.descriptor"]["digest"], digest.trim_end());

    let one = format!("{host}/team/alone:1");
    let of_amd = index["manifests"][0]["digest"].as_str().unwrap();
    // A digest refers to the repository of the name.
    let part = format!("{host}/team/made:amd");
    run(&["create", "--prefer-index=false", "-t", &part, of_amd]);
    run(&["create", "--prefer-index=false", "-t", &one, "-p", "linux/amd64", list]);
    assert_eq!(run(&["inspect", "--format", "{{.Manifest.Digest}}", &one]).trim_end(), of_amd);
    let labels = ["inspect", "--format", "{{.Image.Config.Labels}} {{json .SBOM}}"];
    assert_eq!(run(&[&labels[..], &[&one]].concat()), "map[a:1] {}\n");
    let labels = ["inspect", "--format", "{{(index .Image \"linux/amd64\").Config.Labels.a}}"];
    assert_eq!(run(&[&labels[..], &[list]].concat()), "1\n");
    let words = ["buildx", "imagetools", "create", "--dry-run", "-p", "linux/s390x", list];
    refuses(&docker.run(words), 1, &["`--platform`"]);
    let words = ["buildx", "imagetools", "create", "--dry-run", "--annotation", "a=b", list];
    refuses(&docker.run(words), 1, &["`index:KEY=VALUE`"]);
}
