//! The names that a service's certificate is for.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustls::pki_types::DnsName;

use super::error::CertificateError;

/// A name of a server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SubjectName {
    /// A DNS name; the first label may be `*`.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

impl SubjectName {
    /// A DNS name; none if the text is none.
    fn dns(text: &str) -> Option<Self> {
        let without_wildcard = text.strip_prefix("*.").unwrap_or(text);
        DnsName::try_from(without_wildcard).ok()?;
        Some(Self::Dns(text.to_ascii_lowercase()))
    }
}

/// The machine's names as it knows them itself.
#[derive(Clone, Debug, Default)]
pub struct MachineNames {
    /// The host name.
    pub host_name: String,
    /// The text of `/etc/hosts`, where container engines write the host's addresses and other names.
    pub hosts: String,
}

impl MachineNames {
    /// The names of this machine.
    pub fn of_this() -> Self {
        let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        Self { host_name, hosts }
    }

    fn all(&self) -> BTreeSet<SubjectName> {
        let mut names = BTreeSet::new();
        let short = self.host_name.split('.').next().unwrap_or_default();
        // A host name with characters that DNS does not have is not asked for either.
        names.extend([self.host_name.as_str(), short].into_iter().filter_map(SubjectName::dns));
        for line in self.hosts.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse) else { continue };
            let others: Vec<&str> = words.collect();
            if others.contains(&self.host_name.as_str()) || others.contains(&short) {
                names.insert(SubjectName::Ip(address));
                names.extend(others.into_iter().filter_map(SubjectName::dns));
            }
        }
        names
    }
}

/// All names of a service: the machine's, those that pipelines call it by, and those of `DOCKER_TLS_SAN`, as
/// `DNS:docker.example.com,IP:10.0.0.1`.
///
/// # Errors
/// If a part of `DOCKER_TLS_SAN` is no name.
pub fn subject_names(
    machine: &MachineNames,
    more: &str,
) -> Result<BTreeSet<SubjectName>, CertificateError> {
    let mut names = machine.all();
    names.extend(["docker", "localhost"].map(|name| SubjectName::Dns(name.to_owned())));
    names.insert(SubjectName::Ip(Ipv4Addr::LOCALHOST.into()));
    names.insert(SubjectName::Ip(Ipv6Addr::LOCALHOST.into()));
    for part in more.split([',', ' ', '\t', '\n']).filter(|part| !part.is_empty()) {
        names.insert(read(part)?);
    }
    Ok(names)
}

fn read(part: &str) -> Result<SubjectName, CertificateError> {
    let wrong = |fault| CertificateError::Name { text: part.to_owned(), fault };
    match part.split_once(':') {
        Some(("DNS", name)) => SubjectName::dns(name).ok_or_else(|| wrong("no DNS name")),
        Some(("IP", address)) => {
            address.parse().map(SubjectName::Ip).map_err(|_| wrong("no address"))
        }
        _ => Err(wrong("neither DNS:name nor IP:address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(machine: &MachineNames, more: &str) -> Vec<String> {
        let names = subject_names(machine, more).unwrap();
        let shown = names.into_iter().map(|name| match name {
            SubjectName::Dns(name) => name,
            SubjectName::Ip(address) => address.to_string(),
        });
        shown.collect()
    }

    #[test]
    fn a_service_has_the_names_that_its_clients_call() {
        let machine = MachineNames {
            host_name: "runner-1".into(),
            hosts:
                "127.0.0.1 localhost\n# ::9 runner-1\n172.17.0.5\trunner-1.example.com runner-1\n"
                    .into(),
        };
        assert_eq!(
            shown(&machine, "DNS:*.Builds.example.com,IP:10.0.0.1 IP:fd00::1"),
            [
                "*.builds.example.com",
                "docker",
                "localhost",
                "runner-1",
                "runner-1.example.com",
                "10.0.0.1",
                "127.0.0.1",
                "172.17.0.5",
                "::1",
                "fd00::1",
            ]
        );
        let odd = MachineNames { host_name: "a b".into(), ..MachineNames::default() };
        assert_eq!(shown(&odd, ""), ["docker", "localhost", "127.0.0.1", "::1"]);
    }

    #[test]
    fn what_is_no_name_is_named() {
        for part in ["docker", "URI:http://x", "IP:docker", "DNS:", "DNS:a b", "DNS:a.*"] {
            let error = subject_names(&MachineNames::default(), part).unwrap_err().to_string();
            assert!(error.starts_with("DOCKER_TLS_SAN: `"), "{part}: {error}");
        }
    }
}
