//! Addresses to listen on.

use std::fmt;
use std::path::{Path, PathBuf};

use runtime::Privilege;

use super::ServeError;
use crate::settings::{Environment, Settings};

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A socket in the file system.
    Unix(PathBuf),
    /// A host and a port.
    Tcp(String),
}

impl Address {
    /// Reads `unix:///path` and `tcp://host:port`, as docker's `-H` takes them. A host is all of the
    /// machine's addresses where none is given, and the port is `port` then. None for `fd://`, which stands
    /// for the sockets that systemd passes.
    ///
    /// # Errors
    /// If it is neither.
    pub fn parse(text: &str, port: u16) -> Result<Option<Self>, ServeError> {
        let wrong = |reason| ServeError::Address { text: text.to_owned(), reason };
        if let Some(path) = text.strip_prefix("unix://") {
            if Path::new(path).is_absolute() {
                return Ok(Some(Self::Unix(path.into())));
            }
            return Err(wrong("the path of a socket is absolute, as in unix:///run/kiln.sock"));
        }
        if text.starts_with("fd://") {
            return Ok(None);
        }
        let Some(rest) = text.strip_prefix("tcp://") else {
            return Err(wrong("write unix:///path or tcp://host:port"));
        };
        let rest = rest.trim_end_matches('/');
        let (host, given) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (rest, None),
        };
        let port = match given {
            Some(given) => given.parse().map_err(|_| wrong("its port is no number"))?,
            None => port,
        };
        let host = if host.is_empty() { "0.0.0.0" } else { host };
        Ok(Some(Self::Tcp(format!("{host}:{port}"))))
    }

    /// The usual address: `/run/kiln/kiln.sock`, for ordinary users one under XDG_RUNTIME_DIR, and without
    /// that one in the root.
    pub fn usual(environment: &Environment, settings: &Settings, privilege: &Privilege) -> Self {
        let own = environment.get("XDG_RUNTIME_DIR").map(Path::new);
        Self::Unix(match (privilege, own) {
            (Privilege::Root | Privilege::Confined { .. }, _) => "/run/kiln/kiln.sock".into(),
            (_, Some(own)) => own.join("kiln/kiln.sock"),
            (_, None) => settings.root.join("kiln.sock"),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_dockers() {
        for (text, expected) in [
            ("unix:///run/x.sock", "unix:///run/x.sock"),
            ("tcp://0.0.0.0:2375", "tcp://0.0.0.0:2375"),
            ("tcp://:2376", "tcp://0.0.0.0:2376"),
            ("tcp://[::1]:80/", "tcp://[::1]:80"),
            ("tcp://[::1]", "tcp://[::1]:7"),
            ("tcp://docker", "tcp://docker:7"),
            ("tcp://", "tcp://0.0.0.0:7"),
        ] {
            let address = Address::parse(text, 7).unwrap().unwrap();
            assert_eq!(address.to_string(), expected);
        }
        assert_eq!(Address::parse("fd://", 7).unwrap(), None);
        for wrong in ["unix://x", "x", "http://a:1", "tcp://a:b", "npipe://x"] {
            assert!(Address::parse(wrong, 7).unwrap_err().to_string().contains(wrong), "{wrong}");
        }
    }

    #[test]
    fn the_usual_address_is_the_users_own() {
        let usual = |pairs: &[(&str, &str)], privilege: &Privilege| {
            let environment = Environment::of(pairs);
            let settings = Settings::read(&environment, Some(Path::new("/r")), false).unwrap();
            Address::usual(&environment, &settings, privilege).to_string()
        };
        let runtime = [("XDG_RUNTIME_DIR", "/run/user/5")];
        assert_eq!(usual(&runtime, &Privilege::Root), "unix:///run/kiln/kiln.sock");
        let user = Privilege::User { refused: None };
        assert_eq!(usual(&runtime, &user), "unix:///run/user/5/kiln/kiln.sock");
        assert_eq!(usual(&[], &user), "unix:///r/kiln.sock");
    }
}
