//! Containers: made, listed, changed and removed.

use serde_json::{Value, json};

use super::fake_containers::engine;
use super::{Fake, ask, ask_engine};
use crate::*;

/// A body as docker's command line sends it for
/// `docker run --rm -v /src:/w -w /w -e K=V -p 8080:8080 --memory 1g app sh`.
const DOCKER_RUN: &str = r#"{
    "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": true,
    "AttachStderr": true, "ExposedPorts": { "8080/tcp": {} }, "Tty": false,
    "OpenStdin": false, "StdinOnce": false, "Env": ["K=V"], "Cmd": ["sh"], "Image": "app",
    "Volumes": {}, "WorkingDir": "/w", "Entrypoint": null, "OnBuild": null, "Labels": {},
    "HostConfig": {
        "Binds": ["/src:/w"], "ContainerIDFile": "", "LogConfig": { "Type": "", "Config": {} },
        "NetworkMode": "default", "PortBindings": { "8080/tcp": [{ "HostIp": "", "HostPort": "8080" }] },
        "RestartPolicy": { "Name": "no", "MaximumRetryCount": 0 }, "AutoRemove": true,
        "VolumeDriver": "", "VolumesFrom": null, "ConsoleSize": [24, 80], "CapAdd": null,
        "CapDrop": null, "CgroupnsMode": "", "Dns": [], "DnsOptions": [], "DnsSearch": [],
        "ExtraHosts": null, "GroupAdd": null, "IpcMode": "", "Cgroup": "", "Links": null,
        "OomScoreAdj": 0, "PidMode": "", "Privileged": false, "PublishAllPorts": false,
        "ReadonlyRootfs": false, "SecurityOpt": null, "UTSMode": "", "UsernsMode": "",
        "ShmSize": 0, "Isolation": "", "CpuShares": 0, "Memory": 1073741824,
        "NanoCpus": 0, "CgroupParent": "", "BlkioWeight": 0, "BlkioWeightDevice": [],
        "BlkioDeviceReadBps": [], "BlkioDeviceWriteBps": [], "BlkioDeviceReadIOps": [],
        "BlkioDeviceWriteIOps": [], "CpuPeriod": 0, "CpuQuota": 0, "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0, "CpusetCpus": "", "CpusetMems": "", "Devices": [],
        "DeviceCgroupRules": null, "DeviceRequests": null, "MemoryReservation": 0,
        "MemorySwap": 0, "MemorySwappiness": -1, "OomKillDisable": false, "PidsLimit": 0,
        "Ulimits": [], "CpuCount": 0, "CpuPercent": 0, "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0, "MaskedPaths": null, "ReadonlyPaths": null
    },
    "NetworkingConfig": { "EndpointsConfig": { "default": {
        "IPAMConfig": null, "Links": null, "Aliases": null, "MacAddress": "", "NetworkID": ""
    } } }
}"#;

