//! The properties of a container, as the body of `POST /containers/create` has them, in types.
//!
//! They can be kept as JSON of kiln's own, which is not Docker's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{ApiError, ConsoleSize};

/// The properties of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// The image, by a name or an ID.
    pub image: String,
    /// The first part of its command; the image's if unset, none if empty.
    pub entrypoint: Option<Vec<String>>,
    /// The second part of its command; the image's if unset, none if empty.
    pub command: Option<Vec<String>>,
    /// Variables, `NAME=VALUE`; a name alone takes the image's away.
    pub env: Vec<String>,
    /// The user and, after a colon, the group.
    pub user: Option<String>,
    /// The folder in which the command starts; made if it is missing.
    pub working_dir: Option<String>,
    /// The name of the machine; the beginning of the container's ID if unset.
    pub hostname: Option<String>,
    /// Labels, beside the image's.
    pub labels: BTreeMap<String, String>,
    /// The command has a terminal.
    pub terminal: bool,
    /// The size of the terminal at the start.
    pub console_size: Option<ConsoleSize>,
    /// Its input is open; otherwise it is empty.
    pub open_stdin: bool,
    /// Its input ends with the first client that was attached to it.
    pub stdin_once: bool,
    /// The streams that the client said it would attach to. Shown, of no effect.
    pub attached: AttachedStreams,
    /// The signal that stops it; the image's, else SIGTERM.
    pub stop_signal: Option<SignalNumber>,
    /// The time between that signal and SIGKILL; ten seconds if unset.
    pub stop_timeout: Option<Duration>,
    /// Ports that the command listens on.
    pub exposed_ports: BTreeSet<ContainerPort>,
    /// Folders of the container that clients call anonymous volumes, as the image's: they are a part of its root,
    /// made if they are missing.
    pub volumes: BTreeSet<String>,
    /// The properties that depend on the machine.
    pub host: HostSpec,
}

/// The streams that a client said it would attach to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedStreams {
    /// The input.
    pub stdin: bool,
    /// The output.
    pub stdout: bool,
    /// The errors.
    pub stderr: bool,
}

/// The properties of a container that depend on the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostSpec {
    /// The container is removed when it ends.
    pub auto_remove: bool,
    /// A small init is the first process: it reaps, and passes signals on.
    pub init: bool,
    /// It has all rights. Granted as `security.insecure` is, or refused by the implementation.
    pub privileged: bool,
    /// Its root cannot be written to.
    pub read_only_root: bool,
    /// Its network.
    pub network: ContainerNetwork,
    /// Ports that are published, each under its own number: the network is the machine's.
    pub published: Vec<PublishedPort>,
    /// All exposed ports are published, the image's too.
    pub publish_all: bool,
    /// Mounts, in their order.
    pub mounts: Vec<ContainerMount>,
    /// Lines of `/etc/hosts`.
    pub extra_hosts: Vec<ExtraHost>,
    /// Limits of processes.
    pub ulimits: Vec<UlimitSpec>,
    /// Bytes of `/dev/shm`.
    pub shm_size: Option<u64>,
}

/// The network of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerNetwork {
    /// The machine's (`host`, `default` and `bridge`).
    #[default]
    Host,
    /// None but a loopback interface (`none`).
    None,
}

/// A port with its protocol, written `80/tcp`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerPort {
    /// The number.
    pub number: u16,
    /// The protocol.
    pub protocol: PortProtocol,
}

/// A protocol of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PortProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port under its own number on the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The port.
    pub port: ContainerPort,
    /// The address that the client asked for. The command decides which it listens on.
    pub address: String,
}

/// A mount of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerMount {
    /// The absolute path in the container, made if it is missing.
    pub target: String,
    /// True if the container may not write to it.
    pub read_only: bool,
    /// The source.
    pub source: MountSource,
}

/// The source of a mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A path of the service's machine. The implementation decides which may be used.
    Bind {
        /// The absolute path.
        path: String,
        /// A folder is made if it is missing; otherwise that is an error.
        create: bool,
    },
    /// A folder in memory.
    Tmpfs {
        /// Its most bytes.
        size: Option<u64>,
    },
}

/// A name with an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraHost {
    /// The name.
    pub name: String,
    /// The address. `host-gateway` is the loopback address, since the network is the machine's.
    pub address: IpAddr,
}

/// A limit of processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UlimitSpec {
    /// The name, as `nofile`.
    pub name: String,
    /// The soft limit; -1 is none.
    pub soft: i64,
    /// The hard limit; -1 is none.
    pub hard: i64,
}

