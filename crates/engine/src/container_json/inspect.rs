//! A container with all that is known of it.

use serde_json::{Map, Value, json};

use super::networks::network_of;
use super::parts::{mounts_list, networks_object};
use crate::moments::{rfc3339, rfc3339_or_zero};
use crate::{
    ContainerDetails, ContainerMount, ContainerStatus, ExecDetails, ExecId, HostSpec, MountSource,
};

/// Bytes of /dev/shm by default.
const SHM_SIZE: u64 = 64 << 20;

/// The object of `GET /containers/{id}/json`.
pub fn inspect_object(container: &ContainerDetails) -> Value {
    let mut words = container.spec.words();
    let path = words.next().cloned().unwrap_or_default();
    let args: Vec<&String> = words.collect();
    let execs: Vec<String> = container.execs.iter().map(ExecId::to_string).collect();
    let execs = Some(execs).filter(|execs| !execs.is_empty());
    let mut object = json!({
        "Id": container.id.to_string(), "Created": rfc3339(container.created), "Path": path,
        "Args": args, "State": state(container), "Image": container.image_id,
        "ResolvConfPath": "", "HostnamePath": "", "HostsPath": "", "LogPath": "",
        "Name": format!("/{}", container.name), "RestartCount": 0, "Driver": "kiln",
        "Platform": "linux", "MountLabel": "", "ProcessLabel": "", "AppArmorProfile": "",
        "ExecIDs": execs, "HostConfig": host_config(container),
        "GraphDriver": { "Name": "kiln", "Data": null }, "Mounts": mounts_list(container),
        "Config": config(container), "NetworkSettings": network_settings(container),
    });
    if let Some(size) = container.size {
        object["SizeRw"] = size.changed.into();
        object["SizeRootFs"] = size.whole.into();
    }
    object
}

fn state(container: &ContainerDetails) -> Value {
    let state = &container.state;
    json!({
        "Status": state.status.word(), "Running": state.status == ContainerStatus::Running,
        "Paused": false, "Restarting": false, "OOMKilled": false, "Dead": false,
        "Pid": state.pid.unwrap_or(0), "ExitCode": state.exit_code, "Error": state.error,
        "StartedAt": rfc3339_or_zero(state.started), "FinishedAt": rfc3339_or_zero(state.finished),
    })
}

/// `Config`: the properties that could be an image's.
fn config(container: &ContainerDetails) -> Value {
    let spec = &container.spec;
    let set = |names: Vec<String>| -> Option<Map<String, Value>> {
        (!names.is_empty()).then(|| names.into_iter().map(|name| (name, json!({}))).collect())
    };
    let hostname = spec.hostname.clone();
    let short: String = container.id.0.chars().take(12).collect();
    let mut config = json!({
        "Hostname": hostname.unwrap_or(short), "Domainname": "",
        "User": spec.user.as_deref().unwrap_or_default(),
        "AttachStdin": spec.attached.stdin, "AttachStdout": spec.attached.stdout,
        "AttachStderr": spec.attached.stderr, "Tty": spec.terminal, "OpenStdin": spec.open_stdin,
        "StdinOnce": spec.stdin_once, "Env": spec.env, "Cmd": spec.command, "Image": spec.image,
        "Volumes": set(spec.volumes.iter().cloned().collect()),
        "WorkingDir": spec.working_dir.as_deref().unwrap_or_default(),
        "Entrypoint": spec.entrypoint, "OnBuild": null, "Labels": spec.labels,
    });
    if let Some(ports) = set(spec.exposed_ports.iter().map(ToString::to_string).collect()) {
        config["ExposedPorts"] = ports.into();
    }
    if let Some(signal) = spec.stop_signal {
        config["StopSignal"] = signal.to_string().into();
    }
    if let Some(timeout) = spec.stop_timeout {
        config["StopTimeout"] = timeout.as_secs().into();
    }
    config
}

