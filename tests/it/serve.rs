//! `kiln serve`: HTTP over a Unix socket, and Debian's docker client.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fixtures::{Access, DockerRegistry, Kiln};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::{context_of, kiln, program, registry};

/// The time that a service has for what it should do at once, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A service on a socket of its own, ended when dropped.
pub struct Service {
    pub child: Child,
    pub socket: PathBuf,
    _folder: TempDir,
    pub kiln: Kiln,
}

impl Service {
    pub fn start(args: &[&str]) -> Self {
        let kiln = kiln();
        let folder = tempfile::Builder::new().prefix("ks-").tempdir_in("/tmp").unwrap();
        let socket = folder.path().join("sock");
        let mut words = vec!["serve".to_owned(), format!("--addr=unix://{}", socket.display())];
        words.extend(args.iter().map(|arg| (*arg).to_owned()));
        let mut command = kiln.command(&words);
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap();
        let service = Self { child, socket, _folder: folder, kiln };
        let begun = Instant::now();
        while UnixStream::connect(&service.socket).is_err() {
            assert!(begun.elapsed() < PATIENCE, "the service does not listen: {}", service.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        service
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self._folder.path().join("log")).unwrap_or_default()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// The answer to a request: its status and body.
    pub fn ask(&self, head: &str, body: &[u8]) -> (u16, String) {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        let head = format!(
            "{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    pub fn json(&self, head: &str) -> Value {
        let (status, body) = self.ask(head, b"");
        assert_eq!(status, 200, "{head}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Docker's client for the service.
    pub fn client(&self, client: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(client);
        command
            .args(args)
            .env("DOCKER_HOST", format!("unix://{}", self.socket.display()))
            .env("DOCKER_BUILDKIT", "0")
            .env("HOME", self.kiln.home())
            .env("DOCKER_CONFIG", self.kiln.home().join("docker-client"))
            .stdin(Stdio::null());
        command
    }

    /// Runs docker's client against the service; standard output and error.
    pub fn docker(&self, client: &Path, args: &[&str]) -> (bool, String) {
        let output = self.client(client, args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    }

    pub fn docker_ok(&self, client: &Path, args: &[&str]) -> String {
        let (is_ok, text) = self.docker(client, args);
        assert!(is_ok, "docker {args:?}: {text}\n{}", self.log());
        text
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A tar with these files.
pub fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, text) in files {
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000644");
        header[108..115].copy_from_slice(b"0000000");
        header[116..123].copy_from_slice(b"0000000");
        header[124..135].copy_from_slice(format!("{:011o}", text.len()).as_bytes());
        header[136..147].copy_from_slice(b"00000000000");
        header[156] = b'0';
        header[257..263].copy_from_slice(b"ustar\0");
        header[263..265].copy_from_slice(b"00");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend(header);
        archive.extend(text.as_bytes());
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

#[test]
fn a_classic_build_is_kept_named_and_removed() {
    let service = Service::start(&[]);
    assert_eq!(service.ask("GET /_ping", b""), (200, "OK".to_owned()));
    assert_eq!(service.json("GET /v1.24/images/json"), serde_json::json!([]));
    let files = [("Dockerfile", "FROM scratch\nCOPY hello /\nLABEL a=b\n"), ("hello", "hi")];
    let (status, built) = service.ask("POST /v1.41/build?t=app:1&rm=1&memory=0", &archive(&files));
    assert_eq!(status, 200, "{built}");
    for part in ["Successfully built ", "Successfully tagged app:1", r#""aux":{"ID":"sha256:"#] {
        assert!(built.contains(part), "{part}: {built}");
    }
    let images = service.json("GET /images/json?filters=%7B%22label%22%3A%5B%22a%3Db%22%5D%7D");
    assert_eq!(images[0]["RepoTags"][0], "app:1");
    assert_eq!(images[0]["Labels"]["a"], "b");
    let (status, _) = service.ask("POST /images/app:1/tag?repo=other&tag=2", b"");
    assert_eq!(status, 201);
    let inspected = service.json("GET /images/other:2/json");
    assert_eq!(inspected["Id"], images[0]["Id"]);
    assert_eq!(inspected["RepoTags"], serde_json::json!(["app:1", "other:2"]));
    let history = service.json("GET /images/app:1/history");
    assert_eq!(history[0]["Id"], images[0]["Id"]);
    // The service and the commands share the root.
    assert!(service.kiln.run(["images"]).expect_ok().stdout.contains("other"));
    let removed = service.ask("DELETE /images/app:1", b"").1;
    assert!(removed.contains(r#""Untagged":"app:1""#), "{removed}");
    let (status, missing) = service.ask("GET /images/app:1/json", b"");
    assert!(status == 404 && missing.contains("No such image: app:1"), "{missing}");
}

#[test]
fn a_request_reads_nothing_of_the_machine() {
    let service = Service::start(&[]);
    for (parameter, text) in [
        ("remote=/etc", "a repository or a download"),
        ("cachefrom=%5B%22type%3Dlocal%2Csrc%3D%2Fetc%22%5D", "cachefrom"),
        ("dockerfile=../../etc/passwd", "passwd"),
    ] {
        let context = archive(&[("Dockerfile", "FROM scratch\n")]);
        let (status, answer) = service.ask(&format!("POST /build?{parameter}"), &context);
        assert!(answer.contains(text), "{parameter}: {answer}");
        assert!(status == 400 || answer.contains("errorDetail"), "{parameter}: {answer}");
    }
    // A build argument without a value is not the service's own variable.
    let context = archive(&[("Dockerfile", "FROM scratch\nARG HOME=none\nLABEL home=$HOME\n")]);
    let arguments = "buildargs=%7B%22HOME%22%3Anull%7D";
    let (_, built) = service.ask(&format!("POST /build?t=app&{arguments}"), &context);
    assert!(built.contains("Successfully built"), "{built}");
    assert_eq!(service.json("GET /images/app/json")["Config"]["Labels"]["home"], "none");
}

#[test]
fn a_stopped_service_ends_and_removes_its_socket() {
    let mut service = Service::start(&["--shutdown-timeout=1s"]);
    // A connection that asks for nothing does not hold the service up.
    let silent = UnixStream::connect(&service.socket).unwrap();
    service.signal(Signal::TERM);
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = service.child.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < PATIENCE, "it goes on");
        std::thread::sleep(Duration::from_millis(20));
    };
    drop(silent);
    assert!(status.success() && !service.socket.exists(), "{status}");
}

#[test]
fn an_idle_service_ends() {
    let mut service = Service::start(&["--idle-timeout=0.2s"]);
    let begun = Instant::now();
    while service.child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < PATIENCE, "it goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn half_open_connections_do_not_keep_others_out() {
    let service = Service::start(&[]);
    let silent: Vec<UnixStream> =
        (0..400).filter_map(|_| UnixStream::connect(&service.socket).ok()).collect();
    let partial = UnixStream::connect(&service.socket).and_then(|mut stream| {
        stream.write_all(b"GET /_ping HTTP/1.1\r\n")?;
        Ok(stream)
    });
    assert_eq!(service.ask("GET /_ping", b""), (200, "OK".to_owned()));
    drop((silent, partial));
}

/// Docker's client that builds in both ways by itself; a skip where there is another one.
pub fn classic_client(test: &str) -> Option<PathBuf> {
    program(test, "docker")?;
    let debian = PathBuf::from("/usr/bin/docker");
    let client = if debian.exists() { debian } else { fixtures::program("docker")? };
    let version = Command::new(&client).arg("--version").output().unwrap();
    if !String::from_utf8_lossy(&version.stdout).contains(" 20.10.") {
        fixtures::skip(test, "docker's client is not 20.10, which needs no buildx");
        return None;
    }
    Some(client)
}

#[test]
fn a_session_has_files_secrets_and_outputs() {
    let test = "a_session_has_files_secrets_and_outputs";
    let Some(client) = classic_client(test) else { return };
    let Some(registry) = registry(test, Access::Open) else { return };
    let service = Service::start(&[]);
    let dockerfile = format!(
        "FROM {}/library/busybox\nCOPY hello /\n\
         RUN --mount=type=secret,id=s cat /run/secrets/s /hello > /out\n",
        registry.host()
    );
    let context =
        context_of(&[("Dockerfile", &dockerfile), ("hello", "hi"), ("secret", "s3cret ")]);
    let path = |name: &str| context.path().join(name).display().to_string();
    let (secret, output) = (format!("id=s,src={}", path("secret")), path("result"));
    let folder = context.path().display().to_string();
    let build = |more: &[&str]| {
        let args = [&["build", "--secret", &secret, &folder][..], more].concat();
        let output = service.client(&client, &args).env("DOCKER_BUILDKIT", "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}\n{}", service.log());
        text
    };
    let built = build(&["-t", "app:1"]);
    assert!(built.contains("3/3] RUN") && !built.contains("s3cret"), "{built}");
    assert!(build(&["-t", "app:2"]).contains("CACHED"));
    assert!(service.docker_ok(&client, &["images"]).contains("app"));
    build(&["-o", &output]);
    let written = std::fs::read_to_string(context.path().join("result/out")).unwrap();
    assert_eq!(written, "s3cret hi");
}

#[test]
fn a_client_that_vanishes_ends_its_command() {
    let test = "a_client_that_vanishes_ends_its_command";
    let Some(client) = classic_client(test) else { return };
    let Some(registry) = registry(test, Access::Open) else { return };
    let service = Service::start(&[]);
    // A number of its own, so that no other test's command is taken for this one's.
    let seconds = 90_000 + std::process::id() % 9_000;
    let dockerfile = format!("FROM {}/library/busybox\nRUN sleep {seconds}\n", registry.host());
    let context = context_of(&[("Dockerfile", &dockerfile)]);
    let folder = context.path().display().to_string();
    let is_running = || {
        let wanted = format!("sleep\0{seconds}\0");
        std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == wanted.as_bytes())
        })
    };
    let wait_until = |what: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !what() {
            assert!(begun.elapsed() < PATIENCE, "it does not come to that: {}", service.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    for way in ["0", "1"] {
        let mut command = service.client(&client, &["build", &folder]);
        command.env("DOCKER_BUILDKIT", way).stdout(Stdio::null()).stderr(Stdio::null());
        let mut running = command.spawn().unwrap();
        wait_until(&is_running);
        running.kill().unwrap();
        running.wait().unwrap();
        wait_until(&|| !is_running());
    }
}

#[test]
fn dockers_client_builds_pushes_pulls_saves_and_prunes() {
    let test = "dockers_client_builds_pushes_pulls_saves_and_prunes";
    let Some(client) = classic_client(test) else { return };
    let Some(registry) = registry(test, Access::Open) else { return };
    let service = Service::start(&[]);
    let name = format!("{}/app:1", registry.host());
    client_story(&service, &client, &registry, &name);
}

fn client_story(service: &Service, client: &Path, registry: &DockerRegistry, name: &str) {
    let docker = |args: &[&str]| service.docker_ok(client, args);
    let base = format!("{}/library/busybox", registry.host());
    let dockerfile = format!("FROM {base}\nARG WHO=nobody\nCOPY hello /hello\nENV WHO=$WHO\n");
    let context = context_of(&[("Dockerfile", &dockerfile), ("hello", "hi")]);
    let folder = context.path().display().to_string();
    let built = docker(&["build", "-t", name, "--build-arg", "WHO=me", &folder]);
    assert!(built.contains("Successfully built") && built.contains(name), "{built}");
    assert!(docker(&["images"]).contains("app"));
    let environment = docker(&["inspect", "--format", "{{.Config.Env}}", name]);
    assert!(environment.contains("WHO=me"), "{environment}");
    assert!(docker(&["history", name]).contains("COPY hello"));
    docker(&["tag", name, "other:2"]);
    let pushed = docker(&["push", name]);
    assert!(pushed.contains("digest: sha256:"), "{pushed}");
    let archive = context.path().join("saved.tar").display().to_string();
    docker(&["save", "-o", &archive, "other:2"]);
    docker(&["rmi", name, "other:2"]);
    let (is_ok, gone) = service.docker(client, &["inspect", name]);
    assert!(!is_ok && gone.contains("No such"), "{gone}");
    let loaded = docker(&["load", "-i", &archive]);
    assert!(loaded.contains("Loaded image: other:2"), "{loaded}");
    let pulled = docker(&["pull", name]);
    assert!(pulled.contains("Status: "), "{pulled}");
    docker(&["system", "df"]);
    docker(&["version"]);
    assert!(docker(&["info"]).contains("kiln"));
    docker(&["image", "prune", "-f"]);
    docker(&["system", "prune", "-f"]);
    assert_eq!(docker(&["run", "--rm", name, "cat", "/hello"]), "hi");
}
