//! The registries of a `buildkitd.toml`: mirrors, plain HTTP, unknown certificates, authorities; and the entitlements that
//! its `buildkitd` lets clients have.
//!
//! The first of these that exists counts: `$KILN_BUILDKITD_CONFIG`; the file given to
//! `docker buildx create --buildkitd-config`; buildx's `buildkitd.default.toml`;
//! `$XDG_CONFIG_HOME/buildkit/buildkitd.toml` (or `~/.config/…`); `/etc/buildkit/buildkitd.toml`.
//! Its other sections are for a daemon.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::environment::Environment;
use super::file::{FileFault, read_text};
use super::registry::RegistrySetting;
use crate::render::CommandError;

/// Registries that cannot be read, kept or forgotten.
#[derive(Debug, thiserror::Error)]
pub enum BuildkitdError {
    /// A file that is wrong.
    #[error("`{}`: {source}", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Its fault.
        source: FileFault,
    },
    /// The file of `KILN_BUILDKITD_CONFIG` is wrong.
    #[error("KILN_BUILDKITD_CONFIG: {0}")]
    Variable(#[source] Box<Self>),
    /// The kept file, which kiln wrote for later commands, is wrong.
    #[error("`{}`: {source}; remove it", .file.display())]
    Kept {
        /// The file.
        file: PathBuf,
        /// Its fault.
        source: FileFault,
    },
    /// There is no folder for the kept file.
    #[error("there is no place for it: HOME is not set; set DOCKER_CONFIG")]
    NoFolder,
    /// The kept file cannot be written.
    #[error("writing `{}`: {source}", .file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The kept file cannot be removed.
    #[error("removing `{}`: {source}", .file.display())]
    Remove {
        /// The file.
        file: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl CommandError for BuildkitdError {}

/// The content of a file, as far as it is read.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct BuildkitdConfig {
    /// The registries, by host.
    #[serde(default, rename = "registry")]
    registries: BTreeMap<String, Registry>,
    /// The entitlements that clients of a service may have.
    #[serde(default, rename = "insecure-entitlements", skip_serializing)]
    entitlements: Vec<String>,
    /// The sections for a daemon.
    #[serde(flatten, skip_serializing)]
    others: BTreeMap<String, toml::Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Registry {
    mirrors: Vec<String>,
    http: Option<bool>,
    insecure: Option<bool>,
    ca: Vec<PathBuf>,
    keypair: Vec<KeyPair>,
    tlsconfigdir: Vec<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct KeyPair {
    key: PathBuf,
    cert: PathBuf,
}

impl BuildkitdConfig {
    /// Reads a file; relative paths in it are resolved against `directory`, as in buildx.
    ///
    /// # Errors
    /// If it cannot be read, or is wrong.
    pub fn read(file: &Path, directory: &Path) -> Result<Self, BuildkitdError> {
        Self::parse(file, directory)
            .map_err(|source| BuildkitdError::File { file: file.to_owned(), source })
    }

    fn parse(file: &Path, directory: &Path) -> Result<Self, FileFault> {
        Self::of_text(&read_text(file)?, |path| Ok(directory.join(path)))
    }

    /// Reads the text of a file. `place` says where each file and folder is that the text names.
    ///
    /// # Errors
    /// If it is wrong, and those of `place`.
    pub fn of_text<E: From<FileFault>>(
        text: &str,
        mut place: impl FnMut(&Path) -> Result<PathBuf, E>,
    ) -> Result<Self, E> {
        let mut config: Self =
            toml::from_str(text).map_err(|error| FileFault::Toml(Box::new(error)))?;
        for registry in config.registries.values_mut() {
            let pairs =
                registry.keypair.iter_mut().flat_map(|pair| [&mut pair.key, &mut pair.cert]);
            for path in registry.ca.iter_mut().chain(&mut registry.tlsconfigdir).chain(pairs) {
                *path = place(path.as_path())?;
            }
        }
        Ok(config)
    }

    /// The names of the sections that neither have registries nor entitlements.
    pub fn sections(&self) -> Vec<&str> {
        self.others.keys().map(String::as_str).collect()
    }

    /// The names of what has no effect on a build without a service.
    pub fn others(&self) -> Vec<&str> {
        let entitlements = (!self.entitlements.is_empty()).then_some("insecure-entitlements");
        entitlements.into_iter().chain(self.sections()).collect()
    }

    /// The entitlements that clients of a service may have.
    pub fn insecure_entitlements(&self) -> &[String] {
        &self.entitlements
    }

    /// The settings of single registries.
    pub fn registries(&self) -> Vec<RegistrySetting> {
        self.registries.iter().flat_map(|(host, registry)| registry.settings(host)).collect()
    }

    /// Registries, each with a mirror that is asked before it.
    pub fn mirrors(&self) -> impl Iterator<Item = (String, String)> {
        self.registries.iter().flat_map(|(host, registry)| {
            registry.mirrors.iter().map(|mirror| (host.clone(), mirror.clone()))
        })
    }

    /// Keeps it for later commands.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn keep(&self, environment: &Environment) -> Result<(), BuildkitdError> {
        let file = kept(environment).ok_or(BuildkitdError::NoFolder)?;
        self.write(&file).map_err(|source| BuildkitdError::Write { file, source })
    }

    fn write(&self, file: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::create_dir_all(file.parent().unwrap_or(Path::new(".")))?;
        std::fs::write(file, text)
    }
}

impl Registry {
    /// The settings of the registry: one, and another for each client certificate.
    fn settings(&self, host: &str) -> Vec<RegistrySetting> {
        let is_insecure = self.insecure == Some(true);
        let (mut authorities, mut pairs) = (self.ca.clone(), self.keypair.clone());
        for file in self.tlsconfigdir.iter().flat_map(|folder| files(folder)) {
            match file.extension().and_then(std::ffi::OsStr::to_str) {
                Some("crt") => authorities.push(file),
                Some("cert") => pairs.push(KeyPair { key: file.with_extension("key"), cert: file }),
                _ => {}
            }
        }
        let first = RegistrySetting {
            host: host.to_owned(),
            authorities,
            insecure: is_insecure,
            // With `insecure`, plain HTTP is the fallback where there is no TLS.
            plain_http: self.http.filter(|_| !is_insecure),
            ..RegistrySetting::default()
        };
        let others = pairs.into_iter().map(|pair| RegistrySetting {
            host: host.to_owned(),
            client_certificate: Some((pair.cert, pair.key)),
            ..RegistrySetting::default()
        });
        [first].into_iter().chain(others).collect()
    }
}

/// The files of a folder, sorted; none if it cannot be listed, as with BuildKit.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// The configuration in effect; empty if there is none.
///
/// # Errors
/// If a file is wrong.
pub fn buildkitd_config(environment: &Environment) -> Result<BuildkitdConfig, BuildkitdError> {
    if let Some(file) = environment.get("KILN_BUILDKITD_CONFIG").map(Path::new) {
        let directory = file.parent().unwrap_or(Path::new(""));
        return BuildkitdConfig::read(file, directory)
            .map_err(|error| BuildkitdError::Variable(Box::new(error)));
    }
    if let Some(file) = kept(environment).filter(|file| file.exists()) {
        let parsed =
            read_text(&file).and_then(|text| Ok(serde_json::from_str::<BuildkitdConfig>(&text)?));
        return parsed.map_err(|source| BuildkitdError::Kept { file, source });
    }
    let buildx = buildx_folder(environment).map(|folder| folder.join("buildkitd.default.toml"));
    let own = configurations(environment).map(|folder| folder.join("buildkit/buildkitd.toml"));
    let places = buildx.into_iter().chain(own).chain(["/etc/buildkit/buildkitd.toml".into()]);
    match places.into_iter().find(|file| file.exists()) {
        Some(file) => {
            let directory = file.parent().unwrap_or(Path::new("/")).to_owned();
            BuildkitdConfig::read(&file, &directory)
        }
        None => Ok(BuildkitdConfig::default()),
    }
}

/// Removes the kept configuration.
///
/// # Errors
/// If it cannot be removed.
pub fn forget_buildkitd_config(environment: &Environment) -> Result<(), BuildkitdError> {
    let Some(file) = kept(environment) else { return Ok(()) };
    match std::fs::remove_file(&file) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(BuildkitdError::Remove { file, source })
        }
        _ => Ok(()),
    }
}

