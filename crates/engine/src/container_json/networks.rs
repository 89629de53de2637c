//! The networks that a container can have.

use serde_json::{Map, Value, json};

use crate::{ContainerDetails, ContainerNetwork, ContainerStatus};

/// A network, as clients list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NetworkKind {
    /// The machine's, under the name that clients use by default.
    Bridge,
    /// The machine's.
    Host,
    /// A loopback interface alone.
    None,
}

/// All networks.
pub(crate) const NETWORKS: [NetworkKind; 3] =
    [NetworkKind::Bridge, NetworkKind::Host, NetworkKind::None];

impl NetworkKind {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::None => "none",
        }
    }

    /// Its ID: the same on all machines.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Bridge => "6b696c6e00000000000000000000000000000000000000000000627269646765",
            Self::Host => "6b696c6e000000000000000000000000000000000000000000000000686f7374",
            Self::None => "6b696c6e0000000000000000000000000000000000000000000000006e6f6e65",
        }
    }

    /// The driver. `bridge` has that of `host`, since it is the same network.
    pub(crate) fn driver(self) -> &'static str {
        match self {
            Self::Bridge | Self::Host => "host",
            Self::None => "null",
        }
    }

    /// The network of this name or ID, or whose ID begins so.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let named = NETWORKS.into_iter().find(|network| network.name() == name);
        let mut begun = NETWORKS.into_iter().filter(|network| network.id().starts_with(name));
        named.or_else(|| match (begun.next(), begun.next()) {
            (Some(network), None) => Some(network),
            _ => None,
        })
    }
}

/// The network of a container by its name in lists: containers in the machine's network are in `host`, whatever name
/// it was asked for by.
pub(super) fn network_of(container: &ContainerDetails) -> NetworkKind {
    match container.spec.host.network {
        ContainerNetwork::Host => NetworkKind::Host,
        ContainerNetwork::None => NetworkKind::None,
    }
}

/// A network with the containers that run in it.
pub(crate) fn network_object(network: NetworkKind, containers: &[ContainerDetails]) -> Value {
    let is_in = |container: &&ContainerDetails| {
        container.state.status == ContainerStatus::Running && network_of(container) == network
    };
    let entry = |container: &ContainerDetails| {
        let value = json!({
            "Name": container.name, "EndpointID": "", "MacAddress": "", "IPv4Address": "",
            "IPv6Address": "",
        });
        (container.id.to_string(), value)
    };
    let running: Map<String, Value> = containers.iter().filter(is_in).map(entry).collect();
    json!({
        "Name": network.name(), "Id": network.id(), "Created": crate::moments::rfc3339_or_zero(None),
        "Scope": "local", "Driver": network.driver(), "EnableIPv4": true, "EnableIPv6": false,
        "IPAM": { "Driver": "default", "Options": null, "Config": [] },
        "Internal": false, "Attachable": false, "Ingress": false, "ConfigFrom": { "Network": "" },
        "ConfigOnly": false, "Containers": running, "Options": {}, "Labels": {},
    })
}
