//! Clients of the Engine API that others wrote, from package registries: docker-py, dockerode, compose.
//!
//! Each builds, tags, pushes, pulls, inspects, lists, saves, loads and prunes, in a program of its own beside this file.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fixtures::docker_registry::{PASSWORD, USER};
use fixtures::{Access, DockerRegistry};
use tempfile::TempDir;

use crate::serve::Service;
use crate::{context_of, program, registry, text};

/// The versions from PyPI and npm.
const DOCKER_PY: &str = "docker==7.1.0";
const DOCKERODE: &str = "dockerode@5.0.1";

/// A service, a registry with a password, and a context.
struct Stage {
    service: Service,
    registry: DockerRegistry,
    context: TempDir,
}

impl Stage {
    fn new(test: &str) -> Option<Self> {
        let registry = registry(test, Access::Password)?;
        let dockerfile = format!(
            "FROM {}/library/busybox AS first\nARG WHO=nobody\nCOPY hello /hello\nENV WHO=$WHO\n\
             FROM first AS broken\nRUN exit 7\n",
            registry.host()
        );
        let context = context_of(&[
            ("Dockerfile", &dockerfile),
            ("Other.Dockerfile", "FROM scratch\nCOPY hello /other\n"),
            ("hello", "hi"),
        ]);
        Some(Self { service: Service::start(&[]), registry, context })
    }

    /// A client's program, with the service as its engine and nothing of this machine's docker.
    fn client(&self, program: &Path) -> Command {
        let home = self.context.path().join("home");
        std::fs::create_dir_all(&home).unwrap();
        let mut command = Command::new(program);
        command
            .env("DOCKER_HOST", format!("unix://{}", self.service.socket.display()))
            .env("HOME", &home)
            .env("DOCKER_CONFIG", home.join(".docker"))
            .stdin(Stdio::null());
        for name in ["DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_CONTEXT"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs a client to its end.
    fn run(&self, command: &mut Command) -> String {
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}\n{}", self.service.log());
        text
    }

    /// Runs a client's program, which prints `done` at its end.
    fn tell(&self, command: &mut Command) {
        let context = text(self.context.path());
        let args = [self.registry.host(), USER, PASSWORD, &context];
        let said = self.run(command.args(args));
        assert!(said.ends_with("done\n"), "{said}");
    }
}

/// A program beside this file.
fn source(name: &str) -> PathBuf {
    fixtures::source_tree().join("tests/it/engine_clients").join(name)
}

fn installs(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
}

#[test]
fn docker_py() {
    let test = "docker_py";
    let Some(stage) = Stage::new(test) else { return };
    let place = tempfile::tempdir().unwrap();
    if !installs(Command::new("python3").args(["-m", "venv"]).arg(place.path())) {
        return fixtures::skip(test, "no python3 with venv: `apt-get install python3-venv`");
    }
    let pip = place.path().join("bin/pip");
    let options = ["install", "--quiet", "--disable-pip-version-check", DOCKER_PY];
    if !installs(Command::new(pip).args(options)) {
        return fixtures::skip(test, format!("pip cannot install {DOCKER_PY}: no network?"));
    }
    stage.tell(stage.client(&place.path().join("bin/python")).arg(source("docker_py.py")));
}

#[test]
fn dockerode() {
    let test = "dockerode";
    let (Some(node), Some(npm)) = (program(test, "node"), program(test, "npm")) else { return };
    let Some(stage) = Stage::new(test) else { return };
    let place = tempfile::tempdir().unwrap();
    let options = ["install", "--silent", "--no-audit", "--no-fund", "--prefix"];
    if !installs(Command::new(npm).args(options).arg(place.path()).arg(DOCKERODE)) {
        return fixtures::skip(test, format!("npm cannot install {DOCKERODE}: no network?"));
    }
    let modules = place.path().join("node_modules");
    let mut client = stage.client(&node);
    stage.tell(client.env("NODE_PATH", modules).arg(source("dockerode.js")));
}

/// bollard, also with its client of BuildKit.
#[test]
fn bollard() {
    let test = "bollard";
    if !fixtures::is_root() {
        return fixtures::skip(test, "it needs root to read cargo's files");
    }
    let Some(stage) = Stage::new(test) else { return };
    let place = tempfile::tempdir().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["install", "--quiet", "--locked", "--debug", "--no-track", "--path"]);
    cargo.arg(source("bollard")).arg("--root").arg(place.path());
    cargo.arg("--target-dir").arg(place.path().join("target"));
    if !installs(&mut cargo) {
        return fixtures::skip(test, "cargo cannot build bollard: no network?");
    }
    stage.tell(&mut stage.client(&place.path().join("bin/bollard-client")));
}

#[test]
fn compose() {
    let test = "compose";
    let Some(compose) = program(test, "docker-compose") else { return };
    let Some(stage) = Stage::new(test) else { return };
    let folder = stage.context.path();
    let file = format!(
        "services:\n  app:\n    image: {0}/team/app:1\n    build:\n      context: .\n      target: first\n      \
         args: {{WHO: me}}\n  other:\n    image: {0}/team/other:1\n    build: {{context: ., dockerfile: Other.Dockerfile}}\n",
        stage.registry.host()
    );
    std::fs::write(folder.join("docker-compose.yml"), format!("version: '3.8'\n{file}")).unwrap();
    // docker's client keeps the login, and compose builds with it or by itself.
    let Some(docker) = crate::serve::classic_client(test) else { return };
    let login = ["login", "--username", USER, "--password", PASSWORD, stage.registry.host()];
    stage.run(stage.client(&docker).args(login));
    for (way, said) in [("0", "Successfully built"), ("1", "")] {
        let composed = |args: &[&str]| {
            let mut command = stage.client(&compose);
            command.current_dir(folder).env("COMPOSE_DOCKER_CLI_BUILD", way);
            stage.run(command.args(["--project-name", "team"]).args(args))
        };
        let built = composed(&["build"]);
        assert!(built.contains(said), "{built}");
        composed(&["push"]);
        let image = format!("/images/{}/team/app:1/json", stage.registry.host());
        let inspected = stage.service.json(&format!("GET {image}"));
        assert!(inspected["Config"]["Env"].to_string().contains("WHO=me"), "{inspected}");
        for name in ["app", "other"] {
            let name = format!("{}/team/{name}:1", stage.registry.host());
            assert_eq!(stage.service.ask(&format!("DELETE /images/{name}"), b"").0, 200);
        }
        composed(&["pull"]);
        assert_eq!(stage.service.json(&format!("GET {image}"))["Id"], inspected["Id"]);
    }
}
