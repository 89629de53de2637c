//! A cache in an S3 bucket of a real server: moto's, from PyPI.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fixtures::Access;

use crate::{copy_of, kiln, registry, text};

const SECRET: &str = "loopback-only-secret";

/// A running server, stopped when dropped.
struct Moto {
    child: Child,
    address: String,
}

impl Moto {
    /// Installs it into a folder and starts it; `None` if the test is skipped.
    fn start(test: &str, folder: &Path) -> Option<Self> {
        let skip = |reason: &str| {
            fixtures::skip(test, reason);
            None
        };
        let done = |command: &mut Command| {
            command.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
        };
        if !done(Command::new("python3").args(["-m", "venv"]).arg(folder)) {
            return skip("no python3 with venv: `apt-get install python3-venv`");
        }
        let pip = folder.join("bin/pip");
        if !done(Command::new(pip).args(["install", "--quiet", "moto[server,s3]"])) {
            return skip("pip cannot install moto: no network?");
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let child = Command::new(folder.join("bin/moto_server"))
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, address };
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(&server.address).is_err() {
            assert!(Instant::now() < deadline, "moto does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        let path = "/team-cache";
        let request =
            fixtures::http::Request { method: "PUT", path, ..fixtures::http::Request::default() };
        assert_eq!(fixtures::http::send(&server.address, &request).unwrap().status, 200);
        Some(server)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_bucket_is_warm_for_the_next_machine() {
    let test = "a_bucket_is_warm_for_the_next_machine";
    let Some(registry) = registry(test, Access::Open) else { return };
    let place = tempfile::tempdir().unwrap();
    let Some(moto) = Moto::start(test, &place.path().join("moto")) else { return };
    let shop = place.path().join("shop");
    copy_of("examples/shop", &shop);
    let kiln = kiln();
    let bucket = format!(
        "type=s3,bucket=team-cache,region=us-east-1,name=shop,endpoint_url=http://{},use_path_style=true",
        moto.address
    );
    let build = || {
        kiln.empty_root();
        let mut command = kiln.command([
            "build".to_owned(),
            "--progress=plain".to_owned(),
            format!("--build-arg=REGISTRY={}", registry.host()),
            format!("--cache-from={bucket}"),
            format!("--cache-to={bucket},mode=max"),
            "--output=type=cacheonly".to_owned(),
            text(&shop),
        ]);
        command.env("AWS_ACCESS_KEY_ID", "kiln").env("AWS_SECRET_ACCESS_KEY", SECRET);
        fixtures::kiln::finish(command, b"").expect_ok()
    };
    let cold = build();
    assert_eq!(cold.count("CACHED"), 0, "{}", cold.stderr);
    let warm = build();
    assert!(warm.stderr.contains("12 steps cached, none ran"), "{}", warm.stderr);
    assert!(!format!("{}{}", cold.stderr, warm.stderr).contains(SECRET));
    a_context_in_a_bucket(&moto, place.path());
}

/// Tests kaniko's `--context=s3://…`.
fn a_context_in_a_bucket(moto: &Moto, place: &Path) {
    let context =
        crate::context_of(&[("Dockerfile", "FROM scratch\nCOPY a.txt /\n"), ("a.txt", "a\n")]);
    let archive = place.join("context.tar.gz");
    let (file, folder) = (text(&archive), text(context.path()));
    let made = Command::new("tar").args(["-czf", &file, "-C", &folder, "."]).status();
    assert!(made.unwrap().success());
    let bytes = std::fs::read(&archive).unwrap();
    let path = "/team-cache/jobs/context.tar.gz";
    let request =
        fixtures::http::Request { method: "PUT", path, body: &bytes, ..Default::default() };
    assert_eq!(fixtures::http::send(&moto.address, &request).unwrap().status, 200);
    let kiln = kiln();
    let tar = kiln.home().join("image.tar");
    let build = |object: &str| {
        let context = format!("--context=s3://team-cache/{object}");
        let path = format!("--tar-path={}", text(&tar));
        let mut command = kiln.command(["kaniko", &context, "--no-push", "-d", "app", &path]);
        command.env("AWS_ACCESS_KEY_ID", "kiln").env("AWS_SECRET_ACCESS_KEY", SECRET);
        command.env("S3_ENDPOINT", format!("http://{}", moto.address));
        command.env("S3_FORCE_PATH_STYLE", "true");
        fixtures::kiln::finish(command, b"")
    };
    build("jobs/context.tar.gz").expect_ok();
    assert!(tar.is_file());
    let missing = build("jobs/other.tar.gz");
    assert_eq!(missing.code, Some(1), "{}", missing.stderr);
    assert!(missing.stderr.contains("jobs/other.tar.gz"), "{}", missing.stderr);
}