fn kept(environment: &Environment) -> Option<PathBuf> {
    buildx_folder(environment).map(|folder| folder.join("kiln-registries.json"))
}

/// The folder of buildx's configuration.
fn buildx_folder(environment: &Environment) -> Option<PathBuf> {
    let home = || environment.get("HOME").map(|home| Path::new(home).join(".docker"));
    match environment.get("BUILDX_CONFIG") {
        Some(folder) => Some(folder.into()),
        None => {
            let docker = environment.get("DOCKER_CONFIG").map(PathBuf::from).or_else(home);
            docker.map(|folder| folder.join("buildx"))
        }
    }
}

fn configurations(environment: &Environment) -> Option<PathBuf> {
    match environment.get("XDG_CONFIG_HOME").filter(|path| path.starts_with('/')) {
        Some(folder) => Some(folder.into()),
        None => environment.get("HOME").map(|home| Path::new(home).join(".config")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
        root = '/var/lib/buildkit'
        insecure-entitlements = ['network.host']
        [worker.oci]
          gc = true
        [registry.'docker.io']
          mirrors = ['mirror.local:5000', 'hub.example.com/proxy']
        [registry.'mirror.local:5000']
          http = true
        [registry.'hub.example.com']
          ca = ['ca.pem', '/abs/ca.pem']
          [[registry.'hub.example.com'.keypair]]
            key = 'key.pem'
            cert = 'cert.pem'
        [registry.'self.example.com']
          http = true
          insecure = true
          tlsconfigdir = ['certs']
    ";

    #[test]
    fn every_setting_of_a_registry_counts() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path();
        std::fs::create_dir(folder.join("certs")).unwrap();
        for name in ["a.crt", "b.cert", "b.key", "note.txt"] {
            std::fs::write(folder.join("certs").join(name), "").unwrap();
        }
        std::fs::write(folder.join("b.toml"), FILE).unwrap();
        let config = BuildkitdConfig::read(&folder.join("b.toml"), folder).unwrap();
        let check = |config: &BuildkitdConfig| {
            let mirrors: Vec<_> = config.mirrors().map(|(_, mirror)| mirror).collect();
            assert_eq!(mirrors, ["mirror.local:5000", "hub.example.com/proxy"]);
            let all = config.registries();
            let of = |host: &str| all.iter().filter(|one| one.host == host).collect::<Vec<_>>();
            assert_eq!(of("mirror.local:5000")[0].plain_http, Some(true));
            let hub = of("hub.example.com");
            assert_eq!(hub[0].authorities, [folder.join("ca.pem"), "/abs/ca.pem".into()]);
            let pair = (folder.join("cert.pem"), folder.join("key.pem"));
            assert_eq!(hub[1].client_certificate, Some(pair));
            let own = of("self.example.com");
            assert!(own[0].insecure && own[0].plain_http.is_none());
            assert_eq!(own[0].authorities, [folder.join("certs/a.crt")]);
            let pair = (folder.join("certs/b.cert"), folder.join("certs/b.key"));
            assert_eq!(own[1].client_certificate, Some(pair));
        };
        check(&config);
        assert_eq!(config.others(), ["insecure-entitlements", "root", "worker"]);
        assert_eq!(config.sections(), ["root", "worker"]);
        assert_eq!(config.insecure_entitlements(), ["network.host"]);

        // The kept configuration is the same for later commands in any folder.
        let home = folder.display().to_string();
        let environment = Environment::of(&[("DOCKER_CONFIG", &home)]);
        config.keep(&environment).unwrap();
        check(&buildkitd_config(&environment).unwrap());
        forget_buildkitd_config(&environment).unwrap();
        forget_buildkitd_config(&environment).unwrap();
    }

    #[test]
    fn the_first_file_counts_and_what_is_wrong_is_named() {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| {
            let path = place.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        let mirror = |name: &str| format!("[registry.'docker.io']\nmirrors = ['{name}']\n");
        let text = |path: &Path| path.display().to_string();
        let pairs = [("XDG_CONFIG_HOME", text(&at("x"))), ("BUILDX_CONFIG", text(&at("b")))];
        let mut pairs: Vec<(&str, &str)> = pairs.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let first = |pairs: &[(&str, &str)]| -> Result<Option<String>, BuildkitdError> {
            let config = buildkitd_config(&Environment::of(pairs))?;
            Ok(config.mirrors().next().map(|(_, mirror)| mirror))
        };
        for (file, name) in
            [("x/buildkit/buildkitd.toml", "xdg"), ("b/buildkitd.default.toml", "buildx")]
        {
            std::fs::write(at(file), mirror(name)).unwrap();
            assert_eq!(first(&pairs).unwrap().as_deref(), Some(name), "{file}");
        }
        let named = at("named.toml");
        let named_text = text(&named);
        pairs.push(("KILN_BUILDKITD_CONFIG", &named_text));
        assert!(matches!(first(&pairs), Err(BuildkitdError::Variable(_))));
        std::fs::write(&named, mirror("named")).unwrap();
        assert_eq!(first(&pairs).unwrap().as_deref(), Some("named"));
        for (wrong, word) in [
            ("[registry", "named.toml"),
            ("[registry.'a']\ncolour = 'red'", "colour"),
            ("[registry.'a']\nhttp = 'yes'", "boolean"),
            ("[[registry.'a'.keypair]]\nkey = 'k'", "cert"),
        ] {
            std::fs::write(&named, wrong).unwrap();
            let error = first(&pairs).unwrap_err().to_string();
            assert!(error.contains(word), "{wrong}: {error}");
        }
    }
}
