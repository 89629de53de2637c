//! `serve`.

use std::path::PathBuf;
use std::time::Duration;

use bake::quantity::duration;
use clap::Args;

use super::error::{FlagError, InFlag as _};
use super::isolation::isolation_of_flag;
use crate::serve::{Address, SHUTDOWN_TIME, ServeOptions, TlsFiles};

/// The port of docker's clients without TLS.
pub const PORT: u16 = 2375;
/// The port with TLS.
pub const TLS_PORT: u16 = 2376;

/// `kiln serve`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = "\
Examples:
  kiln serve                                            on the usual socket
  kiln serve --addr tcp://127.0.0.1:2375                DOCKER_HOST=tcp://127.0.0.1:2375 docker build .
  kiln serve --addr tcp://0.0.0.0:2376 --tlsverify \\
    --tlscacert ca.pem --tlscert cert.pem --tlskey key.pem")]
pub struct ServeArgs {
    /// Listen on unix:///path or tcp://host:port; several are allowed (default:
    /// /run/kiln/kiln.sock, for ordinary users kiln/kiln.sock in XDG_RUNTIME_DIR)
    #[arg(short = 'H', long = "addr", visible_alias = "host", value_name = "ADDRESS")]
    pub addresses: Vec<String>,

    /// Speak TLS on TCP addresses
    #[arg(long)]
    pub tls: bool,

    /// Speak TLS, and ask each client for a certificate
    #[arg(long)]
    pub tlsverify: bool,

    /// The authorities of clients' certificates
    #[arg(long, value_name = "FILE")]
    pub tlscacert: Option<PathBuf>,

    /// The service's certificate
    #[arg(long, value_name = "FILE")]
    pub tlscert: Option<PathBuf>,

    /// The key of the service's certificate
    #[arg(long, value_name = "FILE")]
    pub tlskey: Option<PathBuf>,

    /// The group that may use Unix sockets
    #[arg(short = 'G', long, value_name = "GROUP")]
    pub group: Option<String>,

    /// Isolate commands of RUN so: auto, namespaces, chroot, in-place, none
    #[arg(long, value_name = "HOW")]
    pub isolation: Option<String>,

    /// Let clients ask for network.host or security.insecure; only security.insecure is refused
    /// otherwise
    #[arg(long, value_name = "ENTITLEMENT")]
    pub allow_insecure_entitlement: Vec<String>,

    /// Let clients bind what is in this folder of the service's file system into containers; several
    /// are allowed (default: none)
    #[arg(long, value_name = "FOLDER")]
    pub allow_bind: Vec<PathBuf>,

    /// End after so long without a connection, as 10m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub idle_timeout: Option<Duration>,

    /// The time that running builds have to end after SIGTERM (default: 8s)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub shutdown_timeout: Option<Duration>,

    /// Write the process's ID to a file
    #[arg(long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
}

impl ServeArgs {
    /// The options.
    ///
    /// # Errors
    /// If a value is wrong, or files of TLS are missing.
    pub fn read(&self) -> Result<ServeOptions, FlagError> {
        let tls = self.tls_files()?.map(|files| files.read()).transpose();
        let tls = tls.map_err(FlagError::whole)?;
        let port = if tls.is_some() { TLS_PORT } else { PORT };
        let addresses = self.addresses(port)?;
        let mut allows_insecure = false;
        for name in &self.allow_insecure_entitlement {
            match name.as_str() {
                "network.host" => {}
                "security.insecure" => allows_insecure = true,
                _ => {
                    let reason = format!("`{name}` is neither network.host nor security.insecure");
                    return Err(FlagError::bad("--allow-insecure-entitlement", reason));
                }
            }
        }
        if let Some(folder) = self.allow_bind.iter().find(|folder| !folder.is_absolute()) {
            let reason = format!("`{}` is not an absolute path", folder.display());
            return Err(FlagError::bad("--allow-bind", reason));
        }
        Ok(ServeOptions {
            addresses,
            tls,
            group: self.group.clone().filter(|group| !group.is_empty()),
            isolation: isolation_of_flag(self.isolation.as_deref())?,
            idle_timeout: self.idle_timeout.filter(|time| !time.is_zero()),
            shutdown_timeout: self.shutdown_timeout.unwrap_or(SHUTDOWN_TIME),
            pidfile: self.pidfile.clone(),
            allows_insecure,
            bindable: self.allow_bind.clone(),
            ..ServeOptions::default()
        })
    }

