//! Builder containers: the calls of buildx' docker-container driver, and docker's commands on such a container.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::serve::{Service, archive, classic_client};

/// The beginning of a connection of HTTP/2, and an empty SETTINGS frame (RFC 9113, sections 3.4 and 6.5).
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const SETTINGS: u8 = 4;

const NAME: &str = "buildx_buildkit_x0";

/// The body that buildx sends, with flags of buildkitd.
fn create_body(flags: &[&str]) -> String {
    json!({
        "Image": "moby/buildkit:buildx-stable-1",
        "Env": null,
        "Cmd": flags,
        "HostConfig": {
            "Privileged": true,
            "Init": true,
            "RestartPolicy": { "Name": "unless-stopped", "MaximumRetryCount": 0 },
            "NetworkMode": "host",
            "Mounts": [{
                "Type": "volume", "Source": format!("{NAME}_state"), "Target": "/var/lib/buildkit",
            }],
        },
    })
    .to_string()
}

/// A request with a body of JSON. `ask` sends the headers.
fn post(service: &Service, path: &str, body: &Value) -> (u16, Value) {
    let head = format!("POST {path}");
    let (status, text) = service.ask(&head, body.to_string().as_bytes());
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// Starts a command as docker's clients do: its streams are the rest of the connection.
fn exec(service: &Service, words: &[&str]) -> (String, UnixStream) {
    let body = json!({
        "Cmd": words, "AttachStdin": true, "AttachStdout": true, "AttachStderr": true,
    });
    let (status, made) = post(service, &format!("/containers/{NAME}/exec"), &body);
    assert_eq!(status, 201, "{made}");
    let id = made["Id"].as_str().unwrap().to_owned();
    let mut stream = UnixStream::connect(&service.socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let body = r#"{"Detach":false,"Tty":false}"#;
    let head = format!(
        "POST /exec/{id}/start HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: tcp\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.extend(byte);
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    (id, stream)
}

/// The next piece of output: its stream and its bytes. None at the end.
fn piece(stream: &mut UnixStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 8];
    stream.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    let mut bytes = vec![0; length as usize];
    stream.read_exact(&mut bytes).unwrap();
    Some((head[0], bytes))
}

/// The output of a command that ends, and its exit code.
fn printed(service: &Service, words: &[&str]) -> (String, i64) {
    let (id, mut stream) = exec(service, words);
    let mut text = Vec::new();
    while let Some((_, bytes)) = piece(&mut stream) {
        text.extend(bytes);
    }
    let exit_code = service.json(&format!("GET /exec/{id}/json"))["ExitCode"].as_i64().unwrap();
    (String::from_utf8(text).unwrap(), exit_code)
}

#[test]
fn buildx_finds_buildkit_in_a_container() {
    let service = Service::start(&[]);
    // Nothing is downloaded.
    let pull = "POST /images/create?fromImage=moby%2Fbuildkit&tag=buildx-stable-1";
    let (status, said) = service.ask(pull, b"");
    assert!(status == 200 && said.contains("kiln itself is BuildKit"), "{said}");
    let image = service.json("GET /images/moby/buildkit:buildx-stable-1/json");
    assert!(image["Id"].is_string() && image["Descriptor"].is_null(), "{image}");
    assert_eq!(service.json("GET /images/json"), json!([]));

    let config = ["--config", "/etc/buildkit/buildkitd.toml"];
    let flags = [&config[..], &["--allow-insecure-entitlement=network.host"]].concat();
    let create = format!("/containers/create?name={NAME}");
    let body: Value = serde_json::from_str(&create_body(&flags)).unwrap();
    let (status, made) = post(&service, &create, &body);
    assert_eq!(status, 201, "{made}");
    assert_eq!(post(&service, &create, &body).0, 409);

    let start = format!("/containers/{NAME}/start");
    let (status, missing) = service.ask(&format!("POST {start}"), b"");
    assert!(status >= 400 && missing.contains("buildkitd.toml"), "{missing}");
    let toml = "[registry.'docker.io']\nmirrors = ['127.0.0.1:9']\n";
    let files = archive(&[("buildkit/buildkitd.toml", toml)]);
    let put = format!("PUT /containers/{NAME}/archive?path=%2Fetc");
    assert_eq!(service.ask(&put, &files).0, 200);
    let (status, refused) = service.ask(&put, &archive(&[("passwd", "x")]));
    assert!(status == 501 && refused.contains("/etc/passwd"), "{refused}");
    assert_eq!(service.ask(&format!("POST {start}"), b"").0, 204);
    assert_eq!(service.ask(&format!("POST {start}"), b"").0, 304);

    let inspected = service.json(&format!("GET /containers/{NAME}/json"));
    assert_eq!(inspected["State"]["Running"], true, "{inspected}");
    assert_eq!(inspected["Name"], format!("/{NAME}"));
    let listed = service.json("GET /containers/json");
    assert_eq!(listed[0]["Names"], json!([format!("/{NAME}")]), "{listed}");

    let (workers, exit_code) = printed(&service, &["buildctl", "debug", "workers"]);
    assert!(workers.contains("linux/") && exit_code == 0, "{workers}");
    let (version, _) = printed(&service, &["buildkitd", "--version"]);
    assert_eq!(version.split_whitespace().count(), 4, "{version}");
    let (refused, exit_code) = printed(&service, &["sh", "-c", "id"]);
    assert!(refused.contains("`sh` is not run") && exit_code == 127, "{refused}");

    let (id, mut stream) = exec(&service, &["buildctl", "dial-stdio"]);
    stream.write_all(HTTP2).unwrap();
    let (output, frame) = piece(&mut stream).unwrap();
    assert!(output == 1 && frame[3] == SETTINGS, "{frame:?}");
    assert_eq!(service.json(&format!("GET /exec/{id}/json"))["Running"], true);

    // A command in it ends with it.
    let stop = format!("POST /containers/{NAME}/stop");
    assert_eq!(service.ask(&stop, b"").0, 204);
    while piece(&mut stream).is_some() {}
    assert_eq!(service.ask(&stop, b"").0, 304);
    let inspected = service.json(&format!("GET /containers/{NAME}/json"));
    assert_eq!(inspected["State"]["Status"], "exited", "{inspected}");
    let body = json!({ "Cmd": ["buildctl", "dial-stdio"] });
    assert_eq!(post(&service, &format!("/containers/{NAME}/exec"), &body).0, 409);
    let remove = format!("DELETE /containers/{NAME}?v=1&force=1");
    assert_eq!(service.ask(&remove, b"").0, 204);
    assert_eq!(service.ask(&remove, b"").0, 404);
    assert_eq!(service.json("GET /containers/json?all=1"), json!([]));
}

#[test]
fn dockers_commands_see_a_builder_container() {
    let test = "dockers_commands_see_a_builder_container";
    let Some(client) = classic_client(test) else { return };
    let service = Service::start(&[]);
    let docker = |args: &[&str]| service.docker_ok(&client, args);
    let image = "moby/buildkit:v0.29.0";
    docker(&["run", "--detach", "--privileged", "--name", "builder", "-e", "TOKEN=s3cret", image]);
    let listed = docker(&["ps", "--format", "{{.Names}} {{.Image}}"]);
    assert_eq!(listed.trim(), format!("builder {image}"));
    let workers = docker(&["exec", "builder", "buildctl", "debug", "workers"]);
    assert!(workers.contains("kiln"), "{workers}");
    let logs = docker(&["logs", "builder"]);
    assert!(logs.contains("WARNING: `TOKEN`") && !logs.contains("s3cret"), "{logs}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("buildkitd.toml");
    std::fs::write(&file, "debug = true\n").unwrap();
    docker(&["cp", file.to_str().unwrap(), "builder:/etc/buildkit/buildkitd.toml"]);
    docker(&["restart", "builder"]);
    let logs = docker(&["logs", "builder"]);
    assert!(logs.contains("`debug` of buildkitd.toml"), "{logs}");
    for (args, word) in [
        (&["cp", "builder:/etc/passwd", "-"][..], "passwd"),
        (&["run", "--rm", "--entrypoint", "sh", image, "-c", "id"], "`sh`"),
        (&["run", "--rm", image, "--addr", "tcp://0.0.0.0:1234"], "tcp://0.0.0.0:1234"),
        (&["rm", "builder"], "container is running"),
    ] {
        let (is_ok, refused) = service.docker(&client, args);
        assert!(!is_ok && refused.contains(word), "{args:?}: {refused}");
    }
    docker(&["stop", "builder"]);
    let status =
        docker(&["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "builder"]);
    assert_eq!(status.trim(), "exited 0");
    docker(&["rm", "--volumes", "builder"]);
    assert_eq!(docker(&["ps", "--all", "--quiet"]), "");
}
