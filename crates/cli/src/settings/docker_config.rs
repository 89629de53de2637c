//! The part of docker's `config.json` that builds use besides credentials: `proxies`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::render::CommandError;

/// A `config.json` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DockerConfigError {
    /// It cannot be read.
    #[error("reading `{}`: {source}", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It is larger than any configuration.
    #[error("`{}` is larger than 4 MiB", .0.display())]
    TooLarge(PathBuf),
    /// It is not JSON, or its proxies are no table of texts. serde's error is left out: it can
    /// quote a value, and values here are credentials.
    #[error("`{}` is not docker's configuration (line {line}, column {column})", .file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// The line at fault.
        line: usize,
        /// The column in it.
        column: usize,
    },
}

impl CommandError for DockerConfigError {}

/// The largest `config.json`, in bytes.
const LARGEST: u64 = 4 << 20;

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    proxies: BTreeMap<String, Proxies>,
}

/// Proxy settings that become build arguments. May hold passwords, hence hidden from debug output.
#[derive(Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Proxies {
    http_proxy: String,
    https_proxy: String,
    no_proxy: String,
    ftp_proxy: String,
    all_proxy: String,
}

impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proxies(…)")
    }
}

impl Proxies {
    /// Names of build arguments and their values; each name in both cases.
    pub fn build_args(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("HTTP_PROXY", &self.http_proxy),
            ("http_proxy", &self.http_proxy),
            ("HTTPS_PROXY", &self.https_proxy),
            ("https_proxy", &self.https_proxy),
            ("NO_PROXY", &self.no_proxy),
            ("no_proxy", &self.no_proxy),
            ("FTP_PROXY", &self.ftp_proxy),
            ("ftp_proxy", &self.ftp_proxy),
            ("ALL_PROXY", &self.all_proxy),
            ("all_proxy", &self.all_proxy),
        ]
        .into_iter()
        .map(|(name, value)| (name, value.as_str()))
        .filter(|(_, value)| !value.is_empty())
    }
}

/// The proxies of `config.json` in `folder`: those of `docker_host` if there are any, else the
/// default ones. A missing file has none.
///
/// # Errors
/// If the file cannot be read or parsed.
pub fn read_proxies(
    folder: &Path,
    docker_host: Option<&str>,
) -> Result<Proxies, DockerConfigError> {
    let file = folder.join("config.json");
    let length = match std::fs::metadata(&file) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Proxies::default()),
        Err(source) => return Err(DockerConfigError::Read { file, source }),
    };
    if length > LARGEST {
        return Err(DockerConfigError::TooLarge(file));
    }
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(source) => return Err(DockerConfigError::Read { file, source }),
    };
    if text.trim().is_empty() {
        return Ok(Proxies::default());
    }
    let mut config: Config = serde_json::from_str(&text).map_err(|error| {
        DockerConfigError::Syntax { file, line: error.line(), column: error.column() }
    })?;
    let own = docker_host.and_then(|host| config.proxies.remove(host));
    Ok(own.or_else(|| config.proxies.remove("default")).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_become_arguments_in_both_cases() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read_proxies(folder.path(), None).unwrap(), Proxies::default());
        let path = folder.path().join("config.json");
        std::fs::write(
            &path,
            r#"{"auths":{},"proxies":{"default":{"httpProxy":"http://p"},"tcp://h":{"noProxy":"x"}}}"#,
        )
        .unwrap();
        let proxies = read_proxies(folder.path(), None).unwrap();
        let names: Vec<_> = proxies.build_args().collect();
        assert_eq!(names, [("HTTP_PROXY", "http://p"), ("http_proxy", "http://p")]);
        let own = read_proxies(folder.path(), Some("tcp://h")).unwrap();
        assert_eq!(own.build_args().count(), 2);
        std::fs::write(&path, r#"{"proxies": "p4ssword"}"#).unwrap();
        let error = read_proxies(folder.path(), None).unwrap_err().to_string();
        assert!(error.contains("config.json") && !error.contains("p4ssword"), "{error}");
    }
}
