//! The runtime for RUN, with the isolation that the flag asks for and this machine allows.

use std::path::Path;
use std::sync::Arc;

use runtime::ladder::Probe;
use runtime::{LadderError, Privilege, Runtime, RuntimeOptions, Wanted};
use store::Privileges;

use crate::args::Isolation;
use crate::settings::Settings;

/// The settings of common platforms that allow a RUN to run.
const ADVICE: &str = "\
one of these allows it:
  Docker      run it as root with docker's own capabilities, or with --security-opt seccomp=unconfined
              (and --security-opt apparmor=unconfined where there is AppArmor)
  Kubernetes  securityContext: {runAsUser: 0, capabilities: {add: [SYS_CHROOT, SETUID, SETGID, CHOWN, DAC_OVERRIDE,
              FOWNER, FSETID, KILL]}}, or hostUsers: false in the pod, or seccompProfile: {type: Unconfined}
  OpenShift   the SCC `anyuid` for the pod's service account, and the capability SYS_CHROOT; or the SCC
              `nested-container` (4.19) with hostUsers: false
  GitLab      docker executor: an image whose user is root; kubernetes executor:
              [runners.kubernetes.build_container_security_context] with run_as_user = 0 and SYS_CHROOT added
  anywhere    --isolation=in-place, as root in a container that is for this build alone";

/// The flag's value in the runtime's terms.
pub fn wanted(flag: Isolation) -> Wanted {
    match flag {
        Isolation::Auto => Wanted::Auto,
        Isolation::Namespaces => Wanted::Namespaces,
        Isolation::Chroot => Wanted::Chroot,
        Isolation::InPlace => Wanted::InPlace,
        Isolation::None => Wanted::None,
    }
}

/// Starts the runtime.
///
/// # Errors
/// If there is none for this machine and flag. The text is the reason: a build without a RUN
/// succeeds all the same, and a RUN fails with it.
pub fn start(
    settings: &Settings,
    kind: Privileges,
    privilege: &Privilege,
    flag: Isolation,
) -> Result<Arc<Runtime>, String> {
    let own: Result<_, _> =
        [std::env::current_exe(), std::fs::canonicalize(&settings.root)].into_iter().collect();
    let options = RuntimeOptions {
        init_exe: "/proc/self/exe".into(),
        state_dir: settings.root.join("v1/runtime"),
        kept: own.map_err(|error| format!("finding kiln's own files: {error}"))?,
    };
    let marks = ["/.dockerenv", "/run/.containerenv", "/var/run/secrets/kubernetes.io"];
    let probe = Probe {
        is_container: marks.iter().any(|mark| Path::new(mark).exists()),
        container_is_ours: settings.container_is_mine,
        store_without_overlays: kind == Privileges::Chroot,
        ..Probe::default()
    };
    match Runtime::start(options, privilege, probe, wanted(flag)) {
        Ok((runtime, _)) => Ok(Arc::new(runtime)),
        Err(runtime::Error::Ladder(error)) => Err(explained(&error)),
        Err(error) => Err(oci::chain_text(&error)),
    }
}

/// The error with the flag or setting that helps.
fn explained(error: &LadderError) -> String {
    match error {
        LadderError::NotWanted => "it was asked for with `--isolation=none`".into(),
        LadderError::NotAContainer => {
            format!("{error}; KILN_CONTAINER_IS_MINE=1 says that it is one, and yours")
        }
        _ => format!("{error}; {ADVICE}"),
    }
}

/// The line that names the isolation, unless it is the usual one.
pub fn line(runtime: &Runtime, flag: Isolation) -> Option<String> {
    let usual = runtime.has_overlays() && flag == Isolation::Auto;
    (!usual).then(|| format!("#0 RUN in: {}\n", runtime.isolation()))
}
