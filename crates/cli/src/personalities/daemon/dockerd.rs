//! The flags and the `daemon.json` of `dockerd`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::configured::ConfiguredDaemon;
use super::file::{self, BuilderOptions};
use crate::args::compound::boolean;
use crate::args::{FlagError, ServeArgs};
use crate::personalities::flags::ParsedFlags;
use crate::render::Report;
use crate::serve::{ServeOptions, UsualBuilder};
use crate::settings::{ClientProxies, Environment, Hidden};

/// The file that is read unless another is named.
const FILE: &str = "/etc/docker/daemon.json";

/// The daemon that flags, and the file that they name or the usual one, ask for.
///
/// # Errors
/// If a value is wrong, or if flags and file contradict each other.
pub fn daemon(
    mut given: ParsedFlags,
    environment: &Environment,
) -> Result<ConfiguredDaemon, Report> {
    let path = file_path(&given, environment);
    let builder = match &path {
        Some(path) => file::read(path, &mut given)?,
        None => BuilderOptions::default(),
    };
    let daemon = of_flags(&given, builder)?;
    given.done()?;
    Ok(ConfiguredDaemon { notes: given.notes, ..daemon })
}

/// The file, if there is one. A file that a flag names has to be there.
fn file_path(given: &ParsedFlags, environment: &Environment) -> Option<PathBuf> {
    if let Some(path) = given.last("config-file") {
        return Some(path.into());
    }
    let own = environment.get("XDG_CONFIG_HOME").map(PathBuf::from);
    let own = own.or_else(|| Some(Path::new(environment.get("HOME")?).join(".config")));
    // dockerd without root has a file of its user's.
    let usual = match rustix::process::geteuid().is_root() {
        true => PathBuf::from(FILE),
        false => own?.join("docker/daemon.json"),
    };
    usual.exists().then_some(usual)
}

fn of_flags(given: &ParsedFlags, builder: BuilderOptions) -> Result<ConfiguredDaemon, FlagError> {
    let mut addresses = given.texts("host");
    if addresses.is_empty() {
        addresses.push("unix:///var/run/docker.sock".to_owned());
    }
    let seconds = given.last("shutdown-timeout").map(|text| {
        let reason = "it is no number of seconds";
        text.parse().map_err(|_| FlagError::bad("--shutdown-timeout", reason))
    });
    let path = |name| given.last(name).map(PathBuf::from);
    let args = ServeArgs {
        addresses,
        // dockerd speaks TLS with `--tlsverify=false` too.
        tls: given.is_on("tls", false) | given.was_given("tlsverify"),
        tlsverify: given.is_on("tlsverify", false),
        tlscacert: path("tlscacert"),
        tlscert: path("tlscert"),
        tlskey: path("tlskey"),
        group: given.last("group").map(str::to_owned),
        shutdown_timeout: seconds.transpose()?.map(Duration::from_secs),
        pidfile: path("pidfile"),
        allow_insecure_entitlement: builder.entitlements,
        allow_bind: given.all("allow-bind").into_iter().map(PathBuf::from).collect(),
        ..ServeArgs::default()
    };
    let options = args.read()?;
    Ok(ConfiguredDaemon {
        options: ServeOptions {
            collection: builder.collection,
            usual_builder: usual_builder(given)?,
            ..options
        },
        root: path("data-root"),
        mirrors: given.texts("registry-mirror"),
        insecure: given.texts("insecure-registry"),
        proxies: ClientProxies {
            http: given.last("http-proxy").map(Hidden::new),
            https: given.last("https-proxy").map(Hidden::new),
            all: None,
            no: given.last("no-proxy").map(str::to_owned),
        },
        is_debug: given.is_on("debug", false) | (given.last("log-level") == Some("debug")),
        notes: Vec::new(),
    })
}

/// The builder by the feature `buildkit`.
fn usual_builder(given: &ParsedFlags) -> Result<UsualBuilder, FlagError> {
    let mut usual = UsualBuilder::BuildKit;
    for feature in given.all("feature") {
        let (name, value) = feature.split_once('=').unwrap_or((feature, "true"));
        if name != "buildkit" {
            continue;
        }
        usual = match boolean(value) {
            Some(true) => UsualBuilder::BuildKit,
            Some(false) => UsualBuilder::Classic,
            None => {
                let flag = format!("--feature={feature}");
                return Err(FlagError::bad(flag, "it is neither true nor false"));
            }
        };
    }
    Ok(usual)
}

