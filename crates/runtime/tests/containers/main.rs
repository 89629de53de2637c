//! Tests with real containers: as root in this process, again as an ordinary user in a user namespace, and those in
//! plain folders as the root user of an ordinary container.
//!
//! Has its own `main` because the test binary is also the containers' init process.

#![allow(clippy::unwrap_used, missing_docs)]

mod attack;
mod bench;
mod cases;
mod fixture;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use fixture::Fixture;
use runtime::{IdMapping, IdRange, Privilege, init_if_asked, reexec_in_userns};

/// Runs this process as the second pass.
const AS_USER: &str = "--as-user";

/// Gives this process the privileges of root in an ordinary container.
const CONFINED: &str = "--confined";

/// Makes this process run one endless container, with the folder in the next argument.
const HOLD: &str = "--hold";

/// Makes this process start an endless container that another command joins, with the folder in the next argument.
const HOLD_STARTED: &str = "--hold-started";

/// Runs this process as the hostile command.
pub const ATTACK: &str = "--attack";

/// A user id without a user.
const USER: u32 = 61234;

fn main() -> ExitCode {
    init_if_asked();
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == ATTACK) {
        attack::main();
        return ExitCode::SUCCESS;
    }
    if args == ["--terminal"] {
        cases::chroot::use_terminal();
        return ExitCode::SUCCESS;
    }
    if args == [cases::descriptors::RECEIVE] {
        cases::descriptors::receive();
        return ExitCode::SUCCESS;
    }
    if let [how @ (HOLD | HOLD_STARTED), folder] =
        args.iter().map(String::as_str).collect::<Vec<_>>()[..]
    {
        let namespace = matches!(Privilege::of_process(), Privilege::NamespaceRoot { .. });
        let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let fixture = Fixture::new(namespace, true);
        match how {
            HOLD => executor.block_on(cases::lifetime::hold(&fixture, folder.into())),
            _ => executor.block_on(cases::joined::hold(&fixture, folder.into())),
        }
        return ExitCode::SUCCESS;
    }
    if args.iter().any(|arg| arg == AS_USER) {
        return match reexec_in_userns(std::env::args_os()) {
            Privilege::User { refused } => skip_all("user namespace", &format!("{refused:?}")),
            now => run_all(&now, &args),
        };
    }
    if args.iter().any(|arg| arg == CONFINED) {
        confine();
        return run_cases("confined root", cases::IN_FOLDERS, &args, &Fixture::new(false, false));
    }
    match Privilege::of_process() {
        Privilege::User { .. } => {
            skip_all("root", "not root, or without CAP_SYS_ADMIN");
            again_as_user(None)
        }
        now => {
            let first = run_all(&now, &args);
            if first != ExitCode::SUCCESS {
                return first;
            }
            let second = again_confined();
            if second != ExitCode::SUCCESS {
                return second;
            }
            again_as_user(Some(USER))
        }
    }
}

/// Restricts this process to the capabilities that `docker run` gives.
fn confine() {
    use rustix::thread::{CapabilitySet, CapabilitySets};
    let docker = CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::FSETID
        | CapabilitySet::FOWNER
        | CapabilitySet::MKNOD
        | CapabilitySet::NET_RAW
        | CapabilitySet::SETGID
        | CapabilitySet::SETUID
        | CapabilitySet::SETFCAP
        | CapabilitySet::SETPCAP
        | CapabilitySet::NET_BIND_SERVICE
        | CapabilitySet::SYS_CHROOT
        | CapabilitySet::KILL
        | CapabilitySet::AUDIT_WRITE;
    let present = rustix::thread::capabilities(None).unwrap().permitted;
    for bit in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if !docker.contains(capability)
            && rustix::thread::remove_capability_from_bounding_set(capability).is_err()
        {
            break;
        }
    }
    let left = docker & present;
    let sets =
        CapabilitySets { effective: left, permitted: left, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).unwrap();
}

/// Runs this binary with fewer capabilities.
fn again_confined() -> ExitCode {
    let mut command = Command::new("/proc/self/exe");
    let status = command.arg(CONFINED).args(std::env::args().skip(1)).status().unwrap();
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Reports that no case can run. It is a failure if the skip is not allowed.
fn skip_all(what: &str, reason: &str) -> ExitCode {
    match skipped(what, reason) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Reports a skip, and returns true if it is allowed.
fn skipped(what: &str, reason: &str) -> bool {
    std::panic::catch_unwind(|| fixtures::skip(what, reason)).is_ok()
}

/// Runs this binary as `user`, from a copy that all users can access.
fn again_as_user(user: Option<u32>) -> ExitCode {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let binary = folder.path().join("containers");
    std::fs::copy("/proc/self/exe", &binary).unwrap();
    let mut command = Command::new(binary);
    command.arg(AS_USER).args(std::env::args().skip(1)).current_dir("/");
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let status = command.status().unwrap();
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_all(now: &Privilege, args: &[String]) -> ExitCode {
    let ids = match now {
        Privilege::NamespaceRoot { ids } => ids.clone(),
        _ => {
            let all = vec![IdRange { inside: 0, outside: 0, count: u32::MAX }];
            IdMapping { uids: all.clone(), gids: all }
        }
    };
    let userxattr = matches!(now, Privilege::NamespaceRoot { .. });
    let what = if userxattr { "namespace root" } else { "root" };
    let fixture = Fixture::new(userxattr, ids.is_single());
    match fixture.runtime.probe_namespaces() {
        Ok(Ok(capabilities)) => {
            println!("{what}: {capabilities:?}");
            assert_eq!(capabilities.userxattr, userxattr);
        }
        Ok(Err(reason)) => return skip_all(what, &reason.to_string()),
        Err(error) => panic!("probe: {error}"),
    }
    if !std::path::Path::new(fixture::BUSYBOX).exists() {
        return skip_all(what, "there is no static busybox at /bin/busybox");
    }
    if args.iter().any(|arg| arg == "--bench") {
        executor().block_on(bench::trivial_runs(&fixture));
        return ExitCode::SUCCESS;
    }
    let all = [cases::ALL, cases::IN_FOLDERS].concat();
    run_cases(what, &all, args, &fixture)
}

fn executor() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn run_cases(
    what: &str,
    cases: &[(&str, cases::Case)],
    args: &[String],
    fixture: &Fixture,
) -> ExitCode {
    let filter = args.iter().find(|arg| !arg.starts_with('-'));
    let executor = executor();
    let (mut passed, mut failed, mut left_out) = (0, 0, 0);
    for (name, case) in cases {
        if filter.is_some_and(|filter| !name.contains(filter.as_str())) {
            continue;
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            executor.block_on(case(fixture))
        }));
        match outcome {
            Ok(Ok(())) => {
                println!("test {what}: {name} ... ok");
                passed += 1;
            }
            Ok(Err(reason)) if skipped(&format!("{what}, {name}"), &reason) => left_out += 1,
            Ok(Err(_)) | Err(_) => {
                println!("test {what}: {name} ... FAILED");
                failed += 1;
            }
        }
    }
    // Other processes may mount and unmount meanwhile, so only mounts of these tests count.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let left: Vec<_> = mounts.lines().filter(|line| fixture.is_ours(line)).collect();
    assert!(left.is_empty(), "containers leave no mounts: {left:?}");
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "test result: {verdict}. {passed} passed; {failed} failed; {left_out} skipped; as {what}"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
