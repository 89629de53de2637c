//! kiln's own images, built by kiln, in Debian's `dockerd`.

use fixtures::{Dockerd, ci_image, dockerd};

use crate::{kiln, root_or_skip, text};

/// A daemon with the image of a target; `None` if the test is skipped.
pub fn dockerd_with(test: &str, target: &str) -> Option<Dockerd> {
    if !root_or_skip(test) {
        return None;
    }
    let started = Dockerd::start(&dockerd::Options::default()).and_then(|dockerd| {
        let place = tempfile::tempdir()?;
        let archive = ci_image::archive(&kiln(), target, place.path())?;
        dockerd.docker(&["load", "--input", &text(&archive)]).expect_ok();
        Ok(dockerd)
    });
    match started {
        Ok(dockerd) => Some(dockerd),
        Err(reason) if reason.to_string().contains("apt-get install") => {
            fixtures::skip(test, &reason);
            None
        }
        Err(reason) => panic!("{reason:#}"),
    }
}

#[test]
fn the_smallest_holds_kiln_and_certificates() {
    let Some(dockerd) = dockerd_with("the_smallest_holds_kiln_and_certificates", "kiln") else {
        return;
    };
    let run = dockerd.docker(&["run", "--rm", "registry.example.com/kiln:kiln", "version"]);
    assert!(run.expect_ok().stdout.starts_with("kiln "));
    let made = ["create", "--name", "kiln", "registry.example.com/kiln:kiln"];
    dockerd.docker(&made).expect_ok();
    let place = tempfile::tempdir().unwrap();
    let archive = place.path().join("files.tar");
    dockerd.docker(&["export", "--output", &text(&archive), "kiln"]).expect_ok();
    let entries = fixtures::tar::read(&std::fs::read(&archive).unwrap()).unwrap();
    let names: Vec<String> = entries.iter().map(fixtures::tar::Entry::absolute).collect();
    for name in ["/usr/local/bin/kiln", "/etc/ssl/certs/ca-certificates.crt"] {
        assert!(names.iter().any(|known| known == name), "no `{name}` in {names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("busybox")), "{names:?}");
}

#[test]
fn a_job_finds_a_shell_and_the_names_that_pipelines_call() {
    let test = "a_job_finds_a_shell_and_the_names_that_pipelines_call";
    let Some(dockerd) = dockerd_with(test, "ci") else { return };
    // GitLab's runner, Jenkins and GitHub's runner use the image of a job in this way.
    let script =
        "for name in docker docker-buildx buildx buildctl buildctl-daemonless.sh makisu kiln; do
            command -v $name || exit 1
        done
        # Who uses the image of a job has not said that its files may be moved for a RUN.
        test -z \"${KILN_CONTAINER_IS_MINE-}\"
        test -x /kaniko/executor && test -x /kaniko/warmer && test -d /kaniko/.docker
        echo secret | sed s/secret/said/ | tee /tmp/file | grep said";
    let run =
        dockerd.docker(&["run", "--rm", "registry.example.com/kiln:ci", "sh", "-euc", script]);
    assert!(run.expect_ok().stdout.ends_with("said\n"));
}
