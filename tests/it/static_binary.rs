//! Independence of the binary from the machine it runs on.

use std::process::Command;

#[test]
fn it_runs_in_an_empty_root() {
    let folder = tempfile::tempdir().unwrap();
    // By a process of its own: one that another test starts during a copy here would have the file open for writing, and
    // nobody may execute it (ETXTBSY).
    let cp = fixtures::program("cp").expect("coreutils has cp");
    let mut copy = Command::new(cp);
    copy.arg(env!("CARGO_BIN_EXE_kiln")).arg(folder.path().join("kiln"));
    assert!(copy.status().unwrap().success());
    let chroot = fixtures::program("chroot").expect("coreutils has chroot");
    let mut command = if fixtures::is_root() {
        Command::new(chroot)
    } else {
        let unshare = fixtures::program("unshare").expect("util-linux has unshare");
        let probe = Command::new(&unshare).args(["--map-root-user", "true"]).output().unwrap();
        if !probe.status.success() {
            return fixtures::skip("static_binary", "neither root nor user namespaces");
        }
        let mut command = Command::new(unshare);
        command.arg("--map-root-user").arg(chroot);
        command
    };
    let output =
        command.arg(folder.path()).args(["/kiln", "version"]).env_clear().output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    assert!(String::from_utf8_lossy(&output.stdout).contains(env!("CARGO_PKG_VERSION")), "{error}");
}
