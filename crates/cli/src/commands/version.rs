//! `kiln version`.

/// The version.
pub const TEXT: &str = env!("CARGO_PKG_VERSION");

/// The commit, where the build was told (`KILN_COMMIT=$(git rev-parse --short HEAD) cargo build`).
pub const COMMIT: Option<&str> = option_env!("KILN_COMMIT");

/// What `kiln version` prints.
pub fn text() -> String {
    let commit = COMMIT.map(|commit| format!(" ({commit})")).unwrap_or_default();
    format!("kiln {TEXT}{commit} {}\n", oci::Platform::host())
}
