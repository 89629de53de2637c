//! The files shown in the guides, run unchanged except for names, addresses and passwords.

use fixtures::docker_registry::{PASSWORD, USER};
use fixtures::guide;
use saphyr::{LoadableYamlNode as _, Yaml};

use super::{Ci, steps};
use crate::text;

/// Files that other tests run.
const ELSEWHERE: &[(&str, &str)] = &[
    ("gitlab.md", ".gitlab-ci.yml"),
    ("gitlab.md", ".gitlab-ci.yml (cache refs)"),
    ("gitlab.md", ".gitlab-ci.yml (service)"),
    ("gitlab.md", ".gitlab-ci.yml (service with TLS)"),
    ("github-actions.md", ".github/workflows/build.yml (docker clients)"),
    ("jenkins.md", "Jenkinsfile (service)"),
    ("kubernetes.md", "job-with-service.yaml"),
    ("kubernetes.md", "kiln-serve.yaml"),
    ("systemd.md", "kiln.service"),
    ("systemd.md", "kiln.socket"),
    ("tekton.md", "task-with-sidecar.yaml"),
    ("from-kaniko.md", ".gitlab-ci.yml"),
];

/// Files that are run here.
const HERE: &[(&str, &str)] = &[
    ("from-buildah.md", "build.sh"),
    ("from-docker-in-docker.md", "build.sh"),
    ("from-makisu.md", "build.sh"),
    ("from-makisu.md", "registry.yaml"),
    ("github-actions.md", ".github/workflows/build.yml"),
    ("jenkins.md", "Jenkinsfile"),
    ("kubernetes.md", "openshift-pod.yaml"),
    ("kubernetes.md", "pod.yaml"),
    ("kubernetes.md", "restricted-pod.yaml"),
    ("tekton.md", "task.yaml"),
];

#[test]
fn no_file_of_a_guide_is_left_out() {
    let shown = guide::files();
    let mut shown: Vec<_> = shown.iter().map(|file| (&*file.guide, &*file.name)).collect();
    let mut known = [ELSEWHERE, HERE].concat();
    shown.sort_unstable();
    known.sort_unstable();
    assert_eq!(shown, known);
}

/// A job's container.
#[derive(Default)]
struct Job {
    target: &'static str,
    environment: Vec<(String, String)>,
    flags: Vec<String>,
    command: Vec<String>,
}

impl Job {
    /// A job that runs a script with `sh`.
    fn script(text: &str, environment: &[(&str, &str)]) -> Self {
        Self {
            target: "ci",
            environment: environment.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect(),
            flags: Vec::new(),
            command: ["sh", "-euc", text].map(str::to_owned).to_vec(),
        }
    }

    /// Runs it with Docker's default profile and returns its output.
    #[track_caller]
    fn run(&self, ci: &Ci) -> String {
        let config = tempfile::tempdir().unwrap();
        ci.docker_config(config.path());
        let mut args = vec!["run".to_owned(), "--rm".into(), "--network=host".into()];
        for (name, value) in &self.environment {
            args.extend(["--env".into(), format!("{name}={value}")]);
        }
        let project = text(ci.project.path());
        args.push(format!("--volume={project}:/workspace"));
        args.push("--workdir=/workspace".into());
        for place in ["/docker-config", "/kaniko/.docker"] {
            args.push(format!("--volume={}:{place}", text(config.path())));
        }
        args.extend(self.flags.clone());
        args.push(format!("registry.example.com/kiln:{}", self.target));
        args.extend(self.command.clone());
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let run = ci.dockerd.docker(&args).expect_ok();
        assert!(!run.stderr.contains(PASSWORD), "the password is in the log");
        run.stderr + &run.stdout
    }

    /// Runs it in two containers; all steps of the second run are cached.
    #[track_caller]
    fn warm_the_second_time(&self, ci: &Ci) {
        let log = self.run(ci);
        assert_eq!(steps(&log).1, 0, "{log}");
        let log = self.run(ci);
        let (steps, cached) = steps(&log);
        assert!(steps >= 5 && cached == steps, "{cached} of {steps} cached\n{log}");
    }
}

