//! Certificates against times, names, usages and keys.

use std::time::{Duration, SystemTime};

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, DnsName, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::keys::CertificateKey;
use super::names::SubjectName;

/// The time that a certificate has to be good for, lest a service that runs for weeks outlive it.
pub(super) const MARGIN: Duration = Duration::from_secs(30 * 86_400);

/// The usage of a certificate.
#[derive(Clone, Copy, Debug)]
pub(super) enum Usage {
    /// A server's.
    Server,
    /// A client's.
    Client,
}

/// The reason for which a certificate of an authority is not good at a time.
pub(super) fn fault(
    certificate: &CertificateDer<'_>,
    authority: &CertificateDer<'_>,
    usage: Usage,
    time: SystemTime,
) -> Option<webpki::Error> {
    let usage = match usage {
        Usage::Server => KeyUsage::server_auth(),
        Usage::Client => KeyUsage::client_auth(),
    };
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let verified = EndEntityCert::try_from(certificate).and_then(|certificate| {
        let anchors = [anchor_from_trusted_cert(authority)?];
        certificate.verify_for_usage(
            default_provider().signature_verification_algorithms.all,
            &anchors,
            &[],
            UnixTime::since_unix_epoch(since),
            usage,
            None,
            None,
        )?;
        Ok(())
    });
    verified.err()
}

/// True if a server's certificate has a name.
pub(super) fn is_for(certificate: &CertificateDer<'_>, name: &SubjectName) -> bool {
    let name = match name {
        SubjectName::Ip(address) => ServerName::from(*address),
        // A wildcard is for each name that it stands for.
        SubjectName::Dns(name) => match DnsName::try_from(name.replacen('*', "kiln", 1)) {
            Ok(name) => ServerName::DnsName(name),
            Err(_) => return false,
        },
    };
    EndEntityCert::try_from(certificate)
        .is_ok_and(|certificate| certificate.verify_is_valid_for_subject_name(&name).is_ok())
}

/// True if a certificate is of a key.
pub(super) fn is_of_key(certificate: &CertificateDer<'_>, key: &CertificateKey) -> bool {
    EndEntityCert::try_from(certificate)
        .is_ok_and(|certificate| certificate.subject_public_key_info().as_ref() == key.info())
}