/// The number of a signal, 1 to 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignalNumber(i32);

impl ContainerSpec {
    /// Entrypoint and command.
    pub fn words(&self) -> impl Iterator<Item = &String> {
        self.entrypoint.iter().flatten().chain(self.command.iter().flatten())
    }

    /// The ports that are published: those that were named, and all that are exposed if that was asked for.
    pub(crate) fn published(&self) -> Vec<PublishedPort> {
        let mut published = self.host.published.clone();
        if self.host.publish_all {
            let is_new = |port: &&ContainerPort| {
                !self.host.published.iter().any(|other| other.port == **port)
            };
            let exposed = self.exposed_ports.iter().filter(is_new);
            published.extend(
                exposed.map(|port| PublishedPort { port: port.clone(), address: String::new() }),
            );
        }
        published
    }
}

impl PublishedPort {
    /// The address under which clients look for it: all of the machine's if none was asked for.
    pub(crate) fn shown_address(&self) -> &str {
        if self.address.is_empty() { "0.0.0.0" } else { &self.address }
    }
}

impl SignalNumber {
    /// SIGTERM.
    pub const TERM: Self = Self(15);
    /// SIGKILL.
    pub const KILL: Self = Self(9);

    /// The number.
    pub fn number(self) -> i32 {
        self.0
    }

    /// Reads a number, or a name with or without `SIG`, in capitals or not.
    ///
    /// # Errors
    /// If Linux has no such signal.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let number = match name.parse::<i32>() {
            Ok(number) => Some(number).filter(|_| name.bytes().all(|byte| byte.is_ascii_digit())),
            Err(_) => named_signal(name),
        };
        number
            .filter(|number| (1..=LAST_SIGNAL).contains(number))
            .map(Self)
            .ok_or_else(|| ApiError::BadRequest(format!("Invalid signal: {text}")))
    }
}

impl fmt::Display for SignalNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = SIGNALS.iter().find(|(_, number)| *number == self.0);
        match found {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "{}", self.0),
        }
    }
}

const FIRST_REAL_TIME: i32 = 34;
const LAST_SIGNAL: i32 = 64;

fn named_signal(name: &str) -> Option<i32> {
    let offset = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u8>().ok() };
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return Some(FIRST_REAL_TIME + i32::from(offset(rest.trim_start_matches('+'))?));
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return Some(LAST_SIGNAL - i32::from(offset(rest.trim_start_matches('-'))?));
    }
    SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// Linux's signals on x86 and ARM (signal(7)).
const SIGNALS: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

impl ContainerPort {
    /// Reads `80`, `80/tcp`.
    pub fn parse(text: &str) -> Option<Self> {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol {
            "tcp" => PortProtocol::Tcp,
            "udp" => PortProtocol::Udp,
            "sctp" => PortProtocol::Sctp,
            _ => return None,
        };
        let number = number.parse().ok().filter(|number| *number > 0)?;
        Some(Self { number, protocol })
    }
}

impl fmt::Display for ContainerPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

impl PortProtocol {
    /// Its name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl fmt::Display for PortProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("64", 64),
        ] {
            assert_eq!(SignalNumber::parse(text).unwrap().number(), number, "{text}");
        }
        for wrong in ["", "0", "65", "-9", "+9", "SIG", "NOSUCH", "RTMIN+99", "RTMAX-64"] {
            assert!(SignalNumber::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(SignalNumber::TERM.to_string(), "SIGTERM");
        assert_eq!(SignalNumber(40).to_string(), "40");
    }

    #[test]
    fn ports_are_read_and_written() {
        for (text, written) in [("80", "80/tcp"), ("53/udp", "53/udp"), ("1/sctp", "1/sctp")] {
            assert_eq!(ContainerPort::parse(text).unwrap().to_string(), written);
        }
        for wrong in ["", "0", "/tcp", "80/http", "70000", "80-90", "-1"] {
            assert_eq!(ContainerPort::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_spec_can_be_kept() {
        let spec = ContainerSpec {
            image: "app".into(),
            stop_signal: Some(SignalNumber::KILL),
            stop_timeout: Some(Duration::from_secs(3)),
            exposed_ports: ContainerPort::parse("80").into_iter().collect(),
            ..ContainerSpec::default()
        };
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<ContainerSpec>(&text).unwrap(), spec);
    }
}
