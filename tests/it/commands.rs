//! The commands besides builds, as transcripts: their output, their exit code, and the registry's
//! content afterwards.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use fixtures::docker_registry::{PASSWORD, USER};
use fixtures::http::Request;
use fixtures::{Access, DockerRegistry, Kiln, Run};
use serde_json::Value;

use crate::{context_of, kiln, registry, text};

/// Checks for a failure whose message has all of `words`.
#[track_caller]
fn refuses(run: &Run, words: &[&str]) {
    assert!(run.refused(), "exit code {:?}\n{}{}", run.code, run.stdout, run.stderr);
    assert!(
        run.stderr.starts_with("ERROR: ") || run.stderr.contains("\nERROR: "),
        "{}",
        run.stderr
    );
    for word in words {
        assert!(run.stderr.contains(word), "no `{word}` in\n{}", run.stderr);
    }
}

/// A manifest in the registry.
fn manifest(registry: &DockerRegistry, repository: &str, tag: &str) -> Vec<u8> {
    let path = format!("/v2/{repository}/manifests/{tag}");
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let request = Request { method: "GET", path: &path, media_type, ..Request::default() };
    let response = registry.send(&request).unwrap();
    assert_eq!(response.status, 200, "{path}");
    response.body
}

/// Builds an image with a name. Its first layer is the base's.
fn build(kiln: &Kiln, registry: &DockerRegistry, name: &str) -> String {
    let dockerfile = format!("FROM {}/library/busybox\nCOPY a.txt /\n", registry.host());
    let context = context_of(&[("Dockerfile", dockerfile.as_str()), ("a.txt", "alpha\n")]);
    let run = kiln.run(["build", "-q", "-t", name, &text(context.path())]).expect_ok();
    run.stdout.trim().to_owned()
}

