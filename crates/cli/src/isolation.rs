//! The runtime for RUN, with the isolation that the flag asks for and this machine allows.

use std::io;
use std::path::Path;
use std::sync::Arc;

use build::Session;
use runtime::ladder::Probe;
use runtime::{LadderError, Privilege, Runtime, RuntimeOptions, WantedIsolation};
use store::Privileges;

use crate::render::CommandError;
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

/// The reason for which there is no isolation of a RUN.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    /// kiln's binary or root is not found.
    #[error("finding kiln's own files: {0}")]
    OwnFiles(#[source] io::Error),
    /// No isolation works here that the flag allows.
    #[error("{}", explained(.0))]
    Ladder(#[source] LadderError),
    /// The runtime cannot be prepared.
    #[error("{}", oci::chain_text(.0))]
    Runtime(#[source] runtime::Error),
    /// The isolation that was asked for does not work here.
    #[error("`--isolation={flag}` is not possible here: {reason}")]
    Impossible {
        /// The flag's value.
        flag: &'static str,
        /// The error of the runtime's start.
        reason: String,
    },
}

impl CommandError for IsolationError {}

/// Starts the runtime.
///
/// # Errors
/// If there is none for this machine and flag. A build without a RUN succeeds all the same, and a
/// RUN fails with it.
pub fn start(
    settings: &Settings,
    kind: Privileges,
    privilege: &Privilege,
    flag: WantedIsolation,
) -> Result<Arc<Runtime>, IsolationError> {
    let own: Result<_, _> =
        [std::env::current_exe(), std::fs::canonicalize(&settings.root)].into_iter().collect();
    let options = RuntimeOptions {
        init_exe: "/proc/self/exe".into(),
        state_dir: settings.root.join("v1/runtime"),
        kept: own.map_err(IsolationError::OwnFiles)?,
    };
    let marks = ["/.dockerenv", "/run/.containerenv", "/var/run/secrets/kubernetes.io"];
    let probe = Probe {
        is_container: marks.iter().any(|mark| Path::new(mark).exists()),
        container_is_ours: settings.container_is_mine,
        store_without_overlays: kind == Privileges::Chroot,
        ..Probe::default()
    };
    match Runtime::start(options, privilege, probe, flag) {
        Ok((runtime, _)) => Ok(Arc::new(runtime)),
        Err(runtime::Error::Ladder(error)) => Err(IsolationError::Ladder(error)),
        Err(error) => Err(IsolationError::Runtime(error)),
    }
}

/// Checks that the isolation that a flag asks for is possible.
///
/// # Errors
/// If the session has no runtime with it.
pub fn require(session: &Session, flag: WantedIsolation) -> Result<(), IsolationError> {
    let flag = match flag {
        WantedIsolation::Auto | WantedIsolation::None => return Ok(()),
        WantedIsolation::Namespaces => "namespaces",
        WantedIsolation::Chroot => "chroot",
        WantedIsolation::InPlace => "in-place",
    };
    match &session.host().runtime {
        Err(reason) => Err(IsolationError::Impossible { flag, reason: reason.to_string() }),
        Ok(_) => Ok(()),
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
pub fn line(runtime: &Runtime, flag: WantedIsolation) -> Option<String> {
    let usual = runtime.has_overlays() && flag == WantedIsolation::Auto;
    (!usual).then(|| format!("#0 RUN in: {}\n", runtime.isolation()))
}
