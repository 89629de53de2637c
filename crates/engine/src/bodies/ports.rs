//! Ports of the body of `POST /containers/create`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::fields::{MOST, bounded, refuse, short, wrong};
use crate::{ApiError, ContainerPort, PublishedPort};

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct PortBinding {
    host_ip: Option<String>,
    host_port: Option<String>,
}

fn port(name: &str, text: &str) -> Result<ContainerPort, ApiError> {
    ContainerPort::parse(text).ok_or_else(|| wrong(name, format_args!("`{text}` is no port")))
}

pub(super) fn exposed(ports: BTreeMap<String, Value>) -> Result<BTreeSet<ContainerPort>, ApiError> {
    const NAME: &str = "ExposedPorts";
    // A range of ports may be exposed, each on its own.
    if ports.len() > 1 << 16 {
        return Err(wrong(NAME, "they are too many"));
    }
    ports.keys().map(|text| port(NAME, text)).collect()
}

/// Ports that are published. The network is the machine's: a number of one's own is free to be any that was not asked
/// for, and another one cannot be had.
pub(super) fn published(
    ports: BTreeMap<String, Option<Vec<PortBinding>>>,
) -> Result<Vec<PublishedPort>, ApiError> {
    const NAME: &str = "HostConfig.PortBindings";
    let mut published = Vec::new();
    for (text, bindings) in ports {
        let port = port(NAME, &text)?;
        let bindings = bindings.filter(|bindings| !bindings.is_empty());
        for binding in bindings.unwrap_or_else(|| vec![PortBinding::default()]) {
            let wanted = binding.host_port.unwrap_or_default();
            if !can_be(&wanted, port.number) {
                let why = format!(
                    "the network is the machine's, so `{port}` cannot be published as `{wanted}`: let the \
                     program listen on that port"
                );
                return Err(refuse(NAME, why));
            }
            let address = binding.host_ip.unwrap_or_default();
            published.push(PublishedPort { port: port.clone(), address });
        }
        if published.len() > MOST {
            break;
        }
    }
    bounded(NAME, published)
}

/// True if a port's own number is what was asked for: nothing, itself, or a range around it.
fn can_be(wanted: &str, number: u16) -> bool {
    let parse = |text: &str| text.parse::<u16>().ok();
    match wanted.split_once('-') {
        Some((first, last)) => match (parse(first), parse(last)) {
            (Some(first), Some(last)) => (first..=last).contains(&number),
            _ => false,
        },
        None => matches!(wanted, "" | "0") || parse(wanted) == Some(number),
    }
}

/// Sentences about addresses, which the command chooses.
pub(super) fn notes(published: &[PublishedPort]) -> Vec<String> {
    let is_bound = |port: &&PublishedPort| !matches!(port.address.as_str(), "" | "0.0.0.0" | "::");
    let note = |port: &PublishedPort| {
        short(format_args!(
            "`HostConfig.PortBindings`: the network is the machine's: the command decides if it listens for \
             `{}` on `{}` only",
            port.port, port.address
        ))
    };
    published.iter().filter(is_bound).map(note).collect()
}
