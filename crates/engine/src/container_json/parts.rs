//! Parts that lists and `inspect` have in common.

use serde_json::{Map, Value, json};

use super::networks::network_of;
use crate::{ContainerDetails, ContainerMount, MountSource};

/// `NetworkSettings.Networks`: one network, in which a container has no address of its own.
pub(super) fn networks_object(container: &ContainerDetails) -> Value {
    let network = network_of(container);
    let mut networks = Map::new();
    networks.insert(
        network.name().to_owned(),
        json!({
            "IPAMConfig": null, "Links": null, "Aliases": null, "MacAddress": "",
            "DriverOpts": null, "GwPriority": 0, "NetworkID": network.id(),
            "EndpointID": "", "Gateway": "", "IPAddress": "", "IPPrefixLen": 0,
            "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "DNSNames": null,
        }),
    );
    networks.into()
}

/// `Mounts` of lists and of `inspect`.
pub(super) fn mounts_list(container: &ContainerDetails) -> Vec<Value> {
    container.spec.host.mounts.iter().map(mount_object).collect()
}

fn mount_object(mount: &ContainerMount) -> Value {
    let mut object = match &mount.source {
        MountSource::Bind { path, .. } => {
            json!({ "Type": "bind", "Source": path, "Propagation": "rprivate" })
        }
        MountSource::Tmpfs { .. } => json!({ "Type": "tmpfs", "Source": "", "Propagation": "" }),
    };
    object["Destination"] = mount.target.as_str().into();
    object["Mode"] = "".into();
    object["RW"] = (!mount.read_only).into();
    object
}