#[cfg(test)]
mod tests {
    use super::super::rows::DOCKERD;
    use super::*;
    use crate::personalities::flags::testing::walk;
    use crate::personalities::flags::{self, Operands};
    use crate::serve::Collection;

    fn with(words: &[&str], file: Option<&str>) -> Result<ConfiguredDaemon, Report> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("daemon.json");
        std::fs::write(&path, file.unwrap_or("{}")).unwrap();
        let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        words.push(format!("--config-file={}", path.display()));
        daemon(flags::read(DOCKERD, &words, Operands::Anywhere)?, &Environment::default())
    }

    #[test]
    fn every_flag_is_honoured_or_refused_by_name() {
        walk(DOCKERD, |words| {
            let given = flags::read(DOCKERD, words, Operands::Anywhere)?;
            given.is_on("version", false);
            given.last("config-file");
            match of_flags(&given, BuilderOptions::default()) {
                // Files of TLS that are not there, and TLS without its files, are read and refused later.
                Err(FlagError::Missing { .. } | FlagError::Usage(_)) => {}
                other => drop(other?),
            }
            given.done().map(|()| given.notes)
        });
    }

    #[test]
    fn a_file_counts_as_flags_do() {
        let file = r#"{
            "hosts": ["tcp://127.0.0.1:0", "unix:///run/x.sock"], "debug": true,
            "registry-mirrors": ["https://mirror.example.com/"], "insecure-registries": ["r:5000"],
            "proxies": {"https-proxy": "http://proxy:3128", "no-proxy": "r"}, "data-root": "/data", "group": "docker", "shutdown-timeout": 3, "mtu": 1400,
            "log-driver": "json-file", "log-opts": {"max-size": "1m"},
            "features": {"buildkit": false, "containerd-snapshotter": true},
            "builder": {
                "gc": {"enabled": true, "defaultKeepStorage": "20GB"},
                "entitlements": {"security-insecure": true, "network-host": true}
            }
        }"#;
        let daemon = with(&[], Some(file)).unwrap();
        let shown: Vec<String> = daemon.options.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["tcp://127.0.0.1:0", "unix:///run/x.sock"]);
        assert_eq!(daemon.options.group.as_deref(), Some("docker"));
        assert_eq!(daemon.options.shutdown_timeout, Duration::from_secs(3));
        assert_eq!(daemon.options.usual_builder, UsualBuilder::Classic);
        assert!(matches!(daemon.options.collection, Collection::By(_)));
        assert!(daemon.options.allows_insecure && daemon.is_debug);
        assert_eq!(daemon.root.as_deref(), Some(Path::new("/data")));
        assert_eq!(daemon.proxies.https.unwrap().expose(), "http://proxy:3128");
        assert_eq!(daemon.proxies.no.as_deref(), Some("r"));
        assert_eq!(daemon.insecure, ["r:5000"]);
        assert_eq!(daemon.mirrors, ["https://mirror.example.com/"]);
        assert!(daemon.notes.is_empty(), "{:?}", daemon.notes);
    }

    #[test]
    fn what_contradicts_itself_or_is_wrong_is_named() {
        for (words, file, word) in [
            (&["--host=unix:///x"][..], r#"{"hosts": ["unix:///y"]}"#, "`--host` and `hosts`"),
            (&["-D"], r#"{"debug": false}"#, "`--debug` and `debug`"),
            (&["--label=a=b"], r#"{"labels": []}"#, "`--label` and `labels`"),
            (&[], r#"{"colour": "red"}"#, "`colour`"),
            (&[], r#"{"debug": "yes"}"#, "`debug`"),
            (&[], r#"{"hosts": "unix:///x"}"#, "`hosts`"),
            (&[], r#"{"builder": {"gc": {"colour": 1}}}"#, "colour"),
            (&[], r#"{"builder": {"gc": {"defaultKeepStorage": "much"}}}"#, "defaultKeepStorage"),
            (&[], r#"{"authorization-plugins": ["x"]}"#, "there are no plugins"),
            (&[], r#"{"features": {"buildkit": "perhaps"}}"#, "`features`"),
            (&[], r#"{"tlsverify": true}"#, "--tlscacert"),
            (&[], "{", "EOF"),
        ] {
            let error = with(words, Some(file)).unwrap_err().message;
            assert!(error.contains(word), "{file}: {error}");
        }
        let missing = ["--config-file=/missing/daemon.json".to_owned()];
        let given = flags::read(DOCKERD, &missing, Operands::Anywhere).unwrap();
        let error = daemon(given, &Environment::default()).unwrap_err().message;
        assert!(error.contains("/missing/daemon.json"), "{error}");
    }
}
