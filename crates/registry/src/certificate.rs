//! The faults of servers' certificates, each with its remedy.

use rustls::CertificateError;

/// True if the only fault of a server's certificate is that it is a CA certificate.
pub(crate) fn is_authority(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error else {
        return false;
    };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// The fault of a host's certificate and its remedy; none for other TLS errors.
pub(crate) fn refusal(error: &rustls::Error, host: &str) -> Option<String> {
    let rustls::Error::InvalidCertificate(fault) = error else { return None };
    let trust = format!(
        "add it, or its authority's, to `certs.d/{host}/ca.crt` beside docker's `config.json` or in \
         /etc/docker, or to the file that SSL_CERT_FILE names"
    );
    Some(match fault {
        CertificateError::UnknownIssuer => format!("is signed by an untrusted authority: {trust}"),
        _ if is_authority(error) => format!("is self-signed and not trusted: {trust}"),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "is for another name: its subjectAltName has to name this host".into()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "is no longer valid: its date has passed, or this machine's clock is wrong".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet, or this machine's clock is wrong".into()
        }
        other => format!("cannot be used: {other}"),
    })
}
