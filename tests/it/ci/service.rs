//! `kiln:serve` in the place of `docker:dind`: pipelines with docker's own client, run twice in unprivileged containers. The
//! service is thrown away in between, so that the registry alone keeps what makes the second run warm.
//!
//! Each test runs in a network of its own with nothing but loopback, where the ports of a service are free.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fixtures::docker_registry::{PASSWORD, USER};
use fixtures::{Run, client_image, guide};
use saphyr::Yaml;
use tempfile::TempDir;

use super::guides::{environment, string, strings, yaml};
use super::{Ci, steps};
use crate::{root_or_skip, text};

/// Set in the run in a network of its own.
const INSIDE: &str = "KILN_TEST_OWN_NETWORK";
/// The time that a service has to start, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The image of jobs in the guides: docker's own client.
const CLIENT: &str = "docker:28";

/// Runs a test again in a network of its own; true in that run.
fn is_in_own_network(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if !root_or_skip(test) {
        return false;
    }
    let (Some(unshare), Some(busybox)) =
        (crate::program(test, "unshare"), crate::program(test, "busybox"))
    else {
        return false;
    };
    let (_, module) = module_path!().split_once("::").unwrap();
    let script = r#""$0" ip link set lo up && exec "$@""#;
    let status = Command::new(unshare)
        .args(["--net", "sh", "-c", script])
        .arg(busybox)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("{module}::{test}"), "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} in a network of its own: {status}");
    false
}

/// A runner with `kiln:serve` and docker's own client; none if the test is skipped.
fn runner(test: &str) -> Option<Ci> {
    let ci = Ci::new(test, "serve")?;
    match client_image::put(&ci.dockerd, CLIENT) {
        Ok(()) => {}
        Err(reason) if reason.to_string().contains("apt-get install") => {
            fixtures::skip(test, &reason);
            return None;
        }
        Err(reason) => panic!("{reason:#}"),
    }
    // Jobs of other users read it too.
    std::fs::set_permissions(ci.project.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    Some(ci)
}

/// Variables of a container.
type Variables = Vec<(String, String)>;

fn variables(pairs: &[(&str, &str)]) -> Variables {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A running service, removed when dropped.
struct Service<'c> {
    ci: &'c Ci,
    id: String,
}

impl<'c> Service<'c> {
    /// Starts it without privileges and waits until it listens.
    fn start(ci: &'c Ci, port: u16, environment: &Variables, flags: &[String]) -> Self {
        let mut args = vec!["run".to_owned(), "--detach".into(), "--network=host".into()];
        for (name, value) in environment {
            args.extend(["--env".into(), format!("{name}={value}")]);
        }
        args.extend_from_slice(flags);
        args.push("registry.example.com/kiln:serve".into());
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let run = ci.dockerd.docker(&args).expect_ok();
        let service = Self { ci, id: run.stdout.trim().to_owned() };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < PATIENCE, "it does not listen: {}", service.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        service
    }

    fn log(&self) -> String {
        let run = self.ci.dockerd.docker(&["logs", &self.id]);
        run.stdout + &run.stderr
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        drop(self.ci.dockerd.docker(&["rm", "--force", &self.id]));
    }
}

/// A job's container with docker's own client.
#[derive(Clone, Default)]
struct ClientJob {
    environment: Variables,
    flags: Vec<String>,
    script: String,
}

impl ClientJob {
    /// Runs it in the project's folder, with no mounts but that and what its flags have.
    fn run(&self, ci: &Ci) -> Run {
        let mut args = vec!["run".to_owned(), "--rm".into(), "--network=host".into()];
        args.push("--add-host=docker:127.0.0.1".into());
        args.push(format!("--volume={}:/builds", text(ci.project.path())));
        args.push("--workdir=/builds".into());
        args.push("--env=HOME=/tmp".into());
        for (name, value) in &self.environment {
            args.extend(["--env".into(), format!("{name}={value}")]);
        }
        args.extend(self.flags.clone());
        args.extend([CLIENT, "sh", "-euc", &self.script].map(str::to_owned));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        ci.dockerd.docker(&args)
    }

    /// Runs it with two services, one after the other; all steps of the second run are cached.
    #[track_caller]
    fn warm_the_second_time<'c>(&self, ci: &'c Ci, start: impl Fn() -> Service<'c>) {
        let once = || {
            let service = start();
            let run = self.run(ci);
            assert!(run.ok(), "{}\n{}\n{}", run.stdout, run.stderr, service.log());
            let log = run.stdout + &run.stderr;
            assert!(!(log.clone() + &service.log()).contains(PASSWORD), "the password is in a log");
            log
        };
        let log = once();
        assert_eq!(steps(&log).1, 0, "{log}");
        let log = once();
        let (steps, cached) = steps(&log);
        assert!(steps >= 3 && cached == steps, "{cached} of {steps} cached\n{log}");
    }
}