fn entries(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[test]
fn login_checks_before_it_keeps() {
    let Some(registry) = registry("login", Access::Password) else { return };
    let (kiln, host) = (kiln(), registry.host());
    let login = |password: &str| {
        let input = format!("{password}\n");
        kiln.run_with_input(["login", "-u", USER, "--password-stdin", host], input.as_bytes())
    };
    let wrong = login("not-the-password");
    refuses(&wrong, &["login attempt to", host, USER]);
    assert!(!wrong.stderr.contains("not-the-password"), "{}", wrong.stderr);
    let folder = kiln.home().join(".docker");
    assert_eq!(entries(&folder), 0, "a wrong password was kept");
    let advice = format!("`kiln login {host}`");
    let base = format!("{host}/library/busybox");
    refuses(&kiln.run(["pull", &base]), &["anonymous", &advice]);

    let right = login(PASSWORD).expect_ok();
    assert_eq!(right.stdout, "Login Succeeded\n");
    assert!(right.stderr.contains("stored unencrypted"), "{}", right.stderr);
    assert!(!right.stderr.contains(PASSWORD), "{}", right.stderr);
    let file = folder.join("config.json");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    kiln.run(["pull", "-q", &format!("{host}/library/busybox")]).expect_ok();

    let out = kiln.run(["logout", host]).expect_ok();
    assert_eq!(out.stdout, format!("Removing login credentials for {host}\n"));
    let again = kiln.run(["logout", host]).expect_ok();
    assert_eq!(again.stdout, format!("Not logged in to {host}\n"));
    refuses(&kiln.run(["pull", &format!("{host}/library/busybox")]), &["anonymous"]);

    refuses(&kiln.run(["login", "--password-stdin", host]), &["needs `--username`"]);
    refuses(&kiln.run(["login", "-u", USER, host]), &["no terminal to ask on"]);
}

/// A file left by `echo "$UNSET" > config.json`, and an empty variable of a pipeline.
#[test]
fn a_blank_configuration_is_none() {
    let Some(registry) = registry("blank_config", Access::Password) else { return };
    let (kiln, host) = (kiln(), registry.host());
    let file = kiln.home().join(".docker/config.json");
    let context = context_of(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    let place = text(context.path());
    for blank in ["", "\n", " \r\n"] {
        std::fs::write(&file, blank).unwrap();
        for line in [
            &["build", &place][..],
            &["docker", "build", &place],
            &["docker", "buildx", "build", &place],
            &["kaniko", "--context", &place, "--no-push"],
            &["images"],
            &["logout", host],
        ] {
            let mut command = kiln.command(line);
            command.env("DOCKER_AUTH_CONFIG", blank);
            fixtures::kiln::finish(command, b"").expect_ok();
        }
        kiln.login(host, USER, PASSWORD);
        kiln.run(["pull", "-q", &format!("{host}/library/busybox")]).expect_ok();
        std::fs::remove_file(&file).unwrap();
    }
    std::fs::write(&file, "no JSON").unwrap();
    refuses(&kiln.run(["build", &place]), &["config.json", "is not docker's configuration"]);
}

/// A certificate as made by `openssl req -x509` in distribution's documentation.
#[test]
fn a_certificate_that_signed_itself_is_trusted_where_it_is_named() {
    let file = |name: &str| fixtures::source_tree().join("crates/registry/tests/tls").join(name);
    let (certificate, key) = (file("self-signed.crt"), file("self-signed.key"));
    let registry = match DockerRegistry::start_tls(Access::Open, &certificate, &key) {
        Ok(registry) => registry,
        Err(reason) if reason.to_string().contains("apt-get install") => {
            return fixtures::skip("self_signed", &reason);
        }
        Err(reason) => panic!("{reason:#}"),
    };
    let (kiln, host) = (kiln(), registry.host());
    let login = |variables: &[(&str, &str)]| {
        let mut command = kiln.command(["login", "-u", USER, "--password-stdin", host]);
        command.envs(variables.iter().copied());
        fixtures::kiln::finish(command, b"x")
    };
    refuses(&login(&[]), &["self-signed", "certs.d", "SSL_CERT_FILE", host]);
    let bundle = text(&certificate);
    login(&[("SSL_CERT_FILE", &bundle)]).expect_ok();
    login(&[("KILN_INSECURE_REGISTRIES", host)]).expect_ok();
    let other = text(&file("self-signed-other.crt"));
    refuses(&login(&[("SSL_CERT_FILE", &other)]), &["certs.d"]);

    let image = format!("{host}/none");
    let executor = |flag: &str| {
        let context = context_of(&[("Dockerfile", &format!("FROM {image}\n"))]);
        kiln.run(["kaniko", "--context", &text(context.path()), "--no-push", flag])
    };
    refuses(&executor(&format!("--registry-certificate={host}={bundle}")), &["not found"]);
    refuses(&executor(&format!("--registry-certificate={host}={other}")), &["certs.d"]);

    let folder = kiln.home().join(".docker/certs.d").join(host);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(&certificate, folder.join("ca.crt")).unwrap();
    login(&[]).expect_ok();
}

/// If a layer does not match its config, it would be stored under a wrong diffID.
#[test]
fn an_archive_that_contradicts_itself_is_refused() {
    use fixtures::tar::{Entry, Kind, write};
    let file = |path: &str, bytes: &[u8]| Entry::new(path, Kind::File(bytes.to_vec()), 0o644);
    let (good, other) = (write(&[file("a", b"good")]), write(&[file("a", b"other")]));
    let zipped = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, &good).unwrap();
        encoder.finish().unwrap()
    };
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {}, "history": [],
        "rootfs": {"type": "layers", "diff_ids": [fixtures::digest(&good)]},
    });
    let manifest = r#"[{"Config": "c.json", "RepoTags": ["loaded:1"], "Layers": ["l/layer.tar"]}]"#;
    let archive = |layer: &[u8]| {
        write(&[
            file("c.json", config.to_string().as_bytes()),
            file("l/layer.tar", layer),
            file("manifest.json", manifest.as_bytes()),
        ])
    };
    let kiln = kiln();
    for layer in [&good, &zipped] {
        let loaded = kiln.run_with_input(["load"], &archive(layer)).expect_ok();
        assert!(loaded.stdout.contains("loaded:1"), "{}", loaded.stdout);
        kiln.run(["rmi", "loaded:1"]).expect_ok();
    }
    let spoiled = [&zipped[..zipped.len() / 2], &[0; 9]].concat();
    for layer in [&other, &spoiled, &Vec::new()] {
        let refused = kiln.run_with_input(["load"], &archive(layer));
        refuses(&refused, &["the layer `sha256:"]);
        assert!(!kiln.run(["images"]).stdout.contains("loaded"));
    }
}

#[test]
fn a_credential_helper_gets_the_password_by_its_input_only() {
    let Some(registry) = registry("credential_helper", Access::Password) else { return };
    let (kiln, place) = (kiln(), tempfile::tempdir().unwrap());
    let helper = place.path().join("docker-credential-test");
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {0}/arguments\ncat >> {0}/input\n",
        place.path().display()
    );
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = kiln.home().join(".docker/config.json");
    std::fs::write(&config, r#"{"credsStore": "test"}"#).unwrap();
    let path = format!("{}:/usr/bin:/bin", place.path().display());
    let mut command = kiln.command(["login", "-u", USER, "--password-stdin", registry.host()]);
    command.env("PATH", path);
    let run = fixtures::kiln::finish(command, PASSWORD.as_bytes()).expect_ok();
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("Login Succeeded\n", ""));
    let read = |name: &str| std::fs::read_to_string(place.path().join(name)).unwrap();
    assert_eq!(read("arguments"), "store\n");
    assert!(read("input").contains(PASSWORD));
    let config = std::fs::read_to_string(config).unwrap();
    assert!(config.contains(registry.host()) && !config.contains("\"auth\":"), "{config}");
}

