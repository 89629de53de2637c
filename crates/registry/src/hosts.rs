//! Settings of hosts: mirrors, certificates, plain HTTP.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use reqwest::Url;

use crate::{Error, Result};

/// Docker Hub's name in references.
pub(crate) const HUB: &str = "docker.io";
/// Docker Hub's registry.
pub(crate) const HUB_REGISTRY: &str = "registry-1.docker.io";

/// Settings of hosts, by their name in references (`docker.io`, `registry.local:5000`).
#[derive(Clone, Debug, Default)]
pub struct HostsConfig {
    certs_dirs: Vec<PathBuf>,
    insecure: bool,
    hosts: BTreeMap<String, HostConfig>,
}

/// Settings of one host.
#[derive(Clone, Debug, Default)]
pub struct HostConfig {
    /// Registries asked first when pulling, in this order: a URL or `host[:port][/path]`.
    pub mirrors: Vec<String>,
    /// Plain HTTP or TLS; if unset, plain HTTP is tried only on loopback addresses without
    /// certificates.
    pub plain_http: Option<bool>,
    /// Skips certificate verification, and falls back to plain HTTP where there is no TLS.
    pub insecure: bool,
    /// Files of PEM certificates that are trusted for this host, in addition to the system's.
    pub ca: Vec<PathBuf>,
    /// Client certificates. The first one is used.
    pub client_certificates: Vec<ClientCertificate>,
}

/// A certificate of the client and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// File of the certificate and its chain.
    pub certificate: PathBuf,
    /// File of its private key.
    pub key: PathBuf,
}

impl HostsConfig {
    /// Accepts plain HTTP and untrusted certificates from every registry.
    #[must_use]
    pub fn with_insecure_everywhere(mut self) -> Self {
        self.insecure = true;
        self
    }

    /// Adds a folder in Docker's layout: `<dir>/<host>/{*.crt, *.cert, *.key}` are authorities,
    /// client certificates and their keys. It is read when a host is first talked to.
    pub fn with_certs_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.certs_dirs.push(dir.into());
        self
    }

    /// The settings of a host, to be changed.
    pub fn host_mut(&mut self, host: &str) -> &mut HostConfig {
        self.hosts.entry(canonical(host).into()).or_default()
    }

    /// The settings of a host, certificates of the folders included.
    ///
    /// # Errors
    /// If a client certificate has no key.
    pub(crate) fn host(&self, host: &str) -> Result<HostConfig> {
        let host = canonical(host);
        let mut config = self.hosts.get(host).cloned().unwrap_or_default();
        config.insecure |= self.insecure;
        let names: &[&str] = if host == HUB { &[HUB, HUB_REGISTRY] } else { &[host] };
        for dir in &self.certs_dirs {
            // A host comes from a reference: it must not lead out of the folder.
            for name in names.iter().filter(|name| !name.contains('/') && !name.contains("..")) {
                read_certs_dir(&dir.join(name), &mut config)?;
            }
        }
        Ok(config)
    }
}

/// Docker Hub has several names.
pub(crate) fn canonical(host: &str) -> &str {
    match host {
        "index.docker.io" | HUB_REGISTRY => HUB,
        host => host,
    }
}

fn read_certs_dir(dir: &Path, config: &mut HostConfig) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(()) };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in files {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => config.ca.push(file),
            Some("cert") => {
                let key = file.with_extension("key");
                if !key.exists() {
                    return Err(Error::file(file, "its key is missing: the same name with `.key`"));
                }
                config.client_certificates.push(ClientCertificate { certificate: file, key });
            }
            _ => {}
        }
    }
    Ok(())
}

/// `host:port` apart; brackets stay.
pub(crate) fn split_port(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (authority, None),
        },
        _ => (authority, None),
    }
}

/// True if a host is this machine.
pub(crate) fn is_loopback(authority: &str) -> bool {
    let host = split_port(authority).0;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || bare.parse().is_ok_and(|address: Ipv4Addr| address.is_loopback())
        || bare.parse().is_ok_and(|address: Ipv6Addr| address.is_loopback())
}

/// Host and port of a URL, as a reference has them.
pub(crate) fn authority(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_come_from_dockers_layout() {
        let dir = tempfile::tempdir().unwrap();
        let host = dir.path().join("r.io:5000");
        std::fs::create_dir(&host).unwrap();
        for name in ["ca.crt", "client.cert", "client.key"] {
            std::fs::write(host.join(name), "").unwrap();
        }
        let hosts = HostsConfig::default().with_certs_dir(dir.path());
        let config = hosts.host("r.io:5000").unwrap();
        assert_eq!(config.ca, [host.join("ca.crt")]);
        assert_eq!(config.client_certificates[0].key, host.join("client.key"));
        assert!(hosts.host("other").unwrap().ca.is_empty());
        std::fs::remove_file(host.join("client.key")).unwrap();
        assert!(hosts.host("r.io:5000").unwrap_err().to_string().contains(".key"));
    }
}
