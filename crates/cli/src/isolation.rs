//! Where a RUN runs: what was asked for, and what this machine allows.

use std::path::Path;
use std::sync::Arc;

use runtime::{ADVICE, Runtime, RuntimeOptions, Standing};
use store::Privileges;

use crate::args::Isolation;
use crate::settings::Settings;

/// The runtime, or in words why there is none.
///
/// # Errors
/// As said: a RUN will fail with it, and builds without one will not.
pub fn start(
    settings: &Settings,
    kind: Privileges,
    standing: &Standing,
    wanted: Isolation,
) -> Result<Arc<Runtime>, String> {
    if wanted == Isolation::None {
        return Err("it was asked for with `--isolation=none`".into());
    }
    let mut missing = Vec::new();
    match standing {
        Standing::User { reason } => return Err(advise(std::slice::from_ref(reason))),
        Standing::Confined { reason } => missing.push(format!("no namespaces: {reason}")),
        Standing::Root | Standing::NamespaceRoot { .. } => {}
    }
    let options = RuntimeOptions {
        init_exe: "/proc/self/exe".into(),
        state_dir: settings.root.join("v1/runtime"),
    };
    let runtime = Runtime::new(options).map_err(|error| oci::chain_text(&error))?;
    if missing.is_empty() && matches!(wanted, Isolation::Auto | Isolation::Namespaces) {
        match runtime.probe().map_err(|error| oci::chain_text(&error))? {
            runtime::Isolation::Unavailable { reason } => {
                missing.push(format!("no namespaces: {reason}"));
            }
            found => return Ok(Arc::new(runtime.with_isolation(for_root(found, kind)))),
        }
    }
    if matches!(wanted, Isolation::Auto | Isolation::Chroot) {
        match runtime.probe_chroot().map_err(|error| oci::chain_text(&error))? {
            runtime::Isolation::Unavailable { reason } => {
                missing.push(format!("no chroot: {reason}"));
            }
            found => return Ok(Arc::new(runtime.with_isolation(found))),
        }
    }
    if wanted == Isolation::InPlace || wanted == Isolation::Auto && settings.container_is_mine {
        match in_place(&runtime, settings)? {
            runtime::Isolation::Unavailable { reason } => {
                missing.push(format!("no place: {reason}"));
            }
            found => return Ok(Arc::new(runtime.with_isolation(found))),
        }
    }
    Err(advise(&missing))
}

/// The place of the container that kiln runs in. Not that of a machine that somebody lives on.
fn in_place(runtime: &Runtime, settings: &Settings) -> Result<runtime::Isolation, String> {
    let marks = ["/.dockerenv", "/run/.containerenv", "/var/run/secrets/kubernetes.io"];
    let is_container = marks.iter().any(|mark| Path::new(mark).exists());
    if !is_container && !settings.container_is_mine {
        return Err(
            "this does not look like a container, and `in-place` would move this machine's files; \
                    KILN_CONTAINER_IS_MINE=1 says that it is one, and yours"
                .into(),
        );
    }
    let mut kept = Vec::new();
    for path in [std::env::current_exe(), std::fs::canonicalize(&settings.root)] {
        kept.push(path.map_err(|error| format!("finding kiln's own files: {error}"))?);
    }
    runtime.probe_in_place(kept).map_err(|error| oci::chain_text(&error))
}

/// A root that was made where no overlay could be has layers that cannot be mounted.
fn for_root(mut found: runtime::Isolation, kind: Privileges) -> runtime::Isolation {
    if let runtime::Isolation::Namespaces { capabilities, .. } = &mut found
        && kind == Privileges::Chroot
        && capabilities.overlay.is_ok()
    {
        capabilities.overlay = Err("kiln's root was made without overlays".into());
    }
    found
}

fn advise(missing: &[String]) -> String {
    format!("{}; {ADVICE}", missing.join("; "))
}

/// The line that says it, where it is not the usual way.
pub fn line(runtime: &Runtime, wanted: Isolation) -> Option<String> {
    let found = runtime.isolation()?;
    let usual = runtime.has_overlays() && wanted == Isolation::Auto;
    (!usual).then(|| format!("#0 RUN in: {found}\n"))
}