#[test]
fn an_image_goes_around() {
    let Some(registry) = registry("round_trip", Access::Open) else { return };
    let (kiln, host) = (kiln(), registry.host());
    let base = format!("{host}/library/busybox:latest");
    let pulled = kiln.run(["pull", &base]).expect_ok();
    let bytes = manifest(&registry, "library/busybox", "latest");
    let digest = fixtures::digest(&bytes);
    let expected = format!("Digest: {digest}\nStatus: Downloaded newer image for {base}\n{base}\n");
    assert_eq!(pulled.stdout, expected);
    let again = kiln.run(["pull", &base]).expect_ok();
    assert!(again.stdout.contains("Status: Image is up to date for"), "{}", again.stdout);
    assert_eq!(kiln.run(["pull", "-q", &base]).expect_ok().stdout, format!("{base}\n"));

    let id: Value = serde_json::from_slice(&bytes).unwrap();
    let id = id["config"]["digest"].as_str().unwrap().to_owned();
    let app = format!("{host}/team/app:1");
    assert_eq!(kiln.run(["tag", &base, &app]).expect_ok().stdout, "");
    kiln.run(["tag", &id[7..15], "short"]).expect_ok();
    refuses(&kiln.run(["tag", &base, &format!("{app}@{digest}")]), &["digest reference"]);

    let pushed = kiln.run(["push", &app]).expect_ok();
    let size = bytes.len();
    let expected = format!(
        "The push refers to repository [{host}/team/app]\n1: digest: {digest} size: {size}\n"
    );
    assert_eq!(pushed.stdout, expected);
    assert_eq!(manifest(&registry, "team/app", "1"), bytes, "not the same bytes");
    kiln.run(["tag", &app, &format!("{host}/team/app:2")]).expect_ok();
    let all = kiln.run(["push", "-q", "--all-tags", &format!("{host}/team/app")]).expect_ok();
    assert_eq!(all.stdout, format!("{host}/team/app:1\n{host}/team/app:2\n"));
    refuses(&kiln.run(["push", "--all-tags", &app]), &["`--all-tags` cannot be used with a tag"]);

    let images = kiln.run(["images"]).expect_ok().stdout;
    let headings: Vec<&str> = images.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(headings, ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]);
    assert_eq!(images.lines().count(), 5, "{images}");
    assert_eq!(kiln.run(["images", "-q"]).expect_ok().stdout, format!("{}\n", &id[7..19]));
    let one = kiln.run(["image", "ls", "--format", "json", "short"]).expect_ok().stdout;
    let one: Value = serde_json::from_str(&one).unwrap();
    assert_eq!((one["Tag"].as_str(), one["Digest"].as_str()), (Some("latest"), Some(&*digest)));

    let history = kiln.run(["history", "--no-trunc", "short"]).expect_ok().stdout;
    assert!(history.starts_with("IMAGE ") && history.contains(&id), "{history}");
    let shown = kiln.run(["image", "inspect", &id[..20], "short"]).expect_ok().stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown.as_array().unwrap().len(), 2);
    assert_eq!(shown[0], shown[1]);
    assert_eq!(shown[0]["Id"].as_str(), Some(id.as_str()));
    assert_eq!(shown[0]["RepoTags"].as_array().unwrap().len(), 4);

    let several = kiln.run(["rmi", &id]);
    refuses(&several, &["conflict", "must be forced", "short:latest", "hint: "]);
    let one = kiln.run(["rmi", "short"]).expect_ok();
    assert_eq!(one.stdout, "Untagged: short:latest\n");
    let rest = kiln.run(["rmi", "--force", &id]).expect_ok();
    assert_eq!(rest.stdout.matches("Untagged: ").count(), 3, "{}", rest.stdout);
    assert!(rest.stdout.ends_with(&format!("Deleted: {id}\n")), "{}", rest.stdout);
    assert_eq!(kiln.run(["images", "-q"]).expect_ok().stdout, "");
}

