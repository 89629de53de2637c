//! The flags and the `buildkitd.toml` of `buildkitd`.

use std::path::{Path, PathBuf};

use super::configured::ConfiguredDaemon;
use crate::args::{InFlag as _, ServeArgs};
use crate::personalities::flags::ParsedFlags;
use crate::render::Report;
use crate::settings::{BuildkitdConfig, Environment, buildkitd_config};

/// The daemon that flags, and the file that they name or the usual one, ask for. The environment gets the file.
///
/// # Errors
/// If a value is wrong.
pub fn daemon(
    given: &ParsedFlags,
    environment: &mut Environment,
) -> Result<ConfiguredDaemon, Report> {
    let config = match given.last("config") {
        Some(file) => {
            environment.set("KILN_BUILDKITD_CONFIG", file);
            let folder = Path::new(file).parent().unwrap_or(Path::new(""));
            BuildkitdConfig::read(Path::new(file), folder).in_flag("--config")?
        }
        None => buildkitd_config(environment)?,
    };
    let mut notes = given.notes.clone();
    if let others @ [_, ..] = config.sections().as_slice() {
        let others = others.join("`, `");
        notes.push(format!(
            "buildkitd.toml: `{others}`: without effect: its registries and insecure-entitlements count"
        ));
    }
    let mut addresses = given.texts("addr");
    if addresses.is_empty() {
        addresses.push("unix:///run/buildkit/buildkitd.sock".to_owned());
    }
    let path = |name| given.last(name).map(PathBuf::from);
    let mut entitlements = given.texts("allow-insecure-entitlement");
    entitlements.extend_from_slice(config.insecure_entitlements());
    let args = ServeArgs {
        addresses,
        tlscacert: path("tlscacert"),
        tlscert: path("tlscert"),
        tlskey: path("tlskey"),
        group: given.last("group").map(str::to_owned),
        allow_insecure_entitlement: entitlements,
        ..ServeArgs::default()
    };
    let daemon = ConfiguredDaemon {
        root: path("root"),
        is_debug: given.is_on("debug", false) | given.is_on("trace", false),
        notes,
        ..ConfiguredDaemon::default()
    };
    given.done()?;
    Ok(ConfiguredDaemon { options: args.read()?, ..daemon })
}

#[cfg(test)]
mod tests {
    use super::super::rows::BUILDKITD;
    use super::*;
    use crate::args::FlagError;
    use crate::personalities::flags::testing::walk;
    use crate::personalities::flags::{self, Operands};

    #[test]
    fn every_flag_is_honoured_or_refused_by_name() {
        walk(BUILDKITD, |words| {
            let given = flags::read(BUILDKITD, words, Operands::Anywhere)?;
            given.is_on("version", false);
            let result = daemon(&given, &mut Environment::default());
            let is_tls = words[0].starts_with("--tls");
            result.map(drop).or_else(|report| match is_tls {
                // Files of TLS that are not there.
                true => Ok(()),
                false => Err(FlagError::Usage(report.message)),
            })?;
            given.done().map(|()| given.notes)
        });
    }

    #[test]
    fn a_file_grants_entitlements() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("buildkitd.toml");
        let daemon_with = |text: &str| {
            std::fs::write(&file, text).unwrap();
            let words = [format!("--config={}", file.display())];
            let given = flags::read(BUILDKITD, &words, Operands::Anywhere).unwrap();
            daemon(&given, &mut Environment::default())
        };
        let granting =
            "insecure-entitlements = ['network.host', 'security.insecure']\n[worker.oci]\n";
        let daemon = daemon_with(granting).unwrap();
        assert!(daemon.options.allows_insecure);
        assert!(daemon.notes[0].contains("`worker`"), "{:?}", daemon.notes);
        assert!(
            !daemon_with("insecure-entitlements = ['network.host']")
                .unwrap()
                .options
                .allows_insecure
        );
        let error = daemon_with("insecure-entitlements = ['device']").unwrap_err().message;
        assert!(error.contains("`device`"), "{error}");
    }
}
