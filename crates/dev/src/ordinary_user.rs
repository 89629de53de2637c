//! Runs of the test programs as a user without privileges.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use serde_json::Value;

use crate::tools;

/// A test program that cargo built.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Its path.
    pub file: PathBuf,
    /// The folder of its crate, which is the working directory of its tests.
    pub folder: PathBuf,
}

/// Builds the test programs of the workspace.
///
/// # Errors
/// If they cannot be built.
pub fn programs() -> Result<Vec<Program>> {
    let args = ["test", "--workspace", "--no-run", "--message-format", "json-render-diagnostics"];
    let messages = tools::output(&mut tools::cargo(args))?;
    let programs = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        if message["profile"]["test"] != true {
            return None;
        }
        Some(Program {
            name: message["target"]["name"].as_str()?.to_owned(),
            file: message["executable"].as_str()?.into(),
            folder: Path::new(message["manifest_path"].as_str()?).parent()?.to_owned(),
        })
    });
    Ok(programs.collect())
}

/// The user that tests run as: `KILN_TEST_USER`, or `nobody`.
pub fn user() -> String {
    std::env::var("KILN_TEST_USER").unwrap_or_else(|_| "nobody".into())
}

/// A command that runs a test program as that user, with its own home.
///
/// # Errors
/// If the user does not exist.
pub fn command(program: &Program, home: &Path) -> Result<Command> {
    let user = user();
    let group = tools::quietly(Command::new("id").args(["-g", &user]))?;
    let drop =
        ["setpriv", "--reuid", &user, "--regid", group.trim(), "--clear-groups", "--no-new-privs"];
    // newuidmap is setuid, so a user with subordinate ids must be able to gain privileges.
    let drop = if has_own_ids(&user) { &drop[..6] } else { &drop[..] };
    let mut words: Vec<String> = drop.iter().map(|word| (*word).to_owned()).collect();
    words.push(program.file.display().to_string());
    let tree = fixtures::source_tree();
    let mut command = match blocked(&program.file).or_else(|| blocked(tree)) {
        None => {
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]).current_dir(&program.folder);
            command
        }
        // The tree is in a closed folder such as /root, which is opened in a new mount namespace.
        Some(blocked) => {
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-euc", OPEN_THE_WAY, "sh"]);
            command
                .arg(blocked)
                .arg(home)
                .arg(tree)
                .arg(target_folder(&program.file))
                .arg(&program.folder);
            command.args(words);
            command
        }
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    command
        .env_clear()
        .env("PATH", path)
        .env("HOME", home)
        .env("TMPDIR", home)
        .env("CARGO_MANIFEST_DIR", &program.folder);
    for name in KEPT {
        command.envs(std::env::var_os(name).map(|value| (*name, value)));
    }
    Ok(command)
}

/// Variables that the tests have as this user, too: strictness, and the certificates that npm and pip take.
const KEPT: &[&str] = &[fixtures::skips::STRICT, "NODE_EXTRA_CA_CERTS", "PIP_CERT"];

/// Binds the needed folders aside, mounts over the closed folder, and binds them back.
const OPEN_THE_WAY: &str = r#"
blocked=$1 home=$2 tree=$3 target=$4 folder=$5
shift 5
mkdir -p "$home/.tree" "$home/.target"
mount --rbind "$tree" "$home/.tree"
mount --rbind "$target" "$home/.target"
mount -t tmpfs -o mode=755 tmpfs "$blocked"
mkdir -p "$tree"
[ -e "$tree/Cargo.toml" ] || mount --rbind "$home/.tree" "$tree"
mkdir -p "$target"
[ -e "$target/CACHEDIR.TAG" ] || mount --rbind "$home/.target" "$target"
cd "$folder"
exec "$@"
"#;

fn has_own_ids(user: &str) -> bool {
    let lists = ["/etc/subuid", "/etc/subgid"].map(std::fs::read_to_string);
    lists.iter().all(|list| {
        list.as_ref()
            .is_ok_and(|text| text.lines().any(|line| line.split(':').next() == Some(user)))
    })
}

/// The first ancestor of a file that other users may not enter.
fn blocked(file: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut folders: Vec<&Path> = file.ancestors().skip(1).collect();
    folders.reverse();
    let closed = |folder: &&Path| {
        folder.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o001 == 0)
    };
    folders.into_iter().find(closed).map(Path::to_owned)
}

/// `target/` of a program in `target/TRIPLE/debug/deps/`.
fn target_folder(program: &Path) -> PathBuf {
    program.ancestors().nth(4).unwrap_or(program).to_owned()
}