/// `HostConfig`. The network is the one that it has, and not the name by which it was asked for.
fn host_config(container: &ContainerDetails) -> Value {
    let host = &container.spec.host;
    let size = container.spec.console_size;
    let hosts: Vec<String> =
        host.extra_hosts.iter().map(|host| format!("{}:{}", host.name, host.address)).collect();
    json!({
        "Binds": binds(host), "ContainerIDFile": "",
        "LogConfig": { "Type": "json-file", "Config": {} },
        "NetworkMode": network_of(container).name(), "PortBindings": port_bindings(&host.published),
        "RestartPolicy": { "Name": "no", "MaximumRetryCount": 0 }, "AutoRemove": host.auto_remove,
        "VolumeDriver": "", "VolumesFrom": null,
        "ConsoleSize": size.map_or([0, 0], |size| [size.rows, size.columns]),
        "CapAdd": null, "CapDrop": null, "CgroupnsMode": "host", "Dns": [], "DnsOptions": [],
        "DnsSearch": [], "ExtraHosts": Some(hosts).filter(|hosts| !hosts.is_empty()),
        "GroupAdd": null, "IpcMode": "private", "Cgroup": "", "Links": null, "OomScoreAdj": 0,
        "PidMode": "", "Privileged": host.privileged, "PublishAllPorts": host.publish_all,
        "ReadonlyRootfs": host.read_only_root, "SecurityOpt": null, "UTSMode": "",
        "UsernsMode": "", "ShmSize": host.shm_size.unwrap_or(SHM_SIZE), "Runtime": "kiln",
        "Isolation": "", "Memory": 0, "NanoCpus": 0, "CpuShares": 0, "CgroupParent": "",
        "Ulimits": ulimits(host), "Tmpfs": tmpfs(host), "Init": host.init,
    })
}

/// Binds in the form of one text each; none if there are none.
fn binds(host: &HostSpec) -> Option<Vec<String>> {
    let text = |mount: &ContainerMount| match &mount.source {
        MountSource::Bind { path, .. } => {
            let mode = if mount.read_only { ":ro" } else { "" };
            Some(format!("{path}:{}{mode}", mount.target))
        }
        MountSource::Tmpfs { .. } => None,
    };
    let binds: Vec<String> = host.mounts.iter().filter_map(text).collect();
    Some(binds).filter(|binds| !binds.is_empty())
}

fn tmpfs(host: &HostSpec) -> Option<Map<String, Value>> {
    let text = |mount: &ContainerMount| match &mount.source {
        MountSource::Bind { .. } => None,
        MountSource::Tmpfs { size } => {
            let mut options = vec![if mount.read_only { "ro" } else { "rw" }.to_owned()];
            options.extend(size.map(|size| format!("size={size}")));
            Some((mount.target.clone(), options.join(",").into()))
        }
    };
    let folders: Map<String, Value> = host.mounts.iter().filter_map(text).collect();
    Some(folders).filter(|folders| !folders.is_empty())
}

fn ulimits(host: &HostSpec) -> Vec<Value> {
    let limits = host.ulimits.iter();
    limits
        .map(|limit| json!({ "Name": limit.name, "Soft": limit.soft, "Hard": limit.hard }))
        .collect()
}

/// Ports that are published, each with the numbers on the machine.
fn port_bindings(published: &[crate::PublishedPort]) -> Map<String, Value> {
    let mut bindings = Map::new();
    for published in published {
        let binding = json!({
            "HostIp": published.shown_address(), "HostPort": published.port.number.to_string(),
        });
        let of_port = bindings.entry(published.port.to_string()).or_insert_with(|| json!([]));
        if let Value::Array(list) = of_port {
            list.push(binding);
        }
    }
    bindings
}

/// `NetworkSettings`: ports of a container that runs are reached under the machine's addresses.
fn network_settings(container: &ContainerDetails) -> Value {
    let mut ports = Map::new();
    if container.state.status == ContainerStatus::Running {
        let exposed = container.spec.exposed_ports.iter();
        ports.extend(exposed.map(|port| (port.to_string(), Value::Null)));
        ports.extend(port_bindings(&container.spec.published()));
    }
    json!({
        "Bridge": "", "SandboxID": "", "SandboxKey": "", "Ports": ports, "HairpinMode": false,
        "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0, "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null, "EndpointID": "", "Gateway": "", "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0, "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "",
        "MacAddress": "", "Networks": networks_object(container),
    })
}