#[tokio::test]
async fn docker_run_is_understood() {
    let (engine, containers) = engine();
    let request = format!("POST /v1.51/containers/create?name=box HTTP/1.1\n\n{DOCKER_RUN}");
    let (status, _, body) = ask_engine(&engine, &request).await;
    assert_eq!(status, 201, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["Id"], "1".repeat(64));
    let warnings = body["Warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].as_str().unwrap().starts_with("`HostConfig.Memory`: no limit"));
    let asked = containers.asked();
    for part in [
        r#"name: Some("box")"#,
        r#"env: ["K=V"]"#,
        r#"command: Some(["sh"])"#,
        "entrypoint: None",
        "auto_remove: true",
        r#"source: Bind { path: "/src", create: true }"#,
        "number: 8080",
        "ConsoleSize { columns: 80, rows: 24 }",
    ] {
        assert!(asked.contains(part), "{part}: {asked}");
    }
    let (_, _, body) = ask_engine(&engine, "GET /containers/1111/json?size=1 HTTP/1.1").await;
    let inspected: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(inspected["Name"], "/box");
    assert_eq!(inspected["HostConfig"]["AutoRemove"], true);
}

#[tokio::test]
async fn a_container_lives() {
    let (engine, containers) = engine();
    let steps = [
        ("POST /containers/create?name=box HTTP/1.1\n\n{\"Image\":\"app\"}", 201, "Id"),
        (
            "POST /containers/create?name=a/b HTTP/1.1\n\n{\"Image\":\"app\"}",
            400,
            "Invalid container name",
        ),
        ("POST /containers/create HTTP/1.1\n\n{\"Image\":\"absent\"}", 404, "No such image"),
        ("POST /containers/box/start HTTP/1.1\n\n{\"Binds\":[]}", 400, "non-empty request body"),
        ("POST /containers/box/start?checkpoint=a HTTP/1.1", 501, "`checkpoint=a`"),
        ("GET /containers/box/top HTTP/1.1", 409, "is not running"),
        ("POST /containers/box/start HTTP/1.1\n\n{}", 204, ""),
        ("POST /containers/box/start HTTP/1.1", 304, ""),
        (
            "GET /containers/box/top HTTP/1.1",
            200,
            r#""Processes":[["root","7","1","0","","","","sleep 5"]]"#,
        ),
        ("GET /containers/box/top?ps_args=aux HTTP/1.1", 501, "runs no ps"),
        ("POST /containers/box/resize?h=3&w=4 HTTP/1.1", 200, ""),
        ("POST /containers/box/resize?h=3 HTTP/1.1", 400, "`w`"),
        ("GET /containers/json HTTP/1.1", 200, r#""State":"running""#),
        ("DELETE /containers/box HTTP/1.1", 409, "is running"),
        ("POST /containers/box/restart?t=3 HTTP/1.1", 204, ""),
        ("POST /containers/box/stop?t=-1&signal=INT HTTP/1.1", 204, ""),
        ("POST /containers/box/stop HTTP/1.1", 304, ""),
        ("POST /containers/box/kill?signal=9 HTTP/1.1", 409, "is not running"),
        ("POST /containers/box/kill?signal=NONE HTTP/1.1", 400, "Invalid signal"),
        ("GET /containers/json HTTP/1.1", 200, "[]"),
        ("GET /containers/json?limit=1&size=1 HTTP/1.1", 200, r#""SizeRw":5"#),
        ("GET /containers/box/changes HTTP/1.1", 200, r#"{"Path":"/b","Kind":2}"#),
        ("GET /containers/box/export HTTP/1.1", 200, "whole"),
        ("POST /containers/box/rename HTTP/1.1", 400, "`name` is missing"),
        ("POST /containers/box/rename?name=bag HTTP/1.1", 204, ""),
        ("GET /containers/box/json HTTP/1.1", 404, "No such container: box"),
        ("POST /commit?container=bag&repo=r HTTP/1.1\n\n{\"Cmd\":[\"x\"]}", 501, "`changes`"),
        ("POST /commit?container=bag&repo=r HTTP/1.1\n\nnull", 501, "no images are made"),
        ("DELETE /containers/bag?v=1&link=1 HTTP/1.1", 501, "no links"),
        ("DELETE /containers/bag?v=1&force=0 HTTP/1.1", 204, ""),
        ("DELETE /containers/bag HTTP/1.1", 404, "No such container: bag"),
    ];
    for (request, status, text) in steps {
        let (actual, _, body) = ask_engine(&engine, request).await;
        assert_eq!(actual, status, "{request}: {body}");
        assert!(body.contains(text), "{request}: {body}");
    }
    let asked = containers.asked();
    assert!(asked.contains("timeout: Some(Never)"), "{asked}");
    assert!(asked.contains("signal: Some(SignalNumber(2))"), "{asked}");
}

#[tokio::test]
async fn what_kiln_does_not_do_is_refused_by_name() {
    let (engine, _) = engine();
    for (request, text) in [
        ("POST /containers/x/pause", "SIGSTOP"),
        ("POST /containers/x/unpause", "SIGSTOP"),
        ("POST /containers/x/update", "nothing to update"),
        ("GET /containers/x/stats", "counts nothing"),
        ("GET /containers/x/attach/ws", "WebSocket"),
        ("POST /containers/x/checkpoints", "keeps no processes"),
        ("POST /networks/create", "no other networks"),
        ("DELETE /networks/host", "stay"),
        ("POST /volumes/create", "no volumes"),
    ] {
        let (status, _, body) = ask_engine(&engine, &format!("{request} HTTP/1.1")).await;
        assert_eq!(status, 501, "{request}");
        assert!(body.contains(text), "{request}: {body}");
    }
}

#[tokio::test]
async fn files_go_both_ways() {
    let (engine, containers) = engine();
    let create = "POST /containers/create?name=box HTTP/1.1\n\n{\"Image\":\"app\"}";
    ask_engine(&engine, create).await;
    let (status, head, _) =
        ask_engine(&engine, "HEAD /containers/box/archive?path=/etc/a HTTP/1.1").await;
    assert_eq!(status, 200);
    let line = head.lines().find_map(|line| line.strip_prefix("x-docker-container-path-stat: "));
    use base64::Engine as _;
    let stat = base64::engine::general_purpose::STANDARD.decode(line.unwrap()).unwrap();
    let stat: Value = serde_json::from_slice(&stat).unwrap();
    let mtime = "1970-01-01T00:00:00.000000000Z";
    assert_eq!(
        stat,
        json!({ "name": "a", "size": 5, "mode": 0o644, "mtime": mtime, "linkTarget": "" })
    );
    let get = "GET /containers/box/archive?path=etc/a HTTP/1.1";
    let (_, head, body) = ask_engine(&engine, get).await;
    assert_eq!(body, "archive of /etc/a");
    assert!(head.contains("x-docker-container-path-stat") && head.contains("application/x-tar"));
    let put = "PUT /containers/box/archive?path=/tmp&copyUIDGID=true HTTP/1.1\n\n12345";
    assert_eq!(ask_engine(&engine, put).await.0, 200);
    let asked = containers.asked();
    assert!(asked.contains("no_overwrite: false, owner_is_user: true }, 5)"), "{asked}");
    for (request, status) in [
        ("HEAD /containers/box/archive?path=absent", 404),
        ("GET /containers/box/archive?path=absent", 404),
        ("GET /containers/box/archive", 400),
        ("GET /containers/none/archive?path=a", 404),
        ("GET /containers/box/archive?path=a%00b", 400),
    ] {
        let (actual, _, _) = ask_engine(&engine, &format!("{request} HTTP/1.1")).await;
        assert_eq!(actual, status, "{request}");
    }
    let put = "PUT /containers/none/archive?path=/tmp HTTP/1.1\n\n12345";
    assert_eq!(ask_engine(&engine, put).await.0, 404);
}

#[tokio::test]
async fn lists_are_filtered_and_pruned() {
    let (engine, _) = engine();
    for name in ["one", "two", "three"] {
        let body = format!(r#"{{"Image":"app","Labels":{{"of":"{name}"}}}}"#);
        let request = format!("POST /containers/create?name={name} HTTP/1.1\n\n{body}");
        ask_engine(&engine, &request).await;
    }
    ask_engine(&engine, "POST /containers/two/start HTTP/1.1").await;
    let names = async |query: &str| {
        let request = format!("GET /containers/json?{query} HTTP/1.1");
        let (status, _, body) = ask_engine(&engine, &request).await;
        assert_eq!(status, 200, "{body}");
        let list: Vec<Value> = serde_json::from_str(&body).unwrap();
        let names: Vec<String> =
            list.iter().map(|item| item["Names"][0].as_str().unwrap().to_owned()).collect();
        names.join(" ")
    };
    assert_eq!(names("").await, "/two");
    assert_eq!(names("all=1").await, "/three /two /one");
    assert_eq!(names("limit=2").await, "/three /two");
    assert_eq!(names("filters=%7B%22label%22%3A%5B%22of%3Done%22%5D%7D&all=true").await, "/one");
    assert_eq!(
        names("filters=%7B%22status%22%3A%7B%22created%22%3Atrue%7D%7D").await,
        "/three /one"
    );
    let (_, _, body) = ask_engine(&engine, "GET /info HTTP/1.1").await;
    let info: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&info["Containers"], &info["ContainersRunning"]), (&json!(3), &json!(1)));
    let (_, _, body) = ask_engine(&engine, "GET /networks/bridge HTTP/1.1").await;
    assert!(body.contains(r#""Driver":"host""#) && body.contains(r#""Containers":{}"#), "{body}");
    let (_, _, body) = ask_engine(&engine, "GET /networks/host HTTP/1.1").await;
    assert!(body.contains(r#""Name":"two""#), "{body}");
    let list = "GET /networks?filters=%7B%22name%22%3A%5B%22none%22%5D%7D HTTP/1.1";
    let (_, _, body) = ask_engine(&engine, list).await;
    assert!(body.contains(r#""Driver":"null""#) && !body.contains("bridge"), "{body}");
    assert_eq!(ask_engine(&engine, "GET /networks/mine HTTP/1.1").await.0, 404);
    let (_, _, body) = ask_engine(&engine, "POST /containers/prune HTTP/1.1").await;
    assert!(body.contains(r#""SpaceReclaimed":10"#), "{body}");
    assert_eq!(names("all=1").await, "/two");
}

#[tokio::test]
async fn a_service_without_containers_says_so() {
    let docker = std::sync::Arc::<Fake>::default();
    for (request, status, text) in [
        ("GET /containers/json?all=1", 200, "[]"),
        ("GET /containers/x/json", 404, "No such container: x"),
        ("GET /exec/x/json", 404, "No such exec instance: x"),
        ("POST /containers/prune", 200, r#""ContainersDeleted":null"#),
        ("GET /networks/host", 200, "host"),
    ] {
        let (actual, _, body) = ask(&docker, &format!("{request} HTTP/1.1")).await;
        assert_eq!(actual, status, "{request}");
        assert!(body.contains(text), "{request}: {body}");
    }
    let error = EngineServer::new(docker, None, None).containers().err();
    assert!(matches!(error, Some(ApiError::NotImplemented(_))));
}