#[test]
fn what_was_pulled_is_there_without_its_registry() {
    let Some(registry) = registry("offline", Access::Open) else { return };
    let kiln = kiln();
    let base = format!("{}/library/busybox", registry.host());
    kiln.run(["pull", "-q", &base]).expect_ok();
    drop(registry);
    let dockerfile = format!("FROM {base}\nCOPY a.txt /\n");
    let context = context_of(&[("Dockerfile", dockerfile.as_str()), ("a.txt", "alpha\n")]);
    let files = context.path().join("files.tar");
    let output = format!("type=tar,dest={}", files.display());
    kiln.run(["build", "-o", &output, &text(context.path())]).expect_ok();
    let files = fixtures::tar::read(&std::fs::read(files).unwrap()).unwrap();
    assert!(files.len() > 5, "the base's files are missing");
}

#[test]
fn help_is_a_word_too() {
    let kiln = kiln();
    for (asked, flag) in
        [(&["help", "build"][..], ["build", "--help"]), (&["help", "bake"], ["bake", "--help"])]
    {
        assert_eq!(kiln.run(asked).expect_ok().stdout, kiln.run(flag).expect_ok().stdout);
    }
    assert!(kiln.run(["help"]).expect_ok().stdout.contains("Images of this machine:"));
}

#[test]
fn a_root_that_cannot_be_written_says_what_to_do() {
    let kiln = kiln();
    let mut command = kiln.command(["images"]);
    command.env("KILN_ROOT", "/proc/kiln");
    let run = fixtures::kiln::finish(command, b"");
    refuses(&run, &["/proc/kiln", "KILN_ROOT names another folder"]);
}

#[test]
fn unknown_images() {
    let Some(registry) = registry("unknown_images", Access::Open) else { return };
    let kiln = kiln();
    let missing = &["No such image: nothing:latest"][..];
    refuses(&kiln.run(["tag", "nothing", "other"]), missing);
    refuses(&kiln.run(["rmi", "nothing"]), missing);
    refuses(&kiln.run(["history", "nothing"]), missing);
    refuses(&kiln.run(["rmi", "sha256:0123456789"]), &["No such image: sha256:0123456789"]);
    let shown = kiln.run(["inspect", "nothing"]);
    refuses(&shown, missing);
    assert_eq!(shown.stdout, "[]\n");
    let pushed = kiln.run(["push", "nothing"]);
    refuses(&pushed, &["An image does not exist locally with the tag: nothing:latest"]);
    assert_eq!(pushed.stdout, "");
    assert!(kiln.run(["rmi", "-f", "nothing"]).expect_ok().stderr.contains("No such image"));
    let name = format!("{}/no/such:1", registry.host());
    refuses(&kiln.run(["pull", &name]), &[&name]);
    let other = format!("{}/library/busybox", registry.host());
    refuses(
        &kiln.run(["pull", "--platform", "linux/s390x", &other]),
        &["does not match the specified platform"],
    );
    assert_eq!(kiln.run(["images", "-q"]).expect_ok().stdout, "");
    for command in ["images", "du", "prune"] {
        refuses(&kiln.run([command, "--filter", "a=b"]), &["`--filter a=b`"]);
    }
}

#[test]
fn an_image_without_a_name_is_known_by_its_id() {
    let Some(registry) = registry("no_name", Access::Open) else { return };
    let kiln = kiln();
    let id = build(&kiln, &registry, "app");
    build_other(&kiln, &registry, "app");
    let images = kiln.run(["images"]).expect_ok().stdout;
    assert!(images.contains("<none>"), "{images}");
    kiln.run(["tag", &id, "found"]).expect_ok();
    kiln.run(["rmi", "found"]).expect_ok();
    refuses(&kiln.run(["tag", &id, "found"]), &["No such image"]);
}

/// Moves a name to another image.
fn build_other(kiln: &Kiln, registry: &DockerRegistry, name: &str) {
    let dockerfile = format!("FROM {}/library/busybox\nLABEL a=b\n", registry.host());
    let context = context_of(&[("Dockerfile", dockerfile.as_str())]);
    kiln.run(["build", "-q", "-t", name, &text(context.path())]).expect_ok();
}

