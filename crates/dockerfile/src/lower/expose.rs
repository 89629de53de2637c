//! EXPOSE.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::Lowerer;
use crate::check::Reporter;
use crate::error::Error;
use crate::go;

impl Lowerer<'_> {
    pub(super) fn dispatch_expose(&mut self, stage: usize, texts: &[String]) -> Result<(), Error> {
        let mut ports = Vec::new();
        for text in texts {
            for word in self.lex.words(text, &self.states[stage].env)? {
                let read = read(&word, &self.checks);
                ports.extend(read.map_err(|error| {
                    error
                        .word(text)
                        .or_hint(|| "write PORT or FIRST-LAST, with /tcp, /udp or /sctp".into())
                })?);
            }
        }
        let exposed = &mut self.states[stage].config.config.exposed_ports;
        for port in &ports {
            exposed.insert(port.clone(), Value::Object(Map::new()));
        }
        self.record(stage, format!("EXPOSE {}", go::list(&ports)), None);
        Ok(())
    }
}

/// `[[ip:]host port:]port[-last][/protocol]` as single ports with protocols.
fn read(text: &str, checks: &Reporter) -> Result<Vec<String>, Error> {
    let mut parts = text.rsplitn(3, ':');
    let container = parts.next().unwrap_or_default();
    let host = parts.next().unwrap_or_default();
    let address = parts.next().unwrap_or_default();
    let (port, written) = container.split_once('/').unwrap_or((container, ""));
    let invalid = |what: &str| Error::new(format!("invalid port: {}: {what}", go::quote(text)));
    if port.is_empty() {
        return Err(invalid("no port specified"));
    }
    let protocol = match written.to_lowercase().as_str() {
        "" => "tcp".to_owned(),
        known @ ("tcp" | "udp" | "sctp") => known.to_owned(),
        _ => {
            return Err(invalid(&format!("invalid proto: {written}"))
                .suggest(written, ["tcp", "udp", "sctp"]));
        }
    };
    checks.check_port(text, written, !address.is_empty() || !host.is_empty());
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if !address.is_empty() && bare.unwrap_or(address).parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address: {address}").into());
    }
    let (first, last) =
        range(port).ok_or_else(|| Error::new(format!("invalid containerPort: {port}")))?;
    if !host.is_empty() {
        let (host_first, host_last) =
            range(host).ok_or_else(|| Error::new(format!("invalid hostPort: {host}")))?;
        if last != first && last - first != host_last - host_first {
            return Err(format!(
                "invalid ranges specified for container and host Ports: {port} and {host}"
            )
            .into());
        }
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| text.strip_prefix('+').unwrap_or(text).parse::<u16>().ok();
    match text.split_once('-') {
        None => number(text).map(|port| (port, port)),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some((first, last))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CheckOptions;

    fn read(text: &str) -> Result<Vec<String>, Error> {
        super::read(text, &Reporter::new(CheckOptions::default()))
    }

    #[test]
    fn ports_are_read() {
        assert_eq!(read("80").unwrap(), ["80/tcp"]);
        assert_eq!(read("80-82/UDP").unwrap(), ["80/udp", "81/udp", "82/udp"]);
        assert_eq!(read("127.0.0.1:8080:80").unwrap(), ["80/tcp"]);
        assert_eq!(read("[::1]:8080:80").unwrap(), ["80/tcp"]);
        assert_eq!(read("8080-8081:80").unwrap(), ["80/tcp"]);
        for text in ["http", "80/quic", "90-80", "/tcp", "70000", "1:1-2", "x:1:1"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
