//! A container in a list.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::networks::network_of;
use super::parts::{mounts_list, networks_object};
use crate::moments::{in_words, seconds};
use crate::{ContainerDetails, ContainerPort, ContainerState, ContainerStatus};

/// An item of `GET /containers/json`; lengths of time end `now`.
pub fn summary_object(container: &ContainerDetails, now: SystemTime) -> Value {
    let spec = &container.spec;
    let mut object = json!({
        "Id": container.id.to_string(), "Names": [format!("/{}", container.name)],
        "Image": spec.image, "ImageID": container.image_id, "Command": command(container),
        "Created": seconds(container.created), "Ports": ports(container),
        "Labels": spec.labels, "State": container.state.status.word(),
        "Status": status(&container.state, now),
        "HostConfig": { "NetworkMode": network_of(container).name() },
        "NetworkSettings": { "Networks": networks_object(container) },
        "Mounts": mounts_list(container),
    });
    if let Some(size) = container.size {
        object["SizeRw"] = size.changed.into();
        object["SizeRootFs"] = size.whole.into();
    }
    object
}

/// The command in one line; words with spaces have quotes.
fn command(container: &ContainerDetails) -> String {
    let quoted = |word: &String| {
        if word.contains(char::is_whitespace) { format!("'{word}'") } else { word.clone() }
    };
    container.spec.words().map(quoted).collect::<Vec<_>>().join(" ")
}

fn status(state: &ContainerState, now: SystemTime) -> String {
    let ago = |time: Option<SystemTime>| {
        let length = time.and_then(|time| now.duration_since(time).ok());
        in_words(length.unwrap_or_default())
    };
    match state.status {
        ContainerStatus::Created => "Created".to_owned(),
        ContainerStatus::Running => format!("Up {}", ago(state.started)),
        ContainerStatus::Exited => {
            format!("Exited ({}) {} ago", state.exit_code, ago(state.finished))
        }
        ContainerStatus::Removing => "Removal In Progress".to_owned(),
    }
}

/// Ports of a container that runs: published ones with their number on the machine, others without.
fn ports(container: &ContainerDetails) -> Vec<Value> {
    if container.state.status != ContainerStatus::Running {
        return Vec::new();
    }
    let private =
        |port: &ContainerPort| json!({ "PrivatePort": port.number, "Type": port.protocol.name() });
    let published = container.spec.published();
    let is_published = |port: &&ContainerPort| published.iter().any(|other| other.port == **port);
    let exposed = container.spec.exposed_ports.iter().filter(|port| !is_published(port));
    let exposed = exposed.map(private);
    let published = published.iter().map(|published| {
        let mut object = private(&published.port);
        object["IP"] = published.shown_address().into();
        object["PublicPort"] = published.port.number.into();
        object
    });
    published.chain(exposed).collect()
}
