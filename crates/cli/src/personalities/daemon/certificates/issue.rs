//! Certificates made from keys.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, Error,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyUsagePurpose, SanType, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::CertificateDer;

use super::keys::CertificateKey;
use super::names::SubjectName;

/// The longest time that clients accept (Apple's limit since 2019).
const LIFETIME: Duration = Duration::from_secs(825 * 86_400);
/// The clocks of clients may be behind by this much.
const BEFORE: Duration = Duration::from_secs(86_400);

/// The keys of all certificates.
pub(super) struct ServiceKeys {
    pub(super) authority: CertificateKey,
    pub(super) server: CertificateKey,
    pub(super) client: CertificateKey,
}

/// All certificates.
pub(super) struct IssuedCertificates {
    pub(super) authority: CertificateDer<'static>,
    pub(super) server: CertificateDer<'static>,
    pub(super) client: CertificateDer<'static>,
}

/// Makes all certificates; they are good from the day before `now` on.
pub(super) fn issue(
    keys: ServiceKeys,
    names: &BTreeSet<SubjectName>,
    now: SystemTime,
) -> Result<IssuedCertificates, Error> {
    let mut authority = parameters("kiln authority", 0, now);
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
    // RFC 7093, method 1.
    let identifier = digest(&SHA256, keys.authority.info());
    authority.key_identifier_method = KeyIdMethod::PreSpecified(identifier.as_ref()[..20].to_vec());
    let authority = CertifiedIssuer::self_signed(authority, keys.authority)?;
    let leaf = |name: &str, number: u128, usage: ExtendedKeyUsagePurpose| {
        let mut leaf = parameters(name, number, now);
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![usage];
        leaf.use_authority_key_identifier_extension = true;
        leaf
    };
    let mut server = leaf("kiln service", 1, ExtendedKeyUsagePurpose::ServerAuth);
    server.subject_alt_names = names.iter().map(alternative).collect::<Result<_, _>>()?;
    let client = leaf("kiln client", 2, ExtendedKeyUsagePurpose::ClientAuth);
    Ok(IssuedCertificates {
        server: server.signed_by(&keys.server, &authority)?.into(),
        client: client.signed_by(&keys.client, &authority)?.into(),
        authority: authority.der().clone(),
    })
}

fn parameters(name: &str, number: u128, now: SystemTime) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    // No two certificates of an authority have one number, and those of an earlier start are its too.
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let number = (since.as_nanos() + number).to_be_bytes();
    parameters.serial_number = Some(SerialNumber::from_slice(&number));
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    let begin_of_day = |time: SystemTime| {
        let timestamp = jiff::Timestamp::try_from(time).unwrap_or_default();
        let date = timestamp.to_zoned(jiff::tz::TimeZone::UTC).date();
        date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    parameters.not_before = begin_of_day(now - BEFORE);
    parameters.not_after = begin_of_day(now + LIFETIME);
    parameters
}

fn alternative(name: &SubjectName) -> Result<SanType, Error> {
    Ok(match name {
        SubjectName::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
        SubjectName::Ip(address) => SanType::IpAddress(*address),
    })
}
