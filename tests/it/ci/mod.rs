//! CI jobs in unprivileged containers: Debian's `dockerd` with kiln's own image, a registry with a
//! password, and a project.

mod gitlab;
mod guides;
mod service;
mod systemd;

use std::path::Path;

use fixtures::docker_registry::{PASSWORD, USER};
use fixtures::{Access, DockerRegistry, Dockerd};
use tempfile::TempDir;

use crate::own_images::dockerd_with;
use crate::{context_of, registry};

/// A runner, a registry, and a project whose Dockerfile has RUN and COPY in two stages.
struct Ci {
    dockerd: Dockerd,
    registry: DockerRegistry,
    project: TempDir,
}

impl Ci {
    /// Starts a runner with the image of a target, and a registry; `None` if the test is skipped.
    fn new(test: &str, target: &str) -> Option<Self> {
        let dockerd = dockerd_with(test, target)?;
        let registry = registry(test, Access::Password)?;
        let dockerfile = format!(
            "FROM {0}/library/busybox AS build
WORKDIR /src
COPY words .
RUN sort words > sorted && test ! -e /usr/local/bin/kiln && test -z \"$PASSWORD$CI_REGISTRY_PASSWORD$CI_JOB_TOKEN\"

FROM {0}/library/busybox
WORKDIR /app
COPY --from=build /src/sorted .
RUN echo app:x:1234:1234::/app:/bin/sh >> /etc/passwd && chown 1234 sorted
USER app
RUN test \"$(id -u)\" = 1234 && echo built by $(id -un) > /tmp/user && cat /proc/self/status /dev/fd/0 < /etc/passwd > /dev/null
CMD [\"cat\", \"/app/sorted\"]
",
            registry.host()
        );
        let project = context_of(&[("Dockerfile", &dockerfile), ("words", "kettle\nchair\n")]);
        Some(Self { dockerd, registry, project })
    }

    /// Writes a Dockerfile that needs no privileges.
    fn without_run(&self) {
        let text = format!("FROM {}/library/busybox\nCOPY words /app/\n", self.registry.host());
        std::fs::write(self.project.path().join("Dockerfile"), text).unwrap();
    }

    /// Changes the Dockerfile for `in-place`, where a RUN may see kiln's binary.
    fn beside_kiln(&self) {
        let file = self.project.path().join("Dockerfile");
        let text = std::fs::read_to_string(&file).unwrap();
        let hidden = " && test ! -e /usr/local/bin/kiln";
        assert!(text.contains(hidden));
        std::fs::write(&file, text.replace(hidden, "")).unwrap();
    }

    /// Writes Docker's configuration with the registry's password.
    fn docker_config(&self, folder: &Path) {
        use base64::Engine as _;
        use std::os::unix::fs::PermissionsExt as _;
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let config = serde_json::json!({"auths": {self.registry.host(): {"auth": auth}}});
        std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// True if the registry has a tag.
    fn has(&self, repository: &str, tag: &str) -> bool {
        let path = format!("/v2/{repository}/manifests/{tag}");
        let request = fixtures::http::Request {
            method: "GET",
            path: &path,
            media_type: "application/vnd.oci.image.manifest.v1+json",
            ..Default::default()
        };
        self.registry.send(&request).unwrap().status == 200
    }
}

/// In plain progress: the number of steps made from the Dockerfile's instructions, and the number
/// of those that are CACHED.
fn steps(log: &str) -> (usize, usize) {
    let (mut steps, mut cached) = (Vec::new(), Vec::new());
    for line in log.lines() {
        let Some(at) = line.find('#') else { continue };
        let Some((number, rest)) = line[at + 1..].split_once(' ') else { continue };
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let instruction =
            ["RUN ", "COPY ", "WORKDIR "].iter().any(|word| rest.contains(&format!("] {word}")));
        if rest.starts_with('[') && instruction && !steps.contains(&number) {
            steps.push(number);
        }
        if rest.trim_end() == "CACHED" {
            cached.push(number);
        }
    }
    let cached = steps.iter().filter(|number| cached.contains(number)).count();
    (steps.len(), cached)
}
