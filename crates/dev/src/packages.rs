//! What comes from Debian: programs that the demo and the tests use.

use std::process::Command;

use crate::tools;

/// A program and the package that has it.
pub type Needed = (&'static str, &'static str);

/// The registry.
pub const REGISTRY: Needed = ("docker-registry", "docker-registry");
/// What the base image is made of.
pub const BUSYBOX: Needed = ("busybox", "busybox-static");
/// Readers of images that are not ours.
pub const SKOPEO: Needed = ("skopeo", "skopeo");
/// The same.
pub const UMOCI: Needed = ("umoci", "umoci");
/// Makes the base of `examples/debian`.
pub const MMDEBSTRAP: Needed = ("mmdebstrap", "mmdebstrap");

/// Runs kiln's own images, and the containers that tests take for environments of CI.
pub const DOCKERD: Needed = ("dockerd", "docker.io");
/// What gitlab-ci-local copies a project with.
pub const RSYNC: Needed = ("rsync", "rsync");

/// What repositories are made and fetched with.
pub const GIT: Needed = ("git", "git");
/// Agents, keys, and git over ssh.
pub const SSH: Needed = ("ssh", "openssh-client");
/// The other end of it.
pub const SSHD: Needed = ("sshd", "openssh-server");

/// A key-value store for caches.
pub const REDIS: Needed = ("redis-server", "redis-server");

/// Runs gitlab-ci-local.
pub const NODE: Needed = ("node", "nodejs");
/// Installs it.
pub const NPM: Needed = ("npm", "npm");
/// Runs moto, which stands for S3.
pub const PYTHON: Needed = ("python3", "python3");
/// Debian takes it out of Python: what a virtual environment gets its pip from.
pub const VENV: Needed = ("ensurepip", "python3-venv");

/// Makes small disks.
pub const MKE2FS: Needed = ("mkfs.ext4", "e2fsprogs");

/// Installs what is missing where this is root and there is apt-get.
///
/// # Errors
/// One line that says what to install.
pub fn need(wanted: &[Needed]) -> Result<(), String> {
    let missing: Vec<&str> =
        wanted.iter().filter(|needed| !is_there(needed)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !fixtures::is_root() || fixtures::program("apt-get").is_none() {
        return Err(format!("please install: sudo apt-get install {list}"));
    }
    eprintln!("installing {list}");
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
        tools::quietly(&mut command)
    };
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(&missing);
    // Package lists may be there and fresh; without them the first try fails.
    if apt(&install).is_err() {
        apt(&["update"])?;
        apt(&install).map_err(|error| format!("apt-get install {list}: {error}"))?;
    }
    Ok(())
}

fn is_there((program, _): &Needed) -> bool {
    match *program {
        // A part of Python, and no program.
        "ensurepip" => {
            let mut ask = Command::new("python3");
            tools::quietly(ask.args(["-c", "import ensurepip"])).is_ok()
        }
        program => fixtures::program(program).is_some(),
    }
}