#[test]
fn prune_leaves_images_with_names_whole() {
    let Some(registry) = registry("prune", Access::Open) else { return };
    let (kiln, name) = (kiln(), format!("{}/app:1", registry.host()));
    let id = build(&kiln, &registry, &name);
    refuses(&kiln.run(["prune"]), &["nothing was removed", "`--force`"]);
    let no = kiln.run_with_input(["prune"], b"n\n").expect_ok();
    assert_eq!(no.stdout, "");
    let usage = kiln.run(["du"]).expect_ok().stdout;
    assert!(usage.starts_with("ID ") && usage.contains("\nReclaimable:\t"), "{usage}");
    let total = |text: &str| text.lines().last().unwrap().to_owned();
    let json = kiln.run(["du", "--format", "json"]).expect_ok().stdout;
    let json: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(json.iter().any(|entry| entry["Type"] == "layer"), "{json:?}");

    for flags in ["-f", "-af"] {
        let pruned = kiln.run(["prune", flags]).expect_ok().stdout;
        assert!(pruned.starts_with("Total:\t"), "{pruned}");
    }
    let left = kiln.run(["du"]).expect_ok().stdout;
    assert!(left.contains("Reclaimable:\t0B\n") && total(&left) != "Total:\t\t0B", "{left}");
    let pushed = kiln.run(["push", &name]).expect_ok().stdout;
    let bytes = manifest(&registry, "app", "1");
    assert!(pushed.contains(&fixtures::digest(&bytes)), "{pushed}");

    kiln.run(["rmi", &id]).expect_ok();
    kiln.run(["prune", "-af"]).expect_ok();
    assert_eq!(total(&kiln.run(["du"]).expect_ok().stdout), "Total:\t\t0B");
    // A pruned layer is made again, although there are records of it.
    build(&kiln, &registry, &name);
}

#[test]
fn a_cache_mount_in_use_is_not_pruned() {
    let kiln = kiln();
    kiln.run(["images"]).expect_ok();
    let folder = kiln.root().join("v1/mounts").join("a".repeat(64));
    std::fs::create_dir_all(folder.join("0")).unwrap();
    std::fs::write(folder.join("0/file"), "four").unwrap();
    let lock = std::fs::File::create(folder.join("0.lock")).unwrap();
    lock.lock_shared().unwrap();
    let usage = kiln.run(["du"]).expect_ok().stdout;
    assert!(usage.contains("cache mount   false         4B"), "{usage}");
    kiln.run(["prune", "-af"]).expect_ok();
    assert!(folder.join("0/file").exists());
    drop(lock);
    kiln.run(["prune", "-f"]).expect_ok();
    assert!(folder.join("0/file").exists(), "only `--all` removes cache mounts");
    kiln.run(["prune", "-af", "--max-used-space", "1kb"]).expect_ok();
    assert!(folder.join("0/file").exists(), "it was not too much");
    let pruned = kiln.run(["prune", "-af", "--verbose"]).expect_ok().stdout;
    assert!(
        pruned.contains("/0\tcache mount\t4B\n") && pruned.ends_with("Total:\t4B\n"),
        "{pruned}"
    );
    assert!(!folder.join("0").exists());
}

#[test]
fn a_registry_that_lost_a_layer_gets_it_again() {
    let Some(registry) = registry("lost_layer", Access::Open) else { return };
    let (kiln, host) = (kiln(), registry.host());
    let name = format!("{host}/app:1");
    build(&kiln, &registry, &name);
    kiln.run(["push", &name]).expect_ok();
    let document: Value = serde_json::from_slice(&manifest(&registry, "app", "1")).unwrap();
    let digest = document["layers"][1]["digest"].as_str().unwrap();
    std::fs::remove_file(registry.blob_file(digest)).unwrap();
    kiln.run(["tag", &name, &format!("{host}/app:2")]).expect_ok();
    kiln.run(["push", &format!("{host}/app:2")]).expect_ok();
    assert!(registry.blob_file(digest).exists());
}

#[test]
fn completions_and_help() {
    let kiln = kiln();
    for shell in ["bash", "zsh", "fish"] {
        let script = kiln.run(["completion", shell]).expect_ok().stdout;
        assert!(script.contains("kiln") && script.contains("cache-from"), "{shell}");
    }
    assert_eq!(kiln.run(["completion", "none"]).code, Some(1));
    let bash = Path::new("/bin/bash");
    if bash.exists() {
        let script = kiln.run(["completion", "bash"]).expect_ok().stdout;
        let mut command = std::process::Command::new(bash);
        command.args(["-n", "/dev/stdin"]);
        fixtures::kiln::finish(command, script.as_bytes()).expect_ok();
    }
    let version = kiln.run(["version"]).expect_ok().stdout;
    assert!(version.starts_with("kiln "), "{version}");
    let debug = kiln.run(["--debug", "history", "nothing"]);
    refuses(&debug, &["No such image", "user "]);
    // A command that pipelines run before a build, without effect in kiln.
    assert_eq!(kiln.run(["buildx", "create"]).expect_ok().stdout, "kiln\n");
}