pub(super) fn yaml(text: &str) -> Yaml<'_> {
    Yaml::load_from_str(text).unwrap().remove(0)
}

pub(super) fn string(node: &Yaml<'_>) -> String {
    node.as_str()
        .map(str::to_owned)
        .or_else(|| node.as_integer().map(|number| number.to_string()))
        .unwrap_or_else(|| panic!("{node:?} is no text"))
}

pub(super) fn strings(node: Option<&Yaml<'_>>) -> Vec<String> {
    node.and_then(Yaml::as_sequence).into_iter().flatten().map(string).collect()
}

/// The `name` and `value` entries of a list.
pub(super) fn environment(node: Option<&Yaml<'_>>) -> Vec<(String, String)> {
    let entries = node.and_then(Yaml::as_sequence).into_iter().flatten();
    entries.map(|entry| (string(&entry["name"]), string(&entry["value"]))).collect()
}

#[test]
fn github_actions() {
    let Some(ci) = Ci::new("github_actions", "ci") else { return };
    let file = guide::file("github-actions.md", ".github/workflows/build.yml");
    let file = yaml(&file);
    let steps = file["jobs"]["build"]["steps"].as_sequence().unwrap();
    let is_build =
        |step: &&Yaml<'_>| step.as_mapping_get("name").is_some_and(|n| string(n) == "Build");
    let build = steps.iter().find(is_build).unwrap();
    let host = ci.registry.host();
    let image = format!("{host}/team/app");
    let environment = [
        ("REGISTRY", host),
        ("IMAGE", &image),
        ("PASSWORD", PASSWORD),
        ("GITHUB_ACTOR", USER),
        ("GITHUB_SHA", "1234567"),
    ];
    Job::script(&string(&build["run"]), &environment).warm_the_second_time(&ci);
    assert!(ci.has("team/app", "1234567"));
}

#[test]
fn jenkins() {
    let Some(ci) = Ci::new("jenkins", "ci") else { return };
    let file = guide::file("jenkins.md", "Jenkinsfile");
    let script = file.split("'''").nth(1).unwrap();
    let host = ci.registry.host();
    let image = format!("{host}/team/app");
    let environment = [
        ("REGISTRY", host),
        ("IMAGE", &image),
        ("LOGIN_USR", USER),
        ("LOGIN_PSW", PASSWORD),
        ("BUILD_NUMBER", "17"),
    ];
    Job::script(script, &environment).warm_the_second_time(&ci);
    assert!(ci.has("team/app", "17"));
}

#[test]
fn tekton() {
    let Some(ci) = Ci::new("tekton", "ci") else { return };
    let host = ci.registry.host();
    let file = guide::file("tekton.md", "task.yaml")
        .replace("$(params.IMAGE)", &format!("{host}/team/app:1"))
        .replace("$(params.CACHE)", &format!("{host}/team/app:cache"))
        .replace("$(results.IMAGE_DIGEST.path)", "/workspace/digest");
    let file = yaml(&file);
    let step = &file["spec"]["steps"][0];
    let mut job = Job::script(&string(&step["script"]), &[]);
    job.environment = environment(step.as_mapping_get("env"));
    job.warm_the_second_time(&ci);
    let digest = std::fs::read_to_string(ci.project.path().join("digest")).unwrap();
    assert!(digest.starts_with("sha256:") && digest.len() == 71, "{digest:?}");
    assert!(ci.has("team/app", &digest));
}

/// A pod's container, without the privileges that its security contexts drop.
fn pod(ci: &Ci, name: &str) -> Job {
    let text = guide::file("kubernetes.md", name)
        .replace("registry.example.com/team", &format!("{}/team", ci.registry.host()));
    let file = yaml(&text);
    let pod = &file["spec"];
    let container = &pod["containers"][0];
    let image = string(&container["image"]);
    let target = match image.strip_prefix("registry.example.com/kiln:") {
        Some("ci") => "ci",
        Some("executor") => "executor",
        _ => panic!("`{image}` is no image of kiln"),
    };
    let mut flags = Vec::new();
    if let Some(user) = pod
        .as_mapping_get("securityContext")
        .and_then(|context| context.as_mapping_get("runAsUser"))
    {
        flags.push(format!("--user={}", string(user)));
    }
    if let Some(context) = container.as_mapping_get("securityContext") {
        if context["allowPrivilegeEscalation"].as_bool() == Some(false) {
            flags.push("--security-opt=no-new-privileges".into());
        }
        let dropped = strings(context["capabilities"].as_mapping_get("drop"));
        flags.extend(dropped.iter().map(|name| format!("--cap-drop={name}")));
    }
    let mut command = strings(container.as_mapping_get("command"));
    if !command.is_empty() {
        flags.push(format!("--entrypoint={}", command.remove(0)));
    }
    command.extend(strings(container.as_mapping_get("args")));
    Job { target, environment: environment(container.as_mapping_get("env")), flags, command }
}

