//! Bodies of `POST /containers/create` that no client sends, and those that are refused.

use serde_json::{Value, json};

use super::ask_engine;
use super::fake_containers::engine;
use crate::bodies::read_create;
use crate::*;

async fn create(body: &str) -> (u16, String) {
    let (engine, _) = engine();
    let request = format!("POST /containers/create HTTP/1.1\n\n{body}");
    let (status, _, body) = ask_engine(&engine, &request).await;
    (status, body)
}

#[tokio::test]
async fn bodies_are_bounded() {
    let deep = format!(r#"{{"Image":"a","Labels":{}"#, "[".repeat(100_000));
    let large = format!(r#"{{"Image":"{}"}}"#, "a".repeat(2 << 20));
    let binds: Vec<String> = (0..5000).map(|number| format!("/a:/b{number}")).collect();
    let binds = json!({ "Image": "a", "HostConfig": { "Binds": binds } }).to_string();
    let ports: serde_json::Map<String, Value> =
        (1..5000).map(|number| (format!("{number}/tcp"), json!([{}]))).collect();
    let ports = json!({ "Image": "a", "HostConfig": { "PortBindings": ports } }).to_string();
    for (body, status, text) in [
        (deep.as_str(), 400, "wrong JSON"),
        (&large, 413, "larger than"),
        (&binds, 400, "too many"),
        (&ports, 400, "too many"),
        ("", 400, "no JSON object"),
        ("[]", 400, "no JSON object"),
        ("{}", 400, "`Image` is missing"),
        ("{\"Image\":", 400, "wrong JSON"),
        (r#"{"Image":"a\u0000b"}"#, 400, "NUL"),
        (r#"{"Image":"a","Labels":{"a\u0000":"b"}}"#, 400, "NUL"),
    ] {
        let (actual, answer) = create(body).await;
        assert_eq!(actual, status, "{answer}");
        assert!(answer.contains(text), "{answer}");
        assert!(answer.len() < 1000, "{answer}");
    }
}

#[test]
fn fuzzing_reads_bodies_too() {
    for body in
        ["", "{", "null", r#"{"Image":"a","HostConfig":{"Binds":["/a:/b:ro"],"ShmSize":5}}"#]
    {
        let target =
            "POST /containers/create?detachKeys=ctrl-a,b&filters=%7B%22name%22%3A%5B%22(%22%5D%7D";
        crate::fuzzing::request(&format!("{target}\ne30=\n{body}"));
    }
}

fn read(fields: Value) -> Result<(ContainerSpec, Vec<String>), ApiError> {
    let mut body = json!({ "Image": "a" });
    if let (Some(body), Value::Object(fields)) = (body.as_object_mut(), fields) {
        body.extend(fields);
    }
    read_create(body)
}

fn read_host(fields: Value) -> Result<(ContainerSpec, Vec<String>), ApiError> {
    read(json!({ "HostConfig": fields }))
}

#[test]
fn fields_are_refused_by_name() {
    for (fields, text) in [
        (json!({ "image": "a" }), "`image`"),
        (json!({ "Speed": 1 }), "`Speed`"),
        (json!({ "Image": 5 }), "`Image`: wrong JSON: expected a string"),
        (json!({ "Cmd": { "a": 1 } }), "`Cmd`"),
        (json!({ "Env": ["=b"] }), "`Env`"),
        (json!({ "Hostname": "a b" }), "`Hostname`"),
        (json!({ "Domainname": "x" }), "`Domainname`"),
        (json!({ "WorkingDir": "w" }), "`WorkingDir`"),
        (json!({ "StopSignal": "SIGX" }), "SIGX"),
        (json!({ "StopTimeout": -5 }), "`StopTimeout`"),
        (json!({ "ExposedPorts": { "http": {} } }), "`ExposedPorts`"),
        (json!({ "Volumes": { "data": {} } }), "`Volumes`"),
        (json!({ "HostConfig": 5 }), "`HostConfig`"),
    ] {
        let error = read(fields.clone()).unwrap_err().to_string();
        assert!(error.contains(text), "{fields}: {error}");
    }
    for (fields, text) in [
        (json!({ "Speed": 1 }), "`HostConfig.Speed`"),
        (json!({ "CapAdd": ["SYS_ADMIN"] }), "SYS_ADMIN"),
        (json!({ "CapDrop": ["ALL"] }), "`HostConfig.CapDrop`"),
        (json!({ "SecurityOpt": ["no-new-privileges"] }), "no-new-privileges"),
        (json!({ "SecurityOpt": ["seccomp={}"] }), "seccomp"),
        (json!({ "NetworkMode": "mine" }), "`mine`"),
        (json!({ "NetworkMode": "container:x" }), "container:x"),
        (json!({ "RestartPolicy": { "Name": "always" } }), "`always`"),
        (json!({ "RestartPolicy": { "Name": "on-failure" } }), "`on-failure`"),
        (json!({ "LogConfig": { "Type": "syslog" } }), "`syslog`"),
        (json!({ "PidMode": "host" }), "`HostConfig.PidMode`"),
        (json!({ "Devices": [{ "PathOnHost": "/dev/kvm" }] }), "`HostConfig.Devices`"),
        (json!({ "Dns": ["1.1.1.1"] }), "`HostConfig.Dns`"),
        (json!({ "ExtraHosts": ["a"] }), "`a`"),
        (json!({ "ExtraHosts": ["a:b"] }), "`a:b`"),
        (json!({ "ExtraHosts": ["a\nb:1.1.1.1"] }), "ExtraHosts"),
        (json!({ "PortBindings": { "80/tcp": [{ "HostPort": "8080" }] } }), "`8080`"),
        (json!({ "PortBindings": { "80": 5 } }), "PortBindings"),
        (json!({ "NetworkMode": "none", "PublishAllPorts": true }), "`none`"),
        (json!({ "Binds": ["data:/d"] }), "`data`"),
        (json!({ "Binds": ["/a:d"] }), "absolute"),
        (json!({ "Binds": ["/a:/d/../.."] }), "absolute"),
        (json!({ "Binds": ["/a:/"] }), "not the root"),
        (json!({ "Binds": ["/a:/d:shared"] }), "`shared`"),
        (json!({ "Binds": ["/a:/d:ro:x"] }), "colons"),
        (json!({ "Binds": ["/a:/d", "/b:/d/"] }), "Duplicate mount point: /d"),
        (json!({ "Mounts": [{ "Type": "volume", "Source": "data", "Target": "/d" }] }), "`data`"),
        (json!({ "Mounts": [{ "Type": "bind", "Target": "/d" }] }), "`Source`"),
        (json!({ "Mounts": [{ "Type": "npipe", "Target": "/d" }] }), "`npipe`"),
        (json!({ "Mounts": [{ "Type": "tmpfs", "Target": "/d", "Speed": 1 }] }), "`Speed`"),
        (
            json!({ "Mounts": [{ "Type": "bind", "Source": "/a", "Target": "/d",
                "BindOptions": { "NonRecursive": true } }] }),
            "`BindOptions.NonRecursive`",
        ),
        (json!({ "Tmpfs": { "/d": "uid=5" } }), "`uid=5`"),
        (json!({ "Tmpfs": { "/d": "size=x" } }), "`size=x`"),
        (json!({ "Tmpfs": { "/d": "mode=700" } }), "`mode=700`"),
        (json!({ "Ulimits": [{ "Soft": 1 }] }), "`Ulimits`"),
        (json!({ "ShmSize": -1 }), "`ShmSize`"),
    ] {
        let error = read_host(fields.clone()).unwrap_err().to_string();
        assert!(error.contains(text), "{fields}: {error}");
    }
}

#[test]
fn commands_are_read_as_dockerd_reads_them() {
    let command = |fields: Value| {
        let (spec, _) = read(fields).unwrap();
        (spec.entrypoint, spec.command)
    };
    let list =
        |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    assert_eq!(command(json!({ "Cmd": null, "Entrypoint": null })), (None, None));
    assert_eq!(command(json!({ "Cmd": "a b" })), (None, list(&["a b"])));
    assert_eq!(command(json!({ "Cmd": [] })), (None, None));
    assert_eq!(command(json!({ "Entrypoint": ["a"] })), (list(&["a"]), list(&[])));
    assert_eq!(command(json!({ "Entrypoint": [] })), (list(&[]), None));
    assert_eq!(command(json!({ "Entrypoint": [""], "Cmd": ["b"] })), (list(&[]), list(&["b"])));
}

#[test]
fn mounts_and_ports_are_read() {
    let (spec, notes) = read_host(json!({
        "Binds": ["/a:/one:ro,z", "/two"],
        "Mounts": [
            { "Type": "bind", "Source": "/b", "Target": "/three", "ReadOnly": true,
              "BindOptions": { "Propagation": "rprivate" } },
            { "Type": "volume", "Target": "/four", "VolumeOptions": { "NoCopy": true } },
            { "Type": "tmpfs", "Target": "/five", "TmpfsOptions": { "SizeBytes": 5 } },
        ],
        "Tmpfs": { "/six": "rw,noexec,size=64k" },
        "PortBindings": {
            "80/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "80" }], "81/udp": null,
            "82/tcp": [{ "HostPort": "80-90" }],
        },
        "ExtraHosts": ["a:1.2.3.4", "b=[::1]", "c:host-gateway"],
        "Ulimits": [{ "Name": "nofile", "Soft": 1, "Hard": 2 }], "CapAdd": ["CAP_CHOWN", "kill"],
        "SecurityOpt": ["label=disable", "apparmor=unconfined", "seccomp=unconfined"],
        "IpcMode": "private", "Runtime": "runc", "LogConfig": { "Type": "none" },
    }))
    .unwrap();
    let mounts: Vec<_> =
        spec.host.mounts.iter().map(|mount| (mount.target.as_str(), mount.read_only)).collect();
    assert_eq!(mounts, [("/one", true), ("/three", true), ("/five", false), ("/six", false)]);
    assert_eq!(spec.host.mounts[3].source, MountSource::Tmpfs { size: Some(65536) });
    assert_eq!(spec.volumes.iter().collect::<Vec<_>>(), ["/four", "/two"]);
    let ports: Vec<String> =
        spec.host.published.iter().map(|published| published.port.to_string()).collect();
    assert_eq!(ports, ["80/tcp", "81/udp", "82/tcp"]);
    let hosts: Vec<String> = spec
        .host
        .extra_hosts
        .iter()
        .map(|host| format!("{} {}", host.name, host.address))
        .collect();
    assert_eq!(hosts, ["a 1.2.3.4", "b ::1", "c 127.0.0.1"]);
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].contains("`/six` can be started") && notes[1].contains("127.0.0.1"));
}

#[test]
fn a_network_can_be_disabled_and_named() {
    let network = |fields: Value| read(fields).map(|(spec, _)| spec.host.network);
    let none = json!({ "NetworkDisabled": true });
    assert_eq!(network(none), Ok(ContainerNetwork::None));
    let endpoints = |mode: &str, endpoint: Value| {
        json!({
            "HostConfig": { "NetworkMode": mode },
            "NetworkingConfig": { "EndpointsConfig": { "host": endpoint } },
        })
    };
    assert_eq!(network(endpoints("bridge", json!({}))), Ok(ContainerNetwork::Host));
    assert_eq!(network(endpoints("host", Value::Null)), Ok(ContainerNetwork::Host));
    for (fields, text) in [
        (endpoints("none", json!({})), "not the network"),
        (endpoints("host", json!({ "Aliases": ["db"] })), "EndpointsConfig.host.Aliases"),
        (endpoints("mine", json!({})), "`mine`"),
    ] {
        let error = network(fields).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}
