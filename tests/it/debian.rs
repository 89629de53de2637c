//! Real programs in RUN, on a base made by mmdebstrap: `examples/debian` on this machine, and `tests/it/programs` in
//! each kind of CI container. Needs the network.

use std::collections::BTreeMap;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fixtures::http::Request;
use fixtures::tar::{self, Kind};
use fixtures::{Access, DockerRegistry, Dockerd, Kiln};
use serde_json::Value;

use crate::environments::{ENVIRONMENTS, Environment, Way, run};
use crate::own_images::dockerd_with;
use crate::{copy_of, kiln, program, registry, root_or_skip, text};

/// The mirror of Debian's packages.
const MIRROR: &str = "deb.debian.org:80";
/// The certificate authorities that this machine trusts. A proxy's may be among them, and pip must trust it.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The files of a layer, one line each.
type Files = BTreeMap<String, String>;

fn is_reachable() -> bool {
    let Ok(mut addresses) = MIRROR.to_socket_addrs() else { return false };
    addresses.any(|address| TcpStream::connect_timeout(&address, Duration::from_secs(5)).is_ok())
}

/// One test, because making the base takes a minute.
#[test]
fn apt_get_pip_and_npm() {
    if !root_or_skip("debian") {
        return;
    }
    let Some(mmdebstrap) = program("debian", "mmdebstrap") else { return };
    let Some(registry) = registry("debian", Access::Open) else { return };
    if !is_reachable() {
        return fixtures::skip("debian", format!("no network: {MIRROR} does not answer"));
    }
    let place = tempfile::tempdir().unwrap();
    let base = place.path().join("base");
    std::fs::create_dir(&base).unwrap();
    let made = Command::new(mmdebstrap)
        .args(["--quiet", "--variant=minbase", "--include=ca-certificates", "bookworm"])
        .arg(base.join("rootfs.tar"))
        .output()
        .unwrap();
    if !made.status.success() {
        let error = String::from_utf8_lossy(&made.stderr).into_owned();
        return fixtures::skip(
            "debian",
            format!("mmdebstrap failed: {}", error.lines().last().unwrap_or_default()),
        );
    }
    std::fs::write(base.join("authorities"), std::fs::read(AUTHORITIES).unwrap_or_default())
        .unwrap();
    let kiln = kiln();
    put_base(&kiln, &registry, &base, ("debian", "library/debian:bookworm-slim"));
    example(&kiln, registry.host(), place.path());
    if let Some(dockerd) = dockerd_with("debian", "ci") {
        put_base(&kiln, &registry, &base, ("tools", "library/tools:latest"));
        same_files_everywhere(&kiln, &registry, &dockerd, place.path());
    }
}

/// Builds and pushes an image that others are based on.
fn put_base(kiln: &Kiln, registry: &DockerRegistry, base: &Path, (target, name): (&str, &str)) {
    let dockerfile = text(&fixtures::source_tree().join("tests/it/programs/base.Dockerfile"));
    let reference = format!("{}/{name}", registry.host());
    let authorities = format!("AUTHORITIES={AUTHORITIES}");
    let what = ["--target", target, "--file", &dockerfile, "--build-arg", &authorities];
    let context = text(base);
    let args = [&["build", "--tag", &reference, "--push"], &what[..], &[&context]].concat();
    kiln.run(args).expect_ok();
}

fn example(kiln: &Kiln, host: &str, place: &Path) {
    let example = place.join("debian");
    copy_of("examples/debian", &example);
    let out = place.join("report");
    let output = format!("type=local,dest={}", text(&out));
    let argument = format!("REGISTRY={host}");
    let args = [
        "build",
        "--progress",
        "plain",
        "--build-arg",
        &argument,
        "--output",
        &output,
        &text(&example),
    ];
    kiln.run(args).expect_ok();
    let report = std::fs::read_to_string(out.join("srv/report.html")).unwrap();
    assert!(report.contains("<td>kettle</td>"), "{report}");
}