/// The object of `GET /exec/{id}/json`.
pub(crate) fn exec_object(exec: &ExecDetails) -> Value {
    let spec = &exec.spec;
    let (program, arguments) = match spec.args.split_first() {
        Some((program, arguments)) => (program.as_str(), arguments),
        None => ("", &[][..]),
    };
    json!({
        "ID": exec.id.to_string(), "Running": exec.running, "ExitCode": exec.exit_code,
        "ProcessConfig": {
            "tty": spec.terminal, "entrypoint": program, "arguments": arguments,
            "privileged": spec.privileged, "user": spec.user.as_deref().unwrap_or_default(),
        },
        "OpenStdin": spec.stdin, "OpenStdout": spec.stdout, "OpenStderr": spec.stderr,
        "CanRemove": false, "ContainerID": exec.container.to_string(),
        "DetachKeys": spec.detach_keys.as_deref().unwrap_or_default(),
        "Pid": exec.pid.unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::super::{NETWORKS, NetworkKind, network_object, summary_object};
    use super::*;
    use crate::{
        ContainerId, ContainerNetwork, ContainerPort, ContainerSpec, ContainerState, PortProtocol,
        PublishedPort,
    };

    fn container() -> ContainerDetails {
        let port = |text: &str| ContainerPort::parse(text).unwrap();
        let published = PublishedPort { port: port("80"), address: String::new() };
        ContainerDetails {
            id: ContainerId("0123456789abcdef".repeat(4)),
            name: "box".into(),
            image_id: "sha256:a".into(),
            created: UNIX_EPOCH + Duration::from_secs(100),
            spec: ContainerSpec {
                image: "app:1".into(),
                entrypoint: Some(vec!["/bin/sh".into(), "-c".into()]),
                command: Some(vec!["echo a b".into()]),
                exposed_ports: [port("80"), port("53/udp")].into(),
                host: HostSpec {
                    published: vec![published],
                    mounts: vec![
                        ContainerMount {
                            target: "/w".into(),
                            read_only: true,
                            source: MountSource::Bind { path: "/src".into(), create: true },
                        },
                        ContainerMount {
                            target: "/tmp".into(),
                            read_only: false,
                            source: MountSource::Tmpfs { size: Some(4096) },
                        },
                    ],
                    ..HostSpec::default()
                },
                ..ContainerSpec::default()
            },
            state: ContainerState {
                status: ContainerStatus::Running,
                exit_code: 0,
                error: String::new(),
                pid: Some(7),
                started: Some(UNIX_EPOCH + Duration::from_secs(101)),
                finished: None,
            },
            execs: Vec::new(),
            size: None,
        }
    }

    #[test]
    fn inspect_shows_the_machines_network() {
        let object = inspect_object(&container());
        assert_eq!(object["Path"], "/bin/sh");
        assert_eq!(object["Args"], json!(["-c", "echo a b"]));
        assert_eq!(object["HostConfig"]["NetworkMode"], "host");
        assert_eq!(object["HostConfig"]["Binds"], json!(["/src:/w:ro"]));
        assert_eq!(object["HostConfig"]["Tmpfs"], json!({ "/tmp": "rw,size=4096" }));
        let settings = &object["NetworkSettings"];
        let binding = json!([{ "HostIp": "0.0.0.0", "HostPort": "80" }]);
        assert_eq!(settings["Ports"], json!({ "53/udp": null, "80/tcp": binding }));
        assert_eq!(settings["Networks"]["host"]["IPAddress"], "");
        assert_eq!(object["Config"]["Hostname"], "0123456789ab");
        assert_eq!(object["State"]["FinishedAt"], "0001-01-01T00:00:00Z");
    }

    #[test]
    fn a_list_has_words() {
        let mut container = container();
        let now = UNIX_EPOCH + Duration::from_secs(131);
        let object = summary_object(&container, now);
        assert_eq!(object["Command"], "/bin/sh -c 'echo a b'");
        assert_eq!(object["Status"], "Up 30 seconds");
        let ports = json!([
            { "PrivatePort": 80, "Type": "tcp", "IP": "0.0.0.0", "PublicPort": 80 },
            { "PrivatePort": 53, "Type": "udp" },
        ]);
        assert_eq!(object["Ports"], ports);
        container.state.status = ContainerStatus::Exited;
        container.state.exit_code = 3;
        container.state.finished = Some(UNIX_EPOCH + Duration::from_secs(71));
        let object = summary_object(&container, now);
        assert_eq!(object["Status"], "Exited (3) About a minute ago");
        assert_eq!(object["Ports"], json!([]));
    }

    #[test]
    fn all_exposed_ports_can_be_published() {
        let mut spec = container().spec;
        spec.host.publish_all = true;
        let ports: Vec<String> =
            spec.published().iter().map(|published| published.port.to_string()).collect();
        assert_eq!(ports, ["80/tcp", "53/udp"]);
        assert_eq!(PortProtocol::Udp.name(), "udp");
    }

    #[test]
    fn networks_have_the_containers_that_run_in_them() {
        let mut container = container();
        let in_network = |network, container: &ContainerDetails| {
            network_object(network, std::slice::from_ref(container))["Containers"].clone()
        };
        let entry = &in_network(NetworkKind::Host, &container)[&container.id.0];
        assert_eq!(entry["Name"], "box");
        assert_eq!(in_network(NetworkKind::Bridge, &container), json!({}));
        container.spec.host.network = ContainerNetwork::None;
        assert_eq!(in_network(NetworkKind::Host, &container), json!({}));
        for network in NETWORKS {
            assert_eq!(network.id().len(), 64);
            assert_eq!(NetworkKind::find(network.id()), Some(network));
            assert_eq!(NetworkKind::find(network.name()), Some(network));
        }
        assert_eq!(NetworkKind::find("6b69"), None);
    }
}