/// The variables that GitLab gives to a job.
fn gitlabs(ci: &Ci, project: &str) -> Variables {
    let host = ci.registry.host();
    variables(&[
        ("CI_REGISTRY", host),
        ("CI_REGISTRY_IMAGE", &format!("{host}/{project}")),
        ("CI_REGISTRY_USER", USER),
        ("CI_REGISTRY_PASSWORD", PASSWORD),
        ("CI_COMMIT_SHORT_SHA", "1234567"),
    ])
}

/// The variables of a job in a pipeline, with GitLab's put in.
fn own_variables(job: &Yaml<'_>, gitlabs: &Variables) -> Variables {
    let own = job["variables"].as_mapping().unwrap().iter();
    own.map(|(name, value)| {
        let put_in = |text: String, (name, value): &(String, String)| {
            text.replace(&format!("${{{name}}}"), value)
        };
        (string(name), gitlabs.iter().fold(string(value), put_in))
    })
    .collect()
}

/// Runs a pipeline of GitLab's guide with each builder of docker's client, which knows nothing of kiln.
fn pipeline(ci: &Ci, file: &str, port: u16, flags: &[String], user: &str) {
    let file = guide::file("gitlab.md", file);
    let file = yaml(&file);
    let job = &file["build"];
    assert_eq!(string(&job["image"]), CLIENT);
    assert_eq!(string(&job["services"][0]["name"]), "registry.example.com/kiln:serve");
    assert_eq!(string(&job["services"][0]["alias"]), "docker");
    let script = strings(job.as_mapping_get("script")).join("\n");
    for builder in ["1", "0"] {
        let project = format!("team{port}/app{builder}");
        let gitlabs = gitlabs(ci, &project);
        let own = own_variables(job, &gitlabs);
        // A runner gives a job's variables to its services too.
        let mut environment = [gitlabs, own.clone()].concat();
        environment.push(("DOCKER_BUILDKIT".into(), builder.into()));
        let user = format!("--user={user}");
        let job_flags = [flags, &[user]].concat();
        let job = ClientJob { environment, flags: job_flags, script: script.clone() };
        job.warm_the_second_time(ci, || Service::start(ci, port, &own, flags));
        assert!(ci.has(&project, "latest"), "`{project}` was not pushed");
    }
}

