//! Debian packages of programs that the demo and the tests use.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::tools;

/// A program and its package.
pub type Needed = (&'static str, &'static str);

/// The registry.
pub const REGISTRY: Needed = ("docker-registry", "docker-registry");
/// The content of the base image.
pub const BUSYBOX: Needed = ("busybox", "busybox-static");
/// A reader of images that is independent of kiln.
pub const SKOPEO: Needed = ("skopeo", "skopeo");
/// Another one.
pub const UMOCI: Needed = ("umoci", "umoci");
/// Makes the base of `examples/debian`.
pub const MMDEBSTRAP: Needed = ("mmdebstrap", "mmdebstrap");

/// Runs kiln's own images, and the containers that stand for CI environments in tests.
pub const DOCKERD: Needed = ("dockerd", "docker.io");
/// Copies projects for gitlab-ci-local.
pub const RSYNC: Needed = ("rsync", "rsync");

/// Makes and fetches repositories.
pub const GIT: Needed = ("git", "git");
/// Agents, keys, and the client of git over ssh.
pub const SSH: Needed = ("ssh", "openssh-client");
/// The server of git over ssh.
pub const SSHD: Needed = ("sshd", "openssh-server");

/// A key-value store for caches.
pub const REDIS: Needed = ("redis-server", "redis-server");

/// Runs gitlab-ci-local.
pub const NODE: Needed = ("node", "nodejs");
/// Installs gitlab-ci-local.
pub const NPM: Needed = ("npm", "npm");
/// Runs moto, a stand-in for S3.
pub const PYTHON: Needed = ("python3", "python3");
/// Gives virtual environments their pip. Debian packages it apart from Python.
pub const VENV: Needed = ("ensurepip", "python3-venv");

/// A client of the Engine API, which tests drive.
pub const COMPOSE: Needed = ("docker-compose", "docker-compose");

/// Makes file systems for small disks.
pub const MKE2FS: Needed = ("mkfs.ext4", "e2fsprogs");

/// Installs missing packages, if this is root and there is apt-get.
///
/// # Errors
/// If packages remain missing: one line that says what to install.
pub fn need(wanted: &[Needed]) -> Result<()> {
    let missing: Vec<&str> =
        wanted.iter().filter(|needed| !is_there(needed)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !fixtures::is_root() || fixtures::program("apt-get").is_none() {
        bail!("please install: sudo apt-get install {list}");
    }
    eprintln!("installing {list}");
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
        tools::quietly(&mut command)
    };
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(&missing);
    // The package lists may be missing or old, which makes the first attempt fail.
    if apt(&install).is_err() {
        apt(&["update"])?;
        apt(&install).with_context(|| format!("apt-get install {list}"))?;
    }
    Ok(())
}

fn is_there((program, _): &Needed) -> bool {
    match *program {
        // A module of Python, not a program.
        "ensurepip" => {
            let mut ask = Command::new("python3");
            tools::quietly(ask.args(["-c", "import ensurepip"])).is_ok()
        }
        program => fixtures::program(program).is_some(),
    }
}
