//! A policy beside the Dockerfile: buildx evaluates it, kiln does not, and therefore never builds as
//! if there were none.

use fixtures::{Kiln, Run, WebServer};

use crate::repository::Repository;
use crate::{context_of, kiln, text};

const DOCKERFILE: &str = "FROM scratch\nCOPY a.txt /\n";
const POLICY: &str = "package docker\ndefault allow := false\ndecision := {\"allow\": allow}\n";

fn context(files: &[(&str, &str)]) -> tempfile::TempDir {
    let own = [("Dockerfile", DOCKERFILE), ("a.txt", "a\n"), ("Dockerfile.rego", POLICY)];
    context_of(&[&own, files].concat())
}

fn run(kiln: &Kiln, folder: &std::path::Path, line: &[&str]) -> Run {
    let mut command = kiln.command(line);
    command.current_dir(folder);
    fixtures::kiln::finish(command, b"")
}

#[track_caller]
fn refuses(run: &Run, file: &str) {
    assert_eq!(run.code, Some(1), "{}{}", run.stdout, run.stderr);
    for word in [&format!("{file}` is a policy"), "`--policy disabled=true`"] {
        assert!(run.stderr.contains(word), "no `{word}` in\n{}", run.stderr);
    }
    assert!(run.stdout.is_empty(), "{}", run.stdout);
}

#[test]
fn whoever_has_policies_is_refused() {
    let kiln = kiln();
    let folder = context(&[
        ("sub/Other", DOCKERFILE),
        ("sub/Other.rego", POLICY),
        ("Free", DOCKERFILE),
        (
            "docker-bake.hcl",
            "target \"default\" {}\ntarget \"off\" {\n policy = [{ disabled = true }]\n}\n",
        ),
        ("other.yaml", "services: {a: {build: {context: ., dockerfile: sub/Other}}}"),
    ]);
    let build = |line: &[&str]| run(&kiln, folder.path(), line);
    for line in [
        &["build", "--output=out", "."][..],
        &["docker", "build", "-t", "x", "."],
        &["buildx", "build", "--policy=strict=true", "."],
        &["build", "--check", "."],
        &["bake"],
        &["bake", "--policy=log-level=debug"],
    ] {
        refuses(&build(line), "Dockerfile.rego");
    }
    refuses(&build(&["build", "-f", "sub/Other", "."]), "sub/Other.rego");
    refuses(&build(&["bake", "-f", "other.yaml"]), "sub/Other.rego");
    assert!(!folder.path().join("out").exists());
    assert_eq!(build(&["images", "-q"]).expect_ok().stdout, "", "an image was made");

    for line in [
        &["build", "--policy", "disabled=true", "."][..],
        &["build", "--policy=reset=true", "."],
        &["buildx", "build", "--policy=disabled=1", "."],
        &["build", "-f", "Free", "."],
        &["bake", "off"],
        &["bake", "--policy=disabled=true"],
        &["bake", "--set=default.policy=disabled=true"],
        // These tools have never supported policies.
        &["kaniko", "--context=.", "--no-push"],
        &["makisu", "build", "-t", "x", "."],
        &[
            "buildctl",
            "build",
            "--frontend=dockerfile.v0",
            "--local=context=.",
            "--local=dockerfile=.",
        ],
    ] {
        build(line).expect_ok();
    }
    let piped =
        kiln.run_with_input(["build", "-f", "-", &text(folder.path())], DOCKERFILE.as_bytes());
    piped.expect_ok();
}

#[test]
fn what_a_policy_is_to_do_is_refused_by_name() {
    let kiln = kiln();
    let folder = context(&[("docker-bake.hcl", "target \"default\" {}\n")]);
    for (line, words) in [
        (
            &["build", "--policy=filename=p.rego", "."][..],
            "`--policy`: `filename=p.rego`: policies are",
        ),
        (&["build", "--policy=disabled=true,strict=true", "."], "no other option"),
        (
            &["bake", "--policy=filename=p.rego"],
            "`--policy`: `filename=p.rego` is for the `policy`",
        ),
        (&["bake", "--policy=reset=true"], "is for the `policy`"),
        (&["bake", "--set=*.policy=filename=p.rego"], "policies are not evaluated"),
        (&["buildx", "policy", "eval"], "does not evaluate policies"),
    ] {
        let run = run(&kiln, folder.path(), line);
        assert!(run.refused() && run.stderr.contains(words), "{line:?}: {}", run.stderr);
    }
}

#[test]
fn policies_of_repositories_count() {
    let Some(repository) = Repository::new("policies_of_repositories") else { return };
    let (kiln, server) = (kiln(), WebServer::start());
    let work = repository.work();
    std::fs::write(work.join("Dockerfile"), "FROM scratch\nCOPY run.sh /\n").unwrap();
    std::fs::write(work.join("dir/Dockerfile"), "FROM scratch\nCOPY a.txt /\n").unwrap();
    std::fs::write(work.join("dir/Dockerfile.rego"), POLICY).unwrap();
    repository.commit();
    repository.serve(&server);
    let url = |folder: &str| format!("http://{}/r.git#main:{folder}", server.host());
    kiln.run(["build", &url(".")]).expect_ok();
    refuses(&kiln.run(["build", &url("dir")]), "Dockerfile.rego");
    refuses(&kiln.run(["build", "-f", "dir/Dockerfile", &url(".")]), "dir/Dockerfile.rego");
    kiln.run(["build", "--policy=disabled=true", &url("dir")]).expect_ok();
}