#[test]
fn the_pipeline_that_you_have_with_another_service() {
    let test = "the_pipeline_that_you_have_with_another_service";
    if !is_in_own_network(test) {
        return;
    }
    let Some(ci) = runner(test) else { return };
    pipeline(&ci, ".gitlab-ci.yml (service)", 2375, &[], "0");
    // The runner's volume, which outlives both services: the second finds the certificates of the first.
    let certificates = tempfile::tempdir().unwrap();
    std::fs::set_permissions(certificates.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let volume = format!("--volume={}:/certs/client", text(certificates.path()));
    pipeline(&ci, ".gitlab-ci.yml (service with TLS)", 2376, &[volume], "1000");
    with_tls_strangers_get_nothing(&ci);
}

fn with_tls_strangers_get_nothing(ci: &Ci) {
    let service = Service::start(ci, 2376, &Variables::new(), &[]);
    let script = "docker version && exit 1
        docker --tls version && exit 1
        docker --host=tcp://docker:2375 version && exit 1
        true";
    let job = ClientJob {
        environment: variables(&[("DOCKER_HOST", "tcp://docker:2376")]),
        script: script.to_owned(),
        ..ClientJob::default()
    };
    let run = job.run(ci);
    assert!(run.ok(), "{}\n{}", run.stdout, service.log());
    assert!(!run.stdout.contains("Server:"), "{}", run.stdout);
}

#[test]
fn a_sidecar_of_tekton() {
    let test = "a_sidecar_of_tekton";
    if !is_in_own_network(test) {
        return;
    }
    let Some(ci) = runner(test) else { return };
    let image = format!("{}/team/app", ci.registry.host());
    let file =
        guide::file("tekton.md", "task-with-sidecar.yaml").replace("$(params.IMAGE)", &image);
    let file = yaml(&file);
    let (sidecar, step) = (&file["spec"]["sidecars"][0], &file["spec"]["steps"][0]);
    assert_eq!(string(&sidecar["image"]), "registry.example.com/kiln:serve");
    assert_eq!(string(&step["image"]), CLIENT);
    let (certificates, config) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    ci.docker_config(config.path());
    let volume = |place: &TempDir, name: &str| format!("--volume={}:{name}", text(place.path()));
    let job = ClientJob {
        environment: environment(step.as_mapping_get("env")),
        flags: vec![volume(&certificates, "/certs:ro"), volume(&config, "/docker-config")],
        script: string(&step["script"]),
    };
    let own = environment(sidecar.as_mapping_get("env"));
    let probe = strings(Some(&sidecar["readinessProbe"]["exec"]["command"]));
    job.warm_the_second_time(&ci, || {
        let service = Service::start(&ci, 2376, &own, &[volume(&certificates, "/certs")]);
        let probe: Vec<&str> = probe.iter().map(String::as_str).collect();
        ci.dockerd.docker(&[&["exec", &service.id], &probe[..]].concat()).expect_ok();
        service
    });
    assert!(ci.has("team/app", "latest"));
}

#[test]
fn a_service_of_a_cluster() {
    let test = "a_service_of_a_cluster";
    if !is_in_own_network(test) {
        return;
    }
    let Some(ci) = runner(test) else { return };
    let deployment = guide::file("kubernetes.md", "kiln-serve.yaml");
    let deployment = yaml(deployment.split("\n---\n").next().unwrap());
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(string(&container["image"]), "registry.example.com/kiln:serve");
    let job = guide::file("kubernetes.md", "job-with-service.yaml")
        .replace("registry.example.com/team", &format!("{}/team", ci.registry.host()));
    let job = yaml(&job);
    let job = &job["spec"]["containers"][0];
    assert_eq!(strings(job.as_mapping_get("command")), ["sh", "-euc"]);

    let secrets = tempfile::tempdir().unwrap();
    let names = [("DOCKER_TLS_SAN".to_owned(), "DNS:kiln.builds.svc".to_owned())];
    let made = format!("--volume={}:/certs", text(secrets.path()));
    // In the place of a cluster's authority: certificates for the service and for its clients.
    drop(Service::start(&ci, 2376, &names.to_vec(), &[made]));
    let secret =
        |name: &str| format!("--volume={}:/certs/{name}:ro", text(&secrets.path().join(name)));
    let config = tempfile::tempdir().unwrap();
    ci.docker_config(config.path());
    let job = ClientJob {
        environment: environment(job.as_mapping_get("env")),
        flags: vec![
            secret("client"),
            format!("--volume={}:/docker-config", text(config.path())),
            format!("--volume={}:/workspace", text(ci.project.path())),
            "--add-host=kiln.builds.svc:127.0.0.1".into(),
        ],
        script: strings(job.as_mapping_get("args")).remove(0),
    };
    let own = environment(container.as_mapping_get("env"));
    job.warm_the_second_time(&ci, || Service::start(&ci, 2376, &own, &[secret("server")]));
    assert!(ci.has("team/app", "latest"));
}

#[test]
fn a_service_of_jenkins() {
    let test = "a_service_of_jenkins";
    if !is_in_own_network(test) {
        return;
    }
    let Some(ci) = runner(test) else { return };
    let file = guide::file("jenkins.md", "Jenkinsfile (service)");
    assert!(file.contains("withRun('-e DOCKER_TLS_CERTDIR=')"), "{file}");
    let host = ci.registry.host();
    let job = ClientJob {
        environment: variables(&[
            ("DOCKER_HOST", "tcp://docker:2375"),
            ("REGISTRY", host),
            ("IMAGE", &format!("{host}/team/app")),
            ("LOGIN_USR", USER),
            ("LOGIN_PSW", PASSWORD),
        ]),
        script: file.split("'''").nth(1).unwrap().to_owned(),
        ..ClientJob::default()
    };
    let own = variables(&[("DOCKER_TLS_CERTDIR", "")]);
    job.warm_the_second_time(&ci, || Service::start(&ci, 2375, &own, &[]));
    assert!(ci.has("team/app", "latest"));
}

#[test]
fn dockers_clients_in_github_actions() {
    let test = "dockers_clients_in_github_actions";
    if !is_in_own_network(test) {
        return;
    }
    let Some(ci) = runner(test) else { return };
    let file = guide::file("github-actions.md", ".github/workflows/build.yml (docker clients)");
    let file = yaml(&file);
    let steps = file["jobs"]["build"]["steps"].as_sequence().unwrap();
    let script = |wanted: &str| {
        let is_wanted =
            |step: &&Yaml<'_>| step.as_mapping_get("name").is_some_and(|n| string(n) == wanted);
        string(&steps.iter().find(is_wanted).unwrap()["run"])
    };
    // The runner reads the variables of one step for the next.
    let (start, build) = (script("Start kiln"), script("Build"));
    let script = format!(
        "{start}\nunset DOCKER_HOST\nset -a\n. \"$GITHUB_ENV\"\nset +a\n{build}\ncat \"$RUNNER_TEMP/kiln.log\""
    );
    let host = ci.registry.host();
    let environment = variables(&[
        ("REGISTRY", host),
        ("IMAGE", &format!("{host}/team/app")),
        ("PASSWORD", PASSWORD),
        ("GITHUB_ACTOR", USER),
        ("GITHUB_ENV", "/tmp/env"),
        ("RUNNER_TEMP", "/tmp"),
    ]);
    let kiln = Path::new(env!("CARGO_BIN_EXE_kiln"));
    let flags = vec![format!("--volume={}:/usr/local/bin/kiln:ro", text(kiln))];
    let job = ClientJob { environment, flags, script };
    for expected in [0, 4] {
        let run = job.run(&ci);
        assert!(run.ok(), "{}\n{}", run.stdout, run.stderr);
        let log = run.stdout + &run.stderr;
        assert!(log.contains("API listen on unix:///run/kiln/kiln.sock"), "{log}");
        assert_eq!(super::steps(&log).1.min(4), expected, "{log}");
    }
}
