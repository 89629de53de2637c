//! `kiln version`.

/// The version.
pub const TEXT: &str = env!("CARGO_PKG_VERSION");

/// The commit, if the build was given it (`KILN_COMMIT=$(git rev-parse --short HEAD) cargo build`).
pub const COMMIT: Option<&str> = option_env!("KILN_COMMIT");

/// The output of `kiln version`.
pub fn text() -> String {
    let commit = COMMIT.map(|commit| format!(" ({commit})")).unwrap_or_default();
    format!("kiln {TEXT}{commit} {}\n", oci::Platform::host())
}
