//! `examples/debian`: apt-get and pip in RUN, on a base that mmdebstrap makes. Needs the network.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::process::Command;
use std::time::Duration;

use fixtures::Access;

use crate::{copy_of, kiln, program, registry, root_or_skip, text};

/// Where Debian's packages come from.
const MIRROR: &str = "deb.debian.org:80";
/// Authorities that this machine trusts; a proxy's may be among them, and pip must believe it.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

fn is_reachable() -> bool {
    let Ok(mut addresses) = MIRROR.to_socket_addrs() else { return false };
    addresses.any(|address| TcpStream::connect_timeout(&address, Duration::from_secs(5)).is_ok())
}

#[test]
fn apt_get_and_pip() {
    if !root_or_skip("debian") {
        return;
    }
    let Some(mmdebstrap) = program("debian", "mmdebstrap") else { return };
    let Some(registry) = registry("debian", Access::Open) else { return };
    if !is_reachable() {
        return fixtures::skip("debian", &format!("no network: {MIRROR} does not answer"));
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
            &format!("mmdebstrap failed: {}", error.lines().last().unwrap_or_default()),
        );
    }
    std::fs::write(base.join("authorities"), std::fs::read(AUTHORITIES).unwrap_or_default())
        .unwrap();
    let dockerfile = format!(
        "FROM scratch\nADD rootfs.tar /\nCOPY authorities {AUTHORITIES}\nENV PIP_CERT={AUTHORITIES}\nCMD [\"bash\"]\n"
    );
    std::fs::write(base.join("Dockerfile"), dockerfile).unwrap();

    let kiln = kiln();
    let host = registry.host();
    let reference = format!("{host}/library/debian:bookworm-slim");
    kiln.run(["build", "--progress", "plain", "-t", &reference, "--push", &text(&base)])
        .expect_ok();
    let example = place.path().join("debian");
    copy_of("examples/debian", &example);
    let out = place.path().join("out");
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
