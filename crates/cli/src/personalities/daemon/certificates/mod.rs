//! The certificates of a service and of its clients in one folder, laid out as the image `docker:dind` has it:
//! `ca/{key,cert}.pem`, `server/{key,cert,ca}.pem`, `client/{key,cert,ca}.pem`.
//!
//! Keys that are there stay. Certificates stay while they are good for all names and for another month;
//! else all of them are made again from the same keys, so that clients and services that still have the
//! old ones understand each other. Since all of them end on one day, the authority's needs no look of its own.
//!
//! A folder with a server's files and without the authority's key is the user's, and is left as it is.

mod error;
mod folder;
mod issue;
mod keys;
mod names;
mod validity;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use error::CertificateError;
pub use names::{MachineNames, SubjectName, subject_names};

use folder::{CertificateFolder, FolderLock};
use issue::{IssuedCertificates, ServiceKeys};
use keys::{CertificateKey, NoSigningKey};
use validity::Usage;

/// A key that its owner alone reads.
const OWN_KEY: u32 = 0o600;
/// Files that any user of the volume reads. The client's key is one of them: the user that a job runs as is not
/// known here.
const SHARED: u32 = 0o644;

/// Certificates that are there. No other service changes the files until this is dropped.
#[derive(Debug)]
pub struct ReadyCertificates {
    /// The authorities of clients' certificates.
    pub authority: PathBuf,
    /// The server's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// A fault of certificates that are not kiln's to make.
    pub warning: Option<String>,
    _lock: FolderLock,
}

/// Makes what is missing or no longer good.
///
/// # Errors
/// If the folder cannot be written, or has keys that are none.
pub fn prepare(
    path: &Path,
    names: &BTreeSet<SubjectName>,
    now: SystemTime,
) -> Result<ReadyCertificates, CertificateError> {
    let folder = CertificateFolder::new(path);
    let lock = folder.lock()?;
    let mut warning = None;
    if is_the_users(&folder)? {
        warning = fault_of_the_users(&folder, now)?;
    } else if folder.read("ca/key.pem")?.is_none() && folder.read("ca/cert.pem")?.is_some() {
        return Err(CertificateError::NoAuthorityKey(folder.path("ca/key.pem")));
    } else if !are_good(&folder, names, now)? {
        make(&folder, names, now)?;
    }
    Ok(ReadyCertificates {
        authority: folder.path("server/ca.pem"),
        certificate: folder.path("server/cert.pem"),
        key: folder.path("server/key.pem"),
        warning,
        _lock: lock,
    })
}

fn is_the_users(folder: &CertificateFolder) -> Result<bool, CertificateError> {
    for name in ["server/ca.pem", "server/cert.pem", "server/key.pem"] {
        if folder.read(name)?.is_none() {
            return Ok(false);
        }
    }
    Ok(folder.read("ca/key.pem")?.is_none())
}

fn fault_of_the_users(
    folder: &CertificateFolder,
    now: SystemTime,
) -> Result<Option<String>, CertificateError> {
    let server = certificate(folder, "server/cert.pem")?;
    let authority = certificate(folder, "server/ca.pem")?;
    let fault = validity::fault(&server, &authority, Usage::Server, now);
    Ok(fault.map(|fault| format!("`{}`: {fault}", folder.path("server/cert.pem").display())))
}

/// True if all files are there, and the certificates are good for the names and for another month.
fn are_good(
    folder: &CertificateFolder,
    names: &BTreeSet<SubjectName>,
    now: SystemTime,
) -> Result<bool, CertificateError> {
    let mut certificates = Vec::new();
    for name in ["ca/cert.pem", "server/cert.pem", "client/cert.pem"] {
        if folder.read(name)?.is_none() {
            return Ok(false);
        }
        certificates.push(certificate(folder, name)?);
    }
    let authority = folder.read("ca/cert.pem")?;
    for copy in ["server/ca.pem", "client/ca.pem"] {
        if folder.read(copy)? != authority {
            return Ok(false);
        }
    }
    let keys = ["ca/key.pem", "server/key.pem", "client/key.pem"];
    for (name, certificate) in keys.iter().zip(&certificates) {
        match key(folder, name)? {
            Some(key) if validity::is_of_key(certificate, &key) => {}
            _ => return Ok(false),
        }
    }
    let [authority, server, client] = certificates.as_slice() else { return Ok(false) };
    let later = now + validity::MARGIN;
    Ok(validity::fault(server, authority, Usage::Server, now).is_none()
        && validity::fault(server, authority, Usage::Server, later).is_none()
        && validity::fault(client, authority, Usage::Client, later).is_none()
        && names.iter().all(|name| validity::is_for(server, name)))
}

/// Makes all certificates, and the keys that are not there.
fn make(
    folder: &CertificateFolder,
    names: &BTreeSet<SubjectName>,
    now: SystemTime,
) -> Result<(), CertificateError> {
    // Services with folders of their own may have the clients' in common.
    let _lock = CertificateFolder::new(&folder.path("client")).lock()?;
    let made = |name: &str, mode: u32| -> Result<CertificateKey, CertificateError> {
        if let Some(key) = key(folder, name)? {
            folder.set_mode(name, mode)?;
            return Ok(key);
        }
        let wrong = |error: NoSigningKey| CertificateError::wrong(folder.path(name), &error);
        let key = CertificateKey::generate().map_err(wrong)?;
        folder.write(name, mode, &pem("PRIVATE KEY", &key))?;
        CertificateKey::of_pkcs8(key).map_err(wrong)
    };
    let keys = ServiceKeys {
        authority: made("ca/key.pem", OWN_KEY)?,
        server: made("server/key.pem", OWN_KEY)?,
        client: made("client/key.pem", SHARED)?,
    };
    let issued = issue::issue(keys, names, now).map_err(CertificateError::Issue)?;
    let IssuedCertificates { authority, server, client } = issued;
    let text = |certificate: &CertificateDer<'_>| pem("CERTIFICATE", certificate);
    // Clients wait for `client/ca.pem` or for `client/cert.pem`: the rest is there when they come.
    for (name, certificate) in [
        ("ca/cert.pem", &authority),
        ("server/ca.pem", &authority),
        ("server/cert.pem", &server),
        ("client/cert.pem", &client),
        ("client/ca.pem", &authority),
    ] {
        folder.write(name, SHARED, &text(certificate))?;
    }
    Ok(())
}

fn certificate(
    folder: &CertificateFolder,
    name: &str,
) -> Result<CertificateDer<'static>, CertificateError> {
    let bytes = folder.read(name)?.unwrap_or_default();
    CertificateDer::from_pem_slice(&bytes)
        .map_err(|error| CertificateError::wrong(folder.path(name), &error))
}

fn key(folder: &CertificateFolder, name: &str) -> Result<Option<CertificateKey>, CertificateError> {
    let Some(bytes) = folder.read(name)? else { return Ok(None) };
    let wrong = |error: &dyn std::fmt::Display| CertificateError::wrong(folder.path(name), error);
    let der = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| wrong(&error))?;
    CertificateKey::read(&der).map(Some).map_err(|error| wrong(&error))
}

/// Text of RFC 7468.
fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, others) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = others;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests;
