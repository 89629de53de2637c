//! The body of `POST /containers/create` for a container that is a builder.

use serde_json::{Map, Value};

/// Takes away what only a process with a disk of its own has a use for: a restart policy, and the names of volumes.
pub(crate) fn without_state(body: &mut Value) {
    let Some(host) = body.get_mut("HostConfig").and_then(Value::as_object_mut) else { return };
    host.shift_remove("RestartPolicy");
    for mount in list(host, "Mounts").filter_map(Value::as_object_mut) {
        if mount.get("Type").is_some_and(|kind| kind == "volume") {
            mount.shift_remove("Source");
        }
    }
    for bind in list(host, "Binds") {
        let parts = bind.as_str().and_then(|text| text.split_once(':'));
        if let Some((_, rest)) = parts.filter(|(source, _)| !source.starts_with('/')) {
            *bind = rest.split(':').next().unwrap_or_default().into();
        }
    }
}

fn list<'a>(host: &'a mut Map<String, Value>, name: &str) -> impl Iterator<Item = &'a mut Value> {
    host.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bodies::read_create;

    #[test]
    fn names_of_volumes_and_restart_policies_are_for_others() {
        let body = |mounts: Value| {
            json!({
                "Image": "moby/buildkit",
                "HostConfig": {
                    "RestartPolicy": { "Name": "unless-stopped" },
                    "Mounts": mounts,
                    "Binds": ["x_state:/var/lib/x:rw"],
                },
            })
        };
        let volume =
            json!([{ "Type": "volume", "Source": "x_state", "Target": "/var/lib/buildkit" }]);
        let mut taken = body(volume.clone());
        without_state(&mut taken);
        let (spec, notes) = read_create(taken).unwrap();
        assert!(spec.volumes.contains("/var/lib/buildkit") && spec.volumes.contains("/var/lib/x"));
        assert_eq!(notes, Vec::<String>::new());
        // Nothing else is different.
        let bind = json!([{ "Type": "bind", "Source": "/etc", "Target": "/mnt" }]);
        let mut bound = body(bind);
        without_state(&mut bound);
        assert_eq!(read_create(bound).unwrap().0.host.mounts.len(), 1);
        assert!(read_create(body(volume)).is_err());
        for other in [json!(null), json!([1]), json!({ "HostConfig": 1 })] {
            let mut same = other.clone();
            without_state(&mut same);
            assert_eq!(same, other);
        }
    }
}