    /// The addresses; `port` is that of TCP addresses without one.
    fn addresses(&self, port: u16) -> Result<Vec<Address>, FlagError> {
        let mut addresses = Vec::new();
        for text in &self.addresses {
            let address = Address::parse(text, port).in_flag("--addr")?;
            // One that is given twice is listened on once.
            addresses.extend(address.filter(|address| !addresses.contains(address)));
        }
        Ok(addresses)
    }

    /// The files of TLS, if it is asked for. The authorities alone ask for nothing: docker's client flags
    /// have them too.
    fn tls_files(&self) -> Result<Option<TlsFiles>, FlagError> {
        let is_given = self.tlscert.is_some() || self.tlskey.is_some();
        if !self.tls && !self.tlsverify && !is_given {
            return Ok(None);
        }
        let needed = |file: &Option<PathBuf>, flag: &str| {
            file.clone().ok_or_else(|| FlagError::Missing {
                flag: flag.to_owned(),
                hint: "TLS needs a certificate and its key, in PEM".to_owned(),
            })
        };
        // dockerd asks clients for certificates with `--tlsverify` only, buildkitd whenever it has
        // authorities.
        let clients = if self.tlsverify {
            Some(needed(&self.tlscacert, "--tlscacert")?)
        } else {
            self.tlscacert.clone().filter(|_| !self.tls)
        };
        Ok(Some(TlsFiles {
            certificate: needed(&self.tlscert, "--tlscert")?,
            key: needed(&self.tlskey, "--tlskey")?,
            clients,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(addresses: &[&str]) -> Vec<String> {
        addresses.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn tls_is_asked_for_in_dockerds_words() {
        let args = ServeArgs {
            addresses: text(&["tcp://:0", "tcp://a", "unix:///x", "fd://", "tcp://:0"]),
            tlsverify: true,
            tlscacert: Some("ca".into()),
            tlscert: Some("cert".into()),
            tlskey: Some("key".into()),
            ..ServeArgs::default()
        };
        let shown: Vec<String> =
            args.addresses(TLS_PORT).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["tcp://0.0.0.0:0", "tcp://a:2376", "unix:///x"]);
        assert_eq!(args.tls_files().unwrap().unwrap().clients, Some("ca".into()));
        let tls = ServeArgs { tls: true, tlsverify: false, ..args.clone() };
        assert_eq!(tls.tls_files().unwrap().unwrap().clients, None);
        let plain = ServeArgs { tlscacert: Some("ca".into()), ..ServeArgs::default() };
        assert_eq!(plain.tls_files().unwrap(), None);
        assert!(args.read().unwrap_err().to_string().contains("`ca`"));
    }

    #[test]
    fn privileged_commands_are_allowed_by_name_alone() {
        let allows = |names: &[&str]| {
            let allow_insecure_entitlement = text(names);
            let args = ServeArgs { allow_insecure_entitlement, ..ServeArgs::default() };
            args.read().unwrap().allows_insecure
        };
        assert!(!allows(&[]));
        assert!(!allows(&["network.host"]));
        assert!(allows(&["network.host", "security.insecure"]));
    }

    #[test]
    fn what_is_missing_is_named() {
        let verify = ServeArgs { tlsverify: true, ..ServeArgs::default() };
        assert!(verify.read().unwrap_err().to_string().contains("--tlscacert"));
        let half = ServeArgs { tlscert: Some("cert".into()), ..ServeArgs::default() };
        assert!(half.read().unwrap_err().to_string().contains("--tlskey"));
        let devices =
            ServeArgs { allow_insecure_entitlement: text(&["device"]), ..ServeArgs::default() };
        assert!(devices.read().unwrap_err().to_string().contains("security.insecure"));
        let relative = ServeArgs { allow_bind: vec!["x".into()], ..ServeArgs::default() };
        assert!(relative.read().unwrap_err().to_string().contains("absolute"));
        let wrong = ServeArgs { addresses: text(&["http://x"]), ..ServeArgs::default() };
        assert!(wrong.read().unwrap_err().to_string().contains("`--addr`"));
    }
}
