//! GitLab pipelines, run by `gitlab-ci-local` with its Docker executor.

use std::path::{Path, PathBuf};
use std::process::Command;

use fixtures::docker_registry::{PASSWORD, USER};
use fixtures::{Run, guide};

use super::{Ci, steps};

/// The version from npm. Later ones need a newer Node than Debian and CI machines have.
const VERSION: &str = "4.70.0";

/// Installs gitlab-ci-local; `None` if the test is skipped.
fn gitlab_ci_local(test: &str, folder: &Path) -> Option<PathBuf> {
    for name in ["npm", "node", "rsync", "git"] {
        if fixtures::program(name).is_none() {
            fixtures::skip(test, format!("no {name}: `apt-get install npm nodejs rsync git`"));
            return None;
        }
    }
    let installed = Command::new("npm")
        .args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
        .arg(folder)
        .arg(format!("gitlab-ci-local@{VERSION}"))
        .output()
        .unwrap();
    if !installed.status.success() {
        fixtures::skip(test, "npm cannot install gitlab-ci-local: no network?");
        return None;
    }
    Some(folder.join("node_modules/.bin/gitlab-ci-local"))
}

fn git(project: &Path, args: &[&str]) {
    let done = Command::new("git").arg("-C").arg(project).args(args).output().unwrap();
    assert!(done.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Commits the project with a pipeline, as gitlab-ci-local requires.
fn commit(ci: &Ci, pipeline: &str) {
    let project = ci.project.path();
    std::fs::write(project.join(".gitlab-ci.yml"), pipeline).unwrap();
    git(project, &["init", "--quiet", "--initial-branch=main"]);
    git(project, &["remote", "add", "origin", "https://gitlab.example.com/team/app.git"]);
    git(project, &["add", "--all"]);
    let author = ["-c", "user.name=a", "-c", "user.email=a@example.com"];
    git(project, &[&author[..], &["commit", "--quiet", "--message=project"]].concat());
}

/// Runs the job. Only the registry keeps state of an earlier run.
fn run(ci: &Ci, program: &Path) -> Run {
    let state = ci.project.path().join(".gitlab-ci-local");
    drop(std::fs::remove_dir_all(state));
    let host = ci.registry.host();
    let mut command = ci.dockerd.command(&[]);
    let environment: Vec<_> = command
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    command = Command::new(program);
    command
        .env_clear()
        .envs(environment)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .current_dir(ci.project.path())
        .args(["--network", "host", "--pull-policy", "if-not-present"])
        // The image for copying files, which it would pull otherwise.
        .args(["--helper-image", "registry.example.com/kiln:ci"]);
    for (name, value) in [
        ("CI_REGISTRY", host),
        ("CI_REGISTRY_IMAGE", &format!("{host}/team/app")),
        ("CI_REGISTRY_USER", USER),
        ("CI_REGISTRY_PASSWORD", PASSWORD),
        ("CI_JOB_TOKEN", PASSWORD),
    ] {
        command.arg("--variable").arg(format!("{name}={value}"));
    }
    command.arg("build");
    fixtures::kiln::finish(command, b"")
}

/// Runs a guide's pipeline twice; all steps of the second run are cached.
fn warm_the_second_time(test: &str, guide: &str, file: &str, pushed: &[(&str, &str)]) {
    let Some(ci) = Ci::new(test, "ci") else { return };
    let place = tempfile::tempdir().unwrap();
    let Some(program) = gitlab_ci_local(test, place.path()) else { return };
    commit(&ci, &guide::file(guide, file));
    let first = run(&ci, &program).expect_ok();
    let log = format!("{}{}", first.stdout, first.stderr);
    assert_eq!(steps(&log).1, 0, "{log}");
    assert!(!log.contains(PASSWORD), "the password is in the log");
    for (repository, tag) in pushed {
        assert!(ci.has(repository, tag), "`{repository}:{tag}` was not pushed\n{log}");
    }
    let second = run(&ci, &program).expect_ok();
    let log = format!("{}{}", second.stdout, second.stderr);
    let (steps, cached) = steps(&log);
    assert!(steps >= 5 && cached == steps, "{cached} of {steps} cached\n{log}");
}

#[test]
fn the_pipeline_that_you_have() {
    warm_the_second_time(
        "the_pipeline_that_you_have",
        "gitlab.md",
        ".gitlab-ci.yml",
        &[("team/app", "latest")],
    );
}

#[test]
fn the_pipeline_with_cache_references() {
    warm_the_second_time(
        "the_pipeline_with_cache_references",
        "gitlab.md",
        ".gitlab-ci.yml (cache refs)",
        &[("team/app", "latest"), ("team/app/cache", "main")],
    );
}

#[test]
fn the_pipeline_of_kaniko() {
    warm_the_second_time("the_pipeline_of_kaniko", "from-kaniko.md", ".gitlab-ci.yml", &[]);
}