/// Compares the results of apt-get with its package scripts, pip and npm, as root and as another user.
fn same_files_everywhere(kiln: &Kiln, registry: &DockerRegistry, dockerd: &Dockerd, place: &Path) {
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    open(place, 0o755);
    std::fs::create_dir(place.join("out")).unwrap();
    open(&place.join("out"), 0o777);
    let programs = place.join("programs");
    copy_of("tests/it/programs", &programs);
    let arguments = arguments(registry, "users", "here");
    kiln.run(arguments.iter().chain([&text(&programs)])).expect_ok();
    let expected = layers(registry, "here");
    assert!(expected.len() > 8, "{} layers", expected.len());

    for environment in ENVIRONMENTS.iter().filter(|environment| environment.way != Way::None) {
        let letter = environment.letter;
        let found = in_container(registry, dockerd, place, environment);
        // With a single user, only the programs that need no other user run.
        let wanted = match environment.way {
            Way::OneUser => &expected[..found.len()],
            _ => &expected[..],
        };
        assert!(found.len() > 5 && found.len() == wanted.len(), "{letter}: {}", found.len());
        for (number, (found, wanted)) in found.iter().zip(wanted).enumerate() {
            let both = found.keys().chain(wanted.keys());
            let other = both.filter(|path| found.get(*path) != wanted.get(*path));
            let other: Vec<_> =
                other.map(|path| (path, found.get(path), wanted.get(path))).take(20).collect();
            assert!(other.is_empty(), "{letter}: layer {number}: {other:#?}");
        }
    }
}

fn arguments(registry: &DockerRegistry, target: &str, name: &str) -> Vec<String> {
    let host = registry.host();
    vec![
        "build".into(),
        "--progress=plain".into(),
        format!("--build-arg=REGISTRY={host}"),
        format!("--target={target}"),
        format!("--tag={host}/{name}"),
        "--push".into(),
    ]
}

/// Builds in a container, and returns the files of the layers.
fn in_container(
    registry: &DockerRegistry,
    dockerd: &Dockerd,
    place: &Path,
    environment: &Environment,
) -> Vec<Files> {
    let letter = environment.letter;
    let name = letter.to_lowercase();
    // One root is on a volume, which allows overlays; the others are on the container's own disk.
    let root = if letter == "B" { "/out/kiln" } else { "/tmp/kiln" };
    let (target, more) = match environment.way {
        Way::OneUser => ("programs", "'--build-arg=APT_GET=apt-get -o APT::Sandbox::User=root'"),
        _ => ("users", ""),
    };
    let arguments = arguments(registry, target, &name).join(" ");
    // The image does not give this permission by itself.
    let permit = match environment.way {
        Way::InPlace => "export KILN_CONTAINER_IS_MINE=1;",
        _ => "",
    };
    let script =
        format!("mkdir -p $HOME; {permit} kiln --root {root} {arguments} {more} /project/programs");
    let run = run(dockerd, place, environment, &script).expect_ok();
    // apt-get's message if it has no terminal.
    assert!(!run.stderr.contains("Can not write log"), "{letter}: {}", run.stderr);
    layers(registry, &name)
}

/// The files of an image's layers in the registry, without times and without the common base.
fn layers(registry: &DockerRegistry, repository: &str) -> Vec<Files> {
    let base = digests(registry, "library/tools");
    let own = digests(registry, repository).split_off(base.len());
    let read = |digest: &String| {
        let bytes = std::fs::read(registry.blob_file(digest)).unwrap();
        let entries = tar::read(&fixtures::image::decompress(&bytes).unwrap()).unwrap();
        entries.iter().map(|entry| (entry.absolute(), shown(entry))).collect()
    };
    own.iter().map(read).collect()
}

fn digests(registry: &DockerRegistry, repository: &str) -> Vec<String> {
    let path = format!("/v2/{repository}/manifests/latest");
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let request = Request { method: "GET", path: &path, media_type, ..Request::default() };
    let response = registry.send(&request).unwrap();
    assert_eq!(response.status, 200, "{repository}");
    let manifest: Value = serde_json::from_slice(&response.body).unwrap();
    let layers = manifest["layers"].as_array().unwrap().iter();
    layers.map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}

fn shown(entry: &tar::Entry) -> String {
    let kind = match &entry.kind {
        Kind::File(bytes) => fixtures::digest(bytes),
        other => format!("{other:?}"),
    };
    format!("{kind} {:o} {}:{} {:?}", entry.mode, entry.uid, entry.gid, entry.xattrs)
}