#[test]
fn a_plain_pod() {
    let Some(ci) = Ci::new("a_plain_pod", "executor") else { return };
    pod(&ci, "pod.yaml").warm_the_second_time(&ci);
    assert!(ci.has("team/app", "1"));
}

#[test]
fn a_restricted_pod() {
    let Some(ci) = Ci::new("a_restricted_pod", "ci") else { return };
    ci.without_run();
    pod(&ci, "restricted-pod.yaml").run(&ci);
    assert!(ci.has("team/app", "1"));
}

#[test]
fn a_pod_of_openshift() {
    let Some(ci) = Ci::new("a_pod_of_openshift", "ci") else { return };
    ci.beside_kiln();
    let mut job = pod(&ci, "openshift-pod.yaml");
    // The capabilities that CRI-O gives to root in a container.
    job.flags.push("--cap-drop=ALL".into());
    for name in [
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "KILL",
    ] {
        job.flags.push(format!("--cap-add={name}"));
    }
    job.warm_the_second_time(&ci);
    assert!(ci.has("team/app", "1"));
}

/// A script of a guide, with the environment of a GitLab job.
fn script(ci: &Ci, guide: &str, more: &[(&str, &str)]) -> Job {
    let host = ci.registry.host();
    let image = format!("{host}/team/app");
    let mut environment = vec![
        ("REGISTRY", host),
        ("USERNAME", USER),
        ("PASSWORD", PASSWORD),
        ("CI_REGISTRY", host),
        ("CI_REGISTRY_IMAGE", &image),
        ("CI_REGISTRY_USER", USER),
        ("CI_REGISTRY_PASSWORD", PASSWORD),
        ("CI_COMMIT_SHA", "1234567"),
    ];
    environment.extend(more);
    Job::script(&guide::file(guide, "build.sh"), &environment)
}

#[test]
fn docker_in_docker() {
    let Some(ci) = Ci::new("docker_in_docker", "ci") else { return };
    script(&ci, "from-docker-in-docker.md", &[]).warm_the_second_time(&ci);
    assert!(ci.has("team/app", "1234567") && ci.has("team/app", "latest"));
}

#[test]
fn buildah() {
    let Some(ci) = Ci::new("buildah", "ci") else { return };
    script(&ci, "from-buildah.md", &[]).warm_the_second_time(&ci);
    assert!(ci.has("team/app", "1"));
}

/// Debian's `redis-server` on a free port, stopped when dropped.
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
fn makisu() {
    let Some(redis) = Redis::start("makisu") else { return };
    let Some(ci) = Ci::new("makisu", "ci") else { return };
    let config = tempfile::tempdir().unwrap();
    let file = guide::file("from-makisu.md", "registry.yaml")
        .replace("registry.example.com", &format!("\"{}\"", ci.registry.host()));
    std::fs::write(config.path().join("registry.yaml"), file).unwrap();
    std::fs::write(config.path().join("password"), PASSWORD).unwrap();
    let mut job = script(&ci, "from-makisu.md", &[("REDIS", &redis.address)]);
    // The credentials must come from makisu's own file.
    job.environment.push(("DOCKER_CONFIG".into(), "/nowhere".into()));
    for (name, place) in
        [("registry.yaml", "/registry.yaml"), ("password", "/run/secrets/registry")]
    {
        job.flags.push(format!("--volume={}:{place}", text(&config.path().join(name))));
    }
    job.warm_the_second_time(&ci);
    assert!(ci.has("team/app", "1"));
}
